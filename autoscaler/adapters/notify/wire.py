"""One POST to a sink: with its credentials, read anew; within its budget; and what the answer means.

Files are read again for every request, so that what is rotated is used from the next report on. No message names a secret: neither what
was read from files, nor the address, which may be one.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from autoscaler.clock import Clock
from autoscaler.core.health.redact import HIDDEN, one_line
from autoscaler.endpoints import HttpSink, http_url
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError

ANSWER_MAX = 65_536
SECRET_MAX = 65_536
_WORDS_MAX = 200
_SECRET_MIN = 4

_NEVER = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})
"""Answers that say that this very report is wrong; anything else may be otherwise once somebody has put something right."""

_Stamp: TypeAlias = tuple[str | tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx; ``text`` is all that was read of it."""

    text: str

    @property
    def is_page(self) -> bool:
        """Whether it is a web page, such as a login's: the report has gone astray."""
        return self.text.lstrip()[:15].lower().startswith(("<!doctype html", "<html"))


class Wire:
    """The way to one sink. Give it back with :meth:`close`."""

    def __init__(self, name: str, sink: HttpSink, clock: Clock) -> None:
        self._name, self._sink, self._clock = name, sink, clock
        self._session: aiohttp.ClientSession | None = None
        self._stamp: _Stamp = ()
        self._opening = asyncio.Lock()

    async def post(self, body: bytes, budget_s: float, *, path: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Send JSON, once. Raises TransientError, or PermanentError where this body will never be taken."""
        secrets: list[str] = []
        try:
            async with asyncio.timeout(budget_s):
                url = await self._url(secrets) + path
                given = {"Content-Type": "application/json", "User-Agent": "autoscaler", **self._sink.headers, **(headers or {})}
                given |= await self._credentials(secrets)
                return await self._exchange(url, body, given, secrets)
        except TimeoutError as error:
            raise TransientError(f"{self}: no answer within {budget_s:g} s") from error

    async def secret(self, field: str, path: str) -> str:
        """A file's text without what is blank around it. Raises TransientError if it cannot be read: it may be just being replaced."""
        return await asyncio.to_thread(self._read, field, path)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def __str__(self) -> str:
        return f"sink {self._name}"

    async def _url(self, secrets: list[str]) -> str:
        text = str(self._sink.url) if self._sink.url_file is None else await self.secret("url_file", self._sink.url_file)
        try:
            url = http_url(text).rstrip("/")
        except ValueError as error:
            raise TransientError(f"{self}: url_file {self._sink.url_file}: {error}") from None
        parts = urlsplit(url)
        secrets += [text, url, parts.query, *([parts.path] if self._sink.url_file is not None else [])]
        return url

    async def _credentials(self, secrets: list[str]) -> dict[str, str]:
        sink = self._sink
        if sink.bearer_token_file is not None:
            token = await self.secret("bearer_token_file", sink.bearer_token_file)
            secrets.append(token)
            return {"Authorization": f"Bearer {token}"}
        if sink.username is not None and sink.password_file is not None:
            password = await self.secret("password_file", sink.password_file)
            pair = base64.b64encode(f"{sink.username}:{password}".encode()).decode()
            secrets += [password, pair]
            return {"Authorization": f"Basic {pair}"}
        return {}

    async def _exchange(self, url: str, body: bytes, headers: Mapping[str, str], secrets: list[str]) -> Answer:
        host, scheme = urlsplit(url).hostname, urlsplit(url).scheme
        secrets += self._sink.headers.values()
        session = await self._opened(scheme)
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False, proxy=_proxy_for(url)) as response:
                text = (await _read(response)).decode(errors="replace")
                if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                    return Answer(text)
                raise self._refusal(response, _concealed(text, secrets))
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError, aiohttp.ClientSSLError) as error:
            raise TransientError(
                f"{self}: TLS with {host} failed: {_concealed(_words(error), secrets)}; its CA belongs into ca_file"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TransientError(f"{self}: no connection to {host}: {_concealed(_words(error), secrets)}") from None

    def _refusal(self, response: aiohttp.ClientResponse, text: str) -> AutoscalerError:
        """What an answer other than 2xx means."""
        message = f"{self}: {response.status} {response.reason or ''}: {one_line(text, _WORDS_MAX) or 'no message'}"
        if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
            return AnswerError(f"{self}: {response.status}: it redirects elsewhere; give that address, or is this a login page?")
        if response.status in _NEVER:
            return PermanentError(message)
        return TransientError(message, retry_after_s=self._wish(response.headers.get("Retry-After", "").strip()))

    def _wish(self, told: str) -> float | None:
        """How long the other side wants us to stay away: in seconds, or until a date."""
        if told.isascii() and told.isdecimal():
            return float(told)
        try:
            until = parsedate_to_datetime(told)
        except (ValueError, OverflowError):
            return None
        return max(0.0, (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - self._clock.now())

    async def _opened(self, scheme: str) -> aiohttp.ClientSession:
        """The session, made anew where the files of TLS have changed."""
        async with self._opening:
            stamp = (scheme, *(_stamp(path) for path in (self._sink.ca_file, self._sink.cert_file, self._sink.key_file)))
            if self._session is None or stamp != self._stamp:
                # The system's certificates take a tenth of a second to load.
                trust = await asyncio.to_thread(self._trust) if scheme == "https" else False
                if self._session is not None:
                    await self._session.close()
                connector = aiohttp.TCPConnector(ssl=trust, force_close=True)  # between two reports any connection would be cut
                self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
                self._stamp = stamp
            return self._session

    def _trust(self) -> ssl.SSLContext:
        sink = self._sink
        try:
            trust = ssl.create_default_context(cafile=sink.ca_file)
            if sink.cert_file is not None:
                trust.load_cert_chain(sink.cert_file, sink.key_file)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            named = ", ".join(f"{name} {value}" for name in ("ca_file", "cert_file", "key_file") if (value := getattr(sink, name)))
            raise TransientError(f"{self}: {named}: cannot be used: {_words(error)}") from None
        if sink.insecure_skip_verify:
            trust.check_hostname = False
            trust.verify_mode = ssl.CERT_NONE
        return trust

    def _read(self, field: str, path: str) -> str:
        try:
            with Path(path).open("rb") as file:
                text = file.read(SECRET_MAX).decode().strip()
        except OSError as error:
            raise TransientError(f"{self}: {field} {path}: {error.strerror}") from error
        except UnicodeDecodeError:  # whose own text quotes what it could not read
            raise TransientError(f"{self}: {field} {path}: expected text, it is not UTF-8") from None
        if not text or not text.replace("\n", "").isprintable() or ("\n" in text and field != "secret_file"):
            raise TransientError(f"{self}: {field} {path}: expected one line of printable text; it is empty or has something else")
        return text


def _concealed(text: str, secrets: Iterable[str]) -> str:
    """The text without what lets us in: the other side may echo it, and a library name the address."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SECRET_MIN:
            text = text.replace(secret, HIDDEN)
    return text


def _proxy_for(url: str) -> str | None:
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say; to this machine itself no proxy leads."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    return None if is_here or proxy_bypass(host) else getproxies().get(parts.scheme)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or as much of it as is wanted."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= ANSWER_MAX:
            break
    return bytes(body[:ANSWER_MAX])


def _stamp(path: str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _words(error: BaseException) -> str:
    return one_line(str(error) or type(error).__name__, _WORDS_MAX)
