"""Restarts and kills of the service on a real API server: what its ConfigMaps bring back, and what happens without them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.rig import ControlPlane, Exporter, Prometheus, Resource, objects, wait_until
from tests.cluster.rig.paths import ROOT
from tests.cluster.rig.service import Service, policy

BASE = ROOT / "deploy" / "base"
SCALE = yaml.safe_load((BASE / "role.yaml").read_text())["rules"]
STATE = yaml.safe_load((BASE / "role-state.yaml").read_text())["rules"]
WINDOW_S, INTERVAL_S = 20, 5
DOWN = {"scaleDown": {"stabilizationWindowSeconds": WINDOW_S}}


def made_service(
    plane: ControlPlane, prometheus: Prometheus, namespace: str, folder: Path, rules: list[dict[str, Any]], state: str
) -> Service:
    kubeconfig = plane.service_account(namespace, "autoscaler", rules)
    return Service(folder, prometheus=prometheus.url, kubeconfig=kubeconfig, options={"--namespace": namespace, "--state": state})


@pytest.fixture
def service(control_plane: ControlPlane, prometheus: Prometheus, namespace: str, tmp_path: Path) -> Iterator[Service]:
    """With the rights of deploy/base, and its state in ConfigMaps."""
    with made_service(control_plane, prometheus, namespace, tmp_path, SCALE + STATE, "kubernetes") as running:
        yield running


def up_to(
    target: Resource,
    exporter: Exporter,
    service: Service,
    replicas: int,
    patience_s: float = 40.0,
    **spec: Any,  # noqa: ANN401 - fields of a policy
) -> None:
    """Scale it there by load."""
    exporter.set_rate(str(target.namespace), target.name, replicas * 10.0 - 2)
    service.use(policy(str(target.namespace), target.name, **{"behavior": DOWN, **spec}))
    target.wait_replicas(replicas, timeout_s=patience_s)
    target.wait_ready(replicas)


def saved(control_plane: ControlPlane, namespace: str) -> dict[str, Any]:
    config_map = control_plane.api.resource("v1", "ConfigMap", "autoscaler-state-0", namespace).read()
    rows: dict[str, Any] = json.loads(config_map["data"]["state.json"])["workloads"]
    return rows


def lowest_while_held(target: Resource, service: Service, name: str, until: int) -> tuple[int, list[dict[str, Any]]]:
    """Wait until the count is down there; the lowest count on the way, and the decisions since the start, oldest first."""
    counts = []

    def down() -> bool:
        counts.append(target.replicas())
        return counts[-1] == until

    wait_until("it goes down", down, timeout_s=60, every_s=0.25)
    return min(count for count in counts if count != until), service.workload(str(target.namespace), name)["decisions"][::-1]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_window_goes_on_where_it_was(end: str, service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    up_to(target, exporter, service, 9)
    exporter.set_rate(namespace, "web", 18.0)
    service.wait_decision(namespace, "web", "the window holds", reason="STABILISED_DOWN", desired=9.0)
    last_s = service.workload(namespace, "web")["decisions"][0]["at_s"]
    if end == "stop":
        assert service.process.stop() == 0
        assert target.read()["metadata"]["uid"] in saved(control_plane, namespace)
    else:
        service.process.kill()
    service.begin()
    first = wait_until("it decides", lambda: service.workload(namespace, "web")["decisions"], timeout_s=30)[-1]
    assert (first["current"], first["desired"]) == (9.0, 9.0)
    lowest, decisions = lowest_while_held(target, service, "web", 2)
    assert lowest == 9
    lowered = next(each for each in decisions if each["desired"] < 9)
    # After a SIGTERM the window ends when it would have ended, if it is back before the next tick: test_faults_process has no doubt about
    # that. A lost tick counts as nine, so it ends later.
    if end == "stop" and first["at_s"] - last_s <= INTERVAL_S:
        assert lowered["at_s"] - last_s <= WINDOW_S
    else:
        assert lowered["at_s"] - first["at_s"] >= WINDOW_S - INTERVAL_S
    assert service.said("state read", "1 workloads" if end == "stop" else "0 workloads")
    assert not service.said("Traceback")


def test_a_zero_of_ours_is_woken_after_a_kill_and_one_by_hand_stays(
    service: Service, control_plane: ControlPlane, exporter: Exporter, namespace: str
) -> None:
    """Killed right after the write: it was noted first, as the API server keeps no trace of who set a zero through /scale."""
    ours, theirs = (control_plane.api.create(objects.deployment(namespace, name, replicas=2)) for name in ("ours", "theirs"))
    asleep = {"minReplicas": 0, "policy": {"type": "movingAverage", "window": "5s", "panicWindow": "5s"}}
    for name in ("ours", "theirs"):
        exporter.set_rate(namespace, name, 15.0)
    service.use(*(policy(namespace, name, **asleep) for name in ("ours", "theirs")))
    service.wait_decision(namespace, "theirs", "it is seen", current=2.0)
    theirs.merge({"spec": {"replicas": 0}})
    service.wait_decision(namespace, "theirs", "a zero by hand pauses", reason="PAUSED_AT_ZERO")
    exporter.set_rate(namespace, "ours", 0.0)
    ours.wait_replicas(0, timeout_s=40)
    service.process.kill()
    service.begin()
    for name in ("ours", "theirs"):
        exporter.set_rate(namespace, name, 28.0)
    ours.wait_replicas(3, timeout_s=40)
    service.wait_decision(namespace, "theirs", "it stays paused", reason="PAUSED_AT_ZERO")
    assert theirs.replicas() == 0


def test_without_the_right_to_its_state_it_says_so_once_and_works(
    control_plane: ControlPlane, prometheus: Prometheus, exporter: Exporter, namespace: str, tmp_path: Path
) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    with made_service(control_plane, prometheus, namespace, tmp_path, SCALE, "kubernetes") as limited:
        up_to(target, exporter, limited, 5, patience_s=80)
        assert sum("the saved state is lost" in line for line in limited.log().splitlines()) == 1
        assert limited.said("the saved state is lost", "configmaps", "needed: a Role in namespace")
        assert limited.process.stop() == 0
        assert limited.said("the state cannot be saved")


def test_state_in_files_needs_no_right(
    control_plane: ControlPlane, prometheus: Prometheus, exporter: Exporter, namespace: str, tmp_path: Path
) -> None:
    target = control_plane.api.create(objects.deployment(namespace, "web"))
    with made_service(control_plane, prometheus, namespace, tmp_path, SCALE, str(tmp_path / "state")) as service:
        up_to(target, exporter, service, 6)
        exporter.set_rate(namespace, "web", 18.0)
        service.wait_decision(namespace, "web", "the window holds", reason="STABILISED_DOWN", desired=6.0)
        assert service.process.stop() == 0
        service.begin()
        assert lowest_while_held(target, service, "web", 2)[0] == 6
        assert service.said("state read", "1 workloads")
        assert {path.name for path in (tmp_path / "state").iterdir()} >= {"autoscaler-state-0.json"}


def test_an_api_server_that_is_away_at_the_start_costs_no_memory(
    own_control_plane: ControlPlane, prometheus: Prometheus, exporter: Exporter, tmp_path: Path
) -> None:
    """Neither targets nor state are seen while it is away; a SIGTERM meanwhile ends in time, and overwrites nothing."""
    plane, namespace = own_control_plane, "away"
    plane.api.create_namespace(namespace)
    target = plane.api.create(objects.deployment(namespace, "web"))
    with made_service(plane, prometheus, namespace, tmp_path, SCALE + STATE, "kubernetes") as service:
        up_to(target, exporter, service, 7, behavior={"scaleDown": {"stabilizationWindowSeconds": 120}})
        exporter.set_rate(namespace, "web", 18.0)
        service.wait_decision(namespace, "web", "the window holds", reason="STABILISED_DOWN", desired=7.0)
        assert service.process.stop() == 0
        before = saved(plane, namespace)
        plane.kill("apiserver")
        service.begin()
        wait_until("it says that its state cannot be read", lambda: service.said("cannot be read yet"), timeout_s=20)
        assert service.process.stop() == 0, "it ends within ten seconds"
        service.begin()
        plane.start("apiserver")
        assert saved(plane, namespace) == before
        wait_until("it reads its state", lambda: service.said("state read", "1 workloads"), timeout_s=60)
        service.wait_decision(namespace, "web", "the window holds on", reason="STABILISED_DOWN", desired=7.0)
        assert target.replicas() == 7
        assert not service.said("Traceback")
