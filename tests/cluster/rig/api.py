"""A small synchronous client of a real API server, on plain JSON, for arranging tests and looking at what happened.

It is not the product's client on purpose: what a test sees must not pass through what it tests.
"""

import json
import ssl
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import urllib3

from tests.cluster.rig.errors import ApiError, RigError, UnreachableError
from tests.cluster.rig.resource import Resource
from tests.cluster.rig.wait import wait_until

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class Api:
    """One API server as one user: a client certificate (in `trust`) or a bearer token.

    Every call returns the decoded answer, raises ApiError when refused and UnreachableError when nothing answers.
    """

    def __init__(self, server: str, trust: ssl.SSLContext, token: str | None = None) -> None:
        """`server` is the URL without a path."""
        self.server = server
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(ssl_context=trust, maxsize=8, timeout=10.0, retries=False)
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Json:
        """Any request. `body` is encoded as JSON unless it is None; an answer that is not JSON comes back as {"text": …}."""
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Accept": "application/json", "Content-Type": content_type}
        try:
            response = self._pool.request(method, url, body=data, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"{method} {path}: {error}") from error
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = {"text": response.data.decode(errors="replace")}
        if response.status >= 400:
            message = answer.get("message") or answer.get("text", "")
            raise ApiError(f"{method} {path}", response.status, answer.get("reason", ""), message)
        return dict(answer)

    @cached_property
    def version(self) -> str:
        """The API server's version, as "v1.37.2"."""
        return str(self.call("GET", "/version")["gitVersion"])

    def ready(self) -> bool:
        """Whether /readyz says ok; no answer is a no."""
        try:
            return self.call("GET", "/readyz").get("text") == "ok"
        except (ApiError, UnreachableError):
            return False

    def create(self, manifest: Json) -> Resource:
        """Create an object of any kind that the server knows, custom resources included."""
        metadata = manifest["metadata"]
        resource = self.resource(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace"))
        self.call("POST", resource.path.rpartition("/")[0], manifest)
        return resource

    def resource(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Resource:
        """A handle on one object, whether or not it exists."""
        collection = self.collection(api_version, kind, namespace)
        return Resource(self, f"{collection}/{name}", api_version, kind, name, namespace)

    def find(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "") -> list[Json]:
        """The objects of a kind: in one namespace, or everywhere; `labels` is a label selector."""
        query = {"labelSelector": labels} if labels else None
        items: list[Json] = self.call("GET", self.collection(api_version, kind, namespace), query=query)["items"]
        return items

    def collection(self, api_version: str, kind: str, namespace: str | None = None) -> str:
        """The path of a kind's objects, from the server's own discovery."""
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        kinds = self._kinds.get(api_version, {})
        if kind not in kinds:  # unknown, or a CRD that was created since
            kinds = {
                entry["kind"]: (entry["name"], entry["namespaced"])
                for entry in self.call("GET", base)["resources"]
                if "/" not in entry["name"]
            }
            self._kinds[api_version] = kinds
        if kind not in kinds:
            raise RigError(f"the API server has no kind {kind} in {api_version}; it has {', '.join(sorted(kinds))}")
        plural, namespaced = kinds[kind]
        if namespace is not None and not namespaced:
            raise RigError(f"{kind} is not namespaced, but namespace {namespace!r} was given")
        return f"{base}/namespaces/{namespace}/{plural}" if namespace is not None else f"{base}/{plural}"

    def create_crd(self, manifest: Json) -> None:
        """Create a CustomResourceDefinition (one that exists is left alone) and wait until its kind is served."""
        try:
            crd = self.create(manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            crd = self.resource(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])
        crd.wait("the CRD is established", lambda seen: _condition(seen, "Established"))
        group, version = manifest["spec"]["group"], manifest["spec"]["versions"][0]["name"]
        kind = manifest["spec"]["names"]["kind"]
        wait_until(f"{kind} is in discovery", lambda: self._serves(f"{group}/{version}", kind))

    def create_namespace(self, name: str) -> Resource:
        """A namespace in which pods can be created at once: with its default ServiceAccount, made here."""
        namespace = self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            self.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}})
        except ApiError as error:
            if error.reason != "AlreadyExists":  # its controller was faster
                raise
        return namespace

    def events(self, namespace: str, name: str | None = None) -> list[Json]:
        """The Events (events.k8s.io/v1) of a namespace, oldest first; `name` keeps those about that object."""
        found = self.find("events.k8s.io/v1", "Event", namespace)
        about = [event for event in found if name is None or event["regarding"].get("name") == name]
        return sorted(about, key=lambda event: event["metadata"]["creationTimestamp"])

    def _serves(self, api_version: str, kind: str) -> bool:
        try:
            self.collection(api_version, kind)
        except RigError:
            return False
        return True


def _condition(seen: Json, name: str) -> bool:
    conditions = seen.get("status", {}).get("conditions") or []  # a new object has null
    return any(entry["type"] == name and entry["status"] == "True" for entry in conditions)
