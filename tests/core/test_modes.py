"""Modes, the shadow of a dry run, and zero: what counts as ours, what pauses, what wakes."""

from math import inf, nan

import pytest

from autoscaler.core.behavior import Select
from autoscaler.core.decide import reanchored
from autoscaler.core.history import History
from autoscaler.core.spec import Fallback, ScheduleRow
from autoscaler.core.types import Mode, Reason, Target, TargetKind
from tests.core.build import (
    HPA_CLASSIC,
    INTERVAL_S,
    PROPORTIONAL,
    START_S,
    Rig,
    behavior,
    choice,
    direction,
    percent,
    pods,
    series,
    spec,
)

ACTIVE, DRY, PAUSED = Mode.ACTIVE, Mode.DRY_RUN, Mode.PAUSED


@pytest.mark.parametrize(
    ("own", "floor", "until_tick", "ticks", "effective"),
    [
        pytest.param(ACTIVE, ACTIVE, nan, 1, ACTIVE, id="active"),
        pytest.param(DRY, ACTIVE, nan, 1, DRY, id="dry-run"),
        pytest.param(PAUSED, ACTIVE, nan, 1, PAUSED, id="paused"),
        pytest.param(ACTIVE, DRY, nan, 1, DRY, id="the-service-is-stricter"),
        pytest.param(PAUSED, DRY, nan, 1, PAUSED, id="the-policy-is-stricter"),
        pytest.param(ACTIVE, PAUSED, nan, 1, PAUSED, id="all-paused"),
        pytest.param(PAUSED, ACTIVE, 2, 2, PAUSED, id="before-it-expires"),
        pytest.param(PAUSED, ACTIVE, 2, 3, ACTIVE, id="expires-at-its-time"),
        pytest.param(DRY, ACTIVE, 2, 3, ACTIVE, id="a-dry-run-expires-too"),
        pytest.param(PAUSED, DRY, 2, 3, DRY, id="expires-to-the-services-mode"),
        pytest.param(ACTIVE, ACTIVE, -9, 1, ACTIVE, id="expired-long-ago"),
    ],
)
def test_the_stricter_mode_holds_until_it_expires(own: Mode, floor: Mode, until_tick: float, ticks: int, effective: Mode) -> None:
    rig = Rig(spec(mode=own, mode_until_s=START_S + until_tick * INTERVAL_S), floor=floor)
    made = [rig.tick(30, current=10) for _ in range(ticks)][-1]
    told = {ACTIVE: {}, DRY: {"mode": Reason.DRY_RUN}, PAUSED: {"mode": Reason.PAUSED}}[effective]
    assert (made.replicas, made.apply, made.reasons) == (10 if effective is PAUSED else 30, effective is ACTIVE, told)


def test_paused_stays_outside_its_bounds_too() -> None:
    rig = Rig(spec(mode=PAUSED, min_replicas=20, max_replicas=30, schedule=(ScheduleRow(0, inf, 25),)))
    assert (rig.tick(28).replicas, rig.tick(nan).replicas) == (10, 10)


def test_a_pause_fills_the_windows() -> None:
    rig = Rig(spec(mode=PAUSED, behavior=behavior(down=direction(60))), real=30)
    for _ in range(10):
        rig.tick(10)
    rig.become(mode=ACTIVE)
    assert rig.tick(10).replicas == 10
    rig.become(mode=PAUSED)
    rig.tick(25, ticks=2)
    rig.become(mode=ACTIVE)
    assert rig.tick(5).reasons == {"stabilisation": Reason.STABILISED_DOWN}


def test_a_dry_run_follows_its_own_decisions_and_writes_none() -> None:
    rig = Rig(spec(mode=DRY, behavior=behavior(direction(rules=[pods(4, 15)]))))
    made = [rig.tick(20, current=real) for real in (10, 10, 3, 50)]
    assert [(each.current, each.replicas, each.apply) for each in made] == [
        (10, 14, False),
        (14, 18, False),
        (18, 20, False),
        (20, 20, False),
    ]


def test_a_dry_run_is_rated_by_what_it_would_have_written() -> None:
    rig = Rig(spec(mode=DRY, behavior=behavior(direction(rules=[pods(4, 60)]))))
    assert [rig.tick(90, current=10).replicas for _ in range(5)] == [14, 14, 14, 14, 18]


def test_a_dry_run_starts_with_the_real_count_and_the_real_past() -> None:
    rig = Rig(spec(behavior=behavior(direction(rules=[pods(4, 60)]), direction(60))))
    assert rig.tick(14).replicas == 14
    rig.become(mode=DRY)
    assert rig.tick(90).replicas == 14, "the real scale-up counts"
    assert rig.tick(2).replicas == 14, "so do the real recommendations"


def test_leaving_a_dry_run_seeds_the_windows_with_the_real_count() -> None:
    rig = Rig(spec(mode=DRY, behavior=behavior(down=direction(60))), real=30)
    assert [rig.tick(10).replicas for _ in range(10)][-1] == 10
    rig.become(mode=ACTIVE)
    assert [rig.tick(10).replicas for _ in range(5)] == [30, 30, 30, 30, 10]


