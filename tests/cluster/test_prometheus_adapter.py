"""The Prometheus adapter on a real Prometheus: the contract, filled history, a live target that dies, and a server that does."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.core.spec import Query
from autoscaler.core.types import Workload
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.policyfile.coverage import default_coverage
from autoscaler.testing.recorder import MemoryRecorder
from autoscaler.testing.sources import CONTRACT, Check, Fault, Series
from tests.cluster.rig import Exporter, History, Prometheus, wait_until

START_S = 1_700_000_040.0
BUDGET_S = 10.0

NAN_MARK = -1e300
"""Stands for a sample that is NaN: History leaves a gap there."""


@asynccontextmanager
async def opened(prometheus: Prometheus) -> AsyncIterator[PrometheusSource]:
    source = PrometheusSource({"default": Endpoint(prometheus.url)}, MemoryRecorder())
    try:
        yield source
    finally:
        await source.close()


class RealHarness:
    """The adapter on a Prometheus of its own."""

    faults: Collection[Fault] = (Fault.UNREACHABLE, Fault.SILENT, Fault.REFUSED)

    def __init__(self, source: PrometheusSource, prometheus: Prometheus) -> None:
        self.source, self._prometheus = source, prometheus
        self._fault: Fault | None = None

    def query(self, name: str) -> Query:
        if self._fault is Fault.REFUSED:
            return Query(f"sum({name}")
        is_number = f"({name} != bool {NAN_MARK})"
        return Query(f"{name} * {is_number} / {is_number}")  # the mark × 0 ÷ 0 = NaN, all else × 1 ÷ 1

    async def given(self, *series: Series) -> None:
        self._prometheus.stop()
        self._prometheus.lose_data()
        self._prometheus.fill(
            History(each.name, dict(each.labels), each.start_s, each.step_s, [_stored(value) for value in each.values]) for each in series
        )
        self._prometheus.start()

    async def break_as(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.UNREACHABLE:
            self._prometheus.stop()
        elif fault is Fault.SILENT:
            self._prometheus.process.pause()

    async def mend(self) -> None:
        if self._fault is Fault.UNREACHABLE:
            self._prometheus.start()
        elif self._fault is Fault.SILENT:
            self._prometheus.process.resume()
        self._fault = None


def _stored(value: float | None) -> float:
    if value is None:
        return nan
    return NAN_MARK if isnan(value) else value


@pytest.fixture(scope="module")
def contract_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Prometheus(tmp_path_factory.mktemp("contract")) as running:
        yield running


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in CONTRACT])
async def test_contract(check: Check, contract_prometheus: Prometheus) -> None:
    async with opened(contract_prometheus) as source:
        harness = RealHarness(source, contract_prometheus)
        try:
            await check(harness)
        finally:
            await harness.mend()


ROWS = 12_500
"""At 15 s: two days and a bit, more than one query may have."""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Two series of ROWS samples every 15 s from START_S, one of them with an hour's gap, and one that ends after 100 samples."""
    rows = np.arange(float(ROWS))
    gapped = np.where((rows >= 6000) & (rows < 6240), nan, rows + 0.5)
    prometheus = Prometheus(tmp_path_factory.mktemp("history"))
    prometheus.fill(
        [
            History("load", {"app": "web"}, START_S, 15, rows.tolist()),
            History("load", {"app": "db"}, START_S, 15, gapped.tolist()),
            History("load", {"app": "old"}, START_S, 15, [7.0] * 100),
        ]
    )
    with prometheus:
        yield prometheus


@pytest.fixture
async def source(history: Prometheus) -> AsyncIterator[PrometheusSource]:
    opened = PrometheusSource(
        {"default": Endpoint(history.url), "fresh": Endpoint(f"{history.url}/", lookback_delta_s=30.0)}, MemoryRecorder()
    )
    yield opened
    await opened.close()


ALONE_AND_TOGETHER = [
    'load{app="web"}',
    "load",
    "sum by (app) (load)",
    '{__name__=~"load|other"} # with a comment )',
    'sum(rate(load{app="web"}[5m])) or vector(0)',
    "sum(nosuch)",
    "vector(0) / 0",
    'topk(1, load) unless load{app="old"}',
    'load offset 1m == on (app) group_left () load{app="db"} offset 1m',
    'label_replace(load, "autoscaler", "({[", "app", "(.*)")',
    "max_over_time(sum(load)[5m:15s])",
    "scalar(load)",
    "1 + 1",
    "load[5m]",
    "sum(",
    "up) or (up",
    "nosuch(load)",
    "load + on (app) group_left () load{}",
]
"""Expressions of every kind, some of which are refused."""


