"""Every way in which list and watch can go wrong (Kubernetes, API concepts: "Efficient detection of changes")."""

import asyncio
from math import inf
from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes.calls import ForbiddenError, GoneError, NotFoundError
from autoscaler.adapters.kubernetes.client import ANSWER_MAX, TooLargeError
from autoscaler.adapters.kubernetes.reflector import Selection, Timing
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from tests.adapters.kubernetes.fault_server import (
    Feed,
    Step,
    answer,
    bookmark,
    drip,
    event,
    failure,
    listing,
    page,
    reset,
    silence,
    status,
    stream,
    thing,
)
from tests.adapters.kubernetes.reflecting import HASTY, PATIENT, reflecting

A, B = thing("a", 5), thing("b", 6)
ADDED_B, CHANGED_A = event("ADDED", thing("b", 11)), event("MODIFIED", thing("a", 12))


class TestStraightPath:
    async def test_list_then_watch(self, tmp_path: Path) -> None:
        async with reflecting(
            tmp_path, listing("10", A), stream(ADDED_B, CHANGED_A, event("DELETED", thing("b", 13)), then="silence")
        ) as rig:
            await rig.until(lambda: len(rig.told) == 4)
            assert rig.told == [("added", "a", "5"), ("added", "b", "11"), ("changed", "a", "12"), ("deleted", "b", "13")]
            assert rig.reflector.objects[("shop", "a")].metadata.resource_version == "12"
            assert (rig.names(), rig.versions(), rig.causes()) == (["a"], ["10"], {})

    async def test_asks_for_what_it_should(self, tmp_path: Path) -> None:
        selection = Selection("shop", labels="app=web,tier in (a,b)", fields="metadata.name=a")
        async with reflecting(tmp_path, listing("10"), stream(then="silence"), selection=selection) as rig:
            await rig.until(lambda: bool(rig.versions()))
            (listed,), (watched,) = rig.server.of("list"), rig.server.of("watch")
            assert listed.path == watched.path == "/apis/example.dev/v1/namespaces/shop/things"
            chosen = {"labelSelector": "app=web,tier in (a,b)", "fieldSelector": "metadata.name=a"}
            assert listed.query == chosen | {"limit": "500"}
            timeout_s = int(watched.query["timeoutSeconds"])
            assert watched.query == chosen | {
                "watch": "1",
                "resourceVersion": "10",
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(timeout_s),
            }
            assert 240 <= timeout_s <= 300
            assert (listed.headers["Authorization"], listed.headers["User-Agent"]) == ("Bearer secret", "autoscaler")

    async def test_everywhere_and_metadata_only(self, tmp_path: Path) -> None:
        async with reflecting(tmp_path, listing("10"), stream(then="silence"), selection=Selection(metadata_only=True)) as rig:
            await rig.until(lambda: bool(rig.versions()))
            (listed,), (watched,) = rig.server.of("list"), rig.server.of("watch")
            assert listed.path == watched.path == "/apis/example.dev/v1/things"
            assert listed.headers["Accept"] == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            assert watched.headers["Accept"] == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

    async def test_pages(self, tmp_path: Path) -> None:
        pages = [listing("10", A, more="p2"), listing("10", B, more="p3"), listing("10", thing("c", 7))]
        async with reflecting(tmp_path, pages, stream(then="silence")) as rig:
            await rig.synced()
            assert [seen.query.get("continue") for seen in rig.server.of("list")] == [None, "p2", "p3"]
            assert rig.names() == ["a", "b", "c"]

    async def test_no_items_may_be_null(self, tmp_path: Path) -> None:
        async with reflecting(tmp_path, answer({"metadata": {"resourceVersion": "1"}, "items": None}), stream(then="silence")) as rig:
            await rig.synced()
            assert rig.names() == []

    async def test_an_event_seen_before_is_no_news(self, tmp_path: Path) -> None:
        again = [event("ADDED", A), event("MODIFIED", A), event("DELETED", thing("gone", 3)), ADDED_B]
        async with reflecting(tmp_path, listing("10", A), stream(*again, then="silence")) as rig:
            await rig.until(lambda: rig.names() == ["a", "b"])
            assert rig.told == [("added", "a", "5"), ("added", "b", "11")]

    async def test_large_object(self, tmp_path: Path) -> None:
        large = event("ADDED", thing("b", 11, note="x" * 3 * 2**20))
        async with reflecting(tmp_path, listing("10"), stream(large, CHANGED_A, then="silence")) as rig:
            await rig.until(lambda: rig.names() == ["a", "b"])
            assert rig.causes() == {}


