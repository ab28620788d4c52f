"""Scaling by what pods use, on real parts: an API server with pods and an aggregated `metrics.k8s.io`, and the service as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.rig import ControlPlane, Kubelet, MetricsApi, Prometheus, Resource, objects, wait_until
from tests.cluster.rig.service import Service, policy

RULES = [
    objects.rule("apps", "deployments,replicasets,statefulsets,daemonsets", "get,list,watch"),
    objects.rule("apps", "deployments/scale", "get,patch"),
    objects.rule("", "pods,events", "list,watch"),
    objects.rule("batch", "jobs", "list,watch"),
]
USE = objects.rule("metrics.k8s.io", "pods", "list")

FAST = {"scaleDown": {"stabilizationWindowSeconds": 0}}
CPU = [{"name": "cpu", "resource": {"name": "cpu"}, "target": {"averageUtilization": 50}}]
MAIN_CPU = [{"name": "cpu", "containerResource": {"name": "cpu", "container": "main"}, "target": {"averageUtilization": 50}}]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of its own: while an aggregated API is away, an API server deletes no namespaces."""
    with ControlPlane(tmp_path_factory.mktemp("with-metrics")) as running:
        yield running


@pytest.fixture(scope="module")
def metrics(plane: ControlPlane) -> MetricsApi:
    return MetricsApi(plane)


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest, name_namespace: Callable[[str], str]) -> str:
    return plane.api.create_namespace(name_namespace(request.node.name.removeprefix("test_"))).name


@dataclass(frozen=True)
class Parts:
    """The real parts that a test needs."""

    plane: ControlPlane
    metrics: MetricsApi
    prometheus: Prometheus


@pytest.fixture(scope="module")
def parts(plane: ControlPlane, metrics: MetricsApi, prometheus: Prometheus) -> Parts:
    return Parts(plane, metrics, prometheus)


@pytest.fixture
def service(plane: ControlPlane, prometheus: Prometheus, namespace: str, tmp_path: Path) -> Iterator[Service]:
    kubeconfig = plane.service_account(namespace, "autoscaler", [*RULES, USE])
    with Service(tmp_path, prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace}) as running:
        yield running


def web(namespace: str, name: str = "web", replicas: int = 2, sidecar: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - a manifest's variant
    """A Deployment whose pods request 200 m of CPU, perhaps with a sidecar that requests nothing."""
    manifest = objects.deployment(namespace, name, replicas, {"cpu": "200m"})
    if sidecar:
        manifest["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": objects.IMAGE})
    return manifest


