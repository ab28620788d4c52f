"""The closed loop around the real ``decide``: no look into the future, no column touches another, the step is small enough."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoscaler.core.plant import Model, Plant
from autoscaler.core.spec import WorkloadSpec
from autoscaler.core.types import Floats, Mode, TargetKind
from autoscaler.errors import ConfigError
from autoscaler.simulation.bound import bound_of
from autoscaler.simulation.load import Disturbance, crowd, daily, disturbed, drawn, rates, steady
from autoscaler.simulation.run import Case, Result, run
from autoscaler.simulation.score import column
from autoscaler.simulation.world import Measure, Setup
from tests.core.build import HPA_CLASSIC, behavior, direction, series, spec


def static(replicas: int) -> WorkloadSpec:
    """Always so many pods: bounds that leave no choice."""
    return spec(min_replicas=replicas, max_replicas=replicas)


def hpa(target: float = 60.0, **changes: Any) -> WorkloadSpec:  # noqa: ANN401 - fields of WorkloadSpec
    """A policy that wants the demand, behind the HPA's guards."""
    return replace(spec(series=(series(target=target),), behavior=HPA_CLASSIC, max_replicas=1000), **changes)


def case(rate: Floats, *specs: WorkloadSpec, setup: Setup | None = None, seed: int = 1, **changes: Any) -> Case:  # noqa: ANN401
    """One load for all specs."""
    setup = setup or Setup()
    arrivals = drawn(rate, setup.plant.step_s, seed)
    return Case(specs, rate[:, None], arrivals[:, None], np.zeros(len(specs), np.int64), setup, **changes)


def trajectories(result: Result) -> dict[str, Floats]:
    assert result.trajectory is not None
    return {name: getattr(result.trajectory, name) for name in type(result.trajectory).__dataclass_fields__}


CROWD = rates(crowd(1000.0, 4000.0, 3 * 3600.0), 15.0)


def test_replicas_follow_the_load_through_the_guards() -> None:
    """1000/s at 60 a pod is 17; the crowd of 4000/s is 67; five minutes after it has gone so have the pods."""
    found = trajectories(run(case(CROWD, hpa()), keep=True))
    asked, ready = found["asked"][:, 0], found["ready"][:, 0]
    top = int(np.argmax(asked))
    assert asked[200] in range(15, 19)
    assert asked[top] in range(65, 71)
    assert ready[top + 3] == asked[top]
    assert asked[-1] in range(15, 19)
    fell = int(np.flatnonzero(CROWD > 3990)[-1])  # the noise of the arrivals is about 1 %
    assert asked[fell + 20] > 0.9 * asked[top]


@pytest.mark.parametrize("measure", Measure)
def test_nothing_younger_than_the_metric_can_change_a_decision(measure: Measure) -> None:
    """A column for each step whose arrivals are multiplied or taken away, beside one that is as it was."""
    rate = CROWD[300:380]
    steps = rate.size
    arrivals = np.repeat(drawn(rate, 15.0, 1)[:, None], 2 * steps + 1, axis=1)
    for step in range(steps):
        arrivals[step, step] = 0.0
        arrivals[step, steps + step] *= 9.0
    many = Case([hpa()] * (2 * steps + 1), np.repeat(rate[:, None], 2 * steps + 1, axis=1), arrivals, np.arange(2 * steps + 1))
    asked = trajectories(run(replace(many, setup=Setup(measure=measure)), keep=True))["asked"]
    told = 0
    for column_ in range(2 * steps):
        differs = np.flatnonzero(asked[:, column_] != asked[:, -1])
        # Step i is over at tick i + 1, and 15 s old at tick i + 2: decisions up to tick i + 1 cannot know.
        assert not differs.size or differs[0] >= column_ % steps + 2
        told += differs.size > 0 and differs[0] == column_ % steps + 2
    assert told > steps / 2


