"""How long a tick of the core takes: members swapped, demand recorded, counts decided.

``python -m benchmarks.decide`` plays a fleet with all guards configured, two metrics a workload, some of them missing, some workloads
replaced each tick, and replica counts that follow the decisions; then one of each policy alone, each in a process of its own. Under
``hpa`` one of the two metrics is the CPU of ten pods. Making up the loads is not measured, nor is any I/O.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter, process_time
from typing import Any, TypeAlias, TypeVar

import numpy as np

from autoscaler.core.behavior import Behavior, Direction, RateRule
from autoscaler.core.columns import frozen, widened
from autoscaler.core.decide import Decision, State, decide
from autoscaler.core.history import History
from autoscaler.core.observation import Observation, SeriesColumns, blank, known
from autoscaler.core.policy import Pods
from autoscaler.core.roster import Roster
from autoscaler.core.spec import Call, Fallback, PolicyChoice, Query, ScheduleRow, SeriesSpec, Usage, When, WorkloadSpec
from autoscaler.core.types import FREE, Bools, Floats, MetricType, Mode, PodPhase, PodReady, Signal, TargetKind, Workload
from autoscaler.registry import find
from benchmarks.machine import origin, resident_mib

T = TypeVar("T")

INTERVAL_S = 15.0
START_S = 1_700_000_040.0
TIMES = ("median_ms", "p99_ms", "max_ms", "median_cpu_ms")
HOUR_S, DAY_S = 3_600.0, 86_400.0
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "threshold": ({}, {"up_for_s": 30.0, "down_for_s": 300.0}),
    "movingAverage": ({"window_s": 60.0}, {"window_s": 120.0}, {"window_s": 300.0}),
}
"""Parameters that a fleet's files would differ in, by policy."""


EACH = ("threshold", "movingAverage", "hpa", "forecast")
PODS, REQUEST, PENDING, UNREADY = 10, 0.5, 0.01, 0.02


@dataclass(frozen=True)
class Load:
    """What is played: ``missing`` is the share of signals without data, ``swapped`` workloads a tick leave and as many join."""

    workloads: int
    policies: tuple[str, ...]
    missing: float
    swapped: int
    seed: int


