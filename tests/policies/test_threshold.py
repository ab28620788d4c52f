"""``threshold``: exact sequences, what its parameters refuse, and a scalar reference."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, floor, inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.behavior import HPA_BEHAVIOR
from autoscaler.core.policy import traits_of
from autoscaler.testing import check_policy, columns_of, view_of
from policies.threshold import Threshold, ThresholdParams

EVERY_S = 15.0
SKIPPED = None

Tick = tuple[float, float] | None
"""Demand and current replicas, or a tick that was skipped."""


def params_of(**values: Any) -> ThresholdParams:  # noqa: ANN401 - scalars, where a policy gets columns
    return ThresholdParams(**values)


def played(params: ThresholdParams, ticks: list[Tick]) -> list[float]:
    """What one series gets at each tick that was not skipped."""
    policy, columns = Threshold(), columns_of([params])
    state, got = policy.init(columns, 1), []
    for number, tick in enumerate(ticks):
        if tick is not None:
            view = view_of([[tick[0]]], [tick[1]], at_s=1e9 + number * EVERY_S, interval_s=EVERY_S)
            state, proposal = policy(view, columns, state)
            got.append(float(proposal.replicas[0]))
    return got


@pytest.mark.parametrize(
    ("params", "ticks", "replicas"),
    [
        pytest.param({}, [(10, 10), (10.9, 10), (9.1, 10)], [10, 10, 10], id="band-holds"),
        pytest.param({}, [(11, 10), (9, 10), (2.2, 2), (3.3, 3)], [10, 10, 2, 3], id="on-a-mark-is-in-the-band"),
        pytest.param({}, [(11.5, 10), (8.5, 10)], [11.5, 8.5], id="to-target"),
        pytest.param({}, [(0, 10), (0, 0)], [0, 0], id="nothing-to-do"),
        pytest.param({"up": "step"}, [(1e-12, 0), (1e-8, 0)], [0, 1], id="from-zero-what-rounds-to-none-is-none"),
        pytest.param({}, [(0.25, 0), (7, 0)], [0.25, 7], id="from-zero-any-demand-is-above"),
        pytest.param({"up": "step", "up_step": 3}, [(20, 10), (13, 10), (7, 0)], [13, 13, 3], id="step-up"),
        pytest.param({"up": "percent", "up_percent": 50}, [(40, 10), (9, 3), (7, 0)], [15, 5, 1], id="percent-up-rounds-up"),
        pytest.param({"up": "percent", "up_percent": 1}, [(40, 10)], [11], id="percent-up-is-one-at-least"),
        pytest.param({"up": "step", "up_step": 8}, [(12, 10), (12.5, 10)], [13, 13], id="step-up-ends-in-the-band"),
        pytest.param({"up": "step", "up_step": 8, "low": 0}, [(12, 10)], [18], id="step-up-without-a-low-mark"),
        pytest.param({"up": "step"}, [(1.3, 1)], [2], id="step-up-is-one-at-least"),
        pytest.param({"down": "step", "down_step": 2}, [(5, 10), (8.5, 10), (1, 2)], [8, 8.5, 1], id="step-down-ends-at-target"),
        pytest.param({"down": "percent", "down_percent": 20}, [(1, 10), (1, 14), (1, 3)], [8, 12, 2], id="percent-down-rounds-down"),
        pytest.param({"down": "step", "down_step": 9}, [(0, 4)], [0], id="step-down-ends-at-zero"),
        pytest.param(
            {"high": 0.8, "low": 0.4, "up": "step", "down": "step", "down_step": 9},
            [(8.1, 10), (7.9, 10), (3.9, 10)],
            [11, 10, 3.9 / 0.8],
            id="marks-below-target",
        ),
        pytest.param({"low": 0}, [(0, 10)], [10], id="low-zero-never-scales-down"),
        pytest.param({"up_for_s": 30}, [(20, 10)] * 4, [10, 10, 20, 20], id="up-for"),
        pytest.param({"up_for_s": 20}, [(20, 10)] * 4, [10, 10, 20, 20], id="up-for-rounds-up-to-ticks"),
        pytest.param({"down_for_s": 30}, [(5, 10)] * 4, [10, 10, 5, 5], id="down-for"),
        pytest.param({"up_for_s": 30}, [(20, 10), (20, 10), (10, 10), (20, 10), (20, 10), (20, 10)], [10] * 5 + [20], id="band-resets"),
        pytest.param(
            {"up_for_s": 30}, [(20, 10), (20, 10), (nan, 10), (20, 10), (20, 10), (20, 10)], [10, 10, nan, 10, 10, 20], id="no-data-resets"
        ),
        pytest.param(
            {"up_for_s": 30}, [(20, 10), (20, 10), SKIPPED, (20, 10), (20, 10), (20, 10)], [10, 10, 10, 10, 20], id="skipped-tick-resets"
        ),
        pytest.param({"up_for_s": 15}, [(20, 10), (5, 10), (20, 10), (20, 10)], [10, 5, 10, 20], id="other-side-resets"),
        pytest.param({"up": "step", "up_for_s": 15}, [(20, 10), (20, 10), (20, 11), (20, 12)], [10, 11, 12, 13], id="steps-while-above"),
        pytest.param({"up_for_s": 15, "down_for_s": 15}, [(20, 10), (12, 12), (9, 12), (9, 12)], [10, 12, 12, 9], id="both-ways"),
        pytest.param({}, [(nan, 10), (5, nan), (20, nan)], [nan, nan, nan], id="unknown-abstains"),
    ],
)
def test_sequence(params: dict[str, Any], ticks: list[Tick], replicas: list[float]) -> None:
    assert played(params_of(**params), ticks) == pytest.approx(replicas, rel=1e-5, nan_ok=True)


def test_notes_say_how_far_out_and_for_how_long() -> None:
    policy, params = Threshold(), columns_of([params_of(up_for_s=60.0)] * 4)
    state, notes = policy.init(params, 4), {}
    for number in range(3):
        view = view_of([[20, 5, 10, 7]], [10, 10, 10, 0], at_s=1e9 + number * EVERY_S)
        state, proposal = policy(view, params, state)
        notes = dict(proposal.notes)
    assert notes.keys() == {"ratio", "above_s", "below_s"}
    assert notes["ratio"].tolist() == [2, 0.5, 1, inf]
    assert notes["above_s"].tolist() == pytest.approx([30, nan, nan, 30], nan_ok=True)
    assert notes["below_s"].tolist() == pytest.approx([nan, 30, nan, nan], nan_ok=True)


def test_default_guards_are_the_hpas_without_tolerance() -> None:
    """The dead band is the tolerance; a second one would widen it."""
    behavior = traits_of(Threshold()).behavior
    assert behavior == HPA_BEHAVIOR.with_tolerance(0.0)
    assert (behavior.given.up.tolerance, behavior.given.down.window_s) == (0.0, 300.0)


@pytest.mark.parametrize(
    ("params", "sentences"),
    [
        pytest.param({}, [], id="defaults"),
        pytest.param({"high": 1, "low": 0.5}, [], id="high-at-target"),
        pytest.param({"high": 0.8, "low": 0.4, "up": "step", "down": "percent"}, [], id="below-target-by-steps"),
        pytest.param({"low": 1.2}, ["low is 1.2 and high is 1.1: low must be below high, between them nothing moves"], id="low-above-high"),
        pytest.param({"low": 1, "high": 1}, ["low is 1 and high is 1: low must be below high, between them nothing moves"], id="no-band"),
        pytest.param(
            {"high": 0.8, "low": 0.4, "up": "step"},
            ["high is 0.8, so target (ratio 1) is not between the marks: make it at least 1, or up and down step or percent"],
            id="target-above-the-band",
        ),
        pytest.param(
            {"high": 1.5, "low": 1.2, "down": "step"},
            ["low is 1.2, so target (ratio 1) is not between the marks: make it at most 1, or up and down step or percent"],
            id="target-below-the-band",
        ),
    ],
)
def test_check(params: dict[str, Any], sentences: list[str]) -> None:
    assert list(Threshold().check(params_of(**params))) == sentences


def test_keeps_every_property_of_a_policy() -> None:
    check_policy(Threshold)


moves = st.sampled_from(["target", "step", "percent"])
sensible = st.builds(
    ThresholdParams,
    high=st.floats(0.5, 3),
    low=st.one_of(st.just(0.0), st.floats(0.1, 2)),
    up_for_s=st.sampled_from([0.0, 15.0, 40.0]),
    down_for_s=st.sampled_from([0.0, 15.0, 40.0]),
    up=moves,
    up_step=st.integers(1, 20),
    up_percent=st.floats(1, 300),
    down=moves,
    down_step=st.integers(1, 20),
    down_percent=st.floats(1, 100),
).filter(lambda params: not list(Threshold().check(params)))


@given(params=sensible, demand=st.floats(0, 500, width=32), current=st.integers(0, 300))
def test_settles_without_turning_round(params: ThresholdParams, demand: float, current: int) -> None:
    """With constant demand, and the count following, it moves one way only, and stops."""
    policy, columns = Threshold(), columns_of([params])
    state, counts = policy.init(columns, 1), [current]
    for number in range(1000):
        view = view_of([[demand]], [counts[-1]], at_s=1e9 + number * EVERY_S)
        state, proposal = policy(view, columns, state)
        counts.append(ceil(float(proposal.replicas[0]) - 1e-9))
        if number > 4 and len(set(counts[-5:])) == 1:
            break
    steps = {int(np.sign(after - before)) for before, after in pairwise(counts)} - {0}
    assert len(set(counts[-5:])) == 1
    assert len(steps) <= 1


class Scalar:
    """One series, in plain Python, as the formula says it; ``seen`` counts ticks."""

    def __init__(self, params: Any) -> None:  # noqa: ANN401 - ThresholdParams of scalars
        self.params = params
        self.above = self.below = 0

    def __call__(self, demand: float, current: float) -> float:
        params = self.params
        if isnan(demand):
            self.above = self.below = 0
            return nan
        ratio = demand / current if current else (inf if demand > 1e-9 else 0.0)
        self.above = self.above + 1 if ratio > params.high * (1 + 1e-6) else 0
        self.below = self.below + 1 if ratio < params.low * (1 - 1e-6) else 0
        if self.above and (self.above - 1) * EVERY_S >= params.up_for_s:
            return self.up(demand, current)
        if self.below and (self.below - 1) * EVERY_S >= params.down_for_s:
            return self.down(demand, current)
        return current

    def up(self, demand: float, current: float) -> float:
        if self.params.up == "target":
            return demand
        more = float(self.params.up_step) if self.params.up == "step" else ceil(current * self.params.up_percent / 100 - 1e-9)
        most = floor(demand / self.params.low * (1 + 5e-7)) if self.params.low else inf
        return max(current + 1, min(current + more, most))

    def down(self, demand: float, current: float) -> float:
        if self.params.down == "target":
            return demand
        fewer = float(self.params.down_step) if self.params.down == "step" else floor(current * self.params.down_percent / 100 + 1e-9)
        mark = 1.0 if self.params.low <= 1 <= self.params.high else min(max(1, self.params.low), self.params.high)
        return max(current - max(fewer, 1), demand / mark * (1 - 5e-7))


@given(
    rows=st.lists(sensible, min_size=1, max_size=4).filter(lambda rows: len({(row.up, row.down) for row in rows}) == 1),
    data=st.data(),
)
def test_columns_equal_the_scalar_formula(rows: list[ThresholdParams], data: st.DataObject) -> None:
    policy, columns, scalars = Threshold(), columns_of(rows), [Scalar(row) for row in rows]
    state = policy.init(columns, len(rows))
    demands = st.one_of(st.just(nan), st.floats(0, 200, width=32))
    for number in range(data.draw(st.integers(1, 8))):
        demand = data.draw(st.lists(demands, min_size=len(rows), max_size=len(rows)))
        current = data.draw(st.lists(st.integers(0, 100), min_size=len(rows), max_size=len(rows)))
        view = view_of([demand], current, at_s=1e9 + number * EVERY_S)
        state, proposal = policy(view, columns, state)
        expected = [scalar(*pair) for scalar, pair in zip(scalars, zip(demand, current, strict=True), strict=True)]
        assert proposal.replicas.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)
