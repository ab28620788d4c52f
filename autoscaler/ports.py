"""What the loops need from outside, as Protocols of few methods. Adapters provide them; tests and the demo do so in memory.

Every method that waits takes its budget in seconds and ends within it. Adapters raise only errors of :mod:`autoscaler.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, Protocol

from autoscaler.core.health.facts import Facts, Pod
from autoscaler.core.health.findings import Finding
from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.health.remedies import Act
from autoscaler.core.health.report import Evidence, Report
from autoscaler.core.selector import Selector
from autoscaler.core.spec import Query, WorkloadSpec
from autoscaler.core.types import Floats, Target, Workload
from autoscaler.core.usage import Sample
from autoscaler.errors import ConfigError
from autoscaler.metrics import Metric


@dataclass(frozen=True, slots=True)
class Vector:
    """An instant answer: one value for each set of labels; ``values[k]`` in the query's unit, as the source gave them.

    ``evaluated_at_s`` is the time that the source evaluated the query at; ``source_now_s`` its clock when it answered (NaN: unknown).
    """

    labels: tuple[Mapping[str, str], ...]
    values: Floats
    evaluated_at_s: float
    source_now_s: float = nan


@dataclass(frozen=True, slots=True)
class Matrix:
    """A range answer on the grid ``at_s[t]``: ``values[t, k]``, NaN where the source has no sample."""

    labels: tuple[Mapping[str, str], ...]
    at_s: Floats
    values: Floats


class MetricSource(Protocol):
    """Where loads come from.

    Raises :class:`TransientError` (it cannot be reached, it is overloaded), :class:`AnswerError` (it answered, but no vector),
    :class:`PermanentError` (it refuses the query, with its own words).
    """

    def instant(self, query: Query, at_s: float, budget_s: float) -> Awaitable[Vector]:
        """The query's value at that time. Begun when it is called, or when it is awaited; cancelling gives it up."""
        ...

    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        """The query's values from start to end, both included. Splits what the source would refuse as too much."""
        ...

    async def close(self) -> None:
        """Give back what it holds; nothing of it runs afterwards."""
        ...


class ResourceMetrics(Protocol):
    """What pods use of CPU and memory. Raises errors as :class:`MetricSource` does.

    ``cluster_wide``: all namespaces may be asked for at once.
    """

    cluster_wide: bool

    async def usage(self, namespace: str, budget_s: float) -> Mapping[tuple[str, str], Sample]:
        """The newest sample of each pod of a namespace ("" is all), by namespace and name."""
        ...


@dataclass(frozen=True, slots=True)
class Rival:
    """Another autoscaler of the same target: ``HorizontalPodAutoscaler web``. ``desired`` replicas as it last said (NaN: it has not)."""

    kind: str
    name: str
    desired: float = nan

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who last set a target's replicas: the field manager, whether that is us, and in words how and when."""

    manager: str
    ours: bool
    how: str = ""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What a watch cache knows of one target. Facts are replaced, never changed: ``is`` tells whether anything is new.

    ``replicas`` = spec.replicas (absent is 0, as the API omits zero), ``ready`` and ``status_replicas`` from its status; NaN: not
    known. ``problem`` is a sentence wherever ``state`` is not OK. ``rival``: who else scales it; None: nobody, or it is not known.
    """

    state: Target
    uid: str = ""
    resource_version: str = ""
    replicas: float = nan
    ready: float = nan
    status_replicas: float = nan
    ordered: bool = False
    problem: str = ""
    rival: Rival | None = None


NOT_SEEN = TargetFacts(Target.UNKNOWN, problem="not seen yet")


class Cluster(Protocol):
    """The targets' replica counts: read from a watch cache, written by compare-and-swap."""

    async def run(self) -> None:
        """Keep the cache current until cancelled."""
        ...

    def follow(self, workloads: Iterable[Workload]) -> None:
        """Keep facts of just these from now on."""
        ...

    def select(self, selectors: Iterable[Selector]) -> None:
        """Keep knowing who fits just these from now on."""
        ...

    def selected(self, selector: Selector) -> frozenset[str] | None:
        """The names of those that fit a selector given to :meth:`select`; never waits. None: not known now."""
        ...

    def facts(self, workload: Workload) -> TargetFacts:
        """What the cache holds now; never waits. ``STALE`` when the watch behind it has been silent for too long."""
        ...

    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        """Write the count if the target is still as ``seen``.

        Raises :class:`StaleViewError` if it is not, :class:`PermanentError` if it is forbidden or impossible,
        :class:`TransientError` otherwise.
        """
        ...

    async def owner(self, workload: Workload) -> Owner | None:
        """Who set the target's count, as the API has it; None: nobody is on record.

        Raises :class:`PermanentError` if it may not be asked or is not there, :class:`TransientError` otherwise.
        """
        ...


