"""The only place that reads or waits for time. Everything else is handed a clock.

A clock has a wall time (``now``, seconds since the epoch: labels) and a monotonic one (``monotonic``, seconds: durations and
deadlines). :class:`FastClock` runs at a multiple of real time, for the demo; :class:`ManualClock` stands still until a test moves it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Time, as loops see it."""

    def now(self) -> float:
        """Wall time, seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    async def sleep_until(self, monotonic_s: float) -> None:
        """Return once ``monotonic()`` has reached that value; at once if it has."""
        ...

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """An async context manager that raises TimeoutError after that many seconds of this clock."""
        ...


class FastClock:
    """A clock that runs ``speed`` times as fast as real time."""

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            message = f"speed: expected a number above 0, got {speed}"
            raise ValueError(message)
        self.speed = speed
        self._wall, self._origin = time.time(), time.monotonic()

    def now(self) -> float:
        """Wall time; after a start at the real time it runs ``speed`` times as fast."""
        if self.speed == 1.0:
            return time.time()
        return self._wall + (time.monotonic() - self._origin) * self.speed

    def monotonic(self) -> float:
        """Real monotonic time x ``speed``."""
        return time.monotonic() * self.speed

    async def sleep_until(self, monotonic_s: float) -> None:
        """Return once ``monotonic()`` has reached that value."""
        await asyncio.sleep(max(0.0, monotonic_s - self.monotonic()) / self.speed)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """A context that raises TimeoutError after ``seconds`` of this clock."""
        return asyncio.timeout(seconds / self.speed)


class SystemClock(FastClock):
    """Real time."""

    def __init__(self) -> None:
        super().__init__(1.0)


class ManualClock:
    """A clock that stands still until :meth:`advance`; wall and monotonic time can be made to disagree with :meth:`step`."""

    _SPINS = 64

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self._now, self._monotonic = now_s, 1_000.0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Wall time, as tests have moved it."""
        return self._now

    def monotonic(self) -> float:
        """Monotonic time, as tests have moved it."""
        return self._monotonic

    async def sleep_until(self, monotonic_s: float) -> None:
        """Return once a test has moved time that far."""
        if monotonic_s <= self._monotonic:
            await asyncio.sleep(0)
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._at(monotonic_s, lambda: None if reached.done() else reached.set_result(None))
        await reached

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """A context that raises TimeoutError once a test has moved time by ``seconds``."""
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)

        def expire() -> None:
            # A finished timeout has no say any more; asyncio refuses to reschedule it.
            try:
                limit.reschedule(loop.time())
            except RuntimeError:
                return

        self._at(self._monotonic + seconds, expire)
        return limit

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, as a time server may."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass: everything that falls due runs, in order, and what it starts gets its turn before time moves on."""
        end = self._monotonic + seconds
        await self.settle()
        while self._waiting and self._waiting[0][0] <= end:
            due, _, wake = heapq.heappop(self._waiting)
            self._now += max(0.0, due - self._monotonic)
            self._monotonic = max(self._monotonic, due)
            wake()
            if not self._waiting or self._waiting[0][0] > due:
                await self.settle()
        self._now += end - self._monotonic
        self._monotonic = end
        await self.settle()

    async def settle(self) -> None:
        """Give every task that can run its turns, without letting time pass."""
        for _ in range(self._SPINS):
            await asyncio.sleep(0)

    def _at(self, monotonic_s: float, wake: Callable[[], None]) -> None:
        heapq.heappush(self._waiting, (monotonic_s, next(self._order), wake))
