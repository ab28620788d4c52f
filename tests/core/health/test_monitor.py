"""One whole pass: who is told of what, what the scaling loop gets, and when the cluster's breaker is told of."""

from dataclasses import replace
from math import isnan

import pytest

from autoscaler.core.health.breaker import CLUSTER, Breaker
from autoscaler.core.health.facts import Condition, Facts, Node, Pod
from autoscaler.core.health.lifecycle import Kind, Phase
from autoscaler.core.health.monitor import Rules, Seen, State, look, mass_failure
from autoscaler.core.health.policy import HealthPolicies, HealthSpec
from autoscaler.core.health.taxonomy import Cause, Waits
from tests.core.health.build import NODE, START_S, backing_off, container, facts, pod

SHOP = HealthSpec("shop", "default", sinks=("pager",))
NODE_2 = Node("node-2", "node-2-uid", conditions=NODE.conditions)


def shop(*ill: Pod) -> list[Pod]:
    """Twenty healthy pods, and these."""
    return [*(pod(f"web-1-{index:02}", container(), node="node-2") for index in range(20)), *ill]


def crashing(name: str = "web-1-x", **changes: object) -> Pod:
    return pod(name, backing_off(at_s=START_S + 10), **changes)


class Monitor:
    """The monitor over time, started at ``START_S`` on healthy pods."""

    def __init__(self, *specs: HealthSpec) -> None:
        self.rules = Rules(HealthPolicies(specs))
        self.state, self.seen = look(State(), self.of(0, shop()), self.rules)

    @staticmethod
    def of(after_s: float, pods: list[Pod], *nodes: Node) -> Facts:
        return facts(START_S + after_s, pods, nodes=(*(nodes or (NODE,)), NODE_2))

    def see(self, after_s: float, pods: list[Pod], *nodes: Node) -> Seen:
        self.state, self.seen = look(self.state, self.of(after_s, pods, *nodes), self.rules)
        return self.seen

    def told(self) -> list[tuple[Kind, bool]]:
        return [(each.kind, each.silent) for each in self.seen.changes]


@pytest.mark.parametrize(
    ("specs", "silent"),
    [
        pytest.param([SHOP], False, id="with-a-policy"),
        pytest.param([], True, id="without"),
        pytest.param([replace(SHOP, namespace="bank")], True, id="with-another-namespaces"),
    ],
)
def test_only_what_a_policy_selects_is_told(specs: list[HealthSpec], silent: bool) -> None:  # noqa: FBT001
    monitor = Monitor(*specs)
    monitor.see(20, shop(crashing()))
    monitor.see(60, shop(crashing()))
    assert monitor.told() == [(Kind.FIRED, silent)]
    assert [spec.name for spec in monitor.seen.reach.of(next(iter(monitor.state.incidents.values())).finding)] == [
        spec.name for spec in specs if spec.namespace == "shop"
    ]


def test_waits_are_the_policys() -> None:
    monitor = Monitor(replace(SHOP, waits=Waits(restarts=9, crash_loop_s=100)))
    monitor.see(20, shop(crashing()))
    assert monitor.told() == []
    monitor.see(130, shop(crashing()))
    assert monitor.told() == [(Kind.PENDING, True)]


def test_a_pass_that_concludes_nothing_changes_nothing() -> None:
    monitor = Monitor(SHOP)
    monitor.see(20, shop(crashing()))
    before = monitor.state
    state, seen = look(before, replace(monitor.of(60, []), synced=False), monitor.rules)
    assert (state.incidents, state.breakers, seen.changes, seen.verdicts) == (before.incidents, before.breakers, (), {})


def test_a_clock_that_is_put_back_hides_no_news() -> None:
    monitor, killed = Monitor(SHOP), crashing(created_s=START_S - 9e5, containers=(backing_off(137, "OOMKilled", START_S - 3595),))
    monitor.see(-3600, shop())
    monitor.see(-3590, shop(killed))
    assert monitor.told() == [(Kind.PENDING, True)]
    monitor.see(-3500, shop(killed))
    assert monitor.told() == [(Kind.FIRED, False)]


def test_verdicts_are_for_every_workload_with_a_rollout_policies_or_not() -> None:
    assert set(Monitor().seen.verdicts) == {"web-uid"}


def test_a_node_is_a_matter_of_the_policies_with_pods_on_it() -> None:
    lost = replace(NODE, unreachable=True, conditions=(Condition("Ready", "Unknown", "NodeStatusUnknown", START_S + 5),))
    bank, park = HealthSpec("bank", "b"), HealthSpec("park", "p")
    there = [crashing("web-1-x"), pod("bare", namespace="bank", owner=None), pod("far", namespace="park", owner=None, node="node-2")]
    monitor = Monitor(SHOP, bank, park)
    monitor.see(10, shop(*there), lost)
    monitor.see(100, shop(*there), lost)
    monitor.see(130, shop(*there), lost)
    (incident,) = [each for each in monitor.state.incidents.values() if each.finding.cause is Cause.NODE_LOST]
    assert [str(spec) for spec in monitor.seen.reach.of(incident.finding)] == ["HealthPolicy bank/b", "HealthPolicy shop/default"]
    assert not isnan(incident.told.at_s)
    monitor.see(400, shop())
    monitor.see(700, shop())
    assert monitor.told() == [(Kind.RESOLVED, False)], "its pods are gone, and with them its policies; who was told hears the end"


def test_breakers_are_told_of_as_they_open_and_close() -> None:
    monitor = Monitor(SHOP)
    ill = [crashing(f"web-1-{index}x") for index in range(6)]
    assert monitor.see(20, shop(*ill)).opened == (CLUSTER,)
    assert monitor.see(21, shop(*ill)).opened == ()
    closed = [monitor.see(after_s, shop()).closed for after_s in range(30, 1200, 60)]
    assert [each for each in closed if each] == [(CLUSTER,)]


def test_the_clusters_breaker_reads_as_an_incident() -> None:
    breaker = Breaker(START_S, ("30 of 100 watched pods are ill",))
    opened, closed = mass_failure(breaker), mass_failure(replace(breaker, calm_s=START_S + 100), START_S + 1000)
    assert (opened.finding.cause, opened.finding.notes, opened.phase) == (Cause.MASS_FAILURE, breaker.why, Phase.FIRING)
    assert (closed.phase, closed.resolved_s, closed.hold_s) == (Phase.RESOLVED, START_S + 1000, 900)
    assert opened.finding.key == closed.finding.key
