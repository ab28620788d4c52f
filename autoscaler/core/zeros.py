"""Whether a load of exactly zero is believed: a metric that loses its series often reads as zero, and zero asks for no replica at all.

A demand that falls to exactly 0 from above two replicas must be seen at three ticks before it counts. Ticks without data neither count
nor begin anew; any other demand ends the doubt. A series whose demand is not known yet is taken to come from the current count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoscaler.core.columns import frozen, full, widened
from autoscaler.core.types import Bools, Floats, Ints, Singles

DOUBTED_ABOVE = 2.0
"""Replicas from which a fall to zero is doubted."""

BELIEVED_TICKS = 3


@dataclass(frozen=True, slots=True)
class Belief:
    """By series ``[n]``: the last demand that was believed (NaN: none yet), and at how many ticks zero has been seen since."""

    demand: Floats
    zeros: Ints


def no_belief(n: int) -> Belief:
    """Of series that nothing is known of."""
    return Belief(frozen(full(n, np.nan)), frozen(np.zeros(n, np.int64)))


def resized(belief: Belief, n: int, new: Ints) -> Belief:
    """The belief with ``n`` columns, of which ``new`` have users that nothing is known of."""
    demand, zeros = widened(belief.demand, n, np.nan).copy(), widened(belief.zeros, n, 0).copy()
    demand[new], zeros[new] = np.nan, 0
    return Belief(frozen(demand), frozen(zeros))


def doubted(belief: Belief, demand: Floats, current: Floats) -> tuple[Belief, Bools]:
    """What is believed after a tick's ``demand[n]``, and where it is a zero that is not believed yet; ``current[n]`` replicas."""
    zero = demand == 0
    if not zero.any() and not belief.zeros.any():
        return Belief(np.where(np.isnan(demand), belief.demand, demand), belief.zeros), zero
    before = np.where(np.isnan(belief.demand), current, belief.demand)
    zeros = np.where(np.isnan(demand), belief.zeros, np.where(zero, np.minimum(belief.zeros + 1, BELIEVED_TICKS), 0))
    sudden = zero & (before > DOUBTED_ABOVE) & (zeros < BELIEVED_TICKS)
    return Belief(frozen(np.where(np.isnan(demand) | sudden, belief.demand, demand)), frozen(zeros)), sudden


def without_sudden(demand: Singles) -> Singles:
    """Recorded demand ``[row, k]``, oldest first, with NaN where a tick would have doubted its zero."""
    if not (demand == 0).any():
        return demand
    kept, belief = demand.copy(), no_belief(demand.shape[1])
    unknown = full(demand.shape[1], np.nan)
    for row in kept:
        belief, sudden = doubted(belief, row.astype(np.float64), unknown)
        row[sudden] = np.nan
    return frozen(kept)
