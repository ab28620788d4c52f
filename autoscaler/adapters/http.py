"""The HTTP side, read-only and on one port: probes, metrics, JSON about the workloads, and the page.

========================================  =============================================================================
path                                      answer
========================================  =============================================================================
``/healthz``                              200 while all loops turn, else 503 with a sentence for each that does not
``/readyz``                               200 once nothing keeps the service from being ready, else 503; remarks follow
``/metrics``                              the service's own metrics
``/api/v1/workloads``                     a short row per workload
``/api/v1/workloads/NAMESPACE/NAME``      everything about one; ``?kind=`` where two kinds share the name
``/api/v1/incidents``                     what is or was lately wrong with workloads' pods, and what was done about it
``/``                                     the page, which shows what the API has
========================================  =============================================================================

What pods have written (logs, warning events, template changes) is in ``/api/v1/incidents`` for bearer tokens alone whose owner may
``get pods/log`` in the namespace; to all others ``withheld`` says so.

Errors below ``/api`` are problem documents (RFC 9457). A fault of ours is logged under an id, and only the id is told.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Protocol, cast

import msgspec
import numpy as np
from aiohttp import web

from autoscaler.errors import AutoscalerError, ConfigError
from autoscaler.ports import Access, Views

log = logging.getLogger(__name__)

IDLE_S = 75.0
"""A connection that sends no complete request for so long is closed; above Prometheus' usual scrape intervals."""

SHUTDOWN_S = 1.0
"""Answers under way get this long at the end."""

COMPRESS_ABOVE = 1400
"""Bytes that fit into one packet are sent as they are."""

