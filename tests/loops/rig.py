"""The scaling loop on in-memory adapters and a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from autoscaler.adapters.memory import MemoryCluster, MemorySource
from autoscaler.clock import ManualClock
from autoscaler.core.plant import Plant
from autoscaler.core.spec import Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import Mode
from autoscaler.core.warming import Walk, walked
from autoscaler.loops.board import Board
from autoscaler.loops.group import Surroundings
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.loops.stepping import Answer, Walker
from autoscaler.ports import PodWatch, ResourceMetrics
from autoscaler.testing.recorder import MemoryRecorder
from tests.core import build

INTERVAL_S = 15.0
START_S = 1_800_000_000.0  # on the grid of 15 s


def scaled(name: str, **changes: Any) -> WorkloadSpec:  # noqa: ANN401 - fields of WorkloadSpec
    """A Deployment `name` at 1 to 100 replicas, one for each request/s of the source's series `load{name="…"}`."""
    series = SeriesSpec("requests", Query(f'load{{name="{name}"}}'), 1.0)
    return build.spec(name, **{"series": (series,), **changes})


async def walked_here(walk: Walk) -> Answer:
    """Steps over a past in this process."""
    return walked(walk)


@dataclass
class Rig:
    """One running loop; nothing happens until :meth:`pass_ticks`."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(START_S))
    recorder: MemoryRecorder = field(default_factory=MemoryRecorder)
    mode: Mode = Mode.ACTIVE
    pods: PodWatch | None = None
    usage: ResourceMetrics | None = None
    walk: Walker = walked_here

    def __post_init__(self) -> None:
        self.source = MemorySource(self.clock)
        self.cluster = MemoryCluster(self.clock, Plant(startup_s=0.0))
        self.around = Surroundings(self.source, self.cluster, self.clock, self.recorder, asyncio.Semaphore(2), self.mode)
        self.loop = ScalingLoop(replace(self.around, pods=self.pods, usage=self.usage, walk=self.walk))
        self.board = Board(self.loop, self.cluster, self.recorder)
        self.loads: dict[str, float] = {}

    async def pass_ticks(self, ticks: int = 1) -> None:
        """Let ticks pass; each sees the loads as they are now."""
        for _ in range(ticks):
            for name, load in self.loads.items():
                self.source.write("load", {"name": name}, self.clock.now(), load)
            await self.clock.advance(INTERVAL_S)

    def replicas(self, name: str) -> int:
        return self.cluster.replicas(build.workload(name))

    def row(self, name: str) -> dict[str, Any]:
        found = self.board.workload("shop", name)
        assert found is not None
        return found


@asynccontextmanager
async def running(specs: Sequence[WorkloadSpec], replicas: int = 2, mode: Mode = Mode.ACTIVE, rig: Rig | None = None) -> AsyncIterator[Rig]:
    """A loop that follows the specs, whose targets all exist with `replicas`; everything has ended afterwards."""
    rig = rig or Rig(mode=mode)
    for spec in specs:
        rig.cluster.create(spec.workload, replicas)
        rig.loads.setdefault(spec.workload.name, float(replicas))
    rig.loop.update(specs)
    tasks = [asyncio.create_task(rig.cluster.run()), asyncio.create_task(rig.loop.run())]
    try:
        yield rig
    finally:
        await rig.loop.close(0.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(asyncio.all_tasks()) == 1, f"something is left running: {asyncio.all_tasks()}"


def hanging(release: asyncio.Event, *names: str) -> Callable[[Query], Awaitable[None]]:
    """A hook for MemorySource.before: questions about these workloads wait for `release`."""

    async def before(query: Query) -> None:
        if any(f'"{name}"' in query.text for name in names):
            await release.wait()

    return before
