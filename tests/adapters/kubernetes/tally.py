"""A Recorder that can be asked what it was told."""

from collections import Counter
from collections.abc import Callable, Iterable

from autoscaler.metrics import Metric

Rows = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Tally:
    """Counts by metric and labels; gauges that are asked for by metric."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.rows: dict[str, Rows] = {}

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        self.counts[(metric.name, *labels)] += int(amount)

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        raise AssertionError(f"nobody sets {metric.name}{labels} to {value} here")

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        raise AssertionError(f"nobody observes {metric.name}{labels}: {value} here")

    def collect(self, metric: Metric, rows: Rows) -> None:
        self.rows[metric.name] = rows

    def of(self, metric: Metric) -> dict[tuple[str, ...], int]:
        """What was counted for one metric, by labels."""
        return {labels: count for (name, *labels_), count in self.counts.items() if name == metric.name and (labels := tuple(labels_))}
