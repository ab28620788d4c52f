"""What every :class:`autoscaler.ports.PodWatch`, and the :class:`autoscaler.ports.PodActions` beside it, must do, whatever is behind it.

Used as :mod:`autoscaler.testing.cluster` is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from autoscaler.core.health.facts import Facts, Pod
from autoscaler.core.health.remedies import Act
from autoscaler.core.types import Workload
from autoscaler.errors import StaleViewError
from autoscaler.ports import PodActions, PodWatch
from autoscaler.testing.expect import expect


class Harness(Protocol):
    """A running watch, and a hand that is not the watch's to change what it sees.

    ``namespace`` exists, is the check's own and has no pods. ``kinds`` are the (api_version, kind) pairs that workloads with pods can
    be created of: Deployment, StatefulSet and ReplicaSet, then any whose objects the watch does not see, only pods that name them.
    """

    @property
    def watch(self) -> PodWatch:
        """The adapter under test, running."""
        ...

    @property
    def actions(self) -> PodActions:
        """What acts on the same pods."""
        ...

    @property
    def namespace(self) -> str:
        """Where workloads are created."""
        ...

    @property
    def kinds(self) -> Sequence[tuple[str, str]]:
        """What can be created, as (api_version, kind)."""
        ...

    async def create(self, workload: Workload, replicas: int) -> None:
        """Create a workload whose pods all come up Running and Ready, in any order."""
        ...

    async def delete(self, workload: Workload) -> None:
        """Delete it with its pods; when this returns, one of the same name can be created."""
        ...

    async def crash(self, pod: Pod) -> None:
        """Let the pod's only container have ended with exit code 1 once, and wait in CrashLoopBackOff."""
        ...

    async def kill(self, pod: Pod) -> None:
        """Let there be the event of a kubelet that kills the pod's only container for its liveness probe."""
        ...

    async def remove(self, pod: Pod) -> None:
        """Delete the pod; its controller makes another in its place."""
        ...

    async def create_node(self, name: str) -> None:
        """Create a node that is Ready."""
        ...

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition holds; TimeoutError where it should long have been so."""
        ...


Check: TypeAlias = Callable[[Harness], Awaitable[None]]

_AT_S = 1.0


async def knows_whose_pods_are(harness: Harness) -> None:
    """The pods of each kind of workload are found through all controllers, sorted by name, with facts that say what they are."""
    workloads = [Workload(harness.namespace, f"web-{index}", kind, version) for index, (version, kind) in enumerate(harness.kinds)]
    for index, workload in enumerate(workloads):
        await harness.create(workload, index + 1)
    seen: set[str] = set()
    for index, workload in enumerate(workloads):
        pods = await _ready(harness, workload, index + 1)
        expect(list(pods) == sorted(pods, key=lambda pod: pod.name), f"pods of {workload} are sorted by name, got {_names(pods)}")
        for pod in pods:
            expect(pod.uid not in seen, f"{pod.name} belongs to one workload")
            seen.add(pod.uid)
            expect(pod.namespace == harness.namespace and bool(pod.uid and pod.resource_version), f"it says who it is: {pod}")
            expect(pod.phase == "Running" and len(pod.containers) == 1, f"it says how it is: {pod}")
            expect(pod.containers[0].restarts == 0 and pod.containers[0].running, f"its container runs: {pod}")
            expect(pod.created_s > 0 and pod.containers[0].running_s > 0, f"times are seconds since the epoch: {pod}")
    told = _facts(harness)
    expect(seen <= {pod.uid for pod in told.pods}, "whatever is owned is among the facts")


async def knows_the_controllers(harness: Harness) -> None:
    """A Deployment and its ReplicaSet are among the controllers; the pods name the one, which names the other."""
    web = _named(harness, "web")
    await harness.create(web, 2)
    (first, _) = await _ready(harness, web, 2)

    def settled() -> bool:
        controllers = _facts(harness).controllers or {}
        below = controllers.get(first.owner.uid) if first.owner is not None else None
        above = controllers.get(below.owner.uid) if below is not None and below.owner is not None else None
        if below is None or above is None:
            return False
        is_so = (below.kind, above.kind, above.name, above.namespace) == ("ReplicaSet", "Deployment", web.name, web.namespace)
        return is_so and below.revision == first.revision and above.replicas == 2 and above.updated == 2  # noqa: PLR2004

    await harness.until(settled)


async def tells_of_no_pods(harness: Harness) -> None:
    """A workload that does not exist, or has none, owns no pods, which is not the same as not knowing."""
    await harness.create(_named(harness, "web"), 0)
    for name in ("web", "nowhere"):
        await harness.until(lambda name=name: harness.watch.owned(_named(harness, name)) == ())  # type: ignore[misc]


async def sees_a_crash(harness: Harness) -> None:
    """What a pod's status says arrives; facts of whom it is not about stay the same objects."""
    web, other = _named(harness, "web"), _named(harness, "other")
    await harness.create(web, 1)
    await harness.create(other, 1)
    (before,), (spared,) = await _ready(harness, web, 1), await _ready(harness, other, 1)
    await harness.crash(before)
    await harness.until(lambda: _only(harness, web).containers[0].waiting == "CrashLoopBackOff")
    after = _only(harness, web)
    last = after.containers[0].ended
    expect(after.uid == before.uid and after.resource_version != before.resource_version, "the same pod in another version")
    expect(after.containers[0].restarts == 1 and last is not None and last.exit_code == 1, f"one restart, exit code 1: {after}")
    now = _only(harness, other)
    expect(now is spared or now.resource_version != spared.resource_version, "another pod's crash replaces no facts of this one")


