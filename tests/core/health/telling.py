"""Reports for tests: a crash loop in container app of Deployment shop/web, unless a test says otherwise."""

from dataclasses import replace
from typing import Any

from autoscaler.core.health.facts import Subject
from autoscaler.core.health.findings import Finding, PodRef
from autoscaler.core.health.lifecycle import Change, Incident, Kind, Phase
from autoscaler.core.health.report import Done, Evidence, Report
from autoscaler.core.health.taxonomy import Cause
from tests.core.health.corpus import Case

AT_S = 1_700_003_600.0
WEB = Subject("Deployment", "shop", "web", "web-uid")
PODS = (
    PodRef("web-7d4b9c8f5-a", "a", "node-1", "7d4b9c8f5", "web:2", 2, AT_S - 300),
    PodRef("web-7d4b9c8f5-b", "b", "node-2", "7d4b9c8f5", "web:2", 5, AT_S - 300),
    PodRef("web-7d4b9c8f5-c", "c", "node-1", "7d4b9c8f5", "web:2", 2, AT_S - 300),
)


def finding(**changes: Any) -> Finding:  # noqa: ANN401 - fields of Finding
    return replace(Finding(WEB, "app", Cause.CRASH_LOOP, AT_S - 300, AT_S - 120, PODS, 10, "Error", 1), **changes)


def incident(**changes: Any) -> Incident:  # noqa: ANN401 - fields of Incident, and the finding's as ``finding``
    return replace(Incident(finding(), Phase.FIRING, AT_S - 180, AT_S - 170, 180.0, fired_s=AT_S - 100), **changes)


def report(kind: Kind = Kind.FIRED, at_s: float = AT_S, *, silent: bool = False, **changes: Any) -> Report:  # noqa: ANN401 - fields of Report, ``incident`` too
    change = Change(kind, changes.pop("incident", incident()), at_s, silent)
    return replace(Report(change, sinks=("ops",), cluster="prod"), **changes)


EVIDENCE = Evidence(
    log=("connecting to db", "panic: no such table"),
    warnings=("3 min ago, 5 times: BackOff: restarting failed container",),
    limits="cpu 100m to 1, memory 128Mi to 256Mi",
    template_diff=("container app, image web:1 → web:2",),
    revision="7d4b9c8f5, made 6 min ago; before it 5c6f8, made 9 days ago",
    pod="web-7d4b9c8f5-b",
    image="web:2",
    message="no such table",
    missing=("events of Deployment shop/web: refused",),
)
DONE = Done(AT_S - 30, "web-7d4b9c8f5-b", Cause.CRASH_LOOP, acted=True, dry_run=False, words="evicted; a new pod takes its place")


def hostile(case: Case, kind: Kind = Kind.FIRED) -> Report:
    """A report with a text of the corpus, as it is, in every place that takes text which others have written."""
    evidence = Evidence(
        log=(case.text,),
        warnings=(case.text,),
        limits=case.text,
        template_diff=(case.text,),
        revision=case.text,
        pod=case.text,
        image=case.text,
        message=case.text,
        missing=(case.text,),
    )
    pods = (PodRef("web-1", "a", "node-1", "7d4", case.text, 5, AT_S - 300),)
    shown = incident(finding=finding(reason=case.text, notes=(case.text,), pods=pods))
    return report(kind, incident=shown, evidence=evidence, remedies=(replace(DONE, words=case.text),))
