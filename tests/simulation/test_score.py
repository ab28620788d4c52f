"""Scores against figures worked out by hand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.types import Floats
from autoscaler.simulation.score import Sums, Trajectory, column, elastic_speedup, instability, scored

DEMAND = [2, 4, 4, 4, 2, 2]
SUPPLY = [2, 2, 4, 4, 4, 2]


def trajectory(supply: list[int], demand: list[int], late: list[int] | None = None) -> Trajectory:
    def col(values: list[int]) -> Floats:
        return np.array(values, dtype=np.float64)[:, None]

    nothing, hundred = col([0] * len(supply)), col([100] * len(supply))
    missed = nothing if late is None else col(late)
    return Trajectory(hundred, hundred - missed, missed, nothing, nothing, col(supply), col(supply), col(supply), col(demand))


def test_worked_example() -> None:
    """Demand 2 4 4 4 2 2, supply 2 2 4 4 4 2 at unit steps."""
    found = column(scored(trajectory(SUPPLY, DEMAND), 1.0, 0.002), 0)
    assert 100 * found["under_accuracy"] == pytest.approx(8.33, abs=0.01)
    assert 100 * found["over_accuracy"] == pytest.approx(16.67, abs=0.01)
    assert 100 * found["under_share"] == pytest.approx(16.67, abs=0.01)
    assert 100 * found["over_share"] == pytest.approx(16.67, abs=0.01)
    assert found["scale_actions_per_hour"] * 6 / 3600 == pytest.approx(2)
    assert found["reversals_per_hour"] * 6 / 3600 == pytest.approx(1)
    assert (found["churn"], found["pod_seconds"], found["peak_replicas"]) == (4, 18, 4)


def test_worked_example_against_three_pods_throughout() -> None:
    policy, static = (scored(trajectory(supply, DEMAND), 1.0, 0.002) for supply in (SUPPLY, [3] * 6))
    found = column(static, 0)
    shares = [100 * found[name] for name in ("under_accuracy", "over_accuracy", "under_share", "over_share")]
    assert shares == pytest.approx([12.5, 25, 50, 50])
    assert elastic_speedup(policy, static)[0] == pytest.approx(2.121, abs=0.001)


def test_instability_of_the_worked_example() -> None:
    found = trajectory(SUPPLY, DEMAND)
    assert instability(found.ready, found.demand)[0] == pytest.approx(0.8)


def test_speedup_does_not_explode_on_a_perfect_share() -> None:
    perfect, static = scored(trajectory(DEMAND, DEMAND), 1.0, 0.002), scored(trajectory([3] * 6, DEMAND), 1.0, 0.002)
    assert np.isfinite(elastic_speedup(perfect, static)).all()


def test_lateness_and_seconds_in_violation() -> None:
    found = column(scored(trajectory(SUPPLY, DEMAND, [0, 30, 0, 0, 1, 0]), 15.0, 0.02), 0)
    assert found["late_share"] == pytest.approx(31 / 600)
    assert found["violation_s"] == 15


@given(st.lists(st.integers(1, 9), min_size=2, max_size=40), st.lists(st.integers(1, 39), max_size=5))
def test_scoring_in_pieces_is_scoring_at_once(supply: list[int], cuts: list[int]) -> None:
    whole = trajectory(supply, [3] * len(supply))
    sums = Sums(1, 15.0, 0.002)
    edges = sorted({0, len(supply), *(cut for cut in cuts if cut < len(supply))})
    for begin, end in pairwise(edges):
        sums.add(Trajectory(**{name: getattr(whole, name)[begin:end] for name in Trajectory.__dataclass_fields__}))
    assert column(sums.score(), 0) == pytest.approx(column(scored(whole, 15.0, 0.002), 0))
    moves = [after - before for before, after in pairwise(supply) if after != before]
    assert column(sums.score(), 0)["churn"] == sum(map(abs, moves))
    reversals = sum(a * b < 0 for a, b in pairwise(moves))
    assert column(sums.score(), 0)["reversals_per_hour"] * len(supply) * 15 / 3600 == pytest.approx(reversals)


def test_no_requests_are_no_lateness() -> None:
    idle = replace(trajectory([1] * 3, [1] * 3), arrivals=np.zeros((3, 1)), served=np.zeros((3, 1)))
    found = column(scored(idle, 15.0, 0.002), 0)
    assert found["late_share"] == 0
