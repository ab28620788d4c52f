"""Runs the real ``decide``, with every guard, against simulated plants on a grid of ticks: what a score says holds for production.

Columns are workloads, candidates, seeds, in any mixture: a sweep of policies over one load is one run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, nan
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from autoscaler.core.columns import frozen, full
from autoscaler.core.decide import State, decide
from autoscaler.core.history import History
from autoscaler.core.observation import Observation, SeriesColumns
from autoscaler.core.plant import Plant, needed
from autoscaler.core.roster import Roster
from autoscaler.core.spec import Call, WorkloadSpec
from autoscaler.core.types import FREE, Bools, Floats, Ints, Mode, Signal, Target, TargetKind
from autoscaler.errors import ConfigError
from autoscaler.simulation.score import Score, Sums, Trajectory
from autoscaler.simulation.world import Sample, Setup, Step, World

RISK = 0.002
"""The share of late requests that the objective allows."""

START_S = 1_800_000_000.0
"""Where time begins unless the load says otherwise."""

_CHUNK = 256
_CELLS = 2**16
"""Steps times plants that are noted before they are summed up: what fits into a processor's cache."""

_FIRST_S = 600.0
_FIRST_TARGET = 0.6
_EPSILON = 1e-9


Seam: TypeAlias = Callable[[Any, Ints], Any]
"""Gets what a policy remembers (its state, one column per series) and the plant of each column; returns what it goes on with."""

NO_SEAMS: Mapping[int, Seam] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Case:
    """What is run: column ``p`` is ``specs[p]``, whatever its mode, under load ``load_of[p]``. Equal specs may stand side by side.

    ``rate, arrivals[step, q]``: each load's mean rate (per second) and its requests; ``factor[step, q]`` multiplies the metric at
    each tick (:func:`autoscaler.simulation.load.disturbed`). ``start_s``: the time of the first tick. Every column starts with the
    pods that the greatest rate of the first ten minutes needs at 60 % of their capacity.
    """

    specs: Sequence[WorkloadSpec]
    rate: Floats
    arrivals: Floats
    load_of: Ints
    setup: Setup = field(default_factory=Setup)
    factor: Floats | None = None
    start_s: float = START_S
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The score of the steps after the warm-up ``[p]``, the sums that it comes from, and those steps if they were to be kept."""

    score: Score
    sums: Sums
    trajectory: Trajectory | None


def run(
    case: Case,
    *,
    warm_s: Floats | float = 0.0,
    risk: float = RISK,
    keep: bool = False,
    progress: Callable[[int], None] | None = None,
    seams: Mapping[int, Seam] = NO_SEAMS,
) -> Result:
    """Run all steps; those of the first ``warm_s`` seconds (of all, or of each ``[p]``) are not scored.

    ``keep``: the steps that at least one plant is scored for. ``progress`` is told the steps done now and then. ``seams``: what is done to
    every policy's state before the step of that number.

    Raises ConfigError for a case that cannot be run, saying why.
    """
    warm = np.broadcast_to(np.asarray(warm_s, dtype=np.float64), (len(case.specs),))
    _check(case, float(warm.max(initial=0.0)))
    plant = case.setup.plant
    p, steps = len(case.specs), case.rate.shape[0]
    world = World(case.setup, first_replicas(case.rate, plant)[case.load_of], np.full(p, case.ordered))
    pilots = [_Pilot(case, interval_s) for interval_s in sorted({spec.interval_s for spec in case.specs})]
    book = _Book(case, np.rint(warm / plant.step_s).astype(np.int64), risk, keep=keep)
    for step in range(steps):
        at_s = case.start_s + step * plant.step_s
        if step in seams:
            for pilot in pilots:
                pilot.pass_over(seams[step])
        due = [pilot for pilot in pilots if step % pilot.every == 0]
        if due:
            sample = world.seen()
            asked = np.array(world.asked)
            for pilot in due:
                pilot.tick(at_s, world, sample, None if case.factor is None else case.factor[step])
                pilot.put(asked)
            world.ask(frozen(asked))
        book.note(step, world.advance(case.arrivals[step][case.load_of]), world)
        if progress is not None and (step + 1) % _CHUNK == 0:
            progress(step + 1)
    return book.result()


def first_replicas(rate: Floats, plant: Plant) -> Floats:
    """The pods that a load ``rate[step, q]`` starts with."""
    rows = max(1, ceil(_FIRST_S / plant.step_s))
    return frozen(np.maximum(np.ceil(rate[:rows].max(axis=0) / (_FIRST_TARGET * np.asarray(plant.capacity)) - _EPSILON), 1.0))


def _check(case: Case, warm_s: float) -> None:
    steps, step_s = case.rate.shape[0], case.setup.plant.step_s
    if case.arrivals.shape != case.rate.shape or (case.factor is not None and case.factor.shape != case.rate.shape):
        raise ConfigError(f"rate, arrivals and factor: expected one shape [step, load], found {case.rate.shape}, {case.arrivals.shape}")
    if len(case.specs) != case.load_of.size or not len(case.specs):
        raise ConfigError(f"load_of: expected one load number for each of the {len(case.specs)} specs, found {case.load_of.size}")
    if not warm_s < steps * step_s:
        raise ConfigError(f"the load lasts {steps * step_s:g} s, expected more than the {warm_s:g} s of warm-up that are not scored")
    for spec in case.specs:
        if round(spec.interval_s / step_s) * step_s != spec.interval_s:
            raise ConfigError(
                f"{spec.workload}: the interval, {spec.interval_s:g} s, must be a multiple of the simulation's step, {step_s:g} s"
            )
        if case.start_s % spec.interval_s:
            raise ConfigError(f"start_s: expected a multiple of every interval, found {case.start_s:g} with {spec.interval_s:g} s")


@dataclass(frozen=True, slots=True)
class _Wire:
    """How the plants feed one call's series ``[n]``: the plant of each (or the blank one), and what its target wants to be told."""

    plant: Ints
    per_pod: Bools | None
    request: Floats


