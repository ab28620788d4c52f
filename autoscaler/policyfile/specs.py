"""From a checked policy file to what the core needs to know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import nan

from autoscaler.core.behavior import Behavior, BehaviorDefaults, Direction, RateRule, Select
from autoscaler.core.spec import Coverage, Fallback, PolicyChoice, Query, ScheduleRow, SeriesSpec, When, WorkloadSpec
from autoscaler.core.types import Mode, TargetKind, Workload
from autoscaler.policyfile.coverage import default_coverage
from autoscaler.policyfile.schedule import AHEAD_S, CronWindow, expand
from autoscaler.policyfile.schema import BehaviorField, FallbackField, Labels, Metric, Rules, ScalingPolicy, Window

_SELECT = {"Max": Select.MAX, "Min": Select.MIN, "Disabled": Select.DISABLED}
_WHEN = {"always": When.ALWAYS, "ifHigher": When.IF_HIGHER, "ifLower": When.IF_LOWER}
_MODE = {"active": Mode.ACTIVE, "dryRun": Mode.DRY_RUN, "paused": Mode.PAUSED}


def mode_name(mode: Mode) -> str:
    """A mode as files call it."""
    return next(name for name, code in _MODE.items() if code == mode)


def workload_of(policy: ScalingPolicy) -> Workload:
    """What the policy scales."""
    ref = policy.spec.scale_target_ref
    return Workload(policy.metadata.namespace, ref.name, ref.kind, ref.api_version)


def to_spec(policy: ScalingPolicy, choice: PolicyChoice, defaults: BehaviorDefaults, origin: str) -> WorkloadSpec:
    """The core's spec, with its schedule still to be expanded (:func:`schedule_rows`)."""
    spec = policy.spec
    return WorkloadSpec(
        workload=workload_of(policy),
        series=tuple(_series(metric, workload_of(policy)) for metric in spec.metrics),
        policy=choice,
        behavior=behavior_of(spec.behavior, defaults),
        min_replicas=spec.min_replicas,
        max_replicas=spec.max_replicas,
        interval_s=spec.interval,
        fallback=None if spec.fallback is None else _fallback(spec.fallback),
        mode=_MODE[spec.mode.type],
        mode_until_s=nan if spec.mode.until is None else spec.mode.until,
        startup_s=nan if spec.startup is None else spec.startup,
        coverage=_coverage(policy),
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


def _coverage(policy: ScalingPolicy) -> Coverage | None:
    given, workload = policy.spec.coverage, workload_of(policy)
    if given is None:
        return default_coverage(workload, policy.spec.metrics[0].prometheus.endpoint)
    return Coverage(Query(given.query, given.endpoint), match_of(given.labels, workload), is_given=True)


def match_of(labels: Labels | None, workload: Workload) -> tuple[tuple[str, str], ...]:
    """The (label, value) pairs that pick the workload's series."""
    if labels is None:
        return ()
    name = ((labels.name, workload.name),)
    return name if labels.namespace is None else ((labels.namespace, workload.namespace), *name)


def _series(metric: Metric, workload: Workload) -> SeriesSpec:
    target = metric.target
    kind = TargetKind.AVERAGE_VALUE if target.value is None else TargetKind.VALUE
    source = metric.prometheus
    return SeriesSpec(
        name=metric.name,
        query=Query(source.query, source.endpoint, empty_is_zero=source.when_empty == "zero"),
        target=next(value for value in (target.average_value, target.value) if value is not None),
        target_kind=kind,
        activation=metric.activation,
        match=match_of(source.labels, workload),
        saturation=None if metric.saturation is None else Query(metric.saturation.query, metric.saturation.endpoint),
    )


def _fallback(given: FallbackField) -> Fallback:
    return Fallback(given.after_failures, given.replicas, _WHEN[given.when])


def behavior_of(given: BehaviorField | None, defaults: BehaviorDefaults) -> Behavior:
    """Each given field in place of that one of the policy's defaults; absent and ``{}`` are the defaults' two cases."""
    if given is None:
        return defaults.absent
    base = defaults.given
    return replace(base, up=_direction(given.scale_up, base.up), down=_direction(given.scale_down, base.down))


def _direction(given: Rules, base: Direction) -> Direction:
    window, rules = given.stabilization_window_seconds, given.policies
    return Direction(
        window_s=base.window_s if window is None else float(window),
        tolerance=base.tolerance if given.tolerance is None else given.tolerance,
        rules=base.rules if rules is None else tuple(RateRule(rule.value, rule.period_seconds, rule.type == "Percent") for rule in rules),
        select=base.select if given.select_policy is None else _SELECT[given.select_policy],
    )
