"""Who has which slot, for how long, and what a change of a spec leaves in place."""

import random
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.policy import NoState, Proposal, View, history_s, param, traits_of
from autoscaler.core.roster import Roster, SeriesSlot, call_key, history_rows
from autoscaler.core.spec import PolicyChoice, ScheduleRow, WorkloadSpec
from autoscaler.core.types import FREE, Floats, Mode, TargetKind, Workload
from tests.core.build import (
    EXTREME,
    INTERVAL_S,
    PATIENT,
    Facts,
    Rig,
    behavior,
    choice,
    direction,
    pods,
    series,
    spec,
    workload,
)
from tests.core.snapshot import snapshot, writeable
from tests.core.worlds import fleets


def names(first: int, last: int) -> list[WorkloadSpec]:
    return [spec(f"w{number}") for number in range(first, last)]


def slots(roster: Roster) -> dict[str, int]:
    return {name.name: roster.slot(name) for name in roster.members()}


def serials(roster: Roster) -> dict[str, int]:
    return {name.name: int(roster.spec.workloads.serial[roster.slot(name)]) for name in roster.members()}


def places(roster: Roster, name: str) -> list[SeriesSlot]:
    return list(roster.series(workload(name)).values())


def test_slots_stay_whoever_comes_and_goes() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(join=names(0, 20))
    before, series_before = slots(roster), {name: places(roster, name) for name in slots(roster)}
    roster.swap([workload("w3"), workload("w7")], names(20, 60))
    stayed = before.keys() - {"w3", "w7"}
    assert {name: slots(roster)[name] for name in stayed} == {name: before[name] for name in stayed}
    assert {name: places(roster, name) for name in stayed} == {name: series_before[name] for name in stayed}


def test_a_leavers_slot_is_reused_under_another_serial() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(join=names(0, 3))
    slot, serial, place = slots(roster)["w1"], serials(roster)["w1"], places(roster, "w1")[0]
    roster.swap([workload("w1")])
    assert roster.spec.workloads.serial[slot] == 0
    roster.swap(join=names(9, 10))
    assert (slots(roster)["w9"], places(roster, "w9")[0].slot) == (slot, place.slot)
    assert serials(roster)["w9"] != serial
    assert places(roster, "w9")[0].serial != place.serial


def test_leaving_and_joining_under_one_name_at_once_is_another_workload() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(join=names(0, 3))
    serial, place = serials(roster)["w1"], places(roster, "w1")[0]
    roster.swap([workload("w1")], names(1, 2))
    assert serials(roster)["w1"] != serial
    assert places(roster, "w1")[0].serial != place.serial
    assert roster.spec.calls[0].owner[places(roster, "w1")[0].slot] == slots(roster)["w1"]


def test_many_swaps_take_no_more_slots_than_workloads() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(join=names(0, 8))
    for number in range(8, 300):
        roster.swap([workload(f"w{number - 8}")], names(number, number + 1))
    assert (roster.spec.slots, roster.spec.calls[0].owner.size, len(roster)) == (8, 8, 8)


CHANGES = [
    pytest.param({"min_replicas": 3, "max_replicas": 40}, True, True, id="bounds"),
    pytest.param({"mode": Mode.PAUSED}, True, True, id="mode"),
    pytest.param({"behavior": behavior(direction(60))}, True, True, id="behavior"),
    pytest.param({"policy": choice(EXTREME, window_s=300)}, True, True, id="a-number-of-the-policy"),
    pytest.param({"policy": choice(EXTREME, window_s=60, least=True)}, True, False, id="a-switch-of-the-policy"),
    pytest.param({"policy": choice(PATIENT)}, True, False, id="another-policy"),
    pytest.param({"series": (series("requests", 2.0),)}, True, False, id="another-target"),
    pytest.param({"series": (series("other"),)}, True, False, id="another-metric"),
    pytest.param({"series": (series("other"), series())}, True, True, id="one-more-metric"),
]


@pytest.mark.parametrize(("changes", "keeps_memory", "keeps_series"), CHANGES)
def test_an_update_keeps_what_has_not_changed(changes: dict[str, Any], keeps_memory: bool, keeps_series: bool) -> None:  # noqa: FBT001 - columns
    roster = Roster(INTERVAL_S)
    old = spec(policy=choice(EXTREME, window_s=60))
    roster.swap(join=[*names(0, 3), old])
    serial, (place,) = serials(roster)["web"], places(roster, "web")
    roster.swap(join=[replace(old, **changes)])
    assert (serials(roster)["web"] == serial) is keeps_memory
    assert (place in places(roster, "web")) is keeps_series