class TestAge:
    async def test_lists_events_and_bookmarks_are_signs_of_life(self, tmp_path: Path) -> None:
        feed = Feed()
        async with reflecting(tmp_path, listing("10", A), feed.step) as rig:
            assert rig.reflector.age_s() == inf
            await rig.until(lambda: feed.opened == 1)
            for line in (("BOOKMARK", {"metadata": {"resourceVersion": "11"}}), ("MODIFIED", thing("a", 12))):
                await rig.until(lambda: rig.reflector.age_s() > 30)
                feed.send(*line)
                await rig.until(lambda: rig.reflector.age_s() < 30)

    async def test_an_open_watch_alone_is_not(self, tmp_path: Path) -> None:
        async with reflecting(tmp_path, listing("10"), stream(), speed=400) as rig:
            await rig.until(lambda: len(rig.versions()) >= 3)
            assert rig.reflector.age_s() > 0
            await rig.until(lambda: rig.reflector.age_s() > 120)


class TestResumes:
    """After these a watch goes on from the last version seen, without another list."""

    @pytest.mark.parametrize(
        ("ends", "resumed_at", "cause"),
        [
            pytest.param(stream(ADDED_B), "11", "closed", id="clean-end"),
            pytest.param(stream(), "10", "closed", id="clean-end-without-a-word"),
            pytest.param(stream(ADDED_B, bookmark(20)), "20", "closed", id="bookmark"),
            pytest.param(stream(ADDED_B, then="reset"), "11", "failed", id="reset"),
            pytest.param(stream(ADDED_B, CHANGED_A[:40]), "11", "answer", id="truncated-line"),
            pytest.param(stream(ADDED_B, CHANGED_A[:40], then="reset"), "11", "failed", id="truncated-line-reset"),
            pytest.param(stream(ADDED_B, b"upstream timed out\n"), "11", "answer", id="words-in-the-stream"),
            pytest.param(stream(event("EXPLODED", A)), "10", "answer", id="unknown-event"),
            pytest.param(stream(b'{"type":"ADDED","object":{"metadata":{}}}\n'), "10", "answer", id="object-without-a-name"),
            pytest.param(stream(b"x" * (ANSWER_MAX + 10), then="silence"), "10", "answer", id="endless-line"),
            pytest.param(stream(event("ERROR", failure(500, "InternalError", "etcd"))), "10", "failed", id="error-event"),
            pytest.param(page(200), "10", "answer", id="html-200"),
            pytest.param(answer({"kind": "Hello"}), "10", "answer", id="some-json"),
            pytest.param(page(502, "Bad gateway"), "10", "failed", id="html-502"),
            pytest.param(status(500, "InternalError"), "10", "failed", id="500"),
            pytest.param(status(503, "ServiceUnavailable"), "10", "failed", id="503"),
            pytest.param(status(504, "Timeout", "Too large resource version", retryAfterSeconds=1), "10", "throttled", id="504"),
            pytest.param(status(429, "TooManyRequests", headers={"Retry-After": "1"}), "10", "throttled", id="429"),
            pytest.param(answer(b"slow down", 429, {"Retry-After": "1"}, "text/plain"), "10", "throttled", id="429-text"),
            pytest.param(status(401, "Unauthorized"), "10", "refused", id="401"),
            pytest.param(status(403, "Forbidden"), "10", "refused", id="403"),
        ],
    )
    async def test_resume(self, tmp_path: Path, ends: Step, resumed_at: str, cause: str) -> None:
        later = event("ADDED", thing("late", 30))
        async with reflecting(tmp_path, listing("10", A), [ends, stream(later, then="silence")], speed=1000) as rig:
            await rig.until(lambda: "late" in rig.names())
            assert (rig.versions(), len(rig.server.of("list"))) == (["10", resumed_at], 1)
            assert (rig.causes(), rig.reflector.problem) == ({cause: 1}, None)

    async def test_reset_before_an_answer(self, tmp_path: Path) -> None:
        """Twice: the first on a connection that was kept is taken for its end, and the request is sent once more on a new one."""
        ends = [reset(), reset(), stream(ADDED_B, then="silence")]
        async with reflecting(tmp_path, listing("10", A), ends) as rig:
            await rig.until(lambda: rig.names() == ["a", "b"])
            assert (rig.versions(), rig.causes(), len(rig.server.of("list"))) == (["10"] * 3, {"failed": 1}, 1)

    async def test_server_that_never_ends_a_watch(self, tmp_path: Path) -> None:
        timing = Timing(silence_s=3600.0, watch_s=(0.1, 0.2), overtime_s=0.05)
        async with reflecting(tmp_path, listing("10"), stream(ADDED_B, then="silence"), timing) as rig:
            await rig.until(lambda: len(rig.versions()) == 2)
            assert (rig.versions(), rig.causes()) == (["10", "11"], {"closed": 1})


