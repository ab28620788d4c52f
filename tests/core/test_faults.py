"""A policy that fails makes its own workloads hold, says why, and disturbs nobody else."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from autoscaler.core.policy import NoState, Policy, Proposal, View, param
from autoscaler.core.spec import Fallback, PolicyChoice
from autoscaler.core.types import Floats, Reason
from tests.core.build import Facts, Rig, observe, spec


@dataclass(frozen=True)
class Settings:
    factor: Floats = param(1.0, doc="a number")


@dataclass(frozen=True)
class Memory:
    ticks: Floats


@dataclass(frozen=True)
class Other:
    ticks: Floats


class Custom:
    """A user's policy: counts its ticks and proposes the demand, until ``answer`` makes of its call what it likes."""

    Params = Settings

    def __init__(self, answer: Callable[[View, Any, Any], Any] | None = None, init: Callable[[int], Any] | None = None) -> None:
        self.answer, self.blank = answer, init or (lambda n: Memory(np.zeros(n)))

    def init(self, params: Settings, n: int) -> Any:  # noqa: ANN401, ARG002 - the contract
        return self.blank(n)

    def __call__(self, view: View, params: Settings, state: Any) -> Any:  # noqa: ANN401 - on purpose
        if self.answer is not None:
            return self.answer(view, params, state)
        return Memory(state.ticks + 1), Proposal(view.demand[-1])


def proposing(replicas: Any, **more: Any) -> Callable[[View, Any, Any], Any]:  # noqa: ANN401 - on purpose
    """An answer with these replicas for each series, or what a function makes of their number."""
    return lambda view, _, state: (state, Proposal(replicas(view.demand.shape[1]) if callable(replicas) else replicas, **more))


def of_state(state: Callable[[Any], Any]) -> Callable[[View, Any, Any], Any]:
    return lambda view, _, before: (state(before), Proposal(view.demand[-1]))


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> Any:  # noqa: ANN401 - it returns nothing
        raise error

    return fail


def scribbling(on: Callable[[View, Any, Any], Any]) -> Callable[[View, Any, Any], Any]:
    """Writes into something that it was given."""

    def write(view: View, params: Any, state: Any) -> Any:  # noqa: ANN401 - on purpose
        on(view, params, state)[...] = 7
        return state, Proposal(view.demand[-1])

    return write


def chosen(policy: Policy) -> PolicyChoice:
    return PolicyChoice("custom", policy, Settings())


BROKEN = [
    pytest.param(raising(ValueError("boom")), "ValueError: boom", id="raises"),
    pytest.param(raising(RecursionError()), "RecursionError", id="raises-without-a-word"),
    pytest.param(lambda *_: None, "returned NoneType, expected (state, autoscaler.core.policy.Proposal)", id="nothing"),
    pytest.param(lambda view, *_: Proposal(view.demand[-1]), "returned Proposal, expected (state", id="no-state"),
    pytest.param(lambda view, _, state: (Proposal(view.demand[-1]), state), "returned (Proposal, Memory)", id="swapped"),
    pytest.param(lambda view, _, state: (state, view.demand[-1]), "returned (Memory, ndarray)", id="bare-array"),
    pytest.param(proposing("12"), "replicas has shape (), expected (8,)", id="text"),
    pytest.param(proposing(lambda n: np.full(n, "12")), "replicas has dtype <U2, expected numbers", id="texts"),
    pytest.param(proposing(lambda n: np.full(n, None)), "replicas has dtype object", id="objects"),
    pytest.param(proposing(lambda n: np.full(n, 1j)), "replicas has dtype complex128", id="complex"),
    pytest.param(proposing(3.0), "replicas has shape ()", id="scalar"),
    pytest.param(proposing(lambda n: np.ones(n + 1)), "replicas has shape (9,)", id="too-long"),
    pytest.param(proposing(lambda n: np.ones((n, 1))), "replicas has shape (8, 1)", id="matrix"),
    pytest.param(proposing([[1.0], [2.0, 3.0]]), "inhomogeneous", id="ragged"),
    pytest.param(proposing(np.ones(8), expected=np.ones(2)), "expected has shape (2,)", id="expected-too-short"),
    pytest.param(proposing(np.ones(8), notes={"trend": np.ones(2)}), "notes['trend'] has shape (2,)", id="note-too-short"),
    pytest.param(proposing(np.ones(8), notes=3), "AttributeError", id="notes-no-mapping"),
    pytest.param(of_state(lambda _: None), "a state of type NoneType, expected Memory", id="state-none"),
    pytest.param(of_state(lambda old: Other(old.ticks)), "a state of type Other, expected Memory", id="state-of-another-type"),
    pytest.param(of_state(lambda _: Memory(np.ones(2))), "state.ticks was float64[8] and became float64[2]", id="state-too-short"),
    pytest.param(of_state(lambda _: Memory(np.ones(8, np.int64))), "became int64[8]", id="state-of-another-dtype"),
    pytest.param(of_state(lambda _: Memory([0.0] * 8)), "became no array", id="state-a-list"),  # type: ignore[arg-type]
    pytest.param(proposing(lambda n: np.full(n, inf)), "1 of 1 proposals are negative or infinite", id="infinite"),
    pytest.param(proposing(lambda n: np.full(n, -1.0)), "1 of 1 proposals are negative or infinite", id="negative"),
    pytest.param(scribbling(lambda view, _, __: view.demand), "read-only", id="writes-demand"),
    pytest.param(scribbling(lambda view, _, __: view.current), "read-only", id="writes-current"),
    pytest.param(scribbling(lambda view, _, __: view.workload), "read-only", id="writes-workload"),
    pytest.param(scribbling(lambda view, _, __: view.saturated), "read-only", id="writes-saturated"),
    pytest.param(scribbling(lambda view, _, __: view.age_s), "read-only", id="writes-age"),
    pytest.param(scribbling(lambda _, params, __: params.factor), "read-only", id="writes-params"),
    pytest.param(scribbling(lambda _, __, state: state.ticks), "read-only", id="writes-state"),
]


