"""Pods in memory keep the contracts that real ones keep."""

import pytest

from autoscaler.adapters.memory_pods import MemoryPods, Template
from autoscaler.clock import ManualClock
from autoscaler.core.health.facts import Container
from autoscaler.core.health.remedies import Act
from autoscaler.core.types import Workload
from autoscaler.errors import TransientError
from autoscaler.testing.pods import ACTIONS_CONTRACT, CONTRACT, Check
from tests.adapters.pod_harness import Harness

WEB = Workload("shop", "web")


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