def test_columns_run_as_if_alone() -> None:
    specs = [hpa(40.0), hpa(60.0, interval_s=30.0), hpa(80.0), hpa(60.0)]
    rate = CROWD[300:400]
    together = trajectories(run(case(rate, *specs), keep=True))
    for column_, each in enumerate(specs):
        alone = trajectories(run(case(rate, each), keep=True))
        for name, values in alone.items():
            assert np.array_equal(values[:, 0], together[name][:, column_]), name


def test_loads_are_given_by_number() -> None:
    low, high = (rates(steady(rate, 3600.0), 15.0) for rate in (300.0, 3000.0))
    both = np.stack([low, high], axis=1)
    arrivals = np.stack([drawn(low, 15.0, 1), drawn(high, 15.0, 1)], axis=1)
    found = run(Case([hpa()] * 3, both, arrivals, np.array([1, 0, 1])), keep=True)
    asked = trajectories(found)["asked"][-1]
    assert asked[0] == asked[2]
    assert (asked[1], asked[0]) == (5, pytest.approx(50, abs=4))


@pytest.mark.parametrize("model", Model)
def test_half_the_step_gives_the_same_figures(model: Model) -> None:
    """An HPA under a crowd: cost, lateness and lack of pods are within a few per cent of those at 15 s."""
    scores = []
    for step_s in (15.0, 7.5):
        setup = Setup(Plant(step_s=step_s, model=model))
        rate = rates(crowd(1000.0, 4000.0, 2 * 3600.0, rise_s=300.0), step_s)
        arrivals = np.stack([drawn(rate, step_s, seed) for seed in range(8)], axis=1)
        many = Case([hpa(80.0)] * 8, np.repeat(rate[:, None], 8, axis=1), arrivals, np.arange(8), setup)
        scores.append(run(many).score)
    coarse, fine = scores
    assert coarse.pod_seconds.mean() == pytest.approx(fine.pod_seconds.mean(), rel=0.02)
    assert coarse.late_share.mean() == pytest.approx(fine.late_share.mean(), rel=0.05)
    assert coarse.under_accuracy.mean() == pytest.approx(fine.under_accuracy.mean(), rel=0.05)


def test_no_policy_is_cheaper_than_the_bound_at_its_own_lateness() -> None:
    specs = [hpa(target, behavior=rule) for target in (50.0, 70.0, 85.0, 95.0) for rule in (HPA_CLASSIC, behavior())]
    whole = case(CROWD, *specs)
    score = run(whole, warm_s=1800.0).score
    for p in range(len(specs)):
        bound = bound_of(whole.arrivals[120:, 0], Plant(), float(score.late_share[p]))
        assert bound.pod_seconds <= score.pod_seconds[p]


def test_enough_pods_throughout_are_never_too_few() -> None:
    peak = int(np.ceil(CROWD.max() / 85))
    found = column(run(case(CROWD, static(peak)), warm_s=60.0).score, 0)
    assert (found["under_share"], found["scale_actions_per_hour"]) == (0, 0)
    assert found["late_share"] < 0.001


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6).map(sorted))
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
def test_more_static_pods_cost_more_and_make_less_late(counts: list[int]) -> None:
    score = run(case(CROWD[300:350], *map(static, counts)), warm_s=60.0).score
    assert (np.diff(score.pod_seconds) >= 0).all()
    assert (np.diff(score.late_share) <= 1e-12).all()


def test_warm_up_is_not_scored() -> None:
    rate = CROWD[250:450]
    whole, cut = run(case(rate, hpa()), keep=True), run(case(rate, hpa()), warm_s=1800.0, keep=True)
    for name, values in trajectories(cut).items():
        assert np.array_equal(values, trajectories(whole)[name][120:]), name
    assert cut.score.requests[0] == trajectories(cut)["arrivals"].sum()