class TestListsAgain:
    """After these everything is listed again, and what happened in between is told by uid."""

    @pytest.mark.parametrize(
        ("ends", "timing", "cause"),
        [
            pytest.param(status(410, "Expired"), PATIENT, "gone", id="410"),
            pytest.param(page(410, "Gone"), PATIENT, "gone", id="410-html"),
            pytest.param(stream(event("ERROR", failure(410, "Expired", "too old"))), PATIENT, "gone", id="410-event"),
            pytest.param(stream(event("ERROR", failure(410, "Gone")), then="silence"), PATIENT, "gone", id="410-event-left-open"),
            pytest.param(stream(then="silence"), HASTY, "silent", id="half-open"),
            pytest.param(stream(bookmark(11), then="silence"), HASTY, "silent", id="half-open-after-a-bookmark"),
            pytest.param(drip(0.01), HASTY, "silent", id="a-byte-at-a-time"),
            pytest.param(drip(0.01, b"\n"), HASTY, "silent", id="empty-lines"),
        ],
    )
    async def test_list_again(self, tmp_path: Path, ends: Step, timing: Timing, cause: str) -> None:
        first = listing("10", A, B, thing("c", 7))
        later = listing("50", thing("a", 40), thing("b", 41, uid="another-b"), thing("d", 42))
        async with reflecting(tmp_path, [first, later], [ends, stream(bookmark(51), then="silence")], timing) as rig:
            await rig.until(lambda: "d" in rig.names() and len(rig.versions()) > 1)
            assert rig.versions()[:2] == ["10", "50"]
            assert [seen.query.get("resourceVersion") for seen in rig.server.of("list")][:2] == [None, None]
            assert rig.told[:3] == [("added", "a", "5"), ("added", "b", "6"), ("added", "c", "7")]
            assert rig.told[3:5] == [("deleted", "b", "6"), ("deleted", "c", "7")]
            assert rig.told[5:8] == [("changed", "a", "40"), ("added", "b", "41"), ("added", "d", "42")]
            assert rig.causes()[cause] == 1

    async def test_what_failed_for_too_long_is_listed(self, tmp_path: Path) -> None:
        """A server whose watch does not work, but whose list does, is polled."""
        timing = Timing(silence_s=70.0)
        async with reflecting(tmp_path, [listing("10", A), listing("20", A, B)], page(200), timing, speed=2000) as rig:
            await rig.until(lambda: "20" in rig.versions())
            assert (rig.names(), set(rig.versions())) == (["a", "b"], {"10", "20"})

    async def test_page_whose_token_has_expired(self, tmp_path: Path) -> None:
        lists = [listing("10", A, more="p2"), status(410, "Expired"), listing("12", B)]
        async with reflecting(tmp_path, lists, stream(then="silence")) as rig:
            await rig.until(lambda: bool(rig.versions()))
            assert [seen.query.get("continue") for seen in rig.server.of("list")] == [None, "p2", None]
            assert (rig.names(), rig.told, rig.versions()) == (["b"], [("added", "b", "6")], ["12"])

    async def test_smaller_pages_where_one_is_too_large(self, tmp_path: Path) -> None:
        huge = answer(b'{"metadata":{"resourceVersion":"1"},"items":[' + b" " * ANSWER_MAX)
        async with reflecting(tmp_path, [huge, listing("10", A)], stream(then="silence")) as rig:
            await rig.synced()
            assert [seen.query["limit"] for seen in rig.server.of("list")] == ["500", "125"]


class TestRecreated:
    """The same name, another object."""

    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param([event("DELETED", thing("a", 20)), event("ADDED", thing("a", 21, uid="new"))], id="told-apart"),
            pytest.param([event("ADDED", thing("a", 21, uid="new"))], id="deletion-missed"),
            pytest.param([event("MODIFIED", thing("a", 21, uid="new"))], id="creation-missed"),
            pytest.param([event("ADDED", thing("a", 21, uid="new")), event("DELETED", thing("a", 22))], id="deletion-late"),
        ],
    )
    async def test_deleted_then_added(self, tmp_path: Path, lines: list[bytes]) -> None:
        async with reflecting(tmp_path, listing("10", A), stream(*lines, bookmark(30), then="silence")) as rig:
            await rig.until(lambda: len(rig.told) >= 3)
            assert [(what, name) for what, name, _ in rig.told] == [("added", "a"), ("deleted", "a"), ("added", "a")]
            assert rig.reflector.objects[("shop", "a")].metadata.uid == "new"


