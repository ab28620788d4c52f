"""Restarts of the health loop: in order, by a kill at any moment, on a store that fails; neither told twice nor forgotten."""

import asyncio
import json
from dataclasses import replace
from itertools import pairwise

import pytest

from autoscaler import metrics
from autoscaler.core.health.breaker import Breakers
from autoscaler.core.health.caps import Attempt, Ledger
from autoscaler.core.health.facts import Pod, Subject
from autoscaler.core.health.findings import Finding, PodRef
from autoscaler.core.health.lifecycle import Incident, Kind, Phase
from autoscaler.core.health.monitor import State
from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.health.remedies import Act
from autoscaler.core.health.report import Done
from autoscaler.core.health.saved import DONE_MAX, done_from_json, done_to_json, from_json
from autoscaler.core.health.taxonomy import Cause
from autoscaler.errors import TransientError
from autoscaler.loops.health import Care
from autoscaler.loops.health_state import GIVE_UP_S, REFRESH_S, SAVE_EVERY_S, HealthKeeper, Saved
from autoscaler.loops.shards import HEALTH_SHARD, SHARD_MAX
from autoscaler.testing.recorder import MemoryRecorder
from tests.loops.restarts import MemoryStore
from tests.loops.ward import REPORT, RESTART, START_S, WEB, Ill, Service, World

FIRED = ("fired", "Deployment shop/web", "CrashLoop")
RESOLVED = ("resolved", "Deployment shop/web", "CrashLoop")


@pytest.fixture
def world() -> World:
    found = World()
    found.make()
    return found


async def service_of(world: World, spec: HealthSpec = REPORT) -> Service:
    service = Service(world, Care(), [spec], world.pods, with_store=True)
    await service.start()
    return service


@pytest.mark.parametrize("kill", [pytest.param(False, id="in-order"), pytest.param(True, id="killed")])
@pytest.mark.parametrize("away_s", [pytest.param(1.0, id="at-once"), pytest.param(120.0, id="after-two-minutes")])
async def test_a_restart_neither_tells_again_nor_forgets(kill: bool, away_s: float, world: World) -> None:  # noqa: FBT001
    first = await service_of(world)
    world.crash(world.of()[0], 3)
    await first.pass_s(60)
    assert first.told() == [FIRED]
    await first.stop(kill=kill)
    await world.clock.advance(away_s)
    second = await service_of(world)
    await second.pass_s(30)
    assert [str(each.change.incident.finding.cause) for each in second.loop.standing()] == ["CrashLoop"]
    world.crash(world.of()[0], 4)
    await second.pass_s(60)
    assert second.told() == []
    world.pods.put(Ill.restarted(world.of()[0], world.clock.now(), 4))
    await second.pass_s(1800)
    assert second.told() == [RESOLVED]
    await second.stop()


async def test_what_happened_meanwhile_is_news(world: World) -> None:
    first = await service_of(world)
    await first.pass_s(60)
    await first.stop(kill=True)
    await world.clock.advance(20)
    world.crash(world.of()[0], 3, code=137, reason="OOMKilled")
    await world.clock.advance(20)
    second = await service_of(world)
    await second.pass_s(30)
    assert second.told() == [("fired", "Deployment shop/web", "OutOfMemory")]
    await second.stop()


async def test_an_end_that_happened_meanwhile_is_told(world: World) -> None:
    first = await service_of(world)
    world.crash(world.of()[0], 3)
    await first.pass_s(60)
    await first.stop(kill=True)
    world.pods.delete(WEB)
    await world.clock.advance(20)
    second = await service_of(world)
    await second.pass_s(10)
    assert (first.told(), second.told()) == ([FIRED], [RESOLVED])
    await second.stop()


async def test_a_kill_around_a_remedy_cannot_lead_to_a_second_one(world: World) -> None:
    """The attempt is saved before anything is asked of the API: whoever comes after a kill knows of it."""
    saved: list[int] = []

    async def before(act: Act) -> None:
        _, _, ledger = from_json(json.loads(world.store.shards[HEALTH_SHARD]))
        saved.append(len([each for each in ledger.attempts if each.pod == act.uid]))

    world.pods.before = before
    first = await service_of(world, RESTART)
    pod = world.of()[0]
    await first.crash_on(pod)
    assert saved == [1]
    await first.stop(kill=True)
    second = await service_of(world, RESTART)
    for _ in range(8):
        for each in world.of()[-1:]:  # the new pod crashes as the old one did
            world.crash(each, (each.containers[0].restarts or 0) + 1)
        await second.pass_s(130)
    assert saved == [1]
    assert "LINEAGE" in {labels[2] for labels in second.recorder.values(metrics.REMEDIES)}
    await second.stop()


