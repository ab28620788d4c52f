"""Saves what must outlive the process, and hands it back to the groups as they see their workloads again.

Guards and writer are saved every minute, what policies declare every ten, all of it at the end. What cannot be read is lost: it is
said once, and the windows begin with the current counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from math import inf
from typing import Any, TypeAlias

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.errors import AutoscalerError, TransientError
from autoscaler.loops.shards import GUARD_SHARDS, POLICY_SHARDS, Kept, guard_row, policy_row, read_shards, sharded
from autoscaler.ports import Recorder, StateStore

log = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
POLICIES_EVERY = 10
"""What policies declare is saved every so many times."""

AT_ONCE = 500
"""So many workloads are written down before others get their turn: some ten milliseconds."""

PACE_S = 1.0
"""So far apart are two writes, but for those at the end."""

READ_AGAIN_S = 2.0
GIVE_UP_S = 30.0
"""A state that cannot be read for so long after it is needed is lost: a decision without it beats none."""

UNCLAIMED_S = 86400.0
"""What is kept of a workload that nobody sees again is kept on for a day."""


Collect: TypeAlias = Callable[[bool], Mapping[str, Kept]]
"""What to save of each workload, by its uid; told whether what policies want kept is wanted too."""


class Memories:
    """What was kept by an earlier process and is not claimed yet, by uid. A group decides nothing of a workload before it is settled."""

    def __init__(self, *, settled: bool = True) -> None:
        self.settled = settled
        self.wanted_s = inf
        self.save: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._kept: dict[str, Kept] = {}

    def ready(self, now_s: float) -> bool:
        """Whether it is known what is kept; who asks is waiting for it, since monotonic ``now_s`` at the latest."""
        self.wanted_s = min(self.wanted_s, now_s)
        return self.settled

    def settle(self, kept: Mapping[str, Kept]) -> None:
        """This is all that there is."""
        self._kept, self.settled = dict(kept), True

    async def note(self) -> None:
        """Save what is remembered now, ahead of an act that must be known after a kill. Raises TransientError if that fails."""
        if self.save is not None:
            await self.save()

    def claim(self, uid: str) -> Kept | None:
        """What is kept of that object; afterwards the claimer remembers it."""
        return self._kept.pop(uid, None)

    def unclaimed(self, since_s: float) -> dict[str, Kept]:
        """What nobody has claimed yet, of ticks after ``since_s``."""
        self._kept = {uid: kept for uid, kept in self._kept.items() if kept.memory.at_s > since_s}
        return dict(self._kept)


class StateKeeper:
    """Reads a store once and writes it from then on; without one, everything is new."""

    def __init__(self, store: StateStore | None, clock: Clock, recorder: Recorder) -> None:
        self.memories = Memories(settled=store is None)
        self.memories.save = None if store is None else self._note
        self._store, self._clock, self._recorder = store, clock, recorder
        self._collect: Collect = lambda _: {}
        self._saved: dict[int, bytes] = {}
        self._used = {GUARD_SHARDS: 1, POLICY_SHARDS: 1}
        self._problem = ""
        self._busy = asyncio.Lock()
        self._notes_wanted, self._notes_saved = 0, 0

    def keep(self, collect: Collect) -> None:
        """Save from now on what this returns."""
        self._collect = collect

    async def run(self) -> None:
        """Read, then save again and again, until cancelled."""
        if self._store is None:
            log.info("no state is saved (setting `state`): after a restart nothing is scaled down until its window has filled")
            return
        await self._read(self._store)
        at_s, times = self._clock.monotonic(), 0
        while True:
            at_s, times = max(at_s + SAVE_EVERY_S, self._clock.monotonic()), times + 1
            await self._clock.sleep_until(at_s)
            await self._save(self._store, PACE_S, policies=times % POLICIES_EVERY == 0)

    async def close(self, seconds: float) -> None:
        """Save everything a last time, within that many seconds. What was never read is not overwritten."""
        if self._store is None or not self.memories.settled:
            return
        try:
            async with self._clock.timeout(seconds):
                await self._save(self._store, 0.0, policies=True)
        except TimeoutError:
            log.warning("the state could not be saved within %g s: the last checkpoint stays", seconds)

    async def _note(self) -> None:
        """Save guards and writers now. Who asks while another is at it shares the next save with all who do."""
        self._notes_wanted += 1
        mine = self._notes_wanted
        if self._store is not None:
            await self._save(self._store, 0.0, policies=False, unless=lambda: self._notes_saved >= mine)
        if self._problem:
            raise TransientError(f"not put to sleep, as it could not be noted first: {self._problem}")

    async def _read(self, store: StateStore) -> None:
        said = ""
        while not self.memories.settled:
            try:
                shards = await store.load()
            except AutoscalerError as error:  # a refusal too: an API server that has just started knows no Roles yet
                if self._clock.monotonic() - self.memories.wanted_s > GIVE_UP_S:
                    self._lose(str(error))
                    continue
                if str(error) != said:
                    said = str(error)
                    log.warning("the saved state cannot be read yet, nothing is scaled before: %s", said)
                await self._clock.sleep_until(self._clock.monotonic() + READ_AGAIN_S)
            else:
                self._take(shards)

    def _take(self, shards: Mapping[int, bytes]) -> None:
        kept, problems = read_shards(shards)
        self._saved = dict(shards)
        for numbers in self._used:
            filled = [numbers.index(shard) for shard in shards if shard in numbers and shard not in problems]
            while self._used[numbers] <= max(filled, default=0):
                self._used[numbers] *= 2
        self.memories.settle(kept)
        if problems:
            told = "; ".join(f"shard {shard}: {problem}" for shard, problem in problems.items())
            log.warning("a part of the saved state is lost, its workloads' windows begin with their current counts: %s", told)
        log.info("state read: %d workloads", len(kept), extra={"fields": {"workloads": len(kept)}})

    def _lose(self, problem: str) -> None:
        self.memories.settle({})
        log.warning("the saved state is lost, windows begin with the current counts: %s", problem)

    async def _save(self, store: StateStore, pace_s: float, *, policies: bool, unless: Callable[[], bool] = lambda: False) -> None:
        """Write the shards that are not as they were saved last; nothing if, once it is our turn, ``unless`` holds."""
        async with self._busy:
            if unless():
                return
            noted = self._notes_wanted
            documents = await self._documents(policies=policies)
            changed = {shard: data for shard, data in documents.items() if self._saved.get(shard) != data}
            problem = ""
            for number, (shard, data) in enumerate(changed.items()):
                if number and pace_s:
                    await self._clock.sleep_until(self._clock.monotonic() + pace_s)
                try:
                    await store.save(shard, data)
                except AutoscalerError as error:
                    problem = str(error)
                    self._recorder.add(metrics.STATE_WRITES, "failed")
                else:
                    self._saved[shard] = data
                    self._recorder.add(metrics.STATE_WRITES, "ok")
            self._recorder.set(metrics.STATE_BYTES, value=float(sum(map(len, self._saved.values()))))
            self._tell(problem)
            self._notes_saved = noted

    async def _documents(self, *, policies: bool) -> dict[int, bytes]:
        kept = self.memories.unclaimed(self._clock.now() - UNCLAIMED_S) | dict(self._collect(policies))
        rows = {GUARD_SHARDS: await self._rows(kept, guard_row)}
        if policies:
            rows[POLICY_SHARDS] = await self._rows({uid: each for uid, each in kept.items() if any(each.series.values())}, policy_row)
        documents: dict[int, bytes] = {}
        left_out: list[str] = []
        for numbers, of in rows.items():
            found, too_many = sharded(of, numbers, self._used[numbers])
            self._used[numbers] = len(found)
            documents |= found
            left_out += too_many
        if left_out:
            log.warning("the state has no room for %d workloads, such as the one with uid %s", len(left_out), left_out[0])
        return documents

    async def _rows(self, kept: Mapping[str, Kept], encoded: Callable[[Kept], bytes]) -> dict[str, bytes]:
        """A row each; a tick that falls due meanwhile goes first."""
        rows: dict[str, bytes] = {}
        for uid, each in kept.items():
            rows[uid] = encoded(each)
            if len(rows) % AT_ONCE == 0:
                await self._clock.sleep_until(self._clock.monotonic())
        return rows

    def _tell(self, problem: str) -> None:
        """Say what is wrong once, and once that it is over."""
        if problem and not self._problem:
            log.warning("the state cannot be saved, the last checkpoint stays: %s", problem)
        elif self._problem and not problem:
            log.info("the state is saved again")
        self._problem = problem
