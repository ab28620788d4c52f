"""A report in words, in the forms that sinks need. Everything that goes out of here is redacted, whoever wrote it.

``tell(report) -> Story`` is what there is to say; ``plain`` and ``markdown`` write it down, ``document`` is the whole report as JSON.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from autoscaler.core.health.findings import Finding, PodRef
from autoscaler.core.health.lifecycle import End, Incident, Kind
from autoscaler.core.health.redact import one_line, visible
from autoscaler.core.health.remedies import REMEDIES
from autoscaler.core.health.report import Done, Report
from autoscaler.core.health.taxonomy import CAUSE_TEXT, CRASHES, exit_meaning

TITLE_MAX, SUMMARY_MAX = 150, 500

_NAMES_MAX = 3
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0

_TURN: Mapping[Kind, str] = {
    Kind.PENDING: "Seen",
    Kind.FIRED: "",
    Kind.UPDATED: "Update",
    Kind.FLAPPING: "Comes and goes",
    Kind.REPEATED: "Still",
    Kind.REMEDY: "Remedy",
    Kind.RESOLVED: "Resolved",
}


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a heading. They are others' words for the most part: a sink shows them as they are, in a block of their own."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """What there is to say: a title, a few sentences, facts as (label, value), and sections."""

    title: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


def identity(report: Report) -> str:
    """What the incident is known by to others, whatever becomes of it: 32 hexadecimal digits."""
    uid, container, cause = report.change.incident.finding.key
    return hashlib.sha256(f"{report.cluster}\0{uid}\0{container}\0{cause}".encode()).hexdigest()[:32]


def turn_id(report: Report) -> str:
    """What this one report is known by, however often it is sent."""
    return hashlib.sha256(f"{identity(report)}\0{report.change.kind}\0{report.change.at_s!r}".encode()).hexdigest()[:32]


def is_total(finding: Finding) -> bool:
    """Whether all pods of the workload have it."""
    return 0 < finding.of <= len(finding.pods)


def tell(report: Report) -> Story:
    """Say it."""
    evidence = report.evidence
    log_of = f"Log of pod {one_line(evidence.pod)}" if evidence.pod else "Log"
    sections = (
        Section("What was done", tuple(_remedies(report))),
        Section("Changed since the revision before", _lines(evidence.template_diff)),
        Section("Warning events, newest first", _lines(evidence.warnings)),
        Section(f"{log_of}, last lines", _lines(evidence.log)),
        Section("Could not be had", _lines(evidence.missing)),
    )
    kept = tuple(section for section in sections if section.lines)
    facts = ((label, one_line(value)) for label, value in _facts(report))
    return Story(_title(report), _summary(report), tuple((label, value) for label, value in facts if value), kept)


def _title(report: Report) -> str:
    finding = report.change.incident.finding
    container = f", container {finding.container}" if finding.container else ""
    turn = _TURN[report.change.kind]
    return _cut(f"{f'{turn}: ' if turn else ''}{finding.cause}: {finding.subject}{container}{_share(finding)}", TITLE_MAX)


def _share(finding: Finding) -> str:
    if not finding.pods or finding.subject.kind == "Pod":
        return ""
    number = len(finding.pods)
    noun = "pod" if number == 1 else "pods"
    return f", {number} of {finding.of} pods" if finding.of else f", {number} {noun}"


def _summary(report: Report) -> str:
    incident = report.change.incident
    finding = incident.finding
    what = f"Container {finding.container} of {finding.subject}" if finding.container else str(finding.subject)
    said = [f"{what}: {CAUSE_TEXT[finding.cause]}."]
    if finding.cause in CRASHES and finding.exit_code >= 0:
        reason = f", reason {one_line(finding.reason)}" if finding.reason else ""
        said.append(f"It last ended with exit code {finding.exit_code}: {exit_meaning(finding.exit_code)}{reason}.")
    if report.change.kind is Kind.RESOLVED:
        said = [f"{what} was reported with {finding.cause}: {CAUSE_TEXT[finding.cause]}. {_ending(incident)}"]
    elif report.change.kind is Kind.FLAPPING:
        said.append(f"It has come back {len(incident.returns)} times in a short while.")
    return _cut(" ".join(said), SUMMARY_MAX)


def _cut(text: str, most: int) -> str:
    """Our own words with names in them: not redacted as a whole, or a workload named ``token`` would hide what is said of it."""
    text = " ".join(visible(text).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _ending(incident: Incident) -> str:
    if incident.end in {End.PODS_GONE, End.GONE}:
        return f"It is over: {incident.end.value}."
    return f"It is well again, and has been for {duration(incident.hold_s)}."


def _facts(report: Report) -> Iterable[tuple[str, str]]:
    incident, evidence, finding = report.change.incident, report.evidence, report.change.incident.finding
    yield "Cluster", report.cluster
    yield "Workload", str(finding.subject)
    yield "Container", finding.container
    yield "Cause", finding.cause
    yield "Reason", finding.reason
    yield "Exit code", f"{finding.exit_code}: {exit_meaning(finding.exit_code)}" if finding.exit_code >= 0 else ""
    yield "Pods", _pods(finding)
    yield "Restarts", f"{finding.restarts} since it began" if finding.restarts > 0 else ""
    yield "Limits", evidence.limits
    yield "Image", evidence.image or _some({pod.image for pod in finding.pods})
    yield "Node", _some({pod.node for pod in finding.pods})
    yield "Revision", evidence.revision or _some(set(finding.revisions))
    yield "Lasts", duration(report.change.at_s - incident.opened_s)
    yield "Last words", evidence.message
    for note in finding.notes:
        yield "Note", note


def _pods(finding: Finding) -> str:
    if not finding.pods:
        return ""
    worst = sorted(finding.pods, key=lambda pod: (-pod.restarts, pod.name))
    names = ", ".join(pod.name for pod in worst[:_NAMES_MAX])
    more = f" and {len(worst) - _NAMES_MAX} more" if len(worst) > _NAMES_MAX else ""
    return f"{len(worst)} of {finding.of}: {names}{more}" if finding.of else f"{names}{more}"


def _some(values: set[str]) -> str:
    named = sorted(values - {""})
    more = f" and {len(named) - _NAMES_MAX} more" if len(named) > _NAMES_MAX else ""
    return ", ".join(named[:_NAMES_MAX]) + more


def _remedies(report: Report) -> Iterable[str]:
    finding = report.change.incident.finding
    if not report.remedies and report.change.kind is not Kind.RESOLVED:
        helps = finding.cause in REMEDIES
        yield "nothing so far" if helps else "nothing: a new pod does not help with this"
    for done in report.remedies[-5:]:
        yield remedy_words(done, report.change.at_s)


def remedy_words(done: Done, at_s: float) -> str:
    """A remedy in a line: when, on which pod, what."""
    ago = f" {duration(at_s - done.at_s)} ago" if at_s - done.at_s >= _MINUTE_S else ""
    where = f"pod {done.pod}{ago}" if done.pod else ago.strip()
    return one_line(f"{where}{': ' if where else ''}{'dry run: ' if done.dry_run else ''}{done.words}")


def _lines(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(line for line in (one_line(text) for text in texts) if line)


def duration(seconds: float) -> str:
    """As people say it.

    >>> duration(45), duration(3 * 60 + 5), duration(2 * 3600), duration(3 * 86400), duration(float("nan"))
    ('45 s', '3 min', '2 h', '3 days', '')
    """
    if not isfinite(seconds) or seconds < 0:
        return ""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f} min"
    return f"{seconds // _HOUR_S:.0f} h" if seconds < 2 * _DAY_S else f"{seconds // _DAY_S:.0f} days"


def plain(story: Story) -> str:
    """As plain text."""
    parts = [story.title, "", story.summary, "", *(f"{label}: {value}" for label, value in story.facts)]
    for section in story.sections:
        parts += ["", f"{section.heading}:", *(f"  {line}" for line in section.lines)]
    return "\n".join(parts)


_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~&:/])")


def escape_markdown(text: str) -> str:
    """The text as Markdown that shows just it: no links, no formatting, no HTML, nobody mentioned."""
    return _MARKDOWN.sub(r"\\\1", text).replace("@", "`@`")


def code_block(lines: Iterable[str]) -> str:
    """Lines as a block of Markdown in which nothing has a meaning; its fence is longer than any within."""
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall(r"`{1,500}", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def markdown(story: Story) -> str:
    """As Markdown."""
    parts = [f"**{escape_markdown(story.title)}**", "", escape_markdown(story.summary), ""]
    parts += [f"- {label}: {escape_markdown(value)}" for label, value in story.facts]
    for section in story.sections:
        parts += ["", f"{escape_markdown(section.heading)}:", "", code_block(section.lines)]
    return "\n".join(parts)


def escape_mrkdwn(text: str) -> str:
    """The text as Slack's mrkdwn within a code block: no mention, no link, no way out of the block."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "'''")


