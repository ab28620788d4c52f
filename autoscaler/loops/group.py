"""One interval group: its members, their history and state, and one pass over them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from autoscaler import metrics
from autoscaler.clock import Clock
from autoscaler.core.checkpoint import Memory, SeriesFields, memories, policy_fields, remembering, with_policy_fields
from autoscaler.core.columns import frozen, full, widened
from autoscaler.core.decide import Decision, State, decide, reanchored
from autoscaler.core.explain import TickRecord, beside, demand_by_workload, headline, recorded, signals_by_workload, why
from autoscaler.core.health.facts import ScaleUp
from autoscaler.core.history import History
from autoscaler.core.observation import Observation, blank
from autoscaler.core.policy import traits_of
from autoscaler.core.roster import Roster
from autoscaler.core.spec import GroupSpec, WorkloadSpec
from autoscaler.core.types import Bools, Floats, Mode, Reason, Signal, Singles, Target, Workload
from autoscaler.loops.backfill import Backfill
from autoscaler.loops.observe import Observer
from autoscaler.loops.shards import Kept, digest
from autoscaler.loops.startup import Startups
from autoscaler.loops.state import Memories
from autoscaler.loops.stepping import Walker, walked_apart
from autoscaler.loops.usage import PodObserver
from autoscaler.loops.verdicts import Verdicts
from autoscaler.loops.warm import WarmUps
from autoscaler.loops.write import Outcome, Standing, Writer
from autoscaler.ports import NOT_SEEN, Cluster, MetricSource, PodWatch, Recorder, ResourceMetrics, TargetFacts

log = logging.getLogger(__name__)

KEPT_TICKS = 20
"""So many ticks can be looked back on with every stage."""

CURVE_TICKS = 240
"""So many ticks of demand, current and desired replicas are kept for the page."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every group is given: the ports, time, the bound on writes under way, and the service's mode."""

    source: MetricSource
    cluster: Cluster
    clock: Clock
    recorder: Recorder
    free: asyncio.Semaphore
    mode: Mode = Mode.ACTIVE
    memories: Memories = field(default_factory=Memories)
    walk: Walker = walked_apart
    pods: PodWatch | None = None
    usage: ResourceMetrics | None = None
    verdicts: Verdicts = field(default_factory=Verdicts)


