"""A saturated load asks for half as many again as were ready, once per start-up time, beside whatever the policy proposes."""

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from autoscaler.core.columns import frozen
from autoscaler.core.decide import decide
from autoscaler.core.policy import NoState, Proposal, Traits, View
from autoscaler.core.types import Reason, Target
from tests.core.build import INTERVAL_S, Facts, Outcome, Proportional, ProportionalParams, Rig, choice, observe, outcome, spec, workload

RAISED = {"saturation": Reason.SATURATED}


def tick(rig: Rig, load: float, *, saturated: bool, ready: float | None = None, target: Target = Target.OK) -> Outcome:
    """One tick of a cluster that obeys."""
    rig.at_s += INTERVAL_S
    facts = {workload(): Facts(rig.real, (load,), ready=rig.real if ready is None else ready, target=target)}
    seen = observe(rig.roster, rig.at_s, facts)
    marked = tuple(replace(each, saturated=frozen(np.full(each.load.size, saturated))) for each in seen.series)
    seen = rig.history.record(rig.roster.spec, replace(seen, series=marked))
    rig.state, decision = decide(rig.state, seen, rig.roster.spec)
    made = outcome(decision, rig.roster.slot(workload()))
    if made.apply and made.replicas is not None:
        rig.real = made.replicas
    return made


@pytest.mark.parametrize(
    ("startup_s", "counts"),
    [
        pytest.param(30.0, [15, 15, 23, 23, 35], id="every-two-ticks"),
        pytest.param(15.0, [15, 23, 35, 53, 80], id="every-tick"),
        pytest.param(nan, [15, 15, 15, 15, 23], id="a-minute-while-unknown"),
    ],
)
def test_once_per_start_up_time(startup_s: float, counts: list[float]) -> None:
    rig = Rig(spec(startup_s=startup_s), real=10)
    assert [tick(rig, 10.0, saturated=True).replicas for _ in counts] == counts


def test_what_was_raised_stands_until_its_pods_serve() -> None:
    rig = Rig(spec(startup_s=45.0), real=10)
    made = [tick(rig, 10.0, saturated=flag) for flag in (True, False, False, False)]
    assert [each.replicas for each in made] == [15, 15, 15, 10]
    assert [each.reasons for each in made] == [RAISED, RAISED, RAISED, {}]


def test_the_larger_proposal_counts() -> None:
    assert tick(Rig(spec(), real=10), 40.0, saturated=True) == Outcome(10, 40, 40, apply=True, reasons={})


def test_ready_pods_count_not_those_that_were_asked_for() -> None:
    assert tick(Rig(spec(), real=10), 4.0, saturated=True, ready=4.0).replicas == 6


def test_bounds_hold_all_the_same() -> None:
    assert tick(Rig(spec(max_replicas=12), real=10), 10.0, saturated=True).replicas == 12


def test_without_data_of_now_nothing_is_raised() -> None:
    rig = Rig(spec(startup_s=60.0), real=10)
    assert tick(rig, nan, saturated=True).reasons == {"noData": Reason.NO_DATA}
    tick(rig, 10.0, saturated=True)
    rig.real = 8
    held = tick(rig, nan, saturated=False)
    assert (held.replicas, held.reasons) == (8, {"noData": Reason.NO_DATA})


class Silent(Proportional):
    """Never proposes anything."""

    def __call__(self, view: View, params: ProportionalParams, state: NoState) -> tuple[NoState, Proposal]:
        _, proposal = super().__call__(view, params, state)
        return state, replace(proposal, replicas=np.full(proposal.replicas.size, nan))


def test_a_policy_that_abstains_does_not_hold_it_back() -> None:
    rig = Rig(spec(policy=choice(Silent())), real=10)
    assert tick(rig, 10.0, saturated=True).replicas == 15


class Deaf(Proportional):
    """Declares that it wants nothing beside it, as `hpa` does."""

    traits = Traits(saturation=False)


def test_a_policy_may_decline_it() -> None:
    assert tick(Rig(spec(policy=choice(Deaf())), real=10), 10.0, saturated=True) == Outcome(10, 10, 10, apply=False, reasons={})


def test_a_target_that_is_not_known_uses_up_no_turn() -> None:
    rig = Rig(spec(startup_s=600.0), real=10)
    tick(rig, 10.0, saturated=True, target=Target.STALE)
    assert tick(rig, 10.0, saturated=True).replicas == 15
