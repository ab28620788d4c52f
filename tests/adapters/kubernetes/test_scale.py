"""What is written, and what is said of a target after a write."""

import asyncio
from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes.calls import ForbiddenError
from autoscaler.core.types import Target
from autoscaler.errors import AutoscalerError, PermanentError, StaleViewError, TransientError
from autoscaler.metrics import WATCH_RESTARTS
from tests.adapters.kubernetes.fault_server import (
    Feed,
    Json,
    Step,
    held,
    listing,
    reset,
    status,
)
from tests.adapters.kubernetes.following import SCALE, WEB, deployment, following, scale


class TestWrites:
    @pytest.mark.parametrize(
        ("replicas", "swap"),
        [
            pytest.param(
                3,
                [{"op": "test", "path": "/spec/replicas", "value": 3}, {"op": "replace", "path": "/spec/replicas", "value": 5}],
                id="some",
            ),
            pytest.param(0, [{"op": "test", "path": "/spec", "value": {}}, {"op": "add", "path": "/spec/replicas", "value": 5}], id="zero"),
        ],
    )
    async def test_compare_and_swap(self, tmp_path: Path, replicas: int, swap: list[Json]) -> None:
        async with following(tmp_path, [WEB], list=listing("10", deployment(7, replicas))) as rig:
            rig.server.script(SCALE, scale(20, 5))
            await rig.cluster.scale(WEB, await rig.seen(WEB), 5)
            (write,) = rig.server.of(SCALE)
            assert write.body == [{"op": "test", "path": "/metadata/uid", "value": "uid-web"}, *swap]
            assert (write.query, write.headers["Content-Type"]) == ({"fieldManager": "autoscaler"}, "application/json-patch+json")

    @pytest.mark.parametrize(
        ("told", "kind", "words"),
        [
            pytest.param(
                status(422, "Invalid"),
                StaleViewError,
                "patch deployments.apps/scale web in namespace shop: it is not as it was seen any more (uid uid-web, 3 replicas)",
                id="422",
            ),
            pytest.param(status(409, "Conflict"), StaleViewError, "not as it was seen", id="409"),
            pytest.param(status(404, "NotFound"), StaleViewError, "it was there when it was last seen", id="404"),
            pytest.param(
                status(422, "Invalid", "must be at most 9", causes=[{"reason": "FieldValueInvalid"}]),
                PermanentError,
                "must be at most 9",
                id="422-impossible",
            ),
            pytest.param(
                status(403, "Forbidden"),
                ForbiddenError,
                'needed: a Role in namespace shop with {apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["patch"]}',
                id="403",
            ),
            pytest.param(status(429, "TooManyRequests", headers={"Retry-After": "3"}), TransientError, "429", id="429"),
            pytest.param(status(500, "InternalError"), TransientError, "500", id="500"),
            pytest.param(reset(), TransientError, "no connection to", id="reset"),
        ],
    )
    async def test_refused(self, tmp_path: Path, told: Step, kind: type[AutoscalerError], words: str) -> None:
        async with following(tmp_path, [WEB], list=listing("10", deployment(7))) as rig:
            rig.server.script(SCALE, told)
            seen = await rig.seen(WEB)
            with pytest.raises(kind) as refused:
                await rig.cluster.scale(WEB, seen, 5)
            assert type(refused.value) is kind
            assert words in str(refused.value)
            assert (rig.cluster.facts(WEB), len(rig.server.of(SCALE))) == (seen, 1)

    async def test_not_to_what_is_not_followed_any_more(self, tmp_path: Path) -> None:
        async with following(tmp_path, [WEB], list=listing("10", deployment(7))) as rig:
            seen = await rig.seen(WEB)
            rig.cluster.follow([])
            with pytest.raises(StaleViewError, match="not followed any more"):
                await rig.cluster.scale(WEB, seen, 5)
            assert rig.server.of(SCALE) == []


