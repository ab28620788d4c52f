"""What the forecast policy remembers of each series, and the constants that shape it.

Times are counted in *beats*: the policy looks every tick, but learns at most every 15 s, so that an interval of 5 s needs no more
memory than one of 15 s. A series takes about 3 kB.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.columns import frozen, full
from autoscaler.core.types import Floats, Ints, Singles

Changes: TypeAlias = dict[str, NDArray[Any]]
"""Fields of the state by name, to be replaced."""

BEAT_S = 15.0
RING = 40
"""Beats of forecasts that are kept until their outcome is known; the longest lead is two less."""

FEATURES = 6

RINGS = ("forecasts", "spreads_slow", "spreads_now", "errors", "asks")
"""The fields of the state that are rings."""

SWING_BEATS = 5

MULTIPLES = np.array([-0.5, 0.2, 0.8, 1.4, 2.4, 4.0, 7.0, 13.0], np.float32)
"""One half of a candidate: how many times its usual error is added to the forecast."""


LOADS = np.arange(0.5, 1.875, 0.05, dtype=np.float32)
"""Loads per replica, where 1 is the target: at each of them an objective tells how late requests are."""


class Setting(NamedTuple):
    """The rest of a candidate: which error is multiplied, and how slowly replicas are given back."""

    spread: int
    """What is multiplied and what it is added to: ``SLOW``: the forecast's usual error of the last hours, ``NOW``: that of this moment,
    ``HOUR``: as slow, but on top of what demand reached an hour ago from then on, if that is more than the forecast; ``PLAIN``: a seventh
    of demand, on top of demand, as an HPA does."""

    hold_s: float
    """How long less must have been enough before replicas are given back …"""

    band: float
    """… and by how much less, in replicas."""


SLOW, NOW, PLAIN, HOUR = range(4)

SETTINGS = (
    Setting(SLOW, 60.0, 0.2),
    Setting(SLOW, 180.0, 0.6),
    Setting(NOW, 60.0, 0.2),
    Setting(NOW, 180.0, 0.6),
    Setting(PLAIN, 180.0, 0.6),
    Setting(PLAIN, 6 * 3600.0, 0.6),
    Setting(HOUR, 60.0, 0.2),
)


@dataclass(frozen=True)
class ForecastState:
    """Everything in columns ``[…, n]``; demand and counts in replicas.

    Clock: ``beat`` number of the last beat (-1: none), ``seen`` beats with data, ``scored_s`` seconds of forecasts whose outcome is known,
    ``calm`` beats since demand was last cut off by saturation.
    Levels: ``usual`` demand (mean of a day), ``highest`` (of about a week); errors of the forecast ``error`` (3 minutes, absolute),
    ``error_slow`` (6 h, absolute), ``error_share`` (6 h, relative); ``rough, smooth``: means of |second differences| over 2 beats and
    over 1, relative; ``swing``: mean of |mean of two beats - mean of five|, relative.
    Regression: ``weights[feature]``, ``inverse[feature, feature]``.
    Rings, newest last ``[RING]``: ``forecasts, spreads_slow, spreads_now, errors, asks`` as they were made at each beat.
    Candidates ``[setting, multiple]``: ``level`` asked for, ``peak`` needed since it was last needed in full, ``waited`` beats since,
    ``backlog``, sums of ``late`` and ``cost``, with ``replayed`` the sum of demand.
    Objective: ``ready`` replicas and for how many beats ``steady``; sums of demand, late and in all, by load per replica:
    ``load_late, load_total[load]``.
    Choice: ``setting, multiple`` and what replay says of it, ``chosen_late`` (share), ``chosen_cost`` (replicas per demand).
    Now: ``asked`` replicas, ``asked_peak`` and ``asked_since_s`` as of a candidate; ``flood, flood_until_s`` while saturated.
    Accuracy over a day: ``bias`` (sum of errors), ``hits`` (times that what came was asked for), ``judged`` and ``judged_volume``.
    """

    beat: Floats
    seen: Floats
    scored_s: Floats
    calm: Floats
    usual: Floats
    highest: Floats
    error: Floats
    error_slow: Floats
    error_share: Floats
    rough: Floats
    smooth: Floats
    swing: Floats
    weights: Singles
    inverse: Floats
    forecasts: Singles
    spreads_slow: Singles
    spreads_now: Singles
    errors: Singles
    asks: Singles
    level: Singles
    peak: Singles
    waited: Singles
    backlog: Singles
    late: Singles
    cost: Singles
    replayed: Floats
    ready: Floats
    steady: Floats
    load_late: Singles
    load_total: Singles
    setting: Floats
    multiple: Floats
    chosen_late: Floats
    chosen_cost: Floats
    asked: Floats
    asked_peak: Floats
    asked_since_s: Floats
    flood: Floats
    flood_until_s: Floats
    bias: Floats
    hits: Floats
    judged: Floats
    judged_volume: Floats


_START = {
    "beat": -1.0,
    "calm": np.inf,
    "error_share": 0.08,
    "ready": np.nan,
    "setting": 1.0,
    "multiple": 3.6,
    "chosen_late": np.nan,
    "chosen_cost": np.nan,
    "asked": np.nan,
    "asked_since_s": np.nan,
    "flood_until_s": np.nan,
}
_TABLES = ("level", "peak", "waited", "backlog", "late", "cost")

CHECKPOINT = (
    "seen",
    "scored_s",
    "usual",
    "highest",
    "error_slow",
    "asked",
    "weights",
    "replayed",
    "late",
    "cost",
    "load_late",
    "load_total",
)


def blank(n: int) -> ForecastState:
    """The state of ``n`` series that nothing is known of."""
    columns: Changes = {name: full(n, _START.get(name, 0.0)) for name in ForecastState.__dataclass_fields__}
    columns["weights"] = np.zeros((FEATURES, n), np.float32)
    columns["inverse"] = np.repeat(10.0 * np.eye(FEATURES)[:, :, None], n, axis=2)
    columns |= {name: np.full((RING, n), np.nan, np.float32) for name in RINGS}
    columns |= {name: np.zeros((LOADS.size, n), np.float32) for name in ("load_late", "load_total")}
    columns |= {name: np.zeros((len(SETTINGS), MULTIPLES.size, n), np.float32) for name in _TABLES}
    return ForecastState(**{name: frozen(column) for name, column in columns.items()})


def ticks_per_beat(interval_s: float) -> int:
    """How many ticks a beat has."""
    return max(1, ceil(BEAT_S / interval_s - 1e-9))


def aged(ring: Singles, beats: int) -> Singles:
    """A writable ring ``beats`` later: NaN for what was skipped, and for the newest, which is still to come."""
    later = np.full_like(ring, np.nan)
    if beats < RING:
        later[: RING - beats] = ring[beats:]
    return later


def back(rows: Singles, beats: Ints, same: int | None, more: int = 0) -> Singles:
    """The row of ``beats[n] + more`` beats ago, but at least 0, of each column; ``rows`` newest first, ``same`` if all beats are."""
    if same is not None:
        return np.asarray(rows[max(same + more, 0)])
    return np.asarray(np.take_along_axis(rows, np.maximum(beats + more, 0)[None], axis=0)[0])
