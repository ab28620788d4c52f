"""Many questions of one moment travel in a few requests, and nobody suffers from whom it travels with."""

import asyncio
import re
from collections.abc import Callable, Mapping
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.prometheus import PrometheusSource
from autoscaler.adapters.prometheus.batches import FEW, MOST, PATIENCE_S, SMALL, TEXT_MAX, is_whole, together
from autoscaler.adapters.prometheus.lanes import PLACES
from autoscaler.core.spec import Query
from autoscaler.ports import Vector
from tests.adapters.prometheus.server import Exchange, FaultServer, Request, refusal, reply, success

AT_S = 1_700_000_040.0
BUDGET_S = 5.0
NAMES = [f"load_{number}" for number in range(40)]
_PART = re.compile(r'label_replace\(\(\n(.*?)\n\), "autoscaler_question", "(\d+)", "", ""\)', re.DOTALL)


def asked(request: Request) -> list[str]:
    """The questions in a request."""
    text = request.params["query"]
    parts = [found for found, _ in _PART.findall(text)]
    assert not parts or together(parts[:-1]) == text
    return parts[:-1] or [text]


class Known:
    """Answers each question with its number, as Prometheus does if it is asked for several; ``odd`` answers some otherwise."""

    def __init__(self, odd: Mapping[str, Callable[[Exchange], None]] | None = None, largest: int = 10_000) -> None:
        self.odd, self.largest = odd or {}, largest

    def __call__(self, exchange: Exchange) -> None:
        questions = asked(exchange.request)
        for name in questions:
            if name in self.odd:
                self.odd[name](exchange)
                return
        if len(questions) > self.largest:
            reply(422, refusal("execution", "query processing would load too many samples into memory"))(exchange)
            return
        several = len(exchange.request.params["query"]) != len(questions[0])
        found = [sample for place, name in enumerate(questions) for sample in self.samples(name, place if several else None)]
        if several:
            found.append({"metric": {"autoscaler_question": str(len(questions))}, "value": [AT_S, "1"]})
        reply(200, success("vector", found))(exchange)

    @staticmethod
    def samples(name: str, place: int | None) -> list[dict[str, object]]:
        mark = {} if place is None else {"autoscaler_question": str(place)}
        if name.startswith("wide"):
            return [{"metric": {"app": f"{k}", **mark}, "value": [AT_S, f"{k}"]} for k in range(SMALL + 1)]
        if name.startswith("empty"):
            return []
        return [{"metric": {"app": name, **mark}, "value": [AT_S, name.rpartition("_")[2]]}]


async def ask(source: PrometheusSource, names: list[str], budget_s: float = BUDGET_S) -> list[Vector | BaseException]:
    return await asyncio.gather(*(source.instant(Query(name), AT_S, budget_s) for name in names), return_exceptions=True)


def values(outcomes: list[Vector | BaseException]) -> list[float | str]:
    """The one value of each, NaN for none, or what was wrong."""
    return [
        (float(each.values[0]) if each.values.size else nan) if isinstance(each, Vector) else str(each).partition(": ")[2]
        for each in outcomes
    ]


NUMBERS: list[float | str] = [float(number) for number in range(40)]


