"""Prometheus, and what speaks its HTTP API, as a :class:`autoscaler.ports.MetricSource`.

    PrometheusSource ── one per service: finds the endpoint, splits ranges
      └─ Batches ── one per endpoint: many questions of one moment in a few requests
      └─ Lanes ── one per endpoint: deadlines, who may use a connection
           └─ Crew ── threads, replaced when they hang
                └─ _Line ── one per thread: the library's client on our Session
                     └─ answers ── columns, or an error of ours

The library (prometheus-api-client) does connections, authentication and queries; what it leaves open (deadlines, bounds, retries,
types, warnings) is closed by the session that it is given.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import cast

import numpy as np
from prometheus_api_client.prometheus_connect import PrometheusConnect

from autoscaler.adapters.prometheus.answers import Answer, Run
from autoscaler.adapters.prometheus.batches import Batches, Told, together
from autoscaler.adapters.prometheus.crew import Crew
from autoscaler.adapters.prometheus.endpoint import Credentials, Endpoint
from autoscaler.adapters.prometheus.lanes import Lanes
from autoscaler.adapters.prometheus.session import AnswerTooLargeError, Session
from autoscaler.core.spec import Query
from autoscaler.core.types import Floats
from autoscaler.errors import AutoscalerError, PermanentError
from autoscaler.metrics import QUERY_THREADS_STUCK
from autoscaler.ports import Matrix, Recorder, Vector

__all__ = ["Endpoint", "PrometheusSource"]

POINTS_MAX = 11_000
"""Rows of one query: Prometheus refuses more."""

SAMPLES_MAX = 50_000
"""Samples of one answer: 1.5 MB, decoded in 30 ms."""

FIRST_ROWS = 10
"""Rows of a range's first query, which finds out how many series there are: 5 000 fit."""

LOOKBACK_IGNORED = (
    "the server ignores lookback_delta (Prometheus before 2.43 does): a sample counts as current for as long as the server's own "
    "look-back, five minutes by default"
)

_NOTICES_MAX = 1024

_log = logging.getLogger(__name__)


