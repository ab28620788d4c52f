"""The adapter on a real API server: the contract of the port, and what the server answers when something is wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.adapters.kubernetes.reflector import Around
from autoscaler.adapters.kubernetes.targets import KubernetesCluster
from autoscaler.clock import SystemClock
from autoscaler.core.types import Workload
from autoscaler.testing.cluster import CONTRACT, Check
from tests.adapters.kubernetes.tally import Tally
from tests.cluster.rig import ControlPlane, Resource, objects

CLOCK = SystemClock()
MANIFESTS = {
    "Deployment": objects.deployment,
    "StatefulSet": objects.stateful_set,
    "ReplicaSet": objects.replica_set,
    objects.CUSTOM_KIND: objects.custom_workload,
}


class Real:
    """The harness of the contract: the rig's own client is the other hand."""

    kinds: Sequence[tuple[str, str]] = (
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "ReplicaSet"),
        (objects.CUSTOM_API, objects.CUSTOM_KIND),
    )

    def __init__(self, plane: ControlPlane, namespace: str, cluster: KubernetesCluster) -> None:
        self._api, self.namespace, self.cluster = plane.api, namespace, cluster

    def _resource(self, workload: Workload) -> Resource:
        return self._api.resource(workload.api_version, workload.kind, workload.name, workload.namespace)

    async def create(self, workload: Workload, replicas: int) -> None:
        await asyncio.to_thread(self._api.create, MANIFESTS[workload.kind](workload.namespace, workload.name, replicas))

    async def delete(self, workload: Workload) -> None:
        await asyncio.to_thread(self._resource(workload).delete)

    async def set_replicas(self, workload: Workload, replicas: int) -> None:
        await asyncio.to_thread(self._resource(workload).scale, replicas)

    async def make_ready(self, workload: Workload) -> None:
        resource = self._resource(workload)
        await asyncio.to_thread(lambda: resource.wait_ready(resource.replicas()))

    async def replicas(self, workload: Workload) -> int:
        return await asyncio.to_thread(self._resource(workload).replicas)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with CLOCK.timeout(20):
            while not condition():
                await CLOCK.sleep_until(CLOCK.monotonic() + 0.01)


@asynccontextmanager
async def running(kubeconfig: Path, namespaces: Sequence[str] | None = None) -> AsyncIterator[KubernetesCluster]:
    client = await Client.connect(find_login(str(kubeconfig)))
    cluster = KubernetesCluster(Around(client, CLOCK, Tally(), Random(1)), namespaces)
    task = asyncio.create_task(cluster.run())
    try:
        yield cluster
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()


@pytest.mark.parametrize("watched", [pytest.param("all", id="cluster-wide"), pytest.param("one", id="one-namespace")])
@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in CONTRACT])
async def test_contract(control_plane: ControlPlane, namespace: str, check: Check, watched: str) -> None:
    control_plane.api.create_crd(objects.custom_workload_crd())
    namespaces = (namespace, "no-such-namespace") if watched == "one" else None
    async with running(control_plane.kubeconfig, namespaces) as cluster:
        await check(Real(control_plane, namespace, cluster))
