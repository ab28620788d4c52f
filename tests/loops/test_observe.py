"""What an observation makes of the source's answers beside the load itself: who reports, and what time it is there."""

import asyncio
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from autoscaler.core.policy import NoState, Proposal, Traits, View
from autoscaler.core.spec import Coverage, Objective, Query, WorkloadSpec
from autoscaler.errors import PermanentError, TransientError
from autoscaler.loops import observe
from autoscaler.ports import Vector
from tests.core import build
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


class Watchful(build.Proportional):
    """Demand, with what the view has of the objective as notes."""

    traits = Traits(objective=True)

    def __call__(self, view: View, params: build.ProportionalParams, state: NoState) -> tuple[NoState, Proposal]:
        state, proposal = super().__call__(view, params, state)
        columns = {"late": view.late, "total": view.total}
        return state, replace(proposal, notes={name: column for name, column in columns.items() if column is not None})


WEB = (("name", "web"),)
ONE = Objective(Query("late"), Query("all"))
EACH = Objective(Query("late"), Query("all"), WEB, WEB)


def watched(name: str = "web", objective: Objective | None = ONE, **changes: Any) -> WorkloadSpec:  # noqa: ANN401 - fields of WorkloadSpec
    return scaled(name, objective=objective, policy=build.choice(Watchful()), **changes)


async def waited(rig: Rig, load: float, ticks: int = 1) -> dict[str, Any]:
    """Ticks with that load, and the moment that the last one waits for what is only advice."""
    rig.loads["web"] = load
    await rig.pass_ticks(ticks)
    await rig.clock.advance(2 * observe.LATE_WAIT_S)
    decision: dict[str, Any] = rig.row("web")["decisions"][0]
    return decision


def rates(decision: dict[str, Any], series: int = 0) -> tuple[float, float]:
    """Late requests and all of them as the policy saw them; they are what is shown, too."""
    shown, seen = decision["series"][series], decision["series"][series]["notes"]
    assert (shown["late"], shown["total"]) == pytest.approx((seen["late"], seen["total"]), nan_ok=True)
    return seen["late"], seen["total"]


@pytest.mark.parametrize(
    ("late", "total", "seen", "detail"),
    [
        pytest.param([3.0], [40.0], (3.0, 40.0), "", id="both-known"),
        pytest.param([0.0], [40.0], (0.0, 40.0), "", id="none-late"),
        pytest.param([], [40.0], (nan, 40.0), "the query returned no series; write `or vector(0)` where that means none", id="no-bucket"),
        pytest.param([-4e-9], [40.0], (0.0, 40.0), "", id="rounding-is-none-late"),
        pytest.param([-1e-6], [40.0], (nan, 40.0), "late requests is not known: the value is negative", id="late-negative"),
        pytest.param([nan], [40.0], (nan, 40.0), "late requests is not known: the value is NaN", id="late-nan"),
        pytest.param([inf], [40.0], (nan, 40.0), "late requests is not known: the value is infinite", id="late-infinite"),
        pytest.param([1.0, 2.0], [40.0], (nan, 40.0), "late requests is not known: the query returned several series", id="late-several"),
        pytest.param([3.0], [], (3.0, nan), "all requests is not known: the query returned no series", id="total-empty"),
        pytest.param([], [], (nan, nan), "all requests is not known: the query returned no series", id="both-empty"),
        pytest.param([], [nan], (nan, nan), "all requests is not known: the value is NaN", id="no-bucket-beside-nan"),
        pytest.param([3.0], [-1.0], (3.0, nan), "all requests is not known: the value is negative", id="total-negative"),
        pytest.param([3.0], [1.0, 2.0], (3.0, nan), "all requests is not known: the query returned several series", id="total-several"),
    ],
)
async def test_an_objective_becomes_columns_and_an_unknown_is_no_zero(
    late: list[float], total: list[float], seen: tuple[float, float], detail: str
) -> None:
    async with running([watched()], 4) as rig:
        for name, values in (("late", late), ("all", total)):
            for number, value in enumerate(values):
                rig.source.write(name, {"pod": str(number)}, rig.clock.now(), value)
        decision = await play(rig, 5.0, None)
        assert rates(decision) == pytest.approx(seen, nan_ok=True)
        assert detail in decision["objective_detail"]
        assert bool(detail) == bool(decision["objective_detail"])
        assert (rig.replicas("web"), decision["reason"]) == (5, "NONE"), "it is advice"