@pytest.mark.parametrize(("answer", "fault"), BROKEN)
def test_a_broken_answer_holds_its_own_workloads_and_is_told(answer: Callable[..., Any], fault: str) -> None:
    rig = Rig(spec("sick", policy=chosen(Custom(answer))), spec("well"))
    sick, well = rig.roster.members()
    made = rig.decide({sick: Facts(10, (30,)), well: Facts(10, (30,))})
    assert (made[sick].replicas, made[sick].apply, made[sick].reasons) == (10, False, {"noData": Reason.POLICY_FAULT})
    assert (made[well].replicas, made[well].apply, made[well].reasons) == (30, True, {})
    faults = dict(zip([call.key for call in rig.roster.spec.calls], rig.decision.faults, strict=True))
    assert faults["Proportional"] == ""
    assert faults["custom"].startswith("policy Custom: ")
    assert fault in faults["custom"]


@pytest.mark.parametrize(
    ("init", "fault"),
    [
        pytest.param(raising(KeyError("warmUp")), "KeyError: 'warmUp'", id="raises"),
        pytest.param(lambda _: {}, "TypeError: expected a dataclass of arrays, got dict", id="no-dataclass"),
        pytest.param(lambda _: None, "got NoneType", id="nothing"),
        pytest.param(
            lambda n: Memory(np.zeros(n + 1)), "ticks has shape (9,), expected the series, here 8, on the last axis", id="too-long"
        ),
        pytest.param(lambda n: Memory(np.zeros((n, 3))), "ticks has shape (8, 3)", id="series-on-the-first-axis"),
        pytest.param(lambda _: Memory(np.array(0.0)), "ticks has shape ()", id="scalar"),
    ],
)
def test_a_broken_init_holds_its_own_workloads_and_is_told(init: Callable[[int], Any], fault: str) -> None:
    rig = Rig(spec("sick", policy=chosen(Custom(init=init))), spec("well"))
    sick, well = rig.roster.members()
    for _ in range(2):
        made = rig.decide({sick: Facts(10, (30,)), well: Facts(10, (30,))})
        assert (made[sick].replicas, made[sick].reasons) == (10, {"noData": Reason.POLICY_FAULT})
        assert made[well].replicas == 30
        assert any(fault in text for text in rig.decision.faults)