def test_same_seed_same_run() -> None:
    rate = CROWD[250:350]
    factor = disturbed(Disturbance(noise=0.05, dropout=0.05), rate.size, 15.0, 3)[:, None]
    first, second = (trajectories(run(case(rate, hpa(), factor=factor), keep=True)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_without_an_answer_nothing_moves() -> None:
    rate = CROWD[250:450]
    found = column(run(case(rate, hpa(), factor=np.full((rate.size, 1), np.nan))).score, 0)
    assert (found["scale_actions_per_hour"], found["peak_replicas"]) == (0, np.ceil(rate[:40].max() / 60))


@pytest.mark.parametrize("kind", TargetKind)
def test_every_kind_of_target_is_fed_in_its_own_unit(kind: TargetKind) -> None:
    """1000/s at 60 a pod: as a mean, a value or a utilisation of 0.6, it is 17 pods."""
    target = 0.6 if kind is TargetKind.UTILIZATION else 60.0
    one = spec(series=(series(target=target, kind=kind),), max_replicas=1000)
    found = trajectories(run(case(rates(steady(1000.0, 1800.0), 15.0), one), keep=True))
    assert found["asked"][-1, 0] in (17, 18)


def test_ordered_pods_take_longer() -> None:
    rate = CROWD[250:450]
    together, one_by_one = (run(case(rate, hpa(), ordered=ordered)).score for ordered in (False, True))
    assert one_by_one.late_share[0] > 1.2 * together.late_share[0]


def test_a_dry_run_is_carried_out() -> None:
    rate = CROWD[250:450]
    for mode in (Mode.DRY_RUN, Mode.PAUSED):
        dry, real = (run(case(rate, hpa(mode=each)), keep=True) for each in (mode, Mode.ACTIVE))
        assert np.array_equal(trajectories(dry)["asked"], trajectories(real)["asked"])


def test_saturation_is_told_where_the_metric_hides_the_load() -> None:
    """A crowd that four pods cannot serve: the served requests never say more than four pods' worth."""
    rate = rates(steady(1000.0, 1800.0), 15.0)
    found = trajectories(run(case(rate, static(4), setup=Setup(measure=Measure.SERVED)), keep=True))
    assert found["served"][50:, 0].max() == 4 * 100 * 15
    assert found["late"][50:, 0] == pytest.approx(found["arrivals"][50:, 0])


def test_progress_is_told_in_steps() -> None:
    told: list[int] = []
    run(case(rates(daily(100.0, 500.0, 9000.0), 15.0), hpa()), progress=told.append)
    assert told == [256, 512]


def test_each_column_has_guards_of_its_own() -> None:
    slow = behavior(up=direction(), down=direction(window_s=1800.0))
    found = trajectories(run(case(CROWD[250:], hpa(), hpa(behavior=slow)), keep=True))["asked"]
    assert (found[:, 1] >= found[:, 0] - 8).all()
    assert found[:, 1].sum() > 1.05 * found[:, 0].sum()


RATE = np.full(100, 100.0)


@pytest.mark.parametrize(
    ("broken", "warm_s", "complaint"),
    [
        pytest.param(replace(case(RATE, hpa()), arrivals=np.ones((99, 1))), 0.0, r"expected one shape \[step, load\]", id="arrivals"),
        pytest.param(replace(case(RATE, hpa()), factor=np.ones((100, 2))), 0.0, r"expected one shape \[step, load\]", id="factor"),
        pytest.param(replace(case(RATE, hpa()), load_of=np.zeros(2, np.int64)), 0.0, r"load_of: expected one load number", id="numbers"),
        pytest.param(replace(case(RATE), specs=()), 0.0, r"load_of: expected one load number for each of the 0", id="nobody"),
        pytest.param(case(RATE, hpa()), 1500.0, r"the load lasts 1500 s, expected more than the 1500 s", id="all-warm-up"),
        pytest.param(case(RATE, hpa(interval_s=10.0)), 0.0, r"interval, 10 s, must be a multiple of .* step, 15 s", id="interval"),
        pytest.param(case(RATE, hpa(), start_s=7.0), 0.0, r"start_s: expected a multiple of every interval", id="start"),
    ],
)
def test_what_cannot_be_run_is_refused(broken: Case, warm_s: float, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run(broken, warm_s=warm_s)
