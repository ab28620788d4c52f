"""The rings of demand, held against a plain dictionary from tick to demand."""

import random
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.history import ROWS_MIN, History, Past
from autoscaler.core.observation import Observation
from autoscaler.core.spec import Call
from autoscaler.core.types import Singles, Workload
from tests.core.build import EXTREME, INTERVAL_S, START_S, Facts, Rig, choice, observe, spec, workload


def at(tick: int) -> float:
    return START_S + tick * INTERVAL_S


def record(rig: Rig, tick: int, **loads: float) -> Observation:
    """Record one tick of some workloads by name."""
    facts = {workload(name): Facts(2, (load,)) for name, load in loads.items()}
    return rig.history.record(rig.roster.spec, observe(rig.roster, at(tick), facts))


def window(rig: Rig, seen: Observation, name: str) -> list[float]:
    """The rows that the workload's policy sees, -1 where there is nothing."""
    (place,) = rig.roster.series(workload(name)).values()
    number = [call.key for call in rig.roster.spec.calls].index(place.call)
    demand = seen.series[number].demand
    assert demand is not None
    return [float(value) for value in np.nan_to_num(demand[:, place.slot], nan=-1)]


def looking_back(rows: int) -> Rig:
    return Rig(spec("web", policy=choice(EXTREME, window_s=rows * INTERVAL_S)))


