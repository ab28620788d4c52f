"""Where one Prometheus is and how to be let in; secrets live in files and never reach a message."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from requests import PreparedRequest
from requests.auth import AuthBase

from autoscaler.errors import ConfigError, TransientError

_SECRET_MIN = 4  # a shorter text occurs in messages by chance
_SECRET_HEADER = re.compile("auth|cookie|key|password|secret|token", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server with Prometheus's HTTP API (Prometheus itself, Thanos, Mimir, VictoriaMetrics).

    ``url`` may have a path (a route prefix) and ``user:password@``; files are read again for every request (secrets) or every new
    connection (certificates), so rotation needs no restart. ``headers`` go with every request. ``lookback_delta_s`` is how old a
    sample may be for an instant selector to see it (seconds; None: the server's default, five minutes); Prometheus heeds it since
    2.43. Raises ConfigError, with every mistake, if the fields do not fit together.
    """

    url: str = field(repr=False)
    bearer_token_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    lookback_delta_s: float | None = None
    insecure_skip_verify: bool = False

    def __post_init__(self) -> None:
        mistakes = [*_url_mistakes(self.url), *self._field_mistakes(), *self._header_mistakes()]
        if mistakes:
            raise ConfigError("; ".join(mistakes))

    def _field_mistakes(self) -> Iterator[str]:
        if self.username is not None and _has_user(self.url):
            yield "username: the url has one too; give one of them"
        if self.bearer_token_file is not None and (self.username is not None or _has_user(self.url)):
            yield "bearer_token_file: there is a user name too, and a request carries only one of them"
        if self.password_file is not None and self.username is None:
            yield "password_file: it needs username"
        if self.key_file is not None and self.cert_file is None:
            yield "key_file: it needs cert_file"
        if self.ca_file is not None and self.insecure_skip_verify:
            yield "ca_file: insecure_skip_verify would ignore it; give one of them"
        if self.lookback_delta_s is not None and not 0 < self.lookback_delta_s < inf:
            yield f"lookback_delta_s: expected seconds above 0, got {self.lookback_delta_s}"

    def _header_mistakes(self) -> Iterator[str]:
        has_credentials = self.bearer_token_file is not None or self.username is not None or _has_user(self.url)
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                yield f"headers: {name!r} or its value cannot stand in an HTTP header"
            elif name.lower() == "authorization" and has_credentials:
                yield f"headers: the bearer token or user name would replace {name}; give one of them"

    @property
    def base(self) -> str:
        """The URL without user, password and trailing slash: for requests and for messages."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, where no proxy of the environment leads to."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def _url_mistakes(url: str) -> Iterator[str]:
    """Never quotes it: nobody knows which part of a broken URL is a password."""
    expected = "url: expected http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        yield expected
        return
    if not usable or any(char.isspace() or not char.isprintable() for char in url):
        yield expected
    elif parts.query or parts.fragment:
        yield "url: it has a query or a fragment; give the part before, to which /api/v1/query is appended"


def _has_user(url: str) -> bool:
    return "@" in url.partition("://")[2].partition("/")[0]


class Credentials(AuthBase):
    """Puts on each request what lets us in, read anew: a token that was rotated is used from the next request on.

    Raises TransientError, beginning with ``where``, if a file cannot be read: it may be just being replaced.
    """

    def __init__(self, where: str, endpoint: Endpoint) -> None:
        self._where, self._endpoint = where, endpoint
        parts = urlsplit(endpoint.url)
        self._user = unquote(parts.username) if parts.username is not None else endpoint.username
        self._url_password = unquote(parts.password or "")
        self._fixed = {value for name, value in endpoint.headers.items() if _SECRET_HEADER.search(name)}
        self._used: set[str] = set()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """As requests calls it, last before sending."""
        endpoint = self._endpoint
        if endpoint.bearer_token_file is not None:
            token = self._read("bearer_token_file", endpoint.bearer_token_file)
            request.headers["Authorization"] = f"Bearer {token}"
            self._used = {token}
        elif self._user is not None:
            password = self._url_password if endpoint.password_file is None else self._read("password_file", endpoint.password_file)
            pair = base64.b64encode(f"{self._user}:{password}".encode()).decode()
            request.headers["Authorization"] = f"Basic {pair}"
            self._used = {password, pair}
        return request

    def conceal(self, text: str) -> str:
        """The text without any secret: a server may echo what it was sent."""
        for secret in sorted(self._fixed | self._used, key=len, reverse=True):
            if len(secret) >= _SECRET_MIN:
                text = text.replace(secret, "•••")
        return text

    def require_certificates(self) -> None:
        """Raises TransientError naming a certificate file that is not there (yet); the TLS library's own words name none."""
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self._endpoint, name)
            if path is not None and not Path(path).exists():
                raise TransientError(f"{self._where}: {name} {path}: no such file")

    def _read(self, name: str, path: str) -> str:
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise TransientError(f"{self._where}: {name} {path}: {error.strerror}") from error
        except UnicodeDecodeError:  # whose own text quotes what it could not read
            raise TransientError(f"{self._where}: {name} {path}: expected text, it is not UTF-8") from None
        if not text or not text.isprintable() or not (text.isascii() or name == "password_file"):
            raise TransientError(f"{self._where}: {name} {path}: expected one line of printable text; it is empty or has something else")
        return text
