"""Runs of a policy over a scenario, through the same wall as in the service, and how two of them differ."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import PurePath
from types import TracebackType
from typing import Any, Self

import numpy as np

from autoscaler.core.columns import array_fields, frozen, taken, widened
from autoscaler.core.policy import Parameters, Policy, Proposal, State, View, initial, propose
from autoscaler.core.types import Bools, Floats, Ints
from autoscaler.testing.policies.scenarios import Scenario, joined
from autoscaler.testing.policies.views import columns_of

_RELATIVE, _ABSOLUTE = 1e-6, 1e-9


class Recorder:
    """Passes calls on to a policy and keeps what came of them, before the core makes it fit."""

    def __init__(self, policy: Policy) -> None:
        self.Params = policy.Params
        self.policy = policy
        self.answer: Any = None
        self.raised_at = ""

    def init(self, params: Parameters, n: int) -> State:
        """The policy's."""
        return self.policy.init(params, n)

    def __call__(self, view: View, params: Parameters, state: State) -> tuple[State, Proposal]:
        """The policy's."""
        with self:
            self.answer = self.policy(view, params, state)
        answer: tuple[State, Proposal] = self.answer
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        code = getattr(type(self.policy).__call__, "__code__", None)
        own = [frame for frame in traceback.extract_tb(trace) if code is not None and frame.filename == code.co_filename]
        if own:
            self.raised_at = f" ({PurePath(own[-1].filename).name}, line {own[-1].lineno})"


@dataclass(frozen=True)
class Run:
    """``replicas[tick, n]`` as the core takes them, what the policy really answered at each tick, and its first fault, if any.

    A proposal of less than nothing is no fault here: it is an answer, if a wrong one. ``state`` is what was left at the end.
    """

    replicas: Floats
    answers: tuple[Any, ...]
    fault: str
    state: State

    def proposals(self) -> Iterator[Proposal]:
        """The answers' proposals."""
        return (answer[1] for answer in self.answers)


def run(policy: Policy, scenario: Scenario, params: Parameters, state: State = None, ticks: range | None = None) -> Run:
    """Call the policy tick by tick, from a state of its ``init`` unless one is given."""
    state = initial(policy, params, scenario.n) if state is None else state
    replicas, answers, fault = [], [], ""
    for tick in range(scenario.ticks) if ticks is None else ticks:
        state, proposal, answer, wrong = step(policy, scenario.view(tick), params, state)
        replicas.append(proposal.replicas)
        answers.append(answer)
        fault = fault or (wrong and f"at tick {tick}: {wrong}")
    return Run(np.array(replicas), tuple(answers), fault, state)


def step(policy: Policy, view: View, params: Parameters, state: State) -> tuple[State, Proposal, Any, str]:
    """One call: the state and proposal that the core takes, the real answer, and the fault."""
    recorder = Recorder(policy)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a division by zero that ends as NaN is an abstention, not a mistake
        proposed = propose(recorder, view, params, state)
    nonsense = proposed.fault and _is_nonsense(recorder.answer, view.workload.size)
    fault = "" if nonsense else proposed.fault.removeprefix("policy Recorder: ") + recorder.raised_at
    return proposed.state, proposed.proposal, recorder.answer, fault


def _is_nonsense(answer: Any, n: int) -> bool:  # noqa: ANN401 - whatever a policy returned
    """Whether the core's only objection can be to negative or infinite numbers."""
    if not (isinstance(answer, tuple) and answer and isinstance(answer[-1], Proposal)):
        return False
    replicas = np.asarray(answer[-1].replicas)
    return replicas.shape == (n,) and replicas.dtype.kind in "fiub" and bool(((replicas < 0) | np.isinf(replicas)).any())


@dataclass(frozen=True)
class Case:
    """A policy, parameters for each series, and a scenario."""

    policy: Policy
    rows: tuple[Parameters, ...]
    scenario: Scenario
    seed: int

    @cached_property
    def params(self) -> Parameters:
        """The parameters in columns."""
        return columns_of(self.rows)

    @cached_property
    def base(self) -> Run:
        """The plain run that all others are held against."""
        return run(self.policy, self.scenario, self.params)

    def place(self, tick: int, series: int) -> str:
        """Where something was found."""
        default, params = self.policy.Params(), self.rows[series]
        values = {item.name: getattr(params, item.name) for item in fields(params)}
        others = [f"{name}={value!r}" for name, value in values.items() if value != getattr(default, name)]
        return f"at tick {tick} for series {series} ({', '.join(others) or 'default parameters'})"

    def difference(self, replicas: Floats, series: Ints, when: str, first: int = 0) -> str:
        """What ``replicas[tick, k]`` of another run, from tick ``first`` on, say of ``series[k]`` that the plain run does not."""
        expected = self.base.replicas[first : first + replicas.shape[0], series]
        for tick, column in np.argwhere(~_alike(expected, replicas)):
            place = self.place(first + tick, series[column])
            return f"{place} it proposed {expected[tick, column]}, and {replicas[tick, column]} {when}"
        return ""

    def __str__(self) -> str:
        return f"{self.scenario.name} scenario, interval {self.scenario.interval_s:g} s"


