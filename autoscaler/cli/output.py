"""How verbs print: data to stdout, words to stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer


def print_json(data: object) -> None:
    """Data for programs."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns for people and for ``awk``, as kubectl prints them: never cut, never coloured."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        typer.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(text: str) -> None:
    """Words for people."""
    typer.echo(text, err=True)
