"""How the forecast policy tunes itself: it replays candidates over its own recent past and takes the cheapest that kept the risk.

A candidate is what is expected with its spread, a multiple c of that, and how slowly replicas are given back (hold and band)::

    needed   ceil(forecast - 1/2 + sign(c) sqrt((c spread)^2 + min(0.29 |c|, 1/2)^2)), at least 1
    level    rises to needed at once; once less has been enough for a whole hold, falls to ceil(the most that was needed + band)

The first line is a newsvendor's: the last replica is worth its price while the mean chance that demand reaches into it exceeds some
theta, so what counts is the upper quantile of (demand - U), U uniform on 0 … 1; the root joins its two limits, demand much more and much
less certain than one replica. A replay adds for each beat what was late, and what the replicas cost::

    late     max(0, demand + backlog - level) averaged over demand +- width, at most demand; backlog drains at capacity = level / knee;
             where the workload has an objective, what that says of such a load (:mod:`policies.forecasting.lateness`)
    width    sqrt(3) x the deviation of the load within the metric's window, at least 1.5 % (:func:`deviation`)
    cost     level + twice what was given back (30 s of termination) + 10 for a change, to keep calm

The forecasts replayed are those made at the time. What a replica asked for then served is judged by the demand a lead later, which is
when it could serve: all levels are late by the lead, so that no queue of starting replicas is needed. Both sums forget in a week.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.plant import Plant
from autoscaler.core.types import Floats, Ints, Singles
from policies.forecasting.lateness import corrected
from policies.forecasting.state import HOUR, LOADS, MULTIPLES, NOW, PLAIN, SETTINGS, SWING_BEATS, Changes, ForecastState

_MEMORY_S = 7 * 86400.0
_TERMINATION_S = 30.0
_CHANGE_S = 150.0
_PRIOR_S = 900.0
_WIDTH_MIN = 0.015
_AIM = 0.8
"""A replay is of one past, and the best of many replays looks better than it is: aim at so much of the risk."""

_PLAIN_SHARE = np.float32(0.15)
"""With the largest multiple, 2.95 times demand: an HPA at a target of 0.29."""

_NORMAL = 1.25
"""The standard deviation of a normal variable ÷ its mean absolute value."""

_SPREAD = np.array([setting.spread for setting in SETTINGS])
_HOLD_S = np.array([setting.hold_s for setting in SETTINGS], np.float32)[:, None, None]
_BAND = np.array([setting.band for setting in SETTINGS], np.float32)[:, None]
_PATIENCE_BEATS = 4.0
_AIM_WORTH, _RISK_WORTH, _LOST_WORTH = 0.8, 2.0, 0.04
_FALL_MAX = np.float32(4.0)
_STEPS = np.diff(MULTIPLES)[:, None]
_TINY = 1e-7

_CAPACITY = np.float32(1.0 / Plant().knee)
"""What a replica can do, where 1 is what it should: demand is relative to that."""


Reals: TypeAlias = NDArray[np.floating[Any]]
"""Single or double precision."""


class Past(NamedTuple):
    """What is replayed in one beat ``[n]``: what an :class:`Outlook` had as of then, and the demand that ``came`` of it."""

    demand: Singles
    forecast: Singles
    slow: Singles
    now: Singles
    hour: Singles
    came: Singles


def needed_of(forecast: Reals, spread: Reals, multiple: Reals) -> Reals:
    """Replicas, unrounded, that a multiple asks for."""
    uncertain = multiple * spread
    whole = np.minimum(np.float32(0.29) * np.abs(multiple), np.float32(0.5))
    return np.asarray(forecast - np.float32(0.5) + np.copysign(np.sqrt(uncertain * uncertain + whole * whole), multiple))


def outlooks_of(demand: Reals, forecast: Reals, slow: Reals, now: Reals, hour: Reals) -> tuple[Reals, Reals]:
    """What is expected and its spread ``[spread, n]``, in the order of :attr:`Setting.spread`."""
    return np.stack([forecast, forecast, demand, np.fmax(forecast, hour)]), np.stack([slow, now, _PLAIN_SHARE * demand, slow])


def outlook_of(kind: Ints, demand: Reals, forecast: Reals, slow: Reals, now: Reals, hour: Reals) -> tuple[Reals, Reals]:
    """What is expected and its spread ``[n]``, for one kind of spread each."""
    expected = np.where(kind == PLAIN, demand, np.where(kind == HOUR, np.fmax(forecast, hour), forecast))
    return expected, np.where(kind == PLAIN, _PLAIN_SHARE * demand, np.where(kind == NOW, now, slow))


def band_of(band: Reals, forecast: Reals) -> Reals:
    """A band in replicas; small workloads get a part of it."""
    return np.asarray(band * np.minimum(np.float32(1.0), forecast * np.float32(0.1)))


def replayed(state: ForecastState, past: Past, beat_s: float) -> Changes:
    """Let one beat of the past happen to all candidates; where ``past`` is unknown (NaN) nothing does."""
    able = ~(np.isnan(past.forecast) | np.isnan(past.demand) | np.isnan(past.came))
    all_able = bool(able.all())
    demand, forecast, slow, now, hour, came = past if all_able else (np.where(able, column, np.float32(0)) for column in past)
    expected, spreads = outlooks_of(demand, forecast, slow, now, hour)
    wanted = needed_of(expected[:, None], spreads[:, None], MULTIPLES[:, None])[_SPREAD]
    needed = np.maximum(np.ceil(wanted), np.float32(1.0))
    kept = np.ceil(wanted + band_of(_BAND, expected[0])[:, None])

    before = state.level
    enough = needed < before
    waited = np.where(enough, state.waited + np.float32(1.0), np.float32(0.0))
    peak = np.where(enough, np.maximum(state.peak, kept), np.float32(0.0))
    over = waited >= _HOLD_S / np.float32(beat_s)
    level = np.where(enough, np.where(over, np.minimum(before, np.maximum(peak, needed)), before), needed)
    np.copyto(waited, np.float32(0.0), where=over)
    np.copyto(peak, np.float32(0.0), where=over)

    late, backlog = _served(state, level, came)
    keep = np.float32(1.0 - beat_s / _MEMORY_S)
    given_back = np.maximum(before - level, np.float32(0.0))
    changed = level != before
    cost = level + given_back * np.float32(_TERMINATION_S / beat_s) + changed * np.float32(_CHANGE_S / beat_s)
    tables = {"level": level, "peak": peak, "waited": waited, "backlog": backlog}
    tables |= {"late": state.late * keep + late, "cost": state.cost * keep + cost}
    if not all_able:
        tables = {name: np.where(able, table, getattr(state, name)) for name, table in tables.items()}
    return {**tables, "replayed": np.where(able, state.replayed * float(keep) + came, state.replayed)}


def with_sums_of(earlier: ForecastState, start: ForecastState, end: ForecastState, beat_s: float) -> Changes:
    """What was summed up until ``end``, had the stretch from ``start`` on begun with the sums of ``earlier``.

    All forget at one rate whatever they are: what differs at the start differs at the end by what is left of it after so many beats.
    """
    left = (1.0 - beat_s / _MEMORY_S) ** (end.beat - start.beat)
    changes: Changes = {}
    for name in ("late", "cost", "replayed", "load_late", "load_total"):
        before, then, now = (getattr(state, name) for state in (earlier, start, end))
        changes[name] = (now + left * (before - then)).astype(now.dtype)
    changes["highest"] = np.maximum(end.highest, earlier.highest * left)
    changes["seen"] = end.seen + (earlier.seen - start.seen)
    changes["scored_s"] = end.scored_s + (earlier.scored_s - start.scored_s)
    return changes


def _served(state: ForecastState, level: Singles, demand: Singles) -> tuple[Singles, Singles]:
    """What is late, and what waits afterwards: :func:`autoscaler.core.plant.serve` with one cohort, for speed.

    Whatever waits was late, and is dropped after its patience; only where demand falls by a third or more right after it has multiplied is
    it dropped too soon.
    """
    work = state.backlog + demand
    width = np.maximum(_WIDTH_MIN, np.sqrt(3.0) * deviation(state)).astype(np.float32)
    late = np.minimum(_above(work - level, width * demand), demand)
    if state.load_total.any():
        loads = LOADS[:, None]
        prior = np.asarray(_above(loads - np.float32(1.0), width * loads) / loads)
        late = corrected(state, prior, np.asarray(work / np.maximum(level, np.float32(1.0)), np.float32), late, demand)
    backlog = np.clip(work - level * _CAPACITY, 0, np.float32(_PATIENCE_BEATS) * demand)
    return late, backlog


def _above(beyond: Singles, width: Singles) -> Singles:
    """The mean of what is above 0 of all between ``beyond - width`` and ``beyond + width``."""
    inside = np.clip(beyond + width, 0, 2 * width)
    late: Singles = inside * inside / (4 * width + np.float32(1e-12)) + np.maximum(beyond - width, 0)
    return late


def came_of(state: ForecastState, beats: Floats) -> Singles:
    """What demand came to, from ``beats[k, n]``, newest first: the mean of the newest two, as far as it is not the metric's noise.

    What noise of variance m adds to (mean of two beats - mean of five) has variance m (1/2 - 1/5). So much of these swings is taken out;
    else a noisy metric makes every candidate look late, and headroom dear for nothing.
    """
    recent, level = 0.5 * (beats[0] + beats[1]), beats[:SWING_BEATS].mean(axis=0)
    noise = (0.5 - 1.0 / SWING_BEATS) * variances(state)[1]
    keep = np.sqrt(np.clip(1.0 - noise / np.maximum((_NORMAL * state.swing) ** 2, _TINY**2), 0.0, 1.0))
    return np.asarray(np.where(np.isnan(level), recent, level + keep * (recent - level)), dtype=np.float32)


def deviation(state: ForecastState) -> Floats:
    """The relative standard deviation of the load within the metric's window, less twice the metric's noise, which widens demand too."""
    load, metric = variances(state)
    return np.asarray(np.sqrt(np.maximum(load - 2.0 * metric, 0.0)))


def variances(state: ForecastState) -> tuple[Floats, Floats]:
    """The relative variances of the load within the metric's window, and of the metric's own noise, as far as they can be told apart.

    Over a window of 4 beats, white load noise of variance v gives second differences of variance v / 4 over one beat and v / 2 over
    two; noise m of the metric itself gives 6 m in both. What neighbouring beats have in common makes the first smaller, curves of the
    load the second larger: so the smaller estimate counts.
    """
    one, two = (_NORMAL * state.smooth) ** 2, (_NORMAL * state.rough) ** 2
    load = np.minimum(4.0 * one, 4.0 * np.maximum(two - one, 0.0))
    metric = np.maximum(one - load / 4.0, 0.0) / 6.0
    return load, metric


def chosen(state: ForecastState, risk: Floats, beat_s: float) -> Changes:
    """The cheapest candidate that kept four fifths of ``risk[n]``, between two multiples if need be.

    A late share as large as the risk is worth 4 % of the cost where no candidate kept the risk. Where one did, it is worth 80 % beyond
    the aim, and 280 % beyond the risk.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        late, cost = _expected(state, beat_s)
        most = risk.astype(np.float32)
        aim = np.float32(_AIM) * most
        kept = (late <= most).any(axis=(0, 1))
        beyond = np.where(kept, _AIM_WORTH, _LOST_WORTH) * np.maximum(late - aim, 0) + kept * _RISK_WORTH * np.maximum(late - most, 0)
        at_node = cost + beyond / most
        share = _share(late, aim)
        crossing = (late[:, :-1] > aim) & (late[:, 1:] <= aim)
        between = np.where(crossing, cost[:, :-1] + share * (cost[:, 1:] - cost[:, :-1]), np.inf)
    column = np.arange(risk.size)
    nodes = MULTIPLES.size
    both = np.concatenate([at_node, between], axis=1).reshape(-1, risk.size)
    setting, place = np.divmod(np.argmin(both, axis=0), 2 * nodes - 1)
    inner = place >= nodes
    low = np.where(inner, place - nodes, place)
    high = np.where(inner, low + 1, low)
    part = np.where(inner, share[setting, np.minimum(low, nodes - 2), column], 0.0)
    answer = {
        "setting": setting,
        "multiple": MULTIPLES[low] + part * (MULTIPLES[high] - MULTIPLES[low]),
        "chosen_late": np.where(inner & (part < 1.0), aim, late[setting, high, column]),
        "chosen_cost": cost[setting, low, column] + part * (cost[setting, high, column] - cost[setting, low, column]),
    }
    known = state.replayed > 0
    return {name: np.where(known, value, getattr(state, name)).astype(np.float64) for name, value in answer.items()}


