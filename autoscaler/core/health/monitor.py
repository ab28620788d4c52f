"""One pass of the health monitor, whole: facts → findings → incidents → verdicts for the scaling loop → breakers.

``look(state, facts, rules) -> (state, Seen)`` is pure, so a long pass may run in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf, isnan, nan

from autoscaler.core.health.assess import Assessment, Memory, assess, begin
from autoscaler.core.health.breaker import CLUSTER, LIMITS, Breaker, Breakers, Limits, advance_breakers
from autoscaler.core.health.facts import Facts, Subject
from autoscaler.core.health.findings import Finding, Key
from autoscaler.core.health.lifecycle import LIFE, Change, End, Incident, Life, Phase, Told, advance, crashing_since
from autoscaler.core.health.policy import HealthPolicies, HealthSpec
from autoscaler.core.health.taxonomy import Cause
from autoscaler.core.health.verdict import Tracks, Verdict, verdicts


@dataclass(frozen=True, slots=True)
class State:
    """All that the monitor remembers; what of it outlives the process is in :mod:`autoscaler.core.health.saved`."""

    memory: Memory = field(default_factory=begin)
    incidents: Mapping[Key, Incident] = field(default_factory=dict)
    breakers: Breakers = field(default_factory=Breakers)
    tracks: Tracks = field(default_factory=Tracks)


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds in a pass: the policies in use, when the breaker opens, and the times of an incident's life."""

    policies: HealthPolicies = field(default_factory=HealthPolicies)
    limits: Limits = LIMITS
    life: Life = LIFE


class Reach:
    """Which policies a finding of one pass is a matter of: its workload's, and of a node those of the pods on it."""

    def __init__(self, policies: HealthPolicies, facts: Facts, assessment: Assessment) -> None:
        self._policies, self._facts, self._assessment = policies, facts, assessment

    @cached_property
    def _subjects(self) -> Mapping[str, Subject]:
        """The workload of each pod, by its uid."""
        return {each.judged.pod.uid: each.subject for members in self._assessment.workloads.values() for each in members}

    def of(self, finding: Finding) -> tuple[HealthSpec, ...]:
        """In the order of their names; none: nobody wants to be told."""
        controllers = self._facts.controllers
        if finding.subject.kind != "Node":
            spec = self._policies.of(finding.subject, controllers)
            return () if spec is None else (spec,)
        if not self._policies.specs:
            return ()
        there = {self._subjects[pod.uid] for pod in finding.pods if pod.uid in self._subjects}
        found = {(spec.namespace, spec.name): spec for subject in there if (spec := self._policies.of(subject, controllers)) is not None}
        return tuple(found[name] for name in sorted(found))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass came to: ``changes`` of incidents, ``verdicts`` by the workload's uid, and the breakers that ``opened`` and ``closed``.

    Of the two a breaker is named by its workload's uid, or :data:`~autoscaler.core.health.breaker.CLUSTER`. ``memory`` is what the
    pass began with: with it a pod is judged once more as it was judged here.
    """

    facts: Facts
    assessment: Assessment
    memory: Memory
    reach: Reach
    changes: tuple[Change, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


def look(state: State, facts: Facts, rules: Rules) -> tuple[State, Seen]:
    """One pass. Nothing is said of a workload that no policy selects: its incidents live untold until one does."""
    policies, controllers = rules.policies, facts.controllers
    before = state.memory
    if facts.at_s < before.baseline_s:  # our clock was put back: what happens from now on is news all the same
        before = replace(before, baseline_s=facts.at_s)
    memory, assessment = assess(before, facts, lambda subject: policies.waits_of(subject, controllers))
    reach = Reach(policies, facts, assessment)
    incidents, changes = advance(state.incidents, assessment, rules.life, _untold(state.incidents, assessment, reach))
    tracks, found = verdicts(state.tracks, assessment, crashing_since(incidents))
    breakers, opened = advance_breakers(state.breakers, assessment, rules.limits)
    closed = tuple(uid for uid in state.breakers.open if uid not in breakers.open)
    if assessment.conclusive:
        policies.forget(assessment.alive)
    seen = Seen(facts, assessment, state.memory, reach, changes, found, opened, closed)
    return State(memory, incidents, breakers, tracks), seen


def _untold(incidents: Mapping[Key, Incident], assessment: Assessment, reach: Reach) -> dict[str, float]:
    """The subjects of whom nobody wants to be told, for ever. Who was told of a node, or of a workload that is gone, hears the end too."""
    found = {each.subject.uid: each for each in assessment.findings}
    told = set()
    for incident in incidents.values():
        subject = incident.finding.subject
        found.setdefault(subject.uid, incident.finding)
        if not isnan(incident.told.at_s) and (subject.kind == "Node" or subject.uid not in assessment.alive):
            told.add(subject.uid)
    return {uid: inf for uid, finding in found.items() if uid not in told and not reach.of(finding)}


def mass_failure(breaker: Breaker, closed_s: float = nan) -> Incident:
    """The cluster's breaker as people are told of it, like an incident; ``closed_s``: it has closed then."""
    everything = Subject("Cluster", "", "cluster", CLUSTER)
    finding = Finding(everything, "", Cause.MASS_FAILURE, breaker.opened_s, breaker.opened_s, notes=breaker.why)
    incident = Incident(finding, Phase.FIRING, breaker.opened_s, breaker.opened_s, 0.0, breaker.opened_s, told=Told(breaker.opened_s))
    if isnan(closed_s):
        return incident
    hold_s = 0.0 if isnan(breaker.calm_s) else closed_s - breaker.calm_s
    return replace(incident, phase=Phase.RESOLVED, hold_s=hold_s, absent_s=breaker.calm_s, resolved_s=closed_s, end=End.HEALTHY)
