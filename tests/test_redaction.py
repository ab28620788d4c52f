"""Nothing secret leaves the process: the corpus goes in by every way there is, and is looked for at every way out.

In: a container's log, its last words, warning events, two templates, and what a remedy was told. Out: all five sinks over a real wire,
``/api/v1/incidents`` for those who may see everything, and the service's own log.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.events import OwnerEvents
from autoscaler.adapters.kubernetes.evidence import KubernetesEvidence
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.adapters.notify import notifier
from autoscaler.clock import SystemClock
from autoscaler.core.health.lifecycle import Kind
from autoscaler.loops import incidents
from autoscaler.loops.delivery import Sink
from autoscaler.loops.reports import Reports, Telling
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.kubernetes.fault_server import FaultServer
from tests.adapters.notify.sinks import ROUTES, WELL, settings
from tests.core.health.corpus import CORPUS, Case
from tests.core.health.telling import DONE, WEB, finding, incident, report

CLOCK = SystemClock()
KINDS = list(ROUTES)
TOLD = len(KINDS) + 1


class Outside:
    """An API server on which every text that others write is the case's, and all sinks; ``out`` has what was sent to them."""

    def __init__(self) -> None:
        self.case, self.container, self.failing = CORPUS[0], "", False
        self.out: list[bytes] = []
        self.told = asyncio.Event()
        self.url = ""
        self._routes = {route: kind for kind, route in ROUTES.items()}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Whatever is asked."""
        kind = self._routes.get(f"{request.method} {request.path}")
        if kind is None and request.method == "GET":
            return self._read(request.path.rpartition("/")[2])
        self.out.append(await request.read())
        if len(self.out) == TOLD:
            self.told.set()
        if kind is None:
            return web.json_response({"kind": "Event"})
        if self.failing:  # and echo what they were sent
            return web.Response(status=400, body=self.out[-1], content_type="text/plain")
        return await WELL[kind](request)

    def _read(self, name: str) -> web.Response:
        if name == "log":
            return web.Response(text=f"starting\n{self.case.text}\n")
        text = self.case.text
        container = {"name": self.container, "image": text, "args": [text], "env": [{"name": "A", "value": text}]}
        status = {"name": self.container, "lastState": {"terminated": {"message": text}}}
        owned = {"resourceVersion": "1", "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": WEB.uid}]}
        sets = [
            {
                "metadata": {"name": name, "uid": name, "annotations": {"deployment.kubernetes.io/revision": number}, **owned},
                "spec": {"template": {"spec": {"containers": [spec]}}},
            }
            for name, number, spec in (("web-1", "1", {"name": self.container}), ("web-2", "2", container))
        ]
        lists: dict[str, list[Any]] = {
            "pods": [{"spec": {"containers": [container]}, "status": {"containerStatuses": [status]}}],
            "events": [{"reason": "Failed", "message": text}],
            "deployments": [{"spec": {"selector": {"matchLabels": {"app": "web"}}}}],
            "replicasets": sets,
        }
        return web.json_response({"items": lists[name]})


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    made, app = Outside(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(outside: Outside, tmp_path: Path) -> AsyncIterator[Client]:
    server = FaultServer(CLOCK)  # for its kubeconfig
    server.url = outside.url
    made = await Client.connect(find_login(str(server.kubeconfig(tmp_path))))
    yield made
    await made.close()


@pytest.fixture
async def reports(outside: Outside, client: Client, tmp_path: Path) -> AsyncIterator[Reports]:
    sinks = [Sink(kind, notifier(kind, settings(kind, outside.url, tmp_path), CLOCK)) for kind in KINDS]
    always = Sink("kubernetes", OwnerEvents(client))
    made = Reports(Telling(CLOCK, MemoryRecorder(), Random(1), KubernetesEvidence(client, CLOCK), always, sinks))
    task = asyncio.create_task(made.run())
    yield made
    await made.close(5.0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("failing", [pytest.param(False, id="sinks-take-it"), pytest.param(True, id="sinks-refuse-it-and-echo-it")])
async def test_nothing_secret_leaves(outside: Outside, reports: Reports, caplog: pytest.LogCaptureFixture, *, failing: bool) -> None:
    caplog.set_level(logging.DEBUG, "autoscaler")
    outside.failing = failing
    for number, case in enumerate(CORPUS):
        outside.case, outside.container = case, f"c{number}"
        outside.out.clear()
        outside.told.clear()
        rows = await told(outside, reports)
        texts = [json.dumps(rows, default=str, ensure_ascii=False), *written(outside.out)]
        texts += [str(record.__dict__) for record in caplog.records if record.name.startswith("autoscaler")]
        texts += [json.dumps(json.loads(body), ensure_ascii=False) for body in outside.out]
        assert leaks(case, texts) == [], case.id
        assert len(outside.out) == TOLD
        caplog.clear()


async def told(outside: Outside, reports: Reports) -> list[dict[str, Any]]:
    """One incident told of everywhere; its rows as those see them who may see everything."""
    text = outside.case.text
    life = incident(finding=finding(container=outside.container, reason=text, notes=(text,)))
    done = replace(DONE, words=text)
    reports.take(report(Kind.FIRED, incident=life, remedies=(done,), sinks=tuple(KINDS)))
    async with asyncio.timeout(20):
        await outside.told.wait()
    evidence = reports.evidence(life.finding.key)
    assert evidence is not None
    assert evidence.missing == (), "everything was there to be read"
    assert evidence.log
    assert evidence.template_diff
    return [incidents.row(life, [done], ["a policy"], evidence), incidents.withheld(evidence)]


def written(bodies: list[bytes]) -> list[str]:
    return [body.decode() for body in bodies]


def leaks(case: Case, texts: list[str]) -> list[str]:
    """The secrets that stand in the texts, as they are or as JSON writes them."""
    return [secret for secret in case.secrets if any(secret in text or json.dumps(secret)[1:-1] in text for text in texts)]


def test_the_search_finds_what_leaks() -> None:
    assert all(leaks(case, [json.dumps({"log": [case.text]})]) for case in CORPUS)
