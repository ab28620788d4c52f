"""The port PodActions on a real Kubernetes: fresh reads, evictions and deletions of just the pod that was seen."""

from __future__ import annotations

import msgspec

from autoscaler.adapters.kubernetes.calls import NotFoundError
from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.pod_wire import PodObject, pod_of
from autoscaler.core.health.facts import Pod
from autoscaler.core.health.remedies import Act
from autoscaler.errors import StaleViewError

_PODS = Resource("v1", "Pod", "pods")


class _Whatever(msgspec.Struct, gc=False):
    """A Status, or the pod as it was."""


class KubernetesPodActions:
    """Acts by uid and version, so never on another pod than the one that was judged."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, namespace: str, name: str) -> Pod | None:
        """The pod as etcd has it (no resourceVersion is asked for, so no cache answers); None: it is gone."""
        try:
            return pod_of(await self._client.get(_PODS.call("get", namespace, name), PodObject))
        except NotFoundError:
            return None

    async def remove(self, act: Act, *, dry_run: bool) -> None:
        """Evict or delete it; see :meth:`autoscaler.ports.PodActions.remove`. The pod's own grace period holds."""
        options = {"preconditions": {"uid": act.uid, "resourceVersion": act.resource_version}} | ({"dryRun": ["All"]} if dry_run else {})
        if act.eviction:
            call = _PODS.call("create", act.namespace, act.pod, "eviction")
            metadata = {"name": act.pod, "namespace": act.namespace}
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": options}
        else:
            call = _PODS.call("delete", act.namespace, act.pod)
            body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        try:
            await self._client.write(call, _Whatever, body, {"dryRun": "All"} if dry_run else None)
        except NotFoundError as error:
            raise StaleViewError(f"{error}; it was there when it was last seen") from error
