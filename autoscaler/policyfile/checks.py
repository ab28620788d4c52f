"""What the fields of a policy say together.

Mistakes are looked for in the plain document, so that they come out together with those of single fields; whatever is missing or of
the wrong type is left to :mod:`autoscaler.policyfile.schema`. Remarks are about documents without a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from autoscaler.core.policy import Traits
from autoscaler.policyfile.durations import format_duration, parse_duration
from autoscaler.policyfile.problems import FieldPath, one_of
from autoscaler.policyfile.schema import DEFAULT_POLICY, SCALABLE, SOURCES, TARGETS, ScalingPolicy, Spec

RANGE_MAX_S = 300.0
"""Rates over longer ranges lag behind the load by minutes."""

FORECAST_SHARE_MIN = 75
"""Per cent of the request; below it, a target has headroom that forecast would add a second time."""

_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|\#[^\n]*)""")
_RANGE = re.compile(r"\[\s*([0-9smhdw]+)\s*[\]:]")


class Finding(NamedTuple):
    """Something to say about the value at a path."""

    path: FieldPath
    text: str


def mistakes(document: object) -> Iterator[Finding]:
    """What is wrong between fields, for a document of any shape."""
    spec = _mapping(_mapping(document).get("spec"))
    for check in (_targets, _bounds, _zero, _target_kind, _metrics, _forecast, _schedule, _fallback, _mode):
        yield from check(spec)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [_mapping(item) for item in value] if isinstance(value, tuple) else []


def _count(mapping: dict[str, Any], name: str, default: int | None = None) -> int | None:
    value = mapping.get(name, default)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _bounds(spec: dict[str, Any]) -> Iterator[Finding]:
    low, high = _count(spec, "minReplicas", 1), _count(spec, "maxReplicas")
    if low is not None and high and low > high:
        yield Finding(("spec", "minReplicas"), f"{low} is above maxReplicas {high}; expected at most that")


def _zero(spec: dict[str, Any]) -> Iterator[Finding]:
    """Zero replicas need a signal that exists without pods."""
    metrics = _list(spec.get("metrics"))
    without_pods = [metric for metric in metrics if "resource" not in metric and "containerResource" not in metric]
    if not metrics or any("averageValue" in _mapping(metric.get("target")) for metric in without_pods):
        return
    what = "0 needs a metric from Prometheus with target.averageValue, which has a value without pods too"
    text = f"{what}; expected at least 1, or such a metric"
    if _count(spec, "minReplicas") == 0:
        yield Finding(("spec", "minReplicas"), text)
    for index, window in enumerate(_list(spec.get("schedule"))):
        if _count(window, "minReplicas") == 0:
            yield Finding(("spec", "schedule", index, "minReplicas"), text)


def _targets(spec: dict[str, Any]) -> Iterator[Finding]:
    """One workload or many; of many, each query must say whose each series is."""
    many = "targets" in spec
    if many == ("scaleTargetRef" in spec):
        what = "both scaleTargetRef and targets" if many else "neither scaleTargetRef nor targets"
        yield Finding(
            ("spec", "targets") if many else ("spec",), f"{what}; expected one: scaleTargetRef for one workload, targets for many"
        )
    if not many:
        return
    hint = "missing; expected the label that names the workload, such as {name: deployment}, as targets are many"
    for index, metric in enumerate(_list(spec.get("metrics"))):
        for name in ("prometheus", "saturation"):
            if isinstance(metric.get(name), dict) and "labels" not in metric[name]:
                yield Finding(("spec", "metrics", index, name, "labels"), hint)
    if isinstance(spec.get("coverage"), dict) and "labels" not in spec["coverage"]:
        yield Finding(("spec", "coverage", "labels"), hint)
    objective = _mapping(spec.get("objective"))
    for name in ("late", "total"):
        if isinstance(objective.get(name), dict) and "labels" not in objective[name]:
            yield Finding(("spec", "objective", name, "labels"), hint)
    yield from selector_mistakes(_mapping(spec["targets"]).get("selector"), ("spec", "targets", "selector"))


def selector_mistakes(selector: object, path: FieldPath) -> Iterator[Finding]:
    """What is wrong between the fields of a label selector's conditions."""
    for index, each in enumerate(_list(_mapping(selector).get("matchExpressions"))):
        operator = each.get("operator")
        needs = operator in {"In", "NotIn"}
        if (needs or operator in {"Exists", "DoesNotExist"}) and needs != bool(each.get("values")):
            text = "missing; expected at least one value for In and NotIn" if needs else "expected none for Exists and DoesNotExist"
            yield Finding((*path, "matchExpressions", index, "values"), text)


