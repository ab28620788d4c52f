"""One channel: in order, again and again until it is taken, never for ever, and never at another's cost."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Report
from autoscaler.errors import AnswerError, PermanentError, TransientError
from autoscaler.loops.delivery import (
    BACK_OFF_MAX_S,
    BUDGET_S,
    EXPIRES_S,
    QUEUE_MAX,
    RESOLVED_EXPIRES_S,
    RETRY_AFTER_MAX_S,
)
from autoscaler.metrics import NOTIFICATION_DROPS, NOTIFICATION_QUEUE, NOTIFICATIONS
from tests.core.health.telling import finding, incident, report
from tests.loops.telling import Rig, telling

DOWN = TransientError("503")


def about(name: str, kind: Kind = Kind.FIRED) -> Report:
    """A report of an incident of its own."""
    return report(kind, incident=incident(finding=finding(container=name)))


def counts(rig: Rig, sink: str = "ops") -> dict[str, float]:
    found = {outcome: value for (name, outcome), value in rig.recorder.values(NOTIFICATIONS).items() if name == sink}
    return found | {f"dropped-{cause}": value for (name, cause), value in rig.recorder.values(NOTIFICATION_DROPS).items() if name == sink}


async def test_a_report_is_taken_at_once_and_counted() -> None:
    async with telling() as rig:
        rig.reports.take(report())
        await rig.clock.settle()
        assert rig.sinks["ops"].kinds == ["fired"]
        assert counts(rig) == {"ok": 1}
        assert rig.recorder.value(NOTIFICATION_QUEUE, "ops") == 0


@pytest.mark.parametrize("error", [DOWN, AnswerError("html"), TimeoutError(), RuntimeError("a bug of the sink")])
async def test_what_fails_for_now_is_tried_again(error: Exception) -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [error, error, None]
        rig.reports.take(report())
        await rig.clock.advance(10)
        assert rig.sinks["ops"].kinds == ["fired"]
        assert counts(rig) == {"ok": 1, "again": 2}


async def test_what_will_never_go_through_is_dropped_and_the_next_is_taken() -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [PermanentError("400"), None]
        rig.reports.take(about("a"))
        rig.reports.take(about("b"))
        await rig.clock.settle()
        assert [made.change.incident.finding.container for made in rig.sinks["ops"].taken] == ["b"]
        assert counts(rig) == {"ok": 1, "dropped": 1, "dropped-refused": 1}


async def test_a_hung_sink_is_given_up_on() -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [asyncio.Event(), None]
        rig.reports.take(report())
        await rig.clock.advance(BUDGET_S + 3)
        assert rig.sinks["ops"].kinds == ["fired"]


async def test_one_dead_sink_delays_no_other() -> None:
    async with telling("dead", "hung", "ops") as rig:
        rig.sinks["dead"].script = [DOWN]
        rig.sinks["hung"].script = [asyncio.Event()]
        for number in range(20):
            rig.reports.take(replace(about(f"c{number}"), sinks=("dead", "hung", "ops")))
        await rig.clock.settle()
        assert len(rig.sinks["ops"].taken) == len(rig.events.taken) == 20
        assert rig.sinks["dead"].taken == rig.sinks["hung"].taken == []


def waits(rig: Rig) -> list[float]:
    times = [at_s for at_s, _ in rig.sinks["ops"].tries]
    return [after - before for before, after in itertools.pairwise(times)]


async def test_waits_grow_are_random_and_have_an_end() -> None:
    seen = []
    for seed in (1, 2):
        async with telling(seed=seed) as rig:
            rig.sinks["ops"].script = [DOWN]
            rig.reports.take(report())
            await rig.clock.advance(EXPIRES_S + BACK_OFF_MAX_S)
            found = waits(rig)
            assert all(wait <= min(2.0**step, BACK_OFF_MAX_S) for step, wait in enumerate(found))
            assert max(found) > BACK_OFF_MAX_S / 2
            assert len(found) < 120, "an outage of an hour costs little"
            seen.append(found)
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("wish_s", "least_s"),
    [
        pytest.param(7.0, 7.0, id="heeded"),
        pytest.param(1e6, RETRY_AFTER_MAX_S, id="within-reason"),
        pytest.param(-5.0, 0.0, id="nonsense"),
    ],
)
async def test_retry_after(wish_s: float, least_s: float) -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [TransientError("429", retry_after_s=wish_s), None]
        rig.reports.take(report())
        await rig.clock.advance(RETRY_AFTER_MAX_S + 2)
        (wait,) = waits(rig)
        assert least_s <= wait <= least_s + 1.0


async def test_a_report_that_does_not_go_through_makes_way() -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [DOWN, None]
        rig.reports.take(about("a"))
        rig.reports.take(about("b"))
        await rig.clock.advance(5)
        assert [made.change.incident.finding.container for made in rig.sinks["ops"].taken] == ["b", "a"]


async def test_of_one_incident_the_newest_is_told_and_never_the_end_before_the_beginning() -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [DOWN, None]
        for kind in (Kind.FIRED, Kind.RESOLVED):
            rig.reports.take(about("a", kind))
        await rig.clock.advance(5)
        assert rig.sinks["ops"].kinds == ["resolved"]
        assert counts(rig) == {"ok": 1, "again": 1, "dropped": 1, "dropped-superseded": 1}


@pytest.mark.parametrize(
    ("kind", "expires_s"), [pytest.param(Kind.FIRED, EXPIRES_S, id="fired"), pytest.param(Kind.RESOLVED, RESOLVED_EXPIRES_S, id="resolved")]
)
async def test_old_news_are_dropped(kind: Kind, expires_s: float) -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [DOWN]
        rig.reports.take(about("a", kind))
        await rig.clock.advance(expires_s - 1)
        assert "dropped" not in counts(rig)
        await rig.clock.advance(BACK_OFF_MAX_S + 1)
        assert counts(rig)["dropped-expired"] == 1
        assert rig.recorder.value(NOTIFICATION_QUEUE, "ops") == 0


async def test_a_full_queue_loses_its_oldest() -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [TransientError("down", retry_after_s=60.0), None]
        for number in range(QUEUE_MAX + 11):
            rig.reports.take(about(f"c{number}"))
            await rig.clock.settle()
        assert rig.recorder.value(NOTIFICATION_QUEUE, "ops") == QUEUE_MAX
        assert counts(rig)["dropped-full"] == 11
        await rig.clock.advance(120)
        names = [made.change.incident.finding.container for made in rig.sinks["ops"].taken]
        assert (len(names), names[0], names[-1]) == (QUEUE_MAX, "c11", f"c{QUEUE_MAX + 10}")


async def test_pace_is_kept() -> None:
    async with telling(pace_s=1.0) as rig:
        for number in range(5):
            rig.reports.take(about(f"c{number}"))
        await rig.clock.advance(10)
        assert waits(rig) == [1.0] * 4


async def test_what_is_open_is_said_again() -> None:
    standing = [about("a"), replace(about("b"), sinks=("another",))]
    async with telling(remind_s=60.0, standing=lambda: standing) as rig:
        await rig.clock.advance(59)
        assert rig.sinks["ops"].taken == []
        await rig.clock.advance(62)
        assert [made.change.incident.finding.container for made in rig.sinks["ops"].taken] == ["a", "a"]
        assert rig.events.taken == []


async def test_reminders_wait_for_a_sink_that_fails_and_for_news() -> None:
    standing = [about("a"), about("b")]
    async with telling(remind_s=60.0, standing=lambda: standing) as rig:
        rig.sinks["ops"].script = [DOWN, None]
        await rig.clock.advance(63)
        assert [made.change.incident.finding.container for made in rig.sinks["ops"].taken] == ["a", "b"]


@pytest.mark.parametrize(
    ("outcome", "taken", "left"),
    [
        pytest.param(None, 3, None, id="it-takes-them"),
        pytest.param(DOWN, 0, 3, id="it-is-down"),
        pytest.param(asyncio.Event(), 0, 2, id="it-hangs"),
    ],
)
async def test_at_the_end_each_is_tried_once_more(outcome: Exception | asyncio.Event | None, taken: int, left: int | None) -> None:
    async with telling() as rig:
        rig.sinks["ops"].script = [TransientError("later", retry_after_s=300.0), outcome]
        for name in "abc":
            rig.reports.take(about(name))
        await rig.clock.settle()
        closing = asyncio.create_task(rig.reports.close(3.0))
        await rig.clock.advance(3)
        await closing
        assert len(rig.sinks["ops"].taken) == taken
        assert counts(rig).get("dropped-shutdown") == left
        assert rig.sinks["ops"].closed == rig.events.closed == 1


@given(
    st.lists(st.sampled_from([None, DOWN, PermanentError("no"), RuntimeError("bug")]), max_size=30), st.integers(0, 9), st.integers(0, 99)
)
@settings(max_examples=15, deadline=None)
def test_every_report_ends_in_just_one_way(script: list[Exception | None], number: int, seed: int) -> None:
    async def play() -> None:
        async with telling(seed=seed) as rig:
            rig.sinks["ops"].script = [*script, None]
            for each in range(number):
                rig.reports.take(about(f"c{each % 4}", Kind.UPDATED))
                await rig.clock.advance(1)
            await rig.clock.advance(RESOLVED_EXPIRES_S)
            found = counts(rig)
            assert found.get("ok", 0) + found.get("dropped", 0) == number
            assert rig.recorder.value(NOTIFICATION_QUEUE, "ops") == 0

    asyncio.run(play())
