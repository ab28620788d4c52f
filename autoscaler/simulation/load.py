"""Loads over time: recorded (CSV) or made up, and what is done to them before a simulation: scaled, cut into steps, drawn, disturbed.

A trace's rate holds from its stamp to the next, as recorders mean it. A simulation that is finer than the recording joins the rows'
centres by straight lines (``hold=True``: keeps the steps); either way a step gets the exact mean over its own length.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from pathlib import Path

import numpy as np

from autoscaler.core.columns import frozen, full
from autoscaler.core.plant import Plant
from autoscaler.core.types import Bools, Floats
from autoscaler.errors import ConfigError

HEADER = ("timestamp_s", "rate")
RATE_MAX = 1e12
"""No service has so many requests a second: such a value is a mistake, and a long one to simulate."""

SPAN_MAX_S = 5 * 366 * 86400.0

_GAP_STEPS = 1.5
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded load. ``start_s[i]`` seconds, rising; ``rate[i]`` per second, until the next stamp; ``step_s`` the usual distance.

    ``notes`` are sentences about what had to be assumed.
    """

    name: str
    start_s: Floats
    rate: Floats
    step_s: float
    notes: tuple[str, ...] = field(default=())

    @property
    def span_s(self) -> float:
        """From the first stamp to the end of the last row."""
        return float(self.start_s[-1] - self.start_s[0]) + self.step_s


def read_csv(path: Path) -> Trace:
    """Read a file of ``timestamp_s,rate`` rows.

    Raises ConfigError with every mistake, by line. A row whose rate is empty or NaN is a gap; gaps are filled by interpolation, and
    said in the notes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as a CSV file: {error}") from error
    if not rows or tuple(cell.strip() for cell in rows[0]) != HEADER:
        found = ",".join(rows[0]) if rows else "an empty file"
        raise ConfigError(f"{path}:1: expected the header {','.join(HEADER)}, found {found!r}")
    stamps: list[float] = []
    rates: list[float] = []
    mistakes: list[str] = []
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        problem = _parse(row, stamps, rates)
        if problem:
            mistakes.append(f"{path}:{line}: {problem}")
    if mistakes:
        more = f"\n… and {len(mistakes) - _SHOWN} more" if len(mistakes) > _SHOWN else ""
        raise ConfigError("\n".join(mistakes[:_SHOWN]) + more)
    return trace_of(path.stem, np.array(stamps), np.array(rates), str(path))


def _parse(row: list[str], stamps: list[float], rates: list[float]) -> str:
    """Take in one row; returns what is wrong with it."""
    if len(row) != len(HEADER):
        return f"expected {len(HEADER)} columns, found {len(row)}"
    stamp, rate = (_number(cell) for cell in row)
    if stamp is None or not isfinite(stamp):
        return f"timestamp_s: expected seconds as a number, found {row[0]!r}"
    if rate is None:
        return f"rate: expected a number per second, or nothing for a gap, found {row[1]!r}"
    if rate < 0 or rate > RATE_MAX:
        return f"rate: expected 0 to {RATE_MAX:g} per second, found {row[1]}"
    if stamps and stamp <= stamps[-1]:
        what = "twice" if stamp == stamps[-1] else "out of order"
        return f"timestamp_s: {stamp:g} is there {what}; expected more than {stamps[-1]:g}, the row before"
    stamps.append(stamp)
    rates.append(rate)
    return ""


def _number(cell: str) -> float | None:
    text = cell.strip()
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return None


def trace_of(name: str, start_s: Floats, rate: Floats, where: str = "") -> Trace:
    """A trace of rows that rise in time; ``rate`` NaN is a gap.

    Raises ConfigError if there is nothing to simulate: fewer than two rows with a rate, or never a load.
    """
    where = where or name
    there = ~np.isnan(rate)
    start_s, rate, missing = start_s[there], rate[there], int((~there).sum())
    if rate.size < 2:  # noqa: PLR2004 - one row has no length
        raise ConfigError(f"{where}: expected at least two rows with a rate, found {rate.size}")
    if start_s[-1] - start_s[0] > SPAN_MAX_S:
        years = (start_s[-1] - start_s[0]) / (366 * 86400)
        raise ConfigError(f"{where}: the stamps span {years:.3g} years, expected at most 5: they are seconds; are these milliseconds?")
    if not (rate > 0).any():
        raise ConfigError(f"{where}: every rate is 0: there is no load to scale for")
    step_s = float(np.median(np.diff(start_s)))
    notes = [f"{missing} rows have no rate and are left out"] if missing else []
    apart = np.diff(start_s)
    gaps = np.flatnonzero(apart > _GAP_STEPS * step_s)
    if gaps.size:
        longest = gaps[apart[gaps].argmax()]
        length, place = duration(apart[longest] - step_s), duration(start_s[longest] - start_s[0])
        notes.append(f"{gaps.size} gaps, the longest {length} at {place} after the start: filled by straight lines (or held)")
    if rate.min() == rate.max():
        notes.append(f"the rate never changes: {rate[0]:g} per second")
    return Trace(name, frozen(start_s), frozen(rate), step_s, tuple(notes))


def duration(seconds: float) -> str:
    """A length of time for people, in its largest unit.

    Example:
        >>> duration(5400.0), duration(45.0)
        ('1.5 h', '45 s')
    """
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def scaled(trace: Trace, plant: Plant, median_replicas: float) -> tuple[Trace, float]:
    """The trace times k, and k: the median rate is what ``median_replicas`` pods carry at the knee.

    Raises ConfigError if the median is 0: give a factor, or another trace.
    """
    median = float(np.median(trace.rate))
    if median == 0:
        raise ConfigError(f"{trace.name}: the median rate is 0, so nothing can be scaled to it; cut the trace to where it has load")
    factor = median_replicas * plant.knee * float(np.mean(plant.capacity)) / median
    return replace(trace, rate=frozen(trace.rate * factor)), factor


def cut(trace: Trace, from_s: float, to_s: float = inf) -> Trace:
    """The rows from ``from_s`` until before ``to_s``, in seconds after the trace's start."""
    since = trace.start_s - trace.start_s[0]
    inside = (since >= from_s) & (since < to_s)
    return trace_of(trace.name, trace.start_s[inside], trace.rate[inside])


