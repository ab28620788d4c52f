"""Slack's incoming webhooks, in blocks. Texts of others stand in plain text or in code, where nothing has a meaning."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from autoscaler.adapters.notify.wire import Wire
from autoscaler.clock import Clock
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Report
from autoscaler.core.health.words import Section, escape_mrkdwn, tell
from autoscaler.endpoints import SlackSink
from autoscaler.errors import AnswerError

HEADER_MAX, TEXT_MAX, FIELDS_MAX, FIELD_MAX = 150, 2_900, 10, 300
TOTAL_MAX = 12_000
"""Slack refuses messages of about 13 000 characters in all."""

_MARK = {Kind.RESOLVED: "🟢", Kind.REMEDY: "🔧"}


class Slack:
    """Implements :class:`autoscaler.ports.Notifier`."""

    def __init__(self, name: str, sink: SlackSink, clock: Clock) -> None:
        self._wire = Wire(name, sink, clock)

    async def send(self, report: Report, budget_s: float) -> None:
        """Post the message. Slack answers ``ok``."""
        answer = await self._wire.post(msgspec.json.encode(await asyncio.to_thread(message, report)), budget_s)
        if answer.text.strip() != "ok":
            raise AnswerError(f"{self._wire}: expected Slack's ok; is this the address of an incoming webhook?")

    async def close(self) -> None:
        """Close its connections."""
        await self._wire.close()


def message(report: Report) -> dict[str, Any]:
    """The message: header, summary, facts, then as many sections as there is room for."""
    story = tell(report)
    title = f"{_MARK.get(report.change.kind, '🔴')} {story.title}"
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(title, HEADER_MAX)},
        {"type": "section", "text": _plain(story.summary, TEXT_MAX)},
    ]
    fields = [_plain(f"{label}: {value}", FIELD_MAX) for label, value in story.facts]
    blocks += [{"type": "section", "fields": fields[at : at + FIELDS_MAX]} for at in range(0, min(len(fields), 2 * FIELDS_MAX), FIELDS_MAX)]
    room = TOTAL_MAX - len(msgspec.json.encode(blocks).decode())
    for section in story.sections:
        block = _section(section, min(TEXT_MAX, room))
        if block is not None:
            blocks.append(block)
            room -= len(msgspec.json.encode(block).decode())
    return {"text": escape_mrkdwn(title), "mrkdwn": False, "unfurl_links": False, "unfurl_media": False, "blocks": blocks}


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": _cut(text, most), "emoji": False}


def _section(section: Section, most: int) -> dict[str, Any] | None:
    """A section's last lines, as many as fit: of a log, these matter."""
    frame = f"{section.heading}:\n```\n"
    kept: list[str] = []
    room = most - len(frame) - 250  # for the block around it
    for line in reversed(section.lines):
        shown = escape_mrkdwn(_cut(line, FIELD_MAX))
        room -= len(shown.encode()) + 8  # escapes of JSON may make it longer
        if room < 0:
            break
        kept.insert(0, shown)
    if not kept:
        return None
    # A code block may not hold a fence, nor end with a backtick that would join it.
    inner = "\n".join(kept).replace("```", "'''").rstrip("`")
    return {"type": "section", "text": {"type": "mrkdwn", "text": f"{escape_mrkdwn(frame[:-4])}```\n{inner}\n```", "verbatim": True}}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
