"""Pods and their controllers by whom they belong to, kept as they come and go: no question looks at more than its own answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from autoscaler.core.health.facts import Controller, Owner, Pod

O = TypeVar("O", Pod, Controller)  # noqa: E741 - an object that may be owned

_LEVELS = 4
"""So many controllers lie between a workload and its pods at most."""


class Name(NamedTuple):
    """A controller by name, as owner references of its namespace have it."""

    namespace: str
    kind: str
    name: str


class _Owned(dict[Name, dict[str, O]]):
    """Objects by the name of their controller, then by uid."""

    def put(self, item: O) -> None:
        if item.owner is not None:
            self.setdefault(_owner(item.namespace, item.owner), {})[item.uid] = item

    def drop(self, item: O) -> None:
        if item.owner is None:
            return
        name = _owner(item.namespace, item.owner)
        mine = self.get(name)
        if mine is not None:
            mine.pop(item.uid, None)
            if not mine:
                del self[name]


class Index:
    """Everything by uid, and by owner."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.controllers: dict[str, Controller] = {}
        self._named: dict[Name, str] = {}
        self._pods: _Owned[Pod] = _Owned()
        self._controllers: _Owned[Controller] = _Owned()

    def put_pod(self, pod: Pod) -> None:
        """A new pod, or a new version of one."""
        before = self.pods.get(pod.uid)
        if before is not None and before.owner != pod.owner:
            self._pods.drop(before)
        self.pods[pod.uid] = pod
        self._pods.put(pod)

    def drop_pod(self, pod: Pod) -> None:
        """It is gone."""
        known = self.pods.pop(pod.uid, None)
        if known is not None:
            self._pods.drop(known)

    def put_controller(self, controller: Controller) -> None:
        """A new controller, or a new version of one."""
        before = self.controllers.get(controller.uid)
        if before is not None and before.owner != controller.owner:
            self._controllers.drop(before)
        self.controllers[controller.uid] = controller
        self._controllers.put(controller)
        self._named[_name(controller)] = controller.uid

    def drop_controller(self, controller: Controller) -> None:
        """It is gone."""
        known = self.controllers.pop(controller.uid, None)
        if known is not None:
            self._controllers.drop(known)
            if self._named.get(_name(known)) == known.uid:
                del self._named[_name(known)]

    def owned(self, name: Name) -> tuple[Pod, ...]:
        """The pods of a workload, through however many controllers, sorted by name."""
        return tuple(sorted(self._below(name, _LEVELS), key=lambda pod: pod.name))

    def _below(self, name: Name, levels: int) -> Iterator[Pod]:
        """An owner that is known counts by its uid: what an earlier object of its name has left behind is not its own."""
        uid = self._named.get(name)
        yield from _of(self._pods.get(name), uid)
        if levels:
            for each in _of(self._controllers.get(name), uid):
                yield from self._below(_name(each), levels - 1)


def _of(found: Mapping[str, O] | None, uid: str | None) -> Iterator[O]:
    for each in (found or {}).values():
        if uid is None or (each.owner is not None and each.owner.uid == uid):
            yield each


def _owner(namespace: str, owner: Owner) -> Name:
    return Name(namespace, owner.kind, owner.name)


def _name(controller: Controller) -> Name:
    return Name(controller.namespace, controller.kind, controller.name)
