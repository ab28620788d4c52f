"""Scale events as the HPA keeps them: a new one takes the last outdated place of its own direction."""

from math import nan

import numpy as np
import pytest

from autoscaler.core.exact_events import aligned_events, changed_exactly, no_events, with_events

Write = tuple[float, float]


def counted(writes: list[Write], up_s: float, down_s: float, start_s: float) -> float:
    events, one, exact = aligned_events(no_events(), np.array([False])), np.ones(1), np.array([True])
    for at_s, change in writes:
        events = with_events(events, at_s * one, change * one, np.array([[up_s], [down_s]]), exact)
    return float(changed_exactly(events, start_s * one)[0])


@pytest.mark.parametrize(
    ("writes", "up_s", "down_s", "start_s", "change"),
    [
        pytest.param([], 9, 9, 0, 0, id="none"),
        pytest.param([(1, 3), (2, -1)], 9, 9, 0, 2, id="both directions"),
        pytest.param([(1, 3), (2, -1)], 9, 9, 1, -1, id="after the start only"),
        pytest.param([(1, nan), (2, 0)], 9, 9, 0, 0, id="no write, and one that changed nothing"),
        pytest.param([(1, -2), (10, -1)], 9, 7, 0, -1, id="a new one takes the place of one older than its direction's period"),
        pytest.param([(1, -2), (10, 4)], 9, 7, 0, 2, id="but not of one of the other direction"),
        pytest.param([(1, -2), (8, -1)], 9, 7, 0, -3, id="nor of one exactly as old as the period"),
        pytest.param([(1, -2), (2, -4), (10, -1)], 9, 7, 0, -3, id="of several the last"),
        pytest.param([(1, -2), (2, -4), (10, -1), (11, -8)], 9, 7, 0, -9, id="and then the one before"),
        pytest.param([(1, -2), (2, -4), (10, -1), (11, -8), (20, -16)], 9, 7, 0, -24, id="last by place, not by age: the one of 10 goes"),
    ],
)
def test_what_is_left_of_the_events(writes: list[Write], up_s: float, down_s: float, start_s: float, change: float) -> None:
    assert counted(writes, up_s, down_s, start_s) == change


def test_workloads_do_not_share_places() -> None:
    exact, longest_s = np.array([True, True, False]), np.full((2, 3), 5.0)
    events = with_events(
        aligned_events(no_events(), np.zeros(3, np.bool_)), np.array([1.0, 2, 3]), np.array([4.0, -5, 6]), longest_s, exact
    )
    events = with_events(events, np.full(3, 4.0), np.array([1.0, nan, 1]), longest_s, exact)
    assert changed_exactly(events, np.zeros(3)).tolist() == [5, -5, 0]
    later = aligned_events(events, np.array([True, False, False, True]))
    assert changed_exactly(later, np.zeros(4)).tolist() == [0, -5, 0, 0]
