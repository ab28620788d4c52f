"""The suite for policies finds what is wrong with one, and names it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.policy import Parameters, Policy, Proposal, Traits, View, param
from autoscaler.core.types import Floats
from autoscaler.testing import PROPERTIES, broken_properties, check_policy
from tests.testing.wrong_policies import (
    Answer,
    Good,
    Mean,
    Mutable,
    Remembers,
    StartsTogether,
    Text,
    answering,
    counted_in_place,
    demand_of,
    failing_for_free,
    following,
    needing_two,
    proposing,
    raising,
    spoilt,
    spoilt_by_unknown,
    starting,
    with_params,
    writing_by_force,
    writing_demand,
)

NOT_MONOTONE = frozenset({"monotone"})


def nothing(view: View, _: Parameters) -> Answer:
    return np.full(view.workload.size, np.nan)


@pytest.mark.parametrize(
    ("policy", "broken"),
    [
        pytest.param(spoilt(Params=Mutable), {"declarations": "dataclass(frozen=True)"}, id="params-not-frozen"),
        pytest.param(with_params(1.0), {"declarations": "Params.factor is not declared with"}, id="params-without-param"),
        pytest.param(with_params(1.0, doc=""), {"declarations": "empty doc"}, id="params-undocumented"),
        pytest.param(with_params(1.0, doc="…", gt=1), {"declarations": "factor is 1.0 by default, which is not gt 1"}, id="outside-bounds"),
        pytest.param(with_params("a", doc="…", choices=("b", "c")), {"declarations": "none of b, c"}, id="default-no-choice"),
        pytest.param(spoilt(traits={"season": True}), {"declarations": "expected autoscaler.core.policy.Traits"}, id="traits-wrong"),
        pytest.param(spoilt(breaks=frozenset({"gravity"})), {"declarations": "breaks names 'gravity'"}, id="breaks-unknown"),
        pytest.param(spoilt(breaks=frozenset({"free"})), {"declarations": "breaks names 'free'"}, id="breaks-what-must-not-be"),
        pytest.param(spoilt(breaks="monotone"), {"declarations": "expected a frozenset"}, id="breaks-text"),
        pytest.param(spoilt(history_s=lambda *_: np.inf), {"declarations": "history_s(Params()) is inf"}, id="history-endless"),
        pytest.param(spoilt(check=lambda *_: "all is well"), {"declarations": "expected sentences"}, id="check-returns-text"),
        pytest.param(spoilt(check=lambda *_: ["never"]), {"declarations": "check refuses the defaults: never"}, id="defaults-refused"),
        pytest.param(spoilt(init=None), {"declarations": "init(params, n)"}, id="no-init"),
        pytest.param(starting(lambda _, n: {"count": np.zeros(n)}), {"state": "dataclass(frozen=True)"}, id="state-dict"),
        pytest.param(starting(lambda _, n: Mutable(np.zeros(n))), {"state": "dataclass(frozen=True)"}, id="state-not-frozen"),
        pytest.param(starting(lambda *_: Text()), {"state": "names is ('a',), which is no array"}, id="state-no-array"),
        pytest.param(starting(lambda _, n: Mean(np.zeros((n, 3)), np.zeros(n))), {"state": "the last axis"}, id="state-series-first"),
        pytest.param(starting(lambda *_: Mean(np.zeros(14), np.zeros(14))), {"state": "init of no series at all"}, id="state-fixed-size"),
        pytest.param(starting(lambda params, _: params.factor.max()), {"state": "ValueError"}, id="init-raises-for-none"),
        pytest.param(
            following(lambda state: replace(state, count=state.count.astype(np.float32))),
            {"state": "count is float32(14,), while init made float64(14,)"},
            id="state-changes-type",
        ),
        pytest.param(
            following(lambda state: replace(state, count=np.vstack([state.count, state.count]))), {"state": "(2, 14)"}, id="state-grows"
        ),
        pytest.param(following(lambda _: None), {"state": "NoneType, while init made Mean"}, id="state-lost"),
        pytest.param(spoilt(traits=Traits(checkpoint=("peak",))), {"state": "traits.checkpoint names peak"}, id="checkpoint-no-field"),
        pytest.param(proposing(raising), {"answers": "KeyError: 'life'"}, id="raises"),
        pytest.param(answering(lambda view, _: Proposal(demand_of(view))), {"answers": "returned Proposal"}, id="returns-proposal-only"),
        pytest.param(answering(lambda view, state: (state, demand_of(view))), {"answers": "ndarray"}, id="returns-array"),
        pytest.param(proposing(lambda view, _: demand_of(view)[:1]), {"answers": "shape (1,), expected (14,)"}, id="one-for-all"),
        pytest.param(proposing(lambda view, _: np.array(["3"] * view.workload.size)), {"answers": "expected numbers"}, id="text"),
        pytest.param(
            answering(lambda view, state: (state, Proposal(demand_of(view), notes={"all": np.asarray(view.demand, np.float64)}))),
            {"answers": "notes"},
            id="notes-of-wrong-shape",
        ),
        pytest.param(
            proposing(lambda view, _: np.nan_to_num(view.current).astype(np.int64)),
            {"answers": "int64, which has no NaN", "unknown": "", "free": ""},
            id="whole-numbers",
        ),
        pytest.param(proposing(lambda view, _: demand_of(view) - 5), {"finite": "replicas is -"}, id="negative"),
        pytest.param(proposing(lambda view, _: 1 / demand_of(view), breaks=NOT_MONOTONE), {"finite": "replicas is inf"}, id="infinite"),
        pytest.param(
            answering(lambda view, state: (state, Proposal(demand_of(view), expected=-demand_of(view)))),
            {"finite": "expected is -"},
            id="negative-expectation",
        ),
        pytest.param(proposing(nothing), {"proposes": "abstained for every series"}, id="always-abstains"),
        pytest.param(proposing(writing_demand), {"inputs": "read-only"}, id="writes-demand"),
        pytest.param(following(counted_in_place), {"inputs": "read-only"}, id="writes-state"),
        pytest.param(proposing(writing_by_force), {"inputs": "changed view.current"}, id="writes-by-force"),
        pytest.param(
            Remembers,
            {"deterministic": "repeated", **dict.fromkeys(("permutation", "columns", "unknown", "free", "membership"), "")},
            id="memory-outside-state",
        ),
        pytest.param(
            proposing(lambda view, _: demand_of(view) + np.random.default_rng().random(view.workload.size)),
            dict.fromkeys(("deterministic", "permutation", "columns", "unknown", "free", "membership", "monotone"), ""),
            id="random",
        ),
        pytest.param(
            proposing(lambda view, _: demand_of(view) + np.arange(view.workload.size)),
            {"permutation": "after a shuffle", "columns": "alone", "free": "free columns", "membership": ""},
            id="by-position",
        ),
        pytest.param(
            proposing(lambda view, params: demand_of(view) * params.factor[0]),
            {"permutation": "after a shuffle", "columns": "alone", "free": "", "membership": ""},
            id="first-parameters",
        ),
        pytest.param(
            proposing(lambda view, _: 100 * demand_of(view) / np.nansum(demand_of(view)), breaks=NOT_MONOTONE),
            {"columns": "alone", "unknown": "when nothing was known of", "membership": "without two of the others"},
            id="by-share",
        ),
        pytest.param(proposing(needing_two), {"columns": "not enough values to unpack"}, id="needs-two-series"),
        pytest.param(
            proposing(lambda view, _: np.nan_to_num(demand_of(view))),
            {"unknown": "it proposed 0.0", "free": "nobody uses"},
            id="unknown-is-zero",
        ),
        pytest.param(
            proposing(lambda view, _: np.where(np.isnan(demand_of(view)), view.current, demand_of(view))),
            {"unknown": "of which nothing was known"},
            id="unknown-is-current",
        ),
        pytest.param(
            type("Spoilt", (proposing(spoilt_by_unknown),), {"history_s": lambda *_: 300.0}),
            {"columns": "", "unknown": "when nothing was known of series", "free": "", "membership": ""},
            id="unknown-spoils-all",
        ),
        pytest.param(
            proposing(lambda view, _: np.where(view.workload < 0, 1.0, demand_of(view))),
            {"free": "it proposed 1.0 at tick 0 for a column that nobody uses"},
            id="free-gets-minimum",
        ),
        pytest.param(proposing(failing_for_free), {"free": "LookupError: who is this? (wrong_policies.py, line"}, id="free-fails"),
        pytest.param(StartsTogether, {"membership": "new at tick"}, id="newcomers-not-blank"),
        pytest.param(proposing(lambda view, _: 100 / (1 + demand_of(view))), {"monotone": "under more load"}, id="fewer-for-more"),
        pytest.param(
            proposing(lambda view, _: np.where(demand_of(view) > 60, np.nan, demand_of(view))),
            {"monotone": "and nan under more load"},
            id="abstains-at-peak",
        ),
    ],
)
def test_wrong_policy_is_caught_for_what_is_wrong(policy: type[Policy], broken: dict[str, str]) -> None:
    found = broken_properties(policy())
    assert found.keys() == broken.keys()
    assert {name: text for name, text in broken.items() if text not in found[name]} == {}


@pytest.mark.parametrize("name", PROPERTIES)
def test_good_policy_keeps(name: str) -> None:
    check_policy(Good, only=name)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_good_policy_is_good_whatever_the_load(seed: int) -> None:
    assert broken_properties(Good(), seed=seed) == {}


FEWER = proposing(lambda view, _: 100 / (1 + demand_of(view)))


def test_a_declared_break_is_excused() -> None:
    check_policy(type("Excused", (FEWER,), {"breaks": NOT_MONOTONE}))


def test_the_sentences_say_what_where_and_what_would_be_right() -> None:
    with pytest.raises(AssertionError) as caught:
        check_policy(FEWER)
    first, name, failure, advice = str(caught.value).splitlines()
    assert first == "Spoilt breaks 1 of 13 properties of a policy:"
    assert name == "- monotone: more load never means fewer replicas"
    assert failure.startswith("  at tick 0 for series 0 (default parameters) it proposed ")
    assert failure.endswith(" under more load (warm scenario, interval 15 s)")
    assert advice == '  If it means to: breaks = frozenset({"monotone"}) in the class.'


def test_one_property_alone() -> None:
    check_policy(FEWER, only="columns")
    with pytest.raises(AssertionError, match="monotone"):
        check_policy(FEWER, only="monotone")


def test_a_policy_that_cannot_be_called_keeps_nothing() -> None:
    with pytest.raises(AssertionError, match=r"answers: .*\n.*KeyError: 'life' \(wrong_policies.py, line \d+\)"):
        check_policy(proposing(raising), only="columns")


def test_unknown_property_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no property 'speed'; there are declarations, state, "):
        check_policy(Good, only="speed")


@dataclass(frozen=True)
class Choices:
    low: Floats = param(1.0, ge=0.5, lt=1.5, doc="less than high")
    high: Floats = param(2.0, gt=1.5, le=2.5, doc="more than low")
    whole: Floats = param(3, ge=1, doc="a whole number")
    pause_s: Floats = param(0.0, ge=0, doc="a duration")
    kind: str = param("a", choices=("a", "b", "c"), doc="one of three")
    strict: bool = param(False, doc="one of two")


class Recording(Good):
    """Keeps what parameters it was given."""

    Params = Choices

    def __init__(self) -> None:
        self.given: list[Choices] = []

    def check(self, params: Choices) -> Iterator[str]:
        if params.high < params.low + 0.5:
            yield "high must be 0.5 above low"

    def __call__(self, view: View, params: Parameters, state: object) -> Answer:
        self.given.append(params)
        return state, Proposal(demand_of(view))


def test_every_choice_is_tried_and_numbers_stay_within_bounds() -> None:
    policy = Recording()
    check_policy(policy)
    assert {(params.kind, params.strict) for params in policy.given} == {(kind, strict) for kind in "abc" for strict in (False, True)}
    low, high, whole, pause_s = (
        np.concatenate([getattr(params, name) for params in policy.given]) for name in ("low", "high", "whole", "pause_s")
    )
    assert ((low >= 0.5) & (low < 1.5)).all()
    assert ((high > 1.5) & (high <= 2.5)).all()
    assert (high >= low + 0.5).all()
    assert (whole == np.round(whole)).all()
    assert all(np.unique(column).size > 5 for column in (low, high, pause_s))


def test_given_parameters_are_the_only_ones_tried() -> None:
    policy = Recording()
    check_policy(policy, Choices(kind="c", whole=7))  # type: ignore[arg-type]
    assert {(params.kind, *params.whole.tolist()) for params in policy.given if params.whole.size == 1} == {("c", 7)}


class Curious(Good):
    """Looks at everything that a policy can ask for."""

    traits = Traits(season=True, objective=True, pods=True, checkpoint=("count", "mean"))

    def __call__(self, view: View, params: Parameters, state: object) -> Answer:  # noqa: ARG002 - the contract's signature
        n = view.workload.size
        seasons: list[Any] = [view.season_mean, view.season_max]
        columns: list[Any] = [view.late, view.total, view.load, view.target, view.target_kind, view.status_replicas]
        assert {season.shape for season in seasons} == {(2016, n)}
        assert {column.shape for column in columns} == {(n,)}
        assert view.pods is not None
        assert view.pods.offsets.shape == (n + 1,)
        per_pod = ("use", "request", "phase", "ready", "started_s", "ready_changed_s", "sampled_s", "window_s")
        assert {getattr(view.pods, name).shape for name in per_pod} == {(view.pods.offsets[-1],)}
        use = np.add.reduceat(np.append(view.pods.use, 0), view.pods.offsets[:-1]) * (np.diff(view.pods.offsets) > 0)
        mean = np.where(np.isnan(demand_of(view)), np.nan, demand_of(view) + np.nan_to_num(use))
        return state, Proposal(mean)


def test_what_a_policy_asks_for_is_in_its_view() -> None:
    check_policy(Curious)


def test_suite_needs_no_test_framework() -> None:
    code = "import sys; sys.modules |= {'pytest': None, 'hypothesis': None}; import autoscaler.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        pytest.param("mine:Fine", 0, "mine:Fine keeps all 13 properties of a policy: declarations, ", id="fine"),
        pytest.param("mine:Excused", 0, "mine:Excused keeps all but monotone, as it declares, of the 13 properties", id="excused"),
        pytest.param("mine:Broken", 1, "Broken breaks 1 of 13 properties of a policy:\n- monotone: more load", id="broken"),
        pytest.param("mine:Missing", 3, "error: policy mine:Missing: module mine has no Missing", id="no-policy"),
    ],
)
def test_command(name: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    command = [sys.executable, "-m", "autoscaler.testing", "--policy-path", str(tmp_path), name]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
    assert bool(done.stdout) == (code != 3)


OWN = """
from dataclasses import dataclass
from autoscaler.core.policy import NoState, Proposal

@dataclass(frozen=True)
class Params: pass

class Broken:
    Params = Params
    def init(self, params, n):
        return NoState()
    def __call__(self, view, params, state):
        return state, Proposal(100 / (1 + view.demand[-1]))

class Excused(Broken):
    breaks = frozenset({"monotone"})

class Fine(Broken):
    def __call__(self, view, params, state):
        return state, Proposal(view.demand[-1])
"""
