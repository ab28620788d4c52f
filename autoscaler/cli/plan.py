"""From the options of ``backtest`` to a ground to compete on: which policy, which load, what a pod can do, and what had to be assumed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from autoscaler.cli.history import History, Span, fetch, opened, wanted
from autoscaler.clock import SystemClock
from autoscaler.core.columns import frozen
from autoscaler.core.plant import Model, Plant
from autoscaler.core.spec import SeriesSpec, WorkloadSpec
from autoscaler.core.types import Bools, Floats, TargetKind
from autoscaler.errors import ConfigError
from autoscaler.policyfile.durations import format_duration, parse_duration
from autoscaler.policyfile.load import Loaded, assemble, parse, read
from autoscaler.policyfile.specs import schedule_rows
from autoscaler.simulation.comparison import Ground, Peer
from autoscaler.simulation.load import Trace, drawn, duration, rates, read_csv, scaled
from autoscaler.simulation.recorded import Startup, at_rows, by_step, saturated
from autoscaler.simulation.run import START_S
from autoscaler.simulation.world import Measure, Setup

PEERS = ("hpa", "hpa-tuned")
STARTUP_S = 45.0

_STEP_S = 15.0
_DATED_S = 1e9
"""Stamps above this are seconds since 1970, those below since the start."""

_PODS_MAX = 20_000
"""No workload has more pods, and a simulation of them takes its time."""

_FEW = 100.0
"""So many requests a step and pod vary by ten per cent."""

_COARSE_S = 300.0

_LONG_S, _WARM_LONG_S, _WARM_SHORT_S, _WARM_SHARE = 4 * 86400.0, 2 * 86400.0, 4 * 3600.0, 0.25
_SHORT_S = 86400.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for on the command line, durations as text."""

    file: Path
    trace: Path | None
    prometheus: str | None
    since: str
    workload: str | None
    metric: str | None
    against: str
    limit: float | None
    startup: str | None
    knee: float
    drain: str
    patience: str
    model: str
    signal: str
    window: str
    age: str
    median_replicas: float | None
    hold: bool
    warm_up: str | None
    risk: float
    seed: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Who competes on which ground. ``limit`` of a pod in the metric's unit; ``unknown[step]``: the true load is not known there.

    ``dated``: whether ``ground.start_s`` is a real time.
    """

    ground: Ground
    spec: WorkloadSpec
    against: tuple[Peer, ...]
    limit: float
    startup: Startup
    unknown: Bools
    dated: bool
    notes: tuple[str, ...]


def prepare(wishes: Wishes) -> Plan:
    """Read the file and the load. Raises ConfigError with what is wrong, before anything is simulated."""
    peers = _peers(wishes.against)
    loaded = chosen(wishes.file, wishes.workload)
    spec = loaded.spec
    if (wishes.trace is None) == (wishes.prometheus is None):
        raise ConfigError("expected one load: --trace CSV, or --prometheus URL for your own history")
    step_s = min(_STEP_S, spec.interval_s)
    history = _recorded_load(wishes, spec, step_s)
    limit = _limit(wishes, spec, history.series)
    trace, notes = history.trace, [*history.notes, *history.trace.notes]
    startup = _startup(wishes, spec, history.startup)
    plant = Plant(
        step_s=step_s,
        capacity=limit / wishes.knee,
        startup_s=startup.seconds,
        drain_s=_seconds("--drain", wishes.drain),
        patience_s=_seconds("--patience", wishes.patience),
        model=Model(wishes.model),
        knee=wishes.knee,
    )
    if wishes.median_replicas is not None:
        trace, factor = scaled(trace, plant, wishes.median_replicas)
        notes.append(f"the load is multiplied by {factor:.4g}: its median needs {wishes.median_replicas:g} pods at their limit")
    rate = rates(trace, step_s, hold=wishes.hold)
    _refuse_absurd(str(wishes.trace or trace.name), rate, step_s, limit)
    notes += _doubts(trace, rate, limit, spec.max_replicas)
    warm_s = _warm_up(wishes, rate.size * step_s, notes)
    dated = float(trace.start_s[0]) > _DATED_S
    start_s = float(trace.start_s[0]) // spec.interval_s * spec.interval_s if dated else START_S
    if spec.startup_s == spec.startup_s:  # given in the file: it is what the policy is told, whatever the plant does
        notes.append(f"the policy is told the file's startup, {format_duration(spec.startup_s)}")
    windows = loaded.schedule
    if windows:
        spec = replace(spec, schedule=schedule_rows(windows, start_s, rate.size * step_s))
        if not dated:
            notes.append("the trace has no dates: for the schedule it begins on Friday, 2027-01-15 08:00 UTC")
    if not wishes.exact and limit * step_s < _FEW:
        notes.append(f"at {limit:g} a pod the load counts few requests a step, so chance moves it; if it is no requests/s, give --exact")
    setup = Setup(plant, Measure(wishes.signal), _seconds("--window", wishes.window), _seconds("--age", wishes.age))
    ground = Ground(
        trace=trace.name,
        rate=rate,
        arrivals=frozen(rate * step_s) if wishes.exact else drawn(rate, step_s, wishes.seed),
        setup=setup,
        warm_s=warm_s,
        risk=wishes.risk,
        seed=wishes.seed,
        start_s=start_s,
    )
    spec = replace(spec, series=(history.series,))
    return Plan(ground, spec, peers, limit, startup, _unknown(history, plant, rate.size, notes), dated, tuple(notes))


def chosen(file: Path, workload: str | None) -> Loaded:
    """The one policy that is meant. Raises ConfigError, or PolicyFileError with every mistake of the file."""
    files, unread = read([file])
    found = assemble([parse(each) for each in files], unread).scaling
    if workload is not None:
        found = tuple(match for each in found for match in _named(each, workload)) or _nobody(workload, found)
    if len(found) != 1:
        listed = ", ".join(_name(each) for each in found) or "none"
        raise ConfigError(f"{file}: expected one policy, found {len(found)} ({listed}); choose with --workload")
    if workload is None and found[0].selector is not None:
        raise ConfigError(f"{file}: the policy is for many workloads; choose one of them with --workload")
    return found[0]


def _named(loaded: Loaded, workload: str) -> tuple[Loaded, ...]:
    """The policy, if it is for that workload; of one for many, that workload's row."""
    namespace, _, name = workload.rpartition("/")
    if namespace not in {"", loaded.spec.workload.namespace}:
        return ()
    if loaded.selector is not None:
        return (replace(loaded, spec=loaded.row(name)),)
    return (loaded,) if name == loaded.spec.workload.name else ()


