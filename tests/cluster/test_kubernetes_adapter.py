"""The adapter on a real API server: the contract of the port, and what the server answers when something is wrong."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.discovery import Discovery
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.adapters.kubernetes.reflector import Around, Timing
from autoscaler.adapters.kubernetes.targets import STALE_AFTER_S, KubernetesCluster
from autoscaler.clock import SystemClock
from autoscaler.core.types import Target, Workload
from autoscaler.errors import PermanentError, StaleViewError, TransientError
from autoscaler.ports import TargetFacts
from autoscaler.testing.cluster import CONTRACT, Check
from tests.adapters.kubernetes.tally import Tally
from tests.cluster.rig import ControlPlane, Resource, objects
from tests.cluster.rig.access import read_token

CLOCK = SystemClock()
MANIFESTS = {
    "Deployment": objects.deployment,
    "StatefulSet": objects.stateful_set,
    "ReplicaSet": objects.replica_set,
    objects.CUSTOM_KIND: objects.custom_workload,
}


class Real:
    """The harness of the contract: the rig's own client is the other hand."""

    kinds: Sequence[tuple[str, str]] = objects.SCALABLE

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
        await until(condition)


@asynccontextmanager
async def running(
    kubeconfig: Path, namespaces: Sequence[str] | None = None, timing: Timing | None = None, stale_after_s: float = STALE_AFTER_S
) -> AsyncIterator[KubernetesCluster]:
    client = await Client.connect(find_login(str(kubeconfig)))
    cluster = KubernetesCluster(Around(client, CLOCK, Tally(), Random(1), timing or Timing()), namespaces, stale_after_s)
    task = asyncio.create_task(cluster.run())
    try:
        yield cluster
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with CLOCK.timeout(timeout_s):
        while not condition():
            await CLOCK.sleep_until(CLOCK.monotonic() + 0.01)


async def seen_as(cluster: KubernetesCluster, workload: Workload, state: Target) -> TargetFacts:
    await until(lambda: cluster.facts(workload).state is state)
    return cluster.facts(workload)


@pytest.mark.parametrize("watched", [pytest.param("all", id="cluster-wide"), pytest.param("one", id="one-namespace")])
@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in CONTRACT])
async def test_contract(control_plane: ControlPlane, namespace: str, check: Check, watched: str) -> None:
    control_plane.api.create_crd(objects.custom_workload_crd())
    namespaces = (namespace, "no-such-namespace") if watched == "one" else None
    async with running(control_plane.kubeconfig, namespaces) as cluster:
        await check(Real(control_plane, namespace, cluster))


class TestRights:
    """What is missing is told as the rule to add; what the sentence asks for is enough."""

    LIST = (objects.rule("apps", "deployments", "list"), objects.rule("apps", "deployments", "watch"))
    SCALE = objects.rule("apps", "deployments/scale", "patch")

    @pytest.mark.parametrize(
        ("rules", "words"),
        [
            pytest.param([], '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["list"]}', id="none"),
            pytest.param(LIST[:1], '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["watch"]}', id="list-alone"),
        ],
    )
    async def test_reading(self, control_plane: ControlPlane, namespace: str, rules: objects.Rules, words: str) -> None:
        web = Workload(namespace, "web")
        control_plane.api.create(objects.deployment(namespace, "web", 3))
        kubeconfig = control_plane.service_account(namespace, "scaler", rules)
        async with running(kubeconfig, [namespace]) as cluster:
            cluster.follow([web])
            await until(lambda: cluster.facts(web).state is Target.FORBIDDEN and words in cluster.facts(web).problem)
            assert f"needed: a Role in namespace {namespace} with" in cluster.facts(web).problem

    async def test_everywhere_needs_a_cluster_role(self, control_plane: ControlPlane, namespace: str) -> None:
        web = Workload(namespace, "web")
        kubeconfig = control_plane.service_account(namespace, "scaler", [*self.LIST, self.SCALE])
        async with running(kubeconfig) as cluster:
            cluster.follow([web])
            assert "needed: a ClusterRole with" in (await seen_as(cluster, web, Target.FORBIDDEN)).problem

    async def test_writing(self, control_plane: ControlPlane, namespace: str) -> None:
        web, made = Workload(namespace, "web"), control_plane.api.create(objects.deployment(namespace, "web", 3))
        reader = control_plane.service_account(namespace, "reader", self.LIST)
        writer = control_plane.service_account(namespace, "writer", [*self.LIST, self.SCALE])
        async with running(reader, [namespace]) as cluster:
            cluster.follow([web])
            seen = await seen_as(cluster, web, Target.OK)
            with pytest.raises(PermanentError, match=r'resources: \["deployments/scale"\], verbs: \["patch"\]'):
                await cluster.scale(web, seen, 4)
        async with running(writer, [namespace]) as cluster:
            cluster.follow([web])
            await cluster.scale(web, await seen_as(cluster, web, Target.OK), 4)
        assert made.replicas() == 4

    async def test_a_custom_resource_needs_its_scale_read_too(self, control_plane: ControlPlane, namespace: str) -> None:
        control_plane.api.create_crd(objects.custom_workload_crd())
        control_plane.api.create(objects.custom_workload(namespace, "worker", 3))
        worker, group = Workload(namespace, "worker", objects.CUSTOM_KIND, objects.CUSTOM_API), objects.CUSTOM_API.partition("/")[0]
        kubeconfig = control_plane.service_account(namespace, "scaler", [objects.rule(group, "workers", "list,watch")])
        async with running(kubeconfig, [namespace]) as cluster:
            cluster.follow([worker])
            words = f'{{apiGroups: ["{group}"], resources: ["workers/scale"], verbs: ["get"]}}'
            assert words in (await seen_as(cluster, worker, Target.FORBIDDEN)).problem


