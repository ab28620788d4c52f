"""The properties by name, and the one that needs no call: what a policy declares about itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from types import MappingProxyType

from autoscaler.core.policy import Policy, Traits, history_s
from autoscaler.testing.policies.parameters import outside

PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "declarations": "what the policy declares about itself is whole: Params, traits, history_s, check, breaks",
        "state": "the state is a frozen dataclass of arrays with the series on the last axis, the same shapes and types at every tick",
        "answers": "a call returns a state and a Proposal with one float for each series, and never raises",
        "finite": "what is proposed is NaN (the policy abstains), zero or a positive number",
        "proposes": "with known demand there is a proposal now and then",
        "inputs": "view, params and state are left as they are",
        "deterministic": "the same calls give the same proposals: no clock, no randomness, no memory but the state",
        "permutation": "the order of the columns does not matter",
        "columns": "a series gets the same proposal alone as among others",
        "unknown": "a series of which nothing was ever known gets no proposal and disturbs no other",
        "free": "columns that nobody uses get no proposal and disturb no other",
        "membership": "series that come and go disturb no other, and a newcomer inherits nothing",
        "monotone": "more load never means fewer replicas",
    }
)
"""The properties, each in a sentence, in the order in which they are told."""

MAY_BREAK = frozenset({"proposes", "monotone"})
"""What a policy may name in its ``breaks``: the service does not rely on these."""


def undeclared(policy: Policy) -> str:
    """What is wrong with what the policy declares about itself, or an empty text."""
    faults = (check(policy) for check in (_params_fault, _traits_fault, _breaks_fault, _method_fault))
    return next((fault for fault in faults if fault), "")


def _params_fault(policy: Policy) -> str:
    params = getattr(policy, "Params", None)
    if not (isinstance(params, type) and is_dataclass(params) and params.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        return f"Params is {params!r}: a class is needed that is a dataclass(frozen=True), empty if there are no parameters"
    for item in fields(params):
        if "doc" not in item.metadata:
            return f"Params.{item.name} is not declared with autoscaler.core.policy.param, which gives it a default, a meaning and bounds"
        if not item.metadata["doc"]:
            return f"Params.{item.name} has an empty doc: it is what users read in the schema"
        default = getattr(params(), item.name)
        bound = outside(item.metadata, default)
        if bound:
            return f"Params.{item.name} is {default!r} by default, which is {bound}"
    return ""


def _traits_fault(policy: Policy) -> str:
    traits = getattr(policy, "traits", Traits())
    return "" if isinstance(traits, Traits) else f"traits is {traits!r}: expected autoscaler.core.policy.Traits"


def _breaks_fault(policy: Policy) -> str:
    breaks: object = getattr(policy, "breaks", frozenset())
    if not isinstance(breaks, (frozenset, set, tuple, list)):
        return f"breaks is {breaks!r}: expected a frozenset of property names"
    wrong = sorted(set(breaks) - MAY_BREAK)
    return f"breaks names {wrong[0]!r}; what may be broken is {', '.join(sorted(MAY_BREAK))}" if wrong else ""


def _method_fault(policy: Policy) -> str:
    if not all(callable(getattr(policy, name, None)) for name in ("init", "__call__")):
        return "a policy has the methods init(params, n) and __call__(view, params, state)"
    default = policy.Params()
    seconds = history_s(policy, default)
    if not (isfinite(seconds) and seconds >= 0):
        return f"history_s(Params()) is {seconds}: expected seconds, finite and not negative"
    check = getattr(policy, "check", None)
    sentences = check(default) if check is not None else []
    if isinstance(sentences, str) or not isinstance(sentences, Iterable):
        return f"check(Params()) returned {sentences!r}: expected sentences, none of them if all is well"
    refusal = next(iter(sentences), "")
    return f"check refuses the defaults: {refusal}" if refusal else ""
