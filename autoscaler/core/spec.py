"""What is to be scaled and how: one :class:`WorkloadSpec` per workload, and the columns of a group of them.

Policy sources yield the rows; :class:`autoscaler.core.roster.Roster` keeps the columns in step with rows that come and go.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import nan
from typing import Any

from autoscaler.core.behavior import Behavior
from autoscaler.core.policy import Policy
from autoscaler.core.types import Bools, Codes, Floats, Ints, MetricType, Mode, TargetKind, Workload


@dataclass(frozen=True, slots=True)
class Query:
    """One question to a metric source. Equal queries are asked once a tick, however many workloads need the answer.

    ``endpoint`` is the source's name in the settings; ``empty_is_zero`` is the user's ``whenEmpty: zero``.
    """

    text: str
    endpoint: str = "default"
    empty_is_zero: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What the workload's own pods use, as ``metrics.k8s.io`` has it: ``resource`` is ``cpu`` (cores) or ``memory`` (bytes).

    Of one container of each pod, or of all ("").
    """

    resource: str
    container: str = ""

    @property
    def text(self) -> str:
        """In words, where a query would stand."""
        return f"{self.resource} of {f'container {self.container}' if self.container else 'all containers'} (metrics.k8s.io)"


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """One metric of one workload. ``target`` in the metric's unit per replica (a ratio for utilisation).

    ``match`` names the labels that pick this workload's series out of a vector, as (label, value) pairs; empty: the vector must
    have just one series. Above ``activation`` a workload at zero is woken. While ``saturation`` (picked by
    ``saturation_match``)
    has a value other than 0, the load is only what the replicas can take, not what is asked of them.
    """

    name: str
    query: Query | Usage
    target: float
    target_kind: TargetKind = TargetKind.AVERAGE_VALUE
    activation: float = 0.0
    match: tuple[tuple[str, str], ...] = ()
    metric_type: MetricType = MetricType.EXTERNAL
    saturation: Query | None = None
    saturation_match: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many pods of a workload report; ``match`` as in :class:`SeriesSpec`.

    ``is_given``: the user asked for it, so no answer is no coverage. Else it counts only once it has known a pod of the workload.
    """

    query: Query
    match: tuple[tuple[str, str], ...] = ()
    is_given: bool = False


@dataclass(frozen=True, slots=True)
class Objective:
    """What became of a workload's requests: rates per second of those that were too late, and of all; matches as in :class:`SeriesSpec`.

    It is advice for a policy that reads it (``Traits.objective``): without an answer nothing is held and nothing fails.
    """

    late: Query
    total: Query
    late_match: tuple[tuple[str, str], ...] = ()
    total_match: tuple[tuple[str, str], ...] = ()


class When(IntEnum):
    """When a fallback count applies, as in KEDA: always, or only if it is above or below the current count."""

    ALWAYS = 0
    IF_HIGHER = 1
    IF_LOWER = 2


@dataclass(frozen=True, slots=True)
class Fallback:
    """After ``after`` ticks in a row without data, ``replicas`` instead of a hold."""

    after: int
    replicas: int
    when: When = When.ALWAYS


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """From ``start_s`` until before ``end_s`` these bounds replace the spec's; NaN leaves one as it is."""

    start_s: float
    end_s: float
    min_replicas: float = nan
    max_replicas: float = nan


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """A policy and one workload's scalar parameters (an instance of ``policy.Params``)."""

    name: str
    policy: Policy
    params: Any


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """Everything that a policy file says about one workload. ``origin`` says where it stands (file and name)."""

    workload: Workload
    series: tuple[SeriesSpec, ...]
    policy: PolicyChoice
    behavior: Behavior
    min_replicas: int = 1
    max_replicas: int = 10
    interval_s: float = 15.0
    schedule: tuple[ScheduleRow, ...] = ()
    fallback: Fallback | None = None
    mode: Mode = Mode.ACTIVE
    mode_until_s: float = nan
    startup_s: float = nan
    coverage: Coverage | None = None
    objective: Objective | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """All series of a group that share a policy and its text and bool parameters: what one call of the policy gets.

    ``params`` has numbers as columns; ``owner[n]`` is the workload slot (-1: free); ``serial[n]`` tells one user of a slot from the
    next, so that nobody inherits a history; ``rows`` is how many ticks the policy looks back on.
    """

    key: str
    policy: Policy
    params: Any
    rows: int
    owner: Ints
    serial: Ints
    target: Floats
    target_kind: Codes
    metric_type: Codes
    activation: Floats


@dataclass(frozen=True, slots=True)
class WorkloadColumns:
    """The guards' side of a group, by workload slot.

    ``serial[w]`` is 0 where a slot is free; ``rule_*[direction, rule, w]`` with direction 0 up and 1 down and a period of 0 where
    there is no rule; ``downs_per_hour`` 0 where there is no limit.
    """

    serial: Ints
    min: Floats
    max: Floats
    mode: Codes
    mode_until_s: Floats
    startup_s: Floats
    classic: Bools
    exact: Bools
    tolerance: Floats
    window_s: Floats
    select: Codes
    rule_value: Floats
    rule_period_s: Floats
    rule_percent: Bools
    downs_per_hour: Floats
    fallback_after: Floats
    fallback_replicas: Floats
    fallback_when: Codes


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule rows of a group, flat, each with its workload slot."""

    owner: Ints
    start_s: Floats
    end_s: Floats
    min: Floats
    max: Floats


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """All workloads of one interval, in columns: what ``decide`` needs to know besides state and observation.

    ``mode_floor`` is the whole service's mode: the stricter of it and a workload's own holds.
    """

    interval_s: float
    workloads: WorkloadColumns
    schedule: Schedule
    calls: tuple[Call, ...]
    mode_floor: Mode = Mode.ACTIVE

    @property
    def slots(self) -> int:
        """How many workload slots there are, used or free."""
        return self.workloads.serial.size
