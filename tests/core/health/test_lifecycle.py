"""Incidents over time: what is said, when, and what is not."""

import json
from collections.abc import Iterable
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.health.assess import Assessment
from autoscaler.core.health.breaker import Breaker, Breakers
from autoscaler.core.health.caps import Attempt, Ledger
from autoscaler.core.health.facts import Subject, Termination
from autoscaler.core.health.findings import Finding, Key, PodRef
from autoscaler.core.health.lifecycle import Change, End, Incident, Kind, Phase, advance, crashing_since
from autoscaler.core.health.saved import from_json, to_json
from autoscaler.core.health.taxonomy import Cause
from tests.core.health.build import START_S, Ward, backing_off, container, pod

WEB = Subject("Deployment", "shop", "web", "web-uid")


def refs(*names: str, revision: str = "1") -> tuple[PodRef, ...]:
    return tuple(PodRef(name, f"{name}-uid", revision=revision) for name in names)


def crash(**changes: Any) -> Finding:  # noqa: ANN401 - fields of Finding
    return replace(Finding(WEB, "app", Cause.CRASH_LOOP, START_S, START_S, refs("a"), 3, "Error", 1), **changes)


class Chart:
    """Incidents from assessment to assessment; what was said is ``(after_s, kind)``, silent changes in brackets."""

    def __init__(self) -> None:
        self.incidents: dict[Key, Incident] = {}
        self.changes: list[Change] = []
        self.silences: dict[str, float] = {}

    def see(self, after_s: float, *findings: Finding, alive: Iterable[str] = ("web-uid", "a-uid"), conclusive: bool = True) -> list[str]:
        assessment = Assessment(START_S + after_s, findings, alive=frozenset(alive), conclusive=conclusive)
        self.incidents, changes = advance(self.incidents, assessment, silences=self.silences)
        self.changes += changes
        return [f"({each.kind})" if each.silent else str(each.kind) for each in changes]

    def over(self, steps: Iterable[tuple[float, Finding | None]]) -> list[tuple[float, str]]:
        return [(after_s, said) for after_s, found in steps for said in self.see(after_s, *([] if found is None else [found]))]

    @property
    def only(self) -> Incident:
        (incident,) = self.incidents.values()
        return incident


def fired() -> Chart:
    """An incident that fired 15 seconds after the start."""
    chart = Chart()
    assert chart.over([(0, crash()), (15, crash())]) == [(0, "(pending)"), (15, "fired")]
    return chart


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        pytest.param([(0, crash(due_s=inf)), (900, crash(due_s=inf))], [], id="not-due"),
        pytest.param([(0, crash()), (14, crash()), (15, crash())], [(0, "(pending)"), (15, "fired")], id="settles"),
        pytest.param([(0, crash()), (20, None), (21, crash())], [(0, "(pending)"), (21, "(pending)")], id="gone-before-it-settled"),
        pytest.param(
            [(0, crash()), (5, None), (10, crash()), (15, crash())], [(0, "(pending)"), (15, "fired")], id="a-flicker-while-it-settles"
        ),
        pytest.param(
            [(0, crash()), (10, crash(pods=refs("a", "b"))), (20, crash(pods=refs("a", "b"))), (25, crash(pods=refs("a", "b")))],
            [(0, "(pending)"), (25, "fired")],
            id="waits-for-siblings",
        ),
        pytest.param(
            [(number * 10, crash(pods=refs(*"abcdefghij"[: number + 1]))) for number in range(9)],
            [(0, "(pending)"), (80, "fired")],
            id="but-not-for-ever",
        ),
    ],
)
def test_pending(steps: list[tuple[float, Finding | None]], said: list[tuple[float, str]]) -> None:
    assert Chart().over(steps) == said


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        pytest.param([(100, crash()), (3000, crash())], [], id="nothing-new"),
        pytest.param(
            [(100, crash(pods=refs("a", "b"))), (614, crash(pods=refs("a", "b"))), (615, crash(pods=refs("a", "b")))],
            [(615, "updated")],
            id="counts-in-ten-minutes",
        ),
        pytest.param([(100, crash(pods=refs("b", revision="2")))], [(100, "updated")], id="a-new-revision-at-once"),
        pytest.param([(100, crash(exit_code=2)), (110, crash()), (120, crash(exit_code=2))], [(100, "updated")], id="a-new-reason-once"),
        pytest.param(
            [(21614, crash()), (21615, crash()), (43214, crash()), (43215, crash())],
            [(21615, "repeated"), (43215, "repeated")],
            id="reminds-every-six-hours",
        ),
        pytest.param([(100, None), (279, None), (280, None)], [(280, "resolved")], id="healthy-for-three-minutes"),
        pytest.param([(100, None), (279, crash()), (290, None), (459, None)], [], id="ill-again-within-them"),
        pytest.param([(100, crash(due_s=inf)), (400, crash(due_s=inf))], [], id="not-due-keeps-it-open"),
        pytest.param(
            [(100, None), (280, None), (300, crash()), (310, crash())], [(280, "resolved"), (300, "fired")], id="fires-again-at-once"
        ),
        pytest.param([(100, None), (280, None), (300, crash(due_s=inf))], [(280, "resolved")], id="not-due-does-not-fire-again"),
        pytest.param(
            [(100, None), (280, None), (2080, None), (2090, crash()), (2105, crash())],
            [(280, "resolved"), (2090, "(pending)"), (2105, "fired")],
            id="forgotten-after-half-an-hour",
        ),
        pytest.param(
            [(100, None), (120, crash()), (200, None), (220, crash()), (300, None), (320, crash()), (400, None), (420, crash())],
            [(320, "flapping")],
            id="flapping-is-said-once",
        ),
        pytest.param(
            [(100, None), (110, crash()), (200, None), (210, crash()), (300, None), (310, crash())], [], id="flickers-are-no-recoveries"
        ),
        pytest.param(
            [(100, None), (120, crash()), (1000, None), (1020, crash()), (1930, None), (1950, crash())],
            [],
            id="three-returns-in-more-than-half-an-hour",
        ),
    ],
)
def test_firing(steps: list[tuple[float, Finding | None]], said: list[tuple[float, str]]) -> None:
    assert fired().over(steps) == said


