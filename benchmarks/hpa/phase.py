"""One controller under load: let it settle, measure, and give the last steps time for their answers."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.hpa.rig import CONTROLLERS, Rig
from benchmarks.hpa.source import Pushed, name_of, number_of
from benchmarks.hpa.steps import Journal, Step, load_of, percentiles, plan
from benchmarks.hpa.usage import Usage, usage

PUSH_EVERY_S = 0.02
READY_S = 180.0


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds under load before the measurement, of it, and after it for answers that are still to come."""

    settle_s: float
    measure_s: float
    tail_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Phase:
    """Which controller at which interval: ``hpa``, ``own`` (a query for each workload) or ``many`` (one for all)."""

    controller: str
    interval_s: float

    def __str__(self) -> str:
        return f"{self.controller}@{self.interval_s:g}s"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured. mCPU: thousandths of a core, on the average; by process, the controller's is ``controller``."""

    phase: str
    workloads: int
    seconds: float
    mcpu: dict[str, float]
    rss_mib: float
    peak_mib: float
    requests_per_s: float
    requests: dict[str, float]
    reaction_p50_s: float
    reaction_p99_s: float
    reaction_max_s: float
    steps: int
    missed: int
    load_average: float

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Driver:
    """Steps the loads, and keeps what became of it. One for a whole run: counts go on from phase to phase."""

    def __init__(self, rig: Rig, counts: list[int], seed: int) -> None:
        self.rig, self.counts, self._seed = rig, counts, seed
        self._journal = Journal()
        self._phases = 0

    async def run(self, phase: Phase, durations: Durations) -> Outcome:
        """One phase, from a controller's start to its end."""
        rig = self.rig
        self._phases += 1
        self._journal = journal = Journal()
        await self._level(phase)
        started = asyncio.Event()
        watching = asyncio.create_task(rig.api.watch(rig.deployments, self._seen, started))
        await started.wait()
        try:
            async with CONTROLLERS[phase.controller](rig, phase.interval_s) as pid:
                stepping = asyncio.create_task(self._step(phase, plan(self.counts, self._seed + self._phases)))
                await self._settled(durations.settle_s, watching, stepping)
                pids = {"controller": pid(), **rig.pids()}
                first_requests = await rig.api.requests()
                began_s, before = time.monotonic(), _usages(pids)
                await asyncio.wait([watching, stepping], timeout=durations.measure_s, return_when=asyncio.FIRST_COMPLETED)
                ended_s, after = time.monotonic(), _usages(pids)
                load_average = os.getloadavg()[0]
                requests = await rig.api.requests() - first_requests
                await asyncio.wait([watching, stepping], timeout=durations.tail_s, return_when=asyncio.FIRST_COMPLETED)
                for task in (watching, stepping):
                    if task.done():
                        task.result()
                stepping.cancel()
                with suppress(asyncio.CancelledError):
                    await stepping
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        span = (began_s, ended_s)
        return self._outcome(phase, journal, span, before, after, requests, load_average)

    def _outcome(  # noqa: PLR0913, PLR0917 - what was read at both ends of the measurement
        self,
        phase: Phase,
        journal: Journal,
        span: tuple[float, float],
        before: dict[str, Usage],
        after: dict[str, Usage],
        requests: Counter[str],
        load_average: float,
    ) -> Outcome:
        seconds = span[1] - span[0]
        reactions, missed = journal.reactions(*span)
        p50, p99, most = percentiles(reactions)
        return Outcome(
            phase=str(phase),
            workloads=self.rig.workloads,
            seconds=seconds,
            mcpu={name: 1000 * (after[name].cpu_s - before[name].cpu_s) / seconds for name in before},
            rss_mib=after["controller"].rss_mib,
            peak_mib=after["controller"].peak_mib,
            requests_per_s=sum(requests.values()) / seconds,
            requests={name: count / seconds for name, count in requests.most_common(12)},
            reaction_p50_s=p50,
            reaction_p99_s=p99,
            reaction_max_s=most,
            steps=len(reactions) + missed,
            missed=missed,
            load_average=load_average,
        )

    async def _level(self, phase: Phase) -> None:
        """Every workload has the count that its load asks for, and both sources say so."""
        rig = self.rig
        for workload, count in enumerate(self.counts):
            rig.external.loads[workload] = load_of(count)
        if phase.controller != "hpa":
            now_ms = int(time.time() * 1000)
            await rig.push.push([Pushed(workload, load_of(count), now_ms) for workload, count in enumerate(self.counts)])
        await rig.api.scale(rig.deployments, {name_of(workload): count for workload, count in enumerate(self.counts)})

    async def _settled(self, settle_s: float, *tasks: asyncio.Task[None]) -> None:
        """Wait, and until the controller answers steps at all."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < settle_s or not self._journal.written:
            if time.monotonic() - began_s > READY_S:
                raise RuntimeError(f"no step was answered within {READY_S:g} s of the start")
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.2)

    async def _step(self, phase: Phase, steps: Iterator[Step]) -> None:
        """Let steps happen at their times; what is due at one look is pushed together."""
        began_s, ahead = time.monotonic(), next(steps)
        while True:
            await asyncio.sleep(PUSH_EVERY_S)
            due: list[Step] = []
            while ahead.at_s <= time.monotonic() - began_s:
                due.append(ahead)
                ahead = next(steps)
            if phase.controller == "hpa":
                for step in due:
                    self.rig.external.loads[step.workload] = step.load
            elif due:
                now_ms = int(time.time() * 1000)
                await self.rig.push.push([Pushed(step.workload, step.load, now_ms) for step in due])
            at_s = time.monotonic()
            for step in due:
                self.counts[step.workload] = step.count
                self._journal.step(at_s, step)

    def _seen(self, at_s: float, name: str, count: int) -> None:
        self._journal.write(at_s, number_of(name), count)


def _usages(pids: dict[str, int]) -> dict[str, Usage]:
    return {name: usage(pid) for name, pid in pids.items()}
