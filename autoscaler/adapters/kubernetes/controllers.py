"""Owners of pods and nodes as they stand on the wire, and what is kept of them."""

from __future__ import annotations

from math import nan
from sys import intern

import msgspec

from autoscaler.adapters.kubernetes.facts_wire import ConditionWire, FactMetadata, Pool, Seen, conditions_of, controller_of, seconds, seen
from autoscaler.adapters.kubernetes.wire import Object
from autoscaler.core.health.facts import Controller, Node

UNREACHABLE = "node.kubernetes.io/unreachable"


class _RollingUpdate(msgspec.Struct, gc=False):
    partition: int | None = None


class _UpdateStrategy(msgspec.Struct, gc=False, rename="camel"):
    type: str = ""
    rolling_update: _RollingUpdate | None = None


class _Strategy(msgspec.Struct, gc=False):
    type: str = ""


class _Spec(msgspec.Struct, gc=False, rename="camel"):
    replicas: int | None = None
    paused: bool = False
    strategy: _Strategy | None = None
    update_strategy: _UpdateStrategy | None = None


class _Status(msgspec.Struct, gc=False, rename="camel"):
    """Counts that are zero are not on the wire."""

    observed_generation: int = 0
    updated_replicas: int = 0
    desired_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    current_revision: str = ""
    update_revision: str = ""
    conditions: list[ConditionWire] | None = None


_NO_SPEC, _NO_STATUS = _Spec(), _Status()


class ControllerObject(Object, frozen=True, gc=False):
    """A Deployment, ReplicaSet, StatefulSet, DaemonSet or Job; each has some of these fields."""

    metadata: FactMetadata
    spec: _Spec | None = None
    status: _Status | None = None


_labels: Pool[tuple[tuple[str, str], ...]] = Pool()


def controller_fact(kind: str, item: ControllerObject) -> Controller:
    """The facts of a controller. A DaemonSet's replicas are as many as it wants on the nodes there are."""
    meta, spec, status = item.metadata, item.spec or _NO_SPEC, item.status or _NO_STATUS
    update = spec.update_strategy
    rolling = update.rolling_update if update is not None else None
    return Controller(
        kind=kind,
        namespace=intern(meta.namespace),
        name=meta.name,
        uid=meta.uid,
        owner=controller_of(meta),
        created_s=seconds(meta.creation_timestamp),
        leaving=meta.deletion_timestamp is not None,
        generation=meta.generation,
        observed_generation=status.observed_generation,
        replicas=_replicas(kind, spec, status),
        updated=float(status.updated_number_scheduled if kind == "DaemonSet" else status.updated_replicas),
        paused=spec.paused,
        revision=intern(_revision(kind, meta, status)),
        update_revision=intern(status.update_revision),
        number=_number(meta),
        strategy=intern(update.type if update is not None else spec.strategy.type if spec.strategy is not None else ""),
        partition=(rolling.partition or 0) if rolling is not None else 0,
        labels=_labels(tuple(sorted((intern(name), intern(value)) for name, value in meta.labels.items()))),
        conditions=conditions_of(status.conditions),
    )


def seen_controller(kind: str, item: ControllerObject) -> Seen[Controller]:
    """What the watch keeps of a controller."""
    return seen(item, controller_fact(kind, item))


def _replicas(kind: str, spec: _Spec, status: _Status) -> float:
    if kind == "DaemonSet":
        return float(status.desired_number_scheduled)
    return nan if spec.replicas is None else float(spec.replicas)


def _revision(kind: str, meta: FactMetadata, status: _Status) -> str:
    return meta.labels.get("pod-template-hash", "") if kind == "ReplicaSet" else status.current_revision


def _number(meta: FactMetadata) -> int:
    told = meta.annotations.revision if meta.annotations is not None else ""
    return int(told) if told.isascii() and told.isdecimal() else 0


class _Taint(msgspec.Struct, gc=False):
    key: str = ""


class _NodeSpec(msgspec.Struct, gc=False):
    taints: list[_Taint] | None = None


class _NodeStatus(msgspec.Struct, gc=False):
    conditions: list[ConditionWire] | None = None


class NodeObject(Object, frozen=True, gc=False):
    """A node."""

    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


def seen_node(item: NodeObject) -> Seen[Node]:
    """What the watch keeps of a node."""
    taints = item.spec.taints if item.spec is not None else None
    unreachable = any(each.key == UNREACHABLE for each in taints or ())
    conditions = conditions_of(item.status.conditions if item.status is not None else None)
    return seen(item, Node(intern(item.metadata.name), item.metadata.uid, unreachable, conditions))
