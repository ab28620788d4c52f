"""What stands between policies and a cluster, before anything runs: targets that do not exist, rights that lack, and who else writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from autoscaler.adapters.kubernetes.calls import Call, ForbiddenError, NotFoundError
from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.conflicts import KINDS, Autoscaler, RivalKind, target_of
from autoscaler.adapters.kubernetes.discovery import Discovery, Resource
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.adapters.kubernetes.ownership import LAST_APPLIED, Entry, Managed, entries_of_replicas, how, read_managed
from autoscaler.adapters.kubernetes.resource_metrics import POD_METRICS, pod_samples
from autoscaler.adapters.kubernetes.scale import FIELD_MANAGER
from autoscaler.adapters.kubernetes.wire import Object, Page
from autoscaler.core.selector import Selector
from autoscaler.core.types import Workload
from autoscaler.errors import AutoscalerError

_AT_ONCE = 8
_PAGE = 500

_BY_HAND = frozenset({"kubectl", "kubectl-create", "kubectl-edit", "kubectl-patch", "kubectl-run", "kubectl-scale"})
_CLIENT_SIDE_APPLY = "kubectl-client-side-apply"
_CONTROLLERS = "kube-controller-manager"

_REVIEWS = Call("create", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "authorization.k8s.io", "selfsubjectaccessreviews")


class _Status(msgspec.Struct, gc=False):
    allowed: bool = False


class _Review(msgspec.Struct, gc=False):
    status: _Status = msgspec.field(default_factory=_Status)


@asynccontextmanager
async def checking(kubeconfig: str = "", context: str = "") -> AsyncIterator[Checker]:
    """A checker of the cluster that these lead to. Raises ConfigError where they lead nowhere."""
    client = await Client.connect(find_login(kubeconfig, context))
    try:
        yield Checker(client)
    finally:
        await client.close()


class Checker:
    """Looks at one cluster as whoever is logged in, and changes nothing."""

    def __init__(self, client: Client) -> None:
        self._client, self._discovery = client, Discovery(client)
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._answers: dict[object, asyncio.Future[Any]] = {}

    async def check(self, workloads: Sequence[Workload]) -> dict[Workload, list[str]]:
        """What is wrong with each target, in sentences; nothing where all is well. Raises TransientError if the server is not there."""
        found = await asyncio.gather(*(self._check(workload) for workload in workloads))
        return dict(zip(workloads, found, strict=True))

    async def select(self, selector: Selector) -> list[str] | str:
        """The names of those that fit, or why they are not known, as a sentence."""
        query, names = {"limit": str(_PAGE)}, list[str]()
        if selector.requirements:
            query["labelSelector"] = ",".join(map(str, selector.requirements))
        try:
            resource = await self._discovery.find(selector.api_version, selector.kind)
            while True:
                page = await self._client.get(resource.call("list", selector.namespace), Page[Object], query)
                names += [item.metadata.name for item in page.items or ()]
                if not page.metadata.next_page:
                    return sorted(names)
                query["continue"] = page.metadata.next_page
        except NotFoundError as error:
            return str(error)
        except ForbiddenError as error:
            return f"whom it selects is not known: {error}"

    async def usage(self, namespace: str) -> str:
        """Why what the pods of a namespace use is not known, as a sentence; empty: it is."""

        async def ask() -> str:
            try:
                await pod_samples(self._client, namespace)
            except AutoscalerError as error:
                return f"what its pods use is not known: {error}"
            return ""

        found: str = await self._once((POD_METRICS, namespace), ask)
        return found

    async def _check(self, workload: Workload) -> list[str]:
        async with self._free:
            try:
                resource = await self._discovery.find(workload.api_version, workload.kind)
            except NotFoundError as error:
                return [str(error)]
            if not resource.scalable:
                return [f"{workload.kind} in {workload.api_version} has no /scale subresource: nothing can set its replicas"]
            return [*await self._rights(resource, workload.namespace), *await self._target(resource, workload)]

    async def _rights(self, resource: Resource, namespace: str) -> list[str]:
        """What this login may not do that scaling needs."""
        calls = [resource.call(verb, namespace) for verb in ("list", "watch")]
        calls += [resource.call(verb, namespace, subresource="scale") for verb in ("get", "patch")]
        lacking = [call for call in calls if not await self._once(call, lambda call=call: self._may(call))]  # type: ignore[misc]
        return [f"this login may not {call}; {call.rule}" for call in lacking]

    async def _may(self, call: Call) -> bool:
        resource, _, subresource = call.resource.partition("/")
        attributes = {"verb": call.verb, "group": call.group, "resource": resource, "subresource": subresource, "namespace": call.namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        return (await self._client.write(_REVIEWS, _Review, review)).status.allowed

    async def _target(self, resource: Resource, workload: Workload) -> list[str]:
        try:
            managed = await read_managed(self._client, resource, workload.namespace, workload.name)
        except NotFoundError:
            return [f"there is no {workload.kind} {workload.name} in namespace {workload.namespace}"]
        except ForbiddenError as error:
            return [f"whether it exists is not known: {error}"]
        rivals = await self._rivals(workload)
        told = [_owned(managed, entry) for entry in entries_of_replicas(managed) if not (rivals and entry.manager == _CONTROLLERS)]
        return [*rivals, *filter(None, told)]

    async def _rivals(self, workload: Workload) -> list[str]:
        found = []
        for kind in KINDS:
            items = await self._once((kind, workload.namespace), lambda kind=kind: self._autoscalers(kind, workload.namespace))  # type: ignore[misc]
            if isinstance(items, str):
                found.append(items)
                continue
            mine = target_of(workload.namespace, workload.api_version, workload.kind, workload.name)
            names = [item.metadata.name for item in items if item.target == mine]
            found += [f"{kind.kind} {name} scales it too: delete one of the two, or make this policy a dry run" for name in names]
        return found

    async def _autoscalers(self, kind: RivalKind, namespace: str) -> list[Autoscaler] | str:
        try:
            resource = await self._discovery.find(kind.api_version, kind.kind)
            page = await self._client.get(resource.call("list", namespace), Page[Autoscaler])
        except NotFoundError:
            return []
        except ForbiddenError as error:
            return f"whether a {kind.kind} scales it too is not known: {error}"
        return page.items or []

    async def _once(self, key: object, ask: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - whatever the question's answer is
        """The answer to a question that several targets have."""
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = asyncio.ensure_future(ask())
        return await answer


def _owned(managed: Managed, entry: Entry) -> str:
    """Why that writer of the replicas will be in the way, if it will."""
    if entry.manager in _BY_HAND | {FIELD_MANAGER}:
        return ""
    if entry.operation == "Apply" or (entry.manager == _CLIENT_SIDE_APPLY and _applies_replicas(managed)):
        return f"{entry.manager} sets spec.replicas ({how(entry)}) whenever it applies: remove replicas from its manifest"
    if entry.manager == _CLIENT_SIDE_APPLY:
        return ""
    return (
        f"{entry.manager} has set spec.replicas ({how(entry)}): if it does so again, it and this policy fight; let only one of them set it"
    )


def _applies_replicas(managed: Managed) -> bool:
    try:
        applied = msgspec.json.decode(managed.metadata.annotations.get(LAST_APPLIED, "{}"), type=dict[str, Any])
    except msgspec.DecodeError:
        return False
    spec = applied.get("spec")
    return isinstance(spec, dict) and "replicas" in spec
