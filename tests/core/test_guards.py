"""Each guard by a table: what the HPA's rules, or the design's, make of a few ticks."""

from dataclasses import replace
from math import nan
from typing import NamedTuple

import pytest

from autoscaler.core.behavior import Behavior, Select
from autoscaler.core.guards import GUARDS
from autoscaler.core.spec import ScheduleRow
from autoscaler.core.types import Reason
from tests.core.build import (
    HPA_GIVEN,
    PROPORTIONAL,
    START_S,
    Outcome,
    Rig,
    behavior,
    choice,
    direction,
    percent,
    pods,
    spec,
)


class Step(NamedTuple):
    """One tick: the demand, the count decided and why; ``hand``: somebody set that count by hand before it."""

    demand: float
    replicas: float | None
    reason: Reason = Reason.NONE
    hand: float | None = None


def reason_of(made: Outcome, guard: str) -> Reason:
    return made.reasons.get(guard, Reason.NONE)


def play(rig: Rig, steps: list[Step], guard: str) -> list[Step]:
    """What the rig made of the steps."""
    made = []
    for step in steps:
        rig.real = rig.real if step.hand is None else step.hand
        answer = rig.tick(step.demand)
        made.append(step._replace(replicas=answer.replicas, reason=reason_of(answer, guard)))
    return made


UP, DOWN = Reason.STABILISED_UP, Reason.STABILISED_DOWN


@pytest.mark.parametrize(
    ("rules", "real", "steps"),
    [
        pytest.param(
            behavior(down=direction(60)),
            10,
            [Step(10, 10), Step(5, 10, DOWN), Step(5, 10, DOWN), Step(5, 10, DOWN), Step(5, 5)],
            id="down-holds-the-highest-of-the-window-which-leaves-it-after-exactly-60s",
        ),
        pytest.param(
            behavior(down=direction(60)),
            10,
            [Step(4, 10, DOWN), Step(7, 10, DOWN), Step(5, 10, DOWN), Step(4, 10, DOWN), Step(4, 7, DOWN), Step(4, 5, DOWN), Step(4, 4)],
            id="down-follows-the-falling-maximum",
        ),
        pytest.param(
            behavior(up=direction(60)),
            5,
            [Step(10, 5, UP), Step(12, 5, UP), Step(10, 5, UP), Step(11, 5, UP), Step(11, 10, UP), Step(11, 10, UP), Step(11, 11)],
            id="up-follows-the-rising-minimum",
        ),
        pytest.param(
            behavior(up=direction(30), down=direction(30)),
            10,
            [Step(20, 10, UP), Step(5, 10, DOWN), Step(20, 10, UP), Step(5, 10, DOWN), Step(5, 5)],
            id="both-windows-hold-the-current-count-between-lowest-and-highest",
        ),
        pytest.param(behavior(down=direction(60)), 10, [Step(15, 15), Step(20, 20)], id="no-up-window-no-delay"),
        pytest.param(behavior(up=direction(60)), 10, [Step(7, 7), Step(2, 2)], id="no-down-window-no-delay"),
        pytest.param(
            behavior(down=direction(60)),
            10,
            [Step(10, 10), Step(4, 4, hand=4)],
            id="given-a-recommendation-above-the-current-count-does-not-raise-it",
        ),
        pytest.param(
            behavior(down=direction(60), classic=True),
            10,
            [Step(10, 10), Step(4, 8, DOWN, hand=4)],
            id="classic-a-recommendation-above-the-current-count-raises-it",
        ),
        pytest.param(
            behavior(up=direction(300), down=direction(60), classic=True), 10, [Step(15, 15)], id="classic-has-no-up-window"
        ),
        pytest.param(
            behavior(down=direction(60)),
            10,
            [Step(10, 10), *[Step(nan, 10)] * 3, Step(5, 5)],
            id="a-held-tick-records-nothing",
        ),
        pytest.param(
            behavior(down=direction(60), classic=True),
            5,
            [Step(5, 5), Step(90, 90, hand=120), Step(5, 5, hand=5)],
            id="a-count-outside-its-bounds-records-nothing",
        ),
        pytest.param(
            behavior(down=direction(300)), 150, [Step(20, 100, DOWN), *[Step(20, 100, DOWN)] * 18, Step(20, 100, DOWN), Step(20, 20)],
            id="the-first-count-seen-is-a-recommendation-though-outside-the-bounds",
        ),
    ],
)  # fmt: skip
def test_stabilisation(rules: Behavior, real: float, steps: list[Step]) -> None:
    assert play(Rig(spec(behavior=rules), real=real), steps, "stabilisation") == steps


