"""Keeps the columns of one interval group in step with the workloads that come and go.

A workload keeps its slot as long as it stays; a leaver's slot is freed and reused, none moves. Every use of a slot has a serial
number of its own, so whoever keeps columns beside these (history, state) sees a new user by comparing serials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.behavior import Behavior, Direction
from autoscaler.core.columns import A, frozen, patched, widened
from autoscaler.core.policy import Policy, guards_of, history_s
from autoscaler.core.spec import Call, GroupSpec, Schedule, SeriesSpec, WorkloadColumns, WorkloadSpec
from autoscaler.core.types import FREE, Floats, Ints, Mode, Workload

_FIRST_CAPACITY = 8
_NO_RULE = (0.0, 0.0, False)


@dataclass(slots=True)
class _Slots:
    """Slot numbers handed out lowest first, and taken back."""

    capacity: int = 0
    free: list[int] = field(default_factory=list)

    def take(self) -> int:
        if not self.free:
            grown = self.capacity + max(_FIRST_CAPACITY, self.capacity // 4)
            self.free = list(range(grown - 1, self.capacity - 1, -1))
            self.capacity = grown
        return self.free.pop()


@dataclass(slots=True)
class _Pool:
    """The series slots of one call."""

    policy: Policy
    example: Any
    slots: _Slots = field(default_factory=_Slots)
    rows: int = 1


@dataclass(frozen=True, slots=True)
class SeriesSlot:
    """Where a series lives: the call's key and the slot in it."""

    call: str
    slot: int
    serial: int


@dataclass(slots=True)
class _Member:
    spec: WorkloadSpec
    slot: int
    serial: int
    series: dict[SeriesSpec, SeriesSlot]


class Roster:
    """The one owner of a group's membership. ``spec`` is the current columns; they are replaced, never changed."""

    def __init__(self, interval_s: float, mode_floor: Mode = Mode.ACTIVE) -> None:
        nobody, nothing = frozen(np.zeros(0, np.int64)), frozen(np.zeros(0))
        empty = {name: frozen(column) for name, column in _workload_columns([]).items()}
        schedule = Schedule(nobody, nothing, nothing, nothing, nothing)
        self.spec = GroupSpec(interval_s, WorkloadColumns(serial=nobody, **empty), schedule, (), mode_floor)
        self._members: dict[Workload, _Member] = {}
        self._slots = _Slots()
        self._pools: dict[str, _Pool] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, workload: Workload) -> bool:
        return workload in self._members

    def members(self) -> Mapping[Workload, WorkloadSpec]:
        """The rows behind the columns."""
        return {workload: member.spec for workload, member in self._members.items()}

    def slot(self, workload: Workload) -> int:
        """The workload's slot."""
        return self._members[workload].slot

    def series(self, workload: Workload) -> dict[SeriesSpec, SeriesSlot]:
        """Where the workload's series are."""
        return dict(self._members[workload].series)

    def swap(self, leave: Iterable[Workload] = (), join: Iterable[WorkloadSpec] = ()) -> GroupSpec:
        """Take leavers out and joiners in; a joiner that is here already is an update and keeps its slot.

        A series whose name, query, target and policy stay keeps its history and state; any other starts afresh. Costs a copy of
        the columns and a Python step for each of those that change, not for those that stay.

        Raises ValueError for a leaver that is not here and for two joiners of one name, and what a policy's own declarations raise;
        then nothing has changed.
        """
        leave, join = list(leave), list(join)
        _check_swap(self._members.keys(), leave, join)
        needs = [(call_key(spec), history_rows(spec)) for spec in join]
        released: dict[str, list[int]] = {}
        taken: dict[str, list[tuple[_Member, SeriesSpec, SeriesSlot]]] = {}
        gone: list[int] = []
        for workload in leave:
            member = self._members.pop(workload)
            gone.append(member.slot)
            self._slots.free.append(member.slot)
            for place in member.series.values():
                released.setdefault(place.call, []).append(place.slot)
                self._pools[place.call].slots.free.append(place.slot)
        changed: dict[int, _Member] = {}
        for spec, (key, rows) in zip(join, needs, strict=True):
            member = self._admit(spec)
            changed[member.slot] = member
            if spec.series:
                pool = self._pools.setdefault(key, _Pool(spec.policy.policy, spec.policy.params))
                pool.rows = max(pool.rows, rows)
            self._place_series(member, key, released, taken)
        workloads = self._workloads(gone, list(changed.values()))
        schedule = _rescheduled(self.spec.schedule, [*gone, *changed], list(changed.values()))
        calls = self._calls(released, taken)
        self.spec = replace(self.spec, workloads=workloads, schedule=schedule, calls=calls)
        return self.spec

    def restart(self, workloads: Iterable[Workload]) -> GroupSpec:
        """Give these a new serial: the same rows, but another object behind the name (deleted and created again)."""
        members = [self._members[workload] for workload in workloads]
        taken: dict[str, list[tuple[_Member, SeriesSpec, SeriesSlot]]] = {}
        for member in members:
            member.serial = self._next_serial()
            for series, place in member.series.items():
                fresh = replace(place, serial=self._next_serial())
                member.series[series] = fresh
                taken.setdefault(place.call, []).append((member, series, fresh))
        self.spec = replace(self.spec, workloads=self._workloads([], members), calls=self._calls({}, taken))
        return self.spec

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def _admit(self, spec: WorkloadSpec) -> _Member:
        member = self._members.get(spec.workload)
        if member is None:
            member = _Member(spec, self._slots.take(), self._next_serial(), {})
            self._members[spec.workload] = member
        member.spec = spec
        return member

    def _place_series(
        self,
        member: _Member,
        key: str,
        released: dict[str, list[int]],
        taken: dict[str, list[tuple[_Member, SeriesSpec, SeriesSlot]]],
    ) -> None:
        kept: dict[SeriesSpec, SeriesSlot] = {}
        for series in dict.fromkeys(member.spec.series):
            place = member.series.get(series)
            if place is None or place.call != key:
                place = SeriesSlot(key, self._pools[key].slots.take(), self._next_serial())
            kept[series] = place
            taken.setdefault(key, []).append((member, series, place))
        for place in set(member.series.values()) - set(kept.values()):
            released.setdefault(place.call, []).append(place.slot)
            self._pools[place.call].slots.free.append(place.slot)
        member.series = kept

    def _workloads(self, gone: list[int], changed: list[_Member]) -> WorkloadColumns:
        table = self.spec.workloads
        values = _workload_columns([member.spec for member in changed])
        rules = max(values["rule_value"].shape[1], table.rule_value.shape[1])
        values = {name: _with_rules(array, rules) if name.startswith("rule_") else array for name, array in values.items()}
        grown = {}
        for item in fields(table):
            array = getattr(table, item.name)
            array = _with_rules(array, rules) if item.name.startswith("rule_") else array
            grown[item.name] = frozen(widened(array, self._slots.capacity, 0))
        table = WorkloadColumns(**grown)
        if gone:
            table = patched(table, np.array(gone), {"serial": np.zeros(len(gone), np.int64)})
        if changed:
            slots = np.array([member.slot for member in changed])
            values["serial"] = np.array([member.serial for member in changed])
            table = patched(table, slots, values)
        return table

    def _calls(self, released: dict[str, list[int]], taken: dict[str, list[tuple[_Member, SeriesSpec, SeriesSlot]]]) -> tuple[Call, ...]:
        calls = {call.key: call for call in self.spec.calls}
        for key in released.keys() | taken.keys():
            pool = self._pools[key]
            call = calls.get(key) or _empty_call(key, pool)
            calls[key] = _updated(call, pool, released.get(key, []), taken.get(key, []))
        for key in [key for key, call in calls.items() if not (call.owner != FREE).any()]:
            del calls[key]
            del self._pools[key]
        return tuple(calls.values())


