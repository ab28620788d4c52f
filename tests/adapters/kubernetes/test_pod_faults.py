"""What can go wrong on the watch of pods: no incident is lost, told twice or ended by it, and the server is not flooded."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes.reflector import Timing
from autoscaler.core.health.lifecycle import Kind, Phase
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
)
from tests.adapters.kubernetes.reflecting import HASTY, PATIENT
from tests.adapters.kubernetes.ward import Pulse, Turns, Ward, pod, watching

LOOP = "Deployment shop/web CrashLoop"
REQUESTS_MAX = 60
"""For one kind, over some hundred seconds of the clock."""

HEALTHY = listing("9", pod("web-1-a", 5), pod("web-1-b", 6))
A_CRASHES = pod("web-1-a", 11, restarts=4, ended=5.0)
A_GOES_ON, B_CRASHES_TOO = pod("web-1-a", 32, restarts=5, ended=20.0), pod("web-1-b", 31, restarts=4, ended=21.0)
ON_THE_WATCH = stream(bookmark(30), event("MODIFIED", B_CRASHES_TOO), event("MODIFIED", A_GOES_ON), then="silence")
LISTED = listing("33", A_GOES_ON, B_CRASHES_TOO)
TOO_OLD = failure(410, "Expired", "too old resource version")
TOO_MANY = status(429, "TooManyRequests", "slow down", headers={"Retry-After": "7"})


async def ill(ward: Ward, after_s: float, pods: int) -> None:
    """Until the one incident has so many pods."""

    def is_so() -> bool:
        ward.look(after_s)
        return [len(each.finding.pods) for each in ward.open()] == [pods]

    await ward.until(is_so)


def told_once(ward: Ward) -> None:
    assert ward.kinds(Kind.PENDING) == {LOOP: 1}
    assert ward.kinds(Kind.FIRED) == {LOOP: 1}
    assert not ward.kinds(Kind.RESOLVED) + ward.kinds(Kind.FLAPPING)
    assert [each.phase for each in ward.open()] == [Phase.FIRING]
    assert ward.requests("pods") < REQUESTS_MAX


@pytest.mark.parametrize(
    ("watches", "lists", "timing"),
    [
        pytest.param([status(410, "Expired", "too old")], [LISTED], PATIENT, id="410-http"),
        pytest.param([page(410, "Gone")], [LISTED], PATIENT, id="410-html"),
        pytest.param([stream(event("ERROR", TOO_OLD))], [LISTED], PATIENT, id="410-in-the-stream"),
        pytest.param([stream(event("ERROR", TOO_OLD), then="silence")], [LISTED], PATIENT, id="410-in-a-stream-left-open"),
        pytest.param([status(410, "Expired")], [TOO_MANY, TOO_MANY, LISTED], PATIENT, id="410-and-429-on-the-list"),
        pytest.param([status(410, "Expired")], [page(500), reset(), LISTED], PATIENT, id="410-and-a-list-that-fails"),
        pytest.param(
            [status(410, "Expired")],
            [listing("30", pod("web-1-b", 6), more="next"), status(410, "Expired"), LISTED],
            PATIENT,
            id="410-and-a-page-that-is-gone",
        ),
        pytest.param([status(410, "Expired")], [answer(b'{"metadata": {}, "items": ['), LISTED], PATIENT, id="410-and-half-a-list"),
        pytest.param([TOO_MANY, TOO_MANY, ON_THE_WATCH], [], PATIENT, id="429-with-retry-after"),
        pytest.param([status(403, "Forbidden")] * 3 + [ON_THE_WATCH], [], PATIENT, id="403"),
        pytest.param([status(401, "Unauthorized")] * 2 + [ON_THE_WATCH], [], PATIENT, id="401"),
        pytest.param([page(500, "Internal error"), ON_THE_WATCH], [], PATIENT, id="500-html"),
        pytest.param([page(200, "Please log in"), ON_THE_WATCH], [], PATIENT, id="200-html"),
        pytest.param([stream(event("ERROR", failure(500, "InternalError"))), ON_THE_WATCH], [], PATIENT, id="500-in-the-stream"),
        pytest.param([stream(event("MODIFIED", B_CRASHES_TOO)[:200]), ON_THE_WATCH], [], PATIENT, id="truncated-line"),
        pytest.param([stream(event("MODIFIED", B_CRASHES_TOO)[:200] + b"\n"), ON_THE_WATCH], [], PATIENT, id="truncated-line-with-its-end"),
        pytest.param([stream(event("MODIFIED", B_CRASHES_TOO)[:200], then="reset"), ON_THE_WATCH], [], PATIENT, id="reset-within-a-line"),
        pytest.param([reset(), reset(), ON_THE_WATCH], [], PATIENT, id="reset"),
        pytest.param([stream(), stream(), ON_THE_WATCH], [], PATIENT, id="ended-at-once"),
        pytest.param([stream(then="silence")], [LISTED], HASTY, id="half-open"),
        pytest.param([stream(bookmark(12), then="silence")], [LISTED], HASTY, id="half-open-after-a-bookmark"),
        pytest.param([drip(0.01)], [LISTED], HASTY, id="a-byte-at-a-time"),
        pytest.param([stream(then="silence")], [silence(), LISTED], HASTY, id="half-open-and-a-list-without-an-answer"),
    ],
)
async def test_an_incident_lives_through(watches: Sequence[Step], lists: Sequence[Step], timing: Timing, tmp_path: Path) -> None:
    """One pod crashes before the fault; behind it the crash goes on and another pod joins: one incident, told of once."""
    pulse = Pulse()
    pods, seen = Turns(HEALTHY, *lists), Turns(pulse.step, *watches, stream(bookmark(40), then="silence"))
    async with watching(tmp_path, {"pods": pods}, {"pods": seen}, timing=timing) as ward:
        await ward.begun()
        pulse.send("MODIFIED", A_CRASHES)
        await ill(ward, 10.0, pods=1)
        pulse.end()
        ward.look(24.0)
        await ill(ward, 26.0, pods=2)
        ward.look(60.0)
        told_once(ward)
        assert ward.open()[0].finding.restarts >= 4


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(status(403, "Forbidden"), id="403"),
        pytest.param(status(410, "Expired"), id="410"),
        pytest.param(page(500), id="500-html"),
        pytest.param(page(200), id="200-html"),
        pytest.param(TOO_MANY, id="429"),
        pytest.param(reset(), id="reset"),
        pytest.param(stream(event("MODIFIED", B_CRASHES_TOO)[:100]), id="truncated"),
        pytest.param(stream(event("ERROR", TOO_OLD)), id="410-in-the-stream"),
    ],
)
async def test_a_fault_that_stays_ends_nothing_and_floods_nobody(fault: Step, tmp_path: Path) -> None:
    """Lists and watches alike fail for five minutes; then it is known that what was seen is old, and nothing is concluded from it."""
    feed = Feed()
    lists, watches = Turns(HEALTHY), Turns(feed.step, fault)
    async with watching(tmp_path, {"pods": lists}, {"pods": watches}, stale_after_s=120.0, speed=1000.0) as ward:
        await ward.begun()
        feed.send("MODIFIED", A_CRASHES)
        await ill(ward, 10.0, pods=1)
        ward.look(30.0)
        lists.steps, lists.played = [fault], 0
        feed.end()
        told, before, began = len(ward.told), ward.requests("pods"), ward.clock.monotonic()
        await ward.clock.sleep_until(began + 300.0)
        seen = ward.look(340.0)
        assert (seen.assessment.conclusive, seen.facts.synced) == (False, False)
        assert len(ward.told) == told
        minutes = (ward.clock.monotonic() - began) / 60
        assert ward.requests("pods") - before <= 12 + 6 * minutes  # a reset is tried twice by the client
        assert [each.phase for each in ward.open()] == [Phase.FIRING]


async def test_duplicates_and_old_versions_count_once(tmp_path: Path) -> None:
    """A replay shows old states again, even healthy ones of before the crash; it is looked at after each event."""
    feed = Feed()
    async with watching(tmp_path, {"pods": HEALTHY}, {"pods": feed.step}) as ward:
        await ward.begun()
        crashes = [pod("web-1-a", 11 + count, restarts=count, ended=float(count)) for count in (1, 2)]
        replay = [crashes[0], crashes[0], crashes[1], crashes[0], pod("web-1-a", 5), crashes[1], crashes[1]]
        for index, item in enumerate(replay):
            feed.send("MODIFIED", item)
            feed.send("MODIFIED", made_up(index))
            await ward.until(lambda index=index: ward.pods.facts(0.0).pods[1].resource_version == str(100 + index))  # type: ignore[misc]
            ward.look(3.0 + index)
        assert not ward.open(), "two restarts, however often they are told of, are not three"
        feed.send("MODIFIED", pod("web-1-a", 200, restarts=3, ended=12.0))
        await ill(ward, 13.0, pods=1)
        assert ward.open()[0].finding.restarts == 3
        ward.look(40.0)
        told_once(ward)


def made_up(index: int) -> dict[str, object]:
    """A version of the other pod that says nothing, so that the test knows how far the watch is."""
    return pod("web-1-b", 100 + index)


@pytest.mark.parametrize("by", [pytest.param("watch", id="on-the-watch"), pytest.param("list", id="across-a-list")])
async def test_a_pod_made_anew_under_its_name_is_another(by: str, tmp_path: Path) -> None:
    """The incident is the workload's, so it goes on; what the first pod went through is not counted to the second."""
    anew = pod("web-1-a", 41, restarts=1, ended=30.0, uid="uid-of-the-second")
    feed = Feed()
    again = event("MODIFIED", pod("web-1-a", 42, restarts=4, ended=35.0, uid="uid-of-the-second"))
    late = event("DELETED", pod("web-1-a", 40, restarts=4, ended=5.0))  # of the first, told after the second came
    if by == "watch":
        lists, watches = Turns(HEALTHY), Turns(feed.step, stream(event("ADDED", anew), late, again, then="silence"))
    else:
        lists = Turns(HEALTHY, listing("41", anew, pod("web-1-b", 6)))
        watches = Turns(feed.step, status(410, "Expired"), stream(again, then="silence"))
    async with watching(tmp_path, {"pods": lists}, {"pods": watches}) as ward:
        await ward.begun()
        feed.send("MODIFIED", A_CRASHES)
        await ill(ward, 10.0, pods=1)
        ward.look(26.0)
        feed.end()
        await ward.until(lambda: "42" in {each.resource_version for each in ward.pods.facts(0.0).pods})
        ward.look(40.0)
        assert [each.uid for each in ward.open()[0].finding.pods] == ["uid-of-the-second"]
        ward.look(60.0)
        told_once(ward)


