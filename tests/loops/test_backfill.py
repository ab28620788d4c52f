"""The past that a group has not seen itself: asked for beside the ticks, and put in at the next one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autoscaler import metrics
from autoscaler.core.spec import Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import TargetKind
from autoscaler.errors import PermanentError, TransientError
from autoscaler.loops import backfill
from autoscaler.loops.backfill import Backfill
from autoscaler.loops.group import Surroundings
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.ports import Matrix
from policies.moving_average import MovingAverage
from tests.core import build
from tests.loops.rig import INTERVAL_S, Rig, running, scaled

ROWS = 8
LOADS = [4.0, 4.0, 6.0, 9.0, 8.0, 8.0, 7.0, 3.0, 3.0, 5.0, 8.0, 9.0, 9.0, 7.0, 6.0, 2.0, 2.0, 3.0, 4.0, 6.0]


def averaged(name: str, **changes: Any) -> WorkloadSpec:  # noqa: ANN401 - fields of WorkloadSpec
    """A workload that follows the mean of its last ROWS ticks."""
    return scaled(name, **{"policy": build.choice(MovingAverage(), window_s=ROWS * INTERVAL_S, panic_threshold=50.0), **changes})


class Ranges:
    """Stands between the loop and the rig's source: counts the ranges, and holds or fails them."""

    def __init__(self, rig: Rig) -> None:
        self._range = rig.source.range
        self.asked: list[tuple[str, float, float]] = []
        self.error: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()
        rig.source.range = self.range  # type: ignore[method-assign]

    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        self.asked.append((query.text, start_s, end_s))
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return await self._range(query, start_s, end_s, step_s, budget_s)


async def restart(rig: Rig, specs: Sequence[WorkloadSpec]) -> None:
    """End the loop and begin another one, which remembers nothing."""
    await rig.loop.close(0.0)
    rig.loop = ScalingLoop(Surroundings(rig.source, rig.cluster, rig.clock, rig.recorder, asyncio.Semaphore(2)))
    rig.loop.update(specs)
    begun.append(asyncio.create_task(rig.loop.run()))


begun: list[asyncio.Task[None]] = []


@asynccontextmanager
async def restartable(specs: Sequence[WorkloadSpec], replicas: int = 4) -> AsyncIterator[Rig]:
    async with running(specs, replicas) as rig:
        try:
            yield rig
        finally:
            await rig.loop.close(0.0)
            while begun:
                task = begun.pop()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def proposals(rig: Rig, name: str) -> list[tuple[float, float, float]]:
    """Time, proposal and decision of each tick that is kept, oldest first."""
    record = rig.loop.find(build.workload(name))
    assert record is not None
    slot = record.roster.slot(build.workload(name))
    return [
        (each.decision.at_s, float(each.decision.combined.replicas[slot]), float(each.decision.replicas[slot])) for each in record.records
    ]


async def play(rig: Rig, loads: Sequence[float], name: str = "web") -> None:
    """Each load is measured just after a tick and seen by the next one, so that a range shows at each tick what that tick saw."""
    for load in loads:
        await rig.clock.advance(1.0)
        rig.loads[name] = load
        for each, value in rig.loads.items():
            rig.source.write("load", {"name": each}, rig.clock.now(), value)
        await rig.clock.advance(INTERVAL_S - 1.0)


async def test_the_first_decisions_after_a_restart_are_those_of_an_uninterrupted_run() -> None:
    specs = [averaged("web")]
    async with running(specs, 4) as rig:
        await play(rig, LOADS)
        whole = proposals(rig, "web")
    async with restartable(specs) as rig:
        await play(rig, LOADS[:12])
        await restart(rig, specs)
        await rig.clock.settle()
        await play(rig, LOADS[12:])
        assert proposals(rig, "web") == whole[12:]


