"""The watch of pods: what it says, what it may not read, how much it keeps; contracts are in tests/cluster/test_pods.py."""

import gc
import json
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from autoscaler.adapters.kubernetes.pod_index import Index, Name
from autoscaler.adapters.kubernetes.pod_wire import PodObject, seen_pod
from autoscaler.core.health.facts import Controller, Owner, Pod
from autoscaler.core.types import Workload
from autoscaler.metrics import WATCH_AGE
from tests.adapters.kubernetes.fault_server import Feed, Json, Step, event, listing, status, stream
from tests.adapters.kubernetes.reflecting import HASTY
from tests.adapters.kubernetes.ward import NODES, START_S, Turns, made, owned_by, pod, watching

WEB = Workload("shop", "web")
FORBIDDEN = status(403, "Forbidden", "no")


async def test_nothing_is_owned_or_synced_before_all_lists_are_there(tmp_path: Path) -> None:
    late = Turns(status(503, message="not yet"))
    async with watching(tmp_path, {"pods": listing("9", pod("web-a", 5)), "replicasets": late}) as ward:
        await ward.until(lambda: bool(ward.pods.facts(START_S).pods))
        assert not ward.pods.facts(START_S).synced
        assert ward.pods.owned(WEB) is None
        assert ward.pods.owned(Workload("shop", "db", "StatefulSet")) == ()
        late.steps = [listing("9", made("web-1", 3, owned_by("Deployment", "web")))]
        await ward.synced()
        assert [each.name for each in ward.pods.owned(WEB) or ()] == ["web-a"]


async def test_what_is_silent_for_too_long_is_not_known(tmp_path: Path) -> None:
    async with watching(tmp_path, {"pods": listing("9", pod("web-a", 5))}, stale_after_s=50.0) as ward:
        await ward.synced()
        assert ward.pods.owned(WEB)
        await ward.clock.sleep_until(ward.clock.monotonic() + 60.0)
        assert not ward.pods.facts(START_S).synced
        assert ward.pods.owned(WEB) is None
        assert [each.name for each in ward.pods.facts(START_S).pods] == ["web-a"], "what was seen last is still shown"


async def test_a_version_that_says_nothing_else_is_no_news(tmp_path: Path) -> None:
    """Kubelets write their nodes' status all the time."""
    feed = Feed()
    async with watching(tmp_path, watches={"nodes": feed.step}) as ward:
        await ward.synced()
        before = ward.pods.facts(START_S)
        same = made("node-1", 6, status={"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T09:30:00Z"}]})
        feed.send("MODIFIED", same)
        feed.send("ADDED", made("node-2", 7))
        await ward.until(lambda: len(ward.pods.facts(START_S).nodes or {}) == 2)
        assert before.nodes is not None
        assert (ward.pods.facts(START_S).nodes or {})["node-1"] is before.nodes["node-1"]
        assert set(before.nodes) == {"node-1"}, "facts that were handed out stay as they were"
        feed.send("DELETED", made("node-1", 8))
        await ward.until(lambda: set(ward.pods.facts(START_S).nodes or {}) == {"node-2"})


async def test_no_news_is_waited_for(tmp_path: Path) -> None:
    feed = Feed()
    async with watching(tmp_path, watches={"pods": feed.step}) as ward:
        await ward.synced()
        ward.pods.facts(START_S)
        with pytest.raises(TimeoutError):
            async with ward.clock.timeout(5.0):
                await ward.pods.changed()
        feed.send("ADDED", pod("web-a", 10))
        async with ward.clock.timeout(500.0):
            await ward.pods.changed()
        assert [each.name for each in ward.pods.facts(START_S).pods] == ["web-a"]