def document(report: Report) -> dict[str, Any]:
    """All of a report as JSON values; times in seconds since the epoch, what is not known is null."""
    incident, finding, story = report.change.incident, report.change.incident.finding, tell(report)
    evidence = report.evidence
    return {
        "id": turn_id(report),
        "kind": report.change.kind.value,
        "at": _known(report.change.at_s),
        "cluster": one_line(report.cluster),
        "incident": {
            "id": identity(report),
            "workload": {"kind": finding.subject.kind, "namespace": finding.subject.namespace, "name": finding.subject.name},
            "container": one_line(finding.container),
            "cause": finding.cause.value,
            "phase": incident.phase.value,
            "reason": one_line(finding.reason),
            "exitCode": finding.exit_code if finding.exit_code >= 0 else None,
            "exitMeaning": exit_meaning(finding.exit_code) if finding.exit_code >= 0 else None,
            "openedAt": _known(incident.opened_s),
            "firedAt": _known(incident.fired_s),
            "resolvedAt": _known(incident.resolved_s),
            "resolvedBecause": incident.end.value,
            "podsOf": finding.of,
            "pods": [_pod(pod) for pod in finding.pods[:100]],
            "notes": list(_lines(finding.notes)),
        },
        "title": story.title,
        "summary": story.summary,
        "facts": [{"label": label, "value": value} for label, value in story.facts],
        "text": plain(story),
        "markdown": markdown(story),
        "evidence": {
            "pod": one_line(evidence.pod),
            "log": list(_lines(evidence.log)),
            "message": one_line(evidence.message),
            "warnings": list(_lines(evidence.warnings)),
            "limits": one_line(evidence.limits),
            "templateDiff": list(_lines(evidence.template_diff)),
            "missing": list(_lines(evidence.missing)),
        },
        "remedies": [_remedy(done) for done in report.remedies],
    }


def _pod(pod: PodRef) -> dict[str, Any]:
    return {
        "name": one_line(pod.name),
        "node": one_line(pod.node),
        "revision": one_line(pod.revision),
        "image": one_line(pod.image),
        "restarts": pod.restarts,
    }


def _remedy(done: Done) -> dict[str, Any]:
    return {
        "at": _known(done.at_s),
        "pod": one_line(done.pod),
        "acted": done.acted,
        "dryRun": done.dry_run,
        "words": one_line(done.words),
    }


def _known(time_s: float) -> float | None:
    return time_s if isfinite(time_s) else None