@pytest.mark.parametrize(
    ("wrong", "replicas", "reason"),
    [
        pytest.param(nan, 10, Reason.ABSTAINED, id="nan-abstains"),
        pytest.param(-1.0, 10, Reason.POLICY_FAULT, id="negative"),
        pytest.param(inf, 10, Reason.POLICY_FAULT, id="infinite"),
        pytest.param(-inf, 10, Reason.POLICY_FAULT, id="minus-infinite"),
        pytest.param(1e300, 100, Reason.NONE, id="huge-is-for-the-bounds"),
    ],
)
def test_nonsense_for_one_series_holds_that_workload_alone(wrong: float, replicas: float, reason: Reason) -> None:
    def answer(view: View, _: Settings, state: Memory) -> tuple[Memory, Proposal]:
        demand = view.demand[-1].astype(np.float64)
        return state, Proposal(np.where(demand == 666, wrong, demand))

    policy = chosen(Custom(answer))
    rig = Rig(spec("sick", policy=policy), spec("well", policy=policy))
    sick, well = rig.roster.members()
    made = rig.decide({sick: Facts(10, (666,)), well: Facts(10, (30,))})
    assert (made[sick].replicas, made[sick].reasons.get("noData", Reason.NONE)) == (replicas, reason)
    assert (made[well].replicas, made[well].reasons) == (30, {})
    told = "policy Custom: 1 of 2 proposals are negative or infinite"
    assert rig.decision.faults == (told if reason is Reason.POLICY_FAULT else "",)


def test_a_policy_may_answer_nonsense_where_nobody_uses_the_column() -> None:
    rig = Rig(spec(policy=chosen(Custom(lambda view, _, state: (state, Proposal(np.where(view.workload < 0, -inf, 30.0)))))))
    assert rig.tick(5).replicas == 30
    assert rig.decision.faults == ("",)


def test_a_state_outlives_a_tick_that_failed() -> None:
    def answer(view: View, _: Settings, state: Memory) -> tuple[Memory, Proposal]:
        if view.demand[-1, 0] == 666:
            message = "not today"
            raise ArithmeticError(message)
        return Memory(state.ticks + 1), Proposal(state.ticks)

    rig = Rig(spec(policy=chosen(Custom(answer)), min_replicas=0), real=50)
    made = [rig.tick(demand).proposed for demand in (5, 5, 666, 5)]
    assert made == [0, 1, None, 2]


def test_a_policy_that_fails_for_too_long_calls_for_the_fallback() -> None:
    rig = Rig(spec(policy=chosen(Custom(raising(ValueError("boom")))), fallback=Fallback(3, 20)))
    assert [rig.tick(5).replicas for _ in range(4)] == [10, 10, 20, 20]


def test_a_fault_says_so_even_if_its_data_is_missing_too() -> None:
    assert Rig(spec(policy=chosen(Custom(raising(ValueError("boom")))))).tick(nan).reasons == {"noData": Reason.POLICY_FAULT}


def test_arithmetic_with_what_is_not_known_is_no_warning() -> None:
    answer = proposing(lambda n: np.zeros(n) / np.zeros(n) + np.log(np.zeros(n)))
    assert Rig(spec(policy=chosen(Custom(answer)))).tick(5).reasons == {"noData": Reason.ABSTAINED}


def test_a_state_made_of_the_view_does_not_change_with_history() -> None:
    def answer(view: View, _: Settings, state: Memory) -> tuple[Memory, Proposal]:
        return Memory(view.demand[-1]), Proposal(state.ticks)

    policy = Custom(answer, lambda n: Memory(np.zeros(n, np.float32)))
    rig = Rig(spec(policy=chosen(policy), min_replicas=0), real=50)
    rig.tick(7)
    rig.history.record(rig.roster.spec, observe(rig.roster, rig.at_s, {}))
    assert rig.tick(9).proposed == 7


@dataclass(frozen=True)
class Deep:
    """A state with more than one axis and a plain number."""

    rows: Floats
    period_s: float = field(default=300.0)


def test_a_state_may_have_axes_before_the_series() -> None:
    def answer(view: View, _: Settings, state: Deep) -> tuple[Deep, Proposal]:
        rows = np.concatenate([state.rows[1:], view.demand[-1:].astype(np.float64)])
        return replace(state, rows=rows), Proposal(rows.sum(axis=0))

    policy = Custom(answer, lambda n: Deep(np.zeros((3, n))))
    rig = Rig(*(spec(f"w{number}", policy=chosen(policy)) for number in range(3)), real=50)
    sums = []
    for tick in range(4):
        if tick == 2:
            rig.roster.swap(join=[spec(f"more{number}", policy=chosen(policy)) for number in range(20)])
        made = rig.decide({name: Facts(10, (5.0,)) for name in rig.roster.members()})
        sums.append((made[spec("w2").workload].proposed, made[list(made)[-1]].proposed))
    assert sums == [(5, 5), (10, 10), (15, 5), (15, 10)]


def test_no_state_is_a_state() -> None:
    policy = Custom(proposing(lambda n: np.full(n, 20.0)), lambda _: NoState())
    assert Rig(spec(policy=chosen(policy))).tick(5).replicas == 20
