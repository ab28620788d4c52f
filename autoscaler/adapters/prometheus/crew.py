"""Threads for a client that blocks, so that nothing it does can block us.

Not an executor: its threads are joined when the event loop and the interpreter end, so one that hangs keeps the process alive.
Here a call that nobody waits for any more is left to its thread, which is stuck until the client lets go of it::

    idle ──run()──► busy ──answer──► idle
                      └──cancelled, timed out──► stuck, its line cut ──► ended

All bookkeeping happens on the event loop's thread; a thread knows only its own inbox.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from autoscaler.errors import AutoscalerError, TransientError

STUCK_MAX = 4
"""So many threads may hang; then nothing more is asked until one lets go."""

_CLOSE_S = 0.5  # a cut line ends its thread within milliseconds; only a name look-up cannot be cut
_JOIN_S = 0.1


class Line(Protocol):
    """What a thread works with, for itself alone."""

    def cut(self) -> None:
        """From another thread: end what the line is doing, and all that it would do later."""
        ...

    def close(self) -> None:
        """From its own thread, at the end."""
        ...


LineT = TypeVar("LineT", bound=Line)
T = TypeVar("T")


class Crew(Generic[LineT]):
    """Threads that each have a line of their own; the caller limits how many calls run at once.

    ``who`` names them in errors and thread lists. A crew belongs to one event loop.
    """

    def __init__(self, who: str, open_line: Callable[[], LineT]) -> None:
        self._who, self._open_line = who, open_line
        self._living: set[_Worker[LineT]] = set()
        self._idle: list[_Worker[LineT]] = []
        self._stuck: set[_Worker[LineT]] = set()
        self._awaited: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._empty = asyncio.Event()

    @property
    def stuck(self) -> int:
        """How many threads hang in calls that nobody waits for any more."""
        return len(self._stuck)

    async def run(self, call: Callable[[LineT], T]) -> T:
        """What the call returns, or the error of ours that it raises.

        Cancelling returns at once, whatever the call does. Raises TransientError if the crew is closed or too many threads hang.
        """
        if self._closed:
            raise TransientError(f"{self._who}: closed")
        if len(self._stuck) >= STUCK_MAX:
            for worker in self._stuck:  # once more: it may have been looking up a name when it was cut
                worker.line.cut()
            raise TransientError(
                f"{self._who}: {len(self._stuck)} requests hang beyond their deadline; nothing is asked until one of them ends"
            )
        worker = self._idle.pop() if self._idle else self._hire()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._awaited.add(answer)
        worker.inbox.put((call, answer))
        try:
            return await answer
        finally:
            self._awaited.discard(answer)
            if answer.cancelled():
                self._stuck.add(worker)
                worker.dismiss()
            elif not worker.is_broken:
                self._idle.append(worker)

    async def close(self) -> None:
        """End every call and every thread. One that cannot be ended within half a second is left behind as a daemon."""
        self._closed = True
        for answer in self._awaited:
            if not answer.done():
                answer.set_exception(TransientError(f"{self._who}: closed"))
        for worker in self._living:
            worker.dismiss()
        self._empty.clear()
        if self._living:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _CLOSE_S)

    def _hire(self) -> _Worker[LineT]:
        worker = _Worker(self._who, self._open_line(), self._left)
        self._living.add(worker)
        worker.start()
        return worker

    def _left(self, worker: _Worker[LineT]) -> None:
        worker.join(_JOIN_S)  # telling us was the last that it did
        self._living.discard(worker)
        self._stuck.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not self._living:
            self._empty.set()


class _Worker(threading.Thread, Generic[LineT]):
    """One thread and its line: does the calls of its inbox until it finds a None there."""

    def __init__(self, who: str, line: LineT, left: Callable[[_Worker[LineT]], None]) -> None:
        super().__init__(name=who, daemon=True)
        self.line = line
        self.is_broken = False
        self.inbox: SimpleQueue[tuple[Callable[[LineT], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._loop, self._left = asyncio.get_running_loop(), left

    def dismiss(self) -> None:
        """Let it end, whatever it is doing."""
        self.inbox.put(None)
        self.line.cut()

    def run(self) -> None:
        try:
            while (work := self.inbox.get()) is not None:
                self._do(*work)
        finally:
            self.line.close()
            self._tell(self._left, self)

    def _do(self, call: Callable[[LineT], T], answer: asyncio.Future[T]) -> None:
        # An error that is not ours is a bug: it ends this thread with a traceback, and whoever waits is told so.
        outcome: T | AutoscalerError = TransientError(f"{self.name}: the request failed by a fault of ours; the log has its traceback")
        self.is_broken = True
        try:
            outcome = call(self.line)
            self.is_broken = False
        except AutoscalerError as error:
            outcome = error
            self.is_broken = False
        finally:
            self._tell(_settle, answer, outcome)

    def _tell(self, what: Callable[..., None], *about: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(what, *about)


def _settle(answer: asyncio.Future[T], outcome: T | AutoscalerError) -> None:
    if answer.done():
        return
    if isinstance(outcome, AutoscalerError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