async def test_a_list_that_is_empty_at_once_resolves_nothing(tmp_path: Path) -> None:
    """A server whose cache has just come up may list nothing; ten minutes later it would be believed."""
    lists, feed, later = Turns(HEALTHY, listing("1"), LISTED), Feed(), Feed()
    watches = Turns(feed.step, status(410, "Expired"), later.step, ON_THE_WATCH)
    async with watching(tmp_path, {"pods": lists}, {"pods": watches}) as ward:
        await ward.begun()
        feed.send("MODIFIED", A_CRASHES)
        await ill(ward, 10.0, pods=1)
        ward.look(30.0)
        feed.end()
        await ward.until(lambda: not ward.pods.facts(0.0).pods)
        seen = ward.look(31.0)
        assert (seen.assessment.emptied, seen.assessment.conclusive) == (True, False)
        assert seen.opened == ("",), "and nothing is restarted"
        later.send("ERROR", TOO_OLD)
        await ill(ward, 40.0, pods=2)
        told_once(ward)


async def test_what_was_there_before_us_is_no_news(tmp_path: Path) -> None:
    """A restart of ours, and then one of the watch, shows old restarts as new objects."""
    old = [pod("web-1-a", 5, restarts=40, ended=-900.0), pod("web-1-b", 6, restarts=7, ended=-30.0)]
    lists, watches = Turns(listing("9", *old), listing("19", *old)), Turns(status(410, "Expired"), stream(then="silence"))
    async with watching(tmp_path, {"pods": lists}, {"pods": watches}) as ward:
        await ward.begun()
        await ward.until(lambda: ward.watches["pods"].played > 1)
        for after_s in (1.0, 30.0, 100.0):
            ward.look(after_s)
        assert not [change for change in ward.told if not change.silent]
