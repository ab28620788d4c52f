"""What ``tune`` does: history of load, pods and objective → the limit of a pod → a diff of the policy file, and a page."""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoscaler import __version__
from autoscaler.cli.history import Span, one_column, opened, promql, ready_pods, wanted
from autoscaler.cli.plan import chosen
from autoscaler.cli.report.charts import Axis, Chart, Line, Points, svg
from autoscaler.cli.report.page import bullets, heading, page, paragraph, preformatted, table
from autoscaler.clock import SystemClock
from autoscaler.core.spec import SeriesSpec
from autoscaler.core.types import Floats, TargetKind, Workload
from autoscaler.errors import ConfigError
from autoscaler.policyfile.durations import parse_duration
from autoscaler.policyfile.load import Loaded, read
from autoscaler.policyfile.syntax import decode
from autoscaler.ports import MetricSource
from autoscaler.simulation.limits import Limit, Witness, limit_of

STEP_S = 60.0
HEADROOM = 0.3
"""What policies without headroom of their own keep free of the limit until a backtest knows better."""

_CARRIED = 0.99


@dataclass(frozen=True, slots=True)
class Objective:
    """What must hold, as given: a latency within a time but for a share of the time, or a share of late requests."""

    latency: str | None
    within: str
    slow: float
    late: str | None
    total: str | None
    risk: float

    @property
    def allowed(self) -> float:
        """The share that may go wrong."""
        return self.slow if self.latency else self.risk

    @property
    def words(self) -> str:
        """In words."""
        if self.latency:
            return f"{self.latency} within {self.within} for {1 - self.slow:.0%} of the time"
        return f"at most {self.risk:.2%} of the requests late"


@dataclass(frozen=True, slots=True)
class Found:
    """What tune found. ``limit`` None: no objective was given; ``carried``: the 99th percentile of load per pod; ``diff`` of the file."""

    workload: Workload
    metric: str
    objective: Objective
    limit: Limit | None
    carried: float
    target: float | None
    rows: int
    sentence: str
    diff: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Past:
    """Columns on one grid ``[row]``."""

    load: Floats
    ready: Floats
    wrong: Floats | None
    total: Floats | None


def search(file: Path, url: str, since: str, which: tuple[str | None, str | None, str | None], objective: Objective) -> Found:
    """Ask Prometheus and find the limit. ``which``: workload, metric, and the query for ready pods, where given."""
    if objective.latency and (objective.late or objective.total):
        raise ConfigError("expected one objective: --latency, or --late with --total")
    if bool(objective.late) != bool(objective.total):
        raise ConfigError("--late and --total: expected both, late requests and all of them per second")
    workload, metric, replicas = which
    loaded = chosen(file, workload)
    spec = loaded.spec
    series = wanted(spec, metric)[0]
    if series.target_kind is not TargetKind.AVERAGE_VALUE:
        raise ConfigError(
            f"metric {series.name}: expected a metric with averageValue; a target of the metric's own value has no load per pod"
        )
    end_s = SystemClock().now() // STEP_S * STEP_S
    try:
        span = Span(end_s - parse_duration(since), end_s, STEP_S)
    except ValueError as error:
        raise ConfigError(f"--since: {error}") from error
    past = asyncio.run(_asked(url, loaded, series, replicas, objective, span))
    notes = _notes(spec.series, series)
    return _found(file, loaded, series, objective, past, notes)


async def _asked(url: str, loaded: Loaded, series: SeriesSpec, replicas: str | None, objective: Objective, span: Span) -> _Past:
    async with opened(url) as source:
        load = await _column(source, f"metric {series.name}", promql(series), span, series.match)
        pods = await ready_pods(source, loaded.spec.workload, span, replicas)
        if pods is None:
            raise ConfigError(
                f"how many pods of {loaded.spec.workload} were ready is not recorded (kube-state-metrics would); give --replicas QUERY"
            )
        wrong, total = None, None
        if objective.latency:
            seconds = await _column(source, "--latency", objective.latency, span)
            wrong = np.where(np.isnan(seconds), np.nan, seconds > _within(objective.within))
            total = np.ones(wrong.size)
        elif objective.late and objective.total:
            wrong = await _column(source, "--late", objective.late, span)
            total = await _column(source, "--total", objective.total, span)
    return _Past(load, pods.values, wrong, total)


def _within(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"--within: {error}") from error


async def _column(source: MetricSource, name: str, text: str, span: Span, match: Sequence[tuple[str, str]] = ()) -> Floats:
    answer = await one_column(source, name, text, span, match)
    if answer is None:
        raise ConfigError(f"{name}: the query returns nothing in the last {span.days}: {text}")
    return answer.values


def _notes(all_series: tuple[SeriesSpec, ...], series: SeriesSpec) -> list[str]:
    return [f"metric {each.name} is left out; --metric chooses another" for each in all_series if each.name != series.name]


