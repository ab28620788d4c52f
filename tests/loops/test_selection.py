"""What is said of policies that select nothing, or the same as others."""

from dataclasses import replace

import pytest

from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.selector import Operator, Requirement
from autoscaler.core.types import Workload
from tests.loops.ward import REPORT, World, serving

APP = Requirement("app", Operator.IN, ("web",))
NEW = Requirement("legacy", Operator.DOES_NOT_EXIST)


@pytest.fixture
def world() -> World:
    found = World()
    found.make()
    return found


async def test_a_policy_that_selects_nothing_is_told_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(world, replace(REPORT, namespace="bank")) as service:
        await service.pass_s(120)
        said = "HealthPolicy bank/default (health.yaml (default)) selects no workload that there is: nothing is watched over by it"
        assert [record.message for record in caplog.records] == [said]
        assert service.loop.remarks() == ["HealthPolicy bank/default selects no workload that there is"]
        world.make(Workload("bank", "ledger"), 0)
        await service.pass_s(30)
        assert service.loop.remarks() == []


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        pytest.param([HealthSpec("shop", "all"), HealthSpec("shop", "web", (APP,))], [], id="one-is-more-specific"),
        pytest.param(
            [HealthSpec("shop", "web", (APP,)), HealthSpec("shop", "new", (NEW,))],
            [
                (
                    "Deployment shop/web: HealthPolicy shop/new applies, not HealthPolicy shop/web, which selects it too: "
                    "give one of them more conditions"
                )
            ],
            id="two-with-as-many-conditions",
        ),
    ],
)
async def test_two_that_select_the_same(specs: list[HealthSpec], said: list[str], world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(world, *specs) as service:
        await service.pass_s(120)
        assert [record.message for record in caplog.records] == said
