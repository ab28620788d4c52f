"""Builders for everything that the core takes: specs, observations, and a rig that plays ticks.

A test says what it is about and leaves the rest to the defaults: one Deployment at 1 to 100 replicas, one metric with a target of 1
(so load is demand), a policy that proposes the demand, no tolerance, no windows, no limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from typing import Any

import numpy as np

from autoscaler.core.behavior import HPA_BEHAVIOR, NO_BEHAVIOR, Behavior, Direction, RateRule, Select
from autoscaler.core.columns import frozen
from autoscaler.core.decide import Decision, State, decide
from autoscaler.core.history import History
from autoscaler.core.observation import Observation, blank
from autoscaler.core.policy import NoState, Policy, Proposal, View, param
from autoscaler.core.roster import Roster
from autoscaler.core.spec import PolicyChoice, Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import Floats, Mode, Reason, Signal, Target, TargetKind, Workload

START_S = 1_700_000_040.0
INTERVAL_S = 15.0
HPA_CLASSIC = HPA_BEHAVIOR.absent
HPA_GIVEN = HPA_BEHAVIOR.given
FREE_BEHAVIOR = NO_BEHAVIOR.absent


# Policies of three kinds: without memory, with a window, with a state.


@dataclass(frozen=True)
class ProportionalParams:
    factor: Floats = param(1.0, ge=0, doc="replicas for each replica of demand")


class Proportional:
    """``factor x demand``."""

    Params = ProportionalParams

    def init(self, params: ProportionalParams, n: int) -> NoState:  # noqa: ARG002 - the contract
        return NoState()

    def __call__(self, view: View, params: ProportionalParams, state: NoState) -> tuple[NoState, Proposal]:
        return state, Proposal(params.factor * view.demand[-1], expected=view.demand[-1].astype(np.float64))


@dataclass(frozen=True)
class ExtremeParams:
    window_s: Floats = param(60.0, gt=0, doc="how far back")
    least: bool = param(default=False, doc="the lowest instead of the highest")


class Extreme:
    """The highest or lowest demand of a window, whatever is missing in it."""

    Params = ExtremeParams

    def history_s(self, params: ExtremeParams) -> float:
        return float(params.window_s)

    def init(self, params: ExtremeParams, n: int) -> NoState:  # noqa: ARG002 - the contract
        return NoState()

    def __call__(self, view: View, params: ExtremeParams, state: NoState) -> tuple[NoState, Proposal]:
        rows = np.ceil(params.window_s / view.interval_s - 1e-9)
        age = np.arange(view.demand.shape[0] - 1, -1, -1)[:, None]
        seen = np.where(age < rows, view.demand.astype(np.float64), np.nan)
        pick = np.fmin if params.least else np.fmax
        return state, Proposal(pick.reduce(seen, axis=0))


@dataclass(frozen=True)
class PatientParams:
    ticks: Floats = param(2, ge=0, doc="so many ticks above the current count before it moves")


@dataclass(frozen=True)
class PatientState:
    above: Floats


class Patient:
    """Demand once it has been above the current count for more than ``ticks`` ticks, else the current count; abstains at demand 13."""

    Params = PatientParams

    def init(self, params: PatientParams, n: int) -> PatientState:  # noqa: ARG002 - the contract
        return PatientState(np.zeros(n))

    def __call__(self, view: View, params: PatientParams, state: PatientState) -> tuple[PatientState, Proposal]:
        demand = view.demand[-1].astype(np.float64)
        above = np.where(demand > view.current, state.above + 1, 0.0)
        wanted = np.where((above > params.ticks) | (demand < view.current), demand, view.current)
        return PatientState(above), Proposal(np.where(demand == 13, np.nan, wanted))


PROPORTIONAL, EXTREME, PATIENT = Proportional(), Extreme(), Patient()


def choice(policy: Policy = PROPORTIONAL, **params: Any) -> PolicyChoice:  # noqa: ANN401 - whatever the policy's parameters are
    return PolicyChoice(type(policy).__name__, policy, policy.Params(**params))


# Specs.


def workload(name: str = "web") -> Workload:
    return Workload("shop", name)


def series(name: str = "requests", target: float = 1.0, kind: TargetKind = TargetKind.AVERAGE_VALUE, activation: float = 0.0) -> SeriesSpec:
    return SeriesSpec(name, Query(f"sum({name})"), target, kind, activation)


def spec(name: str = "web", **changes: Any) -> WorkloadSpec:  # noqa: ANN401 - fields of WorkloadSpec
    base = WorkloadSpec(workload(name), (series(),), choice(), FREE_BEHAVIOR, 1, 100, INTERVAL_S)
    return replace(base, **changes)


def direction(window_s: float = 0.0, tolerance: float = 0.0, rules: Sequence[RateRule] = (), select: Select = Select.MAX) -> Direction:
    return Direction(window_s, tolerance, tuple(rules), select)


def behavior(up: Direction | None = None, down: Direction | None = None, *, classic: bool = False) -> Behavior:
    return Behavior(up or direction(), down or direction(), classic)


def pods(value: float, period_s: float) -> RateRule:
    return RateRule(value, period_s)


def percent(value: float, period_s: float) -> RateRule:
    return RateRule(value, period_s, percent=True)


# Observations.


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one workload at one tick; ``loads``, ``signals`` and ``requests`` in the order of its spec's series.

    ``written``: the tick, old and new count of a write that was confirmed. Absent: nothing is known of a target that is there.
    """

    current: float = nan
    loads: tuple[float, ...] = ()
    signals: tuple[Signal, ...] = ()
    requests: tuple[float, ...] = ()
    ready: float | None = None
    target: Target = Target.OK
    written: tuple[float, float, float] | None = None
    coverage: float = nan

    def ready_count(self) -> float:
        return self.current if self.ready is None else self.ready


