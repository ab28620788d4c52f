"""The pods and loads of one HPA, which change from pass to pass by a seed: everything that tells one pod from another happens sometimes."""

from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, exp, log
from random import Random
from typing import Any, NamedTuple

from autoscaler.core.types import PodPhase, PodReady
from tests.cluster.hpa.cases import MI, NAMESPACE, Case, Metric
from tests.cluster.hpa.journal import PodSeen, Sample

Json = dict[str, Any]

PODS_MAX = 6
CONTAINERS = ("app", "side")
FINALIZER = "autoscaler.test/hold"  # a pod without a node would be gone at once


class Write(NamedTuple):
    """A request to the API server that makes the pods so."""

    method: str
    path: str
    body: Json
    content_type: str = "application/merge-patch+json"


@dataclass
class Pod:
    """``phase`` and ``ready`` as the API server has them; ``deleting``: it has a deletion timestamp."""

    name: str
    requests: dict[tuple[str, str], int | None]
    phase: str = "Pending"
    ready: PodReady = PodReady.NONE
    started_s: float | None = None
    ready_changed_s: float | None = None
    deleting: bool = False

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/pods/{self.name}"

    def seen(self) -> PodSeen:
        phases = {"Pending": PodPhase.PENDING, "Running": PodPhase.RUNNING, "Failed": PodPhase.FAILED}
        phase = phases.get(self.phase, PodPhase.OTHER)
        if self.deleting and phase is not PodPhase.FAILED:
            phase = PodPhase.DELETED
        ready = self.ready if self.phase == "Running" or not self.deleting else PodReady.NONE
        return PodSeen(phase, ready, self.started_s, self.ready_changed_s, self.requests)

    def creation(self, case: str) -> Write:
        containers = []
        for container in CONTAINERS:
            requests = {
                resource: f"{value}m" for (owner, resource), value in self.requests.items() if owner == container and value is not None
            }
            containers.append({"name": container, "image": "rig.invalid/web:1", "resources": {"requests": requests}})
        metadata = {"name": self.name, "namespace": NAMESPACE, "labels": {"app": case}, "finalizers": [FINALIZER]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}
        return Write("POST", self.path.rpartition("/")[0], body, "application/json")

    def status(self) -> Write:
        words = {PodReady.TRUE: "True", PodReady.FALSE: "False", PodReady.UNKNOWN: "Unknown"}
        conditions: list[Json] = []
        if self.ready is not PodReady.NONE:
            changed = {} if self.ready_changed_s is None else {"lastTransitionTime": _written(self.ready_changed_s)}
            conditions.append({"type": "Ready", "status": words[self.ready], **changed})
        started = None if self.started_s is None else _written(self.started_s)
        return Write("PATCH", f"{self.path}/status", {"status": {"phase": self.phase, "startTime": started, "conditions": conditions}})