def _target_kind(spec: dict[str, Any]) -> Iterator[Finding]:
    field = "targets" if "targets" in spec else "scaleTargetRef"
    ref = _mapping(spec.get(field))
    kind, version = ref.get("kind", SCALABLE[0]), ref.get("apiVersion", "apps/v1")
    if not (isinstance(kind, str) and isinstance(version, str) and version.startswith("apps/")):
        return
    if kind[:1].isupper() and kind not in SCALABLE:
        other = "" if "apiVersion" in ref else ", or the apiVersion of another kind beside it"
        text = f"{version} has no {kind} that can be scaled; expected {one_of(SCALABLE)}{other}"
        yield Finding(("spec", field, "kind"), text)


def _metrics(spec: dict[str, Any]) -> Iterator[Finding]:
    metrics = _list(spec.get("metrics"))
    yield from _unique_names(metrics, ("spec", "metrics"))
    for index, metric in enumerate(metrics):
        path: FieldPath = ("spec", "metrics", index)
        sources = [name for name in SOURCES if name in metric]
        if metric and len(sources) != 1:
            what = f"both {' and '.join(sources)}" if sources else f"neither {' nor '.join(SOURCES)}"
            yield Finding(path, f"{what}; expected one: where its value comes from")
        if isinstance(metric.get("target"), dict):
            yield from _target(metric["target"], "prometheus" if sources == ["prometheus"] or len(sources) != 1 else "resource", path)


_MAY_BE = {"prometheus": ("averageValue", "value"), "resource": ("averageUtilization", "averageValue")}
_MEANT = {
    "prometheus": "averageValue for a load that replicas share, value for one that each has",
    "resource": "averageUtilization for per cent of what pods request, averageValue for cores or bytes a pod",
}
_NOT = {
    "prometheus": "a query has no requests that it could be related to; expected averageValue or value, or resource in place of prometheus",
    "resource": "pods' use is no ratio; expected averageUtilization (per cent of what they request) or averageValue (cores or bytes a pod)",
}


def _target(target: dict[str, Any], source: str, metric: FieldPath) -> Iterator[Finding]:
    """One target, of a kind that its source has."""
    given = [name for name in TARGETS if name in target]
    if len(given) != 1:
        what = f"both {' and '.join(given)}" if given else f"neither {' nor '.join(_MAY_BE[source])}"
        yield Finding((*metric, "target"), f"{what}; expected one: {_MEANT[source]}")
    elif given[0] not in _MAY_BE[source]:
        yield Finding((*metric, "target", given[0]), _NOT[source])


def _forecast(spec: dict[str, Any]) -> Iterator[Finding]:
    """A ratio has no load of its own that could be forecast."""
    if _mapping(spec.get("policy", {"type": DEFAULT_POLICY})).get("type") != DEFAULT_POLICY:
        return
    for index, metric in enumerate(_list(spec.get("metrics"))):
        if "value" in _mapping(metric.get("target")):
            text = "forecast needs the load itself, and value is a ratio that each replica has; expected averageValue, or another policy"
            yield Finding(("spec", "metrics", index, "target", "value"), text)


def unread(document: object, policy: str, traits: Traits) -> Iterator[Finding]:
    """What the scaling policy that the document names would never look at."""
    if "objective" in _mapping(_mapping(document).get("spec")) and not traits.objective:
        text = f"only {DEFAULT_POLICY} reads an objective, and the policy is {policy}; expected none, or policy: {{type: {DEFAULT_POLICY}}}"
        yield Finding(("spec", "objective"), text)


def _unique_names(items: list[dict[str, Any]], path: FieldPath) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        name = item.get("name")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            yield Finding((*path, index, "name"), f"{name} is also the name of entry {seen[name]}; expected a name for each")


