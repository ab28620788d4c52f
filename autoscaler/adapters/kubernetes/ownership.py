"""Who set a target's replicas: what the API server keeps of it in ``metadata.managedFields``.

That is not all: a zero that was set through /scale is nobody's (the Scale has no such field then), so whose a zero is must be remembered.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.scale import FIELD_MANAGER
from autoscaler.ports import Owner

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_REPLICAS = ("f:spec", "f:replicas")


class Entry(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What one manager has set, by which operation, and when."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""
    fields_v1: dict[str, object] = msgspec.field(name="fieldsV1", default_factory=dict)


class _Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    managed_fields: tuple[Entry, ...] = ()
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Managed(msgspec.Struct, frozen=True, gc=False):
    """An object's metadata, as far as they tell who set what."""

    metadata: _Metadata


async def read_managed(client: Client, resource: Resource, namespace: str, name: str) -> Managed:
    """Ask the API server for the metadata of one object."""
    return await client.get(resource.call("get", namespace, name), Managed, accept=METADATA_ONLY)


def entries_of_replicas(managed: Managed) -> list[Entry]:
    """Those that have set ``spec.replicas``, the latest first: appliers may share a field, the last to update it has it alone."""
    return sorted((entry for entry in managed.metadata.managed_fields if _has(entry.fields_v1)), key=lambda each: each.time, reverse=True)


def owner_of(entries: Iterable[Entry]) -> Owner | None:
    """The latest of them; somebody else before us, as whoever shares the field with us has set it too."""
    found = [Owner(entry.manager, entry.manager == FIELD_MANAGER, how(entry)) for entry in entries]
    return next((owner for owner in found if not owner.ours), found[0] if found else None)


def _has(fields: object) -> bool:
    for step in _REPLICAS:
        if not isinstance(fields, dict) or step not in fields:
            return False
        fields = fields[step]
    return True


def how(entry: Entry) -> str:
    """In which way it was set, and when; writes through /scale have no time on record."""
    through = f" through /{entry.subresource}" if entry.subresource else ""
    return f"{entry.operation}{through}{', ' * bool(entry.time)}{entry.time}"
