import asyncio
import logging

import pytest

from autoscaler import metrics
from autoscaler.core.policy import NoState, Proposal
from autoscaler.core.spec import Query
from autoscaler.core.types import Mode, Workload
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, StaleViewError, TransientError
from tests.core import build
from tests.loops.rig import INTERVAL_S, START_S, hanging, running, scaled


async def test_scales_what_the_load_asks_for_on_an_aligned_grid() -> None:
    async with running([scaled("web"), scaled("api")]) as rig:
        rig.loads.update(web=7.0, api=3.0)
        await rig.pass_ticks(2)
        assert (rig.replicas("web"), rig.replicas("api")) == (7, 3)
        ticks = [decision["at_s"] for decision in rig.row("web")["decisions"]]
        assert ticks == [START_S + 2 * INTERVAL_S, START_S + INTERVAL_S]
        assert rig.recorder.value(metrics.WRITES, "ok") == 2.0
        assert rig.recorder.values(metrics.DESIRED_REPLICAS)["shop", "Deployment", "web"] == 7.0


async def test_groups_of_other_intervals_turn_beside() -> None:
    async with running([scaled("web"), scaled("slow", interval_s=60.0)]) as rig:
        rig.loads.update(web=7.0, slow=7.0)
        await rig.pass_ticks(2)
        assert (rig.replicas("web"), rig.replicas("slow")) == (7, 2)
        await rig.pass_ticks(3)
        assert rig.replicas("slow") == 7


async def test_a_question_that_hangs_delays_nobody_and_is_asked_once() -> None:
    release = asyncio.Event()
    async with running([scaled("web"), scaled("stuck")]) as rig:
        asked: list[str] = []
        wait = hanging(release, "stuck")

        async def before(query: Query) -> None:
            asked.append(query.text)
            await wait(query)

        rig.source.before = before
        rig.loads.update(web=9.0, stuck=9.0)
        await rig.pass_ticks(2)
        assert rig.replicas("web") == 9
        assert rig.replicas("stuck") == 2
        assert rig.row("stuck")["reason"] == "NO_DATA"
        assert rig.row("stuck")["series"][0]["signal"] == "TIMEOUT"
        assert asked.count('load{name="stuck"}') == 1, "a question under way is not asked again"


async def test_a_late_answer_serves_one_later_tick_while_it_is_fresh() -> None:
    release = asyncio.Event()
    async with running([scaled("web")]) as rig:
        rig.source.before = hanging(release, "web")
        rig.loads["web"] = 9.0
        await rig.pass_ticks(1)
        await rig.clock.advance(4.0)  # the observation closes after three seconds
        assert rig.row("web")["reason"] == "NO_DATA"
        release.set()
        await rig.clock.settle()
        rig.source.before = hanging(asyncio.Event(), "web")
        await rig.pass_ticks(1)
        assert rig.replicas("web") == 9
        assert rig.row("web")["series"][0]["age_s"] == INTERVAL_S
        await rig.pass_ticks(1)
        assert rig.row("web")["reason"] == "NO_DATA", "an answer serves one tick"


@pytest.mark.parametrize(
    ("error", "signal"),
    [
        pytest.param(TransientError("connection refused"), "UNREACHABLE", id="unreachable"),
        pytest.param(AnswerError("an HTML page"), "WRONG_TYPE", id="wrong-type"),
        pytest.param(PermanentError("parse error: unexpected end"), "REFUSED", id="refused"),
    ],
)
async def test_a_source_that_fails_holds_with_its_own_words(error: AutoscalerError, signal: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Query) -> None:
        raise error

    async with running([scaled("web")]) as rig:
        rig.source.before = fail
        rig.loads["web"] = 9.0
        with caplog.at_level(logging.INFO, "autoscaler"):
            await rig.pass_ticks(3)
        row = rig.row("web")
        assert (rig.replicas("web"), row["reason"]) == (2, "NO_DATA")
        assert row["series"][0]["signal"] == signal
        assert str(error) in str(row["why"])
        assert sum(str(error) in line for line in caplog.messages) == 1, "said once, not every tick"
        assert rig.recorder.value(metrics.SERIES_WITHOUT_DATA, "15s", signal.lower()) == 1.0


