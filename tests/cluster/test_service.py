"""The main job on real parts: a real Prometheus scrapes an exporter, the service decides, a real API server gets the counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.rig import ControlPlane, Exporter, Prometheus, objects, wait_until
from tests.cluster.rig.service import Service, policy

INTERVAL_S = 5.0
RULES = [
    objects.rule("apps", "deployments,statefulsets,replicasets", "get,list,watch"),
    objects.rule("apps", "deployments/scale,statefulsets/scale,replicasets/scale", "get,patch"),
    objects.rule("rig.autoscaler.dev", "workers", "get,list,watch"),
    objects.rule("rig.autoscaler.dev", "workers/scale", "get,patch"),
]


@dataclass(frozen=True)
class Parts:
    """The real parts that a service needs."""

    plane: ControlPlane
    prometheus: Prometheus
    exporter: Exporter


@pytest.fixture
def parts(control_plane: ControlPlane, prometheus: Prometheus, exporter: Exporter) -> Parts:
    return Parts(control_plane, prometheus, exporter)


@pytest.fixture
def service(control_plane: ControlPlane, prometheus: Prometheus, namespace: str, tmp_path: Path) -> Iterator[Service]:
    """Runs with a Role in the test's namespace, and no more; no policies yet."""
    kubeconfig = control_plane.service_account(namespace, "autoscaler", RULES)
    with Service(tmp_path, prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace}) as running:
        yield running


def moving_average_of(decision: dict[str, Any], before: dict[str, Any]) -> float:
    """What the default simple mean over 10 s says at an interval of 5 s: the mean of this tick's demand and the last one's."""
    now: float
    then: float
    now, then = decision["series"][0]["demand"], before["series"][0]["demand"]
    return (now + then) / 2


