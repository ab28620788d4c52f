"""Pods as they stand on the wire, and what is kept of them: the core's facts, with what many pods have in common kept once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import nan
from sys import intern

import msgspec

from autoscaler.adapters.kubernetes.facts_wire import ConditionWire, FactMetadata, Pool, Seen, conditions_of, controller_of, seconds, seen
from autoscaler.adapters.kubernetes.wire import Object
from autoscaler.core.health.facts import NO_RESOURCES, Container, Pod, Resources, Role, Termination
from autoscaler.policyfile.quantities import parse_quantity

_CRITICAL = frozenset({"system-cluster-critical", "system-node-critical"})


class _Waiting(msgspec.Struct, gc=False):
    reason: str = ""


class _Running(msgspec.Struct, gc=False, rename="camel"):
    started_at: str | None = None


class _Terminated(msgspec.Struct, gc=False, rename="camel"):
    exit_code: int = -1
    reason: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class _State(msgspec.Struct, gc=False):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    image: str = ""
    ready: bool | None = None
    started: bool | None = None
    restart_count: int = -1
    state: _State | None = None
    last_state: _State | None = None


class _Requirements(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class _ContainerSpec(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    image: str = ""
    restart_policy: str = ""
    resources: _Requirements | None = None


class _PodSpec(msgspec.Struct, gc=False, rename="camel"):
    node_name: str = ""
    restart_policy: str = ""
    priority_class_name: str = ""
    init_containers: list[_ContainerSpec] | None = None
    containers: list[_ContainerSpec] | None = None


class _PodStatus(msgspec.Struct, gc=False, rename="camel"):
    phase: str = ""
    reason: str = ""
    start_time: str | None = None
    conditions: list[ConditionWire] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    container_statuses: list[_ContainerStatus] | None = None


_NO_SPEC, _NO_STATUS, _NO_CONTAINER_STATUS, _NO_STATE = _PodSpec(), _PodStatus(), _ContainerStatus(), _State()


class PodObject(Object, frozen=True, gc=False):
    """A pod; what it does not say is not known."""

    metadata: FactMetadata
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


_finalizers: Pool[tuple[str, ...]] = Pool()


def pod_of(item: PodObject) -> Pod:
    """The facts of a pod. Never fails on what it may lack or contradict."""
    meta, spec, status = item.metadata, item.spec or _NO_SPEC, item.status or _NO_STATUS
    owner = controller_of(meta)
    annotations = meta.annotations
    return Pod(
        namespace=intern(meta.namespace),
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        owner=owner,
        revision=intern(meta.labels.get("pod-template-hash") or meta.labels.get("controller-revision-hash") or ""),
        created_s=seconds(meta.creation_timestamp),
        started_s=seconds(status.start_time),
        deletion_s=seconds(meta.deletion_timestamp),
        finalizers=_finalizers(tuple(meta.finalizers or ())),
        node=intern(spec.node_name),
        phase=intern(status.phase),
        reason=intern(status.reason),
        restart_policy=intern(spec.restart_policy),
        mirror=bool(annotations and annotations.mirror) or (owner is not None and owner.kind == "Node"),
        critical=spec.priority_class_name in _CRITICAL,
        conditions=conditions_of(status.conditions),
        containers=tuple(_containers(spec, status)),
    )


def seen_pod(item: PodObject) -> Seen[Pod]:
    """What the watch keeps of a pod."""
    return seen(item, pod_of(item))


def _containers(spec: _PodSpec, status: _PodStatus) -> Iterator[Container]:
    """Those of the spec; where that names none, those that the status tells of."""
    initial = {each.name: each for each in status.init_container_statuses or ()}
    others = {each.name: each for each in status.container_statuses or ()}
    if spec.containers or spec.init_containers:
        for each in spec.init_containers or ():
            role = Role.SIDECAR if each.restart_policy == "Always" else Role.INIT
            yield _container(each, role, initial.get(each.name, _NO_CONTAINER_STATUS))
        for each in spec.containers or ():
            yield _container(each, Role.APP, others.get(each.name, _NO_CONTAINER_STATUS))
        return
    for role, statuses in ((Role.INIT, initial), (Role.APP, others)):
        for name, told in statuses.items():
            yield _container(_ContainerSpec(name, told.image), role, told)


def _container(spec: _ContainerSpec, role: Role, status: _ContainerStatus) -> Container:
    state, last = status.state or _NO_STATE, status.last_state or _NO_STATE
    return Container(
        name=intern(spec.name),
        role=role,
        image=intern(spec.image or status.image),
        restarts=max(status.restart_count, -1),
        ready=status.ready,
        started=status.started,
        waiting=intern(state.waiting.reason) if state.waiting is not None else "",
        running=state.running is not None,
        running_s=seconds(state.running.started_at) if state.running is not None else nan,
        terminated=_termination(state.terminated),
        last=_termination(last.terminated),
        resources=_resources(spec.resources),
    )


def _termination(told: _Terminated | None) -> Termination | None:
    if told is None:
        return None
    return Termination(told.exit_code, intern(told.reason), seconds(told.started_at), seconds(told.finished_at))


def _resources(told: _Requirements | None) -> Resources:
    if told is None or not (told.requests or told.limits):
        return NO_RESOURCES
    requests, limits = told.requests or {}, told.limits or {}
    return _shared_resources(requests.get("cpu"), limits.get("cpu"), requests.get("memory"), limits.get("memory"))


@lru_cache(maxsize=4096)
def _shared_resources(*quantities: str | float | None) -> Resources:
    return Resources(*(_quantity(each) for each in quantities))


def _quantity(told: str | float | None) -> float:
    try:
        return nan if told is None else parse_quantity(told)
    except ValueError:
        return nan
