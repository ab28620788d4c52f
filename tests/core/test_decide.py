"""Properties of ``decide`` over random worlds: what it must come to, and what it may not touch."""

import pickle
import random
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoscaler.core.decide import State, decide
from autoscaler.core.observation import Observation, known
from autoscaler.core.policy import Proposal, combine
from autoscaler.core.roster import Roster
from autoscaler.core.spec import GroupSpec, WorkloadSpec
from autoscaler.core.types import FREE, Mode, Reason, Target, Workload
from tests.core.build import INTERVAL_S, START_S, Outcome, Rig, known_or_none, observe, outcome, spec, workload
from tests.core.reference import Reference
from tests.core.snapshot import snapshot, writeable
from tests.core.worlds import Tick, fleets, run, seeds


def worlds(examples: int) -> settings:
    """So many worlds: what a property of this size can afford in a quick test run."""
    return settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])


class Stage:
    """Rigs and references that play the same world."""

    def __init__(self, draw: random.Random | None = None) -> None:
        self.rig, self.draw = Rig(), draw

    def __call__(self, tick: Tick) -> dict[Workload, Outcome]:
        leave, join = list(tick.leave), list(tick.join)
        if self.draw is not None:
            self.draw.shuffle(leave)
            self.draw.shuffle(join)
        self.rig.roster.swap(leave, join)
        self.rig.roster.restart(tick.reborn)
        return self.rig.decide(tick.facts, 1 + tick.skipped)


@given(fleet=fleets(), seed=seeds, ticks=st.integers(1, 40), floor=st.sampled_from([Mode.ACTIVE, Mode.ACTIVE, Mode.DRY_RUN]))
@worlds(60)
def test_columns_equal_the_scalar_reference(fleet: list[WorkloadSpec], seed: int, ticks: int, floor: Mode) -> None:
    stage, references = Stage(), dict[Workload, Reference]()
    stage.rig = Rig(floor=floor)

    def play(tick: Tick) -> dict[Workload, Outcome]:
        for name in tick.leave:
            del references[name]
        for each in tick.join:
            if each.workload in references:
                references[each.workload].update(each)
            else:
                references[each.workload] = Reference(each)
        for name in tick.reborn:
            references[name] = Reference(references[name].spec)
        outcomes = stage(tick)
        expected = {name: references[name].tick(stage.rig.at_s, facts, floor) for name, facts in tick.facts.items()}
        assert outcomes == expected
        return outcomes

    for _ in run(fleet, seed, ticks, play):
        pass


@given(fleet=fleets(6), seed=seeds, ticks=st.integers(1, 25))
@worlds(25)
def test_shuffling_workloads_shuffles_the_answer_and_nothing_else(fleet: list[WorkloadSpec], seed: int, ticks: int) -> None:
    ordered, shuffled = Stage(), Stage(random.Random(seed))

    def play(tick: Tick) -> dict[Workload, Outcome]:
        outcomes = ordered(tick)
        assert shuffled(tick) == outcomes
        return outcomes

    for _ in run(fleet, seed, ticks, play):
        pass


@given(fleet=fleets(6), seed=seeds, ticks=st.integers(1, 25))
@worlds(25)
def test_workloads_that_come_and_go_disturb_no_other(fleet: list[WorkloadSpec], seed: int, ticks: int) -> None:
    together, alone = Stage(), dict[Workload, Stage]()

    def play(tick: Tick) -> dict[Workload, Outcome]:
        outcomes = together(tick)
        for name in tick.leave:
            del alone[name]
        for name, facts in tick.facts.items():
            stage = alone.setdefault(name, Stage())
            stage.rig.at_s = together.rig.at_s - (1 + tick.skipped) * 15
            mine = Tick(
                [], [each for each in tick.join if each.workload == name], [name] * tick.reborn.count(name), {name: facts}, tick.skipped
            )
            assert stage(mine) == {name: outcomes[name]}
        return outcomes

    for _ in run(fleet, seed, ticks, play):
        pass


@given(fleet=fleets(), seed=seeds, gap=st.integers(1, 12))
@worlds(30)
def test_without_a_fallback_missing_data_moves_replicas_only_into_bounds(fleet: list[WorkloadSpec], seed: int, gap: int) -> None:
    stage, number = Stage(), 0

    def play(tick: Tick) -> dict[Workload, Outcome]:
        nonlocal number
        number += 1
        blind = number % (gap + 1) != 0
        facts = {name: replace(fact, loads=(nan,) * len(fact.loads)) for name, fact in tick.facts.items()} if blind else tick.facts
        outcomes = stage(replace(tick, facts=facts, join=[replace(each, fallback=None) for each in tick.join]))
        for name, made in outcomes.items():
            if blind and made.current is not None:
                slot = stage.rig.roster.slot(name)
                inside = float(np.clip(made.current, *bounds_at(stage.rig.roster.spec, slot, stage.rig.at_s)))
                assert made.replicas in {made.current, inside}
                assert made.proposed is None
        return outcomes

    for _ in run(fleet, seed, 30, play):
        pass


def bounds_at(group: GroupSpec, slot: int, at_s: float) -> tuple[float, float]:
    rows = group.schedule
    now = (rows.owner == slot) & (rows.start_s <= at_s) & (at_s < rows.end_s)
    low, high = rows.min[now], rows.max[now]
    most = float(group.workloads.max[slot]) if np.isnan(high).all() else float(np.nanmax(high))
    least = float(group.workloads.min[slot]) if np.isnan(low).all() else float(np.nanmax(low))
    return min(least, most), most


