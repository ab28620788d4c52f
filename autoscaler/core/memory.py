"""What the guards remember of each workload, in columns, and how windows and periods are read from it.

What happens at a tick (recommendations, changes by our writes) is one row of columns that is never touched again: the next tick's state
shares it. So remembering costs one row, and a window of 300 s at 15 s costs a pass over 20 of them, which for 10 000 workloads is less
than copying a table that is changed in place. Nothing is erased for a newcomer in somebody's slot: rows from before ``since_s`` are not
its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.columns import A, frozen, full, widened
from autoscaler.core.exact_events import Events, aligned_events, changed_exactly, no_events
from autoscaler.core.types import Bools, Floats, Ints

HOUR_S = 3600.0

_INSTANT_S = 1e-3
"""Far less than lies between two ticks."""


@dataclass(frozen=True, slots=True)
class Track:
    """Rows over time: ``rows[k][w]`` at ``at_s[k]``. A row that is shorter than the group is from before it grew."""

    at_s: tuple[float, ...] = ()
    rows: tuple[Floats, ...] = ()


def added(track: Track, at_s: float, row: Floats, oldest_s: float) -> Track:
    """The track with one more row; those at or before ``oldest_s`` are dropped."""
    kept = [(then, old) for then, old in zip(track.at_s, track.rows, strict=True) if then > oldest_s]
    kept.append((at_s, frozen(row)))
    return Track(tuple(then for then, _ in kept), tuple(old for _, old in kept))


def folded(track: Track, start_s: Floats, combine: np.ufunc, nothing: float) -> Floats:
    """All rows after ``start_s[w]`` in one: by ``np.fmax``, ``np.fmin`` or ``np.add``; ``nothing`` where there is none."""
    result = full(start_s.size, nothing)
    if not track.at_s:
        return result
    earliest = np.fmin.reduce(start_s, initial=np.inf)
    if max(track.at_s) <= earliest:
        return result
    latest = np.fmax.reduce(start_s, initial=-np.inf)
    for at_s, row in zip(track.at_s, track.rows, strict=True):
        if at_s > earliest:
            n = row.size
            own = row if at_s > latest else np.where(at_s > start_s[:n], row, nothing)
            combine(result[:n], own, out=result[:n])
    return result


@dataclass(frozen=True, slots=True)
class GuardState:
    """By workload slot ``[w]``.

    ``serial``: whose memory this is; ``since_s``: when its count was first seen, or seen again after a dry run, and ``seed``: that count,
    which is its first recommendation (NaN: not yet); ``shadow``: the count that our own decisions would have made in a dry run (NaN: not
    in one); ``failures``: ticks in a row without data; ``zero_ours``: our last write was to zero and nobody has set another count since;
    ``zero_seen``: and that zero was seen; ``recommendations``: NaN where there was none; ``changes``: replicas that our writes added,
    below 0 if they removed some; ``raised_s, raised_to``: when a saturated load last raised the proposal, and to how many;
    ``events``: the changes of exact workloads, as the HPA keeps them.
    """

    serial: Ints
    since_s: Floats
    seed: Floats
    shadow: Floats
    failures: Floats
    zero_ours: Bools
    zero_seen: Bools
    recommendations: Track
    changes: Track
    raised_s: Floats
    raised_to: Floats
    events: Events


def no_memory() -> GuardState:
    """The state of a group without workloads."""
    nothing, nobody, serial = frozen(full(0, np.nan)), frozen(np.zeros(0, np.bool_)), frozen(np.zeros(0, np.int64))
    return GuardState(serial, nothing, nothing, nothing, nothing, nobody, nobody, Track(), Track(), nothing, nothing, no_events())


def aligned(state: GuardState, serial: Ints) -> GuardState:
    """The state with the columns of ``serial[w]``: who is new starts blank, who stayed keeps everything."""
    if state.serial is serial:
        return state
    new = widened(state.serial, serial.size, 0) != serial
    return GuardState(
        serial=serial,
        since_s=_blanked(state.since_s, new, np.nan),
        seed=_blanked(state.seed, new, np.nan),
        shadow=_blanked(state.shadow, new, np.nan),
        failures=_blanked(state.failures, new, 0.0),
        zero_ours=_blanked(state.zero_ours, new, fill=False),
        zero_seen=_blanked(state.zero_seen, new, fill=False),
        recommendations=state.recommendations,
        changes=state.changes,
        raised_s=_blanked(state.raised_s, new, np.nan),
        raised_to=_blanked(state.raised_to, new, np.nan),
        events=aligned_events(state.events, new),
    )


def _blanked(array: NDArray[A], where: Bools, fill: float) -> NDArray[A]:
    wide = widened(array, where.size, fill)
    if not where.any():
        return wide
    changed = wide.copy()
    changed[where] = fill
    return frozen(changed)


def extreme(state: GuardState, start_s: Floats, pick: np.ufunc) -> Floats:
    """The highest (``np.fmax``) or lowest (``np.fmin``) recommendation after ``start_s[w]``, the seed among them; NaN: none."""
    recommended = folded(state.recommendations, _own(state, start_s), pick, np.nan)
    found: Floats = pick(recommended, np.where(state.since_s > start_s, state.seed, np.nan))
    return found


def changed(state: GuardState, start_s: Floats, exact: Bools | None = None) -> Floats:
    """What our writes after ``start_s[w]`` added, less what they removed; where ``exact``, as far as the HPA still knows of them."""
    own = _own(state, start_s)
    known = folded(state.changes, own, np.add, 0.0)
    return known if exact is None or not exact.any() else np.where(exact, changed_exactly(state.events, own), known)


def times_lowered(state: GuardState, start_s: Floats) -> Floats:
    """How many of our writes after ``start_s[w]`` took replicas away."""
    lowered = tuple((row < 0).astype(np.float64) for row in state.changes.rows)
    return folded(Track(state.changes.at_s, lowered), _own(state, start_s), np.add, 0.0)


def _own(state: GuardState, start_s: Floats) -> Floats:
    """Starts that leave out what was before the workload's own time; rows at ``since_s`` itself are in."""
    own: Floats = np.fmax(start_s, state.since_s - _INSTANT_S)
    return own


def with_changes(state: GuardState, at_s: Floats, change: Floats, oldest_s: float) -> GuardState:
    """The state with our writes of ``at_s[w]`` where ``change[w]`` is a number other than 0; changes up to ``oldest_s`` may go."""
    columns = np.flatnonzero(~np.isnan(change) & (change != 0))
    if not columns.size:
        return state
    changes = state.changes
    for then in np.unique(at_s[columns]):
        row, own = full(change.size, 0.0), columns[at_s[columns] == then]
        row[own] = change[own]
        changes = added(changes, float(then), row, oldest_s)
    return replace(state, changes=changes)
