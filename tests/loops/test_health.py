"""The health loop over time: what is told, to whom, when; that nothing stops it; and what the scaling loop gets of it."""

import asyncio
from dataclasses import replace

import pytest

from autoscaler import metrics
from autoscaler.adapters.memory_pods import MemoryPods
from autoscaler.core.health.facts import Condition, Facts, Node, ScaleUp
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.health.taxonomy import Waits
from autoscaler.core.selector import Operator, Requirement
from autoscaler.core.types import Workload
from autoscaler.loops.health import IN_THREAD, STUCK_S, TURN_S
from tests.loops.ward import REPORT, START_S, WEB, Ill, World, serving

CRASH_LOOP = ("fired", "Deployment shop/web", "CrashLoop")


@pytest.fixture
def world() -> World:
    found = World()
    found.make()
    return found


async def test_nothing_is_said_of_the_healthy(world: World) -> None:
    async with serving(world) as service:
        await service.pass_s(3600)
        assert (service.reports, service.loop.rows()) == ([], [])


async def test_a_crash_loop_is_told_once_whatever_the_number_of_pods_and_restarts(world: World) -> None:
    async with serving(world) as service:
        for restarts in range(1, 9):
            for pod in world.of()[:3]:
                world.crash(pod, restarts)
            await service.pass_s(60)
        assert service.told() == [CRASH_LOOP]
        assert [(report.sinks, len(report.change.incident.finding.pods)) for report in service.reports if not report.change.silent] == [
            (("pager",), 3)
        ]


async def test_settles_before_it_is_told(world: World) -> None:
    async with serving(world) as service:
        world.crash(world.of()[0], 3)
        await service.pass_s(1)
        assert [each.change.kind for each in service.reports] == [Kind.PENDING]
        await service.pass_s(13)
        assert service.told() == []
        await service.pass_s(11)
        assert service.told() == [CRASH_LOOP]


@pytest.mark.parametrize(
    ("reason", "waits", "due_s", "cause"),
    [
        pytest.param("ErrImagePull", Waits(), 120.0, "ImagePull", id="default-wait"),
        pytest.param("ErrImagePull", Waits(image_pull_s=20), 20.0, "ImagePull", id="wait-of-the-policy"),
        pytest.param("InvalidImageName", Waits(), 0.0, "BadImage", id="at-once"),
        pytest.param("CreateContainerConfigError", Waits(), 60.0, "ConfigError", id="config"),
    ],
)
async def test_waits_on_the_clock(reason: str, waits: Waits, due_s: float, cause: str, world: World) -> None:
    async with serving(world, replace(REPORT, waits=waits)) as service:
        world.pods.put(Ill.waiting(world.of()[0], START_S, reason))
        await service.pass_s(due_s - 0.5)
        before = len(service.reports)
        await service.pass_s(TURN_S + 1)
        assert (before == 0 or due_s == 0, [str(each.change.incident.finding.cause) for each in service.reports]) == (True, [cause])
        await service.pass_s(15 + TURN_S)
        assert service.told() == [("fired", "Deployment shop/web", cause)]


async def test_what_was_wrong_before_the_start_is_no_news(world: World) -> None:
    world.crash(world.of()[0], 40)
    async with serving(world) as service:
        await service.pass_s(900)
        assert service.told() == []
        assert [(row["cause"], row["news"]) for row in service.loop.rows()] == [("CrashLoop", False)]


async def test_an_end_is_told_once_it_lasts(world: World) -> None:
    async with serving(world) as service:
        pod = world.of()[0]
        world.crash(pod, 3)
        await service.pass_s(60)
        world.pods.put(Ill.restarted(world.of()[0], world.clock.now() - 1, 3))
        await service.pass_s(120)
        assert service.told() == [CRASH_LOOP]
        await service.pass_s(1200)
        assert service.told() == [CRASH_LOOP, ("resolved", "Deployment shop/web", "CrashLoop")]


async def test_a_deleted_workload_is_resolved_and_those_who_were_told_hear_of_it(world: World) -> None:
    labelled = replace(REPORT, requirements=(Requirement("app", Operator.IN, ("web",)),), sinks=("chat",))
    other = HealthSpec("shop", "other", (Requirement("app", Operator.IN, ("api",)),), sinks=("mail",))
    async with serving(world, labelled, other) as service:
        world.crash(world.of()[0], 3)
        await service.pass_s(60)
        world.pods.delete(WEB)
        world.make(Workload("shop", "api"), 1)
        await service.pass_s(60)
        assert service.told() == [CRASH_LOOP, ("resolved", "Deployment shop/web", "CrashLoop")]
        assert {each.sinks for each in service.reports} == {("chat",)}


