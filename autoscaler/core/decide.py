"""The only thing that decides: ``decide(state, observation, spec) -> (state, decision)``.

The service, a dry run, the demo, backtest, replay and the benchmarks all call it. It is pure: the same state, observation and spec
give the same decision, and nothing that it was given is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from autoscaler.core.columns import array_fields, frozen, full, taken, widened
from autoscaler.core.guards import GUARDS, Context, Draft
from autoscaler.core.memory import GuardState, aligned, forgotten, no_memory, pushed, with_events
from autoscaler.core.observation import Observation, SeriesColumns
from autoscaler.core.policy import Combined, Proposal, View, combine, propose, traits_of
from autoscaler.core.policy import State as PolicyValue
from autoscaler.core.spec import Call, GroupSpec
from autoscaler.core.types import FREE, Bools, Codes, Floats, Ints, Mode, Target


@dataclass(frozen=True, slots=True)
class PolicyState:
    """One call's state and whose it is: ``serial[n]``."""

    serial: Ints
    value: PolicyValue


@dataclass(frozen=True, slots=True)
class State:
    """Everything that ``decide`` remembers from one tick to the next."""

    guards: GuardState = field(default_factory=no_memory)
    policies: Mapping[str, PolicyState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """What one guard made of the counts ``[w]`` and why (:class:`Reason` codes, 0: left alone)."""

    name: str
    replicas: Floats
    reason: Codes


@dataclass(frozen=True, slots=True)
class Decision:
    """One tick's decisions ``[w]``, with everything that explains them.

    ``observed`` is the real count; ``current`` what was decided upon (the shadow count in a dry run); ``replicas`` the result;
    ``apply`` where it is to be written. ``proposals[c]`` belong to ``spec.calls[c]``, and so do ``faults`` (empty: none).
    """

    at_s: float
    observed: Floats
    current: Floats
    combined: Combined
    proposals: tuple[Proposal, ...]
    faults: tuple[str, ...]
    stages: tuple[Stage, ...]
    replicas: Floats
    apply: Bools


def decide(state: State, observation: Observation, spec: GroupSpec) -> tuple[State, Decision]:
    """Decide one tick of one group.

    ``observation`` has been through :meth:`autoscaler.core.history.History.record`. Membership may differ from the last tick's:
    columns with a new serial start blank.
    """
    guards = aligned(state.guards, spec.workloads.serial)
    mode = _effective_mode(spec, observation.at_s)
    guards, current = _entered(guards, observation, spec, mode)
    low, high, low_set, high_set = _bounds(spec, observation.at_s)

    policies: dict[str, PolicyState] = {}
    proposals, faults = [], []
    for call, series in zip(spec.calls, observation.series, strict=True):
        before = _policy_state(call, state.policies.get(call.key))
        view = _view(call, series, observation, spec, _Shared(current, low, high))
        value, proposal, fault = propose(call.policy, view, call.params, before.value)
        policies[call.key] = PolicyState(call.serial, value)
        proposals.append(proposal)
        faults.append(fault)
    combined = combine([call.owner for call in spec.calls], proposals, spec.slots)

    context = Context(observation.at_s, spec, observation, combined, current, low, high, low_set, high_set, mode)
    nobody = np.zeros(spec.slots, np.bool_)
    draft = Draft(combined.replicas, nobody, nobody, guards)
    stages = []
    for name, guard in GUARDS:
        draft, reason = guard(draft, context)
        stages.append(Stage(name, frozen(draft.replicas), frozen(reason)))
    replicas = draft.replicas
    apply = (mode == Mode.ACTIVE) & ~draft.off & np.isfinite(replicas) & (replicas != observation.current)
    guards = _left(draft.state, spec, observation.at_s, np.where(mode == Mode.DRY_RUN, replicas, np.nan), current)
    decision = Decision(
        observation.at_s,
        observation.current,
        frozen(current),
        combined,
        tuple(proposals),
        tuple(faults),
        tuple(stages),
        frozen(replicas),
        frozen(apply),
    )
    return State(guards, MappingProxyType(policies)), decision


def _effective_mode(spec: GroupSpec, at_s: float) -> Codes:
    """The mode of each workload: an expired one is active again, and none is freer than the service."""
    expired = spec.workloads.mode_until_s <= at_s
    own = np.where(expired, Mode.ACTIVE, spec.workloads.mode)
    return np.maximum(own, spec.mode_floor).astype(np.int8)


def _entered(guards: GuardState, observation: Observation, spec: GroupSpec, mode: Codes) -> tuple[GuardState, Floats]:
    """Take in what happened since the last tick: our confirmed writes, new workloads, changes of mode. Returns the current count.

    Who is seen for the first time, or leaves a dry run, gets its count as the first recommendation of both windows, as in the HPA:
    so nothing is scaled down until a window has filled.
    """
    here = observation.target == Target.OK
    dry = here & (mode == Mode.DRY_RUN)
    left_dry_run = here & (mode != Mode.DRY_RUN) & ~np.isnan(guards.shadow)
    shadow = np.where(dry & np.isnan(guards.shadow), observation.current, guards.shadow)
    shadow = np.where(left_dry_run, np.nan, shadow)
    current = np.where(np.isnan(shadow), observation.current, shadow)

    written = observation.written_to - observation.written_from
    guards = with_events(guards, observation.written_at_s, written, observation.at_s - _longest_period(spec))
    zero_ours = (guards.zero_ours | (observation.written_to == 0)) & ~(here & (current > 0))

    seed = here & (~guards.seeded | left_dry_run)
    high, low = guards.high, guards.low
    if seed.any():
        since = observation.at_s - spec.workloads.window_s
        high = pushed(forgotten(high, seed), current, observation.at_s, since[1], seed)
        low = pushed(forgotten(low, seed), -current, observation.at_s, since[0], seed)
    guards = replace(guards, seeded=frozen(guards.seeded | seed), shadow=frozen(shadow), zero_ours=frozen(zero_ours), high=high, low=low)
    return guards, current


def _left(guards: GuardState, spec: GroupSpec, at_s: float, would_be: Floats, current: Floats) -> GuardState:
    """Let the shadow counts ``would_be[w]`` of dry runs follow the decision, as a write would have made the real ones."""
    follows = ~np.isnan(would_be)
    if not follows.any():
        return guards
    change = np.where(follows, would_be - current, np.nan)
    guards = with_events(guards, full(would_be.size, at_s), change, at_s - _longest_period(spec))
    return replace(
        guards,
        shadow=frozen(np.where(follows, would_be, guards.shadow)),
        zero_ours=frozen(guards.zero_ours | (would_be == 0) & (change < 0)),
    )


def _longest_period(spec: GroupSpec) -> float:
    return float(spec.workloads.rule_period_s.max(initial=0.0))


def _bounds(spec: GroupSpec, at_s: float) -> tuple[Floats, Floats, Bools, Bools]:
    """Bounds ``[w]`` with open schedule windows in place of the spec's, and where a window set each.

    Of several open windows the largest minimum and the largest maximum count; a minimum above the maximum gives way to it.
    """
    table, rows = spec.workloads, spec.schedule
    low, high = table.min, table.max
    nobody = np.zeros(spec.slots, np.bool_)
    open_now = (rows.start_s <= at_s) & (at_s < rows.end_s)
    if not open_now.any():
        return low, high, nobody, nobody
    owner = rows.owner[open_now]
    window_low, window_high = full(spec.slots, np.nan), full(spec.slots, np.nan)
    np.fmax.at(window_low, owner, rows.min[open_now])
    np.fmax.at(window_high, owner, rows.max[open_now])
    low_set, high_set = ~np.isnan(window_low), ~np.isnan(window_high)
    high = np.where(high_set, window_high, high)
    low = np.minimum(np.where(low_set, window_low, low), high)
    return frozen(low), frozen(high), low_set, high_set


def _policy_state(call: Call, before: PolicyState | None) -> PolicyState:
    """The call's state with one column per series slot: who is new starts blank, who stayed keeps everything."""
    if before is not None and before.serial is call.serial:
        return before
    if before is None:
        return PolicyState(call.serial, call.policy.init(call.params, call.serial.size))
    old = widened(before.serial, call.serial.size, 0)
    new = np.flatnonzero(old != call.serial)
    blank = array_fields(call.policy.init(taken(call.params, new), new.size))
    columns = {}
    for name, array in array_fields(before.value).items():
        wide = widened(array, call.serial.size, 0).copy()
        wide[..., new] = blank[name]
        columns[name] = frozen(wide)
    return PolicyState(call.serial, replace(before.value, **columns))


@dataclass(frozen=True, slots=True)
class _Shared:
    """Columns ``[w]`` that every view is cut from and that are no observation."""

    current: Floats
    min: Floats
    max: Floats


def _view(call: Call, series: SeriesColumns, observation: Observation, spec: GroupSpec, shared: _Shared) -> View:
    """One call's view: workload columns spread over its series, NaN where a slot is free."""
    used = call.owner != FREE
    if series.demand is None:
        message = "the observation has no demand: it must go through History.record before decide"
        raise ValueError(message)

    def spread(column: Floats) -> Floats:
        return frozen(np.where(used, column[call.owner], np.nan))

    startup = np.where(np.isnan(spec.workloads.startup_s), observation.startup_s, spec.workloads.startup_s)
    traits = traits_of(call.policy)
    extra: dict[str, Any] = {}
    if traits.season:
        extra |= {"season_mean": series.season_mean, "season_max": series.season_max}
    if traits.objective:
        extra |= {"late": series.late, "total": series.total}
    if traits.pods:
        extra |= {
            "load": series.load,
            "target": call.target,
            "target_kind": call.target_kind,
            "status_replicas": spread(observation.status_replicas),
            "pods": series.pods,
        }
    return View(
        at_s=observation.at_s,
        interval_s=spec.interval_s,
        workload=call.owner,
        demand=series.demand,
        saturated=series.saturated,
        age_s=series.age_s,
        current=spread(shared.current),
        ready=spread(observation.ready),
        startup_s=spread(startup),
        ordered=frozen(used & observation.ordered[call.owner]),
        min=spread(shared.min),
        max=spread(shared.max),
        **extra,
    )
