"""The limit of a pod is found where it was put, with an interval that holds it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.errors import ConfigError
from autoscaler.simulation.limits import Witness, limit_of, rising


def witness(limit: float, rows: int = 5000, top: float = 150.0, seed: int = 0) -> Witness:
    """Loads per pod up to ``top``; of 6000 requests a minute those beyond ``limit`` are late, and one in a thousand anyway."""
    random = np.random.default_rng(seed)
    load = random.uniform(20, top, rows)
    share = np.maximum(1 - limit / load, 0) + 0.001
    return Witness(load, random.binomial(6000, np.minimum(share, 1)).astype(float), np.full(rows, 6000.0), 60.0)


@pytest.mark.parametrize("limit", [60.0, 100.0, 130.0])
def test_a_limit_is_found_where_it_is(limit: float) -> None:
    found = limit_of(witness(limit), 0.002)
    assert found.exceeded
    assert found.load == pytest.approx(limit, rel=0.05)
    assert found.low <= found.load <= found.high
    assert found.high - found.low < 0.15 * limit


def test_less_data_is_less_certain() -> None:
    few, many = (limit_of(witness(100.0, rows), 0.002) for rows in (300, 9000))
    assert few.high - few.low > many.high - many.low


def test_a_limit_that_was_never_reached_is_said_to_be_unknown() -> None:
    found = limit_of(witness(500.0), 0.002)
    assert not found.exceeded
    assert found.load == pytest.approx(148, rel=0.02)


def test_loads_that_never_were_are_not_known() -> None:
    """Nothing was recorded between 80 and 120 a pod: the limit, 100, may be anywhere there."""
    whole = witness(100.0)
    split = Witness(np.where((whole.load > 80) & (whole.load < 120), np.nan, whole.load), whole.wrong, whole.total, 60.0)
    found = limit_of(split, 0.002)
    assert found.low < 81
    assert found.high > 119
    assert 75 < found.load < 100


def test_unknown_rows_are_left_out() -> None:
    whole = witness(100.0)
    holed = Witness(np.where(np.arange(5000) % 3 == 0, np.nan, whole.load), whole.wrong, whole.total, 60.0)
    assert limit_of(holed, 0.002).rows == 5000 - 1667
    assert limit_of(holed, 0.002).load == pytest.approx(100, rel=0.03)


@pytest.mark.parametrize(
    ("given_", "complaint"),
    [
        pytest.param(witness(100.0, 60), "known together in 60 rows of 60 s, expected at least 120", id="few"),
        pytest.param(witness(1.0), r"does not hold at any recorded load: at .* per pod, the lowest, .* went wrong", id="never-holds"),
    ],
)
def test_what_cannot_be_told_is_refused(given_: Witness, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        limit_of(given_, 0.002)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=12))
def test_rising_is_the_nearest_rising_sequence(pairs: list[tuple[float, float]]) -> None:
    share, weight = (np.array(column) for column in zip(*pairs, strict=True))
    found = rising(share, weight)
    assert (np.diff(found) >= 0).all()
    assert (found * weight).sum() == pytest.approx((share * weight).sum())
    error = (weight * (found - share) ** 2).sum()
    for shift in np.random.default_rng(0).normal(0, 0.1, (20, share.size)):
        assert error <= (weight * (np.sort(share + shift) - share) ** 2).sum() + 1e-12
