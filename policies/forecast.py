"""The highest demand until a replica asked for now would serve, plus the headroom that the forecast's own past asks for. No tuning.

::

    lead      = startup + metricLag                          for an ordered workload startup x the replicas usually added
    forecast  = what demand will reach within the lead       :mod:`policies.forecasting.predict`
    by clock  what demand reached within the lead an hour ago: where that foretells more, it counts instead of the forecast
    headroom  = sign(c) sqrt((c spread)^2 + …) - 1/2          spread: how wrong forecasts usually are, or are at this moment
    needed    = ceil(forecast + headroom)
    replicas  = needed at once upwards; once less has been enough for a whole hold: down to the most that was needed

c, the spread, the hold and what the headroom is added to are those of 56 candidates that, replayed over the last week, would have cost
least with no more than four fifths of ``risk`` of the requests late (:mod:`policies.forecasting.replay`). Demand is load ÷ what one replica
carries within its objective: all headroom is added here, none belongs into the target. What the file's ``objective`` tells of late requests
corrects the replays (:mod:`policies.forecasting.lateness`): a target that is too high, or load that is rougher than its metric.

Cold, with outcomes known of less than two hours of forecasts: demand / 0.8, and down after 300 s. Saturated, so that the true demand
is hidden: a fifth more than the highest demand of the last week, between 2 and 32 times the ready replicas, looked at anew each lead until
the saturation is over; nothing is learnt of it. Without data at this tick it proposes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from autoscaler.core.behavior import NO_BEHAVIOR
from autoscaler.core.columns import full, revised
from autoscaler.core.policy import Proposal, Traits, View, param
from autoscaler.core.startup import UNKNOWN_S
from autoscaler.core.types import FREE, Floats, Ints, Singles
from policies.forecasting.lateness import late_share, noticed
from policies.forecasting.predict import HISTORY_BEATS, Lesson, Outlook, learnt, observed, outlook
from policies.forecasting.replay import Past, band_of, came_of, chosen, needed_of, outlook_of, replayed, with_sums_of
from policies.forecasting.state import (
    CHECKPOINT,
    HOUR,
    PLAIN,
    RING,
    RINGS,
    SETTINGS,
    Changes,
    ForecastState,
    aged,
    back,
    blank,
    ticks_per_beat,
)

_HISTORY_S = 4500.0
_HOUR_S = 3600.0
_COLD_S = 7200.0
_COLD_SHARE = 0.8
_COLD_HOLD_S = 300.0
_FLOOD_MIN, _FLOOD_MAX = 2.0, 32.0
_FLOOD_HIGHEST = 1.2
_CHOOSE_S = 60.0
_DAY_S = 86400.0
_ORDERED_MAX = 4.0
"""An ordered workload's replicas start one after the other; more than so many at a time are not planned for."""

_CUT_OFF_BEATS = 4
"""A metric over a minute shows a saturation for so long after it."""

_HALF_WINDOW_S = 30.0
"""A metric over a minute shows all of a jump so long after it has shown half."""

_WHOLE = 1e-6

_SPREAD = np.array([setting.spread for setting in SETTINGS])
_HOLD_S = np.array([setting.hold_s for setting in SETTINGS])
_BAND = np.array([setting.band for setting in SETTINGS])


@dataclass(frozen=True)
class ForecastParams:
    """What may be late, and how old the metric is."""

    risk: Floats = param(0.002, gt=0, lt=0.5, doc="the share of requests that may be late")
    metric_lag_s: Floats = param(45.0, ge=0, doc="how far the metric lags behind the load: half its window and its age")