def test_a_window_ends_with_this_tick_and_is_oldest_first() -> None:
    rig = looking_back(3)
    seen = [window(rig, record(rig, tick, web=tick), "web") for tick in range(4)]
    assert seen == [[-1, -1, 0], [-1, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_a_policy_that_does_not_look_back_sees_this_tick() -> None:
    rig = Rig(spec())
    assert [window(rig, record(rig, tick, web=tick), "web") for tick in range(2)] == [[0], [1]]


@pytest.mark.parametrize(
    ("ticks", "seen"),
    [
        pytest.param([0, 1, 3], [-1, 0, 1, -1, 3], id="one-skipped"),
        pytest.param([0, 1, 4], [0, 1, -1, -1, 4], id="two-skipped"),
        pytest.param([0, 1, 2 + ROWS_MIN], [-1, -1, -1, -1, 2 + ROWS_MIN], id="more-than-the-ring-skipped"),
        pytest.param([0, 1, 1 + ROWS_MIN], [-1, -1, -1, -1, 1 + ROWS_MIN], id="exactly-a-ring-skipped"),
        pytest.param([0, 1, 10 * ROWS_MIN + 7], [-1, -1, -1, -1, 10 * ROWS_MIN + 7], id="many-rings-skipped"),
    ],
)
def test_a_skipped_tick_is_a_row_of_nothing(ticks: list[int], seen: list[float]) -> None:
    rig = looking_back(5)
    assert [window(rig, record(rig, tick, web=tick), "web") for tick in ticks][-1] == seen


@pytest.mark.parametrize("skipped", [ROWS_MIN - 2, ROWS_MIN - 1, ROWS_MIN, ROWS_MIN + 1, 5 * ROWS_MIN])
def test_a_window_of_the_whole_ring_has_no_row_of_the_last_round(skipped: int) -> None:
    rig = looking_back(ROWS_MIN)
    for tick in range(ROWS_MIN):
        record(rig, tick, web=tick)
    last = ROWS_MIN - 1
    kept = [last] if skipped == ROWS_MIN - 2 else []
    now = last + skipped + 1
    assert [value for value in window(rig, record(rig, now, web=now), "web") if value >= 0] == [*kept, now]


def test_a_tick_recorded_twice_counts_as_it_was_recorded_last() -> None:
    rig = looking_back(3)
    record(rig, 0, web=1)
    record(rig, 1, web=5)
    assert window(rig, record(rig, 1, web=7), "web") == [-1, 1, 7]


def test_time_that_goes_back_is_refused_and_changes_nothing() -> None:
    rig = looking_back(3)
    record(rig, 5, web=1)
    with pytest.raises(ValueError, match=r"tick 1700000100.0 s is before the last one, 1700000115.0 s"):
        record(rig, 4, web=9)
    assert window(rig, record(rig, 6, web=2), "web") == [-1, 1, 2]


def test_a_restart_forgets_everything_and_may_go_back_in_time() -> None:
    rig = looking_back(3)
    record(rig, 5, web=1)
    rig.history.restart()
    assert window(rig, record(rig, 2, web=2), "web") == [-1, -1, 2]


def test_the_ring_is_as_long_as_the_longest_window() -> None:
    rows = ROWS_MIN + 60
    rig = looking_back(rows)
    for tick in range(2 * rows):
        record(rig, tick, web=tick)
    last = record(rig, 2 * rows, web=2 * rows)
    assert window(rig, last, "web") == list(range(rows + 1, 2 * rows + 1))


def test_windows_are_views_that_nobody_can_write_to_and_lie_in_one_piece() -> None:
    rig = looking_back(100)
    for tick in range(ROWS_MIN + 50):
        (series,) = record(rig, tick, web=tick).series
        assert isinstance(series.demand, np.ndarray)
        assert (series.demand.flags.owndata, series.demand.flags.writeable, series.demand.flags.c_contiguous) == (False, False, True)


def test_a_joiner_with_a_longer_window_makes_room_and_nobody_forgets() -> None:
    rig = looking_back(3)
    for tick in range(ROWS_MIN + 5):
        record(rig, tick, web=tick)
    rig.roster.swap(join=[spec("api", policy=choice(EXTREME, window_s=2 * ROWS_MIN * INTERVAL_S))])
    last = record(rig, ROWS_MIN + 5, web=ROWS_MIN + 5, api=1)
    assert window(rig, last, "web") == [-1] * (2 * ROWS_MIN - ROWS_MIN - 1) + list(range(5, ROWS_MIN + 6))
    assert window(rig, last, "api") == [-1] * (2 * ROWS_MIN - 1) + [1]


def test_joiners_make_room_and_nobody_forgets() -> None:
    rig = looking_back(4)
    record(rig, 0, web=7)
    record(rig, 1, web=8)
    more = {f"w{number}": float(number) for number in range(20)}
    rig.roster.swap(join=[spec(name, policy=choice(EXTREME, window_s=60)) for name in more])
    last = record(rig, 2, web=9, **more)
    assert [window(rig, last, name) for name in ("web", "w0", "w19")] == [[-1, 7, 8, 9], [-1, -1, -1, 0], [-1, -1, -1, 19]]


def test_the_next_user_of_a_slot_inherits_nothing() -> None:
    rig = looking_back(3)
    record(rig, 0, web=7)
    old = rig.roster.series(workload("web"))
    rig.roster.swap([workload("web")], [spec("api", policy=choice(EXTREME, window_s=45))])
    assert {place.slot for place in old.values()} == {place.slot for place in rig.roster.series(workload("api")).values()}
    assert window(rig, record(rig, 1, api=1), "api") == [-1, -1, 1]


@pytest.mark.parametrize("before", [pytest.param(1, id="from-small"), pytest.param(30, id="from-large")])
def test_a_call_that_vanishes_and_comes_back_between_two_ticks_starts_afresh(before: int) -> None:
    many = [spec(f"w{number}", policy=choice(EXTREME, window_s=45)) for number in range(before)]
    rig = Rig(*many)
    rig.decide({each.workload: Facts(3, (5.0,)) for each in many})
    rig.roster.swap(leave=[each.workload for each in many])
    rig.roster.swap(join=[spec("web", policy=choice(EXTREME, window_s=45))])
    made = rig.decide({workload("web"): Facts(3, (2.0,))})
    assert made[workload("web")].replicas == 2


def test_a_call_that_is_gone_leaves_nothing_behind() -> None:
    rig = looking_back(3)
    record(rig, 0, web=7)
    rig.roster.swap(leave=[workload("web")])
    record(rig, 1)
    rig.roster.swap(join=[spec("web", policy=choice(EXTREME, window_s=45))])
    assert window(rig, record(rig, 2, web=1), "web") == [-1, -1, 1]


def test_an_observation_of_other_members_is_refused() -> None:
    rig = looking_back(3)
    early = observe(rig.roster, at(0), {})
    rig.roster.swap(join=[spec(f"w{number}", policy=choice(EXTREME)) for number in range(20)])
    with pytest.raises(ValueError, match=r"has 8 series of Extreme/least=False, the spec 24: it was made for other members"):
        rig.history.record(rig.roster.spec, early)


def column(*values: float) -> Singles:
    return np.array(values, np.float32)[:, None]


def past_of(call: Call, slots: list[int], first_at_s: float, demand: Singles) -> Past:
    return Past(call.key, np.array(slots), call.serial[slots], first_at_s, demand)


@pytest.mark.parametrize(
    ("first_tick", "past", "seen"),
    [
        pytest.param(-2, column(1, 2, 3, 4), [-1, 1, 2, 10, 4, 12], id="gaps-are-filled-rows-stay"),
        pytest.param(-9, column(*range(9)), [6, 7, 8, 10, -1, 12], id="older-than-the-window"),
        pytest.param(0, column(1, 2, 3, 4, 5), [-1, -1, -1, 10, 2, 12], id="rows-to-come-are-left-out"),
        pytest.param(-2, column(1, nan), [-1, 1, -1, 10, -1, 12], id="nothing-fills-nothing"),
        pytest.param(-9 * ROWS_MIN, column(*([5] * ROWS_MIN)), [-1, -1, -1, 10, -1, 12], id="older-than-the-ring"),
    ],
)
def test_backfill(first_tick: int, past: Singles, seen: list[float]) -> None:
    rig = looking_back(6)
    record(rig, 0, web=10)
    record(rig, 2, web=12)
    (call,) = rig.roster.spec.calls
    rig.history.backfill(past_of(call, [0], at(first_tick), past))
    assert window(rig, record(rig, 2, web=12), "web") == seen


def test_backfill_reaches_only_those_it_was_asked_for() -> None:
    rig = Rig(*(spec(name, policy=choice(EXTREME, window_s=30)) for name in ("web", "api")))
    record(rig, 1, web=1, api=1)
    (asked,) = rig.roster.spec.calls
    rig.roster.swap([workload("web")], [spec(f"w{number}", policy=choice(EXTREME, window_s=30)) for number in range(20)])
    record(rig, 1, api=1)
    rig.history.backfill(past_of(asked, [0, 1], at(0), np.array([[7, 8]], np.float32)))
    last = record(rig, 1, api=1, w0=1)
    assert (window(rig, last, "api"), window(rig, last, "w0")) == ([8, 1], [-1, 1])


def test_backfill_before_the_first_tick_or_of_strangers_is_let_go() -> None:
    rig = looking_back(2)
    (call,) = rig.roster.spec.calls
    rig.history.backfill(past_of(call, [0], at(0), column(5)))
    History(INTERVAL_S).backfill(past_of(call, [0], at(0), column(5)))
    assert window(rig, record(rig, 1, web=1), "web") == [-1, 1]
    rig.roster.swap(join=[spec(f"w{number}", policy=choice(EXTREME, window_s=30)) for number in range(20)])
    (grown,) = rig.roster.spec.calls
    rig.history.backfill(past_of(grown, [20], at(0), column(5)))
    assert window(rig, record(rig, 1, w19=1), "w19") == [-1, 1]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_every_window_is_what_a_dictionary_remembers(seed: int) -> None:
    draw = random.Random(seed)
    rig, past = Rig(), dict[Workload, dict[int, float]]()
    tick = 0
    for _ in range(50):
        tick += draw.choice([0, 1, 1, 1, 1, 2, 7, ROWS_MIN + draw.randint(-2, 2)])
        leave = [name for name in past if draw.random() < 0.1]
        for name in leave:
            del past[name]
        free = [name for name in "abcdefghijklmnopqrst" if workload(name) not in past]
        joiners = draw.sample(free, min(len(free), draw.choice([0, 0, 0, 1, 8])))
        rows = [draw.choice([1, 3, 20, ROWS_MIN + 9]) for _ in joiners]
        rig.roster.swap(leave, [spec(name, policy=choice(EXTREME, window_s=n * INTERVAL_S)) for name, n in zip(joiners, rows, strict=True)])
        past |= {workload(name): {} for name in joiners}
        loads = {name: draw.choice([nan, float(draw.randint(1, 99))]) for name in past}
        seen = rig.history.record(rig.roster.spec, observe(rig.roster, at(tick), {name: Facts(2, (load,)) for name, load in loads.items()}))
        for name, load in loads.items():
            past[name][tick] = load
            found = window(rig, seen, name.name)
            known = [past[name].get(tick - back, nan) for back in range(min(len(found), ROWS_MIN))]
            assert found[-ROWS_MIN:] == np.nan_to_num(known[::-1], nan=-1).tolist()
