"""Our own metrics as Prometheus reads them: parsed back with the reference parsers of both formats."""

import asyncio
from collections.abc import Callable, Iterable
from math import inf, nan

import numpy as np
import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from autoscaler import metrics
from autoscaler.adapters.telemetry import PrometheusRecorder
from autoscaler.metrics import METRICS, Kind, Metric
from autoscaler.ports import Recorder
from autoscaler.testing.recorder import MemoryRecorder

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS_ASKS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
UNKNOWN = Metric("autoscaler_nowhere_total", Kind.COUNTER, "Not in the list.", "None.")


async def page(recorder: PrometheusRecorder, accept: str = "") -> str:
    body, _ = await recorder.render(accept)
    return body.decode()


async def samples(recorder: PrometheusRecorder, name: str) -> dict[tuple[str, ...], float]:
    """Samples of that name by their label values, in the order of the label names."""
    found: list[Sample] = [sample for family in parse_text(await page(recorder)) for sample in family.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in found}


def record(recorder: Recorder, metric: Metric) -> None:
    labels = [f"value of {name}" for name in metric.labels]
    match metric.kind:
        case Kind.COUNTER:
            recorder.add(metric, *labels)
        case Kind.GAUGE:
            recorder.set(metric, *labels, value=1.5)
        case Kind.HISTOGRAM:
            recorder.observe(metric, *labels, value=0.03)


@pytest.mark.parametrize(
    ("accept", "parse"),
    [pytest.param("text/plain", parse_text, id="text"), pytest.param(OPEN_METRICS, parse_open_metrics, id="openmetrics")],
)
async def test_every_metric_is_told_with_its_meaning_and_labels(accept: str, parse: Callable[[str], Iterable[Family]]) -> None:
    recorder = PrometheusRecorder()
    for metric in METRICS:
        record(recorder, metric)
    families = {family.name: family for family in parse(await page(recorder, accept))}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind.value, metric.meaning)
        assert {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples} == {tuple(sorted(metric.labels))}
    assert [name for name in families if name.endswith("_created")] == []
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info", "python_gc_collections"} <= families.keys()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param("", "text/plain; version=0.0.4; charset=utf-8", id="none"),
        pytest.param("*/*", "text/plain; version=0.0.4; charset=utf-8", id="any"),
        pytest.param("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; version=0.0.4; charset=utf-8", id="browser"),
        pytest.param(PROMETHEUS_ASKS, "application/openmetrics-text; version=1.0.0; charset=utf-8", id="prometheus"),
        pytest.param("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8", id="any-version"),
        pytest.param("application/openmetrics-text;version=9", "text/plain; version=0.0.4; charset=utf-8", id="unknown-version"),
        pytest.param("application/openmetrics-text;version=1.x", "text/plain; version=0.0.4; charset=utf-8", id="odd-version"),
        pytest.param(";;=,application/openmetrics-text;;q", "application/openmetrics-text; version=1.0.0; charset=utf-8", id="odd-header"),
    ],
)
async def test_format_is_negotiated(accept: str, content_type: str) -> None:
    body, found = await PrometheusRecorder().render(accept)
    assert found == content_type
    assert body.endswith(b"# EOF\n") is content_type.startswith("application/openmetrics")


async def test_counters_add_up_by_label() -> None:
    recorder = PrometheusRecorder()
    recorder.add(metrics.WRITES, "ok")
    recorder.add(metrics.WRITES, "ok", amount=2)
    recorder.add(metrics.WRITES, "stale", amount=0)
    assert await samples(recorder, "autoscaler_writes_total") == {("ok",): 3, ("stale",): 0}


async def test_histograms_have_the_declared_buckets() -> None:
    recorder = PrometheusRecorder()
    for value in (0.0004, 0.03, 99):
        recorder.observe(metrics.TICK_SECONDS, "15", value=value)
    buckets = await samples(recorder, "autoscaler_tick_duration_seconds_bucket")
    assert [float(le) for _, le in buckets] == [*metrics.TICK_SECONDS.buckets, inf]
    assert [buckets["15", le] for le in ("0.001", "0.025", "0.05", "10.0", "+Inf")] == [1, 1, 2, 2, 3]


async def test_a_gauge_that_nobody_set_is_absent_rather_than_zero() -> None:
    recorder = PrometheusRecorder()
    assert await samples(recorder, "autoscaler_config_last_reload_successful") == {}
    recorder.set(metrics.CONFIG_RELOAD_OK, value=0)
    assert await samples(recorder, "autoscaler_config_last_reload_successful") == {(): 0}


async def test_unknown_is_nan() -> None:
    recorder = PrometheusRecorder()
    recorder.set(metrics.WATCH_AGE, "pods", value=nan)
    assert 'autoscaler_watch_age_seconds{resource="pods"} NaN\n' in await page(recorder)


async def test_labels_are_escaped() -> None:
    recorder = PrometheusRecorder()
    recorder.add(metrics.POLICY_FAULTS, 'my "own"\\policy\nautoscaler_forged 1')
    assert await samples(recorder, "autoscaler_policy_faults_total") == {('my "own"\\policy\nautoscaler_forged 1',): 1}
    assert await samples(recorder, "autoscaler_forged") == {}


async def test_columns_are_asked_for_when_read() -> None:
    recorder, members, demand = PrometheusRecorder(), ["web", "api"], np.array([1.5, nan])
    recorder.collect(
        metrics.DEMAND, lambda: ((("shop", "Deployment", name), float(value)) for name, value in zip(members, demand, strict=True))
    )
    first = await samples(recorder, "autoscaler_demand_replicas")
    assert first["Deployment", "web", "shop"] == 1.5
    assert np.isnan(first["Deployment", "api", "shop"])
    members.pop()
    demand = np.array([7.0])
    assert await samples(recorder, "autoscaler_demand_replicas") == {("Deployment", "web", "shop"): 7}