PAGE = ("index.html", "dashboard.css", "dashboard.js", "chart.js", "dom.js", "favicon.svg")
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
COMMON_HEADERS = {
    "Server": "autoscaler",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


class Exposition(Protocol):
    """What can write the service's own metrics as a page."""

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type."""
        ...


@asynccontextmanager
async def serve(views: Views, exposition: Exposition, host: str, port: int, access: Access | None = None) -> AsyncIterator[str]:
    """Answer on ``host:port`` while the context is open; yields the address, such as ``http://127.0.0.1:8080``.

    Port 0 takes any free one. ``access`` says who may see what pods have written; None: nobody. Raises ConfigError if the address cannot
    be bound.
    """
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(_application(views, exposition, access), shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    server = cast("web.Server", runner.server)  # None only before setup
    try:
        listening = await _bind(loop, functools.partial(_Protocol, server, loop=loop, **_LIMITS), host, port)
        try:
            yield _address(*listening.sockets[0].getsockname()[:2])
        finally:
            listening.close()
    finally:
        await runner.cleanup()


async def _bind(loop: asyncio.AbstractEventLoop, protocol: Callable[[], web.RequestHandler], host: str, port: int) -> asyncio.Server:
    try:
        return await loop.create_server(protocol, host, port, backlog=128)
    except (OSError, UnicodeError) as error:  # UnicodeError: no host name at all, such as a..b
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else error
        raise ConfigError(
            f"listen_host {host!r}, listen_port {port}: cannot listen there: {reason}. "
            "Give an address of this machine and a free port from 1024 up (0: any free one), or stop what listens there"
        ) from error


def _address(host: str, port: int) -> str:
    """As people paste it.

    >>> _address("::1", 8080)
    'http://[::1]:8080'
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _application(views: Views, exposition: Exposition, access: Access | None) -> web.Application:
    app = web.Application(middlewares=[_answer_errors])
    app.on_response_prepare.append(_add_headers)

    def get(path: str, handler: Callable[[web.Request], Awaitable[web.Response]]) -> None:
        app.router.add_get(path, handler)  # and HEAD

    async def healthz(_: web.Request) -> web.Response:
        stuck = views.alive()
        return _text(503 if stuck else 200, "\n".join(stuck) or "ok")

    async def readyz(_: web.Request) -> web.Response:
        missing, remarks = views.ready()
        lines = [*(missing or ["ok"]), *(f"remark: {remark}" for remark in remarks)]
        return _text(503 if missing else 200, "\n".join(lines))

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = await exposition.render(",".join(request.headers.getall("Accept", [])))
        return _compressed(web.Response(body=body, headers={"Content-Type": content_type}))

    async def workloads(_: web.Request) -> web.Response:
        return _json(200, views.workloads())

    async def workload(request: web.Request) -> web.Response:
        namespace, name, kind = request.match_info["namespace"], request.match_info["name"], request.query.get("kind", "")
        found = views.workload(namespace, name, kind)
        if found is None:
            which = f"{kind or 'workload'} {namespace}/{name}"
            return _problem(404, f"no policy scales {which}; /api/v1/workloads lists what is scaled")
        return _json(200, found)

    async def incidents(request: web.Request) -> web.Response:
        return _json(200, await _incidents(views, access, request))

    get("/healthz", healthz)
    get("/readyz", readyz)
    get("/metrics", metrics)
    get("/api/v1/workloads", workloads)
    get("/api/v1/workloads/{namespace}/{name}", workload)
    get("/api/v1/incidents", incidents)
    for file in PAGE:
        get("/" if file == "index.html" else f"/{file}", _static(file))
    return app


WITHHELD = "logs, warning events and template changes: send a bearer token whose owner may get pods/log in this namespace"

_ASKED_AT_ONCE = 8


async def _incidents(views: Views, access: Access | None, request: web.Request) -> list[dict[str, Any]]:
    """The rows with what whoever asks may see; of all others, why it is withheld."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    why: dict[str, str] = {}
    readable: set[str] = set()
    if access is not None and scheme.lower() == "bearer" and token.strip():
        namespaces = sorted({row["namespace"] for row in views.incidents()} - {""})
        for start in range(0, len(namespaces), _ASKED_AT_ONCE):
            asked = namespaces[start : start + _ASKED_AT_ONCE]
            answers = await asyncio.gather(*(_may_read(access, token.strip(), namespace) for namespace in asked))
            why |= dict(zip(asked, answers, strict=True))
        readable = {namespace for namespace, reason in why.items() if not reason}
    rows = views.incidents(frozenset(readable))
    for row in rows:
        if row["namespace"] and row["namespace"] not in readable:
            row["withheld"] = why.get(row["namespace"], WITHHELD)
    return rows


async def _may_read(access: Access, token: str, namespace: str) -> str:
    """Why not; empty: it may. What cannot be found out is a no."""
    try:
        allowed = await access.may_read_logs(token, namespace)
    except AutoscalerError as error:
        log.warning("who may read logs cannot be found out: %s", error)
        return "whether this token may read logs could not be checked; the service's log has the reason"
    return "" if allowed else f"{WITHHELD}; this one's may not"


def _static(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = files("autoscaler").joinpath("dashboard", name).read_bytes()
    content_type = TYPES[name.rpartition(".")[2]]

    async def page(_: web.Request) -> web.Response:
        return _compressed(web.Response(body=body, content_type=content_type, charset="utf-8"))

    return page


@web.middleware
async def _answer_errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Word what the router refuses (404, 405) as the rest is worded."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        detail = f"{request.method} {request.path}: {error.reason}"
        if isinstance(error, web.HTTPMethodNotAllowed):
            detail = f"{request.method} {request.path}: everything here is read-only, use GET"
        response = _problem(error.status, detail) if request.path.startswith("/api/") else _text(error.status, detail)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
    fields = {"method": request.method, "path": request.path_qs, "status": response.status, "remote": request.remote}
    log.debug("answered", extra={"fields": fields})
    return response


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(COMMON_HEADERS)


class _Protocol(web.RequestHandler):
    """aiohttp's connection, with our words for what goes wrong: it is the place that catches everything a view may raise."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.Response:
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:  # not HTTP at all: scanners, TLS on a plain port
            log.debug("refused what is no HTTP request", extra={"fields": {"remote": request.remote, "problem": message}})
            response = _text(status, "this is no HTTP request that can be read")
        else:
            fault = secrets.token_hex(4)
            log.error("a request failed", exc_info=exc, extra={"fields": {"id": fault, "path": request.path_qs}})
            response = _problem(status, f"an internal error; the log has it under the id {fault}", id=fault)
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer is already sent")
        response.headers.update(COMMON_HEADERS)
        response.force_close()
        return response


_LIMITS: dict[str, Any] = {
    "keepalive_timeout": IDLE_S,
    "lingering_time": 0.0,  # nobody reads bodies here: a request that brings one loses its connection
    "max_headers": 64,
    "access_log": None,
    "logger": log.getChild("connection"),
}


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


def _json(status: int, value: object) -> web.Response:
    """JSON that any parser takes: no NaN, no infinity (both null), and nothing that is not JSON by nature."""
    return _compressed(web.Response(status=status, body=_ENCODER.encode(value) + b"\n", content_type="application/json"))


def _problem(status: int, detail: str, **more: str) -> web.Response:
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return web.Response(status=status, body=_ENCODER.encode(problem) + b"\n", content_type="application/problem+json")


def _compressed(response: web.Response) -> web.Response:
    if (response.content_length or 0) > COMPRESS_ABOVE:
        response.enable_compression()
    return response


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value: views return plain ones")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