class PodWatch(Protocol):
    """Pods, their owners and nodes, from watch caches; never waits but in :meth:`changed`."""

    async def run(self) -> None:
        """Keep the caches current until cancelled."""
        ...

    def facts(self, at_s: float) -> Facts:
        """All that is known now, and stays as it is: a thread may read it while the caches go on.

        What has not changed since the last call is the same object; ``scale_ups`` is empty.
        """
        ...

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        """The pods that the workload owns, through however many controllers, sorted by name. None: not known now."""
        ...

    async def changed(self) -> None:
        """Until something is new since the last :meth:`facts`."""
        ...


class PodActions(Protocol):
    """What is done to pods.

    Raises :class:`StaleViewError` if the pod is not as it was seen, :class:`TransientError` if it is refused for now (a
    PodDisruptionBudget, in its own words), :class:`PermanentError` if it is forbidden or impossible.
    """

    async def read(self, namespace: str, name: str) -> Pod | None:
        """The pod as the API server has it now, past every cache; None: it is gone."""
        ...

    async def remove(self, act: Act, *, dry_run: bool) -> None:
        """Evict or delete it, by uid and version. ``dry_run``: let the API server check it all and do nothing."""
        ...


class EvidenceSource(Protocol):
    """What speaks for a finding beyond the facts, redacted."""

    async def gather(self, finding: Finding, budget_s: float) -> Evidence:
        """Read it, each part within the budget. What cannot be had is a sentence in ``missing``; none of our errors is raised."""
        ...


class Access(Protocol):
    """Who may see what pods have written. Raises :class:`TransientError` or :class:`PermanentError` where that cannot be found out."""

    async def may_read_logs(self, token: str, namespace: str) -> bool:
        """Whether whoever holds this bearer token may read the logs of the namespace's pods."""
        ...


class Notifier(Protocol):
    """One place that people are told through: Alertmanager, a webhook, ...

    Raises :class:`TransientError` (again later), :class:`PermanentError` (this report will never go through: drop it, count it).
    """

    async def send(self, report: Report, budget_s: float) -> None:
        """Deliver it, within the budget."""
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


class StateStore(Protocol):
    """Where saved state lies, in numbered shards of at most half a MiB. What is in them is the loops' affair.

    Raises :class:`PermanentError` if it may not be read or written, :class:`TransientError` otherwise.
    """

    async def load(self) -> Mapping[int, bytes]:
        """Every shard that there is."""
        ...

    async def save(self, shard: int, data: bytes) -> None:
        """Replace a shard, wholly or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """A policy for many: whom it is for, and the row of each by its name."""

    selector: Selector
    row: Callable[[str], WorkloadSpec]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All that a policy source yields at once: a row per workload, warnings for people, policies for many, and how pods are watched."""

    specs: tuple[WorkloadSpec, ...]
    warnings: tuple[str, ...] = ()
    selections: tuple[Selection, ...] = ()
    health: tuple[HealthSpec, ...] = ()


class PolicySource(Protocol):
    """Where policies come from."""

    async def load(self) -> PolicySet:
        """What it says now. Raises :class:`ConfigError` with every mistake at once."""
        ...

    def changes(self) -> AsyncIterator[PolicySet | ConfigError]:
        """What it says from now on, at each change: a good set, or why the new one is not used."""
        ...

    def poke(self) -> None:
        """Read again now, changed or not (SIGHUP, and because schedules are expanded only so far ahead)."""
        ...


class Recorder(Protocol):
    """Where the service's own metrics go. Labels are those that the metric declares, in its order."""

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Count something."""
        ...

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        ...

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Put a value into a histogram."""
        ...

    def collect(self, metric: Metric, rows: Callable[[], Iterable[tuple[tuple[str, ...], float]]]) -> None:
        """Ask ``rows`` for (labels, value) pairs whenever somebody reads the gauge: for columns that change every tick."""
        ...


class Views(Protocol):
    """What people and probes may look at; read-only, plain JSON values."""

    def workloads(self) -> list[dict[str, Any]]:
        """One short row per workload."""
        ...

    def workload(self, namespace: str, name: str, kind: str = "") -> dict[str, Any] | None:
        """Everything about one: history, last decisions with every stage, where it is configured. None: not ours.

        ``kind`` tells two of the same name apart; empty: any.
        """
        ...

    def incidents(self, readable: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        """What is or was lately wrong with workloads' pods: open incidents first, then the newest.

        Log text, events and template changes only in the namespaces that are ``readable``; none unless somebody has checked.
        """
        ...

    def alive(self) -> list[str]:
        """What does not turn, in sentences; empty: all loops do."""
        ...

    def ready(self) -> tuple[list[str], list[str]]:
        """What keeps the service from being ready, and remarks that do not."""
        ...