async def test_what_a_kill_kept_from_happening_is_done_after_it(world: World) -> None:
    """It was noted, and the kill came before the API server was asked: the pod is still there, so it takes nothing from the caps."""
    asked: list[str] = []

    async def hang(act: Act) -> None:
        asked.append(act.uid)
        await asyncio.Event().wait()

    world.pods.before = hang
    first = await service_of(world, RESTART)
    pod = world.of()[0]
    await first.crash_on(pod)
    await first.stop(kill=True)
    assert asked == [pod.uid]
    world.pods.before = None
    second = await service_of(world, RESTART)
    for restarts in range(7, 16):
        world.crash(pod, restarts)
        await second.pass_s(130)
    assert pod.uid not in {each.uid for each in world.of()}
    assert second.recorder.value(metrics.REMEDIES, "CrashLoop", "done", "") == 1
    await second.stop()


async def test_what_was_done_and_refused_is_known_after_a_restart(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = await service_of(world, RESTART)
    await first.crash_on(world.of()[0], times=4)
    (before,) = first.loop.rows()
    said = [each["words"] for each in before["remedies"]]
    assert said == ["nothing is done: it has restarted fewer than five times (2 since it began)"]
    await first.stop()
    caplog.clear()
    second = await service_of(world, RESTART)
    await second.pass_s(60)
    (after,) = second.loop.rows()
    assert [each["words"] for each in after["remedies"]] == said
    assert [record.message for record in caplog.records if said[0] in record.message] == []
    await second.stop()


async def test_a_budget_that_refuses_is_told_of_once_though_we_restart(world: World) -> None:
    async def refuse(_: Act) -> None:
        raise TransientError("the PodDisruptionBudget web refuses it")

    world.pods.before = refuse
    told = 0
    for times in (8, 4):
        service = await service_of(world, RESTART)
        await service.crash_on(world.of()[0], times=times, every_s=100)
        told += len([each for each in service.reports if each.change.kind is Kind.REMEDY and not each.change.silent])
        (row,) = service.loop.rows()
        assert [each["words"] for each in row["remedies"]].count("not removed: the PodDisruptionBudget web refuses it") == 1
        await service.stop()
    assert told == 1


async def test_an_open_breaker_stays_open_and_does_not_page_again(world: World) -> None:
    first = await service_of(world)
    for pod in world.of()[:5]:
        world.crash(pod, 3)
    await first.pass_s(60)
    await first.stop(kill=True)
    second = await service_of(world)
    await second.pass_s(60)
    assert ("fired", "Cluster cluster", "MassFailure") in first.told()
    assert second.told() == []
    assert second.loop.rows()[0]["cause"] == "MassFailure"
    await second.stop()


async def test_saves_on_change_at_most_every_ten_seconds_and_else_once_a_minute(world: World) -> None:
    service = await service_of(world)
    world.store.writes.clear()
    await service.pass_s(300)
    assert len(world.store.writes) == pytest.approx(300 / REFRESH_S, abs=1)
    world.store.writes.clear()
    for restarts in range(60):
        world.crash(world.of()[0], 3 + restarts)
        await service.pass_s(1)
    times = [at_s for at_s, _ in world.store.writes]
    assert all(later - earlier >= SAVE_EVERY_S for earlier, later in pairwise(times))
    assert {shard for _, shard in world.store.writes} == {HEALTH_SHARD}
    await service.stop()


async def test_a_store_that_cannot_be_read_is_waited_for_and_then_lost(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def refused() -> None:
        raise TransientError("the API server is not there yet")

    first = await service_of(world)
    world.crash(world.of()[0], 3)
    await first.pass_s(60)
    await first.stop()
    world.store.before_load = refused
    caplog.clear()
    second = await service_of(world)
    await second.pass_s(GIVE_UP_S + 10)
    assert [record.message for record in caplog.records] == [
        "the saved incidents cannot be read yet: the API server is not there yet",
        "the saved incidents are lost, what is wrong now is taken for old: the API server is not there yet",
    ]
    assert second.told() == []
    await second.stop()


@pytest.mark.parametrize(
    ("shard", "said"),
    [
        pytest.param(b"{", "the saved incidents are damaged, and lost", id="cut"),
        pytest.param(b"\xff", "the saved incidents are damaged, and lost", id="binary"),
        pytest.param(b"[]", "the saved incidents are of version None", id="list"),
        pytest.param(b'{"version":2,"as_of_s":1}', "the saved incidents are of version 2, this program reads version 1", id="newer"),
        pytest.param(b'{"version":1,"as_of_s":"x"}', "the saved incidents are of version 1", id="no-time"),
    ],
)
async def test_a_damaged_shard_is_lost_and_said(shard: bytes, said: str, world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.store.shards[HEALTH_SHARD] = shard
    service = await service_of(world)
    assert caplog.records[0].message.startswith(said)
    world.crash(world.of()[0], 3)
    await service.pass_s(60)
    assert service.told() == [FIRED]
    await service.stop()


async def test_a_save_from_the_future_hides_no_news(world: World) -> None:
    world.store.shards[HEALTH_SHARD] = json.dumps({"version": 1, "as_of_s": START_S + 1e6}).encode()
    service = await service_of(world)
    world.crash(world.of()[0], 3)
    await service.pass_s(60)
    assert service.told() == [FIRED]
    await service.stop()


async def test_a_save_that_fails_is_said_once_and_once_that_it_is_over(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def full(_: int) -> None:
        raise TransientError("the disk is full")

    service = await service_of(world)
    world.store.before_save = full
    await service.pass_s(300)
    world.store.before_save = None
    caplog.set_level("INFO")
    await service.pass_s(120)
    said = [record.message for record in caplog.records if "saved" in record.message]
    assert said == [
        "incidents cannot be saved, the last save stays; nothing is removed meanwhile: the disk is full",
        "incidents are saved again",
    ]
    await service.stop()


def incident(number: int, phase: Phase = Phase.FIRING, pods: int = 22) -> Incident:
    subject = Subject("Deployment", "shop", f"web-{number:05d}", f"00000000-0000-0000-0000-{number:012d}")
    refs = tuple(
        PodRef(f"{subject.name}-{index:05d}", f"{subject.uid}-{index:05d}", "node-1", "5f7b", "web:1", 3, START_S) for index in range(pods)
    )
    finding = Finding(subject, "app", Cause.CRASH_LOOP, START_S, START_S, refs, pods, "Error", 1)
    return Incident(finding, phase, START_S + number, START_S, 180.0, START_S)


@pytest.mark.parametrize(
    ("count", "kept", "pods"),
    [
        pytest.param(10, 10, 20, id="few-with-twenty-pods-each"),
        pytest.param(400, 400, 3, id="many-with-three"),
        pytest.param(1000, 1000, 0, id="more-with-none"),
        pytest.param(2500, None, 0, id="too-many"),
    ],
)
async def test_a_shard_is_never_too_large(count: int, kept: int | None, pods: int, caplog: pytest.LogCaptureFixture) -> None:
    incidents = [incident(number, Phase.RESOLVED if number % 2 else Phase.FIRING) for number in range(count)]
    ledger = Ledger((Attempt(START_S, "w", "o", "p"),))
    memory = replace(State().memory, at_s=START_S)
    state = State(memory, {each.finding.key: each for each in incidents}, Breakers())
    store, world = MemoryStore(), World()
    keeper = HealthKeeper(store, world.clock, MemoryRecorder(), lambda: Saved(state, ledger))
    await keeper.read()
    await keeper.close(60.0)
    data = store.shards[HEALTH_SHARD]
    assert len(data) <= SHARD_MAX
    back, _, attempts = from_json(json.loads(data))
    assert attempts == ledger
    assert {len(each.finding.pods) for each in back.values()} == {pods}
    if kept is not None:
        assert len(back) == kept
    else:
        assert 900 < len(back) < count
        assert {each.phase for each in back.values()} == {Phase.FIRING}
        assert "no room to save" in caplog.text


async def test_pods_of_every_kind_of_trouble_are_no_trouble(world: World) -> None:
    """Without a status, of an unknown phase, without containers, of the future: a pass says what it can."""
    service = await service_of(world)
    base = world.of()[0]
    odd = [
        Pod("shop", "nothing", "odd-1"),
        replace(base, name="no-containers", uid="odd-2", containers=(), conditions=()),
        replace(base, name="unknown", uid="odd-3", phase="Sublimated"),
        replace(Ill.crashing(base, START_S + 1e9, -5), name="future", uid="odd-4", created_s=START_S + 1e9),
    ]
    world.pods.put(*odd)
    await service.pass_s(600)
    world.pods.put(replace(Ill.crashing(base, START_S + 1, 2**62), name="many", uid="odd-5"))
    await service.pass_s(600)
    assert service.recorder.value(metrics.HEALTH_PASSES_FAILED) is None
    assert all(change.change.kind is not Kind.FLAPPING for change in service.reports)
    json.dumps(service.loop.rows())
    await service.stop()


@pytest.mark.parametrize(
    "saved",
    [
        pytest.param(None, id="nothing"),
        pytest.param("x", id="text"),
        pytest.param([["u", "app", "NoCause", []], ["u"], 5, ["u", "app", "CrashLoop", ["x"], [1.0, "p", True, False]]], id="rows"),
    ],
)
def test_what_cannot_be_read_of_what_was_done_is_left_out(saved: object) -> None:
    assert [row for rows in done_from_json(saved).values() for row in rows] == []


def test_what_was_done_survives_as_it_was() -> None:
    key, done = ("u", "app", Cause.CRASH_LOOP), Done(START_S, "web-1", Cause.CRASH_LOOP, acted=True, dry_run=False, words="evicted")
    rows = json.loads(json.dumps(done_to_json({key: (replace(done, words="first"),) * DONE_MAX + (done,)})))
    assert done_from_json(rows) == {key: (replace(done, words="first"),) * (DONE_MAX - 1) + (done,)}