class Forecast:
    """``ceil(forecast + headroom)`` upwards at once, downwards once less has been enough for a while.

    Example:
        Nothing is known of the past yet, so a fifth of the replicas is spare; and without data there is no proposal:

        >>> from autoscaler.testing import columns_of, view_of
        >>> policy, params = Forecast(), columns_of([ForecastParams()] * 2)
        >>> state, proposal = policy(view_of(demand=[[8.0, np.nan]], current=[9.0, 9.0]), params, policy.init(params, 2))
        >>> proposal.replicas.tolist(), proposal.notes["cold"].tolist()
        ([10.0, nan], [1.0, 1.0])
    """

    Params = ForecastParams
    breaks = frozenset({"monotone"})  # a load that grew more slowly than it used to foretells less than one that did not grow
    traits = Traits(behavior=NO_BEHAVIOR, warm_s=3 * 3600.0, checkpoint=CHECKPOINT, objective=True, forgets_s=_DAY_S)

    def history_s(self, params: ForecastParams) -> float:  # noqa: ARG002 - the contract's signature
        """An hour and a quarter: twice the longest lead before the same time an hour ago."""
        return _HISTORY_S

    def init(self, params: ForecastParams, n: int) -> ForecastState:  # noqa: ARG002 - the contract's signature
        """Nothing known, nothing chosen."""
        return blank(n)

    def carried(self, earlier: ForecastState, start: ForecastState, end: ForecastState, elapsed_s: float) -> ForecastState:
        """``end`` had it begun with ``earlier``: a day teaches anew what predicts, but not what a week of replay has summed up."""
        beats = max(1.0, float((end.beat - start.beat).max(initial=1.0)))
        return revised(end, with_sums_of(earlier, start, end, elapsed_s / beats))

    def __call__(self, view: View, params: ForecastParams, state: ForecastState) -> tuple[ForecastState, Proposal]:
        """One tick. Notes: see :func:`_notes`."""
        every = ticks_per_beat(view.interval_s)
        beat_s = every * view.interval_s
        beats = view.demand[::-every]
        newest = _known(beats[:HISTORY_BEATS])
        lead = _lead(view, params, state, beat_s, beats.shape[0])
        number = round(view.at_s / view.interval_s) // every
        passed = int(number - state.beat.max(initial=-1.0))
        calm = np.where(view.saturated, 0.0, state.calm + max(passed, 0))
        rings = {name: aged(getattr(state, name), passed) for name in RINGS} if passed > 0 else {}
        if rings:
            changes = {"calm": calm, "beat": full(lead.size, number), **observed(state, newest, beat_s)}
            changes |= noticed(state, newest[0], view.ready, view.late, view.total, beat_s)
            state = revised(state, changes)
            state = revised(state, _tried(state, newest, beats, lead, rings, beat_s))
            if number % max(1, round(_CHOOSE_S / beat_s)) == 0:
                state = revised(state, chosen(state, params.risk, beat_s))
        else:
            state = revised(state, {"calm": calm})
        ahead = outlook(state, newest, _an_hour_ago(beats, lead, beat_s).astype(np.float64))
        state, proposal = _answer(view, state, ahead, np.asarray(lead * beat_s, dtype=np.float64))
        for name, column in zip(RINGS, (ahead.forecast, ahead.slow, ahead.now, state.error, proposal.replicas), strict=True):
            if rings:
                rings[name][-1] = column
        return revised(state, rings), proposal


def _known(beats: Singles) -> Floats:
    """``beats`` in double precision, and 13 of them: NaN for those before the first."""
    missing = HISTORY_BEATS - beats.shape[0]
    rows = beats.astype(np.float64)
    return np.pad(rows, ((0, missing), (0, 0)), constant_values=np.nan) if missing > 0 else rows


def _lead(view: View, params: ForecastParams, state: ForecastState, beat_s: float, beats: int) -> Ints:
    """The lead in beats ``[n]``, no longer than what is remembered of the past."""
    startup = np.where(np.isfinite(view.startup_s), view.startup_s, UNKNOWN_S)
    added = np.where(view.ordered, np.clip(np.ceil(state.error_slow), 1.0, _ORDERED_MAX), 1.0) if view.ordered.any() else 1.0
    lead = np.ceil((startup * added + params.metric_lag_s) / beat_s - 1e-9)
    used = view.workload != FREE
    if used.any():  # equal leads are cheap: columns that nobody uses must not spoil that
        lead = np.where(used, lead, lead[used].min())
    return np.asarray(np.clip(lead, 1, max(1, min(RING - 2, beats - HISTORY_BEATS - 1))), dtype=np.int64)


