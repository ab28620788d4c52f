"""Sinks and evidence that do as a test says, and reports at work on a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random

from autoscaler.clock import ManualClock
from autoscaler.core.health.findings import Finding
from autoscaler.core.health.report import Evidence, Report
from autoscaler.loops.delivery import Sink
from autoscaler.loops.reports import Reports, Telling
from autoscaler.testing.recorder import MemoryRecorder

Outcome = Exception | asyncio.Event | None


@dataclass
class ScriptedSink:
    """Answers each try by the next outcome of its script: an error, an event to wait for, or None; the last is repeated."""

    clock: ManualClock
    script: list[Outcome] = field(default_factory=lambda: [None])
    tries: list[tuple[float, Report]] = field(default_factory=list)
    taken: list[Report] = field(default_factory=list)
    closed: int = 0

    async def send(self, report: Report, budget_s: float) -> None:
        assert budget_s > 0
        outcome = self.script[min(len(self.tries), len(self.script) - 1)]
        self.tries.append((self.clock.monotonic(), report))
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
        elif outcome is not None:
            raise outcome
        self.taken.append(report)

    async def close(self) -> None:
        self.closed += 1

    @property
    def kinds(self) -> list[str]:
        """What it has taken, in order."""
        return [report.change.kind.value for report in self.taken]


@dataclass
class ScriptedEvidence:
    """Gathers what the test says, once its gate is open."""

    made: Evidence = field(default_factory=lambda: Evidence(log=("panic",)))
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Exception | None = None
    asked: list[Finding] = field(default_factory=list)
    running: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def gather(self, finding: Finding, budget_s: float) -> Evidence:
        assert budget_s > 0
        self.asked.append(finding)
        if self.fault is not None:
            raise self.fault
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return self.made


@dataclass
class Rig:
    clock: ManualClock
    recorder: MemoryRecorder
    reports: Reports
    evidence: ScriptedEvidence
    sinks: dict[str, ScriptedSink]
    events: ScriptedSink


@asynccontextmanager
async def telling(
    *names: str, pace_s: float = 0.0, remind_s: float = 0.0, standing: Callable[[], list[Report]] = list, seed: int = 1
) -> AsyncIterator[Rig]:
    """Reports that run, with a sink of each name; everything has ended afterwards."""
    clock, recorder, evidence = ManualClock(), MemoryRecorder(), ScriptedEvidence()
    sinks = {name: ScriptedSink(clock) for name in names or ("ops",)}
    events = ScriptedSink(clock)
    given = Telling(
        clock,
        recorder,
        Random(seed),
        evidence,
        Sink("kubernetes", events),
        [Sink(name, sink, pace_s, remind_s) for name, sink in sinks.items()],
    )
    reports = Reports(given, standing)
    task = asyncio.create_task(reports.run())
    await clock.settle()
    try:
        yield Rig(clock, recorder, reports, evidence, sinks, events)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1, f"something is left running: {asyncio.all_tasks()}"
