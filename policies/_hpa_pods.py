"""The HPA's replica calculation from pods, in columns: which pods count, their ratio to the target, and the replicas that it asks for.

All quantities are whole thousandths, as in the HPA, which reads every quantity as a milli-value and divides whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from autoscaler.core.policy import Pods
from autoscaler.core.types import Bools, Floats, Ints, PodPhase, PodReady
from autoscaler.core.usage import starting

Tolerance: TypeAlias = tuple[Floats, Floats]
"""How far above and below 1 a ratio may be ``[n]``."""


def milli(quantity: Floats) -> Floats:
    """Quantities as whole thousandths, rounded up as by the HPA; what a division left beside a whole number is that number."""
    scaled = quantity * 1000
    whole = np.rint(scaled)
    return np.where(np.abs(scaled - whole) <= 1e-9 * np.maximum(1, np.abs(whole)), whole, np.ceil(scaled))


def whole_milli(quantity: Floats) -> Ints:
    """The same as integers; 0 where there is none."""
    return np.nan_to_num(milli(quantity), nan=0.0).astype(np.int64)


def quotient(total: Ints, count: Ints | int) -> Ints:
    """Whole quotients, cut off towards zero; 0 where ``count`` is 0."""
    divisor = np.maximum(count, 1)
    quotients: Ints = np.sign(total) * (np.abs(total) // divisor)
    return quotients


def within(ratio: Floats, tolerance: Tolerance) -> Bools:
    """Whether 1 - down <= ratio <= 1 + up."""
    up, down = tolerance
    inside: Bools = (1.0 - down <= ratio) & (ratio <= 1.0 + up)
    return inside


@dataclass(frozen=True, slots=True)
class Groups:
    """What each pod ``[p]`` is to its series: ``listed`` at all, ``counted``, ``unready``, ``missing`` (no sample), or ``stray``.

    A stray is sampled but no longer listed; pods that are none of these are ignored.
    """

    listed: Bools
    counted: Bools
    unready: Bools
    missing: Bools
    stray: Bools


def grouped(pods: Pods, cpu: Bools, at_s: float, initialization_s: Floats, delay_s: Floats) -> Groups:
    """Sort the pods; ``cpu`` and the two periods are by pod ``[p]``."""
    sampled = ~np.isnan(pods.use)
    listed = pods.phase != PodPhase.GONE.value
    pending = pods.phase == PodPhase.PENDING.value
    ignored = (pods.phase == PodPhase.FAILED.value) | (pods.phase == PodPhase.DELETED.value)
    rest = listed & ~pending & ~ignored
    unready = pending | (rest & sampled & cpu & starting(pods, at_s, initialization_s, delay_s))
    return Groups(listed, rest & sampled & ~unready, unready, rest & ~sampled, ~listed & sampled)


@dataclass(frozen=True, slots=True)
class Sums:
    """What the metrics of each series ``[n]`` add up to: use and request in thousandths, and how many metrics there are."""

    use: Ints
    request: Ints
    metrics: Ints


@dataclass(frozen=True, slots=True)
class Goal:
    """What each series ``[n]`` aims at: ``target`` in thousandths, or in per cent of the request where ``utilization``."""

    target: Floats
    utilization: Bools
    tolerance: Tolerance
    current: Floats


@dataclass(frozen=True, slots=True)
class PerPod:
    """``replicas[n]`` (NaN: nothing to go by) with what explains them: the ratio (with the pods that were filled in) and pods by kind."""

    replicas: Floats
    ratio: Floats
    counted: Ints
    unready: Ints
    missing: Ints


def replicas_of(pods: Pods, groups: Groups, goal: Goal, stretch: Callable[[Floats], Floats], *, lenient: bool) -> PerPod:
    """The replicas of every series that has pods.

    ``stretch(pods)`` is the factor on the ratio of so many pods for the tests of tolerance and direction (1, but in a dry run).
    ``lenient`` leaves pods without a request out of both sums, where the HPA gives up.
    """
    offsets, owner = pods.offsets, np.repeat(np.arange(pods.offsets.size - 1), np.diff(pods.offsets))
    use, request = whole_milli(pods.use), whole_milli(pods.request)
    utilization, unrequested = goal.utilization[owner], np.isnan(pods.request)
    in_sums = ~utilization | ~(groups.stray | unrequested)

    def total(values: Ints | Bools, where: Bools) -> Ints:
        running = np.concatenate([[0], np.cumsum(np.where(where, values, 0), dtype=np.int64)])
        sums: Ints = running[offsets[1:]] - running[offsets[:-1]]
        return sums

    def count(where: Bools) -> Ints:
        return total(where, where)

    counted, unready, missing = count(groups.counted), count(groups.unready), count(groups.missing)
    present = groups.counted | groups.stray
    measured = Sums(total(use, present & in_sums), total(request, present & in_sums), count(present))
    ratio = _ratio(measured, goal)

    up, down = ratio > 1.0, ratio < 1.0
    fills_unready, fills_missing = up & (unready > 0), (up | down) & (missing > 0)
    filled = groups.missing & fills_missing[owner] | groups.unready & fills_unready[owner]
    assumed = np.where(utilization, quotient(request * _full_use(goal)[owner], 100), goal.target[owner].astype(np.int64))
    added = Sums(
        np.where(down & fills_missing, total(assumed, groups.missing & in_sums), 0),
        total(request, filled & in_sums),
        count(filled),
    )
    whole = Sums(measured.use + added.use, measured.request + added.request, measured.metrics + added.metrics)
    plain = ~fills_unready & (missing == 0)
    again = np.where(plain, ratio, _ratio(whole, goal))

    pods_in_sum = np.where(plain, counted, whole.metrics).astype(np.float64)
    asked, factor = np.ceil(again * pods_in_sum), stretch(pods_in_sum)
    tested, first = again * factor, ratio * factor
    turned = ((first < 1.0) & (tested > 1.0)) | ((first > 1.0) & (tested < 1.0))
    against = ((tested < 1.0) & (asked > goal.current)) | ((tested > 1.0) & (asked < goal.current))
    stays = within(tested, goal.tolerance) | (~plain & (turned | against))
    replicas = np.where(stays, goal.current, asked)

    lost = (measured.metrics == 0) | (count(groups.listed) == 0) | np.isnan(ratio)
    if not lenient:
        lost |= goal.utilization & (count(groups.listed & unrequested) > 0)
    return PerPod(np.where(lost, np.nan, replicas), np.where(lost, np.nan, again), counted, unready, missing)


def _full_use(goal: Goal) -> Ints:
    """What a pod without a sample is taken to use, in per cent of its request: all of it, or the target if that is more."""
    return np.where(goal.utilization, np.maximum(100, goal.target), 0).astype(np.int64)


def _ratio(sums: Sums, goal: Goal) -> Floats:
    """Whole per cent, or the whole mean, over the target; NaN where nothing is requested or measured."""
    per_cent = np.where(sums.request > 0, quotient(sums.use * 100, sums.request), np.nan)
    mean = np.where(sums.metrics > 0, quotient(sums.use, sums.metrics), np.nan)
    return np.where(goal.utilization, per_cent, mean) / goal.target


def ready_pods(pods: Pods) -> tuple[Ints, Ints]:
    """How many pods of each series are Running and Ready (deleted ones too, until they are gone), and how many are listed."""
    running = (pods.phase == PodPhase.RUNNING.value) | (pods.phase == PodPhase.DELETED.value)
    ready = running & (pods.ready == PodReady.TRUE.value)
    listed = pods.phase != PodPhase.GONE.value
    both = np.stack([ready, listed])
    running_sum = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(both, axis=1, dtype=np.int64)], axis=1)
    ready_count, listed_count = running_sum[:, pods.offsets[1:]] - running_sum[:, pods.offsets[:-1]]
    return ready_count, listed_count
