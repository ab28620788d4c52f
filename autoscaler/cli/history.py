"""What Prometheus has recorded of a workload: its load, its ready pods, its pods' starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autoscaler.core.spec import Query, SeriesSpec, Usage, WorkloadSpec
from autoscaler.core.types import Floats, Workload
from autoscaler.errors import AutoscalerError, ConfigError
from autoscaler.simulation.load import Trace
from autoscaler.simulation.recorded import Startup, recorded, startup_of

if TYPE_CHECKING:
    from autoscaler.ports import MetricSource

BUDGET_S = 120.0

NO_PAST = (
    "metrics.k8s.io has no past; a metric that asks Prometheus for the same has one, "
    "such as sum(rate(container_cpu_usage_seconds_total{…}[1m])) with an averageValue"
)

_READY = {
    "Deployment": 'kube_deployment_status_replicas_ready{{namespace="{namespace}",deployment="{name}"}}',
    "StatefulSet": 'kube_statefulset_status_replicas_ready{{namespace="{namespace}",statefulset="{name}"}}',
    "ReplicaSet": 'kube_replicaset_status_ready_replicas{{namespace="{namespace}",replicaset="{name}"}}',
}
_PODS = {"Deployment": "{name}-[a-z0-9]+-[a-z0-9]{{5}}", "StatefulSet": "{name}-[0-9]+", "ReplicaSet": "{name}-[a-z0-9]{{5}}"}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of history: Unix seconds, and the distance of its rows."""

    start_s: float
    end_s: float
    step_s: float

    @property
    def days(self) -> str:
        """Its length as a range in PromQL."""
        return f"{round(self.end_s - self.start_s)}s"


@dataclass(frozen=True, slots=True)
class Column:
    """``values`` at ``at_s``, NaN where they are not known."""

    at_s: Floats
    values: Floats


@dataclass(frozen=True, slots=True)
class History:
    """The load of ``series``; ready pods, its ``saturation`` query (above 0: full) and start-up time where they are recorded.

    ``notes`` are sentences about what was assumed.
    """

    series: SeriesSpec
    trace: Trace
    pods: Column | None
    full: Column | None
    startup: Startup | None
    notes: tuple[str, ...]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MetricSource]:
    """The Prometheus at ``url``; credentials come from the settings' environment, as for ``autoscaler run``."""
    from pathlib import Path

    from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
    from autoscaler.adapters.telemetry import PrometheusRecorder
    from autoscaler.settings import load

    settings = load({"policies": (Path(),), "prometheus": {"default": {"url": url}}}, None)
    source = PrometheusSource({"default": Endpoint(**settings.endpoints()["default"])}, PrometheusRecorder())
    try:
        yield source
    finally:
        await source.close()


async def fetch(source: MetricSource, spec: WorkloadSpec, metric: str | None, span: Span) -> History:
    """The history of one metric of the policy. Raises ConfigError where it says nothing that can be simulated."""
    series, trace, notes = await _load(source, spec, metric, span)
    pods = await ready_pods(source, spec.workload, span)
    full = await _saturation(source, series, span)
    if full is None and pods is None:
        notes.append("how many pods were ready is not recorded (no kube-state-metrics): saturated stretches cannot be found")
    startup, unread = await _startup(source, spec.workload, span)
    return History(series, trace, pods, full, startup, (*notes, *unread))


async def _saturation(source: MetricSource, series: SeriesSpec, span: Span) -> Column | None:
    if series.saturation is None:
        return None
    return await one_column(source, f"saturation of metric {series.name}", series.saturation.text, span, series.saturation_match)


