"""What assessing finds, and how it remembers when it first did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan
from typing import NamedTuple, TypeAlias

from autoscaler.core.health.facts import Subject
from autoscaler.core.health.taxonomy import Cause, Waits

WaitsOf: TypeAlias = Callable[[Subject], Waits]
"""The waits that a HealthPolicy sets for a workload."""

Key: TypeAlias = tuple[str, str, Cause]
"""What makes a finding the same one: the subject's uid, the container ("": none), the cause."""


class PodRef(NamedTuple):
    """A pod that shows a finding; ``restarts`` since it began there."""

    name: str
    uid: str
    node: str = ""
    revision: str = ""
    image: str = ""
    restarts: int = 0
    since_s: float = nan


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause in one container of one workload (or of a node: then ``pods`` are those on it).

    ``due_s``: from when on it opens an incident; before that it only keeps an open one from being resolved. ``of``: how many pods the
    workload has, these included. ``reason`` and ``exit_code``: what most of its pods say (-1: nothing). ``preexisting``: it was there
    before we looked.
    """

    subject: Subject
    container: str
    cause: Cause
    since_s: float
    due_s: float
    pods: tuple[PodRef, ...] = ()
    of: int = 0
    reason: str = ""
    exit_code: int = -1
    notes: tuple[str, ...] = ()
    preexisting: bool = False

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.subject.uid, self.container, self.cause

    @property
    def revisions(self) -> tuple[str, ...]:
        """The revisions of its pods, sorted."""
        return tuple(sorted({pod.revision for pod in self.pods if pod.revision}))

    @property
    def restarts(self) -> int:
        """The most that one of its pods has been restarted since it began."""
        return max((pod.restarts for pod in self.pods), default=0)

    def is_due(self, at_s: float) -> bool:
        """Whether it opens an incident."""
        return self.due_s <= at_s


class Moments:
    """One pass in time: now, up to when nothing is news, when the first pass was, and when things that nothing dates were first seen.

    ``first`` remembers what is asked in this pass, and nothing else: what has passed begins anew when it comes again.
    """

    def __init__(self, at_s: float, baseline_s: float, began_s: float, before: Mapping[tuple[str, Cause], float]) -> None:
        self.at_s, self.baseline_s, self._began_s = at_s, baseline_s, began_s
        self.kept = dict[tuple[str, Cause], float]()
        self._before = before

    def first(self, uid: str, cause: Cause) -> float:
        """When this was first seen without a break."""
        return self.kept.setdefault((uid, cause), self._before.get((uid, cause), self.at_s))

    def is_old(self, since_s: float, seen_s: float) -> bool:
        """Whether it was there before we looked: by its own time, and because the first pass saw what shows it.

        The API cuts its times off to whole seconds, so what comes in the second of the start looks older than it is.
        """
        return since_s <= self.baseline_s and seen_s <= self._began_s