async def test_without_a_past_the_same_run_proposes_nothing_at_first() -> None:
    specs = [averaged("web")]
    async with restartable(specs) as rig:
        await play(rig, LOADS[:12])
        Ranges(rig).error = PermanentError("ranges are not allowed here")
        await restart(rig, specs)
        await play(rig, LOADS[12:])
        assert np.isnan([proposal for _, proposal, _ in proposals(rig, "web")[: ROWS // 2 - 1]]).all()
        assert rig.recorder.value(metrics.BACKFILLS, "refused") == 1.0, "what is refused is not asked again"


async def test_a_range_that_hangs_delays_no_tick_and_ends_with_the_loop() -> None:
    specs = [averaged("web"), scaled("api")]
    async with restartable(specs) as rig:
        await play(rig, LOADS[:4])
        ranges = Ranges(rig)
        ranges.free.clear()
        await restart(rig, specs)
        rig.loads["api"] = 9.0
        await play(rig, LOADS[4:8])
        assert rig.replicas("api") == 9
        assert len(proposals(rig, "web")) == 4
        assert len(ranges.asked) == 1, "and it is not asked twice"


async def test_a_past_that_comes_late_serves_from_the_next_tick_on() -> None:
    specs = [averaged("web")]
    async with restartable(specs) as rig:
        await play(rig, LOADS[:12])
        ranges = Ranges(rig)
        ranges.free.clear()
        await restart(rig, specs)
        await play(rig, LOADS[12:14])
        assert np.isnan(proposals(rig, "web")[-1][1])
        ranges.free.set()
        await play(rig, LOADS[14:15])
        assert proposals(rig, "web")[-1][1] == pytest.approx(np.mean(LOADS[15 - ROWS : 15]))
        record = rig.loop.groups[INTERVAL_S].records[-1]
        assert [past.demand.shape for past in record.past] == [(ROWS, 1)], "what was filled in belongs to the tick that saw it first"


async def test_an_outage_is_filled_up_once_it_is_over() -> None:
    async with running([averaged("web")], 4) as rig:
        await play(rig, LOADS[:9])
        ranges = Ranges(rig)

        async def down(_: Query) -> None:
            raise TransientError("connection refused")

        rig.source.before = down
        await play(rig, LOADS[9:12])
        rig.source.before = None
        await play(rig, LOADS[12:14])
        start_s = rig.row("web")["decisions"][0]["at_s"] - 4 * INTERVAL_S
        assert ranges.asked == [('load{name="web"}', start_s, start_s + 2 * INTERVAL_S)], "no more than what is missing"
        assert proposals(rig, "web")[-1][1] == pytest.approx(np.mean(LOADS[14 - ROWS : 14]))


async def test_a_range_that_fails_is_asked_again_less_and_less_often() -> None:
    specs = [averaged("web", policy=build.choice(MovingAverage(), window_s=200 * INTERVAL_S))]
    async with restartable(specs) as rig:
        await play(rig, LOADS[:2])
        ranges = Ranges(rig)
        ranges.error = TransientError("503")
        await restart(rig, specs)
        await play(rig, [5.0] * 40)
        assert len(ranges.asked) == 5, "after 2, 4, 8 and 16 ticks"
        ranges.error = None
        await play(rig, [5.0] * 40)
        assert len(ranges.asked) == 6
        assert rig.recorder.value(metrics.BACKFILLS, "failed") == 5.0


async def test_nothing_is_asked_for_who_does_not_look_back() -> None:
    async with running([scaled("web")]) as rig:
        ranges = Ranges(rig)
        await play(rig, LOADS[:3])
        assert ranges.asked == []


async def test_one_range_serves_all_workloads_of_a_query_and_newcomers_wait_their_turn() -> None:
    def member(number: int) -> WorkloadSpec:
        series = SeriesSpec("requests", Query("load"), 1.0, match=(("name", f"w{number}"),))
        return averaged(f"w{number}", series=(series,))

    async with running([], 4) as rig:
        ranges = Ranges(rig)
        for number in range(60):
            rig.cluster.create(build.workload(f"w{number}"), 4)
            rig.loads[f"w{number}"] = float(number)
        await rig.pass_ticks(ROWS)
        rig.loop.update([member(number) for number in range(50)])
        await rig.pass_ticks(2)
        assert len(ranges.asked) == 1
        assert proposals(rig, "w30")[0][1] == 30.0
        for number in range(50, 60):
            rig.loop.update([member(each) for each in range(number + 1)])
            await rig.pass_ticks(1)
        assert len(ranges.asked) == 1
        await rig.pass_ticks(int(backfill.WHOLE_EVERY_S / INTERVAL_S))
        assert len(ranges.asked) == 2, "one for all ten"


async def test_another_object_under_a_known_name_has_no_past() -> None:
    async with running([averaged("web")], 4) as rig:
        await play(rig, [8.0] * ROWS)
        ranges = Ranges(rig)
        rig.cluster.delete(build.workload("web"))
        rig.cluster.create(build.workload("web"), 4)
        await play(rig, [8.0] * 3)
        assert ranges.asked == []
        assert np.isnan(proposals(rig, "web")[-1][1]), "8 was the load of another one"


async def test_after_a_step_of_the_clock_the_past_is_asked_for_anew() -> None:
    async with running([averaged("web")], 4) as rig:
        await play(rig, LOADS[:ROWS])
        ranges = Ranges(rig)
        rig.clock.step(3600.0)
        rig.loads.clear()
        await rig.clock.advance(3 * INTERVAL_S)
        assert [(end_s - start_s) / INTERVAL_S for _, start_s, end_s in ranges.asked] == [ROWS - 1]
        assert ranges.asked[0][2] > rig.clock.now() - 4 * INTERVAL_S


async def test_a_target_that_relates_to_pods_has_no_past() -> None:
    series = SeriesSpec("busy", Query('load{name="web"}'), 1.0, TargetKind.VALUE)
    async with running([averaged("web", series=(series,))], 4) as rig:
        ranges = Ranges(rig)
        await play(rig, [1.0] * 3)
        assert ranges.asked == []


async def test_series_that_are_missing_or_ambiguous_in_a_range_have_none() -> None:
    rig = Rig()
    web = averaged("web", series=(replace(scaled("web").series[0], query=Query("load"), match=(("name", "web"),)),))
    lost = averaged("lost", series=(replace(web.series[0], match=(("name", "lost"),)),))
    group = build.Rig(web, lost).roster
    for at_s in (rig.clock.now() - 2 * INTERVAL_S, rig.clock.now() - INTERVAL_S):
        rig.source.write("load", {"name": "web"}, at_s, 5.0)
        rig.source.write("load", {"name": "twice", "pod": "a"}, at_s, 5.0)
        rig.source.write("load", {"name": "twice", "pod": "b"}, at_s, 5.0)
    past = Backfill(rig.source, rig.clock, rig.recorder, INTERVAL_S)
    past.wire(group)
    task = asyncio.create_task(past.run())
    await rig.clock.settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (found,) = past.take(group.spec)
    (place,) = group.series(web.workload).values()
    assert found.slots.tolist() == [place.slot]
    assert np.nan_to_num(found.demand[:, 0], nan=-1).tolist() == [-1] * (ROWS - 3) + [5, 5, 5]
    assert past.take(group.spec) == ()