class TestOwnWrite:
    """After a write of ours no older count is served, however late the watch is."""

    async def test_holds_until_the_watch_shows_it(self, tmp_path: Path) -> None:
        feed = Feed()
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=feed.step) as rig:
            seen = await rig.seen(WEB)
            rig.server.script(SCALE, scale(20, 5))
            await rig.cluster.scale(WEB, seen, 5)
            assert (rig.cluster.facts(WEB).replicas, rig.cluster.facts(WEB).resource_version) == (5, "20")
            feed.send("MODIFIED", deployment(19, 3, ready=2))  # written before ours
            await rig.until(lambda: rig.cluster.facts(WEB).ready == 2)
            assert rig.cluster.facts(WEB).replicas == 5
            feed.send("MODIFIED", deployment(20, 5, ready=2))
            feed.send("MODIFIED", deployment(21, 4, ready=3))  # somebody else, after ours
            await rig.until(lambda: rig.cluster.facts(WEB).ready == 3)
            assert rig.cluster.facts(WEB).replicas == 4

    @pytest.mark.parametrize(
        ("events", "replicas"),
        [
            pytest.param([deployment(20, 5)], 5, id="ours"),
            pytest.param([deployment(20, 5), deployment(21, 9)], 9, id="ours-and-a-later-one"),
            pytest.param([deployment(19, 3, ready=1)], 5, id="an-earlier-one"),
            pytest.param([deployment(25, 2, uid="another")], 2, id="another-object"),
        ],
    )
    async def test_the_watch_may_be_faster_than_the_answer(self, tmp_path: Path, events: list[Json], replicas: int) -> None:
        feed, gate = Feed(), asyncio.Event()
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=feed.step) as rig:
            seen = await rig.seen(WEB)
            rig.server.script(SCALE, held(gate, scale(20, 5)))
            write = asyncio.create_task(rig.cluster.scale(WEB, seen, 5))
            await rig.until(lambda: bool(rig.server.of(SCALE)))
            for item in events:
                feed.send("MODIFIED", item)
            await rig.until(lambda: rig.cluster.facts(WEB).resource_version == events[-1]["metadata"]["resourceVersion"])
            gate.set()
            await write
            assert rig.cluster.facts(WEB).replicas == replicas

    async def test_two_in_a_row(self, tmp_path: Path) -> None:
        feed = Feed()
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=feed.step) as rig:
            seen = await rig.seen(WEB)
            for version, replicas in ((20, 5), (22, 8)):
                rig.server.script(SCALE, scale(version, replicas))
                await rig.cluster.scale(WEB, seen, replicas)
                seen = rig.cluster.facts(WEB)
            feed.send("MODIFIED", deployment(20, 5, ready=1))
            await rig.until(lambda: rig.cluster.facts(WEB).ready == 1)
            assert rig.cluster.facts(WEB).replicas == 8

    async def test_a_watch_that_has_passed_over_it_is_believed(self, tmp_path: Path) -> None:
        """As after a list that was made after the write, with somebody else's count in it."""
        feed = Feed()
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=feed.step) as rig:
            rig.server.script(SCALE, scale(20, 5))
            await rig.cluster.scale(WEB, await rig.seen(WEB), 5)
            feed.send("MODIFIED", deployment(30, 9))
            await rig.until(lambda: rig.cluster.facts(WEB).resource_version == "30")
            assert rig.cluster.facts(WEB).replicas == 5
            wrote_s = rig.clock.monotonic()
            await rig.until(lambda: rig.clock.monotonic() > wrote_s + 30)
            assert rig.cluster.facts(WEB).replicas == 5  # silence proves nothing
            feed.send("BOOKMARK", {"metadata": {"resourceVersion": "31"}})
            await rig.until(lambda: rig.cluster.facts(WEB).replicas == 9)

    async def test_deleted_meanwhile(self, tmp_path: Path) -> None:
        feed = Feed()
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=feed.step) as rig:
            rig.server.script(SCALE, scale(20, 5))
            await rig.cluster.scale(WEB, await rig.seen(WEB), 5)
            feed.send("DELETED", deployment(21, 5))
            await rig.seen(WEB, Target.NOT_FOUND)
            feed.send("ADDED", deployment(22, 1, uid="another"))
            assert (await rig.seen(WEB)).replicas == 1


class TestLeap:
    """A watch that has passed over a change: nothing but a write's refusal can tell."""

    async def test_what_is_refused_and_not_explained_is_listed_again(self, tmp_path: Path) -> None:
        async with following(tmp_path, [WEB], list=listing("10", deployment(7))) as rig:
            seen = await rig.seen(WEB)
            rig.server.script("list", listing("5", deployment(4, 8)))
            rig.server.script(SCALE, status(422, "Invalid"))
            with pytest.raises(StaleViewError):
                await rig.cluster.scale(WEB, seen, 5)
            await rig.until(lambda: rig.cluster.facts(WEB).replicas == 8)
            assert rig.tally.of(WATCH_RESTARTS)["deployments.apps", "doubted"] == 1

    async def test_it_is_listed_once_for_each_version(self, tmp_path: Path) -> None:
        """Somebody refuses with 422 what is no failed test, for ever."""
        async with following(tmp_path, [WEB], list=listing("10", deployment(7))) as rig:
            seen = await rig.seen(WEB)
            rig.server.script(SCALE, status(422, "Invalid"))
            for _ in range(4):
                with pytest.raises(StaleViewError):
                    await rig.cluster.scale(WEB, seen, 5)
            assert rig.tally.of(WATCH_RESTARTS)["deployments.apps", "doubted"] == 1

    async def test_a_change_that_is_shown_in_between_needs_no_list(self, tmp_path: Path) -> None:
        feed = Feed()
        async with following(tmp_path, [WEB], list=listing("10", deployment(7)), watch=feed.step) as rig:
            seen = await rig.seen(WEB)
            rig.server.script(SCALE, status(422, "Invalid"))
            write = asyncio.create_task(rig.cluster.scale(WEB, seen, 5))
            await rig.until(lambda: bool(rig.server.of(SCALE)))
            feed.send("MODIFIED", deployment(20, 9))
            with pytest.raises(StaleViewError):
                await write
            assert rig.cluster.facts(WEB).replicas == 9
            assert ("deployments.apps", "doubted") not in rig.tally.of(WATCH_RESTARTS)
