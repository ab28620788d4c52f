"""Why a workload has the replicas that it has: from the columns of a tick back to sentences about one workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoscaler.core.columns import sharing
from autoscaler.core.decide import Decision
from autoscaler.core.guards import COVERAGE_MIN
from autoscaler.core.history import Past
from autoscaler.core.observation import Observation
from autoscaler.core.roster import SeriesSlot
from autoscaler.core.spec import GroupSpec, SeriesSpec
from autoscaler.core.types import REASON_TEXT, SIGNAL_TEXT, Codes, Floats, Mode, Reason, Signal, Singles
from autoscaler.core.warming import Warmed

COVERAGE = "coverage"
"""In place of a call's key, for what there is to say about a workload's coverage."""

OBJECTIVE = "objective"
"""In place of a call's key, for what there is to say about a workload's objective."""


@dataclass(frozen=True, slots=True)
class TickRecord:
    """One tick of one group, kept: what was known and what was decided. ``demand[c][n]`` is this tick's row alone.

    ``details`` has the source's own words on series without data, by call key and slot, and who else scales a target, by "" and slot.
    """

    spec: GroupSpec
    observation: Observation
    decision: Decision
    demand: tuple[Singles, ...]
    details: Mapping[tuple[str, int], str]
    past: tuple[Past, ...] = ()
    """What was filled into the history before it was decided …"""

    warmed: tuple[Warmed, ...] = ()
    """… and the policies' states that warm-ups had come to."""


def recorded(spec: GroupSpec, observation: Observation, decision: Decision, details: Mapping[tuple[str, int], str]) -> TickRecord:
    """The record of a tick, without the windows of history, which the next tick overwrites."""
    demand = tuple(np.full(0, np.nan, np.float32) if s.demand is None else s.demand[-1].copy() for s in observation.series)
    bare = tuple(replace(series, demand=None, season_mean=None, season_max=None) for series in observation.series)
    return TickRecord(spec, replace(observation, series=bare), decision, demand, details)


def beside(record: TickRecord, before: TickRecord) -> TickRecord:
    """The record, with whatever is as it was in the one before kept only once: from tick to tick most columns do not change."""
    details = before.details if record.details == before.details else record.details
    return replace(
        record,
        observation=sharing(record.observation, before.observation),
        decision=sharing(record.decision, before.decision),
        demand=sharing(record.demand, before.demand),
        details=details,
    )


def headline(decision: Decision) -> Codes:
    """The last reason that shaped each workload's count ``[w]``; a dry run is no reason for a count."""
    codes = np.zeros(decision.replicas.size, np.int8)
    for stage in decision.stages:
        shaped = (stage.reason != Reason.NONE) & (stage.reason != Reason.DRY_RUN)
        codes = np.where(shaped, stage.reason, codes)
    return codes


def demand_by_workload(record: TickRecord) -> Floats:
    """The largest demand of each workload's series ``[w]``, NaN where none is known."""
    found = np.full(record.spec.slots, np.nan)
    for call, demand in zip(record.spec.calls, record.demand, strict=True):
        used = call.owner >= 0
        np.fmax.at(found, call.owner[used], demand[used].astype(np.float64))
    return found


def signals_by_workload(record: TickRecord) -> Codes:
    """The highest signal code of each workload's series ``[w]``: 0 where all answered."""
    found = np.zeros(record.spec.slots, np.int8)
    for call, series in zip(record.spec.calls, record.observation.series, strict=True):
        used = call.owner >= 0
        np.maximum.at(found, call.owner[used], series.signal[used])
    return found


def why(record: TickRecord, slot: int, series: Mapping[SeriesSpec, SeriesSlot]) -> str:
    """One line: demand, the proposal with the policy's notes, and what each guard made of it.

    Such as ``demand 14.2 (requests) -> 15.1 [stable 15.1, panic 14.6]; 12: scale-up rate limit``.
    """
    decision = record.decision
    parts = []
    best = _leader(record, slot, series)
    if best is not None:
        spec, index, place = best
        proposal = decision.proposals[index]
        noted = {name: float(column[place.slot]) for name, column in proposal.notes.items()}
        notes = ", ".join(f"{name} {_number(value)}" for name, value in noted.items() if value and not np.isnan(value))
        wanted = f"demand {_number(record.demand[index][place.slot])} ({spec.name}) -> {_number(proposal.replicas[place.slot])}"
        parts.append(f"{wanted} [{notes}]" if notes else wanted)
    before = float(decision.combined.replicas[slot])
    for stage in decision.stages:
        code, after = Reason(int(stage.reason[slot])), float(stage.replicas[slot])
        if code == Reason.DRY_RUN:
            parts.append(REASON_TEXT[code])
        elif code == Reason.CONFLICT and ("", slot) in record.details:
            parts.append(f"{REASON_TEXT[code]}: {record.details['', slot]}")
        elif code != Reason.NONE:
            moved = not np.isnan(before) and after != before
            parts.append(f"{_number(after)}: {REASON_TEXT[code]}" if moved else REASON_TEXT[code])
        before = after
    parts.extend(_complaints(record, slot, series))
    return "; ".join(parts)


