"""Incidents as Events on their workload: what ``kubectl describe`` and ``kubectl events`` show. Always on.

An incident is one Event from when it fires until it is resolved, whose ``count`` grows with each update; its end is another. They are
applied under names of our making, so that a report which is sent twice is still one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from autoscaler.adapters.kubernetes.calls import ForbiddenError
from autoscaler.adapters.kubernetes.client import APPLY_PATCH, Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.scale import FIELD_MANAGER
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Done, Report
from autoscaler.core.health.words import identity, remedy_words, tell
from autoscaler.errors import TransientError

EVENTS = Resource("v1", "Event", "events")

MESSAGE_MAX = 1024

_API_VERSIONS: Mapping[str, str] = {
    **dict.fromkeys(("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"), "apps/v1"),
    **dict.fromkeys(("Job", "CronJob"), "batch/v1"),
    **dict.fromkeys(("Pod", "Node"), "v1"),
}
_NODES_NAMESPACE = "default"  # where events of what belongs to no namespace are kept
_NAME_MAX = 200
_COUNTED_MAX = 4096


class _Event(msgspec.Struct, gc=False):
    """Nothing of what comes back matters."""


class OwnerEvents:
    """The Notifier that needs no settings."""

    def __init__(self, client: Client, own: tuple[str, str] = ("", "")) -> None:
        """``own``: namespace and name of the pod that we run in."""
        self._client, self._own = client, own
        self._counts: OrderedDict[str, tuple[int, float, float]] = OrderedDict()

    async def send(self, report: Report, budget_s: float) -> None:
        """Apply the report's Event. What is about no namespace, and may not stand where such Events do, stands on our own pod."""
        event = await asyncio.to_thread(self._event, report)
        try:
            await self._apply(event, budget_s)
        except ForbiddenError:
            if report.change.incident.finding.subject.namespace or not all(self._own):
                raise
            await self._apply(_moved(event, *self._own), budget_s)

    async def _apply(self, event: dict[str, Any], budget_s: float) -> None:
        call = EVENTS.call("patch", event["metadata"]["namespace"], event["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        try:
            async with asyncio.timeout(budget_s):
                await self._client.write(call, _Event, event, query, content_type=APPLY_PATCH)
        except TimeoutError as error:
            raise TransientError(f"{call}: no answer within {budget_s:g} s") from error

    async def close(self) -> None:
        """There is nothing to give back: the client is others' too."""

    def _event(self, report: Report) -> dict[str, Any]:
        incident = report.change.incident
        reason, warns, message, mark = _said(report)
        name = _name(incident.finding.subject.name, identity(report), reason, mark)
        count, first_s = self._counted(name, report.change.at_s)
        subject = incident.finding.subject
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": subject.namespace or _NODES_NAMESPACE},
            "involvedObject": _reference(subject),
            "type": "Warning" if warns else "Normal",
            "reason": reason,
            "message": message if len(message) <= MESSAGE_MAX else f"{message[: MESSAGE_MAX - 1]}…",
            "count": count,
            "firstTimestamp": _time(first_s),
            "lastTimestamp": _time(report.change.at_s),
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._own[1] or FIELD_MANAGER,
        }

    def _counted(self, name: str, at_s: float) -> tuple[int, float]:
        """How often it has been said, this time included, and when first. A report that is sent again is not counted again."""
        count, first_s, last_s = self._counts.get(name, (0, at_s, -1.0))
        if at_s != last_s:
            count += 1
        self._counts[name] = count, first_s, at_s
        self._counts.move_to_end(name)
        while len(self._counts) > _COUNTED_MAX:
            self._counts.popitem(last=False)
        return count, first_s


def _moved(event: dict[str, Any], namespace: str, pod: str) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod}
    return {**event, "metadata": {**event["metadata"], "namespace": namespace}, "involvedObject": reference}


def _said(report: Report) -> tuple[str, bool, str, str]:
    """Reason, whether it is a warning, message, and what tells it from others of its reason."""
    incident, story = report.change.incident, tell(report)
    cause = incident.finding.cause
    if report.change.kind is Kind.REMEDY and report.remedies:
        done = report.remedies[-1]
        return _remedy_reason(done), False, f"{remedy_words(done, report.change.at_s)} ({cause})", f"{done.pod} {done.at_s!r}"
    if report.change.kind is Kind.RESOLVED:
        return f"{cause}Resolved", False, story.summary, repr(incident.resolved_s)
    pods = next((f" Pods: {value}." for label, value in story.facts if label == "Pods"), "")
    return f"{cause}Detected", True, story.summary + pods, repr(incident.fired_s)


def _remedy_reason(done: Done) -> str:
    if done.dry_run:
        return "PodRestartDryRun"
    return "PodRestarted" if done.acted else "PodRestartRefused"


def _name(subject: str, incident: str, reason: str, mark: str) -> str:
    digest = hashlib.sha256(f"{incident}\0{reason}\0{mark}".encode()).hexdigest()[:16]
    return f"{subject[:_NAME_MAX].rstrip('-.')}.{digest}"


def _reference(subject: Subject) -> dict[str, str]:
    reference = {"apiVersion": _API_VERSIONS.get(subject.kind, ""), "kind": subject.kind, "name": subject.name, "uid": subject.uid}
    if subject.namespace:
        reference["namespace"] = subject.namespace
    return reference


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
