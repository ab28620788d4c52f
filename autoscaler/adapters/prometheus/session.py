"""The HTTP session under the Prometheus client: one request for one question, bounded in size, and cut short from outside.

The client's own defaults would retry three times, follow redirects, wait for ever and load any body into memory; here none of that
happens. A socket timeout does not end a server that drips one byte a second (each byte starts it anew), so the event loop's deadline
cuts the connection instead: :meth:`Session.cut`.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, RemoteDisconnected
from typing import Any
from urllib.parse import urlencode

import requests
import urllib3
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    IncompleteRead,
    InsecureRequestWarning,
    LocationValueError,
    ProxyError,
    ReadTimeoutError,
)

from autoscaler.adapters.prometheus.answers import Answer, Reader
from autoscaler.adapters.prometheus.endpoint import Credentials, Endpoint
from autoscaler.errors import AnswerError, TransientError

BODY_MAX = 16 * 2**20
"""Bytes of an answer, unpacked: ten times what 50 000 samples or 10 000 series need."""

CONNECT_S = 2.0
"""For a TCP connection and each step of a TLS handshake; the whole request has its own deadline."""

URL_MAX = 2_000
"""Longer queries travel in a POST's body: proxies refuse long URLs, some gateways every POST."""

_PIECE = 2**16  # bytes read at a time, and all that is read of an error's body


class AnswerTooLargeError(AnswerError):
    """The answer is larger than :data:`BODY_MAX`; a part of it may not be."""


class Cord:
    """What it takes to end a request from another thread: the connection that it runs on."""

    def __init__(self) -> None:
        self._is_cut = False
        self._connection: HTTPConnection | None = None

    def hold(self, connection: HTTPConnection) -> None:
        """This connection is the one in use from now on."""
        self._connection = connection

    def cut(self) -> None:
        """Wake whoever waits on the connection; none is opened any more."""
        self._is_cut = True
        wire = getattr(self._connection, "sock", None)
        if isinstance(wire, socket.socket):
            with suppress(OSError):
                socket.socket.shutdown(wire, socket.SHUT_RDWR)  # below TLS, whose own state belongs to the thread that reads

    def refuse_if_cut(self, connection: HTTPConnection) -> None:
        """Give up a connection that came about after the cut."""
        if self._is_cut:
            connection.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "cut while it connected")


def _corded(cord: Cord) -> tuple[type[HTTPConnection], type[HTTPSConnection]]:
    """Kinds of connection that hang on the cord."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            cord.hold(self)
            super().connect()
            cord.refuse_if_cut(self)

    class Tls(HTTPSConnection):
        def connect(self) -> None:
            cord.hold(self)
            super().connect()
            cord.refuse_if_cut(self)

    return Plain, Tls


class _Transport(HTTPAdapter):
    """Sends once, over connections that hang on the cord."""

    def __init__(self, cord: Cord) -> None:
        super().__init__(max_retries=urllib3.Retry(total=0))
        self._plain, self._tls = _corded(cord)

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: bool | str,  # noqa: FBT001 - HTTPAdapter's signature
        proxies: dict[str, str] | None = None,
        cert: str | tuple[str, str] | None = None,
    ) -> HTTPConnectionPool:
        """As HTTPAdapter's."""
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        pool.ConnectionCls = self._tls if pool.scheme == "https" else self._plain
        return pool


