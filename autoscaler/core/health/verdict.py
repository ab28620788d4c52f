"""What the scaling loop is told of each workload's newest revision, for the health guard (design: "Health and scaling")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.guards import MAJORITY_READY_S
from autoscaler.core.health.assess import Assessment, Member
from autoscaler.core.health.facts import Pod, condition, past
from autoscaler.core.health.owners import Rollout
from autoscaler.core.health.taxonomy import CRASHES, OVERLOADS, Cause
from autoscaler.core.observation import HealthFacts

_GAP_S = 60.0
"""What happened in a longer time without an assessment is not known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of :class:`autoscaler.core.observation.HealthFacts`."""

    as_of_s: float
    revision_age_s: float
    pods: int
    crash_pods: int
    overload_pods: int
    majority_ready_s: float
    served: bool
    previous_crashing: bool


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of a workload's newest revision: watched without a gap from ``from_s`` to ``at_s``."""

    revision: str
    from_s: float
    at_s: float
    majority_ready_s: float = 0.0
    served: bool = False


@dataclass(frozen=True, slots=True)
class Tracks:
    """The newest revisions of all workloads, by the workload's uid."""

    by_workload: Mapping[str, Track] = field(default_factory=dict)


def verdicts(tracks: Tracks, assessment: Assessment, crashing_since: Mapping[str, float]) -> tuple[Tracks, dict[str, Verdict]]:
    """The verdict on each workload with a rollout, by its uid; none where nothing can be concluded.

    ``crashing_since``: when the first open crash incident of a workload was opened, by its uid; one that is older than the newest
    revision is the previous one's.
    """
    if not assessment.conclusive:
        return tracks, {}
    kept, found = {}, {}
    for uid, rollout in assessment.rollouts.items():
        members = assessment.workloads[uid]
        newest = [each for each in members if each.judged.pod.revision == rollout.revision and each.judged.pod.active]
        kept[uid] = _tracked(tracks.by_workload.get(uid), rollout, newest, assessment.at_s)
        created_s = _created_s(rollout, newest)
        earlier = [each for each in members if each.judged.pod.revision != rollout.revision and each.judged.pod.active]
        previous_crashing = bool(_crashing(earlier, assessment)) or crashing_since.get(uid, nan) < created_s
        found[uid] = _verdict(kept[uid], created_s, newest, assessment, previous_crashing=previous_crashing)
    return Tracks(kept), found


def columns(rows: Sequence[Verdict | None]) -> HealthFacts:
    """Verdicts as columns ``[w]``, in the order of the workload slots."""

    def numbers(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([nan if row is None else getattr(row, name) for row in rows], np.float64)

    def flags(name: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.array([row is not None and getattr(row, name) for row in rows], np.bool_)

    return HealthFacts(
        as_of_s=frozen(numbers("as_of_s")),
        revision_age_s=frozen(numbers("revision_age_s")),
        pods=frozen(numbers("pods")),
        crash_pods=frozen(numbers("crash_pods")),
        overload_pods=frozen(numbers("overload_pods")),
        majority_ready_s=frozen(numbers("majority_ready_s")),
        served=frozen(flags("served")),
        previous_crashing=frozen(flags("previous_crashing")),
    )


def _created_s(rollout: Rollout, newest: Sequence[Member]) -> float:
    """When the revision was made; of a StatefulSet's it is known since when its oldest pod is there."""
    if not isnan(rollout.created_s):
        return rollout.created_s
    return min((each.judged.pod.created_s for each in newest if not isnan(each.judged.pod.created_s)), default=nan)


def _tracked(before: Track | None, rollout: Rollout, newest: Sequence[Member], at_s: float) -> Track:
    track = before
    if track is None or track.revision != rollout.revision:
        track = Track(rollout.revision, at_s, at_s)
    elif at_s - track.at_s > _GAP_S:
        track = Track(rollout.revision, at_s, at_s, track.majority_ready_s, track.served)
    ready = sorted(_ready_since_s(each.judged.pod, at_s) for each in newest if each.judged.pod.is_ready)
    majority = len(newest) // 2 + 1
    run_s = at_s - ready[majority - 1] if len(ready) >= majority else 0.0
    return Track(track.revision, track.from_s, at_s, max(track.majority_ready_s, run_s), track.served or bool(ready))


def _ready_since_s(pod: Pod, at_s: float) -> float:
    ready = condition(pod.conditions, "Ready")
    return at_s if ready is None else past(ready.since_s, at_s, at_s)


def _verdict(track: Track, created_s: float, newest: Sequence[Member], assessment: Assessment, *, previous_crashing: bool) -> Verdict:
    crashing = _crashing(newest, assessment)
    # What was before we looked is not known, unless what we have seen says enough.
    watched = track.from_s - created_s <= _GAP_S or track.majority_ready_s >= MAJORITY_READY_S
    return Verdict(
        as_of_s=assessment.at_s,
        revision_age_s=assessment.at_s - created_s,
        pods=len(newest),
        crash_pods=len(crashing),
        overload_pods=sum(causes <= OVERLOADS for causes in crashing),
        majority_ready_s=track.majority_ready_s if watched else nan,
        served=track.served,
        previous_crashing=previous_crashing,
    )


def _crashing(members: Sequence[Member], assessment: Assessment) -> list[set[Cause]]:
    """The causes of each pod that is in a crash incident; what a node that does not answer last said of its pods is old."""
    found = []
    for each in members:
        if each.judged.symptoms and each.judged.pod.uid not in assessment.lost:
            causes = {symptom.cause for symptom in each.judged.symptoms if symptom.due_s <= assessment.at_s} & CRASHES
            if causes:
                found.append(causes)
    return found
