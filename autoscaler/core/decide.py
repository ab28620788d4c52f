"""The only thing that decides: ``decide(state, observation, spec) -> (state, decision)``.

The service, a dry run, the demo, backtest, replay and the benchmarks all call it. It is pure: the same state, observation and spec
give the same decision, and nothing that it was given is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from autoscaler.core.columns import array_fields, frozen, full, protected, taken, widened
from autoscaler.core.exact_events import aligned_events, no_events, with_events
from autoscaler.core.guards import GUARDS, Context, Draft
from autoscaler.core.memory import HOUR_S, GuardState, Track, aligned, no_memory, with_changes
from autoscaler.core.observation import Observation, SeriesColumns, with_signal
from autoscaler.core.policy import Combined, Proposal, Proposed, View, abstention, combine, initial, propose, traits_of, walled
from autoscaler.core.policy import State as PolicyValue
from autoscaler.core.spec import Call, GroupSpec
from autoscaler.core.types import FREE, Bools, Codes, Floats, Ints, Mode, Signal, Target

# Plain numbers: numpy takes microseconds to see that a member of an enum is one, at every comparison of every tick.
_OK, _ACTIVE, _DRY_RUN = int(Signal.OK), int(Mode.ACTIVE), int(Mode.DRY_RUN)
_HERE, _UNKNOWN = int(Target.OK), int(Target.UNKNOWN)
_CONFLICT, _CLOCK_STEP = int(Target.CONFLICT), int(Target.CLOCK_STEP)


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
    target = _target(observation, spec, mode)
    guards, current = _entered(guards, observation, spec, mode, target)
    low, high, low_set, high_set = _bounds(spec, observation.at_s)

    in_shadow = (mode == _DRY_RUN) & ~np.isnan(guards.shadow)
    status = np.where(in_shadow, current, observation.status_replicas)
    policies, answers = _asked(state.policies, observation, spec, _Shared(current, status, low, high))
    proposals = tuple(answer.proposal for answer in answers)
    missing = [series.signal != _OK for series in observation.series]
    combined = combine([call.owner for call in spec.calls], proposals, spec.slots, missing, [answer.faulty for answer in answers])

    context = Context(observation.at_s, spec, observation, combined, current, low, high, low_set, high_set, mode, target)
    nobody = np.zeros(spec.slots, np.bool_)
    draft = Draft(combined.replicas, nobody, nobody, guards)
    stages = []
    for name, guard in GUARDS:
        draft, reason = guard(draft, context)
        stages.append(Stage(name, frozen(draft.replicas), frozen(reason)))
    replicas = draft.replicas
    apply = (mode == _ACTIVE) & ~draft.off & np.isfinite(replicas) & (replicas != observation.current)
    would_be = np.where((mode == _DRY_RUN) & ~draft.off, replicas, np.nan)
    guards = _left(draft.state, spec, observation.at_s, would_be, current)
    decision = Decision(
        observation.at_s,
        observation.current,
        frozen(current),
        combined,
        proposals,
        tuple(answer.fault for answer in answers),
        tuple(stages),
        frozen(replicas),
        frozen(apply),
    )
    return State(guards, policies), decision


def reanchored(state: State) -> State:
    """The state after a step of the clock: whatever has a time of the old clock is gone, so windows are seeded afresh.

    What has none stays: the shadow counts of dry runs, whose a zero is, and for how many ticks there was no data.
    """
    forgotten = frozen(full(state.guards.serial.size, np.nan))
    guards = replace(
        state.guards,
        since_s=forgotten,
        seed=forgotten,
        recommendations=Track(),
        changes=Track(),
        raised_s=forgotten,
        raised_to=forgotten,
        events=aligned_events(no_events(), np.isnan(forgotten)),
    )
    return State(guards)


def _effective_mode(spec: GroupSpec, at_s: float) -> Codes:
    """The mode of each workload: an expired one is active again, and none is freer than the service."""
    expired = spec.workloads.mode_until_s <= at_s
    own = np.where(expired, np.int8(_ACTIVE), spec.workloads.mode)
    return np.maximum(own, np.int8(spec.mode_floor))


def _target(observation: Observation, spec: GroupSpec, mode: Codes) -> Codes:
    """What is known of each target: nothing where the slot is free, nor where no count came with it.

    Another writer is a conflict only for who writes: to a dry run it is what it is compared with. Where a source's clock is not ours,
    what it says of now is about another time: as after a step of ours.
    """
    unknown = np.isnan(observation.current) | (spec.workloads.serial == 0)
    here = (observation.target == _HERE) | ((observation.target == _CONFLICT) & (mode != _ACTIVE))
    target = np.where(here, np.where(unknown, np.int8(_UNKNOWN), np.int8(_HERE)), observation.target)
    askew = (target == _HERE) & with_signal(spec, observation, Signal.CLOCK)
    return np.where(askew, np.int8(_CLOCK_STEP), target)


def _entered(guards: GuardState, observation: Observation, spec: GroupSpec, mode: Codes, target: Codes) -> tuple[GuardState, Floats]:
    """Take in what happened since the last tick: our confirmed writes, new workloads, changes of mode. Returns the current count.

    Who is seen for the first time, or leaves a dry run, gets its count as the first recommendation of both windows, as in the HPA:
    so nothing is scaled down until a window has filled. What a dry run would have written is forgotten with it.
    """
    observed, here = observation.current, target == _HERE
    guards = _changed(guards, spec, observation.at_s, observation.written_at_s, observation.written_to - observation.written_from)
    zero_ours, zero_seen = _zero(guards, observation, here, spec.workloads.exact)

    in_shadow = ~np.isnan(guards.shadow)
    # A zero that somebody set pauses a dry run too, so a shadow of zero is always one of our own making.
    enters = here & (mode == _DRY_RUN) & ~in_shadow & ((observed > 0) | zero_ours)
    leaves = here & (mode != _DRY_RUN) & in_shadow
    shadow = np.where(enters, observed, np.where(leaves, np.nan, guards.shadow))
    current = np.where((mode == _DRY_RUN) & ~np.isnan(shadow), shadow, observed)
    begins = here & (np.isnan(guards.since_s) | leaves)
    # While somebody else scales it, its windows say nothing: they begin anew once it is ours again.
    since_s = np.where(begins, observation.at_s, np.where(target == _CONFLICT, np.nan, guards.since_s))
    return replace(
        guards,
        since_s=frozen(since_s),
        seed=frozen(np.where(begins, current, guards.seed)),
        shadow=frozen(shadow),
        zero_ours=frozen(zero_ours),
        zero_seen=frozen(zero_seen),
    ), current


def _zero(guards: GuardState, observation: Observation, here: Bools, exact: Bools) -> tuple[Bools, Bools]:
    """Whose zero it is, if it is one: ours from our write on until, after it was seen, another count is (a view may lag behind).

    ``exact``: until our next write, as in the HPA, whose condition ScaledToZero outlives counts that others set.
    """
    ours_now = observation.written_to == 0
    if not (guards.zero_ours.any() or ours_now.any()):
        return guards.zero_ours, guards.zero_ours
    raised = (guards.zero_seen & here & (observation.current > 0) & ~exact) | (observation.written_to > 0)
    zero_ours = (guards.zero_ours & ~raised) | ours_now
    zero_seen = zero_ours & ((guards.zero_seen & ~ours_now) | (here & (observation.current == 0)))
    return zero_ours, zero_seen


def _left(guards: GuardState, spec: GroupSpec, at_s: float, would_be: Floats, current: Floats) -> GuardState:
    """Let the shadow counts ``would_be[w]`` of dry runs follow the decision, as a write would have made the real ones."""
    follows = ~np.isnan(would_be)
    if not follows.any():
        return guards
    guards = _changed(guards, spec, at_s, full(would_be.size, at_s), would_be - current)
    return replace(guards, shadow=frozen(np.where(follows, would_be, guards.shadow)))


def _changed(guards: GuardState, spec: GroupSpec, at_s: float, written_at_s: Floats, change: Floats) -> GuardState:
    """Remember writes that changed counts, for the rate rules."""
    table = spec.workloads
    guards = with_changes(guards, written_at_s, change, at_s - _longest_period(spec))
    if not table.exact.any():
        return guards
    longest_s = table.rule_period_s.max(axis=1, initial=0.0)
    return replace(guards, events=with_events(guards.events, written_at_s, change, longest_s, table.exact))


def _longest_period(spec: GroupSpec) -> float:
    longest_s = float(spec.workloads.rule_period_s.max(initial=0.0))
    return max(longest_s, HOUR_S) if spec.workloads.downs_per_hour.any() else longest_s


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


@dataclass(frozen=True, slots=True)
class _Shared:
    """Columns ``[w]`` that every view is cut from and that are no observation."""

    current: Floats
    status_replicas: Floats
    min: Floats
    max: Floats


def _asked(
    before: Mapping[str, PolicyState], observation: Observation, spec: GroupSpec, shared: _Shared
) -> tuple[dict[str, PolicyState], list[Proposed]]:
    """Ask every policy, each behind its wall. Series without data at this tick have no proposal, whatever the policy made of the past."""
    policies: dict[str, PolicyState] = {}
    answers = []
    for call, series in zip(spec.calls, observation.series, strict=True):
        view = _view(call, series, observation, spec, shared)
        old = before.get(call.key)
        kept, fault = walled(call.policy, partial(policy_state, call, old))
        if kept is None:
            if old is not None:
                policies[call.key] = old
            answers.append(Proposed(None, abstention(call.owner.size), fault, call.owner != FREE))
            continue
        answer = propose(call.policy, view, call.params, kept.value)
        policies[call.key] = PolicyState(call.serial, answer.state)
        # Who is shown loads and pods judges them itself: there may be a proposal where nothing makes a demand of the load.
        usable = ~np.isnan(series.load) if traits_of(call.policy).pods else series.signal == _OK
        replicas = np.where(usable, answer.proposal.replicas, np.nan)
        answers.append(answer._replace(proposal=replace(answer.proposal, replicas=frozen(replicas))))
    return policies, answers


def policy_state(call: Call, before: PolicyState | None) -> PolicyState:
    """The call's state with one column per series slot: who is new starts blank, who stayed keeps everything."""
    n = call.serial.size
    if before is not None and before.serial is call.serial:
        return before
    if before is None or before.serial.size > n:  # a call that vanished and came back between two ticks starts small again
        return PolicyState(call.serial, initial(call.policy, call.params, n))
    new = np.flatnonzero(widened(before.serial, n, 0) != call.serial)
    blank = array_fields(initial(call.policy, taken(call.params, new), new.size))
    columns = {}
    for name, array in array_fields(before.value).items():
        wide = widened(array, n, 0).copy()
        wide[..., new] = blank[name]
        columns[name] = frozen(wide)
    return PolicyState(call.serial, replace(before.value, **columns))


def _view(call: Call, series: SeriesColumns, observation: Observation, spec: GroupSpec, shared: _Shared) -> View:
    """One call's view: workload columns spread over its series, NaN where a slot is free."""
    demand = series.demand
    if demand is None:
        message = "the observation has no demand: it must go through History.record before decide"
        raise ValueError(message)
    used = call.owner != FREE
    series = protected(series)

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
            "metric_type": call.metric_type,
            "observed": spread(observation.current),
            "status_replicas": spread(shared.status_replicas),
            "pods": None if series.pods is None else protected(series.pods),
        }
    return View(
        at_s=observation.at_s,
        interval_s=spec.interval_s,
        workload=call.owner,
        demand=demand,
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
