"""What pods, controllers, nodes and events have in common on the wire, and how little of it is kept.

10 000 pods say the same few hundred things: texts are interned, and equal parts of different objects are one object.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from math import nan
from sys import intern
from typing import Generic, TypeVar

import msgspec

from autoscaler.adapters.kubernetes.wire import Metadata, Object
from autoscaler.core.health.facts import Condition, Owner

F = TypeVar("F")

_POOL_MAX = 8192


class Pool(Generic[F]):
    """Equal values as one object. Full, it starts anew: that costs sharing, nothing else."""

    def __init__(self) -> None:
        self._known: dict[F, F] = {}

    def __call__(self, value: F) -> F:
        """The one that equals it."""
        if len(self._known) >= _POOL_MAX:
            self._known.clear()
        return self._known.setdefault(value, value)


class OwnerWire(msgspec.Struct, gc=False):
    """An owner reference; one of them at most is the controller."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class Annotations(msgspec.Struct, frozen=True, gc=False):
    """The two that matter."""

    mirror: str = msgspec.field(name="kubernetes.io/config.mirror", default="")
    revision: str = msgspec.field(name="deployment.kubernetes.io/revision", default="")


class FactMetadata(Metadata, frozen=True, gc=False, rename="camel"):
    """What health needs of any object's metadata."""

    creation_timestamp: str | None = None
    owner_references: list[OwnerWire] | None = None
    annotations: Annotations | None = None
    finalizers: list[str] | None = None
    generation: int = 0


class ConditionWire(msgspec.Struct, gc=False, rename="camel"):
    """A condition of any object."""

    type: str = ""
    status: str = ""
    reason: str = ""
    last_transition_time: str | None = None


class Seen(Object, Generic[F], frozen=True, gc=False):
    """What a watch keeps of an object: who it is, in which version, and the facts of it."""

    fact: F = msgspec.field()


def seen(item: Object, fact: F) -> Seen[F]:
    """Keep a fact, and of the object just what a reflector compares."""
    meta = item.metadata
    return Seen(Metadata(meta.name, meta.uid, meta.resource_version, intern(meta.namespace)), fact)


_conditions: Pool[Condition] = Pool()
_condition_rows: Pool[tuple[Condition, ...]] = Pool()
_owners: Pool[Owner] = Pool()


def conditions_of(told: Iterable[ConditionWire] | None) -> tuple[Condition, ...]:
    """The conditions of an object."""
    return _condition_rows(
        tuple(
            _conditions(Condition(intern(each.type), intern(each.status), intern(each.reason), seconds(each.last_transition_time)))
            for each in told or ()
        )
    )


def controller_of(meta: FactMetadata) -> Owner | None:
    """Its controller, among its owners."""
    for each in meta.owner_references or ():
        if each.controller:
            return _owners(Owner(intern(each.kind), each.name, each.uid))
    return None


@lru_cache(maxsize=_POOL_MAX)
def seconds(told: str | None) -> float:
    """A time of the API in seconds since the epoch; NaN where there is none, or nonsense.

    Example:
        >>> seconds("2026-11-24T09:00:00Z"), seconds("2026-11-24T09:00:00.500000Z"), seconds(None), seconds("soon")
        (1795510800.0, 1795510800.5, nan, nan)
    """
    if not told:
        return nan
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        return nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
