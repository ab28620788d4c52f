"""What ``decide`` must come to, for one workload at a time and in plain Python: lists, dicts and if. No arrays, no slots, no runs.

Written from the HPA's rules and the design, not from the columns; None is "not known". It remembers every recommendation, every event
and every demand that there ever was, and looks at all of them each time.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoscaler.core.behavior import Direction, Select
from autoscaler.core.spec import Fallback, SeriesSpec, When, WorkloadSpec
from autoscaler.core.types import Mode, Reason, Signal, Target, TargetKind
from tests.core.build import ExtremeParams, Facts, Outcome, PatientParams, ProportionalParams, known_or_none

TARGET_REASONS = {
    Target.UNKNOWN: Reason.TARGET_UNKNOWN,
    Target.NOT_FOUND: Reason.TARGET_NOT_FOUND,
    Target.FORBIDDEN: Reason.TARGET_FORBIDDEN,
    Target.STALE: Reason.TARGET_STALE,
    Target.CONFLICT: Reason.CONFLICT,
    Target.CLOCK_STEP: Reason.CLOCK_STEP,
}

Past = Mapping[int, float | None]
Answer = tuple[Any, float | None]


def proportional(params: ProportionalParams, past: Past, tick: int, current: float | None, memory: Any) -> Answer:  # noqa: ANN401, ARG001
    demand = past.get(tick)
    return memory, None if demand is None else float(params.factor) * demand


def extreme(params: ExtremeParams, past: Past, tick: int, current: float | None, memory: Any) -> Answer:  # noqa: ANN401, ARG001
    rows = math.ceil(float(params.window_s) / 15 - 1e-9)
    seen = [demand for back in range(rows) if (demand := past.get(tick - back)) is not None]
    if not seen:
        return memory, None
    return memory, min(seen) if params.least else max(seen)


def patient(params: PatientParams, past: Past, tick: int, current: float | None, memory: Any) -> Answer:  # noqa: ANN401
    demand = past.get(tick)
    above = (memory or 0) + 1 if demand is not None and current is not None and demand > current else 0
    if demand == 13:
        return above, None
    if above > float(params.ticks) or (demand is not None and current is not None and demand < current):
        return above, demand
    return above, current


POLICIES: dict[type, Callable[[Any, Past, int, float | None, Any], Answer]] = {
    ProportionalParams: proportional,
    ExtremeParams: extreme,
    PatientParams: patient,
}


def single(value: float) -> float:
    """The value in single precision, in which history keeps demand."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


@dataclass
class SeriesMemory:
    past: dict[int, float | None] = field(default_factory=dict)
    policy: Any = None
    believed: float | None = None
    zeros: int = 0
    doubted: bool = False

    def believe(self, demand: float | None, current: float | None) -> float | None:
        """The demand, or None while it is a zero that came out of more than two replicas and was not seen at three ticks yet."""
        before = current if self.believed is None else self.believed
        self.zeros = self.zeros if demand is None else self.zeros + 1 if demand == 0 else 0
        self.doubted = demand == 0 and before is not None and before > 2 and self.zeros < 3
        if demand is None or self.doubted:
            return None
        self.believed = demand
        return demand


