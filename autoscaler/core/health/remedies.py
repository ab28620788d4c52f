"""Whether to act on a pod: ``remedy(case) -> Act | Refuse``. Everything must speak for it; each thing that does not has a name.

The kubelet restarts containers already, so a new pod helps only where the fault lies in the pod or its place. By eviction first, which
honours PodDisruptionBudgets; deletion is the user's explicit choice. What is acted upon is the pod as just read, by uid and version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.core.health.breaker import Breakers
from autoscaler.core.health.caps import Caps, Ledger, back_off_s, is_of_lineage, replacements
from autoscaler.core.health.facts import Controller, Node, Pod, condition
from autoscaler.core.health.findings import Finding, PodRef
from autoscaler.core.health.owners import Rollout
from autoscaler.core.health.taxonomy import CRASHES, Cause, Waits


class Remedy(StrEnum):
    """What a policy allows for a cause: nothing but reports, a new pod by eviction, or a new pod by deletion."""

    REPORT = "report"
    RESTART = "restart"
    DELETE = "delete"


REMEDIES: Mapping[Cause, str] = {
    Cause.CRASH_LOOP: "crashLoop",
    Cause.WEDGED: "wedgedStatefulSet",
    Cause.CREATING: "stuckCreating",
    Cause.UNREADY: "unready",
    Cause.FAILED: "failedPod",
}
"""The causes that a new pod may help with, by their names in ``HealthPolicy.spec.remedies``."""

CRASH_RESTARTS_MIN = 5


class Refusal(StrEnum):
    """Why nothing is done."""

    NO_REMEDY = "a new pod does not help with this"
    NOT_OPTED_IN = "the policy says report"
    NOT_LEADER = "another replica of this service leads"
    NOT_SYNCED = "the view of the cluster is not complete and fresh"
    BREAKER_OPEN = "the breaker is open"
    NOT_DUE = "it has not lasted long enough to be an incident"
    POD_GONE = "the pod is gone"
    CHANGED = "the pod is not the one that was judged: it has been made anew"
    RECOVERED = "the pod as just read does not show it any more"
    TERMINATING = "the pod is being deleted"
    READY = "the pod is Ready"
    SELF = "it is this service's own pod"
    MIRROR = "it is a node's own (static) pod: deleting its mirror changes nothing"
    CRITICAL = "it is critical for the system"
    BARE = "no controller owns the pod: deleted, it would be gone for good"
    OWNER_KIND = "its controller makes no new pod that helps"
    OWNER_GONE = "its controller is not there any more, or another one has its name"
    DAEMON_SET = "a DaemonSet's new pod comes to the same node, and the policy does not include them"
    RESTART_POLICY = "its restartPolicy is not Always"
    NODE_UNKNOWN = "its node's state is not known"
    NODE_NOT_READY = "its node is not Ready"
    ROLLOUT = "a rollout is going on, or is paused"
    TOO_FEW_RESTARTS = "it has restarted fewer than five times"
    TOO_EARLY = "it has not lasted long enough for that"
    NO_SIBLING_ELSEWHERE = "no sibling runs on another node, so another place is not known to help"
    MAJORITY = "most of the workload's pods have it: the fault is not in this pod"
    LINEAGE = "the pod is there in place of one that was removed before"
    IN_FLIGHT = "the last removed pod of this workload has no replacement yet"
    NOT_REPLACED = "the replacement of the last removed pod is not Ready"
    BACK_OFF = "the workload's back-off after the last remedy has not passed"
    WORKLOAD_CAP = "the workload has had its remedies of this hour"
    CLUSTER_RATE = "there was one in the cluster within the last minute"


@dataclass(frozen=True, slots=True)
class Act:
    """What to do: POST an eviction, or DELETE, with both preconditions. 409 means that it changed: skip."""

    eviction: bool
    namespace: str
    pod: str
    uid: str
    resource_version: str
    why: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Why not; ``detail`` where the reason alone does not say enough."""

    reason: Refusal
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the policy and the state of the service allow. ``remedies`` by :data:`REMEDIES` names; absent: report."""

    remedies: Mapping[str, Remedy] = field(default_factory=dict)
    daemon_sets: bool = False
    caps: Caps = field(default_factory=Caps)
    waits: Waits = field(default_factory=Waits)
    leader: bool = False
    synced: bool = False
    own_uid: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One pod of a finding, and all that bears on it.

    ``judged``: the pod as it was judged; ``fresh``: as just read (None: it is gone), and ``shows``: what is still wrong with it, judged
    again; ``owner``: the live controller that its owner reference names; ``siblings``: the other pods of the workload; ``node`` None:
    not known.
    """

    at_s: float
    finding: Finding
    ref: PodRef
    fresh: Pod | None
    shows: frozenset[Cause]
    owner: Controller | None
    siblings: Sequence[Pod]
    node: Node | None
    rollout: Rollout | None
    paused: bool
    breakers: Breakers
    ledger: Ledger