def test_each_return_doubles_how_long_it_must_be_healthy_up_to_half_an_hour() -> None:
    chart, at_s, holds = fired(), 100.0, []
    for _ in range(5):
        chart.see(at_s)
        chart.see(at_s + 20, crash())
        holds.append(chart.only.hold_s)
        at_s += 100
    assert holds == [360, 720, 1440, 1800, 1800]
    assert chart.only.phase is Phase.FLAPPING
    assert chart.over([(1000, None), (2799, None), (2800, None)]) == [(2800, "resolved")]


@pytest.mark.parametrize(
    ("alive", "after_s", "end"),
    [
        pytest.param(["web-uid", "a-uid"], 280, End.HEALTHY, id="healthy"),
        pytest.param(["web-uid", "b-uid"], 280, End.PODS_GONE, id="the-pods-are-gone"),
        pytest.param(["api-uid"], 100, End.GONE, id="the-workload-is-gone"),
    ],
)
def test_how_it_ended_is_told(alive: list[str], after_s: float, end: End) -> None:
    chart = fired()
    said = [(at_s, each) for at_s in (100, 280) for each in chart.see(at_s, alive=alive)]
    assert (said, chart.only.end) == ([(after_s, "resolved")], end)


def test_a_pending_one_whose_workload_is_gone_was_nothing() -> None:
    chart = Chart()
    chart.see(0, crash())
    assert (chart.see(5, alive=[]), chart.incidents) == ([], {})


def test_nothing_changes_over_a_view_from_which_nothing_follows() -> None:
    chart = fired()
    before = dict(chart.incidents)
    assert (chart.see(5000, alive=[], conclusive=False), chart.incidents) == ([], before)


def test_what_was_there_before_us_is_on_record_and_untold() -> None:
    chart, old = Chart(), crash(preexisting=True)
    assert chart.over([(0, old), (15, old), (9000, old), (30000, old)]) == [(0, "(pending)"), (15, "(fired)")]
    assert (chart.only.phase, chart.only.baseline) == (Phase.FIRING, True)
    assert chart.over([(30010, None), (30190, None)]) == [(30190, "(resolved)")]
    assert chart.over([(30200, crash())]) == [(30200, "fired")], "that is news"


def test_what_was_there_before_us_is_news_in_a_new_revision() -> None:
    chart, old = Chart(), crash(preexisting=True)
    chart.over([(0, old), (15, old)])
    assert chart.over([(100, replace(old, pods=refs("a", "b"))), (200, replace(old, pods=refs("c", revision="2")))]) == [(200, "fired")]
    assert chart.over([(300, None), (480, None)]) == [(480, "resolved")]


def test_a_silence_ends() -> None:
    chart = Chart()
    chart.silences = {"web-uid": START_S + 500}
    assert chart.over([(0, crash()), (15, crash()), (400, crash(exit_code=7)), (499, crash())]) == [(0, "(pending)"), (15, "(fired)")]
    assert chart.over([(500, crash()), (510, crash())]) == [(500, "fired")]


