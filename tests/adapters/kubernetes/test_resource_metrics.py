"""What pods use, as metrics.k8s.io has it: how it is read, and what each fault of it is told as."""

from collections.abc import Mapping
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.resource_metrics import ENDPOINT, KubernetesResourceMetrics, duration, quantity
from autoscaler.clock import SystemClock
from autoscaler.core.health.facts import Condition, Container, Pod, Resources
from autoscaler.core.spec import Usage
from autoscaler.core.types import PodReady
from autoscaler.core.usage import Sample, rows_of, table_of, use_of
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.metrics import QUERY_SECONDS
from autoscaler.policyfile.quantities import parse_quantity
from autoscaler.testing.recorder import MemoryRecorder
from policies._hpa_pods import milli
from tests.adapters.kubernetes.fault_server import FaultServer, Json, Step, answer, drip, page, reset, silence, status
from tests.adapters.kubernetes.reflecting import client_of
from tests.cluster.hpa.cases import NAMESPACE, Metric, cases
from tests.cluster.hpa.follow import _pods as pods_of
from tests.cluster.hpa.follow import _row as row_of
from tests.cluster.hpa.world import Pod as WorldPod
from tests.cluster.hpa.world import World

PATH = "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods"
AT_S = 1_795_510_800.0


def pod(name: str = "web-1", **changes: Any) -> Json:  # noqa: ANN401 - fields of PodMetrics
    usage = {"cpu": "12345678n", "memory": "32768Ki"}
    return {
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": "2026-11-24T09:00:01Z", "labels": {"app": "web"}},
        "timestamp": "2026-11-24T09:00:00Z",
        "window": "15.012s",
        "containers": [{"name": "app", "usage": usage}],
        **changes,
    }


