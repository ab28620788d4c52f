"""Measures how long pods take to start, beside the ticks: every workload's pods are looked at four times a minute.

Nothing of it is saved: after a restart it is measured on the pods that are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, nan

from autoscaler.clock import Clock
from autoscaler.core.health.facts import Pod
from autoscaler.core.startup import UNKNOWN_S, Starts, seen
from autoscaler.core.types import Workload
from autoscaler.ports import PodWatch

LOOK_EVERY_S = 15.0

_AT_ONCE = 200
"""So many workloads are looked at in one go, or a second's share of a great many: no tick must wait for it."""


class Startups:
    """The start-up time of each workload that is followed."""

    def __init__(self, watch: PodWatch | None, clock: Clock) -> None:
        self._watch, self._clock = watch, clock
        self._looked: dict[Workload, tuple[tuple[Pod, ...], Starts]] = {}
        self._seconds: dict[Workload, float] = {}
        self._workloads: tuple[Workload, ...] = ()

    def follow(self, workloads: Iterable[Workload]) -> None:
        """Measure just these from now on; what is known of those that stay, stays."""
        self._workloads = tuple(workloads)
        here = frozenset(self._workloads)
        self._looked = {workload: kept for workload, kept in self._looked.items() if workload in here}
        self._seconds = {workload: seconds for workload, seconds in self._seconds.items() if workload in here}

    def forget(self, workload: Workload) -> None:
        """Another object has its name now."""
        self._looked.pop(workload, None)
        self._seconds.pop(workload, None)

    def seconds(self, workload: Workload) -> float:
        """The 90th percentile of creation to first Ready, ``UNKNOWN_S`` while unknown; NaN where nobody watches pods."""
        return nan if self._watch is None else self._seconds.get(workload, UNKNOWN_S)

    def look(self, workloads: Iterable[Workload]) -> None:
        """Look at the pods of these as they are now."""
        if self._watch is None:
            return
        for workload in workloads:
            pods = self._watch.owned(workload)
            before, starts = self._looked.get(workload, ((), Starts()))
            if pods is None or pods == before:
                continue
            after = seen(starts, pods)
            self._looked[workload] = pods, after
            if after.took is not starts.took:
                self._seconds[workload] = after.seconds

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        next_s = self._clock.monotonic()
        while True:
            workloads = self._workloads
            size = max(_AT_ONCE, ceil(len(workloads) / LOOK_EVERY_S))
            starts = range(0, len(workloads), size) or range(1)
            for start in starts:
                self.look(workloads[start : start + size])
                next_s += LOOK_EVERY_S / len(starts)
                await self._clock.sleep_until(next_s)
