"""What is done about incidents: once, to one pod at a time, as it was just read, noted first; and what is refused, said once."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from autoscaler import metrics
from autoscaler.core.health.caps import Caps
from autoscaler.core.health.facts import Pod
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.remedies import Act, Remedy
from autoscaler.core.types import Workload
from autoscaler.errors import PermanentError, StaleViewError, TransientError
from autoscaler.loops.health import Care
from autoscaler.testing.recorder import MemoryRecorder
from tests.loops.ward import REPORT, RESTART, Ill, World, serving


@pytest.fixture
def world() -> World:
    found = World()
    found.make()
    return found


def counted(recorder: MemoryRecorder) -> dict[tuple[str, ...], float]:
    return recorder.values(metrics.REMEDIES)


def acts(world: World, answer: Callable[[Act], Awaitable[None]] | None = None) -> list[Act]:
    """What the API server is asked to remove from now on; ``answer`` may refuse."""
    asked: list[Act] = []

    async def before(act: Act) -> None:
        asked.append(act)
        if answer is not None:
            await answer(act)

    world.pods.before = before
    return asked


def refusing(error: Exception) -> Callable[[Act], Awaitable[None]]:
    async def answer(_: Act) -> None:
        raise error

    return answer


async def test_a_crash_looping_pod_is_evicted_once_and_that_is_told(world: World) -> None:
    asked, pod = acts(world), world.of()[0]
    async with serving(world, RESTART) as service:
        await service.crash_on(pod)
        assert [(act.eviction, act.pod, act.uid) for act in asked] == [(True, pod.name, pod.uid)]
        assert pod.uid not in {each.uid for each in world.of()}
        await service.pass_s(3600)
        assert len(asked) == 1
        (report,) = [each for each in service.reports if each.change.kind is Kind.REMEDY and not each.change.silent]
        (*_, done) = report.remedies
        assert (done.pod, done.acted, done.dry_run, done.words.startswith("evicted: CrashLoop: 5 restarts, for ")) == (
            pod.name,
            True,
            False,
            True,
        )
        assert counted(service.recorder)["CrashLoop", "done", ""] == 1


async def test_what_is_refused_is_said_once_for_each_reason(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(world, RESTART) as service:
        for restarts in (3, 4):
            world.crash(world.of()[0], restarts)
            await service.pass_s(100)
        refused = "nothing is done: it has restarted fewer than five times"
        assert [words for words in service.remedies() if words.startswith(refused)] == [f"{refused} (3 since it began)"]
        assert len([record for record in caplog.records if refused in record.message]) == 1
        assert counted(service.recorder) == {("CrashLoop", "refused", "TOO_FEW_RESTARTS"): 1}


async def test_nothing_is_done_without_the_users_word(world: World) -> None:
    asked = acts(world)
    async with serving(world, REPORT) as service:
        await service.crash_on(world.of()[0])
        assert (asked, counted(service.recorder)) == ([], {("CrashLoop", "refused", "NOT_OPTED_IN"): 1})
        assert service.remedies() == ["nothing is done: the policy says report"]


async def test_deletion_is_the_explicit_choice(world: World) -> None:
    asked = acts(world)
    async with serving(world, replace(REPORT, remedies={"crashLoop": Remedy.DELETE})) as service:
        await service.crash_on(world.of()[0])
        assert [act.eviction for act in asked] == [False]


async def test_a_dry_run_asks_the_server_once_and_removes_nothing(world: World) -> None:
    asked, pod = acts(world), world.of()[0]
    async with serving(world, RESTART, care=Care(dry_run=True)) as service:
        await service.crash_on(pod, times=12)
        assert [act.pod for act in asked] == [pod.name]
        assert pod.uid in {each.uid for each in world.of()}
        assert counted(service.recorder)["CrashLoop", "would", ""] == 1
        assert any(words.startswith("would be evicted: ") for words in service.remedies())
        assert service.loop._remedies.ledger.attempts == ()  # noqa: SLF001 - nothing has happened, so nothing is noted


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(TransientError("the PodDisruptionBudget web refuses it"), "the PodDisruptionBudget web refuses it", id="budget"),
        pytest.param(PermanentError("may not create pods/eviction"), "may not create pods/eviction", id="forbidden"),
    ],
)
async def test_a_failure_takes_nothing_from_the_caps_and_is_tried_again_ever_later(error: Exception, words: str, world: World) -> None:
    asked, pod = acts(world, refusing(error)), world.of()[0]
    async with serving(world, RESTART) as service:
        await service.crash_on(pod, times=6)
        first = len(asked)
        assert first >= 1
        assert service.loop._remedies.ledger.attempts == ()  # noqa: SLF001
        await service.crash_on(world.of()[0], times=8, every_s=250)
        assert first < len(asked) <= 8
        assert f"not removed: {words}" in service.remedies()
        told = [each for each in service.reports if each.change.kind is Kind.REMEDY and not each.change.silent]
        assert len(told) == 1
        assert counted(service.recorder)["CrashLoop", "failed", ""] == len(asked)


async def test_a_removal_without_an_answer_counts_if_the_pod_is_gone(world: World) -> None:
    async def answer(act: Act) -> None:
        world.pods.drop(next(pod for pod in world.of() if pod.uid == act.uid))
        raise TransientError("the connection was reset")

    asked = acts(world, answer)
    async with serving(world, RESTART) as service:
        await service.crash_on(world.of()[0], times=6)
        assert [attempt.pod for attempt in service.loop._remedies.ledger.attempts] == [act.uid for act in asked]  # noqa: SLF001


async def test_who_has_recovered_by_the_time_it_is_read_is_left_alone(world: World) -> None:
    class Late:
        """The watch is behind: the API server has newer things to say."""

        def __init__(self, pods: World) -> None:
            self.world = pods

        async def read(self, namespace: str, name: str) -> Pod | None:
            found = await self.world.pods.read(namespace, name)
            return None if found is None else replace(Ill.restarted(found, self.world.clock.now() - 300, 6), resource_version="999999")

        async def remove(self, act: Act, *, dry_run: bool) -> None:
            raise AssertionError(act, dry_run)

    async with serving(world, RESTART, actions=Late(world)) as service:
        await service.crash_on(world.of()[0], times=6)
        assert counted(service.recorder).get(("CrashLoop", "refused", "READY")) == 1


async def test_what_changed_on_the_way_is_skipped(world: World) -> None:
    asked = acts(world, refusing(StaleViewError("pod shop/web is not as it was seen any more")))
    async with serving(world, RESTART) as service:
        await service.crash_on(world.of()[0], times=6)
        assert asked
        assert counted(service.recorder)["CrashLoop", "refused", "CHANGED"] == 1
        assert service.loop._remedies.ledger.attempts == ()  # noqa: SLF001


async def test_one_a_minute_in_the_cluster(world: World) -> None:
    for name in ("a", "b", "c"):
        world.make(Workload("shop", name), 10, image=f"{name}:1")
    times = list[float]()

    async def answer(_: Act) -> None:
        times.append(world.clock.now())

    asked = acts(world, answer)
    async with serving(world, RESTART, care=Care(caps=Caps(cluster_s=90.0))) as service:
        pods = [world.of(Workload("shop", name))[0] for name in ("a", "b")]
        for restarts in range(1, 7):
            for pod in pods:
                world.crash(pod, restarts)
            await service.pass_s(130)
        assert len(asked) == 2
        assert times[1] - times[0] >= 90


async def test_the_policys_cap_for_a_workload(world: World) -> None:
    asked = acts(world)
    caps = Caps(back_off_s=1.0, in_flight_s=1.0, cluster_s=1.0)
    async with serving(world, replace(RESTART, per_workload_hour=1), care=Care(caps=caps)) as service:
        first, *others = sorted(world.of(), key=lambda pod: pod.name)
        for restarts in range(1, 8):
            for pod in (first, others[0]):
                if pod.uid in {each.uid for each in world.of()}:
                    world.crash(pod, restarts)
            await service.pass_s(130)
        assert len(asked) == 1
        assert counted(service.recorder)["CrashLoop", "refused", "WORKLOAD_CAP"] == 1


async def test_an_open_breaker_allows_nothing(world: World) -> None:
    asked = acts(world)
    async with serving(world, RESTART) as service:
        for restarts in range(1, 7):
            for pod in world.of()[:12]:
                world.crash(pod, restarts)
            await service.pass_s(130)
        assert asked == []
        assert ("CrashLoop", "refused", "BREAKER_OPEN") in counted(service.recorder)


async def test_our_own_workload_is_never_touched(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    asked = acts(world)
    mine, other, *_ = world.of()
    async with serving(world, RESTART, care=Care(own=("shop", mine.name))) as service:
        await service.crash_on(other)
        assert (asked, counted(service.recorder).get(("CrashLoop", "refused", "SELF"))) == ([], 1)
        assert (
            "HealthPolicy shop/default selects this service itself (Deployment shop/web): it is reported on, but its pods are never removed"
            in [record.message for record in caplog.records]
        )


async def test_nothing_is_removed_that_could_not_be_noted_first(world: World) -> None:
    asked = acts(world)

    async def full(_: int) -> None:
        raise TransientError("the disk is full")

    async with serving(world, RESTART) as service:
        world.store.before_save = full
        await service.crash_on(world.of()[0])
        assert asked == []
        assert "not removed: not done, as it could not be noted first: the disk is full" in service.remedies()
        world.store.before_save = None
        await service.crash_on(world.of()[0], times=4, every_s=250)
        assert len(asked) == 1


async def test_without_a_store_it_is_done_all_the_same(world: World) -> None:
    asked = acts(world)
    async with serving(world, RESTART, with_store=False) as service:
        await service.crash_on(world.of()[0])
        assert len(asked) == 1
