"""``python -m autoscaler.testing module:Name``: run the policy suite on a policy, yours or one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoscaler.errors import ConfigError
from autoscaler.registry import add_path, find
from autoscaler.testing.policies import PROPERTIES, broken_properties, told

FAILED, INVALID = 1, 3


def check(
    name: Annotated[str, typer.Argument(metavar="POLICY", help="module:Name, or the name of an installed policy.")],
    policy_path: Annotated[
        list[Path] | None, typer.Option("--policy-path", metavar="DIRECTORY", help="Where to look for the module, after all else.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed tries other loads and parameters.")] = 0,
) -> None:
    """Tell which properties of a policy it breaks. Exits with 1 if there are any, with 3 if it is no policy at all."""
    try:
        add_path(policy_path or [])
        policy = find(name).policy
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(INVALID) from error
    failures = broken_properties(policy, seed=seed)
    if failures:
        typer.echo(told(policy, failures))
        raise typer.Exit(FAILED)
    excused = sorted(getattr(policy, "breaks", ()))
    but = f"all but {', '.join(excused)}, as it declares, of the" if excused else "all"
    typer.echo(f"{name} keeps {but} {len(PROPERTIES)} properties of a policy: {', '.join(PROPERTIES)}")


if __name__ == "__main__":
    typer.run(check)
