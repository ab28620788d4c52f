"""What outlives the process: decisions after a restart are those of a run without one, and what was lost only ever holds."""

from dataclasses import dataclass, replace
from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.behavior import Behavior, Select
from autoscaler.core.checkpoint import memories, policy_fields, remembering, with_policy_fields
from autoscaler.core.decide import State
from autoscaler.core.policy import Traits
from autoscaler.core.types import Floats, Mode
from tests.core.build import HPA_CLASSIC, INTERVAL_S, Patient, Rig, behavior, choice, direction, percent, pods, spec, workload
from tests.core.snapshot import snapshot, writeable


class Kept(Patient):
    """Patient, whose count of ticks outlives the process."""

    traits = Traits(checkpoint=("above",))


directions = st.builds(
    direction,
    window_s=st.sampled_from([0.0, 15.0, 60.0, 300.0]),
    tolerance=st.sampled_from([0.0, 0.1]),
    rules=st.lists(st.sampled_from([pods(2, 60.0), pods(4, 15.0), percent(50, 120.0), percent(100, 15.0)]), max_size=2),
    select=st.sampled_from([Select.MAX, Select.MIN]),
)
behaviors = st.one_of(st.just(HPA_CLASSIC), st.builds(behavior, directions, directions))
# Above zero: whether a zero is believed is read from the history of the demand, which is filled back in from the source.
loads = st.lists(st.one_of(st.integers(1, 30).map(float), st.just(nan)), min_size=1, max_size=25)


def pending(rig: Rig) -> tuple[float, float, float] | None:
    return rig._written  # noqa: SLF001 - what the writer of the old process hands to that of the new one


def counts(rig: Rig) -> Floats:
    """The count that each target has once our write has arrived."""
    return np.full(rig.roster.spec.slots, rig.real)


def reborn(rig: Rig, *, lost: int = 0, beside: int = 0) -> Rig:
    """The same workload in a new process, in another slot, after ``lost`` ticks that nobody saw; its policy's state too."""
    (member,) = rig.roster.members().values()
    kept = memories(rig.state.guards, rig.roster.spec, rig.at_s, counts(rig))
    (series,) = rig.roster.series(member.workload).values()
    (call,) = rig.roster.spec.calls
    fields = policy_fields(rig.state, call, [series.slot])
    others = [spec(f"other-{number}", behavior=member.behavior) for number in range(beside)]
    new = Rig(*others, member, real=rig.real)
    new.roster.swap(leave=[other.workload for other in others])
    new.at_s, new._written = rig.at_s + lost * INTERVAL_S, pending(rig) if not lost else None  # noqa: SLF001
    slot = new.roster.slot(member.workload)
    current = np.full(new.roster.spec.slots, rig.real)
    found = dict.fromkeys([slot], *kept.values()) if kept else {}
    new.state = remembering(new.state, new.roster.spec, new.at_s + INTERVAL_S, current, found)
    (series,) = new.roster.series(member.workload).values()
    (call,) = new.roster.spec.calls
    new.state, _ = with_policy_fields(new.state, call, {series.slot: fields[0]})
    return new


@pytest.mark.parametrize("exact", [pytest.param(True, id="exact"), pytest.param(False, id="ours")])
@pytest.mark.parametrize(
    ("real", "load", "then"), [pytest.param(4, 30.0, [6, 6, 8], id="up"), pytest.param(20, 1.0, [18, 18, 16], id="down")]
)
def test_a_rate_rule_still_counts_what_was_written_before_a_restart(real: int, load: float, then: list[int], *, exact: bool) -> None:
    rules = behavior(direction(0.0, rules=[pods(2, 60.0)]), direction(0.0, rules=[pods(2, 60.0)]))
    rig = Rig(spec(behavior=replace(rules, exact=exact), policy=choice()), real=real)
    rig.tick(load)
    rig.tick(load)  # which takes note that it was written
    again = reborn(rig)
    assert [again.tick(load).replicas for _ in then] == then


