"""A directory of policy files that changes while the service runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from watchfiles import awatch

from autoscaler.clock import Clock
from autoscaler.errors import ConfigError
from autoscaler.policyfile.load import Assembled, File, Parsed, assemble, parse, read, to_specs
from autoscaler.policyfile.problems import Problem
from autoscaler.policyfile.schedule import AHEAD_S
from autoscaler.ports import PolicySet

POLL_S = 30.0
"""How often the files are looked at without a sign of change: subPath mounts and some network file systems give none."""

EXPAND_S = AHEAD_S / 4
"""How often schedules are expanded anew, well before the rows of the last time run out."""

_TRIES = 5


_Mark: TypeAlias = tuple[int, int, int, int]
_Stamp: TypeAlias = list[tuple[str, _Mark, _Mark]]


def _mark(status: os.stat_result) -> _Mark:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class DirectoryPolicySource:
    """The port PolicySource over directories and files, read whole at any sign of change and only used whole.

    A directory is watched rather than its files: in a mounted ConfigMap those are links that are swapped behind one other link.
    """

    def __init__(self, paths: Sequence[Path], clock: Clock, sinks: Collection[str] | None = None) -> None:
        """``sinks``: the names that HealthPolicies may notify; None: any."""
        self._paths, self._sinks = paths, sinks
        self._clock = clock
        self._files: Sequence[File] | None = None
        self._problems: Sequence[Problem] = ()
        self._parsed: dict[File, Parsed] = {}
        self._good = Assembled()
        self._error: ConfigError | None = None
        self._expanded_s = clock.monotonic()
        self._wake = asyncio.Event()
        self._asked = False
        self._stamped: _Stamp = []
        self._unwatched = ""

    async def load(self) -> PolicySet:
        """What the files say now. Raises :class:`PolicyFileError` with every mistake at once."""
        self._files, self._problems = await asyncio.to_thread(self._read)
        return await self._set()

    def poke(self) -> None:
        """Read everything again now, and yield it even if it is as before."""
        self._asked = True
        self._wake.set()

    async def changes(self) -> AsyncGenerator[PolicySet | ConfigError, None]:
        """A set, or why it is not used: whenever the content has changed, after :meth:`poke`, and as schedules go on."""
        watch = asyncio.create_task(self._watch())
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with self._clock.timeout(POLL_S):
                        await self._wake.wait()
                is_told = self._wake.is_set()
                self._wake.clear()
                for change in await self._changes(look=is_told or await asyncio.to_thread(self._has_changed)):
                    yield change
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _changes(self, *, look: bool) -> Sequence[PolicySet | ConfigError]:
        """What is new since the last look; without one, what time has brought."""
        asked, self._asked = self._asked, False
        files, problems = await asyncio.to_thread(self._read) if look else (self._files, self._problems)
        if asked:
            self._parsed.clear()
        if asked or (files, problems) != (self._files, self._problems):
            self._files, self._problems = files, problems
            try:
                return [await self._set()]
            except ConfigError as error:
                self._error = error
                return [error]
        if self._clock.monotonic() - self._expanded_s < EXPAND_S:
            return []
        self._expanded_s = self._clock.monotonic()
        if not any(loaded.schedule for loaded in self._good.scaling):
            return []
        again = to_specs(self._good, self._clock.now())
        return [again] if self._error is None else [again, self._error]

    async def _set(self) -> PolicySet:
        """The set that the files read last make; unchanged files are not parsed again."""
        files = self._files or ()
        self._parsed = await asyncio.to_thread(lambda: {file: self._parsed.get(file) or parse(file) for file in files})
        self._good = assemble(self._parsed.values(), self._problems, self._sinks)
        self._expanded_s, self._error = self._clock.monotonic(), None
        policies = to_specs(self._good, self._clock.now())
        remarks = [text for text in (self._unwatched, self._empty()) if text]
        return replace(policies, warnings=(*remarks, *policies.warnings))

    def _empty(self) -> str:
        return "" if self._files else f"no policy files (*.yaml, *.yml) in {', '.join(map(str, self._paths))}"

    def _read(self) -> tuple[Sequence[File], Sequence[Problem]]:
        """The files of one moment: read again while the directory changes under our hands."""
        self._stamped = self._stamp()
        for _ in range(_TRIES):
            found, before, self._stamped = read(self._paths), self._stamped, self._stamp()
            if self._stamped == before:
                return found
        self._stamped = []
        return read(self._paths)

    def _has_changed(self) -> bool:
        """Whether there is reason to read the files again; what cannot be looked at is read, to find out why."""
        stamp = self._stamp()
        return not stamp or stamp != self._stamped

    def _stamp(self) -> _Stamp:
        """What changes when a file is written or replaced, or a link is swapped: much cheaper than to read them all."""
        found: _Stamp = []
        try:
            for path in self._paths:
                found.append((str(path), _mark(path.lstat()), _mark(path.stat())))
                if path.is_dir():
                    with os.scandir(path) as entries:
                        found += [(entry.path, _mark(entry.stat(follow_symlinks=False)), _mark(entry.stat())) for entry in entries]
        except OSError:
            return []
        return sorted(found)

    async def _watch(self) -> None:
        """Wake the loop at every event of a directory."""
        directories = {path if path.is_dir() else path.parent for path in self._paths}
        # What changed before the watch began is looked for once: by then the watch stands.
        self._wake.set()
        try:
            async for _ in awatch(*directories, watch_filter=None, recursive=False):
                self._wake.set()
        except (OSError, RuntimeError) as error:
            where = ", ".join(sorted(map(str, directories)))
            self._unwatched = f"{where}: cannot be watched ({error}); changes are seen within {POLL_S:g} s"