async def test_each_series_has_the_rates_of_its_own_workload() -> None:
    first = scaled("web").series[0]
    web = watched(objective=EACH, series=(first, replace(first, name="again")))
    async with running([watched("api", None), web, scaled("other", objective=ONE)], 4) as rig:
        for name, late in (("web", 3.0), ("api", 7.0)):
            rig.source.write("late", {"name": name}, rig.clock.now(), late)
            rig.source.write("all", {"name": name}, rig.clock.now(), 40.0)
        decision = await play(rig, 4.0, None)
        assert [rates(decision, series) for series in (0, 1)] == [(3.0, 40.0)] * 2
        api = rig.row("api")["decisions"][0]
        assert rates(api) == pytest.approx((nan, nan), nan_ok=True)
        assert api["objective_detail"] == "", "who has none is told nothing"
        assert rig.row("other")["decisions"][0]["series"][0]["late"] == pytest.approx(nan, nan_ok=True), "its policy does not read it"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(TransientError("503"), "the rate of all requests is not known: the source cannot be reached: 503", id="away"),
        pytest.param(
            PermanentError("not allowed"), "the rate of all requests is not known: the source refused the query: not allowed", id="refused"
        ),
        pytest.param(None, "the rate of all requests is not known: no answer before the observation closed", id="silent"),
    ],
)
async def test_without_an_answer_about_its_objective_a_workload_is_scaled_all_the_same(error: Exception | None, words: str) -> None:
    async def fail(query: Query) -> None:
        if query.text in {"late", "all"}:
            if error is None:
                await asyncio.Event().wait()
            else:
                raise error

    async with running([watched()], 4) as rig:
        rig.source.before = fail
        for load in (5.0, 6.0, 3.0):
            decision = await waited(rig, load)
            assert (rig.replicas("web"), decision["reason"], "not known" in decision["why"]) == (load, "NONE", False)
            assert rates(decision) == pytest.approx((nan, nan), nan_ok=True)
            assert words in decision["objective_detail"]


async def test_a_refused_objective_is_not_asked_at_every_tick() -> None:
    asked = []

    async def refuse(query: Query) -> None:
        if query.text == "late":
            asked.append(query)
            raise PermanentError("not allowed")

    async with running([watched()]) as rig:
        rig.source.before = refuse
        await play(rig, 2.0, None, int(observe.REFUSED_REST_S / INTERVAL_S) + 2)
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("ticks", "seen"),
    [pytest.param(1, (3.0, 40.0), id="serves-the-next-tick"), pytest.param(3, (nan, 40.0), id="is-stale")],
)
async def test_an_answer_about_late_requests_that_takes_long(ticks: int, seen: tuple[float, float]) -> None:
    release = asyncio.Event()

    async def wait(query: Query) -> None:
        if query.text == "late":
            await release.wait()

    async with running([watched()], 4) as rig:
        rig.source.before = wait
        rig.source.write("late", {}, rig.clock.now(), 3.0)
        rig.source.write("all", {}, rig.clock.now(), 40.0)
        assert rates(await waited(rig, 5.0, ticks)) == pytest.approx((nan, 40.0), nan_ok=True)
        release.set()
        await rig.clock.settle()
        release.clear()
        decision = await waited(rig, 6.0)
        assert rates(decision) == pytest.approx(seen, nan_ok=True)
        assert rig.replicas("web") == 6


async def test_another_objective_is_asked_for_and_the_series_keep_their_past() -> None:
    async with running([watched(objective=None)], 4) as rig:
        for name, value in (("late", 1.0), ("all", 10.0), ("slow", 2.0)):
            rig.source.write(name, {}, rig.clock.now(), value)
        assert (await play(rig, 4.0, None))["series"][0]["notes"] == {}, "nobody has one"
        group = rig.loop.groups[INTERVAL_S]
        places = group.roster.series(build.workload("web"))
        for objective, seen in ((ONE, (1.0, 10.0)), (replace(ONE, late=Query("slow")), (2.0, 10.0))):
            rig.loop.update([watched(objective=objective)])
            assert rates(await play(rig, 4.0, None)) == seen
        rig.loop.update([watched(objective=None)])
        assert (await play(rig, 4.0, None))["series"][0]["notes"] == {}
        assert group.roster.series(build.workload("web")) == places