def _check_swap(members: Collection[Workload], leave: list[Workload], join: list[WorkloadSpec]) -> None:
    strangers = [str(workload) for workload in leave if workload not in members]
    if strangers:
        message = f"cannot leave, as they are not here: {', '.join(strangers)}"
        raise ValueError(message)
    names = Counter(leave) | Counter(spec.workload for spec in join)
    twice = [str(workload) for workload, count in names.items() if count > 1]
    if twice:
        message = f"named twice: {', '.join(twice)}"
        raise ValueError(message)


def call_key(spec: WorkloadSpec) -> str:
    """What the series of one call have in common: the policy, and the values of its text and bool parameters."""
    parameters = {item.name: getattr(spec.policy.params, item.name) for item in fields(spec.policy.params)}
    split = [f"{name}={value!r}" for name, value in sorted(parameters.items()) if isinstance(value, (str, bool))]
    return "/".join([spec.policy.name, *split])


def history_rows(spec: WorkloadSpec) -> int:
    """Ticks of demand that the policy needs to see, this one included: durations are rounded up to rows."""
    return max(1, ceil(history_s(spec.policy.policy, spec.policy.params) / spec.interval_s - 1e-9))


def _empty_call(key: str, pool: _Pool) -> Call:
    numbers = {item.name: np.zeros(0) for item in fields(pool.example) if not isinstance(getattr(pool.example, item.name), (str, bool))}
    none, nothing, codes = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int8)
    return Call(key, pool.policy, replace(pool.example, **numbers), pool.rows, none, none, nothing, codes, codes, nothing)


