"""Tables of columns: grown, patched and cut without a change to what others hold; and every code has its words."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from autoscaler.core.behavior import HPA_BEHAVIOR, NO_BEHAVIOR
from autoscaler.core.columns import array_fields, patched, protected, revised, sharing, taken, widened
from autoscaler.core.types import REASON_TEXT, SIGNAL_TEXT, TARGET_REASON, Floats, Reason, Signal, Target


@dataclass(frozen=True)
class Table:
    name: str
    flat: Floats
    deep: Floats


def table() -> Table:
    return Table("t", np.arange(3.0), np.arange(6.0).reshape(2, 3))


def test_only_arrays_are_columns() -> None:
    assert list(array_fields(table())) == ["flat", "deep"]
    with pytest.raises(TypeError, match="expected a dataclass of arrays, got int"):
        array_fields(3)


def test_widening_pads_the_last_axis_and_leaves_what_is_wide_enough() -> None:
    old = table()
    assert widened(old.deep, 4, -1).tolist() == [[0, 1, 2, -1], [3, 4, 5, -1]]
    assert widened(old.flat, 3, -1) is old.flat
    assert widened(np.array([True]), 2, blank=False).tolist() == [True, False]


def test_patching_replaces_columns_in_a_copy() -> None:
    old = table()
    new = patched(old, np.array([2, 0]), {"flat": np.array([7.0, 8.0]), "deep": np.array([[1.0, 2.0], [3.0, 4.0]])})
    assert (new.flat.tolist(), new.deep.tolist()) == ([8, 1, 7], [[2, 1, 1], [4, 4, 3]])
    assert (old.flat.tolist(), new.name, new.flat.flags.writeable) == ([0, 1, 2], "t", False)


def test_revising_is_replacing() -> None:
    old = table()
    new = revised(old, {"flat": np.array([7.0])})
    assert (new.name, new.flat.tolist(), new.deep is old.deep, old.flat.tolist()) == ("t", [7], True, [0, 1, 2])
    with pytest.raises(TypeError, match="Table has no fields round"):
        revised(old, {"round": np.array([7.0])})


def test_taking_keeps_the_order_asked_for() -> None:
    cut = taken(table(), np.array([2, 0]))
    assert (cut.name, cut.flat.tolist(), cut.deep.tolist()) == ("t", [2, 0], [[2, 0], [5, 3]])


def test_protecting_shuts_a_view_and_not_the_owners_array() -> None:
    owner = table()
    shut = protected(owner)
    assert (shut.flat.flags.writeable, shut.deep.flags.writeable, owner.flat.flags.writeable) == (False, False, True)
    owner.flat[0] = 9
    assert shut.flat[0] == 9, "a view, not a copy"
    assert protected(shut) is shut


def test_every_code_has_its_words() -> None:
    assert (set(REASON_TEXT), set(SIGNAL_TEXT), set(TARGET_REASON)) == (set(Reason), set(Signal), set(Target))
    assert len(set(REASON_TEXT.values())) == len(Reason)
    assert [target for target, reason in TARGET_REASON.items() if reason is Reason.NONE] == [Target.OK]


def test_the_hpas_defaults() -> None:
    absent, given = HPA_BEHAVIOR.absent, HPA_BEHAVIOR.given
    assert (absent.classic, given.classic) == (True, False)
    assert (given.up.window_s, given.down.window_s, given.up.tolerance, given.down.tolerance) == (0, 300, 0.1, 0.1)
    assert [(rule.value, rule.period_s, rule.percent) for rule in given.up.rules] == [(4, 15, False), (100, 15, True)]
    assert [(rule.value, rule.period_s, rule.percent) for rule in given.down.rules] == [(100, 15, True)]


def test_a_tolerance_is_changed_in_both_directions_and_both_cases() -> None:
    changed = HPA_BEHAVIOR.with_tolerance(0.0)
    assert {b.up.tolerance for b in (changed.absent, changed.given)} | {b.down.tolerance for b in (changed.absent, changed.given)} == {0.0}
    assert (changed.absent.classic, changed.given.up.rules) == (True, HPA_BEHAVIOR.given.up.rules)
    assert NO_BEHAVIOR.given.up.rules == ()


@dataclass(frozen=True)
class Inner:
    a: Floats
    b: Floats


@dataclass(frozen=True, slots=True)
class Outer:
    at_s: float
    parts: tuple[Inner, ...]
    name: str = ""


def outer(at_s: float, *rows: tuple[list[float], list[float]]) -> Outer:
    return Outer(at_s, tuple(Inner(np.array(a), np.array(b)) for a, b in rows))


def test_what_is_as_before_is_kept_once() -> None:
    before = outer(1.0, ([1.0, np.nan], [2.0, 3.0]), ([0.0], [5.0]))
    after = outer(2.0, ([1.0, np.nan], [2.0, 4.0]), ([-0.0], [5.0]))
    found = sharing(after, before)
    assert found.at_s == 2.0
    assert found.parts[0].a is before.parts[0].a
    assert found.parts[0].b is after.parts[0].b
    assert found.parts[1].a is after.parts[1].a, "minus zero is another zero"
    assert found.parts[1].b is before.parts[1].b


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(None, id="nothing before"),
        pytest.param(outer(1.0), id="fewer parts"),
        pytest.param(outer(1.0, ([1.0, 2.0], [2.0, 3.0])), id="another shape"),
        pytest.param(Outer(1.0, (Inner(np.array([1], np.int64), np.array([2.5])),)), id="another type"),
        pytest.param(replace(outer(1.0, ([9.0], [9.0])), name="x"), id="other values"),
    ],
)
def test_what_is_otherwise_than_before_stays_as_it_is(before: Outer | None) -> None:
    after = outer(2.0, ([1.0], [2.0]))
    found = sharing(after, before)
    assert found is after
