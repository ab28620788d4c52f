"""What a policy is shown, and that it cannot change it."""

from dataclasses import dataclass, replace
from math import nan

import numpy as np
import pytest

from autoscaler.core.decide import State, decide
from autoscaler.core.history import History
from autoscaler.core.observation import Observation
from autoscaler.core.policy import NoState, Pods, Proposal, Traits, View
from autoscaler.core.roster import Roster
from autoscaler.core.spec import PolicyChoice, ScheduleRow
from autoscaler.core.types import Mode, TargetKind
from tests.core.build import INTERVAL_S, START_S, Facts, observe, series, spec, workload
from tests.core.snapshot import writeable


@dataclass(frozen=True)
class Nothing:
    """No parameters."""


class Witness:
    """Keeps what it was shown."""

    Params = Nothing

    def __init__(self, traits: Traits) -> None:
        self.traits, self.views = traits, list[View]()

    def history_s(self, params: Nothing) -> float:  # noqa: ARG002 - the contract
        return 30.0

    def init(self, params: Nothing, n: int) -> NoState:  # noqa: ARG002 - the contract
        return NoState()

    def __call__(self, view: View, params: Nothing, state: NoState) -> tuple[NoState, Proposal]:  # noqa: ARG002 - the contract
        self.views.append(view)
        return state, Proposal(view.current)


def pods_of(n: int) -> Pods:
    """One pod for the first series."""
    one, code = np.ones(1), np.ones(1, np.int8)
    return Pods(np.minimum(np.arange(n + 1), 1), one, one, code, code, one, one, one, one)


def shown(traits: Traits) -> View:
    """The view of two workloads: one with two metrics, in a dry run; one paused, outside its usual bounds."""
    witness = Witness(traits)
    choice = PolicyChoice("witness", witness, Nothing())
    row = ScheduleRow(START_S, START_S + 60, 5, 7)
    roster = Roster(INTERVAL_S)
    roster.swap(
        join=[
            spec("a", policy=choice, series=(series("rps", 2.0), series("lag", 4.0, TargetKind.VALUE)), mode=Mode.DRY_RUN, startup_s=20),
            spec("b", policy=choice, schedule=(row,), mode=Mode.PAUSED),
        ]
    )
    history = History(INTERVAL_S)
    state = State()
    for at_s in (START_S, START_S + INTERVAL_S):
        facts = {workload("a"): Facts(6, (8.0, 8.0), ready=3), workload("b"): Facts(9, (4.0,))}
        seen = completed(observe(roster, at_s, facts))
        state, _ = decide(state, history.record(roster.spec, seen), roster.spec)
    return witness.views[-1]


def completed(seen: Observation) -> Observation:
    """All the columns that nothing fills yet, in arrays that stay the adapter's to write to."""
    w = seen.current.size
    full = [
        replace(
            each,
            late=np.full(each.load.size, 1.0),
            total=np.full(each.load.size, 2.0),
            saturated=np.zeros(each.load.size, np.bool_),
            age_s=np.full(each.load.size, 3.0),
            pods=pods_of(each.load.size),
            season_mean=np.ones((2016, each.load.size), np.float32),
            season_max=np.ones((2016, each.load.size), np.float32),
        )
        for each in seen.series
    ]
    return replace(seen, series=tuple(full), startup_s=np.full(w, 45.0), ordered=np.ones(w, np.bool_))


def column(values: np.ndarray, used: int = 3) -> list[float]:
    return [float(value) for value in values[:used]]


def test_every_series_is_shown_its_workloads_columns() -> None:
    view = shown(Traits())
    assert (view.at_s, view.interval_s) == (START_S + 15, 15)
    assert view.workload.tolist() == [0, 0, 1, -1, -1, -1, -1, -1]
    assert [column(row) for row in view.demand] == [[4, 6, 4], [4, 6, 4]]
    assert (column(view.current), column(view.ready)) == ([6, 6, 9], [3, 3, 9])
    assert (column(view.min), column(view.max)) == ([1, 1, 5], [100, 100, 7])
    assert (column(view.startup_s), column(view.ordered)) == ([20, 20, 45], [1, 1, 1])
    assert column(view.age_s) == [3, 3, 3]


def test_columns_that_nobody_uses_are_shown_empty() -> None:
    view = shown(Traits(pods=True))
    for name in ("current", "ready", "startup_s", "min", "max", "status_replicas"):
        assert np.isnan(getattr(view, name)[3:]).all(), name
    assert np.isnan(view.demand[:, 3:]).all()
    assert not view.ordered[3:].any()


@pytest.mark.parametrize(
    ("traits", "parts"),
    [
        pytest.param(Traits(), set(), id="none"),
        pytest.param(Traits(season=True), {"season_mean", "season_max"}, id="season"),
        pytest.param(Traits(objective=True), {"late", "total"}, id="objective"),
        pytest.param(Traits(pods=True), {"load", "target", "target_kind", "status_replicas", "pods"}, id="pods"),
    ],
)
def test_further_parts_are_shown_on_declaration(traits: Traits, parts: set[str]) -> None:
    view = shown(traits)
    optional = {"season_mean", "season_max", "late", "total", "load", "target", "target_kind", "status_replicas", "pods"}
    assert {name for name in optional if getattr(view, name) is not None} == parts


def test_nothing_shown_can_be_written_to() -> None:
    assert writeable(shown(Traits(season=True, objective=True, pods=True))) == []


def test_the_policy_sees_the_shadow_of_a_dry_run_but_real_pods() -> None:
    witness = Witness(Traits())
    roster = Roster(INTERVAL_S)
    choice = PolicyChoice("witness", witness, Nothing())
    roster.swap(join=[spec("a", policy=choice, mode=Mode.DRY_RUN, min_replicas=8)])
    history, state = History(INTERVAL_S), State()
    for at_s in (START_S, START_S + INTERVAL_S):
        seen = observe(roster, at_s, {workload("a"): Facts(3, (nan,), ready=2)})
        state, _ = decide(state, history.record(roster.spec, seen), roster.spec)
    assert [(float(view.current[0]), float(view.ready[0])) for view in witness.views] == [(3, 2), (8, 2)]
