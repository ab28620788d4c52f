"""Cutting the time into parts changes what a run costs, not what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.plant import Plant
from autoscaler.core.spec import ScheduleRow, WorkloadSpec
from autoscaler.simulation.load import crowd, daily, drawn, rates
from autoscaler.simulation.peers import Setting, hpa
from autoscaler.simulation.run import START_S, Case, run
from autoscaler.simulation.score import Score, column
from autoscaler.simulation.sweep import parts_of, swept
from autoscaler.simulation.world import Setup
from tests.core.build import spec

SETUP = Setup(Plant(step_s=60.0))
SETTINGS = [Setting(0.5, 300.0, 0.1), Setting(0.8, 60.0, 0.0)]
LIKE = spec(max_replicas=1000, interval_s=60.0)


def whole(specs: list[WorkloadSpec], rate: np.ndarray, arrivals: np.ndarray, warm_s: float) -> Score:
    case = Case(specs, rate[:, None], arrivals[:, None], np.zeros(len(specs), np.int64), SETUP)
    return run(case, warm_s=warm_s).score


def test_parts_say_what_one_piece_says() -> None:
    """Three days at a minute in two parts: requests to the last, cost within a few parts in a thousand."""
    rate = rates(daily(1000.0, 3000.0, 3 * 86400.0), 60.0)
    arrivals = drawn(rate, 60.0, 1)
    specs = [hpa(LIKE, 100.0, setting) for setting in SETTINGS]
    told: list[float] = []
    parts, piece = swept(specs, rate, arrivals, SETUP, warm_s=43200.0, progress=told.append).score, whole(specs, rate, arrivals, 43200.0)
    for p in range(len(specs)):
        one, other = column(parts, p), column(piece, p)
        assert one["requests"] == other["requests"] == arrivals[720:].sum()
        assert one["pod_seconds"] == pytest.approx(other["pod_seconds"], rel=0.003)
        assert one["late_share"] == pytest.approx(other["late_share"], abs=1e-4)
        assert one["scale_actions_per_hour"] == pytest.approx(other["scale_actions_per_hour"], rel=0.02)
        assert one["peak_replicas"] == pytest.approx(other["peak_replicas"], abs=1)
    assert 0 < told[0] < told[-1] <= 1
    assert len(told) < 10, "in one piece it would be 16"


def test_a_short_load_is_one_piece() -> None:
    rate = rates(crowd(1000.0, 4000.0, 6 * 3600.0), 60.0)
    arrivals = drawn(rate, 60.0, 1)
    specs = [hpa(LIKE, 100.0, setting) for setting in SETTINGS]
    parts, piece = swept(specs, rate, arrivals, SETUP, warm_s=3600.0).score, whole(specs, rate, arrivals, 3600.0)
    assert all(column(parts, p) == column(piece, p) for p in range(2))


def test_a_schedule_is_not_cut() -> None:
    """Thirty pods in the last two hours of fifty-three: known only where hours keep their dates."""
    rate = rates(daily(100.0, 300.0, 53 * 3600.0), 60.0)
    last = ScheduleRow(START_S + 51 * 3600.0, START_S + 53 * 3600.0, min_replicas=30)
    one = spec(max_replicas=1000, interval_s=60.0, schedule=(last,))
    with_it, without = (
        swept([hpa(each, 100.0)], rate, rate * 60.0, SETUP).score.pod_seconds[0] for each in (one, spec(max_replicas=1000, interval_s=60.0))
    )
    assert with_it - without > 20 * 7200


@given(st.integers(1, 40_000), st.integers(0, 6000), st.integers(1, 4), st.integers(1, 24))
def test_parts_tile_what_is_scored(steps: int, warm: int, every: int, most: int) -> None:
    warm = min(warm, steps - 1)
    begin, length, unscored = parts_of(steps, warm, 240, every, most)
    assert begin.size <= most
    assert (begin % every == 0).all()
    scored = np.concatenate([np.arange(first + skip, first + length) for first, skip in zip(begin, unscored, strict=True)])
    assert np.array_equal(scored, np.arange(warm, steps))
    assert (unscored[1:] >= 240).all()
    if begin.size > 1 and begin[0] > 0:
        assert unscored[0] >= 240
