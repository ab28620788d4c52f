"""The way to the API server: raw JSON over the Kubernetes client's own transport, every call bounded, every failure one of ours.

Decoded by msgspec into just the fields that the caller names; the generated models and the library's Watch are not used (they
block the loop for a millisecond an object, and take an error page for an event).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
import msgspec
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException

from autoscaler.adapters.kubernetes.calls import Call, in_one_line, refusal, words
from autoscaler.adapters.kubernetes.login import Login
from autoscaler.errors import AnswerError, ConfigError, PermanentError, TransientError

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML

BUDGET_S = 10.0

AT_ONCE = 16
"""Calls under way; others wait for their turn, and watches do not count. Every connection costs a quarter of a MiB for TLS, and is kept."""

ANSWER_MAX = 32 * 2**20
"""No answer is read beyond this: an object has a few megabytes at most, and a page of them should not have more."""

_METHODS = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
_KEEPALIVE_S = 60.0  # a tick every half minute must not cost a TLS handshake; API servers keep idle connections for 90 s
_BACKSTOP_S = 3600.0  # the library's own total timeout, out of the way of ours
_RENEW_EVERY_S = 10.0
_REFUSAL_MAX = 64 * 2**10

T = TypeVar("T")


class TooLargeError(AnswerError):
    """An answer is longer than it may be: ask for less at once."""


class UntrustedError(PermanentError):
    """The server's certificate is not trusted: whoever it is has not been asked."""


@dataclass(frozen=True, slots=True)
class _Request:
    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = JSON
    content_type: str = JSON
    body: object = None


