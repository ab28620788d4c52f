"""What the demo shows: rows as a table and as lines."""

from io import StringIO
from math import nan
from typing import Any

import pytest
from rich.console import Console

from autoscaler.cli.live import Lines, incident_table, table


def row(name: str = "web", **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - a row's values
    base = {
        "namespace": "shop",
        "name": name,
        "at_s": 1_800_000_015.0,
        "demand": 11.4,
        "current": 10.0,
        "ready": 10.0,
        "desired": 12.0,
        "why": "demand 11.4 (requests) -> 12",
        "series": [{"name": "requests", "load": 741.3}],
    }
    return base | changes


def shown(*rows: dict[str, Any], width: int = 120) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(table(rows, "the title", "the caption"))
    text = console.file
    assert isinstance(text, StringIO)
    return text.getvalue()


def test_table_shows_load_demand_replicas_and_why() -> None:
    lines = shown(row()).splitlines()
    (line,) = [line for line in lines if "shop/web" in line]
    assert line.replace("│", " ").split() == [
        "shop/web",
        "741",
        "11.4",
        "10",
        "→",
        "12",
        "10",
        *["demand", "11.4", "(requests)", "->", "12"],
    ]
    assert "the title" in lines[0]
    assert "the caption" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        pytest.param({"desired": 10.0}, ["741", "11.4", "10", "10", "steady"], id="nothing-moves"),
        pytest.param(
            {"current": nan, "desired": nan, "ready": nan, "demand": nan, "series": []}, ["-"] * 4 + ["steady"], id="nothing-known"
        ),
        pytest.param({"series": [{"load": 1.0}, {"load": nan}]}, ["1", "-", "11.4", "10", "→", "12", "10", "steady"], id="two-series"),
        pytest.param({"why": "[bold]steady[/bold]"}, ["741", "11.4", "10", "→", "12", "10", "[bold]steady[/bold]"], id="markup-is-text"),
    ],
)
def test_table_cells(changes: dict[str, Any], cells: list[str]) -> None:
    (line,) = [line for line in shown(row(why="steady") | changes).splitlines() if "shop/web" in line]
    assert line.replace("│", " ").split() == ["shop/web", *cells]


def test_narrow_terminals_wrap_the_reason_only() -> None:
    text = shown(row(why="a long reason " * 5), width=70)
    assert max(map(len, text.splitlines())) <= 70
    assert "shop/web │  741 │   11.4 │  10 → 12 │    10" in text


def test_lines_tell_changes_once() -> None:
    lines = Lines()
    assert lines.changes([row(desired=10.0)]) == []
    assert lines.changes([row(desired=12.0)]) == ["08:00:15 shop/web 10 → 12: demand 11.4 (requests) -> 12"]
    assert lines.changes([row(desired=12.0)]) == []
    assert lines.changes([row(desired=nan)]) == []
    assert lines.changes([row(desired=11.0)]) == ["08:00:15 shop/web 12 → 11: demand 11.4 (requests) -> 12"]


def test_summary_is_one_line_of_all() -> None:
    found = Lines().summary([row(), row("news", desired=10.0, ready=9.0)])
    assert found == "08:00:15 | shop/web load 741, 10 → 12 replicas, 10 ready | shop/news load 741, 10 replicas, 9 ready"


def test_nothing_is_summed_up_before_the_first_decision() -> None:
    undecided = row()
    del undecided["at_s"]
    assert Lines().summary([undecided]) == ""
    assert Lines().summary([]) == ""


def incident(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - a row's values
    base = {
        "namespace": "shop",
        "kind": "Deployment",
        "name": "mailer",
        "container": "app",
        "cause": "CrashLoop",
        "phase": "firing",
        "pods_affected": 1,
        "pods_in_all": 6,
        "remedies": [],
    }
    return base | changes


def done(words: str, *, acted: bool) -> dict[str, Any]:
    return {"words": words, "acted": acted}


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        pytest.param({}, "shop/mailer app CrashLoop firing 1 of 6", id="nothing-done"),
        pytest.param({"remedies": [done("refused", acted=False)]}, "shop/mailer app CrashLoop firing 1 of 6 refused", id="refused"),
        pytest.param(
            {"remedies": [done("evicted", acted=True), done("refused", acted=False)]},
            "shop/mailer app CrashLoop firing 1 of 6 evicted",
            id="what-was-done-goes-before-what-was-not",
        ),
        pytest.param(
            {"namespace": "", "kind": "Node", "name": "n1", "container": "", "cause": "NodeLost", "pods_in_all": 0},
            "Node n1 NodeLost firing -",
            id="node",
        ),
        pytest.param({"name": "[bold]m[/bold]"}, "shop/[bold]m[/bold] app CrashLoop firing 1 of 6", id="markup-is-text"),
    ],
)
def test_incidents_as_a_table(changes: dict[str, Any], cells: str) -> None:
    console = Console(file=StringIO(), width=140)
    console.print(incident_table([incident(**changes)], "the caption"))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    (line,) = [line for line in lines if "firing" in line]
    assert " ".join(line.replace("│", " ").split()) == cells
    assert "the caption" in lines[-1]


def test_incidents_are_told_in_lines_when_something_is_new() -> None:
    lines = Lines()
    assert lines.turns([incident(phase="pending")], 1_800_000_015.0) == ["08:00:15 shop/mailer app CrashLoop pending, 1 of 6 pods"]
    assert lines.turns([incident(phase="pending", pods_affected=2)], 1_800_000_020.0) == []
    assert lines.turns([incident()], 1_800_000_030.0) == ["08:00:30 shop/mailer app CrashLoop firing, 1 of 6 pods"]
    acted = incident(remedies=[done("evicted: 7 restarts", acted=True)])
    assert lines.turns([acted], 1_800_000_040.0) == ["08:00:40 shop/mailer app CrashLoop firing, 1 of 6 pods: evicted: 7 restarts"]
    assert lines.turns([acted], 1_800_000_041.0) == []