class TestBatches:
    async def test_answers_are_the_same_alone_and_together(self, source: PrometheusSource) -> None:
        at_s = START_S + 15 * 90

        async def answer(text: str) -> tuple[list[tuple[list[tuple[str, str]], str]], float] | str:
            try:
                vector = await source.instant(Query(text), at_s, BUDGET_S)
            except AutoscalerError as error:
                return f"{type(error).__name__}: {error}"
            pairs = zip(vector.labels, vector.values.tolist(), strict=True)
            return sorted((sorted(labels.items()), repr(value)) for labels, value in pairs), vector.evaluated_at_s

        alone = [await answer(text) for text in ALONE_AND_TOGETHER]
        many = [f"load + {number}" for number in range(200)]
        for _ in range(2):
            outcomes = await asyncio.gather(*(answer(text) for text in [*ALONE_AND_TOGETHER, *many]))
            assert outcomes[: len(alone)] == alone
            for number, outcome in enumerate(outcomes[len(alone) :]):
                assert not isinstance(outcome, str), outcome
                assert [(labels[0][1], value) for labels, value in outcome[0]] == [
                    ("db", repr(90.5 + number)),
                    ("old", repr(7.0 + number)),
                    ("web", repr(90.0 + number)),
                ]


class TestHistory:
    async def test_range_across_pieces(self, source: PrometheusSource) -> None:
        """Compared with the samples themselves, away from the five minutes that each is visible."""
        matrix = await source.range(Query("load"), START_S, START_S + 15 * (ROWS - 1), 15, 60.0)
        rows = np.arange(float(ROWS))
        column = {labels["app"]: matrix.values[:, place] for place, labels in enumerate(matrix.labels)}
        np.testing.assert_array_equal(matrix.at_s, START_S + 15 * rows)
        np.testing.assert_array_equal(column["web"], rows)
        np.testing.assert_array_equal(column["db"][:6000], rows[:6000] + 0.5)
        np.testing.assert_array_equal(column["db"][6021:6240], [nan] * 219)
        np.testing.assert_array_equal(column["db"][6240:], rows[6240:] + 0.5)
        np.testing.assert_array_equal(column["old"][:100], [7.0] * 100)
        np.testing.assert_array_equal(column["old"][121:], [nan] * (ROWS - 121))
        assert [labels["__name__"] for labels in matrix.labels] == ["load"] * 3

    async def test_pieces_equal_the_whole(self, source: PrometheusSource) -> None:
        """A rate looks back over the seam between two pieces."""
        query = Query('sum(rate(load{app="web"}[5m]))')
        matrix = await source.range(query, START_S + 600, START_S + 15 * (ROWS - 1), 15, 60.0)
        np.testing.assert_allclose(matrix.values, 1 / 15)
        assert matrix.values.shape == (ROWS - 40, 1)

    async def test_lookback(self, source: PrometheusSource, caplog: pytest.LogCaptureFixture) -> None:
        """Four minutes after the last sample. A server too old for a bound of 30 s (before 2.43) is found out."""
        at_s = START_S + 15 * 99 + 240
        usual = await source.instant(Query('load{app="old"}'), at_s, BUDGET_S)
        assert (usual.values.tolist(), usual.evaluated_at_s, caplog.messages) == ([7.0], at_s, [])
        bounded = await source.instant(Query('load{app="old"}', "fresh"), at_s, BUDGET_S)
        assert bounded.evaluated_at_s == at_s
        assert bounded.values.tolist() == ([7.0] if "ignores lookback_delta" in caplog.text else [])

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            pytest.param("vector(0) / 0", nan, id="nan"),
            pytest.param("vector(1) / 0", inf, id="infinite"),
            pytest.param("-vector(1) / 0", -inf, id="minus-infinite"),
            pytest.param("vector(1e308) * 10", inf, id="overflow"),
            pytest.param("vector(1.25e-300)", 1.25e-300, id="tiny"),
        ],
    )
    async def test_numbers(self, source: PrometheusSource, text: str, value: float) -> None:
        vector = await source.instant(Query(text), START_S, BUDGET_S)
        np.testing.assert_array_equal(vector.values, [value])

    @pytest.mark.parametrize(
        ("text", "kind", "words"),
        [
            pytest.param("sum(", PermanentError, "refuses the query: bad_data: .*parse error: unclosed left parenthesis", id="syntax"),
            pytest.param("rate(load)", PermanentError, "expected type range vector in call to function .rate.", id="argument"),
            pytest.param("load + on(none) load", PermanentError, "execution: .*many-to-many matching not allowed", id="execution"),
            pytest.param("nosuch(load)", PermanentError, "unknown function", id="function"),
            pytest.param("", PermanentError, "bad_data", id="empty"),
            pytest.param("scalar(load)", AnswerError, "the query gives a scalar; wrap it in vector", id="scalar"),
            pytest.param("load[5m]", AnswerError, "the query gives a range vector; put a function", id="range-vector"),
            pytest.param('"load"', AnswerError, "the query gives a string", id="string"),
        ],
    )
    async def test_refusals_in_prometheus_own_words(
        self, source: PrometheusSource, text: str, kind: type[AutoscalerError], words: str
    ) -> None:
        with pytest.raises(kind, match=words):
            await source.instant(Query(text), START_S, BUDGET_S)

    async def test_empty_answer_is_no_error(self, source: PrometheusSource) -> None:
        vector = await source.instant(Query("sum(nosuch)"), START_S, BUDGET_S)
        assert (vector.labels, vector.values.size, vector.evaluated_at_s) == ((), 0, START_S)

    async def test_query_longer_than_a_url(self, source: PrometheusSource) -> None:
        apps = "|".join(f"app-{index}" for index in range(20_000))
        vector = await source.instant(Query(f'sum(load{{app=~"web|{apps}"}})'), START_S + 150, BUDGET_S)
        assert vector.values.tolist() == [10.0]

    async def test_server_tells_its_time(self, source: PrometheusSource) -> None:
        vector = await source.instant(Query("vector(1)"), START_S, BUDGET_S)
        assert vector.source_now_s == pytest.approx(time.time(), abs=5.0)


