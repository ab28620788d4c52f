"""The loads that the policy suite puts a policy through: seeded, in columns, with all that a real load brings.

A scenario's series differ in kind on purpose: steady, noisy, jumping, fading to zero, silent now and then, silent for long, tiny, huge,
at zero replicas, of unknown readiness. What happens to the replicas is part of the scenario and not of the policy's making, so that
runs with other columns or another load stay comparable tick by tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from autoscaler.core.columns import array_fields, frozen, full
from autoscaler.core.policy import Pods, Policy, Traits, View, history_s
from autoscaler.core.types import FREE, Bools, Codes, Floats, Ints, MetricType, Singles, TargetKind
from autoscaler.testing.policies.views import SOME_TIME_S

SERIES = 14
_TICKS = 40
_PODS = 4
_SEASON_ROWS = 2016


@dataclass(frozen=True)
class Scenario:
    """A run of ``ticks`` ticks over ``n`` series; every array has the series on its last axis, ``[tick, n]`` where it changes.

    ``demand`` has ``rows`` rows more, the past before the first tick. ``pod_*[pod, n]``, the first ``pod_count[n]`` of them real.
    """

    name: str
    interval_s: float
    rows: int
    traits: Traits
    workload: Ints
    demand: Singles
    load: Floats
    target: Floats
    target_kind: Codes
    metric_type: Codes
    saturated: Bools
    age_s: Floats
    current: Floats
    ready: Floats
    status_replicas: Floats
    startup_s: Floats
    ordered: Bools
    min: Floats
    max: Floats
    late: Floats
    total: Floats
    season_mean: Singles
    season_max: Singles
    pod_count: Ints
    pod_use: Floats
    pod_request: Floats
    pod_ready: Codes

    @property
    def n(self) -> int:
        """How many series."""
        return int(self.workload.size)

    @property
    def ticks(self) -> int:
        """How many ticks."""
        return int(self.current.shape[0])

    def view(self, tick: int) -> View:
        """What the policy sees at a tick, in read-only arrays of its own."""
        view = self._view(tick)
        for table in (view,) if view.pods is None else (view, view.pods):
            for array in array_fields(table).values():
                frozen(array)
        return view

    def _view(self, tick: int) -> View:
        now = self.rows + tick
        extra: dict[str, Any] = {}
        if self.traits.season:
            extra |= {"season_mean": self.season_mean.copy(), "season_max": self.season_max.copy()}
        if self.traits.objective:
            extra |= {"late": self.late[tick].copy(), "total": self.total[tick].copy()}
        if self.traits.pods:
            extra |= {
                "load": self.load[tick].copy(),
                "target": self.target.copy(),
                "target_kind": self.target_kind.copy(),
                "metric_type": self.metric_type.copy(),
                "observed": self.current[tick].copy(),
                "status_replicas": self.status_replicas[tick].copy(),
                "pods": self._pods(tick),
            }
        return View(
            at_s=self._at_s(tick),
            interval_s=self.interval_s,
            workload=self.workload.copy(),
            demand=self.demand[now + 1 - self.rows : now + 1].copy(),
            saturated=self.saturated[tick].copy(),
            age_s=self.age_s[tick].copy(),
            current=self.current[tick].copy(),
            ready=self.ready[tick].copy(),
            startup_s=self.startup_s.copy(),
            ordered=self.ordered.copy(),
            min=self.min.copy(),
            max=self.max.copy(),
            **extra,
        )

    def _at_s(self, tick: int) -> float:
        return SOME_TIME_S + tick * self.interval_s

    def _pods(self, tick: int) -> Pods:
        real = (np.arange(_PODS)[:, None] < self.pod_count).T
        offsets = np.concatenate([[0], np.cumsum(self.pod_count)])
        total = int(offsets[-1])
        at_s = full(total, self._at_s(tick))
        return Pods(
            offsets=offsets,
            use=self.pod_use[tick].T[real],
            request=self.pod_request.T[real],
            phase=np.ones(total, np.int8),
            ready=self.pod_ready.T[real],
            started_s=at_s - 3600,
            ready_changed_s=at_s - 3500,
            sampled_s=at_s - 10,
            window_s=full(total, 30.0),
        )


def scenarios(policy: Policy, rows: Sequence[Any], traits: Traits, seed: int) -> Iterator[Scenario]:
    """Two: a warm one at 15 s, with the whole past that the policy looks back on, and a cold one at 60 s that begins with nothing."""
    for number, (name, interval_s) in enumerate((("warm", 15.0), ("cold", 60.0))):
        longest = max(history_s(policy, params) for params in rows)
        looks_back = max(1, ceil(longest / interval_s - 1e-9))
        rng = np.random.default_rng([seed, number])
        scenario = _scenario(name, interval_s, looks_back, traits, rng)
        if name == "cold":
            demand = scenario.demand.copy()
            demand[:looks_back] = np.nan
            scenario = replace(scenario, demand=demand)
        yield scenario


def _scenario(name: str, interval_s: float, rows: int, traits: Traits, rng: np.random.Generator) -> Scenario:
    ticks = _TICKS + min(rows, _TICKS)
    demand = _demand(rows + ticks, rows, rng)
    level = np.nan_to_num(demand)
    wanted = np.maximum(1, np.round(level[rows:] * rng.uniform(0.5, 2, (1, SERIES))))
    current = np.where(_some(0.15, (ticks, SERIES), rng), wanted, np.nan)
    current[0] = wanted[0]
    current = _held(current)
    current[np.arange(ticks) // 10 % 2 == 0, 6] = 0
    ready = np.maximum(0, current - rng.integers(0, 3, (ticks, SERIES)))
    ready[:, 7] = np.nan
    current[ticks // 3 : ticks // 3 + 3, 8] = np.nan
    target = rng.uniform(0.5, 200, SERIES)
    kind = rng.choice([TargetKind.AVERAGE_VALUE, TargetKind.UTILIZATION], SERIES).astype(np.int8)
    day = 1 + 0.5 * np.sin(2 * np.pi * np.arange(_SEASON_ROWS) / 288)[:, None]
    typical = np.nan_to_num(np.nanmedian(np.where(level > 0, level, np.nan), axis=0), nan=1.0)
    pod_count = rng.integers(0, _PODS + 1, SERIES)
    total = level[rows:] * 85 * interval_s
    return Scenario(
        name=name,
        interval_s=interval_s,
        rows=rows,
        traits=traits,
        workload=np.arange(SERIES),
        demand=demand.astype(np.float32),
        load=demand[rows:] * target,
        target=target,
        target_kind=kind,
        metric_type=_metric_types(kind, rng),
        saturated=_some(0.05, (ticks, SERIES), rng),
        age_s=np.where(np.isnan(demand[rows:]), np.nan, rng.uniform(0, interval_s, (ticks, SERIES))),
        current=current,
        ready=ready,
        status_replicas=current,
        startup_s=rng.uniform(15, 180, SERIES),
        ordered=_some(0.3, (SERIES,), rng),
        min=rng.integers(0, 3, SERIES).astype(np.float64),
        max=rng.integers(50, 2000, SERIES).astype(np.float64),
        late=total * rng.uniform(0, 0.01, total.shape),
        total=total,
        season_mean=(typical * day).astype(np.float32),
        season_max=(typical * day * 1.3).astype(np.float32),
        pod_count=pod_count,
        pod_use=level[rows:, None, :] * rng.uniform(0.5, 1.5, (ticks, _PODS, SERIES)) / 4,
        pod_request=rng.uniform(0.1, 2, (_PODS, SERIES)),
        pod_ready=_some(0.8, (_PODS, SERIES), rng).astype(np.int8),
    )


def _metric_types(kind: Codes, rng: np.random.Generator) -> Codes:
    """What each metric may be measured on: a utilisation on a resource, any other target on the workload as a whole too."""
    resource = rng.choice([MetricType.RESOURCE, MetricType.CPU], kind.size)
    other = rng.choice([MetricType.EXTERNAL, MetricType.PODS, MetricType.CPU], kind.size)
    return np.where(kind == TargetKind.UTILIZATION, resource, other).astype(np.int8)


def _demand(length: int, rows: int, rng: np.random.Generator) -> Floats:
    """Demand ``[tick, n]``, one kind of load a column."""
    level = np.exp(rng.uniform(0, 4, SERIES))
    noise = rng.lognormal(0, 0.1, (length, SERIES))
    wave = 1 + 0.4 * np.sin(2 * np.pi * (np.arange(length)[:, None] / 40 + rng.random(SERIES)))
    demand = np.asarray(level * noise * wave, dtype=np.float64)
    demand[:, 0] = level[0]
    jumps = np.repeat(rng.lognormal(0, 0.8, (ceil(length / 8), 4)), 8, axis=0)[:length]
    demand[:, 1:5] *= jumps
    demand[:, 5] *= np.linspace(1, 0, length) ** 2
    demand[rows + 10 :, 5] = 0
    demand[_some(0.03, demand.shape, rng)] = np.nan
    demand[_some(0.4, (length,), rng), 9] = np.nan
    demand[rows + 12 : rows + 30, 10] = np.nan
    demand[:, 11] *= 1e-9
    demand[:, 12] *= 1e6
    demand[:, 13] = np.round(demand[:, 13])
    demand[-1, :5] = level[:5]
    return demand


def _some(share: float, shape: tuple[int, ...], rng: np.random.Generator) -> Bools:
    """True in about that share of places."""
    return rng.random(shape) < share


def _held(column: Floats) -> Floats:
    """Every NaN replaced by the last number above it."""
    last = np.maximum.accumulate(np.where(np.isnan(column), 0, np.arange(column.shape[0])[:, None]), axis=0)
    return np.take_along_axis(column, last, axis=0)


def raised(scenario: Scenario, rng: np.random.Generator) -> Iterator[Scenario]:
    """The scenario under more load, in several ways; what is unknown stays unknown."""
    shape = scenario.demand.shape
    late = np.where(np.arange(shape[0])[:, None] < scenario.rows + scenario.ticks // 2, 1.0, 3.0)
    ways = (full(shape, 1.5), rng.uniform(1, 2, shape), late * np.ones(shape), np.where(_some(0.1, shape, rng), 4.0, 1.0))
    for factor in ways:
        demand = scenario.demand * factor + 0.5 * (factor > 1)
        now = factor[scenario.rows :]
        yield replace(
            scenario,
            demand=np.maximum(demand.astype(np.float32), scenario.demand),
            load=scenario.load * now + 0.5 * (now > 1) * scenario.target,
            total=scenario.total * now,
            late=scenario.late * now,
            pod_use=scenario.pod_use * now[:, None, :],
        )


def silenced(scenario: Scenario, columns: Ints) -> Scenario:
    """The scenario with nothing ever known of these series."""
    return _blank(scenario, columns, ("demand", "load", "age_s", "late", "total", "season_mean", "season_max", "pod_use"))


def freed(scenario: Scenario, columns: Ints) -> Scenario:
    """The scenario with these columns used by nobody."""
    names = [name for name, array in array_fields(scenario).items() if array.dtype.kind == "f"]
    workload, saturated, pod_count = scenario.workload.copy(), scenario.saturated.copy(), scenario.pod_count.copy()
    workload[columns], saturated[:, columns], pod_count[columns] = FREE, False, 0
    return replace(_blank(scenario, columns, names), workload=workload, saturated=saturated, pod_count=pod_count)


def joined(scenario: Scenario, columns: Ints, tick: int) -> Scenario:
    """The scenario with these series new at a tick: there is no demand of theirs from before."""
    demand = scenario.demand.copy()
    demand[: scenario.rows + tick, columns] = np.nan
    return replace(scenario, demand=demand)


def _blank(scenario: Scenario, columns: Ints, names: Iterable[str]) -> Scenario:
    changed: dict[str, Any] = {name: getattr(scenario, name).copy() for name in names}
    for array in changed.values():
        array[..., columns] = np.nan
    return replace(scenario, **changed)
