"""Threads that hang are replaced within a bound, slow questions hold up no others, and nothing keeps the process alive."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.adapters.prometheus.crew import STUCK_MAX, Crew
from autoscaler.adapters.prometheus.endpoint import Credentials
from autoscaler.adapters.prometheus.lanes import PLACES, SLOW_PLACES, Lanes
from autoscaler.adapters.prometheus.session import Session
from autoscaler.core.spec import Query
from autoscaler.errors import PermanentError, TransientError
from autoscaler.metrics import QUERY_THREADS_STUCK
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.prometheus.conftest import LOAD, asking_threads
from tests.adapters.prometheus.server import ONE, Exchange, FaultServer, reply, success

AT_S = 1_700_000_040.0
BUDGET_S = 5.0


class StubbornLine:
    """What a call hangs in, until the test lets go; cutting it helps only if `yields`."""

    def __init__(self, *, yields: bool) -> None:
        self.yields, self.cuts, self.closed_by = yields, 0, ""
        self._free = threading.Event()

    def hang(self) -> str:
        self._free.wait(10.0)
        return "at last"

    def let_go(self) -> None:
        self._free.set()

    def cut(self) -> None:
        self.cuts += 1
        if self.yields:
            self._free.set()

    def close(self) -> None:
        threading.Event().wait(0.02)  # as a real one may
        self.closed_by = threading.current_thread().name


class Stage:
    """A crew, and the lines that it has opened."""

    def __init__(self) -> None:
        self.lines: list[StubbornLine] = []
        self.yields = False
        self.crew = Crew("the server", self._open)

    def _open(self) -> StubbornLine:
        self.lines.append(StubbornLine(yields=self.yields))
        return self.lines[-1]

    async def give_up_on(self, calls: int) -> None:
        """Start calls that hang, and wait no longer for them."""
        tasks = [asyncio.create_task(self.crew.run(StubbornLine.hang)) for _ in range(calls)]
        await asyncio.wait(tasks, timeout=0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)

    async def until_stuck_are(self, expected: int) -> None:
        for _ in range(200):
            if self.crew.stuck == expected:
                return
            await asyncio.sleep(0.005)
        pytest.fail(f"{self.crew.stuck} threads are stuck, not {expected}")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    built = Stage()
    yield built
    for line in built.lines:
        line.let_go()
    await built.crew.close()


async def test_thread_and_line_are_used_again(stage: Stage) -> None:
    first = await stage.crew.run(lambda _: threading.current_thread())
    assert await stage.crew.run(lambda _: threading.current_thread()) is first
    assert first.daemon
    assert len(stage.lines) == 1


async def test_errors_of_ours_come_through(stage: Stage) -> None:
    def refuse(line: StubbornLine) -> None:
        raise PermanentError(f"no {type(line).__name__}")

    with pytest.raises(PermanentError, match="no StubbornLine"):
        await stage.crew.run(refuse)
    assert await stage.crew.run(lambda _: "fine") == "fine"
    assert len(stage.lines) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_bug_ends_its_thread_and_nothing_else(stage: Stage) -> None:
    with pytest.raises(TransientError, match="the server: the request failed by a fault of ours; the log has its traceback"):
        await stage.crew.run(lambda _: 1 // 0)
    assert await stage.crew.run(lambda _: "fine") == "fine"
    await stage.crew.close()
    assert [line.closed_by for line in stage.lines] == ["the server"] * 2


async def test_thread_that_lets_go_when_cut_is_gone_at_once(stage: Stage) -> None:
    stage.yields = True
    for _ in range(3 * STUCK_MAX):
        await stage.give_up_on(1)
        await stage.until_stuck_are(0)
    assert all(line.closed_by for line in stage.lines)


async def test_threads_that_hang_are_replaced_within_a_bound(stage: Stage) -> None:
    await stage.give_up_on(STUCK_MAX - 1)
    assert await stage.crew.run(lambda _: "replaced") == "replaced"
    await stage.give_up_on(1)
    assert stage.crew.stuck == STUCK_MAX
    with pytest.raises(TransientError, match=f"the server: {STUCK_MAX} requests hang beyond their deadline; nothing is asked until one"):
        await stage.crew.run(lambda _: "never")
    hanging = [line for line in stage.lines if not line.closed_by]
    assert [line.cuts for line in hanging] == [2] * STUCK_MAX  # at the deadline, and when the next question came
    hanging[0].let_go()
    await stage.until_stuck_are(STUCK_MAX - 1)
    assert await stage.crew.run(lambda _: "again") == "again"


async def test_late_answer_disturbs_nobody(stage: Stage) -> None:
    await stage.give_up_on(1)
    stage.lines[0].let_go()
    await stage.until_stuck_are(0)
    assert await stage.crew.run(lambda _: "mine") == "mine"


async def test_close_ends_what_is_under_way(stage: Stage) -> None:
    stage.yields = True
    asked = [asyncio.create_task(stage.crew.run(StubbornLine.hang)) for _ in range(3)]
    await asyncio.wait(asked, timeout=0.01)
    await stage.crew.close()
    assert [str(task.exception()) for task in asked] == ["the server: closed"] * 3
    assert [thread for thread in threading.enumerate() if thread.name == "the server"] == []
    with pytest.raises(TransientError, match="the server: closed"):
        await stage.crew.run(lambda _: "never")


async def test_threads_that_hang_are_shown(stage: Stage, source: PrometheusSource, recorder: MemoryRecorder) -> None:
    assert source is not None
    assert recorder.values(QUERY_THREADS_STUCK) == {("default",): 0.0}
    await stage.give_up_on(2)
    assert Lanes("default", "the server", stage.crew, recorder).stuck == 2


async def test_close_waits_for_threads_after_earlier_ones_have_gone(stage: Stage) -> None:
    stage.yields = True
    await stage.give_up_on(1)
    await stage.until_stuck_are(0)
    await stage.crew.run(lambda _: "idle now")
    await stage.crew.close()
    assert [thread for thread in threading.enumerate() if thread.name == "the server"] == []


async def test_close_leaves_behind_what_cannot_be_ended(stage: Stage) -> None:
    await stage.give_up_on(1)
    began_s = asyncio.get_running_loop().time()
    await stage.crew.close()
    assert asyncio.get_running_loop().time() - began_s < 2.0
    assert stage.crew.stuck == 1


def test_session_that_was_cut_asks_nothing_more(server: FaultServer) -> None:
    endpoint = Endpoint(server.url)
    session = Session("here", endpoint, Credentials("here", endpoint))
    session.silence_s = 1.0
    assert session.request("GET", f"{server.url}/api/v1/query").status_code == 200
    session.cut()
    for _ in range(2):
        with pytest.raises(TransientError, match="here: "):
            session.request("GET", f"{server.url}/api/v1/query")
    assert len(server.requests) == 1
    session.close()


@contextmanager
def hanging(server: FaultServer) -> Iterator[list[int]]:
    """Questions about slow_… hang; yields how many hung at once, as a list with its highest value last."""
    lock, now, most = threading.Lock(), [0], [0]

    def behave(exchange: Exchange) -> None:
        if not exchange.request.params["query"].startswith("slow"):
            reply(200, ONE)(exchange)
            return
        with lock:
            now[0] += 1
            most.append(max(most[-1], now[0]))
        exchange.hang()
        with lock:
            now[0] -= 1

    server.behave = behave
    yield most


async def ask_all(source: PrometheusSource, names: list[str], budget_s: float) -> list[str]:
    """What became of each question."""
    asked = [source.instant(Query(name), AT_S, budget_s) for name in names]
    return [
        str(outcome).partition(": ")[2] if isinstance(outcome, Exception) else "ok"
        for outcome in await asyncio.gather(*asked, return_exceptions=True)
    ]


SLOW = [f"slow_{index}" for index in range(PLACES)]


async def until_hang(most: list[int], count: int) -> None:
    """Wait until so many questions hang in the server at once."""
    async with asyncio.timeout(BUDGET_S):
        while most[-1] < count:  # noqa: ASYNC110 - they are on their way over a real wire
            await asyncio.sleep(0.002)


async def test_questions_at_once_are_bounded(source: PrometheusSource, server: FaultServer) -> None:
    with hanging(server) as most:
        first = asyncio.create_task(ask_all(source, SLOW, 1.5))
        await until_hang(most, PLACES)
        waiting = await ask_all(source, [f"slow_{index}" for index in range(PLACES, 3 * PLACES)], 0.1)
        assert waiting == ["not asked within 0.1 s; other questions kept its connections busy"] * 2 * PLACES
        assert all("no answer" in outcome for outcome in await first)
    assert most[-1] == len(server.requests) == PLACES


async def until_none_is_stuck(recorder: MemoryRecorder) -> None:
    """Let threads that were cut come to their end."""
    async with asyncio.timeout(BUDGET_S):
        while recorder.values(QUERY_THREADS_STUCK) != {("default",): 0.0}:  # noqa: ASYNC110 - threads end when they do
            await asyncio.sleep(0.002)


async def known_to_be_slow(source: PrometheusSource, server: FaultServer, recorder: MemoryRecorder) -> None:
    """Let the slow questions have no answer in time, each once."""
    with hanging(server) as most:
        asking = asyncio.create_task(ask_all(source, SLOW, 0.5))
        await until_hang(most, PLACES)
        assert all("no answer" in outcome for outcome in await asking)
    await until_none_is_stuck(recorder)


async def test_slow_questions_hold_up_no_others(source: PrometheusSource, server: FaultServer, recorder: MemoryRecorder) -> None:
    await known_to_be_slow(source, server, recorder)
    with hanging(server) as most:
        slow = asyncio.create_task(ask_all(source, SLOW, 2 * BUDGET_S))
        await until_hang(most, SLOW_PLACES)
        assert await ask_all(source, [f"quick_{index}" for index in range(40)], BUDGET_S) == ["ok"] * 40
        assert not slow.done(), "quick questions have waited for the slow ones"
        assert most[-1] == SLOW_PLACES
        slow.cancel()
        await asyncio.wait([slow])


async def test_slow_question_that_turns_quick_is_quick_again(
    source: PrometheusSource, server: FaultServer, recorder: MemoryRecorder
) -> None:
    await known_to_be_slow(source, server, recorder)
    server.behave = reply(200, ONE)
    assert await ask_all(source, SLOW, BUDGET_S) == ["ok"] * PLACES
    with hanging(server) as most:
        asking = asyncio.create_task(ask_all(source, SLOW, 2 * BUDGET_S))
        await until_hang(most, PLACES)
        asking.cancel()
        await asyncio.wait([asking])


async def test_ranges_hold_up_no_ticks(source: PrometheusSource, server: FaultServer) -> None:
    with hanging(server) as most:
        ranges = [asyncio.create_task(source.range(Query(name), AT_S, AT_S, 15, 2 * BUDGET_S)) for name in SLOW]
        await until_hang(most, SLOW_PLACES)
        assert await ask_all(source, ["quick"] * 40, BUDGET_S) == ["ok"] * 40
        assert not any(task.done() for task in ranges)
        assert most[-1] == SLOW_PLACES
        for task in ranges:
            task.cancel()
        await asyncio.gather(*ranges, return_exceptions=True)


async def test_sick_endpoint_holds_up_no_other(server: FaultServer, recorder: MemoryRecorder) -> None:
    with FaultServer() as sick:
        sick.behave = lambda exchange: exchange.drip(success("vector", []))
        source = PrometheusSource({"default": Endpoint(server.url), "sick": Endpoint(sick.url)}, recorder)
        dripping = [asyncio.ensure_future(source.instant(Query(f"load_{index}", "sick"), AT_S, 0.5)) for index in range(20)]
        await asyncio.wait(dripping, timeout=0.05)
        assert await ask_all(source, [f"load_{index}" for index in range(180)], BUDGET_S) == ["ok"] * 180
        assert len(sick.requests) == 1, "questions of one moment travel together"
        assert not any(task.done() for task in dripping)
        outcomes = await asyncio.gather(*dripping, return_exceptions=True)
        assert all(isinstance(outcome, TransientError) for outcome in outcomes)
        await source.close()


async def test_many_deadlines_leave_no_thread_stuck(source: PrometheusSource, server: FaultServer, recorder: MemoryRecorder) -> None:
    """One whose own patience ended a moment before it was cut is idle, and goes on."""
    with hanging(server):
        for _ in range(25):
            await ask_all(source, SLOW, 0.01)
            assert len(asking_threads()) <= PLACES + STUCK_MAX
        await until_none_is_stuck(recorder)
        assert len(asking_threads()) <= PLACES
    server.behave = reply(200, ONE)
    assert (await source.instant(LOAD, AT_S, BUDGET_S)).values.tolist() == [42.0]


def test_process_ends_while_a_request_hangs(server: FaultServer) -> None:
    """Even if nobody closes the source: neither asyncio.run nor the interpreter waits for its threads."""
    server.behave = Exchange.hang
    program = f"""
import asyncio
from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.core.spec import Query
from autoscaler.testing.recorder import MemoryRecorder

async def main():
    source = PrometheusSource({{"default": Endpoint({server.url!r})}}, MemoryRecorder())
    asked = asyncio.ensure_future(source.instant(Query("load"), 0.0, 600.0))
    await asyncio.wait([asked], timeout=0.1)
    print("leaving", flush=True)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")
