"""What is said of targets when the server does as a script says.

The contract itself is run on a real API server, in tests/cluster.
"""

from math import isnan, nan
from pathlib import Path

import pytest

from autoscaler.core.selector import Operator, Requirement, Selector
from autoscaler.core.types import Target, Workload
from autoscaler.errors import StaleViewError
from autoscaler.metrics import WATCH_AGE
from tests.adapters.kubernetes.fault_server import (
    Feed,
    Json,
    Step,
    answer,
    discovery,
    listing,
    reset,
    status,
    stream,
    thing,
)
from tests.adapters.kubernetes.following import TASK, TASK_SCALE, WEB, deployment, following, scale


class TestFacts:
    @pytest.mark.parametrize(
        ("kind", "spec", "counted", "expected"),
        [
            pytest.param("Deployment", {"replicas": 3}, {"replicas": 3, "readyReplicas": 2}, (3, 2, 3, False), id="deployment"),
            pytest.param("Deployment", {"replicas": 3}, {}, (3, 0, 0, False), id="no-status-yet"),
            pytest.param("Deployment", {"replicas": 0}, {"observedGeneration": 2}, (0, 0, 0, False), id="zero"),
            pytest.param("StatefulSet", {"replicas": 2}, {"replicas": 1}, (2, 0, 1, True), id="stateful-set"),
            pytest.param("StatefulSet", {"replicas": 2, "podManagementPolicy": "OrderedReady"}, {}, (2, 0, 0, True), id="ordered"),
            pytest.param("StatefulSet", {"replicas": 2, "podManagementPolicy": "Parallel"}, {}, (2, 0, 0, False), id="parallel"),
            pytest.param("ReplicaSet", {"replicas": 1}, {"replicas": 1, "readyReplicas": 1}, (1, 1, 1, False), id="replica-set"),
        ],
    )
    async def test_of_objects(self, tmp_path: Path, kind: str, spec: Json, counted: Json, expected: tuple[float, ...]) -> None:
        workload = Workload("shop", "web", kind)
        async with following(tmp_path, [workload], list=listing("10", thing("web", 7, spec=spec, status=counted))) as rig:
            facts = await rig.seen(workload)
            assert (facts.uid, facts.resource_version, facts.problem) == ("uid-web", "7", "")
            assert (facts.replicas, facts.ready, facts.status_replicas, facts.ordered) == expected

    async def test_of_any_scale(self, tmp_path: Path) -> None:
        kinds = discovery(Task="tasks")
        async with following(tmp_path, [TASK], list=listing("10", thing("task", 7)), discovery=kinds) as rig:
            rig.server.script(f"GET {TASK_SCALE}", scale(7, 4, "uid-task", 3))
            facts = await rig.seen(TASK)
            assert (facts.uid, facts.resource_version, facts.replicas, facts.status_replicas) == ("uid-task", "7", 4, 3)
            assert isnan(facts.ready)
            assert "as=PartialObjectMetadataList" in rig.server.of("list")[0].headers["Accept"]

    async def test_being_deleted_is_not_found(self, tmp_path: Path) -> None:
        going = deployment(7)
        going["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
        async with following(tmp_path, [WEB], list=listing("10", going)) as rig:
            facts = await rig.seen(WEB, Target.NOT_FOUND)
            assert facts.problem == "Deployment web in namespace shop is being deleted"


class TestNotKnown:
    @pytest.mark.parametrize(
        ("workload", "scripts", "state", "words"),
        [
            pytest.param(WEB, {"list": listing("10")}, Target.NOT_FOUND, "there is no Deployment web in namespace shop", id="name"),
            pytest.param(
                Workload("shop", "web", "Deploy"),
                {},
                Target.NOT_FOUND,
                "the API server knows no kind Deploy in apps/v1; its kinds are Deployment, ReplicaSet, StatefulSet",
                id="kind",
            ),
            pytest.param(WEB, {"discovery": status(404)}, Target.NOT_FOUND, "the API server does not serve apps/v1", id="version"),
            pytest.param(
                Workload("shop", "agent", "DaemonSet"),
                {"discovery": answer({"resources": [{"name": "daemonsets", "kind": "DaemonSet"}]})},
                Target.NOT_FOUND,
                "DaemonSet in apps/v1 has no /scale subresource: nothing sets its replicas",
                id="no-scale",
            ),
            pytest.param(
                WEB,
                {"discovery": answer({"resources": [{"name": n, "kind": "Deployment", "namespaced": False} for n in ("ds", "ds/scale")]})},
                Target.NOT_FOUND,
                "does not live in namespaces",
                id="not-namespaced",
            ),
            pytest.param(
                WEB,
                {"list": status(403, "Forbidden")},
                Target.FORBIDDEN,
                'needed: a ClusterRole with {apiGroups: ["apps"], resources: ["deployments"], verbs: ["list"]}',
                id="may-not-list",
            ),
            pytest.param(
                WEB, {"list": listing("10", deployment(7)), "watch": status(403)}, Target.FORBIDDEN, 'verbs: ["watch"]', id="may-not-watch"
            ),
            pytest.param(WEB, {"discovery": status(403)}, Target.FORBIDDEN, "get /apis/apps/v1", id="may-not-discover"),
            pytest.param(
                WEB, {"list": status(500)}, Target.UNKNOWN, "not seen yet: list deployments.apps in all namespaces: 500", id="500"
            ),
            pytest.param(WEB, {"discovery": reset()}, Target.UNKNOWN, "not seen yet: get /apis/apps/v1: no connection", id="down"),
        ],
    )
    async def test_is_told(self, tmp_path: Path, workload: Workload, scripts: dict[str, Step], state: Target, words: str) -> None:
        async with following(tmp_path, [workload], None, **scripts) as rig:
            await rig.until(lambda: words in rig.cluster.facts(workload).problem)
            facts = rig.cluster.facts(workload)
            assert (facts.state, facts.uid, isnan(facts.replicas)) == (state, "", True)
            rig.server.script("discovery", discovery(**{workload.kind: "deployments"}))
            rig.server.script("list", listing("10", deployment(7, name=workload.name)))
            rig.server.script("watch", stream(then="silence"))
            rig.server.script(f"GET /apis/apps/v1/namespaces/shop/deployments/{workload.name}/scale", scale(7, 3))
            if words.startswith("there is no"):
                return  # a good list; a watch would tell what comes
            assert (await rig.seen(workload)).replicas == 3

    @pytest.mark.parametrize(
        ("told", "words"),
        [
            pytest.param(
                status(404, "NotFound"), "there is no Deployment web in namespace shop: namespace shop does not exist", id="missing"
            ),
            pytest.param(answer({"metadata": {"name": "shop"}}), "there is no Deployment web in namespace shop", id="there"),
            pytest.param(status(403, "Forbidden"), "there is no Deployment web in namespace shop", id="may-not-ask"),
        ],
    )
    async def test_namespace_is_looked_for_once_a_minute(self, tmp_path: Path, told: Step, words: str) -> None:
        async with following(tmp_path, [WEB], list=listing("10")) as rig:
            rig.server.script("GET /api/v1/namespaces/shop", told)
            await rig.seen(WEB, Target.NOT_FOUND)
            await rig.until(lambda: bool(rig.server.of("GET /api/v1/namespaces/shop")) and rig.cluster.facts(WEB).problem == words)
            await rig.until(lambda: bool(rig.cluster.facts(WEB).problem) and len(rig.server.of("GET /api/v1/namespaces/shop")) == 2)
            first, second = rig.server.of("GET /api/v1/namespaces/shop")
            assert second.at_s - first.at_s > 30  # a minute, but for what the first needed to arrive

    async def test_outside_of_our_namespaces(self, tmp_path: Path) -> None:
        async with following(tmp_path, [WEB], namespaces=("b", "a")) as rig:
            facts = rig.cluster.facts(WEB)
            assert (facts.state, facts.problem) == (
                Target.FORBIDDEN,
                "namespace shop is not among those that this service is set up to watch (a, b)",
            )
            assert rig.server.seen == []

    async def test_same_facts_are_the_same_object(self, tmp_path: Path) -> None:
        async with following(tmp_path, [WEB], list=status(403)) as rig:
            facts = await rig.seen(WEB, Target.FORBIDDEN)
            await rig.until(lambda: len(rig.server.of("list")) > 2)
            assert rig.cluster.facts(WEB) is facts


class TestStale:
    async def test_a_silent_watch_holds_its_targets(self, tmp_path: Path) -> None:
        feed = Feed()
        missing = Workload("shop", "missing")
        async with following(tmp_path, [WEB, missing], list=listing("10", deployment(7)), watch=feed.step) as rig:
            facts = await rig.seen(WEB)
            stale = await rig.seen(WEB, Target.STALE)
            assert (stale.replicas, stale.uid) == (facts.replicas, facts.uid)
            assert stale.problem == "no sign of life from the watch of deployments.apps for over 120 s"
            assert rig.cluster.facts(WEB) is stale
            assert rig.cluster.facts(missing).state is Target.STALE
            with pytest.raises(StaleViewError, match="not written, as it is not known how it is: no sign of life"):
                await rig.cluster.scale(WEB, stale, 5)
            ((labels, age_s),) = rig.tally.rows[WATCH_AGE.name]()
            assert (labels, age_s > 120) == (("deployments.apps",), True)
            feed.send("BOOKMARK", {"metadata": {"resourceVersion": "12"}})
            assert await rig.seen(WEB) is facts

    async def test_says_what_the_server_answers(self, tmp_path: Path) -> None:
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=status(500, "InternalError")) as rig:
            stale = await rig.seen(WEB, Target.STALE)
            assert stale.problem.endswith("for over 120 s: watch deployments.apps in all namespaces: 500 InternalError: no")


