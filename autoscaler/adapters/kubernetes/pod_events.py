"""Warning and Killing events of pods: which probe had a container killed, and why one cannot be created, stand nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from sys import intern
from typing import NamedTuple

import msgspec

from autoscaler.adapters.kubernetes.facts_wire import Pool, Seen, seconds, seen
from autoscaler.adapters.kubernetes.reflector import Key
from autoscaler.adapters.kubernetes.wire import Object
from autoscaler.core.health.facts import PodEvent

WARNINGS = "involvedObject.kind=Pod,type=Warning"
KILLINGS = "involvedObject.kind=Pod,type=Normal,reason=Killing"

_FIELD_PATH = re.compile(r"spec\.\w*[cC]ontainers\{([^{}]+)\}")
# As the kubelet words it: "Container web failed liveness probe, will be restarted".
_PROBE = re.compile(r"[cC]ontainer (\S+) failed (\w+) probe\b")


class _Involved(msgspec.Struct, gc=False, rename="camel"):
    uid: str = ""
    field_path: str = ""


class _Series(msgspec.Struct, gc=False, rename="camel"):
    last_observed_time: str | None = None


class EventObject(Object, frozen=True, gc=False, rename="camel"):
    """An event of core/v1; which of its times is set depends on who made it."""

    involved_object: _Involved | None = None
    reason: str = ""
    message: str = ""
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: _Series | None = None


class Told(NamedTuple):
    """An event, by which name, and the uid of the pod that it is about."""

    key: Key
    uid: str
    event: PodEvent


_events: Pool[PodEvent] = Pool()


def seen_event(item: EventObject) -> Seen[Told]:
    """What the watch keeps of an event."""
    involved = item.involved_object or _Involved()
    path, probe = _FIELD_PATH.fullmatch(involved.field_path), None
    if item.reason == "Killing":
        probe = _PROBE.search(item.message)
    container = path[1] if path is not None else probe[1] if probe is not None else ""
    latest = item.series.last_observed_time if item.series is not None else None
    at_s = seconds(latest or item.last_timestamp or item.event_time or item.first_timestamp)
    event = PodEvent(intern(item.reason), intern(container), intern(probe[2]) if probe is not None else "", at_s)
    return seen(item, Told((intern(item.metadata.namespace), item.metadata.name), involved.uid, _events(event)))


class Events:
    """Events by pod, as watches tell of them."""

    def __init__(self) -> None:
        self._of: dict[str, dict[Key, PodEvent]] = {}
        self._rows: dict[str, tuple[PodEvent, ...]] = {}

    def put(self, told: Told) -> None:
        """Take an event, new or changed."""
        if told.uid:
            self._of.setdefault(told.uid, {})[told.key] = told.event
            self._rows[told.uid] = tuple(self._of[told.uid].values())

    def drop(self, told: Told) -> None:
        """Forget an event: they live for an hour."""
        mine = self._of.get(told.uid)
        if mine is None:
            return
        mine.pop(told.key, None)
        if mine:
            self._rows[told.uid] = tuple(mine.values())
        else:
            del self._of[told.uid], self._rows[told.uid]

    def rows(self) -> Mapping[str, tuple[PodEvent, ...]]:
        """A copy of what is known, by the pod's uid."""
        return dict(self._rows)
