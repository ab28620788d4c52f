"""The form of saved state: JSON documents of numbered shards, by the uids of the workloads that they are about.

Shards 0 to 7 have what guards and writer remember, 8 to 23 and 25 to 40 what policies want kept; shard 24 is the
health loop's (:mod:`autoscaler.loops.health_state`). A workload's place goes by the hash of its uid and
by how many shards there are in use; as that number may change, who reads takes all of them, and of two rows about one workload the
newer. Times are seconds before the row's own ``at``, numbers without a meaning of their own are left out: under 200 bytes a workload.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import isfinite, nan
from typing import TypeAlias
from zlib import crc32

import msgspec
import numpy as np

from autoscaler.core.checkpoint import Memory, SeriesFields
from autoscaler.core.exact_events import Points
from autoscaler.core.spec import SeriesSpec
from autoscaler.loops.write import NOTHING_WRITTEN, Outcome, Standing, Written

VERSION = 1

GUARD_SHARDS = tuple(range(8))
POLICY_SHARDS = (*range(8, 24), *range(25, 41))
HEALTH_SHARD = 24
SHARDS = range(41)

SHARD_MAX = 512 * 2**10
"""A shard never has more bytes: what does not fit is left out, and so counts as lost after a restart."""

_FILLED = SHARD_MAX // 2

Number: TypeAlias = int | float


class UnreadableError(Exception):
    """A shard is not what it should be; the message says in which way."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one workload: the guards' memory, the writer's, and by a digest of each series its policy's fields."""

    memory: Memory
    standing: Standing = NOTHING_WRITTEN
    series: Mapping[str, SeriesFields] = field(default_factory=dict)


def digest(call: str, series: SeriesSpec) -> str:
    """Tells a workload's series apart, and from what they were before their query, target or policy changed."""
    return blake2b(f"{call}\n{series!r}".encode(), digest_size=6).hexdigest()


class _Row(msgspec.Struct, omit_defaults=True, gc=False):
    """A workload's guards and writer; absent is NaN, zero, no."""

    at: Number
    count: Number | None = None
    since: Number | None = None
    seed: Number | None = None
    shadow: Number | None = None
    failures: int = 0
    zero: int = 0  # 1: ours, 2: and seen
    recommended: tuple[Number, ...] = ()  # age, replicas, age, replicas …
    changed: tuple[Number, ...] = ()
    added: tuple[Number, ...] = ()  # an exact workload's events, in their places
    removed: tuple[Number, ...] = ()
    raised: tuple[Number, Number] | None = None  # age, replicas
    wrote: tuple[Number, Number | None, Number, int] | None = None  # age, before, after, Outcome
    reverts: tuple[Number, ...] = ()
    stop: Number | None = None  # seconds from `at`
    by: str = ""


class _Field(msgspec.Struct, array_like=True, gc=False):
    dtype: str
    shape: tuple[int, ...]
    data: str


_Series: TypeAlias = dict[str, dict[str, _Field]]


class _Version(msgspec.Struct):
    version: int


class _Document(msgspec.Struct):
    workloads: dict[str, msgspec.Raw]


_VERSION, _DOCUMENT = msgspec.json.Decoder(_Version), msgspec.json.Decoder(_Document)
_ROW, _SERIES = msgspec.json.Decoder(_Row), msgspec.json.Decoder(_Series)


def guard_row(kept: Kept) -> bytes:
    """What guards and writer remember of a workload."""
    memory, standing, at_s = kept.memory, kept.standing, kept.memory.at_s
    last = standing.last
    row = _Row(
        at=_short(at_s) or 0,
        count=_short(memory.count),
        since=_short(at_s - memory.since_s),
        seed=_short(memory.seed),
        shadow=_short(memory.shadow),
        failures=int(memory.failures),
        zero=memory.zero_ours + 2 * memory.zero_seen,
        recommended=_flat(at_s, memory.recommendations),
        changed=_flat(at_s, memory.changes),
        added=_flat(at_s, memory.events[0]),
        removed=_flat(at_s, memory.events[1]),
        raised=(_whole(at_s - memory.raised_s), _whole(memory.raised_to)) if isfinite(memory.raised_s + memory.raised_to) else None,
        wrote=None if last is None else (_whole(at_s - last.at_s), _short(last.before), _whole(last.after), int(standing.outcome)),
        reverts=tuple(_whole(at_s - then) for then in standing.reverts_s),
        stop=_short(standing.stop_until_s - at_s),
        by=standing.stopped_by,
    )
    return msgspec.json.encode(row)


def policy_row(kept: Kept) -> bytes:
    """What policies want kept of a workload."""
    fields = {
        name: {key: _Field(value.dtype.str, value.shape, b64encode(value.tobytes()).decode()) for key, value in values.items()}
        for name, values in kept.series.items()
        if values
    }
    return msgspec.json.encode(fields)


