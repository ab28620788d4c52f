"""Asks the metric source for the past that a group has not seen: before its start, and of outages and skipped ticks.

It runs beside the ticks and none waits for it: ranges are asked for one after the other, and what has come is put into the history at
the next tick. A past that cannot be had is asked for again, less and less often, while the source answers ticks and the rows still matter.

Only ``averageValue`` has a demand in the past: the other targets relate to the pods of then, which nobody has recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, inf

import numpy as np

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.columns import frozen
from autoscaler.core.demand import recorded_demand
from autoscaler.core.history import Past
from autoscaler.core.roster import Roster
from autoscaler.core.spec import GroupSpec, Query
from autoscaler.core.types import Floats, TargetKind
from autoscaler.errors import AutoscalerError, PermanentError
from autoscaler.loops.wires import MANY, Places, Wire
from autoscaler.ports import Matrix, MetricSource, Recorder

AT_ONCE = 2
"""Ranges of one group that are asked for side by side."""

BUDGET_S = 60.0

WHOLE_EVERY_S = 300.0
"""A query's whole past is asked for again, for series that joined it, no more often than this."""

_PATIENCE_TICKS = 64


def pause_s(failures: int, interval_s: float) -> float:
    """How long to leave a range alone that has failed so often in a row."""
    return min(2.0**failures, _PATIENCE_TICKS) * interval_s


@dataclass(slots=True)
class _Course:
    """What is known of one query's past. ``seen_s``: the newest tick up to which nothing is missing that is not wanted already."""

    wires: list[Wire]
    rows: int
    seen_s: float
    wanted: tuple[float, float] | None = None
    queued: bool = False
    whole_at_s: float = -inf
    owes_newcomers: bool = False
    failures: int = 0
    retry_at_s: float = -inf

    def want(self, start_s: float, end_s: float) -> None:
        """Rows from start to end, both included, beside what is wanted already."""
        if self.wanted is not None:
            start_s, end_s = min(start_s, self.wanted[0]), max(end_s, self.wanted[1])
        self.wanted = (start_s, end_s)


@dataclass(frozen=True, slots=True)
class Piece:
    """Recorded loads ``[row, k]`` of some series of one call, from ``first_at_s`` on."""

    call: str
    first_at_s: float
    wires: list[Wire]
    load: Floats