class TestFollowing:
    async def test_watches_start_and_stop_with_the_need(self, tmp_path: Path) -> None:
        database = Workload("data", "db", "StatefulSet")
        async with following(tmp_path, [WEB], list=listing("10")) as rig:
            await rig.seen(WEB, Target.NOT_FOUND)
            rig.cluster.follow([WEB, database])
            await rig.seen(database, Target.NOT_FOUND)
            rig.cluster.follow([database, database])
            await rig.until(lambda: rig.cluster.facts(WEB).state is Target.UNKNOWN)
            await rig.until(lambda: [labels for labels, _ in rig.tally.rows[WATCH_AGE.name]()] == [("statefulsets.apps",)])
            assert [seen.path for seen in rig.server.of("list")] == ["/apis/apps/v1/deployments", "/apis/apps/v1/statefulsets"]
            rig.cluster.follow([])
            assert list(rig.tally.rows[WATCH_AGE.name]()) == []

    async def test_one_watch_for_a_kind_or_for_each_namespace(self, tmp_path: Path) -> None:
        workloads = [Workload(namespace, name) for namespace in ("a", "b") for name in ("x", "y")]
        async with following(tmp_path, workloads, namespaces=("a", "b", "c"), list=listing("10")) as rig:
            for workload in workloads:
                await rig.seen(workload, Target.NOT_FOUND)
            listed = sorted(seen.path for seen in rig.server.of("list"))
            assert listed == [f"/apis/apps/v1/namespaces/{namespace}/deployments" for namespace in ("a", "b")]

    async def test_a_kind_that_goes_and_comes_back(self, tmp_path: Path) -> None:
        feed = Feed()
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=feed.step) as rig:
            first = await rig.seen(WEB)
            for route in ("discovery", "list", "watch"):
                rig.server.script(route, status(404, "NotFound"))
            feed.end()
            await rig.until(lambda: "does not serve apps/v1" in rig.cluster.facts(WEB).problem)
            assert rig.cluster.facts(WEB).state is Target.NOT_FOUND
            rig.server.script("discovery", discovery())
            rig.server.script("list", listing("50", deployment(40, 6, uid="another")))
            rig.server.script("watch", stream(then="silence"))
            again = await rig.seen(WEB)
            assert (again.uid, again.replicas, first.uid) == ("another", 6, "uid-web")

    async def test_unread_counts_are_nan(self, tmp_path: Path) -> None:
        async with following(tmp_path, [], list=listing("10")) as rig:
            facts = rig.cluster.facts(WEB)
            assert str(facts.replicas) == str(facts.ready) == str(nan)


