"""What a policy gets to see: averaged, late, and capped where the pods are."""

import numpy as np
import pytest

from autoscaler.core.plant import Plant
from autoscaler.simulation.world import Measure, Setup, World

PLANT = Plant()


def played(setup: Setup, arrivals: list[float], pods: list[float]) -> World:
    world = World(setup, np.array(pods))
    for came in arrivals:
        world.advance(np.full(len(pods), came))
    return world


@pytest.mark.parametrize(
    ("steps", "load"),
    [
        pytest.param(0, None, id="nothing-happened"),
        pytest.param(1, None, id="younger-than-the-metric's-age"),
        pytest.param(2, 1500 / 15, id="one-step-old-enough"),
        pytest.param(3, (1500 + 3000) / 30, id="two"),
        pytest.param(6, (3000 + 4500 + 6000 + 7500) / 60, id="a-whole-window"),
    ],
)
def test_metric_is_a_mean_over_60_s_that_ended_15_s_ago(steps: int, load: float | None) -> None:
    world = played(Setup(measure=Measure.ARRIVALS), [1500.0 * (step + 1) for step in range(steps)], [10])
    sample = world.seen()
    assert (None if sample is None else sample.load[0]) == load


def test_other_windows_and_ages() -> None:
    setup = Setup(measure=Measure.ARRIVALS, window_s=15.0, age_s=0.0)
    sample = played(setup, [1500.0, 3000.0], [10]).seen()
    assert sample is not None
    assert sample.load.tolist() == [200.0]


@pytest.mark.parametrize(
    ("measure", "load", "saturated"),
    [
        pytest.param(Measure.ARRIVALS, [150, 150, 150], [False, False, False], id="arrivals"),
        pytest.param(Measure.SERVED, [100, 150, 150], [True, False, False], id="served"),
        pytest.param(Measure.UTILISATION, [100, 150, 150], [True, False, False], id="utilisation"),
    ],
)
def test_what_is_counted_behind_the_pods_is_capped_by_them(measure: Measure, load: list[float], saturated: list[bool]) -> None:
    """150 requests/s on 1, 2 and 10 pods of 100."""
    sample = played(Setup(measure=measure), [2250.0] * 8, [1, 2, 10]).seen()
    assert sample is not None
    assert sample.load == pytest.approx(load)
    assert sample.saturated.tolist() == saturated
    assert sample.total == pytest.approx([150] * 3)
    assert sample.late == pytest.approx([65 + 85, 0, 0])


def test_saturation_can_be_left_out() -> None:
    sample = played(Setup(flags=False), [2250.0] * 8, [1]).seen()
    assert sample is not None
    assert not sample.saturated.any()


def test_utilisation_is_of_the_pods_that_are_there_now() -> None:
    """Ten pods at 60 %, five of them gone two steps ago: three steps at 0.6 and one at 1, times the five that are left."""
    world = played(Setup(measure=Measure.UTILISATION), [9000.0] * 6, [10])
    world.ask(np.array([5.0]))
    world.advance(np.array([9000.0]))
    world.advance(np.array([9000.0]))
    sample = world.seen()
    assert sample is not None
    assert sample.ready[0] == 5
    assert sample.load[0] == pytest.approx((3 * 0.6 + 1.0) / 4 * 100 * 5)


def test_no_pods_serve_nothing_and_are_not_saturated() -> None:
    for measure in (Measure.SERVED, Measure.UTILISATION):
        sample = played(Setup(measure=measure), [1500.0] * 8, [0]).seen()
        assert sample is not None
        assert (sample.load[0], sample.saturated[0], sample.late[0]) == (0, False, 100)


def test_restart_loses_pods_and_requests_of_its_columns_only() -> None:
    world = played(Setup(), [4500.0] * 3, [1, 1])
    assert world.backlog.tolist() == [9000.0, 9000.0]
    world.restart(np.array([True, False]))
    assert (world.asked.tolist(), world.ready.tolist(), world.backlog.tolist()) == ([0, 1], [0, 1], [0, 9000])


def test_asked_pods_serve_after_their_start_up() -> None:
    world = World(Setup(PLANT), np.array([2.0]))
    world.ask(np.array([5.0]))
    assert (world.ready[0], world.existing[0]) == (2, 2)
    seen = []
    for _ in range(4):
        step = world.advance(np.array([0.0]))
        seen.append((step.supply.ready[0], step.supply.billed[0], world.existing[0]))
    assert seen == [(2, 5, 5), (2, 5, 5), (2, 5, 5), (5, 5, 5)]