class _Pilot:
    """All columns of one interval: what is observed, and ``decide``."""

    def __init__(self, case: Case, interval_s: float) -> None:
        self.every = round(interval_s / case.setup.plant.step_s)
        self._case, self._plants = case, [k for k, spec in enumerate(case.specs) if spec.interval_s == interval_s]
        roster = Roster(interval_s)
        # Names tell columns apart, so that one workload can be run many times; a dry run's decisions are carried out here.
        renamed = [_active(case.specs[k], k) for k in self._plants]
        self._spec = roster.swap(join=renamed)
        blank = len(case.specs)
        plant: Ints = np.full(self._spec.slots, blank, np.int64)
        self._slots = np.array([roster.slot(spec.workload) for spec in renamed])
        plant[self._slots] = self._plants
        self._plant, self._blank = plant, plant == blank
        self._told = np.array([spec.objective is not None for spec in case.specs])
        self._wires = [self._wire(call) for call in self._spec.calls]
        self._history, self._state = History(interval_s), State()
        self._target = frozen(np.where(self._blank, Target.UNKNOWN, Target.OK).astype(np.int8))
        self._ordered = frozen(np.where(self._blank, False, case.ordered))
        self._startup = self._spread(np.broadcast_to(np.asarray(case.setup.plant.startup_s, dtype=np.float64), (blank,)))
        nothing = frozen(full(self._spec.slots, np.nan))
        self._nothing = self._written_at = self._written_from = self._written_to = self._replicas = nothing

    def _spread(self, column: Floats) -> Floats:
        """A column of plants as a column of slots; NaN where nobody is."""
        return _picked(column, self._plant)

    def _wire(self, call: Call) -> _Wire:
        plant = np.where(call.owner == FREE, len(self._case.specs), self._plant[call.owner])
        per_pod = call.target_kind == TargetKind.VALUE
        capacity = np.broadcast_to(np.asarray(self._case.setup.plant.capacity, dtype=np.float64), (len(self._case.specs),))
        return _Wire(plant, per_pod if per_pod.any() else None, _picked(capacity, plant))

    def tick(self, at_s: float, world: World, sample: Sample | None, factor: Floats | None) -> None:
        """Observe and decide."""
        current = self._spread(world.asked)
        load = None
        if sample is not None:
            load = sample.load if factor is None else sample.load * factor[self._case.load_of]
        observation = Observation(
            at_s=at_s,
            current=current,
            ready=self._spread(world.ready),
            status_replicas=self._spread(world.existing),
            startup_s=self._startup,
            ordered=self._ordered,
            target=self._target,
            written_at_s=self._written_at,
            written_from=self._written_from,
            written_to=self._written_to,
            coverage=self._nothing,
            series=tuple(self._series(wire, sample, load) for wire in self._wires),
        )
        observation = self._history.record(self._spec, observation)
        self._state, decision = decide(self._state, observation, self._spec)
        applied = decision.apply
        self._replicas = np.where(applied, decision.replicas, current)
        self._written_at = frozen(np.where(applied, at_s, np.nan))
        self._written_from = frozen(np.where(applied, current, np.nan))
        self._written_to = frozen(np.where(applied, decision.replicas, np.nan))

    def pass_over(self, seam: Seam) -> None:
        """Let what the policies remember go through a seam."""
        kept = dict(self._state.policies)
        for call, wire in zip(self._spec.calls, self._wires, strict=True):
            if call.key in kept:
                kept[call.key] = replace(kept[call.key], value=seam(kept[call.key].value, wire.plant))
        self._state = replace(self._state, policies=kept)

    def put(self, asked: Floats) -> None:
        """Write what was decided into the plants' counts ``[p]``."""
        asked[self._plants] = self._replicas[self._slots]

    def _series(self, wire: _Wire, sample: Sample | None, load: Floats | None) -> SeriesColumns:
        """What one call's series show; the objective's rates only to workloads that ask for them."""
        n = wire.plant.size
        if sample is None or load is None:
            nothing = frozen(full(n, np.nan))
            empty = frozen(np.full(n, Signal.EMPTY, np.int8))
            return SeriesColumns(nothing, nothing, empty, frozen(np.zeros(n, np.bool_)), nothing, wire.request)
        value, ready = _picked(load, wire.plant), _picked(sample.ready, wire.plant)
        silent = np.isnan(value)
        if wire.per_pod is not None:
            each = np.divide(value, ready, out=np.zeros(n), where=ready > 0)
            value = frozen(np.where(wire.per_pod & ~silent, each, value))
        return SeriesColumns(
            load=value,
            age_s=frozen(np.where(silent, np.nan, self._case.setup.age_s)),
            signal=frozen(np.where(silent, Signal.EMPTY, Signal.OK).astype(np.int8)),
            saturated=frozen(np.append(sample.saturated, False)[wire.plant]),
            ready=ready,
            request=wire.request,
            late=_picked(np.where(self._told, sample.late, np.nan), wire.plant) if self._told.any() else None,
            total=_picked(sample.total, wire.plant) if self._told.any() else None,
        )


