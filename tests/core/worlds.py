"""Random worlds for properties: specs that hypothesis draws and shrinks, and a noisy run of ticks that a seed makes."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf, isnan, nan

from hypothesis import strategies as st

from autoscaler.core.behavior import Behavior, Direction, RateRule, Select
from autoscaler.core.spec import Fallback, PolicyChoice, ScheduleRow, SeriesSpec, When, WorkloadSpec
from autoscaler.core.types import Mode, Signal, Target, TargetKind, Workload
from tests.core.build import (
    EXTREME,
    HPA_CLASSIC,
    HPA_GIVEN,
    INTERVAL_S,
    PATIENT,
    PROPORTIONAL,
    START_S,
    Facts,
    Outcome,
    choice,
    series,
    spec,
    workload,
)

NAMES = ("api", "batch", "cart", "docs", "edge", "feed")
_SECONDS = st.sampled_from([15.0, 30.0, 60.0, 100.0, 300.0])

_rules = st.builds(RateRule, st.sampled_from([1.0, 2.0, 4.0, 10.0, 33.0, 100.0]), _SECONDS, st.booleans())
_directions = st.builds(
    Direction,
    st.sampled_from([0.0, 0.0, 15.0, 40.0, 60.0, 120.0]),
    st.sampled_from([0.0, 0.1, 0.25]),
    st.lists(_rules, max_size=3).map(tuple),
    st.sampled_from([Select.MAX, Select.MAX, Select.MIN, Select.DISABLED]),
)
behaviors = st.one_of(
    st.just(HPA_CLASSIC),
    st.just(HPA_GIVEN),
    st.builds(Behavior, _directions, _directions),
    st.builds(Behavior, _directions, _directions, st.just(value=True)),
    st.builds(Behavior, _directions, _directions, downs_per_hour=st.integers(1, 3)),
)
choices = st.one_of(
    st.builds(lambda factor: choice(PROPORTIONAL, factor=factor), st.sampled_from([0.5, 1.0, 1.25])),
    st.builds(lambda window, least: choice(EXTREME, window_s=window, least=least), _SECONDS, st.booleans()),
    st.builds(lambda ticks: choice(PATIENT, ticks=ticks), st.integers(0, 3)),
)
_kinds = st.sampled_from([TargetKind.AVERAGE_VALUE, TargetKind.AVERAGE_VALUE, TargetKind.VALUE, TargetKind.UTILIZATION])
_series = st.lists(
    st.builds(series, st.sampled_from(["rps", "lag", "cpu"]), st.sampled_from([0.5, 1.0, 3.0]), _kinds, st.sampled_from([0.0, 0.0, 2.0])),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each.name,
).map(tuple)
_times = st.integers(0, 40).map(lambda ticks: START_S + ticks * INTERVAL_S)
_counts = st.one_of(st.just(nan), st.integers(0, 20).map(float))
_schedules = st.lists(
    st.builds(
        lambda start, ticks, low, high: ScheduleRow(start, start + ticks * INTERVAL_S, low, high),
        _times,
        st.integers(1, 9),
        _counts,
        _counts,
    ),
    max_size=2,
).map(tuple)
fallbacks = st.one_of(st.none(), st.builds(Fallback, st.integers(1, 3), st.integers(0, 25), st.sampled_from(When)))
_modes = st.sampled_from([Mode.ACTIVE, Mode.ACTIVE, Mode.ACTIVE, Mode.DRY_RUN, Mode.PAUSED])


@st.composite
def specs(draw: st.DrawFn, name: str, policies: st.SearchStrategy[PolicyChoice] = choices) -> WorkloadSpec:
    low = draw(st.integers(0, 4))
    return spec(
        name,
        series=draw(_series),
        policy=draw(policies),
        behavior=draw(behaviors),
        min_replicas=low,
        max_replicas=low + draw(st.integers(1, 30)),
        schedule=draw(_schedules),
        fallback=draw(fallbacks),
        mode=draw(_modes),
        mode_until_s=draw(st.one_of(st.just(nan), _times)),
    )


def fleets(most: int = 4) -> st.SearchStrategy[list[WorkloadSpec]]:
    """Up to so many workloads, each with a spec of its own."""
    return st.integers(1, most).flatmap(lambda n: st.tuples(*(specs(name) for name in NAMES[:n])).map(list))


seeds = st.integers(0, 2**32 - 1)


def load(draw: random.Random, each: SeriesSpec, around: float) -> tuple[float, Signal]:
    """A load for demands of about ``around``, now and then absurd or missing."""
    luck = draw.random()
    if luck < 0.12:
        return nan, draw.choice([Signal.OK, Signal.TIMEOUT, Signal.EMPTY])
    if luck < 0.16:
        return draw.choice([-1.0, inf, -inf, 1e300]), Signal.OK
    if luck < 0.2:
        return draw.uniform(0, 9), Signal.STALE
    if luck < 0.3:
        return draw.choice([0.0, each.target * 13, each.activation, 1e-12]), Signal.OK
    return each.target * round(draw.uniform(0, 2 * around), draw.choice([0, 1, 6])), Signal.OK


@dataclass
class Actor:
    """What happens around one workload: its real count, our writes that arrive or do not, people who scale it by hand."""

    spec: WorkloadSpec
    draw: random.Random
    real: float = 3
    seen: float = nan
    confirmations: list[tuple[int, tuple[float, float, float]]] = field(default_factory=list)
    number: int = 0

    def facts(self) -> Facts:
        draw = self.draw
        if draw.random() < 0.04:
            self.real = draw.choice([0, 1, draw.randint(0, 25)])
        if draw.random() > 0.1 or isnan(self.seen):
            self.seen = self.real  # else the view of it lags behind
        due = [written for tick, written in self.confirmations if tick <= self.number]
        self.confirmations = [(tick, written) for tick, written in self.confirmations if tick > self.number]
        around = draw.choice([2.0, 6.0, 12.0])
        loads = [load(draw, each, around) for each in self.spec.series]
        kinds = {each.target_kind for each in self.spec.series}
        return Facts(
            current=self.seen if draw.random() > 0.03 else nan,
            loads=tuple(value for value, _ in loads),
            signals=tuple(signal for _, signal in loads),
            requests=tuple(draw.choice([0.5, 1.0, 1.0, nan, 0.0]) if TargetKind.UTILIZATION in kinds else 1.0 for _ in loads),
            ready=draw.choice([None, None, 0.0, 2.0, nan]),
            target=draw.choice([Target.OK] * 20 + list(Target)),
            written=due[-1] if due else None,
            coverage=draw.choice([nan, nan, 1.0, 0.9, 0.5]),
        )

    def react(self, at_s: float, outcome: Outcome) -> None:
        """Our write, if there is one: it arrives at once, later than we hear of it, or never."""
        self.number += 1
        luck = self.draw.random()
        if not outcome.apply or luck < 0.15 or outcome.replicas is None or self.seen != self.real:
            return
        written = (at_s, self.real, outcome.replicas)
        self.real = outcome.replicas
        self.confirmations.append((self.number + (2 if luck < 0.3 else 0), written))

    def change(self) -> WorkloadSpec:
        """A changed spec: other bounds, mode, metrics or parameters; windows and rules stay."""
        draw, old = self.draw, self.spec
        low = draw.randint(0, 4)
        self.spec = draw.choice(
            [
                replace(old, min_replicas=low, max_replicas=low + draw.randint(1, 20)),
                replace(old, mode=draw.choice(list(Mode)), mode_until_s=nan),
                replace(old, series=(*old.series[1:], series(f"more{self.number}"))),
                replace(old, policy=draw.choice([choice(PROPORTIONAL), choice(EXTREME, least=True), choice(PATIENT, ticks=1)])),
                replace(old, schedule=()),
                old,
            ]
        )
        return self.spec


@dataclass(frozen=True)
class Tick:
    """One tick of a world: who leaves, joins (or is updated), is made anew; then what is seen."""

    leave: list[Workload]
    join: list[WorkloadSpec]
    reborn: list[Workload]
    facts: dict[Workload, Facts]
    skipped: int


def run(
    fleet: list[WorkloadSpec], seed: int, ticks: int, play: Callable[[Tick], dict[Workload, Outcome]]
) -> Iterator[dict[Workload, Outcome]]:
    """Play a world of so many ticks: ``play`` decides each. Every workload has luck of its own, so that none changes another's."""
    actors: dict[Workload, Actor] = {}
    luck = random.Random(seed)
    at_s = START_S - INTERVAL_S
    everybody = {each.workload: each for each in fleet}
    for number in range(ticks):
        leave = [name for name in actors if luck.random() < 0.03]
        join = [each for name, each in everybody.items() if name not in actors and (number == 0 or luck.random() < 0.3)]
        update = [name for name in actors if name not in leave and luck.random() < 0.05]
        reborn = [name for name in actors if name not in leave and luck.random() < 0.01]
        for name in leave:
            del actors[name]
        for each in join:
            actors[each.workload] = Actor(each, random.Random(f"{seed} {each.workload} {number}"))
        changed = [actors[name].change() for name in update]
        skipped = 0 if luck.random() > 0.05 else luck.choice([1, 3, 30])
        at_s += (1 + skipped) * INTERVAL_S
        facts = {name: actor.facts() for name, actor in actors.items()}
        outcomes = play(Tick(leave, [*join, *changed], reborn, facts, skipped))
        for name, outcome in outcomes.items():
            actors[name].react(at_s, outcome)
        yield outcomes


__all__ = ["NAMES", "Actor", "Tick", "fleets", "run", "seeds", "specs", "workload"]
