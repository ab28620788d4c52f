"""The health loop on pods in memory and a clock that tests move; the pods and what was saved outlive the process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from autoscaler.adapters.memory_pods import MemoryPods, Template
from autoscaler.clock import ManualClock
from autoscaler.core.health.facts import Condition, Container, Node, Pod, ScaleUp, Termination
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.health.remedies import Remedy
from autoscaler.core.health.report import Report
from autoscaler.core.types import Workload
from autoscaler.loops.health import Care, HealthLoop, Ward
from autoscaler.loops.verdicts import Verdicts
from autoscaler.ports import PodActions
from autoscaler.testing.recorder import MemoryRecorder
from tests.loops.restarts import MemoryStore

START_S = 1_800_000_000.0
WEB = Workload("shop", "web")
REPORT = HealthSpec("shop", "default", sinks=("pager",), origin="health.yaml (default)")
RESTART = replace(REPORT, remedies={"crashLoop": Remedy.RESTART, "wedgedStatefulSet": Remedy.DELETE, "unready": Remedy.RESTART})


class Ill:
    """Ways in which a pod's container may be ill, as its status tells."""

    @staticmethod
    def crashing(pod: Pod, at_s: float, restarts: int, code: int = 1, reason: str = "Error") -> Pod:
        ended = Termination(code, reason, at_s - 5, at_s)
        return _with(pod, at_s, ready=False, started=False, running=False, waiting="CrashLoopBackOff", restarts=restarts, last=ended)

    @staticmethod
    def restarted(pod: Pod, at_s: float, restarts: int, code: int = 1, reason: str = "Error") -> Pod:
        """It ended a moment ago, and runs again."""
        ended = Termination(code, reason, at_s - 5, at_s)
        return _with(pod, at_s, ready=True, running=True, running_s=at_s, waiting="", restarts=restarts, last=ended)

    @staticmethod
    def waiting(pod: Pod, at_s: float, reason: str) -> Pod:
        return _with(pod, at_s, ready=False, started=False, running=False, waiting=reason)

    @staticmethod
    def unready(pod: Pod, at_s: float) -> Pod:
        return _with(pod, at_s, ready=False)


def _with(pod: Pod, at_s: float, **changes: Any) -> Pod:  # noqa: ANN401 - fields of Container
    container = replace(pod.containers[0], **changes)
    status, reason = ("True", "") if container.ready else ("False", "ContainersNotReady")
    others = tuple(each for each in pod.conditions if each.type != "Ready")
    return replace(pod, containers=(container,), conditions=(*others, Condition("Ready", status, reason, at_s)))


class World:
    """What is there whether or not the service runs."""

    def __init__(self) -> None:
        self.clock, self.store = ManualClock(START_S), MemoryStore()
        self.store.monotonic = self.clock.monotonic
        self.pods = MemoryPods(self.clock)
        self.workloads: list[Workload] = []
        for name in ("node-1", "node-2"):
            self.pods.put(Node(name, f"uid-{name}", conditions=(Condition("Ready", "True", "KubeletReady", START_S - 9e5),)))

    def make(self, workload: Workload = WEB, replicas: int = 20, node: str = "node-1", image: str = "web:1") -> None:
        self.workloads.append(workload)
        self.pods.create(workload, replicas, Template((Container("app", image=image),), node))

    def of(self, workload: Workload = WEB) -> tuple[Pod, ...]:
        found = self.pods.owned(workload)
        assert found is not None
        return found

    def crash(self, pod: Pod, restarts: int, **more: Any) -> None:  # noqa: ANN401 - of Ill.crashing
        """Let a pod be backing off after its so-manieth restart, which has just happened; one that is gone stays so."""
        for workload in self.workloads:
            for now in self.pods.owned(workload) or ():
                if now.uid == pod.uid:
                    self.pods.put(Ill.crashing(now, self.clock.now(), restarts, **more))


class Service:
    """A health loop that runs, and what it has said."""

    def __init__(self, world: World, care: Care, specs: Sequence[HealthSpec], actions: PodActions, *, with_store: bool) -> None:
        self.world, self.reports, self.recorder, self.verdicts = world, list[Report](), MemoryRecorder(), Verdicts()
        self.scale_ups: dict[str, ScaleUp] = {}
        ward = Ward(
            world.pods,
            world.clock,
            self.recorder,
            care,
            actions,
            world.store if with_store else None,
            self.verdicts,
            self.reports.append,
            scale_ups=lambda: self.scale_ups,
        )
        self.loop = HealthLoop(ward)
        self.loop.use(specs)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self.loop.run())
        await self.pass_s(1.0)

    async def stop(self, *, kill: bool = False) -> None:
        """End in order, with a last save; or as a kill does, in the middle of whatever it does."""
        if self._task is None:
            return
        doomed = asyncio.all_tasks() - {asyncio.current_task()} if kill else {self._task}
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        if not kill:
            await self.loop.close(2.0)
        self._task = None

    async def pass_s(self, seconds: float) -> None:
        await self.world.clock.advance(seconds)

    async def crash_on(self, pod: Pod, times: int = 6, every_s: float = 130.0) -> None:
        """Let a pod crash again and again, over and over, while time passes."""
        for restarts in range(1, times + 1):
            self.world.crash(pod, restarts)
            await self.pass_s(every_s)

    def told(self, *kinds: Kind) -> list[tuple[str, str, str]]:
        """What people were told: kind, subject and cause of each report that is not for the record alone."""
        return [
            (str(each.change.kind), str(each.change.incident.finding.subject), str(each.change.incident.finding.cause))
            for each in self.reports
            if not each.change.silent and (not kinds or each.change.kind in kinds)
        ]

    def remedies(self) -> list[str]:
        """What was done or refused, in words, each once."""
        return list(dict.fromkeys(done.words for each in self.reports for done in each.remedies))


@asynccontextmanager
async def serving(
    world: World, *specs: HealthSpec, care: Care | None = None, actions: PodActions | None = None, with_store: bool = True
) -> AsyncIterator[Service]:
    """A service under these policies (by default: report everything of the namespace); it has ended afterwards."""
    service = Service(world, care or Care(), specs or (REPORT,), actions or world.pods, with_store=with_store)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        assert len(asyncio.all_tasks()) == 1, f"something is left running: {asyncio.all_tasks()}"
