"""Restarts, kills and lost state: what goes on as if nothing had been, and what only ever holds."""

import asyncio
import itertools
import json
import logging
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from autoscaler import metrics
from autoscaler.core.behavior import Behavior
from autoscaler.core.checkpoint import Memory
from autoscaler.core.spec import PolicyChoice, WorkloadSpec
from autoscaler.core.types import Mode, Workload
from autoscaler.errors import AutoscalerError, PermanentError, TransientError
from autoscaler.loops.shards import Kept
from autoscaler.loops.state import GIVE_UP_S, POLICIES_EVERY, SAVE_EVERY_S, Memories
from policies.moving_average import MovingAverage
from policies.threshold import Threshold
from tests.core import build
from tests.loops.restarts import World, world
from tests.loops.rig import INTERVAL_S, START_S, scaled

WINDOW_S = 300.0
DOWN = build.behavior(down=build.direction(WINDOW_S))
RATED = build.behavior(
    build.direction(30.0, rules=[build.pods(3, 60.0)]), build.direction(120.0, rules=[build.percent(50, 45.0), build.pods(2, 60.0)])
)
THRESHOLD = build.choice(Threshold(), up_for_s=45.0, down_for_s=60.0)
AVERAGE = build.choice(MovingAverage(), window_s=15.0, panic_window_s=15.0)
LONG_AVERAGE = build.choice(MovingAverage(), window_s=180.0, panic_window_s=30.0)

TICKS_A_SAVE = round(SAVE_EVERY_S / INTERVAL_S)


def loads_of(seed: int, ticks: int) -> list[float]:
    """A load that wanders, jumps and falls, whole numbers mostly."""
    random, load = Random(seed), 6.0
    loads = []
    for _ in range(ticks):
        load = min(30.0, max(1.0, load + random.choice([-1, -1, 0, 0, 1, 1, 2])))
        if random.random() < 0.08:
            load = random.choice([2.0, 12.0, 25.0])
        loads.append(load)
    return loads


async def counts(made: World, loads: list[float], act: Callable[[World], Any], at: set[int]) -> list[tuple[int, str]]:
    """Count and reason at each tick; ``act`` happens right after some of them."""
    seen = []
    for tick, load in enumerate(loads):
        await made.pass_ticks(1, web=load)
        seen.append((made.replicas(), made.row()["reason"]))
        if tick in at:
            await act(made)
    return seen


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("behavior", [pytest.param(DOWN, id="window"), pytest.param(RATED, id="windows-and-rates")])
@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(build.choice(), id="proportional"),
        pytest.param(THRESHOLD, id="threshold"),
        pytest.param(AVERAGE, id="movingAverage"),
        pytest.param(LONG_AVERAGE, id="movingAverage-over-minutes"),
    ],
)
async def test_a_restart_in_the_middle_of_a_window_changes_nothing(policy: PolicyChoice, behavior: Behavior, seed: int) -> None:
    spec, loads = scaled("web", policy=policy, behavior=behavior), loads_of(seed, 50)

    async def nothing(_: World) -> None:
        return

    async with world(spec) as steady:
        expected = await counts(steady, loads, nothing, set())
    async with world(spec) as restarted:
        found = await counts(restarted, loads, World.restart, {3, 17, 18, 31, 44})
    assert found == expected
    assert len({replicas for replicas, _ in expected}) >= 3, "it moved"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("policy", [pytest.param(THRESHOLD, id="threshold"), pytest.param(LONG_AVERAGE, id="movingAverage")])
async def test_a_kill_makes_no_scale_down_that_an_uninterrupted_run_would_not_have_made(policy: PolicyChoice, seed: int) -> None:
    """Killed at any point between two checkpoints: within a window of it nothing goes down, and afterwards only what goes down in both."""
    spec, loads = scaled("web", policy=policy, behavior=DOWN), loads_of(seed, 70)
    kill = 21 + 6 * seed

    async def nothing(_: World) -> None:
        return

    async with world(spec) as steady:
        expected = [replicas for replicas, _ in await counts(steady, loads, nothing, set())]
    async with world(spec) as killed:
        found = [replicas for replicas, _ in await counts(killed, loads, World.crash, {kill})]
    assert found[: kill + 1] == expected[: kill + 1]
    for tick in range(kill + 1, len(loads)):
        if found[tick] < found[tick - 1]:
            assert expected[tick] <= found[tick], f"tick {tick}: {found[tick - 1]} -> {found[tick]}, uninterrupted: {expected[tick]}"


