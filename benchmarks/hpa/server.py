"""The API server as the benchmark sees it: objects made and deleted, its own count of requests, and who wrote which count when."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import msgspec

Json = dict[str, Any]

PLACES = 12
DEPLOYMENTS = "/apis/apps/v1/namespaces/{namespace}/deployments"
HPAS = "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"

_REQUESTS = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class _Metadata(msgspec.Struct, gc=False):
    name: str
    resource_version: str = msgspec.field(name="resourceVersion")


class _Spec(msgspec.Struct, gc=False):
    replicas: int = 1


class _Object(msgspec.Struct, gc=False):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _Event(msgspec.Struct, gc=False):
    type: str
    object: _Object


class ApiServer:
    """Requests as its administrator."""

    def __init__(self, session: aiohttp.ClientSession, server: str, trust: ssl.SSLContext) -> None:
        self._session, self._server, self._trust = session, server, trust

    async def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> bytes:
        """One request; RuntimeError with the server's words if it is refused."""
        headers = {"Content-Type": content_type}
        data = None if body is None else msgspec.json.encode(body)
        async with self._session.request(method, self._server + path, data=data, headers=headers, ssl=self._trust) as answer:
            text = await answer.read()
            if answer.status >= 400:  # noqa: PLR2004 - HTTP's refusals
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return text

    async def make(self, collection: str, manifests: Iterable[Json]) -> None:
        """Create them all, some at a time."""
        places = asyncio.Semaphore(PLACES)

        async def one(manifest: Json) -> None:
            async with places:
                await self.call("POST", collection, manifest)

        await asyncio.gather(*(one(manifest) for manifest in manifests))

    async def clear(self, collection: str) -> None:
        """Delete the whole collection."""
        await self.call("DELETE", collection)

    async def scale(self, collection: str, counts: dict[str, int]) -> None:
        """Set these counts, whoever else wants others."""
        places = asyncio.Semaphore(PLACES)

        async def one(name: str, count: int) -> None:
            async with places:
                await self.call("PATCH", f"{collection}/{name}/scale", {"spec": {"replicas": count}}, "application/merge-patch+json")

        await asyncio.gather(*(one(name, count) for name, count in counts.items()))

    async def requests(self) -> Counter[str]:
        """Requests so far by verb and resource, as the server counts them."""
        return requests_by_verb((await self.call("GET", "/metrics")).decode())

    async def watch(self, collection: str, seen: Callable[[float, str, int], None], started: asyncio.Event) -> None:
        """Tell of every object's count with the monotonic time at which it was seen, until cancelled."""
        decoder = msgspec.json.Decoder(_Event)
        first = msgspec.json.decode(await self.call("GET", collection + "?limit=1"))
        query = {"watch": "1", "resourceVersion": first["metadata"]["resourceVersion"], "timeoutSeconds": "86400"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        async with self._session.get(self._server + collection, params=query, ssl=self._trust, timeout=timeout) as answer:
            started.set()
            rest = b""
            async for chunk in answer.content.iter_any():
                at_s = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = decoder.decode(line)
                    if event.type == "MODIFIED":
                        seen(at_s, event.object.metadata.name, event.object.spec.replicas)
        raise RuntimeError("the benchmark's own watch has ended")


def requests_by_verb(exposition: str) -> Counter[str]:
    """``VERB resource/subresource`` to requests, out of the server's /metrics."""
    found: Counter[str] = Counter()
    for labels, value in _REQUESTS.findall(exposition):
        known = dict(_LABEL.findall(labels))
        resource = known.get("resource") or known.get("group") or "other"
        subresource = known.get("subresource", "")
        found[f"{known.get('verb', '?')} {resource}{'/' * bool(subresource)}{subresource}"] += int(float(value))
    return found
