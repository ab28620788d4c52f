"""What an objective tells ``forecast``: how late requests are at which load per replica, and what comes of a target that is too high."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from autoscaler.core.behavior import NO_BEHAVIOR
from autoscaler.core.columns import full
from autoscaler.core.plant import Plant
from autoscaler.core.spec import Objective, PolicyChoice, Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import Workload
from autoscaler.simulation.load import drawn
from autoscaler.simulation.run import Case, run
from autoscaler.simulation.world import Setup
from policies.forecast import Forecast, ForecastParams
from policies.forecasting.lateness import corrected, late_share, noticed
from policies.forecasting.state import LOADS, ForecastState, blank

BEAT_S = 15.0
HALF_DAY = 2880  # beats


def taught(beats: int, *, demand: float = 9.0, ready: float = 10.0, late: float = 2.0, total: float = 100.0) -> ForecastState:
    """After so many beats alike."""
    state = replace(blank(1), usual=full(1, demand))
    for _ in range(beats):
        state = noted(state, demand, ready, late, total)
    return state


def noted(state: ForecastState, demand: float, ready: float, late: float, total: float) -> ForecastState:
    """After one beat."""
    return replace(state, **noticed(state, full(1, demand), full(1, ready), full(1, late), full(1, total), BEAT_S))


def at(state: ForecastState, load: float) -> float:
    """The share that is taken to be late at that load, where the plant alone says a hundredth at any."""
    prior = np.full((LOADS.size, 1), 0.01, np.float32)
    one = np.ones(1, np.float32)
    return float(corrected(state, prior, np.full((1, 1), load, np.float32), np.full((1, 1), 0.5, np.float32), one)[0, 0])


@pytest.mark.parametrize(
    ("seen", "learnt"),
    [
        pytest.param({}, True, id="told"),
        pytest.param({"total": 0.0}, False, id="no-requests"),
        pytest.param({"total": nan}, False, id="all-not-known"),
        pytest.param({"late": nan}, False, id="late-not-known"),
        pytest.param({"late": -1.0}, False, id="negative"),
        pytest.param({"ready": 0.0}, False, id="no-replicas"),
        pytest.param({"ready": nan}, False, id="replicas-not-known"),
        pytest.param({"demand": nan}, False, id="demand-not-known"),
    ],
)
def test_what_is_learnt_from(seen: dict[str, float], learnt: bool) -> None:  # noqa: FBT001 - a column of the table
    assert bool(np.isfinite(late_share(taught(20, **seen)))[0]) == learnt


def test_nothing_is_learnt_while_replicas_change() -> None:
    """A minute's mean would be of two counts."""
    state = blank(1)
    for beat in range(40):
        state = noted(state, 9.0, 10.0 + beat // 4 % 2, 2.0, 100.0)
    assert np.isnan(late_share(state)[0])


def test_nothing_is_learnt_while_saturation_hides_demand() -> None:
    state = replace(blank(1), calm=full(1, 2.0))
    for _ in range(40):
        state = noted(state, 9.0, 10.0, 2.0, 100.0)
    assert np.isnan(late_share(state)[0])


def test_the_plant_is_believed_until_there_is_more_to_go_by() -> None:
    shares = [at(taught(beats), 0.9) for beats in (6, 45, 400, 4000)]
    assert shares[0] == pytest.approx(0.01, abs=0.001)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.02, abs=0.0002)


def test_a_higher_load_is_at_least_as_late_and_a_lower_one_as_the_plant_has_it() -> None:
    state = taught(4000)
    assert at(state, 1.2) == pytest.approx(at(state, 0.9), rel=1e-4)
    assert at(state, 0.7) == pytest.approx(0.01)


def test_without_an_objective_nothing_is_corrected() -> None:
    assert at(blank(1), 0.9) == 0.5


def spec_of(target: float, objective: Objective | None) -> WorkloadSpec:
    series = SeriesSpec("load", Query("load"), target)
    choice = PolicyChoice("forecast", Forecast(), ForecastParams())
    return WorkloadSpec(Workload("test", "web"), (series,), choice, NO_BEHAVIOR.absent, 1, 1000, objective=objective)


def test_a_target_that_is_too_high_is_found_out() -> None:
    """Replicas carry 85 within the objective, the file says 110: without an objective a tenth is late, and no backtest would tell."""
    plant = Plant()
    rate = 850.0 * (1 + 0.3 * np.sin(np.arange(2 * HALF_DAY) * 4 * np.pi / HALF_DAY))[:, None]
    told = Objective(Query("late"), Query("total"))
    specs = [spec_of(110.0, None), spec_of(110.0, told), spec_of(85.0, None)]
    case = Case(specs, rate, drawn(rate[:, 0], plant.step_s, 0)[:, None], np.zeros(3, np.int64), Setup(plant))
    score = run(case, warm_s=HALF_DAY * plant.step_s).score
    blind, corrected_, right = score.late_share
    assert blind > 0.03
    assert corrected_ < 0.004
    assert right < 0.004
    assert score.pod_seconds[1] / score.pod_seconds[2] < 1.1