@pytest.mark.parametrize("stage", ["querying", "writing", "written", "saving"])
async def test_a_kill_at_any_stage_of_a_tick_holds_the_count(stage: str) -> None:
    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(6, web=12.0)
        assert made.replicas() == 12

        async def hang(*_: object) -> None:
            await asyncio.Event().wait()

        async def write_and_hang(workload: Workload, replicas: int) -> None:
            made.cluster.set_replicas(workload, replicas, writer="")
            await asyncio.Event().wait()

        if stage == "querying":
            made.source.before = hang
        elif stage == "writing":
            made.cluster.before = hang
        elif stage == "written":
            made.cluster.before = write_and_hang
        else:
            made.store.before_save = hang
        await made.pass_ticks(1 if stage != "saving" else TICKS_A_SAVE, web=20.0)
        await made.kill()
        made.source.before = made.cluster.before = made.store.before_save = None
        found = made.replicas()
        assert found == (20 if stage in {"written", "saving"} else 12)
        await made.begin()
        await made.pass_ticks(round(WINDOW_S / INTERVAL_S) - 1, web=3.0)
        assert made.replicas() >= found
        await made.pass_ticks(3, web=3.0)
        assert made.replicas() == 3


async def test_a_zero_of_ours_is_woken_after_a_restart_and_one_by_hand_is_not() -> None:
    async with world(scaled("web", min_replicas=0), scaled("hand", min_replicas=0)) as made:
        await made.pass_ticks(1, web=0.0, hand=2.0)
        made.set_replicas(0, "hand")
        await made.pass_ticks(1)
        assert (made.replicas("web"), made.replicas("hand")) == (0, 0)
        await made.restart()
        await made.pass_ticks(2, web=3.0, hand=3.0)
        assert (made.replicas("web"), made.replicas("hand")) == (3, 0)
        assert made.row("hand")["reason"] == "PAUSED_AT_ZERO"


@pytest.mark.parametrize("reached", [pytest.param(True, id="written"), pytest.param(False, id="not-yet-written")])
async def test_a_zero_is_noted_before_it_is_written(*, reached: bool) -> None:
    """Killed around the write, long before the next checkpoint."""
    async with world(scaled("web", min_replicas=0)) as made:
        await made.pass_ticks(1)

        async def write_and_hang(workload: Workload, replicas: int) -> None:
            if reached:
                made.cluster.set_replicas(workload, replicas, writer="")
            await asyncio.Event().wait()

        made.cluster.before = write_and_hang
        await made.pass_ticks(1, web=0.0)
        await made.kill()
        made.cluster.before = None
        assert made.replicas() == (0 if reached else 2)
        await made.begin()
        await made.pass_ticks(2, web=3.0)
        assert made.replicas() == 3


async def test_nobody_is_put_to_sleep_whose_zero_cannot_be_noted() -> None:
    async def fail(_: int) -> None:
        raise TransientError("No space left on device")

    async with world(scaled("web", min_replicas=0), scaled("api", min_replicas=0)) as made:
        await made.pass_ticks(1)
        made.store.before_save = fail
        await made.pass_ticks(2, web=0.0, api=0.0)
        assert (made.replicas(), made.replicas("api")) == (2, 2)
        assert "could not be noted first: No space left on device" in made.row()["write_problem"]
        made.store.before_save = None
        await made.pass_ticks(1)
        assert (made.replicas(), made.replicas("api")) == (0, 0)


async def test_many_zeros_are_noted_together() -> None:
    async with world(*(scaled(f"web-{number}", min_replicas=0) for number in range(30))) as made:
        await made.pass_ticks(1)

        async def take_a_moment(_: int) -> None:
            await made.clock.sleep_until(made.clock.monotonic())

        made.store.before_save = take_a_moment
        await made.pass_ticks(1, **{f"web-{number}": 0.0 for number in range(30)})
        assert {made.replicas(f"web-{number}") for number in range(30)} == {0}
        assert len(made.store.writes) == 2, "the first, and then all who came meanwhile"


async def test_a_zero_that_nobody_remembers_is_a_pause() -> None:
    async with world(scaled("web", min_replicas=0)) as made:
        await made.pass_ticks(2, web=0.0)
        await made.kill()
        made.store.shards.clear()
        await made.begin()
        await made.pass_ticks(3, web=3.0)
        assert (made.replicas(), made.row()["reason"]) == (0, "PAUSED_AT_ZERO")