class Reference:
    """One workload over time."""

    def __init__(self, spec: WorkloadSpec) -> None:
        self.spec = spec
        self.series: dict[SeriesSpec, SeriesMemory] = {}
        self.recommendations: list[tuple[float, float]] = []
        self.events: list[tuple[float, float]] = []
        self.seeded = False
        self.since = -math.inf
        self.shadow: float | None = None
        self.failures = 0
        self.zero = "foreign"  # or "written", or "seen"
        self.update(spec)

    def update(self, spec: WorkloadSpec) -> None:
        same_policy = spec.policy.name == self.spec.policy.name and all(
            getattr(spec.policy.params, name) == value
            for name, value in vars(self.spec.policy.params).items()
            if isinstance(value, (str, bool))
        )
        self.series = {each: (same_policy and self.series.get(each)) or SeriesMemory() for each in spec.series}
        self.spec = spec

    def tick(self, at_s: float, facts: Facts, floor: Mode = Mode.ACTIVE) -> Outcome:
        number = round(at_s / self.spec.interval_s)
        observed = known_or_none(facts.current)
        reasons: dict[str, Reason] = {}
        mode = self.mode(at_s, floor)
        target = Target.OK if facts.target is Target.CONFLICT and mode is not Mode.ACTIVE else facts.target
        here = target is Target.OK and observed is not None
        current = self.enter(at_s, facts, mode, here=here)
        if target is Target.CONFLICT:
            self.seeded, self.events, self.since = False, [], -math.inf
        low, high = self.bounds(at_s)

        proposals = [self.propose(each, number, index, facts, current) for index, each in enumerate(self.spec.series)]
        known = [proposal for proposal, _ in proposals if proposal is not None]
        wanted = max(known, default=None)
        missing = not proposals or any(gap for _, gap in proposals)
        unsure = len(known) < len(proposals) or facts.coverage < 0.9

        if not here:
            reason = TARGET_REASONS[Target.UNKNOWN if target is Target.OK else target]
            return Outcome(current, wanted, current, apply=False, reasons={"noData": reason})
        assert current is not None
        if current == 0 and self.shadow is None and self.zero == "foreign":
            return Outcome(current, wanted, current, apply=False, reasons={"noData": Reason.PAUSED_AT_ZERO})

        replicas, held = self.no_data(wanted, current, reasons, missing=missing, unsure=unsure)
        if not held and low == 0 and wanted is not None:
            replicas = self.activate(replicas, current, facts, reasons, unsure=unsure)
        replicas = self.tolerate(replicas, current, reasons)
        if not held:
            below_min = 0 < current < low
            if not (self.spec.behavior.classic and below_min):
                replicas = self.stabilise(at_s, replicas, current, reasons, records=not below_min and current <= high)
            replicas = self.limit(at_s, replicas, current, reasons)
        replicas = self.bound(at_s, replicas, reasons)
        if mode is Mode.PAUSED:
            reasons["mode"], replicas = Reason.PAUSED, current
        if mode is Mode.DRY_RUN:
            reasons["mode"] = Reason.DRY_RUN
            if replicas != current:
                self.events.append((at_s, replicas - current))
            self.shadow = replicas
        return Outcome(current, wanted, replicas, apply=mode is Mode.ACTIVE and replicas != observed, reasons=reasons)

    def mode(self, at_s: float, floor: Mode) -> Mode:
        own = Mode.ACTIVE if self.spec.mode_until_s <= at_s else self.spec.mode
        return max(own, floor)

    def enter(self, at_s: float, facts: Facts, mode: Mode, *, here: bool) -> float | None:
        observed = known_or_none(facts.current)
        if here and observed and self.zero == "seen":
            self.zero = "foreign"
        if facts.written is not None:
            decided_at_s, before, after = facts.written
            if after != before:
                self.events.append((decided_at_s, after - before))
            self.zero = "written" if after == 0 else "foreign"
        if here and observed == 0 and self.zero == "written":
            self.zero = "seen"

        leaves = here and mode is not Mode.DRY_RUN and self.shadow is not None
        if leaves:
            self.shadow, self.events = None, []
        if here and mode is Mode.DRY_RUN and self.shadow is None and (observed or self.zero != "foreign"):
            self.shadow = observed
        current = self.shadow if mode is Mode.DRY_RUN and self.shadow is not None else observed
        if here and current is not None and (leaves or not self.seeded):
            self.seeded, self.recommendations = True, [(at_s, current)]
            self.since = at_s
        return current

    def bounds(self, at_s: float) -> tuple[float, float]:
        spec = self.spec
        lows = [row.min_replicas for row in spec.schedule if row.start_s <= at_s < row.end_s and not math.isnan(row.min_replicas)]
        highs = [row.max_replicas for row in spec.schedule if row.start_s <= at_s < row.end_s and not math.isnan(row.max_replicas)]
        high = max(highs, default=spec.max_replicas)
        return min(max(lows, default=spec.min_replicas), high), high

    def demand(self, spec: SeriesSpec, index: int, facts: Facts) -> float | None:
        if index >= len(facts.loads) or (facts.signals and facts.signals[index] is not Signal.OK):
            return None
        load = facts.loads[index]
        if math.isnan(load) or math.isinf(load) or load < 0:
            return None
        demand = load / spec.target
        if spec.target_kind is TargetKind.UTILIZATION:
            request = facts.requests[index] if facts.requests else math.nan
            demand = demand / request if request > 0 else math.nan
        if spec.target_kind is TargetKind.VALUE:
            ready = facts.ready_count()
            demand = math.ceil(demand) if facts.current == 0 else demand * ready if ready > 0 else math.nan
        return None if math.isnan(demand) or demand > 1e9 else single(demand)

    def propose(self, spec: SeriesSpec, number: int, index: int, facts: Facts, current: float | None) -> tuple[float | None, bool]:
        """The series' proposal, and whether it has no data."""
        memory = self.series[spec]
        memory.past[number] = memory.believe(self.demand(spec, index, facts), known_or_none(facts.current))
        params = self.spec.policy.params
        memory.policy, proposal = POLICIES[type(params)](params, memory.past, number, current, memory.policy)
        missing = memory.past[number] is None
        return None if missing else proposal, missing

    def no_data(
        self, wanted: float | None, current: float, reasons: dict[str, Reason], *, missing: bool, unsure: bool
    ) -> tuple[float, bool]:
        doubted = any(memory.doubted for memory in self.series.values())
        if wanted is None and doubted:
            reasons["noData"] = Reason.SUDDEN_ZERO
            return current, True
        if wanted is None and not missing:
            self.failures, reasons["noData"] = 0, Reason.ABSTAINED
            return current, True
        if wanted is None:
            self.failures += 1
            fallback = self.spec.fallback
            if fallback is not None and self.failures >= fallback.after and applies(fallback, current):
                reasons["noData"] = Reason.FALLBACK
                return fallback.replicas, False
            reasons["noData"] = Reason.NO_DATA
            return current, True
        self.failures = 0
        if unsure and wanted < current:
            reasons["noData"] = Reason.SUDDEN_ZERO if doubted else Reason.PARTIAL_DATA
            return current, True
        return wanted, False

    def activate(self, replicas: float, current: float, facts: Facts, reasons: dict[str, Reason], *, unsure: bool) -> float:
        active = any(
            self.demand(each, index, facts) is not None and facts.loads[index] > each.activation
            for index, each in enumerate(self.spec.series)
        )
        if active and replicas <= 1e-9:
            reasons["activation"] = Reason.ACTIVATED
            return 1
        if not active and replicas > 0 and (not unsure or current == 0):
            reasons["activation"] = Reason.NOT_ACTIVE
            return 0
        return replicas

    def tolerate(self, replicas: float, current: float, reasons: dict[str, Reason]) -> float:
        up, down = self.spec.behavior.up.tolerance, self.spec.behavior.down.tolerance
        if current > 0 and 1 - down <= replicas / current <= 1 + up:
            if replicas != current:
                reasons["tolerance"] = Reason.WITHIN_TOLERANCE
            return current
        return math.ceil(replicas - 1e-9)

    def stabilise(self, at_s: float, replicas: float, current: float, reasons: dict[str, Reason], *, records: bool) -> float:
        behavior = self.spec.behavior
        up = [value for when, value in self.recommendations if when > at_s - behavior.up.window_s]
        down = [value for when, value in self.recommendations if when > at_s - behavior.down.window_s]
        if records:
            self.recommendations.append((at_s, replicas))
        bottom, top = min([replicas, *up]), max([replicas, *down])
        stable = top if behavior.classic else min(max(current, bottom), top)
        if stable != replicas:
            reasons["stabilisation"] = Reason.STABILISED_DOWN if stable > replicas else Reason.STABILISED_UP
        return stable

    def limit(self, at_s: float, replicas: float, current: float, reasons: dict[str, Reason]) -> float:
        behavior = self.spec.behavior
        if behavior.classic:
            ceiling, floor = max(2 * current, 4), -math.inf
        else:
            ceiling = max(current, self.furthest(behavior.up, at_s, current, 1))
            floor = min(current, self.furthest(behavior.down, at_s, current, -1))
        if current == 0 and (behavior.classic or behavior.up.select is not Select.DISABLED):
            ceiling = max(ceiling, 1)
        if replicas > ceiling:
            disabled = not behavior.classic and behavior.up.select is Select.DISABLED
            reasons["rate"] = Reason.DIRECTION_DISABLED if disabled else Reason.RATE_LIMITED_UP
            return ceiling
        if replicas < floor:
            reasons["rate"] = Reason.DIRECTION_DISABLED if behavior.down.select is Select.DISABLED else Reason.RATE_LIMITED_DOWN
            replicas = floor
        lowered = sum(change < 0 for when, change in self.own_events() if when > at_s - 3600)
        if replicas < current and 0 < behavior.downs_per_hour <= lowered:
            reasons["rate"] = Reason.RATE_LIMITED_DOWN
            return current
        return replicas

    def own_events(self) -> list[tuple[float, float]]:
        """Without those from before its windows began: a write may be confirmed late."""
        return [(when, change) for when, change in self.events if when >= self.since]

    def furthest(self, direction: Direction, at_s: float, current: float, sign: int) -> float:
        """Where the direction's rules let the count go: the HPA's limits of scaling up and down by rules."""
        if direction.select is Select.DISABLED:
            return current
        if not direction.rules:
            return sign * math.inf
        reach = []
        for rule in direction.rules:
            start = current - sum(change for when, change in self.own_events() if when > at_s - rule.period_s)
            if not rule.percent:
                reach.append(start + sign * rule.value)
            elif sign > 0:
                reach.append(math.ceil(start * (1 + rule.value / 100)))
            else:
                reach.append(math.trunc(start * (1 - rule.value / 100)))
        furthest, nearest = (max, min) if sign > 0 else (min, max)
        return furthest(reach) if direction.select is Select.MAX else nearest(reach)

    def bound(self, at_s: float, replicas: float, reasons: dict[str, Reason]) -> float:
        low, high = self.bounds(at_s)
        rows = [row for row in self.spec.schedule if row.start_s <= at_s < row.end_s]
        bounded = min(max(replicas, low), high)
        if bounded > replicas:
            scheduled = any(not math.isnan(row.min_replicas) for row in rows)
            reasons["schedule" if scheduled else "bounds"] = Reason.SCHEDULE_MIN if scheduled else Reason.BELOW_MIN
        if bounded < replicas:
            scheduled = any(not math.isnan(row.max_replicas) for row in rows)
            reasons["schedule" if scheduled else "bounds"] = Reason.SCHEDULE_MAX if scheduled else Reason.ABOVE_MAX
        return bounded


def applies(fallback: Fallback, current: float) -> bool:
    return {When.ALWAYS: True, When.IF_HIGHER: fallback.replicas > current, When.IF_LOWER: fallback.replicas < current}[fallback.when]
