"""What people may look at: the last decisions of every workload, in plain values, and whether the service turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from math import isnan
from typing import Any

import numpy as np

from autoscaler import metrics
from autoscaler.core.explain import TickRecord, demand_by_workload, explained, noted
from autoscaler.core.spec import WorkloadSpec
from autoscaler.core.types import Floats, Reason, Target, Workload
from autoscaler.loops.group import Group
from autoscaler.loops.health import HealthLoop
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.ports import Cluster, Recorder

_ROW = ("current", "ready", "desired", "apply", "mode", "reason", "why", "series")


class Board:
    """Reads the loops' records; holds nothing itself but what the policies' source last said."""

    def __init__(self, loop: ScalingLoop, cluster: Cluster, recorder: Recorder, health: HealthLoop | None = None) -> None:
        self._loop, self._cluster, self._health = loop, cluster, health
        self.config_error = ""
        self.loaded = False
        self._synced = False  # once all targets were seen, a new one does not make the service unready again
        recorder.collect(metrics.CURRENT_REPLICAS, lambda: self._gauge(lambda record: record.decision.observed))
        recorder.collect(metrics.DESIRED_REPLICAS, lambda: self._gauge(lambda record: record.decision.replicas))
        recorder.collect(metrics.DEMAND, lambda: self._gauge(demand_by_workload))
        recorder.collect(metrics.SHADOW_DIFFERENCE, self._differences)
        recorder.collect(metrics.FORECAST, lambda: self._gauge(lambda record: record.decision.combined.expected))
        recorder.collect(metrics.FORECAST_BIAS, lambda: self._noted("accuracy_bias"))
        recorder.collect(metrics.FORECAST_HITS, lambda: self._noted("accuracy_hit_rate"))

    def _gauge(self, pick: Callable[[TickRecord], Floats]) -> Iterable[tuple[tuple[str, ...], float]]:
        for group in self._loop.groups.values():
            if not group.records:
                continue
            values = pick(group.records[-1])
            for workload in group.roster.members():
                slot = group.roster.slot(workload)
                if slot < values.size:
                    yield (workload.namespace, workload.kind, workload.name), float(values[slot])

    def _noted(self, name: str) -> Iterable[tuple[tuple[str, ...], float]]:
        """What policies note under that name about each metric of a workload."""
        for group in self._loop.groups.values():
            for workload in group.roster.members():
                record = _current(group, workload)
                if record is not None:
                    found = noted(record, group.roster.slot(workload), group.roster.series(workload), name)
                    yield from (((workload.namespace, workload.kind, workload.name, metric), value) for metric, value in found.items())

    def _differences(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """By how much each dry run's count differs from what the target's own autoscaler wants, or without one from what it has."""
        for group in self._loop.groups.values():
            for workload in group.roster.members():
                record, slot = _current(group, workload), group.roster.slot(workload)
                if record is None or record.decision.stages[-1].reason[slot] != Reason.DRY_RUN:
                    continue
                rival = self._cluster.facts(workload).rival
                other = record.decision.observed[slot] if rival is None or isnan(rival.desired) else rival.desired
                yield (workload.namespace, workload.kind, workload.name), float(record.decision.replicas[slot] - other)

    def workloads(self) -> list[dict[str, Any]]:
        """One short row per workload, sorted by namespace and name."""
        rows = [
            self._row(group, workload, spec) for group in self._loop.groups.values() for workload, spec in group.roster.members().items()
        ]
        return sorted(rows, key=lambda row: (row["namespace"], row["name"], row["kind"]))

    def workload(self, namespace: str, name: str, kind: str = "") -> dict[str, Any] | None:
        """Everything about one: row, bounds, origin, curves, last decisions with every stage, newest first.

        ``kind`` tells two of the same name apart; without it the first that is found is meant.
        """
        for group in self._loop.groups.values():
            for workload, spec in group.roster.members().items():
                if (workload.namespace, workload.name) == (namespace, name) and kind in {"", workload.kind}:
                    return self._row(group, workload, spec) | self._detail(group, workload, spec)
        return None

    def _row(self, group: Group, workload: Workload, spec: WorkloadSpec) -> dict[str, Any]:
        facts = self._cluster.facts(workload)
        row: dict[str, Any] = {
            "namespace": workload.namespace,
            "name": workload.name,
            "kind": workload.kind,
            "api_version": workload.api_version,
            "policy": spec.policy.name,
            "interval_s": spec.interval_s,
            "target_problem": facts.problem if facts.state != Target.OK else "",
            "write_problem": group.writer.problem(workload),
            "rival": None if facts.rival is None else asdict(facts.rival),
        }
        record = _current(group, workload)
        if record is None:
            nothing: dict[str, Any] = dict.fromkeys(("demand", "current", "ready", "desired"), float("nan"))
            return row | nothing | {"apply": False, "mode": "", "reason": "NOT_DECIDED_YET", "why": "no tick yet", "series": []}
        slot = group.roster.slot(workload)
        full = explained(record, slot, group.roster.series(workload))
        demand = [series["demand"] for series in full["series"] if not isnan(series["demand"])]
        return row | {"at_s": full["at_s"], "demand": max(demand, default=float("nan"))} | {key: full[key] for key in _ROW}

    def _detail(self, group: Group, workload: Workload, spec: WorkloadSpec) -> dict[str, Any]:
        slot, series = group.roster.slot(workload), group.roster.series(workload)
        serial = group.roster.spec.workloads.serial[slot]
        ours = [record for record in reversed(group.records) if slot < record.spec.slots and record.spec.workloads.serial[slot] == serial]
        since = ours[-1].decision.at_s if ours and len(ours) < len(group.records) else -np.inf
        curves = [
            (at, *(float(column[slot]) for column in columns)) for at, *columns in group.curves if at >= since and slot < columns[0].size
        ]
        names = ("at_s", "demand", "current", "desired")
        return {
            "origin": spec.origin,
            "bounds": {"min": spec.min_replicas, "max": spec.max_replicas},
            "history": {name: [point[k] for point in curves] for k, name in enumerate(names)},
            "decisions": [explained(record, slot, series) for record in ours],
        }

    def incidents(self, readable: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        """What is or was lately wrong with workloads that a HealthPolicy selects: open incidents first, then the newest.

        What pods have written only in the ``readable`` namespaces.
        """
        return [] if self._health is None else self._health.rows(readable)

    def _members(self) -> Iterable[Workload]:
        return (workload for group in self._loop.groups.values() for workload in group.roster.members())

    def alive(self) -> list[str]:
        """What does not turn, in sentences."""
        return [*self._loop.stuck(), *([] if self._health is None else self._health.stuck())]

    def ready(self) -> tuple[list[str], list[str]]:
        """What keeps the service from being ready, and remarks that do not."""
        missing = [] if self.loaded else ["the policies have not been read yet"]
        if not self._synced:
            unseen = [workload for workload in self._members() if self._cluster.facts(workload).state == Target.UNKNOWN]
            self._synced = self.loaded and not unseen
            missing += [f"{len(unseen)} targets have not been seen yet, such as {unseen[0]}"] if unseen else []
        remarks = [f"the newest policies are not in use: {self.config_error}"] if self.config_error else []
        return missing, [*remarks, *([] if self._health is None else self._health.remarks())]


def _current(group: Group, workload: Workload) -> TickRecord | None:
    """The newest record, if it already knows this workload."""
    if not group.records:
        return None
    record, slot = group.records[-1], group.roster.slot(workload)
    known = slot < record.spec.slots and record.spec.workloads.serial[slot] == group.roster.spec.workloads.serial[slot]
    return record if known else None
