"""A cluster and a metric source in memory, for the demo and for whoever wants to try things without Kubernetes and Prometheus.

:class:`MemoryCluster` keeps targets whose pods take time to start, on the service's clock; other writers may change them, and what they
wrote is never overwritten. :class:`MemorySource` keeps samples by time and answers selectors, ``load`` or ``load{name="web"}``. A
:class:`autoscaler.simulation.live.Stage` puts workloads under load into the one and what their metrics show into the other.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from autoscaler.clock import Clock
from autoscaler.core.columns import frozen
from autoscaler.core.plant import Plant
from autoscaler.core.selector import Selector
from autoscaler.core.spec import Query
from autoscaler.core.types import Floats, Target, Workload
from autoscaler.errors import PermanentError, StaleViewError, TransientError
from autoscaler.ports import NOT_SEEN, Matrix, Owner, Rival, TargetFacts, Vector
from autoscaler.simulation.live import Reading, Stage
from autoscaler.simulation.world import Setup

LOOKBACK_S = 300.0
"""A sample is shown for this long after its time, unless a newer one comes: Prometheus' default."""

KEPT_S = 14 * 86400.0
"""Samples are kept for this long."""

ENDPOINT = "default"

MANAGER = "autoscaler"

_SELECTOR = re.compile(r'\s*([A-Za-z_:][\w:]*)\s*(?:\{((?:\s*\w+\s*=\s*"[^"]*"\s*,?)*\s*)\})?\s*')
_MATCHER = re.compile(r'(\w+)\s*=\s*"([^"]*)"')

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Series:
    """Samples of one set of labels, rising in time."""

    at_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


class MemorySource:
    """Samples by name and labels. ``before`` is awaited ahead of every answer: what it raises is the answer, so faults can be made."""

    def __init__(self, clock: Clock, before: Callable[[Query], Awaitable[None]] | None = None) -> None:
        self.before = before
        self._clock = clock
        self._series: dict[str, dict[Labels, _Series]] = {}
        self._waiting: set[asyncio.Timeout] = set()
        self._closed = False

    def write(self, name: str, labels: Mapping[str, str], at_s: float, value: float) -> None:
        """Keep one sample; samples of a series come in the order of their times."""
        series = self._series.setdefault(name, {}).setdefault(tuple(sorted(labels.items())), _Series())
        if series.at_s and at_s <= series.at_s[-1]:
            raise ValueError(f"{name}: expected a sample after {series.at_s[-1]:g} s, found one at {at_s:g} s")
        series.at_s.append(at_s)
        series.values.append(value)
        if at_s - series.at_s[0] > 2 * KEPT_S:  # in one go now and then: dropping one at a time moves all the others
            old = bisect_right(series.at_s, at_s - KEPT_S)
            del series.at_s[:old], series.values[:old]

    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        """The newest sample of each series that matches, if it is not older than ``LOOKBACK_S``."""
        await self._admit(query, budget_s)
        found: list[tuple[Labels, float]] = []
        for labels, series in self._matching(query):
            place = bisect_right(series.at_s, at_s) - 1
            if place >= 0 and at_s - series.at_s[place] < LOOKBACK_S:
                found.append((labels, series.values[place]))
        values = np.array([value for _, value in found], dtype=np.float64)
        return Vector(tuple(dict(labels) for labels, _ in found), frozen(values), at_s, self._clock.now())

    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        """Instant answers on a grid; series without any sample in it are left out."""
        await self._admit(query, budget_s)
        at_s: Floats = np.asarray(start_s + step_s * np.arange(int((end_s - start_s) / step_s + 1e-9) + 1), dtype=np.float64)
        columns = [(labels, _on_grid(series, at_s)) for labels, series in self._matching(query)]
        shown = [(labels, values) for labels, (values, there) in columns if there]
        values = np.stack([values for _, values in shown], axis=1) if shown else np.empty((at_s.size, 0))
        return Matrix(tuple(dict(labels) for labels, _ in shown), frozen(at_s), frozen(values))

    async def close(self) -> None:
        """Refuse every question from now on; those under way end as TransientError."""
        self._closed = True
        for limit in self._waiting:
            limit.reschedule(0.0)

    async def _admit(self, query: Query, budget_s: float) -> None:
        if self._closed:
            raise TransientError("the metric source is closed")
        if query.endpoint != ENDPOINT:
            raise PermanentError(f"endpoint {query.endpoint!r} is not known; known: {ENDPOINT}")
        if self.before is None:
            return
        try:
            async with asyncio.timeout(budget_s) as limit:
                self._waiting.add(limit)
                try:
                    await self.before(query)
                finally:
                    self._waiting.discard(limit)
        except TimeoutError as error:
            raise TransientError(f"{query.text}: no answer within {budget_s:g} s, or before the source was closed") from error

    def _matching(self, query: Query) -> list[tuple[Labels, _Series]]:
        selector = _SELECTOR.fullmatch(query.text)
        if selector is None:
            raise PermanentError(f'{query.text!r}: expected NAME or NAME{{label="value", …}}: this source knows no PromQL beyond selectors')
        wanted = dict(_MATCHER.findall(selector[2] or ""))
        series = self._series.get(selector[1], {})
        return [(labels, each) for labels, each in series.items() if wanted.items() <= dict(labels).items()]


