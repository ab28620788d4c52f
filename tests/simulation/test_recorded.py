"""Recorded history becomes a load only if it is one, and what was assumed is said."""

import re
from math import inf, nan

import numpy as np
import pytest

from autoscaler.core.plant import Plant
from autoscaler.errors import ConfigError
from autoscaler.simulation.load import rates
from autoscaler.simulation.recorded import by_step, recorded, saturated, startup_of, stretches

NOW_S = 1_700_000_040.0


def column(*values: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 15 s that end now."""
    return NOW_S - 15.0 * np.arange(len(values) - 1, -1, -1), np.array(values)


@pytest.mark.parametrize(
    ("values", "asked_s", "notes"),
    [
        pytest.param((1, 2, 3), 30, (), id="all-there"),
        pytest.param(
            (nan, nan, nan, nan, 1, 2), 75, (r"asked for 1.25 min of history, found 30 s \(since 2023-11-14 22:13 UTC\)",), id="late"
        ),
        pytest.param((1, 1, 1, nan, nan, nan, 2), 90, ("3 rows have no rate", "1 gaps, the longest 45 s"), id="gap"),
        pytest.param((1, -2, 3), 30, ("1 values are negative, infinite or beyond reason",), id="negative"),
        pytest.param((1, inf, 3), 30, (r"1 values are negative, infinite .*the first: inf",), id="infinite"),
        pytest.param((1, 1e15, 3), 30, ("1 values are .* beyond reason",), id="absurd"),
        pytest.param((5, 5, 5), 30, ("the rate never changes: 5 per second",), id="constant"),
    ],
)
def test_what_was_assumed_is_said(values: tuple[float, ...], asked_s: float, notes: tuple[str, ...]) -> None:
    found = recorded("metric requests", *column(*values), NOW_S - asked_s)
    assert found.step_s == 15.0
    for note in notes:
        assert any(re.search(note, said) for said in found.notes), found.notes
    assert bool(found.notes) == bool(notes)


def test_a_value_stands_for_the_step_before_it() -> None:
    found = recorded("metric requests", *column(1, 2, 3), NOW_S - 30)
    assert found.start_s[0] == NOW_S - 45
    assert rates(found, 15.0, hold=True).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param((nan, nan, nan), r"expected history from .* on, found 0 values", id="nothing"),
        pytest.param((nan, 4, nan), "found 1 values", id="one-row"),
        pytest.param((0, 0, 0), "every rate is 0", id="zeros"),
        pytest.param(tuple(range(400)), r"only rise \(0 to 399, 0 restarts\): a counter, not a load; put rate", id="counter"),
        pytest.param(tuple(k // 4 for k in range(1600)), "0 restarts", id="counter-scraped-every-fourth-row"),
        pytest.param((*range(2000), *range(2000)), "1 restarts", id="counter-that-restarts"),
    ],
)
def test_what_is_no_load_is_refused(values: tuple[float, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        recorded("metric requests", *column(*values), NOW_S - 6000)
    assert str(caught.value).startswith("metric requests: ")


def test_a_load_that_rises_all_day_is_no_counter() -> None:
    rising = np.linspace(100, 400, 3000) + np.random.default_rng(1).normal(0, 5, 3000)
    assert recorded("metric requests", *column(*rising), NOW_S - 45_000).rate.size == 3000


def test_saturated_rows_are_found_and_marked_by_step() -> None:
    """At 100 a pod, ready 2: 190 a second and more is saturation. Where the pods are not known nothing is said."""
    trace = recorded("metric requests", *column(100, 189, 190, 200, 200), NOW_S - 60)
    at_s, _ = column(*range(5))
    found = saturated(trace, at_s, np.array([2, 2, 2, 2, nan]), Plant(capacity=100.0))
    assert found.tolist() == [False, False, True, True, False]
    assert by_step(trace, found, 10, 7.5).tolist() == [False] * 4 + [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("durations", "seconds"),
    [
        pytest.param([10, 12, 9], 15.0, id="floor"),
        pytest.param([30] * 9 + [60] * 11, 60.0, id="ninetieth-percentile"),
        pytest.param([300] * 40 + [20] * 20, 20.0, id="last-twenty"),
        pytest.param([nan, -5, 40], 40.0, id="nonsense-left-out"),
        pytest.param([], None, id="none"),
    ],
)
def test_startup_of_recorded_starts(durations: list[float], seconds: float | None) -> None:
    found = startup_of(np.array(durations, float))
    assert (None if found is None else found.seconds) == seconds


def test_stretches_are_runs() -> None:
    assert stretches(np.array([1, 1, 0, 0, 1, 0, 1], bool)) == [(0, 2), (4, 5), (6, 7)]
    assert stretches(np.zeros(0, bool)) == []
