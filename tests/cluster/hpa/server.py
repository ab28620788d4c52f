"""The aggregated APIs on loopback: what the HPA asks, and in which order, is the journal."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientSession, web

from tests.cluster.hpa.cases import CPU_INITIALIZATION_S, GROUP, KIND, NAMESPACE, PLURAL, VERSION, Case, Metric
from tests.cluster.hpa.journal import Pass, Sample
from tests.cluster.hpa.world import World, Write

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

APIS = {
    f"{GROUP}/{VERSION}": [
        {"name": PLURAL, "singularName": "target", "namespaced": True, "kind": KIND, "verbs": ["get"]},
        {
            "name": f"{PLURAL}/scale",
            "singularName": "",
            "namespaced": True,
            "group": "autoscaling",
            "version": "v1",
            "kind": "Scale",
            "verbs": ["get", "update"],
        },
    ],
    "metrics.k8s.io/v1beta1": [{"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}],
    "custom.metrics.k8s.io/v1beta2": [],
    "external.metrics.k8s.io/v1beta1": [],
}

PACE_S = 1.0
"""A pass is held this long at its first question, so that 200 HPAs and an API server fit on two cores."""

SPREAD_S = 2.5
"""First passes are spread over this time: all at once, each would take a second, and so would every later one."""

SETTLE_S = 0.7
"""Between a change of the pods and the pass that is to see it: the controller's watch must have caught up."""

CLEAR_S = 0.12
"""How far every age is kept from where it would stop counting, if a moment can be found."""

PATIENCE_S = 1.2
"""How long to look for such a moment."""


class Target:
    """One HPA's target: its world, its passes, and the one that is under way."""

    def __init__(self, case: Case, seed: int, passes: int) -> None:
        self.case, self.world, self.passes = case, World(case, seed), passes
        self.journal: list[Pass] = []
        self.usage: list[Json] | None = None

    @property
    def done(self) -> bool:
        return len(self.journal) > self.passes

    def moment(self, earliest_s: float) -> float:
        """The first moment from ``earliest_s`` on at which no age is near where it stops counting; the best there is, if none."""
        ages = self.case.ages()
        edges = [seen.at_s + age for seen in self.journal[-30:] for age in ages if age]
        edges += [pod.started_s + CPU_INITIALIZATION_S for pod in self.world.pods.values() if pod.started_s is not None]
        edges = [edge for edge in edges if earliest_s - 1 < edge < earliest_s + PATIENCE_S + 1]

        def clearance(at_s: float) -> float:
            return min((abs(at_s - edge) for edge in edges), default=1.0)

        moments = [earliest_s + 0.02 * step for step in range(int(PATIENCE_S / 0.02))]
        return next((at_s for at_s in moments if clearance(at_s) >= CLEAR_S), max(moments, key=clearance))


