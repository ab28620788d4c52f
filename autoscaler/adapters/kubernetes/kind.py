"""All followed targets of one kind, in one namespace or in all: what the watch says of them, or why it says nothing.

:class:`ObjectKind` is for Deployment, StatefulSet and ReplicaSet, whose objects say all that is needed. For any other kind there
is :class:`autoscaler.adapters.kubernetes.subresource.ScaleKind`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple

import msgspec

from autoscaler.adapters.kubernetes.backoff import Backoff
from autoscaler.adapters.kubernetes.calls import ForbiddenError, NotFoundError
from autoscaler.adapters.kubernetes.discovery import Discovery, Resource
from autoscaler.adapters.kubernetes.namespaces import Namespaces
from autoscaler.adapters.kubernetes.reflector import Around, Handlers, Key, Reflector, Selection
from autoscaler.adapters.kubernetes.scale import Scale, write_scale
from autoscaler.adapters.kubernetes.wire import Object, T
from autoscaler.core.selector import Selector
from autoscaler.core.types import Target
from autoscaler.errors import AutoscalerError, StaleViewError
from autoscaler.ports import NOT_SEEN, TargetFacts

log = logging.getLogger(__name__)

_CATCH_UP_S = 10.0  # a watch that shows life so long after a write, but not the write, has passed over it
_STEADY_S = 10.0
_EVENT_S = 1.0  # after a change its event comes within milliseconds


class Scope(NamedTuple):
    """A kind in one namespace; empty: in all."""

    api_version: str
    kind: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the kinds of a cluster share."""

    around: Around
    discovery: Discovery
    namespaces: Namespaces
    stale_after_s: float


