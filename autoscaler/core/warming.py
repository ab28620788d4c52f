"""A policy that declares ``traits.warm_s`` is stepped over that much of the recorded past before it starts, so that it does not start cold.

Nobody has recorded the replicas of then, nor whether a load was cut off: in these steps ``current`` and ``ready`` are NaN, and nothing is
saturated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from autoscaler.core.columns import array_fields, frozen, full, patched, taken
from autoscaler.core.decide import PolicyState, State, policy_state
from autoscaler.core.policy import Policy, View, initial, propose, traits_of, walled
from autoscaler.core.policy import State as PolicyValue
from autoscaler.core.spec import Call
from autoscaler.core.types import Bools, Floats, Ints, Singles


@dataclass(frozen=True, slots=True)
class Walk:
    """What to step a policy over: ``demand[row, k]`` of some series of one call, row 0 at ``first_at_s``.

    ``params`` and all columns have ``k`` series; the first ``rows - 1`` rows are only looked back on.
    """

    policy: Policy
    params: Any
    rows: int
    interval_s: float
    first_at_s: float
    demand: Singles
    startup_s: Floats
    ordered: Bools
    low: Floats
    high: Floats

    @property
    def last_at_s(self) -> float:
        """The time of the last step."""
        steps: int = self.demand.shape[0] - 1
        return self.first_at_s + steps * self.interval_s


@dataclass(frozen=True, slots=True)
class Warmed:
    """The state ``value`` of the series ``serial[k]`` in ``slots[k]`` of one call, after the tick ``at_s``."""

    call: str
    slots: Ints
    serial: Ints
    at_s: float
    value: PolicyValue


def warm_rows(call: Call, interval_s: float) -> int:
    """So many rows its policy is to be stepped over; none where it asks for none, or for more of a view than a past has.

    A past has no objective: that is advice, and who reads one does without.
    """
    traits = traits_of(call.policy)
    bare = not (traits.pods or traits.season)
    return ceil(traits.warm_s / interval_s) if bare else 0


def walked(walk: Walk, state: PolicyValue | None = None) -> tuple[PolicyValue | None, str]:
    """The policy's state after the last row, from ``state`` or blank; or None, and what was wrong with the policy."""
    k = walk.demand.shape[1]
    if state is None:
        state, fault = walled(walk.policy, lambda: initial(walk.policy, walk.params, k))
        if state is None:
            return None, fault
    unknown, calm = frozen(full(k, np.nan)), frozen(np.zeros(k, np.bool_))
    everyone, age_s = frozen(np.arange(k)), frozen(np.zeros(k))
    demand = frozen(walk.demand)
    for row in range(walk.rows - 1, demand.shape[0]):
        view = View(
            at_s=walk.first_at_s + row * walk.interval_s,
            interval_s=walk.interval_s,
            workload=everyone,
            demand=demand[row + 1 - walk.rows : row + 1],
            saturated=calm,
            age_s=age_s,
            current=unknown,
            ready=unknown,
            startup_s=walk.startup_s,
            ordered=walk.ordered,
            min=walk.low,
            max=walk.high,
        )
        answer = propose(walk.policy, view, walk.params, state)
        if answer.fault:
            return None, answer.fault
        state = answer.state
    return state, ""


def present(warmed: Warmed, call: Call) -> Warmed | None:
    """What of it is for series that are still there; None: nothing."""
    here = np.flatnonzero(warmed.slots < call.serial.size)
    here = here[call.serial[warmed.slots[here]] == warmed.serial[here]]
    if not here.size:
        return None
    return replace(warmed, slots=warmed.slots[here], serial=warmed.serial[here], value=taken(warmed.value, here))


def with_warmed(state: State, call: Call, warmed: Warmed) -> State:
    """The state with that of some series, all :func:`present`, put in the place of what their first ticks had made."""
    kept, _ = walled(call.policy, lambda: policy_state(call, state.policies.get(call.key)))
    if kept is None:  # decide meets the same fault, and says it
        return state
    value = patched(kept.value, warmed.slots, array_fields(warmed.value))
    return State(state.guards, {**state.policies, call.key: PolicyState(kept.serial, value)})
