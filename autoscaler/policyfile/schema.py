"""What a ScalingPolicy may say. HPA v2's names and quantities wherever the meaning is the same.

These models check one field at a time, so that every mistake of a file comes out at once; what two fields say together is checked in
:mod:`autoscaler.policyfile.checks`. Nothing is converted that could be meant otherwise: "3" is text, not a number.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator
from pydantic.alias_generators import to_camel

from autoscaler.policyfile import durations, quantities, schedule
from autoscaler.policyfile.problems import EMPTY, got, one_of

API_VERSION = "autoscaler.dev/v1alpha1"
KIND = "ScalingPolicy"
INTERVALS = ("5s", "10s", "15s", "30s", "60s")
SCALABLE = ("Deployment", "StatefulSet", "ReplicaSet")
"""The kinds of the group apps that have replicas to scale."""

SOURCES = ("prometheus", "resource", "containerResource")
"""Where a metric may come from."""

TARGETS = ("averageValue", "value", "averageUtilization")
"""What a metric may be held against."""

_REPLICAS_MAX = 2**31 - 1
_NAME_MAX, _LABEL_MAX = 253, 63


def _interval(given: object) -> float:
    seconds = durations.parse_duration(given)
    if seconds not in {durations.parse_duration(text) for text in INTERVALS}:
        raise ValueError(f"expected {one_of(INTERVALS)}, got {got(given)}")
    return seconds


def _above_zero(value: float) -> float:
    if value <= 0:
        raise ValueError(f"expected more than 0, got {value:g}")
    return value


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError(f"expected 0 or more, got {value:g}")
    return value


def _moment(given: object) -> float:
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"expected a date and time with its time zone, such as 2026-12-01T00:00:00Z, got {got(given)}")
    return moment.timestamp()


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("empty; expected a PromQL expression that gives one value, such as sum(rate(http_requests_total[1m]))")
    return text.strip()


def _some(given: object) -> object:
    if given == ():
        raise ValueError("an empty list; expected at least one entry")
    return given


def _quantity(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": pattern}]})


_AT_LEAST_ONE = Field(json_schema_extra={"minItems": 1})
Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=_NAME_MAX)]
Label: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=_LABEL_MAX)]
Title: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.:/]*[A-Za-z0-9])?$", max_length=_LABEL_MAX)]
Replicas: TypeAlias = Annotated[int, Field(ge=0, le=_REPLICAS_MAX)]
Amount: TypeAlias = Annotated[
    float, BeforeValidator(quantities.parse_quantity), AfterValidator(_not_negative), _quantity(quantities.PATTERN)
]
Positive: TypeAlias = Annotated[
    float, BeforeValidator(quantities.parse_quantity), AfterValidator(_above_zero), _quantity(quantities.PATTERN)
]
Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(durations.parse_duration),
    AfterValidator(_above_zero),
    WithJsonSchema({"type": "string", "pattern": durations.PATTERN}),
]
Interval: TypeAlias = Annotated[float, BeforeValidator(_interval), WithJsonSchema({"enum": list(INTERVALS)})]
Moment: TypeAlias = Annotated[float, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Cron: TypeAlias = Annotated[str, AfterValidator(schedule.checked_cron)]
Zone: TypeAlias = Annotated[str, AfterValidator(schedule.checked_zone)]
ApiVersion: TypeAlias = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$")]
KindName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=_LABEL_MAX)]
LabelName: TypeAlias = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Query: TypeAlias = Annotated[str, AfterValidator(_filled)]


class Part(BaseModel):
    """A mapping in a policy file: every field is known, and of its own type."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, use_attribute_docstrings=True, validate_by_name=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        """Refuse null: whoever wrote ``minReplicas:`` meant something, and it is not the default."""
        if value is None:
            raise ValueError(EMPTY)
        return value


class Metadata(Part):
    """As in every Kubernetes object."""

    name: Name
    """The policy's own name."""
    namespace: Label
    """The namespace of the policy and of its target."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Not used; carried for tools."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Not used; carried for tools."""


class ScaleTargetRef(Part):
    """What is scaled: anything with a /scale subresource."""

    api_version: ApiVersion = "apps/v1"
    """Group and version, such as apps/v1."""
    kind: KindName = "Deployment"
    """Deployment, StatefulSet, ReplicaSet, or the kind of a custom resource."""
    name: Name
    """The object's name, in the policy's namespace."""


