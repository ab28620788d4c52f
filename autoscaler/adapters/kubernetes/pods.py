"""The port PodWatch on a real Kubernetes: pods, their owners, nodes and the events that tell of kills, each from a watch.

Pods are needed; of what else may not be read it is said once what is lost by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from autoscaler.adapters.kubernetes.controllers import ControllerObject, NodeObject, seen_controller, seen_node
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.facts_wire import F, Seen
from autoscaler.adapters.kubernetes.pod_events import KILLINGS, WARNINGS, EventObject, Events, seen_event
from autoscaler.adapters.kubernetes.pod_index import Index, Name
from autoscaler.adapters.kubernetes.pod_wire import PodObject, seen_pod
from autoscaler.adapters.kubernetes.reflector import Around, Form, Handlers
from autoscaler.adapters.kubernetes.targets import STALE_AFTER_S
from autoscaler.adapters.kubernetes.watching import Wanted, Watch
from autoscaler.core.health.facts import Controller, Facts, Node, Pod, PodEvent
from autoscaler.core.types import Workload
from autoscaler.metrics import WATCH_AGE

V = TypeVar("V")

PODS = Resource("v1", "Pod", "pods")
NODES = Resource("v1", "Node", "nodes", namespaced=False)
EVENTS = Resource("v1", "Event", "events")

_NO_OWNERS = "pods are told of by ReplicaSet, rollouts are not known and nothing is restarted"
CONTROLLERS: Mapping[Resource, str] = {
    Resource("apps/v1", "Deployment", "deployments"): _NO_OWNERS,
    Resource("apps/v1", "ReplicaSet", "replicasets"): _NO_OWNERS,
    Resource("apps/v1", "StatefulSet", "statefulsets"): "rollouts of StatefulSets are not known and their pods are not restarted",
    Resource("apps/v1", "DaemonSet", "daemonsets"): "pods of DaemonSets are not restarted",
    Resource("batch/v1", "Job", "jobs"): "Jobs and their pods are not watched over",
}
"""What owns pods, and what is lost where it may not be read."""

_NEEDED = frozenset({"Deployment", "ReplicaSet"})
"""Without one of these the other controllers mislead: whose a pod is, and whether a rollout is on."""

_BETWEEN: Mapping[str, frozenset[str]] = {
    "Deployment": frozenset({"ReplicaSet"}),
    **dict.fromkeys(("ReplicaSet", "StatefulSet", "DaemonSet", "Job"), frozenset()),
}
_BETWEEN_ANY = frozenset({"Deployment", "ReplicaSet", "StatefulSet"})
"""What may lie between a workload and its pods; a custom resource may own any of these."""

_POD_TRIES = 8  # a minute or so: that no pods may be read looks as if there were none, and that resolves incidents


class _Snapshot(Generic[V]):
    """A copy that is taken anew only after a change."""

    def __init__(self, take: Callable[[], V]) -> None:
        self._take = take
        self._taken: V | None = None

    def now(self) -> V:
        if self._taken is None:
            self._taken = self._take()
        return self._taken

    def outdated(self) -> None:
        self._taken = None


class KubernetesPods:
    """Pods in all namespaces, by one watch of each kind; or in the given ones, by one per kind and namespace (a Role then is enough)."""

    def __init__(self, around: Around, namespaces: Sequence[str] | None = None, stale_after_s: float = STALE_AFTER_S) -> None:
        self._stale_after_s = stale_after_s
        self._news = asyncio.Event()
        self._index, self._events, self._nodes = Index(), Events(), dict[str, Node]()
        self._pods_now: _Snapshot[tuple[Pod, ...]] = _Snapshot(lambda: tuple(self._index.pods.values()))
        self._controllers_now: _Snapshot[dict[str, Controller]] = _Snapshot(lambda: dict(self._index.controllers))
        self._nodes_now: _Snapshot[dict[str, Node]] = _Snapshot(lambda: dict(self._nodes))
        self._events_now: _Snapshot[Mapping[str, Sequence[PodEvent]]] = _Snapshot(self._events.rows)
        scopes = ("",) if namespaces is None else tuple(sorted(set(namespaces)))
        self._pods = {scope: Watch(around, self._wanted_pods(), scope) for scope in scopes}
        self._controllers = {
            (scope, resource.kind): Watch(around, self._wanted_controllers(resource), scope) for scope in scopes for resource in CONTROLLERS
        }
        self._node_watch = Watch(around, self._wanted_nodes())
        self._event_watches = [Watch(around, self._wanted_events(which), scope) for scope in scopes for which in (WARNINGS, KILLINGS)]
        self._watches: tuple[Watch[Any], ...] = (*self._pods.values(), *self._controllers.values(), self._node_watch, *self._event_watches)
        around.recorder.collect(WATCH_AGE, self._ages)

    async def run(self) -> None:
        """Keep the caches current until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(watch.run(), name=f"watch {watch.wanted.resource} {watch.namespace} for health")

    def facts(self, at_s: float) -> Facts:
        """All that is known now; see :meth:`autoscaler.ports.PodWatch.facts`."""
        self._news.clear()
        orphaned = any(watch.refused for (_, kind), watch in self._controllers.items() if kind in _NEEDED)
        return Facts(
            at_s,
            self._pods_now.now(),
            None if orphaned else self._controllers_now.now(),
            None if self._node_watch.refused else self._nodes_now.now(),
            self._events_now.now(),
            synced=self._synced(),
        )

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        """The pods that the workload owns, sorted by name; None: not known now, or its namespace is not ours to watch."""
        scope = "" if "" in self._pods else workload.namespace
        pods, between = self._pods.get(scope), _BETWEEN.get(workload.kind, _BETWEEN_ANY)
        if pods is None or not pods.fresh(self._stale_after_s):
            return None
        for kind in between | ({workload.kind} & _BETWEEN.keys()):
            watch = self._controllers[scope, kind]
            if not watch.fresh(self._stale_after_s) and (kind in between or not watch.refused):
                return None
        return self._index.owned(Name(workload.namespace, workload.kind, workload.name))

    async def changed(self) -> None:
        """Until something is new since the last :meth:`facts`."""
        await self._news.wait()

    def _synced(self) -> bool:
        """Whether every watch that we may have is fresh; where no pods at all may be read, nothing is known."""
        if all(watch.refused for watch in self._pods.values()):
            return False
        return all(watch.refused or watch.fresh(self._stale_after_s) for watch in self._watches)

    def _wanted_pods(self) -> Wanted[Seen[Pod]]:
        handlers = self._handlers(self._index.put_pod, self._index.drop_pod, self._pods_now)
        return Wanted(PODS, Form(PodObject, seen_pod), handlers, "their health is not watched over", tries=_POD_TRIES)

    def _wanted_controllers(self, resource: Resource) -> Wanted[Seen[Controller]]:
        handlers = self._handlers(self._index.put_controller, self._index.drop_controller, self._controllers_now)
        return Wanted(resource, Form(ControllerObject, partial(seen_controller, resource.kind)), handlers, CONTROLLERS[resource])

    def _wanted_nodes(self) -> Wanted[Seen[Node]]:
        def put(node: Node) -> None:
            self._nodes[node.name] = node

        def drop(node: Node) -> None:
            self._nodes.pop(node.name, None)

        handlers = self._handlers(put, drop, self._nodes_now)
        return Wanted(NODES, Form(NodeObject, seen_node), handlers, "lost nodes are not told from crashes and nothing is restarted")

    def _wanted_events(self, which: str) -> Wanted[Seen[Any]]:
        handlers = self._handlers(self._events.put, self._events.drop, self._events_now)
        without = "it is not known which probe had a container killed" if which is KILLINGS else ""
        return Wanted(EVENTS, Form(EventObject, seen_event), handlers, without, fields=which, bookmarks=False)

    def _handlers(self, put: Callable[[F], None], drop: Callable[[F], None], snapshot: _Snapshot[Any]) -> Handlers[Seen[F]]:
        """Take what is new into the caches; what has another version and says nothing else is not."""

        def is_new() -> None:
            snapshot.outdated()
            self._news.set()

        def added(item: Seen[F]) -> None:
            put(item.fact)
            is_new()

        def changed(was: Seen[F], item: Seen[F]) -> None:
            if not _same(was.fact, item.fact):
                added(item)

        def deleted(item: Seen[F]) -> None:
            drop(item.fact)
            is_new()

        return Handlers(added, changed, deleted)

    def _ages(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """The age of the oldest watch of each resource that shows life; the scaling loop has watches of its own on some of them."""
        ages: dict[str, float] = {}
        for watch in self._watches:
            if not watch.refused and watch.wanted.bookmarks:
                name = f"{watch.wanted.resource} (health)"
                ages[name] = max(ages.get(name, 0.0), watch.age_s())
        return [((name,), age) for name, age in ages.items()]


_VALUES: Mapping[type, Callable[[Any], Any]] = {of: attrgetter(*(each.name for each in fields(of))) for of in (Pod, Controller, Node)}


def _same(was: object, now: object) -> bool:
    """Whether two facts say the same; as values, for NaN is not equal to itself unless it stands in a tuple."""
    values = _VALUES.get(type(now))
    return was == now if values is None else bool(values(was) == values(now))
