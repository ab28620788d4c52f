"""The watch of pods, and actions on them, on a real API server with its real controllers; the rig does the kubelet's part."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.adapters.kubernetes.pod_actions import KubernetesPodActions
from autoscaler.adapters.kubernetes.pods import KubernetesPods
from autoscaler.adapters.kubernetes.reflector import Around
from autoscaler.clock import SystemClock
from autoscaler.core.health.facts import Pod
from autoscaler.core.health.remedies import Act
from autoscaler.core.types import Workload
from autoscaler.errors import PermanentError, TransientError
from autoscaler.testing.pods import ACTIONS_CONTRACT, CONTRACT, Check
from tests.adapters.kubernetes.tally import Tally
from tests.cluster.rig import ControlPlane, objects

CLOCK = SystemClock()
MANIFESTS = {"Deployment": objects.deployment, "StatefulSet": objects.stateful_set, "ReplicaSet": objects.replica_set}


class Real:
    """The harness of the contract."""

    kinds: Sequence[tuple[str, str]] = objects.SCALABLE

    def __init__(self, plane: ControlPlane, namespace: str, watch: KubernetesPods, actions: KubernetesPodActions) -> None:
        self._api, self.namespace, self.watch, self.actions = plane.api, namespace, watch, actions
        self._owners: list[tuple[str, str]] = []

    async def create(self, workload: Workload, replicas: int) -> None:
        if workload.kind == objects.CUSTOM_KIND:
            await asyncio.to_thread(self._create_custom, workload, replicas)
        else:
            await asyncio.to_thread(self._api.create, MANIFESTS[workload.kind](workload.namespace, workload.name, replicas))
        self._owners.append((workload.kind, workload.name))

    def _create_custom(self, workload: Workload, replicas: int) -> None:
        made = self._api.create(objects.custom_workload(workload.namespace, workload.name, replicas)).read()
        for index in range(replicas):
            pod = objects.pod(workload.namespace, f"{workload.name}-{index}", {"app": workload.name})
            owner = {"apiVersion": workload.api_version, "kind": workload.kind, "name": workload.name, "uid": made["metadata"]["uid"]}
            pod["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
            self._api.create(pod)

    async def delete(self, workload: Workload) -> None:
        await asyncio.to_thread(self._api.resource(workload.api_version, workload.kind, workload.name, workload.namespace).delete)

    async def crash(self, pod: Pod) -> None:
        now = _now()
        ended = {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now, "containerID": "x://1"}
        status = {
            "name": pod.containers[0].name,
            "image": pod.containers[0].image,
            "imageID": "",
            "ready": False,
            "started": False,
            "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "lastState": {"terminated": ended},
        }
        await asyncio.to_thread(self._patch_status, pod.name, {"containerStatuses": [status]})

    def _patch_status(self, name: str, status: Any) -> None:  # noqa: ANN401 - JSON
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/status"
        self._api.call("PATCH", path, {"status": status}, content_type="application/merge-patch+json")

    async def kill(self, pod: Pod) -> None:
        name, now = pod.containers[0].name, _now()
        involved = {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": pod.namespace, "name": f"{pod.name}.1"},
            "involvedObject": {**involved, "fieldPath": f"spec.containers{{{name}}}"},
            "type": "Normal",
            "reason": "Killing",
            "message": f"Container {name} failed liveness probe, will be restarted",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "kubelet"},
        }
        await asyncio.to_thread(self._api.create, event)

    async def remove(self, pod: Pod) -> None:
        await asyncio.to_thread(self._api.call, "DELETE", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}")

    async def create_node(self, name: str) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        resource = await asyncio.to_thread(self._api.create, node)
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": _now(), "lastHeartbeatTime": _now()}
        await asyncio.to_thread(resource.set_status, conditions=[ready])

    async def until(self, condition: Callable[[], bool]) -> None:
        """As kubelets would, bring up whatever is pending meanwhile."""
        async with CLOCK.timeout(30.0):
            while not condition():
                for pod in self.watch.facts(CLOCK.now()).pods:
                    if pod.namespace == self.namespace and pod.phase == "Pending" and not pod.leaving:
                        await asyncio.to_thread(self._bring_up, pod)
                await CLOCK.sleep_until(CLOCK.monotonic() + 0.02)

    def _bring_up(self, pod: Pod) -> None:
        now = _now()
        running = {"name": pod.containers[0].name, "image": pod.containers[0].image, "imageID": "", "ready": True, "started": True}
        status = {
            "phase": "Running",
            "startTime": now,
            "conditions": [{"type": each, "status": "True", "lastTransitionTime": now} for each in ("Ready", "ContainersReady")],
            "containerStatuses": [{**running, "restartCount": 0, "state": {"running": {"startedAt": now}}}],
        }
        self._patch_status(pod.name, status)


def _now() -> str:
    return datetime.fromtimestamp(CLOCK.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@asynccontextmanager
async def running(kubeconfig: Path, namespaces: Sequence[str] | None = None) -> AsyncIterator[tuple[KubernetesPods, KubernetesPodActions]]:
    client = await Client.connect(find_login(str(kubeconfig)))
    watch = KubernetesPods(Around(client, CLOCK, Tally(), Random(1)), namespaces)
    task = asyncio.create_task(watch.run())
    try:
        yield watch, KubernetesPodActions(client)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()


async def until(condition: Callable[[], bool]) -> None:
    async with CLOCK.timeout(30.0):
        while not condition():
            await CLOCK.sleep_until(CLOCK.monotonic() + 0.02)


@pytest.mark.parametrize("watched", [pytest.param("all", id="cluster-wide"), pytest.param("one", id="one-namespace")])
@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in (*CONTRACT, *ACTIONS_CONTRACT)])
async def test_contract(control_plane: ControlPlane, namespace: str, check: Check, watched: str) -> None:
    control_plane.api.create_crd(objects.custom_workload_crd())
    namespaces = (namespace, "no-such-namespace") if watched == "one" else None
    async with running(control_plane.kubeconfig, namespaces) as (watch, actions):
        await check(Real(control_plane, namespace, watch, actions))


CONTROLLERS = (
    objects.rule("apps", "deployments,replicasets,statefulsets,daemonsets", "list,watch"),
    objects.rule("batch", "jobs", "list,watch"),
)
PODS, EVENTS = objects.rule("", "pods", "list,watch"), objects.rule("", "events", "list,watch")


class TestRights:
    """What is missing is said once, as the rule to add and what is lost without it."""

    async def test_of_one_namespace(self, control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
        control_plane.api.create(objects.deployment(namespace, "web", 2))
        kubeconfig = control_plane.service_account(namespace, "watcher", [PODS, EVENTS, *CONTROLLERS])
        async with running(kubeconfig, [namespace]) as (watch, _):
            await until(lambda: watch.facts(CLOCK.now()).synced)
            facts = watch.facts(CLOCK.now())
            assert facts.nodes is None
            assert {each.kind for each in (facts.controllers or {}).values()} == {"Deployment", "ReplicaSet"}
            await until(lambda: len(watch.owned(Workload(namespace, "web")) or ()) == 2)
            assert watch.owned(Workload("elsewhere", "web")) is None
        (line,) = [line for line in caplog.messages if "may not be read" in line]
        assert line.startswith("nodes may not be read, so lost nodes are not told from crashes and nothing is restarted: list nodes")
        assert 'needed: a ClusterRole with {apiGroups: [""], resources: ["nodes"], verbs: ["list"]}' in line

    async def test_pods_alone(self, control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
        control_plane.api.create(objects.deployment(namespace, "web", 2))
        kubeconfig = control_plane.service_account(namespace, "watcher", [PODS])
        async with running(kubeconfig, [namespace]) as (watch, _):
            await until(lambda: watch.facts(CLOCK.now()).synced)
            facts = watch.facts(CLOCK.now())
            assert (facts.controllers, facts.nodes, facts.events) == (None, None, {})
            await until(lambda: len(watch.facts(CLOCK.now()).pods) == 2)
            assert watch.owned(Workload(namespace, "web")) is None
            (by_replica_set,) = {pod.owner.name for pod in watch.facts(CLOCK.now()).pods if pod.owner is not None}
            assert len(watch.owned(Workload(namespace, by_replica_set, "ReplicaSet")) or ()) == 2
        told = [line for line in caplog.messages if "may not be read" in line]
        assert len(told) == len(set(told)) == 7, "each of five kinds of controllers, nodes, events"

    async def test_no_pods(self, control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
        kubeconfig = control_plane.service_account(namespace, "watcher", CONTROLLERS)
        async with running(kubeconfig, [namespace]) as (watch, _):
            await until(lambda: watch.facts(CLOCK.now()).nodes is None)
            await until(lambda: any("cannot list resource" in line and '"pods"' in line for line in caplog.messages))
            assert not watch.facts(CLOCK.now()).synced
            assert watch.owned(Workload(namespace, "web")) is None

    async def test_of_actions(self, control_plane: ControlPlane, namespace: str) -> None:
        control_plane.api.create(objects.pod(namespace, "web", {}))
        kubeconfig = control_plane.service_account(namespace, "reader", [objects.rule("", "pods", "get")])
        async with running(kubeconfig, [namespace]) as (_, actions):
            pod = await actions.read(namespace, "web")
            assert pod is not None
            with pytest.raises(PermanentError, match=r'resources: \["pods/eviction"\], verbs: \["create"\]'):
                await actions.remove(_act(pod, eviction=True), dry_run=False)
            with pytest.raises(PermanentError, match=r'resources: \["pods"\], verbs: \["delete"\]'):
                await actions.remove(_act(pod, eviction=False), dry_run=False)
            with pytest.raises(PermanentError, match="Forbidden"):
                await actions.read("default", "web")


async def test_a_disruption_budget_refuses_in_its_own_words(control_plane: ControlPlane, namespace: str) -> None:
    web = control_plane.api.create(objects.deployment(namespace, "web", 2))
    web.wait_ready(2)
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    metadata = {"name": "web", "namespace": namespace}
    made = control_plane.api.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": budget})
    # Its controller does not run here.
    made.set_status(currentHealthy=2, desiredHealthy=2, expectedPods=2, disruptionsAllowed=0, observedGeneration=1)
    async with running(control_plane.kubeconfig) as (watch, actions):
        await until(lambda: len(watch.owned(Workload(namespace, "web")) or ()) == 2)
        (pod, _) = watch.owned(Workload(namespace, "web")) or ()
        for dry_run in (True, False):
            with pytest.raises(TransientError, match="needs 2 healthy pods and has 2 currently"):
                await actions.remove(_act(pod, eviction=True), dry_run=dry_run)
        await actions.remove(_act(pod, eviction=False), dry_run=True)  # a deletion asks no budget


def _act(pod: Pod, *, eviction: bool) -> Act:
    return Act(eviction, pod.namespace, pod.name, pod.uid, pod.resource_version, "")
