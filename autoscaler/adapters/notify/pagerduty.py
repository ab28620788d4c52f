"""PagerDuty's Events API v2: an incident is one alert, by its ``dedup_key``, from trigger to resolve."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from autoscaler.adapters.notify.wire import Wire
from autoscaler.clock import Clock
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Report
from autoscaler.core.health.words import identity, is_total, tell
from autoscaler.endpoints import PagerDutySink
from autoscaler.errors import AnswerError

PATH = "/v2/enqueue"


class PagerDuty:
    """Implements :class:`autoscaler.ports.Notifier`."""

    def __init__(self, name: str, sink: PagerDutySink, clock: Clock) -> None:
        self._sink, self._wire = sink, Wire(name, sink, clock)

    async def send(self, report: Report, budget_s: float) -> None:
        """Enqueue the event. PagerDuty answers 202 and a JSON object that says success."""
        key = await self._wire.secret("routing_key_file", self._sink.routing_key_file)
        event = {"routing_key": key, **await asyncio.to_thread(self._event, report)}
        answer = await self._wire.post(msgspec.json.encode(event), budget_s, path=PATH)
        try:
            told = msgspec.json.decode(answer.text, type=dict[str, Any])
        except msgspec.DecodeError:
            told = {}
        if told.get("status") != "success":
            raise AnswerError(f"{self._wire}: expected PagerDuty's JSON with status success; is this its Events API?")

    async def close(self) -> None:
        """Close its connections."""
        await self._wire.close()

    def _event(self, report: Report) -> dict[str, Any]:
        base = {"event_action": self._action(report), "dedup_key": f"autoscaler/{identity(report)}"}
        if base["event_action"] != "trigger":
            return base
        story, finding = tell(report), report.change.incident.finding
        details = dict(story.facts) | {section.heading: list(section.lines) for section in story.sections}
        payload = {
            "summary": story.title,
            "source": report.cluster or "kubernetes",
            "severity": "critical" if is_total(finding) else "warning",
            "timestamp": datetime.fromtimestamp(report.change.at_s, UTC).isoformat(),
            "component": str(finding.subject),
            "group": finding.subject.namespace or "nodes",
            "class": finding.cause.value,
            "custom_details": {"summary": story.summary, **details},
        }
        return {**base, "client": "autoscaler", "payload": payload}

    def _action(self, report: Report) -> str:
        """An update triggers again, which changes the alert's details and opens no other."""
        if report.change.kind is Kind.RESOLVED:
            return "resolve"
        acted = report.change.kind is Kind.REMEDY and report.remedies and report.remedies[-1].acted and not report.remedies[-1].dry_run
        return "acknowledge" if acted and self._sink.acknowledge else "trigger"
