"""A policy that keeps every property, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any, TypeAlias

import numpy as np

from autoscaler.core.policy import NoState, Parameters, Proposal, State, Traits, View, param
from autoscaler.core.types import Floats

Answer: TypeAlias = Any
"""Whatever a policy returns, right or wrong."""


@dataclass(frozen=True)
class Factor:
    factor: Floats = param(1.0, gt=0, le=4, doc="replicas for each replica of demand")


@dataclass(frozen=True)
class Mean:
    count: Floats
    mean: Floats


def demand_of(view: View) -> Floats:
    demand: Floats = view.demand[-1].astype(np.float64)
    return demand


class Good:
    """Half of the last mean and half of this demand, times a factor."""

    Params: type[Any] = Factor
    traits = Traits(checkpoint=("count", "mean"))

    def init(self, params: Parameters, n: int) -> State:  # noqa: ARG002 - the contract's signature
        return Mean(np.zeros(n), np.full(n, np.nan))

    def __call__(self, view: View, params: Parameters, state: State) -> Answer:
        demand = demand_of(view)
        mean = np.where(np.isnan(state.mean), demand, 0.5 * state.mean + 0.5 * demand)
        mean = np.where(np.isnan(demand), state.mean, mean)
        replicas = np.where(np.isnan(demand), np.nan, mean * params.factor)
        return Mean(state.count + 1, mean), Proposal(replicas, expected=mean, notes={"mean": mean})


def spoilt(**attributes: object) -> type[Good]:
    """The policy with other attributes."""
    return type("Spoilt", (Good,), attributes)


def with_params(default: object, **metadata: object) -> type[Good]:
    """The policy with one parameter, declared by hand; its default and what ``param`` would have kept of it."""
    params = make_dataclass("Params", [("factor", Any, field(default=default, metadata=metadata))], frozen=True)
    return spoilt(Params=params)


def starting(init: Callable[[Parameters, int], State]) -> type[Good]:
    """The policy with another first state."""
    return spoilt(init=lambda _self, params, n: init(params, n))


def following(state_of: Callable[[State], State]) -> type[Good]:
    """The policy with another next state, made of the last one."""
    return spoilt(__call__=lambda _self, view, _params, state: (state_of(state), Proposal(demand_of(view))))


def answering(call: Callable[[View, State], Answer]) -> type[Good]:
    """A policy without state or parameters that returns that."""
    return spoilt(
        traits=Traits(),
        init=lambda _self, _params, _n: NoState(),
        __call__=lambda _self, view, _params, state: call(view, state),
    )


def proposing(replicas: Callable[[View, Parameters], Answer], **attributes: object) -> type[Good]:
    """A policy without state that proposes that."""
    return spoilt(
        traits=Traits(),
        init=lambda _self, _params, _n: NoState(),
        __call__=lambda _self, view, params, state: (state, Proposal(replicas(view, params))),
        **attributes,
    )


@dataclass
class Mutable:
    count: Floats


@dataclass(frozen=True)
class Text:
    names: tuple[str, ...] = ("a",)


def raising(view: View, _: Parameters) -> Answer:
    meanings: Mapping[str, int] = {}
    return demand_of(view) * meanings["life"]


def writing_demand(view: View, _: Parameters) -> Answer:
    view.demand[np.isnan(view.demand)] = 0
    return demand_of(view)


def writing_by_force(view: View, _: Parameters) -> Answer:
    view.current.setflags(write=True)
    view.current[:] = 1
    return demand_of(view)


def counted_in_place(state: State) -> State:
    state.count[:] += 1
    return state


def needing_two(view: View, _: Parameters) -> Answer:
    _first, _second, *_others = demand_of(view)
    return demand_of(view)


def spoilt_by_unknown(view: View, _: Parameters) -> Answer:
    lost = view.demand.shape[0] > 1 and np.isnan(view.demand).all(axis=0).any()
    return demand_of(view) * (np.nan if lost and view.workload.size > 2 else 1.0)


def failing_for_free(view: View, _: Parameters) -> Answer:
    if view.workload.min(initial=0) < 0:
        raise LookupError("who is this?")
    return demand_of(view)


class Remembers(proposing(lambda view, _: demand_of(view))):  # type: ignore[misc] # noqa: N801, RUF100
    """Keeps the highest demand of all in itself."""

    def __init__(self) -> None:
        self.peak = 0.0

    def __call__(self, view: View, params: Parameters, state: State) -> Answer:  # noqa: ARG002 - the contract's signature
        demand = demand_of(view)
        self.peak = max(self.peak, float(np.nanmax(demand, initial=0)))
        return state, Proposal(np.where(np.isnan(demand), np.nan, np.maximum(demand, self.peak / 2)))


class StartsTogether(Good):
    """Takes the first call's demand as the mean of all, and gives newcomers one that began at zero."""

    def init(self, params: Parameters, n: int) -> State:  # noqa: ARG002 - the contract's signature
        return Mean(np.zeros(n), np.zeros(n))

    def __call__(self, view: View, params: Parameters, state: State) -> Answer:  # noqa: ARG002 - the contract's signature
        demand = np.where(np.isnan(demand_of(view)), state.mean, demand_of(view))
        mean = 0.5 * state.mean + 0.5 * demand if state.count.any() else demand
        return Mean(state.count + 1, mean), Proposal(np.where(np.isnan(demand_of(view)), np.nan, mean))