@pytest.mark.parametrize(("demand", "moved"), [pytest.param(90, 14, id="up"), pytest.param(1, 6, id="down")])
@pytest.mark.parametrize("after", [pytest.param(ACTIVE, id="active"), pytest.param(PAUSED, id="paused")])
def test_leaving_a_dry_run_forgets_what_it_would_have_written(demand: float, moved: float, after: Mode) -> None:
    rule = pods(4, 300)
    rig = Rig(spec(mode=DRY, behavior=behavior(direction(rules=[rule]), direction(rules=[rule]))))
    assert rig.tick(demand).replicas == moved
    rig.become(mode=after)
    if after is PAUSED:
        rig.tick(demand)
        rig.become(mode=ACTIVE)
    assert rig.tick(demand).replicas == moved, "nothing was moved yet, so four may be"


def test_a_dry_run_that_ends_while_the_target_is_out_of_sight_ends_when_it_is_back() -> None:
    rig = Rig(spec(mode=DRY, behavior=behavior(down=direction(60))), real=30)
    rig.tick(90)
    rig.become(mode=ACTIVE)
    assert rig.tick(90, target=Target.STALE).replicas == 30
    made = rig.tick(2)
    assert (made.current, made.replicas) == (30, 30)


def test_a_new_object_behind_the_name_has_a_dry_run_of_its_own() -> None:
    rig = Rig(spec(mode=DRY))
    rig.tick(90)
    rig.roster.restart(rig.roster.members())
    assert rig.tick(7, current=3).current == 3


HAND = {"noData": Reason.PAUSED_AT_ZERO}


@pytest.mark.parametrize("low", [pytest.param(0, id="zero-allowed"), pytest.param(2, id="min-2")])
def test_a_zero_set_by_hand_pauses_until_somebody_sets_more(low: int) -> None:
    rig = Rig(spec(min_replicas=low), real=0)
    assert [rig.tick(5).reasons for _ in range(2)] == [HAND, HAND]
    rig.real = 3
    assert rig.tick(5).replicas == 5
    rig.real = 0
    assert rig.tick(5).reasons == HAND


def test_a_zero_of_ours_wakes() -> None:
    rig = Rig(spec(min_replicas=0), real=2)
    made = [rig.tick(load) for load in (0, 0, 4)]
    assert [(each.replicas, each.apply) for each in made] == [(0, True), (0, False), (4, True)]


def test_a_zero_of_ours_that_is_seen_late_is_ours() -> None:
    rig = Rig(spec(min_replicas=0), real=2)
    assert rig.tick(0).replicas == 0
    confirmed = (rig.at_s, 2.0, 0.0)
    for written in (confirmed, None, None):  # the watch lags; what these ticks write meets a newer count and fails
        assert rig.tick(0, current=2, written=written).replicas == 0
    assert rig.tick(0, written=None).reasons == {}
    assert rig.tick(4, written=None).replicas == 4


@pytest.mark.parametrize("seen", [pytest.param(True, id="seen-in-between"), pytest.param(False, id="after-our-own-wake-up")])
def test_a_zero_set_by_hand_after_ours_is_not_ours(seen: bool) -> None:  # noqa: FBT001 - a table's column
    rig = Rig(spec(min_replicas=0), real=2)
    rig.tick(0)
    rig.tick(0)
    if seen:
        rig.real = 5
        rig.tick(5)
    else:
        assert rig.tick(5).replicas == 5
    rig.real = 0
    assert rig.tick(5).reasons == HAND


def test_a_zero_of_ours_is_raised_to_a_new_min() -> None:
    rig = Rig(spec(min_replicas=0), real=2)
    rig.tick(0)
    rig.become(min_replicas=2)
    assert rig.tick(nan).replicas == 2


def test_a_dry_run_at_a_zero_set_by_hand_begins_when_somebody_sets_more() -> None:
    rig = Rig(spec(mode=DRY), real=0)
    assert rig.tick(5).reasons == HAND
    assert rig.tick(5, current=4).current == 4


def test_a_dry_run_sleeps_and_wakes_in_its_shadow() -> None:
    rig = Rig(spec(mode=DRY, min_replicas=0), real=2)
    assert [(made.current, made.replicas) for made in (rig.tick(0), rig.tick(0), rig.tick(4), rig.tick(4))] == [
        (2, 0),
        (0, 0),
        (0, 4),
        (4, 4),
    ]


def test_a_dry_run_leaves_alone_whose_the_real_zero_is() -> None:
    rig = Rig(spec(min_replicas=0), real=2)
    rig.tick(0)
    rig.tick(0)
    rig.become(mode=DRY)
    assert rig.tick(4).replicas == 4, "it wakes in the shadow"
    rig.become(mode=ACTIVE)
    assert rig.tick(4).replicas == 4, "the real zero is ours still"

    rig = Rig(spec(mode=DRY, min_replicas=0), real=2)
    assert rig.tick(0).replicas == 0, "it sleeps in the shadow"
    rig.become(mode=ACTIVE)
    assert rig.tick(4, current=0).reasons == HAND, "the real zero is somebody's"


