"""Options that several verbs have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class Format(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"


FormatOption: TypeAlias = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]

PolicyPathOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--policy-path", metavar="DIRECTORY", help="Where to look for the modules of your own policies, after all else."),
]