def _alike(expected: Floats, got: Floats) -> Bools:
    return np.isclose(expected, got, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)


def state_fault(state: State, n: int, like: State = None) -> str:
    """What is wrong with a state of ``n`` series, where ``like`` is what ``init`` made, or an empty text."""
    if like is not None and type(state) is not type(like):
        return f"a state of type {type(state).__name__}, while init made {type(like).__name__}"
    if not is_dataclass(state) or isinstance(state, type) or not state.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return f"{state!r}, which is no instance of a dataclass(frozen=True)"
    for item in fields(state):
        array = getattr(state, item.name)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            return f"a state whose {item.name} is {array!r}, which is no array of numbers"
        if array.ndim == 0 or array.shape[-1] != n:
            return f"a state whose {item.name} has shape {array.shape}, where the last axis should have {n} series"
        first = array if like is None else getattr(like, item.name)
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            return f"a state whose {item.name} is {array.dtype}{array.shape}, while init made {first.dtype}{first.shape}"
    return ""


def run_and_compare(case: Case) -> str:
    """What the policy changed of what it was given (which is read-only, but that can be undone), or an empty text."""
    state = initial(case.policy, case.params, case.scenario.n)
    for tick in range(case.scenario.ticks):
        view = case.scenario.view(tick)
        given = {**_arrays("view", view), **_arrays("params", case.params), **_arrays("state", state)}
        given |= {} if view.pods is None else _arrays("view.pods", view.pods)
        before = {name: array.tobytes() for name, array in given.items()}
        state = step(case.policy, view, case.params, state)[0]
        changed = [name for name, array in given.items() if array.tobytes() != before[name]]
        if changed:
            return f"at tick {tick} it changed {changed[0]}"
    return ""


def _arrays(name: str, table: object) -> Mapping[str, np.ndarray[Any, Any]]:
    return {f"{name}.{field}": array for field, array in array_fields(table).items()}


def run_with_newcomers(case: Case) -> str:
    """Half-way series 1 leaves, and two newcomers come: one into its place and one into a column of its own."""
    n, half = case.scenario.n, case.scenario.ticks // 2
    before = np.arange(n - 2)
    after = np.concatenate([before, [n - 1]])
    after[1] = n - 2
    new, stayed = np.array([1, n - 2]), np.setdiff1d(before, [1])
    scenario = joined(case.scenario, after[new], half)
    ticks = range(half, case.scenario.ticks)

    first = run(case.policy, taken(case.scenario, before), taken(case.params, before), ticks=range(half))
    state = _grown(case.policy, first.state, taken(case.params, after), new)
    second = run(case.policy, taken(scenario, after), taken(case.params, after), state, ticks)
    fault = first.fault or second.fault
    if fault:
        return f"when series came and went, {fault}"
    told = case.difference(first.replicas, before, "without two of the others")
    told = told or case.difference(second.replicas[:, stayed], stayed, f"when others came and went at tick {half}", half)
    alone = run(case.policy, taken(scenario, after[new]), taken(case.params, after[new]), ticks=ticks)
    for tick, column in np.argwhere(~_alike(alone.replicas, second.replicas[:, new])):
        wanted, got = alone.replicas[tick, column], second.replicas[tick, new[column]]
        told = told or f"{case.place(half + tick, after[new[column]])}, new at tick {half}, it proposed {got}, and {wanted} on its own"
    return told


def _grown(policy: Policy, state: State, params: Parameters, new: Ints) -> State:
    """The state as the core makes it when series come and go: ``new`` columns blank, all others as they were."""
    blank = array_fields(initial(policy, taken(params, new), new.size))
    n = int(new.max()) + 1
    columns = {}
    for name, array in array_fields(state).items():
        wide = widened(array, n, 0).copy()
        wide[..., new] = blank[name]
        columns[name] = frozen(wide)
    return replace(state, **columns)
