"""What the service reads and writes on disk: policies that are swapped for broken ones, and a disk without room for its state."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.cluster.faults import INTERVAL_S, Json, Scene, following, service_of
from tests.cluster.rig import Audit, ControlPlane, Exporter, Prometheus, wait_until
from tests.policyfile.mount import Mount


@pytest.fixture
def make_scene(
    fragile: ControlPlane, audit: Audit, prometheus: Prometheus, exporter: Exporter, name_namespace: Callable[[str], str], tmp_path: Path
) -> Callable[[str], Scene]:
    """A scene whose service has not been started, with its state there."""

    def made(state: str) -> Scene:
        namespace = fragile.api.create_namespace(name_namespace("files")).name
        service = service_of(fragile, namespace, tmp_path / "service", prometheus.url, state=state)
        return Scene(fragile, audit, exporter, service, namespace)

    return made


def test_policies_swapped_for_broken_ones_and_for_good_ones(make_scene: Callable[[str], Scene]) -> None:
    """As kubelet updates a mounted ConfigMap. The last good set goes on scaling meanwhile."""
    scene = make_scene("none")
    mount = Mount(scene.service.policies)

    def text(**spec: int) -> str:
        return yaml.safe_dump({**(made := following(scene.namespace)), "spec": made["spec"] | spec})

    mount.update(web=text())
    scene.deploy(replicas=4)
    with scene.service as service:
        scene.settle(4)
        for broken, words in ((text(minReplicas=9, maxReplicas=3), "minReplicas"), ("{", "web.yaml")):
            mount.update(web=broken)
            wait_until("the broken set is told", lambda words=words: "not in use" in (told := service.get("/readyz")[1]) and words in told)  # type: ignore[misc]
        scene.load(8)
        scene.resource().wait_replicas(8, timeout_s=2 * INTERVAL_S + 5)
        assert service.get("/readyz")[0] == 200
        assert "autoscaler_config_last_reload_successful 0.0" in service.get("/metrics")[1]
        assert service.said("the new policies are not used, the last good ones stay", "minReplicas")
        mount.update(web=text(maxReplicas=6))
        scene.resource().wait_replicas(6, timeout_s=2 * INTERVAL_S + 5)
        assert "not in use" not in service.get("/readyz")[1]
        assert scene.written() == [8, 6]
        scene.assert_no_traceback()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room that there is."""
    ballast = disk / "ballast"
    done = subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=4k"], capture_output=True, text=True, check=False)
    assert "No space left on device" in done.stderr
    return ballast


def asleep_at_zero(namespace: str) -> Json:
    return following(namespace, "sleepy", minReplicas=0)


def test_a_disk_without_room_for_the_state(make_scene: Callable[[str], Scene], tmp_path: Path) -> None:
    """What needs no memory goes on; who would be put to sleep is not, since nobody could tell after a kill that we did it."""
    with small_disk(tmp_path / "disk") as disk:
        scene = make_scene(str(disk / "state"))
        scene.deploy("web", 4)
        scene.deploy("sleepy", 2)
        scene.load(4, "web")
        scene.load(2, "sleepy")
        with scene.service as service:
            service.use(following(scene.namespace), asleep_at_zero(scene.namespace))
            service.wait_decision(scene.namespace, "sleepy", "it has its load", desired=2.0, apply=False)
            ballast = fill(disk)
            scene.exporter.set_rate(scene.namespace, "sleepy", 0.0)
            scene.load(8, "web")
            scene.resource("web").wait_replicas(8, timeout_s=2 * INTERVAL_S + 5)
            told = "not put to sleep, as it could not be noted first"
            wait_until("it is said", lambda: told in service.workload(scene.namespace, "sleepy")["write_problem"])
            assert scene.written("sleepy") == []
            assert (
                sum("No space left on device" in line and "the state cannot be saved" in line for line in service.log().splitlines()) == 1
            )
            assert 'autoscaler_state_writes_total{outcome="failed"}' in service.get("/metrics")[1]
            ballast.unlink()
            scene.resource("sleepy").wait_replicas(0, timeout_s=2 * INTERVAL_S + 5)
            assert service.said("the state is saved again")
            assert service.process.stop() == 0
            assert (scene.written("web"), scene.written("sleepy")) == ([8], [0])
            scene.assert_no_traceback()
