"""From facts to findings: one for each workload, container and cause, whatever the number of pods and restarts.

``assess(memory, facts) -> (memory, Assessment)`` is pure. A pass costs little where nothing has changed: a pod whose facts are the same
object as before, and that showed nothing, is not judged again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from math import inf, isnan, nan

from autoscaler.core.health.facts import Condition, Controller, Facts, Pod, Subject, condition, past
from autoscaler.core.health.findings import Finding, Key, Moments, PodRef, WaitsOf
from autoscaler.core.health.judge import Judged, News, Symptom, glance_at, judge
from autoscaler.core.health.nodes import NODE_CAUSES, judge_nodes
from autoscaler.core.health.owners import Owners, Rollout, ordinal, owners_of
from autoscaler.core.health.taxonomy import CRASHES, Cause, Waits

BROKEN = CRASHES | {Cause.IMAGE_PULL, Cause.BAD_IMAGE, Cause.CONFIG, Cause.CREATING, Cause.UNREADY}
"""Causes for which a pod does no work."""

EMPTY_BELIEVED_S = 600.0
"""So long must no pod be there, where some were, until that is believed."""

_SCALE_UP_S = 600.0
"""Pods that are made within this time after a scale-up of ours are taken for its own."""

_SKEW_S = 5.0

_PASSING = frozenset({Cause.KILLED, Cause.HOOK})

_NOTHING: frozenset[tuple[str, Cause]] = frozenset()
_STANDARD = Waits()


@dataclass(frozen=True, slots=True)
class Member:
    """A pod of a workload, as judged; ``came_s``: when it was first seen."""

    subject: Subject
    via: Controller | None
    judged: Judged
    came_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What assessing remembers from pass to pass. It need not outlive the process: see :func:`begin`.

    ``baseline_s``: what had happened up to then is no news; ``began_s``: when the first pass was; ``since``: when findings that nothing
    dates were first seen; ``known``: of incidents from an earlier life of ours, those whose cause only events or a moment show.
    """

    baseline_s: float = nan
    at_s: float = nan
    members: Mapping[str, Member] = field(default_factory=dict)
    since: Mapping[tuple[str, Cause], float] = field(default_factory=dict)
    empty_since_s: float = nan
    began_s: float = nan
    known: Mapping[str, frozenset[tuple[str, Cause]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is wrong at ``at_s``.

    ``workloads``: the pods of each by its subject's uid, those on lost nodes included; ``lost``: uids of pods on nodes that do not answer.
    ``alive``: uids of all subjects and pods that there are. Nothing may be concluded from an absence unless ``conclusive``: the facts
    were not ``synced``, or pods are gone all at once, which ``emptied`` says.
    """

    at_s: float
    findings: tuple[Finding, ...] = ()
    workloads: Mapping[str, Sequence[Member]] = field(default_factory=dict)
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    alive: frozenset[str] = frozenset()
    conclusive: bool = True
    emptied: bool = False

    def due(self) -> tuple[Finding, ...]:
        """Those that open incidents."""
        return tuple(each for each in self.findings if each.is_due(self.at_s))


def begin(as_of_s: float = nan, incidents: Iterable[Key] = ()) -> Memory:
    """At the start: what happened before it is no news; with ``as_of_s``, what happened before we last looked and saved ``incidents``."""
    known: dict[str, set[tuple[str, Cause]]] = defaultdict(set)
    for uid, container, cause in incidents:
        if cause in _PASSING:
            known[uid].add((container, cause))
    return Memory(as_of_s, known={uid: frozenset(causes) for uid, causes in known.items()})


def standard_waits(subject: Subject) -> Waits:  # noqa: ARG001 - the same for all
    """Everybody has the defaults."""
    return _STANDARD


def assess(memory: Memory, facts: Facts, waits_of: WaitsOf = standard_waits) -> tuple[Memory, Assessment]:
    """Judge what has changed or may change by time, and put together what belongs together."""
    if not facts.synced:
        return memory, Assessment(facts.at_s, conclusive=False)
    if memory.members and not facts.pods:
        since_s = facts.at_s if isnan(memory.empty_since_s) else memory.empty_since_s
        if facts.at_s - since_s < EMPTY_BELIEVED_S:
            return replace(memory, empty_since_s=since_s), Assessment(facts.at_s, conclusive=False, emptied=True)
    baseline_s = facts.at_s if isnan(memory.baseline_s) else memory.baseline_s
    news = News(facts.at_s, memory.at_s, baseline_s)
    owners = owners_of(facts)
    members: dict[str, Member] = {}
    workloads: dict[str, list[Member]] = defaultdict(list)
    for pod in facts.pods:
        member = _member(pod, memory, facts, owners, news, waits_of)
        if member is not None:
            members[pod.uid] = member
            workloads[member.subject.uid].append(member)
    began_s = facts.at_s if isnan(memory.began_s) else memory.began_s
    moments = Moments(facts.at_s, baseline_s, began_s, memory.since)
    lost, findings = judge_nodes(facts, [member.judged for member in members.values()], moments, waits_of)
    scene = _Scene(facts, owners, moments, waits_of, workloads)
    rollouts = scene.rollouts()
    found = scene.workload_findings(lost, rollouts)
    found += scene.controllers(found, rollouts, lost)
    findings = sorted([*findings, *found], key=lambda each: (each.subject, each.container, each.cause))
    alive = frozenset([*members, *workloads, *_others_alive(facts)])
    assessment = Assessment(facts.at_s, tuple(findings), workloads, rollouts, frozenset(lost), alive)
    return Memory(baseline_s, facts.at_s, members, moments.kept, began_s=began_s), assessment


def _others_alive(facts: Facts) -> Iterator[str]:
    """The uids of controllers, of their owners, and of nodes; of a node that may not be read, its name."""
    for uid, each in (facts.controllers or {}).items():
        yield uid
        if each.owner is not None:
            yield each.owner.uid
    if facts.nodes is None:
        yield from {pod.node for pod in facts.pods if pod.node}
    else:
        yield from (node.uid or name for name, node in facts.nodes.items())


def _member(pod: Pod, memory: Memory, facts: Facts, owners: Owners, news: News, waits_of: WaitsOf) -> Member | None:
    before, controllers = memory.members.get(pod.uid), facts.controllers
    via = controllers.get(pod.owner.uid) if controllers and pod.owner is not None else None
    if before is not None and before.judged.pod is pod and before.via is via:
        subject: Subject | None = before.subject
        if before.judged.quiet and pod.uid not in facts.events:
            return before
    else:
        # Whose pod it was it stays, though its ReplicaSet may be missing from a view for a moment.
        subject = owners.subject(pod) or (None if before is None else before.subject)
    if subject is None:
        return None
    glance = glance_at(pod, news, waits_of(subject), facts.events.get(pod.uid, ()), memory.known.get(subject.uid, _NOTHING))
    came_s = facts.at_s if before is None else before.came_s
    return Member(subject, via, judge(pod, None if before is None else before.judged, glance), came_s)


class _Scene:
    """One pass: everything that findings are put together from."""

    def __init__(
        self, facts: Facts, owners: Owners, moments: Moments, waits_of: WaitsOf, workloads: Mapping[str, Sequence[Member]]
    ) -> None:
        self.facts, self.owners, self.moments, self.waits_of, self.workloads = facts, owners, moments, waits_of, workloads
        self.came_s = {each.judged.pod.uid: each.came_s for members in workloads.values() for each in members if each.judged.symptoms}

    def rollouts(self) -> dict[str, Rollout]:
        """The rollout of each workload that has pods, by its uid."""
        found = {}
        for uid in self.workloads:
            controller = (self.facts.controllers or {}).get(uid)
            rollout = None if controller is None else self.owners.rollout(controller)
            if rollout is not None:
                found[uid] = rollout
        return found

    def workload_findings(self, lost: set[str], rollouts: Mapping[str, Rollout]) -> list[Finding]:
        """What pods show, by workload, container and cause; those on lost nodes show nothing that can be believed."""
        findings = []
        for uid, members in self.workloads.items():
            groups: dict[tuple[str, Cause], list[tuple[Pod, Symptom]]] = defaultdict(list)
            for member in members:
                pod = member.judged.pod
                if member.judged.symptoms and pod.uid not in lost:
                    for symptom in member.judged.symptoms:
                        if symptom.cause not in NODE_CAUSES:
                            groups[symptom.container, symptom.cause].append((pod, self._in_rollout(pod, symptom, rollouts.get(uid))))
            if not groups:
                continue
            subject = members[0].subject
            active = {member.judged.pod.uid for member in members if member.judged.pod.active}
            findings += [self._finding(subject, name, group, active) for name, group in groups.items()]
            wedged = self._wedged(subject, groups)
            if wedged is not None:
                findings.append(replace(wedged, of=len(active)))
        return findings

    @staticmethod
    def _in_rollout(pod: Pod, symptom: Symptom, rollout: Rollout | None) -> Symptom:
        """A rollout is told of by its new revision: what it replaces anyway opens nothing, unless the rollout is stuck."""
        if rollout is None or not rollout.progressing or rollout.stuck is not None:
            return symptom
        replaced = bool(pod.revision) and pod.revision != rollout.revision and symptom.cause is not Cause.TERMINATING
        return symptom._replace(due_s=inf) if replaced else symptom

    def _finding(
        self, subject: Subject, name: tuple[str, Cause], group: Sequence[tuple[Pod, Symptom]], active: AbstractSet[str]
    ) -> Finding:
        container, cause = name
        refs = sorted(
            PodRef(pod.name, pod.uid, pod.node, pod.revision, _image(pod, container), symptom.restarts, symptom.since_s)
            for pod, symptom in group
        )
        said = Counter((symptom.reason, symptom.exit_code) for _, symptom in group)
        reason, code = max(said, key=lambda each: (said[each], each))
        since_s = min(symptom.since_s for _, symptom in group)
        notes = {symptom.note for _, symptom in group if symptom.note} | self._notes(subject, cause, group)
        return Finding(
            subject,
            container,
            cause,
            since_s,
            min(symptom.due_s for _, symptom in group),
            tuple(refs),
            len(active | {pod.uid for pod, _ in group}),  # a pod that has failed or is leaving is not active
            reason,
            code,
            tuple(sorted(notes)),
            preexisting=self.moments.is_old(since_s, min(self.came_s[pod.uid] for pod, _ in group)),
        )

    def _notes(self, subject: Subject, cause: Cause, group: Sequence[tuple[Pod, Symptom]]) -> set[str]:
        scaled = self.facts.scale_ups.get(subject.uid)
        if cause is not Cause.UNSCHEDULABLE or scaled is None:
            return set()
        ours = sum(scaled.at_s - _SKEW_S <= pod.created_s <= scaled.at_s + _SCALE_UP_S for pod, _ in group)
        return {f"{ours} of these pods came with our scale-up from {scaled.before:g} to {scaled.after:g}"} if ours else set()

    def _wedged(self, subject: Subject, groups: Mapping[tuple[str, Cause], Sequence[tuple[Pod, Symptom]]]) -> Finding | None:
        """Broken pods of an old revision that the StatefulSet would replace, were it not waiting for them to become Ready."""
        owner = (self.facts.controllers or {}).get(subject.uid)
        if owner is None or owner.kind != "StatefulSet" or not owner.update_revision or owner.strategy == "OnDelete":
            return None
        pods: dict[str, Pod] = {}
        shown: set[str] = set()
        for (container, cause), group in groups.items():
            for pod, _ in group:
                old = bool(pod.revision) and pod.revision != owner.update_revision
                if cause in BROKEN and old and ordinal(pod) >= owner.partition and pod.active:
                    pods[pod.uid] = pod
                    shown.add(f"{cause} in {container}" if container else str(cause))
        if not pods:
            return None
        since = {uid: self.moments.first(uid, Cause.WEDGED) for uid in pods}
        refs = tuple(sorted(PodRef(pod.name, uid, pod.node, pod.revision, since_s=since[uid]) for uid, pod in pods.items()))
        since_s = min(since.values())
        due_s = since_s + self.waits_of(subject).wedged_s
        notes = (f"the newest revision is {owner.update_revision}", f"pods of the old one show {', '.join(sorted(shown))}")
        is_old = self.moments.is_old(since_s, since_s)
        return Finding(subject, "", Cause.WEDGED, since_s, due_s, refs, 0, "", -1, notes, is_old)

    def controllers(self, found: list[Finding], rollouts: Mapping[str, Rollout], lost: AbstractSet[str]) -> list[Finding]:
        """What controllers say themselves; a stuck rollout is told with the findings of its pods, which change, where these say why.

        While some of its pods are on a lost node, what they say is not known, and the rollout is no news of its own.
        """
        findings = []
        jobs: dict[str, Controller] = {}
        places: dict[Subject, list[int]] = defaultdict(list)
        for place, finding in enumerate(found):
            places[finding.subject].append(place)
        for each in (self.facts.controllers or {}).values():
            if each.leaving:
                continue
            if each.kind == "Job":
                subject = _job_subject(each)
                if subject.uid not in jobs or each.created_s > jobs[subject.uid].created_s:
                    jobs[subject.uid] = each
                continue
            failed = condition(each.conditions, "ReplicaFailure")
            if failed is not None and failed.status == "True" and (each.kind == "Deployment" or each.owner is None):
                findings.append(self._own(each.subject, Cause.CREATE_FAILED, failed))
            rollout = (rollouts.get(each.uid) or self.owners.rollout(each)) if each.kind == "Deployment" else None
            if rollout is not None and rollout.stuck is not None:
                own = [place for place in places.get(each.subject, ()) if rollout.revision in found[place].revisions]
                stuck = self._stuck(each.subject, rollout.stuck, found, own)
                hidden = any(member.judged.pod.uid in lost for member in self.workloads.get(each.uid, ()))
                findings += [replace(finding, due_s=inf) if hidden else finding for finding in stuck]
        for job in jobs.values():
            failed = condition(job.conditions, "Failed")
            if failed is not None and failed.status == "True":
                findings.append(self._own(_job_subject(job), Cause.JOB, failed))
        return findings

    def _stuck(self, subject: Subject, stuck: Condition, found: list[Finding], mine: list[int]) -> list[Finding]:
        """A rollout that was stuck before its pods were due for being unready tells of that; whatever else is due tells of the rollout.

        ``mine``: where among those found the findings of its revision stand.
        """
        late = {index for index in mine if found[index].cause is Cause.UNREADY and found[index].due_s > stuck.since_s}
        telling = [index for index in mine if index not in late and found[index].is_due(self.moments.at_s)]
        note = f"its rollout is stuck ({stuck.reason}): consider `kubectl rollout undo`"
        for index in telling:
            found[index] = replace(found[index], notes=(*found[index].notes, note))
        for index in late if telling else mine:
            found[index] = replace(found[index], due_s=inf)
        return [] if telling else [replace(self._own(subject, Cause.ROLLOUT, stuck), notes=(note,))]

    def _own(self, subject: Subject, cause: Cause, said: Condition) -> Finding:
        since_s = past(said.since_s, self.moments.at_s, self.moments.first(subject.uid, cause))
        due_s = since_s + self.waits_of(subject).of(cause)
        active = sum(member.judged.pod.active for member in self.workloads.get(subject.uid, ()))
        is_old = self.moments.is_old(since_s, self.moments.first(subject.uid, cause))
        return Finding(subject, "", cause, since_s, due_s, (), active, said.reason, preexisting=is_old)


def _job_subject(job: Controller) -> Subject:
    """A CronJob's Jobs are one workload, of which the newest counts."""
    if job.owner is not None and job.owner.kind == "CronJob":
        return Subject(job.owner.kind, job.namespace, job.owner.name, job.owner.uid)
    return job.subject


def _image(pod: Pod, container: str) -> str:
    return next((each.image for each in pod.containers if each.name == container), "")