class Kind(ABC, Generic[T]):
    """Facts of the targets of one scope; :meth:`run` keeps them current."""

    of: type[T]
    metadata_only = False

    def __init__(self, shared: Shared, scope: Scope) -> None:
        self.scope = scope
        self.reflector: Reflector[T] | None = None
        """The watch behind it; None until the kind is known."""
        self._shared, self._clock = shared, shared.around.clock
        self._followed: frozenset[Key] = frozenset()
        self._problem: AutoscalerError | None = None
        self._known: dict[Key, TargetFacts] = {}
        self._told: dict[Key | None, TargetFacts] = {}
        self._flights: dict[Key, list[set[str]]] = {}  # per write under way, the versions that the watch has shown meanwhile
        self._doubted: dict[Key, str] = {}  # the version that was listed again since a write was refused on it

    def follow(self, keys: Iterable[Key]) -> None:
        """Keep facts of just these from now on."""
        before, self._followed = self._followed, frozenset(keys)
        for key in before - self._followed:
            self._forget(key)
        for key in self._followed - before:
            self._see_again(key)

    def facts(self, key: Key) -> TargetFacts:
        """What is known of a followed target now."""
        reflector = self.reflector
        trouble = self._trouble()
        if trouble is not None or reflector is None:
            return trouble or NOT_SEEN
        facts = self._known.get(key) or self._unknown(key)
        if reflector.age_s() > self._shared.stale_after_s:
            problem = f"no sign of life from the watch of {reflector.resource} for over {self._shared.stale_after_s:g} s"
            return self._same(key, replace(facts, state=Target.STALE, problem=_because(problem, reflector.problem)))
        return facts

    def selected(self, selector: Selector) -> frozenset[str] | None:
        """The names of those that fit; None while that is not known for sure."""
        reflector = self.reflector
        if reflector is None or self._trouble() is not None or reflector.age_s() > self._shared.stale_after_s:
            return None
        return frozenset(
            name
            for (namespace, name), item in reflector.objects.items()
            if namespace == selector.namespace and item.metadata.deletion_timestamp is None and selector.fits(item.metadata.labels)
        )

    async def run(self) -> None:
        """Find the kind and reflect its objects, again and again, until cancelled."""
        backoff, said = Backoff(self._shared.around.random), ""
        while True:
            began = self._clock.monotonic()
            try:
                resource = await self._find()
                if self.reflector is None or self.reflector.resource != resource:
                    self._known.clear()
                    self.reflector = self._reflector_of(resource)
                self._problem = None
                self._problem = await self._reflect(self.reflector)
                self._shared.discovery.forget(self.scope.api_version)
            except AutoscalerError as error:
                self._problem = error
                if str(error) != said:
                    said = str(error)
                    log.warning("%s", said)
            now = self._clock.monotonic()
            if now - began >= _STEADY_S:
                backoff.succeeded()
            await self._clock.sleep_until(now + backoff.next_s())

    async def scale(self, key: Key, seen: TargetFacts, replicas: int) -> None:
        """Write a target's count if it is still as seen; afterwards no older count is served."""
        try:
            await self._swap(key, seen, replicas)
        except StaleViewError:
            await self._doubt(key, seen)
            raise

    async def _swap(self, key: Key, seen: TargetFacts, replicas: int) -> None:
        resource = await self._find()
        flight: set[str] = set()
        self._flights.setdefault(key, []).append(flight)
        try:
            scale = await write_scale(self._shared.around.client, resource, key, seen, replicas)
        finally:
            left = self._flights[key] = [other for other in self._flights[key] if other is not flight]
            if not left:
                del self._flights[key]
        if key in self._followed:
            self._landed(key, scale, flight)

    async def _doubt(self, key: Key, seen: TargetFacts) -> None:
        """A write was refused as stale: the event that tells why is on its way, or the watch has passed over it and lists again, once.

        It has after a leap: an etcd that was restored to an older state counts versions anew, and a watch that goes on from a later
        one is told nothing of what is different.
        """
        await self._clock.sleep_until(self._clock.monotonic() + _EVENT_S)
        known, version = self._known.get(key), seen.resource_version
        if known is None or known.resource_version != version or self._doubted.get(key) == version or self.reflector is None:
            return
        self._doubted[key] = version
        self.reflector.distrust(f"{self._name(key)} is not as it was shown, and no event tells why")

    @abstractmethod
    def _take(self, key: Key, item: T) -> None:
        """An object of a followed target, new or changed."""

    @abstractmethod
    def _landed(self, key: Key, scale: Scale, flight: set[str]) -> None:
        """A write of ours went through; ``flight`` has the versions that the watch has shown since it was sent."""

    async def _reflect(self, reflector: Reflector[T]) -> NotFoundError:
        return await reflector.run()

    async def _find(self) -> Resource:
        resource = await self._shared.discovery.find(self.scope.api_version, self.scope.kind)
        if resource.scalable and resource.namespaced:
            return resource
        self._shared.discovery.forget(self.scope.api_version)  # its CRD may be mended
        lacks = (
            "does not live in namespaces, as targets must" if resource.scalable else "has no /scale subresource: nothing sets its replicas"
        )
        raise NotFoundError(f"{self.scope.kind} in {self.scope.api_version} {lacks}")

    def _reflector_of(self, resource: Resource) -> Reflector[T]:
        handlers: Handlers[T] = Handlers(
            added=lambda item: self._see(_key(item), item),
            changed=lambda _, item: self._see(_key(item), item),
            deleted=lambda item: self._forget(_key(item)),
        )
        selection = Selection(self.scope.namespace, metadata_only=self.metadata_only)
        return Reflector(self._shared.around, resource, self.of, handlers, selection)

    def _see(self, key: Key, item: T) -> None:
        if key not in self._followed:
            return
        for flight in self._flights.get(key, ()):
            flight.add(item.metadata.resource_version)
        if item.metadata.deletion_timestamp is None:
            self._take(key, item)
        else:
            self._forget(key)
            self._known[key] = TargetFacts(Target.NOT_FOUND, problem=f"{self._name(key)} is being deleted")

    def _see_again(self, key: Key) -> None:
        """Look at the copy once more, without what was remembered beside it."""
        item = self.reflector.objects.get(key) if self.reflector else None
        if item is not None:
            self._forget(key)
            self._see(key, item)

    def _forget(self, key: Key) -> None:
        self._known.pop(key, None)
        self._told.pop(key, None)
        self._doubted.pop(key, None)

    def _trouble(self) -> TargetFacts | None:
        """What keeps all targets of this scope from being known."""
        reflector = self.reflector
        error = self._problem or (reflector.problem if reflector else None)
        if isinstance(error, NotFoundError):
            return self._same(None, TargetFacts(Target.NOT_FOUND, problem=str(error)))
        if isinstance(error, ForbiddenError):
            return self._same(None, TargetFacts(Target.FORBIDDEN, problem=str(error)))
        if reflector is None or not reflector.synced:
            return NOT_SEEN if error is None else self._same(None, replace(NOT_SEEN, problem=_because(NOT_SEEN.problem, error)))
        return None

    def _unknown(self, key: Key) -> TargetFacts:
        """Facts of a followed target of which nothing is known: it is not there."""
        namespace = key[0]
        problem = f"there is no {self._name(key)}"
        if self._shared.namespaces.exists(namespace) is False:
            problem += f": namespace {namespace} does not exist"
        return self._same(key, TargetFacts(Target.NOT_FOUND, problem=problem))

    def _name(self, key: Key) -> str:
        return f"{self.scope.kind} {key[1]} in namespace {key[0]}"

    def _same(self, key: Key | None, facts: TargetFacts) -> TargetFacts:
        """The facts that were told before, if these say nothing else: who asks again finds them identical."""
        told = self._told.get(key)
        if told == facts:
            return told
        self._told[key] = facts
        return facts


class AppsSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The API fills in 1 where a manifest has no replicas, and writes zero as 0: absent is never zero here."""

    replicas: int = 1
    pod_management_policy: str = ""


class AppsStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Counts; the API omits zero."""

    replicas: int = 0
    ready_replicas: int = 0


class AppsObject(Object, frozen=True, gc=False):
    """A Deployment, StatefulSet or ReplicaSet."""

    spec: AppsSpec = AppsSpec()
    status: AppsStatus = AppsStatus()


@dataclass(frozen=True, slots=True)
class _Written:
    """A write of ours that the watch has not shown yet."""

    uid: str
    resource_version: str
    replicas: float
    at_s: float


class ObjectKind(Kind[AppsObject]):
    """Deployment, StatefulSet or ReplicaSet."""

    of = AppsObject

    def __init__(self, shared: Shared, scope: Scope) -> None:
        super().__init__(shared, scope)
        self._written: dict[Key, _Written] = {}

    def facts(self, key: Key) -> TargetFacts:
        """What is known of a followed target now."""
        written = self._written.get(key)
        if written is not None and self.reflector is not None:
            alive_at_s = self._clock.monotonic() - self.reflector.age_s()
            if alive_at_s >= written.at_s + _CATCH_UP_S:
                self._see_again(key)
        return super().facts(key)

    def _take(self, key: Key, item: AppsObject) -> None:
        meta, spec, status = item.metadata, item.spec, item.status
        written = self._written.get(key)
        if written and (written.uid != meta.uid or written.resource_version == meta.resource_version):
            del self._written[key]
            written = None
        self._known[key] = TargetFacts(
            Target.OK,
            meta.uid,
            meta.resource_version,
            written.replicas if written else float(spec.replicas),
            float(status.ready_replicas),
            float(status.replicas),
            ordered=self.scope.kind == "StatefulSet" and spec.pod_management_policy != "Parallel",
        )

    def _landed(self, key: Key, scale: Scale, flight: set[str]) -> None:
        known, meta = self._known.get(key), scale.metadata
        if known is None or known.uid != meta.uid or meta.resource_version in flight | {known.resource_version}:
            return  # the watch has shown this write already, or more
        replicas = float(scale.spec.replicas)
        self._written[key] = _Written(meta.uid, meta.resource_version, replicas, self._clock.monotonic())
        self._known[key] = replace(known, replicas=replicas, resource_version=meta.resource_version)

    def _forget(self, key: Key) -> None:
        super()._forget(key)
        self._written.pop(key, None)


def _key(item: Object) -> Key:
    return item.metadata.namespace, item.metadata.name


def _because(problem: str, error: AutoscalerError | None) -> str:
    return f"{problem}: {error}" if error else problem
