"""``autoscaler demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoscaler.adapters.memory import MemoryCluster, MemorySource
    from autoscaler.adapters.memory_pods import MemoryPods
    from autoscaler.clock import Clock
    from autoscaler.loops.board import Board

SPEED = 60.0
"""An hour passes in a minute."""

LOOK_S = 0.25
SUMMARY_S = 5.0


def demo(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8080,
) -> None:
    """Watch the service scale three workloads of an embedded cluster under recorded loads, an hour a minute, until Ctrl-C.

    Of three more workloads a pod falls ill: one crashes again and again and is replaced, one runs out of memory once, one never
    becomes ready. The service is the real one; only the cluster and the metric source are in memory.
    """
    import asyncio

    from autoscaler import logs

    logs.configure("human", "warning")
    asyncio.run(_play(host, port))


async def _play(host: str, port: int) -> None:
    from importlib.resources import as_file, files

    from autoscaler.adapters.memory import MemoryCluster, MemorySource
    from autoscaler.adapters.memory_pods import MemoryPods
    from autoscaler.adapters.telemetry import PrometheusRecorder
    from autoscaler.clock import FastClock
    from autoscaler.policyfile.reload import DirectoryPolicySource
    from autoscaler.service import Parts, Service, check_policies_package
    from autoscaler.simulation.patients import play
    from autoscaler.simulation.showcase import PATIENTS

    check_policies_package()
    clock = FastClock(SPEED)
    source, cluster, pods = MemorySource(clock), MemoryCluster(clock), MemoryPods(clock)
    _populate(cluster, source, clock)
    _admit(pods, clock)
    answers = ""

    def started(address: str) -> None:
        nonlocal answers
        answers = f"{address}/ (page), /api/v1/workloads, /api/v1/incidents, /metrics, /healthz; Ctrl-C ends it"
        typer.echo(f"the demo answers on {answers}", err=True)

    async def watch() -> None:
        try:
            await _show(service.board, clock, answers)
        except BrokenPipeError:  # whoever read the lines has enough
            service.stop()

    with as_file(files(__package__) / "demo.yaml") as policies:
        parts = Parts(
            source=source,
            cluster=cluster,
            policies=DirectoryPolicySource([policies], clock),
            recorder=PrometheusRecorder(),
            clock=clock,
            host=host,
            port=port,
            pods=pods,
            actions=pods,
            beside=(watch, lambda: play(PATIENTS, pods, clock)),
            on_terminal=True,
        )
        service = Service(parts)
        await service.run(started)


def _populate(cluster: MemoryCluster, source: MemorySource, clock: Clock) -> None:
    """Put the demo's workloads into the cluster, with a past that the source can be asked about."""
    from autoscaler.adapters.memory import scrape
    from autoscaler.simulation.live import rehearsed
    from autoscaler.simulation.showcase import TARGET, stages

    for stage in stages(clock.now()):
        report = scrape(stage, source)
        for reading in rehearsed(stage, clock.now(), TARGET):
            report(reading)
        cluster.host(stage, report)


def _admit(pods: MemoryPods, clock: Clock) -> None:
    """Put the workloads whose pods will fall ill into the cluster, each on a healthy node."""
    from autoscaler.adapters.memory_pods import Template
    from autoscaler.core.health.facts import Condition, Container, Node
    from autoscaler.simulation.showcase import PATIENTS

    for patient in PATIENTS:
        pods.put(Node(patient.node, patient.node, conditions=(Condition("Ready", "True", "KubeletReady", clock.now()),)))
        pods.create(patient.workload, patient.replicas, Template((Container("app", image=patient.image),), patient.node))


async def _show(board: Board, clock: Clock, answers: str) -> None:
    """Follow the workloads for ever: a table on a terminal, lines elsewhere. Times in here are real ones, clock times / speed."""
    from rich.console import Console, Group
    from rich.live import Live

    from autoscaler import logs
    from autoscaler.cli.live import Lines, incident_table, table

    console = Console()
    if not console.is_terminal:
        lines, next_s = Lines(), clock.monotonic()
        while True:
            rows = board.workloads()
            for line in [*lines.changes(rows), *lines.turns(board.incidents(), clock.now())]:
                typer.echo(line)
            if clock.monotonic() >= next_s and (summary := lines.summary(rows)):
                typer.echo(summary)
                next_s = clock.monotonic() + SUMMARY_S * SPEED
            await clock.sleep_until(clock.monotonic() + LOOK_S * SPEED)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        logs.configure("human", "warning")  # again: what is logged from now on is printed above the table
        while True:
            now = f"{_time(clock)}, an hour a minute"
            scaled, ill = table(board.workloads(), f"autoscaler demo: {now}", ""), incident_table(board.incidents(), f"{answers}")
            live.update(Group(scaled, ill), refresh=True)
            await clock.sleep_until(clock.monotonic() + LOOK_S * SPEED)


def _time(clock: Clock) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(clock.now(), UTC).strftime("%Y-%m-%d %H:%M")
