"""The plant against a scalar reference that follows every request and every pod, and what must hold whatever happens."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.plant import Backlog, Fleet, Model, Plant, fleet_of, late_share, load_within, needed, no_backlog, serve, supply
from autoscaler.core.types import Floats

STEPS = st.integers(1, 25)
ARRIVALS = st.integers(0, 60)
PODS = st.integers(0, 4)


def requests(arrivals: list[int], ready: list[int], plant: Plant) -> list[tuple[float, float, float]]:
    """(served, late, dropped) of each step, by following cohorts as one would with pencil and paper."""
    waiting: list[list[float]] = []  # [age in steps, requests], oldest first
    found = []
    for came, pods in zip(arrivals, ready, strict=True):
        limit = pods * float(plant.capacity) * plant.step_s
        work = came + sum(cohort[1] for cohort in waiting)
        late = min(came, max(0.0, work - plant.knee * limit))
        waiting.append([0, came])
        served = 0.0
        for cohort in waiting:
            taken = min(cohort[1], limit - served)
            cohort[1] -= taken
            served += taken
        dropped = sum(cohort[1] for cohort in waiting if cohort[0] == ceil(plant.patience_s / plant.step_s))
        waiting = [[age + 1, left] for age, left in waiting if age < ceil(plant.patience_s / plant.step_s)]
        found.append((served, late, dropped))
    return found


def pods(asked: list[int], first: int, startup: int, drain: int) -> list[tuple[int, int]]:
    """(ready, billed) of each step, by keeping a list of pods with the step in which each begins to serve."""
    alive, leaving = [0] * first, list[int]()
    found = []
    for now, count in enumerate(asked):
        while len(alive) > count:
            alive.remove(max(alive))  # the one that starts last goes first
            leaving.append(now + drain)
        alive += [now + startup] * (count - len(alive))
        leaving = [until for until in leaving if until > now]
        found.append((sum(since <= now for since in alive), len(alive) + len(leaving)))
    return found


def served(plant: Plant, arrivals: list[int], ready: list[int]) -> tuple[list[tuple[float, float, float]], Backlog]:
    backlog = no_backlog(plant, 1)
    found = []
    for came, count in zip(arrivals, ready, strict=True):
        backlog, outcome = serve(plant, backlog, np.array([float(came)]), np.array([float(count)]))
        found.append((outcome.served[0], outcome.late[0], outcome.dropped[0]))
    return found, backlog


SMALL = Plant(step_s=1.0, capacity=10.0, patience_s=3.0)


@given(data=st.data(), steps=STEPS)
def test_requests_equal_the_reference(data: st.DataObject, steps: int) -> None:
    arrivals = data.draw(st.lists(ARRIVALS, min_size=steps, max_size=steps))
    ready = data.draw(st.lists(PODS, min_size=steps, max_size=steps))
    found, _ = served(SMALL, arrivals, ready)
    np.testing.assert_allclose(found, requests(arrivals, ready, SMALL), atol=1e-9)


@given(data=st.data(), steps=STEPS, model=st.sampled_from(Model))
def test_no_request_is_lost_or_late_twice(data: st.DataObject, steps: int, model: Model) -> None:
    plant = replace(SMALL, model=model)
    arrivals = data.draw(st.lists(ARRIVALS, min_size=steps, max_size=steps))
    ready = data.draw(st.lists(PODS, min_size=steps, max_size=steps))
    found, backlog = served(plant, arrivals, ready)
    assert sum(step[0] + step[2] for step in found) + backlog.requests[0] == pytest.approx(sum(arrivals))
    late = [step[1] for step in found]
    assert all(0 <= some <= came for some, came in zip(late, arrivals, strict=True))
    # Whoever waits past the step, or is dropped in the end, was counted when it came: what is dropped later adds nothing.
    assert sum(step[2] for step in found) + backlog.requests[0] <= sum(late) + 1e-9


@given(data=st.data(), steps=STEPS, model=st.sampled_from(Model))
def test_one_pod_more_makes_nobody_later(data: st.DataObject, steps: int, model: Model) -> None:
    plant = replace(SMALL, model=model)
    arrivals = data.draw(st.lists(ARRIVALS, min_size=steps, max_size=steps))
    ready = data.draw(st.lists(PODS, min_size=steps, max_size=steps))
    fewer, _ = served(plant, arrivals, ready)
    more, _ = served(plant, arrivals, [count + 1 for count in ready])
    assert sum(step[1] for step in more) <= sum(step[1] for step in fewer) + 1e-9


@given(
    asked=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    first=st.integers(0, 5),
    startup=st.integers(0, 4),
    drain=st.integers(0, 3),
)
def test_pods_equal_the_reference(asked: list[int], first: int, startup: int, drain: int) -> None:
    plant = Plant(step_s=1.0, startup_s=float(startup), drain_s=float(drain))
    fleet = fleet_of(plant, np.array([float(first)]))
    found = []
    for count in asked:
        fleet, step = supply(plant, fleet, np.array([float(count)]))
        found.append((step.ready[0], step.billed[0]))
    assert found == pods(asked, first, startup, drain)


@given(asked=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=20))
def test_columns_do_not_touch_each_other(asked: list[list[int]]) -> None:
    """Start-up times of their own, any shape: each column goes as if it were alone."""
    startup, first = [0, 2, 5], [1, 3, 2]
    plant = Plant(step_s=1.0, startup_s=np.array([float(steps) for steps in startup]), drain_s=2.0)
    fleet = fleet_of(plant, np.array([[float(count) for count in first]] * 2))
    rows = []
    for counts in asked:
        fleet, step = supply(plant, fleet, np.array([[float(count) for count in counts]] * 2))
        rows.append((step.ready, step.billed))
    for column in range(3):
        expected = pods([counts[column] for counts in asked], first[column], startup[column], 2)
        for copy in range(2):
            assert [(ready[copy, column], billed[copy, column]) for ready, billed in rows] == expected


def test_ordered_pods_start_one_after_the_other() -> None:
    plant = Plant(step_s=15.0, startup_s=30.0, drain_s=0.0)
    fleet = fleet_of(plant, np.array([1.0, 1.0]))
    rows = []
    for _ in range(6):
        fleet, step = supply(plant, fleet, np.array([3.0, 3.0]), np.array([True, False]))
        rows.append([*step.ready, *step.billed])
    ordered, together, paid, paid_together = zip(*rows, strict=True)
    assert ordered == (1, 1, 2, 2, 3, 3)
    assert paid == (2, 2, 3, 3, 3, 3)
    assert together == (1, 1, 3, 3, 3, 3)
    assert paid_together == (3, 3, 3, 3, 3, 3)


def erlang_tail(slots: int, load: float, services: float) -> float:
    """P(T > services x mean service) of M/M/c, from the textbook sums, without a recursion."""
    offered = slots * load
    terms = [1.0]
    for k in range(1, slots + 1):
        terms.append(terms[-1] * offered / k)
    blocked = terms[-1] / (1 - load)
    waits = blocked / (sum(terms[:-1]) + blocked)
    spare = slots - 1 - offered
    return float(np.exp(-services) * (1 + waits * (1 - np.exp(-services * spare)) / spare))


@pytest.mark.parametrize(
    ("slots", "load", "services", "simulated", "error"),
    [
        pytest.param(4, 0.8, 3.0, 0.1724, 0.0013, id="c=4"),
        pytest.param(10, 0.85, 3.0, 0.0910, 0.0009, id="c=10"),
    ],
)
def test_slots_agree_with_event_simulation(slots: int, load: float, services: float, simulated: float, error: float) -> None:
    plant = Plant(model=Model.SLOTS, slots=slots, service_s=1.0, objective_s=services)
    found = late_share(plant, np.array([load]))[0]
    assert found == pytest.approx(simulated, abs=error)
    assert found == pytest.approx(erlang_tail(slots, load, services))


def test_slots_are_continuous_where_the_formula_is_not() -> None:
    """Five slots at load 0.8: x = 0, where the tail is exp(-t)(1 + C t)."""
    plant = Plant(model=Model.SLOTS)
    below, at, above = late_share(plant, np.array([0.8 - 1e-6, 0.8, 0.8 + 1e-6]))
    assert below < at < above
    assert above - below < 1e-7


@given(st.lists(st.floats(0, 3), min_size=2, max_size=2), st.sampled_from(Model))
def test_lateness_rises_with_load(loads: list[float], model: Model) -> None:
    low, high = late_share(Plant(model=model), np.array(sorted(loads)))
    assert 0 <= low <= high + 1e-12 <= 1 + 1e-12


def test_second_plant_is_late_two_in_a_thousand_at_86_per_cent() -> None:
    assert load_within(Plant(model=Model.SLOTS), 0.002) == pytest.approx(0.86, abs=0.001)


@pytest.mark.parametrize("model", Model)
@pytest.mark.parametrize("rate", [0.0, 1.0, 85.0, 850.0, 851.0, 12345.0])
def test_needed_pods_keep_the_objective_and_one_fewer_does_not(model: Model, rate: float) -> None:
    plant = Plant(model=model)
    count = needed(plant, np.array([rate]), 0.002)

    def share(pods: Floats) -> float:
        return float(late_share(plant, rate / (pods * 100.0))[0])

    assert share(count) <= 0.002 + 1e-6
    assert count[0] == 1 or share(count - 1) > 0.002


def test_risk_below_an_idle_pods_own_lateness_is_refused() -> None:
    with pytest.raises(ValueError, match=r"risk: at least 4\.5e-05 of the requests are late even on idle pods"):
        load_within(Plant(model=Model.SLOTS), 1e-6)


def test_states_are_read_only() -> None:
    plant = Plant()
    fleet, _ = supply(plant, fleet_of(plant, np.ones(2)), np.array([2.0, 0.0]))
    backlog, outcome = serve(plant, no_backlog(plant, 2), np.array([1e4, 0.0]), fleet.ready)
    arrays = [getattr(value, name) for value in (fleet, backlog, outcome) for name in value.__dataclass_fields__]
    assert [array.flags.writeable for array in arrays] == [False] * len(arrays)


def test_nothing_is_late_without_requests_or_served_without_pods() -> None:
    for model in Model:
        plant = Plant(model=model)
        _, idle = serve(plant, no_backlog(plant, 2), np.array([0.0, 500.0]), np.array([0.0, 0.0]))
        assert idle.late.tolist() == [0.0, 500.0]
        assert idle.served.tolist() == [0.0, 0.0]


def test_waiting_requests_are_dropped_after_their_patience() -> None:
    """60 s at steps of 15 s: asked in step 0, waits through steps 1 to 4, is gone after them."""
    plant = Plant(capacity=1.0)
    found, _ = served(plant, [100, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0])
    assert [step[2] for step in found] == [0, 0, 0, 0, 100, 0]


def test_types_name_what_they_hold() -> None:
    fleet = Fleet(np.array([[1.0], [2.0], [4.0]]), np.zeros((0, 1)))
    assert (fleet.ready[0], fleet.existing[0]) == (1.0, 4.0)
