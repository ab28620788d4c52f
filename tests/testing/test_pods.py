"""The contract of the ports PodWatch and PodActions finds what it is there to find: each breach below fails the check it is meant for."""

import asyncio
from dataclasses import replace

import pytest

from autoscaler.adapters.memory_pods import MemoryPods
from autoscaler.clock import ManualClock
from autoscaler.core.health.facts import Facts, Node, Pod, PodEvent
from autoscaler.core.health.remedies import Act
from autoscaler.core.types import Workload
from autoscaler.errors import AutoscalerError
from autoscaler.testing import pods as contract
from tests.adapters.pod_harness import Harness


class ForgetsToSort(MemoryPods):
    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        return (super().owned(workload) or ())[::-1]


class KnowsNoDeployments(MemoryPods):
    def facts(self, at_s: float) -> Facts:
        facts = super().facts(at_s)
        return replace(facts, controllers={uid: each for uid, each in (facts.controllers or {}).items() if each.kind != "Deployment"})


class TakesNoneForUnknown(MemoryPods):
    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        return super().owned(workload) or None


class SeesNoCrashes(MemoryPods):
    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        return tuple(replace(each, containers=(replace(each.containers[0], waiting=""),)) for each in super().owned(workload) or ())


class MakesFactsAnew(MemoryPods):
    def facts(self, at_s: float) -> Facts:
        facts = super().facts(at_s)
        return replace(facts, pods=tuple(replace(each) for each in facts.pods))


class RemembersThePods(MemoryPods):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.all: dict[str, Pod] = {}

    def facts(self, at_s: float) -> Facts:
        facts = super().facts(at_s)
        self.all |= {each.uid: each for each in facts.pods}
        return replace(facts, pods=tuple(self.all.values()))

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        self.facts(0.0)
        return super().owned(workload)


class KeepsItsFirstAnswer(MemoryPods):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.first: tuple[Pod, ...] = ()

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        self.first = self.first or super().owned(workload) or ()
        return self.first


class MixesNamespaces(MemoryPods):
    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        return super().owned(workload._replace(namespace="shop"))


class NeverWakes(MemoryPods):
    async def changed(self) -> None:
        await asyncio.Event().wait()


class HearsNoProbe(MemoryPods):
    def tell(self, pod: Pod, event: PodEvent) -> None:
        super().tell(pod, event._replace(probe=""))


class TakesNodesForLost(MemoryPods):
    def facts(self, at_s: float) -> Facts:
        facts = super().facts(at_s)
        return replace(facts, nodes={name: Node(name, unreachable=True) for name in facts.nodes or ()})


class ReadsFromItsCache(MemoryPods):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.first: dict[str, Pod] = {}

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        found = super().owned(workload)
        self.first.update({each.name: each for each in found or () if each.name not in self.first})
        return found

    async def read(self, namespace: str, name: str) -> Pod | None:
        return self.first.get(name) or await super().read(namespace, name)


class RemovesNothing(MemoryPods):
    async def remove(self, act: Act, *, dry_run: bool) -> None:
        """Say that it has."""


class ForgetsThatItIsADryRun(MemoryPods):
    async def remove(self, act: Act, *, dry_run: bool) -> None:
        await super().remove(act, dry_run=dry_run and act.uid == "another")


class RemovesWhateverHasTheName(MemoryPods):
    async def remove(self, act: Act, *, dry_run: bool) -> None:
        pod = await self.read(act.namespace, act.pod)
        if pod is not None:
            act = replace(act, uid=pod.uid, resource_version=pod.resource_version)
        await super().remove(act, dry_run=dry_run)


BREACHES: list[tuple[type[MemoryPods], contract.Check]] = [
    (ForgetsToSort, contract.knows_whose_pods_are),
    (KnowsNoDeployments, contract.knows_the_controllers),
    (TakesNoneForUnknown, contract.tells_of_no_pods),
    (SeesNoCrashes, contract.sees_a_crash),
    (MakesFactsAnew, contract.keeps_facts_that_did_not_change),
    (RemembersThePods, contract.sees_a_pod_replaced),
    (KeepsItsFirstAnswer, contract.tells_a_new_workload_of_the_same_name),
    (MixesNamespaces, contract.keeps_namespaces_apart),
    (NeverWakes, contract.wakes_up_for_news),
    (HearsNoProbe, contract.hears_of_kills),
    (TakesNodesForLost, contract.knows_nodes),
    (ReadsFromItsCache, contract.reads_a_pod_past_the_caches),
    (RemovesNothing, contract.removes_a_pod),
    (ForgetsThatItIsADryRun, contract.only_tries_in_a_dry_run),
    (RemovesWhateverHasTheName, contract.removes_only_what_was_seen),
]


@pytest.mark.parametrize(("breach", "check"), [pytest.param(*row, id=f"{row[0].__name__}-{row[1].__name__}") for row in BREACHES])
async def test_breach_is_found(breach: type[MemoryPods], check: contract.Check) -> None:
    with pytest.raises((AssertionError, TimeoutError, AutoscalerError)):
        await check(Harness(breach))


def test_every_check_finds_something() -> None:
    assert {check for _, check in BREACHES} == {*contract.CONTRACT, *contract.ACTIONS_CONTRACT}
