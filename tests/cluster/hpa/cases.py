"""Seeded HPAs: one :class:`Case` is an HPA as Kubernetes reads it, and as our core does."""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from autoscaler.core.behavior import HPA_BEHAVIOR, Behavior, Direction, RateRule, Select
from autoscaler.core.spec import PolicyChoice, Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import MetricType, TargetKind, Workload
from policies.hpa import Hpa, HpaParams

Json = dict[str, Any]

NAMESPACE = "lockstep"
GROUP, VERSION, KIND, PLURAL = "targets.autoscaler.test", "v1", "Target", "targets"
DOWNSCALE_WINDOW_S, CPU_INITIALIZATION_S, READINESS_DELAY_S, TOLERANCE = 20, 20, 3, 0.1
MI = 1024 * 1024

HPA = Hpa()
_SELECT = {"Max": Select.MAX, "Min": Select.MIN, "Disabled": Select.DISABLED}


@dataclass(frozen=True)
class Metric:
    """One metric of an HPA. ``source`` is HPA v2's type; ``target`` in thousandths, or per cent of the request for Utilization."""

    source: str
    kind: str
    target: int
    resource: str = ""
    container: str = ""
    name: str = ""

    @property
    def type(self) -> MetricType:
        if self.source in {"External", "Object"}:
            return MetricType.EXTERNAL
        if self.source == "Pods":
            return MetricType.PODS
        return MetricType.CPU if self.resource == "cpu" else MetricType.RESOURCE

    def manifest(self, case: str) -> Json:
        field = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}[self.kind]
        goal: Json = {"type": self.kind, field: self.target if self.kind == "Utilization" else f"{self.target}m"}
        body: Json = {"target": goal}
        if self.source in {"Resource", "ContainerResource"}:
            body["name"] = self.resource
        else:
            body["metric"] = {"name": self.name}
        if self.source == "ContainerResource":
            body["container"] = self.container
        if self.source == "Object":
            body["describedObject"] = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": case}
        return {"type": self.source, self.source[0].lower() + self.source[1:]: body}

    def series(self, number: int) -> SeriesSpec:
        kind = {"Utilization": TargetKind.UTILIZATION, "AverageValue": TargetKind.AVERAGE_VALUE, "Value": TargetKind.VALUE}[self.kind]
        target = self.target / (100 if self.kind == "Utilization" else 1000)
        return SeriesSpec(f"{number}", Query(f"{number}"), target, kind, metric_type=self.type)


@dataclass(frozen=True)
class Case:
    """One HPA. ``behavior`` as in the manifest, None: none."""

    number: int
    min: int
    max: int
    behavior: Json | None
    metrics: tuple[Metric, ...]

    @property
    def name(self) -> str:
        return f"case-{self.number:03}"

    def manifest(self) -> Json:
        spec: Json = {
            "scaleTargetRef": {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": self.name},
            "minReplicas": self.min,
            "maxReplicas": self.max,
            "metrics": [metric.manifest(self.name) for metric in self.metrics],
        }
        if self.behavior is not None:
            spec["behavior"] = self.behavior
        metadata = {"name": self.name, "namespace": NAMESPACE}
        return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}

    def workload(self) -> WorkloadSpec:
        up, down = (float((self.behavior or {}).get(side, {}).get("tolerance", TOLERANCE)) for side in ("scaleUp", "scaleDown"))
        params = HpaParams(up, down, CPU_INITIALIZATION_S, READINESS_DELAY_S, exact=True)  # type: ignore[arg-type]
        series = tuple(metric.series(number) for number, metric in enumerate(self.metrics))
        choice, name = PolicyChoice("hpa", HPA, params), Workload(NAMESPACE, self.name, KIND, f"{GROUP}/{VERSION}")
        return WorkloadSpec(name, series, choice, _behavior(self.behavior), self.min, self.max, interval_s=1.0)

    def ages(self) -> set[float]:
        """Every age, in seconds, at which something stops counting."""
        behavior = _behavior(self.behavior)
        if behavior.classic:
            return {behavior.down.window_s}
        sides = (behavior.up, behavior.down)
        return {side.window_s for side in sides} | {rule.period_s for side in sides for rule in side.rules}


