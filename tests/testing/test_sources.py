"""The contract of a MetricSource finds what it is there to find: each breach, made on purpose, fails the check that forbids it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.core.spec import Query
from autoscaler.errors import AutoscalerError, PermanentError, TransientError
from autoscaler.ports import Matrix, MetricSource, Vector
from autoscaler.testing import sources
from autoscaler.testing.recorder import MemoryRecorder
from autoscaler.testing.sources import START_S, Check
from tests.adapters.prometheus.server import FaultServer
from tests.adapters.prometheus.test_contract import FaultHarness


class Wrapped:
    """A source that keeps the contract; its children each break it in one way."""

    def __init__(self, inner: MetricSource) -> None:
        self.inner = inner

    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        return await self.inner.instant(query, at_s, budget_s)

    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        return await self.inner.range(query, start_s, end_s, step_s, budget_s)

    async def close(self) -> None:
        await self.inner.close()


class AnswersForTheFirstMinute(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        return replace(await self.inner.instant(query, START_S, budget_s), evaluated_at_s=at_s)


class ForgetsTheTime(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        return replace(await self.inner.instant(query, at_s, budget_s), evaluated_at_s=0.0)


class CallsNothingZero(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        vector = await self.inner.instant(query, at_s, budget_s)
        return vector if vector.labels else replace(vector, labels=({},), values=np.zeros(1))


class CallsNothingAnError(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        vector = await self.inner.instant(query, at_s, budget_s)
        if not vector.labels:
            raise TransientError("no data")
        return vector


class DropsLabels(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        vector = await self.inner.instant(query, at_s, budget_s)
        return replace(vector, labels=({},) * len(vector.labels))


class JudgesValues(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        vector = await self.inner.instant(query, at_s, budget_s)
        return replace(vector, values=np.nan_to_num(vector.values))


class MixesUpAnswers(Wrapped):
    last: Vector

    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        self.last = await self.inner.instant(query, at_s, budget_s)
        await asyncio.sleep(0.05)
        return self.last


class LeavesOutTheEnd(Wrapped):
    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        matrix = await self.inner.range(query, start_s, end_s, step_s, budget_s)
        return replace(matrix, at_s=matrix.at_s[:-1], values=matrix.values[:-1])


class FillsGaps(Wrapped):
    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        matrix = await self.inner.range(query, start_s, end_s, step_s, budget_s)
        return replace(matrix, values=np.where(np.isnan(matrix.values), 0.0, matrix.values))


class StopsAtElevenThousand(Wrapped):
    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        return await self.inner.range(query, max(start_s, end_s - 10_999 * step_s), end_s, step_s, budget_s)


class TakesAnyEndpoint(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        return await self.inner.instant(Query(query.text), at_s, budget_s)


class Swallows(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        try:
            return await self.inner.instant(query, at_s, budget_s)
        except TransientError:
            return Vector((), np.empty(0), at_s)


class CallsAllPermanent(Wrapped):
    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        try:
            return await self.inner.range(query, start_s, end_s, step_s, budget_s)
        except AutoscalerError as error:
            raise PermanentError(str(error)) from error


class ForgetsTheWish(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        try:
            return await self.inner.instant(query, at_s, budget_s)
        except TransientError as error:
            error.retry_after_s = None
            raise


class OverrunsItsBudget(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        return await self.inner.instant(query, at_s, budget_s + 1.1 * sources.SLACK_S)


class HidesItsCancellation(Wrapped):
    async def instant(self, query: Query, at_s: float, budget_s: float) -> Vector:
        try:
            return await self.inner.instant(query, at_s, budget_s)
        except asyncio.CancelledError:
            raise TransientError("cancelled") from None


class AnswersWhenClosed(Wrapped):
    async def close(self) -> None:
        return


BREACHES = [
    (AnswersForTheFirstMinute, sources.answers_at_the_time_that_is_asked_for),
    (ForgetsTheTime, sources.answers_at_the_time_that_is_asked_for),
    (ForgetsTheTime, sources.calls_nothing_nothing),
    (CallsNothingZero, sources.calls_nothing_nothing),
    (CallsNothingAnError, sources.calls_nothing_nothing),
    (DropsLabels, sources.keeps_series_apart),
    (JudgesValues, sources.judges_no_value),
    (MixesUpAnswers, sources.answers_many_at_once),
    (LeavesOutTheEnd, sources.gives_ranges_on_their_grid),
    (FillsGaps, sources.shows_gaps_as_gaps),
    (StopsAtElevenThousand, sources.splits_long_ranges),
    (TakesAnyEndpoint, sources.names_known_endpoints),
    (Swallows, sources.translates_faults),
    (CallsAllPermanent, sources.translates_faults),
    (ForgetsTheWish, sources.translates_faults),
    (OverrunsItsBudget, sources.translates_faults),
    (HidesItsCancellation, sources.lets_go_when_cancelled),
    (AnswersWhenClosed, sources.closes_for_good),
]


@pytest.fixture
async def harness() -> AsyncIterator[FaultHarness]:
    with FaultServer() as server:
        source = PrometheusSource({"default": Endpoint(server.url)}, MemoryRecorder())
        yield FaultHarness(source, server)
        await source.close()


@pytest.mark.parametrize(("breach", "check"), [pytest.param(*row, id=f"{row[0].__name__}-{row[1].__name__}") for row in BREACHES])
async def test_breach_is_found(harness: FaultHarness, breach: type[Wrapped], check: Check) -> None:
    harness.source = breach(harness.source)
    with pytest.raises((AssertionError, AutoscalerError)):
        await check(harness)


def test_every_check_is_in_the_contract() -> None:
    checks = {check for _, check in BREACHES}
    assert checks == set(sources.CONTRACT)
