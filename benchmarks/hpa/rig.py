"""Etcd, API server and Prometheus for the whole run, and one controller at a time: the real HPA's, or ours."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from benchmarks.hpa.server import DEPLOYMENTS, HPAS, ApiServer
from benchmarks.hpa.source import GROUP, METRIC, NAMESPACE, VERSION, ExternalMetrics, PrometheusPush, name_of
from benchmarks.hpa.steps import TARGET, load_of
from tests.cluster.rig import ControlPlane, Prometheus
from tests.cluster.rig.certificates import serving, trust
from tests.cluster.rig.objects import deployment
from tests.cluster.rig.process import Process, ahead
from tests.cluster.rig.service import policy

Json = dict[str, Any]

AHEAD = 5
"""Everything of the benchmark goes before what else runs on the machine, both controllers alike."""

MANY_LABEL = {"tier": "bench"}

STATE = "/api/v1/namespaces/default/configmaps?labelSelector=app.kubernetes.io/managed-by=autoscaler"
"""The ConfigMaps of our service."""


@dataclass(frozen=True, slots=True)
class Rig:
    """What is there in every phase."""

    folder: Path
    plane: ControlPlane
    api: ApiServer
    prometheus: Prometheus
    external: ExternalMetrics
    push: PrometheusPush
    workloads: int

    @property
    def deployments(self) -> str:
        """The collection's path."""
        return DEPLOYMENTS.format(namespace=NAMESPACE)

    def pids(self) -> dict[str, int]:
        """The processes beside the controller."""
        plane = self.plane
        return {
            "apiserver": plane.process("apiserver").pid,
            "etcd": plane.process("etcd").pid,
            "prometheus": self.prometheus.process.pid,
            "bench": os.getpid(),
        }


@asynccontextmanager
async def rig(folder: Path, counts: Sequence[int]) -> AsyncIterator[Rig]:
    """Start everything, with a Deployment for each of ``counts`` and no controller."""
    async with AsyncExitStack() as stack:
        plane = stack.enter_context(ControlPlane(folder / "plane", controllers=("horizontal-pod-autoscaler-controller",)))
        plane.stop("manager")
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", flags=["--web.enable-remote-write-receiver"]))
        for process in (plane.process("etcd"), plane.process("apiserver"), prometheus.process):
            ahead(process.pid, -AHEAD)
        ahead("self", -AHEAD)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)))
        external = ExternalMetrics([load_of(count) for count in counts])
        runner, port = await external.serve(serving(plane.folder))
        stack.push_async_callback(runner.cleanup)
        api = ApiServer(session, plane.server, trust(plane.folder, "admin"))
        push = PrometheusPush(session, prometheus.url)
        made = Rig(folder, plane, api, prometheus, external, push, len(counts))
        plane.api.create_namespace(NAMESPACE)
        await _register(api, port)
        await api.make(made.deployments, (_deployment(number, count) for number, count in enumerate(counts)))
        yield made


def _deployment(number: int, count: int) -> Json:
    manifest = deployment(NAMESPACE, name_of(number), count)
    manifest["metadata"]["labels"] |= MANY_LABEL
    return manifest


async def _register(api: ApiServer, port: int) -> None:
    """Tell the aggregator where the external metrics are."""
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    metadata: Json = {"name": "external-metrics", "namespace": NAMESPACE}
    await api.call("POST", f"/api/v1/namespaces/{NAMESPACE}/services", {"metadata": metadata, "spec": service})
    spec = {
        "group": GROUP,
        "version": VERSION,
        "groupPriorityMinimum": 1000,
        "versionPriority": 10,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": NAMESPACE, "name": "external-metrics", "port": port},
    }
    await api.call("POST", "/apis/apiregistration.k8s.io/v1/apiservices", {"metadata": {"name": f"{VERSION}.{GROUP}"}, "spec": spec})


