"""``autoscaler validate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoscaler.cli import INVALID
from autoscaler.cli.options import Format, FormatOption, PolicyPathOption
from autoscaler.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes.check import Checker
    from autoscaler.core.health.policy import HealthSpec
    from autoscaler.core.spec import WorkloadSpec
    from autoscaler.policyfile.problems import Problem
    from autoscaler.ports import PolicySet


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", readable=False, help="Files, directories of *.yaml and *.yml, or - for stdin."),
    ],
    output: FormatOption = Format.TABLE,
    policy_path: PolicyPathOption = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Look at the cluster too: targets, rights, other writers.")] = False,
    kubeconfig: Annotated[str, typer.Option(metavar="FILE", help="For --cluster. Default: $KUBECONFIG, ~/.kube/config.")] = "",
    context: Annotated[str, typer.Option(help="For --cluster: a context of the kubeconfig.")] = "",
) -> None:
    """Check policy files, and print what they scale and watch over.

    Every mistake of every file is told at once, as file:line:column: field: what, and what would be right. Needs no cluster and no
    Prometheus, unless --cluster is given: then it warns of targets that do not exist, of rights that this login lacks, and of HPAs,
    ScaledObjects and field managers that set the same replicas. Exits with 3 if a file is wrong.
    """
    from autoscaler.clock import SystemClock
    from autoscaler.errors import ConfigError
    from autoscaler.policyfile.load import assemble, parse, read, remarks, to_specs
    from autoscaler.policyfile.problems import PolicyFileError
    from autoscaler.policyfile.specs import ANY
    from autoscaler.registry import add_path

    add_path(policy_path or [])
    now_s = SystemClock().now()
    files, unread = read(paths)
    if not files and not unread:
        raise ConfigError(f"no policy files (*.yaml, *.yml) in {', '.join(map(str, paths))}")
    try:
        policies = assemble([parse(file) for file in files], unread)
    except PolicyFileError as error:
        _refuse(error.problems, output)
        raise typer.Exit(INVALID) from error
    taken = to_specs(policies, now_s)
    specs = (*taken.specs, *(selection.row(ANY) for selection in taken.selections))
    found = _looked_at(taken, kubeconfig, context) if cluster else None
    _accept(specs, taken.health, remarks(policies.scaling, now_s), found, output)


def _refuse(problems: Sequence[Problem], output: Format) -> None:
    if output is Format.JSON:
        errors = [_problem(problem) for problem in problems]
        print_json({"valid": False, "errors": errors, "warnings": [], "workloads": [], "health": []})
    else:
        for problem in problems:
            say(str(problem))
    mistakes, files = len(problems), len({problem.file for problem in problems})
    say(f"error: {mistakes} {'mistake' if mistakes == 1 else 'mistakes'} in {files} {'file' if files == 1 else 'files'}")


def _looked_at(policies: PolicySet, kubeconfig: str, context: str) -> list[tuple[WorkloadSpec, str]]:
    """What stands between the policies and the cluster, a sentence each."""
    import asyncio

    from autoscaler.adapters.kubernetes.check import checking
    from autoscaler.core.spec import Usage

    async def look() -> list[tuple[WorkloadSpec, str]]:
        async with checking(kubeconfig, context) as checker:
            specs, told = await _expanded(policies, checker)
            found = await checker.check([spec.workload for spec in specs])
            users = [spec for spec in specs if any(isinstance(series.query, Usage) for series in spec.series)]
            unknown = {spec.workload: await checker.usage(spec.workload.namespace) for spec in users}
        told += [(spec, sentence) for spec in specs for sentence in [*found[spec.workload], unknown.get(spec.workload, "")]]
        return [(spec, sentence) for spec, sentence in told if sentence]

    return asyncio.run(look())


async def _expanded(policies: PolicySet, checker: Checker) -> tuple[list[WorkloadSpec], list[tuple[WorkloadSpec, str]]]:
    """A row for each workload that is named or found now, as the service would make it, and what is wrong with the finding."""
    from autoscaler.policyfile.specs import ANY

    rows = {spec.workload: spec for spec in policies.specs}
    named = frozenset(rows)
    told: list[tuple[WorkloadSpec, str]] = []
    for selection in sorted(policies.selections, key=lambda each: each.origin):
        selector, found = selection.selector, await checker.select(selection.selector)
        if isinstance(found, str):
            told.append((selection.row(ANY), found))
            continue
        if not found:
            told.append((selection.row(ANY), f"its selector finds no {selector.kind} in namespace {selector.namespace}"))
        for name in found:
            row = selection.row(name)
            first = rows.setdefault(row.workload, row)
            if first is not row and row.workload not in named:
                told.append((row, f"{first.origin} applies, not this policy, which selects it too"))
    return list(rows.values()), told


def _accept(
    specs: Sequence[WorkloadSpec],
    health: Sequence[HealthSpec],
    warnings: Sequence[Problem],
    cluster: list[tuple[WorkloadSpec, str]] | None,
    output: Format,
) -> None:
    if output is Format.JSON:
        found = {
            "warnings": [_problem(problem) for problem in warnings],
            "workloads": [_workload(spec) for spec in specs],
            "health": [_watched(spec) for spec in health],
        }
        if cluster is not None:
            found["cluster"] = [_remark(spec, sentence) for spec, sentence in cluster]
        print_json({"valid": True, "errors": [], **found})
    else:
        _show(specs, health)
        for problem in warnings:
            say(f"warning: {problem}")
        for spec, sentence in cluster or ():
            say(f"warning: {spec.origin}: {spec.workload}: {sentence}")
    count = len(specs) + len(health)
    say(f"{count} {'policy is' if count == 1 else 'policies are'} valid")


def _show(specs: Sequence[WorkloadSpec], health: Sequence[HealthSpec]) -> None:
    """A table for each kind of policy that there is."""
    if specs or not health:
        header = ("NAMESPACE", "WORKLOAD", "POLICY", "INTERVAL", "MIN", "MAX", "MODE", "FROM")
        print_table(header, [_row(spec) for spec in specs])
    if health:
        if specs:
            typer.echo()
        columns = ("NAMESPACE", "HEALTH POLICY", "SELECTOR", "ACTS ON", "NOTIFY", "FROM")
        print_table(columns, [_health_row(spec) for spec in health])


def _health_row(spec: HealthSpec) -> tuple[object, ...]:
    data = _watched(spec)
    acts = ", ".join(f"{name} ({choice})" for name, choice in data["remedies"].items() if choice != "report")
    names = (data["selector"] or "(all)", acts or "(reports only)", ", ".join(data["notify"]) or "-")
    return (data["namespace"], data["name"], *names, data["from"])


def _watched(spec: HealthSpec) -> dict[str, Any]:
    from autoscaler.policyfile.health import waits_as_given

    return {
        "namespace": spec.namespace,
        "name": spec.name,
        "selector": ", ".join(map(str, spec.requirements)),
        "remedies": {name: str(choice) for name, choice in spec.remedies.items()},
        "daemonSets": spec.daemon_sets,
        "perWorkloadPerHour": spec.per_workload_hour,
        "waits": waits_as_given(spec.waits),
        "notify": list(spec.sinks),
        "from": spec.origin,
    }


def _row(spec: WorkloadSpec) -> tuple[object, ...]:
    data = _workload(spec)
    workload = f"{data['kind']}/{data['name']}"
    bounds = (data["minReplicas"], data["maxReplicas"])
    return (data["namespace"], workload, data["policy"]["type"], data["interval"], *bounds, data["mode"], data["from"])


def _workload(spec: WorkloadSpec) -> dict[str, Any]:
    from autoscaler.policyfile.durations import format_duration
    from autoscaler.policyfile.parameters import as_given
    from autoscaler.policyfile.specs import mode_name

    workload = spec.workload
    return {
        "namespace": workload.namespace,
        "apiVersion": workload.api_version,
        "kind": workload.kind,
        "name": workload.name,
        "metrics": [series.name for series in spec.series],
        "policy": as_given(spec.policy),
        "interval": format_duration(spec.interval_s),
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
        "mode": mode_name(spec.mode),
        "from": spec.origin,
    }


def _remark(spec: WorkloadSpec, sentence: str) -> dict[str, Any]:
    workload = spec.workload
    return {"namespace": workload.namespace, "kind": workload.kind, "name": workload.name, "from": spec.origin, "message": sentence}


def _problem(problem: Problem) -> dict[str, Any]:
    place = {"file": problem.file, "line": problem.line or None, "column": problem.column or None}
    return {**place, "field": problem.field or None, "message": problem.text}
