"""The health loop: look at what is known of pods, let incidents live, tell of what has changed, and do something where that helps.

::

    PodWatch ─► facts ─► core.health.monitor.look ─┬─► Report ─► told            (people: evidence and sinks come behind it)
                                                   ├─► Verdicts                  (the scaling loop's health guard)
                                                   └─► Remedies ─► PodActions    (one at a time, noted before it is done)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isnan, nan
from typing import Any, TypeAlias

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.health.assess import Assessment
from autoscaler.core.health.breaker import CLUSTER, LIMITS, Limits
from autoscaler.core.health.caps import Caps
from autoscaler.core.health.facts import Facts, ScaleUp
from autoscaler.core.health.findings import Finding, Key
from autoscaler.core.health.lifecycle import Change, Incident, Kind
from autoscaler.core.health.monitor import Reach, Rules, Seen, State, look, mass_failure
from autoscaler.core.health.policy import HealthPolicies, HealthSpec
from autoscaler.core.health.report import Done, Evidence, Report
from autoscaler.loops import incidents
from autoscaler.loops.health_state import SAVE_EVERY_S, HealthKeeper, Saved
from autoscaler.loops.remedies import Hands, Remedies
from autoscaler.loops.selection import Selection
from autoscaler.loops.verdicts import Verdicts
from autoscaler.ports import PodActions, PodWatch, Recorder, StateStore

log = logging.getLogger(__name__)

PACE_S = 0.5
"""So far apart two passes begin, at least, and twice as far as one takes: what a watch brings is judged within a second."""

TURN_S = 10.0
"""And at most: much becomes due by time alone."""

IN_THREAD = 1000
"""From so many pods on a pass runs in a thread, so that no tick waits for it."""

STUCK_S = 60.0
"""A loop that has not finished a pass for so long does not turn any more."""

_TOGETHER_S = 600.0
"""Scale-ups that follow each other within this time are one."""

Told: TypeAlias = Callable[[Report], None]
"""Takes each turn in an incident's life, and never waits: evidence is gathered and people are told beside the loop.

It gets pending incidents too, as logs are best fetched at first sight. What is ``silent`` is for the record alone. ``evidence`` of a
report is still empty.
"""

_SAID = {
    Kind.FIRED: log.warning,
    Kind.UPDATED: log.warning,
    Kind.FLAPPING: log.warning,
    Kind.REPEATED: log.warning,
    Kind.RESOLVED: log.info,
}


def nobody(report: Report) -> None:
    """Nobody is told."""


def no_evidence(key: Key) -> Evidence | None:
    """None was gathered."""


@dataclass(frozen=True, slots=True)
class Care:
    """What the settings say of health: when the breaker opens, the most that is done in the cluster, and whether anything is done at all.

    ``own``: namespace and name of the pod that we run in, if we do.
    """

    limits: Limits = LIMITS
    caps: Caps = field(default_factory=Caps)
    dry_run: bool = False
    own: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Ward:
    """What the health loop is given. ``scale_ups`` of ours by the workload's uid; ``evidence`` of an incident, as far as it is gathered."""

    pods: PodWatch
    clock: Clock
    recorder: Recorder
    care: Care = field(default_factory=Care)
    actions: PodActions | None = None
    store: StateStore | None = None
    verdicts: Verdicts = field(default_factory=Verdicts)
    told: Told = nobody
    evidence: Callable[[Key], Evidence | None] = no_evidence
    scale_ups: Callable[[], Mapping[str, ScaleUp]] = dict


