"""Many questions of one moment in a few requests: ``label_replace((A), MARK, "0", "", "") or label_replace((B), MARK, "1", "", "") …``.

A request costs both sides a few times what a small query does, and a thousand workloads each have a query. So questions that are asked
at the same time travel together, each marked by a label by which its part of the answer is known again::

    ask ──► alone, if there are few, or it is set apart
       └──► together ──answered──► its part
                ├─ refused, too large ──► in halves, down to those that are refused alone
                ├─ no answer in time ───► each alone
                ├─ not understood ──────► each alone, for ten minutes
                └─ anything else ───────► one alone; how that ends tells whether it is the server, or the others are to go alone too

Nobody may suffer from whom it travels with: a question that is wrong, slow, large or unbalanced (so that it would reach into its
neighbour's text) goes alone until it has shown itself to be harmless. Where none of them is to blame, requests become smaller.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from autoscaler.adapters.prometheus.answers import MARK, UnmarkedError
from autoscaler.adapters.prometheus.crew import LineT
from autoscaler.adapters.prometheus.lanes import Lanes, NoAnswerError
from autoscaler.adapters.prometheus.session import AnswerTooLargeError
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.ports import Vector

FEW = 8
"""So many questions at once go alone each: they cost next to nothing, and a server's log of queries stays readable."""

MOST = 100
"""Questions in a request."""

TEXT_MAX = 12_000
"""Characters of a request's query: VictoriaMetrics refuses more than 16 384 bytes."""

PATIENCE_S = 1.0
"""So long questions wait for each other."""

QUICK_S = 0.2
"""Whose answer takes longer goes alone."""

LEISURELY_S = 0.5
"""A request that takes longer is to be smaller."""

LEISURELY_MOST = 10
"""But not smaller than this: where everything is slow, more requests make it slower."""

SMALL = 50
"""Series in the answer of a question that travels with others."""

SMALLER_FOR_S = 600.0
"""After so long larger requests are tried again."""

_REMEMBERED_MAX = 16_384

_log = logging.getLogger(__name__)

T = TypeVar("T")

