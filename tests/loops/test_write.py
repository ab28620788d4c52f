"""Other writers: told from us, given way to, and compared with in a dry run."""

from dataclasses import replace

import pytest

from autoscaler import metrics
from autoscaler.core.types import Mode
from autoscaler.errors import PermanentError, TransientError
from autoscaler.loops.write import LEAVE_ALONE_S, REVERTS_WITHIN_S
from autoscaler.ports import Owner, Rival
from tests.core import build
from tests.loops.restarts import World, world
from tests.loops.rig import INTERVAL_S, scaled

HPA = Rival("HorizontalPodAutoscaler", "web", 7.0)
DOWN = build.behavior(down=build.direction(60.0))


async def revert(made: World, times: int, writer: str = "argocd-controller") -> None:
    """Let somebody put the count back, each time after we have changed it."""
    for _ in range(times):
        await made.pass_ticks(1, web=9.0)
        assert made.replicas() == 9
        made.set_replicas(2, writer=writer)


async def test_three_reverts_and_it_is_left_alone_with_the_writers_name(caplog: pytest.LogCaptureFixture) -> None:
    async with world(scaled("web"), scaled("api")) as made:
        await revert(made, 3)
        await made.pass_ticks(2, api=5.0)
        row = made.row()
        assert (made.replicas(), row["reason"], row["apply"]) == (2, "CONFLICT", False)
        assert "argocd-controller has replaced our count 3 times within 10 minutes" in row["why"]
        assert sum("argocd-controller" in line for line in caplog.messages) == 1, "said once"
        assert made.replicas("api") == 5, "the others go on"
        await made.pass_ticks(round(REVERTS_WITHIN_S / INTERVAL_S), web=9.0)
        assert made.replicas() == 2


async def test_two_reverts_or_three_in_a_longer_time_are_no_conflict() -> None:
    async with world(scaled("web")) as made:
        await revert(made, 2)
        await made.pass_ticks(round(REVERTS_WITHIN_S / INTERVAL_S))
        assert made.replicas() == 9
        made.set_replicas(2)
        await made.pass_ticks(2)
        assert made.replicas() == 9


async def test_after_an_hour_one_more_revert_stops_it_again() -> None:
    async with world(scaled("web")) as made:
        await revert(made, 3)
        await made.pass_ticks(1)
        await made.clock.advance(LEAVE_ALONE_S - INTERVAL_S)
        assert made.replicas() == 2
        await revert(made, 1)
        await made.pass_ticks(2)
        assert (made.replicas(), made.row()["reason"]) == (2, "CONFLICT")


async def test_another_policy_is_tried_at_once() -> None:
    async with world(scaled("web")) as made:
        await revert(made, 3)
        await made.pass_ticks(1)
        assert made.row()["reason"] == "CONFLICT"
        made.loop.update([replace(made.specs[0], max_replicas=8)])
        await made.pass_ticks(2)
        assert made.replicas() == 8


async def test_who_is_left_alone_stays_so_over_a_restart() -> None:
    async with world(scaled("web")) as made:
        await revert(made, 3)
        await made.pass_ticks(1)
        await made.restart()
        await made.pass_ticks(2)
        row = made.row()
        assert (made.replicas(), row["reason"]) == (2, "CONFLICT")
        assert "argocd-controller" in row["why"]


async def test_reverts_are_counted_over_a_restart() -> None:
    async with world(scaled("web")) as made:
        await revert(made, 2)
        await made.restart()
        await revert(made, 1)
        await made.pass_ticks(2)
        assert (made.replicas(), made.row()["reason"]) == (2, "CONFLICT")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(None, "somebody has replaced", id="nobody-on-record"),
        pytest.param(Owner("autoscaler", ours=True), "do two services run?", id="a-second-one-of-us"),
        pytest.param(Owner("helm", ours=False, how="Update, 2026-11-24T08:00:00Z"), "helm (Update, 2026-11-24T08:00:00Z)", id="how"),
        pytest.param(PermanentError("forbidden"), "not known: forbidden", id="may-not-be-asked"),
        pytest.param(TransientError("no connection"), "not known: no connection", id="cannot-be-asked"),
    ],
)
async def test_what_is_said_of_the_writer(answer: Owner | Exception | None, words: str) -> None:
    async def owner(_: object) -> Owner | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with world(scaled("web")) as made:
        made.cluster.owner = owner  # type: ignore[method-assign,assignment]
        await revert(made, 3)
        await made.pass_ticks(2)
        assert words in made.row()["why"]


