"""Revisions of a workload: how old the present one is, and what its pods' template changed from the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.facts_wire import FactMetadata, seconds
from autoscaler.clock import Clock
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.findings import Finding
from autoscaler.core.health.redact import one_line
from autoscaler.core.health.template_diff import template_diff
from autoscaler.core.health.words import duration
from autoscaler.errors import PermanentError

WORKLOADS: Mapping[str, Resource] = {
    "Deployment": Resource("apps/v1", "Deployment", "deployments"),
    "StatefulSet": Resource("apps/v1", "StatefulSet", "statefulsets"),
    "DaemonSet": Resource("apps/v1", "DaemonSet", "daemonsets"),
}
REPLICA_SETS = Resource("apps/v1", "ReplicaSet", "replicasets")
CONTROLLER_REVISIONS = Resource("apps/v1", "ControllerRevision", "controllerrevisions")

_READ = 200


class _Expression(msgspec.Struct, gc=False):
    key: str
    operator: str
    values: list[str] | None = None


class _Selector(msgspec.Struct, gc=False, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Expression] | None = None


class _WorkloadSpec(msgspec.Struct, gc=False):
    selector: _Selector | None = None


class _Workload(msgspec.Struct, gc=False):
    spec: _WorkloadSpec | None = None


class _Workloads(msgspec.Struct, gc=False):
    items: list[_Workload] | None = None


class _Template(msgspec.Struct, gc=False):
    template: Any = None


class _Data(msgspec.Struct, gc=False):
    spec: _Template | None = None


class _Owned(msgspec.Struct, gc=False):
    """A ReplicaSet (``spec.template``) or a ControllerRevision (``data.spec.template`` and ``revision``)."""

    metadata: FactMetadata
    spec: _Template | None = None
    data: _Data | None = None
    revision: int = 0


class _List(msgspec.Struct, gc=False):
    items: list[_Owned] | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision: what its pods' label says, its number, when it was made, and its template as JSON."""

    name: str
    number: int
    created_s: float
    template: object


class Revisions:
    """Reads the revisions of Deployments, StatefulSets and DaemonSets; others have none."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock

    async def told(self, finding: Finding) -> tuple[str, tuple[str, ...]]:
        """The newest revision that has the finding, with its age and the one before, in words; and what changed between them."""
        if finding.subject.kind not in WORKLOADS:
            return "", ()
        found = await self._of(finding.subject)
        shown = [each for each in found if each.name in finding.revisions] or found
        if not shown:
            return "", ()
        now = shown[-1]
        before = next((each for each in reversed(found) if each.number < now.number), None)
        if before is None:
            return f"{self._words(now)}; there is none before it", ()
        diff = await asyncio.to_thread(template_diff, before.template, now.template)
        return f"{self._words(now)}; before it {self._words(before)}", diff

    async def _of(self, subject: Subject) -> list[Revision]:
        """Oldest number first."""
        query = {"fieldSelector": f"metadata.name={subject.name}", "limit": "1"}  # a list of one: the watch may list them already
        workloads = (await self._client.get(WORKLOADS[subject.kind].call("list", subject.namespace), _Workloads, query)).items
        if not workloads:
            raise PermanentError(f"{subject} is gone")
        selector = workloads[0].spec.selector if workloads[0].spec is not None else None
        kept = REPLICA_SETS if subject.kind == "Deployment" else CONTROLLER_REVISIONS
        query = {"labelSelector": _words(selector or _Selector()), "limit": str(_READ)}
        items = (await self._client.get(kept.call("list", subject.namespace), _List, query)).items or []
        mine = [item for item in items if any(owner.uid == subject.uid for owner in item.metadata.owner_references or ())]
        return sorted((_revision(subject.kind, item) for item in mine), key=lambda each: (each.number, each.created_s, each.name))

    def _words(self, revision: Revision) -> str:
        age = duration(self._clock.now() - revision.created_s)
        return one_line(f"{revision.name}, made {age} ago" if age else revision.name)


def _revision(kind: str, item: _Owned) -> Revision:
    """As its pods name it: by the label ``pod-template-hash`` or ``controller-revision-hash``; a StatefulSet's say the whole name."""
    labels, created_s = item.metadata.labels, seconds(item.metadata.creation_timestamp)
    if kind == "Deployment":
        told = item.metadata.annotations.revision if item.metadata.annotations is not None else ""
        number = int(told) if told.isdecimal() else 0
        return Revision(labels.get("pod-template-hash", item.metadata.name), number, created_s, item.spec.template if item.spec else None)
    template = item.data.spec.template if item.data is not None and item.data.spec is not None else None
    if isinstance(template, dict):
        template = {key: value for key, value in template.items() if key != "$patch"}
    name = item.metadata.name if kind == "StatefulSet" else labels.get("controller-revision-hash", item.metadata.name)
    return Revision(name, item.revision, created_s, template)


def _words(selector: _Selector) -> str:
    """A label selector as a query says it."""
    parts = [f"{key}={value}" for key, value in (selector.match_labels or {}).items()]
    for each in selector.match_expressions or ():
        values = f"({','.join(each.values or ())})"
        forms = {
            "In": f"{each.key} in {values}",
            "NotIn": f"{each.key} notin {values}",
            "Exists": each.key,
            "DoesNotExist": f"!{each.key}",
        }
        parts.append(forms.get(each.operator, each.key))
    return ",".join(parts)