@given(rules=behaviors, before=loads, after=loads, beside=st.integers(0, 9), dry=st.booleans(), exact=st.booleans())
@settings(max_examples=60)
def test_a_restart_between_two_ticks_changes_no_decision(
    rules: Behavior, before: list[float], after: list[float], beside: int, *, dry: bool, exact: bool
) -> None:
    mode = Mode.DRY_RUN if dry else Mode.ACTIVE
    rig = Rig(spec(behavior=replace(rules, exact=exact), policy=choice(Kept()), mode=mode, min_replicas=0), real=4)
    for load in before:
        rig.tick(load)
    again = reborn(rig, beside=beside)
    assert writeable(again.state) == []
    assert [again.tick(load) for load in after] == [rig.tick(load) for load in after]


@given(rules=st.builds(behavior, directions, directions), before=loads, lost=loads, after=loads)
@settings(max_examples=60)
def test_what_was_lost_scales_down_only_what_a_run_that_saw_it_all_does(
    rules: Behavior, before: list[float], lost: list[float], after: list[float]
) -> None:
    """Killed after a checkpoint: the next process has not seen what its predecessor then saw, nor what it then wrote.

    Within a window nothing goes down, as the count that was found holds it; and after it nothing of what was lost counts any more.
    """
    rig = Rig(spec(behavior=rules), real=4)
    for load in before:
        rig.tick(load)
    old = Rig(*rig.roster.members().values(), real=rig.real)
    old.state, old.at_s = replace(rig.state), rig.at_s
    for load in lost:
        rig.tick(load)
    old.real = rig.real
    again = reborn(old, lost=len(lost))
    held = max(round(rules.down.window_s / INTERVAL_S) - 1, 0)
    reached = [rig.real]
    for load in after:
        again.tick(load)
        reached.append(again.real)
    assert reached[: held + 1] == sorted(reached[: held + 1])


def outcomes(rig: Rig, *seen: float) -> list[float | None]:
    return [rig.tick(load).replicas for load in seen]


def test_lost_ticks_count_as_the_current_count() -> None:
    rig = Rig(spec(behavior=behavior(down=direction(60.0))), real=9)
    rig.tick(9.0)
    again = reborn(rig, lost=10)
    assert outcomes(again, 2.0, 2.0, 2.0, 2.0) == [9, 9, 9, 2], "one window after the last tick that was lost"


def test_a_change_that_nobody_saw_counts_as_ours() -> None:
    rig = Rig(spec(behavior=behavior(direction(rules=[pods(4, 60.0)]))), real=5)
    rig.tick(5.0)
    again = reborn(rig, lost=2)
    seen = memories(rig.state.guards, rig.roster.spec, rig.at_s, np.full(rig.roster.spec.slots, 2.0))
    again.state = remembering(State(), again.roster.spec, again.at_s + INTERVAL_S, np.full(again.roster.spec.slots, 5.0), seen)
    assert again.tick(90.0).replicas == 6, "three of the four in 60 s are used up: 2 became 5 while nobody looked"


def test_a_zero_stays_whose_it_was() -> None:
    ours = Rig(spec(min_replicas=0), real=3)
    ours.tick(0.0)
    ours.tick(0.0)
    assert reborn(ours).tick(4.0).replicas == 4
    by_hand = Rig(spec(min_replicas=0), real=3)
    by_hand.tick(3.0)
    by_hand.tick(3.0, current=0)
    by_hand.real = 0
    assert reborn(by_hand).tick(4.0).replicas == 0


def test_ticks_without_data_go_on_being_counted() -> None:
    rig = Rig(spec(), real=3)
    outcomes(rig, 3.0, nan, nan)
    assert memories(rig.state.guards, rig.roster.spec, rig.at_s, counts(rig))[0].failures == 2.0
    assert reborn(rig).state.guards.failures[0] == 2.0