def _on_grid(series: _Series, at_s: Floats) -> tuple[Floats, bool]:
    """The values that show at each time, NaN where none does, and whether any does."""
    times, values = np.array(series.at_s), np.array(series.values)
    place = np.searchsorted(times, at_s, side="right") - 1
    there = (place >= 0) & (at_s - times[place] < LOOKBACK_S)
    return np.where(there, values[place], np.nan), bool(there.any())


@dataclass(slots=True)
class _Object:
    """A target as the cluster has it: who it is, what is asked for, and the plant that its pods live in."""

    uid: str
    stage: Stage
    column: int
    replicas: int
    writer: str = "kubectl"
    rival: Rival | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class MemoryCluster:
    """Targets of any kind. Pods start as ``plant`` says, or as their stage does; ``before`` is awaited ahead of every write.

    The methods of :class:`autoscaler.ports.Cluster` are the autoscaler's; ``create``, ``delete`` and ``set_replicas`` are other
    people's. Time passes only while :meth:`run` runs.
    """

    def __init__(self, clock: Clock, plant: Plant | None = None, before: Callable[[Workload, int], Awaitable[None]] | None = None) -> None:
        self.before = before
        self._clock = clock
        self._setup = Setup(plant or Plant())
        self._objects: dict[Workload, _Object] = {}
        self._stages: dict[Stage, Callable[[Reading], None] | None] = {}
        self._followed: frozenset[Workload] = frozenset()
        self._facts: dict[Workload, TargetFacts] = {}
        self._uids, self._versions = count(1), count(1)

    def host(self, stage: Stage, report: Callable[[Reading], None] | None = None) -> None:
        """Create the workloads of a stage with the pods that it has now; ``report`` gets each step's reading."""
        self._stages[stage] = report
        for column, workload in enumerate(stage.workloads):
            self._admit(workload, stage, column, int(stage.world.asked[column]))

    def create(self, workload: Workload, replicas: int, labels: Mapping[str, str] | None = None) -> None:
        """Create a target without load; its pods start from now on."""
        if workload in self._objects:
            raise ValueError(f"{workload} exists already")
        stage = next((stage for stage in self._stages if workload in stage.workloads), None)
        if stage is None:
            stage = Stage([workload], self._setup, np.zeros((1, 1)), self._clock.now())
            self._stages[stage] = None
            stage.restart(0)
        column = stage.workloads.index(workload)
        stage.ask(column, replicas)
        self._admit(workload, stage, column, replicas)
        self._objects[workload].labels = dict(labels or {})

    def delete(self, workload: Workload) -> None:
        """Delete a target and its pods."""
        gone = self._objects.pop(workload)
        gone.stage.restart(gone.column)
        self._publish(workload)

    def set_replicas(self, workload: Workload, replicas: int, writer: str = "kubectl") -> None:
        """Change the count as another writer does; no writer: as we do."""
        target = self._objects[workload]
        target.replicas, target.writer = replicas, writer
        target.stage.ask(target.column, replicas)
        self._publish(workload)

    def set_rival(self, workload: Workload, rival: Rival | None) -> None:
        """Let another autoscaler scale it too, or no longer."""
        self._objects[workload].rival = rival
        self._publish(workload)

    def replicas(self, workload: Workload) -> int:
        """The count that is asked for."""
        return self._objects[workload].replicas

    def ready(self, workload: Workload) -> int:
        """The pods that serve."""
        target = self._objects[workload]
        return int(target.stage.world.ready[target.column])

    async def run(self) -> None:
        """Let pods start, and requests be served, for as long as this runs."""
        wall_s, monotonic_s = self._clock.now(), self._clock.monotonic()
        while True:
            step_s = min((stage.setup.plant.step_s for stage in self._stages), default=self._setup.plant.step_s)
            monotonic_s += step_s
            wall_s += step_s
            await self._clock.sleep_until(monotonic_s)
            self._pass_until(wall_s)

    def _pass_until(self, wall_s: float) -> None:
        for stage, report in list(self._stages.items()):
            for reading in stage.advance(wall_s):
                if report is not None:
                    report(reading)
        for workload in self._objects:
            self._publish(workload)

    def follow(self, workloads: Iterable[Workload]) -> None:
        """Keep facts of just these from now on."""
        self._followed = frozenset(workloads)
        self._facts = {workload: facts for workload, facts in self._facts.items() if workload in self._followed}
        for workload in self._followed:
            self._publish(workload)

    def select(self, selectors: Iterable[Selector]) -> None:
        """Everybody is known here anyway."""

    def selected(self, selector: Selector) -> frozenset[str] | None:
        """The names of those that fit."""
        where = (selector.namespace, selector.kind, selector.api_version)
        return frozenset(
            workload.name
            for workload, target in self._objects.items()
            if (workload.namespace, workload.kind, workload.api_version) == where and selector.fits(target.labels)
        )

    def facts(self, workload: Workload) -> TargetFacts:
        """What is known now."""
        return self._facts.get(workload, NOT_SEEN)

    async def owner(self, workload: Workload) -> Owner | None:
        """Who set the count last."""
        target = self._objects.get(workload)
        if target is None:
            raise PermanentError(f"{workload} does not exist")
        return Owner(target.writer or MANAGER, ours=not target.writer)

    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        """Write the count if the target is still as ``seen``; raises StaleViewError if it is not."""
        if self.before is not None:
            await self.before(workload, replicas)
        target = self._objects.get(workload)
        if seen.state is not Target.OK or target is None or target.uid != seen.uid:
            raise StaleViewError(f"{workload} is not what was seen any more")
        if target.replicas != seen.replicas:
            raise StaleViewError(f"{workload} has {target.replicas} replicas, not {seen.replicas:g} as seen: somebody else wrote")
        self.set_replicas(workload, replicas, writer="")

    def _admit(self, workload: Workload, stage: Stage, column: int, replicas: int) -> None:
        self._objects[workload] = _Object(f"{next(self._uids):08d}-memory", stage, column, replicas)
        self._publish(workload)

    def _publish(self, workload: Workload) -> None:
        """Replace the facts of a followed workload if anything about it is new."""
        if workload not in self._followed:
            return
        before, target = self._facts.get(workload, NOT_SEEN), self._objects.get(workload)
        if target is None:
            if before.state is not Target.NOT_FOUND:
                self._facts[workload] = TargetFacts(Target.NOT_FOUND, problem=f"{workload} ({workload.api_version}) does not exist")
            return
        world, column = target.stage.world, target.column
        known = (target.uid, float(target.replicas), float(world.ready[column]), float(world.existing[column]))
        if known != (before.uid, before.replicas, before.ready, before.status_replicas) or target.rival != before.rival:
            uid, replicas, ready, existing = known
            self._facts[workload] = TargetFacts(
                state=Target.OK,
                uid=uid,
                resource_version=str(next(self._versions)),
                replicas=replicas,
                ready=ready,
                status_replicas=existing,
                ordered=workload.kind == "StatefulSet",
                rival=target.rival,
            )


def labels_of(workload: Workload) -> dict[str, str]:
    """The labels under which a workload's samples are kept."""
    return {"namespace": workload.namespace, "name": workload.name}


def scrape(stage: Stage, source: MemorySource) -> Callable[[Reading], None]:
    """What :meth:`MemoryCluster.host` reports to, so that the stage's metrics can be asked for.

    ``load`` in requests/s as the stage's setup measures it; ``late`` and ``total`` requests/s; ``ready`` pods; ``saturated`` 0 or 1.
    """
    labels = [labels_of(workload) for workload in stage.workloads]

    def report(reading: Reading) -> None:
        sample = reading.sample
        columns = {"ready": reading.ready}
        if sample is not None:
            columns |= {"load": sample.load, "late": sample.late, "total": sample.total, "saturated": sample.saturated.astype(np.float64)}
        for name, column in columns.items():
            for each, value in zip(labels, column, strict=True):
                source.write(name, each, reading.at_s, float(value))

    return report