class Fleet:
    """A group and everything around it, in columns by workload slot."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.roster, self.history, self.state = Roster(INTERVAL_S), History(INTERVAL_S), State()
        self.at_s = START_S
        self._random = np.random.default_rng(load.seed)
        self._numbers = 0
        self._names: list[Workload] = []
        joiners = [self._spec() for _ in range(load.workloads)]
        self.roster.swap(join=joiners)
        slots = self.roster.spec.slots
        self._base, self._phase, self._real = (np.full(slots, np.nan) for _ in range(3))
        self._written: tuple[Floats, Bools] = (self._real, np.zeros(slots, np.bool_))
        self._settle(joiners)

    def _spec(self) -> WorkloadSpec:
        number, draw = self._numbers, self._random
        self._numbers += 1
        policy = find(self.load.policies[number % len(self.load.policies)])
        variants = VARIANTS.get(policy.name, ({},))
        defaults = policy.traits.behavior.given
        behavior = Behavior(
            Direction(30.0, defaults.up.tolerance, (RateRule(2, 30), RateRule(20, 30, percent=True))),
            Direction(300.0, defaults.down.tolerance, (RateRule(1, 60), RateRule(10, 60, percent=True))),
        )
        sleeps = number % 20 == 0
        opening = START_S + float(draw.uniform(-DAY_S, DAY_S))
        name = f"workload-{number}"
        series = [
            SeriesSpec(metric, Query(f'sum({metric}{{app="{name}"}})'), target, activation=4 * target if sleeps else 0.0)
            for metric, target in (("rps", 85.0), ("lag", 5.0))
        ]
        if policy.name == "hpa":
            series[0] = SeriesSpec("cpu", Usage("cpu"), 0.6, TargetKind.UTILIZATION, metric_type=MetricType.CPU)
        return WorkloadSpec(
            Workload("shop", name),
            tuple(series),
            PolicyChoice(policy.name, policy.policy, policy.policy.Params(**variants[number // 2 % len(variants)])),
            behavior,
            min_replicas=0 if sleeps else 2,
            max_replicas=30,
            interval_s=INTERVAL_S,
            schedule=(ScheduleRow(opening, opening + DAY_S / 3, 5, 60),),
            fallback=Fallback(3, 6, When.IF_HIGHER),
            mode=Mode.DRY_RUN if number % 20 == 1 else Mode.ACTIVE,
        )

    def turnover(self) -> tuple[list[Workload], list[WorkloadSpec]]:
        """Who leaves and who joins at this tick."""
        order = self._random.choice(len(self._names), self.load.swapped, replace=False)
        leave = [self._names[place] for place in order]
        for place in sorted(order, reverse=True):
            self._names[place] = self._names[-1]
            self._names.pop()
        return leave, [self._spec() for _ in range(self.load.swapped)]

    def settle(self, joiners: list[WorkloadSpec]) -> None:
        """Give newcomers a load and a count, after they were swapped in."""
        self._settle(joiners)

    def _settle(self, joiners: list[WorkloadSpec]) -> None:
        draw, slots = self._random, self.roster.spec.slots
        self._base, self._phase, self._real = (widened(column, slots, np.nan).copy() for column in (self._base, self._phase, self._real))
        self._written = (widened(self._written[0], slots, np.nan).copy(), widened(self._written[1], slots, False).copy())
        for spec in joiners:
            slot = self.roster.slot(spec.workload)
            self._names.append(spec.workload)
            self._base[slot] = draw.lognormal(np.log(10), 0.7)
            self._phase[slot] = draw.uniform(0, 2 * np.pi)
            self._real[slot] = np.ceil(self._base[slot])
            self._written[1][slot] = False

    def observe(self) -> Observation:
        """This tick's columns, as adapters would have filled them."""
        spec, draw = self.roster.spec, self._random
        before, wrote = self._written
        demand = self._base * (1 + 0.7 * np.sin(2 * np.pi * self.at_s / HOUR_S + self._phase))
        series = []
        for call, nothing in zip(spec.calls, blank(spec, self.at_s).series, strict=True):
            n = call.owner.size
            load = call.target * demand[call.owner] * draw.lognormal(0, 0.05, n)
            gone = (draw.random(n) < self.load.missing) | (call.owner == FREE)
            columns = replace(
                nothing,
                load=frozen(np.where(gone, np.nan, load)),
                age_s=frozen(np.full(n, 1.0)),
                signal=frozen(np.where(gone, Signal.TIMEOUT, Signal.OK).astype(np.int8)),
                ready=frozen(self._real[call.owner]),
            )
            series.append(self._with_pods(call, columns))
        return replace(
            known(spec, self.at_s, np.where(spec.workloads.serial > 0, self._real, np.nan)),
            startup_s=frozen(np.full(spec.slots, 45.0)),
            written_at_s=frozen(np.where(wrote, self.at_s - INTERVAL_S, np.nan)),
            written_from=frozen(np.where(wrote, before, np.nan)),
            written_to=frozen(np.where(wrote, self._real, np.nan)),
            coverage=frozen(np.where(draw.random(spec.slots) < self.load.missing, 0.5, 1.0)),
            series=tuple(series),
        )

    def _with_pods(self, call: Call, columns: SeriesColumns) -> SeriesColumns:
        """Ten pods behind each series of CPU: most of them run, are Ready and have a sample."""
        of_pods = (call.metric_type == MetricType.CPU) & (call.owner != FREE)
        if not of_pods.any():
            return columns
        draw = self._random
        offsets = np.concatenate([[0], np.cumsum(np.where(of_pods, PODS, 0))])
        pods = int(offsets[-1])
        load = np.where(of_pods, columns.load * REQUEST, columns.load)
        use = np.repeat(load / PODS, np.diff(offsets)) * draw.lognormal(0, 0.1, pods)
        chance = draw.random(pods)
        started_s = self.at_s - draw.exponential(HOUR_S, pods)
        return replace(
            columns,
            load=frozen(load),
            request=frozen(np.where(of_pods, REQUEST, np.nan)),
            pods=Pods(
                offsets=frozen(offsets),
                use=frozen(np.where(chance < self.load.missing, np.nan, use)),
                request=frozen(np.full(pods, REQUEST)),
                phase=frozen(np.where(chance > 1 - PENDING, PodPhase.PENDING, PodPhase.RUNNING).astype(np.int8)),
                ready=frozen(np.where(chance > 1 - PENDING - UNREADY, PodReady.FALSE, PodReady.TRUE).astype(np.int8)),
                started_s=frozen(started_s),
                ready_changed_s=frozen(started_s + 20.0),
                sampled_s=frozen(np.full(pods, self.at_s - 10.0)),
                window_s=frozen(np.full(pods, 15.0)),
            ),
        )

    def obey(self, decision: Decision) -> None:
        """Let the counts follow, and a tick pass."""
        self._written = (self._real, decision.apply.copy())
        self._real = np.where(decision.apply, decision.replicas, self._real)
        self.at_s += INTERVAL_S


