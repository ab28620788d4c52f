"""An HTTP server that answers as an API server, a proxy or a broken line might: each request by the next step of a script.

Requests are sorted into routes: "list" and "watch" of objects, "discovery", and anything else by method and path ("PATCH /…/scale",
"GET /api/v1/namespaces/shop"). The last step of a route's script is repeated. A route without a script is answered with 404.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from autoscaler.clock import Clock

Json = dict[str, Any]
Step = Callable[[web.Request], Awaitable[web.StreamResponse]]
JSON = "application/json"


@dataclass(frozen=True)
class Seen:
    """One request, as it came in from a port at that monotonic time."""

    route: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    at_s: float
    port: int


@dataclass
class FaultServer:
    """Listens on loopback while it is open."""

    clock: Clock
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scripts: dict[str, list[Step]] = {"discovery": [discovery()], "GET /login": [page()]}
        self._played: dict[str, int] = defaultdict(int)
        self._runner: web.AppRunner | None = None
        self.url = ""

    def script(self, route: str, *steps: Step) -> None:
        """Answer a route's requests so, from its next request on."""
        self._scripts[route], self._played[route] = list(steps), 0

    def of(self, route: str) -> list[Seen]:
        """The requests of a route."""
        return [seen for seen in self.seen if seen.route == route]

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig that leads here."""
        path = folder / "kubeconfig"
        user = {"name": "u", "user": {"token": "secret"}}
        context = {"name": "c", "context": {"cluster": "k", "user": "u"}}
        cluster = {"name": "k", "cluster": {"server": self.url}}
        path.write_text(json.dumps({"current-context": "c", "contexts": [context], "clusters": [cluster], "users": [user]}))
        return path

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        route, text = _route(request), await request.text()
        body = json.loads(text) if text else None
        assert request.transport is not None
        port: int = request.transport.get_extra_info("peername")[1]
        self.seen.append(Seen(route, request.path, dict(request.query), dict(request.headers), body, self.clock.monotonic(), port))
        script = self._scripts.get(route, [status(404)])
        step = script[min(self._played[route], len(script) - 1)]
        self._played[route] += 1
        return await step(request)


class Feed:
    """A watch that a test writes while it is open; each request to it gets what is sent from then on."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.opened = 0

    async def step(self, request: web.Request) -> web.StreamResponse:
        """The step of a script."""
        response = web.StreamResponse(headers={"Content-Type": JSON})
        await response.prepare(request)
        self.opened += 1
        with suppress(ConnectionResetError):
            while (line := await self._lines.get()) is not None:
                await response.write(line)
        return response

    def send(self, kind: str, item: Json) -> None:
        """An event."""
        self._lines.put_nowait(event(kind, item))

    def end(self) -> None:
        """End the watch in order."""
        self._lines.put_nowait(None)


def answer(body: object, code: int = 200, headers: Mapping[str, str] | None = None, content_type: str = JSON) -> Step:
    """Any answer: bytes as they are, anything else as JSON."""

    async def step(_: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=raw, status=code, headers=headers, content_type=content_type)

    return step


def status(code: int, reason: str = "", message: str = "no", headers: Mapping[str, str] | None = None, **details: object) -> Step:
    """A refusal in the API server's own form."""
    return answer(failure(code, reason, message, **details), code, headers)


def page(code: int = 200, words: str = "Please log in") -> Step:
    """What a proxy says."""
    return answer(f"<html><body>{words}</body></html>".encode(), code, content_type="text/html")


def listing(version: str, *items: Json, more: str = "") -> Step:
    """A list, or a page of one."""
    metadata = {"resourceVersion": version} | ({"continue": more} if more else {})
    return answer({"kind": "List", "metadata": metadata, "items": list(items)})


def stream(*lines: bytes, then: str = "end") -> Step:
    """A watch with these lines that ends in order, is cut ("reset"), or stays open without a word ("silence")."""

    async def step(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": JSON})
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        if then == "reset":
            _abort(request)
        elif then == "silence":
            await asyncio.Event().wait()
        return response

    return step


def drip(every_s: float, byte: bytes = b"{") -> Step:
    """One byte at a time, without an end and without a meaning."""

    async def step(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": JSON})
        await response.prepare(request)
        with suppress(ConnectionResetError):
            while True:
                await response.write(byte)
                await asyncio.sleep(every_s)
        return response

    return step


def reset() -> Step:
    """Cut the connection instead of answering."""

    async def step(request: web.Request) -> web.StreamResponse:
        _abort(request)
        return web.Response()

    return step


def silence() -> Step:
    """Never answer."""

    async def step(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    return step


def held(gate: asyncio.Event, then: Step) -> Step:
    """Answer once the gate is open."""

    async def step(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return await then(request)

    return step


def thing(name: str, version: int | str, uid: str = "", **fields: object) -> Json:
    """An object in namespace shop; its uid is its name unless given."""
    metadata = {"name": name, "namespace": "shop", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, **fields}


def event(kind: str, item: Json) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def bookmark(version: int | str) -> bytes:
    """A BOOKMARK, with nothing but its version, as API servers send it."""
    return event("BOOKMARK", {"kind": "Thing", "metadata": {"resourceVersion": str(version), "creationTimestamp": None}})


def failure(code: int, reason: str = "", message: str = "no", **details: object) -> Json:
    """A Status."""
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details}


def discovery(**kinds: str) -> Step:
    """Kinds and their resources, each with /scale; without any, Deployment, StatefulSet, ReplicaSet."""
    plurals = kinds or {"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}
    entries = [{"name": plural, "kind": kind, "namespaced": True} for kind, plural in plurals.items()]
    scales = [{"name": f"{plural}/scale", "kind": "Scale", "namespaced": True} for plural in plurals.values()]
    return answer({"kind": "APIResourceList", "resources": entries + scales})


def _route(request: web.Request) -> str:
    parts = request.path.strip("/").split("/")
    if "watch" in request.query:
        return "watch"
    if "limit" in request.query:
        return "list"
    if len(parts) == (3 if parts[0] == "apis" else 2):
        return "discovery"
    return f"{request.method} {request.path}"


def _abort(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()
