"""What the guards remember: tracks against plain lists, and whose memory a slot has."""

from dataclasses import replace
from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.columns import full
from autoscaler.core.memory import GuardState, Track, added, aligned, changed, extreme, folded, no_memory, with_changes
from tests.core.build import known_or_none
from tests.core.snapshot import snapshot, writeable

W = 3
LONGEST_S = 200.0


def members(*since_s: float) -> GuardState:
    """The memory of workloads that were first seen then, at 3 replicas."""
    state = aligned(no_memory(), np.arange(1, len(since_s) + 1))
    return replace(state, since_s=np.array(since_s), seed=full(len(since_s), 3.0))


def three(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(*[values] * W)


windows = three(st.sampled_from([0.0, 15.0, 40.0, 60.0, LONGEST_S]))
beginnings = three(st.sampled_from([0.0, 30.0, 300.0, nan]))


@given(
    history=st.lists(st.tuples(st.integers(1, 4), three(st.one_of(st.just(nan), st.integers(0, 12).map(float)))), max_size=40),
    window_s=windows,
    since_s=beginnings,
)
@settings(max_examples=150)
def test_extremes_are_those_of_the_whole_list(
    history: list[tuple[int, tuple[float, ...]]], window_s: tuple[float, ...], since_s: tuple[float, ...]
) -> None:
    state, at_s = members(*since_s), 0.0
    seen: list[list[tuple[float, float]]] = [[(since, 3.0)] if not isnan(since) else [] for since in since_s]
    for steps, values in history:
        at_s += 15.0 * steps
        before = snapshot(state)
        grown = replace(state, recommendations=added(state.recommendations, at_s, np.array(values), at_s - LONGEST_S))
        assert snapshot(state) == before, "a state is not changed"
        state = grown
        start_s = at_s - np.array(window_s)
        for column, (since, value) in enumerate(zip(since_s, values, strict=True)):
            if at_s >= since and not isnan(value):
                seen[column].append((at_s, value))
            if not isnan(since):
                live = [v for then, v in seen[column] if then > start_s[column]]
                assert np.nan_to_num(extreme(state, start_s, np.fmax), nan=-1)[column] == max(live, default=-1)
                assert np.nan_to_num(extreme(state, start_s, np.fmin), nan=-1)[column] == min(live, default=-1)


@given(
    history=st.lists(st.tuples(st.integers(0, 4), three(st.sampled_from([nan, 0.0, -2.0, 1.0, 5.0])), st.booleans()), max_size=40),
    period_s=windows,
    since_s=three(st.sampled_from([-inf, 30.0, 300.0])),
)
@settings(max_examples=150)
def test_changes_of_a_period_add_up(
    history: list[tuple[int, tuple[float, ...], bool]], period_s: tuple[float, ...], since_s: tuple[float, ...]
) -> None:
    state, at_s = members(*since_s), 0.0
    seen: list[list[tuple[float, float]]] = [[] for _ in range(W)]
    for steps, changes, late in history:
        at_s += 15.0 * steps
        when = np.array([at_s, at_s - 30.0 * late, at_s])
        state = with_changes(state, when, np.array(changes), at_s - LONGEST_S)
        start_s = at_s - np.array(period_s)
        for column, change in enumerate(changes):
            if not isnan(change) and when[column] >= since_s[column]:
                seen[column].append((when[column], change))
            assert changed(state, start_s)[column] == sum(c for then, c in seen[column] if then > start_s[column])


def track(*rows: tuple[float, list[float]]) -> Track:
    made = Track()
    for at_s, row in rows:
        made = added(made, at_s, np.array(row), -inf)
    return made


@pytest.mark.parametrize(
    ("start_s", "combine", "nothing", "result"),
    [
        pytest.param([0.0, 0.0, 0.0], np.fmax, nan, [9.0, 8.0, 5.0], id="all"),
        pytest.param([15.0, 15.0, 15.0], np.fmax, nan, [2, 8, 5], id="after-a-row-not-at-it"),
        pytest.param([15.0, 0.0, 30.0], np.fmin, nan, [2, 4, None], id="each-from-its-own-start"),
        pytest.param([0.0, 15.0, 30.0], np.add, 0.0, [11, 8, 0], id="sum"),
        pytest.param([30.0, 45.0, inf], np.fmax, nan, [None, None, None], id="nothing-there"),
        pytest.param([nan, 0.0, nan], np.fmax, nan, ["any", 8, "any"], id="no-start-is-no-matter"),
    ],
)
def test_fold(start_s: list[float], combine: np.ufunc, nothing: float, result: list[float | str | None]) -> None:
    made = folded(track((15.0, [9.0, 4.0]), (30.0, [2.0, 8.0, 5.0])), np.array(start_s), combine, nothing)
    cared_for = [known_or_none(value) for value, expected in zip(made, result, strict=True) if expected != "any"]
    assert cared_for == [value for value in result if value != "any"]


def test_an_empty_track_has_nothing() -> None:
    assert folded(Track(), np.zeros(2), np.add, 0.0).tolist() == [0, 0]
    assert folded(track((15.0, [1.0])), np.zeros(0), np.add, 0.0).size == 0


def test_a_track_shares_its_rows_and_drops_the_oldest() -> None:
    before = track((15.0, [1.0]), (30.0, [2.0]), (45.0, [3.0]))
    after = added(before, 60.0, np.array([4.0]), 15.0)
    assert after.at_s == (30.0, 45.0, 60.0)
    assert (after.rows[0] is before.rows[1], after.rows[1] is before.rows[2]) == (True, True)
    assert writeable(after) == []


def test_no_change_costs_no_row() -> None:
    state = with_changes(members(0.0, 0.0), full(2, 15.0), np.array([0.0, nan]), 0.0)
    assert state.changes == Track()


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        pytest.param([1, 2, 3], [1, 2, 3], [True, True, True], id="all-stay"),
        pytest.param([1, 2, 3], [1, 4, 3], [True, False, True], id="one-is-new"),
        pytest.param([1, 2, 3], [1, 0, 3], [True, False, True], id="one-left"),
        pytest.param([1, 2], [1, 2, 3, 0], [True, True, False, False], id="room-for-more"),
        pytest.param([], [1], [False], id="first"),
    ],
)
def test_memory_follows_serials(before: list[int], after: list[int], kept: list[bool]) -> None:
    w = len(before)
    state = aligned(no_memory(), np.array(before, np.int64))
    yes, at_15 = np.ones(w, np.bool_), full(w, 15.0)
    state = replace(state, since_s=at_15, seed=full(w, 3.0), failures=full(w, 5.0), zero_ours=yes, zero_seen=yes, shadow=full(w, 9.0))
    state = with_changes(state, full(w, 15.0), full(w, 1.0), 0.0)
    state = replace(state, recommendations=added(state.recommendations, 15.0, full(w, 7.0), 0.0))
    new = aligned(state, np.array(after, np.int64))
    assert new.zero_ours.tolist() == new.zero_seen.tolist() == kept
    assert new.failures.tolist() == [5.0 if stays else 0.0 for stays in kept]
    assert (~np.isnan(new.shadow)).tolist() == kept
    newcomers = replace(new, since_s=np.where(kept, new.since_s, 30.0), seed=np.where(kept, new.seed, 4.0))
    assert extreme(newcomers, full(len(after), 0.0), np.fmax).tolist() == [7.0 if stays else 4.0 for stays in kept]
    assert changed(newcomers, full(len(after), 0.0)).tolist() == [1.0 if stays else 0.0 for stays in kept]
