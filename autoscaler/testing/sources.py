"""What every :class:`autoscaler.ports.MetricSource` must do, whatever is behind it: the contract that adapters are held to.

A test module gives a harness around its adapter and runs each check of :data:`CONTRACT` on a fresh one::

    @pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in CONTRACT])
    async def test_contract(check: Check) -> None:
        async with my_harness() as harness:
            await check(harness)

Checks raise AssertionError with a sentence. They ask only at the times of samples, or more than ten minutes from any: how long a
sample stays visible is the source's own affair (Prometheus: five minutes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf, nan
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from autoscaler.core.spec import Query
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.ports import Matrix, MetricSource
from autoscaler.testing.expect import expect

START_S = 1_700_000_040.0
"""Where the checks' samples begin: a whole minute."""

BUDGET_S = 10.0
"""For questions that are answered: nothing waits that long."""

SHORT_BUDGET_S = 0.2
"""For questions that are not."""

SLACK_S = 1.0
"""How late a busy machine may notice that a budget has ended."""

RETRY_AFTER_S = 7.0
"""How long an OVERLOADED source asks to be left alone."""


class Fault(Enum):
    """The ways in which a harness breaks its source, for every question until it is mended."""

    UNREACHABLE = "there is nobody to ask"
    SILENT = "questions are taken and never answered"
    OVERLOADED = "it asks to come back in RETRY_AFTER_S seconds"
    NOT_A_VECTOR = "it answers with another type than the one that was asked for"
    REFUSED = "it says that the question is wrong, and why"


@dataclass(frozen=True, slots=True)
class Series:
    """``values[i]`` at ``start_s + i · step_s``; None: no sample there. NaN and infinities are values."""

    name: str
    values: Sequence[float | None]
    labels: tuple[tuple[str, str], ...] = ()
    start_s: float = START_S
    step_s: float = 60.0


class Harness(Protocol):
    """An open source without samples, and hands to fill and to break what is behind it."""

    @property
    def source(self) -> MetricSource:
        """The adapter under test."""
        ...

    @property
    def faults(self) -> Collection[Fault]:
        """Those that can be made here; the checks of a fault run for these."""
        ...

    def query(self, name: str) -> Query:
        """The question for the values of all series of that name, each with its labels, in the source's own language."""
        ...

    async def given(self, *series: Series) -> None:
        """What the source knows from now on: these series and no other."""
        ...

    async def break_as(self, fault: Fault) -> None:
        """Let every question from now on fare so."""
        ...

    async def mend(self) -> None:
        """Let questions be answered again."""
        ...


Check: TypeAlias = Callable[[Harness], Awaitable[None]]


async def answers_at_the_time_that_is_asked_for(harness: Harness) -> None:
    """An instant answer has the value at that time, not the newest, and says when it was evaluated."""
    await harness.given(Series("load", [1.0, 2.5, 4.0]))
    for row, value in enumerate([1.0, 2.5, 4.0]):
        at_s = START_S + 60.0 * row
        vector = await harness.source.instant(harness.query("load"), at_s, BUDGET_S)
        _equal(vector.values, [value], f"the value at row {row}")
        _equal(vector.values.dtype, np.dtype(np.float64), "the values' type")
        _equal(len(vector.labels), 1, "one set of labels for each value")
        _equal(vector.evaluated_at_s, at_s, "the time of evaluation")
        expect(isinstance(vector.source_now_s, float), "the source's own time is a float, NaN where unknown")


async def keeps_series_apart(harness: Harness) -> None:
    """A query of several series gives one value for each, with its labels."""
    await harness.given(
        Series("load", [1.0], (("app", "web"), ("zone", "a"))),
        Series("load", [2.0], (("app", "web"), ("zone", "b"))),
        Series("load", [3.0], (("app", "db"), ("zone", "a"))),
        Series("other", [4.0], (("app", "web"), ("zone", "a"))),
    )
    vector = await harness.source.instant(harness.query("load"), START_S, BUDGET_S)
    seen = {(labels.get("app"), labels.get("zone")): float(value) for labels, value in zip(vector.labels, vector.values, strict=True)}
    _equal(seen, {("web", "a"): 1.0, ("web", "b"): 2.0, ("db", "a"): 3.0}, "values by label")


async def calls_nothing_nothing(harness: Harness) -> None:
    """No series, no sample yet and no sample any more are empty vectors: never a zero, never an error."""
    await harness.given(Series("load", [0.0, 5.0]))
    for name, at_s, why in (
        ("nowhere", START_S, "no such series"),
        ("load", START_S - 1200.0, "before the first sample"),
        ("load", START_S + 1200.0, "long after the last sample"),
    ):
        vector = await harness.source.instant(harness.query(name), at_s, BUDGET_S)
        _equal((vector.labels, vector.values.shape), ((), (0,)), f"{why}: labels and shape")
        _equal(vector.evaluated_at_s, at_s, f"{why}: the time of evaluation")
    zero = await harness.source.instant(harness.query("load"), START_S, BUDGET_S)
    _equal(zero.values, [0.0], "a zero that is there")


