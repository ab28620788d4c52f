"""The adapters in memory keep the contracts that the real ones keep, on a clock that only tests move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest

from autoscaler.adapters.memory import ENDPOINT, LOOKBACK_S, MemoryCluster, MemorySource, labels_of, scrape
from autoscaler.clock import ManualClock
from autoscaler.core.plant import Plant
from autoscaler.core.spec import Query
from autoscaler.core.types import Target, Workload
from autoscaler.errors import AnswerError, PermanentError, StaleViewError, TransientError
from autoscaler.simulation.live import Stage, rehearsed
from autoscaler.simulation.world import Measure, Setup
from autoscaler.testing import cluster as cluster_contract
from autoscaler.testing import sources as source_contract

WEB = Workload("shop", "web")
PLANT = Plant(step_s=5.0, startup_s=20.0)


class ClusterHarness:
    """A cluster on a manual clock."""

    kinds: Sequence[tuple[str, str]] = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("example.com/v1", "Worker"))
    namespace = "shop"

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cluster = MemoryCluster(self.clock, PLANT)

    async def create(self, workload: Workload, replicas: int) -> None:
        self.cluster.create(workload, replicas)

    async def delete(self, workload: Workload) -> None:
        self.cluster.delete(workload)

    async def set_replicas(self, workload: Workload, replicas: int) -> None:
        self.cluster.set_replicas(workload, replicas)

    async def make_ready(self, workload: Workload) -> None:
        await self.clock.advance(60.0)
        assert self.cluster.ready(workload) == self.cluster.replicas(workload)

    async def replicas(self, workload: Workload) -> int:
        return self.cluster.replicas(workload)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(100):
            if condition():
                return
            await self.clock.advance(PLANT.step_s)
        raise TimeoutError


@asynccontextmanager
async def running(cluster: MemoryCluster) -> AsyncIterator[None]:
    task = asyncio.create_task(cluster.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in cluster_contract.CONTRACT])
async def test_cluster_contract(check: cluster_contract.Check) -> None:
    harness = ClusterHarness()
    async with running(harness.cluster):
        await check(harness)


class SourceHarness:
    """A source that can be broken in every way."""

    faults = tuple(source_contract.Fault)

    def __init__(self) -> None:
        self._clock = ManualClock(source_contract.START_S)
        self._fault: source_contract.Fault | None = None
        self.source = MemorySource(self._clock, self._before)

    def query(self, name: str) -> Query:
        return Query(name)

    async def given(self, *series: source_contract.Series) -> None:
        for one in series:
            for row, value in enumerate(one.values):
                if value is not None:
                    self.source.write(one.name, dict(one.labels), one.start_s + row * one.step_s, value)

    async def break_as(self, fault: source_contract.Fault) -> None:
        self._fault = fault

    async def mend(self) -> None:
        self._fault = None

    async def _before(self, query: Query) -> None:
        match self._fault:
            case source_contract.Fault.UNREACHABLE:
                raise TransientError(f"{query.text}: nobody there")
            case source_contract.Fault.SILENT:
                await asyncio.get_running_loop().create_future()
            case source_contract.Fault.OVERLOADED:
                raise TransientError("come back later", retry_after_s=source_contract.RETRY_AFTER_S)
            case source_contract.Fault.NOT_A_VECTOR:
                raise AnswerError(f"{query.text}: a scalar, expected a vector")
            case source_contract.Fault.REFUSED:
                raise PermanentError(f"{query.text}: parse error at 1:5")
            case None:
                return


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in source_contract.CONTRACT])
async def test_source_contract(check: source_contract.Check) -> None:
    harness = SourceHarness()
    await check(harness)
    await harness.source.close()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("load", [1.0, 2.0, 3.0], id="all"),
        pytest.param('load{name="web"}', [1.0, 2.0], id="one-label"),
        pytest.param(' load { name = "web" , namespace="shop", } ', [1.0], id="two-labels-and-blanks"),
        pytest.param('load{name="nobody"}', [], id="no-such-label"),
        pytest.param("load{}", [1.0, 2.0, 3.0], id="no-labels"),
    ],
)
async def test_selectors_pick_by_label(text: str, values: list[float]) -> None:
    source = MemorySource(ManualClock())
    for value, (namespace, name) in enumerate([("shop", "web"), ("blog", "web"), ("shop", "db")], start=1):
        source.write("load", {"namespace": namespace, "name": name}, 0.0, value)
    assert (await source.instant(Query(text), 0.0, 1.0)).values.tolist() == values


@pytest.mark.parametrize("text", ["sum(load)", "rate(load[1m])", 'load{name=~"w.*"}', "load{name=web}", "", 'load("shop","web")'])
async def test_what_is_no_selector_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(PermanentError, match=r'expected NAME or NAME\{label="value", …\}'):
        await MemorySource(ManualClock()).instant(Query(text), 0.0, 1.0)


async def test_samples_come_in_order_and_are_shown_for_a_while() -> None:
    source = MemorySource(ManualClock(7.0))
    source.write("load", {}, 0.0, 5.0)
    with pytest.raises(ValueError, match="expected a sample after 0 s"):
        source.write("load", {}, 0.0, 6.0)
    shown = [(await source.instant(Query("load"), at_s, 1.0)).values.size for at_s in (-1.0, 0.0, LOOKBACK_S - 1, LOOKBACK_S)]
    assert shown == [0, 1, 1, 0]
    assert (await source.instant(Query("load"), 0.0, 1.0)).source_now_s == 7.0
    assert Query("load").endpoint == ENDPOINT


def stage_of(clock: ManualClock, kinds: Sequence[str] = ("Deployment",), measure: Measure = Measure.SERVED) -> Stage:
    workloads = [Workload("shop", f"web-{k}", kind) for k, kind in enumerate(kinds)]
    rate = np.full((240, len(kinds)), 600.0)  # ten pods at 60 %
    return Stage(workloads, Setup(PLANT, measure), rate, clock.now(), seed=1)


async def test_pods_take_time_to_start_and_are_gone_at_once() -> None:
    clock = ManualClock()
    cluster = MemoryCluster(clock)
    stage = stage_of(clock)
    cluster.host(stage)
    (web,) = stage.workloads
    cluster.follow([web])
    async with running(cluster):
        await clock.settle()
        assert (cluster.facts(web).replicas, cluster.facts(web).ready) == (10, 10)
        await cluster.scale(web, cluster.facts(web), 12)
        ready = []
        for _ in range(6):
            await clock.advance(PLANT.step_s)
            ready.append(cluster.facts(web).ready)
        assert ready == [10, 10, 10, 12, 12, 12]
        assert cluster.facts(web).status_replicas == 12
        await cluster.scale(web, cluster.facts(web), 3)
        await clock.advance(PLANT.step_s)
        assert (cluster.facts(web).ready, cluster.facts(web).status_replicas) == (3, 3)


async def test_metrics_follow_the_load() -> None:
    clock = ManualClock()
    cluster, source = MemoryCluster(clock), MemorySource(clock)
    stage = stage_of(clock, ("Deployment", "StatefulSet"))
    cluster.host(stage, scrape(stage, source))
    async with running(cluster):
        await clock.advance(300.0)
    load = await source.instant(Query("load"), clock.now(), 1.0)
    assert [dict(labels) for labels in load.labels] == [labels_of(workload) for workload in stage.workloads]
    assert load.values == pytest.approx([600.0, 600.0], rel=0.05)
    past = await source.range(Query("ready"), clock.now() - 60.0, clock.now(), 15.0, 1.0)
    assert past.values.tolist() == [[10.0, 10.0]] * 5


async def test_a_past_can_be_rehearsed() -> None:
    clock = ManualClock()
    cluster, source = MemoryCluster(clock), MemorySource(clock)
    stage = Stage([WEB], Setup(PLANT), np.full((240, 1), 600.0), clock.now() - 3600.0)
    report = scrape(stage, source)
    for reading in rehearsed(stage, clock.now(), 0.6):
        report(reading)
    cluster.host(stage, report)
    assert cluster.replicas(WEB) in range(9, 13)
    past = await source.range(Query('load{name="web"}'), clock.now() - 3000.0, clock.now(), 15.0, 1.0)
    assert past.values.mean() == pytest.approx(600.0, rel=0.02)
    assert not np.isnan(past.values).any()


async def test_a_deleted_target_serves_nobody_until_it_is_back() -> None:
    clock = ManualClock()
    cluster, source = MemoryCluster(clock), MemorySource(clock)
    stage = stage_of(clock)
    (web,) = stage.workloads
    cluster.host(stage, scrape(stage, source))
    cluster.follow([web])
    async with running(cluster):
        await clock.advance(120.0)
        cluster.delete(web)
        await clock.advance(120.0)
        assert cluster.facts(web).state is Target.NOT_FOUND
        served = await source.instant(Query("load"), clock.now(), 1.0)
        assert served.values.tolist() == [0.0]
        cluster.create(web, 10)
        await clock.advance(180.0)
        assert (cluster.facts(web).state, cluster.facts(web).ready) == (Target.OK, 10)
        served = await source.instant(Query("load"), clock.now(), 1.0)
        assert served.values == pytest.approx([600.0], rel=0.1)
    with pytest.raises(ValueError, match="exists already"):
        cluster.create(web, 1)


async def test_writes_can_be_made_to_fail() -> None:
    async def refuse(workload: Workload, replicas: int) -> None:
        raise PermanentError(f"{workload}: {replicas} replicas: forbidden")

    cluster = MemoryCluster(ManualClock(), before=refuse)
    cluster.create(WEB, 2)
    cluster.follow([WEB])
    with pytest.raises(PermanentError, match="forbidden"):
        await cluster.scale(WEB, cluster.facts(WEB), 3)
    cluster.before = None
    await cluster.scale(WEB, cluster.facts(WEB), 3)
    with pytest.raises(StaleViewError, match="has 3 replicas, not 2"):
        await cluster.scale(WEB, replace(cluster.facts(WEB), replicas=2.0), 4)
