"""``autoscaler backtest``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autoscaler.cli.options import Format, FormatOption, PolicyPathOption

PLANT, LOAD = "What a pod can do", "What the load is, and what is seen of it"


class Model(StrEnum):
    """How lateness follows from load."""

    KNEE = "knee"
    SLOTS = "slots"


class Signal(StrEnum):
    """What the metric counts."""

    ARRIVALS = "arrivals"
    SERVED = "served"
    UTILISATION = "utilisation"


def backtest(
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The policy file; - for stdin.")],
    trace: Annotated[Path | None, typer.Option(metavar="CSV", help="A recorded load: timestamp_s,rate.", rich_help_panel=LOAD)] = None,
    prometheus: Annotated[str | None, typer.Option(metavar="URL", help="Your own history.", rich_help_panel=LOAD)] = None,
    since: Annotated[str, typer.Option(help="How much history to ask Prometheus for.", rich_help_panel=LOAD)] = "14d",
    workload: Annotated[str | None, typer.Option(metavar="[NAMESPACE/]NAME", help="Which policy, if the file has several.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric to simulate, if the policy has several.", rich_help_panel=LOAD)] = None,
    against: Annotated[str, typer.Option(help="Whom to compare with: hpa, hpa-tuned, both, or none.")] = "hpa,hpa-tuned",
    output: FormatOption = Format.TABLE,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with charts.")] = None,
    limit: Annotated[
        float | None, typer.Option(min=1e-9, help="The most that a pod carries within its objective.", rich_help_panel=PLANT)
    ] = None,
    startup: Annotated[str | None, typer.Option(help="From asking for a pod to its serving.", rich_help_panel=PLANT)] = None,
    knee: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="The limit as a share of what a pod can do.", rich_help_panel=PLANT)
    ] = 0.85,
    drain: Annotated[str, typer.Option(help="How long a removed pod is billed on.", rich_help_panel=PLANT)] = "30s",
    patience: Annotated[str, typer.Option(help="How long a request waits before it is dropped.", rich_help_panel=PLANT)] = "60s",
    model: Annotated[Model, typer.Option(help="Lateness above the knee, or by queueing.", rich_help_panel=PLANT)] = Model.KNEE,
    signal: Annotated[Signal, typer.Option(help="What the metric counts.", rich_help_panel=LOAD)] = Signal.SERVED,
    window: Annotated[str, typer.Option(help="What the metric averages over.", rich_help_panel=LOAD)] = "60s",
    age: Annotated[str, typer.Option(help="How old the metric is at a tick.", rich_help_panel=LOAD)] = "15s",
    median_replicas: Annotated[
        float | None, typer.Option(min=1e-9, help="Scale the load: so many pods carry its median.", rich_help_panel=LOAD)
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Keep each row's rate instead of straight lines.", rich_help_panel=LOAD)] = False,
    warm_up: Annotated[
        str | None, typer.Option(help="What is not scored; default 2d, 4h of less than 4d.", show_default=False, rich_help_panel=LOAD)
    ] = None,
    risk: Annotated[float, typer.Option(min=0.0, max=0.5, help="The share of requests that may be late.")] = 0.002,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals, which are drawn from the load.", rich_help_panel=LOAD)] = 0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Take the load as it is instead of drawing requests.", rich_help_panel=LOAD)
    ] = False,
    policy_path: PolicyPathOption = None,
) -> None:
    """What a policy, and an HPA, would have cost and how late requests would have been, on a recorded load.

    Nothing is changed anywhere. The policy decides as it does in production, on simulated pods; beside it an HPA at 60 %, the best HPA
    that hindsight can tune, and the least that anybody could have spent.
    """
    from autoscaler.cli.outcome import show
    from autoscaler.cli.plan import Wishes, prepare
    from autoscaler.registry import add_path

    add_path(policy_path or [])
    wishes = Wishes(
        file=file,
        trace=trace,
        prometheus=prometheus,
        since=since,
        workload=workload,
        metric=metric,
        against=against,
        limit=limit,
        startup=startup,
        knee=knee,
        drain=drain,
        patience=patience,
        model=model.value,
        signal=signal.value,
        window=window,
        age=age,
        median_replicas=median_replicas,
        hold=hold,
        warm_up=warm_up,
        risk=risk,
        seed=seed,
        exact=exact,
    )
    show(prepare(wishes), output, html)
