"""The policy benchmark: the same rows wherever tasks run, goes on where it stopped, and a page without anything from elsewhere."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask.distributed import LocalCluster

from autoscaler.core.policy import View
from autoscaler.testing import columns_of, view_of
from benchmarks import policies
from benchmarks.matrix import FINE, PRESETS, Scene, Task, Variant
from benchmarks.peers.knative import Knative, KnativeParams
from benchmarks.peers.reactive import Reactive, ReactiveParams
from benchmarks.shapes import SHAPES, shape
from benchmarks.summary import duels, lines, objectives, over_seeds, summary
from benchmarks.task import execute

HOUR_S = 3600.0
TRACE = "wikipedia_day_24s"
TASKS = [
    Task(Scene(TRACE), (Variant(), Variant(20.0, noise=0.05, seed=1)), "policies", span_s=HOUR_S),
    Task(Scene(TRACE), (Variant(),), "knative", curves=True, span_s=HOUR_S),
    Task(Scene(TRACE, cold=True), (Variant(),), "policies", span_s=HOUR_S),
    Task(Scene(TRACE), (Variant(),), "day", span_s=2 * HOUR_S),
]
HINDSIGHT = Task(Scene(TRACE), (Variant(),), "hpa", span_s=HOUR_S)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_task_has_a_file_of_its_own(preset: str) -> None:
    tasks = list(PRESETS[preset]())
    assert len({task.name for task in tasks}) == len(tasks)
    assert {task.name for task in tasks} == {task.name for task in PRESETS[preset]()}


def test_the_headline_is_what_the_aims_are_about() -> None:
    tasks = list(PRESETS["headline"]())
    for trace in FINE:
        own = [task for task in tasks if task.scene == Scene(trace) and task.group in {"policies", "hpa"}]
        assert [variant.fleet for variant in own[0].variants] == [10, 20]
        assert {task.group for task in own} == {"policies", "hpa"}
    seeds = {variant.seed for task in tasks if task.scene == Scene(FINE[0]) and task.group == "hpa" for variant in task.variants}
    assert len(seeds) == 10


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_the_same_fortnight_each_time(name: str) -> None:
    one, again = shape(name), shape(name)
    assert one.span_s == 14 * 86400
    assert one.rate.min() >= 0
    assert 0.1 < np.median(one.rate) < 10
    np.testing.assert_array_equal(one.rate, again.rate)
    assert {variant.fleet for task in PRESETS["shapes"]() if task.scene.trace == name for variant in task.variants} == {10, 20}


def test_seeds_make_one_figure_per_trace() -> None:
    def duel(trace: str, seed: int, **figures: object) -> dict[str, Any]:
        usual = {"late": 0.001, "cost": 1.0, "actions": 1.0, "hpa_late": 0.0, "hpa_cost": 1.5, "against_hpa": 0.5}
        return {"trace": trace, "seed": seed, **usual, "tuned_late": 0.002, "against_tuned": 1.0, "reached": True, **figures}

    found = over_seeds(
        [
            duel("a", 1, against_tuned=4.0, late=0.003, reached=False),
            duel("a", 0, late_at_hpa_cost=0.5),
            duel("b", 0, against_tuned=None, reached=None, tuned_late=None),
        ]
    )
    a, b = sorted(found, key=lambda each: str(each["trace"]))
    assert (a["seeds"], a["against_tuned"], a["late"], a["late_at_hpa_cost"]) == (2, pytest.approx(2), pytest.approx(0.002), 0.5)
    assert (a["reached"], b["reached"], b["against_tuned"], b["seeds"]) == (False, None, None, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all tasks have run in this process."""
    made = tmp_path_factory.mktemp("bench")
    for task in [*TASKS, HINDSIGHT]:
        policies.keep(made, task, execute(task))
    return made


def test_rows_belong_to_their_variant(folder: Path) -> None:
    rows = policies.collected(TASKS[:1], folder)
    assert {(row["fleet"], row["noise"], row["seed"]) for row in rows} == {(10, 0, 0), (20, 0.05, 1)}
    assert {"forecast", "hpa", "movingAverage", "threshold", "reactive", "static"} == {row["policy"] for row in rows}
    small, large = (sum(row["pod_seconds"] for row in rows if row["fleet"] == fleet) for fleet in (10, 20))
    assert large == pytest.approx(2 * small, rel=0.1)
    assert all(row["cost_ratio"] > 0.9 for row in rows)


def test_what_is_there_is_not_run_again(folder: Path) -> None:
    assert policies.pending(TASKS, folder) == []
    other = Task(Scene(TRACE), (Variant(seed=7),), "policies", span_s=HOUR_S)
    assert policies.pending([*TASKS, other], folder) == [other]


