"""A server that misbehaves as it is told: faults that no real Prometheus makes on demand.

    with FaultServer() as server:
        server.behave = reply(503, b"busy", "text/plain", {"Retry-After": "7"})
        ...
        server.requests   # what it was really asked

It speaks HTTP/1.1 with keep-alive, one thread for each connection, and leaves none behind.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl, urlsplit

DRIP_S = 0.02
"""Between two bytes of a drip: much less than any socket timeout here, so that none ends it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; ``params`` from the URL or a form body."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


class Exchange:
    """One request and the wire that its answer goes to."""

    def __init__(self, wire: socket.socket, request: Request, stopped: threading.Event) -> None:
        self.request = request
        self.stopped = stopped
        self._wire = wire

    def send(self, data: bytes) -> None:
        """Write as it is."""
        self._wire.sendall(data)

    def drip(self, data: bytes) -> None:
        """Write a byte at a time, for as long as somebody listens."""
        for byte in data:
            if self.stopped.wait(DRIP_S):
                return
            self.send(bytes([byte]))

    def hang(self) -> None:
        """Say nothing until the other side gives up or the server stops."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wire, selectors.EVENT_READ)
            while not self.stopped.is_set() and not selector.select(0.01):
                pass

    def reset(self) -> None:
        """Answer with a TCP reset."""
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError  # ends the connection's thread, which closes it


Behaviour: TypeAlias = Callable[[Exchange], None]


def head(status: int, length: int | None, content_type: str | None = "application/json", headers: Mapping[str, str] | None = None) -> bytes:
    """An answer's first lines, the empty one included."""
    lines = [f"HTTP/1.1 {status} Whatever", "Date: Tue, 14 Nov 2023 22:14:00 GMT"]
    lines += [] if content_type is None else [f"Content-Type: {content_type}"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def reply(
    status: int, body: bytes = b"", content_type: str | None = "application/json", headers: Mapping[str, str] | None = None
) -> Behaviour:
    """A whole answer at once."""
    return lambda exchange: exchange.send(head(status, len(body), content_type, headers) + body)


def success(result_type: str, result: object, **more: object) -> bytes:
    """A body as Prometheus writes it."""
    return json.dumps({"status": "success", "data": {"resultType": result_type, "result": result}, **more}).encode()


def refusal(error_type: str, error: str) -> bytes:
    """A body of Prometheus's that says no."""
    return json.dumps({"status": "error", "errorType": error_type, "error": error}).encode()


ONE = success("vector", [{"metric": {"app": "web"}, "value": [1_700_000_040, "42"]}])
"""An instant answer with one series."""


class FaultServer:
    """Answers every request by ``behave``, and keeps what it was asked in ``requests``; at ``url``, over TLS if given a context.

    Stopped and started again, it has the same address; while stopped, connections are refused.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.behave: Behaviour = reply(200, ONE)
        self.requests: list[Request] = []
        self.accepting = True
        """False: connections are left in the kernel's queue."""
        self.tls = tls
        self._address = ("127.0.0.1", 0)
        self._stopped = threading.Event()
        self._threads: set[threading.Thread] = set()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self._address[1]}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the port of before if there was one."""
        listener = socket.create_server(self._address, backlog=64)
        self._address = listener.getsockname()
        self._stopped = threading.Event()
        self._run(self._accept, listener, self._stopped)

    def stop(self) -> None:
        """Close everything and wait for its threads."""
        self._stopped.set()
        while self._threads:  # the one that accepts may still be starting others
            self._threads.pop().join(5.0)

    def _run(self, target: Callable[..., None], *about: Any) -> None:  # noqa: ANN401 - handed to the thread as it is
        thread = threading.Thread(target=target, args=about, name="fault server", daemon=True)
        thread.start()
        self._threads.add(thread)

    def _accept(self, listener: socket.socket, stopped: threading.Event) -> None:
        with listener, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while not stopped.is_set():
                if not self.accepting:
                    stopped.wait(0.01)
                elif selector.select(0.01) and self.accepting:
                    wire, _ = listener.accept()
                    self._run(self._serve, wire, stopped)

    def _serve(self, wire: socket.socket, stopped: threading.Event) -> None:
        with suppress(OSError, ValueError):
            wire.settimeout(5.0)
            if self.tls is not None:
                wire = self.tls.wrap_socket(wire, server_side=True)
            with wire, wire.makefile("rb") as stream:
                while not stopped.is_set() and (request := self._next(wire, stream, stopped)) is not None:
                    self.requests.append(request)
                    self.behave(Exchange(wire, request, stopped))
        wire.close()

    def _next(self, wire: socket.socket, stream: Any, stopped: threading.Event) -> Request | None:  # noqa: ANN401 - makefile's reader
        with selectors.DefaultSelector() as selector:
            selector.register(wire, selectors.EVENT_READ)
            while not selector.select(0.01):
                if stopped.is_set():
                    return None
        first = stream.readline().decode().split()
        if not first:
            return None
        headers: dict[str, str] = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name] = value.strip()
        body = stream.read(int(headers.get("Content-Length", "0"))).decode()
        parts = urlsplit(first[1])
        return Request(first[0], parts.path, dict(parse_qsl(parts.query or body, keep_blank_values=True)), headers)