def warned(plane: ControlPlane, service: Service) -> str:
    """What `validate --cluster` says as the cluster's administrator."""
    command = [sys.executable, "-m", "autoscaler", "validate", str(service.policies), "--cluster", "--kubeconfig", str(plane.kubeconfig)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def test_before_there_is_such_an_api_it_holds_and_says_so(service: Service, plane: ControlPlane, namespace: str) -> None:
    target = plane.api.create(web(namespace))
    target.wait_ready(2)
    service.use(policy(namespace, "web", metrics=CPU, policy={"type": "hpa"}, behavior=FAST))
    decision = service.wait_decision(namespace, "web", "it holds", reason="NO_DATA")
    assert decision["series"][0]["signal"] == "REFUSED"
    assert "this cluster does not serve metrics.k8s.io: is metrics-server installed?" in decision["why"]
    assert target.replicas() == 2
    assert f"Deployment {namespace}/web: what its pods use is not known: list pods.metrics.k8s.io" in warned(plane, service)


@pytest.mark.parametrize(
    ("kind", "sidecar", "given"),
    [
        pytest.param("hpa", False, CPU, id="hpa"),
        pytest.param("threshold", False, CPU, id="threshold"),
        pytest.param("hpa", True, CPU, id="hpa-with-a-sidecar-without-request"),
        pytest.param("threshold", True, MAIN_CPU, id="threshold-of-one-container"),
    ],
)
def test_up_and_down_with_what_its_pods_use(
    service: Service,
    parts: Parts,
    namespace: str,
    kind: str,
    sidecar: bool,  # noqa: FBT001 - a column of the table
    given: list[dict[str, Any]],
) -> None:
    plane, metrics = parts.plane, parts.metrics
    target = plane.api.create(web(namespace, sidecar=sidecar))
    stranger = plane.api.create(objects.pod(namespace, "stranger", {"app": "web"}))
    with ExitStack() as running:
        running.enter_context(metrics.running())
        running.enter_context(Kubelet(target))
        metrics.set_use(namespace, "web", 0.5)  # five replicas carry 0.1 of their 0.2 cores each
        service.use(policy(namespace, "web", metrics=given, policy={"type": kind}, behavior=FAST))
        target.wait_replicas(5, timeout_s=60)
        wait_until("all five are ready", lambda: target.read()["status"].get("readyReplicas") == 5)
        series = service.wait_decision(namespace, "web", "it stays", current=5.0, desired=5.0, ready=5.0)["series"][0]
        assert (series["signal"], series["request"]) == ("OK", pytest.approx(0.2))
        metrics.set_use(namespace, "web", 0.2)
        target.wait_replicas(2, timeout_s=60)
        decision = service.workload(namespace, "web")["decisions"][0]
        assert ("containers without a cpu request are left out" in decision["why"]) == (sidecar and given is CPU)
        assert "what its pods use" not in warned(plane, service)
    assert stranger.exists()
    status, text = service.get("/metrics")
    assert status == 200
    assert 'autoscaler_query_duration_seconds_count{endpoint="metrics.k8s.io",outcome="ok"}' in text


def test_while_its_server_is_away_it_holds_and_afterwards_it_goes_on(
    service: Service, plane: ControlPlane, metrics: MetricsApi, namespace: str
) -> None:
    target = plane.api.create(web(namespace))
    with Kubelet(target):
        metrics.set_use(namespace, "web", 0.3)
        with metrics.running():
            service.use(policy(namespace, "web", metrics=CPU, policy={"type": "threshold"}, behavior=FAST))
            target.wait_replicas(3, timeout_s=60)
        decision = service.wait_decision(namespace, "web", "it holds", reason="NO_DATA")
        assert decision["series"][0]["signal"] == "UNREACHABLE"
        assert "503" in decision["why"]
        assert service.said("metrics.k8s.io cannot be reached", "503")
        assert target.replicas() == 3
        metrics.set_use(namespace, "web", 0.6)
        with metrics.running():
            target.wait_replicas(6, timeout_s=90)


def test_one_list_a_tick_for_all_workloads_of_a_namespace(
    service: Service, plane: ControlPlane, metrics: MetricsApi, namespace: str
) -> None:
    names = ("web", "api", "cart")
    with ExitStack() as running:
        running.enter_context(metrics.running())
        for name in names:
            running.enter_context(Kubelet(plane.api.create(web(namespace, name))))
            metrics.set_use(namespace, name, 0.3)
        service.use(*(policy(namespace, name, metrics=CPU, policy={"type": "threshold"}, behavior=FAST) for name in names))
        for name in names:
            plane.api.resource("apps/v1", "Deployment", name, namespace).wait_replicas(3, timeout_s=60)
        asked, ticks = metrics.asked.count(namespace), len(service.workload(namespace, "web")["decisions"])
        assert asked <= ticks + 1


def test_a_right_that_lacks_is_named(parts: Parts, namespace: str, tmp_path: Path) -> None:
    plane, metrics, prometheus = parts.plane, parts.metrics, parts.prometheus
    target = plane.api.create(web(namespace))
    kubeconfig = plane.service_account(namespace, "limited", RULES)
    with ExitStack() as running:
        running.enter_context(metrics.running())
        running.enter_context(Kubelet(target))
        limited = running.enter_context(
            Service(tmp_path, prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace})
        )
        limited.use(policy(namespace, "web", metrics=CPU, policy={"type": "hpa"}))
        decision = limited.wait_decision(namespace, "web", "it holds", reason="NO_DATA")
        assert decision["series"][0]["signal"] == "REFUSED"
        assert 'apiGroups: ["metrics.k8s.io"], resources: ["pods"], verbs: ["list"]' in decision["why"]


def test_how_long_pods_take_to_start_is_measured(service: Service, plane: ControlPlane, namespace: str) -> None:
    target = plane.api.create(web(namespace, replicas=3))
    service.use(policy(namespace, "web", metrics=CPU, policy={"type": "hpa"}))
    assert service.wait_decision(namespace, "web", "not known yet", current=3.0)["startup_s"] == 60.0
    wait_until("it has its pods", lambda: len(target.pods()) == 3)
    for pod in target.pods():
        become_ready(target, pod, after_s=42)
    wait_until("it is known", lambda: service.workload(namespace, "web")["decisions"][0]["startup_s"] == 42.0, timeout_s=40)


def become_ready(target: Resource, pod: dict[str, Any], after_s: int) -> None:
    """Let a pod have become Ready so long after it was made."""
    made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    ran, ready = ((made.astimezone(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ") for seconds in (after_s - 2, after_s))
    container = {"name": "main", "image": objects.IMAGE, "imageID": "", "ready": True, "restartCount": 0}
    status = {
        "phase": "Running",
        "startTime": ran,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ready}],
        "containerStatuses": [{**container, "state": {"running": {"startedAt": ran}}}],
    }
    path = f"/api/v1/namespaces/{target.namespace}/pods/{pod['metadata']['name']}/status"
    target.api.call("PATCH", path, {"status": status}, content_type="application/strategic-merge-patch+json")