def rates(trace: Trace, step_s: float, *, hold: bool = False) -> Floats:
    """The mean rate of each step ``[step]`` from the trace's start on; a last part of a step is left out."""
    steps = int(trace.span_s / step_s + 1e-9)
    edges = step_s * np.arange(steps + 1)
    since = trace.start_s - trace.start_s[0]
    if hold:
        bounds = np.append(since, trace.span_s)
        total = np.concatenate([[0.0], np.cumsum(trace.rate * np.diff(bounds))])
        return frozen(np.diff(np.interp(edges, bounds, total)) / step_s)
    lengths = np.minimum(np.append(np.diff(since), trace.step_s), _GAP_STEPS * trace.step_s)
    centre = np.concatenate([[0.0], since + lengths / 2, [trace.span_s]])
    height = np.concatenate([trace.rate[:1], trace.rate, trace.rate[-1:]])
    total = np.concatenate([[0.0], np.cumsum(np.diff(centre) * (height[1:] + height[:-1]) / 2)])
    # The integral of straight lines, at any time: up to the last corner, and a trapezium from there.
    corner = np.clip(np.searchsorted(centre, edges, side="right") - 1, 0, centre.size - 2)
    there = np.interp(edges, centre, height)
    reached = total[corner] + (edges - centre[corner]) * (height[corner] + there) / 2
    return frozen(np.diff(reached) / step_s)


def drawn(rate: Floats, step_s: float, seed: int) -> Floats:
    """Arrivals ``[step]``: a Poisson draw from each step's mean; the same seed gives the same arrivals."""
    return frozen(np.random.default_rng(seed).poisson(rate * step_s).astype(np.float64))


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What goes wrong between the load and the metric: relative ``noise`` (standard deviation), and dropouts.

    A share ``dropout`` of the ticks has no answer, in stretches of ``dropout_s`` on average.
    """

    noise: float = 0.0
    dropout: float = 0.0
    dropout_s: float = 60.0


def disturbed(disturbance: Disturbance, steps: int, step_s: float, seed: int) -> Floats:
    """Factors ``[step]`` for the metric: 1 with noise around it, never negative, NaN where there is no answer."""
    random = np.random.default_rng([seed, 1])  # a stream of its own: noise must not change which arrivals are drawn
    factor = np.maximum(random.normal(1.0, disturbance.noise, steps), 0.0) if disturbance.noise else full(steps, 1.0)
    if disturbance.dropout:
        factor[_stretches(random, disturbance.dropout, max(1.0, disturbance.dropout_s / step_s), steps)] = np.nan
    return frozen(factor)


def _stretches(random: np.random.Generator, share: float, length: float, steps: int) -> Bools:
    """A two-state chain that is on for ``share`` of the steps, in stretches of ``length`` steps on average."""
    if share >= 1:
        return np.ones(steps, np.bool_)
    ends, begins = 1 / length, min(1.0, share / (1 - share) / length)
    chance = random.random(steps + 1)
    on = np.zeros(steps, np.bool_)
    now = bool(chance[0] < share)
    for step in range(steps):
        on[step] = now
        now = bool(chance[step + 1] >= ends) if now else bool(chance[step + 1] < begins)
    return on


def steady(rate: float, span_s: float) -> Trace:
    """The same rate throughout."""
    return _shape("steady", np.full(_rows(span_s), rate), span_s)


def daily(low: float, high: float, span_s: float) -> Trace:
    """A sine of a day, lowest at midnight, where it starts."""
    turn = 2 * np.pi * _ROW_S * np.arange(_rows(span_s)) / 86400
    return _shape("daily", low + (high - low) * (1 - np.cos(turn)) / 2, span_s)


def ramp(low: float, high: float, span_s: float) -> Trace:
    """Straight from one rate to another."""
    return _shape("ramp", np.linspace(low, high, _rows(span_s), dtype=np.float64), span_s)


def shift(low: float, high: float, span_s: float) -> Trace:
    """One rate for the first half, the other for the second."""
    rows = _rows(span_s)
    return _shape("shift", np.where(np.arange(rows) < rows // 2, low, high), span_s)


def crowd(low: float, high: float, span_s: float, rise_s: float = 600.0, stay_s: float = 1200.0) -> Trace:
    """A flash crowd in the middle: up within ``rise_s``, there for ``stay_s``, and away half as fast."""
    at = _ROW_S * np.arange(_rows(span_s)) - span_s / 2
    corners = [-rise_s, 0.0, stay_s, stay_s + 2 * rise_s]
    return _shape("crowd", np.interp(at, corners, [low, high, high, low]), span_s)


_ROW_S = 60.0


def _rows(span_s: float) -> int:
    return max(2, round(span_s / _ROW_S))


def _shape(name: str, rate: Floats, span_s: float) -> Trace:
    return trace_of(name, np.arange(_rows(span_s), dtype=np.float64) * _ROW_S, rate)