def labelled(name: str, version: int, namespace: str = "shop", **labels: str) -> Json:
    item = deployment(version, name=name)
    item["metadata"] |= {"labels": labels, "namespace": namespace}
    return item


SELECTOR = Selector("shop", "Deployment", "apps/v1", (Requirement("team", Operator.IN, ("web",)),))


class TestSelected:
    async def test_those_that_fit_as_they_come_and_go(self, tmp_path: Path) -> None:
        there = listing(
            "10", labelled("a", 1, team="web"), labelled("b", 2, team="ads"), labelled("c", 3, "other", team="web"), thing("d", 4)
        )
        feed = Feed()
        async with following(tmp_path, [], list=there, watch=feed.step) as rig:
            assert rig.cluster.selected(SELECTOR) is None, "nobody has looked yet"
            rig.cluster.select([SELECTOR])
            await rig.until(lambda: rig.cluster.selected(SELECTOR) == frozenset({"a"}))
            assert len(rig.server.of("list")) == 1
            feed.send("ADDED", labelled("e", 11, team="web"))
            await rig.until(lambda: rig.cluster.selected(SELECTOR) == frozenset({"a", "e"}))
            feed.send("MODIFIED", labelled("a", 12, team="ads"))
            await rig.until(lambda: rig.cluster.selected(SELECTOR) == frozenset({"e"}))

    async def test_not_known_where_it_may_not_be_listed(self, tmp_path: Path) -> None:
        async with following(tmp_path, [WEB], list=status(403, "deployments is forbidden")) as rig:
            rig.cluster.select([SELECTOR])
            await rig.seen(WEB, Target.FORBIDDEN)
            assert rig.cluster.selected(SELECTOR) is None

    async def test_nobody_in_a_namespace_that_is_not_watched(self, tmp_path: Path) -> None:
        async with following(tmp_path, [], ["other"]) as rig:
            rig.cluster.select([SELECTOR])
            assert rig.cluster.selected(SELECTOR) == frozenset()