class Backfill:
    """The past of one group's queries."""

    def __init__(self, source: MetricSource, clock: Clock, recorder: Recorder, interval_s: float) -> None:
        self._source, self._clock, self._recorder, self._interval_s = source, clock, recorder, interval_s
        self._courses: dict[Query, _Course] = {}
        self._known: set[int] = set()
        self._queue: asyncio.Queue[Query] = asyncio.Queue()
        self._pieces: list[Piece] = []
        self._age = 0  # of the grid: what was asked for before the clock stepped has no place any more

    def wire(self, roster: Roster, *, have_past: bool = True) -> None:
        """Follow the roster. ``have_past`` is false where newcomers are other objects under known names: theirs is nobody's past."""
        rows = {call.key: call.rows for call in roster.spec.calls}
        ends: dict[Query, list[Wire]] = {}
        for workload in roster.members():
            for series, place in roster.series(workload).items():
                query, looks_back = series.query, rows[place.call] > 1
                if looks_back and series.target_kind == TargetKind.AVERAGE_VALUE and isinstance(query, Query):
                    ends.setdefault(query, []).append(Wire(place.call, place.slot, place.serial, series.match))
        known = {wire.serial for wires in ends.values() for wire in wires}
        for query in self._courses.keys() - ends.keys():
            del self._courses[query]
        now_s = self._last_grid_s()
        for query, wires in ends.items():
            course = self._courses.setdefault(query, _Course([], 1, now_s))
            course.owes_newcomers |= have_past and any(wire.serial not in self._known for wire in wires)
            course.wires, course.rows = wires, max(rows[wire.call] for wire in wires)
            self._consider(query, course, now_s)
        self._known = known

    def answered(self, at_s: float, queries: Iterable[Query]) -> None:
        """These have an answer at this tick: what is missing just before it is wanted, and what was wanted in vain is tried again."""
        for query in queries:
            course = self._courses.get(query)
            if course is None:
                continue
            if course.seen_s < at_s - 1.5 * self._interval_s:
                course.want(course.seen_s + self._interval_s, at_s - self._interval_s)
            course.seen_s = at_s
            self._consider(query, course, at_s)

    def lose(self) -> None:
        """Everything that was known is gone, and the grid is another one: ask for all of it again."""
        self._age += 1
        self._pieces.clear()
        now_s = self._last_grid_s()
        for query, course in self._courses.items():
            course.seen_s, course.wanted, course.whole_at_s, course.retry_at_s = now_s, None, -inf, -inf
            course.owes_newcomers = True
            self._consider(query, course, now_s)

    def take(self, spec: GroupSpec) -> tuple[Past, ...]:
        """What has come since the last tick, one :class:`Past` for each call and span."""
        calls = {call.key: call for call in spec.calls}
        together: dict[tuple[str, float, int], list[Piece]] = {}
        for piece in self._pieces:
            if piece.call in calls:
                together.setdefault((piece.call, piece.first_at_s, piece.load.shape[0]), []).append(piece)
        self._pieces = []
        pasts = []
        for (key, first_at_s, _), pieces in together.items():
            wires = [wire for piece in pieces for wire in piece.wires]
            slots = np.array([wire.slot for wire in wires], np.int64)
            serial = np.array([wire.serial for wire in wires], np.int64)
            load = np.concatenate([piece.load for piece in pieces], axis=1)
            here = slots < calls[key].owner.size
            slots, serial, load = slots[here], serial[here], load[:, here]
            pasts.append(Past(key, frozen(slots), frozen(serial), first_at_s, recorded_demand(calls[key], slots, load)))
        return tuple(pasts)

    async def run(self) -> None:
        """Ask for what is wanted, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            query = await self._queue.get()
            course = self._courses.get(query)
            if course is not None:
                course.queued = False
                await self._fetch(query, course)

    def _consider(self, query: Query, course: _Course, now_s: float) -> None:
        """Put the query into the queue if a part of its past is wanted and it is time to ask."""
        if course.owes_newcomers and now_s - course.whole_at_s >= WHOLE_EVERY_S:
            course.want(-inf, course.seen_s)
            course.owes_newcomers, course.whole_at_s = False, now_s
        if course.wanted is not None and not course.queued and now_s >= course.retry_at_s:
            course.queued = True
            self._queue.put_nowait(query)

    async def _fetch(self, query: Query, course: _Course) -> None:
        if course.wanted is None:
            return
        wanted, age = course.wanted, self._age
        course.wanted = None
        now_s = self._last_grid_s()
        start_s, end_s = max(wanted[0], now_s - (course.rows - 1) * self._interval_s), wanted[1]
        if start_s > end_s:
            return
        try:
            matrix = await self._source.range(query, start_s, end_s, self._interval_s, BUDGET_S)
        except PermanentError:
            self._recorder.add(metrics.BACKFILLS, "refused")
        except AutoscalerError:
            self._recorder.add(metrics.BACKFILLS, "failed")
            if age == self._age:
                course.want(*wanted)
                course.failures += 1
                course.retry_at_s = now_s + pause_s(course.failures, self._interval_s)
        else:
            self._recorder.add(metrics.BACKFILLS, "ok")
            course.failures, course.retry_at_s = 0, -inf
            if age == self._age:
                self._pieces += pieces_of(course.wires, matrix)

    def _last_grid_s(self) -> float:
        return floor(self._clock.now() / self._interval_s) * self._interval_s


def pieces_of(wires: Iterable[Wire], matrix: Matrix) -> Iterable[Piece]:
    """The answer, call by call; a series that is missing in it, or there several times, has no past."""
    places = Places(matrix.labels)
    found: dict[str, list[tuple[Wire, int]]] = {}
    for wire in wires:
        place = places.find(wire.match)
        if place is not None and place != MANY:
            found.setdefault(wire.call, []).append((wire, place))
    for call, picked in found.items():
        load = matrix.values[:, [place for _, place in picked]]
        yield Piece(call, float(matrix.at_s[0]), [wire for wire, _ in picked], load)