async def test_questions_of_one_moment_travel_together(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known()
    outcomes = await ask(source, NAMES)
    assert values(outcomes) == NUMBERS
    assert [each.labels for each in outcomes if isinstance(each, Vector)] == [({"app": name},) for name in NAMES]
    assert [asked(request) for request in server.requests] == [NAMES]


async def test_few_go_alone(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known()
    assert values(await ask(source, NAMES[:FEW])) == NUMBERS[:FEW]
    assert sorted(asked(request)[0] for request in server.requests) == NAMES[:FEW]


async def test_requests_are_bounded_in_questions_and_text(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known()
    long = [f"{'x' * 900}_{number}" for number in range(20)]
    assert values(await ask(source, long)) == NUMBERS[:20]
    many = [f"n_{number}" for number in range(2 * MOST + 1)]
    assert values(await ask(source, many)) == [float(number) for number in range(2 * MOST + 1)]
    assert max(len(request.params["query"]) for request in server.requests) <= TEXT_MAX + 200
    assert max(len(asked(request)) for request in server.requests) == MOST


async def test_no_data_is_no_data(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known()
    outcomes = await ask(source, [*NAMES, "empty_1"])
    last = outcomes[-1]
    assert isinstance(last, Vector)
    assert (last.labels, last.evaluated_at_s) == ((), AT_S)


REFUSED = reply(400, refusal("bad_data", "parse error: unexpected"))


async def test_who_is_refused_is_refused_alone_and_goes_alone_from_then_on(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known({"load_7": REFUSED, "load_31": REFUSED})
    expected = [*NUMBERS]
    for bad in (7, 31):
        expected[bad] = "refuses the query: bad_data: parse error: unexpected"
    assert values(await ask(source, NAMES)) == expected
    assert len(server.requests) <= 25
    server.requests.clear()
    assert values(await ask(source, NAMES)) == expected
    assert sorted(len(asked(request)) for request in server.requests) == [1, 1, 38]
    server.behave = Known()
    await ask(source, NAMES)
    server.requests.clear()
    assert values(await ask(source, NAMES)) == NUMBERS
    assert [len(asked(request)) for request in server.requests] == [40], "mended, it travels with the others again"


async def test_who_is_slow_costs_the_others_one_wait(source: PrometheusSource, server: FaultServer) -> None:
    loop = asyncio.get_running_loop()
    server.behave = Known({"load_7": Exchange.hang})
    tasks = [asyncio.ensure_future(source.instant(Query(name), AT_S, BUDGET_S)) for name in NAMES]
    began_s = loop.time()
    await asyncio.wait(tasks[:7] + tasks[8:])
    assert PATIENCE_S <= loop.time() - began_s < 2 * PATIENCE_S
    assert not tasks[7].done()
    server.requests.clear()
    assert values(await ask(source, NAMES[:7] + NAMES[8:])) == NUMBERS[:7] + NUMBERS[8:]
    assert [len(asked(request)) for request in server.requests] == [39]
    tasks[7].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_waits_for_a_connection_is_not_slow(source: PrometheusSource, server: FaultServer) -> None:
    known = Known()

    def behave(exchange: Exchange) -> None:
        exchange.stopped.wait(0.2)
        known(exchange)

    server.behave = behave
    rounds = int(1.2 * PATIENCE_S / 0.2)
    names = [f"load_{number}" for number in range(MOST * PLACES * rounds)]
    assert values(await ask(source, names)) == [float(number) for number in range(len(names))]
    assert [len(asked(request)) for request in server.requests] == [MOST] * PLACES * rounds


async def test_a_server_in_trouble_is_asked_by_one_not_by_all(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = reply(503, b"busy", "text/plain", {"Retry-After": "7"})
    outcomes = await ask(source, NAMES)
    assert values(outcomes) == ["answered 503 Service Unavailable: busy"] * 40
    assert {getattr(each, "retry_after_s", None) for each in outcomes} == {7.0}
    assert [len(asked(request)) for request in server.requests] == [40, 1]


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(reply(200, success("vector", [])), id="an empty answer"),
        pytest.param(reply(200, success("vector", [{"metric": {"app": "web"}, "value": [AT_S, "1"]}])), id="a series without a mark"),
        pytest.param(
            reply(200, success("vector", [{"metric": {"autoscaler_question": "900"}, "value": [AT_S, "1"]}])), id="an unknown mark"
        ),
        pytest.param(reply(405, b"no POST here", "text/plain"), id="a gateway that lets no long questions through"),
        pytest.param(reply(403, b"no POST here", "text/plain"), id="a gateway that forbids them"),
    ],
)
async def test_a_server_that_does_not_take_several_at_once_is_asked_one_by_one(
    source: PrometheusSource, server: FaultServer, behave: Callable[[Exchange], None]
) -> None:
    known = Known()
    server.behave = lambda exchange: behave(exchange) if "label_replace" in exchange.request.params["query"] else known(exchange)
    for _ in range(7):
        assert values(await ask(source, NAMES)) == NUMBERS
    server.requests.clear()
    assert values(await ask(source, NAMES)) == NUMBERS
    assert [len(asked(request)) for request in server.requests] == [1] * 40


async def test_requests_that_are_too_much_become_smaller(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known(largest=15)
    for _ in range(3):
        assert values(await ask(source, NAMES)) == NUMBERS
    server.requests.clear()
    assert values(await ask(source, NAMES)) == NUMBERS
    assert 10 in [len(asked(request)) for request in server.requests]
    assert max(len(asked(request)) for request in server.requests) <= 15


async def test_who_has_many_series_goes_alone(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known()
    for _ in range(2):
        server.requests.clear()
        outcomes = await ask(source, [*NAMES, "wide"])
        assert isinstance(outcomes[-1], Vector)
        assert outcomes[-1].values.size == SMALL + 1
    assert sorted(len(asked(request)) for request in server.requests) == [1, 40]


async def test_what_is_remarked_is_told_of_the_question_that_it_is_about(
    source: PrometheusSource, server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    body = success("vector", [], infos=["metric might not be a counter"])
    known = Known()

    def behave(exchange: Exchange) -> None:
        questions = asked(exchange.request)
        if questions == ["load_3"]:
            reply(200, body)(exchange)
        elif "load_3" in questions:
            samples = [sample for place, name in enumerate([*questions, "own_1"]) for sample in known.samples(name, place)]
            reply(200, success("vector", samples, infos=["metric might not be a counter"]))(exchange)
        else:
            known(exchange)

    server.behave = behave
    with caplog.at_level("INFO", "autoscaler"):
        for _ in range(3):
            await ask(source, NAMES)
    told = [record.getMessage() for record in caplog.records if "counter" in record.getMessage()]
    assert len(told) == 1
    assert told[0].endswith("metric might not be a counter (query: load_3)")
    server.requests.clear()
    await ask(source, NAMES)
    assert [len(asked(request)) for request in server.requests] == [40], "once told, it may travel with the others again"


async def test_whoever_waits_no_longer_ends_nobody_elses_question(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Known()
    tasks = [asyncio.ensure_future(source.instant(Query(name), AT_S, BUDGET_S)) for name in NAMES]
    await asyncio.sleep(0)
    tasks[5].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[5], asyncio.CancelledError)
    del outcomes[5]
    assert values(outcomes) == NUMBERS[:5] + NUMBERS[6:]


async def test_a_probe_that_nobody_waits_for_any_more_holds_up_nobody(source: PrometheusSource, server: FaultServer) -> None:
    busy = reply(503, b"busy", "text/plain")

    def behave(exchange: Exchange) -> None:
        exchange.stopped.wait(0.05)
        busy(exchange)

    server.behave = behave
    tasks = [asyncio.ensure_future(source.instant(Query(name), AT_S, BUDGET_S)) for name in NAMES]
    async with asyncio.timeout(BUDGET_S):
        while not server.requests:  # noqa: ASYNC110 - the probe is on its way over a real wire
            await asyncio.sleep(0.005)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert values(outcomes[1:]) == ["answered 503 Service Unavailable: busy"] * 39


async def test_closing_ends_those_that_travel_together(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Exchange.hang
    asking = asyncio.create_task(ask(source, NAMES))
    await asyncio.wait([asking], timeout=0.05)
    await source.close()
    assert values(await asking) == ["closed"] * 40


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        pytest.param("up", True, id="plain"),
        pytest.param('sum(rate(x{a="b", c=~"d|e"}[5m])) / 2', True, id="all kinds of brackets"),
        pytest.param("up) or (up", False, id="closes what it did not open"),
        pytest.param("sum(up", False, id="leaves open"),
        pytest.param("sum(up]", False, id="closes another kind"),
        pytest.param('up{a=")"}', True, id="a bracket in a string"),
        pytest.param("up{a='(\"'}", True, id="a quote in a string"),
        pytest.param(r'up{a="\")"}', True, id="an escaped quote"),
        pytest.param(r'up{a="\\")', False, id="an escaped backslash before the end"),
        pytest.param('up{a="', False, id="an open string"),
        pytest.param('up{a="\n"}', False, id="a line end in a string"),
        pytest.param("up{a=`\\`}", True, id="a raw string has no escapes"),
        pytest.param("up{a=`\n)`}", True, id="a raw string may have line ends"),
        pytest.param("up # ) and more", True, id="a comment"),
        pytest.param("up # (\n)", False, id="a comment ends with its line"),
        pytest.param("up # `\n and x{a=`)`}", True, id="a quote in a comment"),
    ],
)
def test_only_whole_expressions_travel_with_others(text: str, whole: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_whole(text) is whole


@given(st.text(alphabet="ab()[]{}\"'`\\# \n,", max_size=30))
def test_what_is_whole_stays_inside_its_brackets(text: str) -> None:
    """Whatever stands beside it: what follows a whole expression and a line end is read as if it stood there alone."""
    if is_whole(text):
        assert is_whole(f"({text}\n)")
        assert not is_whole(f"({text}\n")
        assert not is_whole(f"{text}\n)")
