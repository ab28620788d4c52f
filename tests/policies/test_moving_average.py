"""``movingAverage``: exact sequences, what its parameters refuse, and a scalar reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.policy import history_s
from autoscaler.testing import check_policy, columns_of, view_of
from policies.moving_average import MovingAverage, MovingAverageParams

EVERY_S = 15.0
KINDS = ("simple", "weighted", "exponential")


def params_of(**values: Any) -> MovingAverageParams:  # noqa: ANN401 - scalars, where a policy gets columns
    return MovingAverageParams(**values)


def played(
    params: MovingAverageParams, demand: Sequence[float], current: Sequence[float], ready: Sequence[float] | None = None
) -> list[float]:
    """What one series gets at each tick; before the first one nothing is known."""
    policy, columns = MovingAverage(), columns_of([params])
    rows = max(1, ceil(history_s(policy, params) / EVERY_S))
    past = [nan] * rows + list(demand)
    state, got = policy.init(columns, 1), []
    for tick in range(len(demand)):
        window = np.array(past[tick + 1 : tick + 1 + rows])[:, None]
        view = view_of(window, [current[tick]], at_s=1e9 + tick * EVERY_S, interval_s=EVERY_S, ready=[(ready or current)[tick]])
        state, proposal = policy(view, columns, state)
        got.append(float(proposal.replicas[0]))
    return got


def constant(demand: list[float], count: float = 10) -> tuple[list[float], list[float]]:
    return demand, [count] * len(demand)


@pytest.mark.parametrize(
    ("params", "demand", "replicas"),
    [
        pytest.param({}, [8, 8, 8, 8, 12, 12, 12, 12], [nan, 8, 8, 8, 9, 10, 11, 12], id="simple"),
        pytest.param({"kind": "weighted"}, [nan, nan, 4, 8, 12, 16], [nan, nan, nan, 44 / 7, 80 / 9, 12], id="weighted"),
        pytest.param(
            {"kind": "exponential"},
            [10, 10, 10, 15],
            [nan, 10, 10, (15 + 10 * (0.6 + 0.36 + 0.216)) / (1 + 0.6 + 0.36 + 0.216)],
            id="exponential",
        ),
        pytest.param({"window_s": 15.0}, [8, 9, nan, 7], [8, 9, nan, 7], id="window-of-one-row"),
        pytest.param({"window_s": 5.0, "panic_window_s": 5.0}, [8, 9], [8, 9], id="window-below-the-interval-is-a-row"),
        pytest.param({"window_s": 46.0}, [8, 8, 8, 16], [nan, 8, 8, 10], id="window-rounds-up-to-rows"),
        pytest.param({}, [8, nan, nan, 8, nan, 12], [nan, nan, nan, 8, nan, 10], id="half-a-window-is-enough"),
        pytest.param({}, [8, 8, 8, 8, nan, nan, nan, nan, 8], [nan, 8, 8, 8, nan, nan, nan, nan, nan], id="stale-rows-alone-move-nothing"),
        pytest.param({}, [0, 0, 0, 0], [nan, 0, 0, 0], id="zero-is-a-number"),
    ],
)
def test_mean(params: dict[str, Any], demand: list[float], replicas: list[float]) -> None:
    assert played(params_of(**params), *constant(demand)) == pytest.approx(replicas, nan_ok=True)


@dataclass(frozen=True)
class Panic:
    demand: Sequence[float]
    current: Sequence[float]
    replicas: Sequence[float]
    ready: Sequence[float] | None = None


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Panic([5, 5, 5, 9.9], [5] * 4, [nan, 5, 5, 6.225]), id="below-the-threshold"),
        pytest.param(Panic([5, 5, 5, 10], [5] * 4, [nan, 5, 5, 10]), id="begins-at-the-threshold"),
        pytest.param(Panic([10], [5], [10]), id="needs-no-history"),
        pytest.param(
            Panic([5] * 4 + [20, 5, 5, 5, 5, 5], [5] * 5 + [20] * 5, [nan] + [5] * 3 + [20] * 4 + [5, 5]), id="ends-after-a-window-below"
        ),
        pytest.param(
            Panic([5, 5, 20, 30, 8, 4, 4, 4, 4], [5, 5, 5, 10, 20, 20, 20, 20, 20], [nan, 5, 20, 30, 30, 30, 30, 5, 4]),
            id="follows-up-never-down",
        ),
        pytest.param(Panic([5, 5, 10, 10], [5, 5, 5, 14], [nan, 5, 10, 14]), id="never-below-current"),
        pytest.param(Panic([5, 5, 7, 7], [5] * 4, [nan, 5, 7, 7], ready=[5, 5, 3, 3]), id="against-ready-replicas"),
        pytest.param(Panic([5, 5, 10, 10], [5] * 4, [nan, 5, 10, 10], ready=[nan] * 4), id="ready-unknown-is-current"),
        pytest.param(Panic([1.9, 1.9, 2, 2], [0] * 4, [nan, 1.9, 2, 2]), id="from-zero-against-one"),
        pytest.param(Panic([5, 5, 20, nan, 5, 5, 5], [5, 5, 5, 20, 20, 20, 20], [nan, 5, 20, nan, 20, 20, 5]), id="lasts-through-no-data"),
        pytest.param(
            Panic([5, 20, *[nan] * 5, 12], [5] * 8, [nan, 20, *[nan] * 5, 12]),
            id="ends-in-a-long-silence-and-leaves-nothing",
        ),
    ],
)
def test_panic(case: Panic) -> None:
    assert played(MovingAverageParams(), case.demand, case.current, case.ready) == pytest.approx(case.replicas, nan_ok=True)


def test_panic_mean_is_of_its_own_window() -> None:
    params = params_of(panic_window_s=30.0, panic_threshold=1.5)
    assert played(params, *constant([10, 10, 10, 18, 12])) == pytest.approx([nan, 10, 10, 12, 15], nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_demand_is_proposed_exactly(kind: str) -> None:
    """A mean a hair above a whole number would ask for a replica too many."""
    counts = np.arange(1.0, 2000.0)
    params = columns_of([params_of(kind=kind, window_s=window) for window in np.resize([60.0, 300.0, 3600.0], counts.size)])
    policy = MovingAverage()
    view = view_of(np.tile(counts, (240, 1)), counts)
    _, proposal = policy(view, params, policy.init(params, counts.size))
    assert np.ceil(proposal.replicas - 1e-9).tolist() == counts.tolist()


def test_notes_show_both_means_and_the_panic() -> None:
    policy, params = MovingAverage(), columns_of([MovingAverageParams()] * 2)
    view = view_of([[5, 5], [5, 5], [5, 5], [9, 25]], [5, 5])
    _, proposal = policy(view, params, policy.init(params, 2))
    assert {name: column.tolist() for name, column in proposal.notes.items()} == {
        "stable": [6, 10],
        "panic": [9, 25],
        "panicking": [0, 1],
    }


@pytest.mark.parametrize(
    ("params", "sentences"),
    [
        pytest.param({}, [], id="defaults"),
        pytest.param({"window_s": 15.0}, [], id="both-equal"),
        pytest.param(
            {"panic_window_s": 90.0},
            ["panicWindow is 90 s and window is 60 s: panicWindow must not be longer than window, it is there to see a jump sooner"],
            id="panic-window-longer",
        ),
    ],
)
def test_check(params: dict[str, Any], sentences: list[str]) -> None:
    assert list(MovingAverage().check(params_of(**params))) == sentences


def test_looks_back_on_its_window() -> None:
    assert history_s(MovingAverage(), params_of(window_s=600.0)) == 600


def test_keeps_every_property_of_a_policy() -> None:
    check_policy(MovingAverage)


class Scalar:
    """One series, in plain Python, as the formula says it."""

    def __init__(self, params: Any) -> None:  # noqa: ANN401 - MovingAverageParams of scalars
        self.params = params
        self.over_s = self.peak = nan

    def mean(self, past: list[float], window_s: float) -> float:
        rows = max(1, ceil(window_s / EVERY_S))
        newest_first = past[::-1][:rows]
        weights = {
            "simple": [1.0 for k in range(rows)],
            "weighted": [float(rows - k) for k in range(rows)],
            "exponential": [(1 - 2 / (rows + 1)) ** k for k in range(rows)],
        }[self.params.kind]
        pairs = [(weight, value) for weight, value in zip(weights, newest_first, strict=False) if not isnan(value)]
        if 2 * len(pairs) < rows:
            return nan
        return sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)

    def __call__(self, at_s: float, past: list[float], current: float, ready: float) -> float:
        stable, panic = self.mean(past, self.params.window_s), self.mean(past, self.params.panic_window_s)
        if isnan(past[-1]):
            return nan
        lasting = at_s - self.over_s < self.params.window_s
        if panic >= self.params.panic_threshold * max(1, ready):
            self.over_s = at_s
        elif not lasting:
            self.peak = nan
            return stable
        seen = [self.peak if lasting else nan, stable, panic]
        self.peak = max(value for value in seen if not isnan(value))
        return max(self.peak, current)


rows_of_one_kind = st.sampled_from(KINDS).flatmap(
    lambda kind: st.lists(
        st.builds(
            MovingAverageParams,
            kind=st.just(kind),
            window_s=st.sampled_from([10.0, 30.0, 45.0, 75.0]),
            panic_window_s=st.sampled_from([10.0, 30.0]),
            panic_threshold=st.sampled_from([1.25, 2.0, 5.0]),
        ),
        min_size=1,
        max_size=4,
    )
)


@given(rows=rows_of_one_kind, known_past=st.booleans(), data=st.data())
def test_columns_equal_the_scalar_formula(rows: list[MovingAverageParams], known_past: bool, data: st.DataObject) -> None:  # noqa: FBT001
    policy, columns, scalars, n = MovingAverage(), columns_of(rows), [Scalar(row) for row in rows], len(rows)
    looks_back = max(ceil(history_s(policy, row) / EVERY_S) for row in rows)
    values = st.lists(st.one_of(st.just(nan), st.floats(0, 100, width=32)), min_size=n, max_size=n)
    history = data.draw(st.lists(values, min_size=looks_back, max_size=looks_back)) if known_past else [[nan] * n] * looks_back
    state = policy.init(columns, n)
    for tick in range(data.draw(st.integers(1, 10))):
        history = [*history, data.draw(values)]
        current = data.draw(st.lists(st.integers(0, 60), min_size=n, max_size=n))
        ready = [max(0, count - data.draw(st.integers(0, 3))) for count in current]
        at_s = 1e9 + tick * EVERY_S
        state, proposal = policy(view_of(history[-looks_back:], current, at_s=at_s, interval_s=EVERY_S, ready=ready), columns, state)
        expected = [scalar(at_s, [row[i] for row in history], current[i], ready[i]) for i, scalar in enumerate(scalars)]
        assert proposal.replicas.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
