"""What a metric source has recorded, as a load to simulate: with its gaps, its saturated stretches, and how long pods took to start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.plant import Plant
from autoscaler.core.startup import STARTS, percentile
from autoscaler.core.types import Bools, Floats
from autoscaler.errors import ConfigError
from autoscaler.simulation.load import RATE_MAX, Trace, duration, trace_of
from autoscaler.simulation.world import SATURATED_SHARE

_COUNTER_ROWS = 200
_COUNTER_FALLS = 0.001


def recorded(name: str, at_s: Floats, values: Floats, asked_from_s: float) -> Trace:
    """The load ``values[row]`` per second on the grid ``at_s`` (Unix seconds; a value stands for the step before it) as a trace.

    NaN is a gap. Leading gaps are history that there is not: the trace begins with the first value. Raises ConfigError for what is no
    load, and says in the notes what was assumed.
    """
    step_s = float(at_s[1] - at_s[0])
    notes = []
    odd = np.isinf(values) | (values < 0) | (values > RATE_MAX)
    if odd.any():
        first = values[odd][0]
        notes.append(f"{int(odd.sum())} values are negative, infinite or beyond reason (the first: {first:g}) and are left out")
        values = np.where(odd, np.nan, values)
    there = np.flatnonzero(~np.isnan(values))
    if there.size < 2:  # noqa: PLR2004 - one row has no length
        raise ConfigError(f"{name}: expected history from {_moment(asked_from_s)} on, found {there.size} values")
    _refuse_counter(name, values[there])
    first, last = int(there[0]), int(there[-1])
    late_s = float(at_s[first]) - asked_from_s
    if late_s > 2 * step_s:
        has = duration(float(at_s[last] - at_s[first]) + step_s)
        notes.append(
            f"asked for {duration(float(at_s[-1]) - asked_from_s)} of history, found {has} (since {_moment(float(at_s[first]))}): "
            "all figures are about that"
        )
    kept = slice(first, last + 1)
    trace = trace_of(name, at_s[kept] - step_s, values[kept])
    return Trace(trace.name, trace.start_s, trace.rate, step_s, (*notes, *trace.notes))


def _refuse_counter(name: str, values: Floats) -> None:
    """A load goes up and down; what only rises, but for restarts to near nothing, is a counter that nobody took the rate of."""
    values = values[np.append(True, np.diff(values) != 0)]  # a scrape may be older than a row
    falls = np.diff(values) < 0
    restarts = falls & (values[1:] < 0.5 * values[:-1])
    if values.size >= _COUNTER_ROWS and falls.mean() <= _COUNTER_FALLS and (falls == restarts).all():
        raise ConfigError(
            f"{name}: the values only rise ({values[0]:g} to {values[-1]:g}, {int(restarts.sum())} restarts): a counter, not a load; "
            "put rate(...[1m]) around it"
        )


def saturated(trace: Trace, at_s: Floats, ready: Floats, plant: Plant) -> Bools:
    """Where, of the trace's rows, the pods served 95 % of what they can: the true load may have been higher.

    ``ready`` pods at ``at_s``; rows where it is NaN are not judged.
    """
    pods = at_rows(trace, at_s, ready)
    with np.errstate(invalid="ignore"):
        return frozen((pods > 0) & (trace.rate >= SATURATED_SHARE * float(plant.capacity) * pods))


def at_rows(trace: Trace, at_s: Floats, values: Floats) -> Floats:
    """What a column of its own grid says at the end of each of the trace's rows."""
    return np.asarray(values[np.clip(np.searchsorted(at_s, trace.start_s + trace.step_s), 0, at_s.size - 1)])


def by_step(trace: Trace, rows: Bools, steps: int, step_s: float) -> Bools:
    """A mark of the trace's rows as one of a simulation's steps."""
    middle = trace.start_s[0] + step_s * (np.arange(steps) + 0.5)
    return frozen(rows[np.clip(np.searchsorted(trace.start_s, middle, side="right") - 1, 0, rows.size - 1)])


@dataclass(frozen=True, slots=True)
class Startup:
    """How long a pod takes from being made to being ready, in seconds, and where that is from."""

    seconds: float
    origin: str


def startup_of(durations: Floats) -> Startup | None:
    """The 90th percentile of recorded starts (the newest last), of the last twenty; None without any."""
    known = durations[np.isfinite(durations) & (durations >= 0)][-STARTS:]
    if not known.size:
        return None
    return Startup(percentile(known), f"90th percentile of {known.size} recorded pod starts")


def stretches(marked: Bools) -> list[tuple[int, int]]:
    """The runs of a mark, as (first, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
