"""HealthPolicies: the defaults, what a file may change, and how files are told apart."""

import dataclasses
from pathlib import Path

import pytest

from autoscaler.core.health.policy import HealthSpec
from autoscaler.core.health.remedies import REMEDIES, Remedy
from autoscaler.core.health.taxonomy import Waits
from autoscaler.core.selector import Operator, Requirement
from autoscaler.policyfile.health import RemediesField, WaitsField, wait_field
from autoscaler.policyfile.load import load

NOW_S = 1_800_000_000.0


def health(tmp_path: Path, spec: str, name: str = "default") -> HealthSpec:
    file = tmp_path / f"{name}.yaml"
    head = f"apiVersion: autoscaler.dev/v1alpha1\nkind: HealthPolicy\nmetadata: {{name: {name}, namespace: shop}}\n"
    file.write_text(f"{head}spec: {spec}\n")
    (found,) = load([file], NOW_S).health
    return found


def test_nothing_given_is_every_workload_and_report_only(tmp_path: Path) -> None:
    assert health(tmp_path, "{}") == HealthSpec(
        "shop", "default", remedies=dict.fromkeys(REMEDIES.values(), Remedy.REPORT), origin=f"{tmp_path}/default.yaml (default)"
    )


def test_every_wait_of_the_core_is_a_field_with_its_default() -> None:
    assert {wait_field(name): field.default for name, field in WaitsField.model_fields.items()} == dataclasses.asdict(Waits())


def test_every_remedy_of_the_core_is_a_field() -> None:
    assert {field.alias for field in RemediesField.model_fields.values()} == {*REMEDIES.values(), "daemonSets"}


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param("{waits: {crashLoop: 20s}}", "waits", Waits(crash_loop_s=20), id="wait"),
        pytest.param("{waits: {config: 0, restarts: 5}}", "waits", Waits(config_s=0, restarts=5), id="waits-zero-and-count"),
        pytest.param("{limits: {perWorkloadPerHour: 1}}", "per_workload_hour", 1, id="limit"),
        pytest.param("{notify: [pager, chat, pager]}", "sinks", ("pager", "chat"), id="sinks-each-once"),
        pytest.param("{remedies: {daemonSets: true}}", "daemon_sets", True, id="daemon-sets"),
        pytest.param(
            "{selector: {matchLabels: {tier: front}, matchExpressions: [{key: legacy, operator: DoesNotExist}]}}",
            "requirements",
            (Requirement("tier", Operator.IN, ("front",)), Requirement("legacy", Operator.DOES_NOT_EXIST)),
            id="selector",
        ),
    ],
)
def test_field(spec: str, field: str, expected: object, tmp_path: Path) -> None:
    assert getattr(health(tmp_path, spec), field) == expected


def test_remedies(tmp_path: Path) -> None:
    found = health(tmp_path, "{remedies: {crashLoop: restart, failedPod: delete}}").remedies
    assert found == {
        **dict.fromkeys(REMEDIES.values(), Remedy.REPORT),
        "crashLoop": Remedy.RESTART,
        "failedPod": Remedy.DELETE,
    }


def test_beside_a_scaling_policy_of_the_same_name(tmp_path: Path) -> None:
    text = """\
apiVersion: autoscaler.dev/v1alpha1
kind: HealthPolicy
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}}
---
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  maxReplicas: 20
  metrics: [{name: requests, prometheus: {query: up}, target: {averageValue: 85}}]
"""
    (tmp_path / "web.yaml").write_text(text)
    policies = load([tmp_path], NOW_S)
    assert [spec.workload.name for spec in policies.specs] == ["web"]
    assert [str(spec) for spec in policies.health] == ["HealthPolicy shop/web"]


@pytest.mark.parametrize(
    ("requirement", "text"),
    [
        pytest.param(Requirement("app", Operator.IN, ("web",)), "app=web", id="one-value"),
        pytest.param(Requirement("app", Operator.IN, ("web", "api")), "app in (web,api)", id="values"),
        pytest.param(Requirement("app", Operator.NOT_IN, ("web",)), "app notin (web)", id="not-in"),
        pytest.param(Requirement("app", Operator.EXISTS), "app", id="exists"),
        pytest.param(Requirement("app", Operator.DOES_NOT_EXIST), "!app", id="does-not-exist"),
    ],
)
def test_conditions_are_written_as_kubectl_takes_them(requirement: Requirement, text: str) -> None:
    assert str(requirement) == text