class Expression(Part):
    """A condition on one label."""

    key: Annotated[str, Field(min_length=1, max_length=317)]
    """The label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How it is held against the values."""
    values: tuple[str, ...] = ()
    """For In and NotIn."""


class SelectorField(Part):
    """As in Kubernetes: all that is given must hold; empty: all workloads of the kind in the namespace."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    """Labels and the values that they must have."""
    match_expressions: tuple[Expression, ...] = ()
    """Further conditions."""


class Targets(Part):
    """Many workloads of one kind in the policy's namespace; newcomers are found as they come."""

    api_version: ApiVersion = "apps/v1"
    """Group and version, such as apps/v1."""
    kind: KindName = "Deployment"
    """Deployment, StatefulSet, ReplicaSet, or the kind of a custom resource."""
    selector: SelectorField
    """Which of them."""


class Labels(Part):
    """Which labels of an answer name the workload that a series belongs to."""

    name: LabelName
    """The label that holds the workload's name."""
    namespace: LabelName | None = None
    """The label that holds its namespace; not needed if the query asks for one namespace only."""


class Question(Part):
    """A question to Prometheus."""

    query: Query
    """A PromQL expression that gives one value, or with labels one for each workload."""
    endpoint: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$")] = "default"
    """Which of the Prometheus endpoints in the service's settings is asked."""
    labels: Labels | None = None
    """Where the answer has a series for each of many workloads: the labels that say whose each is."""


class ObjectiveField(Part):
    """Which requests are too late, out of all. Advice: without an answer nothing is held. No series is not known, never none."""

    late: Question
    """The rate of requests that took too long or failed."""
    total: Question
    """The rate of all requests, in the same unit."""


class Prometheus(Question):
    """A question to Prometheus about a load."""

    when_empty: Literal["noData", "zero"] = "noData"
    """What an empty answer means: no data (hold), or a load of zero."""


class ResourceField(Part):
    """A resource that the workload's own pods use, as metrics.k8s.io (metrics-server) has it: of all their containers."""

    name: Literal["cpu", "memory"]
    """cpu (cores) or memory (bytes)."""


class ContainerResourceField(ResourceField):
    """The same of one container of each pod, so that sidecars do not count."""

    container: Label
    """The container's name."""


class Target(Part):
    """What the load is held against: one of averageValue, value and averageUtilization."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in TARGETS]})

    average_value: Positive | None = None
    """Load that one replica should carry: the demand is load / averageValue replicas."""
    value: Positive | None = None
    """What the metric itself should be: the demand is ready replicas x load / value."""
    average_utilization: Annotated[int, Field(ge=1, le=_REPLICAS_MAX)] | None = None
    """Of resource and containerResource: use in per cent of what the pods request: the demand is use / (averageUtilization x request)."""


class Metric(Part):
    """One signal of the workload. Of several, the one that asks for most replicas counts."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in SOURCES]})

    name: Title
    """What the metric is called in decisions, metrics and logs."""
    prometheus: Prometheus | None = None
    """Its value comes from Prometheus."""
    resource: ResourceField | None = None
    """Or it is what the workload's own pods use of CPU or memory."""
    container_resource: ContainerResourceField | None = None
    """Or what one container of each of them uses."""
    target: Target
    """What one replica should carry."""
    saturation: Question | None = None
    """Whether the replicas are at their limit, so that the load shows only what they can take: a value other than 0 says so."""
    activation: Amount = 0.0
    """Where zero replicas are allowed: above this load the workload is woken."""


DEFAULT_POLICY = "forecast"
"""The one that needs no tuning."""


class PolicyField(Part):
    """The scaling policy: its type, and its parameters beside it."""

    model_config = ConfigDict(extra="allow")

    type: str
    """The policy's name, or module:Name for one of your own."""

    def given(self) -> dict[str, Any]:
        """The parameters as the file gives them."""
        return dict(self.model_extra or {})


class Rule(Part):
    """At most so much change within a period."""

    type: Literal["Pods", "Percent"]
    """Whether value counts pods, or per cent of the replicas at the start of the period."""
    value: Annotated[int, Field(ge=1, le=_REPLICAS_MAX)]
    """The most that may be added or removed within the period."""
    period_seconds: Annotated[int, Field(ge=1, le=1800)]
    """The period in seconds."""


