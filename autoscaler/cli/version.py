"""``autoscaler version``."""

from __future__ import annotations

import platform

import typer

from autoscaler import __version__
from autoscaler.cli.options import Format, FormatOption
from autoscaler.cli.output import print_json


def version(output: FormatOption = Format.TABLE) -> None:
    """Print the version."""
    python = platform.python_version()
    if output is Format.JSON:
        print_json({"version": __version__, "python": python})
    else:
        typer.echo(f"autoscaler {__version__} (Python {python})")