def _name(loaded: Loaded) -> str:
    return f"{loaded.spec.workload.namespace}/{loaded.spec.workload.name}"


def _nobody(workload: str, found: Sequence[Loaded]) -> tuple[Loaded, ...]:
    raise ConfigError(f"--workload {workload}: no policy in the file is for it; there are {', '.join(map(_name, found)) or 'none'}")


def _peers(text: str) -> tuple[Peer, ...]:
    given = [part.strip() for part in text.split(",") if part.strip() and part.strip() != "none"]
    wrong = [part for part in given if part not in PEERS]
    if wrong:
        raise ConfigError(f"--against {wrong[0]}: expected {', '.join(PEERS)} or none")
    return tuple(cast("Peer", name) for name in PEERS if name in given)


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _recorded_load(wishes: Wishes, spec: WorkloadSpec, step_s: float) -> History:
    if wishes.prometheus is not None:
        end_s = SystemClock().now() // step_s * step_s
        span = Span(end_s - _seconds("--since", wishes.since), end_s, step_s)
        if span.end_s - span.start_s < 2 * step_s:
            raise ConfigError(f"--since {wishes.since}: expected more than two rows of {step_s:g} s")
        return asyncio.run(_asked(wishes.prometheus, spec, wishes.metric, span))
    if wishes.trace is None:
        raise ConfigError("expected one load: --trace CSV, or --prometheus URL for your own history")
    series, *others = wanted(spec, wishes.metric)
    notes = [f"metric {each.name} is left out: the trace is taken as {series.name}; --metric chooses another" for each in others]
    return History(series, read_csv(wishes.trace), None, None, None, tuple(notes))


