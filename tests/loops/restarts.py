"""A world that outlives its autoscaler: cluster, loads, clock and saved state stay while processes come, end in order, or are killed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from autoscaler.adapters.memory import MemoryCluster, MemorySource
from autoscaler.clock import ManualClock
from autoscaler.core.plant import Plant
from autoscaler.core.spec import WorkloadSpec
from autoscaler.core.types import Mode, Workload
from autoscaler.loops.board import Board
from autoscaler.loops.group import Surroundings
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.loops.state import StateKeeper
from autoscaler.loops.stepping import Walker
from autoscaler.testing.recorder import MemoryRecorder
from tests.core import build
from tests.loops.rig import INTERVAL_S, START_S, walked_here


class MemoryStore:
    """Shards in a dictionary. ``before_load`` and ``before_save`` are awaited ahead: what they raise is the answer."""

    def __init__(self) -> None:
        self.shards: dict[int, bytes] = {}
        self.writes: list[tuple[float, int]] = []
        self.before_load: Callable[[], Awaitable[None]] | None = None
        self.before_save: Callable[[int], Awaitable[None]] | None = None
        self.monotonic: Callable[[], float] = lambda: 0.0

    async def load(self) -> Mapping[int, bytes]:
        if self.before_load is not None:
            await self.before_load()
        return dict(self.shards)

    async def save(self, shard: int, data: bytes) -> None:
        if self.before_save is not None:
            await self.before_save(shard)
        self.writes.append((self.monotonic(), shard))
        self.shards[shard] = data


class World:
    """What is there whether or not an autoscaler runs."""

    def __init__(self, specs: Sequence[WorkloadSpec], replicas: int = 2, mode: Mode = Mode.ACTIVE) -> None:
        self.clock, self.recorder, self.store, self.mode = ManualClock(START_S), MemoryRecorder(), MemoryStore(), mode
        self.store.monotonic = self.clock.monotonic
        self.source, self.cluster = MemorySource(self.clock), MemoryCluster(self.clock, Plant(startup_s=0.0))
        self.specs = list(specs)
        self.loads = {spec.workload.name: float(replicas) for spec in specs}
        self.walk: Walker = walked_here
        self.written: list[tuple[Workload, int]] = []
        for spec in specs:
            self.cluster.create(spec.workload, replicas)
        self.cluster.before = self._count
        self._pods: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def _count(self, workload: Workload, replicas: int) -> None:
        self.written.append((workload, replicas))

    async def begin(self) -> None:
        """Start a process."""
        if self._pods is None:
            self._pods = asyncio.create_task(self.cluster.run())
        self.keeper = StateKeeper(self.store, self.clock, self.recorder)
        free = asyncio.Semaphore(2)
        around = Surroundings(self.source, self.cluster, self.clock, self.recorder, free, self.mode, self.keeper.memories, self.walk)
        self.loop = ScalingLoop(around)
        self.keeper.keep(self.loop.keep)
        self.shown = MemoryRecorder()
        self.board = Board(self.loop, self.cluster, self.shown)
        self.loop.update(self.specs)
        self._tasks = [asyncio.create_task(self.keeper.run()), asyncio.create_task(self.loop.run())]
        await self.clock.settle()

    async def end(self) -> None:
        """SIGTERM."""
        await self.loop.close(1.0)
        await self.keeper.close(1.0)
        await self._cancel()

    async def kill(self) -> None:
        """SIGKILL: what is under way is cut, and nobody saves anything."""
        for group in self.loop.groups.values():
            for task in group.writer._tasks.values():  # noqa: SLF001 - a kill asks nobody
                task.cancel()
        await self.loop.close(0.0)
        await self._cancel()

    async def restart(self) -> None:
        await self.end()
        await self.begin()

    async def crash(self) -> None:
        await self.kill()
        await self.begin()

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def pass_ticks(self, ticks: int = 1, **loads: float) -> None:
        """Let ticks pass, at these loads from now on."""
        self.loads.update(loads)
        for _ in range(ticks):
            for name, load in self.loads.items():
                self.source.write("load", {"name": name}, self.clock.now() + 1.0, load)  # a tick at just this time has not seen it
            await self.clock.advance(INTERVAL_S)

    def replicas(self, name: str = "web") -> int:
        return self.cluster.replicas(build.workload(name))

    def set_replicas(self, replicas: int, name: str = "web", writer: str = "kubectl") -> None:
        self.cluster.set_replicas(build.workload(name), replicas, writer)

    def row(self, name: str = "web") -> dict[str, Any]:
        found = self.board.workload("shop", name)
        assert found is not None
        return found

    async def close(self) -> None:
        await self.kill()
        if self._pods is not None:
            self._pods.cancel()
            await asyncio.gather(self._pods, return_exceptions=True)


@asynccontextmanager
async def world(*specs: WorkloadSpec, replicas: int = 2, mode: Mode = Mode.ACTIVE) -> AsyncIterator[World]:
    """A world with a process in it; nothing of it runs afterwards."""
    made = World(specs, replicas, mode)
    await made.begin()
    try:
        yield made
    finally:
        await made.close()
        await made.clock.settle()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"something is left running: {left}"