async def test_one_line_for_each_changed_decision(caplog: pytest.LogCaptureFixture) -> None:
    async with running([scaled("web")]) as rig:
        with caplog.at_level(logging.INFO, "autoscaler.loops"):
            await rig.pass_ticks(4)
            rig.loads["web"] = 5.0
            await rig.pass_ticks(4)
        lines = [record.getMessage() for record in caplog.records]
        assert [line.split(": ")[1] for line in lines] == ["2 -> 2", "2 -> 5"]
        assert caplog.records[1].__dict__["fields"] == {
            "workload": "Deployment shop/web",
            "current": 2.0,
            "desired": 5.0,
            "apply": True,
            "reason": "NONE",
        }


async def test_a_write_under_way_is_not_written_again_and_ticks_go_on() -> None:
    release = asyncio.Event()
    tries: list[int] = []

    async def slow(_: Workload, replicas: int) -> None:
        tries.append(replicas)
        await release.wait()

    async with running([scaled("web"), scaled("api")]) as rig:
        rig.cluster.before = slow
        rig.loads["web"] = 9.0
        await rig.pass_ticks(3)
        assert tries == [9]
        assert len(rig.row("web")["decisions"]) == 3
        release.set()
        await rig.pass_ticks(1)
        assert rig.replicas("web") == 9


async def test_a_lost_outcome_counts_as_ours_once_the_count_is_seen() -> None:
    up = build.direction(rules=[build.pods(4, 600.0)])
    async with running([scaled("web", behavior=build.behavior(up))]) as rig:

        async def goes_through_unheard(workload: Workload, replicas: int) -> None:
            rig.cluster.set_replicas(workload, replicas)
            raise TransientError("the connection died")

        rig.cluster.before = goes_through_unheard
        rig.loads["web"] = 50.0
        await rig.pass_ticks(4)
        assert rig.replicas("web") == 6, "4 pods in 600 s: the write that was not confirmed has used them up"
        assert rig.row("web")["reason"] == "RATE_LIMITED_UP"


async def test_a_write_that_did_not_go_through_is_no_scale_event() -> None:
    up = build.direction(rules=[build.pods(4, 600.0)])
    outcomes: list[AutoscalerError | None] = [TransientError("503"), StaleViewError("seen 2, is 3"), None]

    async def fail_twice(_: Workload, __: int) -> None:
        outcome = outcomes.pop(0) if outcomes else None
        if outcome is not None:
            raise outcome

    async with running([scaled("web", behavior=build.behavior(up))]) as rig:
        rig.cluster.before = fail_twice
        rig.loads["web"] = 50.0
        await rig.pass_ticks(3)
        assert rig.replicas("web") == 6
        counts = {outcome: rig.recorder.value(metrics.WRITES, outcome) for outcome in ("ok", "stale", "failed")}
        assert counts == {"ok": 1.0, "stale": 1.0, "failed": 1.0}


async def test_a_refused_write_is_said_once_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(_: Workload, __: int) -> None:
        raise PermanentError("patch deployments/scale is forbidden: allow it")

    async with running([scaled("web")]) as rig:
        rig.cluster.before = refuse
        rig.loads["web"] = 9.0
        await rig.pass_ticks(3)
        assert rig.row("web")["write_problem"] == "patch deployments/scale is forbidden: allow it"
        assert sum("is forbidden" in line for line in caplog.messages) == 1
        rig.cluster.before = None
        await rig.pass_ticks(1)
        assert (rig.replicas("web"), rig.row("web")["write_problem"]) == (9, "")


async def test_members_come_and_go_between_ticks() -> None:
    async with running([scaled("web"), scaled("api")]) as rig:
        rig.loads.update(web=5.0, api=5.0, new=6.0)
        await rig.pass_ticks(1)
        rig.cluster.create(build.workload("new"), 1)
        rig.loop.update([scaled("web"), scaled("new")])
        rig.loads.update(web=8.0, api=8.0)
        await rig.pass_ticks(1)
        assert [rig.replicas(name) for name in ("web", "api", "new")] == [8, 5, 6]
        assert rig.board.workload("shop", "api") is None


