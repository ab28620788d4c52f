"""``autoscaler run``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autoscaler.cli.options import PolicyPathOption


class Mode(StrEnum):
    """The freest mode that any workload may have."""

    ACTIVE = "active"
    DRY_RUN = "dryRun"
    PAUSED = "paused"


class LogFormat(StrEnum):
    """Forms of log lines."""

    AUTO = "auto"
    HUMAN = "human"
    JSON = "json"


def run(
    policies: Annotated[list[Path] | None, typer.Argument(help="Directories or files of policies.", show_default=False)] = None,
    prometheus: Annotated[str | None, typer.Option(metavar="URL", help="The Prometheus that policies ask where they name none.")] = None,
    kubeconfig: Annotated[str | None, typer.Option(metavar="FILE", help="Default: $KUBECONFIG, the pod's account, ~/.kube/config.")] = None,
    context: Annotated[str | None, typer.Option(help="A context of the kubeconfig.")] = None,
    namespace: Annotated[list[str] | None, typer.Option("--namespace", "-n", help="Act only here; may be repeated.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="The freest mode that any workload may have.")] = None,
    state: Annotated[str | None, typer.Option(metavar="WHERE", help="What outlives a restart: kubernetes, a directory, or none.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="How log lines look.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of settings.")] = None,
    policy_path: PolicyPathOption = None,
) -> None:
    """Scale the workloads that the policies name, until SIGTERM.

    Every option is also a setting: AUTOSCALER_MODE, AUTOSCALER_PROMETHEUS_URL and so on, or a line of the TOML file.
    """
    import asyncio

    from autoscaler import logs
    from autoscaler.registry import add_path
    from autoscaler.service import Service, build
    from autoscaler.settings import load

    settings = load(
        {
            "policies": tuple(policies) if policies else None,
            "prometheus": {"default": {"url": prometheus}},
            "kubeconfig": kubeconfig,
            "context": context,
            "namespaces": tuple(namespace) if namespace else None,
            "mode": mode and mode.value,
            "state": state,
            "listen_host": host,
            "listen_port": port,
            "log_format": log_format and log_format.value,
            "log_level": log_level,
            "policy_path": tuple(policy_path) if policy_path else None,
        },
        config,
    )
    logs.configure(settings.log_format, settings.log_level)
    add_path(settings.policy_path)

    async def serve() -> None:
        async with build(settings) as parts:
            await Service(parts).run()

    asyncio.run(serve())