@given(fleet=fleets(), seed=seeds)
@worlds(30)
def test_a_series_that_fails_never_lowers(fleet: list[WorkloadSpec], seed: int) -> None:
    stage = Stage()

    def play(tick: Tick) -> dict[Workload, Outcome]:
        facts = {name: replace(fact, loads=(*fact.loads[:-1], nan)) for name, fact in tick.facts.items()}
        outcomes = stage(replace(tick, facts=facts, join=[replace(each, fallback=None) for each in tick.join]))
        for name, made in outcomes.items():
            _, most = bounds_at(stage.rig.roster.spec, stage.rig.roster.slot(name), stage.rig.at_s)
            assert made.replicas is None or made.current is None or made.replicas >= min(made.current, most)
        return outcomes

    for _ in run(fleet, seed, 25, play):
        pass


@given(fleet=fleets(), seed=seeds, stop=st.integers(0, 20))
@worlds(20)
def test_the_same_checkpoint_and_observations_give_the_same_decisions(fleet: list[WorkloadSpec], seed: int, stop: int) -> None:
    stage, number = Stage(), 0
    twin: State | None = None

    def play(tick: Tick) -> dict[Workload, Outcome]:
        nonlocal number, twin
        stage.rig.roster.swap(tick.leave, tick.join)
        stage.rig.roster.restart(tick.reborn)
        stage.rig.at_s += (1 + tick.skipped) * INTERVAL_S
        group = stage.rig.roster.spec
        seen = stage.rig.history.record(group, observe(stage.rig.roster, stage.rig.at_s, tick.facts))
        before = snapshot(stage.rig.state), snapshot(seen), snapshot(group)
        if number == stop:
            twin = pickle.loads(pickle.dumps(stage.rig.state))  # noqa: S301 - our own
        state, decision = decide(stage.rig.state, seen, group)
        again, same = decide(stage.rig.state, seen, group)
        assert (snapshot(state), snapshot(decision)) == (snapshot(again), snapshot(same))
        assert (snapshot(stage.rig.state), snapshot(seen), snapshot(group)) == before, "nothing that it was given is changed"
        assert (writeable(state), writeable(decision)) == ([], [])
        if twin is not None:
            twin, theirs = decide(twin, seen, group)
            assert snapshot(theirs) == snapshot(decision)
        stage.rig.state, number = state, number + 1
        return {name: outcome(decision, stage.rig.roster.slot(name)) for name in tick.facts}

    for _ in run(fleet, seed, 25, play):
        pass


def test_nothing_is_decided_about_nobody() -> None:
    rig = Rig()
    assert rig.decide({}) == {}
    assert rig.decision.replicas.size == 0


def test_a_free_slot_is_never_written_whatever_an_adapter_leaves_there() -> None:
    rig = Rig(spec("a"), spec("b"))
    rig.roster.swap([workload("a")])
    group = rig.roster.spec
    seen = rig.history.record(group, known(group, START_S, np.full(group.slots, 5.0)))
    _, decision = decide(State(), seen, group)
    assert not decision.apply.any()
    assert decision.stages[1].reason[group.workloads.serial == 0].tolist() == [Reason.TARGET_UNKNOWN] * 7


def test_an_observation_without_history_is_refused() -> None:
    roster = Roster(INTERVAL_S)
    group = roster.swap(join=[spec()])
    with pytest.raises(ValueError, match=r"no demand: it must go through History.record before decide"):
        decide(State(), known(group, START_S, np.full(8, 5.0)), group)


def test_known_leaves_the_callers_array_alone() -> None:
    roster = Roster(INTERVAL_S)
    counts = np.full(8, 5.0)
    seen: Observation = known(roster.swap(join=[spec()]), START_S, counts, counts)
    counts[0] = 7
    assert (seen.current[0], seen.ready[0]) == (5, 5)


def test_a_decision_has_all_that_explains_it() -> None:
    rig = Rig(spec(mode=Mode.DRY_RUN, min_replicas=12, max_replicas=15), real=10)
    rig.tick(20)
    decision = rig.decision
    rig.tick(18, current=11)
    assert [float(stage.replicas[0]) for stage in decision.stages] == [20, 20, 20, 20, 20, 20, 20, 20, 15, 15]
    assert [Reason(int(stage.reason[0])) for stage in decision.stages][-2:] == [Reason.ABOVE_MAX, Reason.DRY_RUN]
    assert (rig.decision.observed[0], rig.decision.current[0], rig.decision.replicas[0]) == (11, 15, 15)
    assert (rig.decision.combined.expected[0], rig.decision.proposals[0].replicas[0]) == (18, 18)


@pytest.mark.parametrize("target", [pytest.param(target, id=target.name) for target in Target])
def test_zero_replicas_is_plain_zero(target: Target) -> None:
    rig = Rig(spec(min_replicas=0), real=0)
    made = rig.tick(0, target=target, written=(START_S, 5, 0))
    assert str(made.replicas) == "0.0"


def test_combine_takes_the_largest_and_counts_who_failed() -> None:
    owners = [np.array([0, 0, 1, FREE]), np.array([1, 2, FREE, FREE])]
    proposals = [
        Proposal(np.array([3.0, 7.0, nan, 99.0]), expected=np.array([4.0, nan, nan, 99.0])),
        Proposal(np.array([5.0, nan, 99.0, nan])),
    ]
    missing = [np.array([False, False, True, True]), np.array([False, False, True, False])]
    faulty = [np.zeros(4, np.bool_), np.array([False, True, False, False])]
    made = combine(owners, proposals, 4, missing, faulty)
    assert [known_or_none(value) for value in made.replicas] == [7, 5, None, None]
    assert [known_or_none(value) for value in made.expected] == [4, None, None, None]
    assert [made.asked.tolist(), made.failed.tolist(), made.missing.tolist(), made.faulted.tolist()] == [
        [2, 2, 1, 0],
        [0, 1, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
    ]
