"""`metrics.k8s.io` behind the real API server: what pods use is what a test says, shared out among those that are Ready."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.cluster.rig.aggregated import register, served
from tests.cluster.rig.control_plane import ControlPlane

Json = dict[str, Any]

GROUP_VERSION = "metrics.k8s.io/v1beta1"
SERVICE_NAMESPACE = "metrics"
WINDOW_S = 1

STRANGER_CORES = 10.0
"""What a pod with the same label uses that no controller owns: who counts it is far off."""

_PODS = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}


class MetricsApi:
    """Metrics of the pods labelled app=NAME. It looks at the pods when it is asked, as of then."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.cores: dict[tuple[str, str], float] = {}
        self.bytes: dict[tuple[str, str], float] = {}
        self.asked: list[str] = []
        self._port = 0

    def set_use(self, namespace: str, app: str, cores: float, per_pod_bytes: float = 2.0**25) -> None:
        """All Ready pods of an application use so many cores together, and each so many bytes."""
        self.cores[namespace, app], self.bytes[namespace, app] = cores, per_pod_bytes

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve, at first on any port and later on the same again."""
        with served(self._application(), self.plane.folder, port=self._port) as (port, _):
            if not self._port:
                self.plane.api.create_namespace(SERVICE_NAMESPACE)
                register(self.plane.api, SERVICE_NAMESPACE, port, [GROUP_VERSION])
            self._port = port
            yield

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get(f"/apis/{GROUP_VERSION}", self._discovery)
        app.router.add_get(f"/apis/{GROUP_VERSION}/namespaces/{{namespace}}/pods", self._list)
        return app

    @staticmethod
    async def _discovery(_: web.Request) -> web.Response:
        return web.json_response({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [_PODS]})

    async def _list(self, request: web.Request) -> web.Response:
        namespace = request.match_info["namespace"]
        self.asked.append(namespace)
        items = [item for (where, app) in list(self.cores) if where == namespace for item in self._of(namespace, app)]
        return web.json_response({"kind": "PodMetricsList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items})

    def _of(self, namespace: str, app: str) -> Iterator[Json]:
        ready = [pod for pod in self.plane.api.find("v1", "Pod", namespace, f"app={app}") if _is_ready(pod)]
        owned = sum("ownerReferences" in pod["metadata"] for pod in ready)
        stamp = datetime.fromtimestamp(int(time.time()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for pod in ready:
            cores = self.cores[namespace, app] / owned if "ownerReferences" in pod["metadata"] else STRANGER_CORES
            usage = {"cpu": f"{int(cores * 1e9)}n", "memory": f"{int(self.bytes[namespace, app] / 1024)}Ki"}
            yield {
                "metadata": {"name": pod["metadata"]["name"], "namespace": namespace, "labels": {"app": app}},
                "timestamp": stamp,
                "window": f"{WINDOW_S}s",
                "containers": [{"name": container["name"], "usage": usage} for container in pod["spec"]["containers"][:1]],
            }


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
