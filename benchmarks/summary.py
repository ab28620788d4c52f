"""The figures that the rows come to: per trace and variant ours beside the peers, and over all traces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from autoscaler.simulation.peers import late_at
from autoscaler.simulation.run import RISK
from benchmarks.matrix import FINE
from benchmarks.shapes import SHAPES

Row = dict[str, Any]

VARIANT = ("trace", "signal", "model", "flags", "hold", "cold", "fleet", "startup_s", "noise", "seed")
HEAD = {"signal": "served", "model": "knee", "flags": True, "hold": False, "cold": False, "startup_s": 45.0, "noise": 0.0, "seed": 0}
SHAPES_FLEET = 10.0
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
    tried = [(row["pod_seconds"], row["late_share"]) for row in rows if row["policy"] in {"hpa-tuned", "hpa-other"}]
    best_there = late_at(tried, own["pod_seconds"])
    # The rule where no setting of the HPA reaches the risk: who is later at the same cost?
    found["hpa_late_at_own_cost"] = best_there if len(tried) > 1 and best_there == best_there else None  # noqa: PLR0124 - NaN
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


FIGURES = {
    "late_kept": "late at most 0.22 % where the tuned HPA reaches 0.2 %",
    "cost_to_tuned": "cost ÷ tuned HPA, geometric mean where it reaches 0.2 %",
    "cost_to_tuned_all": "the same, with the traces where no HPA reaches it",
    "cost_to_tuned_worst": "cost ÷ tuned HPA, worst trace",
    "cost_to_hpa": "cost ÷ HPA at 60 %, geometric mean",
    "crowd_late_at_hpa_cost": "flash crowds: late at the HPA's cost ÷ the HPA's",
    "actions_per_hour_median": "changes an hour, median trace",
    "traces": "traces",
    "seeds": "draws of the requests",
}
"""The headline's figures in words."""


def over_seeds(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One duel per trace: costs as geometric, lateness and changes as plain means over the seeds.

    ``seeds``: how many; ``reached``: by the tuned HPA with most of them. What only the first seed has (curves) is that one's.
    """
    by_trace: dict[str, list[dict[str, Any]]] = {}
    for each in sorted(found, key=lambda each: int(each["seed"])):
        by_trace.setdefault(each["trace"], []).append(each)
    means = []
    for group in by_trace.values():
        both = [each for each in group if each["against_tuned"] is not None]
        mean = {**group[0], "seeds": len(group)}
        mean |= {name: float(np.mean([each[name] for each in group])) for name in ("late", "actions", "hpa_late")}
        mean |= {name: _mean([each[name] for each in group]) for name in ("cost", "hpa_cost", "against_hpa")}
        mean["against_tuned"] = _mean([each["against_tuned"] for each in both])
        mean["tuned_late"] = float(np.mean([each["tuned_late"] for each in both])) if both else None
        mean["reached"] = 2 * sum(bool(each["reached"]) for each in both) > len(both) if both else None
        means.append(mean)
    return sorted(means, key=lambda each: -_rank(each))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.exp(np.mean(np.log(values)))) if values else None


def _is_head(each: dict[str, Any], fleet: float) -> bool:
    usual = all(each[name] == value for name, value in HEAD.items() if name != "seed")
    return usual and each["trace"] in FINE and each["fleet"] == fleet


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The aims' figures, for each fleet: counts, geometric means, worst cases."""
    all_duels = duels(rows)
    found: dict[str, Any] = {}
    for fleet in (10.0, 20.0):
        head = over_seeds([each for each in all_duels if _is_head(each, fleet)])
        reached = [each for each in head if each["reached"]]
        if head:
            found[f"{fleet:g} replicas"] = {
                "traces": len(head),
                "seeds": max(each["seeds"] for each in head),
                "late_kept": f"{sum(each['late'] <= CLOSE * RISK for each in reached)} of {len(reached)}",
                "cost_to_tuned": _mean([each["against_tuned"] for each in reached]),
                "cost_to_tuned_all": _mean([each["against_tuned"] for each in head if each["against_tuned"]]),
                "cost_to_tuned_worst": max((each["against_tuned"] for each in reached), default=None),
                "cost_to_hpa": _mean([each["against_hpa"] for each in head]),
                "crowd_late_at_hpa_cost": _crowds(head),
                "actions_per_hour_median": float(np.median([each["actions"] for each in head])),
            }
    found["noise"] = {f"{noise:.0%}": _noise(all_duels, noise) for noise in (0.02, 0.05)}
    unseen = over_seeds([each for each in all_duels if each["trace"] in SHAPES and each["fleet"] == SHAPES_FLEET])
    if unseen:
        reached = [each for each in unseen if each["reached"]]
        found["unseen shapes"] = {
            "late_kept": f"{sum(each['late'] <= CLOSE * RISK for each in reached)} of {len(reached)}",
            "cost_to_tuned": _mean([each["against_tuned"] for each in reached]),
            "cost_to_hpa": _mean([each["against_hpa"] for each in unseen]),
        }
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


def markdown(rows: Sequence[Row]) -> str:
    """The figures as the README has them: the headline's, then each trace over all draws, losers first."""
    found, all_duels = summary(rows), duels(rows)
    fleets = [name for name in found if name.endswith("replicas")]
    words = [[text, *(plain(found[fleet][name]) for fleet in fleets)] for name, text in FIGURES.items()]
    words += [[f"cost with {noise} noise ÷ without", plain(value), "-"] for noise, value in found["noise"].items()]
    for group in ("unseen shapes", "cold"):
        words += [[f"{group}: {name.replace('_', ' ')}", plain(value), "-"] for name, value in found.get(group, {}).items()]
    mean = []
    for fleet in (10.0, 20.0):
        shapes = [each for each in all_duels if each["trace"] in SHAPES and each["fleet"] == fleet]
        mean += over_seeds([*shapes, *(each for each in all_duels if _is_head(each, fleet))])
    other = [each for each in all_duels if not _is_head(each, each["fleet"]) and each["trace"] not in SHAPES]
    columns = (*COLUMNS, ("HPA late at our cost", lambda each: _share(each["hpa_late_at_own_cost"])))
    table = [[cell(each) for _, cell in columns] for each in [*sorted(mean, key=lambda each: -_rank(each)), *other]]
    tables = [_table(["figure", *fleets], words), _table([name for name, _ in columns], table), objectives(rows)]
    return "\n".join(line for part in tables if part for line in [*part, ""])


def objectives(rows: Sequence[Row]) -> list[str]:
    """What an objective corrects, a line a trace: late share and cost without and with one."""
    told = [row for row in rows if row["policy"] == "objective"]
    settings = list(dict.fromkeys(row["setting"] for row in told))
    lines_ = []
    for trace in dict.fromkeys(row["trace"] for row in told):
        cells = {row["setting"]: f"{_share(row['late_share'])} at {row['cost_ratio']:.3f}" for row in told if row["trace"] == trace}
        lines_.append([trace, *(cells.get(setting, "-") for setting in settings)])
    return _table(["late at cost", *settings], lines_) if told else []


def _table(head: Sequence[str], lines_: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines_)]


def plain(value: object) -> str:
    """A figure as people read it."""
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def lines(rows: Sequence[Row]) -> list[str]:
    """The duels as a table of text, losers first."""
    cells = [[name for name, _ in COLUMNS], *([cell(each) for _, cell in COLUMNS] for each in duels(rows))]
    widths = [max(len(line[k]) for line in cells) for k in range(len(COLUMNS))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
