"""What is known of pods, their owners and nodes: the fields that assessing needs, and none besides.

Facts are replaced, never changed: ``is`` tells whether anything is new. What an object does not say is "" (text), NaN (times, counts)
or None (yes or no), which all mean "not known", never "healthy" or "zero". Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import isfinite, nan
from typing import NamedTuple


class Subject(NamedTuple):
    """What a finding is about: a workload (the topmost owner of its pods), a pod that nobody owns, or a node (namespace "")."""

    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Owner(NamedTuple):
    """A controller owner reference."""

    kind: str
    name: str
    uid: str


class Role(IntEnum):
    """What a container is for: by where its status stands, and a sidecar by ``restartPolicy: Always`` of its spec."""

    APP = 0
    INIT = 1
    SIDECAR = 2


class Condition(NamedTuple):
    """A condition of a pod, workload or node; ``since_s`` = lastTransitionTime."""

    type: str
    status: str
    reason: str = ""
    since_s: float = nan


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended: ``state.terminated`` or ``lastState.terminated``. ``exit_code`` -1: not said."""

    exit_code: int = -1
    reason: str = ""
    started_s: float = nan
    finished_s: float = nan


class Resources(NamedTuple):
    """What a container asks for and may use: cores and bytes; NaN: not set. Containers of one template share one of these."""

    cpu_request: float = nan
    cpu_limit: float = nan
    memory_request: float = nan
    memory_limit: float = nan


NO_RESOURCES = Resources()


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the pod's spec with what its status says, if it has any.

    ``waiting`` = the reason of ``state.waiting``; ``running_s`` = ``state.running.startedAt``; ``restarts`` -1: not said.
    """

    name: str
    role: Role = Role.APP
    image: str = ""
    restarts: int = -1
    ready: bool | None = None
    started: bool | None = None
    waiting: str = ""
    running: bool = False
    running_s: float = nan
    terminated: Termination | None = None
    last: Termination | None = None
    resources: Resources = NO_RESOURCES

    @property
    def ended(self) -> Termination | None:
        """The latest end that its status tells of."""
        return self.terminated if self.terminated is not None else self.last


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. Ephemeral containers are no part of it: they come and go as people like.

    ``revision`` = the label ``pod-template-hash`` or ``controller-revision-hash``; ``deletion_s`` = ``deletionTimestamp``, which has the
    grace period in it; ``mirror``: it has the annotation ``kubernetes.io/config.mirror``, or a Node owns it; ``critical``: its priority
    class is ``system-cluster-critical`` or ``system-node-critical``; ``started_s`` = ``status.startTime``.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str = ""
    owner: Owner | None = None
    revision: str = ""
    created_s: float = nan
    started_s: float = nan
    deletion_s: float = nan
    finalizers: tuple[str, ...] = ()
    node: str = ""
    phase: str = ""
    reason: str = ""
    restart_policy: str = ""
    mirror: bool = False
    critical: bool = False
    conditions: tuple[Condition, ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def leaving(self) -> bool:
        """Somebody has asked for its deletion."""
        return isfinite(self.deletion_s)

    @property
    def active(self) -> bool:
        """It counts as one of its workload's pods: not deleted, not ended."""
        return not self.leaving and self.phase not in {"Succeeded", "Failed"}

    @property
    def is_ready(self) -> bool:
        """Its condition Ready is True."""
        return is_true(self.conditions, "Ready")


@dataclass(frozen=True, slots=True)
class Controller:
    """An owner of pods, or of such an owner: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob.

    ``replicas`` and ``updated`` = ``spec.replicas`` and ``status.updatedReplicas``. ``revision``: of a ReplicaSet its pods' template
    hash, of a StatefulSet its ``currentRevision``, with ``update_revision`` its ``updateRevision``; ``number`` = the annotation
    ``deployment.kubernetes.io/revision`` of a ReplicaSet. ``strategy`` and ``partition`` of its updates. ``labels`` of the object itself.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    owner: Owner | None = None
    created_s: float = nan
    leaving: bool = False
    generation: int = 0
    observed_generation: int = 0
    replicas: float = nan
    updated: float = nan
    paused: bool = False
    revision: str = ""
    update_revision: str = ""
    number: int = 0
    strategy: str = ""
    partition: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def subject(self) -> Subject:
        """Itself as what a finding is about."""
        return Subject(self.kind, self.namespace, self.name, self.uid)


@dataclass(frozen=True, slots=True)
class Node:
    """A node; ``unreachable``: it has the taint ``node.kubernetes.io/unreachable``."""

    name: str
    uid: str = ""
    unreachable: bool = False
    conditions: tuple[Condition, ...] = ()


class PodEvent(NamedTuple):
    """A Warning or Killing event of a pod: its reason, the container it is about, and the probe ("liveness") that its message names."""

    reason: str
    container: str = ""
    probe: str = ""
    at_s: float = nan


class ScaleUp(NamedTuple):
    """A scale-up by us."""

    at_s: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known at ``at_s``.

    ``controllers`` by uid; ``nodes`` by name; ``events`` by the pod's uid; ``scale_ups`` by the workload's uid, the last of each. None for
    controllers or nodes: we may not read them. ``synced``: every watch has its list and is fresh; while it is not, nothing is concluded
    from what is absent.
    """

    at_s: float
    pods: Sequence[Pod]
    controllers: Mapping[str, Controller] | None = field(default_factory=dict)
    nodes: Mapping[str, Node] | None = field(default_factory=dict)
    events: Mapping[str, Sequence[PodEvent]] = field(default_factory=dict)
    scale_ups: Mapping[str, ScaleUp] = field(default_factory=dict)
    synced: bool = True


def condition(conditions: Sequence[Condition], kind: str) -> Condition | None:
    """The condition of that type, if there is one."""
    for each in conditions:
        if each.type == kind:
            return each
    return None


def is_true(conditions: Sequence[Condition], kind: str) -> bool:
    """Whether there is such a condition, and it is True."""
    found = condition(conditions, kind)
    return found is not None and found.status == "True"


def past(time_s: float, at_s: float, otherwise: float) -> float:
    """A time that an object gives, if it gives one that is not in the future; clocks of nodes differ from ours."""
    return time_s if time_s <= at_s else otherwise
