"""The Prometheus adapter keeps the contract of a MetricSource; tests/cluster does the same with a real Prometheus."""

from collections.abc import Collection

import pytest

from autoscaler.adapters.prometheus import PrometheusSource
from autoscaler.core.spec import Query
from autoscaler.ports import MetricSource
from autoscaler.testing.sources import CONTRACT, RETRY_AFTER_S, Check, Fault, Series
from tests.adapters.prometheus.server import Exchange, FaultServer, refusal, reply, success
from tests.adapters.prometheus.store import Store

BEHAVIOURS = {
    Fault.SILENT: Exchange.hang,
    Fault.OVERLOADED: reply(429, b"", headers={"Retry-After": f"{RETRY_AFTER_S:g}"}),
    Fault.NOT_A_VECTOR: reply(200, success("scalar", [1_700_000_040, "1"])),
    Fault.REFUSED: reply(400, refusal("bad_data", "parse error")),
}


class FaultHarness:
    """The adapter against the fault server, which mostly behaves."""

    faults: Collection[Fault] = tuple(Fault)

    def __init__(self, source: MetricSource, server: FaultServer) -> None:
        self.source: MetricSource = source
        self._server, self._store = server, Store()
        server.behave = self._store

    def query(self, name: str) -> Query:
        return Query(name)

    async def given(self, *series: Series) -> None:
        self._store.series = series

    async def break_as(self, fault: Fault) -> None:
        if fault is Fault.UNREACHABLE:
            self._server.stop()
        else:
            self._server.behave = BEHAVIOURS[fault]

    async def mend(self) -> None:
        if self._server.behave is self._store:
            self._server.start()
        self._server.behave = self._store


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__) for check in CONTRACT])
async def test_contract(check: Check, source: PrometheusSource, server: FaultServer) -> None:
    await check(FaultHarness(source, server))
