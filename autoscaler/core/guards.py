"""The rules between a proposal and a decision, in the order in which they apply.

Each guard takes a draft and returns one with, for every workload that it changed or held, the reason. ``held`` workloads keep their
count past the guards that shape a proposal and only meet schedule, bounds and mode; ``off`` workloads are not touched at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from autoscaler.core.behavior import Select
from autoscaler.core.columns import frozen, full
from autoscaler.core.memory import HOUR_S, GuardState, added, changed, extreme, times_lowered
from autoscaler.core.observation import Observation, with_signal
from autoscaler.core.policy import Combined, traits_of
from autoscaler.core.spec import GroupSpec, When
from autoscaler.core.startup import UNKNOWN_S
from autoscaler.core.types import FREE, TARGET_REASON, Bools, Codes, Floats, Mode, Reason, Signal, Target

COVERAGE_MIN = 0.9
"""Below this share of reporting pods nothing is scaled down: half the targets lost must not read as half the load."""

SATURATED_FACTOR = 1.5

HEALTH_VALID_S = 60.0
"""So far from a tick the health loop may have assessed and still be believed."""

REVISION_NEW_S = 1800.0
"""A revision that is older is not held back for crashing."""

MAJORITY_READY_S = 300.0
"""A revision of which a majority has been Ready for so long works: if it crashes now, it is for another reason than what is in it."""

CRASH_PODS_MIN, CRASH_SHARE_MIN = 2.0, 0.5

_INSTANT_S = 1e-3
"""Far less than lies between two ticks."""

_WHOLE = 1e-9
"""So much above a whole number of replicas is the rounding of a division."""

_TARGET_REASONS = np.array([TARGET_REASON[target] for target in Target], np.int8)

# Plain numbers: numpy takes microseconds to see that a member of an enum is one, at every comparison of every tick.
_HERE = int(Target.OK)
_OK, _DRY_RUN, _PAUSED = int(Signal.OK), int(Mode.DRY_RUN), int(Mode.PAUSED)
_IF_HIGHER, _IF_LOWER = int(When.IF_HIGHER), int(When.IF_LOWER)
_MAX, _DISABLED = int(Select.MAX), int(Select.DISABLED)


@dataclass(frozen=True, slots=True)
class Context:
    """What every guard may look at ``[w]``.

    ``current`` (the shadow count in a dry run), bounds as the schedule has them, mode, and what is known of the target.
    """

    at_s: float
    spec: GroupSpec
    observation: Observation
    combined: Combined
    current: Floats
    min: Floats
    max: Floats
    scheduled_min: Bools
    scheduled_max: Bools
    mode: Codes
    target: Codes


@dataclass(frozen=True, slots=True)
class Draft:
    """A decision in the making ``[w]``."""

    replicas: Floats
    held: Bools
    off: Bools
    state: GuardState


Guard: TypeAlias = Callable[[Draft, Context], tuple[Draft, Codes]]


def saturation(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """One more proposal where a load is saturated: :data:`SATURATED_FACTOR` times the replicas that were ready, once per start-up time.

    A saturated load says only that demand is at least so high, and the pods that it asks for show only once they serve. So what was
    proposed stands for a start-up time, then it is looked at again. Without data of now it raises nothing.
    """
    spec, state = context.spec.workloads, draft.state
    level = full(draft.replicas.size, np.nan)
    for call, series in zip(context.spec.calls, context.observation.series, strict=True):
        if series.saturated.any() and traits_of(call.policy).saturation:
            at_limit = (call.owner != FREE) & series.saturated & (series.signal == _OK)
            np.fmax.at(level, call.owner[at_limit], SATURATED_FACTOR * series.ready[at_limit])
    reason = np.zeros(draft.replicas.size, np.int8)
    saturated = ~np.isnan(level) & (context.target == _HERE)
    if not saturated.any() and np.isnan(state.raised_s).all():
        return draft, reason
    startup = np.where(np.isnan(spec.startup_s), context.observation.startup_s, spec.startup_s)
    lasts = context.at_s - state.raised_s < np.where(np.isnan(startup), UNKNOWN_S, startup) - _INSTANT_S
    begins = saturated & ~lasts
    raised_s = np.where(begins, context.at_s, np.where(lasts, state.raised_s, np.nan))
    raised_to = np.where(begins, level, np.where(lasts, state.raised_to, np.nan))
    raised = (raised_to > draft.replicas) | (saturated & np.isnan(draft.replicas))
    reason[raised] = Reason.SATURATED
    state = replace(state, raised_s=frozen(raised_s), raised_to=frozen(raised_to))
    return replace(draft, replicas=np.where(raised, raised_to, draft.replicas), state=state), reason


def no_data(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """Hold what cannot or must not be decided; after ``fallback.after`` ticks without data, the fallback count.

    A workload that is ``off`` (target not known, or a zero that somebody else set) keeps its count whatever the bounds say.
    Without any proposal it is ``held``; where some series failed, or part of the pods do not report, it is not scaled down. A policy
    that abstains although it has data is no failure, so it calls for no fallback; nor does a zero that is not believed yet.
    """
    spec, current, wanted = context.spec.workloads, context.current, draft.replicas
    reason = _TARGET_REASONS[context.target]
    off = reason != 0
    by_hand = ~off & (current == 0) & ~draft.state.zero_ours & np.isnan(draft.state.shadow)
    reason[by_hand] = Reason.PAUSED_AT_ZERO
    off |= by_hand

    silent = ~off & np.isnan(wanted)
    faulted, missing = context.combined.faulted > 0, context.combined.missing > 0
    doubted = with_signal(context.spec, context.observation, Signal.SUDDEN_ZERO)
    failing = silent & ~doubted & (faulted | missing | (context.combined.asked == 0))
    counted = np.where(failing, draft.state.failures + 1, np.where(silent & doubted, draft.state.failures, 0.0))
    failures = np.where(off, draft.state.failures, counted)
    partial = ~off & ~silent & _unsure(context) & (wanted < current)
    if not (silent.any() or partial.any()):
        replicas = np.where(off, current, wanted)
        return Draft(replicas, partial, off, replace(draft.state, failures=frozen(failures))), reason
    fallback = failing & (failures >= spec.fallback_after)
    if fallback.any():
        fallback &= (spec.fallback_when != _IF_HIGHER) | (spec.fallback_replicas > current)
        fallback &= (spec.fallback_when != _IF_LOWER) | (spec.fallback_replicas < current)
    held = (silent & ~fallback) | partial
    reason[silent], reason[failing], reason[silent & faulted] = Reason.ABSTAINED, Reason.NO_DATA, Reason.POLICY_FAULT
    reason[partial], reason[fallback] = Reason.PARTIAL_DATA, Reason.FALLBACK
    reason[(silent | partial) & doubted] = Reason.SUDDEN_ZERO
    replicas = np.where(fallback, spec.fallback_replicas, np.where(held | off, current, wanted))
    state = replace(draft.state, failures=frozen(failures))
    return Draft(replicas, held, off, state), reason


def _unsure(context: Context) -> Bools:
    """Where the proposal rests on a part of what was asked."""
    uncovered = (context.observation.coverage < COVERAGE_MIN) & ~context.spec.workloads.exact
    unsure: Bools = (context.combined.failed > 0) | uncovered
    return unsure


def activation(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """Where zero is allowed: at least one replica while some load is above its activation threshold, none while all are below.

    A fallback count stays what it is; and what is not fully known puts nobody to sleep, though it lets sleep who does.
    """
    reason = np.zeros(draft.replicas.size, np.int8)
    may_be_zero = ~draft.off & ~draft.held & (context.min == 0) & ~np.isnan(context.combined.replicas)
    may_be_zero &= ~context.spec.workloads.exact
    if not may_be_zero.any():
        return draft, reason
    active = np.zeros(draft.replicas.size, np.bool_)
    for call, series in zip(context.spec.calls, context.observation.series, strict=True):
        awake = (call.owner != FREE) & (series.signal == _OK) & (series.load > call.activation)
        active[call.owner[awake]] = True
    woken = may_be_zero & active & (draft.replicas <= _WHOLE)
    asleep = may_be_zero & ~active & (draft.replicas > 0) & (~_unsure(context) | (context.current == 0))
    reason[woken], reason[asleep] = Reason.ACTIVATED, Reason.NOT_ACTIVE
    return replace(draft, replicas=np.where(woken, 1.0, np.where(asleep, 0.0, draft.replicas))), reason


def tolerance(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """Stay if 1 - down <= proposal / current <= 1 + up; else whole replicas, ceil(x - 1e-9)."""
    up, down = context.spec.workloads.tolerance
    current, wanted = context.current, draft.replicas
    ratio = np.divide(wanted, current, out=full(wanted.size, np.inf), where=current > 0)
    within = ~draft.off & (ratio >= 1 - down) & (ratio <= 1 + up)
    replicas = np.where(within, current, np.ceil(wanted - _WHOLE) + 0.0)  # + 0.0: the ceiling of -1e-9 is -0
    reason = np.zeros(wanted.size, np.int8)
    reason[within & (wanted != current)] = Reason.WITHIN_TOLERANCE
    return replace(draft, replicas=replicas), reason


def stabilisation(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """The HPA's two windows: not above the lowest recommendation of the scale-up window, not below the highest of the scale-down one.

    A held workload records no recommendation, nor does one whose count is outside its bounds (as in the HPA, where it goes to its bound
    without any window). A zero is not below min: the HPA decides from zero as from any other count.
    """
    window_s = context.spec.workloads.window_s
    longest_s = window_s.max(initial=0.0)
    wanted, state = draft.replicas, draft.state
    if longest_s <= 0:
        return draft, np.zeros(wanted.size, np.int8)
    free = ~draft.off & ~draft.held
    start_up, start_down = context.at_s - window_s
    bottom = np.fmin(wanted, extreme(state, start_up, np.fmin))
    top = np.fmax(wanted, extreme(state, start_down, np.fmax))
    below_min = (context.current > 0) & (context.current < context.min)
    records = free & ~below_min & (context.current <= context.max)
    if records.any():
        row = np.where(records, wanted, np.nan)
        state = replace(state, recommendations=added(state.recommendations, context.at_s, row, context.at_s - longest_s))
    # The HPA with `behavior`: the current count, raised to `bottom`, then lowered to `top`; without it: `top`, whatever the count.
    stable = np.where(context.spec.workloads.classic, top, np.minimum(np.maximum(context.current, bottom), top))
    replicas = np.where(free & ~(context.spec.workloads.classic & below_min), stable, wanted)
    reason = np.zeros(wanted.size, np.int8)
    reason[replicas > wanted], reason[replicas < wanted] = Reason.STABILISED_DOWN, Reason.STABILISED_UP
    return replace(draft, replicas=replicas, state=state), reason


def rate(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """The HPA's rate rules, per direction: by pods or per cent of the count at the start of the period.

    start = current - added + removed in the period; up: start + pods or ceil(start x (1 + p)); down: start - pods or
    floor(start x (1 - p)); a limit never forces a move the other way. Without `behavior`: up to max(2 x current, 4).
    From zero one replica is always allowed, as no per cent of nothing is any. Beyond the HPA's rules, ``downs_per_hour``: once replicas
    have been taken away so many times within an hour, they stay until the first of these is an hour ago.
    """
    spec, current, wanted = context.spec.workloads, context.current, draft.replicas
    if not (spec.rule_period_s.any() or spec.select.any() or spec.classic.any() or spec.downs_per_hour.any()):
        return draft, np.zeros(wanted.size, np.int8)
    disabled = ~spec.classic & (spec.select == _DISABLED)
    ceiling, floor = np.maximum(2 * current, 4), full(current.size, -np.inf)
    if not (spec.classic | (spec.serial == 0)).all():
        ceiling = np.where(spec.classic, ceiling, np.maximum(_limit(draft, context, 0), current))
        ceiling = np.where((current == 0) & ~disabled[0] & ~spec.exact, np.maximum(ceiling, 1), ceiling)
        floor = np.where(spec.classic, floor, np.minimum(_limit(draft, context, 1), current))
    free = ~draft.off & ~draft.held
    capped, raised = free & (wanted > ceiling), free & (wanted < floor)
    replicas = np.where(capped, ceiling, np.where(raised, floor, wanted))
    reason = np.zeros(wanted.size, np.int8)
    reason[capped], reason[raised] = Reason.RATE_LIMITED_UP, Reason.RATE_LIMITED_DOWN
    reason[(capped & disabled[0]) | (raised & disabled[1])] = Reason.DIRECTION_DISABLED
    if spec.downs_per_hour.any():
        lowered = times_lowered(draft.state, full(current.size, context.at_s - HOUR_S))
        spent = free & (replicas < current) & (spec.downs_per_hour > 0) & (lowered >= spec.downs_per_hour)
        reason[spent] = Reason.RATE_LIMITED_DOWN
        replicas = np.where(spent, current, replicas)
    return replace(draft, replicas=replicas), reason


def _limit(draft: Draft, context: Context, direction: int) -> Floats:
    """The furthest count that a direction's rules allow now ``[w]``; ±inf where it has none, the current count where disabled."""
    spec, current = context.spec.workloads, context.current
    away = np.inf if direction == 0 else -np.inf
    select = spec.select[direction]
    # Max takes the bigger change: up the highest limit, down the lowest; Min the other way round.
    highest_wins = (select == _MAX) == (direction == 0)
    limit = np.where(highest_wins, -np.inf, np.inf)
    any_rule = np.zeros(current.size, np.bool_)
    for value, period_s, percent in zip(
        spec.rule_value[direction], spec.rule_period_s[direction], spec.rule_percent[direction], strict=True
    ):
        exists = period_s > 0
        if not exists.any():
            continue
        any_rule |= exists
        start = current - changed(draft.state, context.at_s - period_s, spec.exact)
        if direction == 0:
            reach = np.where(percent, np.ceil(start * (1 + value / 100)), start + value)
        else:
            reach = np.where(percent, np.trunc(start * (1 - value / 100)), start - value)
        better = np.where(highest_wins, np.maximum(limit, reach), np.minimum(limit, reach))
        limit = np.where(exists, better, limit)
    return np.where(select == _DISABLED, current, np.where(any_rule, limit, away))


