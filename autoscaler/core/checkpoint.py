"""What of a group's state outlives the process, one workload at a time: taken out of the columns, and put back into other ones.

Of the recommendations only those can matter that no later one hides: for the scale-down window the strictly higher ones, for the
scale-up window the strictly lower ones, looking back. Whatever window is read later, its highest and its lowest are among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.columns import array_fields, frozen, full, widened
from autoscaler.core.decide import PolicyState, State, policy_state
from autoscaler.core.exact_events import Points, events_of, with_kept
from autoscaler.core.memory import HOUR_S, GuardState, Track, aligned
from autoscaler.core.policy import traits_of, walled
from autoscaler.core.spec import Call, GroupSpec
from autoscaler.core.types import Bools, Floats

SeriesFields: TypeAlias = Mapping[str, NDArray[np.generic]]
"""The declared fields of a policy's state for one series, by name."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the guards remember of one workload, as in :class:`autoscaler.core.memory.GuardState`.

    ``at_s``: the last tick that is in it; ``count``: the replicas that the target then had (NaN: not known for sure).
    ``recommendations`` that can matter, and ``changes``: replicas that our writes added. ``events``: of an exact workload, those that
    added and those that removed, each in its place.
    """

    at_s: float
    count: float = nan
    since_s: float = nan
    seed: float = nan
    shadow: float = nan
    failures: float = 0.0
    zero_ours: bool = False
    zero_seen: bool = False
    recommendations: Points = ()
    changes: Points = ()
    events: tuple[Points, Points] = ((), ())
    raised_s: float = nan
    raised_to: float = nan


_COLUMNS = ("since_s", "seed", "shadow", "failures", "zero_ours", "zero_seen", "raised_s", "raised_to")
"""What is one value a workload, by the name that it has in both."""


def memories(state: GuardState, spec: GroupSpec, at_s: float, counts: Floats) -> dict[int, Memory]:
    """The guards' memory after the tick ``at_s`` of every workload that was in it, by slot; ``counts[w]`` as then observed."""
    w = min(state.serial.size, spec.slots)
    known = (state.serial[:w] != 0) & (state.serial[:w] == spec.workloads.serial[:w])
    recommendations = _grouped(state.recommendations, _matters(state, spec, at_s, known))
    changes = _grouped(state.changes, _counts(state, spec, at_s, known))
    events = events_of(state.events, known)
    slots = np.flatnonzero(known)
    found = {}
    for slot, count, *values in zip(
        slots.tolist(), counts[slots].tolist(), *(getattr(state, name)[slots].tolist() for name in _COLUMNS), strict=True
    ):
        columns: dict[str, Any] = dict(zip(_COLUMNS, values, strict=True))
        columns |= {"recommendations": recommendations.get(slot, ()), "changes": changes.get(slot, ())}
        found[slot] = Memory(at_s, count, events=events.get(slot, ((), ())), **columns)
    return found


def _matters(state: GuardState, spec: GroupSpec, at_s: float, known: Bools) -> list[Bools]:
    """For each row of recommendations, where ``[w]`` it can still be a window's highest or lowest."""
    w = known.size
    start_up, start_down = at_s - spec.workloads.window_s[:, :w]
    top, bottom = full(w, -np.inf), full(w, np.inf)
    found = []
    for then, row in zip(reversed(state.recommendations.at_s), reversed(state.recommendations.rows), strict=True):
        value = widened(row, w, np.nan)[:w]
        own = known & ~np.isnan(value) & (then >= state.since_s[:w])
        higher, lower = own & (value > top) & (then > start_down), own & (value < bottom) & (then > start_up)
        top, bottom = np.where(higher, value, top), np.where(lower, value, bottom)
        found.append(higher | lower)
    return found[::-1]


def _counts(state: GuardState, spec: GroupSpec, at_s: float, known: Bools) -> list[Bools]:
    """For each row of changes, where ``[w]`` a rate rule can still count it."""
    w = known.size
    longest_s = spec.workloads.rule_period_s.max(axis=(0, 1), initial=0.0)[:w]
    longest_s = np.maximum(longest_s, np.where(spec.workloads.downs_per_hour[:w] > 0, HOUR_S, 0.0))
    return [
        known & (widened(row, w, 0.0)[:w] != 0) & (then > at_s - longest_s) & (then >= state.since_s[:w])
        for then, row in zip(state.changes.at_s, state.changes.rows, strict=True)
    ]


