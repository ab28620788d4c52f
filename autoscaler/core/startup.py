"""How long pods of a workload take to start: the 90th percentile of creation to first Ready, of the last twenty.

What counts is the *first* time that a pod was Ready. Whoever is seen before that is waited for; who is Ready when it is first seen counts
only if nothing speaks of an earlier time: no container has restarted, and it was Ready soon after its containers ran. A pod that is not
Ready, but has been, says nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan

import numpy as np

from autoscaler.core.health.facts import Condition, Pod, Role, condition
from autoscaler.core.types import Floats

STARTS = 20
"""So many of the newest pods say how long starting takes."""

FLOOR_S = 15.0

UNKNOWN_S = 60.0
"""While nobody knows."""

_BEFORE_READY_S = 10.0
"""A condition Ready=False as old as its pod, give or take this, has never been True."""

_PLAIN_START_S = 600.0
"""Longer after its containers have begun to run, Ready is more likely a second time than a first one."""


@dataclass(frozen=True, slots=True)
class Starts:
    """What is known of a workload's pods: uids of those that are ``waiting`` for their first Ready, and of those that are ``done``.

    ``took``: (time of Ready, seconds that it took) of the last ones, oldest first.
    """

    waiting: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    took: tuple[tuple[float, float], ...] = ()

    @property
    def seconds(self) -> float:
        """The 90th percentile, at least :data:`FLOOR_S`; :data:`UNKNOWN_S` while there is none."""
        return percentile(np.array([seconds for _, seconds in self.took])) if self.took else UNKNOWN_S


def percentile(took: Floats) -> float:
    """The 90th percentile of some starts, at least :data:`FLOOR_S`."""
    return max(FLOOR_S, float(np.quantile(took, 0.9)))


def seen(before: Starts, pods: Sequence[Pod]) -> Starts:
    """What is known after a look at the pods that there are; the same object if nothing is new."""
    waiting, done, took = set[str](), set[str](), list[tuple[float, float]]()
    for pod in pods:
        if pod.uid in before.done:
            done.add(pod.uid)
            continue
        ready = condition(pod.conditions, "Ready")
        awaited = pod.uid in before.waiting
        if ready is not None and ready.status == "True":
            done.add(pod.uid)
            seconds = ready.since_s - pod.created_s
            if isfinite(seconds) and seconds >= 0 and (awaited or _is_first(pod, ready)):
                took.append((ready.since_s, seconds))
        elif ready is not None and _has_been_ready(pod, ready):
            done.add(pod.uid)
        else:
            waiting.add(pod.uid)
    if not took and waiting == before.waiting and done == before.done:
        return before
    if took:
        before = replace(before, took=tuple(sorted([*before.took, *took])[-STARTS:]))
    return replace(before, waiting=frozenset(waiting), done=frozenset(done))


def _is_first(pod: Pod, ready: Condition) -> bool:
    """Whether a pod that was Ready when it was first seen became so for the first time then."""
    running = [each for each in pod.containers if each.role is not Role.INIT]
    ran_s = max((each.running_s for each in running), default=nan)
    return all(each.restarts == 0 for each in running) and -1.0 <= ready.since_s - ran_s <= _PLAIN_START_S


def _has_been_ready(pod: Pod, ready: Condition) -> bool:
    """Whether a pod that is not Ready was so before: its condition is younger than its start on a node."""
    return ready.status == "False" and ready.since_s > pod.started_s + _BEFORE_READY_S