async def judges_no_value(harness: Harness) -> None:
    """NaN, infinities and negative values are handed on as they are, alone and in ranges."""
    values = [nan, inf, -inf, -3.0]
    await harness.given(Series("load", values))
    for row, value in enumerate(values):
        vector = await harness.source.instant(harness.query("load"), START_S + 60.0 * row, BUDGET_S)
        _equal(vector.values, [value], f"the value at row {row}")
    matrix = await _range(harness, "load", 4)
    _equal(matrix.values[:, 0], values, "the same as a range")


async def answers_many_at_once(harness: Harness) -> None:
    """Questions side by side each get their own answer."""
    names = [f"load_{index}" for index in range(24)]
    await harness.given(*(Series(name, [float(index)]) for index, name in enumerate(names)))
    vectors = await asyncio.gather(*(harness.source.instant(harness.query(name), START_S, BUDGET_S) for name in names))
    _equal([vector.values.tolist() for vector in vectors], [[float(index)] for index in range(24)], "answers in order")


async def gives_ranges_on_their_grid(harness: Harness) -> None:
    """A range includes both ends, has a row for each step and a column for each series."""
    await harness.given(Series("load", [1.0, 2.0, 3.0, 4.0], (("app", "web"),)), Series("load", [5.0, 6.0, 7.0, 8.0], (("app", "db"),)))
    matrix = await _range(harness, "load", 4)
    order = [[labels.get("app") for labels in matrix.labels].index(app) for app in ("web", "db")]
    _equal(matrix.at_s, START_S + 60.0 * np.arange(4), "the grid")
    _equal(matrix.values[:, order], [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]], "values by row and series")
    _equal(matrix.values.dtype, np.dtype(np.float64), "the values' type")
    inner = await harness.source.range(harness.query("load"), START_S + 60.0, START_S + 120.0, 60.0, BUDGET_S)
    _equal(inner.at_s, [START_S + 60.0, START_S + 120.0], "a part of the grid")
    point = await harness.source.range(harness.query("load"), START_S, START_S, 60.0, BUDGET_S)
    _equal((point.at_s.tolist(), point.values.shape), ([START_S], (1, 2)), "a range of one point")


async def shows_gaps_as_gaps(harness: Harness) -> None:
    """Rows without a sample are NaN: in the middle, before a series began and after it ended; no series at all has no column."""
    rows, quiet = 60, 12  # so many rows after a sample, nothing of it is visible any more
    early: list[float | None] = [1.0] * 10 + [None] * 40 + [2.0] * 10
    late: list[float | None] = [None] * 50 + [3.0] * 10
    await harness.given(Series("load", early, (("app", "early"),)), Series("load", late, (("app", "late"),)))
    matrix = await _range(harness, "load", rows)
    columns = {labels.get("app"): matrix.values[:, column] for column, labels in enumerate(matrix.labels)}
    _equal(sorted(map(str, columns)), ["early", "late"], "the series")
    _equal(columns["early"][:10], [1.0] * 10, "before the gap")
    _equal(columns["early"][10 + quiet : 50], [nan] * (40 - quiet), "the gap")
    _equal(columns["early"][50:], [2.0] * 10, "after the gap")
    _equal(columns["late"], [nan] * 50 + [3.0] * 10, "a series that begins later")
    nothing = await _range(harness, "nowhere", rows)
    _equal((nothing.labels, nothing.at_s.shape, nothing.values.shape), ((), (rows,), (rows, 0)), "a range of no series")


async def splits_long_ranges(harness: Harness) -> None:
    """A range longer than a source answers at once arrives whole, without a seam."""
    rows = 12_000
    await harness.given(Series("load", [float(row) for row in range(rows)], step_s=15.0))
    matrix = await harness.source.range(harness.query("load"), START_S, START_S + 15.0 * (rows - 1), 15.0, BUDGET_S)
    _equal(matrix.at_s, START_S + 15.0 * np.arange(rows), "the grid")
    _equal(matrix.values, np.arange(rows, dtype=np.float64)[:, None], "the values")


async def names_known_endpoints(harness: Harness) -> None:
    """A question to an endpoint that is not configured is a PermanentError that names it."""
    known = harness.query("load")
    lost = Query(known.text, endpoint="no-such-endpoint")
    for ask in (
        lambda: harness.source.instant(lost, START_S, BUDGET_S),
        lambda: harness.source.range(lost, START_S, START_S, 60.0, BUDGET_S),
    ):
        error = await _error(ask(), PermanentError, "an unknown endpoint")
        expect("no-such-endpoint" in str(error), f"the error names the unknown endpoint: {error}")
        expect(known.endpoint in str(error), f"the error names the endpoints that there are: {error}")


