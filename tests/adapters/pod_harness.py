"""Pods in memory as the harness that their contract wants, for tests."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan

from autoscaler.adapters.memory_pods import MemoryPods
from autoscaler.clock import ManualClock
from autoscaler.core.health.facts import Condition, Node, Pod, PodEvent, Termination
from autoscaler.core.health.remedies import Act
from autoscaler.core.types import Workload


class Harness:
    """Pods on a clock that stands still."""

    namespace = "shop"
    kinds: Sequence[tuple[str, str]] = (
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "ReplicaSet"),
        ("example.dev/v1", "Worker"),
    )

    def __init__(self, made: type[MemoryPods] = MemoryPods) -> None:
        self.clock = ManualClock()
        self.watch = self.actions = made(self.clock)

    async def create(self, workload: Workload, replicas: int) -> None:
        self.watch.create(workload, replicas)

    async def delete(self, workload: Workload) -> None:
        self.watch.delete(workload)

    async def crash(self, pod: Pod) -> None:
        now = self.clock.now()
        container = replace(
            pod.containers[0], waiting="CrashLoopBackOff", running=False, running_s=nan, restarts=1, last=Termination(1, "Error", now, now)
        )
        self.watch.put(replace(pod, containers=(container,)))

    async def kill(self, pod: Pod) -> None:
        self.watch.tell(pod, PodEvent("Killing", pod.containers[0].name, "liveness", self.clock.now()))

    async def remove(self, pod: Pod) -> None:
        now = await self.actions.read(pod.namespace, pod.name)
        assert now is not None
        await self.actions.remove(Act(False, now.namespace, now.name, now.uid, now.resource_version, ""), dry_run=False)

    async def create_node(self, name: str) -> None:
        self.watch.put(Node(name, f"uid-{name}", conditions=(Condition("Ready", "True", "", self.clock.now()),)))

    async def until(self, condition: Callable[[], bool]) -> None:
        await self.clock.settle()
        if not condition():
            raise TimeoutError
