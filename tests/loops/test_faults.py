"""What a sick Prometheus makes of the loop: nothing is written that a correct observer would not write, it is said why, and it ends.

The rows of docs/failures.md that are about the metric source. The loop, the Prometheus adapter and the wire are real; the server is the
fault server. Each row: ten replicas under a load of ten, then the fault while the load triples, then a good answer again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path

import pytest

from autoscaler.adapters.memory import MemoryCluster
from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.clock import ManualClock
from autoscaler.core.plant import Plant
from autoscaler.core.spec import Query, SeriesSpec, WorkloadSpec
from autoscaler.loops.board import Board
from autoscaler.loops.group import Surroundings
from autoscaler.loops.observe import CLOSE_AFTER_S
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.prometheus.server import Behaviour, Exchange, FaultServer, head, refusal, reply, success
from tests.core import build
from tests.loops.rig import INTERVAL_S, START_S

LOGIN = b"<!DOCTYPE html><title>Sign in</title>"
BEFORE, BEHIND, AFTER = 10.0, 30.0, 12.0
DATE = b"Tue, 14 Nov 2023 22:14:00 GMT"
"""What the fault server dates every answer with."""


@dataclass
class Rig:
    """A loop over one workload, whose only source is the fault server; its time is the clock's."""

    server: FaultServer
    clock: ManualClock
    cluster: MemoryCluster
    board: Board
    skew_s: float = 0.0
    written: list[int] = field(default_factory=list)

    def serve(self, behave: Behaviour) -> None:
        """Answer so from now on, dated with the clock's time."""

        def dated(exchange: Exchange) -> None:
            now = formatdate(self.clock.now() + self.skew_s, usegmt=True).encode()
            send = exchange.send
            exchange.send = lambda data: send(data.replace(DATE, now))  # type: ignore[method-assign]
            behave(exchange)

        self.server.behave = dated

    @staticmethod
    def loaded(load: float) -> Behaviour:
        """A good answer."""
        return number(str(load))

    async def tick(self, *, closes: bool = False) -> dict[str, object]:
        """One tick, up to its decision; ``closes``: nothing answers, so time must pass until the observation ends by itself."""
        due = (self.clock.now() // INTERVAL_S + 1) * INTERVAL_S
        await self.clock.advance(due - self.clock.now())
        if closes:
            await self.clock.advance(CLOSE_AFTER_S)
        async with asyncio.timeout(20):
            while (row := self.row())["at_s"] != due:  # noqa: ASYNC110 - the answer is on its way over a real wire
                await asyncio.sleep(0.002)
        await self.clock.settle()
        return row

    def row(self) -> dict[str, object]:
        decisions = (self.board.workload("shop", "web") or {}).get("decisions") or [{"at_s": None}]
        found: dict[str, object] = decisions[0]
        return found


def _time(exchange: Exchange) -> float:
    return float(exchange.request.params["time"])


def spec() -> WorkloadSpec:
    return build.spec("web", series=(SeriesSpec("requests", Query("load"), 1.0),))


@asynccontextmanager
async def running(server: FaultServer, endpoint: Callable[[Endpoint], Endpoint] = lambda each: each) -> AsyncIterator[Rig]:
    clock, recorder = ManualClock(START_S), MemoryRecorder()
    source = PrometheusSource({"default": endpoint(Endpoint(server.url))}, recorder)
    cluster = MemoryCluster(clock, Plant(startup_s=0.0))
    cluster.create(build.workload("web"), int(BEFORE))
    loop = ScalingLoop(Surroundings(source, cluster, clock, recorder, asyncio.Semaphore(2)))
    rig = Rig(server, clock, cluster, Board(loop, cluster, recorder))

    async def note(_: object, replicas: int) -> None:
        rig.written.append(replicas)

    cluster.before = note
    loop.update([spec()])
    tasks = [asyncio.create_task(cluster.run()), asyncio.create_task(loop.run())]
    try:
        yield rig
    finally:
        await loop.close(0.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await source.close()


def half(exchange: Exchange) -> None:
    exchange.send(head(200, 400) + success("vector", [])[:30])
    exchange.reset()


def drip(exchange: Exchange) -> None:
    exchange.drip(head(200, 100) + success("vector", []))


def sixty_megabytes(exchange: Exchange) -> None:
    exchange.send(head(200, None))
    for _ in range(60):
        exchange.send(b" " * 2**20)


def number(text: str) -> Behaviour:
    return lambda exchange: reply(200, success("vector", [{"metric": {}, "value": [_time(exchange), text]}]))(exchange)


FAULTS = [
    pytest.param(reply(200, LOGIN, "text/html"), "WRONG_TYPE", "200 with text/html", id="login-page"),
    pytest.param(reply(401), "UNREACHABLE", "401 Unauthorized", id="401"),
    pytest.param(reply(403), "UNREACHABLE", "403 Forbidden", id="403"),
    pytest.param(reply(404), "WRONG_TYPE", "no Prometheus API there", id="404"),
    pytest.param(reply(422, refusal("execution", "many-to-many")), "REFUSED", "many-to-many", id="422"),
    pytest.param(reply(429, headers={"Retry-After": "60"}), "UNREACHABLE", "429 Too Many Requests", id="429"),
    pytest.param(reply(500), "UNREACHABLE", "500 Internal Server Error", id="500"),
    pytest.param(reply(503), "UNREACHABLE", "503 Service Unavailable", id="503"),
    pytest.param(reply(200, b""), "WRONG_TYPE", "empty body", id="empty-body"),
    pytest.param(reply(200, success("vector", [])[:-9]), "WRONG_TYPE", "not in the form", id="truncated-json"),
    pytest.param(reply(200, b"ok", "text/plain"), "WRONG_TYPE", "text/plain instead of JSON", id="wrong-content-type"),
    pytest.param(reply(200, success("scalar", [1, "30"])), "WRONG_TYPE", "a scalar", id="wrong-result-type"),
    pytest.param(sixty_megabytes, "WRONG_TYPE", "larger than 16 MiB", id="60-mb-answer"),
    pytest.param(Exchange.reset, "UNREACHABLE", "Connection reset", id="connection-reset"),
    pytest.param(half, "UNREACHABLE", "Connection reset", id="reset-within-the-answer"),
    pytest.param(reply(200, success("vector", [])), "EMPTY", "no series", id="lost-its-data"),
    pytest.param(number("NaN"), "NAN", "NaN", id="nan"),
    pytest.param(number("+Inf"), "INFINITE", "infinite", id="infinite"),
    pytest.param(number("-1"), "NEGATIVE", "negative", id="negative"),
]


@pytest.fixture
def server() -> FaultServer:
    return FaultServer()


async def suffer(rig: Rig, signal: str, words: str, ticks: int = 2, *, closes: bool = False, reason: str = "NO_DATA") -> None:
    """The fault lasts for some ticks: nothing is written, and it is said why."""
    for _ in range(ticks):
        row = await rig.tick(closes=closes)
        series = row["series"][0]  # type: ignore[index]
        assert (rig.cluster.replicas(build.workload("web")), row["reason"], series["signal"]) == (BEFORE, reason, signal)
        assert words in series["detail"]
        assert words in str(row["why"])
    assert rig.written == []


async def recover(rig: Rig) -> None:
    """The second tick at the latest follows the load again (the first may still wait for an answer that is on its way)."""
    rig.skew_s = 0.0
    rig.serve(rig.loaded(AFTER))
    for _ in range(2):
        if not rig.written:
            await rig.tick()
    await rig.clock.settle()
    assert rig.written == [int(AFTER)]
    assert rig.cluster.replicas(build.workload("web")) == AFTER


@pytest.mark.parametrize(("behave", "signal", "words"), FAULTS)
async def test_an_answer_that_is_none_holds(
    server: FaultServer, caplog: pytest.LogCaptureFixture, *, behave: Behaviour, signal: str, words: str
) -> None:
    with server, caplog.at_level(logging.INFO, "autoscaler"):
        async with running(server) as rig:
            rig.serve(rig.loaded(BEFORE))
            await rig.tick()
            rig.serve(behave)
            await suffer(rig, signal, words)
            await recover(rig)
    assert [record for record in caplog.records if record.exc_info] == [], "no traceback"
    assert sum(words in line for line in caplog.messages) == 1, "said once, not at every tick"
    assert len(server.requests) <= 6, "one question a tick"


@pytest.mark.parametrize("behave", [pytest.param(Exchange.hang, id="says-nothing"), pytest.param(drip, id="one-byte-at-a-time")])
async def test_an_answer_that_does_not_end_holds_and_is_not_asked_for_twice(server: FaultServer, behave: Behaviour) -> None:
    with server:
        async with running(server) as rig:
            rig.serve(rig.loaded(BEFORE))
            await rig.tick()
            rig.serve(behave)
            asked = len(server.requests)
            await suffer(rig, "TIMEOUT", "no answer", 1, closes=True)
            while len(server.requests) == asked:  # noqa: ASYNC110 - over a real wire, while the clock is ours
                await asyncio.sleep(0.002)
            await suffer(rig, "TIMEOUT", "still no answer to an earlier tick's question", 2)
            assert len(server.requests) == asked + 1
            server.stop()
            server.start()
            await recover(rig)


async def test_a_server_that_is_gone_holds(server: FaultServer) -> None:
    with server:
        async with running(server) as rig:
            rig.serve(rig.loaded(BEFORE))
            await rig.tick()
            server.stop()
            await suffer(rig, "UNREACHABLE", "Connection refused")
            server.start()
            await recover(rig)


async def test_a_connection_that_nobody_accepts_holds(server: FaultServer) -> None:
    with server:
        async with running(server) as rig:
            rig.serve(rig.loaded(BEFORE))
            await rig.tick()
            server.stop()
            server.accepting = False
            server.start()
            await suffer(rig, "TIMEOUT", "no answer", 1, closes=True)
            rig.serve(rig.loaded(AFTER))
            asked = len(server.requests)
            server.accepting = True
            async with asyncio.timeout(20):
                while len(server.requests) == asked:  # noqa: ASYNC110 - the question that waited is on its way over a real wire
                    await asyncio.sleep(0.002)
            await recover(rig)


@pytest.mark.parametrize("skew_s", [pytest.param(3600.0, id="ahead"), pytest.param(-3600.0, id="behind")])
async def test_a_server_in_another_hour_holds(server: FaultServer, skew_s: float) -> None:
    with server:
        async with running(server) as rig:
            rig.serve(rig.loaded(BEFORE))
            await rig.tick()
            rig.skew_s = skew_s
            rig.serve(rig.loaded(BEHIND))
            await suffer(rig, "CLOCK", f"{skew_s:+.0f} s off", reason="CLOCK_STEP")
            await recover(rig)


async def test_a_false_zero_holds(server: FaultServer) -> None:
    with server:
        async with running(server) as rig:
            rig.serve(rig.loaded(BEFORE))
            await rig.tick()
            rig.serve(rig.loaded(0.0))
            await suffer(rig, "SUDDEN_ZERO", "fell to exactly zero", reason="SUDDEN_ZERO")
            await recover(rig)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        pytest.param(lambda each: replace(each, url="http://no-such-host.invalid:9090"), "its name does not resolve", id="dns"),
        pytest.param(lambda each: replace(each, bearer_token_file="/no/such/token"), "No such file", id="token-file-is-missing"),
    ],
)
async def test_a_source_that_never_answers_holds_from_the_start(
    server: FaultServer, endpoint: Callable[[Endpoint], Endpoint], words: str
) -> None:
    with server:
        async with running(server, endpoint) as rig:
            await suffer(rig, "UNREACHABLE", words)


def test_every_row_is_in_the_docs() -> None:
    table = (Path(__file__).parent.parent.parent / "docs" / "failures.md").read_text()
    assert [param.id for param in FAULTS if f"`{param.id}`" not in table] == []