async def _load(source: MetricSource, spec: WorkloadSpec, metric: str | None, span: Span) -> tuple[SeriesSpec, Trace, list[str]]:
    """The first metric that has history, as a trace; what became of the others is in the notes."""
    notes: list[str] = []
    chosen: tuple[SeriesSpec, Trace] | None = None
    for series in wanted(spec, metric):
        if isinstance(series.query, Usage):
            notes.append(f"metric {series.name} is left out: {NO_PAST}")
            continue
        column = await one_column(source, f"metric {series.name}", series.query.text, span, series.match)
        if column is None:
            notes.append(f"metric {series.name} has no history and is left out: its query returns nothing in this time")
        elif chosen is None:
            trace = recorded(f"metric {series.name}", column.at_s, column.values, span.start_s)
            chosen = series, trace
        else:
            notes.append(f"metric {series.name} is left out: one load is simulated, that of {chosen[0].name}; --metric chooses another")
    if chosen is None:
        names = ", ".join(f"{series.name}: {series.query.text}" for series in wanted(spec, metric))
        raise ConfigError(f"{spec.workload}: none of its metrics has any history in the last {span.days} ({names})")
    return *chosen, notes


def promql(series: SeriesSpec) -> str:
    """The query of a metric. Raises ConfigError where nobody keeps its past."""
    if isinstance(series.query, Usage):
        raise ConfigError(f"metric {series.name}: {NO_PAST}")
    return series.query.text


def wanted(spec: WorkloadSpec, metric: str | None) -> Sequence[SeriesSpec]:
    """The metric of that name, or all. Raises ConfigError for a name that is none of the policy's."""
    if metric is None:
        return spec.series
    found = [series for series in spec.series if series.name == metric]
    if not found:
        known = ", ".join(series.name for series in spec.series)
        raise ConfigError(f"--metric {metric}: {spec.workload} has no such metric; its metrics: {known}")
    return found


async def one_column(source: MetricSource, name: str, text: str, span: Span, match: Sequence[tuple[str, str]] = ()) -> Column | None:
    """The history of a query's one series with the labels ``match``; None if it has none. Raises ConfigError if it has several."""
    answer = await source.range(Query(text), span.start_s, span.end_s, span.step_s, BUDGET_S)
    found = [k for k, labels in enumerate(answer.labels) if set(match) <= set(labels.items())]
    if len(found) > 1:
        shown = "; ".join(_labels(answer.labels[k]) for k in found[:3])
        more = ", …" if len(found) > 3 else ""  # noqa: PLR2004 - a few are enough to see the difference
        raise ConfigError(f"{name}: the query returns {len(found)} series ({shown}{more}), expected one; put sum(...) around it: {text}")
    if not found or np.isnan(answer.values[:, found[0]]).all():
        return None
    return Column(answer.at_s, answer.values[:, found[0]])


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


async def ready_pods(source: MetricSource, workload: Workload, span: Span, text: str | None = None) -> Column | None:
    """How many pods were ready, by ``text`` or as kube-state-metrics counts them; None where nobody did."""
    if text is None:
        if workload.kind not in _READY:
            return None
        text = f"max({_READY[workload.kind].format(namespace=workload.namespace, name=workload.name)})"
    return await one_column(source, "ready pods", text, span)


async def _startup(source: MetricSource, workload: Workload, span: Span) -> tuple[Startup | None, list[str]]:
    """From the times that kube-state-metrics has of each pod, made and first ready; and what could not be asked."""
    if workload.kind not in _PODS:
        return None, []
    pods = _PODS[workload.kind].format(name=workload.name.replace(".", "[.]"))
    chosen = f'{{namespace="{workload.namespace}",pod=~"{pods}"}}[{span.days}]'
    made, ready = (f"min by (pod) (min_over_time({name}{chosen}))" for name in ("kube_pod_created", "kube_pod_status_ready_time"))
    try:
        created = await source.instant(Query(made), span.end_s, BUDGET_S)
        took = await source.instant(Query(f"{ready} - {made}"), span.end_s, BUDGET_S)
    except AutoscalerError as error:  # the load is known, and this only says more than what is assumed instead
        return None, [f"recorded pod starts could not be read: {error}"]
    when = {labels.get("pod", ""): value for labels, value in zip(created.labels, created.values.tolist(), strict=True)}
    taken = {labels.get("pod", ""): value for labels, value in zip(took.labels, took.values.tolist(), strict=True)}
    return startup_of(np.array([taken[pod] for pod in sorted(taken, key=lambda pod: when.get(pod, 0.0))])), []
