"""Scale events as the HPA keeps them, for workloads whose guards are exact.

It has a list for each direction. A new event takes the place of the last one in its list that is older than the longest period of that
direction's own rules, and only then; so what a rule of the other direction with a longer period would still count may be gone, and what is
older than all may stay. Ours (:func:`autoscaler.core.memory.changed`) counts every event within the period.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from autoscaler.core.columns import frozen, full, widened
from autoscaler.core.types import Bools, Floats

Points: TypeAlias = tuple[tuple[float, float], ...]
"""Pairs of a time and a value."""


@dataclass(frozen=True, slots=True)
class Events:
    """``change[direction, place, w]`` replicas, more than 0, at ``at_s`` (NaN: a free place); direction 0 added, 1 removed."""

    at_s: Floats
    change: Floats


def no_events() -> Events:
    """The events of a group without workloads."""
    nothing = frozen(full((2, 0, 0), np.nan))
    return Events(nothing, nothing)


def aligned_events(events: Events, new: Bools) -> Events:
    """The events with one column for each of ``new[w]``, blank where it is true."""
    if not events.at_s.size:
        nothing = frozen(full((2, 0, new.size), np.nan))
        return Events(nothing, nothing)
    at_s, change = (widened(array, new.size, np.nan).copy() for array in (events.at_s, events.change))
    at_s[..., new], change[..., new] = np.nan, np.nan
    return Events(frozen(at_s), frozen(change))


def with_events(events: Events, at_s: Floats, change: Floats, longest_s: Floats, exact: Bools) -> Events:
    """The events with those of ``at_s[w]`` where ``change[w]`` is a number other than 0; ``longest_s[direction, w]`` of the rules."""
    happened = exact & (change != 0) & ~np.isnan(change)
    for direction, mine in enumerate((happened & (change > 0), happened & (change < 0))):
        columns = np.flatnonzero(mine)
        if columns.size:
            events = _put(events, direction, columns, at_s[columns], np.abs(change[columns]), longest_s[direction, columns])
    return events


def _put(events: Events, direction: int, columns: np.ndarray, at_s: Floats, change: Floats, longest_s: Floats) -> Events:
    before = events.at_s[direction][:, columns]
    outdated = before < at_s - longest_s
    last = before.shape[0] - 1 - np.argmax(outdated[::-1], axis=0) if before.shape[0] else np.zeros(columns.size, np.int64)
    place = np.where(outdated.any(axis=0), last, (~np.isnan(before)).sum(axis=0))
    more = max(0, int(place.max()) + 1 - before.shape[0])
    arrays = [np.pad(array, ((0, 0), (0, more), (0, 0)), constant_values=np.nan) for array in (events.at_s, events.change)]
    arrays[0][direction, place, columns], arrays[1][direction, place, columns] = at_s, change
    return Events(frozen(arrays[0]), frozen(arrays[1]))


def changed_exactly(events: Events, start_s: Floats) -> Floats:
    """What the events after ``start_s[w]`` that are still there added, less what they removed."""
    added, removed = np.where(events.at_s > start_s, events.change, 0.0).sum(axis=1)
    difference: Floats = added - removed
    return difference


def events_of(events: Events, known: Bools) -> dict[int, tuple[Points, Points]]:
    """The events of each workload that has any, by slot: those that added, those that removed, in their places."""
    at_s, change = events.at_s[..., : known.size], events.change[..., : known.size]
    found = {}
    for slot in np.flatnonzero(known[: at_s.shape[-1]] & ~np.isnan(at_s).all(axis=(0, 1))).tolist():
        taken = ~np.isnan(at_s[..., slot])
        added, removed = (tuple(zip(at_s[d, taken[d], slot].tolist(), change[d, taken[d], slot].tolist(), strict=True)) for d in (0, 1))
        found[slot] = added, removed
    return found


def with_kept(events: Events, kept: Mapping[int, tuple[Points, Points]]) -> Events:
    """The events with those of some workloads put back in their places."""
    places = max((len(points) for each in kept.values() for points in each), default=0)
    if not places:
        return events
    more = max(0, places - events.at_s.shape[1])
    at_s, change = (np.pad(array, ((0, 0), (0, more), (0, 0)), constant_values=np.nan) for array in (events.at_s, events.change))
    for slot, directions in kept.items():
        for direction, points in enumerate(directions):
            for place, (then, value) in enumerate(points):
                at_s[direction, place, slot], change[direction, place, slot] = then, value
    return Events(frozen(at_s), frozen(change))
