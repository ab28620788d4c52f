"""JSON Schema of policy files, for editors and other tools.

In an editor with yaml-language-server, the first line of a file names it: ``# yaml-language-server: $schema=policy.schema.json``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autoscaler.policyfile.durations import format_duration
from autoscaler.policyfile.health import HealthPolicy
from autoscaler.policyfile.parameters import json_schema
from autoscaler.policyfile.positions import Plain
from autoscaler.policyfile.schema import ScalingPolicy
from autoscaler.registry import Registered

_OWN = {
    "title": "one of your own",
    "type": "object",
    "properties": {"type": {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", "description": "module:Name"}},
    "required": ["type"],
}


def policy_schema(policies: Iterable[Registered]) -> dict[str, Any]:
    """The schema of a policy file's documents, ScalingPolicy or HealthPolicy by their kind, with the parameters of these policies."""
    scaling, health = (_tidy(model.model_json_schema()) for model in (ScalingPolicy, HealthPolicy))
    definitions = {**health.pop("$defs"), **scaling.pop("$defs"), "ScalingPolicy": scaling, "HealthPolicy": health}
    definitions["PolicyField"] = {
        "title": "Policy",
        "description": "The scaling policy: its type, and its parameters beside it.",
        "oneOf": [*(json_schema(policy) for policy in policies), _OWN],
    }
    for wait in definitions["WaitsField"]["properties"].values():
        if "anyOf" in wait:
            wait["default"] = format_duration(wait["default"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policy",
        "if": {"type": "object", "properties": {"kind": {"const": "HealthPolicy"}}, "required": ["kind"]},
        "then": {"$ref": "#/$defs/HealthPolicy"},
        "else": {"$ref": "#/$defs/ScalingPolicy"},
        "$defs": definitions,
    }


def _tidy(node: Plain) -> Plain:
    """Without what pydantic adds for itself: titles made from names, and null for a field that may be left out."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        node = {**{key: value for key, value in node.items() if key != "anyOf"}, **choices[0]}
    elif choices:
        node = {**node, "anyOf": choices}
    dropped = {"title"} | ({"default"} if isinstance(node.get("default"), dict) or node.get("default", "") is None else set())
    return {
        key: {name: _tidy(item) for name, item in value.items()} if key == "properties" else _tidy(value)
        for key, value in node.items()
        if key not in dropped
    }
