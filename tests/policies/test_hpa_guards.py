"""``hpa`` with its guards over some ticks: what the HPA does around its replica calculation, and what ``exact`` leaves out of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import nan

import pytest

from autoscaler.core.behavior import Behavior
from policies.hpa import Hpa
from tests.core.build import HPA_CLASSIC, HPA_GIVEN, Rig, behavior, choice, direction, percent, pods, series, spec

HPA = Hpa()


def rig(rules: Behavior, low: int = 1, high: int = 100, real: float = 10, *, exact: bool = True, activation: float = 0.0) -> Rig:
    """One workload with one external metric of which a replica carries 1."""
    metric = series(activation=activation)
    return Rig(spec(policy=choice(HPA, exact=exact), behavior=rules, min_replicas=low, max_replicas=high, series=(metric,)), real=real)


FREE = behavior()
CLASSIC = replace(HPA_CLASSIC, up=replace(HPA_CLASSIC.up, tolerance=0.0), down=replace(HPA_CLASSIC.down, tolerance=0.0, window_s=60.0))
WINDOWS = behavior(direction(60), direction(60))


@pytest.mark.parametrize(
    ("rules", "low", "real", "loads", "counts"),
    [
        pytest.param(CLASSIC, 1, 10, [4, 4, 4, 4, 4], [10, 10, 10, 10, 4], id="the first count is the first recommendation"),
        pytest.param(CLASSIC, 1, 10, [30, 60], [20, 40], id="classic: at most twice the count"),
        pytest.param(CLASSIC, 1, 1, [30, 30], [4, 8], id="classic: or four"),
        pytest.param(CLASSIC, 1, 10, [4, 4, 20, 4, 4, 4, 4, 4], [10, 10, 20, 20, 20, 20, 4, 4], id="classic: the highest of the window"),
        pytest.param(WINDOWS, 1, 10, [15, 15, 15, 15, 15], [10, 10, 10, 10, 15], id="behavior: not above the lowest of the window"),
        pytest.param(WINDOWS, 1, 10, [4, nan, 4, 4, 4], [10, 10, 10, 10, 4], id="without data nothing is recommended"),
        pytest.param(HPA_GIVEN, 1, 10, [10.9, 11.1], [10, 12], id="tolerance is the policy's own, whatever the guards' is"),
    ],
)
def test_windows_and_rates(rules: Behavior, low: int, real: float, loads: list[float], counts: list[float]) -> None:
    made = rig(replace(rules, up=replace(rules.up, tolerance=0.0), down=replace(rules.down, tolerance=0.0)), low, real=real)
    assert [made.tick(load).replicas for load in loads] == counts


def test_what_is_above_max_goes_to_max_and_no_further_and_recommends_nothing() -> None:
    made = rig(WINDOWS, high=10, real=10)
    made.tick(10)
    made.real = 14
    assert made.tick(2).replicas == 10
    made.tick(10, ticks=4)  # by now the window holds nothing from before
    assert made.tick(2).replicas == 10


@pytest.mark.parametrize("rules", [pytest.param(CLASSIC, id="classic"), pytest.param(WINDOWS, id="behavior")])
def test_what_is_below_min_goes_to_min_whatever_the_window_recommends(rules: Behavior) -> None:
    made = rig(rules, low=3, real=10)
    made.tick(10)
    made.real = 1
    assert made.tick(10).replicas == 3


def test_from_its_own_zero_it_goes_on_recommending() -> None:
    """Also where min has been raised since, so that zero is below it: what was recommended there keeps it up afterwards."""
    made = rig(behavior(down=direction(60)), low=0, real=2)
    assert [made.tick(0).replicas for _ in range(5)] == [2, 2, 2, 2, 0]
    made.become(min_replicas=1)
    assert [made.tick(load).replicas for load in (9, 2)] == [9, 9]


def asleep(rules: Behavior, *, exact: bool) -> Rig:
    made = rig(rules, low=0, real=2, exact=exact)
    assert made.tick(0).replicas == 0
    return made


def activation(*, exact: bool) -> float | None:
    return rig(FREE, low=0, real=3, exact=exact, activation=5).tick(4).replicas


def from_zero(*, exact: bool) -> float | None:
    return asleep(behavior(direction(rules=[percent(100, 15)])), exact=exact).tick(5).replicas


def from_zero_by_pods(*, exact: bool) -> float | None:
    return asleep(behavior(direction(rules=[pods(3, 15)])), exact=exact).tick(5).replicas


def foreign_zero(*, exact: bool) -> float | None:
    made = asleep(FREE, exact=exact)
    made.tick(0)
    made.tick(3, current=3.0)
    made.real = 0
    return made.tick(5).replicas


def zero_by_hand(*, exact: bool) -> float | None:
    made = rig(FREE, low=0, real=2, exact=exact)
    made.tick(2)
    made.real = 0
    return made.tick(5).replicas


def raised_min(*, exact: bool) -> float | None:
    made = asleep(FREE, exact=exact)
    made.become(min_replicas=2)
    return made.tick(nan).replicas


def raised_min_with_data(*, exact: bool) -> float | None:
    made = asleep(FREE, exact=exact)
    made.become(min_replicas=2)
    return made.tick(1).replicas


def coverage(*, exact: bool) -> float | None:
    return rig(FREE, exact=exact).tick(4, coverage=0.5).replicas


@pytest.mark.parametrize(
    ("scene", "ours", "exact"),
    [
        pytest.param(activation, 0, 4, id="activation"),
        pytest.param(from_zero, 1, 0, id="fromZero"),
        pytest.param(from_zero_by_pods, 3, 3, id="from zero by pods: alike"),
        pytest.param(foreign_zero, 0, 5, id="foreignZero"),
        pytest.param(zero_by_hand, 0, 0, id="a zero set by hand: alike"),
        pytest.param(raised_min, 2, 0, id="raisedMin"),
        pytest.param(raised_min_with_data, 2, 2, id="a raised min with data: alike"),
        pytest.param(coverage, 10, 4, id="coverage"),
    ],
)
def test_what_exact_switches_off_in_the_guards(scene: Callable[..., float | None], ours: float, exact: float) -> None:
    assert [scene(exact=False), scene(exact=True)] == [ours, exact]
