"""A handle on one object of the API server: read it, scale it, say how its pods are, wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.cluster.rig.errors import ApiError
from tests.cluster.rig.wait import wait_until

if TYPE_CHECKING:
    from tests.cluster.rig.api import Api

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One object by its path. It holds no copy: every answer is the server's answer now."""

    api: Api
    path: str
    api_version: str
    kind: str
    name: str
    namespace: str | None

    def read(self) -> Json:
        """The object (ApiError with status 404 if there is none)."""
        return self.api.call("GET", self.path)

    def exists(self) -> bool:
        """Whether the server has it."""
        try:
            self.read()
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def delete(self) -> None:
        """Delete it with what it owns, and return when the server no longer has it."""
        self.api.call("DELETE", self.path, {"propagationPolicy": "Background"})
        wait_until(f"{self.kind} {self.name} is deleted", lambda: not self.exists())

    def merge(self, body: Json, subresource: str = "") -> Json:
        """Apply a merge patch to it, or to "/status" or "/scale" of it."""
        return self.api.call("PATCH", self.path + subresource, body, content_type="application/merge-patch+json")

    def replicas(self) -> int:
        """The wanted count, read from /scale (where the server leaves zero out)."""
        return int(self._scale()["spec"].get("replicas", 0))

    def status_replicas(self) -> int:
        """The observed count, read from /scale."""
        return int(self._scale()["status"].get("replicas", 0))

    def scale(self, replicas: int) -> None:
        """Set the wanted count through /scale, as a user's `kubectl scale` does."""
        self.merge({"spec": {"replicas": replicas}}, "/scale")

    def pods(self) -> list[Json]:
        """The pods that its /scale selector finds, oldest first."""
        selector = self._scale()["status"]["selector"]
        found = self.api.find("v1", "Pod", self.namespace, selector)
        return sorted(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def mark_pods_ready(self, count: int | None = None) -> int:
        """Do a kubelet's part: the oldest `count` pods (default all) become Running and Ready, any others not Ready.

        The real controllers then count them into the workload's status. Returns how many there were to mark;
        a Deployment's controller may still be creating some, see `wait_ready`.
        """
        pods = self.pods()
        for index, pod in enumerate(pods):
            self._set_ready(pod, ready=count is None or index < count)
        return len(pods) if count is None else min(count, len(pods))

    def wait_ready(self, replicas: int, timeout_s: float = 15.0) -> None:
        """Mark pods Ready as the controllers make them, until the workload's status counts exactly `replicas` ready."""

        def ready() -> bool:
            self.mark_pods_ready()
            return bool(self.read().get("status", {}).get("readyReplicas", 0) == replicas == self.status_replicas())

        wait_until(f"{self.kind} {self.name} has {replicas} ready replicas", ready, timeout_s=timeout_s)

    def set_status(self, **fields: object) -> None:
        """Write status fields, where no controller runs for the kind: `set_status(replicas=3, readyReplicas=2)`."""
        self.merge({"status": fields}, "/status")

    def wait(self, what: str, condition: Callable[[Json], bool], *, timeout_s: float = 15.0) -> Json:
        """Read until `condition(object)` holds; returns the object."""

        def met() -> Json | None:
            seen = self.read()
            return seen if condition(seen) else None

        return wait_until(f"{self.kind} {self.name}: {what}", met, timeout_s=timeout_s)

    def wait_replicas(self, replicas: int, timeout_s: float = 15.0) -> None:
        """Wait until the wanted count is `replicas`."""

        def reached() -> bool:
            return self.replicas() == replicas

        wait_until(f"{self.kind} {self.name} is asked for {replicas} replicas", reached, timeout_s=timeout_s)

    def _scale(self) -> Json:
        return self.api.call("GET", self.path + "/scale")

    def _set_ready(self, pod: Json, *, ready: bool) -> None:
        seen = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
        if (seen.get("Ready") == "True") == ready or "deletionTimestamp" in pod["metadata"]:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        word = "True" if ready else "False"
        status = {
            "phase": "Running",
            "startTime": now,
            "conditions": [{"type": name, "status": word, "lastTransitionTime": now} for name in ("Ready", "ContainersReady")],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                }
                for container in pod["spec"]["containers"]
            ],
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        try:
            self.api.call("PATCH", path, {"status": status}, content_type="application/strategic-merge-patch+json")
        except ApiError as error:
            if error.status != 404:  # its controller removed it in between
                raise
