"""Two marks and a dead band between them.

::

    ratio = demand / current              1: exactly at target; with no replicas infinite, if there is any demand
    ratio > high for upFor    ->  up      target:   demand
                                          step:     current + upStep
                                          percent:  current + ceil(current x upPercent / 100), at least one more
    ratio < low for downFor   ->  down    target:   demand
                                          step:     current - downStep
                                          percent:  current - floor(current x downPercent / 100), at least one less
    otherwise                 ->          current

Steps and per cent do not run through the band: up ends at floor(demand / low) at most, though it is always one more; down ends at demand
at least, or at the mark next to it where target is not in the band: demand / min(max(1, low), high). So no move is followed by one the
other way while demand stays as it is, and none turns against the mark that was passed.

The durations count like ``for`` of a Prometheus alert: from the first tick outside the band, and anew after every tick that is inside
it, has no data or was skipped. They go on after a move: while the ratio stays outside, the next tick moves again, and how often that
may be is for ``behavior`` to say.

Inside the band it proposes the current count. That is a proposal: of a workload's metrics the largest wins, so one that is in its
band, or waits for its ``downFor``, keeps the others from scaling down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autoscaler.core.behavior import HPA_BEHAVIOR
from autoscaler.core.columns import frozen, full
from autoscaler.core.policy import Proposal, Traits, View, param
from autoscaler.core.types import Bools, Floats

_EDGE = 1e-6
"""Demand is kept in single precision: a ratio this close to a mark (as a share of it) counts as on the mark, which is in the band."""

_SLACK = 1e-9
"""What the guards leave out when they round a proposal up."""

_MOVES = ("target", "step", "percent")


@dataclass(frozen=True)
class ThresholdParams:
    """The marks, how long they must be passed, and how far one move goes."""

    high: Floats = param(1.1, gt=0, doc="scale up while demand / current replicas is above this")
    low: Floats = param(0.9, ge=0, doc="scale down while demand / current replicas is below this; 0: never")
    up_for_s: Floats = param(0.0, ge=0, doc="how long it must have been above high")
    down_for_s: Floats = param(0.0, ge=0, doc="how long it must have been below low")
    up: str = param("target", choices=_MOVES, doc="how far up: to what demand asks for, by upStep replicas, or by upPercent")
    up_step: Floats = param(1, ge=1, doc="replicas added in one move, with up: step")
    up_percent: Floats = param(50.0, gt=0, doc="per cent of the current count added in one move, with up: percent")
    down: str = param("target", choices=_MOVES, doc="how far down: to what demand asks for, by downStep replicas, or by downPercent")
    down_step: Floats = param(1, ge=1, doc="replicas removed in one move, with down: step")
    down_percent: Floats = param(20.0, gt=0, le=100, doc="per cent of the current count removed in one move, with down: percent")


@dataclass(frozen=True)
class ThresholdState:
    """Since when each series ``[n]`` is above ``high`` or below ``low``, and when it was last called for; seconds, NaN: not."""

    above_s: Floats
    below_s: Floats
    seen_s: Floats


class Threshold:
    """``current`` while ``low <= demand / current <= high``; outside for long enough: to target, by a step, or by per cent.

    Example:
        Nine replicas each; demand is a third above them, the same, a third below:

        >>> from autoscaler.testing import columns_of, view_of
        >>> policy, params = Threshold(), columns_of([ThresholdParams(up="step", up_step=2)] * 3)
        >>> view = view_of(demand=[[12.0, 9.0, 6.0]], current=[9.0, 9.0, 9.0])
        >>> state, proposal = policy(view, params, policy.init(params, 3))
        >>> proposal.replicas.tolist()
        [11.0, 9.0, 6.0]
    """

    Params = ThresholdParams
    traits = Traits(behavior=HPA_BEHAVIOR.with_tolerance(0.0), checkpoint=("above_s", "below_s", "seen_s"), forgets_s=86400.0)

    def check(self, params: ThresholdParams) -> Iterable[str]:
        """What is wrong between the fields of one workload's (scalar) parameters, a sentence each."""
        if params.low >= params.high:
            yield f"low is {params.low:g} and high is {params.high:g}: low must be below high, between them nothing moves"
        elif "target" in {params.up, params.down} and not params.low <= 1 <= params.high:
            name, value, bound = ("low", params.low, "at most") if params.low > 1 else ("high", params.high, "at least")
            yield f"{name} is {value:g}, so target (ratio 1) is not between the marks: make it {bound} 1, or up and down step or percent"

    def init(self, params: ThresholdParams, n: int) -> ThresholdState:  # noqa: ARG002 - the contract's signature
        """Nothing seen yet."""
        nothing = frozen(full(n, np.nan))
        return ThresholdState(nothing, nothing, nothing)

    def __call__(self, view: View, params: ThresholdParams, state: ThresholdState) -> tuple[ThresholdState, Proposal]:
        """One tick; notes: the ratio, and for how many seconds it has been above or below."""
        demand, current = view.demand[-1].astype(np.float64), view.current
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = demand / current
        ratio[(demand <= _SLACK) & (current == 0)] = 0.0
        followed = (state.seen_s < view.at_s) & (view.at_s - state.seen_s < 1.5 * view.interval_s)
        above_s = _since(ratio > params.high * (1 + _EDGE), np.where(followed, state.above_s, np.nan), view.at_s)
        below_s = _since(ratio < params.low * (1 - _EDGE), np.where(followed, state.below_s, np.nan), view.at_s)
        up = view.at_s - above_s >= params.up_for_s - _SLACK
        down = view.at_s - below_s >= params.down_for_s - _SLACK
        replicas = np.where(down, _lower(demand, current, params), current)
        replicas = np.where(up, _higher(demand, current, params), replicas)
        notes = {"ratio": ratio, "above_s": view.at_s - above_s, "below_s": view.at_s - below_s}
        seen_s = full(demand.size, view.at_s)
        proposal = Proposal(np.where(np.isnan(ratio), np.nan, replicas), notes=notes)
        return ThresholdState(frozen(above_s), frozen(below_s), frozen(seen_s)), proposal


def _since(outside: Bools, before_s: Floats, at_s: float) -> Floats:
    """Since when each series has been outside, now included: as before, from now on, or NaN (it is not)."""
    return np.where(outside, np.where(np.isnan(before_s), at_s, before_s), np.nan)


def _higher(demand: Floats, current: Floats, params: ThresholdParams) -> Floats:
    """Where one move up leads ``[n]``."""
    if params.up == "target":
        return np.maximum(demand, current)
    one_more = current + 1
    if params.up == "step":
        reached = current + params.up_step
    else:
        reached = np.maximum(one_more, current + np.ceil(current * params.up_percent / 100 - _SLACK))
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.floor(demand / params.low * (1 + _EDGE / 2))
    return np.maximum(one_more, np.fmin(reached, inside))


def _lower(demand: Floats, current: Floats, params: ThresholdParams) -> Floats:
    """Where one move down leads ``[n]``."""
    if params.down == "target":
        return np.minimum(demand, current)
    if params.down == "step":
        reached = current - params.down_step
    else:
        reached = current - np.maximum(1, np.floor(current * params.down_percent / 100 + _SLACK))
    enough = demand / np.minimum(np.maximum(1, params.low), params.high) * (1 - _EDGE / 2)
    return np.minimum(current, np.maximum(reached, enough))