def _leader(record: TickRecord, slot: int, series: Mapping[SeriesSpec, SeriesSlot]) -> tuple[SeriesSpec, int, SeriesSlot] | None:
    """The series whose proposal won, the index of its call and its place in it."""
    known = [
        (float(record.decision.proposals[index].replicas[place.slot]), spec, index, place)
        for spec, index, place in _places(record, slot, series)
        if not np.isnan(record.decision.proposals[index].replicas[place.slot])
    ]
    return max(known, key=lambda each: each[0])[1:] if known else None


def _complaints(record: TickRecord, slot: int, series: Mapping[SeriesSpec, SeriesSlot]) -> list[str]:
    """What is wrong with the workload's series, coverage and policy, in sentences."""
    found = []
    coverage = record.observation.coverage[slot]
    if coverage < COVERAGE_MIN:
        found.append(record.details.get((COVERAGE, slot), f"{coverage:.0%} of the ready pods report"))
    for spec, index, place in _places(record, slot, series):
        signal = Signal(int(record.observation.series[index].signal[place.slot]))
        detail = record.details.get((place.call, place.slot), "")
        if signal != Signal.OK or detail:
            found.append(f"{spec.name}: {detail or SIGNAL_TEXT[signal]}")
        fault = record.decision.faults[index]
        if fault and np.isnan(record.decision.proposals[index].replicas[place.slot]) and fault not in found:
            found.append(fault)
    return found


def _places(record: TickRecord, slot: int, series: Mapping[SeriesSpec, SeriesSlot]) -> list[tuple[SeriesSpec, int, SeriesSlot]]:
    """The series that were this workload's at that tick, each with the index of its call."""
    index = {call.key: number for number, call in enumerate(record.spec.calls)}
    found = []
    for spec, place in series.items():
        number = index.get(place.call)
        if number is None:
            continue
        call = record.spec.calls[number]
        if place.slot < call.owner.size and call.serial[place.slot] == place.serial and call.owner[place.slot] == slot:
            found.append((spec, number, place))
    return found


def explained(record: TickRecord, slot: int, series: Mapping[SeriesSpec, SeriesSlot]) -> dict[str, Any]:
    """Everything about one workload at one tick, as plain values (NaN where something is not known)."""
    decision, observation, workloads = record.decision, record.observation, record.spec.workloads
    code = Reason(int(headline(decision)[slot]))
    return {
        "at_s": decision.at_s,
        "current": float(decision.observed[slot]),
        "decided_upon": float(decision.current[slot]),
        "ready": float(observation.ready[slot]),
        "startup_s": float(_startup(record)[slot]),
        "coverage": float(observation.coverage[slot]),
        "coverage_detail": record.details.get((COVERAGE, slot), ""),
        "objective_detail": record.details.get((OBJECTIVE, slot), ""),
        "desired": float(decision.replicas[slot]),
        "expected": float(decision.combined.expected[slot]),
        "apply": bool(decision.apply[slot]),
        "mode": Mode(max(int(workloads.mode[slot]), record.spec.mode_floor)).name.lower(),
        "reason": code.name,
        "why": why(record, slot, series),
        "series": [_series(record, spec, index, place) for spec, index, place in _places(record, slot, series)],
        "stages": [
            {
                "name": stage.name,
                "replicas": float(stage.replicas[slot]),
                "reason": Reason(int(stage.reason[slot])).name,
                "why": REASON_TEXT[Reason(int(stage.reason[slot]))],
            }
            for stage in decision.stages
        ],
    }


def _startup(record: TickRecord) -> Floats:
    """How long a pod takes to start ``[w]``: as the file says, else as measured."""
    given, seen = record.spec.workloads.startup_s, record.observation.startup_s
    return np.where(np.isnan(given), seen, given)


def noted(record: TickRecord, slot: int, series: Mapping[SeriesSpec, SeriesSlot], name: str) -> dict[str, float]:
    """A policy's note about each metric of a workload, by the metric's name; only where there is one."""
    found = {}
    for spec, index, place in _places(record, slot, series):
        column = record.decision.proposals[index].notes.get(name)
        if column is not None and not np.isnan(column[place.slot]):
            found[spec.name] = float(column[place.slot])
    return found


def _series(record: TickRecord, spec: SeriesSpec, index: int, place: SeriesSlot) -> dict[str, Any]:
    columns, proposal = record.observation.series[index], record.decision.proposals[index]
    signal = Signal(int(columns.signal[place.slot]))
    return {
        "name": spec.name,
        "query": spec.query.text,
        "target": spec.target,
        "target_kind": spec.target_kind.name.lower(),
        "load": float(columns.load[place.slot]),
        "request": float(columns.request[place.slot]),
        "demand": float(record.demand[index][place.slot]),
        "age_s": float(columns.age_s[place.slot]),
        "signal": signal.name,
        "saturated": bool(columns.saturated[place.slot]),
        "late": _at(columns.late, place.slot),
        "total": _at(columns.total, place.slot),
        "detail": record.details.get((place.call, place.slot), SIGNAL_TEXT[signal]),
        "proposal": float(proposal.replicas[place.slot]),
        "expected": _at(proposal.expected, place.slot),
        "notes": {name: float(column[place.slot]) for name, column in proposal.notes.items()},
        "fault": record.decision.faults[index],
    }


def _at(column: Floats | None, slot: int) -> float:
    """One value of a column that there may not be."""
    return float("nan") if column is None else float(column[slot])


def _number(value: np.floating[Any] | float) -> str:
    return "?" if np.isnan(value) else f"{value:.4g}"
