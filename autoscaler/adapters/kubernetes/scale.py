"""The /scale subresource: the one way to read any kind's count, and to write it by compare-and-swap."""

from __future__ import annotations

from math import nan

import msgspec

from autoscaler.adapters.kubernetes.calls import NotFoundError
from autoscaler.adapters.kubernetes.client import JSON_PATCH, Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.wire import Object
from autoscaler.core.types import Target
from autoscaler.errors import StaleViewError
from autoscaler.ports import TargetFacts

FIELD_MANAGER = "autoscaler"


class Count(msgspec.Struct, frozen=True, gc=False):
    """A Scale's spec or status. The API omits zero."""

    replicas: int = 0


class Scale(Object, frozen=True, gc=False):
    """What /scale answers; uid and resourceVersion are the scaled object's."""

    spec: Count = Count()
    status: Count = Count()

    def facts(self) -> TargetFacts:
        """All that it says of a target; how many replicas are ready it does not."""
        meta = self.metadata
        return TargetFacts(Target.OK, meta.uid, meta.resource_version, float(self.spec.replicas), nan, float(self.status.replicas))


async def read_scale(client: Client, resource: Resource, namespace: str, name: str) -> Scale:
    """The target's scale now."""
    return await client.get(resource.call("get", namespace, name, "scale"), Scale)


async def write_scale(client: Client, resource: Resource, name: tuple[str, str], seen: TargetFacts, replicas: int) -> Scale:
    """Set the count if the target is still the object that was seen, with the count that was seen; what the server then has.

    Nothing else of the object is compared: the status writes of a rollout would otherwise make every view stale. Raises
    StaleViewError if it is another object or count, or none at all.
    """
    if seen.replicas == 0:
        swap = [{"op": "test", "path": "/spec", "value": {}}, {"op": "add", "path": "/spec/replicas", "value": replicas}]
    else:
        swap = [
            {"op": "test", "path": "/spec/replicas", "value": int(seen.replicas)},
            {"op": "replace", "path": "/spec/replicas", "value": replicas},
        ]
    patch = [{"op": "test", "path": "/metadata/uid", "value": seen.uid}, *swap]
    call = resource.call("patch", *name, "scale")
    try:
        return await client.write(call, Scale, patch, {"fieldManager": FIELD_MANAGER}, content_type=JSON_PATCH)
    except NotFoundError as error:
        raise StaleViewError(f"{error}; it was there when it was last seen") from error
    except StaleViewError as error:
        raise StaleViewError(f"{call}: it is not as it was seen any more (uid {seen.uid}, {seen.replicas:g} replicas)") from error