class TestNotListed:
    """While the list fails nothing is known; the next good answer is enough."""

    @pytest.mark.parametrize(
        ("fault", "kind", "words"),
        [
            pytest.param(page(200), AnswerError, "list things.example.dev in all namespaces: expected an API server's JSON", id="html-200"),
            pytest.param(answer(b""), AnswerError, "expected an API server's JSON", id="empty"),
            pytest.param(answer(b'{"metadata": {"resourceVersion": "1"}, "ite'), AnswerError, "JSON", id="truncated"),
            pytest.param(answer({"hello": "world"}), AnswerError, "missing required field `metadata`", id="some-json"),
            pytest.param(listing("", A), AnswerError, "no resourceVersion", id="no-version"),
            pytest.param(listing("10", A, more="same"), AnswerError, "do not end", id="endless-pages"),
            pytest.param(answer(b" " * (ANSWER_MAX + 1)), TooLargeError, "longer than 32 MiB", id="too-large"),
            pytest.param(answer(b"", 302, {"Location": "/login"}), AnswerError, "got '<html><body>Please log in", id="redirected"),
            pytest.param(status(400, "BadRequest"), PermanentError, "400 BadRequest", id="400"),
            pytest.param(status(401, "Unauthorized"), PermanentError, "does not accept these credentials", id="401"),
            pytest.param(
                status(403, "Forbidden"),
                ForbiddenError,
                'needed: a ClusterRole with {apiGroups: ["example.dev"], resources: ["things"], verbs: ["list"]}',
                id="403",
            ),
            pytest.param(status(410, "Expired"), GoneError, "410 Expired", id="410"),
            pytest.param(status(429, "TooManyRequests", headers={"Retry-After": "1"}), TransientError, "429", id="429"),
            pytest.param(status(500, "InternalError"), TransientError, "500 InternalError", id="500"),
            pytest.param(page(503), TransientError, "503 Service Unavailable: <html><body>Please log in", id="503-html"),
            pytest.param(reset(), TransientError, "no connection to http://127.0.0.1", id="reset"),
        ],
    )
    async def test_list_fails(self, tmp_path: Path, fault: Step, kind: type[AutoscalerError], words: str) -> None:
        async with reflecting(tmp_path, fault, stream(then="silence")) as rig:
            await rig.until(lambda: rig.reflector.problem is not None)
            assert isinstance(rig.reflector.problem, kind), rig.reflector.problem
            assert words in str(rig.reflector.problem)
            assert (rig.reflector.synced, rig.names(), rig.versions()) == (False, [], [])
            rig.server.script("list", listing("10", A))
            await rig.until(lambda: rig.names() == ["a"])

    @pytest.mark.parametrize("fault", [pytest.param(silence(), id="silence"), pytest.param(drip(0.01), id="a-byte-at-a-time")])
    async def test_list_takes_too_long(self, tmp_path: Path, fault: Step) -> None:
        async with reflecting(tmp_path, fault, stream(then="silence"), HASTY) as rig:
            await rig.until(lambda: "no answer within 0.15 s" in str(rig.reflector.problem))
            assert (rig.reflector.synced, set(rig.causes())) == (False, {"failed"})

    async def test_unknown_resource_ends_it(self, tmp_path: Path) -> None:
        async with reflecting(tmp_path, status(404, "NotFound"), stream()) as rig:
            assert isinstance(await rig.task, NotFoundError)
            assert len(rig.server.seen) == 1


