"""The HPA as a peer: what it is set to, and that the search in hindsight finds what the whole grid would."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.plant import Plant
from autoscaler.core.types import TargetKind
from autoscaler.simulation.load import crowd, drawn, rates
from autoscaler.simulation.peers import GRID, USUAL, Setting, hpa, late_at, tuned
from autoscaler.simulation.score import Score
from autoscaler.simulation.sweep import swept
from autoscaler.simulation.world import Setup
from tests.core.build import spec


def test_the_grid_is_the_one_that_was_promised() -> None:
    assert len(GRID) == len(set(GRID)) == 66 * 4 * 3
    assert {setting.window_s for setting in GRID} == {15, 60, 120, 300}
    assert {setting.tolerance for setting in GRID} == {0, 0.05, 0.1}
    assert (min(GRID).target, max(GRID).target) == (0.3, 0.95)
    assert USUAL in GRID


def test_a_peer_is_the_hpa_with_the_workloads_own_bounds() -> None:
    like = spec(min_replicas=3, max_replicas=44)
    made = hpa(like, 200.0, Setting(0.5, 60.0, 0.05))
    assert (made.min_replicas, made.max_replicas, made.workload) == (3, 44, like.workload)
    assert (made.policy.name, made.policy.params.tolerance_up, made.policy.params.tolerance_down) == ("hpa", 0.05, 0.05)
    assert (made.series[0].target, made.series[0].target_kind) == (100.0, TargetKind.AVERAGE_VALUE)
    assert (made.behavior.down.window_s, made.behavior.classic, made.behavior.down.tolerance) == (60.0, True, 0.0)


def scores(late: Sequence[float], cost: Sequence[float]) -> Score:
    columns = {name: np.zeros(len(late)) for name in Score.__dataclass_fields__}
    return Score(**{**columns, "late_share": np.array(late), "pod_seconds": np.array(cost)})


@given(
    st.dictionaries(
        st.sampled_from([(w, t) for w in (15, 60, 120, 300) for t in (0, 0.05, 0.1)]), st.tuples(st.floats(0.2, 1.1), st.floats(1, 2))
    )
)
def test_the_search_finds_what_the_grid_has(curves: dict[tuple[float, float], tuple[float, float]]) -> None:
    """Lateness that begins at a target of each window's and tolerance's own, and cost that falls with the target."""
    ran: list[Setting] = []

    def figures(setting: Setting) -> tuple[float, float]:
        begins, dear = curves.get((setting.window_s, setting.tolerance), (0.5, 1.5))
        return max(0.0, setting.target - begins), dear / setting.target

    def trial(settings: Sequence[Setting]) -> Score:
        ran.extend(settings)
        return scores(*zip(*map(figures, settings), strict=True))

    found = tuned(trial, 0.002)
    kept = [setting for setting in GRID if figures(setting)[0] <= 0.002]
    assert len(ran) == len(set(ran)) < 240
    assert found.reached == bool(kept)
    if kept:
        assert figures(found.setting)[1] == min(figures(setting)[1] for setting in kept)
    else:
        assert figures(found.setting)[0] == min(figures(setting)[0] for setting in ran)
    assert {setting for setting, _, _ in found.tried} == set(ran)


def test_the_search_finds_the_grids_best_on_a_crowd() -> None:
    setup = Setup(Plant(step_s=30.0))
    rate = rates(crowd(1000.0, 4000.0, 8 * 3600.0, rise_s=1800.0), 30.0)
    arrivals = drawn(rate, 30.0, 1)
    like = spec(max_replicas=1000, interval_s=30.0)

    def trial(settings: Sequence[Setting]) -> Score:
        return swept([hpa(like, 100.0, setting) for setting in settings], rate, arrivals, setup, warm_s=3600.0).score

    found, whole = tuned(trial, 0.002), trial(GRID)
    kept = np.flatnonzero(whole.late_share <= 0.002)
    best = whole.pod_seconds[kept].min()
    assert found.reached
    assert whole.pod_seconds[GRID.index(found.setting)] <= 1.002 * best


@pytest.mark.parametrize(
    ("cost", "late"),
    [
        pytest.param(1.0, 0.5, id="cheapest"),
        pytest.param(1.5, 0.3, id="between"),
        pytest.param(2.5, 0.1, id="worse-points-do-not-count"),
        pytest.param(3.0, 0.1, id="dearest"),
        pytest.param(0.9, None, id="cheaper-than-any"),
        pytest.param(3.1, None, id="dearer-than-any"),
    ],
)
def test_lateness_at_equal_cost(cost: float, late: float | None) -> None:
    found = late_at([(2.0, 0.1), (1.0, 0.5), (3.0, 0.4)], cost)
    assert np.isnan(found) if late is None else found == pytest.approx(late)


def test_nothing_is_known_without_points() -> None:
    assert np.isnan(late_at([], 1.0))