def test_processes_make_the_same_rows(folder: Path, tmp_path: Path) -> None:
    for task, rows in policies.here(TASKS[1:3], 2):
        policies.keep(tmp_path, task, rows)
    assert policies.collected(TASKS[1:3], tmp_path) == policies.collected(TASKS[1:3], folder)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A real scheduler with two workers, each a process."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster:  # type: ignore[no-untyped-call]
        yield cluster.scheduler_address


def test_dask_makes_the_same_rows(folder: Path, tmp_path: Path, scheduler: str) -> None:
    for task, rows in policies.on_dask(TASKS, scheduler):
        policies.keep(tmp_path, task, rows)
    assert policies.collected(TASKS, tmp_path) == policies.collected(TASKS, folder)


def test_an_objective_is_told_beside_none() -> None:
    rows = execute(Task(Scene(TRACE), (Variant(),), "objective", span_s=HOUR_S))
    assert [row["setting"] for row in rows] == [
        "right target",
        "right target + objective",
        "target 30 % too high",
        "target 30 % too high + objective",
    ]
    head, _, line = objectives(rows)
    assert head == f"| late at cost | {' | '.join(row['setting'] for row in rows)} |"
    assert line.startswith(f"| {TRACE} | ")


def test_losers_come_first(folder: Path) -> None:
    rows = policies.collected([*TASKS, HINDSIGHT], folder)
    found = duels(rows)
    assert len(found) == 3
    tuned = next(each for each in found if each["against_tuned"] is not None)
    assert tuned["setting"].startswith("target 0.")
    assert lines(rows)[0].split()[:3] == ["trace", "case", "late"]
    worse = [{**row, "pod_seconds": 9 * row["pod_seconds"]} if row["policy"] == "forecast" and row["cold"] else row for row in rows]
    assert duels(worse)[0]["cold"]
    assert summary(worse)["cold"]["cost_to_hpa"] == pytest.approx(9 * summary(rows)["cold"]["cost_to_hpa"])
    assert summary(rows)["10 replicas"]["traces"] == 1


def test_the_program_writes_a_result_and_a_page(folder: Path, tmp_path: Path) -> None:
    """One task of the quick preset, by the command that the Makefile has."""
    command = [sys.executable, "-m", "benchmarks.policies", "--quick", "--only", "azure", "--workers", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "azure_llm_conv_10s" in done.stdout
    found = json.loads((tmp_path / "results.json").read_text())
    assert {"cpu", "commit", "date", "preset"} <= set(found["origin"])
    page = (tmp_path / "report.html").read_text()
    assert "Where ours does worst, first" in page
    assert "| azure_llm_conv_10s | 10 pods, cold |" in (tmp_path / "figures.md").read_text()
    assert not re.search(r"<script|<link|@import|url\(|src=", page)
    assert folder != tmp_path


def view(demand: list[float], ready: float, at_s: float) -> View:
    return view_of([[value] for value in demand], at_s=at_s, interval_s=15.0, current=[ready], ready=[ready])


def test_knative_follows_its_own_words() -> None:
    """Stable mean of a minute at 70 %; twice the ready pods is panic, which never goes down for a minute; halving is the most at once."""
    policy, params = Knative(), columns_of([KnativeParams()])
    state = policy.init(params, 1)
    played = [
        ([7.0] * 4, 10.0, 10.0),  # 7 / 0.7
        ([7.0, 7.0, 7.0, 28.0], 10.0, 40.0),  # 40 >= 2 x 10: panic
        ([7.0, 7.0, 28.0, 7.0], 40.0, 40.0),  # still panicking
        ([28.0, 7.0, 7.0, 7.0], 40.0, 40.0),
        ([7.0] * 4, 40.0, 40.0),
        ([7.0] * 4, 40.0, 20.0),  # over; at most half at a time
        ([float("nan")] * 4, 20.0, float("nan")),
    ]
    for tick, (demand, ready, wanted) in enumerate(played):
        state, proposal = policy(view(demand, ready, 15.0 * tick), params, state)
        assert proposal.replicas[0] == pytest.approx(wanted, nan_ok=True), tick


@pytest.mark.parametrize(
    ("demand", "current", "wanted"),
    [
        pytest.param(9.2, 10.0, 10.0, id="enough"),
        pytest.param(10.0, 10.0, 12.0, id="full"),
        pytest.param(7.5, 10.0, 10.0, id="two-and-a-half-spare-are-kept-up-to-two"),
        pytest.param(4.0, 10.0, 6.0, id="too-many"),
        pytest.param(float("nan"), 10.0, float("nan"), id="unknown"),
    ],
)
def test_reactive_keeps_two_spare(demand: float, current: float, wanted: float) -> None:
    policy, params = Reactive(), columns_of([ReactiveParams()])
    _, proposal = policy(view([demand], current, 0.0), params, policy.init(params, 1))
    assert np.array_equal(proposal.replicas, [wanted], equal_nan=True)
