"""React, after the reactive scaler of Chieu et al. (2009) as the OpenDC prototype has it, with its intent instead of its slip.

Once the load fills all replicas there shall be two spare ones; more than two spare ones are given back, but for two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoscaler.core.behavior import NO_BEHAVIOR
from autoscaler.core.policy import NoState, Proposal, Traits, View, param
from autoscaler.core.types import Floats


@dataclass(frozen=True)
class ReactiveParams:
    """The spare ones."""

    spare: Floats = param(2.0, ge=0, doc="replicas to keep free")


class Reactive:
    """``demand + spare`` where demand has reached the count, or leaves more than ``spare`` free; else the count."""

    Params = ReactiveParams
    traits = Traits(behavior=NO_BEHAVIOR)

    def init(self, params: ReactiveParams, n: int) -> NoState:  # noqa: ARG002 - the contract's signature
        """Nothing is remembered."""
        return NoState()

    def __call__(self, view: View, params: ReactiveParams, state: NoState) -> tuple[NoState, Proposal]:
        """One tick."""
        demand = view.demand[-1].astype(np.float64)
        moves = (demand >= view.current) | (view.current - demand > params.spare)
        wanted = np.where(moves, np.ceil(demand) + params.spare, view.current)
        return state, Proposal(np.where(np.isnan(demand), np.nan, wanted))
