"""The contract of the port Cluster finds what it is there to find: each breach below fails the check it is meant for."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from math import nan

import pytest

from autoscaler.adapters.memory import MemoryCluster
from autoscaler.clock import ManualClock
from autoscaler.core.plant import Plant
from autoscaler.core.types import Target, Workload
from autoscaler.errors import StaleViewError
from autoscaler.ports import Owner, TargetFacts
from autoscaler.testing import cluster as contract


class Good(MemoryCluster):
    """A cluster that keeps the contract; breaches change one thing about it."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock, Plant(step_s=5.0, startup_s=20.0))
        self.wanted: set[Workload] = set()

    def follow(self, workloads: Iterable[Workload]) -> None:
        self.wanted = set(workloads)
        super().follow(self.wanted)

    def now(self, workload: Workload) -> TargetFacts:
        """How it is, followed or not."""
        super().follow(self.wanted | {workload})
        return super().facts(workload)


class Harness:
    """A cluster on a manual clock."""

    kinds: Sequence[tuple[str, str]] = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"))
    namespace = "shop"

    def __init__(self, made: type[Good]) -> None:
        self.clock = ManualClock()
        self.cluster = made(self.clock)

    async def create(self, workload: Workload, replicas: int) -> None:
        self.cluster.create(workload, replicas)

    async def delete(self, workload: Workload) -> None:
        self.cluster.delete(workload)

    async def set_replicas(self, workload: Workload, replicas: int) -> None:
        self.cluster.set_replicas(workload, replicas)

    async def make_ready(self, workload: Workload) -> None:
        await self.clock.advance(60.0)
        assert self.cluster.ready(workload) == self.cluster.replicas(workload)

    async def replicas(self, workload: Workload) -> int:
        return self.cluster.replicas(workload)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(50):
            if condition():
                return
            await self.clock.advance(5.0)
        raise TimeoutError


class FollowsEverything(Good):
    def facts(self, workload: Workload) -> TargetFacts:
        return self.now(workload)


class FollowsForEver(Good):
    def follow(self, workloads: Iterable[Workload]) -> None:
        super().follow(self.wanted | set(workloads))


class CallsEverythingOrdered(Good):
    def facts(self, workload: Workload) -> TargetFacts:
        return replace(super().facts(workload), ordered=True)


class DoesNotCountReady(Good):
    def facts(self, workload: Workload) -> TargetFacts:
        return replace(super().facts(workload), ready=nan)


class MakesFactsAnew(Good):
    def facts(self, workload: Workload) -> TargetFacts:
        return replace(super().facts(workload))


class LooksOnce(Good):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.first: dict[Workload, TargetFacts] = {}

    def facts(self, workload: Workload) -> TargetFacts:
        facts = super().facts(workload)
        return self.first.setdefault(workload, facts) if facts.state is Target.OK else facts


class DoesNotSayWhy(Good):
    def facts(self, workload: Workload) -> TargetFacts:
        facts = super().facts(workload)
        return replace(facts, problem="not there") if facts.problem else facts


class ServesTheOlderCount(Good):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.older: dict[Workload, TargetFacts] = {}

    def facts(self, workload: Workload) -> TargetFacts:
        return self.older.pop(workload, None) or super().facts(workload)

    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        await super().scale(workload, seen, replicas)
        self.older[workload] = seen


class ForgetsWhichObject(Good):
    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        await super().scale(workload, replace(seen, uid=self.now(workload).uid), replicas)


class Overwrites(Good):
    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        await super().scale(workload, replace(seen, replicas=self.now(workload).replicas), replicas)


class ComparesVersions(Good):
    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        if seen.resource_version != self.now(workload).resource_version:
            raise StaleViewError("another version")
        await super().scale(workload, seen, replicas)


class WritesBlindly(Good):
    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        await super().scale(workload, seen if seen.state is Target.OK else self.now(workload), replicas)


class TakesAllForOurs(Good):
    async def owner(self, workload: Workload) -> Owner | None:
        found = await super().owner(workload)
        return None if found is None else replace(found, ours=True)


BREACHES: list[tuple[type[Good], contract.Check]] = [
    (FollowsEverything, contract.tells_what_it_was_not_asked_to_follow),
    (CallsEverythingOrdered, contract.follows_every_kind),
    (DoesNotCountReady, contract.counts_ready_replicas),
    (MakesFactsAnew, contract.keeps_facts_that_did_not_change),
    (LooksOnce, contract.sees_other_writers),
    (DoesNotSayWhy, contract.tells_what_does_not_exist),
    (ForgetsWhichObject, contract.tells_a_new_object_of_the_same_name),
    (FollowsForEver, contract.follows_only_the_last_wish),
    (ServesTheOlderCount, contract.writes_every_kind),
    (Overwrites, contract.refuses_a_stale_view),
    (Overwrites, contract.refuses_a_stale_zero),
    (Overwrites, contract.lets_one_of_two_writers_win),
    (ComparesVersions, contract.writes_despite_other_changes),
    (WritesBlindly, contract.writes_nothing_without_a_view),
    (TakesAllForOurs, contract.knows_who_set_the_count),
]


@asynccontextmanager
async def harness_of(made: type[Good]) -> AsyncIterator[Harness]:
    harness = Harness(made)
    task = asyncio.create_task(harness.cluster.run())
    try:
        yield harness
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in contract.CONTRACT])
async def test_good_one_passes(check: contract.Check) -> None:
    async with harness_of(Good) as harness:
        await check(harness)


@pytest.mark.parametrize(("breach", "check"), [pytest.param(*row, id=f"{row[0].__name__}-{row[1].__name__}") for row in BREACHES])
async def test_breach_is_found(breach: type[Good], check: contract.Check) -> None:
    async with harness_of(breach) as harness:
        with pytest.raises((AssertionError, TimeoutError, StaleViewError)):
            await check(harness)


def test_every_check_finds_something() -> None:
    assert {check for _, check in BREACHES} == set(contract.CONTRACT)
