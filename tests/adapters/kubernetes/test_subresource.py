"""Kinds of which only /scale can tell the count."""

import asyncio
from pathlib import Path

import pytest

from autoscaler.core.types import Target
from tests.adapters.kubernetes.fault_server import (
    Feed,
    Step,
    discovery,
    held,
    listing,
    status,
    thing,
)
from tests.adapters.kubernetes.following import TASK, TASK_SCALE, Rig, following, scale


class TestAnyScale:
    """Kinds of which only /scale can tell the count."""

    def counts(self, rig: Rig) -> int:
        return len(rig.server.of(f"GET {TASK_SCALE}"))

    async def test_is_read_when_the_version_has_changed(self, tmp_path: Path) -> None:
        feed, other = Feed(), thing("other", 9)
        listed = listing("10", thing("task", 7), other)
        async with following(tmp_path, [TASK], list=listed, watch=feed.step, discovery=discovery(Task="tasks")) as rig:
            rig.server.script(f"GET {TASK_SCALE}", scale(7, 4, "uid-task"), scale(12, 6, "uid-task"))
            await rig.seen(TASK)
            feed.send("MODIFIED", thing("other", 11))
            feed.send("BOOKMARK", {"metadata": {"resourceVersion": "11"}})
            feed.send("MODIFIED", thing("task", 7))
            feed.send("MODIFIED", thing("task", 12))
            await rig.until(lambda: rig.cluster.facts(TASK).replicas == 6)
            assert self.counts(rig) == 2

    async def test_our_own_write_needs_no_reading(self, tmp_path: Path) -> None:
        feed = Feed()
        listed = listing("10", thing("task", 7))
        async with following(tmp_path, [TASK], list=listed, watch=feed.step, discovery=discovery(Task="tasks")) as rig:
            rig.server.script(f"GET {TASK_SCALE}", scale(7, 4, "uid-task", 4))
            rig.server.script(f"PATCH {TASK_SCALE}", scale(20, 0, "uid-task", 4))
            await rig.cluster.scale(TASK, await rig.seen(TASK), 0)
            facts = rig.cluster.facts(TASK)
            assert (facts.replicas, facts.status_replicas, facts.resource_version) == (0, 4, "20")
            feed.send("MODIFIED", thing("task", 20))
            feed.send("ADDED", thing("marker", 21))
            await rig.until(lambda: rig.cluster.facts(TASK).resource_version == "20")
            assert self.counts(rig) == 1

    async def test_a_read_that_crosses_a_write_is_repeated(self, tmp_path: Path) -> None:
        feed, gate = Feed(), asyncio.Event()
        listed = listing("10", thing("task", 7))
        async with following(tmp_path, [TASK], list=listed, watch=feed.step, discovery=discovery(Task="tasks")) as rig:
            old, new = scale(7, 4, "uid-task"), scale(20, 5, "uid-task")
            rig.server.script(f"GET {TASK_SCALE}", old, held(gate, old), new)
            rig.server.script(f"PATCH {TASK_SCALE}", new)
            seen = await rig.seen(TASK)
            feed.send("MODIFIED", thing("task", 12))
            await rig.until(lambda: self.counts(rig) == 2)
            await rig.cluster.scale(TASK, seen, 5)
            gate.set()
            await rig.until(lambda: self.counts(rig) == 3)
            assert rig.cluster.facts(TASK).replicas == 5

    @pytest.mark.parametrize(
        ("told", "state", "words"),
        [
            pytest.param(status(403), Target.FORBIDDEN, 'resources: ["tasks/scale"], verbs: ["get"]', id="403"),
            pytest.param(status(404), Target.NOT_FOUND, "get tasks.example.dev/scale task in namespace shop: 404", id="404"),
            pytest.param(status(500), Target.UNKNOWN, "the /scale of Task task in namespace shop has not been read yet: get", id="500"),
        ],
    )
    async def test_cannot_be_read(self, tmp_path: Path, told: Step, state: Target, words: str) -> None:
        async with following(tmp_path, [TASK], list=listing("10", thing("task", 7)), discovery=discovery(Task="tasks")) as rig:
            rig.server.script(f"GET {TASK_SCALE}", told)
            await rig.until(lambda: words in rig.cluster.facts(TASK).problem)
            assert rig.cluster.facts(TASK).state is state
            rig.server.script(f"GET {TASK_SCALE}", scale(7, 4, "uid-task"))
            assert (await rig.seen(TASK)).replicas == 4

    async def test_is_stale_when_it_cannot_be_read_again(self, tmp_path: Path) -> None:
        feed = Feed()
        listed = listing("10", thing("task", 7))
        async with following(tmp_path, [TASK], list=listed, watch=feed.step, discovery=discovery(Task="tasks")) as rig:
            rig.server.script(f"GET {TASK_SCALE}", scale(7, 4, "uid-task"), status(503))
            facts = await rig.seen(TASK)
            feed.send("MODIFIED", thing("task", 12))
            await rig.until(lambda: self.counts(rig) == 2)
            assert rig.cluster.facts(TASK) is facts
            began_s = rig.clock.monotonic()
            while rig.clock.monotonic() < began_s + 150:
                feed.send("BOOKMARK", {"metadata": {"resourceVersion": "13"}})
                await rig.clock.sleep_until(rig.clock.monotonic() + 30)
            stale = rig.cluster.facts(TASK)
            assert (stale.state, stale.replicas) == (Target.STALE, 4)
            assert "the /scale of Task task in namespace shop could not be read for over 120 s: get tasks" in stale.problem
            assert self.counts(rig) < 20
