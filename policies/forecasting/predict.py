"""How the forecast policy predicts: the highest demand until a replica asked for now would serve, and how wrong that usually is.

::

    y_k      demand k beats ago; N = max(y, 0.3 usual)
    target   M = max(means of three y over the lead), known a lead later
    features 4 (y_0 - y_1), y_0 - y_4, (y_0 - y_12) / 3, y_0 - mean(y_0 … y_11), error, max(0, 4 (y_0 - y_1) - 3.75 max(error, N / 100))
    forecast clip(y_0 + weights . features, 0, 4 y_0 + 4 usual)
    weights  recursive least squares of (M - y_0) / N on features / N, forgetting with a memory of 12 h
    spreads  slow: mean |M - forecast| of 6 h
             now:  half the mean of 3 minutes + a quarter of N x the mean of |M - forecast| / N of 6 h + |y_0 - y_4| / 4

A rate over a minute moves by a quarter of what the last 15 s brought: hence the factor 4. Where demand is noise the regression learns
to look at the means; where it is a ramp, at the slopes. Nothing is learnt from a lead in which demand was saturated or unknown.
Recursive least squares as in Ljung, "System Identification", "Recursive Estimation Methods".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from autoscaler.core.types import Bools, Floats, Singles
from policies.forecasting.state import SWING_BEATS, Changes, ForecastState

_FAR = 12
"""The oldest beat that a feature looks at."""

HISTORY_BEATS = _FAR + 1

_MEMORY_S = 12 * 3600.0
_SLOW_S = 6 * 3600.0
_HIGHEST_S = 7 * 86400.0
_INVERSE_MAX = 1e4
_FIRST_BEATS = 14
"""Forecasts before this beat are not learnt from: their features had no past."""


class Outlook(NamedTuple):
    """Demand ``[n]`` and a forecast as of this tick, its two spreads, and what an ``hour`` ago came within the lead (NaN: not known)."""

    demand: Floats
    forecast: Floats
    slow: Floats
    now: Floats
    hour: Floats


def scale_of(demand: Floats, usual: Floats) -> Floats:
    """What errors are relative to: demand, but not much less than usual."""
    return np.maximum(np.maximum(demand, 0.3 * usual), 0.01)


def features_of(beats: Floats, error: Floats, usual: Floats) -> Floats:
    """The features ``[feature, n]`` of ``beats[k, n]``, newest first; what reaches back before the first beat counts as no change."""
    now = beats[0]
    past = np.where(np.isnan(beats), now, beats)
    jump = 4.0 * (now - past[1])
    surprise = jump - 3.75 * np.maximum(error, 0.01 * scale_of(now, usual))
    return np.stack([jump, now - past[4], (now - past[_FAR]) / 3.0, now - past[:_FAR].mean(axis=0), error, np.maximum(surprise, 0.0)])


def outlook(state: ForecastState, beats: Floats, hour: Floats) -> Outlook:
    """The forecast from ``beats[k, n]``, newest first; NaN where the newest is."""
    now = beats[0]
    features = features_of(beats, state.error, state.usual)
    expected = now + np.einsum("fn,fn->n", state.weights, features)
    forecast = np.clip(expected, 0.0, 4.0 * (now + state.usual))
    least = 0.002 * scale_of(now, state.usual)
    moved = np.abs(features[1])
    spread_now = 0.5 * state.error + 0.25 * state.error_share * scale_of(now, state.usual) + 0.25 * moved
    return Outlook(now, forecast, np.maximum(state.error_slow, least), np.maximum(spread_now, least), hour)


def observed(state: ForecastState, beats: Floats, beat_s: float) -> Changes:
    """Take in one beat's demand: what is usual, the highest, and how rough it is within a window."""
    now = beats[0]
    known = ~np.isnan(now)
    seen = state.seen + known
    usual = state.usual + np.where(known, now - state.usual, 0.0) / np.clip(seen, 1.0, 86400.0 / beat_s)
    scale = scale_of(now, usual)
    rate = 1.0 / np.clip(seen, 20.0, _SLOW_S / beat_s)
    rough = np.abs(now - 2.0 * beats[2] + beats[4]) / scale
    smooth = np.abs(now - 2.0 * beats[1] + beats[2]) / scale
    both = ~np.isnan(rough) & ~np.isnan(smooth)
    swing = np.abs(0.5 * (now + beats[1]) - beats[:SWING_BEATS].mean(axis=0)) / scale
    swung = np.where(np.isnan(swing), 0.0, swing - state.swing)
    highest = np.fmax(state.highest * (1.0 - beat_s / _HIGHEST_S), now)
    return {
        "seen": seen,
        "usual": usual,
        "highest": highest,
        "rough": state.rough + np.where(both, rough - state.rough, 0.0) * rate,
        "smooth": state.smooth + np.where(both, smooth - state.smooth, 0.0) * rate,
        "swing": state.swing + swung * rate,
    }


class Lesson(NamedTuple):
    """A forecast whose outcome is known ``[n]``; NaN in ``forecast`` or ``peak``: there is nothing to learn.

    ``beats[k, n]`` demand up to when it was made, newest first; ``error`` of that time; ``peak`` is what came of it.
    """

    beats: Floats
    error: Floats
    forecast: Floats
    peak: Floats


def learnt(state: ForecastState, lesson: Lesson, beat_s: float) -> Changes:
    """Learn from a forecast whose outcome is known."""
    scale = scale_of(lesson.beats[0], state.usual)
    miss = lesson.peak - lesson.forecast
    able = ~np.isnan(miss) & (state.seen >= _FIRST_BEATS)
    miss = np.where(able, miss, 0.0)
    size = np.abs(miss)
    rate = 1.0 / np.clip(state.scored_s / beat_s, 20.0, _SLOW_S / beat_s)
    rate_slow = 1.0 / np.clip(state.scored_s / beat_s, 1.0, _SLOW_S / beat_s)
    weights, inverse = _regressed(state, lesson, able, beat_s)
    return {
        "scored_s": state.scored_s + np.where(able, beat_s, 0.0),
        "error": state.error + np.where(able, size - state.error, 0.0) / 12.0,
        "error_slow": state.error_slow + np.where(able, size - state.error_slow, 0.0) * rate_slow,
        "error_share": state.error_share + np.where(able, size / scale - state.error_share, 0.0) * rate,
        "weights": weights,
        "inverse": inverse,
    }


def _regressed(state: ForecastState, lesson: Lesson, able: Bools, beat_s: float) -> tuple[Singles, Floats]:
    """One step of recursive least squares, where ``able``."""
    now, peak = lesson.beats[0], lesson.peak
    scale = scale_of(now, state.usual)
    features = features_of(lesson.beats, lesson.error, state.usual) / scale
    able = able & np.isfinite(features).all(axis=0)
    features = np.where(able, features, 0.0)
    target = np.where(able, (peak - now) / scale, 0.0)
    keep = 1.0 - beat_s / _MEMORY_S
    spread = np.einsum("fgn,gn->fn", state.inverse, features)
    gain = spread / (keep + np.einsum("fn,fn->n", features, spread))
    weights = state.weights + gain * (target - np.einsum("fn,fn->n", state.weights, features))
    inverse = (state.inverse - gain[:, None] * spread[None]) / np.where(able, keep, 1.0)
    trace = np.einsum("ffn->n", inverse)
    inverse *= np.minimum(1.0, _INVERSE_MAX / np.maximum(trace, 1.0))
    return np.where(able, weights, state.weights).astype(np.float32), inverse
