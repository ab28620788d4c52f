"""Other autoscalers of the same targets: HorizontalPodAutoscalers and KEDA's ScaledObjects, watched wherever targets are followed.

Neither is needed: without the right to list them, or without KEDA, it is said once and who else scales a target is not known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan, nan
from typing import TypeAlias

import msgspec

from autoscaler.adapters.kubernetes.backoff import Backoff
from autoscaler.adapters.kubernetes.calls import NotFoundError
from autoscaler.adapters.kubernetes.discovery import Discovery, Resource
from autoscaler.adapters.kubernetes.reflector import Around, Handlers, Reflector, Selection
from autoscaler.adapters.kubernetes.wire import Object, Page
from autoscaler.core.types import Workload
from autoscaler.errors import AutoscalerError
from autoscaler.ports import Rival

log = logging.getLogger(__name__)

ABSENT_EVERY_S = 60.0
"""Whether a kind that is not served has been installed meanwhile is asked so often."""

TRIES = 3
"""So many refusals in a row stand: an API server that has just started knows no Roles yet."""


Target: TypeAlias = tuple[str, str, str, str]
"""Namespace, API group, kind and name: one object whatever version it is asked for in."""


class Reference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A ``scaleTargetRef``; KEDA fills in Deployment of apps/v1."""

    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"


class Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What both have."""

    scale_target_ref: Reference | None = None


class Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An HPA's; KEDA has the count in the HPA that it makes."""

    desired_replicas: int | None = None


class Autoscaler(Object, frozen=True, gc=False):
    """An HPA or a ScaledObject."""

    spec: Spec = Spec()
    status: Status = Status()

    @property
    def target(self) -> Target | None:
        """What it scales; None: it does not say."""
        reference = self.spec.scale_target_ref
        if reference is None:
            return None
        return target_of(self.metadata.namespace, reference.api_version or "apps/v1", reference.kind or "Deployment", reference.name)


@dataclass(frozen=True, slots=True)
class RivalKind:
    """A kind of autoscaler."""

    api_version: str
    kind: str


HPA = RivalKind("autoscaling/v2", "HorizontalPodAutoscaler")
SCALED_OBJECT = RivalKind("keda.sh/v1alpha1", "ScaledObject")
KINDS = (SCALED_OBJECT, HPA)


class Conflicts:
    """Who else scales what, kept current while :meth:`run` runs; a target of one group and kind is one whatever its version."""

    def __init__(self, around: Around, discovery: Discovery) -> None:
        self._around, self._discovery = around, discovery
        self._scopes: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._known: dict[Target, dict[tuple[RivalKind, str], Rival]] = {}
        self._watches: dict[tuple[str, RivalKind], Reflector[Autoscaler] | None] = {}

    def follow(self, scopes: Iterable[str]) -> None:
        """Watch in these namespaces; an empty name is all of them."""
        self._scopes = frozenset(scopes)
        self._changed.set()

    def settled(self, scope: str) -> bool:
        """Whether it has been found out, or turned out that it cannot be, who else scales the targets there."""
        watches = [self._watches[scope, kind] for kind in KINDS if (scope, kind) in self._watches]
        return len(watches) == len(KINDS) and all(watch is None or watch.synced or watch.problem is not None for watch in watches)

    def rival(self, workload: Workload) -> Rival | None:
        """Who else scales it. The count that a ScaledObject wants is that of the HPA which it has made."""
        found = self._known.get(target_of(workload.namespace, workload.api_version, workload.kind, workload.name))
        if not found:
            return None
        first = min(found, key=lambda each: (KINDS.index(each[0]), each[1]))
        rival = found[first]
        if not isnan(rival.desired):
            return rival
        desired = next((other.desired for other in found.values() if not isnan(other.desired)), nan)
        return Rival(rival.kind, rival.name, desired)

    async def run(self) -> None:
        """Watch until cancelled."""
        running: dict[str, list[asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                for scope in running.keys() - self._scopes:
                    for task in running.pop(scope):
                        task.cancel()
                    self._forget(scope)
                    self._watches = {key: watch for key, watch in self._watches.items() if key[0] != scope}
                for scope in self._scopes - running.keys():
                    running[scope] = [
                        tasks.create_task(self._watch(kind, scope), name=f"watch {kind.kind} {scope}".rstrip()) for kind in KINDS
                    ]
                await self._changed.wait()

    async def _watch(self, kind: RivalKind, scope: str) -> None:
        backoff, clock, said = Backoff(self._around.random), self._around.clock, ""
        while True:
            delay = ABSENT_EVERY_S
            try:
                resource = await self._discovery.find(kind.api_version, kind.kind)
                # A list of one shows whether we may: a reflector would go on trying, and say so in words of its own.
                await self._around.client.get(resource.call("list", scope), Page[Object], {"limit": "1"})
                backoff.succeeded()
                reflector = self._watches[scope, kind] = self._reflector(kind, resource, scope)
                await reflector.run()
                self._forget(scope, kind)
            except NotFoundError:
                self._watches[scope, kind] = None  # as a rule KEDA is not installed: nothing to say
                backoff.succeeded()
            except AutoscalerError as error:
                delay = backoff.next_s()
                if backoff.failures >= TRIES:
                    self._watches[scope, kind] = None
                if backoff.failures >= TRIES and str(error) != said:
                    said = str(error)
                    log.warning("whether a %s scales the same targets is not known: %s", kind.kind, said)
            await clock.sleep_until(clock.monotonic() + delay)
            self._discovery.forget(kind.api_version)

    def _reflector(self, kind: RivalKind, resource: Resource, scope: str) -> Reflector[Autoscaler]:
        handlers: Handlers[Autoscaler] = Handlers(
            added=lambda item: self._add(kind, item),
            changed=lambda was, item: self._change(kind, was, item),
            deleted=lambda item: self._remove(kind, item),
        )
        return Reflector(self._around, resource, Autoscaler, handlers, Selection(scope))

    def _add(self, kind: RivalKind, item: Autoscaler) -> None:
        target = item.target
        if target is not None:
            desired = nan if item.status.desired_replicas is None else float(item.status.desired_replicas)
            self._known.setdefault(target, {})[kind, item.metadata.name] = Rival(kind.kind, item.metadata.name, desired)

    def _change(self, kind: RivalKind, was: Autoscaler, item: Autoscaler) -> None:
        if was.target != item.target:
            self._remove(kind, was)
        self._add(kind, item)

    def _remove(self, kind: RivalKind, item: Autoscaler) -> None:
        target = item.target
        found = self._known.get(target) if target is not None else None
        if target is not None and found is not None:
            found.pop((kind, item.metadata.name), None)
            if not found:
                del self._known[target]

    def _forget(self, scope: str, kind: RivalKind | None = None) -> None:
        for target, found in list(self._known.items()):
            if scope in {"", target[0]}:
                kept = {key: rival for key, rival in found.items() if kind is not None and key[0] != kind}
                if kept:
                    self._known[target] = kept
                else:
                    del self._known[target]


def target_of(namespace: str, api_version: str, kind: str, name: str) -> Target:
    """What is scaled, whatever version of its kind is named."""
    return namespace, api_version.rpartition("/")[0], kind, name
