"""Asks once a tick what pods use, and turns that and the workloads' own pods into columns: load, request, saturation, pods.

One list for each namespace whose pods matter, or one for the whole cluster where these are many. As with other questions a list that has
no answer when the observation closes runs on, no tick waits for it again, and its answer serves a later tick while it is fresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from autoscaler.clock import Clock
from autoscaler.core.columns import frozen
from autoscaler.core.explain import COVERAGE
from autoscaler.core.health.facts import Pod
from autoscaler.core.observation import SeriesColumns
from autoscaler.core.policy import traits_of
from autoscaler.core.roster import Roster
from autoscaler.core.spec import Call, GroupSpec, Usage
from autoscaler.core.types import Bools, Floats, Ints, MetricType, Signal, TargetKind, Workload
from autoscaler.core.usage import CPU, Measured, Rows, Sample, Table, measured, rows_of, table_of, use_of
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError
from autoscaler.loops.observe import CLOSE_AFTER_S, FRESH_INTERVALS, QUESTION_BUDGET_S
from autoscaler.ports import PodWatch, ResourceMetrics

NAMESPACES_MAX = 8
"""Where more namespaces matter, and may be, all are asked for at once."""

_NAMED_MAX = 3
_NO_SAMPLE = (nan, nan)

Samples = Mapping[tuple[str, str], Sample]


@dataclass(slots=True)
class _List:
    """What pods of one namespace ("" is all) use: the try under way, what became of the last one, and an answer not used yet."""

    task: asyncio.Task[None] | None = None
    samples: Samples | None = None
    asked_s: float = nan
    signal: Signal = Signal.NOT_ASKED
    detail: str = "metrics.k8s.io has not been asked yet"

    @property
    def answered(self) -> bool:
        """Whether this tick has an answer."""
        return self.signal == Signal.OK


@dataclass(frozen=True, slots=True)
class _Wire:
    """A series that its workload's pods matter to. ``usage`` None: only whether they are Ready."""

    workload: Workload
    call: str
    slot: int
    serial: int
    usage: Usage | None
    requested: bool


