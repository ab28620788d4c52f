"""What pods use, as metrics.k8s.io has it: how it is read, and what each fault of it is told as."""

from collections.abc import Mapping
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.resource_metrics import ENDPOINT, KubernetesResourceMetrics, duration, quantity
from autoscaler.clock import SystemClock
from autoscaler.core.usage import Sample
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.metrics import QUERY_SECONDS
from autoscaler.policyfile.quantities import parse_quantity
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.kubernetes.fault_server import FaultServer, Json, Step, answer, drip, page, reset, silence, status
from tests.adapters.kubernetes.reflecting import client_of

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


@given(st.decimals(0, 10**6, places=9), st.sampled_from(["", "n", "u", "m", "k", "M", "Ki", "Mi", "Gi"]))
def test_quantities_are_kubernetes_own(number: Any, unit: str) -> None:  # noqa: ANN401 - a Decimal, as text
    text = f"{number:f}{unit}"
    assert quantity(text) == pytest.approx(parse_quantity(text))


@given(st.text(max_size=8))
def test_nothing_breaks_it(text: str) -> None:
    for found in (quantity(text), duration(text)):
        assert isinstance(found, float)
    assert isnan(duration(text + "x"))
