from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from math import nan
from typing import Any

import pytest

from autoscaler.core.behavior import HPA_BEHAVIOR, NO_BEHAVIOR, Behavior, BehaviorDefaults, RateRule, Select
from autoscaler.core.selector import Operator, Requirement, Selector
from autoscaler.core.spec import Coverage, Fallback, Objective, Query, ScheduleRow, SeriesSpec, Usage, When, WorkloadSpec
from autoscaler.core.types import MetricType, Mode, TargetKind, Workload
from autoscaler.policyfile.load import File, assemble, parse, to_specs
from autoscaler.policyfile.schema import BehaviorField
from autoscaler.policyfile.specs import behavior_of
from autoscaler.registry import find

NOW_S = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
DAY_S = 86400.0

FULL = """\
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: orders, namespace: shop, labels: {team: sales}, annotations: {note: "1"}}
spec:
  scaleTargetRef: {apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: orders}
  minReplicas: 0
  maxReplicas: 60
  interval: 1m
  metrics:
    - name: requests
      prometheus: {query: ' up ', endpoint: other, whenEmpty: zero, labels: {namespace: ns, name: deployment}}
      target: {averageValue: 1500m}
      activation: "5"
    - name: busy
      prometheus: {query: up}
      target: {value: 0.7}
      saturation: {query: max(full), endpoint: other, labels: {name: app}}
  policy: {type: movingAverage, kind: weighted, window: 5m, panicThreshold: 3}
  behavior: {scaleDown: {stabilizationWindowSeconds: 60}}
  schedule:
    - {name: day, start: 0 8 * * *, end: 0 18 * * *, minReplicas: 5}
    - {name: night, start: 0 22 * * *, end: 0 6 * * *, maxReplicas: 4}
  fallback: {afterFailures: 4, replicas: 6, when: ifLower}
  mode: {type: paused, until: 2026-06-02T14:00:00+02:00}
  startup: 1m30s
  coverage: {query: count(up == 1), endpoint: other, labels: {name: app}}
"""


SOURCE = "prometheus: {query: up}\n      target: {averageValue: 85}"
CPU_OF_PODS = "resource: {name: cpu}\n      target: {averageUtilization: 60}"
TYPE = "\n  policy: {type: movingAverage}"


def spec_of(text: str, now_s: float = NOW_S) -> WorkloadSpec:
    (spec,) = to_specs(assemble([parse(File("shop.yaml", text.encode()))]), now_s).specs
    return spec


def test_every_field_reaches_the_core() -> None:
    moving_average = find("movingAverage")
    params, _ = moving_average.params({"kind": "weighted", "window_s": 300.0, "panic_threshold": 3.0})
    spec = spec_of(FULL)
    assert (spec.policy.name, spec.policy.policy, spec.policy.params) == ("movingAverage", moving_average.policy, params)
    given = HPA_BEHAVIOR.given
    assert spec == WorkloadSpec(
        workload=Workload("shop", "orders", "Rollout", "argoproj.io/v1alpha1"),
        series=(
            SeriesSpec(
                "requests", Query("up", "other", empty_is_zero=True), 1.5, activation=5.0, match=(("ns", "shop"), ("deployment", "orders"))
            ),
            SeriesSpec(
                "busy", Query("up"), 0.7, TargetKind.VALUE, saturation=Query("max(full)", "other"), saturation_match=(("app", "orders"),)
            ),
        ),
        policy=spec.policy,
        behavior=replace(given, down=replace(given.down, window_s=60.0)),
        min_replicas=0,
        max_replicas=60,
        interval_s=60.0,
        schedule=(
            ScheduleRow(NOW_S - 4 * 3600, NOW_S + 6 * 3600, 5.0, nan),
            ScheduleRow(NOW_S + 10 * 3600, NOW_S + 18 * 3600, nan, 4.0),
            ScheduleRow(NOW_S + 20 * 3600, NOW_S + 30 * 3600, 5.0, nan),
            ScheduleRow(NOW_S + 34 * 3600, NOW_S + 42 * 3600, nan, 4.0),
            ScheduleRow(NOW_S + 44 * 3600, NOW_S + 54 * 3600, 5.0, nan),
        ),
        fallback=Fallback(4, 6, When.IF_LOWER),
        mode=Mode.PAUSED,
        mode_until_s=NOW_S + DAY_S,
        startup_s=90.0,
        coverage=Coverage(Query("count(up == 1)", "other"), (("app", "orders"),), is_given=True),
        origin="shop.yaml (orders)",
    )


def test_defaults(policy_text: Callable[..., str]) -> None:
    spec = spec_of(policy_text())
    assert spec.workload == Workload("shop", "web", "Deployment", "apps/v1")
    assert (spec.interval_s, spec.schedule, spec.fallback, spec.mode) == (15.0, (), None, Mode.ACTIVE)
    assert (str(spec.mode_until_s), str(spec.startup_s)) == ("nan", "nan")
    assert spec.behavior == HPA_BEHAVIOR.absent