def _written(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """The target of one HPA: its counts, pods and loads. Whole seconds, as the API has them."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.rng = case, Random(f"{seed}/{case.number}/world")
        self.replicas = self.rng.randint(max(1, case.min), case.max)
        self.status = self.replicas
        self.pods: dict[str, Pod] = {}
        self.scaled_to_zero = False
        self._levels = [1.0 for _ in case.metrics]
        self._exact = [False for _ in case.metrics]
        self._born = 0
        self._departed: list[str] = []

    def first_writes(self, now_s: float) -> list[Write]:
        """The pods that are there when the HPA comes."""
        writes: list[Write] = []
        for _ in range(self.rng.randint(1, 4)):
            pod = self._newborn()
            writes.append(pod.creation(self.case.name))
            if self.rng.random() < 0.9:
                self._start(pod, now_s)
                pod.ready, pod.ready_changed_s = self.rng.choice([PodReady.TRUE] * 3 + [PodReady.FALSE]), pod.started_s
                writes.append(pod.status())
        return writes

    def evolve(self, now_s: float) -> list[Write]:
        """Go on to the next pass; what to write to the API server for it."""
        rng = self.rng
        if rng.random() < 0.04:  # somebody scales by hand, now and then out of bounds or to zero
            self.replicas = rng.choice([0, rng.randint(1, self.case.max + 4), rng.randint(1, self.case.max + 4), self.case.max + 2])
        if self.replicas == 0 and not self.scaled_to_zero and rng.random() < 0.4:
            self.replicas = rng.randint(1, self.case.max)
        if rng.random() < 0.8:
            self.status = self.replicas
        for index in range(len(self._levels)):
            if rng.random() < 0.3:
                self._levels[index] = exp(rng.uniform(log(0.3), log(2.5)))
                if self.case.min == 0 and rng.random() < 0.5:
                    self._levels[index] = 0.0
            self._exact[index] = rng.random() < 0.15
        return self._change_a_pod(now_s) if rng.random() < 0.4 else []

    def wrote(self, replicas: int) -> None:
        """The HPA set another count."""
        self.scaled_to_zero = replicas == 0
        self.replicas = replicas

    def answers(self, now_s: float) -> tuple[list[Json] | None, dict[int, list[int] | dict[str, Sample] | None]]:
        """What every metric says at this pass: the items of the resource metrics API (None: it fails), and each metric's answer."""
        usage = self._usage(now_s) if self.rng.random() > 0.05 else None
        answers: dict[int, list[int] | dict[str, Sample] | None] = {}
        for index, metric in enumerate(self.case.metrics):
            if metric.resource:
                answers[index] = _resource_answer(metric, usage)
            elif self.rng.random() < 0.06:
                answers[index] = None
            elif metric.source == "Pods":
                answers[index] = {name: Sample(self._value(index, metric.target)) for name in self._sampled()}
            else:
                total = metric.target * (max(1, self.status) if metric.kind == "AverageValue" else 1)
                parts = self.rng.choice([1, 1, 3]) if metric.source == "External" else 1
                answers[index] = [self._value(index, total // parts) for _ in range(parts)]
        return usage, answers

    def _value(self, index: int, target: int) -> int:
        """Around ``target`` times the metric's level, in thousandths; now and then exactly at a tolerance's edge."""
        if self._exact[index]:
            return round(target * self.rng.choice([0.9, 1.0, 1.0, 1.1]))
        return round(target * self._levels[index] * self.rng.uniform(0.9, 1.1))

    def _sampled(self) -> list[str]:
        """The pods with a sample: most of those that run, and sometimes one that is gone already."""
        alive = [pod.name for pod in self.pods.values() if pod.phase != "Pending" or self.rng.random() < 0.1]
        return [name for name in [*alive, *self._departed] if self.rng.random() < 0.92]

    def _usage(self, now_s: float) -> list[Json]:
        items = []
        for name in self._sampled():
            pod = self.pods.get(name)
            containers = []
            for container in CONTAINERS:
                use = {resource: self._use(pod, container, resource) for resource in ("cpu", "memory") if self.rng.random() > 0.01}
                containers.append({"name": container, "usage": use})
            sampled_s = int(now_s) - self.rng.randint(0, 12)
            window = self.rng.choice([10, 15, 30])
            metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": self.case.name}}
            stamp = {"timestamp": _written(sampled_s), "window": f"{window}s"}
            items.append({"metadata": metadata, **stamp, "containers": containers, "_sampled_s": sampled_s, "_window_s": window})
        return items

    def _use(self, pod: Pod | None, container: str, resource: str) -> str:
        found = [(index, metric) for index, metric in enumerate(self.case.metrics) if metric.resource == resource]
        requested = pod.requests[container, resource] if pod is not None else None
        usual = requested or (100 if resource == "cpu" else 50 * MI * 1000)
        milli = usual
        for index, metric in found[:1]:
            share = 1 if metric.container else len(CONTAINERS)
            milli = self._value(index, usual * metric.target // 100 if metric.kind == "Utilization" else metric.target // share)
        if resource == "memory":
            return str(milli // 1000)
        return f"{milli}m" if self.rng.random() < 0.5 else f"{milli * 1_000_000 - self.rng.randint(0, 999_999)}n"

    def _change_a_pod(self, now_s: float) -> list[Write]:
        rng = self.rng
        self._departed = [name for name in self._departed if rng.random() < 0.6]
        wanted = min(PODS_MAX, max(1, self.replicas))
        alive = [pod for pod in self.pods.values() if not pod.deleting]
        if len(alive) < wanted and rng.random() < 0.6:
            return [self._newborn().creation(self.case.name)]
        if not self.pods:
            return []
        pod = rng.choice(list(self.pods.values()))
        if pod.deleting:
            del self.pods[pod.name]
            self._departed.append(pod.name)
            return [Write("PATCH", pod.path, {"metadata": {"finalizers": None}})]
        if pod.phase in {"Failed", "Succeeded"} or len(alive) > wanted or rng.random() < 0.1:
            pod.deleting = True
            return [Write("DELETE", pod.path, {"gracePeriodSeconds": 30}, "application/json")]
        if pod.phase == "Pending":
            self._start(pod, now_s)
        elif rng.random() < 0.12:
            pod.phase = rng.choice(["Failed", "Succeeded"])
            pod.ready, pod.ready_changed_s = PodReady.FALSE, float(int(now_s))
        else:
            ready = rng.choice([PodReady.TRUE, PodReady.TRUE, PodReady.FALSE, PodReady.UNKNOWN])
            if ready is not pod.ready:
                pod.ready, pod.ready_changed_s = ready, float(int(now_s) - rng.choice([0, 0, 1, 4]))
        return [pod.status()]

    def _start(self, pod: Pod, now_s: float) -> None:
        rng = self.rng
        pod.phase, pod.started_s = "Running", float(int(now_s) - rng.choice([0, 1, 5, 15, 18, 19, 30, 100]))
        if rng.random() < 0.05:
            pod.started_s = None
        pod.ready = rng.choice([PodReady.FALSE, PodReady.FALSE, PodReady.TRUE, PodReady.NONE])
        pod.ready_changed_s = None
        if pod.ready is not PodReady.NONE:
            pod.ready_changed_s = (pod.started_s or float(int(now_s))) + rng.choice([0, 1, 2, 3, 4, 8])

    def _newborn(self) -> Pod:
        self._born += 1
        rng = self.rng
        requests: dict[tuple[str, str], int | None] = {}
        for container, cpu, memory in (("app", (100, 400), (32, 128)), ("side", (50, 150), (16, 32))):
            requests[container, "cpu"] = rng.randint(*cpu)
            requests[container, "memory"] = rng.randint(*memory) * MI * 1000
        if rng.random() < 0.03:
            requests[rng.choice(CONTAINERS), rng.choice(["cpu", "memory"])] = None
        pod = Pod(f"{self.case.name}-{self._born}", requests)
        self.pods[pod.name] = pod
        return pod


def _resource_answer(metric: Metric, items: list[Json] | None) -> dict[str, Sample] | None:
    """The samples that an HPA makes of the items: every quantity rounded up to a thousandth, then summed."""
    if not items:
        return None
    found = {}
    for item in items:
        containers = [each for each in item["containers"] if metric.container in {"", each["name"]}]
        if all(metric.resource in each["usage"] for each in containers):
            value = sum(_milli(each["usage"][metric.resource]) for each in containers)
            found[item["metadata"]["name"]] = Sample(value, item["_sampled_s"], item["_window_s"])
    return found


def _milli(quantity: str) -> int:
    if quantity.endswith("n"):
        return ceil(int(quantity[:-1]) / 1_000_000)
    return int(quantity[:-1]) if quantity.endswith("m") else int(quantity) * 1000
