"""Incidents as people look at them: rows for ``/api/v1/incidents``, and the series of ``autoscaler_incidents``. Plain values only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from math import isnan
from typing import Any

from autoscaler.core.health.findings import Key
from autoscaler.core.health.lifecycle import IMPORTANCE, Incident
from autoscaler.core.health.redact import one_line
from autoscaler.core.health.report import Done, Evidence
from autoscaler.core.health.taxonomy import CAUSE_TEXT, exit_meaning

PODS_SHOWN = 20


def row(incident: Incident, done: Iterable[Done], policies: Iterable[str], evidence: Evidence | None) -> dict[str, Any]:
    """One incident. Of the evidence what anybody may see: no log, no event, no template."""
    finding = incident.finding
    namespace, kind, name = finding.subject.namespace, finding.subject.kind, finding.subject.name
    return {
        "namespace": namespace,
        "kind": kind,
        "name": name,
        "container": finding.container,
        "cause": str(finding.cause),
        "text": CAUSE_TEXT[finding.cause],
        "phase": str(incident.phase),
        "news": not isnan(incident.told.at_s),
        "since_s": finding.since_s,
        "opened_s": incident.opened_s,
        "fired_s": incident.fired_s,
        "resolved_s": incident.resolved_s,
        "end": str(incident.end),
        "returns": len(incident.returns),
        "pods": [each._asdict() for each in finding.pods[:PODS_SHOWN]],
        "pods_affected": len(finding.pods),
        "pods_in_all": finding.of,
        "reason": one_line(finding.reason),
        "exit_code": finding.exit_code if finding.exit_code >= 0 else None,
        "exit_meaning": exit_meaning(finding.exit_code) if finding.exit_code >= 0 else "",
        "restarts": finding.restarts,
        "revisions": list(finding.revisions),
        "notes": [one_line(note) for note in finding.notes],
        "policies": list(policies),
        "remedies": [asdict(each) | {"cause": str(each.cause), "words": one_line(each.words)} for each in done],
        "limits": "" if evidence is None else evidence.limits,
        "missing": [] if evidence is None else list(evidence.missing),
    }


def withheld(evidence: Evidence) -> dict[str, Any]:
    """What only those may see who may read the logs of the namespace's pods."""
    return {
        "log_of": evidence.pod,
        "log": [one_line(line) for line in evidence.log],
        "message": one_line(evidence.message),
        "warnings": [one_line(line) for line in evidence.warnings],
        "revision": one_line(evidence.revision),
        "template_diff": [one_line(line) for line in evidence.template_diff],
    }


def by_importance(incidents: Iterable[Incident]) -> list[Incident]:
    """Open ones first, then the newest."""
    return sorted(incidents, key=lambda each: (IMPORTANCE[each.phase], -each.opened_s, each.finding.key))


def series(incidents: Mapping[Key, Incident]) -> Iterator[tuple[tuple[str, ...], float]]:
    """1 for each open incident, with the labels of the metric."""
    for incident in incidents.values():
        if incident.open:
            subject, finding = incident.finding.subject, incident.finding
            yield (subject.namespace, subject.kind, subject.name, finding.container, str(finding.cause), str(incident.phase)), 1.0