@pytest.mark.parametrize("defaults", [pytest.param(HPA_BEHAVIOR, id="hpa"), pytest.param(NO_BEHAVIOR, id="none")])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(None, lambda defaults: defaults.absent, id="absent"),
        pytest.param({}, lambda defaults: defaults.given, id="empty"),
        pytest.param({"maxScaleDownsPerHour": 4}, lambda defaults: replace(defaults.given, downs_per_hour=4), id="downs-per-hour"),
        pytest.param({"scaleUp": {}, "scaleDown": {}}, lambda defaults: defaults.given, id="empty-directions"),
        pytest.param(
            {"scaleUp": {"stabilizationWindowSeconds": 30}},
            lambda defaults: replace(defaults.given, up=replace(defaults.given.up, window_s=30.0)),
            id="window",
        ),
        pytest.param(
            {"scaleDown": {"stabilizationWindowSeconds": 0, "tolerance": "0.2"}},
            lambda defaults: replace(defaults.given, down=replace(defaults.given.down, window_s=0.0, tolerance=0.2)),
            id="zero-is-given",
        ),
        pytest.param(
            {"scaleDown": {"selectPolicy": "Disabled"}},
            lambda defaults: replace(defaults.given, down=replace(defaults.given.down, select=Select.DISABLED)),
            id="disabled",
        ),
        pytest.param(
            {"scaleUp": {"selectPolicy": "Min", "policies": ({"type": "Pods", "value": 2, "periodSeconds": 60},)}},
            lambda defaults: replace(defaults.given, up=replace(defaults.given.up, rules=(RateRule(2, 60),), select=Select.MIN)),
            id="rules",
        ),
        pytest.param(
            {"scaleDown": {"policies": ({"type": "Percent", "value": 10, "periodSeconds": 60},)}},
            lambda defaults: replace(defaults.given, down=replace(defaults.given.down, rules=(RateRule(10, 60, percent=True),))),
            id="per-cent",
        ),
    ],
)
def test_behavior_replaces_field_by_field(
    given: dict[str, Any] | None, expected: Callable[[BehaviorDefaults], Behavior], defaults: BehaviorDefaults
) -> None:
    field = None if given is None else BehaviorField.model_validate(given)
    assert behavior_of(field, defaults) == expected(defaults)


def test_a_policys_own_defaults_hold(policy_text: Callable[..., str]) -> None:
    text = policy_text().replace("movingAverage", "threshold")
    assert spec_of(text).behavior == find("threshold").traits.behavior.absent
    assert spec_of(text + "  behavior: {}\n").behavior == find("threshold").traits.behavior.given


