"""The bound is below everything that can be done, and is reached where nothing may be late."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.plant import Model, Plant, steps_in
from autoscaler.core.types import Floats, Ints
from autoscaler.simulation.bound import bound_of
from autoscaler.simulation.load import crowd, drawn, rates
from autoscaler.simulation.world import Setup, World

PLANT = Plant(step_s=1.0, capacity=10.0, knee=1.0, startup_s=2.0, drain_s=1.0, patience_s=4.0)
LOADS = st.lists(st.integers(0, 40), min_size=1, max_size=30).map(lambda values: np.array(values, dtype=np.float64))


def replayed(asked: Ints, first: int, arrivals: Floats, plant: Plant) -> tuple[Floats, float]:
    """(late requests of each step, pod-seconds) of asking for so many pods at each step, from ``first`` ready ones on."""
    world = World(Setup(plant), np.array([float(first)]))
    late, billed = [], 0.0
    for count, came in zip(asked, arrivals, strict=True):
        world.ask(np.array([float(count)]))
        step = world.advance(np.array([came]))
        late.append(step.outcome.late[0])
        billed += step.supply.billed[0] * plant.step_s
    return np.array(late), billed


def asked_for(ready: Ints, plant: Plant) -> Ints:
    """What to ask for so that ``ready`` pods are ready: each needs asking a start-up earlier."""
    ahead = int(steps_in(plant, plant.startup_s))
    return np.array([ready[step : step + ahead + 1].max() for step in range(ready.size)])


@given(LOADS)
def test_nothing_late_is_reached(arrivals: Floats) -> None:
    found = bound_of(arrivals, PLANT)
    first = int(found.ready[: int(steps_in(PLANT, PLANT.startup_s))].max(initial=0))
    asked = asked_for(found.ready, PLANT)
    late, billed = replayed(asked, min(first, int(asked[0])), arrivals, PLANT)
    assert late.sum() == 0
    assert found.late == 0
    assert billed == pytest.approx(found.pod_seconds)


@given(LOADS)
def test_one_pod_less_where_it_is_needed_is_late(arrivals: Floats) -> None:
    found = bound_of(arrivals, PLANT)
    for step in np.flatnonzero(arrivals):
        needed = -(-arrivals[step] // 10)
        assert found.ready[step] >= needed
    tight = np.flatnonzero((arrivals > 0) & (found.ready == np.ceil(arrivals / 10)))
    assert tight.size or not arrivals.any()
    for step in tight:
        fewer = found.ready.copy()
        fewer[step] -= 1
        world = World(Setup(PLANT), np.array([float(fewer[step])]))
        world.ask(np.array([float(fewer[step])]))
        assert world.advance(arrivals[step : step + 1]).outcome.late[0] > 0


@given(LOADS, st.lists(st.integers(0, 5), min_size=30, max_size=30), st.integers(0, 5), st.sampled_from(Model), st.integers(0, 2))
def test_nobody_is_cheaper_at_his_own_lateness(arrivals: Floats, asked: list[int], first: int, model: Model, least: int) -> None:
    plant = Plant(step_s=1.0, capacity=10.0, startup_s=2.0, drain_s=1.0, patience_s=4.0, model=model)
    counts = np.maximum(np.array(asked[: arrivals.size]), least)
    late, billed = replayed(counts, max(first, least), arrivals, plant)
    share = late.sum() / max(arrivals.sum(), 1e-9)
    assert bound_of(arrivals, plant, share, least).pod_seconds <= billed + 1e-6


@given(st.lists(st.integers(0, 10), min_size=1, max_size=8).map(lambda values: np.array(values, dtype=np.float64)), st.floats(0, 1))
def test_one_level_against_every_way_there_is(arrivals: Floats, share: float) -> None:
    """Up to ten requests a step need one pod: try all 2^steps ways. The bound is the best of the mixtures of two."""
    startup, drain = 2, 1
    ways = []
    for on in product([0, 1], repeat=arrivals.size):
        states = np.array([0, *on, 0])
        begins, ends = np.flatnonzero(np.diff(states) == 1), np.flatnonzero(np.diff(states) == -1)
        cost = sum(on) + np.minimum(begins, startup).sum() + np.minimum(arrivals.size - ends, drain).sum()
        ways.append((float(cost), float(arrivals[states[1:-1] == 0].sum())))
    allowed = share * arrivals.sum()
    best = min(cost for cost, late in ways if late <= allowed + 1e-9)
    costs, lates = np.array(ways).T
    prices = np.linspace(0, 12, 601)[:, None]
    mixed = (costs + prices * (lates - allowed)).min(axis=1).max()
    found = bound_of(arrivals, PLANT, share).pod_seconds
    assert found <= best + 1e-6
    assert found >= mixed - 1e-6
    if share == 0:
        assert found == best


@given(LOADS, st.floats(0, 1), st.floats(0, 1))
def test_more_lateness_costs_no_more(arrivals: Floats, one: float, other: float) -> None:
    strict, lax = (bound_of(arrivals, PLANT, share).pod_seconds for share in sorted((one, other)))
    assert lax <= strict + 1e-9


def test_a_day_at_twenty_pods() -> None:
    """A flash crowd: the bound is a little above the pods that the load needs, and lateness buys little of it."""
    plant = Plant()
    rate = rates(crowd(1000, 8000, 86400), plant.step_s)
    arrivals = drawn(rate, plant.step_s, 1)
    pods = np.ceil(arrivals / (0.85 * 100 * 15)).sum() * 15
    nothing, some = bound_of(arrivals, plant), bound_of(arrivals, plant, 0.002)
    assert pods < nothing.pod_seconds < 1.1 * pods
    assert 0.95 * nothing.pod_seconds < some.pod_seconds < nothing.pod_seconds
    assert bound_of(arrivals, plant, 0.002, min_replicas=15).pod_seconds > 15 * 86400


def test_columns_of_plants_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one capacity and one start-up time"):
        bound_of(np.ones(3), Plant(capacity=np.ones(2)))
