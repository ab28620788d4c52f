"""A Recorder that tests can ask: strict about kinds and labels, and nothing is forgotten."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from autoscaler.metrics import Kind, Metric

Labels = tuple[str, ...]


class MemoryRecorder:
    """Implements :class:`autoscaler.ports.Recorder` in memory.

    >>> from autoscaler import metrics
    >>> recorder = MemoryRecorder()
    >>> recorder.add(metrics.WRITES, "ok")
    >>> recorder.value(metrics.WRITES, "ok"), recorder.value(metrics.WRITES, "stale")
    (1.0, None)
    """

    def __init__(self) -> None:
        self._values: dict[tuple[Metric, Labels], float] = {}
        self._observed: dict[tuple[Metric, Labels], list[float]] = defaultdict(list)
        self._rows: dict[Metric, list[Callable[[], Iterable[tuple[Labels, float]]]]] = defaultdict(list)

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Count something."""
        key = _key(metric, Kind.COUNTER, labels)
        self._values[key] = self._values.get(key, 0.0) + amount

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        self._values[_key(metric, Kind.GAUGE, labels)] = value

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Put a value into a histogram."""
        self._observed[_key(metric, Kind.HISTOGRAM, labels)].append(value)

    def collect(self, metric: Metric, rows: Callable[[], Iterable[tuple[Labels, float]]]) -> None:
        """Ask ``rows`` whenever a test reads the gauge."""
        self._rows[metric].append(rows)

    def value(self, metric: Metric, *labels: str) -> float | None:
        """The counter's or gauge's value now; None if nobody has counted, set or reported it."""
        return self.values(metric).get(labels)

    def values(self, metric: Metric) -> dict[Labels, float]:
        """Every value of a counter or gauge now, by its labels."""
        found = {labels: value for (of, labels), value in self._values.items() if of == metric}
        for rows in self._rows[metric]:
            found.update({_key(metric, Kind.GAUGE, labels)[1]: value for labels, value in rows()})
        return found

    def observed(self, metric: Metric, *labels: str) -> list[float]:
        """Everything that was put into the histogram, in order."""
        return list(self._observed[metric, labels])


def _key(metric: Metric, kind: Kind, labels: Labels) -> tuple[Metric, Labels]:
    if metric.kind is not kind or len(labels) != len(metric.labels):
        raise AssertionError(f"{metric.name} is a {metric.kind.value} with labels {metric.labels}; used as a {kind.value} with {labels}")
    return metric, labels
