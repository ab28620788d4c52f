"""What every :class:`autoscaler.ports.Cluster` must do, whatever is behind it: the contract that adapters are held to.

A test module gives a harness around its adapter and runs each check of :data:`CONTRACT` on a fresh one::

    @pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in CONTRACT])
    async def test_contract(check: Check) -> None:
        async with my_harness() as harness:
            await check(harness)

Checks raise AssertionError with a sentence. They wait only through :meth:`Harness.until`, so that a manual clock serves as well as
a real API server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from autoscaler.core.types import Target, Workload
from autoscaler.errors import StaleViewError
from autoscaler.ports import Cluster, TargetFacts
from autoscaler.testing.expect import expect


class Harness(Protocol):
    """A running cluster without targets, and a hand that is not the autoscaler's to change it with.

    The harness runs ``cluster.run()`` for as long as it is open. ``namespace`` exists and is the check's own. ``kinds`` are the
    (api_version, kind) pairs that targets can be created of, Deployment first.
    """

    @property
    def cluster(self) -> Cluster:
        """The adapter under test, running."""
        ...

    @property
    def namespace(self) -> str:
        """Where targets are created."""
        ...

    @property
    def kinds(self) -> Sequence[tuple[str, str]]:
        """What can be created, as (api_version, kind)."""
        ...

    async def create(self, workload: Workload, replicas: int) -> None:
        """Create a target that asks for so many replicas."""
        ...

    async def delete(self, workload: Workload) -> None:
        """Delete it; when this returns, a target of the same name can be created."""
        ...

    async def set_replicas(self, workload: Workload, replicas: int) -> None:
        """Change the count as another writer (a person, an HPA) does."""
        ...

    async def make_ready(self, workload: Workload) -> None:
        """Let all replicas that are asked for become ready."""
        ...

    async def replicas(self, workload: Workload) -> int:
        """The count that is really asked for, read behind the adapter's back."""
        ...

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition holds; TimeoutError where it should long have been so."""
        ...


Check: TypeAlias = Callable[[Harness], Awaitable[None]]


async def tells_what_it_was_not_asked_to_follow(harness: Harness) -> None:
    """Facts of a workload that nobody follows are UNKNOWN, with a sentence, even where it exists."""
    web = _named(harness, "web")
    await harness.create(web, 3)
    seen = harness.cluster.facts(web)
    expect(seen.state is Target.UNKNOWN, f"a workload that is not followed is UNKNOWN, not {seen}")
    expect(bool(seen.problem), "UNKNOWN comes with a sentence")


async def follows_every_kind(harness: Harness) -> None:
    """Count, identity and order of each kind of target are known; unknown counts are NaN, never negative."""
    workloads = [Workload(harness.namespace, f"web-{index}", kind, version) for index, (version, kind) in enumerate(harness.kinds)]
    for index, workload in enumerate(workloads):
        await harness.create(workload, index + 1)
    harness.cluster.follow(workloads)
    for index, workload in enumerate(workloads):
        seen = await _seen(harness, workload)
        expect(seen.replicas == index + 1, f"{workload} asks for {index + 1} replicas, seen: {seen}")
        expect(bool(seen.uid and seen.resource_version), f"{workload} has a uid and a resource version, seen: {seen}")
        expect(not seen.problem, f"nothing is wrong with {workload}, seen: {seen}")
        expect(seen.ordered == (workload.kind == "StatefulSet"), f"of the kinds here only a StatefulSet starts in order, seen: {seen}")
        expect(not seen.ready < 0, f"ready is a count or NaN, seen: {seen}")
    uids = {harness.cluster.facts(workload).uid for workload in workloads}
    expect(len(uids) == len(workloads), "no two targets share a uid")


async def counts_ready_replicas(harness: Harness) -> None:
    """Ready and status replicas go from none to all as replicas start."""
    web = _named(harness, "web")
    await harness.create(web, 2)
    harness.cluster.follow([web])
    first = await _seen(harness, web)
    expect(first.ready in {0, 1, 2}, f"replicas that start are 0, 1 or 2 of 2 ready, not NaN: {first}")
    await harness.make_ready(web)
    await _until_ready(harness, web, 2)
    last = harness.cluster.facts(web)
    expect((last.replicas, last.status_replicas) == (2, 2), f"two are asked for, two are there: {last}")


async def keeps_facts_that_did_not_change(harness: Harness) -> None:
    """Facts are replaced only when something is new: a tick finds what changed by ``is``."""
    web, other = _named(harness, "web"), _named(harness, "other")
    await harness.create(web, 1)
    await harness.create(other, 1)
    harness.cluster.follow([web, other])
    before = await _seen(harness, web)
    await _seen(harness, other)
    await harness.set_replicas(other, 2)
    await _until_asked(harness, other, 2)
    after = harness.cluster.facts(web)
    newer = after.resource_version != before.resource_version  # its own controller may have written meanwhile
    expect(after is before or newer, "another target's change replaces no facts of this one")


async def sees_other_writers(harness: Harness) -> None:
    """A count that somebody else sets arrives, zero and back included; the object stays the same one."""
    web = _named(harness, "web")
    await harness.create(web, 3)
    harness.cluster.follow([web])
    first = await _seen(harness, web)
    for replicas in (7, 0, 2):
        await harness.set_replicas(web, replicas)
        await _until_asked(harness, web, replicas)
    last = harness.cluster.facts(web)
    expect(last.uid == first.uid, "a change of the count is no new object")
    expect(last.resource_version != first.resource_version, "a change of the count is a new version")


async def tells_what_does_not_exist(harness: Harness) -> None:
    """A missing name, namespace and kind are NOT_FOUND, each with a sentence that names it; a target that appears is seen."""
    name = _named(harness, "nowhere")
    namespace = Workload("no-such-namespace", "web")
    kind = Workload(harness.namespace, "web", "NoSuchKind", "apps/v1")
    harness.cluster.follow([name, namespace, kind])
    for workload, word in ((name, "nowhere"), (namespace, "no-such-namespace"), (kind, "NoSuchKind")):
        await _until_state(harness, workload, Target.NOT_FOUND)
        problem = harness.cluster.facts(workload).problem
        expect(word in problem, f"the sentence about {workload} names {word!r}: {problem!r}")
    await harness.create(name, 1)
    expect((await _seen(harness, name)).replicas == 1, "a target that appears is followed without being asked for again")


async def tells_a_new_object_of_the_same_name(harness: Harness) -> None:
    """Deleted is NOT_FOUND; created again under the same name is another uid, and what was seen of the first cannot be written to."""
    web = _named(harness, "web")
    await harness.create(web, 3)
    harness.cluster.follow([web])
    first = await _seen(harness, web)
    await harness.delete(web)
    await _until_state(harness, web, Target.NOT_FOUND)
    await _expect_stale(harness, web, first, 4, "the target is gone")
    await harness.create(web, 3)
    await _until_state(harness, web, Target.OK)
    second = harness.cluster.facts(web)
    expect(second.uid != first.uid, "another object has another uid")
    await _expect_stale(harness, web, first, 4, "the target of that name is another object now")
    await _expect_count(harness, web, 3, "a refused write changes nothing")


async def follows_only_the_last_wish(harness: Harness) -> None:
    """``follow`` replaces: what is dropped is UNKNOWN again, what stays keeps its facts, what returns is seen anew."""
    web, other = _named(harness, "web"), _named(harness, "other")
    await harness.create(web, 1)
    await harness.create(other, 2)
    harness.cluster.follow([web, other])
    await _seen(harness, web)
    await _seen(harness, other)
    kept = harness.cluster.facts(other)
    harness.cluster.follow([other])
    expect(harness.cluster.facts(web).state is Target.UNKNOWN, "what is not followed any more is UNKNOWN")
    expect(harness.cluster.facts(other).uid == kept.uid, "what is still followed stays known")
    await harness.set_replicas(web, 5)
    harness.cluster.follow([web, other])
    await _until_asked(harness, web, 5)


async def writes_every_kind(harness: Harness) -> None:
    """A write lands, up, to zero and from zero, for each kind; afterwards no older count is served as current."""
    workloads = [Workload(harness.namespace, f"web-{index}", kind, version) for index, (version, kind) in enumerate(harness.kinds)]
    for workload in workloads:
        await harness.create(workload, 3)
    harness.cluster.follow(workloads)
    for workload in workloads:
        for replicas in (5, 0, 2):
            await harness.cluster.scale(workload, await _seen(harness, workload), replicas)
            now = harness.cluster.facts(workload)
            expect(
                now.state is not Target.OK or now.replicas == replicas,
                f"{workload} was set to {replicas}; an older count must not be served as current: {now}",
            )
            await _expect_count(harness, workload, replicas, f"{workload} was set to {replicas}")
            await _until_asked(harness, workload, replicas)


async def refuses_a_stale_view(harness: Harness) -> None:
    """If somebody else wrote since, StaleViewError: their count stays, and the next view can be written from."""
    web = _named(harness, "web")
    await harness.create(web, 3)
    harness.cluster.follow([web])
    seen = await _seen(harness, web)
    await harness.set_replicas(web, 8)
    await _expect_stale(harness, web, seen, 4, "somebody else set 8")
    await _expect_count(harness, web, 8, "the other writer's count stays")
    await _until_asked(harness, web, 8)
    await harness.cluster.scale(web, harness.cluster.facts(web), 4)
    await _expect_count(harness, web, 4, "a view that is current can be written from")


async def refuses_a_stale_zero(harness: Harness) -> None:
    """Zero is a count like any other: a view of zero cannot overwrite more, nor a view of more a zero."""
    web = _named(harness, "web")
    await harness.create(web, 0)
    harness.cluster.follow([web])
    zero = await _seen(harness, web)
    expect(zero.replicas == 0, f"zero replicas are 0, not unknown: {zero}")
    await harness.set_replicas(web, 2)
    await _expect_stale(harness, web, zero, 1, "somebody woke it")
    await _until_asked(harness, web, 2)
    two = harness.cluster.facts(web)
    await harness.set_replicas(web, 0)
    await _expect_stale(harness, web, two, 3, "somebody set zero")
    await _expect_count(harness, web, 0, "the other writer's zero stays")


async def writes_despite_other_changes(harness: Harness) -> None:
    """Only the count and the object's identity are compared: pods becoming ready since do not make a view stale."""
    web = _named(harness, "web")
    await harness.create(web, 2)
    harness.cluster.follow([web])
    seen = await _seen(harness, web)
    await harness.make_ready(web)
    await _until_ready(harness, web, 2)
    await harness.cluster.scale(web, seen, 3)
    await _expect_count(harness, web, 3, "a rollout's status writes must not starve a scale-up")


