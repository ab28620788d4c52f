"""Saved state as files in a directory, for a service that runs outside a cluster."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from autoscaler.errors import PermanentError, TransientError

_NAME = re.compile(r"autoscaler-state-(\d+)\.json")
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})


class FileStateStore:
    """A file a shard, ``autoscaler-state-0.json`` and so on. One is replaced as a whole, and is on the disk before it is in its place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def load(self) -> Mapping[int, bytes]:
        """Every shard that there is."""
        return await asyncio.to_thread(self._load)

    async def save(self, shard: int, data: bytes) -> None:
        """Replace a shard; the old one stays if the disk is full."""
        await asyncio.to_thread(self._save, shard, data)

    def _load(self) -> dict[int, bytes]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            files = {int(found[1]): path for path in self._folder.iterdir() if (found := _NAME.fullmatch(path.name))}
            return {shard: path.read_bytes() for shard, path in files.items()}
        except OSError as error:
            raise _translated(error, self._folder) from error

    def _save(self, shard: int, data: bytes) -> None:
        path = self._folder / f"autoscaler-state-{shard}.json"
        draft = path.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise _translated(error, path) from error


def _translated(error: OSError, path: Path) -> PermanentError | TransientError:
    kind = PermanentError if error.errno in _FORBIDDEN else TransientError
    return kind(f"state {path}: {error.strerror}")
