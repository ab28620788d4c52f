"""Workloads whose pods and their use a test makes up, around a running loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from autoscaler.adapters.memory_pods import MemoryPods, Template
from autoscaler.clock import ManualClock
from autoscaler.core.health.facts import Container, Resources
from autoscaler.core.spec import PolicyChoice, SeriesSpec, Usage, WorkloadSpec
from autoscaler.core.types import MetricType, TargetKind, Workload
from autoscaler.core.usage import Sample
from autoscaler.registry import find
from tests.core import build
from tests.loops.rig import INTERVAL_S, START_S, Rig, running

MI = 2.0**20
HALF = Template((Container("app", resources=Resources(0.5, 1.0, 100 * MI, 200 * MI)),))
"""One container that requests half a core and 100 Mi, and may use twice that."""

SAMPLE_AGE_S = 10.0
WEB = build.workload()


def by_cpu(name: str = "web", policy: str = "", usage: Usage | None = None, **changes: Any) -> WorkloadSpec:  # noqa: ANN401 - of WorkloadSpec
    """A Deployment at 60 % of its CPU request; by the policy of that name, or as many replicas as are in demand."""
    usage = usage or Usage("cpu")
    kind = MetricType.CPU if usage.resource == "cpu" else MetricType.RESOURCE
    series = SeriesSpec("busy", usage, 0.6, TargetKind.UTILIZATION, metric_type=kind)
    found = find(policy) if policy else None
    choice = build.choice() if found is None else PolicyChoice(found.name, found.policy, found.policy.Params())
    return build.spec(name, **{"series": (series,), "policy": choice, "max_replicas": 20, **changes})


class MemoryUsage:
    """`metrics.k8s.io` in memory. ``before`` is awaited ahead of every answer; ``asked`` has the namespaces, in order."""

    def __init__(self, *, cluster_wide: bool = True) -> None:
        self.cluster_wide = cluster_wide
        self.samples: dict[tuple[str, str], Sample] = {}
        self.asked: list[str] = []
        self.before: Callable[[], Any] | None = None

    async def usage(self, namespace: str, budget_s: float) -> Mapping[tuple[str, str], Sample]:
        assert budget_s > 0
        self.asked.append(namespace)
        if self.before is not None:
            await self.before()
        return {name: sample for name, sample in self.samples.items() if namespace in {"", name[0]}}


@dataclass
class World:
    """A loop beside its pods: they come and go as it writes, and use what a test says."""

    rig: Rig
    pods: MemoryPods
    usage: MemoryUsage
    specs: list[WorkloadSpec] = field(default_factory=list)
    cores: dict[str, float] = field(default_factory=dict)

    def sample(self, workload: Workload, cores: float, memory: float = 50 * MI) -> None:
        """Let each pod have used so much."""
        for pod in self.pods.owned(workload) or ():
            containers = {each.name: (cores, memory) for each in pod.containers}
            self.usage.samples[pod.namespace, pod.name] = Sample(self.rig.clock.now() - SAMPLE_AGE_S + INTERVAL_S, 10.0, containers)

    async def tick(self, cores: float | None = None, ticks: int = 1) -> dict[str, Any]:
        """Ticks at which each pod has used so much (None: as before); the last decision about web."""
        for _ in range(ticks):
            for spec in self.specs:
                if cores is not None:
                    self.sample(spec.workload, cores)
            await self.rig.pass_ticks()
            for spec in self.specs:
                self.pods.scale(spec.workload, self.rig.cluster.replicas(spec.workload))
        decision: dict[str, Any] = self.rig.row("web")["decisions"][0]
        return decision


@asynccontextmanager
async def world(
    specs: Sequence[WorkloadSpec], replicas: int = 4, template: Template = HALF, usage: MemoryUsage | None = None
) -> AsyncIterator[World]:
    """A loop that follows the specs; their pods have been up for an hour."""
    clock = ManualClock(START_S - 3600.0)
    pods, usage = MemoryPods(clock), usage or MemoryUsage()
    for spec in specs:
        pods.create(spec.workload, replicas, template)
    clock.step(3600.0)
    async with running(specs, replicas, rig=Rig(clock=clock, pods=pods, usage=usage)) as rig:
        yield World(rig, pods, usage, list(specs))


def hanging(release: asyncio.Event) -> Callable[[], Any]:
    """A hook for MemoryUsage.before that waits."""

    async def before() -> None:
        await release.wait()

    return before
