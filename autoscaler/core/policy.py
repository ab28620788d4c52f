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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from autoscaler.core.behavior import HPA_BEHAVIOR, Behavior, BehaviorDefaults
from autoscaler.core.columns import array_fields, frozen, full
from autoscaler.core.types import FREE, Bools, Codes, Floats, Ints, Singles

T = TypeVar("T")

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

    ``use`` and ``request`` in the metric's unit (NaN: no sample, no request), ``phase`` a :class:`PodPhase` and ``ready`` a
    :class:`PodReady` code; times in seconds since the epoch, NaN where absent; ``window_s`` of the sample.
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
    value is NaN); ``current, ready, min, max`` in replicas; ``startup_s`` per pod, ``ordered`` where pods start one after the other. In a
    dry run ``current`` and ``status_replicas`` are the shadow count and ``observed`` the real one, else ``observed`` is ``current``.
    ``late`` and ``total``: the workload's requests per second that were too late, and all (None: nobody has an objective).
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
    metric_type: Codes | None = None
    observed: Floats | None = None
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

    ``behavior``: its guards where the file names none. ``season``, ``objective``, ``pods``: optional parts of the view that it needs.
    ``saturation``: where the load is saturated, more is proposed beside it. ``warm_s``: it is stepped over that much history before it
    starts. ``checkpoint``: fields of its state that are saved. ``forgets_s``: what is longer ago has no influence, nor has what time it
    is, but for what ``carried(earlier, start, end, elapsed_s)`` brings along, if it has that method: the state after so many seconds
    that began with ``earlier``, where the same seconds led from ``start`` to ``end``. It lets a backtest run parts of the time at once.
    """

    behavior: BehaviorDefaults = HPA_BEHAVIOR
    season: bool = False
    objective: bool = False
    pods: bool = False
    saturation: bool = True
    warm_s: float = 0.0
    checkpoint: tuple[str, ...] = ()
    forgets_s: float = inf


def traits_of(policy: Policy) -> Traits:
    """The policy's declarations, or the defaults."""
    traits = getattr(policy, "traits", Traits())
    if not isinstance(traits, Traits):
        message = f"{type(policy).__name__}.traits: expected autoscaler.core.policy.Traits, got {type(traits).__name__}"
        raise TypeError(message)
    return traits


def guards_of(policy: Policy, params: Parameters, behavior: Behavior) -> Behavior:
    """The guards of one workload: as given, unless the policy's own parameters change them (``guards(params, behavior)``)."""
    method = getattr(policy, "guards", None)
    changed: Behavior = behavior if method is None else method(params, behavior)
    return changed


def history_s(policy: Policy, params: Parameters) -> float:
    """How many seconds of demand the policy looks back on (``history_s(params)``, if it has that method; else only this tick)."""
    method = getattr(policy, "history_s", None)
    return float(method(params)) if method is not None else 0.0


@dataclass(frozen=True, slots=True)
class Combined:
    """One count per workload ``[w]``: the largest proposal, NaN where there is none, and the largest expectation.

    Of its series ``asked``, so many ``failed`` (proposed nothing), were ``missing`` (had no data at this tick) and ``faulted`` (their
    policy did).
    """

    replicas: Floats
    expected: Floats
    asked: Ints
    failed: Ints
    missing: Ints
    faulted: Ints


class Proposed(NamedTuple):
    """What came of one call: ``fault`` says what was wrong (empty: nothing), ``faulty[n]`` for which series."""

    state: State
    proposal: Proposal
    fault: str
    faulty: Bools


def walled(policy: Policy, action: Callable[[], T]) -> tuple[T | None, str]:
    """Let a policy act behind a wall: what it raises becomes a sentence, never an exception."""
    try:
        return action(), ""
    except Exception as error:  # noqa: BLE001 - a user's policy may raise anything
        return None, f"policy {type(policy).__name__}: {type(error).__name__}: {error}"


def abstention(n: int) -> Proposal:
    """No proposal for any of ``n`` series."""
    return Proposal(frozen(full(n, np.nan)))


def initial(policy: Policy, params: Parameters, n: int) -> State:
    """The policy's blank state of ``n`` series, read-only. Raises what ``init`` raises, and TypeError or ValueError if it is no state."""
    state = policy.init(params, n)
    wrong = [f"{name} has shape {array.shape}" for name, array in array_fields(state).items() if array.shape[-1:] != (n,)]
    if wrong:
        message = f"init returned a state whose {wrong[0]}, expected the series, here {n}, on the last axis"
        raise ValueError(message)
    return _kept(state)