FAST, SLOW, OFF = Reason.RATE_LIMITED_UP, Reason.RATE_LIMITED_DOWN, Reason.DIRECTION_DISABLED
HPA_UP = (pods(4, 15), percent(100, 15))


@pytest.mark.parametrize(
    ("rules", "real", "steps"),
    [
        pytest.param(behavior(), 10, [Step(90, 90), Step(1, 1)], id="no-rules-no-limit"),
        pytest.param(behavior(direction(rules=HPA_UP)), 3, [Step(90, 7, FAST), Step(90, 14, FAST)], id="max-takes-the-bigger-change"),
        pytest.param(
            behavior(direction(rules=HPA_UP, select=Select.MIN)), 3, [Step(90, 6, FAST), Step(90, 10, FAST)], id="min-takes-the-smaller"
        ),
        pytest.param(
            behavior(direction(rules=HPA_UP, select=Select.DISABLED)), 3, [Step(90, 3, OFF), Step(2, 2)], id="disabled-up"
        ),
        pytest.param(behavior(down=direction(select=Select.DISABLED)), 3, [Step(1, 3, OFF), Step(9, 9)], id="disabled-down"),
        pytest.param(
            behavior(direction(rules=[pods(4, 60)])),
            10,
            [Step(90, 14, FAST), Step(90, 14, FAST), Step(90, 14, FAST), Step(90, 14, FAST), Step(90, 18, FAST)],
            id="what-was-added-in-the-period-counts-until-exactly-its-end",
        ),
        pytest.param(
            behavior(direction(rules=[pods(4, 60)])), 10, [Step(11, 11), Step(12, 12), Step(90, 14, FAST), Step(90, 14, FAST)],
            id="several-events-in-the-period-add-up",
        ),
        pytest.param(
            behavior(direction(rules=[percent(50, 30)])), 10, [Step(90, 15, FAST), Step(90, 15, FAST), Step(90, 23, FAST)],
            id="percent-of-the-count-at-the-periods-start",
        ),
        pytest.param(behavior(direction(rules=[percent(10, 15)])), 1, [Step(9, 2, FAST)], id="percent-up-rounds-up"),
        pytest.param(
            behavior(direction(rules=[percent(10, 15)])), 50, [Step(90, 56, FAST)], id="percent-up-as-the-hpa-50-x-1.1-is-above-55"
        ),
        pytest.param(behavior(down=direction(rules=[percent(10, 15)])), 15, [Step(1, 13, SLOW)], id="percent-down-is-truncated"),
        pytest.param(behavior(down=direction(rules=[percent(10, 15)])), 5, [Step(1, 4, SLOW)], id="percent-down-moves-at-least-one"),
        pytest.param(behavior(down=direction(rules=[percent(100, 15)])), 50, [Step(1, 1)], id="hundred-percent-down-is-no-limit"),
        pytest.param(
            behavior(down=direction(rules=[pods(1, 30), percent(50, 30)], select=Select.MAX)), 10, [Step(1, 5, SLOW)], id="max-down"
        ),
        pytest.param(
            behavior(down=direction(rules=[pods(1, 30), percent(50, 30)], select=Select.MIN)), 10, [Step(1, 9, SLOW)], id="min-down"
        ),
        pytest.param(
            behavior(down=direction(rules=[pods(2, 45)])),
            10,
            [Step(1, 8, SLOW), Step(1, 8, SLOW), Step(1, 8, SLOW), Step(1, 6, SLOW)],
            id="what-was-removed-in-the-period-counts",
        ),
        pytest.param(
            behavior(direction(rules=[pods(4, 60)]), direction(rules=[pods(4, 60)])),
            10,
            [Step(14, 14), Step(12, 12), Step(90, 14, FAST), Step(1, 6, SLOW)],
            id="start-is-current-minus-added-plus-removed",
        ),
        pytest.param(
            behavior(direction(rules=[pods(4, 60)]), direction(rules=[pods(4, 60)])),
            10,
            [Step(14, 14), Step(90, 30, FAST, hand=30), Step(20, 22, SLOW)],
            id="what-others-changed-is-no-event",
        ),
        pytest.param(
            behavior(direction(rules=[pods(1, 60)])), 10, [Step(11, 11), Step(90, 12, FAST, hand=12), Step(90, 12, FAST), Step(11, 11)],
            id="a-used-up-limit-holds-and-never-forces-the-other-way",
        ),
        pytest.param(
            behavior(direction(rules=[pods(3, 60)]), direction(rules=[pods(1, 60)])),
            10,
            [Step(13, 13), Step(90, 5, FAST, hand=5), Step(4, 4, hand=5)],
            id="a-limit-below-the-current-count-does-not-lower-it",
        ),
        pytest.param(behavior(classic=True), 1, [Step(90, 4, FAST), Step(90, 8, FAST), Step(90, 16, FAST)], id="classic-doubles"),
        pytest.param(
            behavior(direction(rules=[pods(1, 15)], select=Select.DISABLED), direction(select=Select.DISABLED), classic=True), 10,
            [Step(90, 20, FAST), Step(1, 1)], id="classic-has-no-rules",
        ),
        pytest.param(HPA_GIVEN, 10, [Step(90, 20, FAST), Step(90, 40, FAST)], id="hpa-defaults-up"),
        pytest.param(
            replace(behavior(), downs_per_hour=2), 10,
            [Step(8, 8), Step(30, 30), Step(9, 9), Step(8, 9, SLOW), Step(40, 40), Step(39, 40, SLOW)], id="downs-per-hour-delay-no-up",
        ),
        pytest.param(
            replace(behavior(), downs_per_hour=1), 10, [Step(8, 8), *(Step(7, 8, SLOW) for _ in range(239)), Step(7, 7), Step(6, 7, SLOW)],
            id="downs-per-hour-until-an-hour-ago",
        ),
    ],
)  # fmt: skip
def test_rate(rules: Behavior, real: float, steps: list[Step]) -> None:
    assert play(Rig(spec(behavior=rules), real=real), steps, "rate") == steps