def _behavior(given: Json | None) -> Behavior:
    base = HPA_BEHAVIOR.with_tolerance(0.0)
    if given is None:
        return Behavior(base.absent.up, Direction(DOWNSCALE_WINDOW_S, 0.0), classic=True)
    up = _direction(given.get("scaleUp", {}), base.given.up, 0)
    return Behavior(up, _direction(given.get("scaleDown", {}), base.given.down, DOWNSCALE_WINDOW_S))


def _direction(given: Json, base: Direction, window_s: float) -> Direction:
    rules = tuple(RateRule(rule["value"], rule["periodSeconds"], rule["type"] == "Percent") for rule in given.get("policies", ()))
    select = _SELECT[given["selectPolicy"]] if "selectPolicy" in given else base.select
    return Direction(given.get("stabilizationWindowSeconds", window_s), 0.0, rules or base.rules, select)


def cases(count: int, seed: int) -> list[Case]:
    """So many HPAs, each from a seed of its own."""
    return [_case(number, Random(f"{seed}/{number}")) for number in range(count)]


def _case(number: int, rng: Random) -> Case:
    metrics = tuple(_metric(f"m{number}-{index}", rng) for index in range(rng.choice([1, 1, 1, 2, 2, 3])))
    from_zero = any(metric.type is MetricType.EXTERNAL for metric in metrics)
    low = rng.choice([0, 0, 1, 2] if from_zero else [1, 1, 2, 3])
    if low == 0 and rng.random() < 0.7:  # others rarely let it sleep
        metrics = (replace(next(metric for metric in metrics if metric.type is MetricType.EXTERNAL), name=f"m{number}-0"),)
    behavior = None
    if rng.random() < 0.75:
        behavior = {side: _rules(rng) for side in ("scaleUp", "scaleDown") if rng.random() < 0.8}
    return Case(number, low, low + rng.randint(3, 20), behavior, metrics)


def _rules(rng: Random) -> Json:
    rules: Json = {}
    if rng.random() < 0.9:
        rules["stabilizationWindowSeconds"] = rng.choice([0, 0, rng.randint(3, 6), rng.randint(3, 20)])
    if rng.random() < 0.6:
        rules["selectPolicy"] = rng.choice(["Max", "Max", "Min", "Min", "Disabled"])
    if rng.random() < 0.7:
        rules["policies"] = [_rule(rng) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.5:
        rules["tolerance"] = rng.choice(["0", "0.015", "0.05", "0.2"])
    return rules


def _rule(rng: Random) -> Json:
    kind = rng.choice(["Pods", "Percent"])
    value = rng.randint(1, 5) if kind == "Pods" else rng.choice([10, 25, 33, 50, 75, 100, 150])
    return {"type": kind, "value": value, "periodSeconds": rng.randint(3, 20)}


def _metric(name: str, rng: Random) -> Metric:
    source = rng.choice(["Resource", "Resource", "ContainerResource", "Pods", "Object", "External", "External"])
    if source in {"Object", "External"}:
        return Metric(source, rng.choice(["Value", "AverageValue"]), rng.choice([1500, 10_000, 33_333, 250_000]), name=name)
    if source == "Pods":
        return Metric(source, "AverageValue", rng.choice([700, 5000, 12_345]), name=name)
    resource, container = rng.choice(["cpu", "cpu", "memory"]), "app" if source == "ContainerResource" else ""
    if rng.random() < 0.7:
        return Metric(source, "Utilization", rng.choice([30, 50, 60, 77, 80, 100, 130]), resource, container)
    target = rng.choice([150, 250, 401]) if resource == "cpu" else rng.choice([64, 100, 150]) * MI * 1000
    return Metric(source, "AverageValue", target, resource, container)
