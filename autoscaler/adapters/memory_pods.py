"""Pods in memory, for tests and the demo: :class:`autoscaler.ports.PodWatch` and :class:`autoscaler.ports.PodActions` in one.

Pods are made healthy and stay as somebody puts them: there is no kubelet here. Whoever owns a removed pod makes another in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from autoscaler.clock import Clock
from autoscaler.core.health.facts import Condition, Container, Controller, Facts, Node, Owner, Pod, PodEvent
from autoscaler.core.health.remedies import Act
from autoscaler.core.types import Workload
from autoscaler.errors import StaleViewError

Facet = Pod | Controller | Node

_REPLICATING = frozenset({"Deployment", "StatefulSet", "ReplicaSet"})
_HEALTHY = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


@dataclass(frozen=True, slots=True)
class Template:
    """What a workload's pods are made of: their containers as they are when they run, and the node that they come to."""

    containers: tuple[Container, ...] = (Container("app", image="app:1"),)
    node: str = "node-1"


@dataclass(slots=True)
class _Made:
    """A workload, and whom its pods name as their controller."""

    template: Template
    owner: Owner
    revision: str


class MemoryPods:
    """A cluster's pods. ``before`` is awaited ahead of every removal: what it raises is the answer, so refusals can be made.

    ``synced`` False is a watch that is not current; ``knows_controllers`` and ``knows_nodes`` False: they may not be read.
    """

    def __init__(self, clock: Clock, before: Callable[[Act], Awaitable[None]] | None = None) -> None:
        self.before = before
        self.synced = self.knows_controllers = self.knows_nodes = True
        self._clock = clock
        self._pods: dict[str, Pod] = {}
        self._controllers: dict[str, Controller] = {}
        self._nodes: dict[str, Node] = {}
        self._events: dict[str, tuple[PodEvent, ...]] = {}
        self._made: dict[Workload, _Made] = {}
        self._numbers = count(1)
        self._news = asyncio.Event()

    def create(self, workload: Workload, replicas: int, template: Template | None = None, uid: str = "") -> None:
        """Make a workload with healthy pods. Of a kind that nobody watches (a custom resource) there are just pods that name it.

        ``uid``: by which another adapter knows it already.
        """
        if workload in self._made:
            raise ValueError(f"{workload} exists already")
        number = next(self._numbers)
        own = Owner(workload.kind, workload.name, uid or f"uid-{number}")
        top = Controller(
            workload.kind,
            workload.namespace,
            workload.name,
            own.uid,
            created_s=self._clock.now(),
            generation=1,
            observed_generation=1,
            replicas=float(replicas),
            updated=float(replicas),
            strategy="RollingUpdate",
            labels=(("app", workload.name),),
        )
        made = _Made(template or Template(), own, f"{number:08x}")
        if workload.kind == "Deployment":
            made.owner = Owner("ReplicaSet", f"{workload.name}-{made.revision}", f"uid-{number}-{made.revision}")
            below = replace(top, kind="ReplicaSet", name=made.owner.name, uid=made.owner.uid, owner=own, revision=made.revision, number=1)
            self.put(top, replace(below, strategy="", updated=0.0))
        elif workload.kind == "StatefulSet":
            made.revision = f"{workload.name}-{made.revision}"
            self.put(replace(top, revision=made.revision, update_revision=made.revision))
        elif workload.kind in _REPLICATING:
            self.put(replace(top, revision=made.revision, strategy="", updated=0.0))
        self._made[workload] = made
        self.scale(workload, replicas)

    def scale(self, workload: Workload, replicas: int) -> None:
        """Make or remove pods until there are so many: the youngest go first, as a ReplicaSet and a StatefulSet have it."""
        made = self._made[workload]
        mine = [pod for pod in self._pods.values() if pod.owner is not None and pod.owner.uid == made.owner.uid]
        for pod in mine[replicas:]:
            self.drop(pod)
        for index in range(len(mine), replicas):
            self.put(self._fresh(workload, index))
        for each in self._controllers_of(workload):
            self.put(replace(each, replicas=float(replicas), updated=float(replicas) if each.kind != "ReplicaSet" else 0.0))

    def delete(self, workload: Workload) -> None:
        """Remove a workload with all that it owns."""
        self.scale(workload, 0)
        for each in self._controllers_of(workload):
            self.drop(each)
        del self._made[workload]

    def put(self, *facets: Facet) -> None:
        """Let these be so: new ones, or others of their uid (of a node: of its name). Pods get a new version."""
        for each in facets:
            if isinstance(each, Pod):
                self._pods[each.uid] = replace(each, resource_version=str(next(self._numbers)))
            elif isinstance(each, Controller):
                self._controllers[each.uid] = each
            else:
                self._nodes[each.name] = each
        self._news.set()

    def drop(self, facet: Facet) -> None:
        """Let it be gone; nobody makes another."""
        if isinstance(facet, Pod):
            self._pods.pop(facet.uid, None)
            self._events.pop(facet.uid, None)
        elif isinstance(facet, Controller):
            self._controllers.pop(facet.uid, None)
        else:
            self._nodes.pop(facet.name, None)
        self._news.set()

    def tell(self, pod: Pod, event: PodEvent) -> None:
        """Let there be an event of a pod."""
        self._events[pod.uid] = (*self._events.get(pod.uid, ()), event)
        self._news.set()

    async def run(self) -> None:
        """Nothing has to be kept current here."""
        await asyncio.Event().wait()

    def facts(self, at_s: float) -> Facts:
        """All that is known now."""
        self._news.clear()
        controllers = dict(self._controllers) if self.knows_controllers else None
        nodes = dict(self._nodes) if self.knows_nodes else None
        return Facts(at_s, tuple(self._pods.values()), controllers, nodes, dict(self._events), synced=self.synced)

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        """The pods that the workload owns, sorted by name; None while the watch is not current, or owners may not be read."""
        between = workload.kind in {"ReplicaSet", "StatefulSet", "DaemonSet", "Job"}
        if not self.synced or not (self.knows_controllers or between):
            return None
        wanted = (workload.kind, workload.name)
        mine = [
            pod for pod in self._pods.values() if pod.namespace == workload.namespace and wanted in {each[:2] for each in self._above(pod)}
        ]
        return tuple(sorted(mine, key=lambda pod: pod.name))

    async def changed(self) -> None:
        """Until something is new since the last :meth:`facts`."""
        await self._news.wait()

    async def read(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name; None: there is none."""
        return next((pod for pod in self._pods.values() if (pod.namespace, pod.name) == (namespace, name)), None)

    async def remove(self, act: Act, *, dry_run: bool) -> None:
        """Take a pod away, if it is as it was seen; whoever owns it makes a healthy one in its place."""
        if self.before is not None:
            await self.before(act)
        pod = await self.read(act.namespace, act.pod)
        if pod is None or (pod.uid, pod.resource_version) != (act.uid, act.resource_version):
            raise StaleViewError(f"pod {act.namespace}/{act.pod} is not as it was seen any more")
        if dry_run:
            return
        self.drop(pod)
        workload = next((workload for workload, made in self._made.items() if made.owner == pod.owner), None)
        if workload is not None:
            self.put(self._fresh(workload, int(pod.name.rpartition("-")[2]) if workload.kind == "StatefulSet" else 0))

    def _controllers_of(self, workload: Workload) -> list[Controller]:
        """Itself, and the ReplicaSet of a Deployment."""
        named, uid = (workload.kind, workload.namespace, workload.name), self._made[workload].owner.uid
        return [each for each in self._controllers.values() if each.uid == uid or (each.kind, each.namespace, each.name) == named]

    def _above(self, pod: Pod) -> Iterator[Owner]:
        owner = pod.owner
        while owner is not None:
            yield owner
            found = self._controllers.get(owner.uid)
            owner = None if found is None else found.owner

    def _fresh(self, workload: Workload, index: int) -> Pod:
        """A pod that has just come up healthy."""
        made, number, now_s = self._made[workload], next(self._numbers), self._clock.now()
        name = f"{workload.name}-{index}" if workload.kind == "StatefulSet" else f"{made.owner.name}-{number:05d}"
        running = [replace(each, restarts=0, ready=True, started=True, running=True, running_s=now_s) for each in made.template.containers]
        return Pod(
            workload.namespace,
            name,
            f"uid-pod-{number}",
            owner=made.owner,
            revision=made.revision,
            created_s=now_s,
            started_s=now_s,
            node=made.template.node,
            phase="Running",
            restart_policy="Always",
            conditions=tuple(Condition(kind, "True", "", now_s) for kind in _HEALTHY),
            containers=tuple(running),
        )
