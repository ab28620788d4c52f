"""Loads that nobody recorded, of shapes that nothing was tuned to: what a policy does there, it was not taught.

A fortnight each, a row a minute, around 1 request/s (runs scale it). Whatever is random in them comes from one seed per shape.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autoscaler.core.types import Floats
from autoscaler.simulation.load import Trace, trace_of

DAYS = 14
_ROW_S = 60.0
_DAY = 1440
_ROWS = DAYS * _DAY


def _time() -> Floats:
    """Days since the start."""
    return np.arange(_ROWS) / _DAY


def constant(_draw: np.random.Generator) -> Floats:
    """Always the same."""
    return np.ones(_ROWS)


def square(_draw: np.random.Generator) -> Floats:
    """Twice as much for two hours, half as much for the next three, as batch jobs do."""
    return np.where((_time() * 24 % 5).astype(np.int64) // 2 == 0, 2.0, 0.5)


def ramp(_draw: np.random.Generator) -> Floats:
    """Straight up to four times as much over the day, and back within minutes."""
    return 0.5 + 1.5 * (_time() % 1) * np.clip((1 - _time() % 1) * 200, 0, 1)


def weekly(_draw: np.random.Generator) -> Floats:
    """Office hours on five days, little on two."""
    days = np.array([1.0, 1.1, 1.05, 1.1, 0.9, 0.3, 0.2])[(_time() % 7).astype(np.int64)]
    return 0.15 + days * np.exp(-((((_time() % 1) - 0.55) / 0.16) ** 2))


def spikes(draw: np.random.Generator) -> Floats:
    """Calm, but for some six spikes a day at random: two to six times as much at once, gone within a quarter of an hour."""
    rate = np.ones(_ROWS)
    for begin in np.flatnonzero(draw.random(_ROWS) < 6 / _DAY):
        length, height = int(draw.integers(3, 15)), draw.uniform(1, 5)
        rate[begin : begin + length] += height
    return rate


def decay(draw: np.random.Generator) -> Floats:
    """A launch a day at a random hour: four times as much at once, half of it gone every two hours."""
    rate = np.full(_ROWS, 0.6)
    for day in range(DAYS):
        begin = day * _DAY + int(draw.integers(0, _DAY))
        rate[begin:] += 2.5 * 0.5 ** (np.arange(_ROWS - begin) / 120)
    return rate


def modes(draw: np.random.Generator) -> Floats:
    """One of three levels, another one at random some ten times a day."""
    switch = draw.random(_ROWS) < 10 / _DAY
    level = draw.integers(0, 3, _ROWS)
    last = np.maximum.accumulate(np.where(switch, np.arange(_ROWS), 0))
    return np.array([0.5, 1.0, 1.8])[level[last]]


def walk(draw: np.random.Generator) -> Floats:
    """A random walk that is drawn back to its mean within hours, 3 % a minute."""
    level = np.zeros(_ROWS)
    for row, push in enumerate(draw.normal(0, 0.03, _ROWS - 1)):
        level[row + 1] = 0.995 * level[row] + push
    return np.exp(level)


def bursts(draw: np.random.Generator) -> Floats:
    """Every minute of its own: a lognormal draw around a slow day, as few users with much to do make."""
    return (1 + 0.5 * np.sin(2 * np.pi * _time())) * draw.lognormal(0, 0.25, _ROWS)


_MAKERS: tuple[Callable[[np.random.Generator], Floats], ...] = (constant, square, ramp, weekly, spikes, decay, modes, walk, bursts)

SHAPES = {f"shape_{make.__name__}": (make, number) for number, make in enumerate(_MAKERS)}


def shape(name: str) -> Trace:
    """The load of that name. Raises KeyError for any other."""
    make, seed = SHAPES[name]
    rate = np.maximum(np.asarray(make(np.random.default_rng(seed)), dtype=np.float64), 0.0)
    return trace_of(name, np.arange(_ROWS, dtype=np.float64) * _ROW_S, rate)