@asynccontextmanager
async def hpa(rig: Rig, interval_s: float) -> AsyncIterator[Callable[[], int]]:
    """The HPA controller alone in its process, with an HPA for each Deployment; gives its pid."""
    if interval_s != 15:  # noqa: PLR2004 - its default, and what it is known by
        raise ValueError("the HPA runs at its own 15 s")
    collection = HPAS.format(namespace=NAMESPACE)
    await rig.api.make(collection, (_hpa(number) for number in range(rig.workloads)))
    process = rig.plane.process("manager")
    process.start()  # plane.start() would wait for it, and hold up the loop that it asks for loads
    ahead(process.pid, -AHEAD)
    try:
        yield lambda: process.pid
    finally:
        rig.plane.stop("manager")
        await rig.api.clear(collection)


def _hpa(number: int) -> Json:
    name = name_of(number)
    metric = {"name": METRIC, "selector": {"matchLabels": {"app": name}}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": 40,
            "metrics": [
                {"type": "External", "external": {"metric": metric, "target": {"type": "AverageValue", "averageValue": str(TARGET)}}}
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }


@asynccontextmanager
async def own(rig: Rig, interval_s: float) -> AsyncIterator[Callable[[], int]]:
    """Our service with a policy and a query for each Deployment."""
    names = [name_of(number) for number in range(rig.workloads)]
    queries = [f'sum({METRIC}{{namespace="{NAMESPACE}",app="{name}"}})' for name in names]
    policies = [policy(NAMESPACE, name, **_spec(interval_s, {"query": query})) for name, query in zip(names, queries, strict=True)]
    async with _service(rig, policies) as process:
        yield lambda: process.pid


@asynccontextmanager
async def many(rig: Rig, interval_s: float) -> AsyncIterator[Callable[[], int]]:
    """Our service with one policy for all Deployments, and one query."""
    query = f'sum by (namespace, app) ({METRIC}{{namespace="{NAMESPACE}"}})'
    spec = _spec(interval_s, {"query": query, "labels": {"namespace": "namespace", "name": "app"}})
    targets = {"kind": "Deployment", "selector": {"matchLabels": MANY_LABEL}}
    async with _service(rig, [policy(NAMESPACE, "everything", scaleTargetRef=None, targets=targets, **spec)]) as process:
        yield lambda: process.pid


CONTROLLERS = {"hpa": hpa, "own": own, "many": many}


def _spec(interval_s: float, prometheus: Json) -> Json:
    return {
        "interval": f"{interval_s:g}s",
        "metrics": [{"name": "queue", "prometheus": prometheus, "target": {"averageValue": str(TARGET)}}],
        "policy": {"type": "hpa"},
    }


@asynccontextmanager
async def _service(rig: Rig, policies: list[Json]) -> AsyncIterator[Process]:
    """`autoscaler run` as it is deployed: state in the cluster, JSON log; a file for every policy.

    What an earlier phase has left there is deleted: whoever has scaled since would be taken for another writer who reverts our counts.
    """
    await rig.api.clear(STATE)
    folder = rig.folder / "policies"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for each in policies:
        (folder / f"{each['metadata']['name']}.yaml").write_text(yaml.safe_dump(each, sort_keys=False))
    command = [sys.executable, "-P", "-m", "autoscaler", "run", str(folder), "--prometheus", rig.prometheus.url, "--state", "kubernetes"]
    command += ["--kubeconfig", str(rig.plane.kubeconfig), "--host", "127.0.0.1", "--port", "0", "--log-format", "json"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AUTOSCALER_")}
    log = rig.folder / "service.log"
    log.unlink(missing_ok=True)
    process = Process("autoscaler", command, log, environment)
    process.start()
    ahead(process.pid, -AHEAD)
    try:
        while "listening on" not in log.read_text():
            _ = process.pid  # raises, with the end of its log, when it has ended
            await asyncio.sleep(0.1)
        yield process
    finally:
        process.stop(20)
