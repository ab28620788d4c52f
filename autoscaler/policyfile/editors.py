"""JSON Schema of policy files, for editors and other tools.

In an editor with yaml-language-server, the first line of a file names it: ``# yaml-language-server: $schema=policy.schema.json``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autoscaler.policyfile.parameters import json_schema
from autoscaler.policyfile.schema import ScalingPolicy
from autoscaler.registry import Registered

_OWN = {
    "title": "one of your own",
    "type": "object",
    "properties": {"type": {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", "description": "module:Name"}},
    "required": ["type"],
}


def policy_schema(policies: Iterable[Registered]) -> dict[str, Any]:
    """The schema of a ScalingPolicy, with the parameters of these policies."""
    schema = ScalingPolicy.model_json_schema()
    schema["$defs"]["PolicyField"] = {
        "title": "Policy",
        "description": "The scaling policy: its type, and its parameters beside it.",
        "oneOf": [*(json_schema(policy) for policy in policies), _OWN],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
