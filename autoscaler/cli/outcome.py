"""Runs a backtest, with a progress bar on a terminal, and prints what came of it: a table, JSON, a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from autoscaler import __version__
from autoscaler.cli.options import Format
from autoscaler.cli.output import print_json, print_table, say
from autoscaler.cli.plan import Plan
from autoscaler.cli.report.charts import Axis, Chart, Line, Points, svg
from autoscaler.cli.report.page import bullets, heading, page, paragraph, table
from autoscaler.core.types import Floats
from autoscaler.errors import ConfigError
from autoscaler.policyfile.durations import format_duration
from autoscaler.simulation.comparison import Comparison, Entry, Progress, busiest, compare
from autoscaler.simulation.load import duration
from autoscaler.simulation.recorded import stretches
from autoscaler.simulation.score import Trajectory

HEADER = ("POLICY", "COST ÷ BOUND", "LATE", "POD-HOURS", "CHANGES/H", "REVERSALS/H", "PEAK", "SHORT OF PODS", "SETTING")


def show(plan: Plan, output: Format, html: Path | None) -> None:
    """Compare, print, and write the page if one is wanted."""
    if html is not None and not html.parent.is_dir():
        raise ConfigError(f"--html {html}: no such directory: {html.parent}")
    with progress_bar() as progress:
        found = compare(plan.ground, plan.spec, plan.against, progress)
    for note in plan.notes:
        say(f"note: {note}")
    if output is Format.JSON:
        print_json(as_json(plan, found))
    else:
        print_table(HEADER, rows(found))
        say(verdict(plan, found))
    if html is not None:
        try:
            html.write_text(report(plan, found), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--html {html}: cannot be written: {error.strerror or error}") from error
        say(f"wrote {html}")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for each stage on a terminal; silence elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _stage, _share: None
        return
    with Bars(console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def told(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=share)

        yield told


def as_json(plan: Plan, found: Comparison) -> dict[str, Any]:
    """All figures, with what they rest on."""
    ground, plant = plan.ground, plan.ground.setup.plant
    tuning = found.tuning
    return {
        "trace": ground.trace,
        "workload": {"namespace": plan.spec.workload.namespace, "kind": plan.spec.workload.kind, "name": plan.spec.workload.name},
        "results": [_plain({**entry.figures, "setting": entry.setting}) for entry in found.entries],
        "bound": {"pod_seconds": found.bound.pod_seconds, "allowed_late_share": ground.risk},
        "hpa_at_equal_cost": _plain({"late_share": found.equal_cost_late}),
        "hpa_tuned": None if tuning is None else {"reached": tuning.reached, "settings_tried": len(tuning.tried)},
        "plant": {
            "limit": plan.limit,
            "capacity": float(plant.capacity),
            "knee": plant.knee,
            "model": plant.model.value,
            "startup_s": plan.startup.seconds,
            "startup_from": plan.startup.origin,
            "drain_s": plant.drain_s,
            "patience_s": plant.patience_s,
            "step_s": plant.step_s,
            "signal": ground.setup.measure.value,
            "window_s": ground.setup.window_s,
            "age_s": ground.setup.age_s,
        },
        "span_s": ground.rate.size * plant.step_s,
        "warm_up_s": ground.warm_s,
        "unknown_share": float(plan.unknown.mean()),
        "notes": list(plan.notes),
        "version": __version__,
    }


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known is null."""
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in figures.items()}


def rows(found: Comparison) -> list[tuple[str, ...]]:
    """The table's lines: everybody, and the bound."""
    lines = [_row(entry) for entry in found.entries]
    bound = found.bound
    late = bound.late / max(float(found.ground.arrivals[found.ground.warm :].sum()), 1.0)
    hours = f"{bound.pod_seconds / 3600:.1f}"
    return [*lines, ("bound", "1.000", f"{late:.3%}", hours, "", "", "", "", "the least that anybody could have spent")]


def _row(entry: Entry) -> tuple[str, ...]:
    figures = entry.figures
    return (
        entry.name,
        f"{figures['cost_ratio']:.3f}",
        f"{figures['late_share']:.3%}",
        f"{figures['pod_seconds'] / 3600:.1f}",
        f"{figures['scale_actions_per_hour']:.1f}",
        f"{figures['reversals_per_hour']:.1f}",
        f"{figures['peak_replicas']:.0f}",
        f"{figures['under_share']:.2%}",
        entry.setting,
    )


