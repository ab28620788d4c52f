"""Nodes that do not answer, or lost track of containers: one finding for each, and none for the pods on it, whose status is old."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from autoscaler.core.health.facts import Condition, Facts, Node, Pod, Subject, condition, past
from autoscaler.core.health.findings import Finding, Moments, PodRef, WaitsOf
from autoscaler.core.health.judge import Judged, Symptom
from autoscaler.core.health.taxonomy import Cause

NODE_CAUSES = (Cause.NODE_LOST, Cause.LOST_STATUS)

UNREADABLE = "the node's own conditions may not be read"


def judge_nodes(facts: Facts, pods: Sequence[Judged], moments: Moments, waits_of: WaitsOf) -> tuple[set[str], list[Finding]]:
    """The uids of pods on nodes that do not answer or are gone, and the findings of nodes.

    Without access to nodes only what pods themselves say of them is known.
    """
    on_node: dict[str, list[Judged]] = defaultdict(list)
    for each in pods:
        if each.pod.node:
            on_node[each.pod.node].append(each)
    lost: set[str] = set()
    findings: list[Finding] = []
    for name, there in on_node.items():
        node = Node(name) if facts.nodes is None else facts.nodes.get(name)
        silent = None if node is None else _silence(node)
        if node is None or silent is not None:
            lost.update(each.pod.uid for each in there)
        if node is not None and silent is not None:
            findings.append(_finding(node, Cause.NODE_LOST, silent, [each.pod for each in there], moments, waits_of))
        elif node is not None:
            notes = () if facts.nodes is not None else (UNREADABLE,)
            findings += [_noted(each, notes) for each in _told_by_pods(node, there, moments, waits_of)]
    return lost, findings


def _silence(node: Node) -> Condition | None:
    """Why a node counts as not answering; a condition that is not there yet says nothing."""
    ready = condition(node.conditions, "Ready")
    if ready is not None and ready.status != "True":
        return ready
    return Condition("Ready", "Unknown", "unreachable") if node.unreachable else None


def _told_by_pods(node: Node, there: Sequence[Judged], moments: Moments, waits_of: WaitsOf) -> Iterator[Finding]:
    told: Mapping[Cause, list[tuple[Pod, Symptom]]] = {cause: [] for cause in NODE_CAUSES}
    for each in there:
        for symptom in each.symptoms:
            if symptom.cause in told:
                told[symptom.cause].append((each.pod, symptom))
    for cause, said in told.items():
        if said:
            first = min((symptom for _, symptom in said), key=lambda each: each.since_s)
            reason = Condition("Ready", "Unknown", first.reason, first.since_s)
            yield _finding(node, cause, reason, [pod for pod, _ in said], moments, waits_of)


def _finding(node: Node, cause: Cause, reason: Condition, pods: Sequence[Pod], moments: Moments, waits_of: WaitsOf) -> Finding:
    subject = Subject("Node", "", node.name, node.uid or node.name)
    since_s = past(reason.since_s, moments.at_s, moments.first(subject.uid, cause))
    refs = tuple(sorted(PodRef(pod.name, pod.uid, pod.node, pod.revision) for pod in pods))
    return Finding(
        subject,
        "",
        cause,
        since_s,
        since_s + waits_of(subject).of(cause),
        refs,
        len(pods),
        reason.reason,
        preexisting=moments.is_old(since_s, moments.first(subject.uid, cause)),
    )


def _noted(finding: Finding, notes: tuple[str, ...]) -> Finding:
    return replace(finding, notes=notes) if notes else finding
