"""Alertmanager's API v2. An alert is one incident; its labels say which and nothing else, so that it groups and stays one.

What is not sent again expires there: so each alert says until when it holds, four re-sends from now, and the queue's reminders renew it.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import msgspec

from autoscaler.adapters.notify.wire import Wire
from autoscaler.clock import Clock
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Report
from autoscaler.core.health.words import identity, plain, tell
from autoscaler.endpoints import AlertmanagerSink
from autoscaler.errors import AnswerError

PATH = "/api/v2/alerts"

RESENDS = 4
"""So many re-sends may fail before an alert expires, as it is with Prometheus."""

DESCRIPTION_MAX = 4_000

_TOLD_MAX = 2_048
_ODD = re.compile(r"[^\w.:/\-]")
_LABEL_MAX = 253


class Alertmanager:
    """Implements :class:`autoscaler.ports.Notifier`."""

    def __init__(self, name: str, sink: AlertmanagerSink, clock: Clock) -> None:
        self._sink, self._clock, self._wire = sink, clock, Wire(name, sink, clock)
        self._told: OrderedDict[str, dict[str, str]] = OrderedDict()

    async def send(self, report: Report, budget_s: float) -> None:
        """Post the alert. Alertmanager answers 200 with nothing; a page is somebody else's answer."""
        alert = self._alert(report, await self._annotations(report))
        answer = await self._wire.post(msgspec.json.encode([alert]), budget_s, path=PATH)
        if answer.is_page:
            raise AnswerError(f"{self._wire}: answered with a web page; expected Alertmanager, is this a login page?")

    async def close(self) -> None:
        """Close its connections."""
        await self._wire.close()

    async def _annotations(self, report: Report) -> dict[str, str]:
        """The story; a reminder says again what was said when it was news, since thousands may be open."""
        key = identity(report)
        if report.change.silent and key in self._told:
            return self._told[key]
        told = self._told[key] = await asyncio.to_thread(_annotated, report)
        self._told.move_to_end(key)
        while len(self._told) > _TOLD_MAX:
            self._told.popitem(last=False)
        return told

    def _alert(self, report: Report, annotations: dict[str, str]) -> dict[str, Any]:
        incident = report.change.incident
        starts_s = incident.fired_s if isfinite(incident.fired_s) else report.change.at_s
        if report.change.kind is Kind.RESOLVED:
            ends_s = max(starts_s, incident.resolved_s if isfinite(incident.resolved_s) else report.change.at_s)
        else:
            ends_s = self._clock.now() + RESENDS * self._sink.resend_s
        return {
            "labels": self._labels(report),
            "annotations": annotations,
            "startsAt": _time(starts_s),
            "endsAt": _time(ends_s),
        }

    def _labels(self, report: Report) -> dict[str, str]:
        """Names of the API and our own words, never anything that a container wrote. Empty ones are left out, as Alertmanager does."""
        finding = report.change.incident.finding
        subject = finding.subject
        own = {
            "alertname": finding.cause.value,
            "cluster": report.cluster,
            "namespace": subject.namespace,
            "kind": subject.kind,
            "workload": subject.name,
            "container": finding.container,
            "severity": "warning",
            **self._sink.labels,
        }
        return {name: _ODD.sub("_", value)[:_LABEL_MAX] if name not in self._sink.labels else value for name, value in own.items() if value}


def _annotated(report: Report) -> dict[str, str]:
    story = tell(report)
    text = plain(story)
    return {"summary": story.title, "description": text if len(text) <= DESCRIPTION_MAX else f"{text[:DESCRIPTION_MAX]}…"}


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
