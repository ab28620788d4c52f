"""How the measuring of start-up times is spread over time. What it makes of pods is in tests/core/test_startup.py."""

import asyncio
from collections import Counter
from math import isnan

from autoscaler.adapters.memory_pods import MemoryPods
from autoscaler.clock import ManualClock
from autoscaler.core.health.facts import Pod
from autoscaler.core.startup import UNKNOWN_S
from autoscaler.core.types import Workload
from autoscaler.loops.startup import LOOK_EVERY_S, Startups
from tests.core import build


class Counted(MemoryPods):
    """Counts by whom and when it is asked."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.clock, self.of, self.at = clock, Counter[Workload](), Counter[float]()

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        self.of[workload] += 1
        self.at[self.clock.monotonic()] += 1
        return super().owned(workload)


async def test_a_great_many_are_looked_at_in_turns_and_each_as_often() -> None:
    clock = ManualClock()
    watch = Counted(clock)
    startups = Startups(watch, clock)
    workloads = [build.workload(f"w{number}") for number in range(1000)]
    startups.follow(workloads)
    task = asyncio.create_task(startups.run())
    await clock.advance(2 * LOOK_EVERY_S - 0.001)
    assert {watch.of[workload] for workload in workloads} == {2}
    assert max(watch.at.values()) == 200
    startups.follow(workloads[:1])
    await clock.advance(2 * LOOK_EVERY_S)
    assert watch.of[workloads[0]] == 4
    assert watch.of[workloads[1]] <= 3, "who is followed no longer is not looked at after the round that is under way"
    task.cancel()


async def test_what_is_known_stays_with_those_that_stay() -> None:
    clock = ManualClock()
    pods = MemoryPods(clock)
    startups = Startups(pods, clock)
    for name in ("web", "api"):
        pods.create(build.workload(name), 2)
    startups.follow([build.workload("web"), build.workload("api")])
    startups.look([build.workload("web"), build.workload("api")])
    startups.follow([build.workload("web")])
    assert (startups.seconds(build.workload("web")), startups.seconds(build.workload("api"))) == (15.0, UNKNOWN_S)
    startups.forget(build.workload("web"))
    assert startups.seconds(build.workload("web")) == UNKNOWN_S
    assert isnan(Startups(None, clock).seconds(build.workload("web")))
