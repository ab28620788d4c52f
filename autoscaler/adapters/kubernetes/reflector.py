"""List and watch: a current copy of the objects of a kind, or the knowledge that it is not current.

The caller names the fields that it needs as a msgspec struct, and perhaps another form to keep them in, and gets them through three
callbacks. What can go wrong in between (reference: the API concepts of Kubernetes, "Efficient detection of changes") ends in one of two
ways: resume from the last version seen, or list again and tell the difference by uid. What was silent for too long is listed again, as
a watch that can be opened proves nothing: from a version that the server has not reached (its etcd was restored), it stays open and silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any, Generic, TypeAlias

import msgspec

from autoscaler.adapters.kubernetes.backoff import Backoff
from autoscaler.adapters.kubernetes.calls import Call, GoneError, NotFoundError, Status, in_one_line, refused
from autoscaler.adapters.kubernetes.client import ANSWER_MAX, JSON, Client, TooLargeError, UntrustedError
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.wire import Bookmark, Event, Object, Page, T
from autoscaler.clock import Clock
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.metrics import WATCH_RESTARTS
from autoscaler.ports import Recorder

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str]
"""Namespace and name."""

_METADATA_ONLY = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_STEADY_S = 10.0  # a watch that lived that long was a good one
_BUSY = 100  # … and so was one that brought so much: in a storm, API servers end watches of whoever is slow
_OUTAGE = 3  # so many failures in a row without an answer are an outage


@dataclass(frozen=True, slots=True)
class Handlers(Generic[T]):
    """Called in order, from the reader: they must be quick and must not raise. An object made anew under its name is deleted, added."""

    added: Callable[[T], None]
    changed: Callable[[T, T], None]
    deleted: Callable[[T], None]


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """Objects that are kept in another form than that in which they are read: ``keep`` must be quick and must not raise."""

    wire: type[Any]
    keep: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects, and how much of them: no namespace is all; ``metadata_only`` lets the server send nothing else."""

    namespace: str = ""
    labels: str = ""
    fields: str = ""
    metadata_only: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of real time, as I/O deadlines are.

    ``silence_s``: bookmarks come every 60 s, so after more than that somebody has hung up. ``watch_s``: how long a watch is asked to
    last, drawn anew for each; one that lasts ``overtime_s`` longer is ended by us.
    """

    page: int = 500
    list_s: float = 30.0
    silence_s: float = 70.0
    watch_s: tuple[float, float] = (240.0, 300.0)
    overtime_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Around:
    """What reflectors share."""

    client: Client
    clock: Clock
    recorder: Recorder
    random: Random
    timing: Timing = field(default_factory=Timing)


class _SilentError(TransientError):
    """A watch without a sign of life."""


class _DoubtedError(TransientError):
    """A copy that was found wrong."""


class Reflector(Generic[T]):
    """Keeps :attr:`objects` as the server has them while :meth:`run` runs."""

    def __init__(
        self, around: Around, resource: Resource, of: type[T] | Form[T], handlers: Handlers[T], selection: Selection | None = None
    ) -> None:
        self.resource = resource
        self.problem: AutoscalerError | None = None
        """Why the last attempt failed; None once there was a good one."""
        self.synced = False
        """Whether everything has been listed at least once. Objects added before that were there before us."""
        self._around, self._handlers, self._selection = around, handlers, selection or Selection()
        form: Form[T] = of if isinstance(of, Form) else Form(of, lambda item: item)
        self._keep, wire = form.keep, form.wire
        self._page_of, self._decoder, self._events = Page[wire], msgspec.json.Decoder(wire), msgspec.json.Decoder(Event)  # type: ignore[valid-type]
        self._copy: dict[Key, T] = {}
        self._page = around.timing.page
        self._version = ""
        self._alive_at = -inf
        self._opened_at = inf
        self._brought = 0
        self._said = ""
        self._doubt = ""
        self._limit: asyncio.Timeout | None = None
        self._backoff = Backoff(around.random)
        self._unanswered = 0

    @property
    def objects(self) -> Mapping[Key, T]:
        """The copy, by namespace and name."""
        return self._copy

    def age_s(self) -> float:
        """Seconds since the server last proved that this is current: by a list, an event, or a bookmark."""
        return self._around.clock.monotonic() - self._alive_at

    def distrust(self, why: str) -> None:
        """The copy has been found wrong, whatever the watch says: list again, in a moment."""
        self._doubt = why
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> NotFoundError:
        """List and watch until cancelled. Returns only if the server does not know the resource (any more)."""
        while True:
            self._opened_at = inf
            try:
                if not self._version or self.age_s() >= self._around.timing.silence_s:
                    await self._list()
                await self._watch()
            except AutoscalerError as error:
                self._failed(error)
                if isinstance(error, GoneError | NotFoundError | _DoubtedError):
                    self._version = ""
                if isinstance(error, NotFoundError):
                    return error
                await self._pause(error)
            else:
                self._around.recorder.add(WATCH_RESTARTS, str(self.resource), "closed")
                await self._pause(None)

    async def _pause(self, error: AutoscalerError | None) -> None:
        """Wait before the next attempt: not at all after a good watch that the server ended in order, else longer each time."""
        clock = self._around.clock
        steady = clock.monotonic() - self._opened_at >= _STEADY_S
        if steady or self._is_back(error) or (error is None and self._brought >= _BUSY):
            self._backoff.succeeded()
        self._unanswered = 0 if error is None or _is_answer(error) else self._unanswered + 1
        delay = 0.0 if steady and error is None else self._backoff.next_s()
        if isinstance(error, TransientError) and error.retry_after_s is not None:
            delay += error.retry_after_s
        await clock.sleep_until(clock.monotonic() + delay)

    def _is_back(self, error: AutoscalerError | None) -> bool:
        """Whether this is the first answer after an outage.

        A server that is back refuses at first what it has not read the roles for, then calls our version too old: no part of the outage.
        """
        return error is not None and _is_answer(error) and self._unanswered >= _OUTAGE

    async def _list(self) -> None:
        """Take all objects, page by page, and tell what is new, different and gone since the last time."""
        self._version, self._doubt = "", ""
        call, accept = self._call("list"), _METADATA_ONLY.format("List") if self._selection.metadata_only else JSON
        query = self._query() | {"limit": str(self._page)}
        found: dict[Key, T] = {}
        while True:
            try:
                page = await self._around.client.get(call, self._page_of, query, accept=accept, budget_s=self._around.timing.list_s)
            except TooLargeError:
                self._page = max(self._page // 4, 1)
                raise
            before = len(found)
            found.update((_key(item), self._kept(item)) for item in page.items or ())
            if not page.metadata.next_page:
                break
            if len(found) == before:
                raise AnswerError(f"{call}: the pages of the list do not end")
            query["continue"] = page.metadata.next_page
        if not page.metadata.resource_version:
            raise AnswerError(f"{call}: the list has no resourceVersion to go on from")
        self._replace(found)
        self._version, self.synced = page.metadata.resource_version, True
        self._alive()

    def _kept(self, item: Object) -> T:
        """A listed object as it is kept; the one that is there already, if in the same version: two of each would be twice the memory."""
        was = self._copy.get(_key(item))
        if was is None or (was.metadata.uid, was.metadata.resource_version) != (item.metadata.uid, item.metadata.resource_version):
            return self._keep(item)
        return was

    async def _watch(self) -> None:
        """Take events until the server ends the watch, or we do."""
        timing, loop = self._around.timing, asyncio.get_running_loop()
        seconds = self._around.random.uniform(*timing.watch_s)
        query = self._query() | {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(seconds)),
        }
        call, accept = self._call("watch"), _METADATA_ONLY.format("") if self._selection.metadata_only else JSON
        end = loop.time() + seconds + timing.overtime_s
        async with self._around.client.stream(call, query, accept=accept) as content:
            self.problem = None
            self._opened_at, self._brought = self._around.clock.monotonic(), 0
            begun, size = [b""], 0
            try:
                async with asyncio.timeout_at(min(loop.time() + timing.silence_s, end)) as limit:
                    self._limit = limit
                    self._raise_doubt(call)
                    while chunk := await content.readany():
                        begun.append(chunk)
                        size += len(chunk)
                        if b"\n" in chunk:
                            *lines, rest = b"".join(begun).split(b"\n")
                            begun, size = [rest], len(rest)
                            for line in filter(bytes.strip, lines):
                                self._take(call, line)
                                limit.reschedule(min(loop.time() + timing.silence_s, end))  # bytes alone are no sign of life
                            self._raise_doubt(call)
                        elif size > ANSWER_MAX:
                            raise AnswerError(f"{call}: an event is longer than {ANSWER_MAX >> 20} MiB")
            except TimeoutError as error:
                self._raise_doubt(call)
                if loop.time() < end:
                    raise _SilentError(f"{call}: no event and no bookmark for {timing.silence_s:g} s") from error
            if cut := b"".join(begun).strip():
                raise AnswerError(f"{call}: the stream ended within an event: {in_one_line(cut[:60])!r}")

    def _raise_doubt(self, call: Call) -> None:
        if self._doubt:
            raise _DoubtedError(f"{call}: {self._doubt}: it is listed again")

    def _take(self, call: Call, line: bytes) -> None:
        """One line of a watch."""
        try:
            event = self._events.decode(line)
            if event.type == "ERROR":
                raise refused(call, msgspec.json.decode(event.object, type=Status))
            if event.type == "BOOKMARK":
                self._version = msgspec.json.decode(event.object, type=Bookmark).metadata.resource_version
                self._alive()
                return
            if event.type not in {"ADDED", "MODIFIED", "DELETED"}:
                raise AnswerError(f"{call}: an event of unknown type {event.type!r}")
            item = self._decoder.decode(event.object)
        except msgspec.DecodeError as error:
            raise AnswerError(f"{call}: expected an event, got {in_one_line(line)[:80]!r} ({error})") from error
        self._brought += 1
        self._apply(self._keep(item), gone=event.type == "DELETED")
        self._version = item.metadata.resource_version
        self._alive()

    def _apply(self, item: T, *, gone: bool) -> None:
        key, was = _key(item), self._copy.get(_key(item))
        if was is not None and was.metadata.uid != item.metadata.uid:
            if gone:
                return  # an earlier object of that name
            del self._copy[key]
            self._handlers.deleted(was)
            was = None
        if gone:
            if self._copy.pop(key, None) is not None:
                self._handlers.deleted(item)
            return
        self._copy[key] = item
        if was is None:
            self._handlers.added(item)
        elif was.metadata.resource_version != item.metadata.resource_version:
            self._handlers.changed(was, item)

    def _replace(self, found: dict[Key, T]) -> None:
        before, self._copy = self._copy, found
        for key, was in before.items():
            now = found.get(key)
            if now is None or now.metadata.uid != was.metadata.uid:
                self._handlers.deleted(was)
        for key, now in found.items():
            was_or_none = before.get(key)
            if was_or_none is None or was_or_none.metadata.uid != now.metadata.uid:
                self._handlers.added(now)
            elif was_or_none.metadata.resource_version != now.metadata.resource_version:
                self._handlers.changed(was_or_none, now)

    def _alive(self) -> None:
        self._alive_at = self._around.clock.monotonic()
        self.problem = None
        if self._said:
            log.info("%s: current again", self._call("watch"))
            self._said = ""

    def _failed(self, error: AutoscalerError) -> None:
        """Count it, and say it once: the first of a row, or after an outage, as information, a row of them as a warning."""
        self.problem = error
        self._around.recorder.add(WATCH_RESTARTS, str(self.resource), _cause(error))
        if (isinstance(error, TransientError) and not self._backoff.failures) or self._is_back(error):
            log.info("%s", error)
        elif str(error) != self._said:
            self._said = str(error)
            log.warning("%s", error)

    def _call(self, verb: str) -> Call:
        return self.resource.call(verb, self._selection.namespace)

    def _query(self) -> dict[str, str]:
        wanted = {"labelSelector": self._selection.labels, "fieldSelector": self._selection.fields}
        return {name: value for name, value in wanted.items() if value}


def _key(item: Object) -> Key:
    return item.metadata.namespace, item.metadata.name


def _is_answer(error: AutoscalerError) -> bool:
    """Whether it is what a server at work said."""
    return isinstance(error, GoneError | PermanentError) and not isinstance(error, UntrustedError)


def _cause(error: AutoscalerError) -> str:
    """The label of the metric for it."""
    if isinstance(error, GoneError):
        return "gone"
    if isinstance(error, _SilentError):
        return "silent"
    if isinstance(error, _DoubtedError):
        return "doubted"
    if isinstance(error, AnswerError):
        return "answer"
    if isinstance(error, PermanentError):
        return "refused"
    throttled = isinstance(error, TransientError) and error.retry_after_s is not None
    return "throttled" if throttled else "failed"
