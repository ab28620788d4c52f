"""A day of the service on a clock that a program moves, with faults at random: what holds, what leaks, and what was written why.

``python -m benchmarks.day`` lets the real loops run over a cluster, a metric source and a state store that fail as their real
counterparts do: answers that are late, wrong or missing, writes whose outcome is lost, other writers, targets that go and come,
clocks that step, and a process that is restarted or killed. Seeded; exits with 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import nan
from random import Random
from time import perf_counter

import numpy as np

from autoscaler.adapters.telemetry import PrometheusRecorder
from autoscaler.clock import ManualClock
from autoscaler.core.behavior import HPA_BEHAVIOR
from autoscaler.core.columns import frozen
from autoscaler.core.selector import Selector
from autoscaler.core.spec import PolicyChoice, Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import Target, Workload
from autoscaler.errors import AnswerError, PermanentError, StaleViewError, TransientError
from autoscaler.loops.group import Surroundings
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.loops.state import StateKeeper
from autoscaler.ports import NOT_SEEN, Matrix, Owner, Rival, TargetFacts, Vector
from autoscaler.registry import find
from benchmarks.machine import origin, resident_mib

START_S = 1_800_000_000.0
HOUR_S = 3600.0
INTERVALS_S = (30.0, 60.0)
MIN_REPLICAS, MAX_REPLICAS = 1, 40


@dataclass
class Faults:
    """What goes wrong, drawn from one seed; the probabilities are per question, write, or quarter of an hour."""

    random: Random
    clock: ManualClock
    made: Counter[str] = field(default_factory=Counter)

    def happens(self, name: str, probability: float) -> bool:
        """Draw, and count it if so."""
        if self.random.random() >= probability:
            return False
        self.made[name] += 1
        return True


class DaySource:
    """Loads that rise and fall over the day, each workload at its own hour; a function of time, so nothing piles up in here."""

    def __init__(self, faults: Faults, names: list[str]) -> None:
        self._faults, self._names = faults, names

    def load(self, index: int, at_s: float) -> float:
        """Requests per second of one workload."""
        hour = (at_s / HOUR_S + 0.37 * index) % 24.0
        return 12.0 + 10.0 * math.sin(hour / 24.0 * 2.0 * math.pi) + 2.0 * math.sin(at_s / 97.0 + index)

    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        """All loads for ``all``, else the named one's; or a fault."""
        faults = self._faults
        if faults.happens("question: unreachable", 0.01):
            raise TransientError("no connection")
        if faults.happens("question: no vector", 0.005):
            raise AnswerError("an HTML page")
        if faults.happens("question: hangs", 0.01):
            await faults.clock.sleep_until(faults.clock.monotonic() + budget_s)
            raise TransientError("no answer in time")
        if faults.happens("question: late", 0.02):
            await faults.clock.sleep_until(faults.clock.monotonic() + 5.0)
        indices = range(len(self._names)) if query.text == "all" else [int(query.text)]
        if faults.happens("answer: empty", 0.01):
            indices = []
        values = np.array([self.load(index, at_s) for index in indices], dtype=np.float64)
        if values.size and faults.happens("answer: NaN", 0.01):
            values[faults.random.randrange(values.size)] = nan
        labels = tuple({"name": self._names[index]} for index in indices)
        return Vector(labels, frozen(values), at_s, faults.clock.now())

    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:  # noqa: ARG002 - the port
        """The same over time."""
        at_s = np.asarray(start_s + step_s * np.arange(int((end_s - start_s) / step_s + 1e-9) + 1), dtype=np.float64)
        if self._faults.happens("range: unreachable", 0.2):
            raise TransientError("no connection")
        indices = range(len(self._names)) if query.text == "all" else [int(query.text)]
        values = np.array([[self.load(index, at) for index in indices] for at in at_s.tolist()], dtype=np.float64)
        return Matrix(tuple({"name": self._names[index]} for index in indices), frozen(at_s), frozen(values))

    async def close(self) -> None:
        """Nothing is held."""