@pytest.mark.parametrize(
    ("loads", "current", "replicas", "reasons"),
    [
        pytest.param((0.0, 0.0), 0, 0, {}, id="nothing-to-do"),
        pytest.param((5.0, 0.0), 0, 0, {"activation": Reason.NOT_ACTIVE}, id="at-the-threshold-is-not-above"),
        pytest.param((5.1, 0.0), 0, 6, {}, id="above-the-first-threshold"),
        pytest.param((0.0, 0.2), 0, 1, {}, id="above-the-second-threshold"),
        pytest.param((5.0, 0.0), 3, 0, {"activation": Reason.NOT_ACTIVE}, id="to-sleep"),
        pytest.param((5.0, nan), 3, 5, {}, id="who-knows-is-not-put-to-sleep"),
        pytest.param((2.0, nan), 3, 3, {"noData": Reason.PARTIAL_DATA}, id="nor-scaled-down"),
        pytest.param((5.0, nan), 0, 0, {"activation": Reason.NOT_ACTIVE}, id="nor-woken"),
        pytest.param((6.0, nan), 0, 6, {}, id="unless-what-is-known-is-enough"),
        pytest.param((1e300, 0.0), 0, 0, {}, id="nor-by-a-load-beyond-reason"),
        pytest.param((nan, nan), 0, 0, {"noData": Reason.NO_DATA}, id="no-data-sleeps-on"),
        pytest.param((nan, nan), 3, 3, {"noData": Reason.NO_DATA}, id="no-data-stays-awake"),
    ],
)
def test_activation(loads: tuple[float, float], current: float, replicas: float, reasons: dict[str, Reason]) -> None:
    rig = Rig(spec(series=(series("rps", activation=5), series("lag")), min_replicas=0), real=2)
    rig.tick(0, 0)
    rig.tick(0, 0)
    made = rig.tick(*loads, current=current)
    assert (made.replicas, made.reasons) == (replicas, reasons)


def test_part_of_the_pods_not_reporting_puts_nobody_to_sleep() -> None:
    rig = Rig(spec(series=(series(activation=50, target=10),), min_replicas=0), real=2)
    assert rig.tick(40, coverage=0.5).replicas == 4
    assert rig.tick(40, coverage=1.0).replicas == 0


def test_a_load_above_activation_keeps_one_replica_whatever_the_policy_proposes() -> None:
    rig = Rig(spec(policy=choice(PROPORTIONAL, factor=0), min_replicas=0), real=2)
    made = rig.tick(5)
    assert (made.replicas, made.reasons) == (1, {"activation": Reason.ACTIVATED})


def test_a_fallback_wakes_whatever_the_activation() -> None:
    rig = Rig(spec(fallback=Fallback(2, 4), min_replicas=0), real=2)
    rig.tick(0)
    assert [rig.tick(nan).replicas for _ in range(2)] == [0, 4]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param(behavior(direction(rules=[percent(100, 15)])), [1, 2, 4], id="a-percent-of-zero-does-not-keep-it-asleep"),
        pytest.param(behavior(direction(rules=[pods(3, 15)])), [3, 6, 9], id="pods"),
        pytest.param(HPA_CLASSIC, [4, 8, 16], id="classic"),
        pytest.param(behavior(direction(select=Select.DISABLED)), [0, 0, 0], id="not-where-the-way-up-is-disabled"),
    ],
)
def test_waking_up_is_rated(rules: object, expected: list[float]) -> None:
    rig = Rig(spec(behavior=rules, min_replicas=0), real=0)
    rig.tick(0, current=2, written=(rig.at_s, 2, 0))
    assert [rig.tick(90).replicas for _ in range(3)] == expected


def test_a_step_of_the_clock_seeds_the_windows_afresh_and_forgets_nothing_else() -> None:
    rules = behavior(direction(rules=[pods(4, 300)]), direction(60))
    rig = Rig(spec(behavior=rules), real=10)
    assert [rig.tick(load).replicas for load in (90, 90)] == [14, 14]
    rig.state, rig.history = reanchored(rig.state), History(INTERVAL_S)
    rig.at_s -= 3600
    assert rig.tick(90).replicas == 18, "the four of the old clock are forgotten"
    assert [rig.tick(load).replicas for load in (2, 2, 2, 2)] == [18, 18, 18, 2], "held for a whole window of the new clock"

    asleep = Rig(spec(min_replicas=0), real=2)
    asleep.tick(0)
    asleep.tick(0)
    asleep.state, asleep.history = reanchored(asleep.state), History(INTERVAL_S)
    assert asleep.tick(4).replicas == 4, "the zero is ours still"


def test_demand_by_value_from_zero_is_the_ratio() -> None:
    rig = Rig(spec(series=(series(target=2, kind=TargetKind.VALUE),), min_replicas=0), real=2)
    assert rig.tick(0).replicas == 0
    assert rig.tick(5).replicas == 3
