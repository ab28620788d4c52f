"""The HPA as a peer: as many run it, and tuned in hindsight, which nobody can have but everybody can be held against.

A peer gets the workload's own bounds, interval and signal; its target is a share of what a pod can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoscaler.core.spec import PolicyChoice, SeriesSpec, WorkloadSpec
from autoscaler.core.types import TargetKind
from autoscaler.registry import find
from autoscaler.simulation.score import Score

TARGETS = tuple(round(0.30 + 0.01 * k, 2) for k in range(66))
WINDOWS_S = (15.0, 60.0, 120.0, 300.0)
TOLERANCES = (0.0, 0.05, 0.1)

_COARSE = 5
"""Every fifth target is run first."""


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """What is set on an HPA: target as a share of capacity, scale-down window in seconds, tolerance."""

    target: float = 0.6
    window_s: float = 300.0
    tolerance: float = 0.1

    def __str__(self) -> str:
        return f"target {self.target:.2f}, window {self.window_s:g} s, tolerance {self.tolerance:g}"


USUAL = Setting()
"""As many run it: 60 %, and the defaults."""

GRID = tuple(Setting(target, window_s, tolerance) for window_s in WINDOWS_S for tolerance in TOLERANCES for target in TARGETS)


def hpa(like: WorkloadSpec, capacity: float, setting: Setting = USUAL) -> WorkloadSpec:
    """An HPA for the workload of ``like``, whose pods can do ``capacity`` requests/s each: the policy ``hpa`` with an ``averageValue``."""
    registered = find("hpa")
    params, _ = registered.params({"tolerance_up": setting.tolerance, "tolerance_down": setting.tolerance})
    base = registered.traits.behavior.absent
    series = SeriesSpec("load", like.series[0].query, setting.target * capacity, TargetKind.AVERAGE_VALUE)
    return replace(
        like,
        series=(series,),
        policy=PolicyChoice(registered.name, registered.policy, params),
        behavior=replace(base, down=replace(base.down, window_s=setting.window_s)),
    )


Trial = Callable[[Sequence[Setting]], Score]
"""Runs some settings over the load in question."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What hindsight chose, how many settings it looked at, and each one's (setting, late share, pod-seconds)."""

    setting: Setting
    reached: bool
    tried: tuple[tuple[Setting, float, float], ...]


def tuned(trial: Trial, risk: float) -> Tuned:
    """The cheapest setting of the grid with no more than the share ``risk`` late; if there is none, the one with the least late.

    Not all of the grid is run: for each window and tolerance, every fifth target, and the four between the highest that keeps the risk
    and the next, unless even that next one costs more than what was found. This relies on a higher target costing less and making more
    late, as it does but for noise.
    """
    coarse = [setting for setting in GRID if round((setting.target - TARGETS[0]) * 100) % _COARSE == 0]
    tried = _run(trial, coarse)
    best = _best(tried, risk)
    fine = [setting for limit in _limits(tried, risk) for setting in _between(limit, tried, best, risk)]
    if fine:
        tried |= _run(trial, fine)
        best = _best(tried, risk)
    listed = tuple((setting, *tried[setting]) for setting in sorted(tried))
    return Tuned(best, tried[best][0] <= risk, listed)


_Tried = dict[Setting, tuple[float, float]]


def _run(trial: Trial, settings: Sequence[Setting]) -> _Tried:
    score = trial(settings)
    figures = zip(score.late_share.tolist(), score.pod_seconds.tolist(), strict=True)
    return dict(zip(settings, figures, strict=True))


def _best(tried: _Tried, risk: float) -> Setting:
    kept = [setting for setting, (late, _) in tried.items() if late <= risk]
    if kept:
        return min(kept, key=lambda setting: (tried[setting][1], setting))
    return min(tried, key=lambda setting: (tried[setting], setting))


def _limits(tried: _Tried, risk: float) -> list[Setting]:
    """For each window and tolerance, the highest target that was tried and keeps the risk."""
    highest: dict[tuple[float, float], Setting] = {}
    for setting, (late, _) in sorted(tried.items()):
        if late <= risk:
            highest[setting.window_s, setting.tolerance] = setting
    return list(highest.values())


def _between(limit: Setting, tried: _Tried, best: Setting, risk: float) -> list[Setting]:
    """The targets between ``limit`` and the next that was tried, if they can be cheaper than ``best``."""
    after = replace(limit, target=round(limit.target + 0.01 * _COARSE, 2))
    if after not in tried or (tried[best][0] <= risk and tried[after][1] >= tried[best][1]):
        return []
    return [replace(limit, target=round(limit.target + 0.01 * k, 2)) for k in range(1, _COARSE)]


def late_at(curve: Sequence[tuple[float, float]], cost: float) -> float:
    """The late share at ``cost`` on the lower edge of (cost, late share) points, on straight lines between them; NaN outside."""
    points = np.array(sorted(curve), dtype=np.float64).reshape(-1, 2)
    if not points.size or not points[0, 0] <= cost <= points[-1, 0]:
        return float("nan")
    return float(np.interp(cost, points[:, 0], np.minimum.accumulate(points[:, 1])))