class _Reply(Response):
    """What the client sees of an answer.

    It would hand on ``json()["data"]["result"]`` and drop the type, the warnings and the server's clock. So the whole answer stands
    in that place.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.status_code = 200
        self._answer = answer

    def json(self, **_: object) -> dict[str, dict[str, Answer]]:
        """The answer, where the client looks for a part of it."""
        return {"data": {"result": self._answer}}


class Session(requests.Session):
    """Requests of one thread to one endpoint. ``silence_s`` is how long the server may say nothing before a read gives up."""

    def __init__(self, where: str, endpoint: Endpoint, credentials: Credentials) -> None:
        super().__init__()
        self.silence_s = CONNECT_S
        self._where, self._credentials, self._cord = where, credentials, Cord()
        self._reader, self._transport = Reader(where, credentials.conceal), _Transport(self._cord)
        self.auth = credentials
        self.headers["User-Agent"] = "autoscaler"
        self.verify = False if endpoint.insecure_skip_verify else endpoint.ca_file or True
        if endpoint.cert_file is not None:
            self.cert = endpoint.cert_file if endpoint.key_file is None else (endpoint.cert_file, endpoint.key_file)
        self.trust_env = not endpoint.is_loopback  # HTTPS_PROXY and its kin
        if endpoint.insecure_skip_verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # one warning a request helps nobody

    def get_adapter(self, url: str) -> _Transport:
        """Ours, whatever the client has mounted."""
        del url
        return self._transport

    def cut(self) -> None:
        """From another thread: end the request under way and refuse every later one."""
        self._cord.cut()

    def close(self) -> None:
        """Give the connection back."""
        super().close()
        self._transport.close()

    def request(self, method: str, url: str, **kwargs: Any) -> Response:  # type: ignore[override]  # noqa: ANN401 - the client's own call
        """One exchange, as the client asks for it. Raises only errors of ours."""
        params = kwargs.get("params") or {}
        if len(urlencode(params)) > URL_MAX:
            method, kwargs["params"], kwargs["data"] = "POST", None, params
        kwargs |= {"stream": True, "allow_redirects": False, "timeout": (min(CONNECT_S, self.silence_s), self.silence_s)}
        self._credentials.require_certificates()
        try:
            with super().request(method, url, **kwargs) as response:
                if response.status_code == HTTPStatus.OK:
                    return _Reply(self._reader.answer(response.headers, self._body(response)))
                body = next(response.iter_content(_PIECE), b"")
                raise self._reader.error(response.status_code, response.headers, body)
        except (RequestException, HTTPError, OSError) as error:
            raise TransientError(f"{self._where}: {why(error)}") from error

    def _body(self, response: Response) -> bytes:
        too_large = AnswerTooLargeError(
            f"{self._where}: the answer is larger than {BODY_MAX >> 20} MiB; aggregate in the query, as in sum(...)"
        )
        if (response.raw.length_remaining or 0) > BODY_MAX:  # as its head announces
            raise too_large
        body = bytearray()
        for piece in response.iter_content(_PIECE):
            body += piece
            if len(body) > BODY_MAX:
                raise too_large
        return bytes(body)


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its certificate is not trusted: {0.verify_message}"),
    (ssl.SSLError, "TLS failed: {0.reason}"),
    (socket.gaierror, "its name does not resolve: {0.strerror}"),
    (OSError, "{0.strerror}"),
    (ConnectTimeoutError, "no connection in time"),
    (ReadTimeoutError, "no answer in time"),
    (RemoteDisconnected, "it closed the connection without an answer"),
    (IncompleteRead, "the answer broke off"),
    (HTTPException, "what it says is no HTTP ({0.__class__.__name__})"),
    (DecodeError, "the answer cannot be unpacked"),
    (LocationValueError, "its url cannot be used"),
)


def why(error: BaseException) -> str:
    """Why there was no answer, in the system's words. The libraries' own texts name URLs and objects, and are not quoted."""
    chain = list(_chain(error))
    by = "through the proxy: " if any(isinstance(each, ProxyError) for each in chain) else ""
    for kind, words in _REASONS:
        for each in chain:
            if isinstance(each, kind) and not (kind is OSError and getattr(each, "strerror", None) is None):
                return by + words.format(each)
    return by + type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The errors behind an error, outermost first: requests and urllib3 nest them in causes, arguments and reasons."""
    seen: list[BaseException] = []
    ahead: list[object] = [error]
    while ahead:
        each = ahead.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            ahead += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
            yield each
