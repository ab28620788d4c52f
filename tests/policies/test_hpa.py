"""``hpa``: cases worked out by hand from the HPA's rules, a scalar reference, and each named difference with and without ``exact``."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.behavior import HPA_BEHAVIOR, Behavior
from autoscaler.core.policy import Pods, View, traits_of
from autoscaler.core.types import MetricType, PodPhase, PodReady, TargetKind
from autoscaler.testing import check_policy, columns_of, view_of
from policies.hpa import Hpa, HpaParams
from tests.policies.hpa_scalar import Metric, Place, Pod, wanted

NOW_S = 1_700_000_000.0
EXACT = HpaParams(exact=True)
EXTERNAL, PODS, MEMORY, CPU = MetricType.EXTERNAL, MetricType.PODS, MetricType.RESOURCE, MetricType.CPU
AVERAGE, VALUE, UTILIZATION = TargetKind.AVERAGE_VALUE, TargetKind.VALUE, TargetKind.UTILIZATION
PENDING, RUNNING, FAILED, DELETED, OTHER, GONE = PodPhase

Row = tuple[Metric, list[Pod], Place]


def seen(rows: list[Row], **columns: Any) -> View:  # noqa: ANN401 - columns of the view
    """The view of some series, each its own workload."""
    flat = [pod for _, pods, _ in rows for pod in pods]

    def column(values: list[float | None], *, times: float = 1.0, since: float = 0.0) -> np.ndarray:
        return np.array([nan if value is None else since + value * times for value in values], np.float64)

    pods = Pods(
        offsets=np.cumsum([0, *(len(pods) for _, pods, _ in rows)]),
        use=column([pod.use for pod in flat], times=1e-3),
        request=column([pod.request for pod in flat], times=1e-3),
        phase=np.array([pod.phase for pod in flat], np.int8),
        ready=np.array([pod.ready for pod in flat], np.int8),
        started_s=column([pod.started_s for pod in flat], since=NOW_S),
        ready_changed_s=column([pod.changed_s for pod in flat], since=NOW_S),
        sampled_s=column([pod.sampled_s for pod in flat], since=NOW_S),
        window_s=column([pod.window_s for pod in flat]),
    )
    target = [metric.target / (100 if metric.kind is UTILIZATION else 1000) for metric, _, _ in rows]
    given: dict[str, Any] = {
        "load": [metric.load / 1000 for metric, _, _ in rows],
        "target": target,
        "target_kind": [metric.kind for metric, _, _ in rows],
        "metric_type": [metric.type for metric, _, _ in rows],
        "observed": [place.current for _, _, place in rows],
        "status_replicas": [place.status for _, _, place in rows],
        "min": [0] * len(rows),
        "pods": pods,
        **columns,
    }
    current = given.pop("current", [place.current for _, _, place in rows])
    demand = given.pop("demand", [[1.0] * len(rows)])
    return view_of(demand, current, at_s=NOW_S, **given)


def asked(rows: list[Row], params: list[HpaParams], **columns: Any) -> list[float]:  # noqa: ANN401 - columns of the view
    policy, table = Hpa(), columns_of(params)
    _, proposal = policy(seen(rows, **columns), table, policy.init(table, len(rows)))
    return [float(replicas) for replicas in proposal.replicas]


def one(metric: Metric, pods: list[Pod], place: Place, params: HpaParams = EXACT, **columns: Any) -> float:  # noqa: ANN401
    return asked([(metric, pods, place)], [params], **columns)[0]


def cpu(target: int) -> Metric:
    return Metric(CPU, UTILIZATION, target)


def using(*uses: int | None, **fields: Any) -> list[Pod]:  # noqa: ANN401 - fields of a pod
    return [Pod(use, **fields) for use in uses]


@pytest.mark.parametrize(
    ("metric", "pods", "current", "replicas"),
    [
        pytest.param(cpu(30), using(300, 500, 700), 3, 5, id="up: u = 50, r = 5/3"),
        pytest.param(cpu(50), using(100, 200, 300), 5, 2, id="down counts the pods, not the count: u = 20, r = 0.4"),
        pytest.param(cpu(30), using(339, 339, 339), 3, 3, id="per cent is cut off: 33.9 is 33, which is tolerated"),
        pytest.param(cpu(30), using(330, 330), 2, 2, id="the upper edge of the tolerance is inside"),
        pytest.param(cpu(30), using(340, 340), 2, 3, id="beyond it"),
        pytest.param(cpu(30), using(270, 270, 270), 3, 3, id="the lower edge is inside"),
        pytest.param(cpu(30), using(269, 269, 269, 269), 4, 4, id="below it, 26/30 of four is still four"),
        pytest.param(cpu(30), using(190, 190, 190), 3, 2, id="below it, 19/30 of three is two"),
        pytest.param(cpu(100), using(*[70] * 100), 100, 8, id="0.07 x 100 is 7.000000000000001, so eight"),
        pytest.param(cpu(20), using(0, 0, 0), 3, 0, id="no use at all asks for none"),
        pytest.param(cpu(50), [Pod(900, 1000), Pod(100, 3000)], 2, 1, id="the sums' ratio, not the mean of ratios: 1000/4000"),
        pytest.param(cpu(50), using(100, 100, 100, None), 4, 3, id="missing, down: as if at 100 %: u = 32"),
        pytest.param(cpu(130), using(100, 100, 100, None), 4, 2, id="missing, down, target above 100 %: as if at target: u = 40"),
        pytest.param(cpu(50), using(900, 900, 900, None), 4, 6, id="missing, up: as if idle: u = 67"),
        pytest.param(cpu(50), using(700, 700, 700, None), 4, 4, id="missing, up, then tolerated: u = 52"),
        pytest.param(cpu(50), using(600, None), 2, 2, id="missing, up, then it would turn: u = 30"),
        pytest.param(cpu(50), using(450, None, None, None), 4, 4, id="missing, down, then it would turn"),
        pytest.param(cpu(50), using(500, None), 7, 7, id="missing at exactly the target: nothing is filled in"),
        pytest.param(cpu(50), using(200, 200, 200, None), 1, 1, id="missing, down, but more pods than the count: against itself"),
        pytest.param(cpu(50), using(900, 900, None), 9, 9, id="missing, up, but fewer pods than the count: against itself"),
        pytest.param(cpu(50), [*using(900, 900), *using(1, 1, phase=PENDING)], 4, 4, id="pending, up: as if idle: u = 45, it would turn"),
        pytest.param(cpu(50), [*using(900, 900, 900), *using(None, phase=PENDING)], 4, 6, id="pending, up: u = 67"),
        pytest.param(cpu(50), [*using(100, 100), *using(1, 1, phase=PENDING)], 4, 1, id="pending, down: left out"),
        pytest.param(cpu(50), [*using(900), *using(0, phase=FAILED), *using(0, phase=DELETED)], 3, 2, id="failed and deleted: left out"),
        pytest.param(cpu(50), [*using(900), *using(900, phase=OTHER)], 2, 4, id="succeeded or unknown pods count"),
        pytest.param(cpu(50), [*using(900), *using(None, phase=OTHER)], 2, 2, id="and miss their sample: u = 45, it would turn"),
        pytest.param(cpu(50), using(500, 500, phase=FAILED), 2, nan, id="nothing counted"),
        pytest.param(cpu(50), using(None, None), 2, nan, id="no sample"),
        pytest.param(cpu(50), [], 2, nan, id="no pods"),
        pytest.param(cpu(50), [Pod(900), Pod(900, None)], 2, nan, id="one without a request"),
        pytest.param(cpu(50), [Pod(900), Pod(900, None, phase=FAILED)], 2, nan, id="even a failed one"),
        pytest.param(cpu(50), using(900, 900, request=0), 2, nan, id="nothing requested"),
        pytest.param(
            cpu(50), [*using(900, 900, None), *using(900, phase=GONE)], 3, 5, id="a sample of a pod that is gone is one metric more"
        ),
        pytest.param(cpu(50), using(900, 900, ready=PodReady.FALSE), 2, 4, id="not Ready, but was once: counts"),
        pytest.param(Metric(PODS, AVERAGE, 10), using(10, 11), 2, 2, id="the mean is cut off: 10.5 is 10"),
        pytest.param(Metric(PODS, AVERAGE, 10), using(30, 21), 2, 5, id="the mean 25"),
        pytest.param(Metric(PODS, AVERAGE, 1000), using(100, 100, None), 3, 2, id="missing, down: as if at target: mean 400"),
        pytest.param(Metric(PODS, AVERAGE, 1000), using(3000, 3000, None), 3, 6, id="missing, up: as if at none: mean 2000"),
        pytest.param(Metric(PODS, AVERAGE, 1000), [*using(2000), *using(2000, phase=GONE)], 1, 2, id="one that is gone is in the mean"),
        pytest.param(Metric(PODS, AVERAGE, 1000), using(2000, request=None), 1, 2, id="requests do not matter to a plain metric"),
        pytest.param(Metric(PODS, AVERAGE, 1000), using(2000, 2000, ready=PodReady.NONE), 2, 4, id="nor does readiness"),
        pytest.param(Metric(MEMORY, UTILIZATION, 50), using(900, 900, ready=PodReady.NONE), 2, 4, id="nor to memory"),
    ],
)
def test_from_pods(metric: Metric, pods: list[Pod], current: int, replicas: float) -> None:
    place = Place(current, current)
    assert one(metric, pods, place) == pytest.approx(replicas, nan_ok=True)
    assert wanted(metric, pods, place) == pytest.approx(replicas, nan_ok=True)


FALSE, TRUE, UNKNOWN, NONE = PodReady.FALSE, PodReady.TRUE, PodReady.UNKNOWN, PodReady.NONE


@pytest.mark.parametrize(
    ("pod", "counts"),
    [
        pytest.param(Pod(ready=TRUE, started_s=-301, changed_s=0), True, id="old and Ready"),
        pytest.param(Pod(ready=FALSE, started_s=-301, changed_s=-300), False, id="old, not Ready since it started"),
        pytest.param(Pod(ready=FALSE, started_s=-301, changed_s=-272), False, id="old, not Ready since within the delay"),
        pytest.param(Pod(ready=FALSE, started_s=-301, changed_s=-271), True, id="old, not Ready since its end"),
        pytest.param(Pod(ready=FALSE, started_s=-301, changed_s=None), False, id="old, not Ready, nobody knows since when"),
        pytest.param(Pod(ready=UNKNOWN, started_s=-301, changed_s=-300), True, id="old, of unknown readiness"),
        pytest.param(Pod(ready=TRUE, started_s=-299, changed_s=-290), True, id="young and long Ready"),
        pytest.param(Pod(ready=TRUE, started_s=-299, changed_s=-40), True, id="young, sampled for a window since it was Ready"),
        pytest.param(Pod(ready=TRUE, started_s=-299, changed_s=-39), False, id="young, sampled since before it was Ready"),
        pytest.param(Pod(ready=TRUE, started_s=-299, changed_s=-69, window_s=None), False, id="a window that is not stated is 60 s"),
        pytest.param(Pod(ready=TRUE, started_s=-299, changed_s=-70, window_s=None), True, id="just over"),
        pytest.param(Pod(ready=FALSE, started_s=-299, changed_s=-200), False, id="young and not Ready"),
        pytest.param(Pod(ready=UNKNOWN, started_s=-299, changed_s=-200), True, id="young, of unknown readiness"),
        pytest.param(Pod(ready=TRUE, started_s=-300, changed_s=-1), True, id="the period ends when it is over"),
        pytest.param(Pod(ready=NONE), False, id="no condition"),
        pytest.param(Pod(started_s=None), False, id="no start time"),
        pytest.param(Pod(ready=TRUE, started_s=-299, changed_s=-200, sampled_s=None), False, id="a sample without a time"),
    ],
)
def test_whose_cpu_counts(pod: Pod, *, counts: bool) -> None:
    busy = replace(pod, use=900)
    rows: list[Row] = [(metric, [busy], Place(1, 1)) for metric in (cpu(50), Metric(MEMORY, UTILIZATION, 50))]
    assert asked(rows, [EXACT] * 2) == pytest.approx([2 if counts else nan, 2], nan_ok=True)
    policy, table = Hpa(), columns_of([EXACT] * 2)
    notes = policy(seen(rows), table, policy.init(table, 2))[1].notes
    assert (notes["counted"].tolist(), notes["unready"].tolist()) == ([float(counts), 1.0], [float(not counts), 0.0])


def load(total: int, target: int = 100, kind: TargetKind = AVERAGE) -> Metric:
    return Metric(EXTERNAL, kind, target, total)


@pytest.mark.parametrize(
    ("metric", "pods", "place", "replicas"),
    [
        pytest.param(load(501), [], Place(3, 3), 6, id="average: ceil(total / target)"),
        pytest.param(load(330), [], Place(3, 3), 3, id="average: the upper edge of the tolerance is inside"),
        pytest.param(load(331), [], Place(3, 3), 4, id="average: beyond it"),
        pytest.param(load(300), [], Place(7, 3), 3, id="average: within tolerance of the status count, which it then asks for"),
        pytest.param(load(0), [], Place(3, 3), 0, id="average: nothing asks for none"),
        pytest.param(load(0), [], Place(0, 0), 0, id="average: nothing at zero"),
        pytest.param(load(1), [], Place(0, 0), 1, id="average: from zero"),
        pytest.param(load(250), [], Place(0, 0), 3, id="average: from zero, more"),
        pytest.param(load(150, kind=VALUE), using(*[0] * 4), Place(4, 4), 6, id="value: ratio x ready pods"),
        pytest.param(load(150, kind=VALUE), using(*[0] * 4), Place(9, 9), 6, id="value: whatever the count"),
        pytest.param(load(110, kind=VALUE), using(0), Place(9, 9), 9, id="value: tolerated"),
        pytest.param(load(110, kind=VALUE), [], Place(9, 9), 9, id="value: tolerated, even without pods"),
        pytest.param(load(150, kind=VALUE), [], Place(9, 9), nan, id="value: no pods"),
        pytest.param(load(150, kind=VALUE), using(0, ready=FALSE), Place(9, 9), 0, id="value: no ready pod asks for none"),
        pytest.param(
            load(150, kind=VALUE), [Pod(), Pod(phase=DELETED), Pod(ready=UNKNOWN)], Place(9, 9), 3, id="value: a deleted pod serves"
        ),
        pytest.param(load(150, kind=VALUE), [Pod(), Pod(phase=OTHER), Pod(phase=PENDING)], Place(9, 9), 2, id="value: only Running ones"),
        pytest.param(load(101, kind=VALUE), [], Place(0, 0), 2, id="value: from zero without tolerance"),
    ],
)
def test_of_the_whole_workload(metric: Metric, pods: list[Pod], place: Place, replicas: float) -> None:
    assert one(metric, pods, place) == pytest.approx(replicas, nan_ok=True)
    assert wanted(metric, pods, place) == pytest.approx(replicas, nan_ok=True)


@pytest.mark.parametrize(
    ("up", "down", "uses", "replicas"),
    [
        pytest.param(0.0, 0.0, 500, 10, id="exactly at target"),
        pytest.param(0.0, 0.5, 510, 11, id="none up"),
        pytest.param(0.5, 0.0, 490, 10, id="none down, and 9.8 is ten"),
        pytest.param(0.5, 0.0, 449, 9, id="none down"),
        pytest.param(0.5, 0.0, 750, 10, id="wide up"),
        pytest.param(0.0, 1.0, 0, 10, id="all the way down"),
    ],
)
def test_tolerance_by_direction(up: float, down: float, uses: int, replicas: float) -> None:
    params = HpaParams(up, down, exact=True)  # type: ignore[arg-type]
    assert one(cpu(50), using(*[uses] * 10), Place(10, 10), params) == replicas


def test_quantities_are_rounded_up_to_thousandths_and_no_further() -> None:
    """3 x 0.1 is 0.30000000000000004: still 300 thousandths; 0.3001 is 301."""
    loads = [3 * 0.1, 0.3001, 0.3]
    rows: list[Row] = [(load(0, target=100), [], Place(0, 0))] * 3
    assert asked(rows, [EXACT] * 3, load=loads) == [3, 4, 3]


@pytest.mark.parametrize(("current", "replicas"), [pytest.param(12, 10, id="above max"), pytest.param(1, 2, id="below min")])
def test_a_count_outside_its_bounds_goes_to_them_whatever_the_load(current: int, replicas: int) -> None:
    assert one(load(450), [], Place(current, current), EXACT, min=[2], max=[10]) == replicas


@pytest.mark.parametrize(
    ("metric", "pods", "columns", "ours", "exact"),
    [
        pytest.param(Metric(PODS, AVERAGE, 1000), [*using(3000), *using(1000, phase=GONE)], {}, 3, 2, id="ownedPods"),
        pytest.param(cpu(50), [Pod(900), Pod(900, None)], {}, 4, nan, id="missingRequest"),
        pytest.param(cpu(50), [*using(900, 900), Pod(None, None)], {}, 6, nan, id="missingRequest of one without a sample"),
        pytest.param(load(150, kind=VALUE), using(0, ready=FALSE), {"demand": [[nan]]}, nan, 0, id="noReadyPod"),
        pytest.param(load(10**15), [], {"demand": [[nan]]}, nan, 2**31 - 1, id="absurdLoad"),
        pytest.param(cpu(50), using(*[500] * 4), {"current": [8], "observed": [4]}, 4, 8, id="dryRun: at target, but for twice the pods"),
        pytest.param(cpu(50), using(*[750] * 4), {"current": [6], "observed": [4]}, 6, 6, id="dryRun: what the shadow has is enough"),
        pytest.param(load(150, kind=VALUE), using(*[0] * 4), {"current": [6], "observed": [4]}, 6, 6, id="dryRun of a value"),
        pytest.param(load(100, kind=VALUE), using(*[0] * 4), {"current": [8], "observed": [4]}, 4, 8, id="dryRun of a value at target"),
    ],
)
def test_what_exact_switches_off(metric: Metric, pods: list[Pod], columns: dict[str, Any], ours: float, exact: float) -> None:
    current = columns.get("observed", [2])[0]
    got = [one(metric, pods, Place(current, current), params, **columns) for params in (HpaParams(), EXACT)]
    assert got == pytest.approx([ours, exact], nan_ok=True)


def test_without_pods_the_sum_over_the_ready_replicas_is_all_there_is() -> None:
    """Ten replicas, eight ready: demand 6 of 8 at 60 % is a use of 45 %; the HPA holds it against the target and asks for six."""
    rows: list[Row] = [(Metric(CPU, UTILIZATION, 60), [], Place(10, 10)), (Metric(PODS, AVERAGE, 1000, 9000), [], Place(10, 10))]
    assert asked(rows, [HpaParams()] * 2, demand=[[6.0, 9.0]], ready=[8.0, 8.0]) == [6, 9]
    assert asked(rows, [EXACT] * 2, demand=[[6.0, 9.0]], ready=[8.0, 8.0]) == pytest.approx([nan, nan], nan_ok=True)


def test_no_load_no_proposal() -> None:
    for params in (HpaParams(), EXACT):
        assert one(load(0), [], Place(3, 3), params, load=[nan], demand=[[nan]]) == pytest.approx(nan, nan_ok=True)


def test_a_view_without_loads_is_refused() -> None:
    policy, table = Hpa(), columns_of([HpaParams()])
    with pytest.raises(ValueError, match=r"it was made without traits\.pods"):
        policy(view_of([[1.0]], [1.0]), table, policy.init(table, 1))


def test_its_guards_are_the_hpas_without_tolerance_and_exact_if_it_is() -> None:
    behavior = traits_of(Hpa()).behavior
    assert behavior == HPA_BEHAVIOR.with_tolerance(0.0)
    made: list[Behavior] = [Hpa().guards(params, behavior.given) for params in (HpaParams(), EXACT)]
    assert made == [behavior.given, replace(behavior.given, exact=True)]


@pytest.mark.parametrize("exact", [False, True])
def test_keeps_every_property_of_a_policy_but_monotone(*, exact: bool) -> None:
    check_policy(Hpa, HpaParams(exact=exact))


def test_keeps_them_with_any_parameters() -> None:
    check_policy(Hpa)


sometimes_none = st.one_of(st.none(), st.integers(-400, 0).map(float))
pods_of_any_kind = st.builds(
    Pod,
    use=st.one_of(st.none(), st.integers(0, 3000), st.sampled_from([0, 500, 1000])),
    request=st.one_of(st.sampled_from([500, 1000, 1000, 1000, 0]), st.integers(1, 3000)),
    phase=st.sampled_from([*PodPhase, RUNNING, RUNNING, RUNNING]),
    ready=st.sampled_from([*PodReady, TRUE]),
    started_s=sometimes_none,
    changed_s=sometimes_none,
    sampled_s=sometimes_none,
    window_s=st.one_of(st.none(), st.sampled_from([15.0, 30.0])),
)
metrics = st.one_of(
    st.builds(Metric, st.sampled_from([CPU, MEMORY]), st.just(UTILIZATION), st.sampled_from([1, 30, 50, 77, 100, 130])),
    st.builds(Metric, st.sampled_from([CPU, MEMORY, PODS]), st.just(AVERAGE), st.sampled_from([1, 500, 1000, 1234])),
    st.builds(Metric, st.just(EXTERNAL), st.sampled_from([AVERAGE, VALUE]), st.sampled_from([1, 100, 999]), st.integers(0, 5000)),
)
places = st.builds(
    Place,
    current=st.integers(0, 12),
    status=st.integers(0, 12),
    up=st.sampled_from([0.0, 0.1, 0.05, 1.0]),
    down=st.sampled_from([0.0, 0.1, 0.05, 1.0]),
    initialization_s=st.sampled_from([0.0, 120.0, 300.0]),
    delay_s=st.sampled_from([0.0, 30.0]),
)
no_request = st.booleans()


@given(rows=st.lists(st.tuples(metrics, st.lists(pods_of_any_kind, max_size=7), places), min_size=1, max_size=5), unrequested=no_request)
def test_columns_equal_the_scalar_reference(rows: list[Row], *, unrequested: bool) -> None:
    if unrequested:
        rows = [
            (metric, [replace(pod, request=None) if number == 3 else pod for number, pod in enumerate(pods)], place)
            for metric, pods, place in rows
        ]
    params = [HpaParams(place.up, place.down, place.initialization_s, place.delay_s, exact=True) for _, _, place in rows]  # type: ignore[arg-type]
    expected = [wanted(metric, pods, place) for metric, pods, place in rows]
    assert asked(rows, params, max=[inf] * len(rows)) == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
