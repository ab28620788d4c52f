"""Long ranges and many series: asked for in pieces, joined without a seam."""

import logging

import numpy as np
import pytest

from autoscaler.adapters.prometheus import FIRST_ROWS, POINTS_MAX, SAMPLES_MAX, PrometheusSource
from autoscaler.adapters.prometheus.session import BODY_MAX
from autoscaler.core.spec import Query
from autoscaler.errors import AnswerError, PermanentError, TransientError
from autoscaler.testing.sources import Series
from tests.adapters.prometheus.conftest import LOAD
from tests.adapters.prometheus.server import ONE, Behaviour, Exchange, FaultServer, refusal, reply, success
from tests.adapters.prometheus.store import Store

START_S = 1_700_000_040.0
BUDGET_S = 20.0


def pieces(server: FaultServer) -> list[tuple[float, int]]:
    """Start and rows of each query that was asked."""
    spans = [(float(each.params["start"]), float(each.params["end"]), float(each.params["step"])) for each in server.requests]
    return [(start, round((end - start) / step) + 1) for start, end, step in spans]


@pytest.mark.parametrize(
    ("rows", "series", "expected"),
    [
        pytest.param(1, 1, [1], id="one-point"),
        pytest.param(FIRST_ROWS, 3, [FIRST_ROWS], id="at-once"),
        pytest.param(240, 1, [10, 230], id="a-recent-ring"),
        pytest.param(11_010, 1, [10, 11_000], id="as-long-as-prometheus-answers"),
        pytest.param(11_011, 1, [10, 11_000, 1], id="one-more"),
        pytest.param(240, 0, [10, 230], id="no-series"),
        pytest.param(240, 500, [10, 100, 100, 30], id="many-series"),
    ],
)
async def test_pieces(source: PrometheusSource, server: FaultServer, rows: int, series: int, expected: list[int]) -> None:
    at = np.arange(rows)
    server.behave = Store(
        [Series("load", [1000.0 * k + row for row in range(rows)], (("n", str(k)),), START_S, 15.0) for k in range(series)]
    )
    matrix = await source.range(LOAD, START_S, START_S + 15.0 * (rows - 1), 15.0, BUDGET_S)
    asked = pieces(server)
    assert [count for _, count in asked] == expected
    assert all(count <= POINTS_MAX and count * series <= SAMPLES_MAX for _, count in asked)
    starts = [start for start, _ in asked]
    assert starts == sorted(starts, reverse=True)
    assert ((np.array(starts) - START_S) % 15.0 == 0).all()
    assert sum(expected) == rows  # no row is asked for twice
    number = np.array([float(labels["n"]) for labels in matrix.labels])
    np.testing.assert_array_equal(matrix.at_s, START_S + 15.0 * at)
    np.testing.assert_array_equal(matrix.values, 1000.0 * number[None, :] + at[:, None])


