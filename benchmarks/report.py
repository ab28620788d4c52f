"""The result of the policy benchmark as one page that a stranger can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoscaler.cli.report.charts import Axis, Chart, Line, Points, svg
from autoscaler.cli.report.page import heading, page, paragraph, preformatted, table
from autoscaler.simulation.run import RISK
from benchmarks.summary import COLUMNS, FIGURES, HEAD, Row, case_words, cases, duels, plain, summary

POLICIES = ("forecast", "hpa", "movingAverage", "threshold", "hpa-other", "hpa-tuned", "knative", "reactive")
"""In the order of their colours."""

_COST_MAX = 2.0
"""The right end of the charts of cost against lateness; the table has everybody."""

_ABOUT = (
    "Every policy decides through the production code, with its guards, on simulated pods: a pod can do 100 requests a second, carries 85 "
    "of them within its objective, serves 45 s after it is asked for and is billed from then until 30 s after it was removed. Requests are "
    "drawn at random from recorded loads, scaled so that the median needs so many pods. The policy sees one metric, a mean of 60 s that is "
    "15 s old."
)
_READ = (
    "Late: the share of requests that met more load than the ready pods carry; 0.2 % are allowed. Cost: pod-seconds over the bound's, "
    "the least that anybody who knew the future could have spent at 0.2 %. The tuned HPA is the best of 792 settings of target, window and "
    "tolerance, chosen for each trace after the fact; ours has one default for all."
)


def page_of(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """The page."""
    title = "How late and how dear: scaling policies on recorded loads"
    parts = [
        heading(title, 1),
        paragraph(_ABOUT, "lead"),
        paragraph(_READ),
        heading("In short"),
        table(["Figure", *_fleets(rows)], _short(rows)),
        heading("Where ours does worst, first"),
        table([name for name, _ in COLUMNS], [[cell(each) for _, cell in COLUMNS] for each in duels(rows)]),
        heading("Cost against lateness"),
        *_curves(rows),
        heading("The busiest day of each trace"),
        *_days(rows),
        heading("Everybody"),
        table(
            ["trace", "case", "policy", "setting", "late", "cost", "changes/h", "reversals/h", "short of pods", "peak"], _everybody(rows)
        ),
        heading("Where this is from"),
        preformatted("\n".join(f"{name}: {value}" for name, value in about.items())),
    ]
    return page(title, parts)


def _fleets(rows: Sequence[Row]) -> list[str]:
    return [name for name in summary(rows) if name.endswith("replicas")]


def _short(rows: Sequence[Row]) -> list[list[str]]:
    found = summary(rows)
    fleets = _fleets(rows)
    lines = [[words, *(plain(found[fleet][name]) for fleet in fleets)] for name, words in FIGURES.items()]
    lines += [[f"cost with {noise} noise ÷ without", plain(value)] for noise, value in found["noise"].items()]
    lines += [[f"unseen shapes: {name.replace('_', ' ')}", plain(value)] for name, value in found.get("unseen shapes", {}).items()]
    cold = found.get("cold", {})
    return lines + [[f"first day, no history: {name.replace('_', ' ')}", plain(value)] for name, value in cold.items()]


def _curves(rows: Sequence[Row]) -> list[str]:
    """One chart for each trace as the headline has it."""
    found = []
    for key, members in sorted(cases(rows).items()):
        first = members[0]
        if first["fleet"] != 10.0 or any(first[name] != value for name, value in HEAD.items()):  # noqa: PLR2004 - the headline's
            continue
        high = max(5 * RISK, 1.2 * next((row["late_share"] for row in members if row["policy"] == "forecast" and row["default"]), 0.0))
        marks: list[Line | Points] = [
            _points(name, [row for row in members if row["policy"] == name], number, high) for number, name in enumerate(POLICIES)
        ]
        right = max((float(mark.x.max()) for mark in marks if mark.x.size), default=2.0)
        marks.append(Line("allowed", np.array([1.0, right]), np.full(2, RISK), 4))
        axes = Axis("cost ÷ bound", low=1.0, high=right * 1.02), Axis("late", lambda value: f"{100 * value:.3g} %", 0.0, high)
        found.append(svg(Chart(f"{key[0]}, {case_words(first)}", *axes, marks)))
    return found


def _points(name: str, members: Sequence[Row], colour: int, high: float) -> Points:
    near = sorted(
        (row["cost_ratio"], row["late_share"], row["setting"])
        for row in members
        if row["late_share"] <= high and row["cost_ratio"] <= _COST_MAX
    )
    cost, late = (np.array([point[k] for point in near], dtype=np.float64) for k in range(2))
    labels = [f"{setting}: {100 * share:.3f} % at {ratio:.3f}" for ratio, share, setting in near]
    return Points(name, cost, late, colour, joined=name in {"forecast", "movingAverage", "threshold", "knative"}, labels=labels)


def _days(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in rows:
        if row["policy"] == "day":
            day = row["day"]
            hours = np.array(day["hours"])
            marks: list[Line | Points] = [Line("pods that the load needs", hours, np.array(day["needed"]), 4, area=True)]
            marks += [Line(name, hours, np.array(ready), number, step=True) for number, (name, ready) in enumerate(day["ready"].items())]
            found.append(svg(Chart(row["trace"], Axis("hours since the trace began"), Axis("ready pods", low=0.0), marks)))
    return found


def _everybody(rows: Sequence[Row]) -> list[list[str]]:
    """Every competitor; of the HPA's other settings only the chart shows all."""
    return [
        [
            str(row["trace"]),
            case_words(row),
            str(row["policy"]),
            str(row["setting"]),
            f"{100 * row['late_share']:.3f} %",
            f"{row['cost_ratio']:.3f}",
            f"{row['scale_actions_per_hour']:.1f}",
            f"{row['reversals_per_hour']:.1f}",
            f"{100 * row['under_share']:.2f} %",
            f"{row['peak_replicas']:.0f}",
        ]
        for row in sorted(rows, key=lambda row: (row["trace"], row.get("cold", False), row["policy"], row.get("setting", "")))
        if row["policy"] not in {"day", "hpa-other"}
    ]