class HealthLoop:
    """One pass at a time. ``use`` may be called at any time; a pass under way finishes with what it began with."""

    def __init__(self, ward: Ward) -> None:
        self._ward, self._clock, self._recorder = ward, ward.clock, ward.recorder
        self._rules = Rules(limits=ward.care.limits)
        self.state = State()
        self._seen = self._known = _nothing_seen(self._rules)
        care = ward.care
        hands = Hands(ward.actions, ward.clock, ward.recorder, care.caps, care.dry_run, care.own)
        self._keeper = HealthKeeper(ward.store, ward.clock, ward.recorder, self._now)
        self._remedies = Remedies(hands, lambda: (self.state, self._seen), self._keeper.note, self._tell_remedy)
        self._scale_ups: dict[str, ScaleUp] = {}
        self._sinks_of: dict[Key, tuple[str, ...]] = {}
        self._acting: asyncio.Task[None] | None = None
        self._looked_s = self._concluded_s = self._clock.monotonic()
        self._faults: dict[str, str] = {}
        self._selection = Selection(care.own)
        self._recorder.collect(metrics.INCIDENTS, self._series)
        self._recorder.collect(metrics.HEALTH_AGE, lambda: [((), self._clock.monotonic() - self._concluded_s)])
        self._recorder.collect(metrics.BREAKER_OPEN, self._breakers)

    def use(self, specs: Iterable[HealthSpec]) -> None:
        """Follow these policies from the next pass on."""
        self._rules = replace(self._rules, policies=HealthPolicies(specs))
        self._selection.use(self._rules.policies)

    async def run(self) -> None:
        """Turn until cancelled."""
        saved = await self._keeper.read()
        self.state = saved.state
        self._remedies.recall(saved.ledger, saved.done)
        self._looked_s = self._concluded_s = self._clock.monotonic()
        async with asyncio.TaskGroup() as host:
            host.create_task(self._keep_saving(), name="incidents' state")
            await self._turn()

    def _now(self) -> Saved:
        return Saved(self.state, self._remedies.ledger, dict(self._remedies.done))

    async def close(self, seconds: float) -> None:
        """Begin nothing more, and save a last time, within that many seconds."""
        if self._acting is not None:
            self._acting.cancel()
            await asyncio.gather(self._acting, return_exceptions=True)
        await self._keeper.close(seconds)

    async def _keep_saving(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + SAVE_EVERY_S)
            await self._guarded("saving incidents", self._keeper.save())

    async def _turn(self) -> None:
        """One pass after the other; ``news_s``: when the watch told of news (NaN: it is only time that has passed)."""
        news_s = nan
        while True:
            began = self._clock.monotonic()
            await self._guarded("a pass of the health loop", self._pass(news_s))
            self._looked_s, news_s = self._clock.monotonic(), nan
            try:
                async with self._clock.timeout(max(0.0, began + TURN_S - self._clock.monotonic())):
                    await self._ward.pods.changed()
                news_s = self._clock.monotonic()
            except TimeoutError:
                continue
            await self._clock.sleep_until(began + max(PACE_S, 2 * (self._looked_s - began)))

    async def _guarded(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            # The boundary of a pass: what is known stays as it was, and the next one starts from it.
            self._recorder.add(metrics.HEALTH_PASSES_FAILED)
            if repr(error) != self._faults.get(what):
                log.exception("%s failed; incidents stay as they are, and nothing is removed", what)
            self._faults[what] = repr(error)
        else:
            self._faults.pop(what, None)

    async def _pass(self, news_s: float) -> None:
        began = self._clock.monotonic()
        facts = replace(self._ward.pods.facts(self._clock.now()), scale_ups=self._recent_scale_ups())
        if len(facts.pods) < IN_THREAD:
            state, seen = look(self.state, facts, self._rules)
        else:
            state, seen = await asyncio.to_thread(look, self.state, facts, self._rules)
        before, self.state, self._seen = self.state, state, seen
        if seen.assessment.conclusive:
            self._ward.verdicts.publish(seen.verdicts)
            self._concluded_s, self._known = self._clock.monotonic(), seen
            self._selection.check(seen)
        intent, refused = self._remedies.review(state, seen)
        for change in seen.changes:
            self._tell(change)
        for incident, done in refused:
            self._tell_remedy(incident, done)
        self._tell_breakers(before, seen)
        if intent is not None and (self._acting is None or self._acting.done()):
            self._acting = asyncio.create_task(
                self._guarded("a remedy", self._remedies.carry_out(intent)), name=f"remedy for {intent.ref.name}"
            )
        self._sinks_of = {key: sinks for key, sinks in self._sinks_of.items() if key in state.incidents}
        ended = self._clock.monotonic()
        self._recorder.set(metrics.WATCHED_PODS, value=len(facts.pods))
        self._recorder.observe(metrics.HEALTH_PASS_SECONDS, value=ended - began)
        if not isnan(news_s):
            self._recorder.observe(metrics.HEALTH_LATENCY_SECONDS, value=ended - news_s)

    def _recent_scale_ups(self) -> Mapping[str, ScaleUp]:
        """The last of each workload; what follows closely on another belongs to it, so that its pods are told of as ours too."""
        now = self._ward.scale_ups()
        for uid, each in now.items():
            before = self._scale_ups.get(uid)
            if before is not None and before.at_s < each.at_s <= before.at_s + _TOGETHER_S and each.after > before.after:
                self._scale_ups[uid] = before._replace(after=each.after)
            elif before is None or each.at_s > before.at_s + _TOGETHER_S:
                self._scale_ups[uid] = each
        oldest_s = self._clock.now() - 2 * _TOGETHER_S
        self._scale_ups = {uid: each for uid, each in self._scale_ups.items() if uid in now or each.at_s > oldest_s}
        return dict(self._scale_ups)

    def remarks(self) -> list[str]:
        """What people should know of the policies, in sentences."""
        return self._selection.remarks()

    def stuck(self) -> list[str]:
        """Why the loop does not turn any more, in a sentence; empty: it does."""
        late_s = self._clock.monotonic() - self._looked_s
        return [f"the health loop has not finished a pass for {late_s:.0f} s"] if late_s > STUCK_S else []

    def rows(self, readable: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        """Every incident that a policy is for: open ones first, then the newest; in ``readable`` namespaces with what pods have written."""
        found = [(each, self._known.reach.of(each.finding)) for each in incidents.by_importance(self._told_of().values())]
        breaker = self.state.breakers.open.get(CLUSTER)
        if breaker is not None and self._rules.policies.specs:
            found.insert(0, (mass_failure(breaker), self._rules.policies.specs))
        rows = []
        for each, specs in found:
            evidence = self._ward.evidence(each.finding.key)
            row = incidents.row(each, self._remedies.done.get(each.finding.key, ()), map(str, specs), evidence)
            if evidence is not None and each.finding.subject.namespace in readable:
                row |= incidents.withheld(evidence)
            rows.append(row)
        return rows

    def standing(self) -> tuple[Report, ...]:
        """A report of every open incident that has been told of, as of now: for sinks in which what is not repeated expires."""
        now_s = self._clock.now()
        told = [each for each in self._told_of().values() if each.open and not isnan(each.told.at_s)]
        breaker = self.state.breakers.open.get(CLUSTER)
        if breaker is not None:
            told.append(mass_failure(breaker))
        return tuple(self._report(Change(Kind.REPEATED, each, now_s, silent=True)) for each in told)

    def _told_of(self) -> dict[Key, Incident]:
        """The incidents of workloads that a policy selects, and those that have been told of."""
        return {key: each for key, each in self.state.incidents.items() if self._concerns_anybody(each)}

    def _concerns_anybody(self, incident: Incident) -> bool:
        if self._known.reach.of(incident.finding):
            return True
        there = incident.finding.subject.uid in self._known.assessment.alive and incident.finding.subject.kind != "Node"
        return not there and not isnan(incident.told.at_s)

    def _series(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return incidents.series(self._told_of())

    def _breakers(self) -> Iterable[tuple[tuple[str, ...], float]]:
        open_ = self.state.breakers.open
        return [(("cluster",), float(CLUSTER in open_)), (("workload",), float(len(open_.keys() - {CLUSTER})))]

    def _tell(self, change: Change) -> None:
        if change.silent and not self._known.reach.of(change.incident.finding):
            return
        if not change.silent:
            self._log(change)
        self._ward.told(self._report(change))

    def _log(self, change: Change) -> None:
        incident, finding = change.incident, change.incident.finding
        where = f"{finding.subject}, container {finding.container}" if finding.container else str(finding.subject)
        how_many = f" in {len(finding.pods)} of {finding.of} pods" if finding.pods and finding.of else ""
        ending = f" ({incident.end})" if change.kind is Kind.RESOLVED else f": {'; '.join(finding.notes)}" if finding.notes else ""
        fields = {
            "subject": str(finding.subject),
            "container": finding.container,
            "cause": str(finding.cause),
            "kind": str(change.kind),
            "phase": str(incident.phase),
        }
        _SAID.get(change.kind, log.info)("%s: %s%s, %s%s", where, finding.cause, how_many, change.kind, ending, extra={"fields": fields})

    def _tell_remedy(self, incident: Incident, done: Done) -> None:
        self._ward.told(self._report(Change(Kind.REMEDY, incident, done.at_s, silent=not done.acted)))

    def _tell_breakers(self, before: State, seen: Seen) -> None:
        """The cluster's breaker is told of like an incident; a workload's goes with its own incidents."""
        if not self._rules.policies.specs:
            return
        now_s, breakers = seen.assessment.at_s, self.state.breakers.open
        if CLUSTER in seen.opened:
            self._tell(Change(Kind.FIRED, mass_failure(breakers[CLUSTER]), now_s, silent=False))
        if CLUSTER in seen.closed:
            self._tell(Change(Kind.RESOLVED, mass_failure(before.breakers.open[CLUSTER], now_s), now_s, silent=False))

    def _report(self, change: Change) -> Report:
        finding = change.incident.finding
        return Report(change, remedies=self._remedies.done.get(finding.key, ()), sinks=self._sinks(finding))

    def _sinks(self, finding: Finding) -> tuple[str, ...]:
        """Those of its policies. Where these are not known any more (it is gone), those that were told before, else all that may have."""
        specs, subject = self._known.reach.of(finding), finding.subject
        if specs:
            self._sinks_of[finding.key] = sinks = _of_each(specs)
            return sinks
        may_have = (spec for spec in self._rules.policies.specs if subject.namespace in {"", spec.namespace})
        return self._sinks_of.get(finding.key) or _of_each(may_have)


def _of_each(specs: Iterable[HealthSpec]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sink for spec in specs for sink in spec.sinks))


def _nothing_seen(rules: Rules) -> Seen:
    """Before the first pass."""
    facts, assessment = Facts(nan, (), synced=False), Assessment(nan, conclusive=False)
    return Seen(facts, assessment, State().memory, Reach(rules.policies, facts, assessment))