class TestWrites:
    async def test_our_name_is_on_it(self, control_plane: ControlPlane, namespace: str) -> None:
        web, made = Workload(namespace, "web"), control_plane.api.create(objects.deployment(namespace, "web", 3))
        async with running(control_plane.kubeconfig) as cluster:
            cluster.follow([web])
            await cluster.scale(web, await seen_as(cluster, web, Target.OK), 4)
        managers = [(entry["manager"], entry.get("subresource")) for entry in made.read()["metadata"]["managedFields"]]
        assert ("autoscaler", "scale") in managers

    async def test_a_count_that_cannot_be(self, control_plane: ControlPlane, namespace: str) -> None:
        web, made = Workload(namespace, "web"), control_plane.api.create(objects.deployment(namespace, "web", 3))
        async with running(control_plane.kubeconfig) as cluster:
            cluster.follow([web])
            seen = await seen_as(cluster, web, Target.OK)
            with pytest.raises(PermanentError, match="must be greater than or equal to 0"):
                await cluster.scale(web, seen, -1)
        assert made.replicas() == 3

    async def test_a_rollout_does_not_starve_it(self, control_plane: ControlPlane, namespace: str) -> None:
        """Every status write gives the Deployment a new version; the count that was seen before them can still be swapped."""
        web, made = Workload(namespace, "web"), control_plane.api.create(objects.deployment(namespace, "web", 10))
        made.wait_ready(10)
        async with running(control_plane.kubeconfig) as cluster:
            cluster.follow([web])
            await until(lambda: cluster.facts(web).ready == 10)
            seen = cluster.facts(web)
            template = {"metadata": {"annotations": {"restarted": "now"}}}
            await asyncio.to_thread(made.merge, {"spec": {"template": template}})
            for _ in range(3):
                await asyncio.to_thread(made.mark_pods_ready)
            await until(lambda: cluster.facts(web).resource_version != seen.resource_version)
            await cluster.scale(web, seen, 20)
        assert made.replicas() == 20


class TestKindsThatComeAndGo:
    async def test_a_crd_is_installed_deleted_and_installed_again(self, own_control_plane: ControlPlane) -> None:
        api = own_control_plane.api
        namespace = api.create_namespace("shop").name
        worker, crd = Workload(namespace, "worker", objects.CUSTOM_KIND, objects.CUSTOM_API), objects.custom_workload_crd()
        async with running(own_control_plane.kubeconfig) as cluster:
            cluster.follow([worker])
            assert "does not serve rig.autoscaler.dev/v1" in (await seen_as(cluster, worker, Target.NOT_FOUND)).problem
            uids = set()
            for replicas in (2, 5):
                await asyncio.to_thread(api.create_crd, crd)
                await asyncio.to_thread(api.create, objects.custom_workload(namespace, "worker", replicas))
                await until(lambda: cluster.facts(worker).state is Target.OK, timeout_s=60)
                uids.add(cluster.facts(worker).uid)
                assert cluster.facts(worker).replicas == replicas
                made = api.resource(crd["apiVersion"], crd["kind"], crd["metadata"]["name"])
                await asyncio.to_thread(made.delete)
                await until(lambda: cluster.facts(worker).state is Target.NOT_FOUND)
            assert len(uids) == 2