@given(
    values=st.lists(st.one_of(st.integers(1, 40).map(float), st.just(nan)), min_size=1, max_size=40),
    window_s=st.sampled_from([15.0, 60.0, 300.0]),
)
def test_only_recommendations_that_can_matter_are_kept(values: list[float], window_s: float) -> None:
    rig = Rig(spec(behavior=behavior(down=direction(window_s))), real=20)
    for value in values:
        rig.tick(value)
    (memory,) = memories(rig.state.guards, rig.roster.spec, rig.at_s, counts(rig)).values()
    kept = [value for _, value in memory.recommendations]
    assert kept == sorted(set(kept), reverse=True), "strictly falling"
    assert all(then > rig.at_s - window_s for then, _ in memory.recommendations)
    window = [value for value in values[-round(window_s / INTERVAL_S) :] if not isnan(value)]
    assert max(kept, default=-inf) == max(window, default=-inf)


def test_who_has_not_been_seen_yet_has_nothing_to_keep() -> None:
    rig = Rig(spec(), real=3)
    assert memories(rig.state.guards, rig.roster.spec, rig.at_s, counts(rig)) == {}
    rig.tick(3.0, current=nan)
    (memory,) = memories(rig.state.guards, rig.roster.spec, rig.at_s, counts(rig)).values()
    assert isnan(memory.since_s)
    assert outcomes(reborn(rig, lost=4), 2.0) == [2], "no window, so nothing holds"


def test_a_slots_new_user_has_nothing_of_the_old_one() -> None:
    rig = Rig(spec("old"), real=7)
    rig.tick(7.0)
    rig.roster.swap(leave=[workload("old")], join=[spec("new")])
    assert memories(rig.state.guards, rig.roster.spec, rig.at_s, counts(rig)) == {}
    assert policy_fields(rig.state, rig.roster.spec.calls[0], [0, 700]) == [{}, {}]


@dataclass(frozen=True)
class Wide:
    above: Floats


class Wider(Patient):
    """A newer version of the policy, whose field has another shape."""

    traits = Traits(checkpoint=("above",))

    def init(self, params: object, n: int) -> Wide:  # type: ignore[override]  # noqa: ARG002 - the contract
        return Wide(np.zeros((2, n)))


@dataclass(frozen=True)
class Two:
    above: Floats
    below: Floats


class Twice(Patient):
    """A newer version of the policy, which has one field more."""

    traits = Traits(checkpoint=("above", "below"))

    def init(self, params: object, n: int) -> Two:  # type: ignore[override]  # noqa: ARG002 - the contract
        return Two(np.zeros(n), np.zeros(n))


class Raising(Patient):
    def init(self, params: object, n: int) -> Wide:  # type: ignore[override]
        raise ZeroDivisionError(f"{params} {n}")


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        pytest.param(Kept(), {"above": np.array(7, np.int8)}, id="another-type"),
        pytest.param(Kept(), {"below": np.array(7.0)}, id="another-name"),
        pytest.param(Wider(), {"above": np.array(7.0)}, id="another-shape"),
        pytest.param(Kept(), {"above": np.array(7.0), "below": np.array(7.0)}, id="one-too-many"),
        pytest.param(Twice(), {"above": np.array(7.0)}, id="one-lacks"),
        pytest.param(Raising(), {"above": np.array(7.0)}, id="a-policy-that-fails"),
    ],
)
def test_what_does_not_fit_any_more_starts_blank_as_a_whole(policy: Patient, fields: dict[str, np.ndarray]) -> None:
    rig = Rig(spec(policy=choice(policy)))
    state, restored = with_policy_fields(rig.state, rig.roster.spec.calls[0], {0: fields})
    assert state is rig.state
    assert restored == frozenset()


def test_a_policy_that_declares_nothing_keeps_nothing() -> None:
    rig = Rig(spec(policy=choice(Patient())))
    rig.tick(30.0)
    assert policy_fields(rig.state, rig.roster.spec.calls[0], [0]) == [{}]


def test_nothing_that_was_given_is_changed() -> None:
    rig = Rig(spec(behavior=behavior(direction(60.0), direction(60.0, rules=[pods(1, 60.0)]))))
    outcomes(rig, 30.0, 2.0, 12.0)
    before = snapshot(rig.state)
    kept = memories(rig.state.guards, rig.roster.spec, rig.at_s, counts(rig))
    remembering(rig.state, rig.roster.spec, rig.at_s + INTERVAL_S, counts(rig), kept)
    assert snapshot(rig.state) == before