@dataclass
class Thing:
    """A target as the cluster has it."""

    uid: str
    replicas: int
    writer: str = "kubectl"
    rival: Rival | None = None


class DayCluster:
    """Counts in a dictionary, written by compare-and-swap; every write of ours is kept until somebody has asked why."""

    def __init__(self, faults: Faults, workloads: list[Workload]) -> None:
        self._faults, self._serial = faults, 0
        self.things: dict[Workload, Thing] = {}
        self._facts: dict[Workload, TargetFacts] = {}
        self.stale = False
        self.writes: list[tuple[Workload, float, int]] = []
        for workload in workloads:
            self.create(workload, 10)

    def create(self, workload: Workload, replicas: int) -> None:
        """A new object of that name."""
        self._serial += 1
        self.things[workload] = Thing(f"uid-{self._serial}", replicas)

    def set(self, workload: Workload, replicas: int, writer: str) -> None:
        """Change the count."""
        thing = self.things[workload]
        thing.replicas, thing.writer = replicas, writer

    async def run(self) -> None:
        """Nothing has to be kept current."""
        await asyncio.get_running_loop().create_future()

    def follow(self, workloads: Iterable[Workload]) -> None:
        """All are there anyway."""

    def select(self, selectors: Iterable[Selector]) -> None:
        """No policy of this day is for many."""

    def selected(self, selector: Selector) -> frozenset[str] | None:  # noqa: ARG002 - the port's signature
        """Nobody."""
        return frozenset()

    def facts(self, workload: Workload) -> TargetFacts:
        """What there is, the same object while nothing changes; held as it was while the watch is stale."""
        before, thing = self._facts.get(workload, NOT_SEEN), self.things.get(workload)
        if self.stale:
            return before if before.state is not Target.OK else replace(before, state=Target.STALE, problem="the watch is silent")
        if thing is None:
            known = before.state is Target.NOT_FOUND
            found = before if known else TargetFacts(Target.NOT_FOUND, problem="it is gone")
        else:
            count = float(thing.replicas)
            known = (before.uid, before.replicas, before.rival) == (thing.uid, count, thing.rival)
            found = before if known else TargetFacts(Target.OK, thing.uid, "1", count, count, count, rival=thing.rival)
        self._facts[workload] = found
        return found

    async def owner(self, workload: Workload) -> Owner | None:
        """Who wrote last."""
        if self._faults.happens("owner: unreachable", 0.2):
            raise TransientError("no connection")
        thing = self.things.get(workload)
        return None if thing is None else Owner(thing.writer, thing.writer == "autoscaler")

    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        """Compare and swap; or a fault, before or after it has taken effect."""
        faults = self._faults
        self.writes.append((workload, seen.replicas, replicas))
        if faults.happens("write: refused", 0.005):
            raise PermanentError("patch deployments/scale is forbidden")
        if faults.happens("write: lost before", 0.02):
            raise TransientError("no connection")
        if faults.happens("write: slow", 0.02):
            await faults.clock.sleep_until(faults.clock.monotonic() + 40.0)
        thing = self.things.get(workload)
        if thing is None or thing.uid != seen.uid or thing.replicas != seen.replicas:
            faults.made["write: stale"] += 1
            raise StaleViewError("it is not as it was seen")
        self.set(workload, replicas, "autoscaler")
        if faults.happens("write: lost after", 0.02):
            raise TransientError("the connection died")