@pytest.mark.parametrize(
    ("change", "warnings"),
    [
        pytest.param(("", ""), [], id="none"),
        pytest.param(("query: up", "query: 'rate(x[5m])'"), [], id="range-of-5m"),
        pytest.param(
            ("query: up", "query: 'rate(x[10m]) + rate(y[1m])'"),
            ["f.yaml:10:27: spec.metrics[0].prometheus.query: looks back 10m, so replicas follow the load late; 5m or less is better"],
            id="range-of-10m",
        ),
        pytest.param(("query: up", "query: 'max_over_time(x[1h:1m])'"), ["looks back 1h"], id="subquery"),
        pytest.param(("query: up", """query: 'up{a="[10m]"} # [10m]'"""), [], id="range-in-text"),
        pytest.param(
            ("averageValue: 85}", "averageValue: 85}\n      activation: 3"), ["has no effect, as minReplicas is never 0"], id="activation"
        ),
        pytest.param(("minReplicas: 2", "minReplicas: 0"), [], id="zero"),
        pytest.param((SOURCE, CPU_OF_PODS), [], id="utilisation"),
        pytest.param(("movingAverage}", "forecast}"), [], id="forecast-of-a-load"),
        pytest.param(
            (SOURCE + TYPE, CPU_OF_PODS + "\n  policy: {type: forecast}"),
            ["f.yaml:11:36: spec.metrics[0].target.averageUtilization: forecast adds headroom of its own, and 60 leaves a lot already"],
            id="forecast-of-a-target-with-headroom",
        ),
        pytest.param(
            (SOURCE + TYPE, CPU_OF_PODS.replace("60", "75") + "\n  policy: {type: forecast}"), [], id="forecast-of-what-a-pod-can"
        ),
        pytest.param(
            ("movingAverage}", "hpa}\n  behavior: {scaleUp: {tolerance: 0}, scaleDown: {tolerance: 0.05}}"),
            ["spec.behavior.scaleDown.tolerance: acts on top of hpa's own: for the HPA's tolerance"],
            id="two-tolerances",
        ),
        pytest.param(("movingAverage}", "movingAverage}\n  behavior: {scaleUp: {tolerance: 0.05}}"), [], id="one-tolerance"),
        pytest.param(
            ("  policy:", "  mode: {type: dryRun, until: 2026-06-01T11:00:00Z}\n  policy:"),
            ["f.yaml:12:31: spec.mode.until: has passed, so dryRun has ended and the policy is active"],
            id="until-has-passed",
        ),
    ],
)
def test_warnings(policy_text: Callable[..., str], change: tuple[str, str], warnings: list[str]) -> None:
    text = policy_text().replace(*change)
    told = to_specs(assemble([parse(File("f.yaml", text.encode()))]), NOW_S).warnings
    assert len(told) == len(warnings)
    assert all(words in warning for words, warning in zip(warnings, told, strict=True))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(CPU_OF_PODS, (Usage("cpu"), 0.6, TargetKind.UTILIZATION, MetricType.CPU), id="cpu-utilisation"),
        pytest.param(
            "resource: {name: memory}\n      target: {averageValue: 64Mi}",
            (Usage("memory"), 64 * 2.0**20, TargetKind.AVERAGE_VALUE, MetricType.RESOURCE),
            id="memory-value",
        ),
        pytest.param(
            "containerResource: {name: cpu, container: app}\n      target: {averageValue: 250m}",
            (Usage("cpu", "app"), 0.25, TargetKind.AVERAGE_VALUE, MetricType.CPU),
            id="cpu-of-one-container",
        ),
    ],
)
def test_what_pods_use(policy_text: Callable[..., str], given: str, expected: tuple[object, ...]) -> None:
    spec = spec_of(policy_text().replace(SOURCE, given))
    (series,) = spec.series
    assert (series.query, series.target, series.target_kind, series.metric_type) == expected
    assert spec.coverage is None, "no Prometheus is asked"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("{late: {query: ' slow '}, total: {query: all}}", Objective(Query("slow"), Query("all")), id="two-queries"),
        pytest.param(
            "{late: {query: slow, endpoint: other, labels: {name: app}}, total: {query: all, labels: {namespace: ns, name: app}}}",
            Objective(Query("slow", "other"), Query("all"), (("app", "web"),), (("ns", "shop"), ("app", "web"))),
            id="labels-and-endpoint",
        ),
    ],
)
def test_an_objective_of_forecast(policy_text: Callable[..., str], given: str, expected: Objective) -> None:
    text = policy_text(spec=f"objective: {given}")
    for policy in ("", "\n  policy: {type: forecast}"):
        assert spec_of(text.replace(TYPE, policy)).objective == expected
    assert spec_of(policy_text().replace(TYPE, "")).objective is None


def test_a_policy_for_many_gives_a_row_for_each_that_it_finds() -> None:
    text = """\
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: many, namespace: shop}
spec:
  targets:
    kind: StatefulSet
    selector:
      matchLabels: {team: sales}
      matchExpressions: [{key: tier, operator: NotIn, values: [test, canary]}]
  maxReplicas: 9
  metrics:
    - {name: load, prometheus: {query: load, labels: {name: app}}, target: {averageValue: 2}}
  schedule: [{name: day, start: 0 8 * * *, end: 0 18 * * *, minReplicas: 5}]
  policy: {type: movingAverage}
"""
    policies = to_specs(assemble([parse(File("shop.yaml", text.encode()))]), NOW_S)
    assert policies.specs == ()
    (selection,) = policies.selections
    requirements = (Requirement("team", Operator.IN, ("sales",)), Requirement("tier", Operator.NOT_IN, ("test", "canary")))
    assert selection.selector == Selector("shop", "StatefulSet", "apps/v1", requirements)
    row = selection.row("db")
    assert row == selection.row("db"), "the same again is no change"
    assert (row.workload, row.series[0].match, row.max_replicas) == (Workload("shop", "db", "StatefulSet"), (("app", "db"),), 9)
    assert [window.min_replicas for window in row.schedule] == [5.0] * len(row.schedule) != []
    assert row.coverage is not None
    assert [value for _, value in row.coverage.match] == ["db"]


def test_an_objective_of_many_is_picked_by_each_ones_labels() -> None:
    text = """\
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: many, namespace: shop}
spec:
  targets: {kind: Deployment, selector: {}}
  maxReplicas: 9
  metrics:
    - {name: load, prometheus: {query: load, labels: {name: app}}, target: {averageValue: 2}}
  objective:
    late: {query: slow, labels: {name: app}}
    total: {query: all, labels: {name: app}}
"""
    (selection,) = to_specs(assemble([parse(File("shop.yaml", text.encode()))]), NOW_S).selections
    match = (("app", "db"),)
    assert selection.row("db").objective == Objective(Query("slow"), Query("all"), match, match)
