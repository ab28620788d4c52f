"""The health loop: look at what is known of pods, let incidents live, tell of what has changed, and do something where that helps.

::

    PodWatch ─► facts ─► core.health.monitor.look ─┬─► Report ─► told            (people: evidence and sinks come behind it)
                                                   ├─► Verdicts                  (the scaling loop's health guard)
                                                   └─► Remedies ─► PodActions    (one at a time, noted before it is done)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from autoscaler.clock import Clock
from autoscaler.core.health.breaker import LIMITS, Limits
from autoscaler.core.health.caps import Caps
from autoscaler.core.health.facts import ScaleUp
from autoscaler.core.health.lifecycle import Change
from autoscaler.core.health.monitor import Rules, Seen, State, look
from autoscaler.core.health.policy import HealthPolicies, HealthSpec
from autoscaler.core.health.report import Report
from autoscaler.loops.verdicts import Verdicts
from autoscaler.ports import PodActions, PodWatch, Recorder, StateStore

log = logging.getLogger(__name__)

PACE_S = 0.5
"""So far apart two passes begin, at least: what a watch brings is judged within a second."""

TURN_S = 10.0
"""And at most: much becomes due by time alone."""

IN_THREAD = 1000
"""From so many pods on a pass runs in a thread, so that no tick waits for it."""

Told: TypeAlias = Callable[[Report], None]
"""Takes each turn in an incident's life, and never waits: evidence is gathered and people are told beside the loop.

It gets pending incidents too, as logs are best fetched at first sight. What is ``silent`` is for the record alone. ``evidence`` of a
report is still empty.
"""


def nobody(report: Report) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Ward:
    """What the health loop is given. ``own``: namespace and name of the pod that we run in, if we do; ``scale_ups`` of ours by uid."""

    pods: PodWatch
    clock: Clock
    recorder: Recorder
    actions: PodActions | None = None
    store: StateStore | None = None
    verdicts: Verdicts = field(default_factory=Verdicts)
    told: Told = nobody
    scale_ups: Callable[[], Mapping[str, ScaleUp]] = dict
    limits: Limits = LIMITS
    caps: Caps = field(default_factory=Caps)
    dry_run: bool = False
    own: tuple[str, str] = ("", "")


class HealthLoop:
    """One pass at a time. ``use`` may be called at any time; a pass under way finishes with what it began with."""

    def __init__(self, ward: Ward) -> None:
        self._ward, self._clock = ward, ward.clock
        self._rules = Rules(limits=ward.limits)
        self.state = State()

    def use(self, specs: Iterable[HealthSpec]) -> None:
        """Follow these policies from the next pass on."""
        self._rules = replace(self._rules, policies=HealthPolicies(specs))

    def standing(self) -> tuple[Report, ...]:
        """A report of every incident that is open and has been told of, as of now: for sinks in which what is not repeated expires."""
        return ()

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            began = self._clock.monotonic()
            await self._guarded(self._pass())
            await self._clock.sleep_until(began + PACE_S)
            try:
                async with self._clock.timeout(TURN_S - PACE_S):
                    await self._ward.pods.changed()
            except TimeoutError:
                continue

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            # The boundary of a pass: what is known stays as it was, and the next one starts from it.
            log.exception("a pass of the health loop failed")

    async def _pass(self) -> None:
        facts = replace(self._ward.pods.facts(self._clock.now()), scale_ups=self._ward.scale_ups())
        if len(facts.pods) < IN_THREAD:
            self.state, seen = look(self.state, facts, self._rules)
        else:
            self.state, seen = await asyncio.to_thread(look, self.state, facts, self._rules)
        if seen.assessment.conclusive:
            self._ward.verdicts.publish(seen.verdicts)
        for change in seen.changes:
            self._tell(change, seen)

    def _tell(self, change: Change, seen: Seen) -> None:
        reach = seen.reach.of(change.incident.finding)
        if reach:
            sinks = dict.fromkeys(sink for spec in reach for sink in spec.sinks)
            self._ward.told(Report(change, sinks=tuple(sinks)))
