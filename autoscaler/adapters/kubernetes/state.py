"""Saved state as ConfigMaps ``autoscaler-state-0`` and so on, in the service's own namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from autoscaler.adapters.kubernetes.calls import NotFoundError
from autoscaler.adapters.kubernetes.client import APPLY_PATCH, MERGE_PATCH, Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.scale import FIELD_MANAGER

CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")

KEY = "state.json"


class _ConfigMap(msgspec.Struct, gc=False):
    data: dict[str, str] = msgspec.field(default_factory=dict)


class ConfigMapStore:
    """A ConfigMap a shard. Those that are missing are made, with no right to make any other (see deploy/base/role.yaml)."""

    def __init__(self, client: Client, namespace: str, shards: Sequence[int]) -> None:
        """``shards``: the numbers that there may be."""
        self._client, self._namespace, self._shards = client, namespace, shards

    async def load(self) -> Mapping[int, bytes]:
        """Every shard that there is, asked for side by side."""
        found = await asyncio.gather(*(self._load(shard) for shard in self._shards), return_exceptions=True)
        shards = {}
        for shard, data in zip(self._shards, found, strict=True):
            if isinstance(data, BaseException):
                raise data
            if data is not None:
                shards[shard] = data
        return shards

    async def _load(self, shard: int) -> bytes | None:
        try:
            found = await self._client.get(CONFIG_MAPS.call("get", self._namespace, name_of(shard)), _ConfigMap)
        except NotFoundError:
            return None
        return found.data[KEY].encode() if KEY in found.data else None

    async def save(self, shard: int, data: bytes) -> None:
        """Replace a shard."""
        call, body = CONFIG_MAPS.call("patch", self._namespace, name_of(shard)), {"data": {KEY: data.decode()}}
        try:
            await self._client.write(call, _ConfigMap, body, {"fieldManager": FIELD_MANAGER}, content_type=MERGE_PATCH)
        except NotFoundError:
            # Made by an apply, as RBAC can allow that by name, which it cannot for a create.
            labels = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
            empty = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name_of(shard), "labels": labels}}
            await self._client.write(call, _ConfigMap, empty, {"fieldManager": FIELD_MANAGER}, content_type=APPLY_PATCH)
            await self._client.write(call, _ConfigMap, body, {"fieldManager": FIELD_MANAGER}, content_type=MERGE_PATCH)


def name_of(shard: int) -> str:
    """The ConfigMap of a shard."""
    return f"autoscaler-state-{shard}"
