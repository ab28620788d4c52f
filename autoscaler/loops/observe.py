"""Asks the metric source once a tick for everything that a group needs, and turns what came back into columns.

Equal queries are asked once, all side by side. The observation closes a fixed time after the tick; a question that has no answer by
then runs on, no tick waits for it again, and its answer serves a later tick while it is fresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf

import numpy as np

from autoscaler.clock import Clock
from autoscaler.core.columns import frozen, full
from autoscaler.core.explain import COVERAGE, OBJECTIVE
from autoscaler.core.observation import SeriesColumns
from autoscaler.core.policy import traits_of
from autoscaler.core.roster import Roster
from autoscaler.core.spec import Call, GroupSpec, Query
from autoscaler.core.types import FREE, SIGNAL_TEXT, Floats, Signal
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError
from autoscaler.loops.wires import MANY, Match, Places, Wire
from autoscaler.ports import MetricSource, Vector

CLOSE_AFTER_S = 3.0
"""An observation closes this long after its tick, or a third of the interval if that is shorter."""

LATE_WAIT_S = 0.25
"""So long a tick waits for a question whose last answer came too late."""

QUESTION_BUDGET_S = 30.0
"""A question that was left to run on is given up after this."""

SKEW_MAX_S = 30.0
"""A source whose clock is further from ours speaks of another time than we do."""

REFUSED_REST_S = 300.0
"""A refused question about an objective, or about coverage that nobody wrote down, is not asked again for so long."""

ROUNDING = 1e-9
"""A rate of late requests that is below zero by no more than this share of all is a difference of equal sums: none."""

FRESH_INTERVALS = 2.0
"""An answer older than this many intervals says nothing about now."""


@dataclass(slots=True)
class _Question:
    """One query: the try under way, what became of the last one, and the answer that no tick has used yet.

    ``is_late``: the last one took longer than an observation does, so a tick hardly waits for the next one.
    """

    wires: list[Wire] = field(default_factory=list)
    coverage: list[tuple[Wire, bool]] = field(default_factory=list)
    saturation: list[Wire] = field(default_factory=list)
    late: list[Wire] = field(default_factory=list)
    total: list[Wire] = field(default_factory=list)
    rests_until_s: float = -inf
    asked: asyncio.Future[Vector] | None = None
    is_late: bool = False
    vector: Vector | None = None
    signal: Signal = Signal.NOT_ASKED
    detail: str = ""

    @property
    def is_advice(self) -> bool:
        """Only objectives need it, so that no tick is to wait for it."""
        return not (self.wires or self.coverage or self.saturation)


class Observer:
    """The questions of one group."""

    def __init__(self, source: MetricSource, clock: Clock, interval_s: float) -> None:
        self._source, self._clock, self._interval_s = source, clock, interval_s
        self._closes_s = min(interval_s / 3, CLOSE_AFTER_S)
        self._questions: dict[Query, _Question] = {}
        self._details: dict[tuple[str, int], str] = {}
        self._answered: list[Query] = []
        self._covered: set[int] = set()
        self.coverage: Floats = full(0, np.nan)
        """The share of each workload's ready pods that report, at the last tick ``[w]``; NaN: not known."""

    def wire(self, roster: Roster) -> None:
        """Follow the roster: ask for what its members need, and no longer for what nobody does."""
        wires: dict[Query, list[Wire]] = {}
        coverage: dict[Query, list[tuple[Wire, bool]]] = {}
        saturation: dict[Query, list[Wire]] = {}
        late: dict[Query, list[Wire]] = {}
        total: dict[Query, list[Wire]] = {}
        for workload, spec in roster.members().items():
            for series, place in roster.series(workload).items():
                if isinstance(series.query, Query):  # else its pods say it
                    wire = Wire(place.call, place.slot, place.serial, series.match)
                    wires.setdefault(series.query, []).append(wire)
                if series.saturation is not None:
                    flag = Wire(place.call, place.slot, place.serial, series.saturation_match)
                    saturation.setdefault(series.saturation, []).append(flag)
            slot = roster.slot(workload)
            serial = int(roster.spec.workloads.serial[slot])
            if spec.coverage is not None:
                wire = Wire("", slot, serial, spec.coverage.match)
                coverage.setdefault(spec.coverage.query, []).append((wire, spec.coverage.is_given))
            if spec.objective is not None:
                late.setdefault(spec.objective.late, []).append(Wire("", slot, serial, spec.objective.late_match))
                total.setdefault(spec.objective.total, []).append(Wire("", slot, serial, spec.objective.total_match))
        self._covered &= {wire.serial for ends in coverage.values() for wire, _ in ends}
        wanted = wires.keys() | coverage.keys() | saturation.keys() | late.keys() | total.keys()
        for query in self._questions.keys() - wanted:
            asked = self._questions.pop(query).asked
            if asked is not None:
                asked.cancel()
        for query in wanted:
            question = self._questions.setdefault(query, _Question())
            question.wires, question.coverage = wires.get(query, []), coverage.get(query, [])
            question.saturation, question.late, question.total = saturation.get(query, []), late.get(query, []), total.get(query, [])

    async def ask(self, at_s: float) -> None:
        """Ask everything that is not being asked already, and wait until all have answered or the observation closes.

        What is only advice is waited for as if it had been late before: for a moment, or as long as for the others.
        """
        started: list[asyncio.Future[Vector]] = []
        late: list[asyncio.Future[Vector]] = []
        for query, question in self._questions.items():
            if self._clock.monotonic() < question.rests_until_s:
                continue
            if question.asked is None or question.asked.done():
                (late if question.is_late or question.is_advice else started).append(self._begin(query, question, at_s))
            else:
                question.signal, question.detail = Signal.TIMEOUT, "still no answer to an earlier tick's question"
        await asyncio.gather(self._wait(started, self._closes_s), self._wait(late, min(LATE_WAIT_S, self._closes_s)))

    async def _wait(self, asked: list[asyncio.Future[Vector]], seconds: float) -> None:
        if not asked:
            return
        try:
            async with self._clock.timeout(seconds):
                await asyncio.wait(asked)
        except TimeoutError:
            return

    def _begin(self, query: Query, question: _Question, at_s: float) -> asyncio.Future[Vector]:
        question.signal, question.detail = Signal.TIMEOUT, ""
        question.asked = asyncio.ensure_future(self._source.instant(query, at_s, QUESTION_BUDGET_S))
        question.asked.add_done_callback(partial(self._take, question, self._clock.monotonic()))
        return question.asked

    def _take(self, question: _Question, began_s: float, answer: asyncio.Future[Vector]) -> None:
        """What became of a question that was asked at ``began_s``."""
        question.is_late = self._clock.monotonic() - began_s > self._closes_s
        if answer.cancelled():
            return
        try:
            vector = answer.result()
        except AnswerError as error:
            question.vector, question.signal, question.detail = None, Signal.WRONG_TYPE, str(error)
        except PermanentError as error:
            question.vector, question.signal, question.detail = None, Signal.REFUSED, str(error)
            if not question.wires and not question.saturation and not any(is_given for _, is_given in question.coverage):
                question.rests_until_s = self._clock.monotonic() + REFUSED_REST_S
        except AutoscalerError as error:
            question.vector, question.signal, question.detail = None, Signal.UNREACHABLE, str(error)
        else:
            question.vector, question.signal = vector, Signal.OK
            skew_s = vector.source_now_s - self._clock.now()
            if abs(skew_s) > SKEW_MAX_S:
                question.vector, question.signal, question.detail = None, Signal.CLOCK, f"it is {skew_s:+.0f} s off"

    def fill(self, spec: GroupSpec, at_s: float, ready: Floats) -> tuple[SeriesColumns, ...]:
        """This tick's signals, a :class:`SeriesColumns` for each call of the spec; ``ready`` replicas by workload slot."""
        load = {call.key: full(call.owner.size, np.nan) for call in spec.calls}
        age = {call.key: full(call.owner.size, np.nan) for call in spec.calls}
        signal = {call.key: np.full(call.owner.size, Signal.NOT_ASKED, np.int8) for call in spec.calls}
        saturated = {call.key: np.zeros(call.owner.size, np.bool_) for call in spec.calls}
        self._details.clear()
        self._answered.clear()
        coverage = full(spec.slots, np.nan)
        answers: list[tuple[_Question, _Answer]] = []
        for query, question in self._questions.items():
            answer = _Answer(query, question, at_s, FRESH_INTERVALS * self._interval_s)
            question.vector = None
            answers.append((question, answer))
            if answer.signal == Signal.OK:
                self._answered.append(query)
            for wire in question.wires:
                if wire.call not in load:
                    continue
                value, outcome = answer.pick(wire.match)
                load[wire.call][wire.slot] = value
                age[wire.call][wire.slot] = answer.age_s
                signal[wire.call][wire.slot] = outcome
                if outcome != Signal.OK:
                    self._details[wire.call, wire.slot] = answer.sentence(outcome)
            for wire in question.saturation:
                if wire.call in saturated:
                    value, outcome = answer.pick(wire.match)
                    saturated[wire.call][wire.slot] = outcome == Signal.OK and value != 0 and not np.isnan(value)
            for wire, is_given in question.coverage:
                coverage[wire.slot] = self._share(wire, answer, float(ready[wire.slot]), is_given=is_given)
        self.coverage = frozen(coverage)
        late, total = self._objectives(answers, spec.slots)
        return tuple(
            SeriesColumns(
                load=frozen(load[call.key]),
                age_s=frozen(age[call.key]),
                signal=frozen(signal[call.key]),
                saturated=frozen(saturated[call.key]),
                ready=frozen(np.where(call.owner != FREE, ready[call.owner], np.nan)),
                request=frozen(full(call.owner.size, np.nan)),
                late=_spread(late, call),
                total=_spread(total, call),
            )
            for call in spec.calls
        )

    def _objectives(self, answers: Sequence[tuple[_Question, _Answer]], slots: int) -> tuple[Floats | None, Floats | None]:
        """Late requests and all of them per second by workload slot, NaN where not known; None: nobody has an objective."""
        if not any(question.late for question, _ in answers):
            return None, None
        late, total = full(slots, np.nan), full(slots, np.nan)
        for question, answer in answers:
            for wire in question.total:
                total[wire.slot] = self._rate(wire, answer, "all requests")
        for question, answer in answers:
            for wire in question.late:
                late[wire.slot] = self._rate(wire, answer, "late requests", total[wire.slot])
        return late, total

    def _rate(self, wire: Wire, answer: _Answer, what: str, of: float = np.nan) -> float:
        """A rate, noting why it is not known where it is not; it is advice, so nobody is held for that.

        No series is not none late: it may be a bucket that does not exist. What a difference falls below 0 by rounding, as far as ``of``
        all requests are known, is zero.
        """
        value, outcome = answer.pick(wire.match)
        if outcome == Signal.OK:
            if -ROUNDING * of <= value < 0:
                return 0.0
            if 0 <= value < inf:
                return value
            outcome = Signal.NAN if np.isnan(value) else Signal.NEGATIVE if value < 0 else Signal.INFINITE
        hint = "; write `or vector(0)` where that means none" if outcome == Signal.EMPTY else ""
        self._details.setdefault((OBJECTIVE, wire.slot), f"the rate of {what} is not known: {answer.sentence(outcome)}{hint}")
        return np.nan

    def _share(self, wire: Wire, answer: _Answer, ready: float, *, is_given: bool) -> float:
        """The share of the ready pods that report, noting why it is not known where it is not."""
        count, outcome = answer.pick(wire.match)
        if outcome == Signal.EMPTY:
            count, outcome = 0.0, Signal.OK
        if outcome == Signal.OK and count > 0:
            self._covered.add(wire.serial)
        if outcome != Signal.OK or np.isnan(count):
            self._details[COVERAGE, wire.slot] = f"how many pods report is not known: {answer.sentence(outcome)}"
            return 0.0 if is_given else np.nan
        if not is_given and wire.serial not in self._covered:
            self._details[COVERAGE, wire.slot] = "coverage is off: `up` has never known a pod of this workload"
            return np.nan
        return count / ready if ready > 0 else np.nan

    def details(self) -> Mapping[tuple[str, int], str]:
        """Why a series has no data, in the source's own words where it had some: by call key and series slot."""
        return dict(self._details)

    def answered(self) -> Iterable[Query]:
        """The queries that had an answer at the last tick, whatever was in it."""
        return tuple(self._answered)

    async def close(self) -> None:
        """Give up every question under way."""
        asked = [question.asked for question in self._questions.values() if question.asked is not None]
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