class DayStore:
    """Shards in a dictionary, on a disk that is full now and then."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.shards: dict[int, bytes] = {}

    async def load(self) -> Mapping[int, bytes]:
        """Every shard; one of them is damaged now and then."""
        if self._faults.happens("state: unreachable", 0.2):
            raise TransientError("no connection")
        if self.shards and self._faults.happens("state: damaged", 0.1):
            shard = min(self.shards)
            return self.shards | {shard: self.shards[shard][:50]}
        return dict(self.shards)

    async def save(self, shard: int, data: bytes) -> None:
        """Replace one."""
        if self._faults.happens("state: disk full", 0.02):
            raise TransientError("No space left on device")
        self.shards[shard] = data


@dataclass(frozen=True)
class Hour:
    """What the process holds at the end of an hour of the clock."""

    objects: int
    mib: float
    tasks: int
    threads: int


@dataclass(frozen=True)
class Report:
    """How the day went. ``unexplained`` writes have no decision record that says just that."""

    hours: tuple[Hour, ...]
    writes: int
    unexplained: tuple[str, ...]
    faults: Counter[str]
    left: int
    ticks_failed: int
    seconds: float

    def mistakes(self) -> list[str]:
        """What is not as it should be, in sentences."""
        found = [f"a write that no decision explains: {each}" for each in self.unexplained[:5]]
        if self.left:
            found.append(f"{self.left} tasks are left at the end")
        if self.ticks_failed:
            found.append(f"{self.ticks_failed} ticks failed")
        if len({hour.threads for hour in self.hours}) > 1:
            found.append(f"threads: {[hour.threads for hour in self.hours]}")
        settled = self.hours[len(self.hours) // 4 :]
        first, last = settled[0].objects, settled[-1].objects
        if last > 1.05 * first:
            found.append(f"{first} objects after a quarter of the day, {last} at its end")
        return found


class Day:
    """The world, and the process in it."""

    def __init__(self, workloads: int, seed: int) -> None:
        self.clock = ManualClock(START_S)
        self.faults = Faults(Random(seed), self.clock)
        # Draws of their own: what people do, and when saving fails, must not hang on the order of questions, which differs from run to run.
        self.people, disk = (Faults(Random(seed), self.clock, self.faults.made) for _ in range(2))
        self.specs = [_spec(index) for index in range(workloads)]
        self.source = DaySource(self.faults, [spec.workload.name for spec in self.specs])
        self.cluster = DayCluster(self.faults, [spec.workload for spec in self.specs])
        self.store = DayStore(disk)
        self.written, self.unexplained = 0, list[str]()
        self._running: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start a process."""
        recorder = PrometheusRecorder()
        self.keeper = StateKeeper(self.store, self.clock, recorder)
        around = Surroundings(self.source, self.cluster, self.clock, recorder, asyncio.Semaphore(16), memories=self.keeper.memories)
        self.loop = ScalingLoop(around)
        self.keeper.keep(self.loop.keep)
        self.loop.update(self.specs)
        self._running = [asyncio.create_task(self.keeper.run()), asyncio.create_task(self.loop.run())]

    async def end(self, *, orderly: bool) -> None:
        """SIGTERM, or SIGKILL."""
        closing = asyncio.ensure_future(self.loop.close(6.0 if orderly else 0.0))
        await self.clock.advance(7.0)
        await closing
        self.explain()
        if orderly:
            await self.keeper.close(2.0)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def explain(self) -> None:
        """Find the decision record of every write since this was last asked."""
        for workload, before, after in self.cluster.writes:
            self.written += 1
            if not self._is_decided(workload, before, after):
                self.unexplained.append(f"{workload}: {before:g} -> {after}")
        self.cluster.writes.clear()

    def _is_decided(self, workload: Workload, before: float, after: int) -> bool:
        group = self.loop.find(workload)
        if group is None or not MIN_REPLICAS <= after <= MAX_REPLICAS:
            return False
        slot = group.roster.slot(workload)
        return any(
            bool(decision.apply[slot]) and decision.replicas[slot] == after and decision.observed[slot] == before
            for decision in (record.decision for record in group.records)
            if slot < decision.apply.size
        )

    async def quarter(self) -> None:
        """What other people do in a quarter of an hour, and then the time passes."""
        for spec in self.specs:
            self._meddle(spec.workload)
        await self._upheave()
        self.cluster.stale = self.people.happens("watch: stale", 0.03)
        for _ in range(15):
            await self.clock.advance(60.0)
            self.explain()

    def _meddle(self, workload: Workload) -> None:
        """What somebody does to one target."""
        faults, cluster = self.people, self.cluster
        if workload not in cluster.things:
            cluster.create(workload, 5)
        elif faults.happens("target: deleted", 0.001):
            del cluster.things[workload]
        elif faults.happens("target: scaled by somebody", 0.01):
            cluster.set(workload, faults.random.randrange(1, 30), "kubectl")
        elif faults.happens("target: an HPA comes or goes", 0.002):
            thing = cluster.things[workload]
            thing.rival = None if thing.rival else Rival("HorizontalPodAutoscaler", workload.name, 7.0)

    async def _upheave(self) -> None:
        """What happens to the service as a whole."""
        faults = self.people
        if faults.happens("policies: some are removed or come back", 0.1):
            self.loop.update(faults.random.sample(self.specs, k=int(0.9 * len(self.specs))))
        else:
            self.loop.update(self.specs)
        if faults.happens("clock: steps", 0.03):
            self.clock.step(faults.random.choice([-HOUR_S, HOUR_S]))
        if faults.happens("process: restarted", 0.04):
            await self.end(orderly=True)
            self.begin()
        elif faults.happens("process: killed", 0.04):
            await self.end(orderly=False)
            self.begin()