async def test_end_between_two_rows_is_left_out(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Store([Series("load", [1.0, 2.0, 3.0], step_s=15.0)])
    matrix = await source.range(LOAD, START_S, START_S + 29.9, 15.0, BUDGET_S)
    assert (matrix.at_s.tolist(), matrix.values.tolist()) == ([START_S, START_S + 15.0], [[1.0], [2.0]])


async def test_step_that_is_no_binary_fraction(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Store([Series("load", [float(row) for row in range(400)], step_s=0.1)])
    matrix = await source.range(LOAD, START_S, START_S + 0.1 * 399, 0.1, BUDGET_S)
    assert matrix.at_s.size == 400
    assert not np.isnan(matrix.values).any()


async def test_series_of_other_pieces(source: PrometheusSource, server: FaultServer) -> None:
    """A series that had ended before the newest piece, and one that has only begun there, keep their own columns."""
    rows = 100
    old = Series("load", [1.0] * 30, (("app", "old"),), START_S, 60.0)
    new = Series("load", [2.0] * 5, (("app", "new"),), START_S + 60.0 * 95, 60.0)
    server.behave = Store([old, new])
    matrix = await source.range(LOAD, START_S, START_S + 60.0 * (rows - 1), 60.0, BUDGET_S)
    columns = {labels["app"]: matrix.values[:, column] for column, labels in enumerate(matrix.labels)}
    assert np.flatnonzero(~np.isnan(columns["new"])).tolist() == list(range(95, 100))
    assert np.flatnonzero(~np.isnan(columns["old"])).tolist() == list(range(34))  # visible for five minutes more
    assert set(columns) == {"old", "new"}


async def test_piece_that_the_server_calls_too_much_is_split(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = Store([Series("load", [float(row) for row in range(1000)])], samples_max=100)
    matrix = await source.range(LOAD, START_S, START_S + 60.0 * 999, 60.0, BUDGET_S)
    np.testing.assert_array_equal(matrix.values[:, 0], np.arange(1000))


async def test_piece_that_is_too_large_for_us_is_split(source: PrometheusSource, server: FaultServer) -> None:
    store = Store([Series("load", [float(row) for row in range(100)])])

    def answer(exchange: Exchange) -> None:
        params = exchange.request.params
        rows = round((float(params["end"]) - float(params["start"])) / 60) + 1
        if rows > 20:
            reply(200, b" " * (BODY_MAX + 1))(exchange)
        else:
            store(exchange)

    server.behave = answer
    matrix = await source.range(LOAD, START_S, START_S + 60.0 * 99, 60.0, BUDGET_S)
    np.testing.assert_array_equal(matrix.values[:, 0], np.arange(100))


@pytest.mark.parametrize(
    ("behave", "kind", "words"),
    [
        pytest.param(reply(200, b" " * (BODY_MAX + 1)), AnswerError, "larger than 16 MiB", id="too-large-for-us"),
        pytest.param(
            reply(422, refusal("execution", "query processing would load too many samples into memory")),
            PermanentError,
            "too many",
            id="for-it",
        ),
    ],
)
async def test_splitting_has_an_end(
    source: PrometheusSource, server: FaultServer, behave: Behaviour, kind: type[Exception], words: str
) -> None:
    server.behave = behave
    with pytest.raises(kind, match=words):
        await source.range(LOAD, START_S, START_S + 15.0 * 999, 15.0, BUDGET_S)
    assert [rows for _, rows in pieces(server)] == [10, 2, 1]


async def test_piece_that_fails_fails_the_range(source: PrometheusSource, server: FaultServer) -> None:
    store = Store([Series("load", [1.0] * 100)])

    def answer_once(exchange: Exchange) -> None:
        server.behave = reply(503)
        store(exchange)

    server.behave = answer_once
    with pytest.raises(TransientError, match="503"):
        await source.range(LOAD, START_S, START_S + 60.0 * 99, 60.0, BUDGET_S)
    assert len(server.requests) == 2


async def test_budget_is_for_all_pieces(source: PrometheusSource, server: FaultServer) -> None:
    store = Store([Series("load", [1.0] * 100)])

    def slow_down(exchange: Exchange) -> None:
        if len(server.requests) > 1:
            exchange.hang()
        else:
            exchange.stopped.wait(0.1)
            store(exchange)

    server.behave = slow_down
    with pytest.raises(TransientError, match=r"no answer within 0\.[01]"):
        await source.range(LOAD, START_S, START_S + 60.0 * 99, 60.0, 0.2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(ONE, "a range vector is needed, but the query gives an instant vector", id="vector"),
        pytest.param(success("matrix", [{"metric": {}, "histograms": [[START_S, {}]]}]), "native histograms", id="histograms"),
        pytest.param(
            success("matrix", [{"metric": {}, "values": [[START_S, "many"]]}]), "could not convert string to float: 'many'", id="no-number"
        ),
    ],
)
async def test_answer_of_another_type(source: PrometheusSource, server: FaultServer, body: bytes, words: str) -> None:
    server.behave = reply(200, body)
    with pytest.raises(AnswerError, match=words):
        await source.range(LOAD, START_S, START_S, 15.0, BUDGET_S)


async def test_samples_off_the_grid_go_to_the_nearest_row(source: PrometheusSource, server: FaultServer) -> None:
    """A query front-end may align the grid to the step, and give a row more."""
    values = [[START_S - 3 + 15 * row, str(row)] for row in range(4)]
    server.behave = reply(200, success("matrix", [{"metric": {}, "values": values}]))
    matrix = await source.range(LOAD, START_S, START_S + 30, 15.0, BUDGET_S)
    assert matrix.values[:, 0].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("span", [(START_S, START_S - 1, 15.0), (START_S, START_S, 0.0), (START_S, START_S, float("nan"))])
async def test_span_that_is_none(source: PrometheusSource, server: FaultServer, span: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected start ≤ end and a step above 0"):
        await source.range(LOAD, *span, BUDGET_S)
    assert server.requests == []


async def test_notices_are_logged_once(source: PrometheusSource, server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    server.behave = reply(200, success("vector", [], warnings=["one store is down"], infos=["no counter"]))
    with caplog.at_level(logging.INFO, logger="autoscaler.adapters.prometheus"):
        for text in ("load", "load", "other"):
            await source.instant(Query(text), START_S, BUDGET_S)
    told = [(record.levelname, record.getMessage().partition("): ")[2]) for record in caplog.records]
    assert told == [
        ("WARNING", "one store is down (query: load)"),
        ("INFO", "no counter (query: load)"),
        ("WARNING", "one store is down (query: other)"),
        ("INFO", "no counter (query: other)"),
    ]