def test_an_update_keeps_the_history_of_what_has_not_changed() -> None:
    rig = Rig(spec(policy=choice(EXTREME, window_s=60)))
    assert rig.tick(20).replicas == 20
    rig.become(series=(series("other"), series()), max_replicas=50)
    made = rig.decide({workload(): Facts(20, (1.0, 1.0))})[workload()]
    assert made.proposed == 20, "the old metric's maximum"
    rig.become(series=(series("other"),))
    assert rig.tick(1).proposed == 1


def test_a_number_of_a_policy_changes_in_place() -> None:
    rig = Rig(spec(policy=choice(EXTREME, window_s=15)))
    rig.tick(20)
    rig.become(policy=choice(EXTREME, window_s=45))
    assert rig.tick(1).proposed == 20
    assert rig.roster.spec.calls[0].params.window_s[0] == 45


def test_text_and_bool_parameters_split_a_call_numbers_do_not() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(
        join=[
            spec("a", policy=choice(EXTREME, window_s=60)),
            spec("b", policy=choice(EXTREME, window_s=90)),
            spec("c", policy=choice(EXTREME, window_s=60, least=True)),
            spec("d", policy=choice(PATIENT)),
        ]
    )
    shown = {call.key: (call.params, [int(owner) for owner in call.owner if owner != FREE], call.rows) for call in roster.spec.calls}
    assert {key: (owners, rows) for key, (_, owners, rows) in shown.items()} == {
        "Extreme/least=False": ([0, 1], 6),
        "Extreme/least=True": ([2], 4),
        "Patient": ([3], 1),
    }
    assert shown["Extreme/least=False"][0].window_s[:2].tolist() == [60, 90]
    assert shown["Extreme/least=False"][0].least is False


@dataclass(frozen=True)
class Texts:
    a: str = param("", doc="text")
    b: str = param("", doc="text")


class Worded:
    Params = Texts

    def init(self, params: Texts, n: int) -> NoState:  # noqa: ARG002 - the contract
        return NoState()

    def __call__(self, view: View, params: Texts, state: NoState) -> tuple[NoState, Proposal]:  # noqa: ARG002 - the contract
        return state, Proposal(view.current)


def test_no_two_texts_share_a_call_by_accident() -> None:
    policies = [PolicyChoice("worded", Worded(), Texts(a, b)) for a, b in [("1/b=2", ""), ("1", "2/b="), ("1'/b='2", "")]]
    assert len({call_key(spec(policy=policy)) for policy in policies}) == 3


def test_calls_vanish_with_their_last_series() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(join=[spec("a"), spec("b", policy=choice(PATIENT))])
    roster.swap([workload("b")])
    assert [call.key for call in roster.spec.calls] == ["Proportional"]
    roster.swap([workload("a")])
    assert [call.key for call in roster.spec.calls] == []
    roster.swap(join=[spec("a", policy=choice(PATIENT))])
    assert [call.key for call in roster.spec.calls] == ["Patient"]


def test_equal_metrics_of_one_workload_are_one() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(join=[spec(series=(series(), series()))])
    assert (roster.spec.calls[0].owner != FREE).sum() == 1
    roster.swap([workload()])
    assert [call.key for call in roster.spec.calls] == []


def test_restart_is_another_object_behind_the_name() -> None:
    rig = Rig(spec(policy=choice(EXTREME, window_s=300), behavior=behavior(down=direction(300))), real=20)
    rig.tick(20)
    rig.roster.restart([workload()])
    made = rig.tick(2, current=5)
    assert (made.proposed, made.replicas) == (2, 5)
    assert rig.roster.slot(workload()) == 0


class Failing(Worded):
    def history_s(self, params: Texts) -> float:
        raise OverflowError(params.a)


@pytest.mark.parametrize(
    ("leave", "join", "error", "message"),
    [
        pytest.param([workload("x")], names(5, 6), ValueError, "cannot leave, as they are not here: Deployment shop/x", id="stranger"),
        pytest.param([], [*names(5, 6), spec("w5")], ValueError, "named twice: Deployment shop/w5", id="joiner-named-twice"),
        pytest.param([workload("w0")] * 2, [], ValueError, "named twice: Deployment shop/w0", id="leaver-named-twice"),
        pytest.param(
            [workload("w0")],
            [*names(5, 6), spec(policy=PolicyChoice("failing", Failing(), Texts("boom")))],
            OverflowError,
            "boom",
            id="policy-raises",
        ),
    ],
)
def test_a_swap_that_is_refused_changes_nothing(
    leave: list[Workload], join: list[WorkloadSpec], error: type[Exception], message: str
) -> None:
    roster = Roster(INTERVAL_S)
    before = roster.swap(join=names(0, 3))
    with pytest.raises(error, match=message):
        roster.swap(leave, join)
    assert roster.spec is before
    assert list(roster.members()) == [workload(f"w{number}") for number in range(3)]


