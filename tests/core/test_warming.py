"""Stepping a policy over its past: what comes out is what the policy would have remembered had it been there."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from autoscaler.core.columns import array_fields
from autoscaler.core.decide import State, decide
from autoscaler.core.history import History
from autoscaler.core.policy import NoState, Policy, Proposal, Traits, View
from autoscaler.core.roster import Roster
from autoscaler.core.types import Floats, Singles
from autoscaler.core.warming import Walk, Warmed, present, walked, warm_rows, with_warmed
from autoscaler.testing import columns_of
from policies.forecast import Forecast
from tests.core import build

START_S = 1_800_000_000.0
ROWS = 120


@dataclass(frozen=True)
class Sums:
    total: Floats
    ticks: Floats


HOUR = Traits(warm_s=3600.0)


class Adding:
    """Adds up all demand that it is shown, and fails where it is told to."""

    Params = NoState

    def __init__(self, traits: Traits = HOUR, fails_at_s: float = np.inf) -> None:
        self.traits, self._fails_at_s = traits, fails_at_s

    def init(self, params: NoState, n: int) -> Sums:  # noqa: ARG002 - the contract's signature
        return Sums(np.zeros(n), np.zeros(n))

    def __call__(self, view: View, params: NoState, state: Sums) -> tuple[Sums, Proposal]:  # noqa: ARG002 - the contract's signature
        if view.at_s >= self._fails_at_s:
            raise RuntimeError("no more")
        assert np.isnan(view.current).all()
        return Sums(state.total + np.nan_to_num(view.demand[-1]), state.ticks + 1), Proposal(view.demand[-1].astype(float))


def walk(demand: Singles, policy: Policy, rows: int = 1, first_at_s: float = START_S) -> Walk:
    k = demand.shape[1]
    params = columns_of([policy.Params()] * k)
    return Walk(policy, params, rows, 15.0, first_at_s, demand, np.full(k, np.nan), np.zeros(k, bool), np.ones(k), np.full(k, 100.0))


def loads(rows: int, k: int) -> Singles:
    random = np.random.default_rng(3)
    wave = 10 + 6 * np.sin(np.arange(rows)[:, None] / 50.0 + np.arange(k))
    return (wave + random.normal(0, 0.4, (rows, k))).astype(np.float32)


def test_every_row_but_those_looked_back_on_is_a_step() -> None:
    demand = loads(20, 3)
    state, fault = walked(walk(demand, Adding(), rows=5))
    assert fault == ""
    assert state is not None
    assert state.ticks.tolist() == [16.0] * 3
    assert state.total == pytest.approx(demand[4:].astype(float).sum(axis=0))


def test_two_walks_one_after_the_other_are_one() -> None:
    demand, policy = loads(900, 2), Forecast()
    whole, _ = walked(walk(demand, policy, ROWS))
    half, _ = walked(walk(demand[:500], policy, ROWS))
    rest, _ = walked(walk(demand[500 - ROWS + 1 :], policy, ROWS, START_S + (500 - ROWS + 1) * 15.0), half)
    for name, array in array_fields(whole).items():
        np.testing.assert_array_equal(array, array_fields(rest)[name], name)


def test_what_forecast_has_learnt_is_what_it_learns_live() -> None:
    """The counts of then are not known; what it learns does not hang on them."""
    spec = build.spec("web", policy=build.choice(Forecast()), max_replicas=100, startup_s=60.0)
    roster, history, state = Roster(15.0), History(15.0), State()
    roster.swap(join=[spec])
    demand = loads(1000, 1)
    for row, (value,) in enumerate(demand):
        observation = build.observe(roster, START_S + row * 15.0, {spec.workload: build.Facts(20.0, (float(value),))})
        state, _ = decide(state, history.record(roster.spec, observation), roster.spec)
    (call,) = roster.spec.calls
    (slot,) = np.flatnonzero(call.owner >= 0)
    padded = np.concatenate([np.full((call.rows - 1, 1), np.nan, np.float32), demand])
    over = replace(walk(padded, call.policy, call.rows, START_S - (call.rows - 1) * 15.0), startup_s=np.array([60.0]))
    found, fault = walked(over)
    assert fault == ""
    live = array_fields(state.policies[call.key].value)
    for name in ("weights", "inverse", "error", "error_slow", "late", "cost", "replayed", "setting", "multiple", "scored_s", "forecasts"):
        np.testing.assert_allclose(array_fields(found)[name][..., 0], live[name][..., slot], rtol=1e-6, err_msg=name)
    assert live["scored_s"][slot] > 7200.0


def test_a_policy_that_fails_on_the_way_has_no_state() -> None:
    state, fault = walked(walk(loads(20, 1), Adding(fails_at_s=START_S + 60.0)))
    assert state is None
    assert "no more" in fault


@pytest.mark.parametrize(
    ("traits", "rows"),
    [
        pytest.param(Traits(), 0, id="asks-for-none"),
        pytest.param(Traits(warm_s=3600.0), 240, id="an-hour"),
        pytest.param(Traits(warm_s=3610.0), 241, id="rounded-up"),
        pytest.param(Traits(warm_s=3600.0, pods=True), 0, id="needs-pods-of-then"),
        pytest.param(Traits(warm_s=3600.0, season=True), 0, id="needs-a-season"),
        pytest.param(Traits(warm_s=3600.0, objective=True), 240, id="does-without-an-objective"),
    ],
)
def test_a_past_is_stepped_over_only_where_it_says_all_that_is_needed(traits: Traits, rows: int) -> None:
    roster = Roster(15.0)
    roster.swap(join=[build.spec("web", policy=build.choice(Adding(traits)))])
    assert warm_rows(roster.spec.calls[0], 15.0) == rows


def test_a_state_is_put_in_for_those_who_are_still_there() -> None:
    roster = Roster(15.0)
    policy = Adding()
    roster.swap(join=[build.spec(name, policy=build.choice(policy)) for name in ("a", "b", "c")])
    old = roster.spec.calls[0]
    slots = np.flatnonzero(old.owner >= 0)
    warmed = Warmed(old.key, slots, old.serial[slots], START_S, Sums(np.array([1.0, 2.0, 3.0]), np.array([9.0, 9.0, 9.0])))
    roster.swap(leave=[build.workload("b")])
    roster.swap(join=[build.spec("d", policy=build.choice(policy))])
    (call,) = roster.spec.calls
    here = present(warmed, call)
    assert here is not None
    state = with_warmed(State(), call, here)
    value = state.policies[call.key].value
    by_name = {name: value.total[place.slot] for name in "acd" for place in roster.series(build.workload(name)).values()}
    assert by_name == {"a": 1.0, "c": 3.0, "d": 0.0}
    roster.swap(leave=[build.workload(name) for name in "ac"])
    assert present(warmed, roster.spec.calls[0]) is None