def observe(roster: Roster, at_s: float, facts: Mapping[Workload, Facts]) -> Observation:
    """The columns of some facts; workloads that have none are as in a blank observation."""
    nothing = blank(roster.spec, at_s)
    columns: dict[str, Any] = {
        name: getattr(nothing, name).copy() for name in ("current", "ready", "status_replicas", "target", "coverage")
    }
    written = np.full((3, roster.spec.slots), nan)
    index = {call.key: number for number, call in enumerate(roster.spec.calls)}
    signals: list[dict[str, Any]] = [
        {name: getattr(each, name).copy() for name in ("load", "age_s", "signal", "ready", "request")} for each in nothing.series
    ]
    for name, fact in facts.items():
        slot = roster.slot(name)
        columns["current"][slot] = columns["status_replicas"][slot] = fact.current
        columns["ready"][slot], columns["target"][slot], columns["coverage"][slot] = fact.ready_count(), fact.target, fact.coverage
        if fact.written is not None:
            written[:, slot] = fact.written
        places = list(roster.series(name).values())
        for number, (place, load) in enumerate(zip(places, fact.loads, strict=True)):
            column = signals[index[place.call]]
            column["load"][place.slot], column["age_s"][place.slot] = load, 0.0
            column["signal"][place.slot] = fact.signals[number] if fact.signals else Signal.OK
            column["request"][place.slot] = fact.requests[number] if fact.requests else nan
            column["ready"][place.slot] = fact.ready_count()
    columns |= {"written_at_s": written[0], "written_from": written[1], "written_to": written[2]}
    columns = {name: frozen(column) for name, column in columns.items()}
    for found in signals:
        found |= {name: frozen(column) for name, column in found.items()}
    return replace(nothing, **columns, series=tuple(replace(each, **found) for each, found in zip(nothing.series, signals, strict=True)))


# Decisions.


@dataclass(frozen=True, slots=True)
class Outcome:
    """One workload's decision. None stands for NaN, so that outcomes compare; ``reasons`` by guard, only where there is one."""

    current: float | None
    proposed: float | None
    replicas: float | None
    apply: bool
    reasons: dict[str, Reason] = field(default_factory=dict)


def known_or_none(value: float) -> float | None:
    return None if isnan(value) else float(value)


def outcome(decision: Decision, slot: int) -> Outcome:
    reasons = {stage.name: Reason(int(stage.reason[slot])) for stage in decision.stages}
    return Outcome(
        known_or_none(decision.current[slot]),
        known_or_none(decision.combined.replicas[slot]),
        known_or_none(decision.replicas[slot]),
        bool(decision.apply[slot]),
        {name: reason for name, reason in reasons.items() if reason is not Reason.NONE},
    )


class Rig:
    """A group with its history and state on a timeline of its own; the first tick is at ``START_S``."""

    decision: Decision

    def __init__(self, *specs: WorkloadSpec, interval_s: float = INTERVAL_S, floor: Mode = Mode.ACTIVE, real: float = 10) -> None:
        self.roster = Roster(interval_s, floor)
        self.history = History(interval_s)
        self.state = State()
        self.at_s = START_S - interval_s
        self.roster.swap(join=specs)
        self.real = real
        self._written: tuple[float, float, float] | None = None

    def decide(self, facts: Mapping[Workload, Facts], ticks: int = 1) -> dict[Workload, Outcome]:
        """Let ``ticks`` ticks pass, of which only the last is observed, and decide it."""
        self.at_s += ticks * self.roster.spec.interval_s
        observation = self.history.record(self.roster.spec, observe(self.roster, self.at_s, facts))
        self.state, self.decision = decide(self.state, observation, self.roster.spec)
        return {name: outcome(self.decision, self.roster.slot(name)) for name in self.roster.members()}

    def tick(self, *loads: float, ticks: int = 1, **facts: Any) -> Outcome:  # noqa: ANN401 - fields of Facts
        """The same for the rig's only workload: its loads and facts. Its real count follows what is decided, like a cluster that obeys."""
        (name,) = self.roster.members()
        known = {"current": self.real, "written": self._written, **facts}
        made = self.decide({name: Facts(loads=loads, **known)}, ticks)[name]
        self._written = None
        if made.apply and made.replicas is not None:
            self._written = (self.at_s, self.real, made.replicas)
            self.real = made.replicas
        return made

    def become(self, **changes: Any) -> None:  # noqa: ANN401 - fields of WorkloadSpec
        """Change the spec of the rig's only workload."""
        (old,) = self.roster.members().values()
        self.roster.swap(join=[replace(old, **changes)])
