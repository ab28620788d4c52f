"""One request by what it means to RBAC, and the errors that the API server's refusals of it stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, StaleViewError, TransientError

RETRY_AFTER_MAX_S = 60.0
"""However long a server (or whoever answers in its place) asks us to stay away: after this we look again."""

_WORDS_MAX = 300


class ForbiddenError(PermanentError):
    """RBAC says no. The message has the rule that would say yes."""


class NotFoundError(PermanentError):
    """The object, or the kind, is not there."""


class GoneError(TransientError):
    """The version to go on from is no longer kept: list again (410)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its RBAC verb and what it is about. ``resource`` may have a subresource: ``deployments/scale``.

    Without a ``namespace`` it is about all of them (or about the cluster); without a ``resource`` about the path itself.
    """

    verb: str
    path: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def rule(self) -> str:
        """The RBAC rule that allows it, as it stands in a manifest."""
        if not self.resource:
            return f'needed: a ClusterRole with {{nonResourceURLs: ["{self.path}"], verbs: ["{self.verb}"]}}'
        where = f"a Role in namespace {self.namespace}" if self.namespace else "a ClusterRole"
        return f'needed: {where} with {{apiGroups: ["{self.group}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]}}'

    def __str__(self) -> str:
        if not self.resource:
            return f"{self.verb} {self.path}"
        plural, slash, subresource = self.resource.partition("/")
        what = f"{plural}.{self.group}{slash}{subresource}" if self.group else self.resource
        name = f" {self.name}" if self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces" if not self.name else ""
        return f"{self.verb} {what}{name} {where}".rstrip()


class Cause(msgspec.Struct, gc=False):
    """One of a Status's causes: a field that is wrong, or the PodDisruptionBudget that refuses an eviction."""

    reason: str = ""
    message: str = ""


class Details(msgspec.Struct, gc=False, rename="camel"):
    """A Status's details, as far as they are read."""

    causes: list[Cause] | None = None
    retry_after_seconds: float | None = None


class Status(msgspec.Struct, gc=False):
    """The API server's own way to say what went wrong: the body of a refusal, the object of an ERROR event."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: Details | None = None


def refusal(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> AutoscalerError:
    """The error that an answer other than 2xx stands for."""
    try:
        told = msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:  # a proxy's page, or plain text as in "404 page not found"
        told = Status(message=in_one_line(body))
    told.code = status
    return refused(call, told, headers.get("Retry-After", ""))


def refused(call: Call, told: Status, retry_after: str = "") -> AutoscalerError:  # noqa: PLR0911 - a table, one row per meaning
    """The error that a Status stands for; ``retry_after`` as in the HTTP header."""
    message = f"{call}: {told.code} {told.reason or _phrase(told.code)}: {told.message[:_WORDS_MAX] or 'no message'}{_budget(told)}"
    code = told.code
    if code == HTTPStatus.GONE:
        return GoneError(message)
    if code in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TransientError(message, retry_after_s=_wish(told, retry_after))
    if code == HTTPStatus.CONFLICT or _failed_test(told):
        return StaleViewError(message)
    if code == HTTPStatus.FORBIDDEN:
        return ForbiddenError(f"{message}; {call.rule}")
    if code == HTTPStatus.NOT_FOUND:
        return NotFoundError(message)
    if code == HTTPStatus.UNAUTHORIZED:
        return PermanentError(f"{message}; the API server does not accept these credentials: renew the token or certificate in use")
    if code < HTTPStatus.BAD_REQUEST:
        return AnswerError(f"{message}; expected an API server, is this the address of a proxy or a login page?")
    return PermanentError(message)


def in_one_line(body: bytes) -> str:
    """The beginning of a body that is not what it should be, for people."""
    return " ".join(body[:_WORDS_MAX].decode(errors="replace").split())


def words(error: BaseException) -> str:
    """What an exception says; many of the network's say nothing but their name."""
    return str(error) or type(error).__name__


def _failed_test(told: Status) -> bool:
    """A JSON Patch whose ``test`` failed is a 422 without causes; an impossible value has some (both seen on 1.37)."""
    return told.code == HTTPStatus.UNPROCESSABLE_ENTITY and not (told.details and told.details.causes)


def _budget(told: Status) -> str:
    """Which PodDisruptionBudget refuses, and how it counts, is said in a cause alone."""
    causes = (told.details.causes if told.details else None) or ()
    return "".join(f" {cause.message[:_WORDS_MAX]}" for cause in causes if cause.reason == "DisruptionBudget")


def _wish(told: Status, retry_after: str) -> float | None:
    """How long to stay away: the header in seconds (API servers send no dates), or the Status's own field."""
    if retry_after.strip().isdecimal():
        return min(float(retry_after), RETRY_AFTER_MAX_S)
    seconds = told.details.retry_after_seconds if told.details else None
    return None if seconds is None else min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "unknown status"