class PodObserver:
    """The pods and their use, for one group. Without a watch of pods, or a place to ask, it is said that nothing is known."""

    def __init__(self, metrics: ResourceMetrics | None, watch: PodWatch | None, clock: Clock, interval_s: float) -> None:
        self._metrics, self._watch, self._clock, self._interval_s = metrics, watch, clock, interval_s
        self._wires: dict[str, list[_Wire]] = {}
        self._lists: dict[str, _List] = {}
        self._rows: dict[_Wire, tuple[tuple[Pod, ...], bool, Rows]] = {}
        self._details: dict[tuple[str, int], str] = {}
        self._namespaces: set[str] = set()
        self._apart = False

    def wire(self, roster: Roster) -> None:
        """Follow the roster: look at the pods of whom they matter to, and ask about no others."""
        judges = {call.key for call in roster.spec.calls if traits_of(call.policy).pods}
        wires: dict[str, list[_Wire]] = {}
        namespaces = set[str]()
        for workload in roster.members():
            for series, place in roster.series(workload).items():
                usage = series.query if isinstance(series.query, Usage) else None
                if usage is not None:
                    namespaces.add(workload.namespace)
                elif place.call not in judges or series.target_kind != TargetKind.VALUE:
                    continue
                requested = series.target_kind == TargetKind.UTILIZATION
                wires.setdefault(place.call, []).append(_Wire(workload, place.call, place.slot, place.serial, usage, requested))
        self._wires = wires
        known = {wire for each in wires.values() for wire in each}
        self._rows = {wire: rows for wire, rows in self._rows.items() if wire in known}
        self._namespaces = namespaces
        self._follow()

    def _follow(self) -> None:
        """Have a list of each namespace, or one of all, if that may be and has not proved too much."""
        whole = self._metrics is not None and self._metrics.cluster_wide and not self._apart and len(self._namespaces) > NAMESPACES_MAX
        scopes = {""} if whole else self._namespaces
        for scope in self._lists.keys() - scopes:
            task = self._lists.pop(scope).task
            if task is not None:
                task.cancel()
        for scope in scopes:
            self._lists.setdefault(scope, _List())

    async def ask(self, at_s: float) -> None:
        """Ask for every list that is not being asked for already, and wait until all are there or the observation closes."""
        if self._metrics is None:
            for each in self._lists.values():
                each.signal, each.detail = Signal.REFUSED, "this service was started without metrics.k8s.io"
            return
        self._follow()
        started = []
        for scope, each in self._lists.items():
            if each.task is None or each.task.done():
                each.task = asyncio.create_task(self._answer(self._metrics, scope, each, at_s), name=f"use of pods {scope}".rstrip())
                started.append(each.task)
            else:
                each.signal, each.detail = Signal.TIMEOUT, "metrics.k8s.io has not answered an earlier tick's question yet"
        if started:
            try:
                async with self._clock.timeout(min(self._interval_s / 3, CLOSE_AFTER_S)):
                    await asyncio.wait(started)
            except TimeoutError:
                return

    async def _answer(self, metrics: ResourceMetrics, scope: str, each: _List, at_s: float) -> None:
        each.signal, each.detail = Signal.TIMEOUT, "no answer from metrics.k8s.io before the observation closed"
        samples: Samples | None = None
        try:
            samples = await metrics.usage(scope, QUESTION_BUDGET_S)
            each.signal, each.detail = Signal.OK, ""
        except AnswerError as error:
            each.signal, each.detail = Signal.WRONG_TYPE, f"metrics.k8s.io does not answer as it should: {error}"
            self._apart = self._apart or not scope  # it may be too long
        except PermanentError as error:
            each.signal, each.detail = Signal.REFUSED, f"metrics.k8s.io refuses: {error}"
        except AutoscalerError as error:
            each.signal, each.detail = Signal.UNREACHABLE, f"metrics.k8s.io cannot be reached: {error}"
        each.samples, each.asked_s = samples, at_s

    def fill(
        self, spec: GroupSpec, at_s: float, series: Sequence[SeriesColumns], coverage: Floats
    ) -> tuple[tuple[SeriesColumns, ...], Floats]:
        """This tick's signals with those put in that pods have; ``coverage[w]`` with the share of the Ready pods that have a sample."""
        self._details.clear()
        samples = {scope: self._taken(each, at_s) for scope, each in self._lists.items()}
        covered = coverage.copy()
        filled = []
        for call, columns in zip(spec.calls, series, strict=True):
            wires = [wire for wire in self._wires.get(call.key, ()) if wire.slot < call.serial.size]
            wires = [wire for wire in wires if call.serial[wire.slot] == wire.serial]
            filled.append(self._measure(_Tick(spec, at_s, samples), call, columns, wires, covered) if wires else columns)
        return tuple(filled), frozen(covered)

    def _taken(self, each: _List, at_s: float) -> Samples | None:
        """A list's answer, once, if it is fresh."""
        samples, each.samples = each.samples, None
        if samples is not None:
            each.signal, age_s = Signal.OK, at_s - each.asked_s
            if age_s > FRESH_INTERVALS * self._interval_s:
                each.signal, each.detail = Signal.STALE, f"the newest answer of metrics.k8s.io is too old: it is about {age_s:.0f} s ago"
                return None
        return samples

    def _scope(self, workload: Workload) -> str:
        return "" if "" in self._lists else workload.namespace

    def _list_of(self, wire: _Wire) -> _List:
        return self._lists[self._scope(wire.workload)]

    def _measure(self, tick: _Tick, call: Call, columns: SeriesColumns, wires: Sequence[_Wire], covered: Floats) -> SeriesColumns:
        """One call's columns; its workloads' share in ``covered``."""
        exact = tick.spec.workloads.exact[call.owner]
        rows, table = self._table(tick, call, wires, exact)
        judged, utilization = traits_of(call.policy).pods, call.target_kind == TargetKind.UTILIZATION.value
        cpu = call.metric_type == MetricType.CPU.value
        found = measured(table, tick.at_s, cpu, utilization, np.full(exact.size, judged))

        heard = np.zeros(exact.size, np.bool_)
        asked = [wire for wire in wires if wire.usage is not None and rows[wire.slot] is not None]
        heard[[wire.slot for wire in asked if self._list_of(wire).answered]] = True
        ok = heard & (found.counted > 0) & (~utilization | (found.requested > 0))
        signal = np.where(ok, np.int8(Signal.OK), columns.signal)
        for wire in wires:
            slot, mine = wire.slot, rows[wire.slot]
            if wire.usage is not None and not ok[slot]:
                signal[slot], self._details[wire.call, slot] = self._outcome(wire, mine, _Series(found, table, slot, tick.at_s))
            elif mine is not None and mine.unrequested and not exact[slot]:
                self._details[wire.call, slot] = _unrequested(mine, wire)
        self._cover(call.owner[ok], found.covered[ok], covered)
        return replace(
            columns,
            load=frozen(np.where(ok, found.load, columns.load)),
            age_s=frozen(np.where(ok, found.age_s, columns.age_s)),
            signal=frozen(signal),
            saturated=frozen(columns.saturated | (ok & found.saturated)),
            request=frozen(np.where(ok, found.request, columns.request)),
            pods=table.pods if judged else None,
        )

    def _table(self, tick: _Tick, call: Call, wires: Sequence[_Wire], exact: Bools) -> tuple[list[Rows | None], Table]:
        """The pods of each series slot (None: not known, or nobody asks), and all of them with their samples."""
        rows: list[Rows | None] = [None] * call.owner.size
        uses: list[float] = []
        stamps: list[tuple[float, float]] = []
        for wire in sorted(wires, key=lambda each: each.slot):
            owned = None if self._watch is None else self._watch.owned(wire.workload)
            if owned is not None:
                literal = bool(exact[wire.slot])
                mine = rows[wire.slot] = self._rows_of(wire, owned, exact=literal)
                _add(mine, wire.usage, tick.samples.get(self._scope(wire.workload)) or {}, (uses, stamps), exact=literal)
        return rows, table_of(rows, uses, stamps, tick.at_s, exact)

    def _rows_of(self, wire: _Wire, owned: tuple[Pod, ...], *, exact: bool) -> Rows:
        """The rows of pods, made anew where one of them has changed."""
        known = self._rows.get(wire)
        if known is not None and known[:2] == (owned, exact):
            return known[2]
        rows = rows_of(owned, wire.usage or Usage(CPU), requested=wire.requested, exact=exact)
        self._rows[wire] = owned, exact, rows
        return rows

    def _cover(self, owner: Ints, share: Floats, covered: Floats) -> None:
        """Of several series, and what coverage was known already, the least counts."""
        for place in np.flatnonzero((share < 1) & ~(covered[owner] <= share)):
            self._details[COVERAGE, int(owner[place])] = f"{share[place]:.0%} of the ready pods have a sample in metrics.k8s.io that counts"
        np.fmin.at(covered, owner, share)

    def _outcome(self, wire: _Wire, rows: Rows | None, series: _Series) -> tuple[Signal, str]:
        """What became of a series, and why it has no value."""
        if rows is None:
            return Signal.NOT_ASKED, "its pods are not known: their watch has no list yet, or has lost its connection, or may not be opened"
        each = self._list_of(wire)
        return series.verdict(wire, len(rows.names)) if each.answered else (each.signal, each.detail)

    def details(self) -> Mapping[tuple[str, int], str]:
        """What there is to say about series, by call key and series slot, and about coverage."""
        return dict(self._details)

    async def close(self) -> None:
        """Give up every question under way."""
        tasks = [each.task for each in self._lists.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Tick:
    spec: GroupSpec
    at_s: float
    samples: Mapping[str, Samples | None]


@dataclass(frozen=True, slots=True)
class _Series:
    """One series of what was measured."""

    found: Measured
    table: Table
    slot: int
    at_s: float

    def verdict(self, wire: _Wire, pods: int) -> tuple[Signal, str]:
        """Whether its pods' samples make a value; if not, why not."""
        found, slot = self.found, self.slot
        resource = "" if wire.usage is None else wire.usage.resource
        if found.counted[slot] == 0:
            if self.table.stale[slot] and not found.sampled[slot]:
                age_s = self.at_s - self.table.newest_s[slot]
                when = f"{age_s:.0f} s old" if age_s > 0 else f"of {-age_s:.0f} s from now: the clocks of its nodes and ours differ"
                return Signal.STALE, f"the newest sample of its pods in metrics.k8s.io is {when}"
            if not pods:
                return Signal.EMPTY, "it has no pods"
            if not found.sampled[slot]:
                named = f" of container {wire.usage.container}" if wire.usage is not None and wire.usage.container else ""
                return Signal.EMPTY, f"none of its {pods} pods has a sample of {resource}{named} in metrics.k8s.io"
            return Signal.NOT_READY_YET, f"none of its {pods} pods has a sample of {resource} from after its start"
        if wire.requested and not found.requested[slot]:
            remedy = f"give its containers resources.requests.{resource}, or the target an averageValue"
            return Signal.NAN, f"none of its {pods} pods requests {resource}, so there is no utilisation of it: {remedy}"
        return Signal.OK, ""


def _add(rows: Rows, usage: Usage | None, samples: Samples, behind: tuple[list[float], list[tuple[float, float]]], *, exact: bool) -> None:
    """Put the samples of the rows behind the others: uses and stamps."""
    uses, stamps = behind
    if usage is None:
        uses += [nan] * len(rows.names)
        stamps += [_NO_SAMPLE] * len(rows.names)
        return
    found = [samples.get(name) for name in rows.names]
    stamps += [_NO_SAMPLE if sample is None else sample[:2] for sample in found]
    pairs = zip(found, rows.containers, strict=True)
    uses += [use_of(sample, containers, usage.resource, exact=exact) for sample, containers in pairs]


def _unrequested(rows: Rows, wire: _Wire) -> str:
    """Which pods have containers without a request."""
    resource = "" if wire.usage is None else wire.usage.resource
    names, pods = rows.unrequested, len(rows.names)
    shown = ", ".join(names[:_NAMED_MAX]) + (", …" if len(names) > _NAMED_MAX else "")
    return f"containers without a {resource} request are left out, in {len(names)} of {pods} pods: {shown}"
