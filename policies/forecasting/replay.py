"""How the forecast policy tunes itself: it replays candidates over its own recent past and takes the cheapest that kept the risk.

A candidate is one of two spreads, a multiple c of it, and how slowly replicas are given back (hold and band)::

    needed   ceil(forecast - 1/2 + sign(c) sqrt((c spread)^2 + min(0.29 |c|, 1/2)^2)), at least 1
    level    rises to needed at once; once less has been enough for a whole hold, falls to ceil(the most that was needed + band)

The first line is a newsvendor's: the last replica is worth its price while the mean chance that demand reaches into it exceeds some
theta, so what counts is the upper quantile of (demand - U), U uniform on 0 … 1; the root joins its two limits, demand much more and much
less certain than one replica. A replay adds for each beat what was late, and what the replicas cost::

    late     max(0, demand + backlog - level) averaged over demand +- width, at most demand; backlog drains at capacity = level / knee
    width    at least 1 %, and what the differences of demand over 4 beats and over 1 say about loads within the metric's window
    cost     level + twice what was given back (30 s of termination) + 10 for a change, to keep calm

The forecasts replayed are those made at the time. What a replica asked for then served is judged by the demand a lead later, which is
when it could serve: all levels are late by the lead, so that no queue of starting replicas is needed. Both sums forget in a week.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.plant import Plant
from autoscaler.core.types import Floats, Singles
from policies.forecasting.state import BANDS, HOLDS_S, MULTIPLES, Changes, ForecastState

_MEMORY_S = 7 * 86400.0
_TERMINATION_S = 30.0
_CHANGE_S = 150.0
_PRIOR_S = 900.0
_WIDTH_MIN = 0.01
_ROUGH_WIDTH = 0.87
_PATIENCE_BEATS = 4.0
_KEPT_WORTH = 0.2
_LOST_WORTH = 0.04
_TINY = 1e-7

_CAPACITY = np.float32(1.0 / Plant().knee)
"""What a replica can do, where 1 is what it should: demand is relative to that."""


Reals: TypeAlias = NDArray[np.floating[Any]]
"""Single or double precision."""


class Past(NamedTuple):
    """What is replayed in one beat ``[n]``: the forecast and spreads of then, and the demand that came of it."""

    forecast: Singles
    slow: Singles
    now: Singles
    demand: Singles


def needed_of(forecast: Reals, spread: Reals, multiple: Reals) -> Reals:
    """Replicas, unrounded, that a multiple asks for."""
    uncertain = multiple * spread
    whole = np.minimum(np.float32(0.29) * np.abs(multiple), np.float32(0.5))
    return np.asarray(forecast - np.float32(0.5) + np.copysign(np.sqrt(uncertain * uncertain + whole * whole), multiple))


def band_of(forecast: Singles) -> Singles:
    """Bands ``[hold, n]`` in replicas; small workloads get a part of them."""
    return np.asarray(np.array(BANDS, np.float32)[:, None] * np.minimum(np.float32(1.0), forecast * np.float32(0.1)))


def replayed(state: ForecastState, past: Past, beat_s: float) -> Changes:
    """Let one beat of the past happen to all candidates; where ``past`` is unknown (NaN) nothing does."""
    able = ~np.isnan(past.forecast) & ~np.isnan(past.demand)
    forecast, demand = np.where(able, past.forecast, 0), np.where(able, past.demand, 0)
    spreads = np.where(able, np.stack([past.slow, past.now]), 0)[:, None]
    wanted = needed_of(forecast, spreads, MULTIPLES[:, None])
    needed = np.maximum(np.ceil(wanted), np.float32(1.0))[:, None]
    kept = np.ceil(wanted[:, None] + band_of(forecast)[:, None])

    before = state.level
    enough = needed < before
    waited = np.where(enough, state.waited + np.float32(1.0), np.float32(0.0))
    peak = np.where(enough, np.maximum(state.peak, kept), np.float32(0.0))
    holds = np.array([hold / beat_s for hold in HOLDS_S], np.float32)[:, None, None]
    over = waited >= holds
    level = np.where(enough, np.where(over, np.minimum(before, np.maximum(peak, needed)), before), needed)
    waited[over] = 0.0
    peak[over] = 0.0

    late, backlog = _served(state, level, demand)
    keep = np.float32(1.0 - beat_s / _MEMORY_S)
    given_back = np.maximum(before - level, np.float32(0.0))
    changed = level != before
    cost = level + given_back * np.float32(_TERMINATION_S / beat_s) + changed * np.float32(_CHANGE_S / beat_s)
    tables = {"level": level, "peak": peak, "waited": waited, "backlog": backlog}
    tables |= {"late": state.late * keep + late, "cost": state.cost * keep + cost}
    if not able.all():
        tables = {name: np.where(able, table, getattr(state, name)) for name, table in tables.items()}
    volume = np.where(able, state.volume * float(keep) + demand, state.volume)
    return {**tables, "volume": volume}


def _served(state: ForecastState, level: Singles, demand: Singles) -> tuple[Singles, Singles]:
    """What is late, and what waits afterwards. One cohort is enough: whatever waits was late, and is dropped after its patience."""
    work = state.backlog + demand
    width = np.maximum(_WIDTH_MIN, _ROUGH_WIDTH * roughness(state)).astype(np.float32) * demand
    beyond = work - level
    inside = np.clip(beyond + width, 0, 2 * width)
    late = inside * inside / (4 * width + np.float32(1e-12)) + np.maximum(beyond - width, 0)
    backlog = np.clip(work - level * _CAPACITY, 0, np.float32(_PATIENCE_BEATS) * demand)
    return np.minimum(late, demand), backlog


def roughness(state: ForecastState) -> Floats:
    """The relative standard deviation of the load within the metric's window, as far as the metric lets it be known.

    Over a window of 4 beats white noise of variance v gives second differences of variance 1.5 v over 4 beats and 0.25 v over one,
    noise of the metric itself the same in both.
    """
    return np.asarray(np.sqrt(np.maximum(state.rough**2 - state.smooth**2, 0.0)))


def chosen(state: ForecastState, risk: Floats, beat_s: float) -> Changes:
    """The cheapest candidate that kept ``risk[n]``, between two multiples if need be.

    Where none did, a late share as large as the risk is worth 4 % of the cost; where some did, breaking it costs 20 %.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        late, cost = _expected(state, beat_s)
        limit = risk.astype(np.float32)
        kept = (late <= limit).any(axis=(0, 1, 2))
        worth = np.where(kept, _KEPT_WORTH, _LOST_WORTH).astype(np.float32) / limit
        at_node = cost + worth * np.maximum(late - limit, 0)
        # Between neighbours lateness falls like an exponential, and cost rises like a straight line.
        share = np.log(late[:, :, :-1] / limit) / np.log(late[:, :, :-1] / np.maximum(late[:, :, 1:], _TINY))
        crossing = (late[:, :, :-1] > limit) & (late[:, :, 1:] <= limit)
        between = np.where(crossing, cost[:, :, :-1] + share * (cost[:, :, 1:] - cost[:, :, :-1]), np.inf)
    n = risk.size
    nodes = MULTIPLES.size
    both = np.concatenate([at_node, between], axis=2).reshape(-1, n)
    best = np.argmin(both, axis=0)
    spread, rest = np.divmod(best, len(HOLDS_S) * (2 * nodes - 1))
    hold, place = np.divmod(rest, 2 * nodes - 1)
    inner = place >= nodes
    low = np.where(inner, place - nodes, place)
    high = np.where(inner, low + 1, low)
    column = np.arange(n)
    part = np.where(inner, share[spread, hold, np.minimum(low, nodes - 2), column], 0.0)
    known = state.volume > 0
    answer = {
        "spread": spread,
        "hold": hold,
        "multiple": MULTIPLES[low] + part * (MULTIPLES[high] - MULTIPLES[low]),
        "chosen_late": np.where(inner, limit, late[spread, hold, low, column]),
        "chosen_cost": cost[spread, hold, low, column] + part * (cost[spread, hold, high, column] - cost[spread, hold, low, column]),
    }
    return {name: np.where(known, value, getattr(state, name)).astype(np.float64) for name, value in answer.items()}


def _expected(state: ForecastState, beat_s: float) -> tuple[Singles, Singles]:
    """The late share and the replicas per demand of each candidate, in the mean of a quarter of an hour of prior and of what was seen."""
    prior = (_PRIOR_S / beat_s * state.usual).astype(np.float32)
    total = np.maximum(state.volume.astype(np.float32) + prior, np.float32(1e-6))
    above = np.maximum(MULTIPLES, 0)[:, None]
    late = (state.late + prior * np.float32(0.05) * np.exp(np.float32(-1.2) * above)) / total
    steps = np.arange(len(HOLDS_S), dtype=np.float32)[:, None, None]
    cost = (state.cost + prior * (1 + np.float32(0.04) * MULTIPLES[:, None] + np.float32(0.01) * steps)) / total
    return late, cost
