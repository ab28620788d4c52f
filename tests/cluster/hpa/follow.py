"""Our decisions over a journal, tick by tick, and where they are not the HPA's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np

from autoscaler.core.checkpoint import memories, remembering
from autoscaler.core.columns import frozen, full
from autoscaler.core.decide import Decision, State, decide
from autoscaler.core.history import History
from autoscaler.core.observation import Observation, SeriesColumns, blank_series, known
from autoscaler.core.policy import Pods
from autoscaler.core.roster import Roster
from autoscaler.core.types import PodPhase, PodReady, Signal
from autoscaler.loops.shards import GUARD_SHARDS, Kept, guard_row, read_shards, sharded
from tests.cluster.hpa.cases import Case, Metric
from tests.cluster.hpa.journal import Pass, PodSeen, Sample

EDGE_S = 0.05
"""A tick whose answer changes when every age is so much more or less is decided by the time that a request took, not by a rule."""


@dataclass(frozen=True)
class Outcome:
    """One tick: what the HPA left, what we decide, now and with all ages shifted."""

    number: int
    hpa: int
    ours: float
    shifted: tuple[tuple[float, float], ...]
    proposal: float

    @property
    def edge(self) -> bool:
        """Whether the answer hangs on less than ``EDGE_S``."""
        return any(not _same(each, (self.ours, self.proposal)) for each in self.shifted)

    @property
    def agrees(self) -> bool:
        return self.ours == self.hpa


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(a == b or (isnan(a) and isnan(b)) for a, b in zip(one, other, strict=True))


def followed(case: Case, journal: list[Pass], restarts: frozenset[int] = frozenset()) -> Iterator[tuple[Outcome, Decision, Observation]]:
    """Decide every pass of the journal as one tick of ours, on the journal's clock; after some of them our process begins anew."""
    roster, history, state = Roster(1.0), History(1.0), State()
    roster.swap(join=[case.workload()])
    before: Pass | None = None
    for number, seen in enumerate(journal):
        observation = history.record(roster.spec, observed(case, roster, seen, before))
        answers = [decide(state, replace(observation, at_s=seen.at_s + shift), roster.spec) for shift in (0.0, EDGE_S, -EDGE_S)]
        decision = answers[0][1]
        counts = [(float(each.replicas[0]), float(each.combined.replicas[0])) for _, each in answers]
        outcome = Outcome(number, seen.result, counts[0][0], (counts[1], counts[2]), counts[0][1])
        # At an edge the HPA's count says on which side it was.
        chosen = next((index for index, (count, _) in enumerate(counts) if count == seen.result), 0)
        state = answers[chosen][0]
        before = seen
        if number in restarts:
            state = _restarted(state, roster, seen)
        yield outcome, decision, observation


def _restarted(state: State, roster: Roster, seen: Pass) -> State:
    """What a new process makes of the bytes that the old one left."""
    (memory,) = memories(state.guards, roster.spec, seen.at_s, _column(roster.spec.slots, seen.result)).values()
    documents, _ = sharded({"uid": guard_row(Kept(memory))}, GUARD_SHARDS)
    kept, _ = read_shards(documents)
    current = _column(roster.spec.slots, seen.result)
    return remembering(State(), roster.spec, seen.at_s + roster.spec.interval_s, current, {0: kept["uid"].memory})


def observed(case: Case, roster: Roster, seen: Pass, before: Pass | None) -> Observation:
    """What the HPA was told, in columns; and what it wrote before."""
    slots = roster.spec.slots
    base = known(roster.spec, seen.at_s, _column(slots, seen.current))
    written = (nan, nan, nan) if before is None or before.wrote is None else (before.wrote_s, before.current, before.wrote)
    (call,) = roster.spec.calls
    places = {int(series.name): place.slot for series, place in roster.series(case.workload().workload).items()}
    return replace(
        base,
        status_replicas=_column(slots, seen.status),
        written_at_s=_column(slots, written[0]),
        written_from=_column(slots, written[1]),
        written_to=_column(slots, written[2]),
        series=(_series(case, seen, places, call.owner.size),),
    )


def _column(slots: int, value: float) -> np.ndarray:
    column = full(slots, nan)
    column[0] = value
    return frozen(column)


def _series(case: Case, seen: Pass, places: dict[int, int], n: int) -> SeriesColumns:
    load, signal = full(n, nan), np.full(n, Signal.NOT_ASKED, np.int8)
    rows: list[list[tuple[float, ...]]] = [[] for _ in range(n)]
    for index, slot in places.items():
        metric, answer = case.metrics[index], seen.answers[index]
        signal[slot] = Signal.OK if answer else Signal.EMPTY  # an answer without any value is an error to the HPA
        if isinstance(answer, dict):
            load[slot] = sum(sample.value for sample in answer.values()) / 1000
        elif answer:
            load[slot] = sum(answer) / 1000
        samples = answer if isinstance(answer, dict) else {}
        rows[slot] = [_row(metric, pod, samples.get(name)) for name, pod in seen.pods.items()]
        rows[slot] += [_stray(sample) for name, sample in samples.items() if name not in seen.pods]
    load = np.where(signal == Signal.OK, load, nan)
    return replace(blank_series(n), load=frozen(load), signal=frozen(signal), pods=_pods(rows))


def _row(metric: Metric, pod: PodSeen, sample: Sample | None) -> tuple[float, ...]:
    request = nan
    if metric.resource:
        parts = [
            value
            for (container, resource), value in pod.requests.items()
            if resource == metric.resource and metric.container in {"", container}
        ]
        request = nan if None in parts else sum(part for part in parts if part is not None) / 1000
    use = nan if sample is None else sample.value / 1000
    sampled_s, window_s = (nan, nan) if sample is None else (_or_nan(sample.sampled_s), _or_nan(sample.window_s))
    return use, request, pod.phase, pod.ready, _or_nan(pod.started_s), _or_nan(pod.ready_changed_s), sampled_s, window_s


def _stray(sample: Sample) -> tuple[float, ...]:
    return sample.value / 1000, nan, PodPhase.GONE, PodReady.NONE, nan, nan, _or_nan(sample.sampled_s), _or_nan(sample.window_s)


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


def _pods(rows: list[list[tuple[float, ...]]]) -> Pods:
    table = np.array([row for series in rows for row in series], np.float64).reshape(-1, 8).T
    offsets = np.cumsum([0, *(len(series) for series in rows)])
    use, request, phase, ready, started_s, changed_s, sampled_s, window_s = table
    return Pods(offsets, use, request, phase.astype(np.int8), ready.astype(np.int8), started_s, changed_s, sampled_s, window_s)
