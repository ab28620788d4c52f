"""The command line: one file per verb, named in :data:`VERBS`, imported only when it is needed.

Data goes to stdout, words to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 invalid configuration.

A verb's module has a function of the verb's name, which typer reads; what the verb needs beyond typer is imported inside it, so that
``autoscaler --help``, which imports all of them, stays quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import PurePath
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from autoscaler.errors import AutoscalerError, ConfigError

VERBS = ("run", "demo", "validate", "backtest", "tune", "schema", "version")

FAILED, USAGE, INVALID = 1, 2, 3


class _Verbs(TyperGroup):
    """The verbs as commands, each made from its module when it is asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__(*args, **kwargs)
        self.commands = dict.fromkeys(VERBS, typer.core.TyperCommand("not made yet"))  # "Did you mean …?" looks at the names

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002 - click's signature
        return list(VERBS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        verb.command(cmd_name)(getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name))
        return cast("TyperCommand", typer.main.get_command(verb))

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the verb; our own errors end it with their sentence and their exit code."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(INVALID) from error
        except AutoscalerError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(FAILED) from error


app = typer.Typer(
    cls=_Verbs,
    help="Scales Kubernetes workloads by their load and watches over their pods' health.",
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 invalid configuration.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def _verbs() -> None:
    """Make it a command of commands, even while there is only one."""


def main() -> None:
    """The program, under the name that it was called by."""
    called = PurePath(sys.argv[0]).name
    try:
        app(prog_name="kubectl loadscale" if called == "kubectl-loadscale" else None)
    except BrokenPipeError:
        # The reader has enough (`autoscaler schema | head`); Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
