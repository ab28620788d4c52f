"""Whether a namespace in which a target is missing exists at all: a list in one that does not is empty, not an error."""

from __future__ import annotations

import asyncio

import msgspec

from autoscaler.adapters.kubernetes.calls import NotFoundError
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.reflector import Around
from autoscaler.errors import AutoscalerError

_RESOURCE = Resource("v1", "Namespace", "namespaces", namespaced=False)
_ASK_EVERY_S = 60.0


class _Anything(msgspec.Struct, gc=False):
    pass


class Namespaces:
    """Answers from memory, and asks the server meanwhile, once a minute and namespace at most."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._exists: dict[str, bool | None] = {}
        self._asked_at: dict[str, float] = {}
        self._wanted: asyncio.Queue[str] = asyncio.Queue()

    def exists(self, name: str) -> bool | None:
        """What is known; None: nothing yet, or we may not ask."""
        now = self._around.clock.monotonic()
        if now - self._asked_at.get(name, -_ASK_EVERY_S) >= _ASK_EVERY_S:
            self._asked_at[name] = now
            self._wanted.put_nowait(name)
        return self._exists.get(name)

    async def run(self) -> None:
        """Ask what is wanted, until cancelled."""
        while True:
            name = await self._wanted.get()
            try:
                await self._around.client.get(_RESOURCE.call("get", name=name), _Anything)
                self._exists[name] = True
            except NotFoundError:
                self._exists[name] = False
            except AutoscalerError:
                self._exists[name] = None
