"""Workloads whose pods fall ill in known ways, as a kubelet's statuses tell of it: what the demo shows of the health half.

An illness is a function of the pod as it was before, when it began, and the time: nothing is remembered but what the pod says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol, TypeAlias

from autoscaler.clock import Clock
from autoscaler.core.health.facts import Condition, Pod, Termination
from autoscaler.core.types import Workload

STEP_S = 2.0

RUN_S = 4.0
"""So long does a program that crashes run each time."""

BACK_OFF_S = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""The kubelet's waits before each restart; the last one stays."""

Illness: TypeAlias = Callable[[Pod, float, float], Pod]
"""The pod at a time (the last argument), from the pod as it was when the illness began (the second)."""


class Pods(Protocol):
    """Where pods are, and can be put as they shall be."""

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        """A workload's pods."""
        ...

    def put(self, *facets: Pod) -> None:
        """Let these be so."""
        ...


@dataclass(frozen=True, slots=True)
class Patient:
    """A workload, one of whose pods falls ill ``first_s`` after the start and again every ``every_s``, for ``lasts_s`` or until it is gone.

    It has ``replicas`` pods on ``node``, of ``image``.
    """

    workload: Workload
    image: str
    node: str
    illness: Illness
    first_s: float
    every_s: float = inf
    lasts_s: float = inf
    replicas: int = 6


def crash_looping(pod: Pod, began_s: float, at_s: float) -> Pod:
    """Its program ends with 1 after a few seconds, whenever the kubelet starts it."""
    restarts, started_s, ended_s = 0, began_s - RUN_S, began_s
    while True:
        start_s = ended_s + BACK_OFF_S[min(restarts, len(BACK_OFF_S) - 1)]
        if at_s < start_s:
            return _ended(pod, Termination(1, "Error", started_s, ended_s), restarts, waiting="CrashLoopBackOff", since_s=began_s)
        restarts += 1
        if at_s < start_s + RUN_S:
            end = Termination(1, "Error", started_s, ended_s)
            return _ended(pod, end, restarts, running=True, started=True, running_s=start_s, since_s=began_s)
        started_s, ended_s = start_s, start_s + RUN_S


def out_of_memory(pod: Pod, began_s: float, at_s: float) -> Pod:
    """It is killed for its memory once, and runs again after a moment."""
    end = Termination(137, "OOMKilled", pod.containers[0].running_s, began_s)
    is_up = at_s >= began_s + RUN_S
    since_s = began_s + RUN_S if is_up else began_s
    return _ended(pod, end, 1, running=True, started=True, ready=is_up, running_s=began_s + 1, since_s=since_s)


def never_ready(pod: Pod, began_s: float, at_s: float) -> Pod:  # noqa: ARG001 - one shape for all illnesses
    """It runs, and its readiness probe never succeeds."""
    return _told(replace(pod, containers=(replace(pod.containers[0], ready=False), *pod.containers[1:])), began_s)


def _ended(pod: Pod, end: Termination, restarts: int, *, since_s: float, **state: Any) -> Pod:  # noqa: ANN401 - fields of Container
    """The first container has ended, ``restarts`` times since the illness began."""
    was = pod.containers[0]
    blank: dict[str, Any] = {"ready": False, "started": False, "running": False, "waiting": ""}
    container = replace(was, **{**blank, **state}, last=end, restarts=was.restarts + restarts)
    return _told(replace(pod, containers=(container, *pod.containers[1:])), since_s)


def _told(pod: Pod, since_s: float) -> Pod:
    """With the condition Ready as its containers have it."""
    ready = all(each.ready for each in pod.containers)
    said = Condition("Ready", "True" if ready else "False", "" if ready else "ContainersNotReady", since_s)
    return replace(pod, conditions=(*(each for each in pod.conditions if each.type != "Ready"), said))


async def play(patients: Sequence[Patient], pods: Pods, clock: Clock) -> None:
    """Let the patients fall ill and be well again, for ever."""
    start_s, at_s = clock.now(), clock.monotonic()
    courses = [_Course(patient, pods, start_s + patient.first_s) for patient in patients]
    while True:
        for course in courses:
            course.advance(clock.now())
        at_s += STEP_S
        await clock.sleep_until(at_s)


class _Course:
    """How one patient is doing."""

    def __init__(self, patient: Patient, pods: Pods, next_s: float) -> None:
        self._patient, self._pods, self._next_s = patient, pods, next_s
        self._before: Pod | None = None  # as it was when it fell ill
        self._shown: Pod | None = None
        self._began_s = next_s

    def advance(self, at_s: float) -> None:
        there = {pod.uid: pod for pod in self._pods.owned(self._patient.workload) or ()}
        if self._before is not None and self._before.uid not in there:
            self._before = self._shown = None
        if self._before is None and at_s >= self._next_s and there:
            self._before = min(there.values(), key=lambda pod: (pod.created_s, pod.name))
            self._began_s, self._next_s = at_s, self._next_s + self._patient.every_s
        if self._before is None:
            return
        if at_s >= self._began_s + self._patient.lasts_s:
            self._show(_well(there[self._before.uid], at_s))
            self._before = self._shown = None
        else:
            self._show(self._patient.illness(self._before, self._began_s, at_s))

    def _show(self, pod: Pod) -> None:
        if self._shown is None or (pod.containers, pod.conditions) != (self._shown.containers, self._shown.conditions):
            self._shown = pod
            self._pods.put(pod)


def _well(pod: Pod, at_s: float) -> Pod:
    """It runs from now on, with the restarts that it has had."""
    container = replace(pod.containers[0], ready=True, started=True, running=True, waiting="", running_s=at_s)
    return _told(replace(pod, containers=(container, *pod.containers[1:])), at_s)
