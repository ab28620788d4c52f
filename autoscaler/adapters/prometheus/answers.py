"""What an answer of Prometheus's HTTP API means: columns, or one of our errors with the server's own words.

The reactions: what Prometheus refuses in its own form (400, 422: bad PromQL, too many samples) is permanent, since only another
query helps. Everything else may pass: 401 and 403 (credentials are rotated), 429 and 5xx (with ``Retry-After``), a login page, a
404 from an ingress that is being deployed, another type than was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isnan, nan
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np

from autoscaler.core.types import Floats
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.ports import Vector

Headers = Mapping[str, str]

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: brackets nested without end

MARK = "autoscaler_question"
"""The label by which the parts of an answer to several questions are told from each other: the question's place among them."""

_WORDS_MAX = 300
_RETRY_AFTER_MAX_S = 3600.0  # who asks for longer has miscounted

_TYPE_TEXT = {"scalar": "a scalar", "string": "a string", "vector": "an instant vector", "matrix": "a range vector"}
_TYPE_HINT = {
    "scalar": "; wrap it in vector(...)",
    "matrix": "; put a function such as rate(...) or avg_over_time(...) around it",
}


class UnmarkedError(AnswerError):
    """The answer to several questions has a series that belongs to none of them."""


class _Envelope(msgspec.Struct, rename="camel"):
    """What every answer of the API is wrapped in."""

    status: str
    data: msgspec.Raw = msgspec.Raw()
    error_type: str = ""
    error: str = ""
    warnings: list[str] | None = None
    infos: list[str] | None = None


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _Sample(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str] | None = None  # absent: a native histogram


class _Samples(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] | None = None  # absent: native histograms only


_Shape = TypeVar("_Shape")


