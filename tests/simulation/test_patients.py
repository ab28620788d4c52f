"""Pods that fall ill: what their statuses say over time, and what the health core makes of it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from autoscaler.adapters.memory_pods import MemoryPods, Template
from autoscaler.clock import ManualClock
from autoscaler.core.health.assess import Memory, assess
from autoscaler.core.health.facts import Condition, Container, Node, Pod
from autoscaler.core.types import Workload
from autoscaler.simulation.patients import Illness, Patient, crash_looping, never_ready, out_of_memory, play

WORKLOAD = Workload("shop", "mailer")
LOOK_S = 10.0


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Clinic:
    """One workload of six pods, on a healthy node."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pods = MemoryPods(self.clock)
        self.pods.put(Node("node-1", "node-1-uid", conditions=(Condition("Ready", "True"),)))
        self.pods.create(WORKLOAD, 6, Template((Container("app", image="mailer:1"),)))
        self.memory, _ = assess(Memory(), self.pods.facts(self.clock.now()))

    def first(self) -> Pod:
        (pod, *_) = self.pods.owned(WORKLOAD) or ()
        return pod

    def due(self) -> list[str]:
        self.memory, found = assess(self.memory, self.pods.facts(self.clock.now()))
        return [str(each.cause) for each in found.due()]


@pytest.mark.parametrize(
    ("after_s", "restarts", "waiting", "runs"),
    [
        pytest.param(0.0, 1, "", True, id="the-first-restart-is-immediate"),
        pytest.param(4.0, 1, "CrashLoopBackOff", False, id="then-ten-seconds"),
        pytest.param(14.0, 2, "", True, id="second"),
        pytest.param(18.0, 2, "CrashLoopBackOff", False, id="then-twenty"),
        pytest.param(600.0, 6, "CrashLoopBackOff", False, id="after-ten-minutes"),
    ],
)
def test_a_crash_loop_backs_off_as_a_kubelet_does(after_s: float, restarts: int, waiting: str, runs: bool) -> None:  # noqa: FBT001
    pod = Clinic().first()
    (container,) = crash_looping(pod, 100.0, 100.0 + after_s).containers
    assert (container.restarts, container.waiting, container.running) == (restarts, waiting, runs)
    assert container.last is not None
    assert container.last.finished_s <= 100.0 + after_s


@pytest.mark.parametrize(
    ("illness", "seen"),
    [
        pytest.param(crash_looping, {10.0: [], 600.0: ["CrashLoop"], 3600.0: ["CrashLoop"]}, id="crash-loop"),
        pytest.param(out_of_memory, {10.0: ["OutOfMemory"], 60.0: ["OutOfMemory"], 300.0: []}, id="out-of-memory-once"),
        pytest.param(never_ready, {600.0: [], 960.0: ["Unready"], 7200.0: ["Unready"]}, id="never-ready"),
    ],
)
async def test_what_the_core_finds(illness: Illness, seen: dict[float, list[str]]) -> None:
    clinic = Clinic()
    async with running(play([Patient(WORKLOAD, "mailer:1", "node-1", illness, first_s=2.0)], clinic.pods, clinic.clock)):
        passed_s, found = 0.0, list[str]()
        for after_s, expected in seen.items():
            while passed_s < after_s:  # as often as the health loop looks, at least
                await clinic.clock.advance(LOOK_S)
                passed_s += LOOK_S
                found = clinic.due()
            assert found == expected, after_s


async def test_a_patient_is_cured_by_a_new_pod_or_in_time_and_falls_ill_again() -> None:
    clinic = Clinic()
    patient = Patient(WORKLOAD, "mailer:1", "node-1", crash_looping, first_s=10.0, every_s=1000.0, lasts_s=400.0)
    ill: list[str] = []
    async with running(play([patient], clinic.pods, clinic.clock)):
        for _ in range(300):
            await clinic.clock.advance(10.0)
            now = [pod.name for pod in clinic.pods.owned(WORKLOAD) or () if not pod.is_ready]
            if now and now != ill[-1:]:
                ill += now
                if len(ill) == 1:
                    clinic.pods.drop(next(pod for pod in clinic.pods.owned(WORKLOAD) or () if pod.name == ill[0]))
            assert len(now) <= 1
    assert len(ill) == len(set(ill)) == 2
    well = next(pod for pod in clinic.pods.owned(WORKLOAD) or () if pod.name == ill[1])
    assert well.is_ready
    assert well.containers[0].restarts > 5