class _Connector(aiohttp.TCPConnector):
    """Knows its connections until they are really closed: TLS's goodbye to a server that does not answer can take half a minute."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        # Every watch keeps a connection: with a limit, some of them would starve.
        super().__init__(limit=0, ssl=trust, keepalive_timeout=_KEEPALIVE_S)
        self._opened: WeakSet[asyncio.Transport] = WeakSet()

    async def connect(self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:  # noqa: ASYNC109 - as inherited
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None:
            self._opened.add(connection.transport)
        return connection

    async def cut(self) -> None:
        """Close all connections, without a word."""
        for transport in self._opened:
            transport.abort()
        await self.close()


class Client:
    """One API server as one user. Open it with :meth:`connect`, give it back with :meth:`close`."""

    def __init__(self, login: Login, at_once: int = AT_ONCE) -> None:
        """``login`` has been read, and a loop runs: use :meth:`connect`."""
        self._login, self._free = login, asyncio.Semaphore(at_once)
        self._configuration = login.configuration
        self._configuration.proxy = self._configuration.proxy or _proxy_for(self.server)
        try:
            self._api = ApiClient(self._configuration)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{login.origin}: the certificates in it cannot be used: {error}") from error
        self._connector = _Connector(self._api.rest_client.ssl_context)
        # The environment was asked for a proxy once; the library would ask it for each request, in a thread.
        self._configuration.client_session_kwargs = {"connector": self._connector, "trust_env": False}
        self._renewing = asyncio.Lock()
        self._renewed_at = -_RENEW_EVERY_S

    @classmethod
    async def connect(cls, login: Login, at_once: int = AT_ONCE) -> Client:
        """Read the credentials and make a client of them; the server is asked nothing yet. Raises ConfigError."""
        await login.read()
        return cls(login, at_once)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()
        await self._connector.cut()

    async def get(
        self, call: Call, answer: type[T], query: Mapping[str, str] | None = None, *, accept: str = JSON, budget_s: float = BUDGET_S
    ) -> T:
        """Ask for something and decode it as ``answer``. Raises errors of :mod:`autoscaler.errors`, or more precise ones of ``calls``."""
        return await self._ask(call, answer, _Request(query or {}, accept), budget_s)

    async def write(
        self, call: Call, answer: type[T], body: object, query: Mapping[str, str] | None = None, *, content_type: str = JSON
    ) -> T:
        """Send ``body`` and decode what comes back as ``answer``. After a TransientError the write may have gone through all the same."""
        return await self._ask(call, answer, _Request(query or {}, JSON, content_type, body), BUDGET_S)

    @asynccontextmanager
    async def stream(
        self, call: Call, query: Mapping[str, str], *, accept: str = JSON, budget_s: float = BUDGET_S
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """An answer as it comes. It has begun within the budget; how long to wait for more is the caller's affair.

        What goes wrong while the caller reads becomes one of our errors too, but for TimeoutError: the caller's deadline is its own.
        """
        async with _within(call, budget_s):
            response = await self._send(call, _Request(query, accept))
        try:
            with self._translated(call):
                yield response.content
        finally:
            response.close()

    async def _ask(self, call: Call, answer: type[T], request: _Request, budget_s: float) -> T:
        async with _within(call, budget_s), self._free:
            response = await self._send(call, request)
            with self._translated(call):
                body = await _read(response, ANSWER_MAX)
        if len(body) > ANSWER_MAX:
            raise TooLargeError(f"{call}: the answer is longer than {ANSWER_MAX >> 20} MiB")
        try:
            return msgspec.json.decode(body, type=answer)
        except msgspec.DecodeError as error:
            raise AnswerError(f"{call}: expected an API server's JSON, got {in_one_line(body[:80])!r} … ({error})") from error

    async def _send(self, call: Call, request: _Request) -> aiohttp.ClientResponse:
        """Begin a request. A 401 is tried once more if the credentials turn out to have changed (rotated, or run out)."""
        token = await self._token(call)
        response = await self._try(call, request, token)
        if response.status == HTTPStatus.UNAUTHORIZED:
            renewed = await self._renew(call)
            if renewed != token:
                response.close()
                response = await self._try(call, request, renewed)
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            return response
        with self._translated(call):
            body = await _read(response, _REFUSAL_MAX)
        raise refusal(call, response.status, response.headers, body)

    async def _try(self, call: Call, request: _Request, token: str) -> aiohttp.ClientResponse:
        headers = {
            "Accept": request.accept,
            "Accept-Encoding": "identity",  # both ends are in one cluster, and to decompress a page costs more than to decode it
            "Content-Type": request.content_type,
            "User-Agent": "autoscaler",
        } | ({"Authorization": token} if token else {})
        url = self.server + call.path + (f"?{urlencode(request.query, quote_via=quote)}" if request.query else "")
        with self._translated(call):
            answer = await self._api.rest_client.request(_METHODS[call.verb], url, headers, request.body, _request_timeout=_BACKSTOP_S)
            response: aiohttp.ClientResponse = answer.response
        return response

    async def _token(self, call: Call) -> str:
        """The bearer token in use; reading it renews it where a file holds it."""
        try:
            token = await self._configuration.get_api_key_with_prefix("BearerToken")
        except (ConfigException, OSError) as error:
            raise TransientError(f"{call}: the credentials of {self._login.origin} cannot be read: {error}") from error
        stripped = str(token or "").strip()  # files end with a line end, headers must not
        if not stripped.isprintable():
            raise PermanentError(f"{call}: the token of {self._login.origin} has a line break or another control character in it")
        return stripped

    async def _renew(self, call: Call) -> str:
        """Read the credentials again, not too often; the token that is then in use."""
        now = asyncio.get_running_loop().time()
        async with self._renewing:
            if now - self._renewed_at >= _RENEW_EVERY_S:
                self._renewed_at = now
                with suppress(ConfigError):  # the answer that there is says enough
                    await self._login.read()
        return await self._token(call)

    @contextmanager
    def _translated(self, call: Call) -> Iterator[None]:
        """Failures of the network and of TLS become ours."""
        try:
            yield
        except TimeoutError:
            raise
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError) as error:
            told = f"{call}: the certificate of {self.server} is not trusted: {words(error)}"
            raise UntrustedError(f"{told}; its CA must be the one in {self._login.origin}, and clocks must be right") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(f"{call}: no connection to {self.server}: {words(error)}") from error


def _proxy_for(server: str) -> str | None:
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say, as other clients of Kubernetes read them."""
    url = urlsplit(server)
    return None if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme)


@asynccontextmanager
async def _within(call: Call, budget_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(budget_s):
            yield
    except TimeoutError as error:
        raise TransientError(f"{call}: no answer within {budget_s:g} s") from error


async def _read(response: aiohttp.ClientResponse, enough: int) -> bytes:
    """The body; where it is longer than ``enough``, some more than that of it."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > enough:
                break
    finally:
        response.close()  # after the whole body, this gives the connection back
    return b"".join(chunks)