async def test_several_may_serve_one_gauge_and_the_last_word_holds() -> None:
    recorder = PrometheusRecorder()
    recorder.set(metrics.WORKLOADS, "5", value=1)
    recorder.set(metrics.WORKLOADS, "15", value=1)
    recorder.collect(metrics.WORKLOADS, lambda: [(("15",), 2), (("30",), 2)])
    recorder.collect(metrics.WORKLOADS, lambda: [(("30",), 3)])
    assert await samples(recorder, "autoscaler_workloads") == {("5",): 1, ("15",): 2, ("30",): 3}


async def test_values_are_those_of_one_moment() -> None:
    """The loop goes on while the text is written; what it changes then is for the next page."""
    recorder, count = PrometheusRecorder(), 0
    recorder.collect(metrics.WORKLOADS, lambda: [((f"{k}",), count) for k in range(2000)])
    rendering = asyncio.create_task(recorder.render())
    await asyncio.sleep(0)
    count = 1
    body, _ = await rendering
    values = {sample.value for family in parse_text(body.decode()) for sample in family.samples if sample.name == "autoscaler_workloads"}
    assert values == {0}


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        pytest.param(lambda r: r.add(metrics.WRITES), r"autoscaler_writes_total.*expected labels \('outcome',\), got \(\)", id="too-few"),
        pytest.param(lambda r: r.add(metrics.WRITES, "a", "b"), r"autoscaler_writes_total.*got \('a', 'b'\)", id="too-many"),
        pytest.param(
            lambda r: r.set(metrics.CONFIG_RELOAD_OK, "a", value=1), r"autoscaler_config_last_reload.*expected labels \(\)", id="none"
        ),
        pytest.param(
            lambda r: r.observe(metrics.TICK_SECONDS, value=1), "autoscaler_tick_duration_seconds.*expected labels", id="histogram"
        ),
        pytest.param(lambda r: r.add(metrics.WORKLOADS, "5"), "autoscaler_workloads is a gauge, not a counter", id="kind-of-add"),
        pytest.param(lambda r: r.set(metrics.WRITES, "ok", value=1), "autoscaler_writes_total is a counter, not a gauge", id="kind-of-set"),
        pytest.param(lambda r: r.observe(metrics.WRITES, "ok", value=1), "is a counter, not a histogram", id="kind-of-observe"),
        pytest.param(lambda r: r.collect(metrics.WRITES, list), "is a counter, not a gauge", id="kind-of-collect"),
        pytest.param(lambda r: r.add(UNKNOWN), "autoscaler_nowhere_total is not in autoscaler.metrics.METRICS", id="unknown"),
        pytest.param(lambda r: r.add(metrics.WRITES, "ok", amount=-1), "autoscaler_writes_total.*from 0 up, got -1", id="negative"),
        pytest.param(lambda r: r.add(metrics.WRITES, "ok", amount=nan), "autoscaler_writes_total.*got nan", id="counter-nan"),
        pytest.param(
            lambda r: r.observe(metrics.TICK_SECONDS, "5", value=nan), "autoscaler_tick_duration.*finite.*got nan", id="histogram-nan"
        ),
    ],
)
async def test_misuse_names_the_metric_and_leaves_no_trace(misuse: Callable[[PrometheusRecorder], None], said: str) -> None:
    recorder = PrometheusRecorder()
    with pytest.raises(ValueError, match=said):
        misuse(recorder)
    assert await samples(recorder, "autoscaler_writes_total") in ({}, {("ok",): 0})


async def test_rows_with_the_wrong_labels_name_the_metric() -> None:
    recorder = PrometheusRecorder()
    recorder.collect(metrics.WORKLOADS, lambda: [(("a", "b"), 1.0)])
    with pytest.raises(ValueError, match=r"autoscaler_workloads: expected labels \('interval',\), got \('a', 'b'\)"):
        await recorder.render()


async def test_recorders_do_not_share() -> None:
    one, other = PrometheusRecorder(), PrometheusRecorder()
    one.add(metrics.WRITES, "ok")
    assert await samples(other, "autoscaler_writes_total") == {}


def test_memory_recorder_tells_what_was_recorded() -> None:
    recorder = MemoryRecorder()
    for metric in METRICS:
        record(recorder, metric)
    recorder.collect(metrics.WORKLOADS, lambda: [(("5",), 2.0)])
    recorder.add(metrics.WRITES, "ok", amount=2)
    recorder.add(metrics.WRITES, "ok")
    assert recorder.values(metrics.WORKLOADS) == {("value of interval",): 1.5, ("5",): 2.0}
    assert (recorder.value(metrics.WRITES, "ok"), recorder.value(metrics.WRITES, "lost")) == (3, None)
    assert recorder.observed(metrics.TICK_SECONDS, "value of interval") == [0.03]


@pytest.mark.parametrize(
    "misuse",
    [
        pytest.param(lambda r: r.add(metrics.WRITES), id="labels"),
        pytest.param(lambda r: r.set(metrics.WRITES, "ok", value=1), id="kind"),
        pytest.param(lambda r: (r.collect(metrics.WORKLOADS, lambda: [((), 1.0)]), r.values(metrics.WORKLOADS)), id="rows"),
    ],
)
def test_memory_recorder_is_strict(misuse: Callable[[MemoryRecorder], object]) -> None:
    with pytest.raises(AssertionError, match="autoscaler_w"):
        misuse(MemoryRecorder())
