"""Policies that are stepped over their past before they start: beside the ticks, once, and never at any tick's cost."""

import asyncio
import logging
from dataclasses import replace
from math import sin

import numpy as np
import pytest

from autoscaler import metrics
from autoscaler.core.columns import array_fields
from autoscaler.core.spec import Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import TargetKind
from autoscaler.core.warming import Walk, walked
from autoscaler.errors import AutoscalerError, PermanentError, TransientError
from autoscaler.loops.stepping import Answer, walked_apart
from autoscaler.loops.warm import BATCH, TRIES, WALK_S
from autoscaler.ports import Matrix
from policies.forecast import Forecast
from tests.core import build
from tests.core.test_warming import loads, walk
from tests.loops.restarts import world
from tests.loops.rig import INTERVAL_S, START_S, Rig, running, scaled

PAST_S = 4 * 3600.0


def forecast(name: str = "web", **changes: object) -> WorkloadSpec:
    return scaled(name, **{"policy": build.choice(Forecast()), "startup_s": 60.0, **changes})


def with_past(rig: Rig, *names: str, span_s: float = PAST_S) -> None:
    """Hours of a load that waves, up to just before the first tick."""
    ticks = int(span_s / INTERVAL_S)
    for name in names:
        for tick in range(ticks):
            at_s = START_S - (ticks - tick) * INTERVAL_S + 1.0
            rig.source.write("load", {"name": name}, at_s, 20.0 + 8.0 * sin(at_s / 900.0))


class Here:
    """Steps in this process; counts, and can be held."""

    def __init__(self) -> None:
        self.walks: list[Walk] = []
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, walk: Walk) -> Answer:
        self.walks.append(walk)
        await self.free.wait()
        return walked(walk)


def note(rig: Rig, name: str, text: str) -> float:
    group = rig.loop.find(build.workload(name))
    assert group is not None
    (place,) = group.roster.series(build.workload(name)).values()
    (proposal,) = group.records[-1].decision.proposals
    return float(proposal.notes[text][place.slot])


async def test_with_a_past_it_does_not_start_cold() -> None:
    here = Here()
    rig = Rig(walk=here)
    with_past(rig, "web")
    async with running([forecast()], 20, rig=rig):
        await rig.pass_ticks(1)
        assert note(rig, "web", "cold") == 1.0, "nobody has waited for it"
        await rig.pass_ticks(1)
        assert note(rig, "web", "cold") == 0.0
        assert note(rig, "web", "scored_s") >= 2 * 3600.0
        group = rig.loop.find(build.workload("web"))
        assert group is not None
        (handed,) = group.records[-1].warmed
        assert handed.at_s == group.records[-2].decision.at_s, "a replay needs what was handed in, as of the tick before"
    assert rig.recorder.value(metrics.WARM_UPS, "ok") == 1.0


async def test_without_one_it_does_and_is_not_asked_about_again() -> None:
    here = Here()
    rig = Rig(walk=here)
    async with running([forecast()], 20, rig=rig):
        await rig.pass_ticks(4)
        assert note(rig, "web", "cold") == 1.0
    assert here.walks == []
    assert rig.recorder.value(metrics.WARM_UPS, "unknown") == 1.0


async def test_one_that_comes_late_has_stepped_over_the_ticks_since() -> None:
    states = []
    for held_ticks in (0, 7):
        here = Here()
        rig = Rig(walk=here)
        with_past(rig, "web")
        async with running([forecast()], 20, rig=rig):
            here.free.clear()
            await rig.pass_ticks(1 + held_ticks)
            here.free.set()
            await rig.pass_ticks(8 - held_ticks)
            group = rig.loop.find(build.workload("web"))
            assert group is not None
            states.append((note(rig, "web", "cold"), note(rig, "web", "scored_s"), note(rig, "web", "spread")))
    assert states[0] == pytest.approx(states[1])
    assert states[0][0] == 0.0