def remedy(case: Case, allowed: Allowed) -> Act | Refuse:
    """Act, or the first reason not to. The order goes from what the user decided to what changes by the second."""
    choice = allowed.remedies.get(REMEDIES.get(case.finding.cause, ""), Remedy.REPORT)
    for check in (_by_choice, _by_service, _by_pod, _by_owner, _by_place, _by_cause, _by_caps):
        refused = next(check(case, allowed), None)
        if refused is not None:
            return refused
    pod = case.fresh
    if pod is None:
        return Refuse(Refusal.POD_GONE)
    restarts = f"{case.ref.restarts} restarts, " if case.ref.restarts else ""
    why = f"{case.finding.cause}: {restarts}for {case.at_s - case.ref.since_s:.0f} s"
    return Act(choice is Remedy.RESTART, pod.namespace, pod.name, pod.uid, pod.resource_version, why)


def _by_choice(case: Case, allowed: Allowed) -> Iterator[Refuse]:
    name = REMEDIES.get(case.finding.cause)
    if name is None:
        yield Refuse(Refusal.NO_REMEDY)
    elif allowed.remedies.get(name, Remedy.REPORT) is Remedy.REPORT:
        yield Refuse(Refusal.NOT_OPTED_IN, f"remedies.{name}: report")


def _by_service(case: Case, allowed: Allowed) -> Iterator[Refuse]:
    if not allowed.leader:
        yield Refuse(Refusal.NOT_LEADER)
    if not allowed.synced:
        yield Refuse(Refusal.NOT_SYNCED)
    breaker = case.breakers.against(case.finding.subject.uid)
    if breaker is not None:
        yield Refuse(Refusal.BREAKER_OPEN, "; ".join(breaker.why))
    if not case.finding.is_due(case.at_s):
        yield Refuse(Refusal.NOT_DUE)


def _by_pod(case: Case, allowed: Allowed) -> Iterator[Refuse]:
    pod = case.fresh
    if pod is None:
        yield Refuse(Refusal.POD_GONE)
        return
    checks = {
        Refusal.CHANGED: pod.uid != case.ref.uid,
        Refusal.TERMINATING: pod.leaving,
        Refusal.READY: pod.is_ready,
        Refusal.SELF: pod.uid == allowed.own_uid,
        Refusal.MIRROR: pod.mirror or (pod.owner is not None and pod.owner.kind == "Node"),
        Refusal.CRITICAL: pod.critical,
        Refusal.BARE: pod.owner is None,
        Refusal.RESTART_POLICY: pod.restart_policy != "Always",
        Refusal.RECOVERED: not _still_shows(case),
    }
    yield from (Refuse(reason) for reason, is_so in checks.items() if is_so)


def _still_shows(case: Case) -> bool:
    """A wedged StatefulSet's pod shows whatever is wrong with it; any crash is one, and what is left of one is Running for a moment."""
    if case.finding.cause is Cause.WEDGED:
        return bool(case.shows)
    return case.finding.cause in case.shows or (case.finding.cause in CRASHES and bool(case.shows & CRASHES))