def _tried(state: ForecastState, newest: Floats, beats: Singles, lead: Ints, rings: Mapping[str, Singles], beat_s: float) -> Changes:
    """What there is to learn at a beat: the forecast of a lead ago has an outcome, and the candidates of that time too."""
    longest = int(lead.max(initial=1))
    if beats.shape[0] < longest + 2:
        return {}
    same = longest if lead.min(initial=longest) == longest else None
    peak = back(np.maximum.accumulate(_evened(beats, longest), axis=0), lead, same, -2).astype(np.float64)
    forecasts, errors, slow, now, asks = (rings[name][::-1] for name in ("forecasts", "errors", "spreads_slow", "spreads_now", "asks"))
    lesson = Lesson(
        beats=_since(beats, lead, same),
        error=back(errors, lead, same).astype(np.float64),
        forecast=back(forecasts, lead, same).astype(np.float64),
        peak=np.where(state.calm > lead + _CUT_OFF_BEATS, peak, np.nan),
    )
    past = Past(
        demand=back(beats, lead, same, 1),
        forecast=back(forecasts, lead, same, 1),
        slow=back(slow, lead, same, 1),
        now=back(now, lead, same, 1),
        hour=_an_hour_ago(beats, lead, beat_s, lead + 1),
        came=came_of(state, newest),
    )
    judged = _judged(state, lesson, back(asks, lead, same, 1), past.came, beat_s)
    return {**judged, **learnt(state, lesson, beat_s), **replayed(state, past, beat_s)}


def _an_hour_ago(beats: Singles, lead: Ints, beat_s: float, ago: Ints | int = 0) -> Singles:
    """The highest demand within the lead (and half the metric's window) of an hour before the beat ``ago[n]``; NaN: not known."""
    begin, more = round(_HOUR_S / beat_s) + ago, ceil(_HALF_WINDOW_S / beat_s)
    count = int(lead.max(initial=1)) + more + 1
    if lead.min(initial=count) + more + 1 == count:
        oldest = int(np.max(begin, initial=0))
        return np.asarray(np.fmax.reduce(beats[max(0, oldest - count + 1) : oldest + 1], axis=0, initial=np.float32(np.nan)))
    rows = np.arange(count)[:, None]
    places = begin - rows
    there = (rows <= lead + more) & (places >= 0) & (places < beats.shape[0])
    found = np.take_along_axis(beats, np.clip(places, 0, beats.shape[0] - 1), axis=0)
    return np.asarray(np.fmax.reduce(np.where(there, found, np.float32(np.nan)), axis=0, initial=np.float32(np.nan)))


def _evened(beats: Singles, count: int) -> Singles:
    """The newest ``count`` beats, each as the mean of itself and its neighbours: a peak of noise in the metric is no demand."""
    newer = np.concatenate([beats[:1], beats[: count - 1]])
    older = beats[1 : count + 1]
    evened = (newer + beats[:count] + older) / np.float32(3.0)
    evened[0] = (beats[0] + beats[1]) * np.float32(0.5)
    return evened


def _since(beats: Singles, lead: Ints, same: int | None) -> Floats:
    """The beats up to ``lead[n]`` ago (``same``: of all, if it is), newest first."""
    if same is not None:
        return _known(beats[same : same + HISTORY_BEATS])
    rows = np.minimum(lead + np.arange(HISTORY_BEATS)[:, None], beats.shape[0] - 1)
    return np.take_along_axis(beats, rows, axis=0).astype(np.float64)


def _judged(state: ForecastState, lesson: Lesson, asked: Singles, came: Singles, beat_s: float) -> Changes:
    """Keep account of how well forecasts do, over a day; a hit: what was asked for a lead ago could carry what ``came``."""
    miss = lesson.peak - lesson.forecast
    able = ~np.isnan(miss) & ~np.isnan(came) & ~np.isnan(asked)
    keep = np.where(able, 1.0 - beat_s / _DAY_S, 1.0)
    return {
        "bias": state.bias * keep + np.where(able, -miss, 0.0),
        "hits": state.hits * keep + (able & (came <= asked)),
        "judged": state.judged * keep + able,
        "judged_volume": state.judged_volume * keep + np.where(able, lesson.peak, 0.0),
    }