async def test_an_own_scale_down_is_silent(world: World) -> None:
    async with serving(world) as service:
        for pod in world.of()[10:]:
            world.pods.put(replace(Ill.crashing(pod, START_S, 1, code=143), deletion_s=START_S + 30))
        await service.pass_s(20)
        world.pods.scale(WEB, 10)
        await service.pass_s(600)
        assert service.reports == []


async def test_pods_that_wait_for_room_after_our_scale_ups_are_told_as_such(world: World) -> None:
    async with serving(world) as service:
        uid = next(each.uid for each in (world.pods.facts(0).controllers or {}).values() if each.kind == "Deployment")
        service.scale_ups[uid] = ScaleUp(START_S + 10, 20, 22)
        await service.pass_s(10)
        world.pods.scale(WEB, 22)
        for pod in world.of()[-2:]:
            unscheduled = (Condition("PodScheduled", "False", "Unschedulable", world.clock.now()),)
            world.pods.put(replace(pod, phase="Pending", node="", conditions=unscheduled, containers=()))
        await service.pass_s(30)
        service.scale_ups[uid] = ScaleUp(START_S + 40, 22, 24)
        await service.pass_s(340)
        assert service.told() == [("fired", "Deployment shop/web", "Unschedulable")]
        assert service.reports[-1].change.incident.finding.notes == ("2 of these pods came with our scale-up from 20 to 24",)


async def test_without_a_policy_nothing_is_said_and_with_one_what_is_wrong_by_then(world: World) -> None:
    async with serving(world, HealthSpec("bank", "default")) as service:
        world.crash(world.of()[0], 3)
        await service.pass_s(60)
        assert (service.reports, service.loop.rows()) == ([], [])
        assert service.recorder.values(metrics.INCIDENTS) == {}
        service.loop.use([REPORT])
        await service.pass_s(TURN_S)
        assert service.told() == [CRASH_LOOP]


async def test_metrics_and_rows(world: World) -> None:
    async with serving(world) as service:
        world.crash(world.of()[0], 3)
        await service.pass_s(60)
        labels = ("shop", "Deployment", "web", "app", "CrashLoop", "firing")
        assert service.recorder.values(metrics.INCIDENTS) == {labels: 1.0}
        assert service.recorder.value(metrics.WATCHED_PODS) == 20
        assert len(service.recorder.observed(metrics.HEALTH_PASS_SECONDS)) > 5
        assert service.recorder.observed(metrics.HEALTH_LATENCY_SECONDS) == [0.0]
        assert service.recorder.value(metrics.HEALTH_AGE) == pytest.approx(0, abs=TURN_S)
        (row,) = service.loop.rows()
        expected = {
            "namespace": "shop",
            "kind": "Deployment",
            "name": "web",
            "container": "app",
            "cause": "CrashLoop",
            "phase": "firing",
            "pods_affected": 1,
            "pods_in_all": 20,
            "exit_code": 1,
            "exit_meaning": "the program's own error",
            "restarts": 3,
            "news": True,
            "policies": ["HealthPolicy shop/default"],
            "opened_s": START_S + 1,
        }
        assert {name: row[name] for name in expected} == expected
        assert [(each["acted"], each["words"]) for each in row["remedies"]] == [(False, "nothing is done: the policy says report")]


async def test_a_lost_node_is_one_incident_for_the_policies_with_pods_on_it(world: World) -> None:
    world.make(Workload("bank", "ledger"), 2)
    world.make(Workload("park", "lone"), 2, node="node-2")
    specs = [REPORT, HealthSpec("bank", "default", sinks=("bank-pager",)), HealthSpec("park", "default", sinks=("park-pager",))]
    async with serving(world, *specs) as service:
        world.pods.put(Node("node-1", "uid-node-1", True, (Condition("Ready", "Unknown", "NodeStatusUnknown", START_S + 1),)))
        await service.pass_s(120)
        assert ("fired", "Node node-1", "NodeLost") in service.told()
        assert {each.sinks for each in service.reports if each.change.incident.finding.subject.kind == "Node"} == {("bank-pager", "pager")}
        for pod in [*world.of(), *world.of(Workload("bank", "ledger"))]:
            world.pods.drop(pod)
        await service.pass_s(600)
        assert ("resolved", "Node node-1", "NodeLost") in service.told()
        assert service.reports[-1].sinks