@pytest.mark.parametrize(
    ("mode", "replicas", "reason"),
    [
        pytest.param(Mode.ACTIVE, 2, "CONFLICT", id="active"),
        pytest.param(Mode.DRY_RUN, 2, "NONE", id="dry-run"),
        pytest.param(Mode.PAUSED, 2, "PAUSED", id="paused"),
    ],
)
async def test_another_autoscaler_of_the_target(mode: Mode, replicas: int, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with world(scaled("web"), mode=mode) as made:
        made.cluster.set_rival(build.workload("web"), HPA)
        await made.pass_ticks(3, web=9.0)
        row = made.row()
        assert (made.replicas(), row["reason"], made.written) == (replicas, reason, [])
        assert row["rival"] == {"kind": "HorizontalPodAutoscaler", "name": "web", "desired": 7.0}
        assert ("HorizontalPodAutoscaler web scales it" in row["why"]) is (mode is Mode.ACTIVE)
        assert sum("HorizontalPodAutoscaler web" in line for line in caplog.messages) == 1


@pytest.mark.parametrize(
    ("rival", "difference"),
    [
        pytest.param(HPA, 2.0, id="what-the-hpa-wants"),
        pytest.param(Rival("ScaledObject", "web"), 7.0, id="what-there-is-where-it-has-not-said"),
        pytest.param(None, 7.0, id="what-there-is-without-one"),
    ],
)
async def test_a_dry_run_is_compared(rival: Rival | None, difference: float) -> None:
    async with world(scaled("web"), mode=Mode.DRY_RUN) as made:
        made.cluster.set_rival(build.workload("web"), rival)
        await made.pass_ticks(2, web=9.0)
        assert made.shown.values(metrics.SHADOW_DIFFERENCE)["shop", "Deployment", "web"] == difference


async def test_once_the_other_is_gone_the_windows_begin_anew() -> None:
    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(2, web=6.0)
        made.cluster.set_rival(build.workload("web"), HPA)
        await made.pass_ticks(10, web=3.0)
        assert made.replicas() == 6
        made.cluster.set_rival(build.workload("web"), None)
        seen = []
        for _ in range(5):
            await made.pass_ticks(1, web=3.0)
            seen.append(made.replicas())
        assert seen == [6, 6, 6, 6, 3], "held for a whole window first"


async def test_a_write_of_a_policy_that_was_removed_is_given_up() -> None:
    async with world(scaled("web"), scaled("api")) as made:
        await made.pass_ticks(1)

        async def hang(*_: object) -> None:
            await made.clock.sleep_until(made.clock.monotonic() + 1000.0)

        made.cluster.before = hang
        await made.pass_ticks(1, web=9.0)
        made.loop.update(made.specs[1:])
        made.cluster.before = None
        await made.pass_ticks(2, api=5.0)
        assert (made.replicas(), made.replicas("api")) == (2, 5)


async def test_a_lost_write_that_never_arrived_is_forgotten() -> None:
    """Nobody has it on record, so that count, when somebody sets it much later, is theirs."""
    up = build.direction(rules=[build.pods(4, 3600.0)])

    async def fail(*_: object) -> None:
        raise TransientError("the connection died")

    async with world(scaled("web", behavior=build.behavior(up))) as made:
        made.cluster.before = fail
        await made.pass_ticks(1, web=6.0)
        made.cluster.before = None
        await made.pass_ticks(10, web=2.0)
        made.set_replicas(6)
        await made.pass_ticks(2, web=30.0)
        assert made.replicas() == 10, "four of ours, and none of them used up"


async def test_a_pause_ends_by_itself_and_scales_from_a_full_window() -> None:
    async with world(scaled("web", behavior=DOWN)) as made:
        until = made.clock.now() + 10 * INTERVAL_S
        made.loop.update([replace(made.specs[0], mode=Mode.PAUSED, mode_until_s=until)])
        await made.pass_ticks(9, web=9.0)
        assert (made.replicas(), made.row()["reason"]) == (2, "PAUSED")
        await made.pass_ticks(2, web=9.0)
        assert made.replicas() == 9
