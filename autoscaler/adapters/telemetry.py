"""The service's own metrics as a Prometheus page: the port Recorder on `prometheus_client`, with a registry of its own.

Gauges are plain dictionaries here, not `prometheus_client`'s: a gauge that nobody has set yet must be absent rather than 0, and
per-workload gauges are asked for when somebody reads the page, so that a workload that left is gone with its columns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPEN_METRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from autoscaler.metrics import METRICS, Kind, Metric

Labels = tuple[str, ...]
Rows = Callable[[], Iterable[tuple[Labels, float]]]


class PrometheusRecorder:
    """Implements :class:`autoscaler.ports.Recorder` for everything in :data:`autoscaler.metrics.METRICS`.

    Every method raises ValueError at once, naming the metric, if it is of another kind, unknown, or the labels do not fit.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters = {metric.name: Counter(metric.name, metric.meaning, metric.labels, registry=None) for metric in _of(Kind.COUNTER)}
        self._histograms = {
            metric.name: Histogram(metric.name, metric.meaning, metric.labels, registry=None, buckets=metric.buckets)
            for metric in _of(Kind.HISTOGRAM)
        }
        self._gauges = _Gauges()
        for wrapped in (*self._counters.values(), *self._histograms.values()):
            self._registry.register(wrapped)
        self._registry.register(self._gauges)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._counting: dict[tuple[str, Labels], Counter] = {}
        self._observing: dict[tuple[str, Labels], Histogram] = {}

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Count something; ``amount`` is finite and not negative."""
        child = self._counting.get((metric.name, labels))
        if child is None:
            _check(metric, Kind.COUNTER, labels)
            parent = self._counters[metric.name]
            child = self._counting[metric.name, labels] = parent.labels(*labels) if labels else parent
        if not (isfinite(amount) and amount >= 0):
            raise ValueError(f"metric {metric.name}: a counter takes finite amounts from 0 up, got {amount}")
        child.inc(amount)

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge; NaN says that the value is not known."""
        _check(metric, Kind.GAUGE, labels)
        self._gauges.values[metric.name][labels] = value

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Put a finite value into a histogram."""
        child = self._observing.get((metric.name, labels))
        if child is None:
            _check(metric, Kind.HISTOGRAM, labels)
            parent = self._histograms[metric.name]
            child = self._observing[metric.name, labels] = parent.labels(*labels) if labels else parent
        if not isfinite(value):
            raise ValueError(f"metric {metric.name}: a histogram takes finite values, got {value}")
        child.observe(value)

    def collect(self, metric: Metric, rows: Rows) -> None:
        """Ask ``rows`` whenever somebody reads the gauge. Several may serve one gauge; for equal labels the last one holds."""
        _check(metric, Kind.GAUGE, ("",) * len(metric.labels))
        self._gauges.rows[metric.name].append(rows)

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics if the ``Accept`` header asks for it, else Prometheus' text format.

        The values are read here and now, on the loop that owns them; only turning them into text happens in a thread, because
        ten thousand workloads are a quarter of a second of it.
        """
        snapshot = _Snapshot([_without_created(family) for family in self._registry.collect()])
        if _wants_open_metrics(accept):
            return await asyncio.to_thread(generate_open_metrics, snapshot), OPEN_METRICS
        return await asyncio.to_thread(generate_latest, snapshot), CONTENT_TYPE_PLAIN_0_0_4


class _Gauges:
    """A collector of every gauge: what was set, then what the rows say."""

    def __init__(self) -> None:
        self.values: Mapping[str, dict[Labels, float]] = {metric.name: {} for metric in _of(Kind.GAUGE)}
        self.rows: Mapping[str, list[Rows]] = {metric.name: [] for metric in _of(Kind.GAUGE)}

    def describe(self) -> Iterable[Family]:
        return [_family(metric) for metric in _of(Kind.GAUGE)]

    def collect(self) -> Iterable[Family]:
        for metric in _of(Kind.GAUGE):
            family = _family(metric)
            samples = dict(self.values[metric.name])
            for rows in self.rows[metric.name]:
                samples.update(rows())
            for labels, value in samples.items():
                _check(metric, Kind.GAUGE, labels)
                family.add_metric(labels, value)
            yield family


class _Snapshot:
    """What the encoders want of a registry, with the values of one moment."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _wants_open_metrics(accept: str) -> bool:
    """Whether the header names OpenMetrics in a version that we write; the library's own reader fails on odd versions."""
    for choice in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in choice.split(";"))
        if kind == "application/openmetrics-text":
            versions = [part.partition("=")[2] for part in parameters if part.startswith("version=")]
            if versions in ([], ["1.0.0"]):
                return True
    return False


def _of(kind: Kind) -> list[Metric]:
    return [metric for metric in METRICS if metric.kind is kind]


def _family(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)


def _without_created(family: Family) -> Family:
    """Drop the creation times: Prometheus would store each as a series of its own, as many as there are counters."""
    if family.type in {"counter", "histogram"}:
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return family


_KNOWN = frozenset(metric.name for metric in METRICS)


def _check(metric: Metric, kind: Kind, labels: Labels) -> None:
    if metric.kind is not kind:
        raise ValueError(f"metric {metric.name} is a {metric.kind.value}, not a {kind.value}")
    if len(labels) != len(metric.labels):
        raise ValueError(f"metric {metric.name}: expected labels {metric.labels}, got {labels}")
    if metric.name not in _KNOWN:
        raise ValueError(f"metric {metric.name} is not in autoscaler.metrics.METRICS, so nobody would see it")