async def _asked(url: str, spec: WorkloadSpec, metric: str | None, span: Span) -> History:
    async with opened(url) as source:
        history = await fetch(source, spec, metric, span)
    if history.series.target_kind is not TargetKind.AVERAGE_VALUE:
        raise ConfigError(
            f"metric {history.series.name}: its target is a value of the metric itself, which is no load, so it cannot be simulated; "
            "expected a metric with averageValue, or --trace with the load"
        )
    return history


def _limit(wishes: Wishes, spec: WorkloadSpec, series: SeriesSpec) -> float:
    """The most that a pod carries within its objective, in the metric's unit."""
    if wishes.limit is not None:
        return wishes.limit
    if spec.policy.name == "forecast" and series.target_kind is TargetKind.AVERAGE_VALUE:
        return series.target
    raise ConfigError(
        f"what one pod of {spec.workload} carries is not known: the target of {spec.policy.name} has headroom in it. "
        "Give --limit, the load per pod up to which its objective holds; `autoscaler tune` finds it in your history"
    )


def _refuse_absurd(name: str, rate: Floats, step_s: float, limit: float) -> None:
    if rate.size < 2:  # noqa: PLR2004 - of one step nothing can be learnt
        raise ConfigError(f"{name}: the load lasts less than two steps of {step_s:g} s, expected some days")
    peak = float(rate.max())
    if peak > _PODS_MAX * limit:
        where = duration(float(rate.argmax()) * step_s)
        raise ConfigError(
            f"{name}: the load reaches {peak:.4g} {where} after its start, which at {limit:g} a pod are {peak / limit:.3g} pods, expected "
            f"at most {_PODS_MAX:g}: is the limit in the metric's unit, and is that value one?"
        )


def _doubts(trace: Trace, rate: Floats, limit: float, most: int) -> list[str]:
    """What makes figures say less than they seem to."""
    notes = []
    if trace.step_s > _COARSE_S:
        notes.append(
            f"the rows are {duration(trace.step_s)} apart: what the load does in between is not known, and straight lines flatter everybody"
        )
    beyond = float((rate > most * limit).mean())
    if beyond:
        notes.append(
            f"{beyond:.1%} of the time the load needs more than maxReplicas, {most}: no policy may keep it then, while the bound, "
            "which has no maximum, pays for it"
        )
    return notes


def _startup(wishes: Wishes, spec: WorkloadSpec, found: Startup | None) -> Startup:
    if wishes.startup is not None:
        return Startup(_seconds("--startup", wishes.startup), "given by --startup")
    if spec.startup_s == spec.startup_s:
        return Startup(spec.startup_s, "startup in the policy file")
    return found or Startup(STARTUP_S, "assumed: no pod starts are recorded; --startup sets it")


def _warm_up(wishes: Wishes, span_s: float, notes: list[str]) -> float:
    if wishes.warm_up is not None:
        return _seconds("--warm-up", wishes.warm_up)
    if span_s >= _LONG_S:
        return _WARM_LONG_S
    if span_s < _SHORT_S:
        notes.append(f"{duration(span_s)} of load say little about a policy; expected some days")
    return min(_WARM_SHORT_S, _WARM_SHARE * span_s // _STEP_S * _STEP_S)


def _unknown(history: History, plant: Plant, steps: int, notes: list[str]) -> Bools:
    """The steps whose true load is not known, since the pods of that time were at their limit."""
    rows = np.zeros(history.trace.rate.size, np.bool_)
    if history.full is not None:
        rows |= at_rows(history.trace, history.full.at_s, history.full.values) > 0
    elif history.pods is not None:
        rows |= saturated(history.trace, history.pods.at_s, history.pods.values, plant)
    if rows.any():
        share = float(rows.mean())
        notes.append(f"{share:.1%} of the time the pods of then were saturated: true load unknown here, it may have been higher")
    return by_step(history.trace, rows, steps, plant.step_s)
