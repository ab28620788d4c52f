"""What the guards remember: runs against a plain list of recommendations, and scale events."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.columns import full
from autoscaler.core.memory import aligned, forgotten, highest, no_memory, no_runs, pushed, with_events, without_events
from autoscaler.core.types import Floats

W = 3
ticks = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.tuples(*[st.one_of(st.just(float("nan")), st.integers(0, 12).map(float))] * W),
        st.tuples(*[st.booleans()] * W),
    ),
    max_size=60,
)
windows = st.tuples(*[st.sampled_from([0.0, 15.0, 40.0, 60.0, 200.0])] * W)


@given(history=ticks, window_s=windows)
@settings(max_examples=200)
def test_runs_have_the_maximum_that_the_whole_list_has(
    history: list[tuple[int, tuple[float, ...], tuple[bool, ...]]], window_s: tuple[float, ...]
) -> None:
    runs, at_s = no_runs(W), 0.0
    seen: list[list[tuple[float, float]]] = [[] for _ in range(W)]
    for steps, values, where in history:
        at_s += 15.0 * steps
        oldest_s = at_s - np.array(window_s)
        before = runs.value.tobytes()
        after = pushed(runs, np.array(values), at_s, oldest_s, np.array(where))
        assert runs.value.tobytes() == before, "a value is not changed"
        runs = after
        for column in range(W):
            if where[column] and not np.isnan(values[column]):
                seen[column].append((at_s, values[column]))
        expected = [max((v for t, v in seen[column] if t > oldest_s[column]), default=-np.inf) for column in range(W)]
        assert highest(runs, oldest_s).tolist() == expected
        for column in range(W):
            kept = runs.value[:, column][~np.isnan(runs.value[:, column])]
            assert (np.diff(kept) < 0).all(), "strictly falling"


def test_runs_grow_only_as_deep_as_what_falls() -> None:
    runs = no_runs(1)
    for tick in range(400):
        at_s = 15.0 * tick
        value = 1000.0 - tick if tick < 10 else 5.0
        runs = pushed(runs, np.array([value]), at_s, np.array([at_s - 300.0]), np.ones(1, np.bool_))
    assert runs.value.shape[0] == 16
    falling = no_runs(1)
    for tick in range(400):
        at_s = 15.0 * tick
        falling = pushed(falling, np.array([1000.0 - tick]), at_s, np.array([at_s - 300.0]), np.ones(1, np.bool_))
        assert highest(falling, np.array([at_s - 300.0])) == 1000 - max(0, tick - 19)
    assert falling.value.shape[0] == 32, "20 live entries; the outdated ones went"


def test_runs_are_forgotten_where_told() -> None:
    runs = pushed(no_runs(2), np.array([5.0, 6.0]), 15.0, np.zeros(2), np.ones(2, np.bool_))
    left = forgotten(runs, np.array([True, False, False]))
    assert highest(left, np.zeros(3)).tolist() == [-np.inf, 6.0, -np.inf]


def events(state_events: tuple[Floats, Floats], column: int) -> list[tuple[float, float]]:
    at_s, change = state_events
    return sorted((float(t), float(c)) for t, c in zip(at_s[:, column], change[:, column], strict=True) if not np.isnan(t))


@given(
    history=st.lists(st.tuples(st.integers(0, 4), st.tuples(*[st.integers(-3, 3)] * W)), max_size=50),
    period_s=st.sampled_from([15.0, 60.0, 300.0]),
)
@settings(max_examples=100)
def test_events_of_the_period_are_all_there(history: list[tuple[int, tuple[int, ...]]], period_s: float) -> None:
    state = aligned(no_memory(), np.arange(1, W + 1))
    seen: list[list[tuple[float, float]]] = [[] for _ in range(W)]
    at_s = 0.0
    for steps, changes in history:
        at_s += 15.0 * steps
        change = np.where(np.array(changes) == 3, np.nan, np.array(changes, np.float64))
        state = with_events(state, full(W, at_s), change, at_s - period_s)
        for column in range(W):
            if change[column] and not np.isnan(change[column]):
                seen[column].append((at_s, change[column]))
            live = [event for event in events((state.event_at_s, state.event_change), column) if event[0] > at_s - period_s]
            assert live == sorted(event for event in seen[column] if event[0] > at_s - period_s)


def test_events_are_forgotten_where_told() -> None:
    state = with_events(aligned(no_memory(), np.arange(1, 3)), np.array([15.0, 15.0]), np.array([2.0, -1.0]), 0.0)
    state = without_events(state, np.array([True, False]))
    assert [events((state.event_at_s, state.event_change), column) for column in range(2)] == [[], [(15.0, -1.0)]]


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
    state = replace(state, seeded=np.ones(w, np.bool_), failures=full(w, 5.0), zero_ours=np.ones(w, np.bool_), shadow=full(w, 9.0))
    state = with_events(state, full(w, 15.0), full(w, 1.0), 0.0)
    state = replace(state, high=pushed(state.high, full(w, 7.0), 15.0, full(w, 0.0), np.ones(w, np.bool_)))
    new = aligned(state, np.array(after, np.int64))
    assert new.seeded.tolist() == new.zero_ours.tolist() == kept
    assert new.failures.tolist() == [5.0 if stays else 0.0 for stays in kept]
    assert (~np.isnan(new.shadow)).tolist() == kept
    assert (highest(new.high, full(len(after), 0.0)) == 7).tolist() == kept
    assert (~np.isnan(new.event_at_s)).any(axis=0).tolist() == kept