def _spec(index: int) -> WorkloadSpec:
    name = f"web-{index}"
    known = find("movingAverage" if index % 2 else "threshold")
    query = Query(str(index)) if index % 10 == 0 else Query("all")
    series = SeriesSpec("requests", query, 1.0, match=(("name", name),))
    choice = PolicyChoice(known.name, known.policy, known.params({})[0])
    interval_s = INTERVALS_S[index % len(INTERVALS_S)]
    return WorkloadSpec(Workload("shop", name), (series,), choice, HPA_BEHAVIOR.given, MIN_REPLICAS, MAX_REPLICAS, interval_s)


async def play(workloads: int, hours: int, seed: int) -> Report:
    """A day, or some hours of one."""
    failed: list[logging.LogRecord] = []
    listener = logging.Handler(logging.ERROR)
    listener.emit = lambda record: failed.append(record) if record.exc_info else None  # type: ignore[method-assign]
    log = logging.getLogger("autoscaler")
    log.addHandler(listener)
    before, began = asyncio.all_tasks(), perf_counter()
    day, seen = Day(workloads, seed), []
    day.begin()
    for _ in range(hours):
        for _ in range(4):
            await day.quarter()
        gc.collect()
        seen.append(Hour(len(gc.get_objects()), resident_mib(), len(asyncio.all_tasks()), threading.active_count()))
    await day.end(orderly=True)
    await day.clock.settle()
    log.removeHandler(listener)
    left = len(asyncio.all_tasks() - before)
    return Report(tuple(seen), day.written, tuple(day.unexplained), day.faults.made, left, len(failed), perf_counter() - began)


def main(arguments: list[str] | None = None) -> int:
    """Play it and print how it went."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description="A day of the service with faults at random.")
    parser.add_argument("--workloads", type=int, default=500)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.getLogger("autoscaler").addHandler(logging.NullHandler())
    report = asyncio.run(play(options.workloads, options.hours, options.seed))
    print(f"{options.workloads} workloads, {options.hours} h, seed {options.seed}: {report.seconds:.0f} s")
    print(", ".join(origin().values()))
    print(f"{report.writes} writes, {len(report.unexplained)} unexplained; {report.left} tasks left; {report.ticks_failed} ticks failed")
    print(f"{'hour':>4} {'objects':>9} {'MiB':>7} {'tasks':>6} {'threads':>8}")
    for number, hour in enumerate(report.hours, 1):
        print(f"{number:>4} {hour.objects:>9} {hour.mib:>7.1f} {hour.tasks:>6} {hour.threads:>8}")
    for name, count in sorted(report.faults.items()):
        print(f"{count:>7} {name}")
    for mistake in report.mistakes():
        print(f"error: {mistake}", file=sys.stderr)
    return 1 if report.mistakes() else 0


if __name__ == "__main__":
    sys.exit(main())
