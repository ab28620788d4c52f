"""One resource in one scope that we may not be allowed to read: watched, or said once to be left out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Generic

from autoscaler.adapters.kubernetes.backoff import Backoff
from autoscaler.adapters.kubernetes.calls import ForbiddenError, NotFoundError
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.reflector import Around, Form, Handlers, Reflector, Selection
from autoscaler.adapters.kubernetes.wire import Object, Page, T
from autoscaler.errors import AutoscalerError

log = logging.getLogger(__name__)

AGAIN_S = 60.0
"""What is refused is asked for again so often: somebody may add the rule."""

TRIES = 3
"""So many refusals in a row stand: an API server that has just started knows no Roles yet."""


@dataclass(frozen=True, slots=True)
class Wanted(Generic[T]):
    """What to watch, in which form to keep it, and who is told.

    ``without``: what is lost where it may not be read, as a clause; empty: another watch says it. ``tries``: so many refusals stand.
    ``bookmarks`` False: the API server sends none (it keeps no cache of events), so silence is no sign of anything before a watch's end.
    """

    resource: Resource
    form: Form[T]
    handlers: Handlers[T]
    without: str
    fields: str = ""
    tries: int = TRIES
    bookmarks: bool = True


class Watch(Generic[T]):
    """Keeps its handlers told while :meth:`run` runs, unless that is refused."""

    def __init__(self, around: Around, wanted: Wanted[T], namespace: str = "") -> None:
        self.refused = False
        """Whether we may not read it: nothing is known of it then, and that is settled."""
        self.namespace, self.wanted = namespace, wanted
        self._around = around
        timing = around.timing
        self._patience_s = 0.0 if wanted.bookmarks else timing.watch_s[1] + 2 * timing.overtime_s
        if not wanted.bookmarks:
            around = replace(around, timing=replace(timing, silence_s=self._patience_s))
        selection = Selection(namespace, fields=wanted.fields)
        self._reflector: Reflector[T] = Reflector(around, wanted.resource, wanted.form, wanted.handlers, selection)

    def fresh(self, stale_after_s: float) -> bool:
        """Whether all there is has been listed, and that was proved to be current not longer ago."""
        return self._reflector.synced and self._reflector.age_s() <= stale_after_s + self._patience_s

    def age_s(self) -> float:
        """Seconds since the server last proved that what we know is current."""
        return self._reflector.age_s()

    async def run(self) -> None:
        """Watch until cancelled."""
        backoff, clock, said = Backoff(self._around.random), self._around.clock, ""
        query = {"limit": "1"} | ({"fieldSelector": self.wanted.fields} if self.wanted.fields else {})
        while True:
            try:
                # A list of one shows whether we may: the reflector would go on trying, and say so in words of its own.
                await self._around.client.get(self.wanted.resource.call("list", self.namespace), Page[Object], query)
                backoff.succeeded()
                self.refused, said = False, ""
                raise await self._reflector.run()
            except AutoscalerError as error:
                delay = backoff.next_s()
                never = isinstance(error, ForbiddenError | NotFoundError) and not self._reflector.synced
                if never and backoff.failures >= self.wanted.tries:
                    self.refused, delay = True, AGAIN_S
                words = f"{self.wanted.resource} may not be read, so {self.wanted.without}: {error}" if never else str(error)
                if backoff.failures >= TRIES and words != said and self.wanted.without:
                    said = words
                    log.warning("%s", words)
                await clock.sleep_until(clock.monotonic() + delay)
