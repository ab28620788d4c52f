"""Knative's pod autoscaler (KPA), by knative/serving, pkg/autoscaler/scaling/autoscaler.go.

::

    R = max(1, ready);  stable = mean of 60 s, panic = mean of 6 s, both / (total x utilisation)
    each within floor(R / 2) … ceil(1000 R)
    panic while ceil(panic) / R >= 2, and until 60 s have passed below: the highest of both so far, never down
    else ceil(stable)

What is not here: zero, activator and burst capacity, whose requests wait instead of being late; and the tick of 2 s, for which the newest
row of the signal stands in as the panic window. Give it a signal of one step and it sees more than the others do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autoscaler.core.behavior import NO_BEHAVIOR
from autoscaler.core.policy import Proposal, Traits, View, param
from autoscaler.core.types import Floats

_STABLE_S, _PANIC, _UP, _DOWN = 60.0, 2.0, 1000.0, 2.0


@dataclass(frozen=True)
class KnativeParams:
    """The one thing that people set."""

    utilisation: Floats = param(0.7, gt=0, le=1, doc="share of what a pod can do that it should carry")


@dataclass(frozen=True)
class KnativeState:
    """``until_s``: when panic ends (-inf: none); ``most``: the highest count of this panic."""

    until_s: Floats
    most: Floats


class Knative:
    """The KPA in columns; demand is load / what a pod can do."""

    Params = KnativeParams
    traits = Traits(behavior=NO_BEHAVIOR)

    def history_s(self, params: KnativeParams) -> float:  # noqa: ARG002 - the contract's signature
        """The stable window."""
        return _STABLE_S

    def init(self, params: KnativeParams, n: int) -> KnativeState:  # noqa: ARG002 - the contract's signature
        """No panic."""
        return KnativeState(np.full(n, -np.inf), np.zeros(n))

    def __call__(self, view: View, params: KnativeParams, state: KnativeState) -> tuple[KnativeState, Proposal]:
        """One tick."""
        rows = max(1, round(_STABLE_S / view.interval_s))
        recent = view.demand[-rows:].astype(np.float64) / params.utilisation
        known = ~np.isnan(recent)
        stable = np.where(known, recent, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        raw = np.ceil(recent[-1])
        ready = np.fmax(view.ready, 1.0)
        low, high = np.floor(ready / _DOWN), np.ceil(ready * _UP)
        calm, now = np.clip(np.ceil(stable), low, high), np.clip(raw, low, high)
        begins = raw / ready >= _PANIC
        until = np.where(begins, view.at_s + _STABLE_S, state.until_s)
        panics = view.at_s < until
        most = np.where(panics, np.maximum(state.most, np.maximum(calm, now)), 0.0)
        silent = np.isnan(recent[-1])
        after = replace(state, until_s=np.where(silent, state.until_s, until), most=np.where(silent, state.most, most))
        return after, Proposal(np.where(silent, np.nan, np.where(panics, most, calm)))