async def test_a_dry_runs_shadow_goes_on() -> None:
    async with world(scaled("web", behavior=DOWN), mode=Mode.DRY_RUN) as made:
        await made.pass_ticks(2, web=9.0)
        await made.restart()
        await made.pass_ticks(1, web=4.0)
        row = made.row()
        assert (made.replicas(), row["decisions"][0]["decided_upon"], row["desired"], row["reason"]) == (2, 9.0, 9.0, "STABILISED_DOWN")


async def test_another_object_of_the_name_inherits_nothing() -> None:
    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(2, web=20.0)
        await made.end()
        made.cluster.delete(build.workload("web"))
        made.cluster.create(build.workload("web"), 4)
        await made.begin()
        await made.pass_ticks(1, web=3.0)
        assert made.row()["desired"] == 4, "20 belonged to another one"


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def act(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return act


def row_with(**fields: object) -> Callable[[bytes], bytes]:
    return edited(lambda document: next(iter(document["workloads"].values())).update(fields))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda _: b"", "damaged", id="empty"),
        pytest.param(lambda data: data[: len(data) // 2], "damaged", id="cut"),
        pytest.param(lambda _: b"<html>Please log in</html>", "damaged", id="html"),
        pytest.param(lambda _: b"[]", "damaged", id="no-document"),
        pytest.param(lambda _: b"\xff\xfe", "damaged", id="no-text"),
        pytest.param(edited(lambda document: document.update(version=2)), "version 2", id="newer"),
        pytest.param(row_with(at="yesterday"), "damaged", id="wrong-type"),
        pytest.param(row_with(seed=-5), "below zero", id="a-count-below-zero"),
        pytest.param(row_with(recommended=[1, 2, 3]), "pairs", id="half-a-pair"),
        pytest.param(row_with(wrote=[1, 2, 3, 9]), "damaged", id="unknown-outcome"),
    ],
)
async def test_state_that_cannot_be_used_is_lost_and_said_once(
    damage: Callable[[bytes], bytes], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(2, web=20.0)
        await made.end()
        made.store.shards[0] = damage(made.store.shards[0])
        await made.begin()
        await made.pass_ticks(5, web=3.0)
        assert made.replicas() == 20, "the windows begin with the current count"
        told = [line for line in caplog.messages if "lost" in line]
        assert len(told) == 1
        assert words in told[0]
        await made.pass_ticks(round(WINDOW_S / INTERVAL_S), web=3.0)
        assert made.replicas() == 3
        await made.restart()
        assert sum("lost" in line for line in caplog.messages) == 1, "what was damaged has been replaced"


async def test_a_row_from_the_future_is_not_used() -> None:
    """It was saved by a clock that ran ahead; its times would hold the windows until then."""
    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(2, web=20.0)
        await made.end()
        made.clock.step(-3600.0)
        made.source = type(made.source)(made.clock)
        await made.begin()
        await made.pass_ticks(round(WINDOW_S / INTERVAL_S) + 2, web=3.0)
        assert made.replicas() == 3


async def test_nothing_is_decided_before_the_state_has_been_read(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise TransientError("no connection")

    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(2, web=20.0)
        await made.end()
        made.store.before_load = fail
        await made.begin()
        await made.pass_ticks(1, web=30.0)
        assert made.row()["reason"] == "TARGET_UNKNOWN"
        made.store.before_load = None
        await made.pass_ticks(1, web=3.0)
        assert (made.replicas(), made.row()["reason"]) == (20, "STABILISED_DOWN")
        assert sum("cannot be read yet" in line for line in caplog.messages) == 1


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(TransientError("no connection"), id="unreachable"),
        pytest.param(PermanentError("forbidden: needed: a Role"), id="forbidden"),
    ],
)
async def test_state_that_cannot_be_read_is_given_up_after_a_while(error: AutoscalerError, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise error

    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(1, web=6.0)
        await made.end()
        made.store.before_load = fail
        await made.begin()
        await made.pass_ticks(round(GIVE_UP_S / INTERVAL_S), web=9.0)
        assert made.replicas() == 6
        await made.pass_ticks(2, web=9.0)
        assert made.replicas() == 9
        assert sum("is lost" in line and str(error) in line for line in caplog.messages) == 1


async def test_an_outage_while_nobody_waits_for_the_state_loses_nothing() -> None:
    """The API server is away: neither targets nor state are seen, however long."""

    async def fail() -> None:
        raise TransientError("no connection")

    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(2, web=20.0)
        await made.end()
        made.store.before_load = fail
        made.specs, known = [], made.specs
        await made.begin()
        await made.pass_ticks(10)
        made.store.before_load, made.specs = None, known
        made.loop.update(known)
        await made.pass_ticks(2, web=3.0)
        assert (made.replicas(), made.row()["reason"]) == (20, "STABILISED_DOWN")


async def test_what_cannot_be_saved_is_said_once_and_saved_later(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: int) -> None:
        raise TransientError("state: No space left on device")

    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(TICKS_A_SAVE + 1, web=8.0)
        first = dict(made.store.shards)
        assert first
        made.store.before_save = fail
        await made.pass_ticks(3 * TICKS_A_SAVE, web=9.0)
        assert made.replicas() == 9, "it goes on without"
        assert made.store.shards == first
        assert sum("No space left" in line for line in caplog.messages) == 1
        assert made.recorder.value(metrics.STATE_WRITES, "failed") == 3.0
        made.store.before_save = None
        with caplog.at_level(logging.INFO):
            await made.pass_ticks(TICKS_A_SAVE, web=9.0)
        assert made.store.shards != first
        assert "the state is saved again" in caplog.messages


async def test_what_was_never_read_is_not_overwritten_at_the_end() -> None:
    async def fail() -> None:
        raise TransientError("no connection")

    async with world(scaled("web", behavior=DOWN)) as made:
        await made.pass_ticks(2, web=20.0)
        await made.end()
        before, made.store.before_load = dict(made.store.shards), fail
        await made.begin()
        await made.end()
        assert made.store.shards == before
        made.store.before_load = None
        await made.begin()


async def test_who_is_not_seen_again_is_kept_on_for_a_day() -> None:
    async with world(scaled("web", behavior=DOWN), scaled("api", behavior=DOWN)) as made:
        await made.pass_ticks(1, web=20.0, api=20.0)
        both = list(made.specs)
        await made.end()
        made.specs = both[:1]
        await made.begin()
        await made.pass_ticks(TICKS_A_SAVE + 1)
        await made.end()
        made.specs = both
        await made.begin()
        await made.pass_ticks(1, web=3.0, api=3.0)
        assert (made.replicas("web"), made.replicas("api")) == (20, 20)
        assert len(json.loads(made.store.shards[0])["workloads"]) == 2

    memories = Memories(settled=False)
    memories.settle({"old": Kept(Memory(START_S)), "new": Kept(Memory(START_S + 1.0))})
    assert list(memories.unclaimed(START_S)) == ["new"]
    assert memories.claim("old") is None


async def test_policies_are_saved_every_tenth_time_and_at_the_end() -> None:
    def policies_saved(made: World) -> int:
        return sum(shard >= 8 for _, shard in made.store.writes)

    async with world(scaled("web", policy=THRESHOLD)) as made:
        await made.pass_ticks(TICKS_A_SAVE * (POLICIES_EVERY - 1) + 1, web=9.0)
        assert policies_saved(made) == 0
        await made.pass_ticks(TICKS_A_SAVE, web=9.0)
        assert policies_saved(made) == 1
        await made.end()
        assert policies_saved(made) == 2
        await made.begin()


async def test_only_what_changed_is_saved_and_a_write_a_second_at_most() -> None:
    specs: list[WorkloadSpec] = [scaled(f"web-{number}", origin="x" * 10) for number in range(40)]
    async with world(*specs) as made:
        made.keeper._used = dict.fromkeys(made.keeper._used, 8)  # noqa: SLF001 - as if there were thousands
        await made.pass_ticks(TICKS_A_SAVE + 1)
        times = [at for at, _ in made.store.writes]
        assert len(times) == 8
        assert [later - sooner for sooner, later in itertools.pairwise(times)] == [1.0] * 7
        made.store.writes.clear()
        await made.loop.close(0.0)
        await made.clock.advance(10 * SAVE_EVERY_S)
        guards = [shard for _, shard in made.store.writes if shard < 8]
        assert sorted(guards) in ([], sorted(set(guards))), "nothing changes any more: each was saved once more at most"