async def translates_faults(harness: Harness) -> None:
    """Each fault is the error of its kind, for instants and ranges, within the budget; mended, the same question is answered."""
    await harness.given(Series("load", [1.0]))
    for fault in harness.faults:
        expected = _ERRORS[fault]
        budget_s = SHORT_BUDGET_S if fault is Fault.SILENT else BUDGET_S
        await harness.break_as(fault)
        for ask in (_ask_instant, _ask_range):
            began_s = asyncio.get_running_loop().time()
            error = await _error(ask(harness, budget_s), expected, f"{fault.name} ({fault.value})")
            took_s = asyncio.get_running_loop().time() - began_s
            expect(took_s <= budget_s + SLACK_S, f"{fault.name}: a budget of {budget_s} s took {took_s:.2f} s")
            expect(len(str(error)) > len("error"), f"{fault.name}: the error is a sentence, not {str(error)!r}")
            expect(
                isinstance(error, AnswerError) == (fault is Fault.NOT_A_VECTOR),
                f"{fault.name}: AnswerError is for wrong answers only: {error!r}",
            )
            if fault is Fault.OVERLOADED:
                _equal(getattr(error, "retry_after_s", None), RETRY_AFTER_S, "the source's wish for a pause")
        await harness.mend()
        vector = await harness.source.instant(harness.query("load"), START_S, BUDGET_S)
        _equal(vector.values, [1.0], f"{fault.name}, mended")


async def lets_go_when_cancelled(harness: Harness) -> None:
    """A question that nobody waits for any more ends at once, and takes no other with it."""
    await harness.given(Series("load", [1.0]))
    if Fault.SILENT in harness.faults:
        await harness.break_as(Fault.SILENT)
    asked = asyncio.create_task(_ask_instant(harness, BUDGET_S))
    await asyncio.wait([asked], timeout=_UNDER_WAY_S)
    asked.cancel()
    await asyncio.wait([asked], timeout=SLACK_S)
    expect(asked.done(), "a cancelled question ends at once")
    expect(asked.cancelled(), f"a cancelled question ends as cancelled, not {asked!r}")
    if Fault.SILENT in harness.faults:
        await harness.mend()
    vector = await harness.source.instant(harness.query("load"), START_S, BUDGET_S)
    _equal(vector.values, [1.0], "the next question")


async def closes_for_good(harness: Harness) -> None:
    """Closed, every question is a TransientError at once; closing twice is closing once; what was under way ends."""
    await harness.given(Series("load", [1.0]))
    if Fault.SILENT in harness.faults:
        await harness.break_as(Fault.SILENT)
    asked = [asyncio.create_task(ask(harness, BUDGET_S)) for ask in (_ask_instant, _ask_range)]
    await asyncio.wait(asked, timeout=_UNDER_WAY_S)
    await harness.source.close()
    _, pending = await asyncio.wait(asked, timeout=SLACK_S)
    for task in pending:
        task.cancel()
    expect(not pending, "a question under way ends when the source is closed")
    for task in asked:
        outcome = task.exception()
        expect(
            outcome is None or isinstance(outcome, TransientError),
            f"a question under way is answered or is a TransientError, not {outcome!r}",
        )
    await harness.source.close()
    for ask in (_ask_instant, _ask_range):
        await _error(ask(harness, BUDGET_S), TransientError, "a closed source")


CONTRACT: tuple[Check, ...] = (
    answers_at_the_time_that_is_asked_for,
    keeps_series_apart,
    calls_nothing_nothing,
    judges_no_value,
    answers_many_at_once,
    gives_ranges_on_their_grid,
    shows_gaps_as_gaps,
    splits_long_ranges,
    names_known_endpoints,
    translates_faults,
    lets_go_when_cancelled,
    closes_for_good,
)

_ERRORS: Mapping[Fault, type[AutoscalerError]] = {
    Fault.UNREACHABLE: TransientError,
    Fault.SILENT: TransientError,
    Fault.OVERLOADED: TransientError,
    Fault.NOT_A_VECTOR: AnswerError,
    Fault.REFUSED: PermanentError,
}

_UNDER_WAY_S = 0.05  # long enough for a question to leave the house

_Error = TypeVar("_Error", bound=AutoscalerError)


async def _range(harness: Harness, name: str, rows: int) -> Matrix:
    return await harness.source.range(harness.query(name), START_S, START_S + 60.0 * (rows - 1), 60.0, BUDGET_S)


async def _ask_instant(harness: Harness, budget_s: float) -> None:
    await harness.source.instant(harness.query("load"), START_S, budget_s)


async def _ask_range(harness: Harness, budget_s: float) -> None:
    await harness.source.range(harness.query("load"), START_S, START_S + 60.0, 60.0, budget_s)


async def _error(asked: Awaitable[object], kind: type[_Error], why: str) -> _Error:
    try:
        answer = await asked
    except kind as error:
        return error
    except AutoscalerError as error:
        raise AssertionError(f"{why}: expected {kind.__name__}, got {error!r}") from error
    raise AssertionError(f"{why}: expected {kind.__name__}, got an answer: {answer}")


def _equal(found: object, expected: object, what: str) -> None:
    """Values, arrays, and collections of them; a NaN equals a NaN."""
    try:
        np.testing.assert_equal(found, expected)
    except AssertionError:
        raise AssertionError(f"{what}: expected {_short(expected)}, found {_short(found)}") from None


def _short(value: object) -> str:
    return np.array2string(value, threshold=20) if isinstance(value, np.ndarray) else f"{value!r}"