@pytest.mark.parametrize(
    ("window_s", "rows"),
    [
        pytest.param(1, 1, id="less-than-a-row"),
        pytest.param(15, 1, id="a-row"),
        pytest.param(15.1, 2, id="rounded-up"),
        pytest.param(300, 20, id="many"),
        pytest.param(15 * (0.1 + 0.2) * 10, 3, id="rounding-is-no-row"),
    ],
)
def test_durations_are_rounded_up_to_rows(window_s: float, rows: int) -> None:
    assert history_rows(spec(policy=choice(EXTREME, window_s=window_s))) == rows


def test_what_a_policy_does_not_declare() -> None:
    assert (history_s(Worded(), Texts()), traits_of(Worded()).checkpoint) == (0, ())


def test_traits_of_another_kind_are_refused() -> None:
    class Wrong(Worded):
        def __init__(self) -> None:
            self.traits = {"season": True}

    with pytest.raises(TypeError, match=r"Wrong.traits: expected autoscaler.core.policy.Traits, got dict"):
        traits_of(Wrong())


def flat(roster: Roster, name: Workload) -> dict[str, Any]:
    """One workload's columns, read back."""
    spec_, slot = roster.spec, roster.slot(name)
    table = {item.name: getattr(spec_.workloads, item.name)[..., slot].tolist() for item in fields(spec_.workloads)}
    for rule in ("rule_value", "rule_period_s", "rule_percent"):
        periods = spec_.workloads.rule_period_s[..., slot]
        table[rule] = [[value for value, period in zip(*pair, strict=True) if period] for pair in zip(table[rule], periods, strict=True)]
    rows = spec_.schedule.owner == slot
    table["schedule"] = [column[rows].tolist() for column in (spec_.schedule.start_s, spec_.schedule.min)]
    by_key = {call.key: call for call in spec_.calls}
    table["series"] = [
        [
            float(by_key[place.call].target[place.slot]),
            TargetKind(int(by_key[place.call].target_kind[place.slot])),
            int(by_key[place.call].serial[place.slot]) == place.serial,
            int(by_key[place.call].owner[place.slot]) == slot,
            [value[place.slot] if isinstance(value, np.ndarray) else value for value in vars(by_key[place.call].params).values()],
        ]
        for place in roster.series(name).values()
    ]
    del table["serial"]
    return table


@given(fleet=fleets(6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_columns_say_of_each_workload_what_its_spec_says(fleet: list[WorkloadSpec], seed: int) -> None:
    draw = random.Random(seed)
    roster, members = Roster(INTERVAL_S), dict[Workload, WorkloadSpec]()
    for _ in range(12):
        leave = [name for name in members if draw.random() < 0.3]
        join = [replace(each, min_replicas=draw.randint(0, each.max_replicas)) for each in fleet if draw.random() < 0.5]
        before = roster.spec
        was = snapshot(before)
        roster.swap(leave, join)
        assert snapshot(before) == was, "columns are replaced, not changed"
        assert writeable(roster.spec) == []
        for name in leave:
            del members[name]
        members |= {each.workload: each for each in join}
        assert roster.members() == members
        assert len({roster.slot(name) for name in members}) == len(members)
        for name, each in members.items():
            alone = Roster(INTERVAL_S)
            alone.swap(join=[each])
            assert repr(flat(roster, name)) == repr(flat(alone, name))
        owners = [call.owner[call.owner != FREE] for call in roster.spec.calls]
        assert sum(owner.size for owner in owners) == sum(len(each.series) for each in members.values()), "no slot is lost"


def test_rules_of_any_number_stand_side_by_side() -> None:
    roster = Roster(INTERVAL_S)
    one, three = [pods(4, 15)], [pods(1, 60), pods(2, 120), pods(3, 180)]
    roster.swap(join=[spec("a", behavior=behavior(direction(rules=one)))])
    roster.swap(join=[spec("b", behavior=behavior(down=direction(rules=three)))])
    assert roster.spec.workloads.rule_value[:, :, :2].tolist() == [[[4, 0], [0, 0], [0, 0]], [[0, 1], [0, 2], [0, 3]]]
    assert flat(roster, workload("a"))["rule_period_s"] == [[15], []]


def test_schedules_follow_their_workloads() -> None:
    roster, row = Roster(INTERVAL_S), ScheduleRow(0, 60, 5)
    roster.swap(join=[spec("a", schedule=(row,)), spec("b", schedule=(row, row))])
    roster.swap([workload("a")], [spec("c", schedule=(row,))])
    assert sorted(roster.spec.schedule.owner.tolist()) == [0, 1, 1]
    roster.swap(join=[spec("b", schedule=())])
    assert roster.spec.schedule.owner.tolist() == [0]


def test_float_columns_are_floats() -> None:
    roster = Roster(INTERVAL_S)
    roster.swap(join=[spec(policy=choice(PATIENT, ticks=3))])
    column: Floats = roster.spec.calls[0].params.ticks
    assert column.dtype == np.float64