def health(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """No scale-up while the newest revision is a broken one: more of its pods would crash too, and serve nobody.

    Held only if all of this is known and so: the revision is younger than :data:`REVISION_NEW_S`; at least max(2, half) of its pods are
    in a crash incident; never was a majority of it Ready for :data:`MAJORITY_READY_S`; no earlier revision has an open crash incident.
    Pods that were killed for memory or by a probe do not count once the revision has served: who dies of overload needs more replicas.
    """
    facts, reason = context.observation.health, np.zeros(draft.replicas.size, np.int8)
    if facts is None:
        return draft, reason
    elapsed = context.at_s - facts.as_of_s
    crashing = facts.crash_pods - np.where(facts.served, facts.overload_pods, 0.0)
    broken = (np.abs(elapsed) <= HEALTH_VALID_S) & (facts.revision_age_s + elapsed < REVISION_NEW_S)
    broken &= (crashing >= np.maximum(CRASH_PODS_MIN, CRASH_SHARE_MIN * facts.pods)) & (facts.majority_ready_s < MAJORITY_READY_S)
    held = broken & ~facts.previous_crashing & ~draft.off & ~context.spec.workloads.exact & (draft.replicas > context.current)
    reason[held] = Reason.HEALTH_HOLD
    return replace(draft, replicas=np.where(held, context.current, draft.replicas)), reason


def schedule(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """The bounds of the schedule windows that are open now, at once."""
    if not (context.scheduled_min.any() or context.scheduled_max.any()):
        return draft, np.zeros(draft.replicas.size, np.int8)
    low = np.where(context.scheduled_min, context.min, -np.inf)
    high = np.where(context.scheduled_max, context.max, np.inf)
    return _clipped(draft, low, high, Reason.SCHEDULE_MIN, Reason.SCHEDULE_MAX)


def bounds(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """``minReplicas`` and ``maxReplicas``, at once; an open schedule window's bound stands in for the spec's."""
    # The HPA that can decide nothing from its own zero stays there, even if min has been raised since.
    at_zero = context.spec.workloads.exact & draft.held & (context.current == 0)
    return _clipped(draft, np.where(at_zero, -np.inf, context.min), context.max, Reason.BELOW_MIN, Reason.ABOVE_MAX)


def _clipped(draft: Draft, low: Floats, high: Floats, below: Reason, above: Reason) -> tuple[Draft, Codes]:
    clipped = np.minimum(np.maximum(draft.replicas, low), high)
    replicas = np.where(draft.off, draft.replicas, clipped)
    reason = np.zeros(replicas.size, np.int8)
    reason[replicas > draft.replicas], reason[replicas < draft.replicas] = below, above
    return replace(draft, replicas=replicas), reason


def mode(draft: Draft, context: Context) -> tuple[Draft, Codes]:
    """Paused keeps the count; a dry run keeps the decision, which is then not applied."""
    if not context.mode.any():
        return draft, np.zeros(draft.replicas.size, np.int8)
    paused = ~draft.off & (context.mode == _PAUSED)
    dry = ~draft.off & (context.mode == _DRY_RUN)
    reason = np.zeros(draft.replicas.size, np.int8)
    reason[paused], reason[dry] = Reason.PAUSED, Reason.DRY_RUN
    return replace(draft, replicas=np.where(paused, context.current, draft.replicas)), reason


GUARDS: tuple[tuple[str, Guard], ...] = (
    ("saturation", saturation),
    ("noData", no_data),
    ("activation", activation),
    ("tolerance", tolerance),
    ("stabilisation", stabilisation),
    ("rate", rate),
    ("health", health),
    ("schedule", schedule),
    ("bounds", bounds),
    ("mode", mode),
)
