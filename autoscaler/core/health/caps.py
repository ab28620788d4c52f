"""What has been done lately, and how much more may be: caps per workload, lineage and cluster, and a back-off that outlives the process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from autoscaler.core.health.facts import Pod
from autoscaler.core.health.owners import ordinal


class Attempt(NamedTuple):
    """A remedy that was carried out: on which pod of which workload, and which of whose owner's pods that was."""

    at_s: float
    workload: str
    owner: str
    pod: str
    ordinal: int = -1


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that is done. ``workload_hour``: ``HealthPolicy.spec.limits.perWorkloadPerHour``; times in seconds."""

    workload_hour: int = 3
    cluster_s: float = 60.0
    in_flight_s: float = 600.0
    lineage_s: float = 86400.0
    back_off_s: float = 600.0
    back_off_max_s: float = 21600.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The remedies of the last day, oldest first. Small, and saved: a restart of ours forgets no back-off."""

    attempts: tuple[Attempt, ...] = ()

    def of(self, workload: str) -> tuple[Attempt, ...]:
        """Those on one workload."""
        return tuple(each for each in self.attempts if each.workload == workload)


def noted(ledger: Ledger, attempt: Attempt, caps: Caps) -> Ledger:
    """The ledger with one more; what is too old to matter goes."""
    return Ledger((*(each for each in ledger.attempts if attempt.at_s - each.at_s < caps.lineage_s), attempt))


def back_off_s(done: Iterable[Attempt], caps: Caps) -> float:
    """How long after the last remedy the next may come: doubling, while the last day's add up."""
    count = len(list(done))
    return min(caps.back_off_s * 2.0 ** (count - 1), caps.back_off_max_s) if count else 0.0


def replacements(attempt: Attempt, pods: Iterable[Pod]) -> list[Pod]:
    """The pods that came in place of an attempt's: those of its owner that were made since; of a StatefulSet that of its number."""
    return [pod for pod in pods if _follows(pod, attempt)]


def is_of_lineage(pod: Pod, done: Iterable[Attempt]) -> bool:
    """Whether a pod has come, or may have come, in place of one that was removed before."""
    return any(_follows(pod, each) or pod.uid == each.pod for each in done)


def _follows(pod: Pod, attempt: Attempt) -> bool:
    same_owner = pod.owner is not None and pod.owner.uid == attempt.owner
    same_number = attempt.ordinal < 0 or ordinal(pod) == attempt.ordinal
    # The API server stamps whole seconds.
    return same_owner and same_number and pod.uid != attempt.pod and pod.created_s >= attempt.at_s - 1
