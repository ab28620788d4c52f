"""A real API server that dies, hangs, loses its etcd, or is put back in time, under a running service and a load that changes.

Each row of docs/failures.md: eight replicas, then the fault while the load doubles, then its end. The API server's own record says what
was written; nothing is but the count that the load asks for.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.faults import Scene, following, proxy_before, service_of
from tests.cluster.rig import Audit, ControlPlane, Exporter, Prometheus, wait_until
from tests.cluster.rig.certificates import sign

log = logging.getLogger(__name__)

BEFORE, AFTER = 8, 16


@pytest.fixture(scope="module")
def running(
    fragile: ControlPlane,
    audit: Audit,
    prometheus: Prometheus,
    exporter: Exporter,
    name_namespace: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """One service for all tests here: what one fault leaves behind, the next would show."""
    namespace = fragile.api.create_namespace(name_namespace("api-server")).name
    folder = tmp_path_factory.mktemp("api-server")
    with service_of(fragile, namespace, folder, prometheus.url, state="kubernetes") as service:
        scene = Scene(fragile, audit, exporter, service, namespace)
        scene.deploy(replicas=BEFORE)
        scene.load(BEFORE)
        service.use(following(namespace))
        yield scene
        assert service.process.stop() == 0
        saved = fragile.api.resource("v1", "ConfigMap", "autoscaler-state-0", namespace).read()["data"]["state.json"]
        assert scene.resource().read()["metadata"]["uid"] in saved, "it still remembers"


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    """At eight replicas; afterwards every request is accounted for."""
    running.settle(BEFORE)
    known, tries = len(running.requests()), watch_restarts(running)
    began_s = time.monotonic()
    yield running
    minutes = (time.monotonic() - began_s) / 60
    assert len(running.requests()) - known < 60 + 100 * minutes, "requests are bounded"
    assert max((watch_restarts(running) - tries).values(), default=0) <= 24, (
        "so are attempts that never arrive: two watches of each resource"
    )
    running.assert_no_traceback()


def watch_restarts(scene: Scene) -> Counter[str]:
    """How often watches were opened again, by resource."""
    found: Counter[str] = Counter()
    for line in scene.service.get("/metrics")[1].splitlines():
        if line.startswith("autoscaler_watch_restarts_total{"):
            found[line.partition('resource="')[2].partition('"')[0]] += int(float(line.rpartition(" ")[2]))
    return found


def suffer(scene: Scene, told: str) -> None:
    """The load doubles, and it is said why its count is not written; the service itself is well."""
    scene.load(AFTER)
    wait_until(f"it says {told!r}", lambda: told in scene.service.workload(scene.namespace, "web")["write_problem"], timeout_s=30)
    assert scene.service.get("/healthz") == (200, "ok\n")
    assert {each["desired"] for each in scene.service.workload(scene.namespace, "web")["decisions"][:2]} <= {BEFORE, AFTER}
    assert scene.service.said("write", told)


def recover(scene: Scene, what: str, since_s: float, replicas: int = AFTER) -> None:
    """The part was mended then: the count that the load asks for is written."""
    scene.resource().wait_replicas(replicas, timeout_s=30)
    log.info("%s: recovered after %.1f s", what, time.monotonic() - since_s)


def test_killed(scene: Scene) -> None:
    known = len(scene.written())
    scene.plane.kill("apiserver")
    try:
        suffer(scene, "no connection to")
    finally:
        since_s = time.monotonic()
        scene.plane.start("apiserver")
    recover(scene, "API server killed", since_s)
    assert scene.written()[known:] == [AFTER]


def test_frozen(scene: Scene) -> None:
    """A hung server may still carry out what it was asked before it hung; it is asked for the count of the load then.

    Of that one the record has no success, as its caller had gone.
    """
    known = len(scene.written())
    scene.plane.process("apiserver").pause()
    try:
        suffer(scene, "no answer within 10 s")
    finally:
        since_s = time.monotonic()
        scene.plane.process("apiserver").resume()
    recover(scene, "API server frozen", since_s)
    scene.wait_ticks(1)
    assert set(scene.written()[known:]) <= {AFTER}


def test_its_etcd_stopped_and_later_put_back_in_time(scene: Scene) -> None:
    """The snapshot of the first fault is what the second one restores: eight replicas, where the service has seen sixteen."""
    known = len(scene.written())
    data = next(scene.plane.folder.glob("etcd-*[0-9]"))
    snapshot = scene.plane.folder / "snapshot"
    scene.plane.stop("etcd")
    try:
        suffer(scene, "no answer within 10 s")
        shutil.copytree(data, snapshot)
    finally:
        since_s = time.monotonic()
        scene.plane.start("etcd")
    recover(scene, "etcd stopped", since_s)
    assert scene.written()[known:] == [AFTER]
    scene.resource().wait_ready(AFTER)

    scene.plane.kill("apiserver")
    scene.plane.kill("etcd")
    shutil.rmtree(data)
    shutil.move(snapshot, data)
    scene.load(AFTER - 4)
    since_s = time.monotonic()
    scene.plane.start("etcd")
    scene.plane.start("apiserver")
    recover(scene, "etcd restored to an older state", since_s, AFTER - 4)
    assert scene.written()[known + 1 :] == [AFTER - 4]
    assert 422 in {each.status for each in scene.requests() if each.verb == "patch"}, "it was tried from the stale view, and refused"
    assert scene.service.said("Deployment web", "is not as it was shown, and no event tells why: it is listed again")


def test_its_certificate_expires(scene: Scene) -> None:
    known, folder = len(scene.written()), scene.plane.folder
    sign(folder, "server", days="-1")
    scene.plane.kill("apiserver")
    scene.plane.process("apiserver").start()
    try:
        suffer(scene, "certificate has expired")
    finally:
        sign(folder, "server")
        since_s = time.monotonic()
        scene.plane.kill("apiserver")
        scene.plane.start("apiserver")
    recover(scene, "certificate renewed", since_s)
    assert scene.written()[known:] == [AFTER]


def test_a_watch_that_has_stopped_delivering(
    fragile: ControlPlane,
    audit: Audit,
    prometheus: Prometheus,
    exporter: Exporter,
    name_namespace: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Its connection stays open, and a count that somebody sets is never shown: nothing is written over it unseen."""
    namespace = fragile.api.create_namespace(name_namespace("silent-watch")).name
    with proxy_before(fragile) as proxy, service_of(fragile, namespace, tmp_path, prometheus.url, api_proxy=proxy) as service:
        scene = Scene(fragile, audit, exporter, service, namespace)
        scene.deploy(replicas=BEFORE)
        scene.load(BEFORE)
        service.use(following(namespace))
        scene.wait_ticks(2)
        silence = proxy.hold_answers(lambda passed: "watch=1" in passed.path)
        scene.resource().scale(BEFORE - 3)
        scene.load(AFTER)
        since_s = time.monotonic()
        recover(scene, "watch without events", since_s)
        stale = [each.status for each in scene.requests() if each.verb == "patch"]
        assert stale == [422, 200], "refused from the stale view, then seen again"
        assert scene.written() == [AFTER]
        assert service.said("Deployment web", "is not as it was shown, and no event tells why: it is listed again")
        silence.open()
        scene.assert_no_traceback()