@pytest.mark.parametrize(
    ("refused", "unknown", "lost"),
    [
        pytest.param(["deployments"], {"controllers"}, "pods are told of by ReplicaSet", id="deployments"),
        pytest.param(["replicasets"], {"controllers"}, "pods are told of by ReplicaSet", id="replica-sets"),
        pytest.param(["statefulsets"], set(), "rollouts of StatefulSets are not known", id="stateful-sets"),
        pytest.param(["daemonsets"], set(), "pods of DaemonSets are not restarted", id="daemon-sets"),
        pytest.param(["jobs"], set(), "Jobs and their pods are not watched over", id="jobs"),
        pytest.param(["nodes"], {"nodes"}, "lost nodes are not told from crashes", id="nodes"),
        pytest.param(["events"], set(), "it is not known which probe had a container killed", id="events"),
    ],
)
async def test_what_may_not_be_read_is_said_once(
    refused: list[str], unknown: set[str], lost: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps: dict[str, Step | Turns] = {"pods": listing("9", pod("web-a", 5)), **dict.fromkeys(refused, FORBIDDEN)}
    async with watching(tmp_path, steps, speed=1000.0) as ward:
        await ward.synced()
        facts = ward.pods.facts(START_S)
        assert {field for field in ("controllers", "nodes") if getattr(facts, field) is None} == unknown
        assert (ward.pods.owned(WEB) is None) == ("replicasets" in refused)
        asked = ward.requests(refused[0])
        await ward.until(lambda: ward.requests(refused[0]) > asked)
        ages = {resource for (resource,), _ in ward.tally.rows[WATCH_AGE.name]()}
        assert not any(resource.startswith(refused[0]) for resource in ages)
        assert "pods (health)" in ages
    (line,) = [line for line in caplog.messages if "may not be read" in line]
    assert lost in line
    assert "needed: a ClusterRole with" in line


async def test_what_is_refused_is_asked_for_again(tmp_path: Path) -> None:
    nodes = Turns(FORBIDDEN)
    async with watching(tmp_path, {"nodes": nodes}, speed=1000.0) as ward:
        await ward.synced()
        assert ward.pods.facts(START_S).nodes is None
        nodes.steps = [NODES]
        await ward.until(lambda: ward.pods.facts(START_S).nodes is not None and ward.pods.facts(START_S).synced)
        assert set(ward.pods.facts(START_S).nodes or {}) == {"node-1"}


async def test_where_no_pods_may_be_read_nothing_is_known(tmp_path: Path) -> None:
    async with watching(tmp_path, {"pods": FORBIDDEN}, speed=1000.0) as ward:
        await ward.until(lambda: ward.requests("pods") > 10)
        assert not ward.pods.facts(START_S).synced
        assert ward.pods.owned(WEB) is None


async def test_one_namespace_that_is_refused_keeps_no_other_from_being_watched(tmp_path: Path) -> None:
    async def by_namespace(request: web.Request) -> web.StreamResponse:
        allowed = "/namespaces/shop/" in request.path
        return await (listing("9", pod("web-a", 5)) if allowed else FORBIDDEN)(request)

    async with watching(tmp_path, {"pods": by_namespace}, namespaces=["shop", "bank"], speed=1000.0) as ward:
        await ward.synced()
        assert [each.name for each in ward.pods.owned(WEB) or ()] == ["web-a"]
        assert ward.pods.owned(Workload("bank", "web")) is None, "refused"
        assert ward.pods.owned(Workload("elsewhere", "web")) is None, "not ours to watch"


async def test_events_of_pods_arrive_by_uid(tmp_path: Path) -> None:
    about = {"uid": "uid-web-a", "fieldPath": "spec.containers{app}"}
    message = "Container app failed liveness probe, will be restarted"
    line = event("ADDED", made("e", 20, involvedObject=about, reason="Killing", message=message))

    async def chosen(request: web.Request) -> web.StreamResponse:
        """Only the watch for kills is told of it."""
        wanted = "reason=Killing" in request.query["fieldSelector"]
        return await (stream(line, then="silence") if wanted else stream(then="silence"))(request)

    async with watching(tmp_path, {"pods": listing("9", pod("web-a", 5))}, {"events": chosen}) as ward:
        await ward.until(lambda: "uid-web-a" in ward.pods.facts(START_S).events)
        (seen,) = ward.pods.facts(START_S).events["uid-web-a"]
        assert (seen.reason, seen.container, seen.probe) == ("Killing", "app", "liveness")
    selectors = {seen.query["fieldSelector"] for seen in ward.server.seen if seen.path.endswith("/events")}
    assert selectors == {"involvedObject.kind=Pod,type=Warning", "involvedObject.kind=Pod,type=Normal,reason=Killing"}


async def test_events_may_be_silent(tmp_path: Path) -> None:
    """API servers send no bookmarks for them; every other watch that is silent is listed again."""
    async with watching(tmp_path, timing=HASTY) as ward:
        await ward.until(lambda: ward.requests("pods") > 8)
        lists = [seen.path.rpartition("/")[2] for seen in ward.server.of("list") if seen.query["limit"] != "1"]
        assert lists.count("pods") > 2
        assert lists.count("events") == 2, "one for each of its two watches"


class TestIndex:
    """Whose a pod is, as things come and go."""

    DEPLOYMENT = Controller("Deployment", "shop", "web", "d1")
    SET = Controller("ReplicaSet", "shop", "web-1", "r1", Owner("Deployment", "web", "d1"))

    @staticmethod
    def pods(index: Index, kind: str, name: str, namespace: str = "shop") -> list[str]:
        return [each.name for each in index.owned(Name(namespace, kind, name))]

    def test_in_whichever_order_they_come(self) -> None:
        index = Index()
        index.put_pod(Pod("shop", "b", "b", owner=Owner("ReplicaSet", "web-1", "r1")))
        assert self.pods(index, "Deployment", "web") == []
        index.put_controller(self.SET)
        assert self.pods(index, "Deployment", "web") == ["b"], "its owner's name is known before the owner is"
        index.put_controller(self.DEPLOYMENT)
        index.put_pod(Pod("shop", "a", "a", owner=Owner("ReplicaSet", "web-1", "r1")))
        assert self.pods(index, "Deployment", "web") == self.pods(index, "ReplicaSet", "web-1") == ["a", "b"]
        assert self.pods(index, "Deployment", "web", "bank") == self.pods(index, "StatefulSet", "web") == []

    def test_what_an_earlier_object_left_behind_is_not_its_own(self) -> None:
        index = Index()
        index.put_controller(Controller("Deployment", "shop", "web", "d2"))
        index.put_controller(self.SET)
        index.put_pod(Pod("shop", "a", "a", owner=Owner("ReplicaSet", "web-1", "r1")))
        assert self.pods(index, "Deployment", "web") == []
        assert self.pods(index, "ReplicaSet", "web-1") == ["a"]

    def test_through_any_chain_that_a_custom_resource_makes(self) -> None:
        index = Index()
        index.put_controller(Controller("Deployment", "shop", "web", "d1", Owner("App", "shop", "app")))
        index.put_controller(self.SET)
        index.put_pod(Pod("shop", "a", "a", owner=Owner("ReplicaSet", "web-1", "r1")))
        index.put_pod(Pod("shop", "z", "z", owner=Owner("App", "shop", "app")))
        assert self.pods(index, "App", "shop") == ["a", "z"]

    def test_owners_may_change_and_go(self) -> None:
        index, ours, theirs = Index(), Owner("ReplicaSet", "web-1", "r1"), Owner("ReplicaSet", "web-2", "r2")
        index.put_pod(Pod("shop", "a", "a", owner=ours))
        index.put_pod(Pod("shop", "a", "a", owner=theirs))
        assert (self.pods(index, "ReplicaSet", "web-1"), self.pods(index, "ReplicaSet", "web-2")) == ([], ["a"])
        index.put_pod(Pod("shop", "a", "a"))
        assert self.pods(index, "ReplicaSet", "web-2") == []
        index.put_controller(self.SET)
        index.put_controller(Controller("ReplicaSet", "shop", "web-1", "r1"))
        assert self.pods(index, "Deployment", "web") == []
        index.drop_pod(Pod("shop", "a", "a"))
        index.drop_controller(self.SET)
        index.drop_pod(Pod("shop", "never", "never"))
        index.drop_controller(self.DEPLOYMENT)
        assert (index.pods, index.controllers) == ({}, {})

    def test_owners_that_own_each_other_end(self) -> None:
        index = Index()
        index.put_controller(Controller("App", "shop", "a", "a", Owner("App", "b", "b")))
        index.put_controller(Controller("App", "shop", "b", "b", Owner("App", "a", "a")))
        index.put_pod(Pod("shop", "p", "p", owner=Owner("App", "a", "a")))
        assert set(self.pods(index, "App", "a")) == {"p"}


def test_little_is_kept_of_a_pod() -> None:
    """10 000 pods of two containers each, half of them crashing, have to fit into a process of 150 MiB beside all else."""

    def text(number: int) -> bytes:
        body: Json = pod(f"web-{number % 50}-5d4f8c7b9-{number:05d}", number, restarts=3, ended=-60.0 if number % 2 else None)
        body["metadata"] |= {"uid": f"{number:08x}-0000-4000-8000-{number:012x}", "managedFields": [{"manager": "kubelet" * 100}]}
        body["metadata"]["labels"] |= {"app": "web", "team": "shop"}
        for part in (body["spec"]["containers"], body["status"]["containerStatuses"]):
            part.append({**part[0], "name": "proxy"})
        conditions = ["PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady"]
        body["status"]["conditions"] += [{"type": each, "status": "True", "lastTransitionTime": None} for each in conditions]
        return json.dumps(body).encode()

    count = 1000
    texts = [text(number) for number in range(count)]
    decoder = msgspec.json.Decoder(PodObject)
    tracemalloc.start()
    try:
        kept = {number: seen_pod(decoder.decode(raw)) for number, raw in enumerate(texts)}
        gc.collect()
        size = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert size < 3000, f"{size:.0f} bytes a pod"
