from dataclasses import dataclass, replace
from typing import Any

import pytest

from autoscaler.core.policy import NoState, Proposal, View, param
from autoscaler.core.types import Floats
from autoscaler.policyfile.parameters import Fault, as_given, choose, json_schema
from autoscaler.registry import find


@dataclass(frozen=True)
class SampleParams:
    """One parameter of each kind."""

    share: Floats = param(0.5, gt=0, lt=1, doc="a share")
    spare: Floats = param(2, ge=0, doc="spare replicas")
    window_s: Floats = param(300.0, ge=15, le=3600, doc="how far back")
    strict: bool = param(False, doc="whether")
    kind: str = param("simple", choices=("simple", "weighted"), doc="which")
    label: str = param("", doc="any text")


class Sample:
    """The class that the tests name.

    More about it.
    """

    Params = SampleParams

    def check(self, params: SampleParams) -> list[str]:
        return ["spare is 7: an odd number", "never on a Sunday"] if params.spare == 7 else []

    def init(self, params: SampleParams, n: int) -> NoState:  # noqa: ARG002 - the contract's signature
        return NoState()

    def __call__(self, view: View, params: SampleParams, state: NoState) -> tuple[NoState, Proposal]:  # noqa: ARG002
        return state, Proposal(view.demand[-1])


SAMPLE = find(f"{__name__}:Sample")


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        pytest.param({}, {}, id="defaults"),
        pytest.param({"share": 0.25}, {"share": 0.25}, id="number"),
        pytest.param({"spare": 0}, {"spare": 0}, id="integer"),
        pytest.param({"window": "1m"}, {"window_s": 60.0}, id="duration"),
        pytest.param({"strict": True}, {"strict": True}, id="boolean"),
        pytest.param({"kind": "weighted"}, {"kind": "weighted"}, id="choice"),
        pytest.param({"label": "x"}, {"label": "x"}, id="text"),
    ],
)
def test_values(given: dict[str, Any], changed: dict[str, Any]) -> None:
    choice, faults = choose(SAMPLE, given)
    assert faults == []
    assert choice is not None
    assert (choice.name, choice.policy, choice.params) == (SAMPLE.name, SAMPLE.policy, replace(SampleParams(), **changed))
    assert choose(SAMPLE, {name: value for name, value in as_given(choice).items() if name != "type"})[0] == choice


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({"share": "0.5"}, 'expected a number, got the text "0.5"', id="text-for-number"),
        pytest.param({"share": True}, "expected a number, got true", id="bool-for-number"),
        pytest.param({"share": float("nan")}, "expected a number, got nan", id="nan"),
        pytest.param({"share": 0}, "expected more than 0, got 0", id="gt"),
        pytest.param({"share": 1.0}, "expected less than 1, got 1", id="lt"),
        pytest.param({"spare": -1}, "expected at least 0, got -1", id="ge"),
        pytest.param({"spare": 1.5}, "expected a whole number, got 1.5", id="fraction"),
        pytest.param({"window": "2h"}, "expected at most 1h, got 2h", id="le"),
        pytest.param({"window": "5s"}, "expected at least 15s, got 5s", id="duration-bound"),
        pytest.param({"window": 300}, "300 has no unit; expected a duration such as 300s or 300m", id="no-unit"),
        pytest.param({"strict": "yes"}, 'expected true or false, got the text "yes"', id="yes"),
        pytest.param({"kind": "weigted"}, 'expected simple or weighted, got the text "weigted"; did you mean weighted?', id="choice"),
        pytest.param({"kind": 5}, "expected simple or weighted, got 5", id="number-for-choice"),
        pytest.param({"kind": ["simple"]}, "expected simple or weighted, got a list", id="list-for-choice"),
        pytest.param({"label": 5}, "expected text, got 5", id="number-for-text"),
        pytest.param({"window": None}, "empty; give it a value, or leave it out for its default, 5m", id="empty"),
        pytest.param({"strict": None}, "empty; give it a value, or leave it out for its default, false", id="empty-bool"),
    ],
)
def test_faults(given: dict[str, Any], text: str) -> None:
    assert choose(SAMPLE, given) == (None, [Fault(next(iter(given)), text)])


def test_every_fault_at_once() -> None:
    all_of_them = f"the parameters of {SAMPLE.name} are: share, spare, window, strict, kind, label"
    _, faults = choose(SAMPLE, {"windw": "1m", "horizon": 5, "share": 2, "spare": "x"})
    assert faults == [
        Fault("windw", "unknown parameter; did you mean window?", unknown=True),
        Fault("horizon", f"unknown parameter; {all_of_them}", unknown=True),
        Fault("share", "expected less than 1, got 2"),
        Fault("spare", 'expected a whole number, got the text "x"'),
    ]


def test_what_the_policy_says_stands_at_the_parameter_that_it_starts_with() -> None:
    assert choose(SAMPLE, {"spare": 7})[1] == [Fault("spare", "spare is 7: an odd number"), Fault("", "never on a Sunday")]


def test_json_schema() -> None:
    assert json_schema(SAMPLE) == {
        "title": SAMPLE.name,
        "type": "object",
        "properties": {
            "type": {"const": SAMPLE.name, "description": "The class that the tests name."},
            "share": {"type": "number", "description": "a share", "default": 0.5, "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "spare": {"type": "integer", "description": "spare replicas", "default": 2, "minimum": 0},
            "window": {"type": "string", "description": "how far back", "default": "5m", "pattern": r"^(0|(\d+(\.\d+)?(ms|[smhdw]))+)$"},
            "strict": {"type": "boolean", "description": "whether", "default": False},
            "kind": {"type": "string", "description": "which", "default": "simple", "enum": ["simple", "weighted"]},
            "label": {"type": "string", "description": "any text", "default": ""},
        },
        "required": ["type"],
        "additionalProperties": False,
    }
