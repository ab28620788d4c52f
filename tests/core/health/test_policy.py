"""Which HealthPolicy a workload is under."""

from dataclasses import replace

import pytest

from autoscaler.core.health.facts import Controller, Subject
from autoscaler.core.health.policy import HealthPolicies, HealthSpec
from autoscaler.core.health.taxonomy import Waits
from autoscaler.core.selector import Operator, Requirement
from tests.core.health.build import DEPLOYMENT

APP = Requirement("app", Operator.IN, ("web",))
FRONT = Requirement("tier", Operator.IN, ("front",))
NO_LEGACY = Requirement("legacy", Operator.DOES_NOT_EXIST)


def spec(name: str, *requirements: Requirement, namespace: str = "shop", waits: Waits | None = None) -> HealthSpec:
    return HealthSpec(namespace, name, requirements, waits=waits or Waits())


def labelled(**labels: str) -> Controller:
    return replace(DEPLOYMENT, labels=tuple(sorted(labels.items())))


@pytest.mark.parametrize(
    ("specs", "labels", "expected"),
    [
        pytest.param([spec("all")], {}, "all", id="empty-selector"),
        pytest.param([spec("all", namespace="bank")], {}, None, id="other-namespace"),
        pytest.param([spec("web", APP)], {"app": "web"}, "web", id="label"),
        pytest.param([spec("web", APP)], {"app": "api"}, None, id="other-label"),
        pytest.param([spec("all"), spec("web", APP)], {"app": "web"}, "web", id="the-more-specific"),
        pytest.param([spec("web", APP), spec("all")], {"app": "web"}, "web", id="the-more-specific-in-any-order"),
        pytest.param([spec("web", APP), spec("both", APP, FRONT)], {"app": "web", "tier": "front"}, "both", id="more-conditions"),
        pytest.param([spec("web", APP), spec("both", APP, FRONT)], {"app": "web"}, "web", id="not-all-conditions"),
        pytest.param([spec("b", APP), spec("a", FRONT)], {"app": "web", "tier": "front"}, "a", id="as-many-by-name"),
        pytest.param([spec("new", NO_LEGACY)], {}, "new", id="no-such-label"),
    ],
)
def test_one_policy_for_a_workload(specs: list[HealthSpec], labels: dict[str, str], expected: str | None) -> None:
    owner = labelled(**labels)
    found = HealthPolicies(specs).of(owner.subject, {owner.uid: owner})
    assert (None if found is None else found.name) == expected


@pytest.mark.parametrize(
    ("subject", "known", "expected"),
    [
        pytest.param(Subject("Pod", "shop", "lone", "lone-uid"), {}, ["all", "new"], id="a-bare-pod-has-no-labels"),
        pytest.param(DEPLOYMENT.subject, {}, ["all"], id="an-owner-that-is-not-known"),
        pytest.param(DEPLOYMENT.subject, None, ["all"], id="owners-may-not-be-read"),
        pytest.param(Subject("Node", "", "node-1", "node-uid"), {}, [], id="a-node"),
    ],
)
def test_labels_that_are_not_known_meet_no_condition(subject: Subject, known: dict[str, Controller] | None, expected: list[str]) -> None:
    found = HealthPolicies([spec("new", NO_LEGACY), spec("all"), spec("web", APP)]).all_of(subject, known)
    assert sorted(each.name for each in found) == expected


def test_changed_labels_are_looked_at_again() -> None:
    policies, owner = HealthPolicies([spec("web", APP)]), labelled(app="web")
    assert policies.of(owner.subject, {owner.uid: owner}) is not None
    other = labelled(app="api")
    assert policies.of(owner.subject, {owner.uid: other}) is None


def test_the_workloads_policy_sets_the_waits_and_of_a_node_the_least_patient() -> None:
    policies = HealthPolicies([spec("all", waits=Waits(oom_s=7, node_lost_s=90)), spec("hasty", APP, waits=Waits(node_lost_s=20))])
    owner = labelled()
    assert policies.waits_of(owner.subject, {owner.uid: owner}).oom_s == 7
    assert policies.waits_of(Subject("Node", "", "node-1", "node-uid"), {}) == Waits(node_lost_s=20)
    assert policies.waits_of(Subject("Deployment", "bank", "web", "u"), {}) == Waits()


def test_what_is_gone_is_forgotten() -> None:
    policies, owner = HealthPolicies([spec("web", APP)]), labelled(app="web")
    policies.of(owner.subject, {owner.uid: owner})
    policies.forget(frozenset())
    assert policies.of(owner.subject, {owner.uid: owner}) is not None
