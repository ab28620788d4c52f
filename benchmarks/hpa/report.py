"""Phases side by side, each beside the HPA of the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from benchmarks.hpa.phase import Outcome

LABELS = {
    "hpa": "HPA",
    "own": "ours, a query each",
    "many": "ours, one query",
}

HEAD = (
    "workloads",
    "controller",
    "interval",
    "CPU",
    "÷ HPA",
    "RSS",
    "peak",
    "API server",
    "÷ HPA",
    "requests/s",
    "p50",
    "p99",
    "max",
    "missed",
)


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """A row for each phase in the order in which they ran; ratios to the mean of the HPA's phases with as many workloads."""
    found: list[tuple[str, ...]] = []
    for each in outcomes:
        hpa = [other for other in outcomes if other.workloads == each.workloads and other.phase.startswith("hpa")]
        name, _, interval = each.phase.partition("@")
        found.append(
            (
                str(each.workloads),
                LABELS[name],
                interval,
                f"{each.mcpu['controller']:.0f} mCPU",
                _ratio(each.mcpu["controller"], [other.mcpu["controller"] for other in hpa]),
                f"{each.rss_mib:.0f} MiB",
                f"{each.peak_mib:.0f} MiB",
                f"{each.mcpu['apiserver']:.0f} mCPU",
                _ratio(each.mcpu["apiserver"], [other.mcpu["apiserver"] for other in hpa]),
                f"{each.requests_per_s:.0f}",
                f"{each.reaction_p50_s:.1f} s",
                f"{each.reaction_p99_s:.1f} s",
                f"{each.reaction_max_s:.1f} s",
                f"{each.missed} of {each.steps}",
            )
        )
    return found


def markdown(outcomes: Sequence[Outcome], origin: Mapping[str, str]) -> str:
    """The table for README.md, and where it comes from."""
    loads = ", ".join(f"{each.load_average:.1f}" for each in outcomes)
    said = f"{origin['cpu']}, {origin['cores']} cores, Python {origin['python']}; commit {origin['commit']}, {origin['date']}; "
    lines = [HEAD, ("---",) * len(HEAD), *rows(outcomes)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{said}load average of the machine at the end of each phase {loads}.\n\n{table}\n"


def table(outcomes: Sequence[Outcome]) -> str:
    """The same for a terminal."""
    lines = [HEAD, *rows(outcomes)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _ratio(value: float, of: Sequence[float]) -> str:
    return f"{value / fmean(of):.2f}" if of else "–"
