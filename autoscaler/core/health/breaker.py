"""The breaker: when much fails at once the cause is not in single pods, and acting on them makes it worse.

It opens for the cluster if at least 20 % (and 3) of the watched pods are ill, if 3 workloads fell ill at about the same time and share
a node, an image or an error, or if all pods are gone from one list to the next; and for one workload if at least half (and 2) of its pods
are ill. It closes once none of that has been so for ten minutes, and five more. Over an unclear view it stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isnan, nan

from autoscaler.core.health.assess import BROKEN, Assessment
from autoscaler.core.health.findings import Finding
from autoscaler.core.health.judge import Symptom
from autoscaler.core.health.taxonomy import Cause

CLUSTER = ""
"""In place of a workload's uid: the breaker of all."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When the breaker opens and closes; shares of 1, times in seconds."""

    cluster_share: float = 0.2
    cluster_min: int = 3
    workload_share: float = 0.5
    workload_min: int = 2
    shared_min: int = 3
    recent_s: float = 600.0
    calm_s: float = 600.0
    cooldown_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """Open for the cluster or one workload. ``calm_s``: since when nothing keeps it open (NaN: something does); ``why``: what opened it."""

    opened_s: float
    why: tuple[str, ...]
    calm_s: float = nan


@dataclass(frozen=True, slots=True)
class Breakers:
    """The breakers that are open, by the workload's uid, :data:`CLUSTER` for all."""

    open: Mapping[str, Breaker] = field(default_factory=dict)

    def against(self, uid: str) -> Breaker | None:
        """What forbids acting on a workload, if anything."""
        return self.open.get(CLUSTER) or self.open.get(uid)


LIMITS = Limits()


def advance_breakers(breakers: Breakers, assessment: Assessment, limits: Limits = LIMITS) -> tuple[Breakers, tuple[str, ...]]:
    """Open and close; returns the uids (or :data:`CLUSTER`) of the breakers that opened in this pass: each is told of once."""
    if not (assessment.conclusive or assessment.emptied):
        return breakers, ()
    tripped = trips(assessment, limits)
    kept: dict[str, Breaker] = {}
    for uid in sorted(breakers.open.keys() | tripped.keys()):
        before, why = breakers.open.get(uid), tripped.get(uid)
        if why is not None:
            kept[uid] = Breaker(assessment.at_s, why) if before is None else replace(before, why=why, calm_s=nan)
        elif before is not None:
            calm_s = assessment.at_s if isnan(before.calm_s) else before.calm_s
            if assessment.at_s - calm_s < limits.calm_s + limits.cooldown_s:
                kept[uid] = replace(before, calm_s=calm_s)
    return Breakers(kept), tuple(uid for uid in kept if uid not in breakers.open)


def trips(assessment: Assessment, limits: Limits = LIMITS) -> dict[str, tuple[str, ...]]:
    """What opens a breaker now, in sentences, by the workload's uid, :data:`CLUSTER` for all."""
    if assessment.emptied:
        return {CLUSTER: ("no pod is listed any more, where there were some",)}
    found: dict[str, tuple[str, ...]] = {}
    watched = ill_in_all = 0
    for uid, members in assessment.workloads.items():
        active = [each for each in members if each.judged.pod.active]
        ill = sum(each.judged.pod.uid in assessment.lost or _is_ill(each.judged.symptoms, assessment.at_s) for each in active)
        watched, ill_in_all = watched + len(active), ill_in_all + ill
        if ill >= limits.workload_min and ill >= limits.workload_share * len(active):
            found[uid] = (f"{ill} of its {len(active)} pods are ill",)
    cluster = list(_shared(assessment, limits))
    if ill_in_all >= limits.cluster_min and ill_in_all >= limits.cluster_share * watched:
        cluster.insert(0, f"{ill_in_all} of {watched} watched pods are ill")
    if cluster:
        found[CLUSTER] = tuple(cluster)
    return found


def _is_ill(symptoms: tuple[Symptom, ...], at_s: float) -> bool:
    """Whether a pod does no work for a cause that is no mere want of room, nor an end that somebody asked for."""
    return any(each.cause in BROKEN and each.due_s <= at_s for each in symptoms)


def _shared(assessment: Assessment, limits: Limits) -> Iterator[str]:
    """What several workloads that fell ill lately have in common. Where all pods run on one node, sharing that tells nothing."""
    recent = [each for each in assessment.due() if each.cause in BROKEN and assessment.at_s - each.since_s <= limits.recent_s]
    if len(recent) < limits.shared_min:
        return
    nodes = {each.judged.pod.node for members in assessment.workloads.values() for each in members} - {""}
    common: dict[str, set[str]] = defaultdict(set)
    for finding in recent:
        for sign in _signs(finding, with_nodes=len(nodes) > 1):
            common[sign].add(finding.subject.uid)
    for sign in sorted(common):
        if len(common[sign]) >= limits.shared_min:
            yield f"{len(common[sign])} workloads fell ill lately with the same {sign}"


def _signs(finding: Finding, *, with_nodes: bool) -> Iterator[str]:
    if with_nodes:
        yield from {f"node: {pod.node}" for pod in finding.pods if pod.node}
    yield from {f"image: {pod.image}" for pod in finding.pods if pod.image}
    if finding.cause is not Cause.UNREADY:  # which has the same reason everywhere
        code = f"{finding.exit_code}" if finding.exit_code >= 0 else ""
        yield f"error: {' '.join(part for part in (finding.cause, finding.reason, code) if part)}"
