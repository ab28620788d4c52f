"""What the guards remember of each workload, in columns, and how a window's extreme is read from it.

Recommendations are kept as runs: a value stays only while no later one reaches it, since it can never be the window's maximum again.
So a column is strictly falling from its oldest entry to its newest, and a window of 300 s at 15 s needs as many entries as the
recommendation had distinct falling values, not 20. For the scale-up window, which asks for the minimum, the values are negated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.columns import A, frozen, full, widened
from autoscaler.core.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Runs:
    """``value[k, w]`` strictly falling in k where set, ``at_s[k, w]`` when each was last recommended; NaN: no entry."""

    value: Floats
    at_s: Floats


def no_runs(slots: int) -> Runs:
    """No recommendations yet."""
    nothing = frozen(full((1, slots), np.nan))
    return Runs(nothing, nothing)


def pushed(runs: Runs, value: Floats, at_s: float, oldest_s: Floats, where: Bools) -> Runs:
    """The runs with ``value[w]`` recommended at ``at_s`` where ``where``; entries at or before ``oldest_s[w]`` may go."""
    columns = np.flatnonzero(where & ~np.isnan(value))
    if not columns.size:
        return runs
    depth = runs.value.shape[0]
    place = (runs.value[:, columns] > value[columns]).sum(axis=0)
    if place.max() == depth:
        runs = _compacted(runs, columns[place == depth], oldest_s)
        place = (runs.value[:, columns] > value[columns]).sum(axis=0)
        if place.max() == runs.value.shape[0]:
            runs = _deepened(runs)
    values, stamps = runs.value.copy(), runs.at_s.copy()
    below = np.arange(values.shape[0])[:, None] >= place
    if columns.size == values.shape[1]:
        values[below] = np.nan
        stamps[below] = np.nan
    else:
        values[:, columns] = np.where(below, np.nan, values[:, columns])
        stamps[:, columns] = np.where(below, np.nan, stamps[:, columns])
    values[place, columns] = value[columns]
    stamps[place, columns] = at_s
    return Runs(frozen(values), frozen(stamps))


def highest(runs: Runs, oldest_s: Floats) -> Floats:
    """The greatest value of each window ``[w]``: entries after ``oldest_s[w]``; -inf where there is none."""
    live = np.where(runs.at_s > oldest_s, runs.value, -np.inf)
    return np.asarray(live.max(axis=0), dtype=np.float64)


def _compacted(runs: Runs, columns: Ints, oldest_s: Floats) -> Runs:
    """The runs with the outdated entries of ``columns`` dropped from the front."""
    stamps = runs.at_s[:, columns]
    gone = (stamps <= oldest_s[columns]).sum(axis=0)
    depth = stamps.shape[0]
    source = np.arange(depth)[:, None] + gone
    inside = source < depth
    source = np.minimum(source, depth - 1)
    values, at_s = runs.value.copy(), runs.at_s.copy()
    values[:, columns] = np.where(inside, np.take_along_axis(runs.value[:, columns], source, axis=0), np.nan)
    at_s[:, columns] = np.where(inside, np.take_along_axis(stamps, source, axis=0), np.nan)
    return Runs(frozen(values), frozen(at_s))


def _deepened(runs: Runs) -> Runs:
    padding = full(runs.value.shape, np.nan)
    return Runs(frozen(np.concatenate([runs.value, padding])), frozen(np.concatenate([runs.at_s, padding])))


@dataclass(frozen=True, slots=True)
class GuardState:
    """By workload slot ``[w]``, or ``[k, w]`` for the runs and events.

    ``serial``: whose memory this is; ``seeded``: its first count was taken into the windows; ``shadow``: the count that our own
    decisions would have made in a dry run (NaN: not in one); ``failures``: ticks in a row without data; ``zero_ours``: our last write
    was to zero and nobody has set another count since; ``zero_seen``: and that zero was seen; ``high``, ``low``: recommendations for
    the scale-down and (negated) scale-up windows; ``event_at_s, event_change``: our scale events.
    """

    serial: Ints
    seeded: Bools
    shadow: Floats
    failures: Floats
    zero_ours: Bools
    zero_seen: Bools
    high: Runs
    low: Runs
    event_at_s: Floats
    event_change: Floats


def no_memory() -> GuardState:
    """The state of a group without workloads."""
    nothing, nobody = frozen(full(0, np.nan)), frozen(np.zeros(0, np.bool_))
    events, serial = frozen(full((1, 0), np.nan)), frozen(np.zeros(0, np.int64))
    return GuardState(serial, nobody, nothing, nothing, nobody, nobody, no_runs(0), no_runs(0), events, events)


def aligned(state: GuardState, serial: Ints) -> GuardState:
    """The state with the columns of ``serial[w]``: who is new starts blank, who stayed keeps everything."""
    if state.serial is serial:
        return state
    old = widened(state.serial, serial.size, 0)
    new = old != serial
    return GuardState(
        serial=serial,
        seeded=_blanked(state.seeded, new, fill=False),
        shadow=_blanked(state.shadow, new, np.nan),
        failures=_blanked(state.failures, new, 0.0),
        zero_ours=_blanked(state.zero_ours, new, fill=False),
        zero_seen=_blanked(state.zero_seen, new, fill=False),
        high=forgotten(state.high, new),
        low=forgotten(state.low, new),
        event_at_s=_blanked(state.event_at_s, new, np.nan),
        event_change=_blanked(state.event_change, new, np.nan),
    )


def forgotten(runs: Runs, where: Bools) -> Runs:
    """The runs widened to ``where`` and emptied there."""
    return Runs(_blanked(runs.value, where, np.nan), _blanked(runs.at_s, where, np.nan))


def without_events(state: GuardState, where: Bools) -> GuardState:
    """The state with no scale events where ``where``."""
    return replace(
        state,
        event_at_s=_blanked(state.event_at_s, where, np.nan),
        event_change=_blanked(state.event_change, where, np.nan),
    )


def _blanked(array: NDArray[A], where: Bools, fill: float) -> NDArray[A]:
    wide = widened(array, where.size, fill)
    if not where.any():
        return wide
    changed = wide.copy()
    changed[..., where] = fill
    return frozen(changed)


def with_events(state: GuardState, at_s: Floats, change: Floats, oldest_s: float) -> GuardState:
    """The state with one more scale event per workload where ``change[w]`` is a number other than 0; older than ``oldest_s`` may go."""
    columns = np.flatnonzero(~np.isnan(change) & (change != 0))
    if not columns.size:
        return state
    stamps, changes = state.event_at_s.copy(), state.event_change.copy()
    age = np.where(np.isnan(stamps[:, columns]), -np.inf, stamps[:, columns])
    place = age.argmin(axis=0)
    if (age.min(axis=0) > oldest_s).any():
        place = np.full(columns.size, stamps.shape[0])
        padding = full(stamps.shape, np.nan)
        stamps, changes = np.concatenate([stamps, padding]), np.concatenate([changes, padding])
    stamps[place, columns] = at_s[columns]
    changes[place, columns] = change[columns]
    return replace(state, event_at_s=frozen(stamps), event_change=frozen(changes))