class _Answer:
    """What one tick can use of a question: a vector that came in time, or late but still fresh, or the reason for none.

    An answer serves one tick only: a value that was seen once says nothing about the next tick.
    """

    def __init__(self, query: Query, question: _Question, at_s: float, fresh_s: float) -> None:
        self._query, self._detail = query, question.detail
        self._vector, self.signal = question.vector, question.signal
        self.age_s = np.nan if self._vector is None else at_s - self._vector.evaluated_at_s
        self._places = Places([] if self._vector is None else self._vector.labels)
        if self._vector is not None:
            self.signal = Signal.OK if self.age_s <= fresh_s else Signal.STALE

    def pick(self, match: Match) -> tuple[float, Signal]:
        """The one value that a wire asks for."""
        vector = self._vector
        if vector is None or self.signal != Signal.OK:
            return np.nan, self.signal
        place = self._places.find(match)
        if place == MANY:
            return np.nan, Signal.MANY_SERIES
        if place is None:
            return (0.0, Signal.OK) if self._query.empty_is_zero else (np.nan, Signal.EMPTY)
        return float(vector.values[place]), Signal.OK

    def sentence(self, signal: Signal) -> str:
        """What is wrong, with the source's words, or the labels of too many series."""
        if signal == Signal.MANY_SERIES and self._vector is not None:
            labels = self._vector.labels
            shown = ", ".join(_selector(each) for each in labels[:3])
            return f"{SIGNAL_TEXT[signal]}: {len(labels)}, such as {shown}; aggregate them, as in sum(...)"
        if signal == Signal.STALE:
            return f"{SIGNAL_TEXT[signal]}: it is about {self.age_s:.0f} s ago"
        return f"{SIGNAL_TEXT[signal]}: {self._detail}" if self._detail else SIGNAL_TEXT[signal]


def _spread(rate: Floats | None, call: Call) -> Floats | None:
    """Each workload's rate in every one of its series, for a call whose policy reads it."""
    if rate is None or not traits_of(call.policy).objective:
        return None
    return frozen(np.where(call.owner != FREE, rate[call.owner], np.nan))


def _selector(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"
