"""The least pod-seconds that any policy with the same start-up delay could have spent, had it known the future.

Pods are taken one level at a time: level ``k`` is the k-th pod of a fleet, and needs to be ready for the arrivals between
``(k - 1) x limit`` and ``k x limit`` of a step, ``limit = knee x capacity x step``. A level that is ready for an interval costs its steps,
its start-up and its drain; off, it leaves its arrivals late. With a price ``lambda`` on a late request each level is a shortest path
through two states, and ::

    bound(allowed) = max over lambda of (sum over levels of the shortest path) - lambda x allowed

The maximum is found by cutting planes (the function is concave and piecewise linear). It is a true lower bound for every price: no
backlog is carried over, no level has to wait for the one below, and whatever lies before or after the stretch is free. Without any
lateness it is reached: :attr:`Bound.ready` are the pods that do it.

Under the slots model lateness is not linear in the arrivals. The bound uses the straight line below it: ``knee`` becomes the
largest ``load x (1 - late_share(load))``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from autoscaler.core.columns import frozen, full
from autoscaler.core.plant import Model, Plant, late_share, steps_in
from autoscaler.core.types import Bools, Floats, Ints

_ROUNDS_MAX = 60
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Bound:
    """``pod_seconds`` with at most ``late`` requests late on the way; ``price`` of a late request, in pod-seconds, that proves it.

    ``ready[step]`` pods at that price; with nothing late, a policy that has them spends just ``pod_seconds``.
    """

    pod_seconds: float
    late: float
    price: float
    ready: Ints


@dataclass(frozen=True, slots=True)
class _Level:
    """One level's arrivals, by element: a step that needs a part of the pod, or a run of steps that need all of it.

    ``first``: the element's first step, ``steps`` its length, ``load`` its requests.
    """

    first: list[int]
    steps: list[int]
    load: list[float]


@dataclass(frozen=True, slots=True)
class _Costs:
    """What pods cost, in steps, over a stretch of ``total`` steps; only what lies inside the stretch is billed."""

    startup: int
    drain: int
    total: int


def bound_of(arrivals: Floats, plant: Plant, allowed_share: float = 0.0, min_replicas: int = 0) -> Bound:
    """The bound for ``arrivals[step]`` of one load, if the share ``allowed_share`` of them may be late.

    ``min_replicas`` pods are always there, as a policy's lower bound says.
    """
    if np.ndim(plant.capacity) or np.ndim(plant.startup_s):
        raise ValueError("plant: expected one capacity and one start-up time, found a column of them; ask for each load alone")
    costs = _Costs(int(steps_in(plant, plant.startup_s)), int(steps_in(plant, plant.drain_s)), arrivals.size)
    limit = _knee(plant) * float(plant.capacity) * plant.step_s
    levels = _levels(arrivals, limit, min_replicas)
    allowed = allowed_share * float(arrivals.sum())
    price, value, late = _dearest(levels, costs, allowed)
    ready = full(arrivals.size, min_replicas).astype(np.int64)
    for level in levels:
        for begin, end in _plan(level, costs, price):
            ready[begin:end] += 1
    pod_steps = value + min_replicas * arrivals.size
    return Bound(pod_steps * plant.step_s, late, price * plant.step_s, frozen(ready))


def _knee(plant: Plant) -> float:
    """Requests per capacity that a pod can serve in time, as a straight line that is never above what it can."""
    if plant.model is Model.KNEE:
        return plant.knee
    load = np.linspace(0.0, 1.0, 10_001)
    return float((load * (1.0 - late_share(plant, load))).max()) + 1e-4  # the grid may miss the top by that


def _levels(arrivals: Floats, limit: float, least: int) -> list[_Level]:
    """The elements of every level above ``least`` that some step needs."""
    levels = []
    steps = np.flatnonzero(arrivals > least * limit)
    for level in range(least, ceil(float(arrivals.max(initial=0.0)) / limit)):
        steps = steps[arrivals[steps] > level * limit]
        if not steps.size:
            break
        load = np.minimum(arrivals[steps] - level * limit, limit)
        starts = np.flatnonzero(_starts(steps, load >= limit))
        levels.append(
            _Level(
                steps[starts].tolist(),
                np.diff(np.append(starts, steps.size)).tolist(),
                np.add.reduceat(load, starts).tolist(),
            )
        )
    return levels


def _starts(steps: Ints, whole: Bools) -> Bools:
    """Where a new element begins: everywhere but inside a run of neighbouring steps that need the whole pod."""
    begins = np.ones(steps.size, np.bool_)
    begins[1:] = (np.diff(steps) > 1) | ~whole[1:] | ~whole[:-1]
    return begins


def _dearest(levels: list[_Level], costs: _Costs, allowed: float) -> tuple[float, float, float]:
    """The price that makes the bound greatest, the bound there in pod-steps, and the late requests there."""
    # Dear enough that no level ever leaves a request late: a whole stretch of one pod for the smallest piece of load.
    least = min((load for level in levels for load in level.load if load > 0), default=1.0)
    high = (costs.total + costs.startup + costs.drain) / least + 1.0
    high_value, high_late = _priced(levels, costs, high)
    if allowed <= 0 or not levels:
        return high, high_value, high_late
    low, low_value, low_late = 0.0, 0.0, sum(sum(level.load) for level in levels)
    best = (high, high_value - high * allowed, high_late)
    if low_late <= allowed:
        return low, low_value, low_late
    for _ in range(_ROUNDS_MAX):
        # Where the two tangents cross, the bound cannot be more than they say.
        price = (high_value - high_late * high - low_value + low_late * low) / (low_late - high_late)
        promised = low_value + low_late * (price - low) - price * allowed
        value, late = _priced(levels, costs, price)
        if value - price * allowed > best[1]:
            best = (price, value - price * allowed, late)
        if promised - (value - price * allowed) <= _CLOSE * max(1.0, promised):
            break
        if late > allowed:
            low, low_value, low_late = price, value, late
        else:
            high, high_value, high_late = price, value, late
    return best


def _priced(levels: list[_Level], costs: _Costs, price: float) -> tuple[float, float]:
    """The shortest paths of all levels together, and the late requests on them."""
    value = late = 0.0
    for level in levels:
        cost, missed = _path(level, costs, price)
        value, late = value + cost, late + missed
    return value, late


def _path(level: _Level, costs: _Costs, price: float) -> tuple[float, float]:
    """The cheapest way through one level, and what it leaves late. ``on`` and ``off`` are the costs of being in either state."""
    startup, drain, total = costs.startup, costs.drain, costs.total
    on, on_late, off, off_late = inf, 0.0, 0.0, 0.0
    end = 0
    for first, steps, load in zip(level.first, level.steps, level.load, strict=True):
        leave = on + min(drain, total - end)
        on += first - end  # stays on through the gap
        if leave < off:
            off, off_late = leave, on_late
        enter = off + min(startup, first)
        if enter < on:
            on, on_late = enter, off_late
        on += steps
        off += price * load
        off_late += load
        end = first + steps
    leave = on + min(drain, total - end)
    return (leave, on_late) if leave < off else (off, off_late)


def _plan(level: _Level, costs: _Costs, price: float) -> list[tuple[int, int]]:
    """The intervals (first step, end) in which the level is on, on the path of :func:`_path`."""
    startup, drain, total = costs.startup, costs.drain, costs.total
    on, off, end = inf, 0.0, 0
    stayed: list[bool] = []
    left: list[bool] = []
    for first, steps, load in zip(level.first, level.steps, level.load, strict=True):
        leave = on + min(drain, total - end)
        left.append(leave < off)
        off = min(off, leave)
        on += first - end
        enter = off + min(startup, first)
        stayed.append(on <= enter)
        on = min(on, enter) + steps
        off += price * load
        end = first + steps
    intervals: list[tuple[int, int]] = []
    is_on = on + min(drain, total - end) < off
    until = end
    for k in range(len(level.first) - 1, -1, -1):
        if is_on and not stayed[k]:
            intervals.append((level.first[k], until))
            is_on = False
        if not is_on and left[k]:
            is_on = True
            until = level.first[k - 1] + level.steps[k - 1]
    return intervals
