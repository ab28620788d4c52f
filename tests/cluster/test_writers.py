"""Others who set the same replicas, on a real API server: HPAs, ScaledObjects, and whoever puts a count back."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.rig import ControlPlane, Exporter, Prometheus, Resource, objects, wait_until
from tests.cluster.rig.api import MERGE_PATCH
from tests.cluster.rig.paths import ROOT
from tests.cluster.rig.service import Service, policy

Json = dict[str, Any]

RULES = yaml.safe_load((ROOT / "deploy" / "base" / "role.yaml").read_text())["rules"]
RIVALS = ("autoscaling", "keda.sh")
REFERENCE = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, namespace: str) -> Path:
    return control_plane.service_account(namespace, "autoscaler", RULES)


@pytest.fixture
def service(prometheus: Prometheus, namespace: str, kubeconfig: Path, tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path, prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace}) as running:
        yield running


def hpa(namespace: str, name: str = "web-hpa") -> Json:
    spec = {"scaleTargetRef": REFERENCE, "minReplicas": 1, "maxReplicas": 30}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def scaled_object_crd() -> Json:
    """KEDA's, as far as it is read here."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh",
            "scope": "Namespaced",
            "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
            "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": schema}],
        },
    }


def test_an_hpa_on_the_target_is_a_conflict_until_it_is_gone(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    rival = control_plane.api.create(hpa(namespace))
    exporter.set_rate(namespace, "web", 48.0)
    service.use(policy(namespace, "web"))
    decision = service.wait_decision(namespace, "web", "it gives way", reason="CONFLICT", apply=False)
    assert "HorizontalPodAutoscaler web-hpa scales it" in decision["why"]
    assert target.replicas() == 1
    assert service.said("web", "HorizontalPodAutoscaler web-hpa scales it too")
    rival.delete()
    target.wait_replicas(5, timeout_s=40)
    control_plane.api.create(hpa(namespace, "late"))
    service.wait_decision(namespace, "web", "it gives way again", reason="CONFLICT")
    assert 'autoscaler_writes_total{outcome="ok"} 1.0' in service.get("/metrics")[1]


def test_a_dry_run_is_compared_with_the_hpa(service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web", replicas=3))
    rival = control_plane.api.create(hpa(namespace))
    rival.set_status(desiredReplicas=3, currentReplicas=3)
    exporter.set_rate(namespace, "web", 48.0)
    service.use(policy(namespace, "web", mode={"type": "dryRun"}))
    service.wait_decision(namespace, "web", "it decides", desired=5.0, apply=False)
    assert service.workload(namespace, "web")["rival"] == {"kind": "HorizontalPodAutoscaler", "name": "web-hpa", "desired": 3.0}
    gauge = f'autoscaler_shadow_difference{{kind="Deployment",name="web",namespace="{namespace}"}}'
    assert f"{gauge} 2.0" in service.get("/metrics")[1]
    rival.set_status(desiredReplicas=9, currentReplicas=3)
    wait_until("the HPA's new count shows", lambda: f"{gauge} -4.0" in service.get("/metrics")[1], timeout_s=20)
    assert target.replicas() == 3


def test_a_scaled_object_is_a_conflict_too(
    control_plane: ControlPlane, prometheus: Prometheus, exporter: Exporter, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    control_plane.api.create_crd(scaled_object_crd())
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    metadata = {"name": "web-scaler", "namespace": namespace}
    control_plane.api.create(
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": {"scaleTargetRef": {"name": "web"}}}
    )
    exporter.set_rate(namespace, "web", 48.0)
    with Service(tmp_path / "own", prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace}) as service:
        service.use(policy(namespace, "web"))
        decision = service.wait_decision(namespace, "web", "it gives way", reason="CONFLICT")
        assert "ScaledObject web-scaler scales it" in decision["why"]
    assert target.replicas() == 1


def test_without_the_right_to_look_it_says_so_once_and_scales(
    control_plane: ControlPlane, prometheus: Prometheus, exporter: Exporter, namespace: str, tmp_path: Path
) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    rules = [rule for rule in RULES if rule["apiGroups"][0] not in RIVALS]
    kubeconfig = control_plane.service_account(namespace, "limited", rules)
    exporter.set_rate(namespace, "web", 48.0)
    with Service(tmp_path, prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace}) as limited:
        limited.use(policy(namespace, "web"))
        target.wait_replicas(5, timeout_s=40)
        words = "whether a HorizontalPodAutoscaler scales the same targets is not known"
        assert limited.said(words, "needed: a Role in namespace", "horizontalpodautoscalers")
        assert sum(words in line for line in limited.log().splitlines()) == 1


def put_back(target: Resource, replicas: int) -> None:
    """As a GitOps controller does, that applies a manifest with replicas in it."""
    target.api.call(
        "PATCH", target.path, {"spec": {"replicas": replicas}}, content_type=MERGE_PATCH, query={"fieldManager": "argocd-controller"}
    )


def test_who_puts_our_count_back_three_times_is_left_alone_with(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web", replicas=2))
    exporter.set_rate(namespace, "web", 48.0)
    service.use(policy(namespace, "web"))
    for _ in range(3):
        target.wait_replicas(5, timeout_s=40)
        put_back(target, 2)
    service.wait_decision(namespace, "web", "it stops", reason="CONFLICT")
    named = "argocd-controller (Update, 20"
    wait_until("it has found out who it is", lambda: named in service.workload(namespace, "web")["why"], timeout_s=20)
    assert "has replaced our count 3 times" in service.workload(namespace, "web")["why"]
    assert service.said("web", "argocd-controller", "let only one of the two set the replicas")
    assert target.replicas() == 2
    service.use(policy(namespace, "web", maxReplicas=4))
    target.wait_replicas(4, timeout_s=40)


def test_a_pause_ends_by_itself(service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str) -> None:
    until = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=20)  # the file says whole seconds
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    exporter.set_rate(namespace, "web", 48.0)
    service.use(policy(namespace, "web", mode={"type": "paused", "until": until.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    service.wait_decision(namespace, "web", "it is paused", reason="PAUSED", desired=1.0)
    target.wait_replicas(5, timeout_s=60)
    assert dt.datetime.now(dt.UTC) >= until


def validated(folder: Path, kubeconfig: Path, *policies: Json) -> tuple[int, dict[str, list[str]]]:
    """What `autoscaler validate --cluster` says of each target."""
    file = folder / "policies.yaml"
    file.write_text(yaml.safe_dump_all(policies))
    command = [sys.executable, "-m", "autoscaler", "validate", str(file), "--cluster", "--kubeconfig", str(kubeconfig), "-o", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in answer.stderr, answer.stderr
    found: dict[str, list[str]] = {each["metadata"]["name"]: [] for each in policies}
    for remark in json.loads(answer.stdout)["cluster"]:
        found.setdefault(remark["name"], []).append(remark["message"])
    return answer.returncode, found


def test_validate_says_what_stands_in_the_way(control_plane: ControlPlane, namespace: str, kubeconfig: Path, tmp_path: Path) -> None:
    api = control_plane.api
    for name in ("fine", "web"):
        api.create(objects.deployment(namespace, name)).merge({"spec": {"replicas": 1}})
    api.create(hpa(namespace))
    applied = {**objects.deployment(namespace, "applied", replicas=3)}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/applied"
    api.call("PATCH", path, applied, content_type="application/apply-patch+yaml", query={"fieldManager": "argocd-controller"})
    without = objects.deployment(namespace, "without")
    del without["spec"]["replicas"]
    api.call(
        "PATCH",
        path.replace("/applied", "/without"),
        without,
        content_type="application/apply-patch+yaml",
        query={"fieldManager": "argocd"},
    )
    missing_kind = {"apiVersion": "example.dev/v1", "kind": "Worker", "name": "odd"}
    code, found = validated(
        tmp_path,
        kubeconfig,
        *(policy(namespace, name) for name in ("web", "applied", "without", "gone")),
        policy(namespace, "odd", scaleTargetRef=missing_kind),
    )
    assert code == 0
    assert found["without"] == []
    assert any("HorizontalPodAutoscaler web-hpa scales it too" in words for words in found["web"])
    assert len(found["applied"]) == 1
    assert found["applied"][0].startswith("argocd-controller sets spec.replicas (Apply, 20")
    assert "remove replicas from its manifest" in found["applied"][0]
    assert found["gone"] == [f"there is no Deployment gone in namespace {namespace}"]
    assert "example.dev/v1" in found["odd"][0]


def many(namespace: str, name: str, selector: Json) -> Json:
    """A policy for all Deployments that fit."""
    query = "sum by (app) (rate(http_requests_total[5s]))"
    metrics = [{"name": "load", "prometheus": {"query": query, "labels": {"name": "app"}}, "target": {"averageValue": "10"}}]
    return policy(namespace, name, scaleTargetRef=None, metrics=metrics, targets={"kind": "Deployment", "selector": selector})


def test_validate_looks_at_everybody_whom_a_policy_for_many_finds(
    control_plane: ControlPlane, namespace: str, kubeconfig: Path, tmp_path: Path
) -> None:
    api = control_plane.api
    for name, team in (("web", "shop"), ("api", "shop"), ("other", "ads")):
        manifest = objects.deployment(namespace, name)
        manifest["metadata"]["labels"] = {"team": team}
        api.create(manifest).merge({"spec": {"replicas": 1}})
    api.create(hpa(namespace))
    code, found = validated(
        tmp_path,
        kubeconfig,
        many(namespace, "shop", {"matchExpressions": [{"key": "team", "operator": "In", "values": ["shop", "till"]}]}),
        many(namespace, "nobody", {"matchLabels": {"team": "nobody"}}),
        many(namespace, "twice", {"matchLabels": {"team": "ads"}}),
        many(namespace, "zwice", {"matchLabels": {"team": "ads"}}),
    )
    assert code == 0
    assert any("HorizontalPodAutoscaler web-hpa scales it too" in words for words in found["web"])
    assert not any("HorizontalPodAutoscaler" in words for words in found["api"])
    assert f"its selector finds no Deployment in namespace {namespace}" in found["*"]
    assert any("applies, not this policy, which selects it too" in words for words in found["other"])
    code, found = validated(
        tmp_path, control_plane.service_account(namespace, "stranger"), many(namespace, "shop", {"matchLabels": {"team": "shop"}})
    )
    assert code == 0
    assert "whom it selects is not known: list deployments.apps" in found["*"][0]


def test_validate_names_the_rights_that_lack(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    control_plane.api.create(objects.deployment(namespace, "web"))
    kubeconfig = control_plane.service_account(namespace, "reader", [objects.rule("apps", "deployments", "get,list,watch")])
    code, found = validated(tmp_path, kubeconfig, policy(namespace, "web"))
    assert code == 0
    said = " ".join(found["web"])
    assert f"this login may not patch deployments.apps/scale in namespace {namespace}" in said
    assert "whether a HorizontalPodAutoscaler scales it too is not known" in said