async def test_a_target_made_anew_has_no_past() -> None:
    down = build.direction(window_s=600.0)
    async with running([scaled("web", behavior=build.behavior(down=down))]) as rig:
        rig.loads["web"] = 20.0
        await rig.pass_ticks(2)
        rig.cluster.delete(build.workload("web"))
        await rig.pass_ticks(1)
        assert rig.row("web")["reason"] == "TARGET_NOT_FOUND"
        rig.cluster.create(build.workload("web"), 4)
        rig.loads["web"] = 3.0
        await rig.pass_ticks(1)
        assert (rig.replicas("web"), rig.row("web")["reason"]) == (4, "STABILISED_DOWN"), "20 belonged to another one"


@pytest.mark.parametrize("step_s", [pytest.param(3600.0, id="forward"), pytest.param(-3600.0, id="back")])
async def test_a_step_of_the_clock_holds_one_tick_and_starts_the_windows_afresh(step_s: float) -> None:
    async with running([scaled("web")]) as rig:
        await rig.pass_ticks(2)
        rig.clock.step(step_s)
        rig.loads.clear()
        await rig.clock.advance(INTERVAL_S)
        assert rig.row("web")["reason"] == "CLOCK_STEP"
        assert rig.row("web")["at_s"] == START_S + 3 * INTERVAL_S + step_s
        await rig.clock.advance(INTERVAL_S)
        assert rig.row("web")["reason"] != "CLOCK_STEP"
        assert rig.row("web")["at_s"] == START_S + 4 * INTERVAL_S + step_s


async def test_a_tick_that_fails_is_told_and_the_next_one_works(caplog: pytest.LogCaptureFixture) -> None:
    async with running([scaled("web")]) as rig:
        facts = rig.cluster.facts
        rig.cluster.facts = lambda _: 1 / 0  # type: ignore[assignment,return-value,method-assign]
        await rig.pass_ticks(1)
        assert "a tick of the 15s group failed" in caplog.text
        rig.cluster.facts = facts  # type: ignore[method-assign]
        rig.loads["web"] = 6.0
        await rig.pass_ticks(1)
        assert rig.replicas("web") == 6


async def test_a_policy_that_raises_holds_its_workloads_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(build.Proportional):
        def __call__(self, view: object, params: object, state: NoState) -> tuple[NoState, Proposal]:
            raise ZeroDivisionError(f"no replicas to divide by: {type(view)}, {type(params)}, {type(state)}")

    async with running([scaled("web"), scaled("bad", policy=build.choice(Broken()))]) as rig:
        rig.loads.update(web=5.0, bad=5.0)
        await rig.pass_ticks(3)
        assert (rig.replicas("web"), rig.replicas("bad")) == (5, 2)
        assert "no replicas to divide by" in str(rig.row("bad")["why"])
        errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        assert "its workloads hold" in errors[0]
        assert rig.recorder.value(metrics.POLICY_FAULTS, "Broken") == 3.0


async def test_a_dry_run_writes_nothing_and_follows_itself() -> None:
    async with running([scaled("web")], mode=Mode.DRY_RUN) as rig:
        rig.loads["web"] = 9.0
        await rig.pass_ticks(2)
        row = rig.row("web")
        assert (rig.replicas("web"), row["current"], row["desired"], row["apply"]) == (2, 2.0, 9.0, False)
        assert row["decisions"][0]["decided_upon"] == 9.0


async def test_stuck_groups_are_told() -> None:
    async with running([scaled("web")]) as rig:
        await rig.pass_ticks(1)
        assert rig.board.alive() == []
        rig.loop._tasks[INTERVAL_S].cancel()  # noqa: SLF001 - a task that dies is not something the outside can ask for
        await rig.clock.advance(4 * INTERVAL_S)
        assert "the 15s group has not finished a tick" in rig.board.alive()[0]


async def test_ready_once_the_policies_are_read_and_every_target_was_seen_once() -> None:
    async with running([scaled("web")]) as rig:
        assert rig.board.ready() == (["the policies have not been read yet"], [])
        rig.board.loaded = True
        rig.cluster.follow([])  # as before the first list has come
        assert rig.board.ready() == (["1 targets have not been seen yet, such as Deployment shop/web"], [])
        rig.cluster.follow([build.workload("web")])
        assert rig.board.ready() == ([], [])
        rig.cluster.follow([])
        rig.board.config_error = "web.yaml:3:1: spec: unknown"
        assert rig.board.ready() == ([], ["the newest policies are not in use: web.yaml:3:1: spec: unknown"])
