"""A comparison says the same as the runs behind it."""

import numpy as np
import pytest

from autoscaler.core.plant import Plant
from autoscaler.simulation.bound import bound_of
from autoscaler.simulation.comparison import Ground, busiest, compare
from autoscaler.simulation.load import crowd, drawn, rates
from autoscaler.simulation.peers import USUAL, hpa
from autoscaler.simulation.world import Setup
from tests.core.build import spec

STEP_S = 60.0
RATE = rates(crowd(1000.0, 4000.0, 8 * 3600.0, rise_s=1800.0), STEP_S)
GROUND = Ground("crowd", RATE, drawn(RATE, STEP_S, 1), Setup(Plant(step_s=STEP_S)), warm_s=3600.0, seed=1)
LIKE = spec(max_replicas=1000, interval_s=STEP_S)


def test_an_hpa_beside_itself_is_level_and_the_tuned_one_is_better() -> None:
    told: list[str] = []
    found = compare(GROUND, hpa(LIKE, 100.0), ("hpa", "hpa-tuned"), lambda stage, _: told.append(stage))
    own, usual, tuned = found.entries
    assert (own.name, usual.name, tuned.name) == ("hpa", "hpa", "hpa-tuned")
    assert own.figures.pop("trace") == usual.figures.pop("trace") == "crowd"
    assert own.figures.pop("policy") == usual.figures.pop("policy")
    assert own.figures == pytest.approx(usual.figures)
    assert np.array_equal(own.trajectory.asked, usual.trajectory.asked)
    assert tuned.figures["late_share"] <= 0.002
    assert tuned.figures["cost_ratio"] < usual.figures["cost_ratio"]
    assert usual.setting == str(USUAL)
    assert found.bound.pod_seconds == bound_of(GROUND.arrivals[60:], GROUND.setup.plant, 0.002, 1).pod_seconds
    assert set(told) == {"the policy", "the HPA", "the HPA tuned in hindsight"}


def test_every_entry_has_its_scored_steps() -> None:
    found = compare(GROUND, LIKE, ("hpa",))
    for entry in found.entries:
        steps = entry.trajectory
        assert steps.ready.shape == (RATE.size - 60, 1)
        assert steps.arrivals[:, 0].sum() == entry.figures["requests"] == GROUND.arrivals[60:].sum()
        assert steps.late.sum() == pytest.approx(entry.figures["late_share"] * entry.figures["requests"])
        assert steps.billed.sum() * STEP_S == pytest.approx(entry.figures["pod_seconds"])


def test_nobody_else_need_run() -> None:
    found = compare(GROUND, LIKE, ())
    assert (len(found.entries), found.tuning) == (1, None)
    assert np.isnan(found.equal_cost_late)


def test_the_busiest_day_has_the_peak() -> None:
    rate = rates(crowd(1000.0, 4000.0, 4 * 86400.0), STEP_S)
    ground = Ground("crowd", rate, rate * STEP_S, Setup(Plant(step_s=STEP_S)), warm_s=86400.0)
    begin, end = busiest(ground)
    assert end - begin == 1440
    assert begin <= int(np.argmax(rate)) - 1440 < end
    assert busiest(GROUND) == (0, RATE.size - 60)