def verdict(plan: Plan, found: Comparison) -> str:
    """The result in a sentence or two."""
    own, *peers = found.entries
    allowed = f"{plan.ground.risk:.2%} allowed"
    cost, late = own.figures["cost_ratio"], own.figures["late_share"]
    sentences = [f"{own.name} would have cost {cost:.2f} times the bound, with {late:.3%} late ({allowed})."]
    for peer in peers:
        change = own.figures["pod_seconds"] / peer.figures["pod_seconds"] - 1
        name = "An HPA at 60 %" if peer.name == "hpa" else "The HPA tuned in hindsight"
        less = f"{abs(change):.1%} {'less' if change < 0 else 'more'}"
        sentences.append(f"{name}: {peer.figures['late_share']:.3%} late; {own.name} costs {less}.")
    if isfinite(found.equal_cost_late):
        sentences.append(f"At the cost of {own.name}, the best HPA setting would have had {found.equal_cost_late:.3%} late.")
    return " ".join(sentences)


def report(plan: Plan, found: Comparison) -> str:
    """The page."""
    workload, ground = plan.spec.workload, plan.ground
    scored_s = ground.rate.size * ground.setup.plant.step_s - ground.warm_s
    title = f"Backtest of {workload.namespace}/{workload.name}: {plan.spec.policy.name}"
    parts = [
        heading(title, 1),
        paragraph(f"{duration(scored_s)} of load from {ground.trace}; {_when(plan)}", "dim"),
        paragraph(verdict(plan, found), "lead"),
        table([name.capitalize() for name in HEADER], rows(found), own=[0], words=True),
        paragraph(
            "Cost is pod-seconds, from asking for a pod until it has gone, over the bound's: the least that any policy with the same "
            "start-up time could have spent had it known the future. A request is late if it arrives beyond what the ready pods carry "
            "within their objective.",
            "dim",
        ),
        *_notes(plan),
        heading("The busiest day"),
        *_day(plan, found),
        heading("The whole time"),
        *_overview(plan, found),
        *_curve(plan, found),
        heading("What was assumed"),
        table(["What", "Value"], _assumptions(plan), words=True),
        paragraph(f"autoscaler {__version__}", "dim"),
    ]
    return page(title, parts)


def _when(plan: Plan) -> str:
    warm = f"the first {duration(plan.ground.warm_s)} are warm-up and not scored" if plan.ground.warm_s else "all of it is scored"
    if not plan.dated:
        return warm
    return f"from {datetime.fromtimestamp(plan.ground.start_s, UTC):%Y-%m-%d %H:%M UTC}; {warm}"


def _notes(plan: Plan) -> list[str]:
    return [heading("To know before you believe it", 3), bullets(plan.notes)] if plan.notes else []


def _day(plan: Plan, found: Comparison) -> list[str]:
    """Replicas over load, and lateness, for the day with the highest load."""
    begin, end = busiest(plan.ground)
    hours = _hours(plan, begin, end)
    need = plan.ground.rate[plan.ground.warm + begin : plan.ground.warm + end] / plan.limit
    x = Axis("hours since the score began")
    bands = _bands(plan, begin, end)
    marks = [Line("pods that the load needs", hours, need, 4, area=True)]
    marks += _ready(found, hours, begin, end)
    late = [Line(entry.name, hours, _share(entry.trajectory)[begin:end], k) for k, entry in enumerate(found.entries)]
    meaning = "pods saturated: true load unknown here"
    return [
        svg(Chart("Ready pods over the load", x, Axis("pods", low=0.0), marks, bands, meaning)),
        svg(Chart("Late requests, as a share of each step's", x, Axis("late", _percent, low=0.0), late, bands, meaning)),
    ]


def _overview(plan: Plan, found: Comparison) -> list[str]:
    end = plan.ground.rate.size - plan.ground.warm
    days = _hours(plan, 0, end) / 24
    need = plan.ground.rate[plan.ground.warm :] / plan.limit
    marks = [Line("pods that the load needs", days, need, 4, area=True)]
    marks += _ready(found, days, 0, end)
    bands = [(first / 24, last / 24) for first, last in _bands(plan, 0, end)]
    axes = Axis("days since the score began"), Axis("pods", low=0.0)
    return [svg(Chart("Ready pods over the load", *axes, marks, bands, "pods saturated: true load unknown here"))]


