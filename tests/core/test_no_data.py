"""What is held because it is not known: targets, counts, data, parts of the data; and the fallback."""

from math import nan

import pytest

from autoscaler.core.spec import Fallback, When
from autoscaler.core.types import Reason, Target
from tests.core.build import (
    EXTREME,
    HPA_CLASSIC,
    HPA_GIVEN,
    PATIENT,
    Rig,
    behavior,
    choice,
    direction,
    pods,
    series,
    spec,
)


@pytest.mark.parametrize("target", [pytest.param(target, id=target.name) for target in Target if target is not Target.OK])
def test_a_target_that_is_not_known_keeps_its_count_whatever_the_bounds(target: Target) -> None:
    made = Rig(spec(min_replicas=20, max_replicas=30), real=10).tick(25, target=target)
    assert (made.replicas, made.apply, len(made.reasons)) == (10, False, 1)


def test_a_count_that_is_not_known_is_never_written() -> None:
    rig = Rig(spec(behavior=HPA_CLASSIC))
    made = rig.tick(25, current=nan)
    assert (made.replicas, made.apply, made.reasons) == (None, False, {"noData": Reason.TARGET_UNKNOWN})
    assert rig.tick(5, current=20).replicas == 20, "the windows are seeded when the count is first known"


FIVE = Fallback(after=3, replicas=5)


@pytest.mark.parametrize(
    ("fallback", "real", "demands", "expected"),
    [
        pytest.param(None, 10, [nan] * 5, [10] * 5, id="none-holds-for-ever"),
        pytest.param(FIVE, 10, [nan] * 5, [10, 10, 5, 5, 5], id="at-the-third-tick-without-data"),
        pytest.param(FIVE, 10, [nan, nan, 8, nan, nan, nan], [10, 10, 8, 8, 8, 5], id="data-starts-the-count-afresh"),
        pytest.param(Fallback(1, 5, When.IF_HIGHER), 10, [nan], [10], id="if-higher-but-lower"),
        pytest.param(Fallback(1, 15, When.IF_HIGHER), 10, [nan], [15], id="if-higher"),
        pytest.param(Fallback(1, 5, When.IF_LOWER), 10, [nan], [5], id="if-lower"),
        pytest.param(Fallback(1, 15, When.IF_LOWER), 10, [nan], [10], id="if-lower-but-higher"),
        pytest.param(Fallback(1, 10, When.IF_HIGHER), 10, [nan], [10], id="if-higher-but-the-same"),
        pytest.param(Fallback(1, 500), 10, [nan], [100], id="within-bounds"),
        pytest.param(Fallback(1, 15), 10, [nan, 2, nan], [15, 2, 15], id="and-back-to-the-data"),
    ],
)
def test_fallback(fallback: Fallback | None, real: float, demands: list[float], expected: list[float]) -> None:
    rig = Rig(spec(fallback=fallback), real=real)
    assert [rig.tick(demand).replicas for demand in demands] == expected


@pytest.mark.parametrize("when", [When.IF_HIGHER, When.IF_LOWER])
def test_a_fallback_that_changes_nothing_is_a_hold(when: When) -> None:
    assert Rig(spec(fallback=Fallback(1, 10, when)), real=10).tick(nan).reasons == {"noData": Reason.NO_DATA}


def test_fallback_meets_tolerance_windows_and_rates() -> None:
    rig = Rig(spec(fallback=Fallback(1, 3), behavior=behavior(down=direction(30, 0.1, [pods(2, 15)]))), real=10)
    assert [rig.tick(nan).replicas for _ in range(5)] == [10, 10, 8, 6, 4]
    assert Rig(spec(fallback=Fallback(1, 11), behavior=HPA_GIVEN), real=10).tick(nan).replicas == 10


def test_ticks_without_a_target_do_not_count_for_the_fallback() -> None:
    rig = Rig(spec(fallback=FIVE), real=10)
    unseen = Target.STALE
    made = [rig.tick(nan, target=target).replicas for target in (Target.OK, unseen, unseen, unseen, Target.OK, Target.OK)]
    assert made == [10, 10, 10, 10, 10, 5]


def test_a_policy_that_abstains_holds_but_calls_for_no_fallback() -> None:
    rig = Rig(spec(fallback=Fallback(1, 5), policy=choice(PATIENT)), real=10)
    made = rig.tick(13)
    assert (made.replicas, made.reasons) == (10, {"noData": Reason.ABSTAINED})


TWO = (series("rps"), series("lag"))


@pytest.mark.parametrize(
    ("loads", "coverage", "replicas", "reason"),
    [
        pytest.param((8, 4), nan, 8, Reason.NONE, id="largest-wins"),
        pytest.param((8, nan), nan, 10, Reason.PARTIAL_DATA, id="one-missing-no-scale-down"),
        pytest.param((nan, 12), nan, 12, Reason.NONE, id="one-missing-scale-up"),
        pytest.param((10, nan), nan, 10, Reason.NONE, id="one-missing-as-it-is"),
        pytest.param((nan, nan), nan, 10, Reason.NO_DATA, id="both-missing"),
        pytest.param((8, 4), 0.89, 10, Reason.PARTIAL_DATA, id="coverage-below-90-percent"),
        pytest.param((8, 4), 0.9, 8, Reason.NONE, id="coverage-90-percent"),
        pytest.param((12, 4), 0.1, 12, Reason.NONE, id="coverage-never-stops-a-scale-up"),
    ],
)
def test_partial_data(loads: tuple[float, float], coverage: float, replicas: float, reason: Reason) -> None:
    made = Rig(spec(series=TWO), real=10).tick(*loads, coverage=coverage)
    assert (made.replicas, made.reasons.get("noData", Reason.NONE)) == (replicas, reason)


def test_a_series_without_data_has_no_say_whatever_its_policy_makes_of_the_past() -> None:
    rig = Rig(spec(policy=choice(EXTREME, window_s=300)), real=10)
    assert rig.tick(10).replicas == 10
    rig.real = 5
    made = rig.tick(nan)
    assert (made.proposed, made.replicas, made.reasons) == (None, 5, {"noData": Reason.NO_DATA})