@pytest.mark.parametrize(
    ("changes", "demand"),
    [
        pytest.param({"min_replicas": 20}, 90, id="up-after-min-raised-it-by-more"),
        pytest.param({"max_replicas": 5}, 1, id="down-after-max-lowered-it-by-more"),
    ],
)
def test_a_limit_that_bounds_have_passed_holds_and_never_forces_the_other_way(changes: dict[str, int], demand: float) -> None:
    rule = pods(4, 300)
    rig = Rig(spec(behavior=behavior(direction(rules=[rule]), direction(rules=[rule]))), real=10)
    rig.become(**changes)
    bounded = rig.tick(10).replicas
    rig.become(min_replicas=1, max_replicas=100)
    assert (bounded, rig.tick(demand).replicas) == ((20, 20) if demand > 10 else (5, 5))


def test_rate_counts_a_write_from_the_tick_that_decided_it() -> None:
    rig = Rig(spec(behavior=behavior(direction(rules=[pods(4, 60)]))), real=10)
    assert rig.tick(90).replicas == 14
    decided_at_s = rig.at_s
    assert rig.tick(14, written=None).replicas == 14, "it went through, but nobody has told us yet"
    assert rig.tick(14, written=(decided_at_s, 10, 14)).replicas == 14
    assert rig.tick(90).replicas == 14
    assert rig.tick(90).replicas == 18