def _found(file: Path, loaded: Loaded, series: SeriesSpec, objective: Objective, past: _Past, notes: list[str]) -> Found:
    spec = loaded.spec
    load = _per_pod(past.load, past.ready)
    there = np.isfinite(load)
    if not there.any():
        raise ConfigError(f"{spec.workload}: load and ready pods are never known at the same time")
    carried = float(np.quantile(load[there], _CARRIED))
    limit, target, diff = None, None, ""
    if past.wrong is None or past.total is None:
        sentence = (
            f"pods of {spec.workload} have carried up to {carried:.4g} of {series.name} each (99th percentile of {int(there.sum())} "
            "minutes); whether within the objective is not known: give --latency, or --late and --total"
        )
    else:
        limit = limit_of(Witness(load, past.wrong, past.total, STEP_S), objective.allowed)
        target = limit.load if spec.policy.name == "forecast" else (1 - HEADROOM) * limit.load
        sentence = _sentence(spec.workload, series, limit, objective)
        if spec.policy.name != "forecast":
            sentence += (
                f"; {spec.policy.name} adds no headroom, so {HEADROOM:.0%} of it are kept free: "
                f"`autoscaler backtest --limit {limit.load:.4g}` shows what that costs"
            )
        if not limit.exceeded:
            notes.append(f"no load was too high: the limit is at least {limit.load:.4g}, and may be far more; a load test would tell")
        diff = difference(file, loaded, series, target)
    return Found(spec.workload, series.name, objective, limit, carried, target, int(there.sum()), sentence, diff, tuple(notes))


def _per_pod(load: Floats, ready: Floats) -> Floats:
    """Load per ready pod; NaN where it is not known, and where the count has just changed, as the load has not spread yet."""
    changed = np.concatenate([[False], ready[1:] != ready[:-1]])
    usable = (ready > 0) & ~changed
    return np.asarray(np.divide(load, ready, out=np.full(load.size, np.nan), where=usable), dtype=np.float64)


def _sentence(workload: Workload, series: SeriesSpec, limit: Limit, objective: Objective) -> str:
    what = f"one pod of {workload} carries {limit.load:.4g} of {series.name}"
    return f"{what} (90 % interval {limit.low:.4g} to {limit.high:.4g}, from {limit.rows} minutes) with {objective.words}"


def difference(file: Path, loaded: Loaded, series: SeriesSpec, target: float) -> str:
    """The file with another target, as a unified diff."""
    files, _ = read([file])
    text, _ = decode(files[0].name, files[0].content)
    number = [each.name for each in loaded.policy.spec.metrics].index(series.name)
    mark = loaded.document.root.mark_of(("spec", "metrics", number, "target", "averageValue"))
    before = text.splitlines(keepends=True)
    after = list(before)
    line = after[mark.line - 1]
    start = mark.column - 1
    token = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s,}#]+").match(line, start)
    if token is None:
        raise ConfigError(f"{files[0].name}:{mark.line}: the target is not a plain value on one line, so no diff can be made of it")
    after[mark.line - 1] = f'{line[:start]}"{target:.4g}"{line[token.end() :]}'
    return "".join(difflib.unified_diff(before, after, f"a/{file.name}", f"b/{file.name}"))


def report(found: Found) -> str:
    """The page: the sentence, the plot, the diff."""
    title = f"What one pod of {found.workload} carries"
    parts = [heading(title, 1), paragraph(found.sentence, "lead"), bullets(found.notes)]
    limit = found.limit
    if limit is not None:
        parts += [svg(_plot(found, limit)), heading("In the policy file"), preformatted(found.diff)]
        bins = zip(limit.bins_load, limit.bins_share, limit.fitted, strict=True)
        parts += [
            heading("Figures"),
            table(["load per pod", "went wrong", "made to rise"], [(f"{a:.4g}", f"{b:.3%}", f"{c:.3%}") for a, b, c in bins]),
        ]
    parts.append(paragraph(f"autoscaler {__version__}; nothing was applied", "dim"))
    return page(title, parts)


def _plot(found: Found, limit: Limit) -> Chart:
    allowed = found.objective.allowed
    high = max(4 * allowed, 1e-4)
    edges = np.array([limit.bins_load[0], limit.bins_load[-1]])
    marks: list[Line | Points] = [
        Points("recorded", limit.bins_load, np.minimum(limit.bins_share, high), 4),
        Line("made to rise with the load", limit.bins_load, np.minimum(limit.fitted, high), 0),
        Line("allowed", edges, np.full(2, allowed), 5),
        Line("the limit", np.array([limit.load, limit.load]), np.array([0.0, high]), 2),
    ]
    x, y = Axis(f"{found.metric} per ready pod"), Axis("went wrong", lambda value: f"{100 * value:.3g} %", 0.0, high)
    return Chart("What went wrong at which load per pod", x, y, marks, [(limit.low, limit.high)], "90 % interval of the limit")
