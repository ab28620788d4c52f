"""Settings of what is reached over HTTP: what all endpoints have in common, and the sinks that people are told through.

Secrets are named by file, and read again whenever they are used.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import NoDecode

EVENTS_SINK = "kubernetes"
"""The sink that is always there, Events on the workload, under the name that metrics give it; no other may have it."""

PAGERDUTY_URL = "https://events.pagerduty.com"


def http_url(value: str) -> str:
    """A usable http(s) URL. Raises ValueError, which does not quote it: it may hold a password."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and value.isprintable()
    except ValueError:
        usable = False
    if not usable or " " in value:
        raise ValueError("expected http://HOST[:PORT][/PATH] or https://…")
    return value


def from_json(value: object) -> object:
    """A mapping that the environment gives as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('expected a JSON object, such as {"X-Scope-OrgID": "shop"}') from None


def _base_url(value: str) -> str:
    if urlsplit(http_url(value)).query or "#" in value:
        raise ValueError("it has a query or a fragment; give the part before, to which the API's path is appended")
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(r"[\x20-\x7e\t]*", text):
            raise ValueError("expected names and values that can stand in an HTTP header")
    return value


def _label_names(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or not text or not text.isprintable():
            raise ValueError("expected names of letters, digits and _, each with a printable value")
        if name in {"alertname", "namespace", "kind", "workload", "container", "cluster"}:
            raise ValueError(f"{name} is a label that alerts have already; give yours another name")
    return value


class HttpServer(BaseModel):
    """How we are let in by a server, and how it is trusted. Secrets are named by file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bearer_token_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure_skip_verify: bool = False


class HttpSink(HttpServer):
    """What every sink that is reached over HTTP has: an address, TLS, and what lets us in."""

    url: Annotated[str, AfterValidator(http_url)] | None = Field(default=None, repr=False)
    url_file: str | None = None
    """In place of ``url`` where that is a secret."""
    headers: Annotated[dict[str, str], NoDecode, BeforeValidator(from_json), AfterValidator(_headers)] = Field(
        default_factory=dict, repr=False
    )

    @model_validator(mode="after")
    def _fits_together(self) -> HttpSink:
        wrong = {
            "give just one of url and url_file": (self.url is None) == (self.url_file is None),
            "give only one of bearer_token_file and username": self.bearer_token_file is not None and self.username is not None,
            "password_file needs username, and username needs password_file": (self.username is None) != (self.password_file is None),
            "key_file needs cert_file": self.key_file is not None and self.cert_file is None,
            "insecure_skip_verify would ignore ca_file; give one of them": self.insecure_skip_verify and self.ca_file is not None,
            "a user name or password in url is shown in places; give username and password_file": "@" in urlsplit(self.url or "").netloc,
        }
        mistakes = [words for words, is_so in wrong.items() if is_so]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


class AlertmanagerSink(HttpSink):
    """Alertmanager's API v2. What is open is sent again every ``resend_s``, or it would expire there; ``labels`` go with every alert."""

    type: Literal["alertmanager"]
    url: Annotated[str, AfterValidator(_base_url)] | None = Field(default=None, repr=False)
    resend_s: Annotated[float, Field(ge=10, le=600, allow_inf_nan=False)] = 60.0
    labels: Annotated[dict[str, str], NoDecode, BeforeValidator(from_json), AfterValidator(_label_names)] = Field(default_factory=dict)


class WebhookSink(HttpSink):
    """Any receiver of JSON. With ``secret_file`` each request is signed; a file of several lines signs with each of them (rotation)."""

    type: Literal["webhook"]
    secret_file: str | None = None


class SlackSink(HttpSink):
    """An incoming webhook of Slack, whose URL is the secret: ``url_file``."""

    type: Literal["slack"]

    @model_validator(mode="after")
    def _keeps_its_secret(self) -> SlackSink:
        if self.url is not None:
            raise ValueError("the URL of a Slack webhook is a secret: put it into a file, and name that as url_file")
        return self


class PagerDutySink(HttpSink):
    """PagerDuty's Events API v2. ``acknowledge``: an incident for which a pod was restarted is acknowledged, so that nobody is woken."""

    type: Literal["pagerduty"]
    url: Annotated[str, AfterValidator(_base_url)] | None = Field(default=PAGERDUTY_URL, repr=False)
    routing_key_file: str
    acknowledge: bool = False


SINKS: dict[str, type[HttpSink]] = {
    "alertmanager": AlertmanagerSink,
    "pagerduty": PagerDutySink,
    "slack": SlackSink,
    "webhook": WebhookSink,
}
"""By ``type``."""

AnySink = Annotated[AlertmanagerSink | WebhookSink | SlackSink | PagerDutySink, Field(discriminator="type")]


def sink_name(value: str) -> str:
    """The name of a sink, as policies refer to it. Raises ValueError."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", value):
        raise ValueError("expected a name of lower-case letters, digits, - and _, as policies refer to it")
    if value == EVENTS_SINK:
        raise ValueError(f"{EVENTS_SINK} is the sink of Events on the workload, which is always on; take another name")
    return value


SinkName = Annotated[str, AfterValidator(sink_name)]