def sharded(rows: Mapping[str, bytes], numbers: tuple[int, ...], least: int = 1) -> tuple[dict[int, bytes], list[str]]:
    """Documents by shard, in as many shards as their size needs (``least`` at least); and the uids for which there is no room."""
    total = sum(len(uid) + len(row) + 5 for uid, row in rows.items())
    used = least
    while used < len(numbers) and total > used * _FILLED:
        used *= 2
    places: dict[int, dict[str, msgspec.Raw]] = {numbers[index]: {} for index in range(used)}
    for uid, row in rows.items():
        places[numbers[crc32(uid.encode()) % used]][uid] = msgspec.Raw(row)
    left_out: list[str] = []
    documents = {}
    for shard, workloads in places.items():
        left_out += _trimmed(workloads)
        documents[shard] = msgspec.json.encode({"version": VERSION, "workloads": workloads})
    return documents, left_out


def _trimmed(workloads: dict[str, msgspec.Raw]) -> list[str]:
    """Take out the largest rows until the others fit."""
    left_out = []
    size = 64 + sum(len(uid) + len(bytes(row)) + 5 for uid, row in workloads.items())
    for uid in sorted(workloads, key=lambda uid: len(bytes(workloads[uid])), reverse=True):
        if size <= SHARD_MAX:
            break
        size -= len(uid) + len(bytes(workloads.pop(uid))) + 5
        left_out.append(uid)
    return left_out


def read_shards(shards: Mapping[int, bytes]) -> tuple[dict[str, Kept], dict[int, str]]:
    """What is kept of each workload, by uid, and for each shard that cannot be used the reason."""
    found: dict[str, Kept] = {}
    series: dict[str, dict[str, SeriesFields]] = {}
    problems: dict[int, str] = {}
    for shard in sorted(shards):
        try:
            if shard in GUARD_SHARDS:
                for uid, kept in _guards_of(shards[shard]).items():
                    if uid not in found or kept.memory.at_s > found[uid].memory.at_s:
                        found[uid] = kept
            elif shard in POLICY_SHARDS:
                series |= _policies_of(shards[shard])
        except UnreadableError as error:
            problems[shard] = str(error)
    return {uid: replace(kept, series=series.get(uid, {})) for uid, kept in found.items()}, problems


def _rows(document: bytes) -> dict[str, msgspec.Raw]:
    try:
        version = _VERSION.decode(document).version
        if version != VERSION:
            raise UnreadableError(f"it is of version {version}, this program writes and reads version {VERSION}")
        return _DOCUMENT.decode(document).workloads
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"it is damaged: {error}") from error


def _guards_of(document: bytes) -> dict[str, Kept]:
    try:
        return {uid: _kept(_ROW.decode(row)) for uid, row in _rows(document).items()}
    except (msgspec.DecodeError, ValueError) as error:
        raise UnreadableError(f"it is damaged: {error}") from error


def _kept(row: _Row) -> Kept:
    at_s = float(row.at)
    counts = [row.count, row.seed, row.shadow, row.failures, *row.recommended[1::2]]
    if any(count is not None and count < 0 for count in counts):
        raise ValueError(f"a count is below zero: {counts}")
    last = None
    if row.wrote is not None:
        age, before, after, _ = row.wrote
        last = Written(at_s - age, _long(before), float(after))
    return Kept(
        Memory(
            at_s=at_s,
            count=_long(row.count),
            since_s=at_s - _long(row.since),
            seed=_long(row.seed),
            shadow=_long(row.shadow),
            failures=float(row.failures),
            zero_ours=bool(row.zero & 1),
            zero_seen=bool(row.zero & 2),
            recommendations=_points(at_s, row.recommended),
            changes=_points(at_s, row.changed),
            events=(_points(at_s, row.added), _points(at_s, row.removed)),
            raised_s=at_s - row.raised[0] if row.raised else nan,
            raised_to=float(row.raised[1]) if row.raised else nan,
        ),
        Standing(
            last=last,
            outcome=Outcome(row.wrote[3]) if row.wrote is not None else Outcome.TAKEN,
            reverts_s=tuple(at_s - age for age in row.reverts),
            stop_until_s=at_s + _long(row.stop),
            stopped_by=row.by,
        ),
    )


def _policies_of(document: bytes) -> dict[str, dict[str, SeriesFields]]:
    try:
        return {
            uid: {name: {key: _array(value) for key, value in values.items()} for name, values in _SERIES.decode(row).items()}
            for uid, row in _rows(document).items()
        }
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise UnreadableError(f"it is damaged: {error}") from error


def _array(value: _Field) -> np.ndarray:
    return np.frombuffer(b64decode(value.data, validate=True), np.dtype(value.dtype)).reshape(value.shape)


def _short(value: float) -> Number | None:
    """The number in as few characters as it needs; None: it is not known."""
    return _whole(value) if isfinite(value) else None


def _whole(value: float) -> Number:
    return int(value) if value == int(value) else value


def _long(value: Number | None) -> float:
    return nan if value is None else float(value)


def _flat(at_s: float, points: Points) -> tuple[Number, ...]:
    return tuple(_whole(number) for then, value in points for number in (at_s - then, value))


def _points(at_s: float, flat: Iterable[Number]) -> Points:
    numbers = list(map(float, flat))
    if len(numbers) % 2:
        raise ValueError(f"expected pairs of age and value, found {len(numbers)} numbers")
    return tuple((at_s - age, value) for age, value in zip(numbers[::2], numbers[1::2], strict=True))