Span: TypeAlias = tuple[float, float]
"""Milliseconds that passed, and milliseconds of CPU in them: on a busy machine the second is the truer one."""


def timed(action: Callable[[], T]) -> tuple[T, Span]:
    """What an action returned, and how long it took."""
    began, used = perf_counter(), process_time()
    result = action()
    return result, ((perf_counter() - began) * 1e3, (process_time() - used) * 1e3)


def tick(fleet: Fleet) -> tuple[dict[str, Span], Decision]:
    """One tick, and how long each stage took."""
    leave, join = fleet.turnover()
    _, swap = timed(lambda: fleet.roster.swap(leave, join))
    fleet.settle(join)
    seen, spec = fleet.observe(), fleet.roster.spec
    seen, record = timed(lambda: fleet.history.record(spec, seen))
    (fleet.state, decision), decided = timed(lambda: decide(fleet.state, seen, spec))
    fleet.obey(decision)
    stages = {"swap": swap, "record": record, "decide": decided}
    wall, cpu = (sum(part) for part in zip(*stages.values(), strict=True))
    return stages | {"tick": (wall, cpu)}, decision


def peak_mib(fleet: Fleet, ticks: int) -> dict[str, float]:
    """The most memory that a stage holds beyond what it found, in MiB; its results are part of it."""
    worst = {"swap": 0.0, "record": 0.0, "decide": 0.0}

    def traced(stage: str, action: Callable[[], T]) -> T:
        tracemalloc.reset_peak()
        found, _ = tracemalloc.get_traced_memory()
        result = action()
        worst[stage] = max(worst[stage], (tracemalloc.get_traced_memory()[1] - found) / 2**20)
        return result

    tracemalloc.start()
    for _ in range(ticks):
        leave, join = fleet.turnover()
        traced("swap", lambda: fleet.roster.swap(leave, join))  # noqa: B023 - called at once
        fleet.settle(join)
        seen, spec = fleet.observe(), fleet.roster.spec
        seen = traced("record", lambda: fleet.history.record(spec, seen))  # noqa: B023
        fleet.state, decision = traced("decide", lambda: decide(fleet.state, seen, spec))  # noqa: B023
        fleet.obey(decision)
    tracemalloc.stop()
    return worst | {"tick": max(worst.values())}


def measure(load: Load, ticks: int, warm_up: int) -> dict[str, Any]:
    """Play the load and summarise it."""
    empty = resident_mib()
    fleet = Fleet(load)
    gc.collect()
    rows, writes, held = [], 0, 0
    for number in range(warm_up + ticks):
        row, decision = tick(fleet)
        if number >= warm_up:
            rows.append(row)
            writes += int(decision.apply.sum())
            held += int((decision.combined.failed > 0).sum())
    resident = resident_mib()
    peaks = peak_mib(fleet, 5)
    return {
        "load": vars(load) | {"ticks": ticks, "interval_s": INTERVAL_S},
        "stages": {name: summary([row[name] for row in rows]) | {"peak_mib": round(peaks[name], 2)} for name in rows[0]},
        "resident_mib": round(resident, 1),
        "resident_mib_before": round(empty, 1),
        "writes_per_tick": round(writes / ticks, 1),
        "workloads_with_missing_signals": round(held / ticks, 1),
        "origin": origin(),
    }