def _schedule(spec: dict[str, Any]) -> Iterator[Finding]:
    windows = _list(spec.get("schedule"))
    yield from _unique_names(windows, ("spec", "schedule"))
    low, high = _count(spec, "minReplicas", 1), _count(spec, "maxReplicas")
    for index, window in enumerate(windows):
        path: FieldPath = ("spec", "schedule", index)
        if window and "minReplicas" not in window and "maxReplicas" not in window:
            yield Finding(path, "changes nothing; expected minReplicas, maxReplicas or both")
        start, end = window.get("start"), window.get("end")
        if isinstance(start, str) and isinstance(end, str) and start.split() == end.split():
            yield Finding((*path, "end"), "the same as start, so the window never closes; expected another time")
        mine_low, mine_high = _count(window, "minReplicas", low), _count(window, "maxReplicas", high)
        if mine_low is None or not mine_high or mine_low <= mine_high:
            continue
        if "minReplicas" in window and "maxReplicas" in window:
            yield Finding((*path, "minReplicas"), f"{mine_low} is above this window's maxReplicas {mine_high}; expected at most that")
        elif "minReplicas" in window:
            yield Finding((*path, "minReplicas"), f"{mine_low} is above spec.maxReplicas {mine_high}; expected maxReplicas beside it")
        elif "maxReplicas" in window:
            yield Finding((*path, "maxReplicas"), f"{mine_high} is below spec.minReplicas {mine_low}; expected minReplicas beside it")


def _fallback(spec: dict[str, Any]) -> Iterator[Finding]:
    """A fallback that bounds would cut is not what its reader thinks it is."""
    replicas = _count(_mapping(spec.get("fallback")), "replicas")
    windows = _list(spec.get("schedule"))
    lows = [_count(spec, "minReplicas", 1), *(_count(window, "minReplicas") for window in windows)]
    highs = [_count(spec, "maxReplicas"), *(_count(window, "maxReplicas") for window in windows)]
    low, high = min((count for count in lows if count is not None), default=0), max((count for count in highs if count), default=0)
    if replicas is not None and high >= low and high and not low <= replicas <= high:
        yield Finding(("spec", "fallback", "replicas"), f"{replicas} is outside the bounds; expected {low} to {high}")


def _mode(spec: dict[str, Any]) -> Iterator[Finding]:
    mode = spec.get("mode")
    if isinstance(mode, dict) and "until" in mode and mode.get("type", "active") == "active":
        yield Finding(("spec", "mode", "until"), "active has no end; expected type: dryRun or type: paused beside it")


def remarks(policy: ScalingPolicy, now_s: float) -> Iterator[Finding]:
    """What is allowed but probably not meant."""
    spec = policy.spec
    limit = format_duration(RANGE_MAX_S)
    zero = spec.min_replicas == 0 or any(window.min_replicas == 0 for window in spec.schedule)
    for index, metric in enumerate(spec.metrics):
        path: FieldPath = ("spec", "metrics", index)
        query = "" if metric.prometheus is None else metric.prometheus.query
        for text in _RANGE.findall(_QUOTED.sub('""', query)):
            if _seconds(text) > RANGE_MAX_S:
                yield Finding(
                    (*path, "prometheus", "query"),
                    f"looks back {text}, so replicas follow the load late; {limit} or less is better",
                )
        if metric.activation and not zero:
            yield Finding((*path, "activation"), "has no effect, as minReplicas is never 0")
        share = metric.target.average_utilization
        if spec.policy.type == DEFAULT_POLICY and share is not None and share < FORECAST_SHARE_MIN:
            text = f"forecast adds headroom of its own, and {share} leaves a lot already; {FORECAST_SHARE_MIN} or more is better"
            yield Finding((*path, "target", "averageUtilization"), text)
    yield from _two_tolerances(spec)
    if spec.mode.until is not None and spec.mode.until <= now_s:
        yield Finding(("spec", "mode", "until"), f"has passed, so {spec.mode.type} has ended and the policy is active")


def _two_tolerances(spec: Spec) -> Iterator[Finding]:
    """The HPA has one tolerance; ours has the policy's, on each metric's ratio, and the guard's, on the count that comes of them."""
    if spec.policy.type != "hpa" or spec.behavior is None:
        return
    for name, rules, parameter in (
        ("scaleUp", spec.behavior.scale_up, "toleranceUp"),
        ("scaleDown", spec.behavior.scale_down, "toleranceDown"),
    ):
        if rules.tolerance:
            text = f"acts on top of hpa's own: for the HPA's tolerance of that direction give policy.{parameter} instead"
            yield Finding(("spec", "behavior", name, "tolerance"), text)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        return 0.0
