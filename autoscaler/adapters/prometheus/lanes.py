"""How the questions to one endpoint share its few connections: a slow one must not hold up the others.

There are :data:`PLACES` connections. Ranges, and questions whose last try was slow or had no answer in time, may use
:data:`SLOW_PLACES` of them at most, so that quick questions always find one; a slow question that turns quick is quick from its next
try on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Generic, TypeVar

from autoscaler.adapters.prometheus.crew import Crew, LineT
from autoscaler.errors import AnswerError, PermanentError, TransientError
from autoscaler.metrics import QUERY_SECONDS
from autoscaler.ports import Recorder

PLACES = 4
SLOW_PLACES = 2

SLOW_S = 1.0
"""A question whose answer takes longer is slow."""

_REMEMBERED_MAX = 4096

T = TypeVar("T")


class NoAnswerError(TransientError):
    """The deadline came first."""


class Lanes(Generic[LineT]):
    """The questions to one endpoint, each with its deadline, its place and its mark in the metrics."""

    def __init__(self, name: str, where: str, crew: Crew[LineT], recorder: Recorder) -> None:
        self._name, self._where, self._crew, self._recorder = name, where, crew, recorder
        self._places, self._slow_places = asyncio.Semaphore(PLACES), asyncio.Semaphore(SLOW_PLACES)
        self._slow: dict[str, None] = {}

    @property
    def stuck(self) -> int:
        """How many threads hang in calls that nobody waits for any more."""
        return self._crew.stuck

    async def ask(
        self,
        text: str,
        call: Callable[[LineT], T],
        deadline_s: float,
        *,
        bulk: bool = False,
        patience_s: float | None = None,
        asked_s: float | None = None,
    ) -> T:
        """What the call gives; ``text`` recognises a question, ``deadline_s`` is on the event loop's clock.

        ``patience_s`` is how long the call itself may take, once it has a connection; ``asked_s`` when it was asked, if not now.
        Raises what the call raises, NoAnswerError at the deadline.
        """
        now = asyncio.get_running_loop().time
        began_s, started_s, outcome = now(), None, ""
        try:
            async with (
                asyncio.timeout_at(deadline_s),
                self._slow_places if bulk or text in self._slow else nullcontext(),
                self._places,
            ):
                started_s = now()
                async with asyncio.timeout(patience_s):
                    answer = await self._crew.run(call)
                outcome = "ok"
                return answer
        except TimeoutError:
            outcome = "timeout"
            told = "not asked" if started_s is None else "no answer"
            why = "; other questions kept its connections busy" if started_s is None else ""
            raise NoAnswerError(f"{self._where}: {told} within {deadline_s - (asked_s or began_s):.2g} s{why}") from None
        except AnswerError:
            outcome = "wrong_answer"
            raise
        except PermanentError:
            outcome = "refused"
            raise
        except TransientError:
            outcome = "unavailable"
            raise
        finally:
            took_s = now() - (began_s if started_s is None else started_s)
            if outcome:  # else nobody waits any more
                self._recorder.observe(QUERY_SECONDS, self._name, outcome, value=took_s)
            if started_s is not None and not bulk:
                self._remember(text, slow=took_s > SLOW_S or outcome == "timeout")

    def _remember(self, text: str, *, slow: bool) -> None:
        self._slow.pop(text, None)
        if slow:
            self._slow[text] = None
            if len(self._slow) > _REMEMBERED_MAX:
                del self._slow[next(iter(self._slow))]

    async def close(self) -> None:
        """End all questions."""
        await self._crew.close()
