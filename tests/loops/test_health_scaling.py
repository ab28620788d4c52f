"""Both halves at once: what the health loop says of a rollout reaches the scaling loop's next tick, and no more than that."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from math import nan

import numpy as np

from autoscaler.adapters.memory_pods import MemoryPods
from autoscaler.core.health.facts import Condition, Controller, Node, Owner, Pod
from autoscaler.core.health.verdict import Verdict
from autoscaler.core.observation import HealthFacts
from autoscaler.core.types import Reason
from autoscaler.loops.health import HealthLoop, Ward
from autoscaler.loops.verdicts import Verdicts
from tests.core import build
from tests.loops.rig import INTERVAL_S, Rig, scaled
from tests.loops.ward import Ill

NAME = "web"
WORKLOAD = build.workload(NAME)
LOAD = 20.0
"""Twice what the ten replicas of the start should carry."""


class Both:
    """A scaling loop and a health loop around the same workload of ten pods, whose load has just doubled."""

    def __init__(self, rig: Rig, pods: MemoryPods, health: HealthLoop) -> None:
        self.rig, self.pods, self.health = rig, pods, health

    def roll_out(self) -> None:
        """A new revision, ReplicaSet and all, to which five of the ten pods have changed over."""
        before = next(each for each in self._controllers() if each.kind == "ReplicaSet")
        now_s = self.rig.clock.now()
        newest = replace(before, name="web-2", uid="web-2-uid", revision="2", number=2, created_s=now_s)
        self.pods.put(newest)
        for pod in self.owned()[5:]:
            self.pods.put(replace(pod, revision="2", owner=Owner("ReplicaSet", "web-2", "web-2-uid"), created_s=now_s))

    def of(self, revision: str) -> list[Pod]:
        return [pod for pod in self.owned() if pod.revision == revision]

    def owned(self) -> tuple[Pod, ...]:
        return self.pods.owned(WORKLOAD) or ()

    def crash(self, pods: Sequence[Pod], restarts: int, code: int = 1, reason: str = "Error") -> None:
        for pod in pods:
            self.pods.put(Ill.crashing(pod, self.rig.clock.now(), restarts, code, reason))

    async def tick(self, ticks: int = 1) -> None:
        await self.rig.pass_ticks(ticks)

    def facts(self) -> HealthFacts | None:
        """What the last tick knew of health; it is in the record, so a replay knows it too."""
        return self.rig.loop.groups[INTERVAL_S].records[-1].observation.health

    def reason(self) -> str:
        return str(self.rig.row(NAME)["reason"])

    def _controllers(self) -> list[Controller]:
        return list((self.pods.facts(0).controllers or {}).values())


@asynccontextmanager
async def both() -> AsyncIterator[Both]:
    rig = Rig()
    pods = MemoryPods(rig.clock)
    pods.put(Node("node-1", "node-1-uid", conditions=(Condition("Ready", "True", "KubeletReady", rig.clock.now()),)))
    rig.cluster.create(WORKLOAD, 10)
    rig.loads[NAME] = 10.0
    rig.loop.update([scaled(NAME)])
    pods.create(WORKLOAD, 10, uid=rig.cluster.facts(WORKLOAD).uid)
    health = HealthLoop(Ward(pods, rig.clock, rig.recorder, verdicts=rig.around.verdicts, scale_ups=rig.loop.scale_ups))
    tasks = [asyncio.create_task(run()) for run in (rig.cluster.run, rig.loop.run, health.run)]
    try:
        yield Both(rig, pods, health)
    finally:
        await rig.loop.close(0.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_healthy_workload_is_scaled_up() -> None:
    async with both() as world:
        await world.tick()
        world.rig.loads[NAME] = LOAD
        await world.tick(4)
        assert world.rig.replicas(NAME) == 20
        facts = world.facts()
        assert facts is not None
        assert (facts.pods[0], facts.crash_pods[0]) == (10, 0)


async def test_a_broken_rollout_is_given_no_more_pods() -> None:
    async with both() as world:
        await world.tick()
        world.roll_out()
        world.crash(world.of("2"), 3)
        world.rig.loads[NAME] = LOAD
        await world.tick(4)
        assert (world.rig.replicas(NAME), world.reason()) == (10, Reason.HEALTH_HOLD.name)
        facts = world.facts()
        assert facts is not None
        assert (facts.pods[0], facts.crash_pods[0], facts.served[0]) == (5, 5, False)


async def test_pods_that_die_of_overload_get_more_of_their_kind() -> None:
    """They have served, then ran out of memory under twice the load: more replicas are what they need."""
    async with both() as world:
        await world.tick()
        world.roll_out()
        await world.tick(4)
        world.crash(world.of("2"), 3, code=137, reason="OOMKilled")
        world.rig.loads[NAME] = LOAD
        await world.tick(4)
        assert world.rig.replicas(NAME) == 20
        facts = world.facts()
        assert facts is not None
        assert (facts.crash_pods[0], facts.overload_pods[0], facts.served[0]) == (5, 5, True)


async def test_a_revision_that_was_good_for_long_is_not_a_broken_rollout() -> None:
    async with both() as world:
        await world.tick()
        world.roll_out()
        await world.tick(24)
        world.crash(world.of("2"), 3)
        world.rig.loads[NAME] = LOAD
        await world.tick(4)
        assert world.rig.replicas(NAME) == 20


async def test_what_the_last_revision_suffered_from_too_is_not_the_rollouts_fault() -> None:
    async with both() as world:
        await world.tick()
        world.crash(world.owned()[:2], 3)
        await world.tick()
        world.roll_out()
        world.crash(world.of("2"), 3)
        world.rig.loads[NAME] = LOAD
        await world.tick(4)
        assert world.rig.replicas(NAME) == 20


async def test_a_health_loop_that_stands_still_holds_nothing() -> None:
    async with both() as world:
        await world.tick()
        world.roll_out()
        world.crash(world.of("2"), 3)
        world.rig.loads[NAME] = LOAD
        await world.tick(2)
        assert world.reason() == Reason.HEALTH_HOLD.name
        world.pods.synced = False
        await world.tick(8)
        assert world.rig.replicas(NAME) == 20


async def test_our_own_writes_are_told_to_the_health_loop() -> None:
    async with both() as world:
        await world.tick()
        world.rig.loads[NAME] = LOAD
        await world.tick(2)
        uid = world.rig.cluster.facts(WORKLOAD).uid
        (up,) = [each for key, each in world.rig.loop.scale_ups().items() if key == uid]
        assert (up.before, up.after) == (10.0, 20.0)
        world.rig.loads[NAME] = 5.0
        await world.tick(40)
        assert world.rig.loop.scale_ups() == {}


def test_verdicts_come_in_the_order_of_the_slots() -> None:
    verdicts = Verdicts()
    assert verdicts.columns(2, {0: "a"}) is None
    verdict = Verdict(1.0, 2.0, 3, 1, 0, nan, served=True, previous_crashing=False)
    verdicts.publish({"a": verdict})
    assert verdicts.columns(2, {0: "b"}) is None
    found = verdicts.columns(3, {2: "a", 0: "b"})
    assert found is not None
    assert np.array_equal(found.pods, [nan, nan, 3.0], equal_nan=True)
    assert found.served.tolist() == [False, False, True]
