"""A load that doubles in the middle of a rollout, with the real controllers writing the Deployment's status all the while."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.faults import INTERVAL_S, Json, Scene, following, service_of
from tests.cluster.rig import Audit, ControlPlane, Exporter, Kubelet, Prometheus, Resource, wait_until

log = logging.getLogger(__name__)

REPLICAS = 20


def revise(target: Resource, revision: int) -> None:
    """Begin a rollout, even within another one."""
    target.merge({"spec": {"template": {"metadata": {"annotations": {"revision": str(revision)}}}}})


def test_a_scale_up_lands_within_two_ticks_of_a_load_that_doubles_during_a_rollout(
    fragile: ControlPlane,
    audit: Audit,
    prometheus: Prometheus,
    exporter: Exporter,
    name_namespace: Callable[[str], str],
    tmp_path: Path,
) -> None:
    namespace = fragile.api.create_namespace(name_namespace("rollout")).name
    with service_of(fragile, namespace, tmp_path, prometheus.url) as service:
        scene = Scene(fragile, audit, exporter, service, namespace)
        target = scene.deploy(replicas=REPLICAS)
        scene.load(REPLICAS)
        target.wait_ready(REPLICAS)
        service.use(following(namespace, behavior={}))  # the default: at most twice the count, or four more, in 15 s
        scene.wait_ticks(2)
        with Kubelet(target):
            revise(target, 0)
            target.wait("the rollout is under way", lambda seen: 0 < seen["status"].get("updatedReplicas", 0) < REPLICAS)
            before = target.read()["metadata"]["resourceVersion"]
            scene.load(2 * REPLICAS)
            readable = f'max(http_requests_offered{{namespace="{namespace}",app="web"}}) > {REPLICAS * 15}'
            wait_until("the doubled load is readable", lambda: not math.isnan(prometheus.value(readable)), timeout_s=10)
            readable_s = time.time()

            def landed_amid_another_revision() -> Json | None:
                seen = target.read()
                revise(target, int(seen["metadata"]["generation"]))
                return seen if seen["spec"]["replicas"] == 2 * REPLICAS else None

            landed = wait_until("the count is doubled", landed_amid_another_revision, timeout_s=2 * INTERVAL_S + 5, every_s=0.3)
        # The first tick that can see it begins within an interval; the write must belong to it or to the next one.
        decided = next(each for each in service.workload(namespace, "web")["decisions"][::-1] if each["desired"] == 2 * REPLICAS)
        log.info("rollout: the tick that doubles the count begins %.1f s after the load is readable", decided["at_s"] - readable_s)
        assert decided["at_s"] - readable_s <= 2 * INTERVAL_S
        assert landed["status"]["replicas"] > landed["status"].get("updatedReplicas", 0), "the rollout was over before"
        assert landed["metadata"]["resourceVersion"] != before
        assert scene.written() == [2 * REPLICAS], "one write, and nothing down"
        refused = [each for each in scene.requests() if each.verb == "patch" and each.status != 200]
        assert refused == [], "status writes do not make ours stale"
        scene.assert_no_traceback()