class TestRequestsAreBounded:
    @pytest.mark.parametrize(
        "fault",
        [
            pytest.param(stream(), id="instantly-closing"),
            pytest.param(stream(ADDED_B), id="one-event-then-closing"),
            pytest.param(page(200), id="html-200"),
            pytest.param(page(502), id="html-502"),
            pytest.param(status(403, "Forbidden"), id="403"),
            pytest.param(status(429, "TooManyRequests"), id="429"),
            pytest.param(status(410, "Expired"), id="410"),
            pytest.param(stream(b"no json\n"), id="words"),
            pytest.param(stream(b'{"type": "ADD'), id="truncated"),
            pytest.param(reset(), id="reset"),
        ],
    )
    async def test_watch(self, tmp_path: Path, fault: Step) -> None:
        """Within a minute of back-off (0.5, 1, 2, 4, 8, 16, 30 s, each halved and the first nothing at worst) ten attempts at most."""
        async with reflecting(tmp_path, listing("10", A), fault, Timing()) as rig:
            await rig.clock.sleep_until(rig.clock.monotonic() + 60)
            assert 2 <= sum(rig.causes().values()) <= 10
            assert len(rig.server.of("watch")) <= 20  # a kept connection that was reset is tried once more
            assert len(rig.server.of("list")) <= 10

    async def test_list(self, tmp_path: Path) -> None:
        async with reflecting(tmp_path, status(500), stream()) as rig:
            await rig.clock.sleep_until(rig.clock.monotonic() + 60)
            assert 2 <= len(rig.server.of("list")) <= 10

    @pytest.mark.parametrize(
        ("wish", "waited_s"),
        [
            pytest.param({"headers": {"Retry-After": "7"}}, 7.0, id="header"),
            pytest.param({"retryAfterSeconds": 9}, 9.0, id="status"),
            pytest.param({"headers": {"Retry-After": "86400"}}, 60.0, id="a-day-is-a-minute"),
        ],
    )
    async def test_retry_after_is_honoured(self, tmp_path: Path, wish: dict[str, object], waited_s: float) -> None:
        lists = [status(429, "TooManyRequests", **wish), listing("10", A)]  # type: ignore[arg-type]
        async with reflecting(tmp_path, lists, stream(then="silence"), speed=50) as rig:
            await rig.synced()
            first, second = rig.server.of("list")
            assert second.at_s - first.at_s >= waited_s

    async def test_good_watches_are_reopened_at_once(self, tmp_path: Path) -> None:
        feed = Feed()
        async with reflecting(tmp_path, listing("10", A), feed.step, speed=200) as rig:
            for count in range(1, 4):
                await rig.until(lambda: feed.opened == count)  # noqa: B023 - awaited within its turn
                began_s = rig.clock.monotonic()
                await rig.until(lambda: rig.clock.monotonic() > began_s + 15)  # noqa: B023
                feed.end()
            await rig.until(lambda: feed.opened == 4)
            assert rig.causes() == {"closed": 3}

    async def test_watches_that_bring_much_are_reopened_soon(self, tmp_path: Path) -> None:
        """An API server ends the watch of whoever is slow; in a storm nobody has the time for a long back-off."""
        storms = [stream(*(event("ADDED", thing(f"{turn}-{each}", 100 * turn + each)) for each in range(100, 200))) for turn in range(8)]
        async with reflecting(tmp_path, listing("10", A), [*storms, stream(then="silence")], speed=20) as rig:
            await rig.until(lambda: len(rig.versions()) == 9)
            times = [seen.at_s for seen in rig.server.of("watch")]
            assert times[-1] - times[0] < 8 * 0.5 + 8, "eight in a row would wait for a minute otherwise"
            assert len(rig.reflector.objects) == 801

    async def test_the_first_answers_after_an_outage_are_no_part_of_it(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """An API server that is back answers 403 until it has read the roles, and 410 as its watch cache begins anew."""
        back = [status(403, "Forbidden"), status(410, "Expired"), stream(ADDED_B, then="silence")]
        async with reflecting(tmp_path, listing("10", A), [*[page(502)] * 6, *back], speed=20) as rig:
            await rig.until(lambda: rig.names() == ["a", "b"])
            *_, refused, gone, good = [seen.at_s for seen in rig.server.of("watch")]
            assert gone - refused < 2
            assert good - gone < 2
            assert rig.causes() == {"failed": 6, "refused": 1, "gone": 1}
        assert "403" not in " ".join(record.getMessage() for record in caplog.records if record.levelname == "WARNING")


class TestCancelled:
    @pytest.mark.parametrize(
        ("listed", "watched", "route"),
        [
            pytest.param(silence(), stream(), "list", id="while-listing"),
            pytest.param(listing("10", A), silence(), "watch", id="while-opening"),
            pytest.param(listing("10", A), stream(then="silence"), "watch", id="while-watching"),
            pytest.param(status(500), stream(), "list", id="while-waiting"),
        ],
    )
    async def test_nothing_is_left(self, tmp_path: Path, listed: Step, watched: Step, route: str) -> None:
        async with reflecting(tmp_path, listed, watched) as rig:
            await rig.until(lambda: bool(rig.server.of(route)))
            others = asyncio.all_tasks() - {rig.task}
            rig.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rig.task
            assert asyncio.all_tasks() <= others
