"""A cluster at work against a scripted server, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from autoscaler.adapters.kubernetes.reflector import Around
from autoscaler.adapters.kubernetes.targets import KubernetesCluster
from autoscaler.clock import FastClock
from autoscaler.core.types import Target, Workload
from autoscaler.ports import TargetFacts
from tests.adapters.kubernetes.fault_server import FaultServer, Json, Step, answer, stream, thing
from tests.adapters.kubernetes.reflecting import PATIENT, client_of
from tests.adapters.kubernetes.tally import Tally

WEB = Workload("shop", "web")
TASK = Workload("shop", "task", "Task", "example.dev/v1")
SCALE = "PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale"
TASK_SCALE = "/apis/example.dev/v1/namespaces/shop/tasks/task/scale"


@dataclass
class Rig:
    server: FaultServer
    cluster: KubernetesCluster
    clock: FastClock
    tally: Tally

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await self.clock.sleep_until(self.clock.monotonic() + 0.5)

    async def seen(self, workload: Workload, state: Target = Target.OK) -> TargetFacts:
        await self.until(lambda: self.cluster.facts(workload).state is state)
        return self.cluster.facts(workload)


@asynccontextmanager
async def following(
    folder: Path, workloads: Iterable[Workload], namespaces: Sequence[str] | None = None, **scripts: Step
) -> AsyncIterator[Rig]:
    """A cluster that follows these, on a server whose routes "list", "watch" and "discovery" are scripted."""
    clock, tally = FastClock(100.0), Tally()
    async with FaultServer(clock) as server, client_of(server, folder) as client:
        for route, step in ({"watch": stream(then="silence")} | scripts).items():
            server.script(route, step)
        cluster = KubernetesCluster(Around(client, clock, tally, Random(1), PATIENT), namespaces)
        cluster.follow(workloads)
        task = asyncio.create_task(cluster.run())
        try:
            yield Rig(server, cluster, clock, tally)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def deployment(version: int, replicas: int = 3, ready: int = 0, name: str = "web", uid: str = "") -> Json:
    return thing(name, version, uid, spec={"replicas": replicas}, status={"replicas": replicas, "readyReplicas": ready})


def scale(version: int, replicas: int, uid: str = "uid-web", status_replicas: int = 0) -> Step:
    spec = {"replicas": replicas} if replicas else {}
    counted = {"replicas": status_replicas} if status_replicas else {}
    return answer({"kind": "Scale", **thing("any", version, uid, spec=spec, status=counted)})
