"""What becomes of a report: evidence is gathered for it, beside the health loop, and every sink that shall be told gets it.

::

    HealthLoop ─ take(report) ─► one lane an incident: evidence, in turn ─┬─► Channel ─► the Kubernetes Event on the workload (always)
                                                                          └─► Channel ─► each sink that the policy names
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isnan
from random import Random

from autoscaler.clock import Clock
from autoscaler.core.health.findings import Key
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Evidence, Report
from autoscaler.loops.delivery import Channel, Sink
from autoscaler.metrics import EVIDENCE
from autoscaler.ports import EvidenceSource, Recorder

log = logging.getLogger(__name__)

BUDGET_S = 8.0
"""For each part of the evidence."""

GATHER_S = 20.0
"""For all of it, the wait for a turn included: people are told then, with what there is."""

AT_ONCE = 4
LANES_MAX = 512
"""So many incidents are reported at a time; in a greater storm, the rest are told without evidence."""

RECOVER_S = 20.0
FRESH_S = 60.0
KEPT_MAX = 256

_GATHERS = frozenset({Kind.PENDING, Kind.FIRED, Kind.UPDATED, Kind.FLAPPING, Kind.REPEATED})


@dataclass(frozen=True, slots=True)
class Telling:
    """What telling people is given. ``always``: the sink that is told whatever a policy says; ``sinks``: those that policies may name.

    ``cluster``: its name, as reports say it.
    """

    clock: Clock
    recorder: Recorder
    random: Random
    evidence: EvidenceSource | None = None
    always: Sink | None = None
    sinks: Sequence[Sink] = ()
    cluster: str = ""


class Reports:
    """Takes reports from the health loop and brings them to people."""

    def __init__(self, telling: Telling, standing: Callable[[], Iterable[Report]] = tuple) -> None:
        """``standing``: a report of every incident that is open and was told of, without its evidence."""
        self._telling, self._clock, self._standing = telling, telling.clock, standing
        self._channels = {sink.name: self._channel(sink) for sink in telling.sinks}
        self._always = None if telling.always is None else self._channel(telling.always)
        self._lanes: dict[Key, deque[Report]] = {}
        self._new: deque[Key] = deque()
        self._news, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._free = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[Key, tuple[Evidence, float]] = OrderedDict()
        self._unknown: set[str] = set()

    def take(self, report: Report) -> None:
        """Take it; never waits. Silent ones are for the record alone, but for what was done, which the workload's events tell."""
        change, report = report.change, replace(report, cluster=self._telling.cluster)
        if change.kind is Kind.PENDING and change.incident.baseline:
            return
        if change.silent and change.kind not in {Kind.PENDING, Kind.REMEDY}:
            if change.kind is Kind.RESOLVED:
                self._kept.pop(change.incident.finding.key, None)
            return
        key = change.incident.finding.key
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append(report)
        elif len(self._lanes) >= LANES_MAX:
            self._tell(self._without(report, "evidence was not gathered: there are too many incidents at once"))
        else:
            self._lanes[key] = deque([report])
            self._new.append(key)
            self._empty.clear()
            self._news.set()

    def evidence(self, key: Key) -> Evidence | None:
        """What was last gathered for an open incident; None: nothing yet, or not any more."""
        kept = self._kept.get(key)
        return None if kept is None else kept[0]

    async def run(self) -> None:
        """Gather and deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for channel in self._all():
                tasks.create_task(channel.run(), name=f"sink {channel.sink.name}")
            tasks.create_task(self._recover(), name="evidence of before")
            while True:
                await self._news.wait()
                self._news.clear()
                while self._new:
                    key = self._new.popleft()
                    tasks.create_task(self._lane(key), name="report")

    async def close(self, budget_s: float) -> None:
        """Bring what is under way to its end, as far as the budget allows; what is left is counted as dropped. :meth:`run` still runs."""
        try:
            async with self._clock.timeout(budget_s):
                await self._empty.wait()
                await asyncio.gather(*(channel.close() for channel in self._all()))
        except TimeoutError:
            log.warning("not everybody could be told before the end")
        for channel in self._all():
            channel.abandon()
        await asyncio.gather(*(channel.sink.notifier.close() for channel in self._all()))

    async def _recover(self) -> None:
        """Look once more at what was told of before we were started: its evidence is not saved."""
        looked: set[Key] = set()
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + RECOVER_S)
            standing = list(self._standing())
            for report in standing:
                key = report.change.incident.finding.key
                if key not in looked and key not in self._kept:
                    looked.add(key)
                    self.take(replace(report, change=replace(report.change, kind=Kind.PENDING)))
            looked &= {report.change.incident.finding.key for report in standing}

    def _all(self) -> list[Channel]:
        return [*self._channels.values(), *([self._always] if self._always is not None else [])]

    def _channel(self, sink: Sink) -> Channel:
        telling = self._telling
        return Channel(sink, telling.clock, telling.recorder, telling.random, lambda: self._open_at(sink.name))

    def _open_at(self, sink: str) -> list[Report]:
        named = (replace(report, cluster=self._telling.cluster) for report in self._standing() if sink in report.sinks)
        return [self._with_kept(report) for report in named]

    async def _lane(self, key: Key) -> None:
        """One incident's reports, one after the other: its end must not be told before its beginning."""
        lane = self._lanes[key]
        while lane:
            report = lane.popleft()
            if report.change.kind in _GATHERS:
                report = await self._gathered(report)
            else:
                report = self._with_kept(report)
            if report.change.kind is Kind.RESOLVED:
                self._kept.pop(key, None)
            self._tell(report)
        del self._lanes[key]
        if not self._lanes:
            self._empty.set()

    async def _gathered(self, report: Report) -> Report:
        key = report.change.incident.finding.key
        kept = self._kept.get(key)
        if self._telling.evidence is None or (kept is not None and self._clock.monotonic() - kept[1] < FRESH_S):
            return self._with_kept(report)
        try:
            async with self._clock.timeout(GATHER_S), self._free:
                evidence = await self._telling.evidence.gather(report.change.incident.finding, BUDGET_S)
        except TimeoutError:
            return self._without(report, f"evidence was not gathered within {GATHER_S:g} s")
        except Exception:
            log.exception("gathering evidence failed; people are told without")
            return self._without(report, "evidence was not gathered: a fault of this service; its log has it")
        self._telling.recorder.add(EVIDENCE, "partial" if evidence.missing else "whole")
        if isnan(report.change.incident.fired_s) and evidence.missing and not evidence.log:
            return report  # it is looked for once more when it fires
        self._kept[key] = evidence, self._clock.monotonic()
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return replace(report, evidence=evidence)

    def _without(self, report: Report, why: str) -> Report:
        """With what was gathered before, if anything, and why there is nothing new."""
        self._telling.recorder.add(EVIDENCE, "none")
        report = self._with_kept(report)
        return replace(report, evidence=replace(report.evidence, missing=(*report.evidence.missing, why)))

    def _with_kept(self, report: Report) -> Report:
        kept = self.evidence(report.change.incident.finding.key)
        return report if kept is None else replace(report, evidence=kept)

    def _tell(self, report: Report) -> None:
        if report.change.kind is Kind.PENDING:
            return
        if self._always is not None:
            self._always.offer(report)
        if report.change.silent:
            return
        for name in report.sinks:
            channel = self._channels.get(name)
            if channel is not None:
                channel.offer(report)
            elif name not in self._unknown:
                self._unknown.add(name)
                log.error("there is no sink %s; the settings have %s", name, ", ".join(sorted(self._channels)) or "none")