def test_what_is_over_before_its_silence_was_never_told() -> None:
    chart = Chart()
    chart.silences = {"web-uid": START_S + 500}
    assert chart.over([(0, crash()), (15, crash()), (100, None), (280, None), (600, None)]) == [
        (0, "(pending)"),
        (15, "(fired)"),
        (280, "(resolved)"),
    ]


def test_a_silence_of_somebody_else_changes_nothing() -> None:
    chart = Chart()
    chart.silences = {"api-uid": inf}
    assert chart.over([(0, crash()), (15, crash())]) == [(0, "(pending)"), (15, "fired")]


def test_causes_containers_and_workloads_have_incidents_of_their_own() -> None:
    chart = Chart()
    findings = [crash(), crash(container="log"), crash(cause=Cause.OOM), crash(subject=WEB._replace(uid="api-uid"))]
    assert chart.see(0, *findings) == ["(pending)"] * 4
    assert chart.see(15, *findings) == ["fired"] * 4


def test_since_when_a_workload_crashes() -> None:
    chart = fired()
    chart.see(50, crash(), crash(cause=Cause.OOM), crash(cause=Cause.UNREADY, subject=WEB._replace(uid="api-uid")))
    assert crashing_since(chart.incidents) == {"web-uid": START_S}
    chart.over([(100, None), (280, None)])
    assert crashing_since(chart.incidents) == {}


steps = st.lists(st.tuples(st.floats(0.5, 400), st.integers(0, 4), st.sampled_from(["running", "waiting", "gone"])), max_size=40)


@given(lives=steps)
@settings(max_examples=150)
def test_no_sequence_of_restarts_makes_two_incidents_of_one_cause(lives: list[tuple[float, int, str]]) -> None:
    """Whatever a pod does: never two incidents, never told as fired twice without having been told as resolved."""
    ward, incidents, at_s, restarts = Ward(), dict[Key, Incident](), 10.0, 0
    told: list[Kind] = []
    for step_s, more, state in lives:
        at_s += step_s
        restarts += more
        end = Termination(1, "Error", nan, START_S + at_s - 1)
        running = container(restarts=restarts, running_s=START_S + at_s, last=end if restarts else None)
        shown = {"running": [pod("web-1-a", running)], "waiting": [pod("web-1-a", backing_off(1, "Error", START_S + at_s - 1, restarts))]}
        incidents, changes = advance(incidents, ward.see(at_s, pod("web-1-b"), *shown.get(state, [])))
        assert len(incidents) <= 1
        told += [change.kind for change in changes if change.kind in {Kind.FIRED, Kind.RESOLVED}]
    assert told == [Kind.FIRED, Kind.RESOLVED] * (len(told) // 2) + [Kind.FIRED] * (len(told) % 2)


def test_a_restart_of_ours_tells_nothing_twice_and_forgets_nothing() -> None:
    chart = fired()
    chart.see(20, crash(due_s=inf), crash(container="log", since_s=nan))
    breakers = Breakers({"web-uid": Breaker(START_S, ("3 of its 4 pods are ill",))})
    ledger = Ledger((Attempt(START_S, "web-uid", "web-1-uid", "a-uid"),))
    saved = json.loads(json.dumps(to_json(chart.incidents.values(), breakers, ledger), allow_nan=False))
    again = Chart()
    again.incidents, *rest = from_json(saved)
    assert (rest, again.incidents.keys()) == ([breakers, ledger], chart.incidents.keys())
    steps = [(30, crash()), (100, None), (120, crash()), (300, None), (660, None)]
    assert again.over(steps) == chart.over(steps)


def test_an_incident_of_many_pods_stays_small_when_saved() -> None:
    chart, many = Chart(), crash(pods=refs(*[f"web-{number}" for number in range(3000)]), of=3000)
    chart.over([(0, many), (15, many)])
    saved = json.dumps(to_json(chart.incidents.values(), Breakers(), Ledger()))
    assert len(saved) < 4000
    again = Chart()
    again.incidents, _, _ = from_json(json.loads(saved))
    assert (again.over([(20, many)]), again.only.told.pods) == ([], 3000)


@pytest.mark.parametrize(
    "saved",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="a-list"),
        pytest.param({"incidents": {}, "breakers": [], "attempts": "x"}, id="other-types"),
        pytest.param(
            {"incidents": [None, {}, {"finding": {"cause": "New"}}], "breakers": {"": 1, "a": {}}, "attempts": [[1], None]},
            id="rows-of-nonsense",
        ),
        pytest.param({"attempts": [["x", "w", "o", "p", -1], [nan, "w", "o", "p", -1]]}, id="times-of-nonsense"),
    ],
)
def test_what_cannot_be_read_back_is_left_out(saved: object) -> None:
    assert from_json(saved) == ({}, Breakers(), Ledger())
