"""From a checked policy file to what the core needs to know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import nan

from autoscaler.core.behavior import Behavior, BehaviorDefaults, Direction, RateRule, Select
from autoscaler.core.selector import Operator, Requirement, Selector
from autoscaler.core.spec import Coverage, Fallback, Objective, PolicyChoice, Query, ScheduleRow, SeriesSpec, Usage, When, WorkloadSpec
from autoscaler.core.types import MetricType, Mode, TargetKind, Workload
from autoscaler.core.usage import CPU
from autoscaler.policyfile.coverage import default_coverage
from autoscaler.policyfile.schedule import AHEAD_S, CronWindow, expand
from autoscaler.policyfile.schema import (
    BehaviorField,
    ContainerResourceField,
    FallbackField,
    Labels,
    Metric,
    ObjectiveField,
    Question,
    Rules,
    ScalingPolicy,
    SelectorField,
    Window,
)

_SELECT = {"Max": Select.MAX, "Min": Select.MIN, "Disabled": Select.DISABLED}
_WHEN = {"always": When.ALWAYS, "ifHigher": When.IF_HIGHER, "ifLower": When.IF_LOWER}
_MODE = {"active": Mode.ACTIVE, "dryRun": Mode.DRY_RUN, "paused": Mode.PAUSED}


def mode_name(mode: Mode) -> str:
    """A mode as files call it."""
    return next(name for name, code in _MODE.items() if code == mode)


ANY = "*"
"""Stands for the name of a workload that a policy for many has yet to find."""


def workload_of(policy: ScalingPolicy, name: str = ANY) -> Workload:
    """What the policy scales; of a policy for many, the one of that name."""
    ref, targets, namespace = policy.spec.scale_target_ref, policy.spec.targets, policy.metadata.namespace
    if ref is not None:
        return Workload(namespace, ref.name, ref.kind, ref.api_version)
    return Workload(namespace, name) if targets is None else Workload(namespace, name, targets.kind, targets.api_version)


def selector_of(policy: ScalingPolicy) -> Selector | None:
    """Whom a policy for many is for; None: it names its workload."""
    targets = policy.spec.targets
    if targets is None:
        return None
    return Selector(policy.metadata.namespace, targets.kind, targets.api_version, requirements_of(targets.selector))


def requirements_of(selector: SelectorField) -> tuple[Requirement, ...]:
    """The conditions on labels, those of matchLabels first."""
    labels = [Requirement(key, Operator.IN, (value,)) for key, value in sorted(selector.match_labels.items())]
    return (*labels, *(Requirement(each.key, Operator(each.operator), each.values) for each in selector.match_expressions))


def to_spec(policy: ScalingPolicy, choice: PolicyChoice, defaults: BehaviorDefaults, origin: str, name: str = ANY) -> WorkloadSpec:
    """The core's spec, with its schedule still to be expanded (:func:`schedule_rows`); ``name`` as for :func:`workload_of`."""
    spec, workload = policy.spec, workload_of(policy, name)
    return WorkloadSpec(
        workload=workload,
        series=tuple(_series(metric, workload) for metric in spec.metrics),
        policy=choice,
        behavior=behavior_of(spec.behavior, defaults),
        min_replicas=spec.min_replicas,
        max_replicas=spec.max_replicas,
        interval_s=spec.interval,
        fallback=None if spec.fallback is None else _fallback(spec.fallback),
        mode=_MODE[spec.mode.type],
        mode_until_s=nan if spec.mode.until is None else spec.mode.until,
        startup_s=nan if spec.startup is None else spec.startup,
        coverage=_coverage(policy, workload),
        objective=None if spec.objective is None else _objective(spec.objective, workload),
        origin=origin,
    )


def schedule_rows(windows: Iterable[Window], now_s: float, ahead_s: float = AHEAD_S) -> tuple[ScheduleRow, ...]:
    """The windows that are open now or open within the next 48 hours (or ``ahead_s`` seconds)."""
    given = [
        CronWindow(
            window.start,
            window.end,
            window.time_zone,
            nan if window.min_replicas is None else window.min_replicas,
            nan if window.max_replicas is None else window.max_replicas,
        )
        for window in windows
    ]
    return expand(given, now_s, now_s + ahead_s) if given else ()


def _coverage(policy: ScalingPolicy, workload: Workload) -> Coverage | None:
    given = policy.spec.coverage
    if given is None:
        asked = [metric.prometheus for metric in policy.spec.metrics if metric.prometheus is not None]
        return default_coverage(workload, asked[0].endpoint) if asked else None
    return Coverage(_query(given), match_of(given.labels, workload), is_given=True)


def _objective(given: ObjectiveField, workload: Workload) -> Objective:
    late, total = given.late, given.total
    return Objective(_query(late), _query(total), match_of(late.labels, workload), match_of(total.labels, workload))


def _query(given: Question) -> Query:
    return Query(given.query, given.endpoint)


def match_of(labels: Labels | None, workload: Workload) -> tuple[tuple[str, str], ...]:
    """The (label, value) pairs that pick the workload's series."""
    if labels is None:
        return ()
    name = ((labels.name, workload.name),)
    return name if labels.namespace is None else ((labels.namespace, workload.namespace), *name)


def _series(metric: Metric, workload: Workload) -> SeriesSpec:
    target, full, source = metric.target, metric.saturation, metric.prometheus
    given = (
        (TargetKind.AVERAGE_VALUE, target.average_value),
        (TargetKind.VALUE, target.value),
        (TargetKind.UTILIZATION, None if target.average_utilization is None else target.average_utilization / 100),
    )
    kind, value = next((kind, value) for kind, value in given if value is not None)
    query, kind_of_metric = _asked(metric)
    return SeriesSpec(
        name=metric.name,
        query=query,
        target=value,
        target_kind=kind,
        activation=metric.activation,
        match=() if source is None else match_of(source.labels, workload),
        metric_type=kind_of_metric,
        saturation=None if full is None else _query(full),
        saturation_match=() if full is None else match_of(full.labels, workload),
    )


def _asked(metric: Metric) -> tuple[Query | Usage, MetricType]:
    """What a metric asks, and what it is measured on."""
    if metric.prometheus is not None:
        source = metric.prometheus
        return Query(source.query, source.endpoint, empty_is_zero=source.when_empty == "zero"), MetricType.EXTERNAL
    used = next(each for each in (metric.container_resource, metric.resource) if each is not None)
    container = used.container if isinstance(used, ContainerResourceField) else ""
    return Usage(used.name, container), MetricType.CPU if used.name == CPU else MetricType.RESOURCE


def _fallback(given: FallbackField) -> Fallback:
    return Fallback(given.after_failures, given.replicas, _WHEN[given.when])


def behavior_of(given: BehaviorField | None, defaults: BehaviorDefaults) -> Behavior:
    """Each given field in place of that one of the policy's defaults; absent and ``{}`` are the defaults' two cases."""
    if given is None:
        return defaults.absent
    base = defaults.given
    up, down = _direction(given.scale_up, base.up), _direction(given.scale_down, base.down)
    return replace(base, up=up, down=down, downs_per_hour=given.max_scale_downs_per_hour or 0)


def _direction(given: Rules, base: Direction) -> Direction:
    window, rules = given.stabilization_window_seconds, given.policies
    return Direction(
        window_s=base.window_s if window is None else float(window),
        tolerance=base.tolerance if given.tolerance is None else given.tolerance,
        rules=base.rules if rules is None else tuple(RateRule(rule.value, rule.period_seconds, rule.type == "Percent") for rule in rules),
        select=base.select if given.select_policy is None else _SELECT[given.select_policy],
    )