class Group:
    """The workloads of one interval. ``tick`` is one pass: observe, propose, guard, decide, apply, report."""

    def __init__(self, interval_s: float, around: Surroundings, startups: Startups) -> None:
        self.interval_s = interval_s
        self.roster = Roster(interval_s, around.mode)
        self.records: deque[TickRecord] = deque(maxlen=KEPT_TICKS)
        self.curves: deque[tuple[float, Singles, Singles, Singles]] = deque(maxlen=CURVE_TICKS)
        self.writer = Writer(around.cluster, around.clock, around.recorder, around.free, around.memories.note)
        self._cluster, self._clock, self._recorder = around.cluster, around.clock, around.recorder
        self._memories, self._verdicts = around.memories, around.verdicts
        self._observer = Observer(around.source, around.clock, interval_s)
        self._pods = PodObserver(around.usage, around.pods, around.clock, interval_s)
        self._startups = startups
        self._backfill = Backfill(around.source, around.clock, around.recorder, interval_s)
        self._warm_ups = WarmUps(around.source, around.clock, around.recorder, interval_s, around.walk)
        self._history, self._state = History(interval_s), State()
        self._facts: dict[Workload, TargetFacts] = {}
        self._uids: dict[Workload, str] = {}
        self._target_problems: dict[tuple[str, int], str] = {}
        self._decided: tuple[Decision, GroupSpec] | None = None
        self._label = f"{interval_s:g}s"

    def update(self, specs: Iterable[WorkloadSpec]) -> None:
        """Make these the group's members: who is not named leaves, who is new or changed comes in."""
        wanted = {spec.workload: spec for spec in specs}
        members = self.roster.members()
        leavers = [workload for workload in members if workload not in wanted]
        joiners = [spec for workload, spec in wanted.items() if members.get(workload) != spec]
        for spec in joiners:
            if (before := members.get(spec.workload)) is not None and replace(before, schedule=spec.schedule) != spec:
                self.writer.retry(spec.workload)
        if leavers or joiners:
            self.roster.swap(leavers, joiners)
            self._observer.wire(self.roster)
            self._pods.wire(self.roster)
            self._backfill.wire(self.roster)
            self._warm_ups.owe(self.roster, [spec.workload for spec in joiners if spec.workload in self._uids])
        if leavers:
            self._warm_ups.forget(self.roster)
        for workload in leavers:
            self._facts.pop(workload, None)
            self._uids.pop(workload, None)
            self.writer.forget(workload)

    async def tick(self, at_s: float, started: float, *, hold: bool = False) -> None:
        """One pass at grid time ``at_s``, begun at monotonic ``started``; ``hold``: the clock cannot be trusted, decide nothing."""
        await asyncio.gather(self._observer.ask(at_s), self._pods.ask(at_s))
        began = self._clock.monotonic()
        observation = self._observe(at_s)
        if hold:
            self._backfill.lose()
            self._warm_ups.lose()
            observation = _distrusted(observation)
            # Rows and recommendations carry times of the old clock; windows are seeded afresh with the counts of now.
            self._history.restart()
            self._state = reanchored(self._state)
        spec = self.roster.spec
        observation = self._history.record(spec, observation)
        past = self._backfill.take(spec)
        for each in past:
            self._history.backfill(each)
        self._warm_ups.look(spec, observation)
        self._state, warmed = self._warm_ups.hand_in(self._state, self._history)
        self._state, decision = decide(self._state, observation, spec)
        self._decided = decision, spec
        record = recorded(spec, observation, decision, {**self._observer.details(), **self._pods.details(), **self._target_problems})
        self._recorder.observe(metrics.DECIDE_SECONDS, self._label, value=self._clock.monotonic() - began)
        before = self.records[-1] if self.records else None
        kept = record if before is None else beside(record, before)
        self.records.append(replace(kept, past=past, warmed=warmed))
        self.curves.append((at_s, _single(demand_by_workload(record)), _single(decision.observed), _single(decision.replicas)))
        self._backfill.answered(at_s, self._observer.answered())
        self._apply(decision)
        self._report(record, before)
        await self.writer.wait(started + 0.9 * self.interval_s - self._clock.monotonic())
        self._recorder.observe(metrics.TICK_SECONDS, self._label, value=self._clock.monotonic() - started)

    async def fill(self) -> None:
        """Ask for the past that the group has not seen, beside its ticks, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._backfill.run())
            tasks.create_task(self._warm_ups.run())

    async def close(self, seconds: float) -> None:
        """Let writes under way finish for that long, and stop asking."""
        await self.writer.close(seconds)
        await self._observer.close()
        await self._pods.close()

    def _observe(self, at_s: float) -> Observation:
        """This tick's columns out of the watch cache, the confirmed writes and the source's answers."""
        first_seen = self._look()
        spec = self.roster.spec
        nothing = blank(spec, at_s)
        current, ready, status, startup = (nothing.current.copy() for _ in range(4))
        written_at, written_from, written_to = (nothing.current.copy() for _ in range(3))
        ordered, target = nothing.ordered.copy(), nothing.target.copy()
        self._target_problems.clear()
        for workload, facts in self._facts.items():
            slot = self.roster.slot(workload)
            target[slot], ordered[slot] = facts.state, facts.ordered
            current[slot], ready[slot], status[slot] = facts.replicas, facts.ready, facts.status_replicas
            startup[slot] = self._startups.seconds(workload)
        self._remember(first_seen, at_s, current)
        for workload, write in self.writer.take(self._facts, at_s).items():
            slot = self.roster.slot(workload)
            written_at[slot], written_from[slot], written_to[slot] = write.at_s, write.before, write.after
        for workload, facts in self._facts.items():
            if problem := self._contested(workload, facts, at_s):
                slot = self.roster.slot(workload)
                target[slot], self._target_problems["", slot] = Target.CONFLICT, problem
        answered = self._observer.fill(spec, at_s, ready)
        series, coverage = self._pods.fill(spec, at_s, answered, self._observer.coverage)
        return replace(
            nothing,
            startup_s=frozen(startup),
            current=frozen(current),
            ready=frozen(ready),
            status_replicas=frozen(status),
            ordered=frozen(ordered),
            target=frozen(target),
            written_at_s=frozen(written_at),
            written_from=frozen(written_from),
            written_to=frozen(written_to),
            series=series,
            coverage=coverage,
            health=self._verdicts.columns(spec.slots, {self.roster.slot(workload): uid for workload, uid in self._uids.items()}),
        )

    def _contested(self, workload: Workload, facts: TargetFacts, at_s: float) -> str:
        """Who else sets this target's replicas, as a sentence; empty: nobody that we know of."""
        if facts.state != Target.OK:
            return ""
        if facts.rival is not None:
            return f"{facts.rival} scales it: delete one of the two, or make this policy a dry run"
        return self.writer.stopped(workload, at_s)

    def _look(self) -> list[Workload]:
        """Take the newest facts; a target that was deleted and made anew under its name is a new one, with no past.

        Returns those that are seen for the first time.
        """
        reborn, first_seen = [], []
        for workload in self.roster.members():
            facts = self._cluster.facts(workload)
            before = self._facts.get(workload, NOT_SEEN)
            if facts is before:
                continue
            if facts.uid and workload not in self._uids:
                if not self._memories.ready(self._clock.monotonic()):
                    continue
                first_seen.append(workload)
            self._facts[workload] = facts
            _tell(workload, facts, before)
            if facts.uid:
                if self._uids.get(workload, facts.uid) != facts.uid:
                    reborn.append(workload)
                self._uids[workload] = facts.uid
        if reborn:
            self.roster.restart(reborn)
            self._observer.wire(self.roster)
            self._pods.wire(self.roster)
            self._backfill.wire(self.roster, have_past=False)
            for workload in reborn:
                self.writer.forget(workload)
                self._startups.forget(workload)
                self._warm_ups.owe(self.roster, (), (place.serial for place in self.roster.series(workload).values()))
                log.info("%s was deleted and created again: its history starts afresh", workload)
        return first_seen

    def _remember(self, first_seen: list[Workload], at_s: float, current: Floats) -> None:
        """Go on from what an earlier process kept of workloads that are seen for the first time."""
        spec, found, series = self.roster.spec, dict[int, Memory](), dict[str, dict[int, SeriesFields]]()
        for workload in first_seen:
            kept, slot = self._memories.claim(self._uids[workload]), self.roster.slot(workload)
            if kept is not None and kept.memory.at_s < at_s:  # one from the future was written by another clock
                found[slot] = kept.memory
                self.writer.recall(workload, kept.standing)
                for each, place in self.roster.series(workload).items():
                    if fields := kept.series.get(digest(place.call, each)):
                        series.setdefault(place.call, {})[place.slot] = fields
        restored = set[int]()
        if found:
            self._state = remembering(self._state, spec, at_s, current, found)
            for call in spec.calls:
                self._state, slots = with_policy_fields(self._state, call, series.get(call.key, {}))
                restored.update(int(call.serial[slot]) for slot in slots)
        self._warm_ups.owe(self.roster, first_seen, restored)

    def scale_ups(self) -> dict[str, ScaleUp]:
        """Our last write to each workload, where that was a scale-up, by its uid."""
        written = ((uid, self.writer.standing(workload).last) for workload, uid in self._uids.items())
        return {uid: ScaleUp(last.at_s, last.before, last.after) for uid, last in written if last is not None and last.after > last.before}

    def keep(self, *, policies: bool) -> dict[str, Kept]:
        """What must outlive the process, of each workload that has been seen, by its uid; with what ``policies`` want kept, or without."""
        if self._decided is None:
            return {}
        decision, spec = self._decided
        counts = full(spec.slots, np.nan)
        places = {workload: self.roster.slot(workload) for workload in self._uids}
        for workload, slot in places.items():
            counts[slot] = _count(self.writer.standing(workload), float(decision.observed[slot]))
        remembered = memories(self._state.guards, spec, decision.at_s, counts)
        fields = self._policy_fields(spec) if policies else {}
        return {
            self._uids[workload]: Kept(remembered[slot], self.writer.standing(workload), fields.get(workload, {}))
            for workload, slot in places.items()
            if slot in remembered
        }

    def _policy_fields(self, spec: GroupSpec) -> dict[Workload, dict[str, SeriesFields]]:
        """What policies want kept, by workload and series."""
        found: dict[Workload, dict[str, SeriesFields]] = {}
        calls = {call.key: call for call in spec.calls if traits_of(call.policy).checkpoint}
        places: dict[str, list[tuple[Workload, str, int]]] = {key: [] for key in calls}
        for workload in self._uids:
            for series, place in self.roster.series(workload).items():
                call = calls.get(place.call)
                if call is not None and place.slot < call.serial.size and call.serial[place.slot] == place.serial:
                    places[place.call].append((workload, digest(place.call, series), place.slot))
        for key, rows in places.items():
            for (workload, name, _), values in zip(rows, policy_fields(self._state, calls[key], [row[2] for row in rows]), strict=True):
                found.setdefault(workload, {})[name] = values
        return found

    def _apply(self, decision: Decision) -> None:
        """Start the writes that the decision asks for."""
        if not decision.apply.any():
            return
        for workload in self.roster.members():
            slot = self.roster.slot(workload)
            if decision.apply[slot]:
                self.writer.start(workload, self._facts[workload], int(decision.replicas[slot]), decision.at_s)

    def _report(self, record: TickRecord, before: TickRecord | None) -> None:
        """One line per changed decision, and the counters."""
        codes = headline(record.decision)
        changed = _changed(record, before)
        reasons: dict[tuple[str, int], int] = {}
        for workload, spec in self.roster.members().items():
            slot = self.roster.slot(workload)
            key = (spec.policy.name, int(codes[slot]))
            reasons[key] = reasons.get(key, 0) + 1
            if changed[slot]:
                self._say(workload, record, slot, Reason(int(codes[slot])))
        for (policy, code), count in reasons.items():
            self._recorder.add(metrics.DECISIONS, policy, Reason(code).name, amount=count)
        self._count_missing(record)
        self._complain(record, before)

    def _say(self, workload: Workload, record: TickRecord, slot: int, reason: Reason) -> None:
        decision = record.decision
        sentence = why(record, slot, self.roster.series(workload))
        fields = {
            "workload": str(workload),
            "current": float(decision.current[slot]),
            "desired": float(decision.replicas[slot]),
            "apply": bool(decision.apply[slot]),
            "reason": reason.name,
        }
        log.info("%s: %g -> %g: %s", workload, decision.current[slot], decision.replicas[slot], sentence, extra={"fields": fields})

    def _count_missing(self, record: TickRecord) -> None:
        counts = np.zeros(len(Signal), np.int64)
        for call, series in zip(record.spec.calls, record.observation.series, strict=True):
            counts += np.bincount(series.signal[call.owner >= 0], minlength=len(Signal))
        for signal in Signal:
            if signal != Signal.OK:
                self._recorder.set(metrics.SERIES_WITHOUT_DATA, self._label, signal.name.lower(), value=float(counts[signal]))

    def _complain(self, record: TickRecord, before: TickRecord | None) -> None:
        """Say a policy's fault once, when it is new."""
        known = set() if before is None else set(before.decision.faults)
        for call, fault in zip(record.spec.calls, record.decision.faults, strict=True):
            if fault:
                self._recorder.add(metrics.POLICY_FAULTS, call.key.split("/", maxsplit=1)[0])
                if fault not in known:
                    log.error("%s; its workloads hold", fault, extra={"fields": {"policy": call.key}})


