"""How late requests really are at which load per replica, where an objective tells: replays are judged by that and not by the plant alone.

::

    u        demand ÷ ready replicas, of a minute in which the replicas stayed the same
    l(u)     (late requests + prior) ÷ (all requests + prior), weighted by demand, over a week, made monotone
    prior    ten minutes of the usual demand, as late as the plant has it (:mod:`policies.forecasting.replay`)

A target that is too high, load that is rougher within a minute than the metric shows, a dependency that slows down: all show up in l.
"""

from __future__ import annotations

import numpy as np

from autoscaler.core.types import Floats, Singles
from policies.forecasting.state import LOADS, Changes, ForecastState

_MEMORY_S = 7 * 86400.0
_PRIOR_BEATS = np.float32(40.0)
_STEADY_BEATS = 5.0
"""A minute's mean that is a beat old is of replicas that stayed the same for so long."""

_FIRST = float(LOADS[0])
_STEP = float(LOADS[1] - LOADS[0])


def noticed(state: ForecastState, demand: Floats, ready: Floats, late: Floats | None, total: Floats | None, beat_s: float) -> Changes:
    """Take in one beat: ``late`` and ``total`` requests a second (NaN or None: not known), at ``demand`` over ``ready`` replicas ``[n]``.

    What saturated replicas show is not learnt: their demand is hidden.
    """
    steady = np.where(ready == state.ready, state.steady + 1.0, 0.0)
    changes: Changes = {"ready": ready, "steady": steady}
    if late is None or total is None:
        return changes
    able = (total > 0) & (late >= 0) & (ready > 0) & (demand >= 0) & (steady >= _STEADY_BEATS) & (state.calm >= _STEADY_BEATS)
    if not able.any():
        return changes
    column = np.flatnonzero(able)
    place = np.rint((demand[column] / ready[column] - _FIRST) / _STEP).clip(0, LOADS.size - 1).astype(np.int64)
    keep = np.where(able, np.float32(1.0 - beat_s / _MEMORY_S), np.float32(1.0))
    lates, totals = state.load_late * keep, state.load_total * keep
    lates[place, column] += demand[column] * np.minimum(late[column] / total[column], 1.0)
    totals[place, column] += demand[column]
    return changes | {"load_late": lates, "load_total": totals}


def late_share(state: ForecastState) -> Floats:
    """The share of requests that were late, as the objective has it, over about a week ``[n]``; NaN: no objective."""
    late, total = (table.sum(axis=0, dtype=np.float64) for table in (state.load_late, state.load_total))
    share: Floats = np.divide(late, total, out=np.full(total.size, np.nan), where=total > 0)
    return share


def corrected(state: ForecastState, prior: Singles, load: Singles, late: Singles, demand: Singles) -> Singles:
    """``late[…, n]`` at ``load[…, n]`` (demand ÷ replicas) as the objective has it, where there is one.

    ``prior[load, n]``: the share that the plant takes to be late at each of ``LOADS``.
    """
    column = np.flatnonzero(state.load_total.any(axis=0))
    if not column.size:
        return late
    weight = _PRIOR_BEATS * state.usual[column].astype(np.float32) + np.float32(1e-9)
    share = (state.load_late[:, column] + weight * prior[:, column]) / (state.load_total[:, column] + weight)
    share = np.maximum.accumulate(share, axis=0)
    place = np.clip((load[..., column] - np.float32(_FIRST)) / np.float32(_STEP), 0, LOADS.size - 1).reshape(-1, column.size)
    low = np.minimum(place.astype(np.int64), LOADS.size - 2)
    part = place - low
    found = np.take_along_axis(share, low, axis=0) * (1 - part) + np.take_along_axis(share, low + 1, axis=0) * part
    late = late.copy()
    late[..., column] = found.reshape(load[..., column].shape) * demand[column]
    return late