def _share(late: Singles, aim: Singles) -> Singles:
    """How far from one multiple to the next ``[setting, multiple - 1, n]`` so much is late, where the first is later and the second is not.

    Between neighbours lateness falls like an exponential, and cost rises like a straight line. Where it falls off at once (all load at one
    level, or a jump that is either carried or not), nothing between the two can be told: it is taken to fall by no more than four times
    what it fell by from the multiple before.
    """
    logs = np.log(np.maximum(late, _TINY))
    fall = logs[:, :-1] - logs[:, 1:]
    before = np.zeros_like(fall)
    before[:, 1:] = fall[:, :-1] * (_STEPS[1:] / _STEPS[:-1])
    return np.asarray(np.minimum((logs[:, :-1] - np.log(aim)) / np.minimum(fall, _FALL_MAX * before), np.float32(1.0)))


def _expected(state: ForecastState, beat_s: float) -> tuple[Singles, Singles]:
    """The late share and the replicas per demand of each candidate, in the mean of a quarter of an hour of prior and of what was seen."""
    prior = (_PRIOR_S / beat_s * state.usual).astype(np.float32)
    total = np.maximum(state.replayed.astype(np.float32) + prior, np.float32(1e-6))
    above = np.maximum(MULTIPLES, 0)[:, None]
    late = (state.late + prior * np.float32(0.05) * np.exp(np.float32(-1.2) * above)) / total
    cost = (state.cost + prior * (1 + np.float32(0.04) * MULTIPLES[:, None])) / total
    return late, cost
