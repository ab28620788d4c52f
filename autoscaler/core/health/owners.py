"""Whose a pod is, and what its workload's rollout is doing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from autoscaler.core.health.facts import Condition, Controller, Facts, Pod, Subject, condition

_UPWARD = 3
"""So many owners lie above a pod at most: ReplicaSet, Deployment, and whatever owns that."""

_TOPMOST = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"})


class Rollout(NamedTuple):
    """What a workload's rollout is doing: the newest revision, when that was made, whether pods change over to it, and why they do not."""

    revision: str
    created_s: float
    progressing: bool = False
    stuck: Condition | None = None


@dataclass(frozen=True, slots=True)
class Owners:
    """The controllers of one pass, with the newest ReplicaSet of each Deployment by its uid."""

    controllers: Mapping[str, Controller] | None
    newest: Mapping[str, Controller] = field(default_factory=dict)

    def subject(self, pod: Pod) -> Subject | None:
        """The pod's workload; None while its owner is not known: it has not been seen yet, or is gone and the pod will follow it.

        A pod of a node's own (static) has a new uid whenever its mirror is made anew, so it goes by its name. Owners above a
        controller that we know (an operator's object above a StatefulSet) are left out: what people scale and roll out is below.
        """
        owner = pod.owner
        if owner is None:
            return Subject("Pod", pod.namespace, pod.name, pod.uid)
        if owner.kind == "Node" or pod.mirror:
            return Subject("Pod", pod.namespace, pod.name, f"{owner.uid}/{pod.namespace}/{pod.name}")
        if self.controllers is None:
            return Subject(owner.kind, pod.namespace, owner.name, owner.uid)
        for _ in range(_UPWARD):
            found = self.controllers.get(owner.uid)
            if found is None:
                known_above = owner.kind not in {"ReplicaSet", "Job"}
                return Subject(owner.kind, pod.namespace, owner.name, owner.uid) if known_above else None
            if found.owner is None or found.owner.kind not in _TOPMOST:
                return found.subject
            owner = found.owner
        return None

    def rollout(self, workload: Controller) -> Rollout | None:
        """Of a Deployment or StatefulSet; None: it has none, or its newest revision is not known.

        A StatefulSet may stay between two revisions for ever (``partition``, ``OnDelete``): that is no rollout that comes to an end.
        """
        if workload.kind == "StatefulSet" and workload.update_revision:
            moving = workload.update_revision != workload.revision
            endless = workload.partition > 0 or workload.strategy == "OnDelete"
            return Rollout(workload.update_revision, float("nan"), moving and not endless)
        newest = self.newest.get(workload.uid)
        if workload.kind != "Deployment" or newest is None:
            return None
        moving = workload.observed_generation < workload.generation or workload.updated < workload.replicas
        return Rollout(newest.revision, newest.created_s, moving, _stuck(workload))


def owners_of(facts: Facts) -> Owners:
    """The owners of one pass."""
    if facts.controllers is None:
        return Owners(None)
    return Owners(facts.controllers, _newest(facts.controllers.values()))


def _newest(controllers: Iterable[Controller]) -> Mapping[str, Controller]:
    newest: dict[str, Controller] = {}
    for each in controllers:
        if each.kind == "ReplicaSet" and each.owner is not None:
            other = newest.get(each.owner.uid)
            if other is None or _age(each) > _age(other):
                newest[each.owner.uid] = each
    return newest


def _age(replica_set: Controller) -> tuple[int, float, str]:
    """Grows with each revision: a rollback gives an old ReplicaSet a new number."""
    created_s = replica_set.created_s
    return replica_set.number, created_s if created_s == created_s else 0.0, replica_set.revision  # noqa: PLR0124 - NaN


def _stuck(deployment: Controller) -> Condition | None:
    progressing = condition(deployment.conditions, "Progressing")
    is_stuck = progressing is not None and progressing.status == "False" and progressing.reason == "ProgressDeadlineExceeded"
    return progressing if is_stuck and not deployment.paused else None


def ordinal(pod: Pod) -> int:
    """A StatefulSet's number of a pod, which is the end of its name; -1: it has none."""
    digits = pod.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1