def pods(*items: Json) -> Step:
    return answer({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": list(items)})


async def asked(folder: Path, step: Step, namespace: str = "shop", budget_s: float = 5.0) -> tuple[Mapping[tuple[str, str], Sample], str]:
    """The answer to one question to a server that answers so, and the path that was asked."""
    async with FaultServer(SystemClock()) as server, client_of(server, folder) as client:
        for path in (PATH, "/apis/metrics.k8s.io/v1beta1/pods"):
            server.script(f"GET {path}", step)
        found = await KubernetesResourceMetrics(client, MemoryRecorder()).usage(namespace, budget_s)
        return found, server.seen[-1].path


@pytest.mark.parametrize(
    ("item", "sample"),
    [
        pytest.param(pod(), Sample(AT_S, 15.012, {"app": (0.012345678, 32768 * 1024.0)}), id="as-metrics-server-writes-it"),
        pytest.param(
            pod(containers=[{"name": "a", "usage": {"cpu": "1"}}, {"name": "b", "usage": {"memory": "1Mi"}}]),
            Sample(AT_S, 15.012, {"a": (1.0, nan), "b": (nan, 2.0**20)}),
            id="parts-missing",
        ),
        pytest.param(pod(timestamp=None, window="", containers=None), Sample(nan, nan, {}), id="nothing-said"),
        pytest.param(pod(containers=[{"name": "app"}]), Sample(AT_S, 15.012, {"app": (nan, nan)}), id="no-usage"),
        pytest.param(
            pod(timestamp="yesterday", window="soon", containers=[{"name": "app", "usage": {"cpu": "lots", "memory": "-"}}]),
            Sample(nan, nan, {"app": (nan, nan)}),
            id="nonsense-is-not-known",
        ),
    ],
)
async def test_a_sample(tmp_path: Path, item: Json, sample: Sample) -> None:
    found, _ = await asked(tmp_path, pods(item))
    assert list(found) == [("shop", "web-1")]
    got = found["shop", "web-1"]
    assert (got.at_s, got.window_s) == pytest.approx((sample.at_s, sample.window_s), nan_ok=True)
    assert list(got.containers) == list(sample.containers)
    for name, use in sample.containers.items():
        assert got.containers[name] == pytest.approx(use, nan_ok=True)


@pytest.mark.parametrize(
    ("namespace", "path"), [pytest.param("shop", PATH, id="one"), pytest.param("", "/apis/metrics.k8s.io/v1beta1/pods", id="all")]
)
async def test_where_it_asks(tmp_path: Path, namespace: str, path: str) -> None:
    assert (await asked(tmp_path, pods(pod("a"), pod("b")), namespace))[1] == path


async def test_no_pods(tmp_path: Path) -> None:
    assert (await asked(tmp_path, answer({"items": None})))[0] == {}


@pytest.mark.parametrize(
    ("step", "kind", "words", "outcome"),
    [
        pytest.param(
            status(404, "NotFound", "the server could not find the requested resource"),
            PermanentError,
            ["404", "this cluster does not serve metrics.k8s.io: is metrics-server installed?"],
            "refused",
            id="404",
        ),
        pytest.param(
            status(403, "Forbidden"),
            PermanentError,
            ['a Role in namespace shop with {apiGroups: ["metrics.k8s.io"], resources: ["pods"], verbs: ["list"]}'],
            "refused",
            id="403",
        ),
        pytest.param(status(401, "Unauthorized"), PermanentError, ["renew the token or certificate"], "refused", id="401"),
        pytest.param(
            status(503, "ServiceUnavailable", "the server is currently unable to handle the request"),
            TransientError,
            ["503 ServiceUnavailable", "currently unable"],
            "unavailable",
            id="503",
        ),
        pytest.param(status(429, "TooManyRequests"), TransientError, ["429"], "unavailable", id="429"),
        pytest.param(page(502), TransientError, ["502", "Please log in"], "unavailable", id="502-of-a-proxy"),
        pytest.param(page(), AnswerError, ["expected an API server's JSON", "<html>"], "wrong_answer", id="login-page"),
        pytest.param(answer(b""), AnswerError, ["expected an API server's JSON"], "wrong_answer", id="empty-body"),
        pytest.param(
            answer(b'{"items": [{"metadata": {"na'), AnswerError, ["expected an API server's JSON"], "wrong_answer", id="truncated"
        ),
        pytest.param(answer({"items": {"a": 1}}), AnswerError, ["Expected `array | null`"], "wrong_answer", id="another-type"),
        pytest.param(reset(), TransientError, ["no connection to"], "unavailable", id="reset"),
        pytest.param(silence(), TransientError, ["no answer within 0.3 s"], "timeout", id="silence"),
        pytest.param(drip(0.05), TransientError, ["no answer within 0.3 s"], "timeout", id="drip"),
    ],
)
async def test_what_a_fault_is_told_as(tmp_path: Path, step: Step, kind: type[AutoscalerError], words: list[str], outcome: str) -> None:
    recorder = MemoryRecorder()
    async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
        source = KubernetesResourceMetrics(client, recorder, ["shop"])
        server.script(f"GET {PATH}", step)
        with pytest.raises(kind) as raised:
            await source.usage("shop", 0.3 if outcome == "timeout" else 5.0)
        assert all(word in str(raised.value) for word in [*words, "list pods.metrics.k8s.io in namespace shop"]), raised.value
        server.script(f"GET {PATH}", pods(pod()))
        assert len(await source.usage("shop", 5.0)) == 1, "the next one is answered"
    assert [len(recorder.observed(QUERY_SECONDS, ENDPOINT, each)) for each in (outcome, "ok")] == [1, 1]


@pytest.mark.parametrize("seed", range(3))
async def test_the_columns_are_those_that_decide_as_the_real_hpa(tmp_path: Path, seed: int) -> None:
    """Pods and use as in the lock-step with the real controller (tests/cluster/hpa), here from the wire to the columns of pods."""
    compared = 0
    async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
        source = KubernetesResourceMetrics(client, MemoryRecorder())
        for case in cases(40, seed):
            world = World(case, seed)
            world.first_writes(AT_S)
            for step in range(6):
                world.evolve(AT_S + 10.0 * step)
                usage, answers = world.answers(AT_S + 10.0 * step)
                if usage is None:
                    continue
                items = [{key: value for key, value in item.items() if not key.startswith("_")} for item in usage]
                server.script(f"GET /apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods", pods(*items))
                samples = await source.usage(NAMESPACE, 5.0)
                for index, metric in enumerate(case.metrics):
                    if metric.resource:
                        compared += len(world.pods)
                        same_columns(metric, world, samples, answers[index])
    assert compared > 300


def same_columns(metric: Metric, world: World, samples: Mapping[tuple[str, str], Sample], answer: object) -> None:
    """Ours, of this metric, and those that the lock-step makes of the same pods."""
    found, usage = answer if isinstance(answer, dict) else {}, Usage(metric.resource, metric.container)
    rows = rows_of([facts_of(each) for each in world.pods.values()], usage, requested=metric.kind == "Utilization", exact=True)
    mine = [samples.get(name) for name in rows.names]
    uses = [use_of(sample, names, metric.resource, exact=True) for sample, names in zip(mine, rows.containers, strict=True)]
    stamps = [(nan, nan) if isnan(use) or each is None else each[:2] for use, each in zip(uses, mine, strict=True)]
    ours = table_of([rows], uses, stamps, AT_S, np.array([True])).pods
    theirs = pods_of([[row_of(metric, each.seen(), found.get(name)) for name, each in world.pods.items()]])
    where = f"{world.case.name} {metric}"
    for field in ("use", "request"):
        np.testing.assert_array_equal(milli(getattr(ours, field)), milli(getattr(theirs, field)), err_msg=f"{where} {field}")
    has_condition = ours.ready != PodReady.NONE
    np.testing.assert_array_equal(ours.ready_changed_s[has_condition], theirs.ready_changed_s[has_condition], err_msg=where)
    for field in ("phase", "ready", "started_s", "sampled_s", "window_s"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field), err_msg=f"{where} {field}")


def facts_of(pod: WorldPod) -> Pod:
    """A pod of the lock-step as the watch has it."""
    seen, words = pod.seen(), {PodReady.TRUE: "True", PodReady.FALSE: "False", PodReady.UNKNOWN: "Unknown"}
    changed_s = nan if pod.ready_changed_s is None else pod.ready_changed_s
    per_container = {
        name: {resource: value for (owner, resource), value in pod.requests.items() if owner == name and value is not None}
        for name in ("app", "side")
    }
    return Pod(
        NAMESPACE,
        pod.name,
        pod.name,
        started_s=nan if pod.started_s is None else pod.started_s,
        deletion_s=AT_S if pod.deleting else nan,
        phase=pod.phase,
        conditions=() if seen.ready is PodReady.NONE else (Condition("Ready", words[seen.ready], since_s=changed_s),),
        containers=tuple(
            Container(name, resources=Resources(cpu_request=given.get("cpu", nan) / 1000, memory_request=given.get("memory", nan) / 1000))
            for name, given in per_container.items()
        ),
    )


@given(st.decimals(0, 10**6, places=9), st.sampled_from(["", "n", "u", "m", "k", "M", "Ki", "Mi", "Gi"]))
def test_quantities_are_kubernetes_own(number: Any, unit: str) -> None:  # noqa: ANN401 - a Decimal, as text
    text = f"{number:f}{unit}"
    assert quantity(text) == pytest.approx(parse_quantity(text))


@given(st.text(max_size=8))
def test_nothing_breaks_it(text: str) -> None:
    for found in (quantity(text), duration(text)):
        assert isinstance(found, float)
    assert isnan(duration(text + "x"))
