"""The port Cluster on a real Kubernetes: targets of any kind, from watches, written by compare-and-swap."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from autoscaler.adapters.kubernetes.conflicts import Conflicts
from autoscaler.adapters.kubernetes.discovery import Discovery
from autoscaler.adapters.kubernetes.kind import Kind, ObjectKind, Scope, Shared
from autoscaler.adapters.kubernetes.namespaces import Namespaces
from autoscaler.adapters.kubernetes.ownership import entries_of_replicas, owner_of, read_managed
from autoscaler.adapters.kubernetes.reflector import Around, Key
from autoscaler.adapters.kubernetes.subresource import ScaleKind
from autoscaler.core.selector import Selector
from autoscaler.core.types import Target, Workload
from autoscaler.errors import StaleViewError
from autoscaler.metrics import WATCH_AGE
from autoscaler.ports import NOT_SEEN, Owner, Rival, TargetFacts

STALE_AFTER_S = 120.0

CONFLICTS_NOT_KNOWN = TargetFacts(Target.UNKNOWN, problem="whether an HPA or a ScaledObject scales it has not been found out yet")

_SAYS_IT_ALL = frozenset({("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "ReplicaSet")})


class KubernetesCluster:
    """Targets in all namespaces, by one watch per kind; or in the given ones, by one per kind and namespace (a Role then is enough)."""

    def __init__(self, around: Around, namespaces: Sequence[str] | None = None, stale_after_s: float = STALE_AFTER_S) -> None:
        self._namespaces = None if namespaces is None else frozenset(namespaces)
        self._shared = Shared(around, Discovery(around.client), Namespaces(around), stale_after_s)
        self._kinds: dict[Scope, Kind[Any]] = {}
        self._where: dict[Workload, tuple[Kind[Any], Key]] = {}
        self._outside: dict[Workload, TargetFacts] = {}
        self._workloads: tuple[Workload, ...] = ()
        self._selectors: tuple[Selector, ...] = ()
        self._changed = asyncio.Event()
        self._conflicts = Conflicts(around, self._shared.discovery)
        self._merged: dict[Workload, tuple[TargetFacts, Rival | None, TargetFacts]] = {}
        around.recorder.collect(WATCH_AGE, self._ages)

    async def run(self) -> None:
        """Keep the cache current until cancelled."""
        running: dict[Scope, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._shared.namespaces.run(), name="namespaces")
            tasks.create_task(self._conflicts.run(), name="conflicts")
            while True:
                self._changed.clear()
                for scope in running.keys() - self._kinds.keys():
                    running.pop(scope).cancel()
                for scope in self._kinds.keys() - running.keys():
                    running[scope] = tasks.create_task(self._kinds[scope].run(), name=f"watch {scope.kind} {scope.namespace}".rstrip())
                await self._changed.wait()

    def follow(self, workloads: Iterable[Workload]) -> None:
        """Keep facts of just these from now on; watches start and stop as they are needed."""
        self._workloads = tuple(workloads)
        self._arrange()

    def select(self, selectors: Iterable[Selector]) -> None:
        """Keep knowing who fits just these from now on."""
        self._selectors = tuple(selectors)
        self._arrange()

    def selected(self, selector: Selector) -> frozenset[str] | None:
        """The names of those that fit; None while that is not known. Nobody fits in a namespace that is not ours to watch."""
        if self._namespaces is not None and selector.namespace not in self._namespaces:
            return frozenset()
        kind = self._kinds.get(self._scope(selector.api_version, selector.kind, selector.namespace))
        return None if kind is None else kind.selected(selector)

    def _scope(self, api_version: str, kind: str, namespace: str) -> Scope:
        return Scope(api_version, kind, "" if self._namespaces is None else namespace)

    def _arrange(self) -> None:
        wanted: dict[Scope, dict[Workload, Key]] = {}
        self._outside = {}
        for selector in self._selectors:
            if self._namespaces is None or selector.namespace in self._namespaces:
                wanted.setdefault(self._scope(selector.api_version, selector.kind, selector.namespace), {})
        for workload in self._workloads:
            if self._namespaces is not None and workload.namespace not in self._namespaces:
                self._outside[workload] = TargetFacts(Target.FORBIDDEN, problem=self._not_ours(workload))
                continue
            scope = self._scope(workload.api_version, workload.kind, workload.namespace)
            wanted.setdefault(scope, {})[workload] = (workload.namespace, workload.name)
        self._kinds = {scope: self._kinds.get(scope) or self._make(scope) for scope in wanted}
        self._where = {workload: (self._kinds[scope], key) for scope, rows in wanted.items() for workload, key in rows.items()}
        for scope, rows in wanted.items():
            self._kinds[scope].follow(rows.values())
        self._merged = {workload: merged for workload, merged in self._merged.items() if workload in self._where}
        self._conflicts.follow({scope.namespace for scope in wanted})
        self._changed.set()

    def facts(self, workload: Workload) -> TargetFacts:
        """What the cache holds now."""
        where = self._where.get(workload)
        if where is None:
            return self._outside.get(workload, NOT_SEEN)
        kind, key = where
        facts = kind.facts(key)
        if facts.state is not Target.OK:
            return facts
        if not self._conflicts.settled(kind.scope.namespace):
            return CONFLICTS_NOT_KNOWN
        return self._with_rival(workload, facts)

    def _with_rival(self, workload: Workload, facts: TargetFacts) -> TargetFacts:
        """The facts with who else scales the target; the same object as long as neither changes."""
        rival = self._conflicts.rival(workload)
        if rival is None:
            return facts
        before = self._merged.get(workload)
        if before is None or before[0] is not facts or before[1] != rival:
            before = self._merged[workload] = (facts, rival, replace(facts, rival=rival))
        return before[2]

    async def owner(self, workload: Workload) -> Owner | None:
        """Who set the count, by the object's ``metadata.managedFields``."""
        resource = await self._shared.discovery.find(workload.api_version, workload.kind)
        managed = await read_managed(self._shared.around.client, resource, workload.namespace, workload.name)
        return owner_of(entries_of_replicas(managed))

    async def scale(self, workload: Workload, seen: TargetFacts, replicas: int) -> None:
        """Write the count if the target is still as ``seen``; see :meth:`autoscaler.ports.Cluster.scale`."""
        where = self._where.get(workload)
        if where is None or seen.state is not Target.OK:
            raise StaleViewError(f"{workload}: not written, as it is not known how it is: {seen.problem or 'it is not followed any more'}")
        kind, key = where
        await kind.scale(key, seen, replicas)

    def _make(self, scope: Scope) -> Kind[Any]:
        says_it_all = (scope.api_version, scope.kind) in _SAYS_IT_ALL
        return ObjectKind(self._shared, scope) if says_it_all else ScaleKind(self._shared, scope)

    def _not_ours(self, workload: Workload) -> str:
        watched = ", ".join(sorted(self._namespaces or ())) or "none"
        return f"namespace {workload.namespace} is not among those that this service is set up to watch ({watched})"

    def _ages(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """The age of the oldest watch of each resource."""
        ages: dict[str, float] = {}
        for kind in self._kinds.values():
            if kind.reflector is not None:
                resource = str(kind.reflector.resource)
                ages[resource] = max(ages.get(resource, 0.0), kind.reflector.age_s())
        return [((resource,), age) for resource, age in ages.items()]
