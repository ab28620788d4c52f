"""Builders for facts: a test says what is wrong, the rest is a healthy Deployment ``shop/web`` on a healthy node."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import Any

from autoscaler.core.health.assess import Assessment, Memory, assess, standard_waits
from autoscaler.core.health.facts import (
    Condition,
    Container,
    Controller,
    Facts,
    Node,
    Owner,
    Pod,
    PodEvent,
    ScaleUp,
    Termination,
)
from autoscaler.core.health.findings import Finding, WaitsOf
from autoscaler.core.health.taxonomy import Waits

START_S = 1_700_000_000.0
"""When the monitor started; pods of tests are made a little later, so all that happens to them is news."""

NODE = Node("node-1", "node-1-uid", conditions=(Condition("Ready", "True", "KubeletReady", START_S - 9e5),))
DEPLOYMENT = Controller(
    "Deployment", "shop", "web", "web-uid", created_s=START_S - 9e5, generation=1, observed_generation=1, replicas=3, updated=3
)
REPLICA_SET = Controller(
    "ReplicaSet", "shop", "web-1", "web-1-uid", Owner("Deployment", "web", "web-uid"), START_S - 9e5, revision="1", number=1, replicas=3
)
STATEFUL_SET = Controller(
    "StatefulSet", "shop", "db", "db-uid", revision="db-1", update_revision="db-1", strategy="RollingUpdate", replicas=3
)
BY_REPLICA_SET = Owner("ReplicaSet", "web-1", "web-1-uid")


def ready(*, since_s: float = nan, reason: str = "", status: str = "True") -> Condition:
    return Condition("Ready", status, reason, since_s)


def container(name: str = "app", **changes: Any) -> Container:  # noqa: ANN401 - fields of Container
    base = Container(name, image="web:1", restarts=0, ready=True, started=True, running=True, running_s=START_S + 1)
    return replace(base, **changes)


def waiting(reason: str, name: str = "app", **changes: Any) -> Container:  # noqa: ANN401 - fields of Container
    return container(name, **{"ready": False, "started": False, "running": False, "running_s": nan, "waiting": reason, **changes})


def ended(code: int = 1, reason: str = "Error", at_s: float = nan, name: str = "app", **changes: Any) -> Container:  # noqa: ANN401 - fields of Container
    """A container that is in the state Terminated."""
    end = Termination(code, reason, at_s - 5, at_s)
    return container(name, **{"ready": False, "started": False, "running": False, "running_s": nan, "terminated": end, **changes})


def backing_off(code: int = 1, reason: str = "Error", at_s: float = nan, restarts: int = 4, **changes: Any) -> Container:  # noqa: ANN401 - fields of Container
    end = Termination(code, reason, at_s - 5, at_s)
    return waiting("CrashLoopBackOff", **{"restarts": restarts, "last": end, **changes})


def pod(name: str = "web-1-a", *containers: Container, **changes: Any) -> Pod:  # noqa: ANN401 - fields of Pod
    base = Pod(
        "shop",
        name,
        f"{name}-uid",
        "7",
        BY_REPLICA_SET,
        "1",
        START_S + 1,
        node="node-1",
        phase="Running",
        restart_policy="Always",
        conditions=(Condition("PodScheduled", "True"), Condition("Initialized", "True"), ready(since_s=START_S + 2)),
        containers=containers or (container(),),
    )
    return replace(base, **changes)


def facts(
    at_s: float,
    pods: Iterable[Pod],
    *controllers: Controller,
    nodes: Iterable[Node] | None = (NODE,),
    events: Mapping[str, Sequence[PodEvent]] | None = None,
    scale_ups: Mapping[str, ScaleUp] | None = None,
    **more: Any,  # noqa: ANN401 - fields of Facts
) -> Facts:
    """What is known; the Deployment, its ReplicaSet and the StatefulSet ``db`` are there unless others of their uid are given."""
    known = {each.uid: each for each in (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, *controllers)}
    named = None if nodes is None else {each.name: each for each in nodes}
    return replace(Facts(at_s, tuple(pods), known, named, events or {}, scale_ups or {}), **more)


class Ward:
    """The monitor over time, started at ``START_S`` on an empty cluster."""

    assessment: Assessment

    def __init__(self, waits: Waits | None = None, before: Sequence[Pod] = ()) -> None:
        self.waits_of: WaitsOf = standard_waits if waits is None else (lambda _: waits)
        self.memory, self.assessment = assess(Memory(), facts(START_S, before), self.waits_of)

    def see(self, after_s: float, *pods: Pod, **more: Any) -> Assessment:  # noqa: ANN401 - of facts
        """Assess these pods ``after_s`` seconds after the start."""
        controllers = more.pop("controllers", ())
        self.memory, self.assessment = assess(self.memory, facts(START_S + after_s, pods, *controllers, **more), self.waits_of)
        return self.assessment

    def due(self, after_s: float, *pods: Pod, **more: Any) -> list[Finding]:  # noqa: ANN401 - of facts
        return list(self.see(after_s, *pods, **more).due())


def told(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Each finding's subject, container and cause."""
    return [(str(each.subject), each.container, str(each.cause)) for each in findings]


WEB = "Deployment shop/web"
LOOP = [(WEB, "app", "CrashLoop")]


def running(restarts: int, since: float, finished: float = nan) -> Container:
    """It runs since ``since``, and ended ``finished`` seconds after the start before that."""
    last = Termination(1, "Error", nan, START_S + finished)
    return container(restarts=restarts, running_s=START_S + since, last=last)


def crashed(restarts: int, finished: float, code: int = 1, reason: str = "Error") -> Container:
    return backing_off(code, reason, START_S + finished, restarts)