def test_scales_what_has_a_scale_up_and_down_as_the_moving_average_says(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    api = control_plane.api
    api.create_crd(objects.custom_workload_crd())
    kinds = {
        "web": ({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, objects.deployment(namespace, "web")),
        "db": ({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}, objects.stateful_set(namespace, "db")),
        "worker": (
            {"apiVersion": objects.CUSTOM_API, "kind": objects.CUSTOM_KIND, "name": "worker"},
            objects.custom_workload(namespace, "worker"),
        ),
    }
    targets = {name: api.create(manifest) for name, (_, manifest) in kinds.items()}
    for name in kinds:
        exporter.set_rate(namespace, name, 98.0)
    service.use(*(policy(namespace, name, scaleTargetRef=reference) for name, (reference, _) in kinds.items()))

    for name, target in targets.items():
        target.wait_replicas(10, timeout_s=40)
        if name != "worker":
            target.wait_ready(10)  # or the moving average sees one replica where ten are needed, and stays in its panic
        exporter.set_rate(namespace, name, 32.0)
    for target in targets.values():
        target.wait_replicas(4, timeout_s=40)
    status, metrics = service.get("/metrics")
    assert status == 200
    assert 'autoscaler_writes_total{outcome="ok"}' in metrics
    assert service.process.stop() == 0


def test_follows_a_recorded_load(service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web", replicas=4))
    # A day of Wikipedia in 80 s: 2.5 times the load between trough and peak; about 10 replicas at its median.
    exporter.replay(namespace, "web", "wikipedia_day_24s", speed=1080.0, scale=0.1)
    service.use(policy(namespace, "web"))

    seen = set()

    def enough() -> bool:
        seen.add(target.replicas())
        target.mark_pods_ready()
        decisions = service.workload(namespace, "web")["decisions"]
        return len(decisions) >= 16

    wait_until("16 ticks", enough, timeout_s=110, every_s=0.5)
    decisions = service.workload(namespace, "web")["decisions"][::-1]
    answered = [k for k, each in enumerate(decisions) if each["series"] and each["series"][0]["demand"] is not None]
    checked = 0
    for before, decision in itertools.pairwise(decisions):
        if decision is decisions[answered[0]] or before["series"][0]["demand"] is None:
            continue
        wanted = moving_average_of(decision, before)
        proposal = decision["series"][0]["proposal"]
        # A spike may be answered by the panic window, which only raises.
        assert proposal == pytest.approx(wanted, rel=1e-5) or proposal > wanted
        within = abs(proposal / decision["current"] - 1) <= 0.1
        stages = {stage["name"]: stage["replicas"] for stage in decision["stages"]}
        assert stages["tolerance"] == (decision["current"] if within else math.ceil(proposal - 1e-9))
        checked += 1
    assert checked >= 10
    assert len(seen) >= 4, f"the replicas hardly moved: {seen}"
    counts = [each["desired"] for each in decisions]
    assert max(counts) > min(counts[answered[0] :])


def test_tells_what_is_wrong_and_goes_on_with_the_others(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    api = control_plane.api
    healthy = api.create(objects.deployment(namespace, "web"))
    for name in ("broken", "many", "silent", "scalar"):
        api.create(objects.deployment(namespace, name, replicas=3))
        exporter.set_rate(namespace, name, 50.0)
    exporter.set_rate(namespace, "web", 48.0)

    def metrics(query: str) -> list[dict[str, Any]]:
        return [{"name": "load", "prometheus": {"query": query}, "target": {"averageValue": "10"}}]

    by_namespace = f'rate(http_requests_total{{namespace="{namespace}"}}[5s])'
    service.use(
        policy(namespace, "web"),
        policy(namespace, "gone"),
        policy(namespace, "broken", metrics=metrics("sum(rate(http_requests_total[5s])")),
        policy(namespace, "many", metrics=metrics(by_namespace)),
        policy(namespace, "silent", metrics=metrics("sum(no_such_metric)")),
        policy(namespace, "scalar", metrics=metrics("scalar(vector(1))")),
    )
    healthy.wait_replicas(5, timeout_s=40)
    for name, signal, words in (
        ("broken", "REFUSED", "unclosed left parenthesis"),
        ("many", "MANY_SERIES", "aggregate them"),
        ("silent", "EMPTY", "no series"),
        ("scalar", "WRONG_TYPE", "scalar"),
    ):
        decision = service.wait_decision(namespace, name, f"{name} holds", reason="NO_DATA", desired=3.0)
        assert decision["series"][0]["signal"] == signal
        assert words in decision["series"][0]["detail"]
        assert words in decision["why"]
        assert service.said(f"{namespace}/{name}", words), f"the log does not say it of {name}"
        assert api.resource("apps/v1", "Deployment", name, namespace).replicas() == 3
    gone = service.workload(namespace, "gone")
    assert gone["reason"] == "TARGET_NOT_FOUND"
    assert "gone" in gone["target_problem"]
    assert service.said("gone", gone["target_problem"])
    assert 'autoscaler_series_without_data{cause="refused",interval="5s"} 1.0' in service.get("/metrics")[1]


def test_a_target_deleted_and_created_again_starts_afresh(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    api = control_plane.api
    target = api.create(objects.deployment(namespace, "web"))
    exporter.set_rate(namespace, "web", 68.0)
    service.use(policy(namespace, "web"))
    target.wait_replicas(7, timeout_s=40)
    target.wait_ready(7)
    target.delete()
    wait_until("it is seen as gone", lambda: service.workload(namespace, "web")["reason"] == "TARGET_NOT_FOUND", timeout_s=20)
    again = api.create(objects.deployment(namespace, "web", replicas=2))
    again.wait_replicas(7, timeout_s=40)
    assert service.said("deleted and created again", f"{namespace}/web")


@pytest.mark.parametrize(
    ("rules", "reason", "words"),
    [
        pytest.param(RULES[1:], "TARGET_FORBIDDEN", ["deployments", "list"], id="may-not-read"),
        pytest.param(RULES[:1], "", ["deployments/scale", "patch"], id="may-not-write"),
    ],
)
def test_missing_rights_are_named(
    rules: list[dict[str, Any]], reason: str, words: list[str], parts: Parts, namespace: str, tmp_path: Path
) -> None:
    target = parts.plane.api.create(objects.deployment(namespace, "web"))
    parts.exporter.set_rate(namespace, "web", 40.0)
    kubeconfig = parts.plane.service_account(namespace, "limited", rules)
    with Service(tmp_path, prometheus=parts.prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace}) as limited:
        limited.use(policy(namespace, "web"))

        def told() -> str:
            row = limited.workload(namespace, "web")
            problem: str = row["target_problem"] if reason else row["write_problem"]
            return problem if not reason or row["reason"] == reason else ""

        problem = wait_until("it says which right it lacks", told, timeout_s=40)
        for word in words:
            assert word in problem
        assert limited.said(*words)
    assert target.replicas() == 1


def test_policies_are_read_again_and_a_bad_file_changes_nothing(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    exporter.set_rate(namespace, "web", 80.0)
    service.use(policy(namespace, "web", maxReplicas=3))
    target.wait_replicas(3, timeout_s=40)
    service.write(policy(namespace, "web", maxReplicas=2, minReplicas=5))
    wait_until("the bad file is told", lambda: "not in use" in service.get("/readyz")[1], timeout_s=20)
    assert service.get("/readyz")[0] == 200
    assert "autoscaler_config_last_reload_successful 0.0" in service.get("/metrics")[1]
    assert service.said("policies.yaml:", "minReplicas")
    assert target.replicas() == 3
    service.use(policy(namespace, "web", maxReplicas=6))
    target.wait_replicas(6, timeout_s=40)
    assert "not in use" not in service.get("/readyz")[1]
    service.hang_up()
    wait_until("SIGHUP reads again", lambda: service.log().count("policies read") >= 4, timeout_s=10)
    assert service.get("/healthz") == (200, "ok\n")


def test_one_policy_scales_every_workload_that_its_selector_finds(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    def labelled(name: str, team: str) -> dict[str, Any]:
        manifest = objects.deployment(namespace, name)
        manifest["metadata"]["labels"] = {"team": team}
        return manifest

    api = control_plane.api
    targets = {name: api.create(labelled(name, team)) for name, team in (("web", "shop"), ("api", "shop"), ("other", "ads"))}
    for name, rate in (("web", 68.0), ("api", 38.0), ("other", 68.0), ("late", 28.0)):
        exporter.set_rate(namespace, name, rate)
    query = f'sum by (app) (rate(http_requests_total{{namespace="{namespace}"}}[5s]))'
    many = policy(
        namespace,
        "many",
        scaleTargetRef=None,
        targets={"kind": "Deployment", "selector": {"matchLabels": {"team": "shop"}}},
        metrics=[{"name": "load", "prometheus": {"query": query, "labels": {"name": "app"}}, "target": {"averageValue": "10"}}],
    )
    service.write(many)
    targets["web"].wait_replicas(7, timeout_s=60)
    targets["api"].wait_replicas(4, timeout_s=40)
    late = api.create(labelled("late", "shop"))
    late.wait_replicas(3, timeout_s=40)
    assert targets["other"].replicas() == 1
    assert service.get(f"/api/v1/workloads/{namespace}/other")[0] == 404
    assert service.said("found: 1 (late)")
