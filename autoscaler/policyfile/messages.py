"""Pydantic's errors in the words of this project: what, and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from autoscaler.policyfile.positions import Document
from autoscaler.policyfile.problems import EMPTY, FieldPath, Problem, did_you_mean, got, one_of

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "model_type": "a mapping (name: value)",
    "dict_type": "a mapping (name: value)",
    "tuple_type": 'a list (of lines that start with "- ")',
}

_NAME = "a name of lower-case letters, digits, - and ., with a letter or digit at both ends"
_TITLE = "letters, digits and any of -_.:/, with a letter or digit at both ends"
_FORMS = {
    "apiVersion": "group/version, such as apps/v1",
    "kind": "a kind, such as Deployment",
    "namespace": "the name of a namespace: lower-case letters, digits and -, with a letter or digit at both ends",
    "notify": "the name of a sink, as the service's settings have it: lower-case letters, digits, - and _",
    "endpoint": "a name of lower-case letters, digits, - and _, as the service's settings have it",
}


def problems(document: Document, model: type[BaseModel], errors: list[ErrorDetails]) -> Iterator[Problem]:
    """Each error of the model as a problem at its place in the document."""
    for error in errors:
        yield document.problem(error["loc"], _text(error, model), key=error["type"] == "extra_forbidden")


def _text(error: ErrorDetails, model: type[BaseModel]) -> str:
    kind = error["type"]
    if kind == "missing":
        return _missing(error["loc"], model)
    if kind == "extra_forbidden":
        *above, name = error["loc"]
        return f"unknown field; {did_you_mean(str(name), _known(tuple(above), model))}"
    if error["input"] is None:
        return EMPTY
    return _WORDS.get(kind, _type)(error)


def _type(error: ErrorDetails) -> str:
    given = error["input"]
    expected = _EXPECTED.get(error["type"])
    if expected is None:
        return f"{error['msg']}, got {got(given)}"
    hint = ""
    if expected == "text" and isinstance(given, dict):
        hint = "; put a text that starts with { in quotes"
    elif expected == "text" and isinstance(given, (bool, int, float)):
        hint = "; put it in quotes"
    return f"expected {expected}, got {got(given)}{hint}"


def _choice(error: ErrorDetails) -> str:
    given = error["input"]
    names = [name.strip("'") for name in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    close = did_you_mean(given, names, otherwise="") if isinstance(given, str) else ""
    hint = f"; {close}" if len(names) > 1 and close.startswith("did") else ""
    return f"expected {one_of(names)}, got {got(given)}{hint}"


def _form(error: ErrorDetails) -> str:
    *above, field = error["loc"]
    in_list = bool(above) and isinstance(above[-1], int)  # metrics and windows have titles, objects have names
    field = above[-1] if isinstance(field, int) and above else field
    return f"expected {_TITLE if in_list else _FORMS.get(str(field), _NAME)}, got {got(error['input'])}"


_WORDS: dict[str, Callable[[ErrorDetails], str]] = {
    "value_error": lambda error: str(error["ctx"]["error"]),
    "literal_error": _choice,
    "string_pattern_mismatch": _form,
    "string_too_long": lambda error: f"expected at most {error['ctx']['max_length']} characters, got {len(error['input'])}",
    "greater_than_equal": lambda error: f"expected at least {error['ctx']['ge']}, got {error['input']}",
    "less_than_equal": lambda error: f"expected at most {error['ctx']['le']}, got {error['input']}",
}


def _missing(path: FieldPath, model: type[BaseModel]) -> str:
    *above, name = path
    parent = _model_at(tuple(above), model)
    fields = parent.model_fields.values() if parent else []
    what = next((field.description or "" for field in fields if field.alias == name), "").rstrip(".")
    return f"missing; {what[:1].lower() + what[1:]}" if what else "missing"


def _known(path: FieldPath, model: type[BaseModel]) -> list[str]:
    """The names of the fields that a mapping at this path may have."""
    found = _model_at(path, model)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _model_at(path: FieldPath, model: type[BaseModel]) -> type[BaseModel] | None:
    """The model of the mapping at this path."""
    found: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, int):
            continue
        fields = found.model_fields.values() if found else []
        found = next((_model_in(field.annotation) for field in fields if field.alias == step), None)
    return found


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model that an annotation such as ``tuple[Metric, ...] | None`` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
