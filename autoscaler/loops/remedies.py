"""Remedies, one at a time: chosen by what the watch says, judged again by what the API server says, noted, and only then carried out.

What is not done has a reason, and each reason is told once, until something is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import Any, NamedTuple, TypeAlias

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.health.assess import Member
from autoscaler.core.health.caps import Attempt, Caps, Ledger, noted
from autoscaler.core.health.facts import Pod
from autoscaler.core.health.findings import Key, PodRef
from autoscaler.core.health.judge import News, glance_at, judge
from autoscaler.core.health.lifecycle import Incident, Phase
from autoscaler.core.health.monitor import Seen, State
from autoscaler.core.health.owners import ordinal
from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.health.remedies import REMEDIES, Act, Allowed, Case, Refusal, Refuse, Remedy, remedy
from autoscaler.core.health.report import Done
from autoscaler.core.health.taxonomy import Cause
from autoscaler.errors import AutoscalerError, StaleViewError, TransientError
from autoscaler.ports import PodActions, Recorder

log = logging.getLogger(__name__)

PODS_TRIED = 20
"""So many pods of an incident are looked at for one that may be removed."""

DONE_KEPT = 10
"""So many remedies of an incident are kept to be told of."""

AGAIN_S, AGAIN_MAX_S = 60.0, 1800.0
"""After a failure an incident is left alone for so long, doubling each time."""

LATE_S = 30.0
"""And for so long when the API server knew of something that the watch has yet to bring."""

HAPPENED_S = 60.0
"""A pod that is still there and not being deleted so long after it was noted has not been removed: a kill of ours came first."""

BREATH_S = 5.0
"""And every other for so long."""

_NOT_REMOVED = "not removed: "

_OBVIOUS = frozenset({Refusal.NO_REMEDY, Refusal.NOT_OPTED_IN})
"""Refusals that follow from the policy alone: reports and the API have them, the log does without."""

_QUIET = _OBVIOUS | {Refusal.CLUSTER_RATE}
"""Refusals that are in the API and the metrics alone: those, and one that is over within a minute."""

_FOR_ALL = _OBVIOUS | {Refusal.NOT_LEADER, Refusal.NOT_SYNCED, Refusal.BREAKER_OPEN, Refusal.NOT_DUE, Refusal.CLUSTER_RATE}
"""Refusals that the incident's other pods would get too."""


class Intent(NamedTuple):
    """A pod that may be removed, as far as the watch knows: for which incident, under which policy."""

    incident: Incident
    ref: PodRef
    spec: HealthSpec


Note: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Saves the ledger now; raises TransientError if that fails."""

Look: TypeAlias = Callable[[], tuple[State, Seen]]
"""The newest pass: time passes while the API server is asked."""

Tell: TypeAlias = Callable[[Incident, Done], None]


@dataclass(frozen=True, slots=True)
class Hands:
    """What remedies are carried out with, and within. ``own``: namespace and name of the pod that we run in."""

    actions: PodActions | None
    clock: Clock
    recorder: Recorder
    caps: Caps = field(default_factory=Caps)
    dry_run: bool = False
    own: tuple[str, str] = ("", "")


@dataclass(slots=True)
class _Failure:
    """What went wrong last with an incident's remedies, how often in a row, and until when it is left alone."""

    until_s: float
    count: int