def _answer(view: View, state: ForecastState, ahead: Outlook, lead_s: Floats) -> tuple[ForecastState, Proposal]:
    """What is asked for at this tick, and what that consists of."""
    known = ~np.isnan(ahead.demand)
    cold = state.scored_s < _COLD_S
    setting = state.setting.astype(np.int64)
    expected, spread = outlook_of(_SPREAD[setting], *ahead)
    wanted = np.where(cold, ahead.demand / _COLD_SHARE, needed_of(expected, spread, state.multiple))
    hold_s = np.where(cold, _COLD_HOLD_S, _HOLD_S[setting])
    least = np.where((view.min == 0) & (ahead.demand == 0), 0.0, 1.0)
    needed = np.maximum(np.ceil(wanted - _WHOLE), least)
    kept = np.maximum(needed, np.where(cold, needed, np.ceil(wanted + band_of(_BAND[setting], ahead.forecast) - _WHOLE)))
    flood, flood_until_s = _flooded(view, state, lead_s)

    before = np.where(np.isnan(state.asked), np.where(np.isnan(view.current), needed, view.current), state.asked)
    enough = needed < before
    since_s = np.where(enough, np.where(np.isnan(state.asked_since_s), view.at_s, state.asked_since_s), np.nan)
    peak = np.where(enough, np.maximum(state.asked_peak, kept), 0.0)
    over = view.at_s - since_s + view.interval_s >= hold_s - _WHOLE
    asked = np.where(enough, np.where(over, np.minimum(before, peak), before), needed)
    changes: Changes = {
        "asked": np.where(known, asked, state.asked),
        "asked_peak": np.where(known & ~over, peak, 0.0),
        "asked_since_s": np.where(known & ~over, since_s, np.nan),
        "flood": flood,
        "flood_until_s": flood_until_s,
    }
    state = revised(state, changes)
    notes = _notes(state, np.where(cold, np.nan, spread))
    notes |= {"cold": cold.astype(np.float64), "headroom": wanted - ahead.forecast, "hold_s": hold_s, "lead_s": lead_s}
    forecast = np.where(state.scored_s > 0, ahead.forecast, np.nan)
    return state, Proposal(np.where(known, np.maximum(asked, flood), np.nan), expected=forecast, notes=notes)


def _flooded(view: View, state: ForecastState, lead_s: Floats) -> tuple[Floats, Floats]:
    """What is asked for while demand is hidden by saturation, and until when it stays at that."""
    if not view.saturated.any():
        return full(lead_s.size, 0.0), full(lead_s.size, np.nan)
    ready = np.where(np.isnan(view.ready), view.current, view.ready)
    again = view.saturated & ~(view.at_s < state.flood_until_s)
    guess = np.clip(_FLOOD_HIGHEST * state.highest, _FLOOD_MIN * ready, _FLOOD_MAX * ready)
    flood = np.where(view.saturated, np.where(again, np.fmax(state.flood, guess), state.flood), 0.0)
    until_s = np.where(view.saturated, np.where(again, view.at_s + lead_s, state.flood_until_s), np.nan)
    return np.ceil(np.nan_to_num(flood)), until_s


def _notes(state: ForecastState, spread: Floats) -> dict[str, Floats]:
    """Columns for explain and the page.

    ``spread`` and ``multiple`` make the headroom, on top of demand itself where ``plain`` is 1, and of what came an hour ago where
    ``by_clock`` is 1 and that was more than the forecast; ``replay_late_share`` and ``replay_cost`` (replicas per demand) are what these
    settings would have come to; ``objective_late_share``: what was late, where an objective tells.
    ``accuracy_*`` are of the last day: bias (mean of forecast - outcome, as a share of demand) and hit rate (demand within what had been
    asked for in time); ``flood``: replicas asked for because saturation hides demand.
    """
    kind = _SPREAD[state.setting.astype(np.int64)]
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = state.bias / state.judged_volume
        hit_rate = state.hits / state.judged
    return {
        "spread": spread,
        "multiple": state.multiple,
        "plain": (kind == PLAIN).astype(np.float64),
        "by_clock": (kind == HOUR).astype(np.float64),
        "replay_late_share": state.chosen_late,
        "replay_cost": state.chosen_cost,
        "objective_late_share": late_share(state),
        "accuracy_bias": np.where(state.judged_volume > 0, bias, np.nan),
        "accuracy_hit_rate": np.where(state.judged > 0, hit_rate, np.nan),
        "scored_s": state.scored_s,
        "flood": state.flood,
    }