def _updated(call: Call, pool: _Pool, released: list[int], taken: list[tuple[_Member, SeriesSpec, SeriesSlot]]) -> Call:
    capacity = pool.slots.capacity
    owner = widened(call.owner, capacity, FREE).copy()
    serial = widened(call.serial, capacity, 0).copy()
    owner[released], serial[released] = FREE, 0
    slots: Ints = np.array([place.slot for _, _, place in taken], dtype=np.int64)
    owner[slots] = [member.slot for member, _, _ in taken]
    serial[slots] = [place.serial for _, _, place in taken]
    columns = {
        "target": np.array([series.target for _, series, _ in taken]),
        "target_kind": np.array([series.target_kind for _, series, _ in taken], np.int8),
        "metric_type": np.array([series.metric_type for _, series, _ in taken], np.int8),
        "activation": np.array([series.activation for _, series, _ in taken]),
    }
    numbers = {}
    for item in fields(call.params):
        column = getattr(call.params, item.name)
        if isinstance(column, np.ndarray):
            column = widened(column, capacity, getattr(pool.example, item.name)).copy()
            column[slots] = [getattr(member.spec.policy.params, item.name) for member, _, _ in taken]
            numbers[item.name] = frozen(column)
    call = replace(
        call,
        params=replace(call.params, **numbers),
        rows=pool.rows,
        owner=frozen(owner),
        serial=frozen(serial),
        target=frozen(widened(call.target, capacity, 1.0)),
        target_kind=frozen(widened(call.target_kind, capacity, 0)),
        metric_type=frozen(widened(call.metric_type, capacity, 0)),
        activation=frozen(widened(call.activation, capacity, 0.0)),
    )
    return patched(call, slots, columns) if taken else call


def _workload_columns(rows: list[WorkloadSpec]) -> dict[str, Any]:
    """The columns of :class:`WorkloadColumns` for some rows, all but ``serial``."""
    behaviors = [guards_of(row.policy.policy, row.policy.params, row.behavior) for row in rows]
    return {
        "min": np.array([row.min_replicas for row in rows], np.float64),
        "max": np.array([row.max_replicas for row in rows], np.float64),
        "mode": np.array([row.mode for row in rows], np.int8),
        "mode_until_s": np.array([row.mode_until_s for row in rows], np.float64),
        "startup_s": np.array([row.startup_s for row in rows], np.float64),
        "classic": np.array([behavior.classic for behavior in behaviors], np.bool_),
        "exact": np.array([behavior.exact for behavior in behaviors], np.bool_),
        "tolerance": _both(behaviors, lambda direction: direction.tolerance),
        "window_s": _both(behaviors, lambda direction: direction.window_s),
        "select": _both(behaviors, lambda direction: direction.select).astype(np.int8),
        **_rules(behaviors),
        "downs_per_hour": np.array([behavior.downs_per_hour for behavior in behaviors], np.float64),
        "fallback_after": np.array([nan if row.fallback is None else row.fallback.after for row in rows], np.float64),
        "fallback_replicas": np.array([nan if row.fallback is None else row.fallback.replicas for row in rows], np.float64),
        "fallback_when": np.array([0 if row.fallback is None else row.fallback.when for row in rows], np.int8),
    }


def _both(behaviors: list[Behavior], pick: Callable[[Direction], float]) -> Floats:
    """``[direction, w]``: one number of both directions."""
    return np.array([[pick(b.up) for b in behaviors], [pick(b.down) for b in behaviors]], np.float64).reshape(2, len(behaviors))


def _rules(behaviors: list[Behavior]) -> dict[str, Any]:
    """The rate rules as ``[direction, rule, w]``, padded with rules of period 0."""
    depth = max((len(direction.rules) for b in behaviors for direction in (b.up, b.down)), default=0)

    def row(direction: Direction) -> list[tuple[float, float, bool]]:
        given = [(rule.value, rule.period_s, rule.percent) for rule in direction.rules]
        return given + [_NO_RULE] * (depth - len(given))

    # [w, direction, rule, (value, period, percent)] -> [(…), direction, rule, w]
    table = np.array([[row(b.up), row(b.down)] for b in behaviors], np.float64).reshape(len(behaviors), 2, depth, 3)
    value, period, percent = np.moveaxis(table, (3, 1, 2, 0), (0, 1, 2, 3))
    return {"rule_value": value, "rule_period_s": period, "rule_percent": percent.astype(np.bool_)}


def _with_rules(array: NDArray[A], depth: int) -> NDArray[A]:
    """The rule columns padded to ``depth`` rules."""
    missing = depth - array.shape[1]
    return np.pad(array, ((0, 0), (0, missing), (0, 0))) if missing > 0 else array


def _rescheduled(schedule: Schedule, slots: list[int], members: list[_Member]) -> Schedule:
    """The schedule without the rows of ``slots`` and with those of ``members``."""
    rows = [(member.slot, row) for member in members for row in member.spec.schedule]
    stays = ~np.isin(schedule.owner, slots)
    if stays.all() and not rows:
        return schedule

    def merged(old: NDArray[A], new: Sequence[float]) -> NDArray[A]:
        return frozen(np.concatenate([old[stays], np.array(new, old.dtype)]))

    return Schedule(
        merged(schedule.owner, [slot for slot, _ in rows]),
        merged(schedule.start_s, [row.start_s for _, row in rows]),
        merged(schedule.end_s, [row.end_s for _, row in rows]),
        merged(schedule.min, [row.min_replicas for _, row in rows]),
        merged(schedule.max, [row.max_replicas for _, row in rows]),
    )