def summary(spans: list[Span]) -> dict[str, float]:
    """Median, 99th percentile and maximum, and the median of the CPU time, in milliseconds."""
    wall, cpu = np.array(spans).T
    found = zip(TIMES, (*np.percentile(wall, [50, 99, 100]), np.median(cpu)), strict=True)
    return {name: round(float(value), 3) for name, value in found}


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    load, where = result["load"], result["origin"]
    lines = [
        f"{load['workloads']} workloads ({', '.join(load['policies'])}), 2 metrics each; {load['ticks']} ticks",
        f"{load['missing']:.0%} of the signals missing, {load['swapped']} workloads swapped a tick",
        "",
        f"{'stage':<10}{'median':>12}{'p99':>12}{'max':>12}{'median CPU':>12}{'peak memory':>16}",
    ]
    for name, stage in result["stages"].items():
        times = "".join(f"{stage[key]:>9.2f} ms" for key in TIMES)
        lines.append(f"{name:<10}{times}{stage['peak_mib']:>12.1f} MiB")
    return "\n".join(
        [
            *lines,
            "",
            f"resident: {result['resident_mib']} MiB, of which {result['resident_mib_before']} MiB are Python and its modules",
            f"writes a tick: {result['writes_per_tick']}; workloads with a missing signal: {result['workloads_with_missing_signals']}",
            ", ".join(f"{name} {value}" for name, value in where.items()),
        ]
    )


def apart(name: str, arguments: list[str]) -> dict[str, Any]:
    """The result of one policy, from a process of its own: whose memory is whose."""
    command = [sys.executable, "-m", "benchmarks.decide", *arguments, "--policies", name, "--each", "", "--output", "json"]
    answer = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603 - itself
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def by_policy(results: dict[str, dict[str, Any]]) -> str:
    """`decide` alone, a row for each policy, for people."""
    lines = [f"{'decide of':<16}{'median':>12}{'p99':>12}{'max':>12}{'median CPU':>12}{'peak memory':>16}{'resident':>14}"]
    for name, result in results.items():
        stage = result["stages"]["decide"]
        times = "".join(f"{stage[key]:>9.2f} ms" for key in TIMES)
        lines.append(f"{name:<16}{times}{stage['peak_mib']:>12.1f} MiB{result['resident_mib']:>10.1f} MiB")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decide", description=__doc__)
    parser.add_argument("--workloads", type=int, default=10_000)
    parser.add_argument("--policies", default="threshold,movingAverage", help="names, comma between them, in equal shares")
    parser.add_argument("--missing", type=float, default=0.01, help="share of the signals without data")
    parser.add_argument("--swapped", type=int, default=10, help="workloads that leave, and that join, at each tick")
    parser.add_argument("--ticks", type=int, default=500)
    parser.add_argument("--warm-up", type=int, default=60, help="ticks before the first that is measured")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--each", default=",".join(EACH), help="policies that are measured alone too, comma between them")
    given = parser.parse_args(arguments)
    load = Load(given.workloads, tuple(given.policies.split(",")), given.missing, given.swapped, given.seed)
    result = measure(load, given.ticks, given.warm_up)
    names = ("workloads", "missing", "swapped", "ticks", "warm_up", "seed")
    same = [f"--{name.replace('_', '-')}={getattr(given, name)}" for name in names]
    each = {name: apart(name, same) for name in given.each.split(",") if name}
    if given.output == "json":
        print(json.dumps(result | ({"each": each} if each else {}), indent=2))
    else:
        print("\n\n".join([table(result), *([by_policy(each)] if each else [])]))


if __name__ == "__main__":
    main(sys.argv[1:])
