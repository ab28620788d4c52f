"""Writes replica counts, a bounded number at a time, and remembers which writes were ours.

A workload whose write is still under way is not written again. A write whose outcome is not known (the connection died, say) counts
as ours if the next look shows the count that it wrote.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.types import Workload
from autoscaler.errors import AutoscalerError, PermanentError, StaleViewError
from autoscaler.ports import Cluster, Recorder, TargetFacts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """One write of ours: the tick that decided it, and the counts before and after."""

    at_s: float
    before: float
    after: float


class Writer:
    """The writes of one group; ``free`` bounds those of all groups together."""

    def __init__(self, cluster: Cluster, clock: Clock, recorder: Recorder, free: asyncio.Semaphore) -> None:
        self._cluster, self._clock, self._recorder, self._free = cluster, clock, recorder, free
        self._tasks: dict[Workload, asyncio.Task[None]] = {}
        self._confirmed: dict[Workload, Written] = {}
        self._unsure: dict[Workload, Written] = {}
        self._problems: dict[Workload, str] = {}

    def start(self, workload: Workload, seen: TargetFacts, replicas: int, at_s: float) -> None:
        """Begin to write; does nothing while an earlier write to the same workload is under way."""
        if workload in self._tasks:
            return
        self._unsure.pop(workload, None)
        task = asyncio.create_task(self._write(workload, seen, Written(at_s, seen.replicas, replicas)), name=f"scale {workload}")
        self._tasks[workload] = task
        task.add_done_callback(lambda _: self._tasks.pop(workload, None))

    async def _write(self, workload: Workload, seen: TargetFacts, write: Written) -> None:
        fields = {"workload": str(workload), "from": write.before, "to": write.after}
        async with self._free:
            try:
                await self._cluster.scale(workload, seen, int(write.after))
            except StaleViewError as error:
                self._failed(workload, "stale", str(error), log.info, fields)
            except PermanentError as error:
                self._failed(workload, "refused", str(error), log.error, fields)
            except AutoscalerError as error:
                self._unsure[workload] = write
                self._failed(workload, "failed", str(error), log.warning, fields)
            else:
                self._recorder.add(metrics.WRITES, "ok")
                self._confirmed[workload] = write
                self._problems.pop(workload, None)

    def _failed(self, workload: Workload, outcome: str, problem: str, say: Callable[..., None], fields: dict[str, object]) -> None:
        self._recorder.add(metrics.WRITES, outcome)
        if self._problems.get(workload) != problem:
            say("write %s: %s", outcome, problem, extra={"fields": fields})
        self._problems[workload] = problem

    def confirmed(self) -> dict[Workload, Written]:
        """The writes that went through since this was last asked."""
        for workload, write in list(self._unsure.items()):
            if self._cluster.facts(workload).replicas == write.after:
                self._confirmed[workload] = self._unsure.pop(workload)
        found, self._confirmed = self._confirmed, {}
        return found

    def problem(self, workload: Workload) -> str:
        """Why the last write did not go through; empty if it did."""
        return self._problems.get(workload, "")

    def forget(self, workload: Workload) -> None:
        """The workload is no longer ours."""
        for memory in (self._confirmed, self._unsure, self._problems):
            memory.pop(workload, None)

    async def wait(self, seconds: float) -> None:
        """Wait for the writes under way, that long at most; those that take longer go on."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        try:
            async with self._clock.timeout(max(0.0, seconds)):
                await asyncio.wait(tasks)
        except TimeoutError:
            return

    async def close(self, seconds: float) -> None:
        """Let writes under way finish for that long, then give them up."""
        await self.wait(seconds)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