def _active(spec: WorkloadSpec, column: int) -> WorkloadSpec:
    workload = spec.workload._replace(name=f"{spec.workload.name}#{column}")
    return replace(spec, workload=workload, mode=Mode.ACTIVE, mode_until_s=nan)


def _picked(column: Floats, places: Ints) -> Floats:
    """``column[places]``, where the place after the last has NaN."""
    wide = np.empty(column.size + 1)
    wide[:-1], wide[-1] = column, np.nan
    return frozen(wide[places])


class _Book:
    """Notes every step in pieces of ``_CHUNK``, scores the pieces, and keeps them if asked to."""

    def __init__(self, case: Case, warm: Ints, risk: float, *, keep: bool) -> None:
        self._case, self._warm, self._risk = case, warm, risk
        p, self._least, self._most = len(case.specs), int(warm.min()), int(warm.max())
        self._sums = Sums(p, case.setup.plant.step_s, risk)
        self._chunk = max(8, min(_CHUNK, _CELLS // p))
        self._rows = {name: np.empty((self._chunk, p)) for name in Trajectory.__dataclass_fields__ if name != "demand"}
        self._kept: list[Trajectory] | None = [] if keep else None
        self._filled, self._first = 0, self._least

    def note(self, number: int, step: Step, world: World) -> None:
        """Take in one step."""
        if number < self._least:
            return
        rows, k = self._rows, self._filled
        rows["arrivals"][k], rows["served"][k], rows["late"][k] = step.arrivals, step.outcome.served, step.outcome.late
        rows["dropped"][k], rows["backlog"][k] = step.outcome.dropped, world.backlog
        rows["asked"][k], rows["ready"][k], rows["billed"][k] = world.asked, step.supply.ready, step.supply.billed
        self._filled += 1
        if self._filled == self._chunk:
            self._close()

    def _close(self) -> None:
        first, count = self._first, self._filled
        rate = self._case.rate[first : first + count]
        demand = needed(self._case.setup.plant, rate[:, self._case.load_of], self._risk)
        part = Trajectory(**{name: rows[:count] for name, rows in self._rows.items()}, demand=demand)
        counts = np.arange(first, first + count)[:, None] >= self._warm if first < self._most else None
        self._sums.add(part, counts)
        if self._kept is not None:
            self._kept.append(Trajectory(**{name: getattr(part, name).copy() for name in Trajectory.__dataclass_fields__}))
        self._first, self._filled = first + count, 0

    def result(self) -> Result:
        """What there is in the end."""
        if self._filled:
            self._close()
        trajectory = None
        if self._kept is not None:
            names = Trajectory.__dataclass_fields__
            trajectory = Trajectory(**{name: frozen(np.concatenate([getattr(part, name) for part in self._kept])) for name in names})
        return Result(self._sums.score(), self._sums, trajectory)
