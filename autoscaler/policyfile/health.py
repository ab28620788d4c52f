"""What a HealthPolicy may say, and the core's spec of it. The form of files and messages is that of a ScalingPolicy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.health.remedies import REMEDIES, Remedy
from autoscaler.core.health.taxonomy import Waits
from autoscaler.policyfile import checks, durations
from autoscaler.policyfile.checks import Finding
from autoscaler.policyfile.positions import Document
from autoscaler.policyfile.schema import Metadata, Part, SelectorField
from autoscaler.policyfile.specs import requirements_of

KIND = "HealthPolicy"

HealthName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$", max_length=63)]
Wait: TypeAlias = Annotated[
    float,
    BeforeValidator(durations.parse_duration),
    WithJsonSchema({"anyOf": [{"const": 0}, {"type": "string", "pattern": durations.PATTERN}]}),
]
Choice: TypeAlias = Literal["report", "restart", "delete"]


class RemediesField(Part):
    """What is done about a cause: report; restart (a new pod, by an eviction that PodDisruptionBudgets may refuse); delete (without)."""

    crash_loop: Choice = "report"
    """A container that crashes again and again: once, after five restarts and waits.crashLoopRemedy (ten minutes)."""
    wedged_stateful_set: Choice = "report"
    """A broken pod of an old revision that keeps a StatefulSet's new one from coming."""
    stuck_creating: Choice = "report"
    """A pod whose sandbox or volumes cannot be set up for waits.creatingRemedy (15 minutes), while siblings run on other nodes."""
    unready: Choice = "report"
    """A pod that runs but is not ready, as long as most pods of its workload are."""
    failed_pod: Choice = "report"
    """A pod that failed waits.failedRemedy (an hour) ago and stays there: it is cleaned up."""
    daemon_sets: bool = False
    """Whether that goes for pods of DaemonSets too, although the new one comes to the same node."""


class LimitsField(Part):
    """The most that is done; what holds for the cluster as a whole is in the service's settings."""

    per_workload_per_hour: Annotated[int, Field(ge=1, le=60)] = 3
    """So many pods of one workload are removed within an hour at most."""


class WaitsField(Part):
    """How long each cause must last before it is told of or acted on, and what counts as a crash loop."""

    unschedulable: Wait = 300.0
    """No node has room for the pod."""
    creating: Wait = 300.0
    """Its sandbox or volumes cannot be set up."""
    image_pull: Wait = 120.0
    """Its image cannot be pulled."""
    bad_image: Wait = 0.0
    """Its image name is wrong, or may not be pulled."""
    config: Wait = 60.0
    """It refers to a ConfigMap, Secret or key that does not exist."""
    cannot_run: Wait = 0.0
    """Its command cannot be run."""
    hook: Wait = 60.0
    """Its postStart hook fails."""
    crash_loop: Wait = 120.0
    """The kubelet backs off restarting it; for init containers, sidecars, clean exits and kills too."""
    restarts: Annotated[int, Field(ge=1, le=100)] = 3
    """So many restarts within restartWindow are a crash loop at once."""
    restart_window: Wait = 600.0
    """The window of restarts."""
    oom: Wait = 0.0
    """It was killed for using more memory than its limit."""
    clean_run: Wait = 120.0
    """A container that has run for so long since it last ended is well again."""
    unready: Wait = 900.0
    """It runs, but is not ready."""
    failed: Wait = 0.0
    """The pod has failed."""
    failed_pod: Wait = 7200.0
    """For so long a failed pod is news."""
    terminating: Wait = 300.0
    """Its deletion has not come to an end, beyond its grace period."""
    wedged: Wait = 300.0
    """A broken pod of an old revision keeps a StatefulSet's new one from coming."""
    rollout: Wait = 0.0
    """Its rollout makes no progress, or its pods cannot be created."""
    job: Wait = 0.0
    """The Job has failed for good."""
    node_lost: Wait = 50.0
    """A node does not answer; of several policies the shortest wait counts."""
    crash_loop_remedy: Wait = 600.0
    """A pod has crashed again and again, before remedies.crashLoop acts on it."""
    creating_remedy: Wait = 900.0
    """A pod could not be set up, before remedies.stuckCreating acts on it."""
    failed_remedy: Wait = 3600.0
    """A pod has failed, before remedies.failedPod cleans it up."""


class HealthPolicySpec(Part):
    """Whose pods are watched, what is done about them, and who is told."""

    selector: SelectorField = SelectorField()
    """On the labels of the workload (of the Deployment, not of its pods); empty: every workload of the namespace."""
    remedies: RemediesField = RemediesField()
    """What is done about each cause; without it, report only."""
    limits: LimitsField = LimitsField()
    """The most that is done."""
    waits: WaitsField = WaitsField()
    """How long each cause must last before it is told of."""
    notify: tuple[HealthName, ...] = ()
    """Who is told, by the names that the service's settings give them. Events, metrics and the API tell of everything anyway."""


class HealthPolicy(Part):
    """Which pods are watched, what is done about them, and who is told."""

    api_version: Literal["autoscaler.dev/v1alpha1"]
    """The version of this format."""
    kind: Literal["HealthPolicy"]
    """The kind of document."""
    metadata: Metadata
    """Its name."""
    spec: HealthPolicySpec
    """Whose pods are watched, what is done about them, and who is told; {} is every workload of the namespace, and report only."""


@dataclass(frozen=True, slots=True)
class LoadedHealth:
    """A HealthPolicy without a mistake of its own."""

    document: Document
    policy: HealthPolicy
    spec: HealthSpec


def mistakes(document: object) -> Iterator[Finding]:
    """What is wrong between fields, for a document of any shape."""
    spec = document.get("spec") if isinstance(document, dict) else None
    if isinstance(spec, dict):
        yield from checks.selector_mistakes(spec.get("selector"), ("spec", "selector"))


def to_health_spec(policy: HealthPolicy, origin: str) -> HealthSpec:
    """The core's spec; what is left out has its default."""
    spec = policy.spec
    return HealthSpec(
        namespace=policy.metadata.namespace,
        name=policy.metadata.name,
        requirements=requirements_of(spec.selector),
        remedies={name: Remedy(_by_alias(spec.remedies)[name]) for name in REMEDIES.values()},
        daemon_sets=spec.remedies.daemon_sets,
        per_workload_hour=spec.limits.per_workload_per_hour,
        waits=Waits(**{wait_field(name): value for name, value in spec.waits}),
        sinks=tuple(dict.fromkeys(spec.notify)),
        origin=origin,
    )


def waits_as_given(waits: Waits) -> dict[str, str | int]:
    """Every wait as a file could give it."""
    named = {field.alias or name: getattr(waits, wait_field(name)) for name, field in WaitsField.model_fields.items()}
    return {name: value if name == "restarts" else durations.format_duration(value) for name, value in named.items()}


def wait_field(name: str) -> str:
    """The core's name of a wait: it has the unit in it."""
    return name if name == "restarts" else f"{name}_s"


def _by_alias(remedies: RemediesField) -> dict[str, Any]:
    return {to_camel(name): value for name, value in remedies}