def propose(policy: Policy, view: View, params: Parameters, state: State) -> Proposed:
    """Call a policy behind a wall: what it raises, or returns wrong, is an abstention and a fault, and its state stays as it was."""
    used = view.workload != FREE
    answer, fault = walled(policy, lambda: _answer(policy, view, params, state))
    if answer is None:
        return Proposed(state, abstention(used.size), fault, used)
    new_state, proposal = answer
    nonsense = (proposal.replicas < 0) | np.isinf(proposal.replicas)
    faulty = nonsense & used
    if nonsense.any():
        proposal = replace(proposal, replicas=frozen(np.where(nonsense, np.nan, proposal.replicas)))
    if faulty.any():
        fault = f"policy {type(policy).__name__}: {int(faulty.sum())} of {int(used.sum())} proposals are negative or infinite"
    return Proposed(new_state, proposal, fault, faulty)


def _answer(policy: Policy, view: View, params: Parameters, state: State) -> tuple[State, Proposal]:
    """What the policy returned, checked, as read-only numbers. Raises TypeError or ValueError."""
    with np.errstate(all="ignore"):  # what is not known is NaN, and arithmetic with it is no news
        answer: object = policy(view, params, state)
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Proposal):  # noqa: PLR2004 - a pair
        message = f"returned {_shape_of(answer)}, expected (state, autoscaler.core.policy.Proposal)"
        raise TypeError(message)
    new_state, proposal = answer
    n = view.workload.size
    replicas = _column("replicas", proposal.replicas, n)
    expected = None if proposal.expected is None else _column("expected", proposal.expected, n)
    notes = {name: _column(f"notes[{name!r}]", column, n) for name, column in proposal.notes.items()}
    return _taken_in(state, new_state, view.demand), Proposal(replicas, expected, notes)


def _shape_of(answer: object) -> str:
    if isinstance(answer, tuple):
        return f"({', '.join(type(item).__name__ for item in answer)})"
    return type(answer).__name__


def _column(name: str, values: object, n: int) -> Floats:
    """One value for each series, as a read-only array of its own."""
    array = np.asarray(values)
    if array.shape != (n,):
        message = f"{name} has shape {array.shape}, expected ({n},), one value for each series"
        raise ValueError(message)
    if array.dtype.kind not in "fiub":
        message = f"{name} has dtype {array.dtype}, expected numbers"
        raise TypeError(message)
    return frozen(array.astype(np.float64))


def _taken_in(before: State, after: State, demand: Singles) -> State:
    """The new state, checked against the old one and read-only. Raises TypeError or ValueError."""
    if type(after) is not type(before):
        message = f"returned a state of type {type(after).__name__}, expected {type(before).__name__}"
        raise TypeError(message)
    if after is before:
        return after
    old, new = array_fields(before), array_fields(after)
    for name in old.keys() - new.keys():
        message = f"state.{name} was {_described(old[name])} and became {_described(None)}"
        raise ValueError(message)
    borrowed = {}
    for name, array in new.items():
        was = old.get(name)
        if array is was:
            continue
        if was is None or array.shape != was.shape or array.dtype != was.dtype:
            message = f"state.{name} was {_described(was)} and became {_described(array)}"
            raise ValueError(message)
        # History writes over its rows in time: a state must not change with them.
        if array.base is not None and np.may_share_memory(array, demand):
            borrowed[name] = frozen(array.copy())
        else:
            frozen(array)
    return replace(after, **borrowed) if borrowed else after


def _described(array: np.ndarray | None) -> str:
    return "no array" if array is None else f"{array.dtype}{list(array.shape)}"


def _kept(state: State) -> State:
    """The state, read-only from now on: the same state must give the same decision again."""
    for array in array_fields(state).values():
        frozen(array)
    return state


def combine(
    owners: Sequence[Ints], proposals: Sequence[Proposal], slots: int, missing: Sequence[Bools], faulty: Sequence[Bools]
) -> Combined:
    """Reduce series to workloads: the largest proposal wins, one that failed never lowers.

    ``owners[c][n]`` is the workload slot of each series of call ``c``, ``missing`` and ``faulty[c][n]`` what is known of it; the result
    has ``slots`` columns.
    """
    replicas, expected = full(slots, np.nan), full(slots, np.nan)
    asked, failed, gaps, faults = (np.zeros(slots, np.int64) for _ in range(4))
    for owner, proposal, gap, fault in zip(owners, proposals, missing, faulty, strict=True):
        used = owner != FREE
        slot, wanted = owner[used], proposal.replicas[used]
        np.fmax.at(replicas, slot, wanted)
        if proposal.expected is not None:
            np.fmax.at(expected, slot, proposal.expected[used])
        asked += np.bincount(slot, minlength=slots)
        failed += np.bincount(slot[np.isnan(wanted)], minlength=slots)
        gaps += np.bincount(owner[used & gap], minlength=slots)
        faults += np.bincount(owner[used & fault], minlength=slots)
    return Combined(frozen(replicas), frozen(expected), frozen(asked), frozen(failed), frozen(gaps), frozen(faults))
