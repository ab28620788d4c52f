"""How well a policy did: lateness, cost, steadiness, and how far supply was from demand.

Demand ``d`` is the fewest pods that keep the objective at the step's rate (:func:`autoscaler.core.plant.needed`), never a policy's own
wish; supply ``s`` is the ready pods. Following "Ready for Rain? A View from SPEC Research on the Future of Cloud Metrics" (Herbst et
al.): theta_U = mean of max(d - s, 0) / d, theta_O = mean of max(s - d, 0) / d, tau_U and tau_O the shares of time with d > s and s > d.

Runs are scored piece by piece (:meth:`Sums.add`), so that a sweep of a thousand candidates over weeks needs no memory for its steps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from autoscaler.core.columns import frozen, full
from autoscaler.core.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What happened, ``[step, p]``, in requests and in pods.

    ``backlog`` is what waits after the step; ``demand``: pods needed at the step's rate.
    """

    arrivals: Floats
    served: Floats
    late: Floats
    dropped: Floats
    backlog: Floats
    asked: Floats
    ready: Floats
    billed: Floats
    demand: Floats


@dataclass(frozen=True, slots=True)
class Score:
    """One number for each plant ``[p]``. Shares lie in 0 … 1; ``churn`` = sum of |changes| of the asked pods.

    ``late_share`` of the requests, those dropped included; ``violation_s``: seconds in steps with more than the allowed share late;
    ``under_share, over_share`` = tau_U, tau_O; ``under_accuracy, over_accuracy`` = theta_U, theta_O; a reversal is a scale action the
    other way than the one before it.
    """

    requests: Floats
    late_share: Floats
    dropped_share: Floats
    violation_s: Floats
    pod_seconds: Floats
    scale_actions_per_hour: Floats
    reversals_per_hour: Floats
    churn: Floats
    under_share: Floats
    over_share: Floats
    under_accuracy: Floats
    over_accuracy: Floats
    peak_replicas: Floats


_FLOOR = 0.001

_SUMS = (
    *("arrivals", "late", "dropped", "billed", "violations", "actions", "reversals", "churn"),
    *("under", "over", "lacking", "spare", "steps"),
)


class Sums:
    """The score of ``p`` plants in the making. ``risk``: the share of late requests that the objective allows."""

    def __init__(self, p: int, step_s: float, risk: float) -> None:
        self._step_s, self._risk = step_s, risk
        self._sum = {name: full(p, 0.0) for name in _SUMS}
        self._peak = full(p, 0.0)
        self._asked: Floats | None = None
        self._direction = full(p, 0.0)

    def add(self, part: Trajectory, counts: Bools | None = None) -> None:
        """Take in the next steps; those where not ``counts[step, p]`` are no part of the score."""
        rows = part.asked.shape[0]
        if not rows:
            return
        if counts is None:
            counts = np.ones(part.asked.shape, np.bool_)
        total = self._sum
        for name in ("arrivals", "late", "dropped", "billed"):
            total[name] += getattr(part, name).sum(axis=0, where=counts)
        total["violations"] += (part.late > self._risk * part.arrivals).sum(axis=0, where=counts)
        short = part.demand - part.ready
        total["under"] += (short > 0).sum(axis=0, where=counts)
        total["over"] += (short < 0).sum(axis=0, where=counts)
        short /= part.demand
        total["lacking"] += np.maximum(short, 0).sum(axis=0, where=counts)
        total["spare"] -= np.minimum(short, 0).sum(axis=0, where=counts)
        total["steps"] += counts.sum(axis=0)
        self._peak = np.maximum(self._peak, part.asked.max(axis=0, initial=0.0, where=counts))
        self._moves(part.asked, counts)

    def _moves(self, asked: Floats, counts: Bools) -> None:
        before = asked[:1] if self._asked is None else self._asked[None]
        change = np.diff(np.concatenate([before, asked]), axis=0)
        change[~counts] = 0.0
        self._asked = asked[-1].copy()
        rows, columns = np.nonzero(change)
        if not rows.size:
            return
        order = np.lexsort((rows, columns))
        columns, moved = columns[order], change[rows[order], columns[order]]
        direction = np.sign(moved)
        first = np.concatenate([[True], columns[1:] != columns[:-1]])
        previous = np.where(first, self._direction[columns], np.concatenate([[0.0], direction[:-1]]))
        p = asked.shape[1]
        self._sum["actions"] += np.bincount(columns, minlength=p)
        self._sum["reversals"] += np.bincount(columns, previous * direction < 0, minlength=p)
        self._sum["churn"] += np.bincount(columns, np.abs(moved), minlength=p)
        self._direction[columns] = direction  # of equal columns the last one stays, which is the newest

    def joined(self, owner: Ints, p: int) -> Sums:
        """The sums of ``p`` plants whose parts these are: part ``i`` belongs to plant ``owner[i]``."""
        whole = Sums(p, self._step_s, self._risk)
        for name, column in self._sum.items():
            whole._sum[name] += np.bincount(owner, column, minlength=p)
        np.maximum.at(whole._peak, owner, self._peak)
        return whole

    def score(self) -> Score:
        """The score of all steps so far. Without a single request nothing is late."""
        total, steps = self._sum, np.maximum(self._sum["steps"], 1.0)
        requests = np.maximum(total["arrivals"], 1e-300)
        hours = steps * self._step_s / 3600
        columns = {
            "requests": total["arrivals"],
            "late_share": total["late"] / requests,
            "dropped_share": total["dropped"] / requests,
            "violation_s": total["violations"] * self._step_s,
            "pod_seconds": total["billed"] * self._step_s,
            "scale_actions_per_hour": total["actions"] / hours,
            "reversals_per_hour": total["reversals"] / hours,
            "churn": total["churn"],
            "under_share": total["under"] / steps,
            "over_share": total["over"] / steps,
            "under_accuracy": total["lacking"] / steps,
            "over_accuracy": total["spare"] / steps,
            "peak_replicas": self._peak,
        }
        return Score(**{name: frozen(np.array(column)) for name, column in columns.items()})


def scored(trajectory: Trajectory, step_s: float, risk: float) -> Score:
    """The score of a whole run."""
    sums = Sums(trajectory.asked.shape[1], step_s, risk)
    sums.add(trajectory)
    return sums.score()


def instability(ready: Floats, demand: Floats) -> Floats:
    """The share of steps ``[step, p]`` in which supply and demand do not move the same way; noise for a demand that moves each step."""
    return np.asarray(np.minimum(np.abs(np.sign(np.diff(ready, axis=0)) - np.sign(np.diff(demand, axis=0))), 1).mean(axis=0))


def elastic_speedup(score: Score, baseline: Score) -> Floats:
    """The geometric mean of the baseline's theta_U, theta_O, tau_U and tau_O over the score's; each at least 0.1 %."""
    names = ("under_accuracy", "over_accuracy", "under_share", "over_share")
    ratio = [np.maximum(getattr(baseline, name), _FLOOR) / np.maximum(getattr(score, name), _FLOOR) for name in names]
    return np.asarray(np.prod(ratio, axis=0) ** (1 / len(names)))


def column(score: Score, p: int) -> dict[str, float]:
    """One plant's score by name."""
    return {field.name: float(getattr(score, field.name)[p]) for field in fields(score)}
