"""A loopback proxy that reads the HTTP requests that pass through it, and holds those that a test wants held."""

import asyncio
import re
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from tests.cluster.rig.errors import RigError

HEAD_MAX = 64 * 2**10
GOODBYE_S = 0.1
"""So long after a gate is opened, a sender that has gone before that is known to have gone."""


@dataclass(slots=True)
class Passed:
    """One request that came in; `status` is 0 until its answer has begun, `delivered` how many bytes of that its sender was sent."""

    method: str
    path: str
    body: str
    at_s: float
    status: int = 0
    delivered: int = 0


Fits: TypeAlias = Callable[[Passed], bool]


class Gate:
    """Holds what fits from now on, on the way there or on the way back, until it is opened."""

    def __init__(self, fits: Fits, loop: asyncio.AbstractEventLoop) -> None:
        self.fits = fits
        self.held: list[Passed] = []
        """What has been held, in the order in which it came."""
        self._loop = loop
        self._opened = asyncio.Event()
        self._held = threading.Event()

    def wait_held(self, timeout_s: float = 30.0) -> None:
        """Return once something is held."""
        if not self._held.wait(timeout_s):
            raise RigError(f"not within {timeout_s:g} s: a request or an answer is held")

    def open(self) -> None:
        """Let go on what is held (if its sender is still there), and hold nothing more."""
        self._loop.call_soon_threadsafe(self._opened.set)

    async def hold(self, passed: Passed) -> None:
        """On the proxy's own loop: wait until it is opened."""
        if not self._opened.is_set():
            self.held.append(passed)
            self._held.set()
            await self._opened.wait()


class Proxy:
    """Stands before a server at `upstream` ("host:port"), at `address`; both sides speak TLS if both contexts are given.

        with Proxy(address) as proxy:
            gate = proxy.hold_requests(lambda passed: passed.method == "PATCH")
            gate.wait_held()
            gate.open()

    Every connection has one of its own to the server, and ends when either side does.
    """

    def __init__(self, upstream: str, *, serve: ssl.SSLContext | None = None, trust: ssl.SSLContext | None = None) -> None:
        """`serve` has the certificate to show, `trust` the CA of the server."""
        self.passed: list[Passed] = []
        """Every request, in the order in which they came."""
        self._host, _, port = upstream.rpartition(":")
        self._upstream_port = int(port)
        self._serve, self._trust = serve, trust
        self._before: list[Gate] = []
        self._after: list[Gate] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Listen on a port that the system gives."""
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything, without a word."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def hold_requests(self, fits: Fits) -> Gate:
        """Do not pass on requests that fit; one whose sender has gone meanwhile is never passed on."""
        return self._gate(self._before, fits)

    def hold_answers(self, fits: Fits) -> Gate:
        """Do not deliver (the rest of) answers to requests that fit, nor the end of their connection."""
        return self._gate(self._after, fits)

    def show(self, serve: ssl.SSLContext) -> None:
        """Show another certificate from now on, and end the connections that there are."""
        self._serve = serve
        self.cut()

    def cut(self) -> None:
        """End the connections that there are."""
        self._run(self._close())
        self._run(self._listen())

    def _gate(self, gates: list[Gate], fits: Fits) -> Gate:
        gate = Gate(fits, self._loop)
        gates.append(gate)
        return gate

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(10.0)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, ssl=self._serve)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve_connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                server_reader, server_writer = await asyncio.open_connection(self._host, self._upstream_port, ssl=self._trust)
                ends.append(server_writer)
                under_way: list[Passed] = []
                there = asyncio.ensure_future(self._pass_requests(reader, server_writer, under_way))
                back = asyncio.ensure_future(self._pass_answers(server_reader, writer, under_way))
                try:
                    await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (there, back):
                        task.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)
        finally:
            for end in ends:
                end.transport.abort()

    async def _pass_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, under_way: list[Passed]) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            passed = Passed(method, path, body.decode(errors="replace"), time.monotonic())
            self.passed.append(passed)
            under_way[:] = [passed]
            if await self._through(self._before, passed):
                await asyncio.sleep(GOODBYE_S)
            if reader.at_eof() or reader.exception() is not None:
                return
            writer.write(head + body)
            await writer.drain()

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, under_way: list[Passed]) -> None:
        while True:
            data = await reader.read(HEAD_MAX)
            for passed in under_way:
                if not passed.status and data.startswith(b"HTTP/1."):
                    passed.status = int(data.split(b" ", 2)[1])
                await self._through(self._after, passed)
            if not data:
                return
            writer.write(data)
            await writer.drain()
            for passed in under_way:
                passed.delivered += len(data)

    @staticmethod
    async def _through(gates: list[Gate], passed: Passed) -> bool:
        """Pass the gates; whether one of them held it."""
        fitting = [gate for gate in gates if gate.fits(passed)]
        for gate in fitting:
            await gate.hold(passed)
        return bool(fitting)