def _by_owner(case: Case, allowed: Allowed) -> Iterator[Refuse]:
    pod, owner = case.fresh, case.owner
    reference = None if pod is None else pod.owner
    if reference is None or reference.kind not in {"ReplicaSet", "StatefulSet", "DaemonSet"}:
        yield Refuse(Refusal.OWNER_KIND, "" if reference is None else reference.kind)
        return
    if owner is None or owner.uid != reference.uid or owner.leaving:
        yield Refuse(Refusal.OWNER_GONE)
    if reference.kind == "DaemonSet" and not allowed.daemon_sets:
        yield Refuse(Refusal.DAEMON_SET)
    moving = case.paused or (case.rollout is not None and (case.rollout.progressing or case.rollout.stuck is not None))
    if moving and case.finding.cause is not Cause.WEDGED:
        yield Refuse(Refusal.ROLLOUT)


def _by_place(case: Case, allowed: Allowed) -> Iterator[Refuse]:  # noqa: ARG001 - one shape for all checks
    if case.finding.cause is Cause.FAILED:
        return  # its node has ended it already
    ready = None if case.node is None else condition(case.node.conditions, "Ready")
    if case.node is None or ready is None:
        yield Refuse(Refusal.NODE_UNKNOWN, "" if case.fresh is None else case.fresh.node)
    elif ready.status != "True" or case.node.unreachable:
        yield Refuse(Refusal.NODE_NOT_READY, case.node.name)


def _by_cause(case: Case, allowed: Allowed) -> Iterator[Refuse]:
    rule = _RULES.get(case.finding.cause)
    if rule is not None:
        yield from rule(case, allowed.waits)


def _crash_loop(case: Case, waits: Waits) -> Iterator[Refuse]:
    if case.ref.restarts < CRASH_RESTARTS_MIN:
        yield Refuse(Refusal.TOO_FEW_RESTARTS, f"{case.ref.restarts} since it began")
    yield from _lasted(case, waits.crash_loop_remedy_s)


def _creating(case: Case, waits: Waits) -> Iterator[Refuse]:
    yield from _lasted(case, waits.creating_remedy_s)
    node = "" if case.fresh is None else case.fresh.node
    if not any(each.node and each.node != node and each.is_ready for each in case.siblings):
        yield Refuse(Refusal.NO_SIBLING_ELSEWHERE)


def _unready(case: Case, waits: Waits) -> Iterator[Refuse]:  # noqa: ARG001 - one shape for all rules
    if 2 * len(case.finding.pods) >= case.finding.of:
        yield Refuse(Refusal.MAJORITY, f"{len(case.finding.pods)} of {case.finding.of}")


def _failed(case: Case, waits: Waits) -> Iterator[Refuse]:
    yield from _lasted(case, waits.failed_remedy_s)


def _lasted(case: Case, least_s: float) -> Iterator[Refuse]:
    lasted_s = case.at_s - case.ref.since_s
    if not lasted_s >= least_s:
        yield Refuse(Refusal.TOO_EARLY, f"{lasted_s:.0f} of {least_s:.0f} s")


_RULES: Mapping[Cause, Callable[[Case, Waits], Iterator[Refuse]]] = {
    Cause.CRASH_LOOP: _crash_loop,
    Cause.CREATING: _creating,
    Cause.UNREADY: _unready,
    Cause.FAILED: _failed,
}


def _by_caps(case: Case, allowed: Allowed) -> Iterator[Refuse]:
    caps, pod = allowed.caps, case.fresh
    done = [each for each in case.ledger.of(case.finding.subject.uid) if case.at_s - each.at_s < caps.lineage_s]
    if pod is not None and is_of_lineage(pod, done):
        yield Refuse(Refusal.LINEAGE)
    if done:
        last = done[-1]
        came = replacements(last, case.siblings)
        if not came and case.at_s - last.at_s < caps.in_flight_s:
            yield Refuse(Refusal.IN_FLIGHT)
        if came and not any(each.is_ready for each in came):
            yield Refuse(Refusal.NOT_REPLACED)
        if case.at_s - last.at_s < back_off_s(done, caps):
            yield Refuse(Refusal.BACK_OFF, f"{back_off_s(done, caps):.0f} s after {len(done)} in a day")
    if sum(case.at_s - each.at_s < _HOUR_S for each in done) >= caps.workload_hour:
        yield Refuse(Refusal.WORKLOAD_CAP, f"{caps.workload_hour} an hour")
    if any(case.at_s - each.at_s < caps.cluster_s for each in case.ledger.attempts):
        yield Refuse(Refusal.CLUSTER_RATE)


_HOUR_S = 3600.0
