"""What goes wrong on a real node, and what is expected of it: one incident, by its container and cause, or none at all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoscaler.core.health.taxonomy import Cause
from tests.cluster.rig import Resource
from tests.node import steps
from tests.node.manifests import SERVE, container, deployment, disruption_budget, job, pod, stateful_set
from tests.node.rig import Node

Json = dict[str, Any]
Step = Callable[[Node, Resource], None]

WATCHED = "watched"
"""The namespace whose policy reports."""
TENDED = "tended"
"""The namespace whose policy has remedies."""

SECRET = "correct-horse-battery"  # what a container tells its log, and nobody may be told
FAIL = "echo cannot reach the database; exit 1"
NEVER = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
STATE: Json = {"volumeMounts": [{"name": steps.VOLUME, "mountPath": "/state"}]}
EMPTY_DIR = [{"name": steps.VOLUME, "emptyDir": {}}]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Objects that are made at once, and a step that follows; the first object is the one that it is about.

    ``cause`` None: nothing may be said of it. ``log``: a line of the container's log that people are told. ``remedy``: what is said of
    the remedy, carried out or refused; ``cured``: it helps.
    """

    objects: tuple[Json, ...]
    cause: Cause | None
    container: str = ""
    step: Step | None = None
    log: str = ""
    remedy: str = ""
    cured: bool = False

    @property
    def main(self) -> Json:
        """The object that it is about."""
        return self.objects[0]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.main["metadata"]["name"])

    @property
    def subject(self) -> str:
        """It, in the words of the service."""
        return f"{self.main['kind']} {self.main['metadata']['namespace']}/{self.name}"


def watched(name: str, *containers: Json, **fields: Any) -> tuple[Json, ...]:  # noqa: ANN401 - fields of a pod's spec
    """One Deployment in the watched namespace."""
    return (deployment(WATCHED, name, *containers, **fields),)


def _end() -> list[Scenario]:
    """Containers that end when they should not."""
    serve = container(SERVE)
    tells = container(f"echo connecting to postgres://shop:{SECRET}@db/shop; echo giving up; exit 1")
    hog = container("exec dd if=/dev/zero of=/dev/null bs=256M", resources={"limits": {"memory": "32Mi"}})
    hook = {"postStart": {"exec": {"command": ["false"]}}}
    proxy = container(FAIL, "proxy", restartPolicy="Always")
    told = "cannot reach the database"
    return [
        Scenario(watched("exit-one", tells), Cause.CRASH_LOOP, "main", log="giving up"),
        Scenario(watched("exit-zero", container("echo all done")), Cause.CLEAN_EXIT, "main", log="all done"),
        Scenario(watched("out-of-memory", hog), Cause.OOM, "main"),
        Scenario(watched("no-command", serve | {"command": ["/bin/absent"]}), Cause.CANNOT_RUN, "main"),
        Scenario(watched("not-found", container("absent")), Cause.CANNOT_RUN, "main", log="sh: absent: not found"),
        Scenario(watched("failing-hook", serve | {"lifecycle": hook}), Cause.HOOK, "main"),
        Scenario(watched("failing-init", serve, initial=[container(FAIL, "setup")]), Cause.INIT, "setup", log=told),
        Scenario(watched("failing-sidecar", serve, initial=[proxy]), Cause.SIDECAR, "proxy", log=told),
        Scenario(watched("not-alive", container("sleep 600", livenessProbe=NEVER)), Cause.KILLED, "main"),
        Scenario(watched("ends-when-asked", serve | {"livenessProbe": NEVER}), Cause.KILLED, "main"),
    ]


def _wait() -> list[Scenario]:
    """Pods that do not start, do not become ready, or do not go."""
    serve = container(SERVE)
    missing_key = {"name": "PASSWORD", "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "password"}}}
    volume, mount = {"name": "lost", "secret": {"secretName": "lost"}}, {"name": "lost", "mountPath": "/lost"}
    held = deployment(WATCHED, "held", serve)
    held["spec"]["template"]["metadata"]["finalizers"] = ["autoscaler.dev/test"]
    return [
        Scenario(watched("missing-image", serve | {"image": "127.0.0.1:1/missing:1"}), Cause.IMAGE_PULL, "main"),
        Scenario(watched("bad-image-name", serve | {"image": "Not/An:Image:1"}), Cause.BAD_IMAGE, "main"),
        Scenario(watched("never-pulled", serve | {"image": "localhost/absent:1", "imagePullPolicy": "Never"}), Cause.BAD_IMAGE, "main"),
        Scenario(watched("missing-key", serve | {"env": [missing_key]}), Cause.CONFIG, "main"),
        Scenario(watched("lost-volume", serve | {"volumeMounts": [mount]}, volumes=[volume]), Cause.CREATING),
        Scenario(watched("no-room", serve | {"resources": {"requests": {"cpu": "1000"}}}), Cause.UNSCHEDULABLE),
        Scenario(watched("no-account", serve, serviceAccountName="absent"), Cause.CREATE_FAILED),
        Scenario(watched("never-ready", serve | {"readinessProbe": NEVER}), Cause.UNREADY, "main"),
        Scenario((held,), Cause.TERMINATING, step=steps.delete_a_pod),
    ]


def _finite() -> list[Scenario]:
    """Jobs: one that succeeds at its second try, and one that does not."""
    second = container("test -e /state/seen || { touch /state/seen; exit 1; }", **STATE)
    return [
        Scenario((job(WATCHED, "second-try", second, restartPolicy="OnFailure", volumes=EMPTY_DIR),), None),
        Scenario((job(WATCHED, "failing-job", container(FAIL), restartPolicy="Never", backoff_limit=1),), Cause.JOB),
    ]


def _well() -> list[Scenario]:
    """What people do every day."""
    serve = container(SERVE)
    return [
        Scenario(watched("healthy", serve, replicas=3), None),
        Scenario(watched("rolled-out", serve, replicas=3), None, step=steps.roll_out),
        Scenario(watched("scaled-down", serve, replicas=3), None, step=steps.scale_down),
        Scenario(watched("drained", serve, replicas=3), None, step=steps.drain),
    ]


def _tended() -> list[Scenario]:
    """What a remedy is asked for."""
    starts = container(f"while sleep 0.2; do test ! -e /state/{steps.LOCK} || exit 1; done", **STATE)
    locked = deployment(TENDED, "locked", starts, replicas=3, volumes=EMPTY_DIR)
    unready = container(FAIL, readinessProbe=NEVER)  # were it Ready for a moment, its controller would go on by itself
    wedged, guarded = (stateful_set(TENDED, name, unready) for name in ("wedged", "guarded"))
    full = container("dd if=/dev/zero of=/state/full bs=1M count=8; sleep 600", **STATE)
    evicted = pod(TENDED, "evicted", full, volumes=[{"name": steps.VOLUME, "emptyDir": {"sizeLimit": "1Mi"}}])
    return [
        Scenario((locked,), Cause.CRASH_LOOP, "main", steps.leave_a_lock, remedy="evicted: CrashLoop", cured=True),
        Scenario((wedged,), Cause.WEDGED, step=steps.mend, remedy="evicted: WedgedStatefulSet", cured=True),
        Scenario((guarded, disruption_budget(TENDED, "guarded", 1)), Cause.WEDGED, step=steps.mend, remedy="disruption budget"),
        Scenario((evicted,), Cause.FAILED, remedy="no controller owns the pod"),
    ]


SCENARIOS = (*_end(), *_wait(), *_finite(), *_well(), *_tended())
