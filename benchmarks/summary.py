"""The figures that the rows come to: per trace and variant ours beside the peers, and over all traces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from autoscaler.simulation.peers import late_at
from autoscaler.simulation.run import RISK
from benchmarks.matrix import FINE

Row = dict[str, Any]

VARIANT = ("trace", "signal", "model", "flags", "hold", "cold", "fleet", "startup_s", "noise", "seed")
HEAD = {"signal": "served", "model": "knee", "flags": True, "hold": False, "cold": False, "startup_s": 45.0, "noise": 0.0, "seed": 0}
CLOSE = 1.1
"""Lateness up to this much above the risk counts as kept: it is a share of requests that are drawn by chance."""


def cases(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """The rows with figures, by trace and variant."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["policy"] != "day":
            found.setdefault(tuple(row[name] for name in VARIANT), []).append(row)
    return found


def pick(rows: Iterable[Row], policy: str) -> Row | None:
    """A policy as it comes."""
    return next((row for row in rows if row["policy"] == policy and row["default"]), None)


def duel(rows: Sequence[Row]) -> dict[str, Any] | None:
    """``forecast`` beside the HPAs in one case; None if it has not run there."""
    own, usual, best = pick(rows, "forecast"), pick(rows, "hpa"), pick(rows, "hpa-tuned")
    if own is None or usual is None:
        return None
    found = {name: own[name] for name in VARIANT}
    found |= {
        "late": own["late_share"],
        "cost": own["cost_ratio"],
        "actions": own["scale_actions_per_hour"],
        "hpa_late": usual["late_share"],
        "hpa_cost": usual["cost_ratio"],
        "against_hpa": own["pod_seconds"] / usual["pod_seconds"],
        "tuned_late": None,
        "against_tuned": None,
        "reached": None,
        "setting": None,
    }
    if best is not None:
        found |= {"tuned_late": best["late_share"], "reached": best["reached"], "setting": best["setting"]}
        found["against_tuned"] = own["pod_seconds"] / best["pod_seconds"]
    curve = [(row["pod_seconds"], row["late_share"]) for row in rows if row["policy"] == "forecast"]
    at = late_at(curve, usual["pod_seconds"])
    cheapest = max(curve)
    # Where even its dearest setting costs less than the HPA, that one's lateness stands for it.
    found["late_at_hpa_cost"] = at if at == at else (cheapest[1] if cheapest[0] < usual["pod_seconds"] else None)  # noqa: PLR0124 - NaN
    return found


def duels(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Of every case, losers first."""
    found = [each for each in map(duel, cases(rows).values()) if each is not None]
    return sorted(found, key=lambda each: -_rank(each))


def _rank(each: dict[str, Any]) -> float:
    """How badly ours does: late where it must not be counts most, then cost."""
    over = max(0.0, each["late"] / (CLOSE * RISK) - 1)
    late = over if each["reached"] else 0.0
    return 10 * late + float(each["against_tuned"] or each["against_hpa"])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.exp(np.mean(np.log(values)))) if values else None


def _is_head(each: dict[str, Any], fleet: float) -> bool:
    return each["trace"] in FINE and each["fleet"] == fleet and all(each[name] == value for name, value in HEAD.items())


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The aims' figures, for each fleet: counts, geometric means, worst cases."""
    all_duels = duels(rows)
    found: dict[str, Any] = {}
    for fleet in (10.0, 20.0):
        head = [each for each in all_duels if _is_head(each, fleet)]
        reached = [each for each in head if each["reached"]]
        if head:
            found[f"{fleet:g} replicas"] = {
                "traces": len(head),
                "late_kept": f"{sum(each['late'] <= CLOSE * RISK for each in reached)} of {len(reached)}",
                "cost_to_tuned": _mean([each["against_tuned"] for each in reached]),
                "cost_to_tuned_worst": max((each["against_tuned"] for each in reached), default=None),
                "cost_to_hpa": _mean([each["against_hpa"] for each in head]),
                "crowd_late_at_hpa_cost": _crowds(head),
                "actions_per_hour_median": float(np.median([each["actions"] for each in head])),
            }
    found["noise"] = {f"{noise:.0%}": _noise(all_duels, noise) for noise in (0.02, 0.05)}
    cold = [each for each in all_duels if each["cold"]]
    if cold:
        found["cold"] = {
            "cost_to_hpa": _mean([each["against_hpa"] for each in cold]),
            "late_kept": f"{sum(each['late'] <= max(RISK, 1.05 * each['hpa_late']) for each in cold)} of {len(cold)}",
            "worst_late": max(each["late"] for each in cold),
        }
    return found


def _crowds(head: Sequence[dict[str, Any]]) -> float | None:
    """On the trace of flash crowds: late at the cost of the HPA at 60 %, relative to the HPA's."""
    crowd = next((each for each in head if each["trace"].startswith("tweets")), None)
    if crowd is None or crowd["late_at_hpa_cost"] is None or not crowd["hpa_late"]:
        return None
    return float(crowd["late_at_hpa_cost"] / crowd["hpa_late"])


def _noise(all_duels: Sequence[dict[str, Any]], noise: float) -> float | None:
    """Cost with noise relative to none, geometric mean over traces."""

    def costs(at: float) -> dict[str, float]:
        wanted = {**HEAD, "noise": at}
        return {
            each["trace"]: each["cost"]
            for each in all_duels
            if each["fleet"] == 10.0 and each["trace"] in FINE and all(each[name] == value for name, value in wanted.items())  # noqa: PLR2004
        }

    calm, noisy = costs(0.0), costs(noise)
    return _mean([noisy[trace] / calm[trace] for trace in calm.keys() & noisy.keys()])


Cell = Callable[[dict[str, Any]], str]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3f} %"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def case_words(each: dict[str, Any]) -> str:
    """What is special about a case, in words."""
    words = [f"{each['fleet']:g} pods"]
    words += [f"start-up {each['startup_s']:g} s"] if each["startup_s"] != HEAD["startup_s"] else []
    words += [f"noise {each['noise']:.0%}"] if each["noise"] else []
    words += [str(each[name]) for name in ("signal", "model") if each[name] != HEAD[name]]
    words += [name for name in ("cold", "hold") if each[name]] + ([] if each["flags"] else ["saturation not told"])
    words += [f"seed {each['seed']}"] if each["seed"] else []
    return ", ".join(words)


COLUMNS: tuple[tuple[str, Cell], ...] = (
    ("trace", lambda each: str(each["trace"])),
    ("case", case_words),
    ("late", lambda each: _share(each["late"])),
    ("cost", lambda each: _ratio(each["cost"])),
    ("÷ tuned HPA", lambda each: _ratio(each["against_tuned"]) + ("" if each["reached"] in {True, None} else " (not reached)")),
    ("÷ HPA 0.6", lambda each: _ratio(each["against_hpa"])),
    ("tuned late", lambda each: _share(each["tuned_late"])),
    ("HPA late", lambda each: _share(each["hpa_late"])),
    ("HPA cost", lambda each: _ratio(each["hpa_cost"])),
    ("changes/h", lambda each: f"{each['actions']:.1f}"),
)
"""Of a duel: heading, and the cell."""


def lines(rows: Sequence[Row]) -> list[str]:
    """The duels as a table of text, losers first."""
    cells = [[name for name, _ in COLUMNS], *([cell(each) for _, cell in COLUMNS] for each in duels(rows))]
    widths = [max(len(line[k]) for line in cells) for k in range(len(COLUMNS))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