class Rules(Part):
    """One direction of spec.behavior, as in HPA v2; each field that is given replaces that one default of the policy."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """For how long past recommendations count."""
    tolerance: Amount | None = None
    """Changes of less than this share of the current count are not made."""
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    """Which policy counts: the one that allows the bigger change, the smaller one, or no change in this direction at all."""
    policies: Annotated[tuple[Rule, ...] | None, BeforeValidator(_some), _AT_LEAST_ONE] = None
    """Limits of the rate of change."""


class BehaviorField(Part):
    """As in HPA v2. Without behavior at all, or without one of its fields, the policy's own defaults hold."""

    scale_up: Rules = Rules()
    """The way up."""
    scale_down: Rules = Rules()
    """The way down."""
    max_scale_downs_per_hour: Annotated[int, Field(ge=1, le=240)] | None = None
    """So many times an hour replicas may be taken away; adding some is never delayed. Without it: as often as the policy asks for."""


class Window(Part):
    """Other bounds from each start until the next end."""

    name: Title
    """What the window is called."""
    start: Cron
    """When it opens: minute, hour, day of month, month, day of week."""
    end: Cron
    """When it closes."""
    time_zone: Zone = "UTC"
    """An IANA time zone, such as Europe/Berlin; daylight saving as cron does it."""
    min_replicas: Replicas | None = None
    """minReplicas while it is open."""
    max_replicas: Annotated[Replicas, Field(ge=1)] | None = None
    """maxReplicas while it is open."""


class FallbackField(Part):
    """What happens when no metric has had a value for some time; without it, the count is held."""

    after_failures: Annotated[int, Field(ge=1, le=10_000)] = 3
    """After how many ticks in a row without data it applies."""
    replicas: Replicas
    """The count that is set then."""
    when: Literal["always", "ifHigher", "ifLower"] = "always"
    """Always, or only if that count is higher or lower than the current one."""


class ModeField(Part):
    """Whether decisions are applied."""

    type: Literal["active", "dryRun", "paused"] = "active"
    """active: decisions are applied; dryRun: they are shown only; paused: the count is held."""
    until: Moment | None = None
    """When dryRun or paused ends and the policy becomes active."""


class Spec(Part):
    """What is scaled, by which load, within which limits."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["scaleTargetRef"]}, {"required": ["targets"]}]})

    scale_target_ref: ScaleTargetRef | None = None
    """What is scaled."""
    targets: Targets | None = None
    """Instead of scaleTargetRef: many workloads, each scaled by its own series of each query."""
    min_replicas: Replicas = 1
    """The fewest replicas; 0 needs a metric with averageValue, which has a value without pods too."""
    max_replicas: Annotated[Replicas, Field(ge=1)]
    """The most replicas."""
    interval: Annotated[Interval, Field(json_schema_extra={"default": "15s"})] = 15.0
    """How often the workload is looked at."""
    metrics: Annotated[tuple[Metric, ...], BeforeValidator(_some), _AT_LEAST_ONE]
    """The workload's signals."""
    policy: PolicyField = PolicyField(type=DEFAULT_POLICY)
    """How replicas follow from demand, such as {type: movingAverage}; without it, forecast."""
    behavior: BehaviorField | None = None
    """How fast the count may change."""
    schedule: tuple[Window, ...] = ()
    """Other bounds at certain times."""
    fallback: FallbackField | None = None
    """What to do without data."""
    mode: ModeField = ModeField()
    """Whether decisions are applied."""
    coverage: Question | None = None
    """How many of the workload's pods report; below 90 % of the ready ones it is not scaled down. Without it, `up` is asked."""
    objective: ObjectiveField | None = None
    """For forecast: which requests are too late. What really happens corrects how late it takes a load per replica to be."""
    startup: Duration | None = None
    """How long a new pod takes to serve; without it, it is measured."""


class ScalingPolicy(Part):
    """How one workload is scaled by its load."""

    api_version: Literal["autoscaler.dev/v1alpha1"]
    """The version of this format."""
    kind: Literal["ScalingPolicy"]
    """The kind of document."""
    metadata: Metadata
    """Its name."""
    spec: Spec
    """What is scaled, by which load, within which limits."""
