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
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic

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
    """``turn``: its answer, or None: go alone. ``alone`` is how that ended."""

    text: str
    at_s: float
    deadline_s: float
    turn: asyncio.Future[Vector | None]
    alone: asyncio.Future[AutoscalerError | None]
    cases: list[_Case] = field(default_factory=list)

    def settle(self, outcome: Vector | AutoscalerError | None) -> None:
        if self.turn.done():
            return
        if isinstance(outcome, AutoscalerError):
            self.turn.set_exception(outcome)
        else:
            self.turn.set_result(outcome)


class Batches(Generic[LineT]):
    """The instant questions to one endpoint. ``ask`` on a line: (texts, time, budget) to what it was told."""

    def __init__(self, lanes: Lanes[LineT], ask: Callable[[LineT, Sequence[str], float, float], Told]) -> None:
        self._lanes, self._ask = lanes, ask
        self._waiting: list[_Question] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._apart: dict[str, None] = {}
        self._heard: dict[str, None] = {}
        self._most, self._most_until_s = MOST, 0.0

    async def ask(self, text: str, at_s: float, deadline_s: float) -> Vector:
        """The answer to one question; ``deadline_s`` on the event loop's clock. Raises as :meth:`Lanes.ask` does."""
        loop = asyncio.get_running_loop()
        question = _Question(text, at_s, deadline_s, loop.create_future(), loop.create_future())
        if not self._waiting:
            loop.call_soon(self._send)  # after everybody who asks now
        self._waiting.append(question)
        answer = await question.turn
        return await self._alone(question) if answer is None else answer

    async def close(self) -> None:
        """Give up what is under way; the lanes are closed already."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(self) -> None:
        """Everybody who asked at this moment has."""
        asked, self._waiting = self._waiting, []
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._most_until_s:
            self._most = MOST
        by_time: dict[float, list[_Question]] = {}
        for question in asked:
            if question.text in self._apart or not is_whole(question.text):
                question.settle(None)
            else:
                by_time.setdefault(question.at_s, []).append(question)
        for questions in by_time.values():
            if len(questions) <= FEW or self._most <= 1:
                for question in questions:
                    question.settle(None)
                continue
            for piece in self._pieces(questions):
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
            piece[0].settle(None)
            return
        task = asyncio.create_task(self._together(piece), name=f"{len(piece)} queries")
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            for question in piece:
                if done.cancelled() or done.exception() is not None:
                    question.settle(None)

        task.add_done_callback(ended)

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
            question.cases.append(case)
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
            question.settle(None)

    async def _probe(self, piece: list[_Question]) -> None:
        """Let one go alone: if it too finds a server in trouble, so would the others."""
        first, *others = piece
        self._part([first])
        error = await first.alone
        if isinstance(error, TransientError):
            for question in others:
                question.settle(TransientError(str(error), retry_after_s=error.retry_after_s))
                self._close(question, blamed=True)
        else:
            self._part(others)

    async def _alone(self, question: _Question) -> Vector:
        """One question, one request; it may travel with others from then on if it is harmless."""
        text, loop, started_s = question.text, asyncio.get_running_loop(), 0.0
        budget_s = question.deadline_s - loop.time()
        outcome: AutoscalerError | None = None

        def call(line: LineT) -> Told:
            nonlocal started_s
            started_s = loop.time()
            return self._ask(line, (text,), question.at_s, budget_s)

        try:
            (part,) = (await self._lanes.ask(text, call, question.deadline_s)).parts
            if isinstance(part, AnswerError):
                raise part
        except AutoscalerError as error:
            outcome = error
            _remember(self._apart, text)
            raise
        else:
            _remember(self._heard, text)
            if loop.time() - started_s <= QUICK_S and part.values.size <= SMALL:
                self._apart.pop(text, None)
            else:
                _remember(self._apart, text)
            return part
        finally:
            question.alone.set_result(outcome)
            self._close(question, blamed=text in self._apart)

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
