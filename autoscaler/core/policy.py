"""What a scaling policy is, what it sees, and how the proposals of a workload's series become one.

A policy is any object with ``Params``, ``init`` and ``__call__`` as in :class:`Policy`; it needs no base class. It works on columns:
one call gets all series of a group that share the policy (and the values of its text and bool parameters).

Example:
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Params:
    ...     factor: Floats = param(1.0, ge=0, doc="replicas for each replica of demand")
    >>> class Proportional:
    ...     Params = Params
    ...     def init(self, params, n):
    ...         return NoState()
    ...     def __call__(self, view, params, state):
    ...         return state, Proposal(params.factor * view.demand[-1])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from autoscaler.core.behavior import HPA_BEHAVIOR, BehaviorDefaults
from autoscaler.core.columns import array_fields, full
from autoscaler.core.types import FREE, Bools, Codes, Floats, Ints, Singles

Parameters: TypeAlias = Any
"""A policy's parameters: an instance of its ``Params``; with numbers in columns where a policy is called, scalar in a spec."""

State: TypeAlias = Any
"""A policy's own state: a frozen dataclass of arrays with the series on their last axis."""


@dataclass(frozen=True)
class NoState:
    """For policies that remember nothing."""


def param(  # noqa: PLR0913 - a declaration: one keyword for each thing a schema can say
    default: float | bool | str,  # noqa: FBT001 - the value itself, not a switch
    *,
    doc: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[str] = (),
) -> Any:  # noqa: ANN401 - what `dataclasses.field` returns has the type of the field that it is assigned to
    """Declare one parameter of a policy: its default, its meaning and its bounds.

    In a policy file the name is camelCase; a name that ends in ``_s`` is a duration there and loses the ending (``window_s`` is
    ``window: 5m``). A float default makes a number, an int a whole number, a bool or text those; numbers reach the policy as one
    column per series.
    """
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    metadata = {"doc": doc, "choices": tuple(choices), **{name: value for name, value in bounds.items() if value is not None}}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods behind resource and per-pod metrics, flat: the pods of series ``i`` are ``[offsets[i]:offsets[i + 1]]``.

    ``use`` and ``request`` in the metric's unit (NaN: no sample, no request), ``phase`` 0 pending, 1 running, 2 failed, 3 deleted,
    ``ready`` the Ready condition (-1: none); times in seconds since the epoch, NaN where absent; ``window_s`` of the sample.
    """

    offsets: Ints
    use: Floats
    request: Floats
    phase: Codes
    ready: Codes
    started_s: Floats
    ready_changed_s: Floats
    sampled_s: Floats
    window_s: Floats


@dataclass(frozen=True, slots=True)
class View:
    """What a policy sees at one tick: the series of one call, read-only. NaN is "no data", never zero.

    ``demand[tick, n]`` is oldest first and ends with this tick; ``workload[n]`` is a slot number (-1: nobody uses the column, every
    value is NaN); ``current, ready, min, max`` in replicas; ``startup_s`` per pod, ``ordered`` where pods start one after the other.
    """

    at_s: float
    interval_s: float
    workload: Ints
    demand: Singles
    saturated: Bools
    age_s: Floats
    current: Floats
    ready: Floats
    startup_s: Floats
    ordered: Bools
    min: Floats
    max: Floats
    season_mean: Singles | None = None
    season_max: Singles | None = None
    late: Floats | None = None
    total: Floats | None = None
    load: Floats | None = None
    target: Floats | None = None
    target_kind: Codes | None = None
    status_replicas: Floats | None = None
    pods: Pods | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a policy wants: ``replicas[n]``, unrounded, NaN where it abstains.

    ``expected[n]`` is the demand that it expects, if it forecasts; ``notes`` are named columns that explain and the page show.
    """

    replicas: Floats
    expected: Floats | None = None
    notes: Mapping[str, Floats] = field(default_factory=dict)


class Policy(Protocol):
    """The contract. ``Params`` is a frozen dataclass whose fields are declared with :func:`param`."""

    Params: type[Any]

    def init(self, params: Parameters, n: int) -> State:
        """The state of ``n`` series that nothing is known of; ``params`` in columns of ``n``."""
        ...

    def __call__(self, view: View, params: Parameters, state: State) -> tuple[State, Proposal]:
        """One tick. Pure: no I/O, no clock (``view.at_s`` is now), no randomness, inputs untouched."""
        ...