class FakeApis:
    """Serves ``targets`` and what is measured on them, and writes their pods to the API server as they go on."""

    def __init__(self, targets: list[Target], server: str, trust: ssl.SSLContext) -> None:
        self.targets = {target.case.name: target for target in targets}
        self.finished = asyncio.Event()
        self._server, self._trust = server, trust
        self._session: ClientSession | None = None
        self._error: Exception | None = None

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._watched])
        custom, external = "/apis/custom.metrics.k8s.io/v1beta2", "/apis/external.metrics.k8s.io/v1beta1"
        space, scale = f"namespaces/{NAMESPACE}", f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/{PLURAL}/{{name}}/scale"
        app.router.add_get(scale, self._begin)
        app.router.add_put(scale, self._end)
        app.router.add_get(f"/apis/metrics.k8s.io/v1beta1/{space}/pods", self._resource)
        app.router.add_get(f"{custom}/{space}/pods/*/{{metric}}", self._metric)
        app.router.add_get(f"{custom}/{space}/{PLURAL}.{GROUP}/{{name}}/{{metric}}", self._metric)
        app.router.add_get(f"{external}/{space}/{{metric}}", self._metric)
        for group_version, resources in APIS.items():
            app.router.add_get(f"/apis/{group_version}", _discovery(group_version, resources))
        return app

    async def write(self, writes: list[Write]) -> None:
        """Make the pods so."""
        if self._session is None:
            self._session = ClientSession(self._server)
        for write in writes:
            headers = {"Content-Type": write.content_type}
            async with self._session.request(write.method, write.path, json=write.body, headers=headers, ssl=self._trust) as answer:
                if answer.status >= 400:
                    raise RuntimeError(f"{write.method} {write.path}: {answer.status} {await answer.text()}")

    def check(self) -> None:
        """Raise what went wrong in a request, if anything did."""
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """End the connections to the API server."""
        if self._session is not None:
            await self._session.close()

    async def _begin(self, request: web.Request) -> web.Response:
        target = self.targets[request.match_info["name"]]
        world = target.world
        if not target.done:
            began_s = time.time()
            writes = world.evolve(began_s) if target.journal else []
            await self.write(writes)
            pace_s = PACE_S if target.journal else SPREAD_S * target.case.number / len(self.targets)
            earliest_s = max(began_s + pace_s, time.time() + SETTLE_S if writes else 0)
            at_s = target.moment(earliest_s)
            await asyncio.sleep(at_s - time.time())
            at_s = time.time()
            target.usage, answers = world.answers(at_s)
            pods = {name: pod.seen() for name, pod in world.pods.items()}
            target.journal.append(Pass(at_s, world.replicas, world.status, pods, answers))
            if all(each.done for each in self.targets.values()):
                self.finished.set()
        else:
            await asyncio.sleep(2)
        return web.json_response(self._scale(target))

    async def _end(self, request: web.Request) -> web.Response:
        target = self.targets[request.match_info["name"]]
        replicas = int((await request.json())["spec"].get("replicas", 0))
        seen = target.journal[-1]
        if not target.done or seen.wrote is None:
            seen.wrote, seen.wrote_s = replicas, time.time()
        target.world.wrote(replicas)
        return web.json_response(self._scale(target))

    @web.middleware
    async def _watched(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keep the first error of a handler: the HPA would only see a metric that fails."""
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception as error:
            self._error = self._error or error
            raise

    @staticmethod
    def _scale(target: Target) -> Json:
        metadata = {"name": target.case.name, "namespace": NAMESPACE, "uid": target.case.name, "resourceVersion": "1"}
        status = {"replicas": target.world.status, "selector": f"app={target.case.name}"}
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": metadata,
            "spec": {"replicas": target.world.replicas},
            "status": status,
        }

    async def _resource(self, request: web.Request) -> web.Response:
        target = self.targets[request.query["labelSelector"].removeprefix("app=")]
        target.journal[-1].at_s = time.time()
        if target.usage is None:
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500}, status=500)
        items = [{key: value for key, value in item.items() if not key.startswith("_")} for item in target.usage]
        return web.json_response({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items})

    async def _metric(self, request: web.Request) -> web.Response:
        name = request.match_info["metric"]
        number, index = (int(part) for part in name.removeprefix("m").split("-"))
        target = self.targets[f"case-{number:03}"]
        seen, metric = target.journal[-1], target.case.metrics[index]
        seen.at_s = time.time()
        answer = seen.answers[index]
        if answer is None:
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}, status=404)
        return web.json_response(_custom(target.case, metric, answer) if metric.source != "External" else _external(metric, answer))


def _discovery(group_version: str, resources: list[Json]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})

    return answer


def _custom(case: Case, metric: Metric, answer: list[int] | dict[str, Sample]) -> Json:
    if isinstance(answer, dict):
        values = [
            ({"kind": "Pod", "namespace": NAMESPACE, "name": name, "apiVersion": "v1"}, sample.value) for name, sample in answer.items()
        ]
    else:
        of = {"kind": KIND, "namespace": NAMESPACE, "name": case.name, "apiVersion": f"{GROUP}/{VERSION}"}
        values = [(of, value) for value in answer]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    items = [
        {"describedObject": described, "metric": {"name": metric.name}, "timestamp": stamp, "value": f"{value}m"}
        for described, value in values
    ]
    return {"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {}, "items": items}


def _external(metric: Metric, answer: list[int] | dict[str, Sample]) -> Json:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    items = [{"metricName": metric.name, "metricLabels": {}, "timestamp": stamp, "value": f"{value}m"} for value in answer]
    return {"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {}, "items": items}
