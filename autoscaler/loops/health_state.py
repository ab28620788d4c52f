"""What of the health loop outlives the process, in a shard of its own: incidents, breakers, and the remedies of the last day.

A restart then neither tells of anything twice nor forgets anything. A remedy is noted before it is carried out, so that a kill in
between cannot lead to a second one. What does not fit is left out, the names of pods first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import msgspec

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.health.assess import begin
from autoscaler.core.health.caps import Ledger
from autoscaler.core.health.findings import Key
from autoscaler.core.health.lifecycle import IMPORTANCE, Incident
from autoscaler.core.health.monitor import State
from autoscaler.core.health.report import Done
from autoscaler.core.health.saved import done_from_json, done_to_json, from_json, to_json
from autoscaler.errors import AutoscalerError, TransientError
from autoscaler.loops.shards import HEALTH_SHARD, SHARD_MAX
from autoscaler.ports import Recorder, StateStore

log = logging.getLogger(__name__)

VERSION = 1

SAVE_EVERY_S = 10.0
"""A change is saved within this time."""

REFRESH_S = 60.0
"""And after this time the save is made anew, as what happened since the last one is news to a restart."""

READ_AGAIN_S = 2.0
GIVE_UP_S = 30.0
"""What cannot be read for so long at the start is lost: what is wrong by then is taken for old, and not told of."""

PODS_KEPT = (3, 0)
"""So many pods of each incident are named in a save that would be too large with ``saved.PODS_MAX`` of them."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier process knew: the monitor's state, the remedies of the last day, and what was done about each incident."""

    state: State = field(default_factory=State)
    ledger: Ledger = field(default_factory=Ledger)
    done: Mapping[Key, Sequence[Done]] = field(default_factory=dict)


class HealthKeeper:
    """Reads its shard once, and writes it from then on; without a store, everything is new at every start."""

    def __init__(self, store: StateStore | None, clock: Clock, recorder: Recorder, collect: Callable[[], Saved]) -> None:
        """``collect`` says what is to be saved now."""
        self._store, self._clock, self._recorder, self._collect = store, clock, recorder, collect
        self._saved, self._saved_s = b"", -REFRESH_S
        self._busy = asyncio.Lock()
        self._problem = ""
        self._settled = store is None

    async def read(self) -> Saved:
        """What is saved. Waits for it, though not for ever."""
        if self._store is None:
            return Saved()
        started_s, said = self._clock.monotonic(), ""
        while not self._settled:
            try:
                shards = await self._store.load()
            except AutoscalerError as error:
                if self._clock.monotonic() - started_s >= GIVE_UP_S:
                    log.warning("the saved incidents are lost, what is wrong now is taken for old: %s", error)
                    self._settled = True
                    continue
                if str(error) != said:
                    said = str(error)
                    log.warning("the saved incidents cannot be read yet: %s", said)
                await self._clock.sleep_until(self._clock.monotonic() + READ_AGAIN_S)
            else:
                self._settled = True
                return _decoded(shards.get(HEALTH_SHARD), self._clock.now())
        return Saved()

    async def save(self) -> None:
        """Save what has changed; nothing, if nothing has and the last save is young."""
        await self._save()

    async def note(self) -> None:
        """Save now, ahead of an act that must be known after a kill. Raises TransientError if that fails."""
        await self._save(anyway=True)
        if self._problem:
            raise TransientError(f"not done, as it could not be noted first: {self._problem}")

    async def close(self, seconds: float) -> None:
        """Save a last time, within that many seconds. What was never read is not overwritten."""
        try:
            async with self._clock.timeout(seconds):
                await self._save(anyway=True)
        except TimeoutError:
            log.warning("the incidents could not be saved within %g s: the last save stays", seconds)

    async def _save(self, *, anyway: bool = False) -> None:
        if self._store is None or not self._settled:
            return
        async with self._busy:
            now = self._collect()
            if not isfinite(now.state.memory.at_s):
                return
            body = await asyncio.to_thread(_encoded, now) if len(now.state.incidents) > _MANY else _encoded(now)
            now_s = self._clock.monotonic()
            if body == self._saved and now_s - self._saved_s < REFRESH_S and not anyway:
                return
            head = msgspec.json.encode({"version": VERSION, "as_of_s": now.state.memory.at_s})
            problem = ""
            try:
                await self._store.save(HEALTH_SHARD, head[:-1] + b"," + body[1:])
            except AutoscalerError as error:
                problem = str(error)
                self._recorder.add(metrics.STATE_WRITES, "failed")
            else:
                self._saved, self._saved_s = body, now_s
                self._recorder.add(metrics.STATE_WRITES, "ok")
            self._tell(problem)

    def _tell(self, problem: str) -> None:
        """Say what is wrong once, and once that it is over."""
        if problem and not self._problem:
            log.warning("incidents cannot be saved, the last save stays; nothing is removed meanwhile: %s", problem)
        elif self._problem and not problem:
            log.info("incidents are saved again")
        self._problem = problem


_MANY = 50
"""From so many incidents on they are written down in a thread."""


def _encoded(now: Saved) -> bytes:
    """In at most half a MiB: with fewer names of pods, then without resolved and pending incidents, then without the newest ones.

    What was done is in there only where nothing needs to be left out.
    """
    incidents = sorted(now.state.incidents.values(), key=_importance)
    rows = to_json(incidents, now.state.breakers, now.ledger) | {"done": done_to_json(now.done)}
    body = msgspec.json.encode(rows)
    for pods in PODS_KEPT:
        if len(body) <= _ROOM:
            return body
        rows["done"] = []
        _name_fewer(rows["incidents"], pods)
        body = msgspec.json.encode(rows)
    while len(body) > _ROOM:
        kept = len(rows["incidents"]) * _ROOM // len(body)
        rows["incidents"] = rows["incidents"][: min(kept, len(rows["incidents"]) - 1)]
        body = msgspec.json.encode(rows)
    left_out = len(incidents) - len(rows["incidents"])
    if left_out:
        log.warning("no room to save %d of %d incidents: after a restart they are told of again", left_out, len(incidents))
    return body


_ROOM = SHARD_MAX - 100


def _importance(incident: Incident) -> tuple[int, float, Key]:
    """First what people know of, oldest first."""
    return IMPORTANCE[incident.phase], incident.opened_s, incident.finding.key


def _name_fewer(rows: Sequence[dict[str, Any]], pods: int) -> None:
    for row in rows:
        row["finding"]["pods"] = row["finding"]["pods"][:pods]


def _decoded(data: bytes | None, now_s: float) -> Saved:
    """What a shard holds; one that cannot be used is lost, which is said. One from the future was written by another clock."""
    if data is None:
        return Saved()
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("the saved incidents are damaged, and lost: %s", error)
        return Saved()
    version, as_of_s = (document.get("version"), document.get("as_of_s")) if isinstance(document, dict) else (None, None)
    if version != VERSION or not isinstance(as_of_s, int | float):
        log.warning("the saved incidents are of version %s, this program reads version %d: they are lost", version, VERSION)
        return Saved()
    incidents, breakers, ledger = from_json(document)
    log.info("incidents read: %d", len(incidents), extra={"fields": {"incidents": len(incidents)}})
    looked_s = min(float(as_of_s), now_s)
    return Saved(State(begin(looked_s, incidents), incidents, breakers), ledger, done_from_json(document.get("done")))