@dataclass(frozen=True, slots=True)
class Traits:
    """What a policy may declare about itself in a class attribute ``traits``; what it does not declare is as here.

    ``behavior``: its guards where the file names none. ``season``, ``objective``, ``pods``: optional parts of the view that it
    needs. ``warm_s``: it is stepped over that much history before it starts. ``checkpoint``: fields of its state that are saved.
    """

    behavior: BehaviorDefaults = HPA_BEHAVIOR
    season: bool = False
    objective: bool = False
    pods: bool = False
    warm_s: float = 0.0
    checkpoint: tuple[str, ...] = ()


def traits_of(policy: Policy) -> Traits:
    """The policy's declarations, or the defaults."""
    traits = getattr(policy, "traits", Traits())
    if not isinstance(traits, Traits):
        message = f"{type(policy).__name__}.traits: expected autoscaler.core.policy.Traits, got {type(traits).__name__}"
        raise TypeError(message)
    return traits


def history_s(policy: Policy, params: Parameters) -> float:
    """How many seconds of demand the policy looks back on (``history_s(params)``, if it has that method; else only this tick)."""
    method = getattr(policy, "history_s", None)
    return float(method(params)) if method is not None else 0.0


@dataclass(frozen=True, slots=True)
class Combined:
    """One count per workload: the largest proposal; ``failed``: series that proposed nothing; ``leader``: series that won."""

    replicas: Floats
    expected: Floats
    failed: Ints
    asked: Ints


def propose(policy: Policy, view: View, params: Parameters, state: State) -> tuple[State, Proposal, str]:
    """Call a policy behind a wall: what it raises or returns wrong becomes an abstention and a sentence, never an exception."""
    n = view.workload.size
    try:
        new_state, proposal = policy(view, params, state)
        fault = _fault(new_state, state, proposal, n)
    except Exception as error:  # noqa: BLE001 - the wall: a user's policy may raise anything
        fault, new_state, proposal = f"{type(error).__name__}: {error}", state, Proposal(full(n, np.nan))
    if fault:
        return state, Proposal(full(n, np.nan)), f"policy {type(policy).__name__}: {fault}"
    replicas = np.asarray(proposal.replicas, dtype=np.float64)
    nonsense = (replicas < 0) | np.isinf(replicas)
    if nonsense.any():
        replicas = np.where(nonsense, np.nan, replicas)
        fault = f"policy {type(policy).__name__}: {int(nonsense.sum())} of {n} proposals are negative or infinite"
    return new_state, Proposal(replicas, proposal.expected, proposal.notes), fault


def _fault(new_state: State, state: State, proposal: object, n: int) -> str:
    """What is wrong with a policy's answer for ``n`` series, or an empty text."""
    if not isinstance(proposal, Proposal):
        return f"returned {type(proposal).__name__} where autoscaler.core.policy.Proposal is needed"
    columns = {"replicas": proposal.replicas, **({} if proposal.expected is None else {"expected": proposal.expected}), **proposal.notes}
    for name, column in columns.items():
        array = np.asarray(column)
        if array.shape != (n,):
            return f"{name} has shape {array.shape}, expected ({n},), one value for each series"
        if array.dtype.kind not in "fiub":
            return f"{name} has dtype {array.dtype}, expected numbers"
    if type(new_state) is not type(state):
        return f"returned a state of type {type(new_state).__name__}, expected {type(state).__name__}"
    before, after = array_fields(state), array_fields(new_state)
    wrong = [name for name in before if name not in after or after[name].shape != before[name].shape]
    return f"state.{wrong[0]} changed its shape" if wrong else ""


def combine(owners: Sequence[Ints], proposals: Sequence[Proposal], slots: int) -> Combined:
    """Reduce series to workloads: the largest proposal wins, and the count of series that abstained is kept.

    ``owners[c][n]`` is the workload slot of each series of call ``c``; the result has ``slots`` columns, NaN where nobody proposed.
    """
    replicas, expected = full(slots, np.nan), full(slots, np.nan)
    failed, asked = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    for owner, proposal in zip(owners, proposals, strict=True):
        used = owner != FREE
        slot, wanted = owner[used], proposal.replicas[used]
        np.fmax.at(replicas, slot, wanted)
        if proposal.expected is not None:
            np.fmax.at(expected, slot, np.asarray(proposal.expected, dtype=np.float64)[used])
        failed += np.bincount(slot[np.isnan(wanted)], minlength=slots)
        asked += np.bincount(slot, minlength=slots)
    return Combined(replicas, expected, failed, asked)
