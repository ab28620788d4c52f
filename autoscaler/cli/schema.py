"""``autoscaler schema``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from autoscaler.cli.output import print_json


class Subject(StrEnum):
    """What there is a schema of."""

    POLICY = "policy"


def schema(
    subject: Annotated[Subject, typer.Argument(help="What to describe: policy files.")] = Subject.POLICY,
) -> None:
    """Print the JSON Schema of policy files, with the parameters of every installed policy.

    Editors with yaml-language-server check and complete a file whose first line names it:
    # yaml-language-server: $schema=policy.schema.json
    """
    from autoscaler.policyfile.editors import policy_schema
    from autoscaler.registry import find, names

    match subject:
        case Subject.POLICY:
            print_json(policy_schema(find(name) for name in names()))
