"""A fall to exactly zero from above two replicas is believed at the third tick, by decisions and by what is filled into the past."""

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from autoscaler.core.spec import Fallback
from autoscaler.core.types import Reason, TargetKind
from autoscaler.core.zeros import doubted, no_belief, resized, without_sudden
from tests.core.build import HPA_GIVEN, Rig, series, spec

HELD = {"noData": Reason.SUDDEN_ZERO}


@pytest.mark.parametrize(
    ("loads", "replicas", "reasons"),
    [
        pytest.param([10, 0, 0, 0], [10, 10, 10, 1], [{}, HELD, HELD, {"bounds": Reason.BELOW_MIN}], id="three-zeros"),
        pytest.param([10, 0, 0, 9, 0, 0], [10, 10, 10, 9, 9, 9], [{}, HELD, HELD, {}, HELD, HELD], id="a-load-ends-the-doubt"),
        pytest.param([10, 0, nan, 0, 0], [10, 10, 10, 10, 1], [{}, HELD, {"noData": Reason.NO_DATA}, HELD, None], id="gaps-do-not-count"),
        pytest.param([2, 0], [2, 1], [{}, None], id="from-two-it-is-no-wonder"),
        pytest.param([10, 2, 0], [10, 2, 1], [{}, {}, None], id="nor-step-by-step"),
        pytest.param([10, 1e-6, 0], [10, 1, 1], [{}, {}, None], id="almost-nothing-is-not-nothing"),
        pytest.param([0, 0, 0], [10, 10, 1], [HELD, HELD, None], id="first-thing-seen"),
        pytest.param([10, 0, 0, 0, 0], [10, 10, 10, 1, 1], [{}, HELD, HELD, None, None], id="then-it-stays"),
    ],
)
def test_a_sudden_zero(loads: list[float], replicas: list[float], reasons: list[dict[str, Reason] | None]) -> None:
    rig = Rig(spec(), real=10)
    made = [rig.tick(load) for load in loads]
    assert [each.replicas for each in made] == replicas
    assert [each.reasons if wanted is not None else None for each, wanted in zip(made, reasons, strict=True)] == reasons


def test_another_metric_that_goes_on_forbids_no_scale_up_and_no_more() -> None:
    rig = Rig(spec(series=(series("a"), series("b"))), real=10)
    rig.tick(10, 5)
    assert rig.tick(0, 12).replicas == 12
    lower = rig.tick(0, 5)
    assert (lower.replicas, lower.reasons) == (12, HELD)


def test_a_doubted_zero_calls_for_no_fallback_and_forgives_none() -> None:
    rig = Rig(spec(fallback=Fallback(2, 6)), real=10)
    rig.tick(10)
    assert [rig.tick(load).replicas for load in (0, nan, 0, nan)] == [10, 10, 10, 6], "two ticks without data, wherever the doubt lies"


def test_a_ratio_of_zero_is_a_zero_too() -> None:
    rig = Rig(spec(series=(series(kind=TargetKind.VALUE),)), real=10)
    rig.tick(1.0)
    assert rig.tick(0).reasons == HELD


def test_to_the_letter_of_the_hpa_zero_is_zero() -> None:
    rig = Rig(spec(behavior=replace(HPA_GIVEN, exact=True)), real=10)
    rig.tick(10)
    assert rig.tick(0).reasons != HELD


def test_who_comes_into_a_slot_is_believed_for_itself() -> None:
    belief, _ = doubted(no_belief(2), np.array([10.0, 10.0]), np.array([10.0, 10.0]))
    belief = resized(belief, 3, np.array([1, 2]))
    assert np.nan_to_num(belief.demand, nan=-1).tolist() == [10.0, -1, -1]
    _, sudden = doubted(belief, np.zeros(3), np.array([1.0, 1.0, 9.0]))
    assert sudden.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("recorded", "kept"),
    [
        pytest.param([5, 0, 5, 5], [5, -1, 5, 5], id="one-zero"),
        pytest.param([5, 0, 0, 0, 0], [5, -1, -1, 0, 0], id="the-third-is-believed"),
        pytest.param([0, 0, 5, 0], [0, 0, 5, -1], id="what-it-began-with"),
        pytest.param([2, 0, 1], [2, 0, 1], id="from-two"),
        pytest.param([5, 5, 5], [5, 5, 5], id="none"),
    ],
)
def test_the_recorded_past_is_held_to_the_same(recorded: list[float], kept: list[float]) -> None:
    past = np.array(recorded, np.float32)[:, None]
    assert np.nan_to_num(without_sudden(past)[:, 0], nan=-1).tolist() == kept
    assert past[:, 0].tolist() == recorded, "what was given stays"
