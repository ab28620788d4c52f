"""The health guard: a broken new revision is not scaled up, and whatever else crashes is."""

from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from autoscaler.core.behavior import Behavior
from autoscaler.core.columns import frozen
from autoscaler.core.decide import decide
from autoscaler.core.observation import HealthFacts
from autoscaler.core.spec import Fallback, ScheduleRow
from autoscaler.core.types import Mode, Reason
from tests.core.build import FREE_BEHAVIOR, Facts, Outcome, Rig, observe, outcome, spec, workload


@dataclass(frozen=True)
class Verdict:
    """One workload's health facts, its age in seconds before the tick; the defaults are those of a broken new revision."""

    age_s: float = 5
    revision_age_s: float = 120
    pods: float = 10
    crash_pods: float = 5
    overload_pods: float = 0
    majority_ready_s: float = 0
    served: bool = False
    previous_crashing: bool = False


def columns(verdict: Verdict, at_s: float, slots: int, slot: int) -> HealthFacts:
    def numbers(value: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        column = np.full(slots, nan)
        column[slot] = value
        return frozen(column)

    def flags(*, value: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
        column = np.zeros(slots, np.bool_)
        column[slot] = value
        return frozen(column)

    return HealthFacts(
        as_of_s=numbers(at_s - verdict.age_s),
        revision_age_s=numbers(verdict.revision_age_s),
        pods=numbers(verdict.pods),
        crash_pods=numbers(verdict.crash_pods),
        overload_pods=numbers(verdict.overload_pods),
        majority_ready_s=numbers(verdict.majority_ready_s),
        served=flags(value=verdict.served),
        previous_crashing=flags(value=verdict.previous_crashing),
    )


def decided(verdict: Verdict | None, demand: float = 30, current: float = 10, **changes: Any) -> Outcome:  # noqa: ANN401 - of WorkloadSpec
    """One tick of one workload with these health facts, after one without any."""
    rig = Rig(spec(**changes))
    rig.tick(current, current=current)
    at_s = rig.at_s + rig.roster.spec.interval_s
    seen = observe(rig.roster, at_s, {workload(): Facts(current, (demand,))})
    slot = rig.roster.slot(workload())
    if verdict is not None:
        seen = replace(seen, health=columns(verdict, at_s, rig.roster.spec.slots, slot))
    _, decision = decide(rig.state, rig.history.record(rig.roster.spec, seen), rig.roster.spec)
    return outcome(decision, slot)


HELD = Outcome(10, 30, 10, apply=False, reasons={"health": Reason.HEALTH_HOLD})
PASSED = Outcome(10, 30, 30, apply=True)


@pytest.mark.parametrize(
    ("verdict", "made"),
    [
        pytest.param(Verdict(), HELD, id="a-broken-new-revision"),
        pytest.param(None, PASSED, id="no-facts"),
        pytest.param(Verdict(age_s=60), HELD, id="assessed-60s-ago"),
        pytest.param(Verdict(age_s=60.1), PASSED, id="assessed-longer-ago"),
        pytest.param(Verdict(age_s=-10), HELD, id="assessed-after-the-tick-that-it-is-for"),
        pytest.param(Verdict(age_s=-3600), PASSED, id="assessed-by-another-clock"),
        pytest.param(Verdict(age_s=nan), PASSED, id="never-assessed"),
        pytest.param(Verdict(revision_age_s=1794), HELD, id="almost-30-minutes-old"),
        pytest.param(Verdict(revision_age_s=1795), PASSED, id="30-minutes-old-by-now"),
        pytest.param(Verdict(revision_age_s=nan), PASSED, id="of-unknown-age"),
        pytest.param(Verdict(crash_pods=4), PASSED, id="fewer-than-half-crash"),
        pytest.param(Verdict(pods=2, crash_pods=1), PASSED, id="half-but-only-one"),
        pytest.param(Verdict(pods=1, crash_pods=1), PASSED, id="all-but-only-one"),
        pytest.param(Verdict(pods=3, crash_pods=2), HELD, id="two-of-three"),
        pytest.param(Verdict(pods=5, crash_pods=2), PASSED, id="two-of-five"),
        pytest.param(Verdict(pods=0, crash_pods=0), PASSED, id="without-pods"),
        pytest.param(Verdict(crash_pods=nan), PASSED, id="crashes-unknown"),
        pytest.param(Verdict(pods=nan), PASSED, id="pods-unknown"),
        pytest.param(Verdict(majority_ready_s=299), HELD, id="a-majority-ready-for-less-than-5-minutes"),
        pytest.param(Verdict(majority_ready_s=300), PASSED, id="a-majority-ready-for-5-minutes"),
        pytest.param(Verdict(majority_ready_s=nan), PASSED, id="readiness-unknown"),
        pytest.param(Verdict(previous_crashing=True), PASSED, id="the-previous-revision-crashes-too"),
        pytest.param(Verdict(crash_pods=8, overload_pods=8, served=True), PASSED, id="killed-by-overload-after-it-served"),
        pytest.param(Verdict(crash_pods=8, overload_pods=8), HELD, id="out-of-memory-before-it-ever-served"),
        pytest.param(Verdict(crash_pods=8, overload_pods=3, served=True), HELD, id="enough-crash-besides-the-overloaded"),
        pytest.param(Verdict(crash_pods=8, overload_pods=4, served=True), PASSED, id="too-few-crash-besides-the-overloaded"),
        pytest.param(Verdict(served=True), HELD, id="served-a-little-but-no-overload"),
    ],
)
def test_holds_a_scale_up_only_of_a_broken_new_revision(verdict: Verdict | None, made: Outcome) -> None:
    assert decided(verdict) == made


@pytest.mark.parametrize(
    ("demand", "current", "changes", "made"),
    [
        pytest.param(4, 10, {}, Outcome(10, 4, 4, apply=True), id="a-scale-down"),
        pytest.param(10, 10, {}, Outcome(10, 10, 10, apply=False), id="no-change"),
        pytest.param(
            30, 1, {"min_replicas": 5}, Outcome(1, 30, 5, apply=True, reasons={"health": Reason.HEALTH_HOLD, "bounds": Reason.BELOW_MIN}),
            id="never-below-min",
        ),
        pytest.param(
            30, 10, {"schedule": (ScheduleRow(0, inf, 20),)},
            Outcome(10, 30, 20, apply=True, reasons={"health": Reason.HEALTH_HOLD, "schedule": Reason.SCHEDULE_MIN}),
            id="never-below-a-schedules-min",
        ),
        pytest.param(
            30, 10, {"mode": Mode.DRY_RUN},
            Outcome(10, 30, 10, apply=False, reasons={"health": Reason.HEALTH_HOLD, "mode": Reason.DRY_RUN}),
            id="a-dry-run",
        ),
        pytest.param(
            nan, 10, {"fallback": Fallback(1, 20)},
            Outcome(10, None, 10, apply=False, reasons={"noData": Reason.FALLBACK, "health": Reason.HEALTH_HOLD}),
            id="a-fallback-above-the-current-count",
        ),
    ],
)  # fmt: skip
def test_meets_other_rules(demand: float, current: float, changes: dict[str, Any], made: Outcome) -> None:
    assert decided(Verdict(), demand, current, **changes) == made


def test_leaves_the_hpas_guards_to_the_letter() -> None:
    exact: Behavior = replace(FREE_BEHAVIOR, exact=True)
    assert decided(Verdict(), behavior=exact) == PASSED


def test_knows_workloads_apart() -> None:
    rig = Rig(spec("web"), spec("api"))
    facts = {workload(name): Facts(10, (30,)) for name in ("web", "api")}
    rig.decide(facts)
    at_s = rig.at_s + rig.roster.spec.interval_s
    broken = rig.roster.slot(workload("api"))
    seen = replace(observe(rig.roster, at_s, facts), health=columns(Verdict(), at_s, rig.roster.spec.slots, broken))
    _, decision = decide(rig.state, rig.history.record(rig.roster.spec, seen), rig.roster.spec)
    assert [outcome(decision, rig.roster.slot(workload(name))).replicas for name in ("web", "api")] == [30, 10]
