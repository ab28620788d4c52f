"""The port EvidenceSource on a real Kubernetes: a pod's log, warning events, and the templates of two revisions, each with its budget.

What cannot be had becomes a sentence in ``missing``; no part fails another. Everything is redacted before it leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import isfinite
from typing import TypeVar

import msgspec

from autoscaler.adapters.kubernetes.calls import ForbiddenError, NotFoundError
from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.facts_wire import seconds
from autoscaler.adapters.kubernetes.revisions import Revisions
from autoscaler.adapters.kubernetes.scale import FIELD_MANAGER
from autoscaler.clock import Clock
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.findings import Finding, PodRef
from autoscaler.core.health.redact import LINES_MAX, TEXT_MAX, log_lines, one_line
from autoscaler.core.health.report import Evidence
from autoscaler.core.health.taxonomy import CRASHES, Cause
from autoscaler.core.health.words import duration
from autoscaler.errors import AutoscalerError, PermanentError

PODS = Resource("v1", "Pod", "pods")
EVENTS = Resource("v1", "Event", "events")

EVENTS_SHOWN = 8

_EVENTS_READ = 100
_LOGGED = CRASHES | {Cause.JOB, Cause.UNREADY}
"""Causes for which a container has run, and so has a log."""

_RUNNING = frozenset({Cause.UNREADY})
"""Of these, those whose container still runs: its present log counts."""

_LOST_LOG = "unable to retrieve container logs for"
"""What the kubelet answers with 200 where the runtime has thrown the log away."""

_NO_LINES: tuple[str, ...] = ()
_NO_REVISION: tuple[str, tuple[str, ...]] = ("", ())

T = TypeVar("T")


class _Terminated(msgspec.Struct, gc=False):
    message: str = ""


class _State(msgspec.Struct, gc=False):
    terminated: _Terminated | None = None


class _ContainerStatus(msgspec.Struct, gc=False, rename="camel"):
    name: str
    image: str = ""
    image_id: str = msgspec.field(name="imageID", default="")
    state: _State | None = None
    last_state: _State | None = None


class _Resources(msgspec.Struct, gc=False):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class _Container(msgspec.Struct, gc=False):
    name: str
    image: str = ""
    resources: _Resources | None = None


class _PodSpec(msgspec.Struct, gc=False, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _PodStatus(msgspec.Struct, gc=False, rename="camel"):
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    message: str = ""


class _Pod(msgspec.Struct, gc=False):
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _Pods(msgspec.Struct, gc=False):
    items: list[_Pod] | None = None


class _Source(msgspec.Struct, gc=False):
    component: str = ""


class _Series(msgspec.Struct, gc=False, rename="camel"):
    count: int = 0
    last_observed_time: str | None = None


class _Involved(msgspec.Struct, gc=False):
    name: str = ""


class _Event(msgspec.Struct, gc=False, rename="camel"):
    reason: str = ""
    message: str = ""
    count: int | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: _Series | None = None
    source: _Source | None = None
    reporting_component: str = ""
    involved_object: _Involved | None = None

    @property
    def at_s(self) -> float:
        """When it was last seen; which of the times is set depends on who made it."""
        last = self.series.last_observed_time if self.series else None
        told = (seconds(each) for each in (last, self.last_timestamp, self.event_time, self.first_timestamp))
        return next((each for each in told if isfinite(each)), 0.0)

    @property
    def times(self) -> int:
        return max(1, self.count or 0, self.series.count if self.series else 0)

    @property
    def ours(self) -> bool:
        return FIELD_MANAGER in {self.reporting_component, self.source.component if self.source else ""}


class _Events(msgspec.Struct, gc=False):
    items: list[_Event] | None = None


class KubernetesEvidence:
    """Reads what there is. A budget is for each part; the parts are read side by side."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock, self._revisions = client, clock, Revisions(client, clock)

    async def gather(self, finding: Finding, budget_s: float) -> Evidence:
        """What speaks for a finding. Never raises one of our errors."""
        if finding.subject.kind == "Node":
            return Evidence()
        pod = max(finding.pods, key=lambda each: (each.restarts, each.name), default=None)
        missing: list[str] = []

        async def part(what: str, ask: Callable[[], Awaitable[T]], otherwise: T) -> T:
            try:
                async with asyncio.timeout(budget_s):
                    return await ask()
            except AutoscalerError as error:
                missing.append(one_line(f"{what}: {error}"))
            except TimeoutError:
                missing.append(f"{what}: no answer within {budget_s:g} s")
            return otherwise

        log, shown, warnings, (revision, diff) = await asyncio.gather(
            part("the log", lambda: self._log(finding, pod), _NO_LINES),
            part("the pod", lambda: self._pod(finding, pod), ("", "", "")),
            part("events", lambda: self._warnings(finding, pod), _NO_LINES),
            part("what changed between revisions", lambda: self._revisions.told(finding), _NO_REVISION),
        )
        image, limits, message = shown
        name = pod.name if pod is not None else ""
        return Evidence(log, warnings, limits, diff, revision, name, image, message, tuple(sorted(missing)))

    async def _log(self, finding: Finding, pod: PodRef | None) -> tuple[str, ...]:
        """The end of the container's previous run; of one that has not run twice, of its only one."""
        if pod is None or not finding.container or finding.cause not in _LOGGED:
            return ()
        if finding.cause not in _RUNNING:
            try:
                return await self._lines(finding, pod, previous=True)
            except (ForbiddenError, NotFoundError):
                raise
            except PermanentError:  # 400: "previous terminated container … not found", or there is nothing in it
                pass
        return await self._lines(finding, pod, previous=False)

    async def _lines(self, finding: Finding, pod: PodRef, *, previous: bool) -> tuple[str, ...]:
        """Long lines are cut by the server at the end of what it sends, so that fewer are asked for until the last one is there."""
        raw = b""
        for lines in (LINES_MAX, 5, 1):
            query = {"container": finding.container, "tailLines": str(lines), "limitBytes": str(TEXT_MAX)}
            raw = await self._read(finding.subject.namespace, pod.name, query | ({"previous": "true"} if previous else {}))
            if len(raw) < TEXT_MAX:
                break
        if raw.lstrip().startswith(_LOST_LOG.encode()):
            raise PermanentError(f"pod {pod.name}: the container runtime has removed it already")
        shown = await asyncio.to_thread(log_lines, raw)
        if not shown:
            raise PermanentError(f"pod {pod.name}: it is empty")
        return shown

    async def _read(self, namespace: str, pod: str, query: dict[str, str]) -> bytes:
        raw = bytearray()
        async with self._client.stream(PODS.call("get", namespace, pod, "log"), query, accept="*/*") as content:
            while len(raw) < TEXT_MAX and (chunk := await content.read(TEXT_MAX)):
                raw += chunk
        return bytes(raw[:TEXT_MAX])

    async def _pod(self, finding: Finding, pod: PodRef | None) -> tuple[str, str, str]:
        """Its container's image, limits and last words. By a list of one, as the watch may list pods already."""
        if pod is None:
            return "", "", ""
        query = {"fieldSelector": f"metadata.name={pod.name}", "limit": "1"}
        pods = (await self._client.get(PODS.call("list", finding.subject.namespace), _Pods, query)).items
        if not pods:
            raise PermanentError(f"{pod.name} is gone")
        found = pods[0]
        spec, status = found.spec or _PodSpec(), found.status or _PodStatus()
        containers = [*(spec.containers or ()), *(spec.init_containers or ())]
        statuses = [*(status.container_statuses or ()), *(status.init_container_statuses or ())]
        container = next((each for each in containers if each.name == finding.container), None)
        shown = next((each for each in statuses if each.name == finding.container), None)
        message = _last_words(shown) or status.message
        if container is None:
            return "", "", one_line(message)
        return _image(container, shown), _limits(container.resources or _Resources()), one_line(message)

    async def _warnings(self, finding: Finding, pod: PodRef | None) -> tuple[str, ...]:
        """The newest warnings of the pod and of its workload, those of others: ours only say what is told here already."""
        subject = finding.subject
        selectors = [f"involvedObject.uid={uid},type=Warning" for uid in dict.fromkeys([pod.uid if pod else "", subject.uid]) if uid]
        if finding.cause is Cause.CREATE_FAILED and subject.kind == "Deployment":
            selectors.append("involvedObject.kind=ReplicaSet,type=Warning")
        lists = await asyncio.gather(*(self._events(subject, selector) for selector in selectors))
        found = [event for items in lists for event in items if not event.ours]
        found.sort(key=lambda event: -event.at_s)
        return tuple(self._event_line(event) for event in found[:EVENTS_SHOWN])

    async def _events(self, subject: Subject, selector: str) -> list[_Event]:
        query = {"fieldSelector": selector, "limit": str(_EVENTS_READ)}
        items = (await self._client.get(EVENTS.call("list", subject.namespace), _Events, query)).items or []
        if selector.startswith("involvedObject.uid"):
            return items
        named = ((event.involved_object.name if event.involved_object else "", event) for event in items)
        return [event for name, event in named if name.rpartition("-")[0] == subject.name]  # of ReplicaSets, whose uids are not known

    def _event_line(self, event: _Event) -> str:
        ago = duration(self._clock.now() - event.at_s) if event.at_s else ""
        often = f", {event.times} times" if event.times > 1 else ""
        return one_line(f"{f'{ago} ago' if ago else 'some time ago'}{often}: {event.reason}: {event.message}")


def _last_words(status: _ContainerStatus | None) -> str:
    for state in (status.state, status.last_state) if status is not None else ():
        if state is not None and state.terminated is not None and state.terminated.message:
            return state.terminated.message
    return ""


def _image(container: _Container, status: _ContainerStatus | None) -> str:
    digest = status.image_id.rpartition("@")[2] if status is not None and "@" in status.image_id else ""
    return one_line(f"{container.image} ({digest})" if digest and digest not in container.image else container.image)


def _limits(resources: _Resources) -> str:
    """Requests and limits in words: ``requests cpu 100m, memory 64Mi; limits memory 128Mi``."""
    parts = [
        f"{kind} {', '.join(f'{name} {amount}' for name, amount in sorted(amounts.items()))}"
        for kind, amounts in (("requests", resources.requests), ("limits", resources.limits))
        if amounts
    ]
    return one_line("; ".join(parts)) or "no requests, no limits"