async def lets_one_of_two_writers_win(harness: Harness) -> None:
    """Two writes from one view: one lands, the other is told that its view is stale."""
    web = _named(harness, "web")
    await harness.create(web, 3)
    harness.cluster.follow([web])
    seen = await _seen(harness, web)
    outcomes = await asyncio.gather(*(harness.cluster.scale(web, seen, count) for count in (4, 5)), return_exceptions=True)
    stale = [outcome for outcome in outcomes if isinstance(outcome, StaleViewError)]
    expect(len(stale) == 1 and None in outcomes, f"one write lands and one is stale, got {outcomes}")
    winner = (4, 5)[outcomes.index(None)]
    await _expect_count(harness, web, winner, f"the write that landed, {winner}, is the count")


async def writes_nothing_without_a_view(harness: Harness) -> None:
    """Facts that do not say OK are no ground for a write."""
    web = _named(harness, "web")
    await harness.create(web, 3)
    await _expect_stale(harness, web, harness.cluster.facts(web), 4, "nothing has been seen of it")
    await _expect_count(harness, web, 3, "nothing was written")


async def knows_who_set_the_count(harness: Harness) -> None:
    """The owner of a count that we wrote is us, of one that another writer set it is not; it has a name."""
    web = _named(harness, "web")
    await harness.create(web, 3)
    harness.cluster.follow([web])
    await harness.cluster.scale(web, await _seen(harness, web), 4)
    ours = await harness.cluster.owner(web)
    expect(ours is not None and ours.ours, f"we set four, the owner is {ours}")
    await harness.set_replicas(web, 5)
    theirs = await harness.cluster.owner(web)
    expect(theirs is not None and not theirs.ours and bool(theirs.manager), f"another writer set five, the owner is {theirs}")


