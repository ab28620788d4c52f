"""What a workload's own pods use of a resource: from pods and their samples to load, request and saturation, and the flat pod columns.

::

    load        sum of use over the pods that count
    request     mean request of these: of one replica
    saturated   load >= 95 % of the sum of their limits (one without a limit: not known, so no)
    coverage    the share of the Ready pods that count

A pod counts if it runs, is not being deleted and has a sample of now; its CPU also only once the sample is from after its start-up (by
the HPA's rule and its default periods), as what a pod burns to start is no load. For a utilisation, containers without a request are
left out of both sums, and a pod that has nothing but such containers is taken to be as busy as the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan
from typing import NamedTuple

import numpy as np

from autoscaler.core.columns import frozen, full
from autoscaler.core.health.facts import Container, Pod, Role, condition
from autoscaler.core.policy import Pods
from autoscaler.core.spec import Usage
from autoscaler.core.types import Bools, Codes, Floats, Ints, PodPhase, PodReady

SATURATED_SHARE = 0.95

SAMPLE_MAX_S = 150.0
"""A sample further from now says nothing about now: metrics-server looks once a minute by default, and may miss a look."""

INITIALIZATION_S, READINESS_DELAY_S = 300.0, 30.0
"""The HPA's defaults for CPU: so long a pod's start-up lasts at most; one not Ready since so soon after its start never was."""

SAMPLE_WINDOW_S = 60.0
"""The window of a sample that states none."""

CPU, MEMORY = "cpu", "memory"

_PHASES = {"Pending": PodPhase.PENDING, "Running": PodPhase.RUNNING, "Failed": PodPhase.FAILED}
_READY = {"True": PodReady.TRUE, "False": PodReady.FALSE}
_MILLI, _DUST = 1e3, 1e-6


class Sample(NamedTuple):
    """What a pod used on the average of ``window_s`` before ``at_s``: by container, cores and bytes (NaN: not said)."""

    at_s: float
    window_s: float
    containers: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Rows:
    """A workload's pods as one series sees them, without samples: ``[p]``, in the resource's unit, NaN where there is none.

    ``names``: namespace and name; ``containers[p]``: those whose use is summed (None: all that the sample has); ``unrequested``: names
    of pods with a container without a request.
    """

    names: tuple[tuple[str, str], ...]
    containers: tuple[tuple[str, ...] | None, ...]
    request: Floats
    limit: Floats
    phase: Codes
    ready: Codes
    started_s: Floats
    ready_changed_s: Floats
    unrequested: tuple[str, ...] = ()


def rows_of(pods: Sequence[Pod], usage: Usage, *, requested: bool, exact: bool) -> Rows:
    """The rows of a workload's pods.

    ``requested``: use is related to requests, so containers without one are left out; ``exact``: as in the HPA, one such container
    leaves its whole pod without a request.
    """
    chosen = [[each for each in pod.containers if each.role is not Role.INIT and usage.container in {"", each.name}] for pod in pods]
    lacking = [[each for each in of_pod if isnan(_request(each, usage))] for of_pod in chosen]
    containers: tuple[tuple[str, ...] | None, ...] = tuple((usage.container,) if usage.container else None for _ in pods)
    if requested and not exact:
        chosen = [[each for each in of_pod if not isnan(_request(each, usage))] for of_pod in chosen]
        containers = tuple(
            tuple(each.name for each in of_pod) if without and of_pod else whole
            for of_pod, without, whole in zip(chosen, lacking, containers, strict=True)
        )
    ready = [condition(pod.conditions, "Ready") for pod in pods]
    return Rows(
        names=tuple((pod.namespace, pod.name) for pod in pods),
        containers=containers,
        request=_column([_total([_request(each, usage) for each in of_pod]) for of_pod in chosen]),
        limit=_column([_total([_limit(each, usage) for each in of_pod]) for of_pod in chosen]),
        phase=_codes([_phase(pod) for pod in pods]),
        ready=_codes([PodReady.NONE if each is None else _READY.get(each.status, PodReady.UNKNOWN) for each in ready]),
        started_s=_column([pod.started_s for pod in pods]),
        ready_changed_s=_column([nan if each is None else each.since_s for each in ready]),
        unrequested=tuple(pod.name for pod, without in zip(pods, lacking, strict=True) if without) if requested else (),
    )


def _request(container: Container, usage: Usage) -> float:
    resources = container.resources
    return resources.cpu_request if usage.resource == CPU else resources.memory_request


def _limit(container: Container, usage: Usage) -> float:
    resources = container.resources
    return resources.cpu_limit if usage.resource == CPU else resources.memory_limit


def _total(parts: Sequence[float]) -> float:
    """Their sum; NaN if there are none, or one of them is."""
    return sum(parts) if parts else nan


def _phase(pod: Pod) -> PodPhase:
    phase = _PHASES.get(pod.phase, PodPhase.OTHER)
    return PodPhase.DELETED if pod.leaving and phase is not PodPhase.FAILED else phase


def _column(values: Sequence[float]) -> Floats:
    return frozen(np.array(values, np.float64))


def _codes(values: Sequence[int]) -> Codes:
    return frozen(np.array(values, np.int8))


def use_of(sample: Sample | None, containers: tuple[str, ...] | None, resource: str, *, exact: bool) -> float:
    """What the sample says of these containers (None: all of it); NaN if it lacks one.

    ``exact``: each container's use is rounded up to a thousandth, as the HPA does before it adds.
    """
    if sample is None:
        return nan
    index, found = (0 if resource == CPU else 1), sample.containers
    if containers is None:
        parts = [each[index] for each in found.values()]
    elif found.keys() >= set(containers):
        parts = [found[name][index] for name in containers]
    else:
        return nan
    if exact:  # what a division left beside a whole thousandth is that thousandth
        parts = [each if isnan(each) else ceil(each * _MILLI - _DUST) / _MILLI for each in parts]
    return _total(parts)


@dataclass(frozen=True, slots=True)
class Table:
    """The pods of a call's series, flat, with what :class:`Pods` has no column for.

    ``limit[p]``; ``stale[n]``: pods whose sample is too far from now, ``newest_s[n]`` the newest sample there is (NaN: none).
    """

    pods: Pods
    limit: Floats
    stale: Ints
    newest_s: Floats


def table_of(rows: Sequence[Rows | None], uses: Sequence[float], stamps: Sequence[tuple[float, float]], at_s: float, exact: Bools) -> Table:
    """Put rows, one for each series (None: its pods do not matter), together with their samples.

    ``uses[p]`` and ``stamps[p]`` (sample's time and window) in the order of the rows. ``exact[n]``: however old, as in the HPA.
    """
    there = [each for each in rows if each is not None]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([0 if each is None else len(each.names) for each in rows], out=offsets[1:])
    owner = np.repeat(np.arange(len(rows)), np.diff(offsets))

    def joined(name: str, dtype: type[np.generic]) -> np.ndarray:
        parts = [getattr(each, name) for each in there]
        return frozen(np.concatenate(parts) if parts else np.zeros(0, dtype))

    use, started_s = np.array(uses, np.float64), joined("started_s", np.float64)
    sampled_s, window_s = np.array(stamps, np.float64).reshape(-1, 2).T
    # A pod that has taken its name over from another is younger than that one's last sample.
    wrong = (np.abs(at_s - sampled_s) > SAMPLE_MAX_S) | (sampled_s < started_s)
    old = ~exact[owner] & ~np.isnan(use) & wrong
    newest_s = full(len(rows), np.nan)
    np.fmax.at(newest_s, owner, sampled_s)
    pods = Pods(
        offsets=frozen(offsets),
        use=frozen(np.where(old, np.nan, use)),
        request=joined("request", np.float64),
        phase=joined("phase", np.int8),
        ready=joined("ready", np.int8),
        started_s=started_s,
        ready_changed_s=joined("ready_changed_s", np.float64),
        sampled_s=frozen(sampled_s),
        window_s=frozen(window_s),
    )
    return Table(pods, joined("limit", np.float64), _sums(offsets, old).astype(np.int64), frozen(newest_s))


def starting(pods: Pods, at_s: float, initialization_s: Floats | float, delay_s: Floats | float) -> Bools:
    """Whose CPU use says nothing yet ``[p]``: no condition, or not Ready while starting, or a sample that began before it was Ready.

    The HPA's rule; the two periods are its ``cpu-initialization-period`` and ``initial-readiness-delay``.
    """
    long_ago = -np.inf
    changed_s = np.where(np.isnan(pods.ready_changed_s), long_ago, pods.ready_changed_s)
    sampled_s = np.where(np.isnan(pods.sampled_s), long_ago, pods.sampled_s)
    window_s = np.where(np.isnan(pods.window_s), SAMPLE_WINDOW_S, pods.window_s)
    not_ready = pods.ready == PodReady.FALSE.value
    early = not_ready | (sampled_s < changed_s + window_s)
    never_ready = not_ready & (pods.started_s + delay_s > changed_s)
    unknown = (pods.ready == PodReady.NONE.value) | np.isnan(pods.started_s)
    found: Bools = unknown | np.where(pods.started_s + initialization_s > at_s, early, never_ready)
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """What comes of it, by series ``[n]``; NaN: not known.

    Of its ``running`` pods (not being deleted) so many ``ready`` ones, ``sampled`` and ``counted`` ones; ``covered``: the share of the
    ready ones that count.
    """

    load: Floats
    request: Floats
    age_s: Floats
    saturated: Bools
    covered: Floats
    running: Ints
    sampled: Ints
    counted: Ints
    requested: Ints


def measured(table: Table, at_s: float, cpu: Bools, utilization: Bools, judged: Bools) -> Measured:
    """Add up. ``cpu``, ``utilization`` ``[n]`` by the series' kind; ``judged``: the policy judges pods itself, so all samples count."""
    pods, offsets = table.pods, table.pods.offsets
    owner = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    running = pods.phase == PodPhase.RUNNING.value
    sampled = ~np.isnan(pods.use)
    early = cpu[owner] & starting(pods, at_s, INITIALIZATION_S, READINESS_DELAY_S)
    counts = sampled & np.where(judged[owner], pods.phase != PodPhase.GONE.value, running & ~early)
    ready = running & (pods.ready == PodReady.TRUE.value)
    has_request = counts & (pods.request > 0)
    summed = counts & (~utilization[owner] | has_request)

    count, requested = _sums(offsets, counts), _sums(offsets, has_request)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(utilization, count / requested, np.where(count > 0, 1.0, np.nan))
        use = _sums(offsets, np.where(summed, pods.use, 0.0))
        limit = _sums(offsets, np.where(summed, table.limit, 0.0))  # NaN where one of them has none
        return Measured(
            load=frozen(use * part),
            request=frozen(_sums(offsets, np.where(has_request, pods.request, 0.0)) / requested),
            age_s=frozen(_sums(offsets, np.where(counts, at_s - pods.sampled_s, 0.0)) / count),
            saturated=frozen((limit > 0) & (use >= SATURATED_SHARE * limit)),
            covered=frozen(_sums(offsets, ready & counts) / _sums(offsets, ready)),
            running=_whole(_sums(offsets, running)),
            sampled=_whole(_sums(offsets, sampled)),
            counted=_whole(count),
            requested=_whole(requested),
        )


def _sums(offsets: Ints, values: Floats | Bools) -> Floats:
    """The sum of each series' values; what is NaN spoils its own series alone."""
    if not values.size:
        return np.zeros(offsets.size - 1)
    owner = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    return np.bincount(owner, weights=values, minlength=offsets.size - 1).astype(np.float64)


def _whole(values: Floats) -> Ints:
    return frozen(values.astype(np.int64))
