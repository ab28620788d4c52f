"""Where the API server keeps a kind: its resource's name, and whether it can be scaled."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from autoscaler.adapters.kubernetes.calls import Call, NotFoundError
from autoscaler.adapters.kubernetes.client import Client


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind is kept: ``deployments`` of ``apps/v1``. ``scalable``: it has a /scale subresource."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True
    scalable: bool = False

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]

    def call(self, verb: str, namespace: str = "", name: str = "", subresource: str = "") -> Call:
        """A request about one object or, without a name, about all of a namespace or of the cluster."""
        path = _root(self.api_version)
        if namespace:
            path += f"/namespaces/{_segment(namespace)}"
        path += f"/{self.plural}"
        if name:
            path += f"/{_segment(name)}"
        if subresource:
            path += f"/{subresource}"
        resource = f"{self.plural}/{subresource}" if subresource else self.plural
        return Call(verb, path, self.group, resource, namespace, name)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)


class _Entry(msgspec.Struct, gc=False):
    name: str
    kind: str
    namespaced: bool = True


class _Entries(msgspec.Struct, gc=False):
    resources: list[_Entry] | None = None


class Discovery:
    """The kinds of an API server: asked once per API version, and again where one is missing (its CRD may be new)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, dict[str, Resource]] = {}

    async def find(self, api_version: str, kind: str) -> Resource:
        """Where it is kept. Raises NotFoundError with a sentence that tells a missing version from a missing kind."""
        found = self._known.get(api_version, {}).get(kind)
        if found is None:
            kinds = self._known[api_version] = await self._ask(api_version)
            found = kinds.get(kind)
            if found is None:
                known = ", ".join(sorted(kinds)) or "none"
                raise NotFoundError(f"the API server knows no kind {kind} in {api_version}; its kinds are {known}")
        return found

    def forget(self, api_version: str) -> None:
        """What it said of this version does not hold any more."""
        self._known.pop(api_version, None)

    async def _ask(self, api_version: str) -> dict[str, Resource]:
        try:
            answer = await self._client.get(Call("get", _root(api_version)), _Entries)
        except NotFoundError as error:
            message = f"the API server does not serve {api_version}: is its CustomResourceDefinition installed, the version right?"
            raise NotFoundError(message) from error
        entries = answer.resources or []
        scalable = {entry.name.removesuffix("/scale") for entry in entries if entry.name.endswith("/scale")}
        return {
            entry.kind: Resource(api_version, entry.kind, entry.name, entry.namespaced, entry.name in scalable)
            for entry in entries
            if "/" not in entry.name
        }


def _root(api_version: str) -> str:
    group, _, version = api_version.rpartition("/")
    return f"/apis/{_segment(group)}/{_segment(version)}" if group else f"/api/{_segment(version)}"


def _segment(text: str) -> str:
    """One segment of a path, whatever a policy file calls its target: it cannot lead elsewhere."""
    if text in {"", ".", ".."}:
        raise NotFoundError(f"{text!r} is no name, namespace or version that an object could have")
    return quote(text, safe="")
