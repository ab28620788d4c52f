"""Pieces side by side say what one piece says: exactly where a policy forgets, nearly where it carries sums on."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from autoscaler.core.behavior import NO_BEHAVIOR
from autoscaler.core.plant import Plant
from autoscaler.core.policy import Parameters, Proposal, State, Traits, View
from autoscaler.core.spec import PolicyChoice, ScheduleRow, WorkloadSpec
from autoscaler.core.types import Floats
from autoscaler.registry import find
from autoscaler.simulation.load import crowd, daily, drawn, rates
from autoscaler.simulation.pieces import _cut, in_pieces
from autoscaler.simulation.run import START_S, Case, run
from autoscaler.simulation.score import Trajectory
from autoscaler.simulation.sweep import Swept
from autoscaler.simulation.world import Setup
from autoscaler.testing import columns_of, view_of
from policies.forecasting.state import ForecastState
from tests.core.build import spec

DAY_S = 86400.0
SETUP = Setup(Plant(step_s=60.0))


class Ratchet:
    """Never goes down: it has not forgotten a peak a week later, whatever it says."""

    def __init__(self, forgets_s: float) -> None:
        self.traits = Traits(behavior=NO_BEHAVIOR, forgets_s=forgets_s)

    Params = find("hpa").policy.Params

    def init(self, params: Parameters, n: int) -> State:
        return find("hpa").policy.init(params, n)

    def __call__(self, view: View, params: Parameters, state: State) -> tuple[State, Proposal]:  # noqa: ARG002 - the contract
        return state, Proposal(np.fmax(view.current, np.ceil(view.demand[-1])))


def workload(name: str, target: float, **changes: object) -> WorkloadSpec:
    found = find(name)
    choice = PolicyChoice(name, found.policy, found.policy.Params())
    one = spec(max_replicas=1000, interval_s=60.0, policy=choice, behavior=found.traits.behavior.absent)
    return replace(one, series=(replace(one.series[0], target=target),), **changes)  # type: ignore[arg-type]


def restless(days: float, seed: int = 3) -> Floats:
    """Days with a random walk and a crowd on them, so that there is something to learn each day."""
    rate = rates(daily(600.0, 1800.0, days * DAY_S), 60.0)
    draw = np.random.default_rng(seed)
    walk = np.exp(np.cumsum(draw.normal(0, 0.02, rate.size)))
    walk /= np.convolve(walk, np.ones(600) / 600, mode="same").clip(0.3)
    return np.asarray(rate * walk.clip(0.3, 3.0))


def case_of(one: WorkloadSpec, rate: Floats) -> Case:
    return Case([one], rate[:, None], drawn(rate, 60.0, 1)[:, None], np.zeros(1, np.int64), SETUP)


def whole(case: Case, warm_s: float) -> Trajectory:
    found = run(case, warm_s=warm_s, keep=True).trajectory
    assert found is not None
    return found


def steps_of(found: Swept) -> Trajectory:
    assert found.trajectory is not None
    return found.trajectory


@pytest.mark.parametrize("name", ["threshold", "hpa"])
def test_what_forgets_is_the_same_to_the_last_step(name: str) -> None:
    case = case_of(workload(name, 60.0), restless(1.6))
    assert _cut(case, DAY_S).begin.size > 1
    one, parts = whole(case, DAY_S), in_pieces(case, warm_s=DAY_S)
    for field in ("asked", "ready", "backlog", "late", "billed"):
        np.testing.assert_array_equal(getattr(steps_of(parts), field), getattr(one, field))
    assert parts.score.pod_seconds[0] == one.billed.sum() * 60.0


def test_what_claims_to_forget_and_does_not_is_run_in_one_piece() -> None:
    rate = np.concatenate([restless(1), rates(crowd(500.0, 3000.0, 0.6 * DAY_S), 60.0)])
    one = replace(workload("hpa", 60.0), policy=PolicyChoice("ratchet", Ratchet(3600.0), Ratchet.Params()), behavior=NO_BEHAVIOR.absent)
    case = case_of(one, rate)
    assert _cut(case, DAY_S).begin.size > 1
    np.testing.assert_array_equal(steps_of(in_pieces(case, warm_s=DAY_S)).asked, whole(case, DAY_S).asked)


RATCHET = PolicyChoice("ratchet", Ratchet(inf), Ratchet.Params())


@pytest.mark.parametrize(
    ("one", "warm_s"),
    [
        pytest.param(replace(workload("hpa", 60.0), policy=PolicyChoice("own", Ratchet(inf), Ratchet.Params())), DAY_S, id="says-nothing"),
        pytest.param(workload("forecast", 85.0), DAY_S / 2, id="warm-up-too-short"),
        pytest.param(workload("forecast", 85.0), 1.9 * DAY_S, id="one-piece-and-a-bit"),
        pytest.param(workload("hpa", 60.0, schedule=(ScheduleRow(START_S, START_S + 60.0, min_replicas=3),)), DAY_S, id="schedule"),
    ],
)
def test_what_may_not_be_cut_is_one_piece(one: WorkloadSpec, warm_s: float) -> None:
    assert _cut(case_of(one, restless(2)), warm_s).begin.size == 1


def test_forecast_carries_a_week_from_piece_to_piece() -> None:
    """Cost within a hundredth, lateness within a quarter of what may be late; the first piece to the last step."""
    case = case_of(workload("forecast", 85.0), restless(2.1))
    told: list[float] = []
    cut, one, parts = _cut(case, DAY_S), whole(case, DAY_S), in_pieces(case, warm_s=DAY_S, progress=told.append)
    steps, first = steps_of(parts), cut.length - int(cut.unscored[0])
    assert cut.begin.size > 1
    assert steps.arrivals.sum() == one.arrivals.sum()
    assert steps.billed.sum() == pytest.approx(one.billed.sum(), rel=0.01)
    assert steps.late.sum() / steps.arrivals.sum() == pytest.approx(one.late.sum() / one.arrivals.sum(), abs=5e-4)
    np.testing.assert_array_equal(steps.asked[:first], one.asked[:first])
    assert told == sorted(told)


def test_what_is_carried_is_what_would_have_been_summed_up() -> None:
    """Three stretches of one past, each begun with nothing: what the last is told makes its sums those of all three."""
    policy, params = find("forecast").policy, columns_of([find("forecast").policy.Params()])
    demand = np.abs(np.random.default_rng(5).normal(8.0, 2.0, 900))

    def played(begin: int, end: int, state: ForecastState) -> ForecastState:
        for tick in range(begin, end):
            rows = demand[max(0, tick - 119) : tick + 1, None]
            state, _ = policy(view_of(rows, at_s=15.0 * tick, current=[9.0]), params, state)
        return state

    every = 300
    right = played(0, every, policy.init(params, 1))
    for begin in (every, 2 * every):
        start = played(begin - every, begin, policy.init(params, 1))
        right = policy.carried(right, start, played(begin, begin + every, start), 15.0 * every)  # type: ignore[attr-defined]
    wanted = played(0, 3 * every, policy.init(params, 1))
    for name in ("seen", "scored_s"):
        assert getattr(right, name)[0] == pytest.approx(getattr(wanted, name)[0], abs=30 * 15.0)
    assert right.replayed[0] == pytest.approx(wanted.replayed[0], rel=0.02)
    np.testing.assert_allclose(right.cost, wanted.cost, rtol=0.08)
    assert right.highest[0] == pytest.approx(wanted.highest[0])
