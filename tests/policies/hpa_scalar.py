"""One metric of one HPA in plain Python: dictionaries by pod, whole thousandths. Written from the rules, not from the columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, nan

from autoscaler.core.types import MetricType, PodPhase, PodReady, TargetKind


@dataclass(frozen=True)
class Pod:
    """``use`` and ``request`` in thousandths, None: no sample, no request; times in seconds, None: not set."""

    use: int | None = 500
    request: int | None = 1000
    phase: PodPhase = PodPhase.RUNNING
    ready: PodReady = PodReady.TRUE
    started_s: float | None = -3600.0
    changed_s: float | None = -3500.0
    sampled_s: float | None = -10.0
    window_s: float | None = 30.0


@dataclass(frozen=True)
class Metric:
    """``target`` in thousandths, or in per cent; ``load`` in thousandths, for metrics of the whole workload."""

    type: MetricType
    kind: TargetKind
    target: int
    load: int = 0


@dataclass(frozen=True)
class Place:
    """What else the HPA knows: counts, tolerance, and its two periods."""

    current: int
    status: int
    up: float = 0.1
    down: float = 0.1
    initialization_s: float = 300.0
    delay_s: float = 30.0

    def tolerates(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def wanted(metric: Metric, pods: list[Pod], place: Place) -> float:
    """The replicas that the HPA asks for by this metric; NaN where it reports an error. Now is second 0."""
    if metric.type is not MetricType.EXTERNAL:
        return _by_pods(metric, pods, place)
    if metric.kind is TargetKind.AVERAGE_VALUE:
        expected = metric.target * place.status
        if expected and place.tolerates(metric.load / expected):
            return place.status
        return ceil(metric.load / metric.target)
    ratio = metric.load / metric.target
    if place.current == 0:
        return ceil(ratio)
    if place.tolerates(ratio):
        return place.current
    listed = [pod for pod in pods if pod.phase is not PodPhase.GONE]
    serving = [pod for pod in listed if pod.phase in {PodPhase.RUNNING, PodPhase.DELETED} and pod.ready is PodReady.TRUE]
    return ceil(ratio * len(serving)) if listed else nan


def unready(pod: Pod, place: Place) -> bool:
    """Whether the CPU use of a running pod with a sample says nothing yet."""
    if pod.ready is PodReady.NONE or pod.started_s is None:
        return True
    long_ago = float("-inf")
    changed_s = long_ago if pod.changed_s is None else pod.changed_s
    sampled_s = long_ago if pod.sampled_s is None else pod.sampled_s
    if pod.started_s + place.initialization_s > 0:
        return pod.ready is PodReady.FALSE or sampled_s < changed_s + (60.0 if pod.window_s is None else pod.window_s)
    return pod.ready is PodReady.FALSE and pod.started_s + place.delay_s > changed_s


def _by_pods(metric: Metric, pods: list[Pod], place: Place) -> float:
    listed = {name: pod for name, pod in enumerate(pods) if pod.phase is not PodPhase.GONE}
    kinds = {name: _kind(metric, pod, place) for name, pod in listed.items()}
    counted = [name for name, kind in kinds.items() if kind == "counted"]
    late = [name for name, kind in kinds.items() if kind == "unready"]
    silent = [name for name, kind in kinds.items() if kind == "missing"]
    samples = {name: pod.use for name, pod in enumerate(pods) if pod.use is not None and (name in counted or name not in listed)}
    if not samples or not listed:
        return nan
    ratio_of = _mean(metric)
    if metric.kind is TargetKind.UTILIZATION:
        requests = {name: pod.request for name, pod in listed.items() if pod.request is not None}
        if len(requests) < len(listed):
            return nan
        ratio_of = _utilization(metric, requests)
    ratio = ratio_of(samples)
    if ratio is None:
        return nan
    if not silent and not (late and ratio > 1):
        return place.current if place.tolerates(ratio) else ceil(ratio * len(counted))
    if ratio < 1:
        samples |= {name: _full(metric, listed[name]) for name in silent}
    if ratio > 1:
        samples |= dict.fromkeys([*silent, *late], 0)
    return _second_look(ratio, ratio_of(samples), len(samples), place)


def _kind(metric: Metric, pod: Pod, place: Place) -> str:
    if pod.phase in {PodPhase.DELETED, PodPhase.FAILED}:
        return "ignored"
    if pod.phase is PodPhase.PENDING:
        return "unready"
    if pod.use is None:
        return "missing"
    return "unready" if metric.type is MetricType.CPU and unready(pod, place) else "counted"


def _full(metric: Metric, pod: Pod) -> int:
    """What a pod without a sample is taken to use, on the way down."""
    return metric.target if metric.kind is not TargetKind.UTILIZATION else (pod.request or 0) * max(100, metric.target) // 100


def _second_look(ratio: float, again: float | None, pods: int, place: Place) -> float:
    assert again is not None
    if place.tolerates(again) or (ratio < 1 < again) or (ratio > 1 > again):
        return place.current
    asked = ceil(again * pods)
    if (again < 1 and asked > place.current) or (again > 1 and asked < place.current):
        return place.current
    return asked


def _mean(metric: Metric) -> Callable[[dict[int, int]], float | None]:
    def ratio(samples: dict[int, int]) -> float | None:
        return (sum(samples.values()) // len(samples)) / metric.target

    return ratio


def _utilization(metric: Metric, requests: dict[int, int]) -> Callable[[dict[int, int]], float | None]:
    def ratio(samples: dict[int, int]) -> float | None:
        requested = sum(requests[name] for name in samples if name in requests)
        used = sum(use for name, use in samples.items() if name in requests)
        return (100 * used // requested) / metric.target if requested else None

    return ratio