def _changed(record: TickRecord, before: TickRecord | None) -> Bools:
    """Where there is news ``[w]``: another count, reason or kind of missing data than at the last tick, or a new workload."""
    now = record.decision
    if before is None:
        return np.ones(now.replicas.size, np.bool_)
    then = before.decision
    w = now.replicas.size
    same: Bools = widened(before.spec.workloads.serial, w, 0) == record.spec.workloads.serial
    same &= _equal(widened(then.replicas, w, np.nan), now.replicas)
    same &= widened(headline(then), w, 0) == headline(now)
    same &= widened(signals_by_workload(before), w, 0) == signals_by_workload(record)
    return np.logical_not(same)


def _equal(left: Floats, right: Floats) -> Bools:
    equal: Bools = (left == right) | (np.isnan(left) & np.isnan(right))
    return equal


def _distrusted(observation: Observation) -> Observation:
    """The observation with every target held because the clock stepped."""
    target = np.where(observation.target == Target.OK, Target.CLOCK_STEP, observation.target).astype(np.int8)
    return replace(observation, target=frozen(target))


def _tell(workload: Workload, facts: TargetFacts, before: TargetFacts) -> None:
    """Say what is newly wrong with a target."""
    if facts.problem and facts.problem != before.problem and facts.state != Target.UNKNOWN:
        log.warning("%s: %s", workload, facts.problem, extra={"fields": {"workload": str(workload), "target": facts.state.name}})
    if facts.rival is not None and str(facts.rival) != str(before.rival):
        log.warning("%s: %s scales it too", workload, facts.rival, extra={"fields": {"workload": str(workload)}})


def _single(values: Floats) -> Singles:
    """As precise as a page can show, in half the room."""
    return values.astype(np.float32)


def _count(standing: Standing, observed: float) -> float:
    """The count that the target has once our last write has arrived; NaN while nobody knows what became of that."""
    if standing.last is None or standing.outcome is Outcome.TAKEN:
        return observed
    return standing.last.after if standing.outcome is Outcome.CONFIRMED else np.nan