async def keeps_facts_that_did_not_change(harness: Harness) -> None:
    """Asked twice, the facts are the same objects: a pass judges only what is new."""
    web = _named(harness, "web")
    await harness.create(web, 2)
    await _ready(harness, web, 2)
    first, second = _facts(harness), _facts(harness)
    expect(all(one is two for one, two in zip(first.pods, second.pods, strict=True)), "pods stay the same objects")
    known = second.controllers or {}
    expect(all(known.get(uid) is each for uid, each in (first.controllers or {}).items()), "controllers stay the same objects")
    expect(first.scale_ups == {}, "scale-ups are somebody else's to know")


async def sees_a_pod_replaced(harness: Harness) -> None:
    """A removed pod is gone, and what its controller makes instead is another; a StatefulSet's has the same name."""
    for kind in ("Deployment", "StatefulSet"):
        workload = Workload(harness.namespace, kind.lower(), kind)
        await harness.create(workload, 1)
        (before,) = await _ready(harness, workload, 1)
        await harness.remove(before)
        await _replaced(harness, workload, before)
        after = _only(harness, workload)
        expect((after.name == before.name) == (kind == "StatefulSet"), f"{kind}: {before.name} was replaced by {after.name}")
        expect(before.uid not in {pod.uid for pod in _facts(harness).pods}, f"{before.name} is gone")


async def tells_a_new_workload_of_the_same_name(harness: Harness) -> None:
    """Deleted, a workload owns nothing; made anew, it owns nothing of the first."""
    web = _named(harness, "web")
    await harness.create(web, 2)
    first = await _ready(harness, web, 2)
    await harness.delete(web)
    await harness.until(lambda: harness.watch.owned(web) == ())
    await harness.create(web, 1)
    second = await _ready(harness, web, 1)
    expect(not _uids(first) & _uids(second), "no pod of the first is one of the second")


async def keeps_namespaces_apart(harness: Harness) -> None:
    """The pods of a workload in another namespace, of the same kind and name, are not its own."""
    web = _named(harness, "web")
    await harness.create(web, 1)
    await _ready(harness, web, 1)
    elsewhere = harness.watch.owned(web._replace(namespace="no-such-namespace"))
    expect(not elsewhere, f"a workload of another namespace owns none of these: {elsewhere}")


async def wakes_up_for_news(harness: Harness) -> None:
    """``changed`` ends once there is something new since the last facts."""
    web = _named(harness, "web")
    await harness.create(web, 1)
    (pod,) = await _ready(harness, web, 1)
    _facts(harness)
    for change in (harness.crash, harness.remove):
        waiting = asyncio.ensure_future(harness.watch.changed())
        await change(pod)
        await harness.until(waiting.done)


async def hears_of_kills(harness: Harness) -> None:
    """The event of a kill is known by the pod's uid, with the container and the probe that its message names."""
    web = _named(harness, "web")
    await harness.create(web, 1)
    (pod,) = await _ready(harness, web, 1)
    await harness.kill(pod)
    await harness.until(lambda: pod.uid in _facts(harness).events)
    (event,) = _facts(harness).events[pod.uid]
    said = (event.reason, event.container, event.probe)
    expect(said == ("Killing", pod.containers[0].name, "liveness"), f"who was killed, and why: {event}")
    expect(event.at_s > 0, f"and when: {event}")


async def knows_nodes(harness: Harness) -> None:
    """Nodes are known by name, with their conditions."""
    name = f"{harness.namespace}-node"
    await harness.create_node(name)
    await harness.until(lambda: name in (_facts(harness).nodes or {}))

    def is_ready() -> bool:
        node = (_facts(harness).nodes or {})[name]
        return ("Ready", "True") in {each[:2] for each in node.conditions} and not node.unreachable

    await harness.until(is_ready)


async def reads_a_pod_past_the_caches(harness: Harness) -> None:
    """What is read is the pod as it is now; one that is not there is None."""
    web = _named(harness, "web")
    await harness.create(web, 1)
    (pod,) = await _ready(harness, web, 1)
    await harness.crash(pod)
    fresh = await harness.actions.read(pod.namespace, pod.name)
    expect(fresh is not None and fresh.uid == pod.uid, f"it is the same pod: {fresh}")
    expect(fresh is not None and fresh.containers[0].restarts == 1, f"read after the crash, it shows it: {fresh}")
    expect(await harness.actions.read(pod.namespace, "nowhere") is None, "a pod that is not there is None")