class PrometheusSource:
    """Instant and range queries to named endpoints.

    Every question ends within its budget, whatever the server does. 401 and 403 are transient: credentials are rotated. A time that
    an answer carries is the time of evaluation even if what it measures died minutes ago: ``lookback_delta_s`` of the endpoint bounds
    how old a sample an instant selector may show. Use it from one event loop, and close it there.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint], recorder: Recorder) -> None:
        self._lanes = {name: _lanes(name, endpoint, recorder) for name, endpoint in endpoints.items()}
        self._batches = {name: Batches(lanes, _Line.instant) for name, lanes in self._lanes.items()}
        recorder.collect(QUERY_THREADS_STUCK, lambda: [((name,), float(lanes.stuck)) for name, lanes in self._lanes.items()])

    def instant(self, query: Query, at_s: float, budget_s: float) -> asyncio.Future[Vector]:
        """The query's value at that time; values as Prometheus gave them, NaN and infinities included."""
        loop = asyncio.get_running_loop()
        try:
            self._endpoint(query)
        except PermanentError as error:
            refused: asyncio.Future[Vector] = loop.create_future()
            refused.set_exception(error)
            return refused
        return self._batches[query.endpoint].ask(query.text, at_s, loop.time() + budget_s)

    async def range(self, query: Query, start_s: float, end_s: float, step_s: float, budget_s: float) -> Matrix:
        """Rows at ``start_s + i · step_s`` up to ``end_s``, asked for in pieces from the newest to the oldest.

        A piece has at most :data:`POINTS_MAX` rows and about :data:`SAMPLES_MAX` samples, by the number of series in the piece
        before; one that proves too much for either side is asked for again in smaller ones.
        """
        lanes = self._endpoint(query)
        deadline_s = asyncio.get_running_loop().time() + budget_s
        at_s = _grid(start_s, end_s, step_s)
        runs: list[Run] = []
        end, rows = at_s.size, FIRST_ROWS
        while end > 0:
            first = max(0, end - rows)
            span = (float(at_s[first]), float(at_s[end - 1]), step_s)
            call = partial(_Line.range, text=query.text, span=span, budget_s=budget_s)
            try:
                piece = await lanes.ask(query.text, call, deadline_s, bulk=True)
            except AutoscalerError as error:
                if end - first == 1 or not _is_too_much(error):
                    raise
                rows = max(1, (end - first) // 4)
                continue
            runs += piece
            end, rows = first, min(POINTS_MAX, max(1, SAMPLES_MAX // max(1, len(piece))))
        return _joined(runs, at_s, step_s)

    async def close(self) -> None:
        """End every question and every thread."""
        await asyncio.gather(*(lanes.close() for lanes in self._lanes.values()))
        await asyncio.gather(*(batches.close() for batches in self._batches.values()))

    def _endpoint(self, query: Query) -> Lanes[_Line]:
        lanes = self._lanes.get(query.endpoint)
        if lanes is None:
            known = ", ".join(map(repr, sorted(self._lanes))) or "none"
            raise PermanentError(f"there is no endpoint {query.endpoint!r} in the settings; configured: {known}")
        return lanes


class _Line:
    """The client of one thread."""

    def __init__(self, where: str, endpoint: Endpoint, notices: _Notices) -> None:
        credentials = Credentials(where, endpoint)
        self._session = Session(where, endpoint, credentials)
        self._client = PrometheusConnect(endpoint.base, headers=dict(endpoint.headers), session=self._session)
        self._where, self._notices = where, notices
        self._lookback = {} if endpoint.lookback_delta_s is None else {"lookback_delta": f"{endpoint.lookback_delta_s:.3f}"}

    def instant(self, texts: Sequence[str], at_s: float, budget_s: float) -> Told:
        """The answers to these questions. What the server remarks is passed on if there is one: else nobody knows which it is about."""
        self._check_lookback(budget_s)
        params = {"time": f"{at_s:.3f}", **self._common(budget_s)}
        if len(texts) == 1:
            return Told((self._noted(texts[0], self._client.custom_query(texts[0], params=params)).vector(at_s),), remarked=False)
        answer = cast("Answer", self._client.custom_query(together(texts), params=params))
        return Told(answer.parts(len(texts), at_s), bool(answer.warnings or answer.infos))

    def range(self, text: str, span: tuple[float, float, float], budget_s: float) -> list[Run]:
        start_s, end_s, step_s = span
        start, end = (datetime.fromtimestamp(edge_s, UTC) for edge_s in (start_s, end_s))
        # The client rounds times to whole seconds; what stands in params replaces that.
        params = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", **self._common(budget_s)}
        return self._noted(text, self._client.custom_query_range(text, start, end, f"{step_s:.3f}", params=params)).runs()

    def _check_lookback(self, budget_s: float) -> None:
        """Find out, once, whether the server bounds what it shows: one that knows the parameter refuses nonsense in it."""
        if not self._lookback or self._notices.is_lookback_checked:
            return
        try:
            self._client.custom_query("vector(1)", params={**self._common(budget_s), "lookback_delta": "?"})
        except PermanentError:
            self._notices.note_lookback(self._where, is_known=True)
        else:
            self._notices.note_lookback(self._where, is_known=False)

    def cut(self) -> None:
        self._session.cut()

    def close(self) -> None:
        self._client.close()

    def _common(self, budget_s: float) -> dict[str, str]:
        """What every query says, and how long the client may wait: the server too stops working when nobody waits any more."""
        self._session.silence_s = max(budget_s, 0.001)
        return {"timeout": f"{self._session.silence_s:.3f}", **self._lookback}

    def _noted(self, text: str, whole: object) -> Answer:
        answer = cast("Answer", whole)  # see session._Reply
        self._notices.tell(text, answer)
        return answer


class _Notices:
    """What the threads of one endpoint have to say, each thing once."""

    def __init__(self) -> None:
        self.is_lookback_checked = False
        self._told: dict[tuple[str, str], None] = {}
        self._lock = threading.Lock()

    def tell(self, text: str, answer: Answer) -> None:
        """Pass Prometheus's warnings and remarks about a query on to the log."""
        for level, words in ((logging.WARNING, answer.warnings), (logging.INFO, answer.infos)):
            for said in words:
                if self._is_new(text, said):
                    _log.log(level, "%s: %s (query: %s)", answer.where, said, text)

    def note_lookback(self, where: str, *, is_known: bool) -> None:
        """Note whether the server bounds what it shows; if not, that is a risk to know of."""
        self.is_lookback_checked = True
        if not is_known and self._is_new("", LOOKBACK_IGNORED):
            _log.warning("%s: %s", where, LOOKBACK_IGNORED)

    def _is_new(self, text: str, said: str) -> bool:
        with self._lock:
            is_new = (text, said) not in self._told
            self._told[text, said] = None
            if len(self._told) > _NOTICES_MAX:
                del self._told[next(iter(self._told))]
            return is_new


def _lanes(name: str, endpoint: Endpoint, recorder: Recorder) -> Lanes[_Line]:
    where, notices = f"Prometheus {name!r} ({endpoint.base})", _Notices()
    return Lanes(name, where, Crew(where, lambda: _Line(where, endpoint, notices)), recorder)


def _is_too_much(error: AutoscalerError) -> bool:
    """Whether a shorter range may go through: the answer was too large for us, or held too many samples for the server."""
    return isinstance(error, AnswerTooLargeError) or (isinstance(error, PermanentError) and "too many samples" in str(error))


def _grid(start_s: float, end_s: float, step_s: float) -> Floats:
    if not (step_s > 0 and end_s >= start_s):
        raise ValueError(f"expected start ≤ end and a step above 0, got {start_s} … {end_s} by {step_s}")
    return start_s + step_s * np.arange(int((end_s - start_s) / step_s + 1e-9) + 1, dtype=np.float64)


def _joined(runs: list[Run], at_s: Floats, step_s: float) -> Matrix:
    """One column for each set of labels; a sample goes to the row nearest to its time."""
    columns: dict[tuple[tuple[str, str], ...], int] = {}
    place = [columns.setdefault(tuple(sorted(run.labels.items())), len(columns)) for run in runs]
    values = np.full((at_s.size, len(columns)), np.nan)
    for column, run in zip(place, runs, strict=True):
        row = np.rint((run.at_s - at_s[0]) / step_s).astype(np.int64)
        inside = (row >= 0) & (row < at_s.size)
        values[row[inside], column] = run.values[inside]
    return Matrix(tuple(dict(labels) for labels in columns), at_s, values)
