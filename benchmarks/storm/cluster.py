"""The cluster of the storm: nodes that are not there, workloads by the hundred pods, and kwok, which says how pods fare."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import urllib3
import yaml

from tests.cluster.rig import Api, ControlPlane, Process
from tests.cluster.rig.certificates import trust
from tests.cluster.rig.control_plane import WORKLOAD_CONTROLLERS
from tests.cluster.rig.paths import ROOT

Json = dict[str, Any]

KWOK: Final = ROOT / ".cache" / "kwok"
BAD = {"storm": "bad"}
"""The label of pods of the bad revision."""

_NODE_PODS = 250
_STAGE = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage"}
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')
_FAST = ("--kube-api-qps=2000", "--kube-api-burst=4000")

_CONDITIONS = """
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "READY", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "READY", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
"""
_RUNS = """
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
"""
_CRASHES = """
  ready: false
  started: false
  restartCount: 4
  state: {waiting: {reason: CrashLoopBackOff, message: back-off}}
  lastState: {terminated: {exitCode: 1, reason: Error, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
"""
_EACH = "{{ end }}"
_APP_CRASHES = '{{ if eq .name "app" }}' + _CRASHES + "{{ else }}" + _RUNS + "{{ end }}"


@dataclass(frozen=True, slots=True)
class Size:
    """How many of what: ``bad`` of the workloads are rolled out with a broken revision."""

    namespaces: int = 10
    workloads: int = 40
    replicas: int = 250
    nodes: int = 100
    bad: int = 12

    @property
    def pods(self) -> int:
        """In all."""
        return self.workloads * self.replicas

    def namespace(self, number: int) -> str:
        """Of a workload."""
        return f"team-{number % self.namespaces}"


def name_of(number: int) -> str:
    """Of a workload."""
    return f"web-{number}"


def control_plane(folder: Path, audit: Sequence[str]) -> ControlPlane:
    """Without node controllers: who is lost is said by the storm."""
    flags = {"apiserver": [*audit, "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000"], "scheduler": _FAST}
    return ControlPlane(folder, controllers=WORKLOAD_CONTROLLERS, scheduler=True, flags=flags)


def kwok(plane: ControlPlane) -> Process:
    """Runs pods that are on a node of ours: well, or crashing if they have the label."""
    config = plane.folder / "kwok.yaml"
    config.write_text(yaml.safe_dump_all(_stages()))
    flags = ["--manage-all-nodes=true", f"--kubeconfig={plane.kubeconfig}", f"--config={config}", "--server-address=127.0.0.1:0"]
    return Process("kwok", [str(KWOK), *flags, "--node-lease-duration-seconds=0"], plane.folder / "kwok.log")


def _stages() -> Iterator[Json]:
    pending: list[Json] = [
        {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
        {"key": ".status.containerStatuses", "operator": "DoesNotExist"},
    ]
    well = [*pending, {"key": '.metadata.labels["storm"]', "operator": "DoesNotExist"}]
    ill = [*pending, {"key": '.metadata.labels["storm"]', "operator": "In", "values": ["bad"]}]
    yield _stage("pod-runs", "Pod", well, {"statusTemplate": _CONDITIONS.replace("READY", "True") + _RUNS + _EACH})
    yield _stage("pod-crashes", "Pod", ill, {"statusTemplate": _CONDITIONS.replace("READY", "False") + _APP_CRASHES + _EACH})
    going = [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}]
    yield _stage("pod-goes", "Pod", going, {"finalizers": {"empty": True}, "delete": True})
    # Nodes are as they were made: this one is for none.
    yield _stage("node", "Node", [{"key": '.metadata.labels["nobody"]', "operator": "Exists"}], {"statusTemplate": "phase: Running"})


def _stage(name: str, kind: str, when: Sequence[Json], then: Json) -> Json:
    spec = {"resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": {"matchExpressions": list(when)}, "next": then}
    return {**_STAGE, "metadata": {"name": name}, "spec": spec}


def make_nodes(api: Api, size: Size) -> None:
    """Nodes with room for all."""
    now = stamp()
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now, "lastHeartbeatTime": now}]
    room = {"cpu": "256", "memory": "1Ti", "pods": str(_NODE_PODS)}
    for number in range(size.nodes):
        node = api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}})
        node.set_status(conditions=conditions, capacity=room, allocatable=room)
        node.merge({"spec": {"taints": None}})  # every new node is tainted as not ready, and no controller takes that back here


def make_workloads(api: Api, size: Size) -> None:
    """Deployments whose rollouts replace everything at once."""
    for number in range(size.namespaces):
        api.create_namespace(f"team-{number}")
    for number in range(size.workloads):
        labels = {"app": name_of(number)}
        containers = [{"name": name, "image": f"registry.example.com/{name}:1", "resources": _RESOURCES} for name in ("app", "proxy")]
        template = {"metadata": {"labels": labels}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 0}}
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}}
        spec = {"replicas": size.replicas, "selector": {"matchLabels": labels}, "template": template, "strategy": strategy}
        metadata = {"name": name_of(number), "namespace": size.namespace(number), "labels": labels}
        api.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}


def roll_out(api: Api, size: Size) -> None:
    """A broken revision of the first workloads."""
    template = {"metadata": {"labels": BAD}}
    for number in range(size.bad):
        resource = api.resource("apps/v1", "Deployment", name_of(number), size.namespace(number))
        resource.merge({"spec": {"template": template}})


def lose(api: Api, node: str) -> None:
    """As the node controller writes it."""
    resource = api.resource("v1", "Node", node)
    now = stamp()
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": now, "lastHeartbeatTime": now}
    resource.set_status(conditions=[unknown])
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule", "timeAdded": now}
    resource.merge({"spec": {"taints": [taint]}})


def make_ill(api: Api, pod: Json, container: Json) -> float:
    """One pod shows something; returns the time at which the API server has it."""
    statuses = [{**each, **container} if each["name"] == "app" else each for each in pod["status"]["containerStatuses"]]
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
    api.call("PATCH", path, {"status": {"containerStatuses": statuses}}, content_type="application/merge-patch+json")
    return time.time()


def stamp() -> str:
    """Now, as the API writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class FirstSeen:
    """A watch of the benchmark's own: when the first crash of each workload, and of the lost node, came off the API server."""

    plane: ControlPlane
    times: dict[str, float] = field(default_factory=dict)
    crashing: set[str] = field(default_factory=set)

    def start(self) -> None:
        """From now on, until the process ends."""
        for wanted in (("pods", "storm=bad", b"CrashLoopBackOff", self._pod), ("nodes", "", b"NodeStatusUnknown", self._node)):
            threading.Thread(target=self._watch, args=wanted, daemon=True).start()

    def _watch(self, path: str, labels: str, sign: bytes, read: Callable[[Json, float], None]) -> None:
        """Only lines with the sign are read: whoever is slow is cut off by the API server, and goes on where it was."""
        pool = urllib3.PoolManager(ssl_context=trust(self.plane.folder, "admin"), timeout=urllib3.Timeout(connect=10, read=None))
        url, chosen = f"{self.plane.server}/api/v1/{path}", {"labelSelector": labels} if labels else {}
        version = pool.request("GET", url, fields={**chosen, "limit": "1"}).json()["metadata"]["resourceVersion"]
        with suppress(urllib3.exceptions.HTTPError):  # the API server has ended, and so has the storm
            while True:
                query = {**chosen, "watch": "1", "resourceVersion": version}
                time.sleep(0.1)
                response = pool.request("GET", url, fields=query, preload_content=False, retries=False)
                rest = b""
                with suppress(urllib3.exceptions.ProtocolError):
                    for chunk in response.stream(2**16):
                        now = time.time()
                        *lines, rest = (rest + chunk).split(b"\n")
                        for line in lines:
                            found = _VERSION.search(line)
                            version = found[1].decode() if found else version
                            if sign in line:
                                read(json.loads(line)["object"], now)

    def _pod(self, pod: Json, now: float) -> None:
        meta = pod["metadata"]
        self.times.setdefault(f"{meta['namespace']}/{meta['labels']['app']}", now)
        self.crashing.add(meta["uid"])

    def _node(self, node: Json, now: float) -> None:
        self.times.setdefault(node["metadata"]["name"], now)


def count_ready(api: Api) -> int:
    """Ready pods by their Deployments."""
    found = api.call("GET", "/apis/apps/v1/deployments")["items"]
    return sum(each.get("status", {}).get("readyReplicas", 0) for each in found)


def some_pod(api: Api, namespace: str, app: str, skip: int = 0, not_on: str = "") -> Json:
    """A pod of a workload, and not on that node."""
    found = api.call("GET", f"/api/v1/namespaces/{namespace}/pods", query={"labelSelector": f"app={app}", "limit": "50"})["items"]
    elsewhere: list[Json] = [pod for pod in found if pod["spec"]["nodeName"] != not_on]
    return elsewhere[skip]
