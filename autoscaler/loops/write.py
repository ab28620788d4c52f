"""Writes replica counts, a bounded number at a time, and tells our own writes from other people's.

A workload whose write is still under way is not written again. A write whose outcome is not known (the connection died, say) counts
as ours if the next look shows the count that it wrote. A count of ours that somebody replaces is a revert; three of them within ten
minutes, and the workload is left alone for an hour, or until its policy changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from math import nan
from typing import Any, TypeAlias

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.types import Target, Workload
from autoscaler.errors import AutoscalerError, PermanentError, StaleViewError
from autoscaler.ports import Cluster, Owner, Recorder, TargetFacts

log = logging.getLogger(__name__)

REVERTS = 3
REVERTS_WITHIN_S = 600.0
LEAVE_ALONE_S = 3600.0

UNSURE_S = 120.0
"""A write whose outcome is not known has not gone through if it does not show for so long."""


@dataclass(frozen=True, slots=True)
class Written:
    """One write of ours: the tick that decided it, and the counts before and after (NaN: not known)."""

    at_s: float
    before: float
    after: float


class Outcome(IntEnum):
    """What is known of our last write."""

    TAKEN = 0
    """It went through, and a tick has taken it in."""
    CONFIRMED = 1
    """It went through; the next tick takes it in."""
    UNSURE = 2
    """It is under way, or nobody heard what became of it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of one workload's writes: our last one unless somebody has replaced its count since, and the reverts.

    ``stop_until_s``: it is left alone until then (NaN: it is not), because of ``stopped_by``.
    """

    last: Written | None = None
    outcome: Outcome = Outcome.TAKEN
    reverts_s: tuple[float, ...] = ()
    stop_until_s: float = nan
    stopped_by: str = ""


NOTHING_WRITTEN = Standing()


Note: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


async def _no_note() -> None:
    """Nobody saves anything."""


class Writer:
    """The writes of one group; ``free`` bounds those of all groups together."""

    def __init__(self, cluster: Cluster, clock: Clock, recorder: Recorder, free: asyncio.Semaphore, note: Note = _no_note) -> None:
        """``note`` saves what is remembered now: a zero is noted before it is written, or nobody would wake it after a kill."""
        self._cluster, self._clock, self._recorder, self._free, self._note = cluster, clock, recorder, free, note
        self._tasks: dict[Workload, asyncio.Task[None]] = {}
        self._questions: set[asyncio.Task[None]] = set()
        self._standings: dict[Workload, Standing] = {}
        self._problems: dict[Workload, str] = {}

    def start(self, workload: Workload, seen: TargetFacts, replicas: int, at_s: float) -> None:
        """Begin to write; does nothing while an earlier write to the same workload is under way."""
        if workload in self._tasks:
            return
        write = Written(at_s, seen.replicas, replicas)
        task = asyncio.create_task(self._write(workload, seen, write), name=f"scale {workload}")
        self._tasks[workload] = task
        task.add_done_callback(lambda done: self._tasks.pop(workload) if self._tasks.get(workload) is done else None)

    async def _write(self, workload: Workload, seen: TargetFacts, write: Written) -> None:
        fields = {"workload": str(workload), "from": write.before, "to": write.after}
        before = self.standing(workload)
        self._know(workload, write, Outcome.UNSURE)
        noted = False
        try:
            if write.after == 0:
                await self._note()
            noted = True
            async with self._free:
                await self._cluster.scale(workload, seen, int(write.after))
        except StaleViewError as error:
            self._know(workload, before.last, before.outcome)
            self._failed(workload, "stale", str(error), log.info, fields)
        except PermanentError as error:
            self._know(workload, before.last, before.outcome)
            self._failed(workload, "refused", str(error), log.error, fields)
        except AutoscalerError as error:
            if not noted:
                self._know(workload, before.last, before.outcome)
            self._failed(workload, "failed", str(error), log.warning, fields)
        else:
            self._recorder.add(metrics.WRITES, "ok")
            self._know(workload, write, Outcome.CONFIRMED)
            self._problems.pop(workload, None)

    def _know(self, workload: Workload, last: Written | None, outcome: Outcome) -> None:
        self._standings[workload] = replace(self.standing(workload), last=last, outcome=outcome)

    def _failed(self, workload: Workload, outcome: str, problem: str, say: Callable[..., None], fields: dict[str, object]) -> None:
        self._recorder.add(metrics.WRITES, outcome)
        if self._problems.get(workload) != problem:
            say("write %s: %s", outcome, problem, extra={"fields": fields})
        self._problems[workload] = problem

    def take(self, facts: Mapping[Workload, TargetFacts], at_s: float) -> dict[Workload, Written]:
        """The writes that went through since this was last asked; and notice which counts of ours have been replaced meanwhile."""
        found: dict[Workload, Written] = {}
        for workload, standing in list(self._standings.items()):
            last, seen = standing.last, facts.get(workload)
            if last is None or workload in self._tasks or seen is None or seen.state is not Target.OK:
                continue
            outcome = standing.outcome
            if outcome is Outcome.UNSURE:
                if seen.replicas != last.after:
                    if seen.replicas != last.before or at_s - last.at_s > UNSURE_S:
                        self._know(workload, None, Outcome.TAKEN)
                    continue
                outcome = Outcome.CONFIRMED
            if outcome is Outcome.CONFIRMED:
                found[workload] = last
                self._know(workload, last, Outcome.TAKEN)
            if seen.replicas != last.after:
                self._reverted(workload, at_s)
        return found

    def _reverted(self, workload: Workload, at_s: float) -> None:
        standing = self.standing(workload)
        recent = (*(then for then in standing.reverts_s if 0 <= at_s - then < REVERTS_WITHIN_S), at_s)
        standing = replace(standing, last=None, reverts_s=recent)
        if len(recent) >= REVERTS:
            standing = replace(standing, stop_until_s=at_s + LEAVE_ALONE_S, stopped_by="")
            self._ask(self._name(workload))
        self._standings[workload] = standing

    async def _name(self, workload: Workload) -> None:
        """Find out who it is that replaces our counts, and say so."""
        try:
            owner = await self._cluster.owner(workload)
        except AutoscalerError as error:
            by = f"somebody (who is not known: {error})"
        else:
            by = _words(owner)
        standing = self.standing(workload)
        self._standings[workload] = replace(standing, stopped_by=by)
        log.error("%s: %s", workload, _sentence(by), extra={"fields": {"workload": str(workload), "writer": by}})

    def stopped(self, workload: Workload, at_s: float) -> str:
        """Why the workload is left alone, as a sentence; empty if it is not (any more).

        After an hour it is tried once more: the next revert within ten minutes stops it again.
        """
        standing = self._standings.get(workload)
        if standing is None or not standing.stop_until_s > 0:
            return ""
        if at_s < standing.stop_until_s:
            return _sentence(standing.stopped_by or "somebody")
        self._standings[workload] = replace(standing, reverts_s=(at_s,) * (REVERTS - 1), stop_until_s=nan, stopped_by="")
        return ""

    def retry(self, workload: Workload) -> None:
        """Its policy is another: forget the reverts."""
        if workload in self._standings:
            self._standings[workload] = replace(self._standings[workload], reverts_s=(), stop_until_s=nan, stopped_by="")

    def problem(self, workload: Workload) -> str:
        """Why the last write did not go through; empty if it did."""
        return self._problems.get(workload, "")

    def standing(self, workload: Workload) -> Standing:
        """What is remembered of the workload's writes."""
        return self._standings.get(workload, NOTHING_WRITTEN)

    def recall(self, workload: Workload, standing: Standing) -> None:
        """Go on from what an earlier process remembered."""
        self._standings[workload] = standing

    def forget(self, workload: Workload) -> None:
        """The workload is no longer ours, or not what it was."""
        self._standings.pop(workload, None)
        self._problems.pop(workload, None)
        task = self._tasks.pop(workload, None)
        if task is not None:
            task.cancel()

    def _ask(self, question: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(question, name="whose replicas")
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)

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
        tasks = [*self._tasks.values(), *self._questions]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _words(owner: Owner | None) -> str:
    if owner is None:
        return "somebody"
    if owner.ours:
        return f"somebody who writes as {owner.manager}, as we do (do two services run?)"
    return f"{owner.manager} ({owner.how})" if owner.how else owner.manager


def _sentence(by: str) -> str:
    return (
        f"{by} has replaced our count {REVERTS} times within {REVERTS_WITHIN_S / 60:g} minutes: it is left alone, and tried again "
        f"in {LEAVE_ALONE_S / 60:g} minutes or when its policy changes; let only one of the two set the replicas"
    )
