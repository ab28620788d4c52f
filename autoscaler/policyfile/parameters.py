"""The parameters of a policy as a file gives them, beside ``policy.type``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from autoscaler.core.spec import PolicyChoice
from autoscaler.policyfile.durations import PATTERN, format_duration, parse_duration
from autoscaler.policyfile.problems import did_you_mean, got, one_of
from autoscaler.registry import Kind, Parameter, Registered, find


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a parameter (``name`` empty: with the policy as a whole); ``unknown``: there is no such parameter."""

    name: str
    text: str
    unknown: bool = False


def choose(registered: Registered, given: Mapping[str, Any]) -> tuple[PolicyChoice | None, list[Fault]]:
    """The policy with these parameters, or everything that is wrong with them."""
    by_name = {parameter.name: parameter for parameter in registered.parameters}
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        parameter = by_name.get(name)
        if parameter is None:
            hint = did_you_mean(name, by_name, otherwise=f"the parameters of {registered.name} are")
            faults.append(Fault(name, f"unknown parameter; {hint}", unknown=True))
            continue
        try:
            values[parameter.field] = _value(parameter, value)
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    if faults:
        return None, faults
    params, complaints = registered.params(values)
    faults += [Fault(_subject(text, given), text) for text in complaints]
    return (None if faults else PolicyChoice(registered.name, registered.policy, params)), faults


def as_given(choice: PolicyChoice) -> dict[str, Any]:
    """A policy with all its parameters as a file could give them."""
    parameters = find(choice.name).parameters
    return {"type": choice.name, **{item.name: _plain(item, getattr(choice.params, item.field)) for item in parameters}}


def _plain(parameter: Parameter, value: float | str) -> float | str:
    return format_duration(float(value)) if parameter.kind is Kind.DURATION else value


def _subject(complaint: str, given: Mapping[str, Any]) -> str:
    """The given parameter that a policy's sentence starts with, if it does."""
    first = complaint.split(maxsplit=1)[0].rstrip(":,") if complaint.strip() else ""
    return first if first in given else ""


def _value(parameter: Parameter, given: object) -> float | str:
    """The value in the dataclass' unit. Raises ValueError with a sentence."""
    if given is None:
        raise ValueError(f"empty; give it a value, or leave it out for its default, {_shown(parameter, parameter.default)}")
    if parameter.kind is Kind.TEXT:
        return _text(parameter, given)
    if parameter.kind is Kind.BOOLEAN:
        return _truth(given)
    value = parse_duration(given) if parameter.kind is Kind.DURATION else _number(parameter, given)
    broken = parameter.broken_bound(value)
    if broken is not None:
        words, bound = broken
        raise ValueError(f"expected {words} {_shown(parameter, bound)}, got {_shown(parameter, value)}")
    return value


def _truth(given: object) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"expected true or false, got {got(given)}")  # noqa: TRY004 - one kind of error for one kind of mistake
    return given


def _text(parameter: Parameter, given: object) -> str:
    if parameter.choices and given not in parameter.choices:
        hint = did_you_mean(given, parameter.choices, otherwise="") if isinstance(given, str) else ""
        hint = f"; {hint}" if hint.startswith("did") else ""
        raise ValueError(f"expected {one_of(parameter.choices)}, got {got(given)}{hint}")
    if not isinstance(given, str):
        raise ValueError(f"expected text, got {got(given)}")  # noqa: TRY004 - one kind of error for one kind of mistake
    return given


def _number(parameter: Parameter, given: object) -> float:
    whole = parameter.kind is Kind.INTEGER
    if isinstance(given, bool) or not isinstance(given, int if whole else (int, float)) or not isfinite(given):
        raise ValueError(f"expected {parameter.kind.value}, got {got(given)}")
    return given if whole else float(given)


def _shown(parameter: Parameter, value: float | str) -> str:
    """A value as one would write it in the file."""
    if parameter.kind is Kind.DURATION:
        return format_duration(float(value))
    if parameter.kind is Kind.BOOLEAN:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


_JSON_TYPES = {Kind.NUMBER: "number", Kind.INTEGER: "integer", Kind.BOOLEAN: "boolean", Kind.TEXT: "string", Kind.DURATION: "string"}
_JSON_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def json_schema(registered: Registered) -> dict[str, Any]:
    """JSON Schema of ``spec.policy`` for this policy."""
    properties = {parameter.name: dict(_property(parameter)) for parameter in registered.parameters}
    kind = {"const": registered.name, "description": (type(registered.policy).__doc__ or "").split("\n\n")[0].replace("``", "`").strip()}
    return {
        "title": registered.name,
        "type": "object",
        "properties": {"type": kind, **properties},
        "required": ["type"],
        "additionalProperties": False,
    }


def _property(parameter: Parameter) -> Iterator[tuple[str, Any]]:
    yield "type", _JSON_TYPES[parameter.kind]
    yield "description", parameter.doc
    yield "default", _plain(parameter, parameter.default)
    if parameter.choices:
        yield "enum", list(parameter.choices)
    if parameter.kind is Kind.DURATION:
        yield "pattern", PATTERN
        return
    for name, keyword in _JSON_BOUNDS.items():
        bound = getattr(parameter, name)
        if bound is not None:
            yield keyword, bound