WITHIN = Reason.WITHIN_TOLERANCE


@pytest.mark.parametrize(
    ("up", "down", "real", "demand", "replicas", "reason"),
    [
        pytest.param(0.1, 0.1, 10, 10, 10, Reason.NONE, id="exactly-at-target"),
        pytest.param(0.1, 0.1, 10, 11, 10, WITHIN, id="upper-edge-is-within"),
        pytest.param(0.1, 0.1, 10, 11.01, 12, Reason.NONE, id="above-the-upper-edge"),
        pytest.param(0.1, 0.1, 10, 9, 10, WITHIN, id="lower-edge-is-within"),
        pytest.param(0.1, 0.1, 10, 8.99, 9, Reason.NONE, id="below-the-lower-edge"),
        pytest.param(0.0, 0.2, 10, 10.2, 11, Reason.NONE, id="none-up"),
        pytest.param(0.0, 0.2, 10, 8.5, 10, WITHIN, id="wide-down"),
        pytest.param(0.2, 0.0, 10, 11.9, 10, WITHIN, id="wide-up"),
        pytest.param(0.2, 0.0, 10, 8.5, 9, Reason.NONE, id="none-down"),
        pytest.param(0.0, 0.0, 10, 10.0000000004, 10, Reason.NONE, id="whole-count-but-for-rounding"),
        pytest.param(0.0, 0.0, 10, 10.001, 11, Reason.NONE, id="rounds-up"),
        pytest.param(0.0, 0.0, 3, 2.5, 3, Reason.NONE, id="rounds-up-to-the-current-count"),
        pytest.param(0.1, 0.1, 1, 0, 1, Reason.NONE, id="zero-demand-is-beyond-tolerance-and-meets-min"),
        pytest.param(5, 5, 10, 55, 10, WITHIN, id="everything-tolerated"),
    ],
)
def test_tolerance(up: float, down: float, real: float, demand: float, replicas: float, reason: Reason) -> None:
    made = Rig(spec(behavior=behavior(direction(tolerance=up), direction(tolerance=down))), real=real).tick(demand)
    assert (made.replicas, reason_of(made, "tolerance")) == (replicas, reason)


def test_the_rounding_of_a_product_is_no_replica() -> None:
    rig = Rig(spec(policy=choice(PROPORTIONAL, factor=1.1)))
    made = rig.tick(50)
    assert (made.proposed, made.replicas) == (50 * 1.1, 55)
    assert 50 * 1.1 > 55


@pytest.mark.parametrize(
    ("low", "high", "real", "demand", "replicas", "reason"),
    [
        pytest.param(2, 5, 3, 1, 2, Reason.BELOW_MIN, id="min"),
        pytest.param(2, 5, 3, 9, 5, Reason.ABOVE_MAX, id="max"),
        pytest.param(2, 5, 3, 4, 4, Reason.NONE, id="inside"),
        pytest.param(2, 5, 1, nan, 2, Reason.BELOW_MIN, id="held-below-min"),
        pytest.param(2, 5, 9, nan, 5, Reason.ABOVE_MAX, id="held-above-max"),
        pytest.param(2, 5, 3, nan, 3, Reason.NONE, id="held-inside"),
        pytest.param(4, 4, 3, 1, 4, Reason.BELOW_MIN, id="min-is-max"),
    ],
)
def test_bounds(low: int, high: int, real: float, demand: float, replicas: float, reason: Reason) -> None:
    made = Rig(spec(min_replicas=low, max_replicas=high), real=real).tick(demand)
    assert (made.replicas, reason_of(made, "bounds")) == (replicas, reason)