CONTRACT: tuple[Check, ...] = (
    tells_what_it_was_not_asked_to_follow,
    follows_every_kind,
    counts_ready_replicas,
    keeps_facts_that_did_not_change,
    sees_other_writers,
    tells_what_does_not_exist,
    tells_a_new_object_of_the_same_name,
    follows_only_the_last_wish,
    writes_every_kind,
    refuses_a_stale_view,
    refuses_a_stale_zero,
    writes_despite_other_changes,
    lets_one_of_two_writers_win,
    writes_nothing_without_a_view,
    knows_who_set_the_count,
)


def _named(harness: Harness, name: str) -> Workload:
    version, kind = harness.kinds[0]
    return Workload(harness.namespace, name, kind, version)


async def _seen(harness: Harness, workload: Workload) -> TargetFacts:
    await _until_state(harness, workload, Target.OK)
    return harness.cluster.facts(workload)


async def _until_state(harness: Harness, workload: Workload, state: Target) -> None:
    await harness.until(lambda: harness.cluster.facts(workload).state is state)


async def _until_asked(harness: Harness, workload: Workload, replicas: int) -> None:
    await harness.until(lambda: harness.cluster.facts(workload).replicas == replicas)


async def _until_ready(harness: Harness, workload: Workload, replicas: int) -> None:
    await harness.until(lambda: harness.cluster.facts(workload).ready == replicas)


async def _expect_count(harness: Harness, workload: Workload, replicas: int, why: str) -> None:
    found = await harness.replicas(workload)
    expect(found == replicas, f"{why}: {workload} must ask for {replicas} replicas; it asks for {found}")


async def _expect_stale(harness: Harness, workload: Workload, seen: TargetFacts, replicas: int, why: str) -> None:
    try:
        await harness.cluster.scale(workload, seen, replicas)
    except StaleViewError:
        return
    raise AssertionError(f"{why}: a write from the view before must raise StaleViewError; it went through for {workload}")