@dataclass(frozen=True, slots=True)
class Run:
    """One series of a range answer: ``values[i]`` at ``at_s[i]``, only where there is a sample."""

    labels: Mapping[str, str]
    at_s: Floats
    values: Floats


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, not yet judged by type. ``source_now_s``: the server's clock (NaN: it did not say)."""

    where: str
    data: msgspec.Raw
    source_now_s: float
    warnings: tuple[str, ...]
    infos: tuple[str, ...]

    def vector(self, at_s: float) -> Vector:
        """As an instant vector; ``at_s`` is what an empty one was evaluated at. Raises AnswerError if it is none."""
        return self._vector(self._result("vector", list[_Sample]), at_s)

    def parts(self, questions: int, at_s: float) -> tuple[Vector | AnswerError, ...]:
        """As the instant vectors of so many questions, by :data:`MARK`; a part that is none is its error.

        Raises UnmarkedError if a series is without a mark, or the one that is marked after the questions' is not there.
        """
        samples: list[list[_Sample]] = [[] for _ in range(questions + 1)]
        for sample in self._result("vector", list[_Sample]):
            place = sample.metric.pop(MARK, "")
            if not (place.isascii() and place.isdecimal() and int(place) <= questions):
                raise UnmarkedError(f"{self.where}: answered {questions} questions with a series that belongs to none of them")
            samples[int(place)].append(sample)
        if not samples.pop():
            raise UnmarkedError(f"{self.where}: answered {questions} questions, but not as a whole")
        return tuple(self._vector_or_error(part, at_s) for part in samples)

    def _vector_or_error(self, samples: list[_Sample], at_s: float) -> Vector | AnswerError:
        try:
            return self._vector(samples, at_s)
        except AnswerError as error:
            return error

    def _vector(self, samples: list[_Sample], at_s: float) -> Vector:
        pairs = [sample.value for sample in samples if sample.value is not None]
        if len(pairs) < len(samples):
            raise self._histogram()
        times, values = self._columns(pairs)
        evaluated_at_s = float(times.min()) if pairs else at_s
        return Vector(tuple(sample.metric for sample in samples), values, evaluated_at_s, self.source_now_s)

    def runs(self) -> list[Run]:
        """As a range, series by series. Raises AnswerError if it is none."""
        runs = []
        for series in self._result("matrix", list[_Samples]):
            if series.values is None:
                raise self._histogram()
            runs.append(Run(series.metric, *self._columns(series.values)))
        return runs

    def _columns(self, pairs: list[tuple[float, str]]) -> tuple[Floats, Floats]:
        """Times and values."""
        try:
            return np.array([time for time, _ in pairs], np.float64), np.array([float(text) for _, text in pairs], np.float64)
        except ValueError as error:
            raise AnswerError(f"{self.where}: expected numbers in the answer: {error}") from error

    def _result(self, wanted: str, shape: type[_Shape]) -> _Shape:
        try:
            data = msgspec.json.decode(self.data, type=_Data)
            if data.result_type == wanted:
                return msgspec.json.decode(data.result, type=shape)
        except _UNREADABLE as error:
            raise AnswerError(f"{self.where}: answered 200, but not in the form of Prometheus's API: {error}") from error
        got = _TYPE_TEXT.get(data.result_type, f"the unknown type {data.result_type[:40]!r}") + _TYPE_HINT.get(data.result_type, "")
        raise AnswerError(f"{self.where}: {_TYPE_TEXT[wanted]} is needed, but the query gives {got}")

    def _histogram(self) -> AnswerError:
        return AnswerError(
            f"{self.where}: the query gives native histograms; put histogram_quantile(...) or histogram_count(...) around it"
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads what came back from ``where``; ``conceal`` takes our secrets out of a server's words, which may echo them."""

    where: str
    conceal: Callable[[str], str]

    def answer(self, headers: Headers, body: bytes) -> Answer:
        """The answer in a body that came with status 200. Raises AnswerError if there is none."""
        try:
            envelope = msgspec.json.decode(body, type=_Envelope)
        except _UNREADABLE as error:
            kind = headers.get("Content-Type", "no content type")
            if not body.strip():
                raise AnswerError(f"{self.where}: answered 200 with an empty body") from error
            if "json" in kind.lower():
                raise AnswerError(f"{self.where}: answered 200, but not in the form of Prometheus's API: {error}") from error
            raise AnswerError(f"{self.where}: answered 200 with {_line(kind)} instead of JSON: a login page, or another server?") from error
        if envelope.status != "success":
            raise AnswerError(f"{self.where}: answered 200 with the status {envelope.status[:40]!r}: {self._said(envelope)}")
        return Answer(self.where, envelope.data, _clock(headers), tuple(envelope.warnings or ()), tuple(envelope.infos or ()))

    def error(self, status: int, headers: Headers, body: bytes) -> AutoscalerError:
        """What any other status than 200 means; ``body`` may be just its beginning."""
        refusal = _refusal(body)
        if refusal is not None and status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
            return PermanentError(f"{self.where}: refuses the query: {self._said(refusal)}")
        answered = f"{self.where}: answered {status} {_phrase(status)}".rstrip()
        if refusal is not None:
            answered += f": {self._said(refusal)}"
        elif headers.get("Content-Type", "").startswith("text/plain") and body.strip():
            answered += f": {self.conceal(_line(body.decode('utf-8', 'replace')))}"
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return TransientError(f"{answered}; check this endpoint's credentials and what they allow")
        if (
            status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
            or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            return TransientError(answered, retry_after_s=_retry_after(headers))
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return AnswerError(
                f"{answered}, to {_redirect(headers)}, which is not followed: a login page, or the url that this endpoint needs?"
            )
        if status == HTTPStatus.NOT_FOUND:
            return AnswerError(f"{answered}; no Prometheus API there: check the path in the endpoint's url (a route prefix?)")
        return AnswerError(answered)

    def _said(self, envelope: _Envelope) -> str:
        return self.conceal(_line(f"{envelope.error_type or 'error'}: {envelope.error or 'no reason given'}"))


def _refusal(body: bytes) -> _Envelope | None:
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except _UNREADABLE:
        return None
    return envelope if envelope.status == "error" else None


def _clock(headers: Headers) -> float:
    """The server's clock by its Date header, in whole seconds since the epoch."""
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return nan


def _retry_after(headers: Headers) -> float | None:
    """Seconds that it asks to be left alone. A date counts from the server's own clock: ours may differ."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _RETRY_AFTER_MAX_S)
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - _clock(headers)
    except (ValueError, OverflowError):
        return None
    return None if isnan(wait_s) else min(max(0.0, wait_s), _RETRY_AFTER_MAX_S)


def _redirect(headers: Headers) -> str:
    """Where a redirect leads, without user, password and query."""
    try:
        parts = urlsplit(headers.get("Location", ""))
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
    except ValueError:
        return "an address that is none"
    return _line(address + parts.path) or "no address"


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in {known.value for known in HTTPStatus} else ""


def _line(text: str) -> str:
    """One printable line of bounded length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * _WORDS_MAX]).split())
    return line if len(line) <= _WORDS_MAX else f"{line[:_WORDS_MAX]}…"
