"""What an observation makes of the source's answers beside the load itself: who reports, and what time it is there."""

import asyncio
from dataclasses import replace
from math import nan
from typing import Any

import pytest

from autoscaler.core.spec import Coverage, Query, WorkloadSpec
from autoscaler.errors import PermanentError, TransientError
from autoscaler.loops import observe
from autoscaler.ports import Vector
from tests.loops.rig import INTERVAL_S, Rig, running, scaled

GIVEN = Coverage(Query('reporting{name="web"}'), is_given=True)
DEFAULT = Coverage(Query("reporting"), (("name", "web"),))


def covered(coverage: Coverage, **changes: Any) -> WorkloadSpec:  # noqa: ANN401 - fields of WorkloadSpec
    return scaled("web", coverage=coverage, **changes)


async def play(rig: Rig, load: float, reporting: float | None, ticks: int = 1) -> dict[str, Any]:
    """Ticks with that load, of which so many pods report."""
    rig.loads["web"] = load
    for _ in range(ticks):
        if reporting is not None:
            rig.source.write("reporting", {"name": "web"}, rig.clock.now(), reporting)
        await rig.pass_ticks()
    row = rig.row("web")
    decision: dict[str, Any] = row["decisions"][0]
    return decision


@pytest.mark.parametrize("coverage", [pytest.param(GIVEN, id="given"), pytest.param(DEFAULT, id="default")])
async def test_half_of_the_pods_lost_is_not_half_the_load(coverage: Coverage) -> None:
    async with running([covered(coverage)], 10) as rig:
        assert (await play(rig, 10.0, 10.0, 2))["coverage"] == 1.0
        lost = await play(rig, 5.0, 5.0)
        assert (lost["coverage"], lost["reason"], rig.replicas("web")) == (0.5, "PARTIAL_DATA", 10)
        assert "50% of the ready pods report" in lost["why"]
        assert (await play(rig, 12.0, 5.0))["reason"] == "NONE", "upwards it may go"
        assert rig.replicas("web") == 12
        assert (await play(rig, 9.0, 12.0))["desired"] == 9.0


async def test_the_default_is_off_until_it_has_known_a_pod_and_says_so() -> None:
    async with running([covered(DEFAULT)], 10) as rig:
        seen = await play(rig, 5.0, None)
        assert (seen["reason"], rig.replicas("web")) == ("NONE", 5)
        assert seen["coverage_detail"] == "coverage is off: `up` has never known a pod of this workload"
        assert (await play(rig, 5.0, 5.0))["coverage"] == 1.0
        await rig.clock.advance(20 * INTERVAL_S)  # the sample is too old to be seen
        gone = await play(rig, 3.0, None)
        assert (gone["coverage"], gone["reason"]) == (0.0, "PARTIAL_DATA"), "once known, none is none"


async def test_no_answer_about_coverage_holds_only_who_asked_for_it() -> None:
    async def fail(query: Query) -> None:
        if "reporting" in query.text:
            raise TransientError("503")

    for coverage, reason, replicas in ((GIVEN, "PARTIAL_DATA", 10), (DEFAULT, "NONE", 5)):
        async with running([covered(coverage)], 10) as rig:
            rig.source.before = fail
            seen = await play(rig, 5.0, 10.0, 2)
            assert (seen["reason"], rig.replicas("web")) == (reason, replicas)
            assert "how many pods report is not known: the source cannot be reached: 503" in seen["coverage_detail"]


async def test_a_refused_default_is_not_asked_at_every_tick() -> None:
    asked = []

    async def refuse(query: Query) -> None:
        if "reporting" in query.text:
            asked.append(query)
            raise PermanentError("not allowed")

    async with running([covered(DEFAULT)]) as rig:
        rig.source.before = refuse
        await play(rig, 2.0, None, int(observe.REFUSED_REST_S / INTERVAL_S) + 2)
        assert len(asked) == 2


async def test_a_source_whose_clock_is_not_ours_holds_and_goes_on_when_they_agree() -> None:
    async with running([scaled("web"), scaled("api")], 4) as rig:
        instant = rig.source.instant
        off_s = 0.0

        async def askew(query: Query, at_s: float, budget_s: float) -> Vector:
            vector = await instant(query, at_s, budget_s)
            return replace(vector, source_now_s=vector.source_now_s + off_s) if "web" in query.text else vector

        rig.source.instant = askew  # type: ignore[method-assign]
        rig.loads.update(web=4.0, api=4.0)
        await rig.pass_ticks()
        for off_s in (observe.SKEW_MAX_S + 1, -observe.SKEW_MAX_S - 1):
            rig.loads.update(web=9.0, api=rig.loads["api"] + 1)
            await rig.pass_ticks()
            row = rig.row("web")
            assert (rig.replicas("web"), row["reason"], row["series"][0]["signal"]) == (4, "CLOCK_STEP", "CLOCK")
            assert f"it is {off_s:+.0f} s off" in str(row["why"])
        assert rig.replicas("api") == 6, "whose source is right goes on"
        off_s = observe.SKEW_MAX_S - 1
        await rig.pass_ticks()
        assert rig.replicas("web") == 9


async def test_an_answer_that_came_too_late_says_how_old_it_is() -> None:
    release = asyncio.Event()
    async with running([scaled("web")], 4) as rig:

        async def wait(_: Query) -> None:
            await release.wait()

        rig.source.before = wait
        await rig.pass_ticks(2)
        await rig.clock.advance(2 * INTERVAL_S - 2.0)
        release.set()
        await rig.clock.settle()
        release.clear()
        await rig.clock.advance(INTERVAL_S)
        series = rig.row("web")["series"][0]
        assert (series["signal"], series["detail"]) == ("STALE", "the newest answer is too old: it is about 45 s ago")


@pytest.mark.parametrize(
    ("full", "replicas", "reason"),
    [
        pytest.param(1.0, 6, "SATURATED", id="at-the-limit"),
        pytest.param(0.0, 4, "NONE", id="not-at-the-limit"),
        pytest.param(nan, 4, "NONE", id="not-known"),
        pytest.param(None, 4, "NONE", id="no-series"),
    ],
)
async def test_a_saturated_load_asks_for_more_than_it_shows(full: float | None, replicas: int, reason: str) -> None:
    series = replace(scaled("web").series[0], saturation=Query("full"))
    async with running([scaled("web", series=(series,), startup_s=600.0)], 4) as rig:
        if full is not None:
            rig.source.write("full", {}, rig.clock.now(), full)
        decision = await play(rig, 4.0, None)
        assert (rig.replicas("web"), decision["reason"], decision["series"][0]["saturated"]) == (replicas, reason, full == 1.0)
        assert (await play(rig, 4.0, None))["desired"] == replicas, "once per start-up time"