class TestServerThatFails:
    async def test_killed_and_started_again(self, own_control_plane: ControlPlane) -> None:
        plane = own_control_plane
        web = Workload(plane.api.create_namespace("shop").name, "web")
        made = plane.api.create(objects.deployment(web.namespace, "web", 3))
        async with running(plane.kubeconfig) as cluster:
            cluster.follow([web])
            seen = await seen_as(cluster, web, Target.OK)
            await asyncio.to_thread(plane.kill, "apiserver")
            with pytest.raises(TransientError, match=f"no connection to {plane.server}"):
                await cluster.scale(web, seen, 4)
            await asyncio.to_thread(plane.start, "apiserver")
            await asyncio.to_thread(made.scale, 7)
            await until(lambda: cluster.facts(web).replicas == 7, timeout_s=60)
            await cluster.scale(web, cluster.facts(web), 8)
            assert made.replicas() == 8

    async def test_without_etcd(self, own_control_plane: ControlPlane) -> None:
        plane = own_control_plane
        web = Workload(plane.api.create_namespace("shop").name, "web")
        made = plane.api.create(objects.deployment(web.namespace, "web", 3))
        async with running(plane.kubeconfig) as cluster:
            cluster.follow([web])
            seen = await seen_as(cluster, web, Target.OK)
            await asyncio.to_thread(plane.stop, "etcd")
            with pytest.raises(TransientError):
                await cluster.scale(web, seen, 4)
            await asyncio.to_thread(plane.start, "etcd")
            await until(lambda: made.replicas() == 3)
            await asyncio.to_thread(made.scale, 6)
            await until(lambda: cluster.facts(web).replicas == 6, timeout_s=60)

    async def test_half_open(self, own_control_plane: ControlPlane) -> None:
        """A server that is stopped keeps its connections, and says nothing on them."""
        plane = own_control_plane
        web = Workload(plane.api.create_namespace("shop").name, "web")
        plane.api.create(objects.deployment(web.namespace, "web", 3))
        async with running(plane.kubeconfig, None, Timing(silence_s=2.0, list_s=1.0), stale_after_s=4.0) as cluster:
            cluster.follow([web])
            seen = await seen_as(cluster, web, Target.OK)
            plane.process("apiserver").pause()
            try:
                stale = await seen_as(cluster, web, Target.STALE)
                assert "no sign of life from the watch of deployments.apps for over 4 s" in stale.problem
                with pytest.raises(StaleViewError):
                    await cluster.scale(web, stale, 4)
                with pytest.raises(TransientError, match="no answer within 10 s"):
                    await cluster.scale(web, seen, 4)
            finally:
                plane.process("apiserver").resume()
            await until(lambda: cluster.facts(web).state is Target.OK, timeout_s=60)

    @pytest.mark.parametrize(
        ("certificate", "words"),
        [
            pytest.param("expired", "certificate has expired", id="expired"),
            pytest.param("foreign", "self-signed certificate", id="not-from-our-ca"),
        ],
    )
    async def test_certificate(self, control_plane: ControlPlane, tmp_path: Path, certificate: str, words: str) -> None:
        web, folder = Workload("shop", "web"), control_plane.folder
        openssl(
            tmp_path,
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "key",
            "-out",
            "csr",
            "-subj",
            "/CN=x",
        )
        (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        ours = ["-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-CAserial", "serial", "-days", "-1"]
        signed = ours if certificate == "expired" else ["-signkey", "key"]
        openssl(tmp_path, "x509", "-req", "-in", "csr", "-out", "crt", "-extfile", "names", *signed)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(control_plane.kubeconfig.read_text().replace(control_plane.server, address))
        async with server, running(kubeconfig) as cluster:
            cluster.follow([web])
            await until(lambda: words in cluster.facts(web).problem)
            facts = cluster.facts(web)
            assert facts.state is Target.UNKNOWN
            assert f"not seen yet: get /apis/apps/v1: the certificate of {address} is not trusted: " in facts.problem


async def test_in_a_pod_the_token_may_change(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", control_plane.server.rpartition(":")[2])
    token = read_token(control_plane.service_account(namespace, "scaler", TestRights.LIST))
    (tmp_path / "token").write_text("an older one\n")
    (tmp_path / "ca.crt").write_bytes((control_plane.folder / "ca.crt").read_bytes())
    control_plane.api.create(objects.deployment(namespace, "web", 3))
    client = await Client.connect(find_login("", "", tmp_path))
    try:
        (tmp_path / "token").write_text(f"{token}\n")
        assert (await Discovery(client).find("apps/v1", "Deployment")).scalable
    finally:
        await client.close()


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