def _curve(plan: Plan, found: Comparison) -> list[str]:
    """Cost against lateness: every HPA setting that was tried, and who else ran."""
    if found.tuning is None:
        return []
    bound = found.bound.pod_seconds
    tried = [(cost / bound, late, str(setting)) for setting, late, cost in found.tuning.tried]
    kept = [entry for entry in found.entries if entry.name != "hpa-tuned"]
    most = max(2.0, *(entry.figures["cost_ratio"] for entry in kept))
    near = [point for point in tried if point[0] <= 1.5 * most]
    costs, lates, names = ([point[k] for point in near] for k in range(3))
    marks: list[Line | Points] = [
        Points("HPA settings", np.array(costs, float), np.array(lates, float), 4, labels=[str(name) for name in names])
    ]
    for k, entry in enumerate(found.entries):
        spot = np.array([entry.figures["cost_ratio"]]), np.array([entry.figures["late_share"]])
        marks.append(Points(entry.name, *spot, k, labels=[entry.setting]))
    allowed = np.array([1.0, max([*costs, most])]), np.full(2, plan.ground.risk)
    marks.append(Line("allowed", *allowed, 5))
    high = min(max(4 * plan.ground.risk, *(1.2 * entry.figures["late_share"] for entry in kept)), 1.0)
    kept_marks = [_within(mark, high) if isinstance(mark, Points) else mark for mark in marks]
    chart = Chart(
        "Cost against lateness (nearer to the lower left is better)", Axis("cost ÷ bound"), Axis("late", _percent, 0.0, high), kept_marks
    )
    return [heading("Could another HPA setting have done it?"), svg(chart)]


def _within(points: Points, high: float) -> Points:
    inside = points.y <= high
    labels = [label for label, shown in zip(points.labels, inside, strict=True) if shown]
    return Points(points.name, points.x[inside], points.y[inside], points.colour, points.joined, labels)


def _assumptions(plan: Plan) -> list[tuple[str, str]]:
    plant, setup = plan.ground.setup.plant, plan.ground.setup
    return [
        ("a pod carries within its objective", f"{plan.limit:g} per second"),
        ("a pod can do at all", f"{float(plant.capacity):g} per second"),
        ("from asking for a pod to its serving", f"{plan.startup.seconds:g} s ({plan.startup.origin})"),
        ("a removed pod is billed on for", format_duration(plant.drain_s)),
        ("a request is dropped after waiting", format_duration(plant.patience_s)),
        ("late requests may be", f"{plan.ground.risk:.2%}"),
        ("lateness follows", "a knee: what is beyond the limit is late" if plant.model.value == "knee" else "M/M/c queues"),
        ("policies see", f"{setup.measure.value}, as means of {setup.window_s:g} s that are {setup.age_s:g} s old"),
        ("replicas", f"{plan.spec.min_replicas} to {plan.spec.max_replicas}"),
        ("a decision every", format_duration(plan.spec.interval_s)),
        ("requests", f"seed {plan.ground.seed}"),
    ]


def _hours(plan: Plan, begin: int, end: int) -> Floats:
    return np.asarray(np.arange(begin, end) * plan.ground.setup.plant.step_s / 3600, dtype=np.float64)


def _bands(plan: Plan, begin: int, end: int) -> Sequence[tuple[float, float]]:
    warm, step_s = plan.ground.warm, plan.ground.setup.plant.step_s
    runs = stretches(plan.unknown[warm + begin : warm + end])
    return [((begin + first) * step_s / 3600, (begin + last) * step_s / 3600) for first, last in runs]


def _ready(found: Comparison, x: Floats, begin: int, end: int) -> list[Line]:
    return [Line(f"{entry.name}: ready", x, entry.trajectory.ready[begin:end, 0], k, step=True) for k, entry in enumerate(found.entries)]


def _share(steps: Trajectory) -> Floats:
    """The late requests of each step, as a share."""
    return np.asarray(steps.late[:, 0] / np.maximum(steps.arrivals[:, 0], 1.0), dtype=np.float64)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
