"""``autoscaler tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoscaler.cli.options import Format, FormatOption, PolicyPathOption

if TYPE_CHECKING:
    from autoscaler.cli.objective import Found

OBJECTIVE = "What must hold"


def tune(
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The policy file; - for stdin.")],
    prometheus: Annotated[str, typer.Option(metavar="URL", help="Where its history is.")],
    since: Annotated[str, typer.Option(help="How much history to look at.")] = "14d",
    workload: Annotated[str | None, typer.Option(metavar="[NAMESPACE/]NAME", help="Which policy, if the file has several.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric whose limit is wanted, if the policy has several.")] = None,
    replicas: Annotated[
        str | None, typer.Option(metavar="QUERY", help="Ready pods; default: as kube-state-metrics has them.", show_default=False)
    ] = None,
    latency: Annotated[str | None, typer.Option(metavar="QUERY", help="A latency in seconds.", rich_help_panel=OBJECTIVE)] = None,
    within: Annotated[str, typer.Option(help="What the latency must stay within.", rich_help_panel=OBJECTIVE)] = "500ms",
    slow: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="The share of the time in which it need not.", rich_help_panel=OBJECTIVE)
    ] = 0.05,
    late: Annotated[str | None, typer.Option(metavar="QUERY", help="Late requests per second.", rich_help_panel=OBJECTIVE)] = None,
    total: Annotated[str | None, typer.Option(metavar="QUERY", help="All requests per second.", rich_help_panel=OBJECTIVE)] = None,
    risk: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="The share of requests that may be late.", rich_help_panel=OBJECTIVE)
    ] = 0.002,
    output: FormatOption = Format.TABLE,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with the plot.")] = None,
    policy_path: PolicyPathOption = None,
) -> None:
    """Find out what one pod carries within its objective, and print how the policy file would say it. Applies nothing.

    The objective is a latency (--latency, --within) or late requests (--late, --total). Without one, only what pods have carried is
    said, which is no limit.
    """
    from autoscaler.cli.objective import Objective, search
    from autoscaler.cli.output import print_json, say
    from autoscaler.registry import add_path

    add_path(policy_path or [])
    objective = Objective(latency, within, slow, late, total, risk)
    found = search(file, prometheus, since, (workload, metric, replicas), objective)
    for note in found.notes:
        say(f"note: {note}")
    if output is Format.JSON:
        print_json(_as_json(found))
    else:
        say(found.sentence)
        typer.echo(found.diff, nl=False)
    if html is not None:
        _write(found, html)


def _as_json(found: Found) -> dict[str, Any]:
    limit = found.limit
    known = None if limit is None else {"load": limit.load, "low": limit.low, "high": limit.high, "exceeded": limit.exceeded}
    return {
        "workload": str(found.workload),
        "metric": found.metric,
        "limit": known,
        "carried": found.carried,
        "target": found.target,
        "rows": found.rows,
        "diff": found.diff,
        "notes": list(found.notes),
    }


def _write(found: Found, html: Path) -> None:
    from autoscaler.cli.objective import report
    from autoscaler.cli.output import say
    from autoscaler.errors import ConfigError

    try:
        html.write_text(report(found), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {html}: cannot be written: {error.strerror or error}") from error
    say(f"wrote {html}")
