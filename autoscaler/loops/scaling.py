"""The scaling loop: one task per interval group, each on its own aligned grid, and the policies that they follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from math import floor, inf

from autoscaler import metrics
from autoscaler.core.health.facts import ScaleUp
from autoscaler.core.spec import WorkloadSpec
from autoscaler.core.types import Workload
from autoscaler.loops.group import Group, Surroundings
from autoscaler.loops.shards import Kept
from autoscaler.loops.startup import Startups

log = logging.getLogger(__name__)

LATE_INTERVALS = 2.0
"""A group that has not finished a tick for this long (and its interval's grace) does not turn any more."""


class ScalingLoop:
    """All groups. ``update`` may be called at any time; a tick under way finishes with what it began with."""

    def __init__(self, around: Surroundings) -> None:
        self._around, self._clock, self._recorder = around, around.clock, around.recorder
        self.groups: dict[float, Group] = {}
        self.startups = Startups(around.pods, around.clock)
        self._tasks: dict[float, asyncio.Task[None]] = {}
        self._beside: list[asyncio.Task[None]] = []
        self._finished_s: dict[float, float] = {}
        self._host: asyncio.TaskGroup | None = None

    def update(self, specs: Iterable[WorkloadSpec]) -> None:
        """Follow these workloads, and no others, from each group's next tick on."""
        by_interval: dict[float, list[WorkloadSpec]] = {}
        for spec in specs:
            by_interval.setdefault(spec.interval_s, []).append(spec)
        workloads = [spec.workload for rows in by_interval.values() for spec in rows]
        self._around.cluster.follow(workloads)
        self.startups.follow(workloads)
        for interval_s in by_interval.keys() - self.groups.keys():
            group = Group(interval_s, self._around, self.startups)
            self.groups[interval_s] = group
            self._begin(group)
        for interval_s, group in self.groups.items():
            group.update(by_interval.get(interval_s, []))
            self._recorder.set(metrics.WORKLOADS, f"{interval_s:g}s", value=len(group.roster))

    async def run(self) -> None:
        """Turn until cancelled."""
        async with asyncio.TaskGroup() as host:
            self._host = host
            for group in self.groups.values():
                self._begin(group)
            if self._around.pods is not None:
                self._beside.append(host.create_task(self.startups.run(), name="start-up times"))
            await asyncio.get_running_loop().create_future()

    def _begin(self, group: Group) -> None:
        if self._host is not None and group.interval_s not in self._tasks:
            self._finished_s[group.interval_s] = self._clock.monotonic()
            self._tasks[group.interval_s] = self._host.create_task(self._turn(group), name=f"group {group.interval_s:g}s")
            self._beside.append(self._host.create_task(group.fill(), name=f"past of group {group.interval_s:g}s"))

    async def _turn(self, group: Group) -> None:
        """Tick on the grid, for ever. Ticks run on the monotonic clock; the wall clock labels them.

        The two are compared from one tick to the next, so that a clock that is slewed drags the grid along, while one that is set
        shows as a step.
        """
        interval_s, label = group.interval_s, f"{group.interval_s:g}s"
        wall_s, monotonic_s, last_s = self._clock.now(), self._clock.monotonic(), -inf
        while True:
            at_s = max((floor(wall_s / interval_s) + 1) * interval_s, last_s + interval_s)
            await self._clock.sleep_until(monotonic_s + at_s - wall_s)
            started, now = self._clock.monotonic(), self._clock.now()
            step_s = (now - wall_s) - (started - monotonic_s)
            wall_s, monotonic_s = now, started
            stepped = abs(step_s) > interval_s
            if stepped:
                log.warning("the clock stepped by %.0f s: this tick holds", step_s)
                at_s = floor(now / interval_s) * interval_s
            elif now - at_s >= interval_s:
                skipped = floor((now - at_s) / interval_s)
                self._recorder.add(metrics.TICKS_SKIPPED, label, amount=skipped)
                at_s += skipped * interval_s
            try:
                await group.tick(at_s, started, hold=stepped)
            except Exception:
                # The boundary of a tick: one bad pass must not end the others, and the next one starts from what is observed anew.
                log.exception("a tick of the %s group failed; its workloads hold until the next", label)
            last_s = at_s
            self._finished_s[interval_s] = self._clock.monotonic()

    def stuck(self) -> list[str]:
        """Groups that have stopped turning, in sentences."""
        now = self._clock.monotonic()
        limit = {interval_s: LATE_INTERVALS * interval_s + 10.0 for interval_s in self._finished_s}
        return [
            f"the {interval_s:g}s group has not finished a tick for {now - finished:.0f} s"
            for interval_s, finished in self._finished_s.items()
            if now - finished > limit[interval_s]
        ]

    def find(self, workload: Workload) -> Group | None:
        """The group that the workload is in."""
        return next((group for group in self.groups.values() if workload in group.roster), None)

    def scale_ups(self) -> dict[str, ScaleUp]:
        """Our last write to each workload, where that was a scale-up, by its uid."""
        return {uid: each for group in self.groups.values() for uid, each in group.scale_ups().items()}

    def keep(self, policies: bool) -> dict[str, Kept]:  # noqa: FBT001 - a StateKeeper's Collect
        """What must outlive the process, of each workload, by its uid."""
        return {uid: kept for group in self.groups.values() for uid, kept in group.keep(policies=policies).items()}

    async def close(self, seconds: float) -> None:
        """Decide nothing more, let writes under way finish for that long, then stop everything that the groups started."""
        tasks = [*self._tasks.values(), *self._beside]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(group.close(seconds) for group in self.groups.values()))