class Remedies:
    """Keeps the ledger, and what was done or refused for each incident."""

    def __init__(self, hands: Hands, look: Look, note: Note, tell: Tell) -> None:
        self._hands, self._look, self._note, self._tell = hands, look, note, tell
        self.ledger = Ledger()
        self.done: dict[Key, tuple[Done, ...]] = {}
        self._would = Ledger()  # what a dry run would have done: never saved, as nothing has happened
        self._said: dict[Key, set[str]] = {}
        self._failures: dict[Key, _Failure] = {}
        self._rest_until_s = -1.0
        self._own: tuple[str, str] = ("", "")  # uids of the pod that we run in, and of its workload

    def recall(self, ledger: Ledger, done: Mapping[Key, Sequence[Done]]) -> None:
        """Go on from what an earlier process did and refused; what it refused last, or failed with, is not said again."""
        self.ledger, self.done = ledger, {key: tuple(rows) for key, rows in done.items()}
        for key, rows in self.done.items():
            since = next((index for index in range(len(rows), 0, -1) if rows[index - 1].acted), 0)
            said = {refusal.name for each in rows[since:] for refusal in Refusal if each.words.startswith(_words(refusal))}
            failed = {each.words.removeprefix(_NOT_REMOVED) for each in rows[max(since - 1, 0) :] if each.words.startswith(_NOT_REMOVED)}
            self._said[key] = said | failed

    def review(self, state: State, seen: Seen) -> tuple[Intent | None, list[tuple[Incident, Done]]]:
        """The first thing that may be done, if any, and what is newly refused."""
        refused: list[tuple[Incident, Done]] = []
        self._forget(state)
        if not seen.assessment.conclusive:
            return None, refused
        self._find_own(seen)
        self._correct(state)
        intent: Intent | None = None
        for key, incident in state.incidents.items():
            if intent is not None or not _is_ripe(incident, seen.assessment.at_s):
                continue
            reach = seen.reach.of(incident.finding)
            failure = self._failures.get(key)
            if not reach or (failure is not None and self._hands.clock.now() < failure.until_s):
                continue
            found = self._considered(incident, reach[0], state, seen)
            if isinstance(found, Intent):
                intent = found if self._hands.clock.now() >= self._rest_until_s else None
            elif found is not None and (news := self._refused(incident, found)) is not None and found[1].reason not in _QUIET:
                refused.append((incident, news))
        return intent, refused

    def _considered(self, incident: Incident, spec: HealthSpec, state: State, seen: Seen) -> Intent | tuple[PodRef | None, Refuse] | None:
        """The pod to remove, or the first one and why not; None: there is nothing new to say."""
        cause = incident.finding.cause
        choice = spec.remedies.get(REMEDIES.get(cause, ""), Remedy.REPORT)
        if cause not in REMEDIES:
            return None, Refuse(Refusal.NO_REMEDY)
        if choice is Remedy.REPORT or self._hands.actions is None:
            return None, Refuse(Refusal.NOT_OPTED_IN)
        members = {each.judged.pod.uid: each for each in seen.assessment.workloads.get(incident.finding.subject.uid, ())}
        first: tuple[PodRef, Refuse] | None = None
        for ref in _candidates(incident, members, self._would if self._hands.dry_run else Ledger()):
            member = members[ref.uid]
            found = self._judged(Intent(incident, ref, spec), member.judged.pod, member.judged.causes, state, seen)
            if isinstance(found, Act):
                return Intent(incident, ref, spec)
            first = first or (ref, found)
            if found.reason in _FOR_ALL:
                break
        return first

    def _judged(self, intent: Intent, fresh: Pod | None, shows: frozenset[Cause], state: State, seen: Seen) -> Act | Refuse:
        """Whether to act on a pod that looks like this."""
        finding, facts = intent.incident.finding, seen.facts
        members = seen.assessment.workloads.get(finding.subject.uid, ())
        controllers = facts.controllers or {}
        workload = controllers.get(finding.subject.uid)
        reference = None if fresh is None else fresh.owner
        case = Case(
            at_s=self._hands.clock.now(),
            finding=finding,
            ref=intent.ref,
            fresh=fresh,
            shows=shows,
            owner=None if reference is None else controllers.get(reference.uid),
            siblings=[each.judged.pod for each in members if each.judged.pod.uid != intent.ref.uid],
            node=None if fresh is None or facts.nodes is None else facts.nodes.get(fresh.node),
            rollout=seen.assessment.rollouts.get(finding.subject.uid),
            paused=workload is not None and workload.paused,
            breakers=state.breakers,
            ledger=self._would if self._hands.dry_run else self.ledger,
        )
        return remedy(case, self._allowed(intent, seen))

    def _allowed(self, intent: Intent, seen: Seen) -> Allowed:
        """Of our own workload no pod is removed, not even one that is another than ours."""
        ours = intent.incident.finding.subject.uid == self._own[1]
        return Allowed(
            remedies=intent.spec.remedies,
            daemon_sets=intent.spec.daemon_sets,
            caps=replace(self._hands.caps, workload_hour=intent.spec.per_workload_hour),
            waits=intent.spec.waits,
            leader=True,
            synced=seen.facts.synced,
            own_uid=intent.ref.uid if ours else self._own[0],
        )

    async def carry_out(self, intent: Intent) -> None:
        """Read the pod, judge it again, note it, and remove it; whatever comes of that is told."""
        actions, key = self._hands.actions, intent.incident.finding.key
        if actions is None:
            return
        try:
            fresh = await actions.read(intent.incident.finding.subject.namespace, intent.ref.name)
        except AutoscalerError as error:
            self._failed(intent, f"it could not be read first: {error}")
            return
        state, seen = self._look()
        incident = state.incidents.get(key)
        if incident is None or not isnan(incident.absent_s):
            self._tell_refused(intent, Refuse(Refusal.RECOVERED))
            return
        ref = next((each for each in incident.finding.pods if each.uid == intent.ref.uid), intent.ref)
        intent = Intent(incident, ref, intent.spec)
        found = self._judged(intent, fresh, self._shows(fresh, intent, state, seen), state, seen)
        if isinstance(found, Refuse) or fresh is None:
            self._tell_refused(intent, found if isinstance(found, Refuse) else Refuse(Refusal.POD_GONE))
            return
        await self._act(actions, intent, found, fresh)

    def _shows(self, fresh: Pod | None, intent: Intent, state: State, seen: Seen) -> frozenset[Cause]:
        """What is still wrong with the pod as just read, by what is remembered of it."""
        member = state.memory.members.get(intent.ref.uid)
        if fresh is None or member is None or fresh.uid != intent.ref.uid:
            return frozenset()
        news = News(self._hands.clock.now(), state.memory.at_s, state.memory.baseline_s)
        glance = glance_at(fresh, news, intent.spec.waits, seen.facts.events.get(fresh.uid, ()))
        return judge(fresh, member.judged, glance).causes

    async def _act(self, actions: PodActions, intent: Intent, act: Act, fresh: Pod) -> None:
        subject, now_s, dry_run = intent.incident.finding.subject, self._hands.clock.now(), self._hands.dry_run
        number = ordinal(fresh) if fresh.owner is not None and fresh.owner.kind == "StatefulSet" else -1
        attempt = Attempt(now_s, subject.uid, "" if fresh.owner is None else fresh.owner.uid, fresh.uid, number)
        if dry_run:
            self._would = noted(self._would, attempt, self._hands.caps)
        else:
            self.ledger = noted(self.ledger, attempt, self._hands.caps)
        try:
            if not dry_run:
                await self._note()
            await actions.remove(act, dry_run=dry_run)
        except StaleViewError as error:
            self._take_back(attempt)
            self._tell_refused(intent, Refuse(Refusal.CHANGED, str(error)))
        except AutoscalerError as error:
            if not isinstance(error, TransientError) or await self._is_still_there(actions, act):
                self._take_back(attempt)
            self._failed(intent, str(error))
        else:
            self._failures.pop(intent.incident.finding.key, None)
            verb = "evicted" if act.eviction else "deleted"
            self._record(intent, f"{'would be ' if dry_run else ''}{verb}: {act.why}", "would" if dry_run else "done", acted=True)

    async def _is_still_there(self, actions: PodActions, act: Act) -> bool:
        """Whether a removal whose answer is a failure has not happened; where that is not known, it counts as done."""
        try:
            pod = await actions.read(act.namespace, act.pod)
        except AutoscalerError:
            return False
        return pod is not None and pod.uid == act.uid and not pod.leaving

    def _take_back(self, attempt: Attempt) -> None:
        """It has not happened, so it takes nothing from what may be done."""
        self.ledger = Ledger(tuple(each for each in self.ledger.attempts if each != attempt))
        self._would = Ledger(tuple(each for each in self._would.attempts if each != attempt))

    def _refused(self, incident: Incident, found: tuple[PodRef | None, Refuse]) -> Done | None:
        """A record of a refusal, unless it was refused for that before."""
        (ref, refuse), key = found, incident.finding.key
        if refuse.reason.name in self._said.setdefault(key, set()):
            return None
        self._said[key].add(refuse.reason.name)
        cause, subject = incident.finding.cause, incident.finding.subject
        self._hands.recorder.add(metrics.REMEDIES, str(cause), "refused", refuse.reason.name)
        words = _words(refuse.reason) + (f" ({refuse.detail})" if refuse.detail else "")
        done = Done(self._hands.clock.now(), "" if ref is None else ref.name, cause, acted=False, dry_run=self._hands.dry_run, words=words)
        self.done[key] = (*self.done.get(key, ()), done)[-DONE_KEPT:]
        if refuse.reason not in _QUIET:
            fields = {"subject": str(subject), "cause": str(cause), "pod": done.pod, "reason": refuse.reason.name}
            log.info("%s, %s: %s", subject, cause, words, extra={"fields": fields})
        return done

    def _tell_refused(self, intent: Intent, refuse: Refuse) -> None:
        """What the watch does not know yet is not asked for again at once."""
        key, now_s = intent.incident.finding.key, self._hands.clock.now()
        failure = self._failures.get(key, _Failure(0.0, 0))
        self._failures[key] = _Failure(now_s + LATE_S, failure.count)
        done = self._refused(intent.incident, (intent.ref, refuse))
        if done is not None:
            self._tell(intent.incident, done)

    def _failed(self, intent: Intent, problem: str) -> None:
        """Say what went wrong, and leave the incident alone for a while."""
        key, now_s = intent.incident.finding.key, self._hands.clock.now()
        count = self._failures[key].count + 1 if key in self._failures else 1
        self._failures[key] = _Failure(now_s + min(AGAIN_S * 2.0 ** (count - 1), AGAIN_MAX_S), count)
        self._rest_until_s = now_s + BREATH_S
        if problem in self._said.get(key, ()):
            self._hands.recorder.add(metrics.REMEDIES, str(intent.incident.finding.cause), "failed", "")
        else:
            self._record(intent, f"{_NOT_REMOVED}{problem}", "failed", acted=True)
            self._said[key].add(problem)

    def _record(self, intent: Intent, words: str, outcome: str, *, acted: bool) -> None:
        finding, now_s, dry_run = intent.incident.finding, self._hands.clock.now(), self._hands.dry_run
        self._said[finding.key] = set()
        self._hands.recorder.add(metrics.REMEDIES, str(finding.cause), outcome, "")
        done = Done(now_s, intent.ref.name, finding.cause, acted=acted, dry_run=dry_run, words=words)
        self.done[finding.key] = (*self.done.get(finding.key, ()), done)[-DONE_KEPT:]
        fields = {"subject": str(finding.subject), "cause": str(finding.cause), "pod": done.pod, "outcome": outcome, "dry_run": dry_run}
        log.warning("%s, %s: pod %s %s", finding.subject, finding.cause, done.pod, words, extra={"fields": fields})
        self._tell(intent.incident, done)

    def _find_own(self, seen: Seen) -> None:
        """Which of the pods is the one that we run in, looked for until it is found."""
        if not any(self._hands.own) or self._own[0] in seen.assessment.alive:
            return
        for uid, members in seen.assessment.workloads.items():
            for each in members:
                if (each.judged.pod.namespace, each.judged.pod.name) == self._hands.own:
                    self._own = each.judged.pod.uid, uid

    def _correct(self, state: State) -> None:
        """Take back what was noted and did not happen."""
        latest_s, members = self._hands.clock.now() - HAPPENED_S, state.memory.members
        for attempt in self.ledger.attempts:
            member = members.get(attempt.pod)
            if member is not None and not member.judged.pod.leaving and attempt.at_s <= latest_s:
                log.info("pod %s was to be removed, and is still there: that takes nothing from the caps", member.judged.pod.name)
                self._take_back(attempt)

    def _forget(self, state: State) -> None:
        """What is kept of incidents goes with them."""
        for kept in (self.done, self._said, self._failures):
            for key in kept.keys() - state.incidents.keys():
                del kept[key]


def _is_ripe(incident: Incident, at_s: float) -> bool:
    """It fires, and shows right now; after a restart of ours that takes a while."""
    return incident.phase in {Phase.FIRING, Phase.FLAPPING} and isnan(incident.absent_s) and incident.finding.is_due(at_s)


def _words(reason: Refusal) -> str:
    return f"nothing is done: {reason}"


def _candidates(incident: Incident, members: Mapping[str, Member], tried: Ledger) -> Iterator[PodRef]:
    """The incident's pods that are there, the worst first; without those that a dry run would have removed already."""
    gone = {each.pod for each in tried.attempts}
    there = [ref for ref in incident.finding.pods if ref.uid in members and ref.uid not in gone]
    yield from sorted(there, key=lambda ref: (-ref.restarts, ref.since_s, ref.name))[:PODS_TRIED]
