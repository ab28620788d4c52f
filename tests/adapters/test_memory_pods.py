"""Pods in memory keep the contracts that real ones keep."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan

import pytest

from autoscaler.adapters.memory_pods import MemoryPods, Template
from autoscaler.clock import ManualClock
from autoscaler.core.health.facts import Condition, Container, Node, Pod, PodEvent, Termination
from autoscaler.core.health.remedies import Act
from autoscaler.core.types import Workload
from autoscaler.errors import TransientError
from autoscaler.testing.pods import ACTIONS_CONTRACT, CONTRACT, Check

WEB = Workload("shop", "web")


class Harness:
    """Pods on a clock that stands still."""

    namespace = "shop"
    kinds: Sequence[tuple[str, str]] = (
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "ReplicaSet"),
        ("example.dev/v1", "Worker"),
    )

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watch = self.actions = MemoryPods(self.clock)

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


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in (*CONTRACT, *ACTIONS_CONTRACT)])
async def test_contract(check: Check) -> None:
    await check(Harness())


async def test_what_may_not_be_read_is_not_known() -> None:
    pods = MemoryPods(ManualClock())
    pods.create(WEB, 2)
    assert len(pods.owned(WEB) or ()) == 2
    pods.knows_controllers = pods.knows_nodes = False
    facts = pods.facts(1.0)
    assert (facts.controllers, facts.nodes) == (None, None)
    assert pods.owned(WEB) is None
    pods.synced = False
    assert not pods.facts(1.0).synced
    assert pods.owned(Workload("shop", "db", "StatefulSet")) is None


async def test_a_refusal_leaves_the_pod() -> None:
    async def refuse(act: Act) -> None:
        raise TransientError(f"the disruption budget of {act.pod} needs 1 healthy pods")

    pods = MemoryPods(ManualClock(), refuse)
    pods.create(WEB, 1, Template((Container("app", image="web:2"),), "node-7"))
    (pod,) = pods.owned(WEB) or ()
    assert (pod.node, pod.containers[0].image) == ("node-7", "web:2")
    with pytest.raises(TransientError, match="disruption budget"):
        await pods.remove(Act(True, pod.namespace, pod.name, pod.uid, pod.resource_version, ""), dry_run=False)
    assert pods.owned(WEB) == (pod,)


async def test_the_youngest_go_first() -> None:
    pods = MemoryPods(ManualClock())
    pods.create(Workload("shop", "db", "StatefulSet"), 3)
    pods.scale(Workload("shop", "db", "StatefulSet"), 1)
    assert [pod.name for pod in pods.facts(1.0).pods] == ["db-0"]
    with pytest.raises(ValueError, match="exists already"):
        pods.create(Workload("shop", "db", "StatefulSet"), 1)
