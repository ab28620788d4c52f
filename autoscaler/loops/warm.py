"""Warms up the policies of newcomers: asks for their past, has the policy stepped over it, and hands its state in at a tick.

It runs beside the ticks and none waits for it: until its state is there, a policy starts cold. Who comes with a saved state needs none,
and an object made anew under a known name has no past.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import floor, inf

import numpy as np

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.columns import frozen, taken
from autoscaler.core.decide import State
from autoscaler.core.demand import recorded_demand
from autoscaler.core.history import History
from autoscaler.core.observation import Observation
from autoscaler.core.roster import Roster
from autoscaler.core.spec import Call, GroupSpec, Query
from autoscaler.core.types import Ints, Singles, TargetKind, Workload
from autoscaler.core.warming import Walk, Warmed, present, walked, warm_rows, with_warmed
from autoscaler.errors import AutoscalerError, PermanentError, TransientError
from autoscaler.loops.backfill import BUDGET_S, Piece, pause_s, pieces_of
from autoscaler.loops.stepping import Answer, Walker
from autoscaler.loops.wires import Wire
from autoscaler.ports import MetricSource, Recorder

log = logging.getLogger(__name__)

BATCH = 500
"""Series that are stepped at once."""

WALK_S = 600.0
"""And so long it may take: a few seconds are usual."""

ROWS_MIN = 8
"""A past of fewer known rows is none: they are known from ticks just gone."""

TRIES = 6


@dataclass(slots=True)
class _Debt:
    """Series of one query that are to be warmed up, and since when that is worth another try."""

    wires: list[Wire] = field(default_factory=list)
    failures: int = 0
    retry_at_s: float = -inf


@dataclass(frozen=True, slots=True)
class _Scene:
    """The columns of one tick."""

    spec: GroupSpec
    observation: Observation

    @property
    def calls(self) -> dict[str, Call]:
        return {call.key: call for call in self.spec.calls}

    def walk(self, call: Call, slots: Ints, first_at_s: float, demand: Singles) -> Walk:
        """Over the demand of some series, with start-up times and bounds as they are now."""
        own, owner = self.spec.workloads, call.owner[slots]
        startup_s = np.where(np.isnan(own.startup_s), self.observation.startup_s, own.startup_s)
        return Walk(
            policy=call.policy,
            params=taken(call.params, slots),
            rows=call.rows,
            interval_s=self.spec.interval_s,
            first_at_s=first_at_s,
            demand=demand,
            startup_s=frozen(startup_s[owner]),
            ordered=frozen(self.observation.ordered[owner]),
            low=frozen(own.min[owner]),
            high=frozen(own.max[owner]),
        )


class WarmUps:
    """The warm-ups of one group."""

    def __init__(self, source: MetricSource, clock: Clock, recorder: Recorder, interval_s: float, walk: Walker) -> None:
        self._source, self._clock, self._recorder, self._interval_s, self._walk = source, clock, recorder, interval_s, walk
        self._debts: dict[Query, _Debt] = {}
        self._settled: set[int] = set()
        self._due = asyncio.Event()
        self._done: list[Warmed] = []
        self._scene: _Scene | None = None
        self._grid = 0  # changes with the clock's steps: what was asked for before has no place any more

    def owe(self, roster: Roster, workloads: Iterable[Workload], settled: Iterable[int] = ()) -> None:
        """Warm up these workloads' series, once each, but for those whose ``settled`` serials have a state already, or no past."""
        self._settled.update(settled)
        rows = {call.key: warm_rows(call, self._interval_s) for call in roster.spec.calls}
        for workload in workloads:
            for series, place in roster.series(workload).items():
                query = series.query
                if not rows[place.call] or series.target_kind != TargetKind.AVERAGE_VALUE or not isinstance(query, Query):
                    continue
                if place.serial not in self._settled:
                    self._debts.setdefault(query, _Debt()).wires.append(Wire(place.call, place.slot, place.serial, series.match))
                self._settled.add(place.serial)

    def forget(self, roster: Roster) -> None:
        """Remember of nobody who has left that it is settled."""
        self._settled &= {place.serial for workload in roster.members() for place in roster.series(workload).values()}

    def look(self, spec: GroupSpec, observation: Observation) -> None:
        """Know the tick that is about to be decided, and go on with what is due by now."""
        self._scene = _Scene(spec, observation)
        if self._next(observation.at_s) is not None:
            self._due.set()

    def lose(self) -> None:
        """The grid is another one: what was stepped on the old one has no place any more."""
        self._grid += 1
        self._done.clear()

    def hand_in(self, state: State, history: History) -> tuple[State, tuple[Warmed, ...]]:
        """The state before the tick that was looked at, with the warm-ups that are done; and these, stepped on to the tick before."""
        done, self._done = self._done, []
        handed = []
        for each in done:
            call = None if self._scene is None else self._scene.calls.get(each.call)
            here = None if call is None else present(each, call)
            current = None if call is None or here is None else self._current(here, call, history)
            if call is not None and current is not None:
                state = with_warmed(state, call, current)
                handed.append(current)
        return state, tuple(handed)

    def _current(self, warmed: Warmed, call: Call, history: History) -> Warmed | None:
        """The warm-up after the ticks that have passed since."""
        if self._scene is None:
            return None
        at_s = self._scene.observation.at_s
        missing = round((at_s - warmed.at_s) / self._interval_s) - 1
        if missing <= 0:
            return warmed
        rows = np.full((missing + call.rows - 1, warmed.slots.size), np.nan, np.float32)
        kept = history.recent(call.key, rows.shape[0] + 1)[:-1, warmed.slots]
        rows[rows.shape[0] - kept.shape[0] :] = kept
        walk = self._scene.walk(call, warmed.slots, at_s - rows.shape[0] * self._interval_s, rows)
        value, _ = walked(walk, warmed.value)
        return None if value is None else replace(warmed, at_s=walk.last_at_s, value=value)

    async def run(self) -> None:
        """Warm up what is owed, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._scene is not None and (query := self._next(self._clock.now())) is not None:
                await self._warm(query, self._debts.pop(query), self._scene)

    def _next(self, now_s: float) -> Query | None:
        return next((query for query, debt in self._debts.items() if debt.retry_at_s <= now_s), None)

    async def _warm(self, query: Query, debt: _Debt, scene: _Scene) -> None:
        """Ask for one query's past and step over it; what fails for now is owed again."""
        calls, grid = scene.calls, self._grid
        wires = [wire for wire in debt.wires if wire.call in calls]
        if not wires:
            return
        end_s = (floor(self._clock.now() / self._interval_s) - 1) * self._interval_s
        rows = max(warm_rows(calls[wire.call], self._interval_s) + calls[wire.call].rows for wire in wires)
        try:
            matrix = await self._source.range(query, end_s - (rows - 1) * self._interval_s, end_s, self._interval_s, BUDGET_S)
            count = sum([await self._step(calls[piece.call], piece, scene, grid) for piece in pieces_of(wires, matrix)])
        except AutoscalerError as error:
            self._failed(query, _Debt(wires, debt.failures + 1), error)
            return
        self._recorder.add(metrics.WARM_UPS, "ok", amount=count)
        self._recorder.add(metrics.WARM_UPS, "unknown", amount=len(wires) - count)

    def _failed(self, query: Query, debt: _Debt, error: AutoscalerError) -> None:
        refused = isinstance(error, PermanentError)
        if refused or debt.failures >= TRIES:
            self._recorder.add(metrics.WARM_UPS, "refused" if refused else "failed", amount=len(debt.wires))
            log.warning("no past is to be had of %d series, so their policies start cold: %s", len(debt.wires), error)
            return
        debt.retry_at_s = self._clock.now() + pause_s(debt.failures, self._interval_s)
        if (newer := self._debts.get(query)) is not None:
            debt.wires += newer.wires
        self._debts[query] = debt

    async def _step(self, call: Call, piece: Piece, scene: _Scene, grid: int) -> int:
        """Step over those series of one call that have a past; how many that were."""
        slots = np.array([wire.slot for wire in piece.wires], np.int64)
        serial = np.array([wire.serial for wire in piece.wires], np.int64)
        demand = recorded_demand(call, slots, piece.load)
        known = np.flatnonzero((~np.isnan(demand)).sum(axis=0) >= ROWS_MIN)
        count = 0
        for some in (known[first : first + BATCH] for first in range(0, known.size, BATCH)):
            walk = scene.walk(call, slots[some], piece.first_at_s, demand[:, some])
            value, fault = await self._walked(walk)
            if value is None:
                log.warning("%s, over its past; %d series start cold", fault, some.size)
            elif grid == self._grid:
                self._done.append(Warmed(call.key, frozen(slots[some]), frozen(serial[some]), walk.last_at_s, value))
                count += some.size
        return count

    async def _walked(self, walk: Walk) -> Answer:
        try:
            async with self._clock.timeout(WALK_S):
                return await self._walk(walk)
        except TimeoutError as error:
            raise TransientError(f"stepping over {walk.demand.shape[0]} rows of it takes longer than {WALK_S:g} s") from error
