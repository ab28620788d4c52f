"""One policy for many: who fits is found in the cluster, and scaled by its own series of one query."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from autoscaler.core.selector import Operator, Requirement, Selector
from autoscaler.core.spec import Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import Workload
from autoscaler.loops.targets import LOOK_EVERY_S, Targets
from autoscaler.ports import PolicySet, Selection
from tests.core import build
from tests.loops.rig import INTERVAL_S, Rig, running, scaled

LABELS = {"team": "shop"}
SELECTOR = Selector("shop", "Deployment", "apps/v1", (Requirement("team", Operator.IN, ("shop",)),))


def row(name: str, origin: str = "many.yaml") -> WorkloadSpec:
    series = SeriesSpec("requests", Query("load"), 1.0, match=(("name", name),))
    return build.spec(name, series=(series,), origin=origin)


MANY = PolicySet((), selections=(Selection(SELECTOR, row, "many.yaml"),))


@asynccontextmanager
async def finding(policies: PolicySet = MANY) -> AsyncIterator[tuple[Rig, Targets]]:
    async with running([]) as rig:
        for name in ("web", "api"):
            rig.cluster.create(build.workload(name), 2, LABELS)
        rig.cluster.create(build.workload("other"), 2, {"team": "ads"})
        rig.cluster.create(Workload("elsewhere", "web"), 2, LABELS)
        rig.cluster.create(Workload("shop", "db", "StatefulSet"), 2, LABELS)
        targets = Targets(rig.cluster, rig.clock, rig.loop.update)
        targets.use(policies)
        task = asyncio.create_task(targets.run())
        try:
            yield rig, targets
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def members(rig: Rig) -> list[str]:
    return sorted(str(workload) for group in rig.loop.groups.values() for workload in group.roster.members())


async def test_those_that_fit_are_scaled_by_one_query() -> None:
    async with finding() as (rig, _):
        asked = []

        async def note(query: Query) -> None:
            asked.append(query.text)

        rig.source.before = note
        rig.loads.update(web=7.0, api=3.0, other=9.0)
        await rig.pass_ticks(2)
        assert members(rig) == ["Deployment shop/api", "Deployment shop/web"]
        assert [rig.replicas(name) for name in ("web", "api", "other")] == [7, 3, 2]
        assert asked == ["load", "load"]


async def test_newcomers_are_found_and_leavers_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async with finding() as (rig, _):
        rig.loads.update(web=2.0, api=2.0, new=6.0)
        await rig.pass_ticks()
        rig.cluster.create(build.workload("new"), 2, LABELS)
        rig.cluster.delete(build.workload("api"))
        with caplog.at_level(logging.INFO, "autoscaler"):
            await rig.clock.advance(LOOK_EVERY_S)
        assert members(rig) == ["Deployment shop/new", "Deployment shop/web"]
        assert "Deployment in namespace shop, found: 1 (new)" in caplog.messages
        assert "Deployment in namespace shop, gone: 1 (api)" in caplog.messages
        await rig.clock.advance(INTERVAL_S - LOOK_EVERY_S)
        await rig.pass_ticks()
        assert rig.replicas("new") == 6


async def test_while_nobody_knows_who_is_there_nobody_leaves() -> None:
    async with finding() as (rig, targets):
        selected = rig.cluster.selected
        rig.cluster.selected = lambda _: None  # type: ignore[assignment,method-assign]
        await rig.clock.advance(4 * LOOK_EVERY_S)
        assert members(rig) == ["Deployment shop/api", "Deployment shop/web"]
        targets.use(MANY)
        assert members(rig) == ["Deployment shop/api", "Deployment shop/web"], "nor when the policies are read again"
        rig.cluster.selected = selected  # type: ignore[method-assign]


async def test_a_policy_of_its_own_goes_before_one_that_finds_it(caplog: pytest.LogCaptureFixture) -> None:
    own = scaled("web", max_replicas=4, origin="own.yaml")
    later = Selection(SELECTOR, lambda name: row(name, "zz.yaml"), "zz.yaml")
    with caplog.at_level(logging.INFO, "autoscaler"):
        async with finding(PolicySet((own,), selections=(later, *MANY.selections))) as (rig, targets):
            found = {workload.name: spec.origin for group in rig.loop.groups.values() for workload, spec in group.roster.members().items()}
            assert found == {"web": "own.yaml", "api": "many.yaml"}
            targets.use(PolicySet((own,), selections=(later, *MANY.selections)))
    said = [line for line in caplog.messages if "selects it too" in line]
    assert said == [
        "Deployment shop/web: own.yaml applies, not many.yaml, which selects it too",
        "Deployment shop/api: many.yaml applies, not zz.yaml, which selects it too",
        "Deployment shop/web: own.yaml applies, not zz.yaml, which selects it too",
    ]