async def test_a_mass_failure_pages_once_and_once_more_when_it_is_over(world: World) -> None:
    async with serving(world) as service:
        for pod in world.of()[:4]:
            world.crash(pod, 3)
        await service.pass_s(30)
        assert service.told(Kind.FIRED) == [("fired", "Cluster cluster", "MassFailure"), CRASH_LOOP]
        assert service.recorder.values(metrics.BREAKER_OPEN) == {("cluster",): 1.0, ("workload",): 0.0}
        assert service.loop.rows()[0]["notes"] == ["4 of 20 watched pods are ill"]
        assert [str(each.change.incident.finding.cause) for each in service.loop.standing()] == ["CrashLoop", "MassFailure"]
        for pod in world.of()[:4]:
            world.pods.put(Ill.restarted(pod, world.clock.now() - 1, 3))
        await service.pass_s(2400)
        cluster = [told for told in service.told() if told[1] == "Cluster cluster"]
        assert cluster == [("fired", "Cluster cluster", "MassFailure"), ("resolved", "Cluster cluster", "MassFailure")]
        assert service.recorder.value(metrics.BREAKER_OPEN, "cluster") == 0.0


async def test_what_sinks_must_hear_again_is_every_open_incident_that_was_told(world: World) -> None:
    async with serving(world) as service:
        assert service.loop.standing() == ()
        world.crash(world.of()[0], 3)
        await service.pass_s(1)
        assert service.loop.standing() == ()
        await service.pass_s(60)
        (report,) = service.loop.standing()
        assert (report.change.kind, report.change.silent, report.sinks) == (Kind.REPEATED, True, ("pager",))


class TestTurning:
    async def test_at_most_every_half_second_and_at_least_every_ten(self, world: World) -> None:
        async with serving(world) as service:
            passes = len(service.recorder.observed(metrics.HEALTH_PASS_SECONDS))
            await service.pass_s(60)
            assert len(service.recorder.observed(metrics.HEALTH_PASS_SECONDS)) - passes == 6
            for number in range(100):
                world.crash(world.of()[0], number)
                await service.pass_s(0.1)
            assert len(service.recorder.observed(metrics.HEALTH_PASS_SECONDS)) - passes - 6 == pytest.approx(20, abs=1)

    async def test_a_watch_that_is_not_current_concludes_nothing(self, world: World) -> None:
        async with serving(world) as service:
            world.crash(world.of()[0], 3)
            await service.pass_s(60)
            world.pods.synced = False
            world.pods.scale(WEB, 0)
            await service.pass_s(3600)
            assert service.told() == [CRASH_LOOP]
            assert service.recorder.value(metrics.HEALTH_AGE) == pytest.approx(3600, abs=TURN_S)
            assert service.loop.stuck() == []

    async def test_a_pass_that_fails_ends_nothing_and_is_said_once(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(MemoryPods):
            fault: Exception | None = None

            def facts(self, at_s: float) -> Facts:
                if self.fault is not None:
                    raise self.fault
                return super().facts(at_s)

        pods = Broken(world.clock)
        pods.__dict__.update(world.pods.__dict__)
        world.pods = pods
        async with serving(world) as service:
            pods.fault = RuntimeError("a bug")
            await service.pass_s(65)
            assert service.recorder.value(metrics.HEALTH_PASSES_FAILED) == 6
            assert [record.message for record in caplog.records if record.exc_info] == [
                "a pass of the health loop failed; incidents stay as they are, and nothing is removed"
            ]
            pods.fault = None
            world.crash(world.of()[0], 3)
            await service.pass_s(60)
            assert service.told() == [CRASH_LOOP]

    async def test_a_loop_that_hangs_is_told_of(self, world: World) -> None:
        async def never() -> None:
            await asyncio.Event().wait()

        world.store.before_load = never
        async with serving(world) as service:
            await service.pass_s(STUCK_S + 4)
            assert service.loop.stuck() == ["the health loop has not finished a pass for 65 s"]

    async def test_many_pods_are_judged_in_a_thread(self, world: World) -> None:
        world.make(Workload("shop", "large"), IN_THREAD)
        async with serving(world) as service:
            async with asyncio.timeout(30):
                while service.recorder.value(metrics.WATCHED_PODS) is None:
                    await asyncio.to_thread(lambda: None)
            assert service.recorder.value(metrics.WATCHED_PODS) == IN_THREAD + 20