def test_bounds_act_at_once_whatever_windows_and_rates_say() -> None:
    slow = behavior(direction(300, rules=[pods(1, 60)]), direction(300, rules=[pods(1, 60)]))
    rig = Rig(spec(behavior=slow, min_replicas=20, max_replicas=30), real=10)
    assert rig.tick(10).replicas == 20
    rig.become(min_replicas=1, max_replicas=5)
    assert rig.tick(10).replicas == 5


def window(start_tick: int, end_tick: int, low: float = nan, high: float = nan) -> ScheduleRow:
    return ScheduleRow(START_S + 15 * start_tick, START_S + 15 * end_tick, low, high)


@pytest.mark.parametrize(
    ("rows", "demands", "expected"),
    [
        pytest.param([window(1, 3, low=6)], [3] * 5, [3, 6, 6, 3, 3], id="min-from-start-until-before-end"),
        pytest.param([window(1, 3, high=2)], [3] * 5, [3, 2, 2, 3, 3], id="max-from-start-until-before-end"),
        pytest.param([window(0, 9, low=6, high=8)], [3, 9, 7], [6, 8, 7], id="both"),
        pytest.param([window(0, 9, low=15)], [3], [10], id="min-above-max-gives-way"),
        pytest.param([window(0, 9, high=15)], [30], [15], id="max-replaces-a-lower-max"),
        pytest.param([window(0, 9, low=1)], [0.5], [1], id="min-replaces-a-higher-min"),
        pytest.param([window(0, 9, high=1)], [5], [1], id="max-below-min-wins"),
        pytest.param([window(0, 9, low=4), window(0, 9, low=6), window(0, 9, low=5)], [3], [6], id="largest-of-several-min"),
        pytest.param([window(0, 9, high=4), window(0, 9, high=6)], [9], [6], id="largest-of-several-max"),
        pytest.param([window(0, 1, low=4), window(1, 2, low=6)], [3, 3, 3], [4, 6, 3], id="one-after-the-other"),
        pytest.param([window(0, 9, low=6)], [nan], [6], id="held-workloads-meet-it-too"),
    ],
)
def test_schedule(rows: list[ScheduleRow], demands: list[float], expected: list[float]) -> None:
    rig = Rig(spec(schedule=tuple(rows), min_replicas=2, max_replicas=10), real=3)
    assert [rig.tick(demand).replicas for demand in demands] == expected


@pytest.mark.parametrize(
    ("row", "demand", "reasons"),
    [
        pytest.param(window(0, 1, low=6), 3, {"schedule": Reason.SCHEDULE_MIN}, id="schedule-min"),
        pytest.param(window(0, 1, high=2), 3, {"schedule": Reason.SCHEDULE_MAX}, id="schedule-max"),
        pytest.param(window(0, 1, high=2), 1, {"bounds": Reason.BELOW_MIN}, id="min-though-a-max-is-scheduled"),
        pytest.param(window(0, 1, low=6), 99, {"bounds": Reason.ABOVE_MAX}, id="max-though-a-min-is-scheduled"),
        pytest.param(window(0, 1), 99, {"bounds": Reason.ABOVE_MAX}, id="a-window-of-nothing"),
    ],
)
def test_schedule_and_bounds_say_whose_bound_it_is(row: ScheduleRow, demand: float, reasons: dict[str, Reason]) -> None:
    assert Rig(spec(schedule=(row,), min_replicas=2, max_replicas=10), real=3).tick(demand).reasons == reasons


def test_guards_stand_in_the_order_of_the_design() -> None:
    assert [name for name, _ in GUARDS] == [
        "saturation",
        "noData",
        "activation",
        "tolerance",
        "stabilisation",
        "rate",
        "health",
        "schedule",
        "bounds",
        "mode",
    ]
