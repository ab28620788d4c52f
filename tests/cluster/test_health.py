"""The health loop of the whole service on a real API server with its controllers: seen, told, evicted within rights, and not told again.

There is no kubelet here; the test writes pods' statuses, and binds them to a node.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.rig import ControlPlane, Prometheus, Resource, objects, wait_until
from tests.cluster.rig.paths import ROOT
from tests.cluster.rig.service import Service

Json = dict[str, Any]

DEPLOY = ROOT / "deploy"
REPLICAS = 6
WAITS = {"crashLoop": "2s", "crashLoopRemedy": "5s", "cleanRun": "5s"}


def rules_of(path: str) -> list[Json]:
    found: list[Json] = yaml.safe_load((DEPLOY / path).read_text())["rules"]
    return found


def health_policy(namespace: str, **spec: Any) -> Json:  # noqa: ANN401 - fields of a HealthPolicy's spec
    metadata = {"name": "default", "namespace": namespace}
    return {"apiVersion": "autoscaler.dev/v1alpha1", "kind": "HealthPolicy", "metadata": metadata, "spec": {"waits": WAITS, **spec}}


@pytest.fixture
def service(control_plane: ControlPlane, prometheus: Prometheus, namespace: str, tmp_path: Path) -> Iterator[Service]:
    """With the rights of deploy/base, deploy/nodes and deploy/remedies, and its state in ConfigMaps."""
    rules = [*rules_of("base/role.yaml"), *rules_of("base/role-state.yaml"), *rules_of("remedies/role.yaml")]
    kubeconfig = control_plane.service_account(namespace, "autoscaler", rules, rules_of("nodes/clusterrole.yaml"))
    options = {"--namespace": namespace, "--state": "kubernetes"}
    running = Service(tmp_path, prometheus=prometheus.url, kubeconfig=kubeconfig, options=options)
    running.write(health_policy(namespace, remedies={"crashLoop": "restart"}))
    with running:
        yield running


class Shop:
    """A Deployment of six Ready pods on a node that is Ready."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._api, self._namespace = plane.api, namespace
        self._node = self._api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"{namespace}-node"}})
        self.deployment: Resource = self._api.create(objects.deployment(namespace, "web", REPLICAS))
        self.beat()
        wait_until("the pods are there", lambda: len(self.deployment.pods()) == REPLICAS)
        self.tend()

    def beat(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now, "lastHeartbeatTime": now}
        self._node.set_status(conditions=[ready])

    def tend(self) -> None:
        """The kubelet's and scheduler's part: bind what has no node, and bring up what is not."""
        for pod in self.deployment.pods():
            if not pod["spec"].get("nodeName"):
                name = pod["metadata"]["name"]
                binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
                target = {"apiVersion": "v1", "kind": "Node", "name": self._node.name}
                self._api.call("POST", f"/api/v1/namespaces/{self._namespace}/pods/{name}/binding", {**binding, "target": target})
        self.deployment.mark_pods_ready()

    def crash(self, name: str, restarts: int) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ended = {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now, "containerID": f"x://{restarts}"}
        container = {"name": "main", "image": "x", "imageID": "", "ready": False, "started": False, "restartCount": restarts}
        container |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
        conditions = [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": now}]
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}
        path = f"/api/v1/namespaces/{self._namespace}/pods/{name}/status"
        self._api.call("PATCH", path, {"status": status}, content_type="application/strategic-merge-patch+json")

    def names(self) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in self.deployment.pods() if "deletionTimestamp" not in pod["metadata"])


@pytest.fixture
def shop(control_plane: ControlPlane, namespace: str) -> Shop:
    return Shop(control_plane, namespace)


def incidents(service: Service) -> list[Json]:
    status, body = service.get("/api/v1/incidents")
    assert status == 200, body
    found: list[Json] = json.loads(body)
    return found


