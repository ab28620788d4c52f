"""What evidence is gathered for a finding, and what is said where some of it cannot be had."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autoscaler.adapters.kubernetes.evidence import EVENTS_SHOWN, KubernetesEvidence
from autoscaler.clock import FastClock, ManualClock
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.report import Evidence
from autoscaler.core.health.taxonomy import Cause
from tests.adapters.kubernetes.fault_server import FaultServer, Json, Step, answer, page, silence, status, stream
from tests.adapters.kubernetes.reflecting import client_of
from tests.core.health.corpus import CORPUS
from tests.core.health.telling import finding

NOW_S = 1_800_000_000.0  # 2027-01-15T08:00:00Z
POD = "/api/v1/namespaces/shop/pods/web-7d4b9c8f5-b"
LOG = f"GET {POD}/log"

TEMPLATE = {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "web:1"}]}}
NEW_TEMPLATE = {"metadata": {}, "spec": {"containers": [{"name": "app", "image": "web:2", "env": [{"name": "A", "value": "hunter2"}]}]}}


def text(body: str | bytes) -> Step:
    return answer(body if isinstance(body, bytes) else body.encode(), content_type="text/plain")


def shown_pod(**container: Any) -> Json:  # noqa: ANN401 - fields of a container
    return {
        "spec": {"containers": [{"name": "app", "image": "web:2", **container}]},
        "status": {"containerStatuses": [{"name": "app", "imageID": "r.io/web@sha256:ab12"}]},
    }


def items(*found: Json) -> Step:
    return answer({"items": list(found)})


def event(message: str, at: str = "2027-01-15T07:57:00Z", **changes: Any) -> Json:  # noqa: ANN401 - fields of an event
    return {"reason": "BackOff", "message": message, "lastTimestamp": at, "count": 5, "involvedObject": {"name": "web-7d4b9c8f5"}} | changes


def replica_set(name: str, number: int, template: Json, made: str, owner: str = "web-uid") -> Json:
    metadata = {
        "name": f"web-{name}",
        "uid": name,
        "resourceVersion": "1",
        "creationTimestamp": made,
        "labels": {"pod-template-hash": name},
        "annotations": {"deployment.kubernetes.io/revision": str(number)},
        "ownerReferences": [{"kind": "Deployment", "name": "web", "uid": owner, "controller": True}],
    }
    return {"metadata": metadata, "spec": {"template": template}}


def controller_revision(name: str, number: int, template: Json, labels: Mapping[str, str]) -> Json:
    metadata = {
        "name": name,
        "uid": name,
        "resourceVersion": "1",
        "creationTimestamp": "2027-01-15T07:00:00Z",
        "labels": labels,
        "ownerReferences": [{"kind": "StatefulSet", "name": "web", "uid": "web-uid", "controller": True}],
    }
    return {"metadata": metadata, "revision": number, "data": {"spec": {"template": {**template, "$patch": "replace"}}}}


def lists(**by_resource: Step) -> Step:
    """What lists of each resource answer, unless well; the server knows them as one route."""

    async def step(request: web.Request) -> web.StreamResponse:
        resource = request.path.rpartition("/")[2]
        return await by_resource.get(resource, LISTED.get(resource, items()))(request)

    return step


REPLICA_SETS = items(
    replica_set("5c6f8", 1, TEMPLATE, "2027-01-06T08:00:00Z"),
    replica_set("7d4b9c8f5", 3, NEW_TEMPLATE, "2027-01-15T07:54:00Z"),
    replica_set("other", 2, TEMPLATE, "2027-01-15T07:54:00Z", owner="x"),
)
SELECTED = items({"spec": {"selector": {"matchLabels": {"app": "web"}}}})
LISTED: dict[str, Step] = {
    "pods": items(shown_pod(resources={"requests": {"cpu": "100m"}, "limits": {"memory": "256Mi"}})),
    "events": items(event("restarting failed container")),
    "replicasets": REPLICA_SETS,
    "deployments": SELECTED,
}
WELL: dict[str, Step] = {LOG: text("connecting\npassword=hunter2\npanic: no such table\n"), "list": lists()}


@asynccontextmanager
async def source_on(folder: Path, **changes: Step | None) -> AsyncIterator[tuple[FaultServer, KubernetesEvidence]]:
    async with FaultServer(FastClock()) as server, client_of(server, folder) as client:
        for route, step in (WELL | changes).items():
            if step is not None:
                server.script(route, step)
        yield server, KubernetesEvidence(client, ManualClock(NOW_S))


async def test_all_that_there_is(tmp_path: Path) -> None:
    async with source_on(tmp_path) as (server, source):
        assert await source.gather(finding(), 5.0) == Evidence(
            log=("connecting", "password=[redacted]", "panic: no such table"),
            warnings=("3 min ago, 5 times: BackOff: restarting failed container",) * 2,
            limits="requests cpu 100m; limits memory 256Mi",
            template_diff=("container app, env A added", "container app, image web:1 → web:2"),
            revision="7d4b9c8f5, made 6 min ago; before it 5c6f8, made 9 days ago",
            pod="web-7d4b9c8f5-b",
            image="web:2 (sha256:ab12)",
        )
        (asked,) = server.of(LOG)
        assert asked.query == {"container": "app", "tailLines": "50", "limitBytes": "65536", "previous": "true"}
        assert {seen.query.get("fieldSelector") for seen in server.of("list") if "events" in seen.path} == {
            "involvedObject.uid=b,type=Warning",
            "involvedObject.uid=web-uid,type=Warning",
        }


FORBIDDEN = status(403, "Forbidden", "no")


@pytest.mark.parametrize(
    ("changes", "missing", "kept"),
    [
        pytest.param(
            {LOG: FORBIDDEN},
            "the log: get pods/log web-7d4b9c8f5-b in namespace shop: 403 Forbidden: no; needed: a Role in namespace shop with",
            "limits",
            id="log-forbidden",
        ),
        pytest.param({LOG: status(404, "NotFound", 'pods "web" not found')}, "the log: get pods/log web-7d4b9c8f5-b", "limits", id="gone"),
        pytest.param({LOG: status(500)}, "the log: ", "warnings", id="log-500"),
        pytest.param({LOG: page(500)}, "the log: ", "warnings", id="log-html"),
        pytest.param(
            {LOG: text("unable to retrieve container logs for containerd://abc")},
            "the log: pod web-7d4b9c8f5-b: the container runtime has removed it already",
            "limits",
            id="log-removed",
        ),
        pytest.param({LOG: text(" \n")}, "the log: pod web-7d4b9c8f5-b: it is empty", "limits", id="log-empty"),
        pytest.param({LOG: silence()}, "the log: ", "template_diff", id="log-silent"),
        pytest.param({LOG: stream(b"half a li", then="reset")}, "the log: ", "template_diff", id="log-cut"),
        pytest.param({LOG: stream(b"half a li", then="silence")}, "the log: no answer within 0.3 s", "template_diff", id="log-hangs"),
        pytest.param({"list": lists(pods=FORBIDDEN)}, "the pod: list pods in namespace shop: 403", "log", id="pod"),
        pytest.param({"list": lists(pods=page())}, "the pod: list pods in namespace shop: expected an API", "log", id="pod-html"),
        pytest.param({"list": lists(pods=items())}, "the pod: web-7d4b9c8f5-b is gone", "log", id="pod-gone"),
        pytest.param({"list": lists(events=FORBIDDEN)}, "events: list events in namespace shop: 403", "log", id="events"),
        pytest.param(
            {"list": lists(deployments=items())}, "what changed between revisions: Deployment shop/web is gone", "log", id="workload-gone"
        ),
        pytest.param(
            {"list": lists(replicasets=FORBIDDEN)},
            "what changed between revisions: list replicasets.apps in namespace shop: 403",
            "log",
            id="revisions",
        ),
    ],
)
async def test_what_cannot_be_had_is_said(tmp_path: Path, changes: dict[str, Step], missing: str, kept: str) -> None:
    async with source_on(tmp_path, **changes) as (_, source):
        found = await source.gather(finding(), 0.3)
        (said,) = found.missing
        assert said.startswith(missing)
        assert getattr(found, kept)


@pytest.mark.parametrize(
    ("cause", "log", "asked"),
    [
        pytest.param(Cause.OOM, (text("old"),), [True], id="crash"),
        pytest.param(
            Cause.INIT, (status(400, "BadRequest", "previous terminated container not found"), text("new")), [True, False], id="once"
        ),
        pytest.param(Cause.UNREADY, (text("now"),), [False], id="runs"),
        pytest.param(Cause.IMAGE_PULL, (text("never"),), [], id="never-ran"),
    ],
)
async def test_which_log_it_is(tmp_path: Path, cause: Cause, log: tuple[Step, ...], asked: list[bool]) -> None:
    async with source_on(tmp_path) as (server, source):
        server.script(LOG, *log)
        found = await source.gather(finding(cause=cause), 5.0)
        assert ["previous" in seen.query for seen in server.of(LOG)] == asked
        assert len(found.log) == bool(asked)
        assert found.missing == ()


async def test_the_last_line_is_shown_however_long_the_ones_before_are(tmp_path: Path) -> None:
    async with source_on(tmp_path) as (server, source):
        server.script(LOG, text(b"x" * 2**20), text(b"x" * 2**20), text("the end"))
        found = await source.gather(finding(), 5.0)
        assert found.log == ("the end",)
        assert [seen.query["tailLines"] for seen in server.of(LOG)] == ["50", "5", "1"]


@pytest.mark.parametrize(
    ("raw", "begins"),
    [
        pytest.param(b"\x7fELF" + bytes(1000), "(1004 bytes that are no text)", id="binary"),
        pytest.param(b"y" * 2**20, "y" * 500 + " … (65036 more characters)", id="one-line-of-1-mb"),
        pytest.param(b"\x1b[31mred\x1b[0m \xe2\x80\xaeevil", "red evil", id="ansi-and-bidi"),
    ],
)
async def test_a_log_may_be_anything(tmp_path: Path, raw: bytes, begins: str) -> None:
    async with source_on(tmp_path, **{LOG: text(raw)}) as (_, source):
        assert (await source.gather(finding(), 5.0)).log == (begins,)


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([event("x", at=f"2027-01-15T07:{minute:02}:00Z") for minute in range(20)], EVENTS_SHOWN, id="newest"),
        pytest.param([event("x", source={"component": "autoscaler"})], 0, id="our-own"),
        pytest.param([event("x", lastTimestamp=None, eventTime=None, count=None)], 2, id="no-time"),
    ],
)
async def test_warnings(tmp_path: Path, made: list[Json], lines: int) -> None:
    async with source_on(tmp_path, list=lists(events=items(*made))) as (_, source):
        found = await source.gather(finding(), 5.0)
        assert len(found.warnings) == lines
        if lines == EVENTS_SHOWN:
            assert found.warnings[0].startswith("41 min ago")


async def test_pods_that_cannot_be_created_are_told_by_their_replica_set(tmp_path: Path) -> None:
    async with source_on(tmp_path) as (server, source):
        found = await source.gather(finding(cause=Cause.CREATE_FAILED, container="", pods=()), 5.0)
        assert len(found.warnings) == 2, "of the workload, and of a ReplicaSet by its name"
        assert "involvedObject.kind=ReplicaSet,type=Warning" in {seen.query.get("fieldSelector") for seen in server.of("list")}
        assert (found.pod, found.log, found.missing) == ("", (), ())


@pytest.mark.parametrize(
    ("kind", "revision", "labels", "named"),
    [
        pytest.param("StatefulSet", "web-2", lambda name: {"controller-revision-hash": name}, "web-2", id="stateful-set"),
        pytest.param("DaemonSet", "2", lambda name: {"controller-revision-hash": name.removeprefix("web-")}, "2", id="daemon-set"),
    ],
)
async def test_revisions_of(tmp_path: Path, kind: str, revision: str, labels: Callable[[str], Mapping[str, str]], named: str) -> None:
    made = [
        controller_revision("web-2", 2, NEW_TEMPLATE, labels("web-2")),
        controller_revision("web-1", 1, TEMPLATE, labels("web-1")),
        controller_revision("web-3", 3, TEMPLATE, labels("web-3")),
    ]
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "site"]}, {"key": "x", "operator": "DoesNotExist"}]}
    kinds = {f"{kind.lower()}s": items({"spec": {"selector": selector}}), "controllerrevisions": items(*made)}
    async with source_on(tmp_path, list=lists(**kinds)) as (server, source):
        shown = finding(subject=Subject(kind, "shop", "web", "web-uid"))
        found = await source.gather(replace(shown, pods=tuple(pod._replace(revision=revision) for pod in shown.pods)), 5.0)
        assert found.revision.startswith(f"{named}, made 60 min ago; before it ")
        assert found.template_diff == ("container app, env A added", "container app, image web:1 → web:2")
        asked = next(seen for seen in server.of("list") if seen.path.endswith("controllerrevisions"))
        assert asked.query["labelSelector"] == "app in (web,site),!x"


async def test_a_first_revision_has_none_before_it(tmp_path: Path) -> None:
    only = items(replica_set("7d4b9c8f5", 1, TEMPLATE, "2027-01-15T07:54:00Z"))
    async with source_on(tmp_path, list=lists(replicasets=only)) as (_, source):
        found = await source.gather(finding(), 5.0)
        assert (found.revision, found.template_diff) == ("7d4b9c8f5, made 6 min ago; there is none before it", ())


async def test_a_node_has_no_evidence_of_its_own(tmp_path: Path) -> None:
    async with source_on(tmp_path) as (server, source):
        assert await source.gather(finding(subject=Subject("Node", "", "node-1", "n"), cause=Cause.NODE_LOST), 5.0) == Evidence()
        assert server.seen == []


async def test_nothing_secret_comes_in(tmp_path: Path) -> None:
    """From the log, the event, the container's last words and the template: the whole corpus through the wire."""
    texts = [case.text for case in CORPUS]
    log = text("\n".join(texts[:50]).encode())
    secrets = [secret for case in CORPUS for secret in case.secrets]
    async with source_on(tmp_path, **{LOG: log}) as (server, source):
        for said in texts:
            pod = shown_pod()
            pod["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"message": said}}
            template = {"spec": {"containers": [{"name": "app", "image": said, "args": [said], "env": [{"name": "A", "value": said}]}]}}
            sets = [replica_set("5c6f8", 1, TEMPLATE, ""), replica_set("7d4b9c8f5", 3, template, "")]
            server.script("list", lists(pods=items(pod), events=items(event(said)), replicasets=items(*sets)))
            found = repr(await source.gather(finding(), 5.0))
            assert [secret for secret in secrets if secret in found] == []


async def test_parts_are_read_side_by_side(tmp_path: Path) -> None:
    """All four are under way before any is answered."""
    together, gate = asyncio.Event(), asyncio.Event()
    waiting = set[str]()

    def held(then: Step) -> Step:
        async def step(request: web.Request) -> web.StreamResponse:
            waiting.add(request.path.rpartition("/")[2])
            if waiting >= {"log", "pods", "events", "deployments"}:
                together.set()
            await gate.wait()
            return await then(request)

        return step

    async with source_on(tmp_path, **{route: held(step) for route, step in WELL.items()}) as (_, source):
        task = asyncio.create_task(source.gather(finding(), 30.0))
        async with asyncio.timeout(10):
            await together.wait()
        gate.set()
        assert (await task).missing == ()