async def test_many_are_stepped_in_batches_and_those_without_a_past_not_at_all() -> None:
    here = Here()
    rig = Rig(walk=here)
    series = {f"w{number}": f"w{number}" for number in range(BATCH + 5)}
    query = Query("load")
    specs = [replace(forecast(name), series=(SeriesSpec("requests", query, 1.0, match=(("name", name),)),)) for name in series]
    with_past(rig, *list(series)[:-2], span_s=600.0)
    async with running(specs, 20, rig=rig):
        await rig.pass_ticks(2)
    assert [each.demand.shape[1] for each in here.walks] == [BATCH, 3]
    assert rig.recorder.value(metrics.WARM_UPS, "ok") == BATCH + 3
    assert rig.recorder.value(metrics.WARM_UPS, "unknown") == 2.0


@pytest.mark.parametrize(
    ("error", "outcome", "asked"),
    [
        pytest.param(TransientError("it is away"), "failed", TRIES, id="away"),
        pytest.param(PermanentError("ranges are not allowed here"), "refused", 1, id="refused"),
    ],
)
async def test_a_past_that_is_not_to_be_had_is_given_up_and_told(
    error: AutoscalerError, outcome: str, asked: int, caplog: pytest.LogCaptureFixture
) -> None:
    here = Here()
    rig = Rig(walk=here)
    with_past(rig, "web")
    times: list[float] = []

    async def failing(query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:  # noqa: ARG001 - the port's
        if end_s - start_s > 2 * 3600.0:
            times.append(rig.clock.now())
        raise error

    rig.source.range = failing  # type: ignore[method-assign]
    async with running([forecast()], 20, rig=rig):
        with caplog.at_level(logging.WARNING, "autoscaler.loops.warm"):
            await rig.pass_ticks(70)
        assert note(rig, "web", "cold") == 1.0
    assert len(times) == asked
    assert rig.recorder.value(metrics.WARM_UPS, outcome) == 1.0
    assert [record.getMessage() for record in caplog.records] == [
        f"no past is to be had of 1 series, so their policies start cold: {error}"
    ]


async def test_a_walk_that_does_not_end_is_given_up_and_the_rest_goes_on() -> None:
    here = Here()
    here.free.clear()
    rig = Rig(walk=here)
    with_past(rig, "web")
    async with running([forecast()], 20, rig=rig):
        await rig.pass_ticks(int(WALK_S / INTERVAL_S) + 6)
        assert note(rig, "web", "cold") == 1.0
        here.free.set()
        await rig.pass_ticks(2)
        assert note(rig, "web", "cold") == 0.0
    assert len(here.walks) == 2


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"policy": build.choice()}, id="a-policy-that-asks-for-none"),
        pytest.param({"series": (SeriesSpec("requests", Query('load{name="web"}'), 1.0, TargetKind.VALUE),)}, id="a-target-without-a-past"),
    ],
)
async def test_nobody_else_is_asked_about(changes: dict[str, object]) -> None:
    here = Here()
    rig = Rig(walk=here)
    with_past(rig, "web")
    async with running([forecast("web", **changes)], 20, rig=rig):
        await rig.pass_ticks(3)
    assert here.walks == []


async def test_who_was_saved_is_not_warmed_up_and_who_was_made_anew_has_no_past() -> None:
    here = Here()
    async with world(forecast()) as made:
        made.walk = here
        await made.pass_ticks(30, web=12.0)
        await made.restart()
        await made.pass_ticks(3, web=12.0)
        assert len(here.walks) <= 1, "but for the one before the first tick"
        made.cluster.delete(build.workload("web"))
        await made.pass_ticks(1, web=12.0)
        made.cluster.create(build.workload("web"), 12)
        before = len(here.walks)
        await made.pass_ticks(3, web=12.0)
        assert len(here.walks) == before


async def test_the_process_beside_gives_what_this_one_would() -> None:
    task = walk(loads(300, 3), Forecast(), 120)
    (there, fault), (here, _) = await walked_apart(task), walked(task)
    assert fault == ""
    for name, array in array_fields(here).items():
        np.testing.assert_array_equal(array_fields(there)[name], array, name)


async def test_a_process_that_fails_is_an_error_and_leaves_nothing_behind() -> None:
    with pytest.raises(TransientError, match="ended with 1"):
        await walked_apart(replace(walk(loads(30, 1), Forecast(), 2), params=Unreadable()))


class Unreadable:
    """Can be written, and not be read back."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)