async def removes_a_pod(harness: Harness) -> None:
    """By eviction and by deletion the pod goes, and its controller makes another."""
    for eviction, name in ((True, "evicted"), (False, "deleted")):
        workload = _named(harness, name)
        await harness.create(workload, 1)
        pod = await _read(harness, workload)
        await harness.actions.remove(_act(pod, eviction=eviction), dry_run=False)
        await _replaced(harness, workload, pod)
        gone = await harness.actions.read(pod.namespace, pod.name)
        expect(gone is None or gone.leaving, f"{name}: {pod.name} is gone, or going")


async def only_tries_in_a_dry_run(harness: Harness) -> None:
    """A dry run changes nothing, and is refused as the real thing would be."""
    web = _named(harness, "web")
    await harness.create(web, 1)
    for eviction in (True, False):
        pod = await _read(harness, web)
        await harness.actions.remove(_act(pod, eviction=eviction), dry_run=True)
        same = await _read(harness, web)
        expect(same.uid == pod.uid and not same.leaving, "it is still there")
        await _expect_stale(harness, replace(_act(pod, eviction=eviction), uid="another"), "another uid", dry_run=True)


async def removes_only_what_was_seen(harness: Harness) -> None:
    """Changed since, made anew under its name, or gone: StaleViewError, and nothing happens."""
    db = Workload(harness.namespace, "db", "StatefulSet")
    await harness.create(db, 1)
    for eviction in (True, False):
        pod = await _read(harness, db)
        await harness.crash(pod)
        await _expect_stale(harness, _act(pod, eviction=eviction), "it has changed since")
        now = await _read(harness, db)
        expect(now.uid == pod.uid and not now.leaving, "it is still there")
        await harness.remove(now)
        await _replaced(harness, db, now)
        await _expect_stale(harness, _act(now, eviction=eviction), "another has its name")
    last = await _read(harness, db)
    await harness.delete(db)
    for eviction in (True, False):
        await _expect_stale(harness, _act(last, eviction=eviction), "it is gone")


ACTIONS_CONTRACT: tuple[Check, ...] = (
    reads_a_pod_past_the_caches,
    removes_a_pod,
    only_tries_in_a_dry_run,
    removes_only_what_was_seen,
)

CONTRACT: tuple[Check, ...] = (
    knows_whose_pods_are,
    knows_the_controllers,
    tells_of_no_pods,
    sees_a_crash,
    keeps_facts_that_did_not_change,
    sees_a_pod_replaced,
    tells_a_new_workload_of_the_same_name,
    keeps_namespaces_apart,
    wakes_up_for_news,
    hears_of_kills,
    knows_nodes,
)


def _named(harness: Harness, name: str) -> Workload:
    return Workload(harness.namespace, name)


def _facts(harness: Harness) -> Facts:
    return harness.watch.facts(_AT_S)


def _uids(pods: Sequence[Pod] | None) -> set[str]:
    return {pod.uid for pod in pods or ()}


def _names(pods: Sequence[Pod]) -> list[str]:
    return [pod.name for pod in pods]


def _only(harness: Harness, workload: Workload) -> Pod:
    """Its one pod; while it is being replaced, the younger."""
    pods = harness.watch.owned(workload) or (Pod("", "", ""),)
    return max(pods, key=lambda pod: (not pod.leaving, pod.created_s))


async def _ready(harness: Harness, workload: Workload, replicas: int) -> tuple[Pod, ...]:
    await harness.until(lambda: _are_ready(harness.watch.owned(workload), replicas))
    pods = harness.watch.owned(workload)
    return pods if pods is not None else ()


def _are_ready(pods: Sequence[Pod] | None, replicas: int) -> bool:
    return pods is not None and len(pods) == replicas and all(pod.is_ready and not pod.leaving for pod in pods)


async def _replaced(harness: Harness, workload: Workload, pod: Pod) -> None:
    """Until the pod is gone and another is there."""
    await harness.until(lambda: pod.uid not in (uids := _uids(harness.watch.owned(workload))) and bool(uids))


async def _read(harness: Harness, workload: Workload) -> Pod:
    """Its one pod, ready, as the actions read it."""
    (seen,) = await _ready(harness, workload, 1)
    pod = await harness.actions.read(seen.namespace, seen.name)
    if pod is None:
        raise AssertionError(f"{seen.name} is there, but cannot be read")
    return pod


def _act(pod: Pod, *, eviction: bool) -> Act:
    return Act(eviction, pod.namespace, pod.name, pod.uid, pod.resource_version, "as the contract wants")


async def _expect_stale(harness: Harness, act: Act, why: str, *, dry_run: bool = False) -> None:
    try:
        await harness.actions.remove(act, dry_run=dry_run)
    except StaleViewError:
        return
    raise AssertionError(f"{why}: {act} must raise StaleViewError, and went through")