async def test_range_is_split_by_what_the_server_bears(tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path, flags=["--query.max-samples=700"])
    prometheus.fill([History("load", {}, START_S, 15, [float(row) for row in range(2000)])])
    with prometheus:
        async with opened(prometheus) as source:
            matrix = await source.range(Query("load"), START_S, START_S + 15 * 1999, 15, 60.0)
            np.testing.assert_array_equal(matrix.values[:, 0], np.arange(2000.0))
            with pytest.raises(PermanentError, match="too many samples"):
                await source.instant(Query("sum_over_time(load[4h])"), START_S + 15 * 1999, BUDGET_S)


async def test_answers_go_on_when_the_target_is_dead(own_prometheus: Prometheus, own_exporter: Exporter) -> None:
    """The time of an answer is that of its evaluation: only the query itself can tell that what it measures is gone."""
    prometheus, exporter = own_prometheus, own_exporter  # it stops them, and others go on with the shared ones
    prometheus.scrape("exporter", [exporter.address])
    exporter.set_rate("adapter", "web", 50)
    selector = 'http_requests_offered{namespace="adapter"}'
    wait_until("the load is scraped", lambda: prometheus.value(selector) == 50)
    async with opened(prometheus) as source:
        at_s = time.time()
        live = await source.instant(Query(selector), at_s, BUDGET_S)
        assert (live.values.tolist(), live.labels[0]["app"]) == ([50.0], "web")
        assert live.evaluated_at_s == pytest.approx(at_s, abs=0.001)
        exporter.stop()
        wait_until("the target is down", lambda: prometheus.value(f'up{{instance="{exporter.address}"}}') == 0)
        at_s = time.time()
        dead = await source.instant(Query(f"last_over_time({selector}[1m])"), at_s, BUDGET_S)
        assert dead.values.tolist() == [50.0]
        assert dead.evaluated_at_s == pytest.approx(at_s, abs=0.001)
        assert (await source.instant(Query(selector), at_s, BUDGET_S)).values.size == 0  # Prometheus marks it stale


async def test_server_dies_and_comes_back(own_prometheus: Prometheus) -> None:
    async with opened(own_prometheus) as source:
        one = Query("vector(1)")
        assert (await source.instant(one, START_S, BUDGET_S)).values.tolist() == [1.0]
        own_prometheus.kill()
        with pytest.raises(TransientError, match=f"Prometheus 'default' \\({own_prometheus.url}\\): Connection refused"):
            await source.instant(one, START_S, BUDGET_S)
        own_prometheus.start()
        assert (await source.instant(one, START_S, BUDGET_S)).values.tolist() == [1.0]
        own_prometheus.process.pause()
        with pytest.raises(TransientError, match=r"no answer within 0\.3 s"):
            await source.instant(one, START_S, 0.3)
        own_prometheus.process.resume()
        assert (await source.instant(one, START_S, BUDGET_S)).values.tolist() == [1.0]


async def test_the_default_coverage_counts_the_pods_that_are_up(contract_prometheus: Prometheus) -> None:
    """A pod counts once however many of its ports are scraped, and only to its own workload."""
    up = [
        ("web-7d9f8b6c5d-x2x4z", "8080", 1.0),
        ("web-7d9f8b6c5d-x2x4z", "9090", 0.0),
        ("web-7d9f8b6c5d-b5c6d", "8080", 1.0),
        ("web-7d9f8b6c5d-f7g8h", "8080", 0.0),
        ("web-api-6c5d7f8b9d-x2x4z", "8080", 1.0),
        ("db-0", "8080", 1.0),
    ]
    contract_prometheus.stop()
    contract_prometheus.lose_data()
    contract_prometheus.fill(
        History("up", {"namespace": "shop", "pod": pod, "port": port}, START_S, 60.0, [value, value]) for pod, port, value in up
    )
    contract_prometheus.start()
    counts = {}
    async with opened(contract_prometheus) as source:
        for name, kind in (("web", "Deployment"), ("web-api", "Deployment"), ("db", "StatefulSet")):
            coverage = default_coverage(Workload("shop", name, kind), "default")
            assert coverage is not None
            vector = await source.instant(coverage.query, START_S + 60.0, BUDGET_S)
            labels = [dict(coverage.match) == dict(each) for each in vector.labels]
            counts[name] = float(vector.values[labels.index(True)])
    assert counts == {"web": 2.0, "web-api": 1.0, "db": 1.0}