def _grouped(track: Track, where: Iterable[Bools]) -> dict[int, Points]:
    """The chosen values by slot."""
    found: dict[int, list[tuple[float, float]]] = {}
    for then, row, chosen in zip(track.at_s, track.rows, where, strict=True):
        slots = np.flatnonzero(chosen)
        for slot, value in zip(slots.tolist(), row[slots].tolist(), strict=True):
            found.setdefault(slot, []).append((then, value))
    return {slot: tuple(points) for slot, points in found.items()}


def remembering(state: State, spec: GroupSpec, at_s: float, current: Floats, found: Mapping[int, Memory]) -> State:
    """The state before the tick ``at_s`` with what was kept of some workloads, by slot; ``current[w]`` is their count now.

    Ticks that were lost in between count as recommendations of the current count, and a count that has changed meanwhile as changed
    by us at the last of them: the windows and rates hold what they might have held.
    """
    guards = aligned(state.guards, spec.workloads.serial)
    recommendations: dict[float, dict[int, float]] = {}
    changes: dict[float, dict[int, float]] = {}
    columns = {name: getattr(guards, name).copy() for name in _COLUMNS}
    lost_s = at_s - spec.interval_s
    for slot, memory in found.items():
        for name, column in columns.items():
            column[slot] = getattr(memory, name)
        for then, value in memory.recommendations:
            recommendations.setdefault(then, {})[slot] = value
        for then, value in memory.changes:
            changes.setdefault(then, {})[slot] = value
        if memory.at_s < lost_s - spec.interval_s / 2:
            in_shadow = not isnan(memory.shadow)
            recommendations.setdefault(lost_s, {})[slot] = memory.shadow if in_shadow else float(current[slot])
            change = float(current[slot]) - memory.count
            if not in_shadow and not isnan(change) and change != 0:
                changes.setdefault(lost_s, {})[slot] = change
    guards = replace(
        guards,
        **{name: frozen(column) for name, column in columns.items()},
        recommendations=_merged(guards.recommendations, recommendations, spec.slots, nan),
        changes=_merged(guards.changes, changes, spec.slots, 0.0),
        events=with_kept(guards.events, {slot: memory.events for slot, memory in found.items()}),
    )
    return replace(state, guards=guards)


def _merged(track: Track, points: Mapping[float, Mapping[int, float]], slots: int, nothing: float) -> Track:
    """The track with some more values at any times."""
    rows = dict(zip(track.at_s, track.rows, strict=True))
    for then, values in points.items():
        row = widened(rows[then], slots, nothing).copy() if then in rows else full(slots, nothing)
        row[list(values)] = list(values.values())
        rows[then] = frozen(row)
    return Track(tuple(sorted(rows)), tuple(rows[then] for then in sorted(rows)))


def policy_fields(state: State, call: Call, slots: Sequence[int]) -> list[SeriesFields]:
    """What the call's policy wants kept of each of these series; empty where it declares nothing or has no state yet."""
    kept, names = state.policies.get(call.key), traits_of(call.policy).checkpoint
    if kept is None or not names:
        return [{} for _ in slots]
    columns = {name: array for name, array in array_fields(kept.value).items() if name in names}
    mine = kept.serial.size
    return [
        {name: array[..., slot] for name, array in columns.items()} if slot < mine and kept.serial[slot] == call.serial[slot] else {}
        for slot in slots
    ]


def with_policy_fields(state: State, call: Call, found: Mapping[int, SeriesFields]) -> tuple[State, frozenset[int]]:
    """The state with what was kept of some series of the call, by slot, and the slots of those that go on with it.

    What a version of the policy kept that wanted other fields, or of other shapes, is lost as a whole: half of it says nothing.
    """
    kept, _ = walled(call.policy, lambda: policy_state(call, state.policies.get(call.key)))
    if kept is None:  # decide meets the same fault, and says it
        return state, frozenset()
    wanted = {name: array for name, array in array_fields(kept.value).items() if name in traits_of(call.policy).checkpoint}
    fitting = {slot: values for slot, values in found.items() if values and _fit(values, wanted)}
    if not fitting:
        return state, frozenset()
    columns = {name: array.copy() for name, array in wanted.items()}
    for slot, values in fitting.items():
        for name, value in values.items():
            columns[name][..., slot] = value
    value = replace(kept.value, **{name: frozen(column) for name, column in columns.items()})
    return replace(state, policies={**state.policies, call.key: PolicyState(kept.serial, value)}), frozenset(fitting)


def _fit(values: SeriesFields, wanted: Mapping[str, NDArray[np.generic]]) -> bool:
    return values.keys() == wanted.keys() and all(
        value.dtype == wanted[name].dtype and value.shape == wanted[name].shape[:-1] for name, value in values.items()
    )