def is_firing(service: Service) -> Json | None:
    return next((row for row in incidents(service) if row["phase"] == "firing"), None)


def told_by_events(control_plane: ControlPlane, namespace: str) -> set[str]:
    events = control_plane.api.call("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return {event["reason"] for event in events if event["involvedObject"]["kind"] == "Deployment"}


def wait_watched(service: Service) -> None:
    """The pods are known, and what happens to them is news: their statuses tell whole seconds."""
    wait_until("the pods are watched", lambda: f"autoscaler_health_pods {REPLICAS}.0" in service.get("/metrics")[1], timeout_s=30)
    time.sleep(1.5)


def test_a_crash_loop_is_told_and_its_pod_is_evicted_and_a_restart_tells_nothing_again(
    service: Service, shop: Shop, control_plane: ControlPlane, namespace: str
) -> None:
    wait_watched(service)
    (sick, *_) = shop.names()
    began = time.monotonic()
    for restarts in (1, 4, 7):
        shop.crash(sick, restarts)
        time.sleep(1.1)
    row = wait_until("it fires", lambda: is_firing(service), timeout_s=40)
    assert time.monotonic() - began < 30, "three restarts, then the settle time"
    expected = {"namespace": namespace, "kind": "Deployment", "name": "web", "container": "main", "cause": "CrashLoop", "exit_code": 1}
    assert {name: row[name] for name in expected} == expected
    assert (row["pods_affected"], row["pods_in_all"], [pod["name"] for pod in row["pods"]]) == (1, REPLICAS, [sick])

    wait_until("it is evicted", lambda: sick not in shop.names(), timeout_s=30)
    (acted,) = [done for row in incidents(service) for done in row["remedies"] if done["acted"]]
    assert acted["words"].startswith("evicted: CrashLoop: ")
    assert 'autoscaler_remedies_total{cause="CrashLoop",outcome="done",reason=""} 1.0' in service.get("/metrics")[1]
    saved = control_plane.api.resource("v1", "ConfigMap", "autoscaler-state-24", namespace).read()
    assert len(json.loads(saved["data"]["state.json"])["attempts"]) == 1, "noted before it was done"
    wait_until(
        "its workload's events tell of both", lambda: {"CrashLoopDetected", "PodRestarted"} <= told_by_events(control_plane, namespace)
    )

    service.process.kill()
    service.begin()
    wait_until("the replacement is there", lambda: len(shop.names()) == REPLICAS, timeout_s=30)
    shop.tend()
    wait_until("what was saved is read", lambda: service.said("incidents read: 1"), timeout_s=30)
    wait_until("it goes on", lambda: is_firing(service), timeout_s=30)
    wait_watched(service)
    fired = [record for record in service.records() if "CrashLoop" in record["msg"] and "fired" in record["msg"]]
    assert len(fired) == 1, "by the process before"
    assert [row["phase"] for row in incidents(service)] == ["firing"], "what was told of is not pending once more"


def test_with_a_role_alone_it_is_told_and_says_why_nothing_is_done(
    control_plane: ControlPlane, prometheus: Prometheus, namespace: str, tmp_path: Path, shop: Shop
) -> None:
    """Without the right to read nodes, nobody knows whether a pod's node is well."""
    rules = [*rules_of("base/role.yaml"), *rules_of("remedies/role.yaml")]
    kubeconfig = control_plane.service_account(namespace, "autoscaler", rules)
    running = Service(tmp_path, prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace})
    running.write(health_policy(namespace, remedies={"crashLoop": "restart"}))
    with running as service:
        wait_watched(service)
        (sick, *_) = shop.names()
        for restarts in (1, 4, 7):
            shop.crash(sick, restarts)
            time.sleep(1.1)
        row = wait_until("it fires", lambda: is_firing(service), timeout_s=40)
        assert [done["words"] for done in row["remedies"]] == [f"nothing is done: its node's state is not known ({namespace}-node)"]
        assert sick in shop.names()
