"""One sink's channel: a bounded queue, and one report at a time until the sink has taken it. No channel waits for another.

A sink that fails is left alone for a while, longer each time, at random, or for as long as it asks for. Meanwhile a report that did not
go through makes way: to the back of the queue, or out of it where a newer one of its incident waits. What nobody could be told for
hours is dropped, and so is the oldest when the queue is full; each is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from random import Random
from typing import NamedTuple

from autoscaler.clock import Clock
from autoscaler.core.health.findings import Key
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Report
from autoscaler.errors import AutoscalerError, PermanentError, TransientError
from autoscaler.metrics import NOTIFICATION_DROPS, NOTIFICATION_QUEUE, NOTIFICATIONS
from autoscaler.ports import Notifier, Recorder

log = logging.getLogger(__name__)

QUEUE_MAX = 1024
BUDGET_S = 10.0
"""For one try."""

BACK_OFF_FIRST_S, BACK_OFF_MAX_S = 1.0, 120.0
RETRY_AFTER_MAX_S = 600.0

EXPIRES_S, RESOLVED_EXPIRES_S = 3600.0, 6 * 3600.0
"""A report that still does not go through at this age is dropped; one of an incident's end later, as others have it open until then."""


@dataclass(frozen=True, slots=True)
class Sink:
    """A Notifier by its name. ``pace_s`` lie between two reports at least; ``remind_s``: what is open is sent again so often (0: never)."""

    name: str
    notifier: Notifier
    pace_s: float = 0.0
    remind_s: float = 0.0


class _Waiting(NamedTuple):
    report: Report
    since_s: float


class Channel:
    """Delivers to one sink. ``standing``: all that is open and was told of, for sinks that must be reminded."""

    def __init__(
        self, sink: Sink, clock: Clock, recorder: Recorder, random: Random, standing: Callable[[], Iterable[Report]] = tuple
    ) -> None:
        self.sink, self._clock, self._recorder, self._random, self._standing = sink, clock, recorder, random, standing
        self._queue: deque[_Waiting] = deque()
        self._news, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._failures = 0
        self._closing = False
        self._remind_at = clock.monotonic() + sink.remind_s if sink.remind_s else inf
        recorder.set(NOTIFICATION_QUEUE, sink.name, value=0)

    def offer(self, report: Report) -> None:
        """Take it; never waits."""
        if len(self._queue) >= QUEUE_MAX:
            self._drop("full")
            self._queue.popleft()
        self._queue.append(_Waiting(report, self._clock.monotonic()))
        self._idle.clear()
        self._changed()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            if not self._queue:
                self._idle.set()
                await self._wait(inf if self._closing else self._remind_at - self._clock.monotonic())
            if self._queue:
                await self._deliver(self._queue.popleft())
            elif self._clock.monotonic() >= self._remind_at and not self._closing:
                await self._remind()
            self._changed()

    async def close(self) -> None:
        """Return once every report that waits has been tried once more."""
        self._closing = True
        self._news.set()
        await self._idle.wait()

    def abandon(self) -> None:
        """Count what is left: the process ends."""
        for _ in self._queue:
            self._drop("shutdown")
        self._queue.clear()

    async def _deliver(self, waiting: _Waiting) -> None:
        try:
            await self._send(waiting.report)
        except PermanentError as error:
            self._drop("refused")
            log.warning("a report was refused, and is dropped: %s", error, extra={"fields": {"sink": self.sink.name}})
        except TransientError as error:
            self._put_back(waiting)
            await self._back_off(error)
        else:
            self._succeeded()
            if self.sink.pace_s and not self._closing:
                await self._clock.sleep_until(self._clock.monotonic() + self.sink.pace_s)

    async def _send(self, report: Report) -> None:
        """Raises TransientError or PermanentError; whatever else a sink raises is a fault of its own, and the report is not to blame."""
        try:
            async with self._clock.timeout(BUDGET_S + 1):
                await self.sink.notifier.send(report, BUDGET_S)
        except TimeoutError as error:
            raise TransientError(f"it did not end within {BUDGET_S:g} s") from error
        except AutoscalerError:
            raise
        except Exception as error:
            log.exception("a sink failed in a way of its own", extra={"fields": {"sink": self.sink.name}})
            raise TransientError(f"a fault of the sink's own: {type(error).__name__}") from error

    async def _remind(self) -> None:
        """Say once more what is open. A round that fails is begun again after the back-off."""
        for report in list(self._standing()):
            if self._queue or self._closing:
                return  # news go first; the round is still due
            try:
                await self._send(report)
            except PermanentError:
                continue  # it was said when it was news
            except TransientError as error:
                await self._back_off(error)
                return
            self._succeeded()
        self._remind_at = self._clock.monotonic() + self.sink.remind_s

    def _put_back(self, waiting: _Waiting) -> None:
        key = _key(waiting.report)
        ends = waiting.report.change.kind is Kind.RESOLVED
        age_s = self._clock.monotonic() - waiting.since_s
        if self._closing:
            self._drop("shutdown")
        elif any(_key(each.report) == key for each in self._queue):
            self._drop("superseded")
        elif age_s >= (RESOLVED_EXPIRES_S if ends else EXPIRES_S):
            self._drop("expired")
        else:
            self._queue.append(waiting)

    async def _back_off(self, error: TransientError) -> None:
        self._recorder.add(NOTIFICATIONS, self.sink.name, "again")
        if not self._failures:
            log.warning("a sink does not take reports: %s", error, extra={"fields": {"sink": self.sink.name}})
        step_s = min(BACK_OFF_FIRST_S * 2 ** min(self._failures, 16), BACK_OFF_MAX_S)
        self._failures += 1
        wait_s = max(self._random.uniform(0.0, step_s), min(error.retry_after_s or 0.0, RETRY_AFTER_MAX_S))
        self._changed()
        until_s = self._clock.monotonic() + wait_s
        while not self._closing and (left_s := until_s - self._clock.monotonic()) > 0:
            await self._wait(left_s)

    def _succeeded(self) -> None:
        self._recorder.add(NOTIFICATIONS, self.sink.name, "ok")
        if self._failures:
            log.info("a sink takes reports again", extra={"fields": {"sink": self.sink.name, "failures": self._failures}})
        self._failures = 0

    async def _wait(self, seconds: float) -> None:
        """Until something has changed, or so long."""
        self._news.clear()
        if seconds == inf:
            await self._news.wait()
            return
        try:
            async with self._clock.timeout(max(0.0, seconds)):
                await self._news.wait()
        except TimeoutError:
            return

    def _changed(self) -> None:
        self._recorder.set(NOTIFICATION_QUEUE, self.sink.name, value=len(self._queue))
        self._news.set()

    def _drop(self, cause: str) -> None:
        self._recorder.add(NOTIFICATIONS, self.sink.name, "dropped")
        self._recorder.add(NOTIFICATION_DROPS, self.sink.name, cause)


def _key(report: Report) -> Key:
    return report.change.incident.finding.key
