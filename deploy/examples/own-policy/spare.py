"""Spare replicas for a rush, beyond what the load of the last minutes asked for at most.

::

    peak     = highest demand of the window
    replicas = peak + max(replicas, share x peak)
"""

# ruff: noqa: INP001 - found by `--policy-path`, not in a package

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autoscaler.core.policy import NoState, Proposal, View, param
from autoscaler.core.types import Floats


@dataclass(frozen=True)
class SpareParams:
    """How many spare replicas."""

    replicas: Floats = param(1, ge=0, doc="spare replicas, at the least")
    share: Floats = param(0.1, ge=0, le=10, doc="spare replicas for each replica that the load asks for")
    window_s: Floats = param(300.0, gt=0, le=3600, doc="how far back the highest demand is looked for")


class Spare:
    """The class that the policy file names: ``spare:Spare``."""

    Params = SpareParams

    def check(self, params: SpareParams) -> Iterable[str]:
        """What is wrong between the parameters of one workload."""
        if params.replicas == 0 and params.share == 0:
            yield "replicas and share are both 0: nothing is spare; give one of them"

    def history_s(self, params: SpareParams) -> float:
        """How far back it looks."""
        return float(params.window_s)

    def init(self, params: SpareParams, n: int) -> NoState:  # noqa: ARG002 - the contract's signature
        """It remembers nothing: the window is in the view."""
        return NoState()

    def __call__(self, view: View, params: SpareParams, state: NoState) -> tuple[NoState, Proposal]:
        """One tick. Without any data in the window it abstains."""
        rows = np.arange(view.demand.shape[0])[::-1, np.newaxis]
        inside = rows * view.interval_s < params.window_s
        peak = np.fmax.reduce(np.where(inside, view.demand, np.nan), axis=0).astype(np.float64)
        return state, Proposal(peak + np.maximum(params.replicas, params.share * peak), notes={"peak": peak})