_PIECES = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`|\#[^\n]*|[()\[\]{}"'`]""")
_CLOSES = {")": "(", "]": "[", "}": "{"}


@lru_cache(_REMEMBERED_MAX)
def is_whole(text: str) -> bool:
    """Whether every bracket and quote of a PromQL expression is closed, so that it stays inside the brackets around it.

    >>> is_whole('sum(up{job=")"}) # ) is no bracket here'), is_whole('up) or (up')
    (True, False)
    """
    open_brackets: list[str] = []
    for found in _PIECES.finditer(text):
        piece = found.group()
        if piece in "([{":
            open_brackets.append(piece)
        elif piece in _CLOSES:
            if not open_brackets or open_brackets.pop() != _CLOSES[piece]:
                return False
        elif len(piece) == 1 and piece != "#":
            return False
    return not open_brackets


def together(texts: Sequence[str]) -> str:
    """One expression whose answer has all of theirs, each series marked with its question's place; and a last one of ours.

    Ours is always there: without it, an answer that is empty would say that nobody has data, and not that it was not understood.
    """
    every = (*texts, "vector(1)")
    return " or ".join(f'label_replace((\n{text}\n), "{MARK}", "{place}", "", "")' for place, text in enumerate(every))


_AROUND = len(together(["", ""])) - len(together([""]))  # what each question's text grows by, a few digits aside


@dataclass(frozen=True, slots=True)
class Told:
    """The answers to questions in their order; ``remarked``: the server had something to say besides, about any of them."""

    parts: tuple[Vector | AnswerError, ...]
    remarked: bool


class _Case:
    """Questions whose request went wrong: who is to blame?"""

    def __init__(self, questions: int) -> None:
        self.size = self._open = questions
        self._blamed = False

    def close(self, *, blamed: bool) -> bool:
        """One of them has gone alone; True if it was the last and none is to blame."""
        self._open -= 1
        self._blamed |= blamed
        return not self._open and not self._blamed


@dataclass(slots=True, eq=False)
class _Question:
    """Asked once, answered once; whoever asks may give up by cancelling ``answer``."""

    text: str
    at_s: float
    asked_s: float
    deadline_s: float
    answer: asyncio.Future[Vector]
    cases: tuple[_Case, ...] = ()

    def settle(self, outcome: Vector | AutoscalerError) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, AutoscalerError):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Batches(Generic[LineT]):
    """The instant questions to one endpoint. ``ask`` on a line: (texts, time, budget) to what it was told."""

    def __init__(self, lanes: Lanes[LineT], ask: Callable[[LineT, Sequence[str], float, float], Told]) -> None:
        self._lanes, self._ask = lanes, ask
        self._waiting: list[_Question] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._apart: dict[str, None] = {}
        self._heard: dict[str, None] = {}
        self._most, self._most_until_s = MOST, 0.0

    def ask(self, text: str, at_s: float, deadline_s: float) -> asyncio.Future[Vector]:
        """The answer to one question; ``deadline_s`` on the event loop's clock. Raises as :meth:`Lanes.ask` does.

        A future, not a coroutine: thousands of these wait at once, and each would weigh four kilobytes.
        """
        loop = asyncio.get_running_loop()
        question = _Question(text, at_s, loop.time(), deadline_s, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._send)  # after everybody who asks now
        self._waiting.append(question)
        return question.answer

    async def close(self) -> None:
        """Wait until everybody has been told; the lanes are closed already."""
        self._send()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _send(self) -> None:
        """Everybody who asked at this moment has."""
        asked, self._waiting = self._waiting, []
        if asyncio.get_running_loop().time() >= self._most_until_s:
            self._most = MOST
        by_time: dict[float, list[_Question]] = {}
        for question in asked:
            if question.answer.done():
                continue
            if question.text in self._apart or not is_whole(question.text):
                _ = self._go_alone(question)
            else:
                by_time.setdefault(question.at_s, []).append(question)
        for questions in by_time.values():
            pieces = self._pieces(questions) if len(questions) > FEW and self._most > 1 else [[question] for question in questions]
            for piece in pieces:
                self._start(piece)

    def _pieces(self, questions: Sequence[_Question]) -> list[list[_Question]]:
        pieces: list[list[_Question]] = []
        size = TEXT_MAX
        for question in questions:
            length = len(question.text) + _AROUND
            size += length
            if size > TEXT_MAX or len(pieces[-1]) >= self._most:
                pieces.append([])
                size = length
            pieces[-1].append(question)
        return pieces

    def _start(self, piece: list[_Question]) -> None:
        if len(piece) == 1:
            _ = self._go_alone(piece[0])
            return

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                _log.error("a fault of ours, so %d queries go alone", len(piece), exc_info=error)
                self._part([question for question in piece if not question.answer.done()])

        task = self._run(self._together(piece), f"{len(piece)} queries")
        task.add_done_callback(ended)

    def _run(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _go_alone(self, question: _Question) -> asyncio.Task[AutoscalerError | None]:
        task = self._run(self._alone(question), f"query {question.text[:60]}")
        question.answer.add_done_callback(lambda answer: task.cancel() if answer.cancelled() else None)
        return task

    async def _together(self, piece: list[_Question]) -> None:
        loop, started_s = asyncio.get_running_loop(), 0.0
        texts, at_s = tuple(question.text for question in piece), piece[0].at_s

        def call(line: LineT) -> Told:
            nonlocal started_s
            started_s = loop.time()  # before that, it has waited for a connection
            return self._ask(line, texts, at_s, PATIENCE_S)

        name = f"{len(texts)} queries from {texts[0]}"
        try:
            told = await self._lanes.ask(name, call, piece[0].deadline_s, patience_s=PATIENCE_S)
        except AutoscalerError as error:
            await self._failed(piece, error)
        else:
            if loop.time() - started_s > LEISURELY_S:
                self._shrink(max(LEISURELY_MOST, len(piece) // 2))
            self._deal(piece, told)

    def _deal(self, piece: list[_Question], told: Told) -> None:
        for question, part in zip(piece, told.parts, strict=True):
            unheard = told.remarked and question.text not in self._heard
            if isinstance(part, AnswerError) or part.values.size > SMALL or unheard:
                _remember(self._apart, question.text)
            question.settle(part)
            self._close(question, blamed=False)

    async def _failed(self, piece: list[_Question], error: AutoscalerError) -> None:
        case = _Case(len(piece))
        for question in piece:
            question.cases += (case,)
        if isinstance(error, PermanentError | AnswerTooLargeError):
            for half in (piece[: len(piece) // 2], piece[len(piece) // 2 :]):
                self._start(half)
        elif isinstance(error, UnmarkedError):
            self._shrink(1)
            self._part(piece)
        elif isinstance(error, NoAnswerError):
            self._part(piece)
        else:
            await self._probe(piece)

    def _part(self, piece: Sequence[_Question]) -> None:
        for question in piece:
            _remember(self._apart, question.text)
            _ = self._go_alone(question)

    async def _probe(self, piece: list[_Question]) -> None:
        """Let one go alone: if it too finds a server in trouble, so would the others."""
        first, *others = piece
        _remember(self._apart, first.text)
        probe = self._go_alone(first)
        await asyncio.wait([probe])
        error = None if probe.cancelled() else probe.result()
        if isinstance(error, TransientError):
            for question in others:
                question.settle(TransientError(str(error), retry_after_s=error.retry_after_s))
                self._close(question, blamed=True)
        else:
            self._part(others)

    async def _alone(self, question: _Question) -> AutoscalerError | None:
        """One question, one request, and what was wrong with it; it may travel with others from then on if it is harmless."""
        text, loop, started_s = question.text, asyncio.get_running_loop(), 0.0
        budget_s = question.deadline_s - loop.time()
        outcome: Vector | AutoscalerError = TransientError("a fault of ours; the log has it")

        def call(line: LineT) -> Told:
            nonlocal started_s
            started_s = loop.time()
            return self._ask(line, (text,), question.at_s, budget_s)

        try:
            (outcome,) = (await self._lanes.ask(text, call, question.deadline_s, asked_s=question.asked_s)).parts
        except AutoscalerError as error:
            outcome = error
        except asyncio.CancelledError:
            question.answer.cancel()
            raise
        finally:
            is_quick = loop.time() - started_s <= QUICK_S
            if isinstance(outcome, Vector):
                _remember(self._heard, text)
            if isinstance(outcome, Vector) and is_quick and outcome.values.size <= SMALL:
                self._apart.pop(text, None)
            else:
                _remember(self._apart, text)
            question.settle(outcome)
            self._close(question, blamed=text in self._apart)
        return outcome if isinstance(outcome, AutoscalerError) else None

    def _close(self, question: _Question, *, blamed: bool) -> None:
        for case in question.cases:
            if case.close(blamed=blamed):
                self._shrink(case.size // 2)

    def _shrink(self, most: int) -> None:
        self._most = min(self._most, max(1, most))
        self._most_until_s = asyncio.get_running_loop().time() + SMALLER_FOR_S


def _remember(texts: dict[str, None], text: str) -> None:
    texts[text] = None
    if len(texts) > _REMEMBERED_MAX:
        del texts[next(iter(texts))]
