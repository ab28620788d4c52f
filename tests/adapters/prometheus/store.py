"""What a Prometheus would answer to a bare metric name, over the wire of the fault server."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf, isnan

from autoscaler.testing.sources import Series
from tests.adapters.prometheus.server import Exchange, refusal, reply, success

LOOKBACK_S = 300.0
POINTS_MAX = 11_000


class Store:
    """Answers /api/v1/query and /api/v1/query_range as Prometheus does, limits included; the query is a metric's name."""

    def __init__(self, series: Sequence[Series] = (), samples_max: int = 50_000_000) -> None:
        self.series = series
        self.samples_max = samples_max

    def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        params = exchange.request.params
        found = [series for series in self.series if series.name == params["query"]]
        if exchange.request.path.endswith("/query_range"):
            reply(*self._range(found, float(params["start"]), float(params["end"]), float(params["step"])))(exchange)
        else:
            reply(200, success("vector", _instant(found, float(params["time"]))))(exchange)

    def _range(self, found: Sequence[Series], start_s: float, end_s: float, step_s: float) -> tuple[int, bytes]:
        points = int((end_s - start_s) / step_s) + 1
        if points > POINTS_MAX:
            return 400, refusal("bad_data", f"exceeded maximum resolution of {POINTS_MAX:,} points per timeseries")
        if points * len(found) > self.samples_max:
            return 422, refusal("execution", "query processing would load too many samples into memory in query execution")
        result = []
        for series in found:
            seen = [(start_s + step_s * row, _at(series, start_s + step_s * row)) for row in range(points)]
            values = [[at_s, _text(value)] for at_s, value in seen if value is not None]
            if values:
                result.append({"metric": _metric(series), "values": values})
        return 200, success("matrix", result)


def _instant(found: Sequence[Series], at_s: float) -> list[dict[str, object]]:
    values = [(series, _at(series, at_s)) for series in found]
    return [{"metric": _metric(series), "value": [at_s, _text(value)]} for series, value in values if value is not None]


def _metric(series: Series) -> dict[str, str]:
    return {"__name__": series.name, **dict(series.labels)}


def _at(series: Series, at_s: float) -> float | None:
    """The newest sample within the look-back."""
    newest = int((at_s - series.start_s) // series.step_s)
    for index in range(min(newest, len(series.values) - 1), -1, -1):
        if series.start_s + index * series.step_s <= at_s - LOOKBACK_S:
            break
        value = series.values[index]
        if value is not None:
            return value
    return None


def _text(value: float) -> str:
    if isnan(value):
        return "NaN"
    return ("+Inf" if value > 0 else "-Inf") if isinf(value) else repr(value)
