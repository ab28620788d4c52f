"""Targets of any kind with a /scale subresource: their metadata are watched, their /scale is read when their version has changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from autoscaler.adapters.kubernetes.backoff import Backoff
from autoscaler.adapters.kubernetes.calls import ForbiddenError, NotFoundError
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.kind import Kind, Scope, Shared
from autoscaler.adapters.kubernetes.reflector import Key, Reflector
from autoscaler.adapters.kubernetes.scale import Scale, read_scale
from autoscaler.adapters.kubernetes.wire import Object
from autoscaler.core.types import Target
from autoscaler.errors import AutoscalerError, PermanentError
from autoscaler.ports import TargetFacts

_READERS = 4


@dataclass(frozen=True, slots=True)
class _Unread:
    """A /scale that is older than the object's version."""

    version: str
    since_s: float


class ScaleKind(Kind[Object]):
    """Any kind whose count only /scale can tell. How many replicas are ready it does not: NaN."""

    of = Object
    metadata_only = True

    def __init__(self, shared: Shared, scope: Scope) -> None:
        super().__init__(shared, scope)
        self._unread: dict[Key, _Unread] = {}
        self._queued: set[Key] = set()
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._backoff = Backoff(shared.around.random)
        self._failure: AutoscalerError | None = None

    def facts(self, key: Key) -> TargetFacts:
        """What is known of a followed target now."""
        facts, unread = super().facts(key), self._unread.get(key)
        stale_after_s = self._shared.stale_after_s
        if facts.state is not Target.OK or unread is None or self._clock.monotonic() - unread.since_s <= stale_after_s:
            return facts
        problem = f"the /scale of {self._name(key)} could not be read for over {stale_after_s:g} s: {self._failure}"
        return self._same(key, replace(facts, state=Target.STALE, problem=problem))

    async def _reflect(self, reflector: Reflector[Object]) -> NotFoundError:
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(self._keep_reading(reflector.resource)) for _ in range(_READERS)]
            lost = await reflector.run()
            for reader in readers:
                reader.cancel()
        return lost

    def _take(self, key: Key, item: Object) -> None:
        known, version = self._known.get(key), item.metadata.resource_version
        if known is not None and known.uid and known.uid != item.metadata.uid:
            self._forget(key)
        elif known is not None and known.resource_version == version:
            return  # read, or written by us, at just this version
        since_s = self._unread[key].since_s if key in self._unread else self._clock.monotonic()
        self._unread[key] = _Unread(version, since_s)
        self._want(key)

    def _landed(self, key: Key, scale: Scale, flight: set[str]) -> None:
        self._known[key] = scale.facts()
        if flight - {scale.metadata.resource_version}:
            self._want(key)  # the watch has shown other versions meanwhile; which of them is newer only a read can tell

    def _forget(self, key: Key) -> None:
        super()._forget(key)
        self._unread.pop(key, None)

    def _unknown(self, key: Key) -> TargetFacts:
        if self.reflector is None or key not in self.reflector.objects:
            return super()._unknown(key)
        problem = f"the /scale of {self._name(key)} has not been read yet"
        return self._same(key, TargetFacts(Target.UNKNOWN, problem=f"{problem}: {self._failure}" if self._failure else problem))

    def _want(self, key: Key) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    async def _keep_reading(self, resource: Resource) -> None:
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            if key not in self._followed:
                continue
            try:
                await self._read(resource, key)
            except AutoscalerError as error:
                self._failure = error
                if isinstance(error, PermanentError) and key in self._unread:
                    state = Target.FORBIDDEN if isinstance(error, ForbiddenError) else Target.NOT_FOUND
                    self._known[key] = TargetFacts(state, problem=str(error))
                await self._clock.sleep_until(self._clock.monotonic() + self._backoff.next_s())
                self._want(key)
            else:
                self._backoff.succeeded()
                self._failure = None

    async def _read(self, resource: Resource, key: Key) -> None:
        before = self._known.get(key)
        scale = await read_scale(self._shared.around.client, resource, *key)
        if key in self._flights or self._known.get(key) is not before:
            self._want(key)  # a write of ours crossed it: which of the two is newer only another read can tell
            return
        if key in self._followed and self.reflector is not None and key in self.reflector.objects:
            self._known[key] = scale.facts()
            if key not in self._queued:
                self._unread.pop(key, None)
