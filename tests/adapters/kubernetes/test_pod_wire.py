"""What becomes of pods, controllers, nodes and events on their way off the wire; whatever they lack or contradict, nothing fails."""

import json
from collections.abc import Mapping
from math import nan
from typing import Any

import msgspec
import pytest

from autoscaler.adapters.kubernetes.controllers import ControllerObject, NodeObject, controller_fact, seen_node
from autoscaler.adapters.kubernetes.facts_wire import Pool, seconds
from autoscaler.adapters.kubernetes.pod_events import EventObject, Events, seen_event
from autoscaler.adapters.kubernetes.pod_wire import PodObject, pod_of
from autoscaler.core.health.facts import Condition, Container, Controller, Node, Owner, Pod, PodEvent, Resources, Role, Termination

Json = dict[str, Any]

NOON = "2026-11-24T12:00:00Z"
NOON_S = 1795521600.0
EARLIER = "2026-11-24T11:00:00Z"


OWNED = {"kind": "ReplicaSet", "name": "web-1", "uid": "r", "controller": True}


def metadata(**more: object) -> Json:
    return {"name": "web-1-a", "namespace": "shop", "uid": "u", "resourceVersion": "7", **more}


def pod(spec: object = None, status: object = None, **meta: object) -> Pod:
    body = {"metadata": metadata(**meta), "spec": spec, "status": status}
    return pod_of(msgspec.json.decode(json.dumps(body), type=PodObject))


def containers(spec: object = None, status: object = None) -> tuple[Container, ...]:
    return pod(spec, status).containers


def only(status: Json, spec: Json | None = None) -> Container:
    """The pod's one container."""
    (found,) = containers({"containers": [spec or {"name": "app"}]}, {"containerStatuses": [{"name": "app", **status}]})
    return found


def test_a_pod_as_a_kubelet_reports_it() -> None:
    found = pod(
        {
            "nodeName": "node-1",
            "restartPolicy": "Always",
            "priorityClassName": "system-node-critical",
            "initContainers": [{"name": "init", "image": "i:1"}, {"name": "proxy", "image": "p:1", "restartPolicy": "Always"}],
            "containers": [{"name": "app", "image": "web:1", "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}}}],
        },
        {
            "phase": "Running",
            "startTime": NOON,
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": NOON}],
            "initContainerStatuses": [
                {"name": "init", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": NOON}}},
                {"name": "proxy", "ready": True, "started": True, "restartCount": 1, "state": {"running": {"startedAt": NOON}}},
            ],
            "containerStatuses": [
                {
                    "name": "app",
                    "image": "registry/web:1",
                    "ready": False,
                    "started": False,
                    "restartCount": 4,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m20s"}},
                    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": NOON, "finishedAt": NOON}},
                }
            ],
        },
        creationTimestamp=NOON,
        labels={"app": "web", "pod-template-hash": "1"},
        finalizers=["example.dev/hold"],
        ownerReferences=[
            {"kind": "Other", "name": "x", "uid": "x"},
            {"kind": "ReplicaSet", "name": "web-1", "uid": "r", "controller": True},
        ],
    )
    assert found == Pod(
        namespace="shop",
        name="web-1-a",
        uid="u",
        resource_version="7",
        owner=Owner("ReplicaSet", "web-1", "r"),
        revision="1",
        created_s=NOON_S,
        started_s=NOON_S,
        deletion_s=nan,
        finalizers=("example.dev/hold",),
        node="node-1",
        phase="Running",
        restart_policy="Always",
        critical=True,
        conditions=(Condition("Ready", "False", "ContainersNotReady", NOON_S),),
        containers=(
            Container("init", Role.INIT, "i:1", 0, terminated=Termination(0, "Completed", nan, NOON_S)),
            Container("proxy", Role.SIDECAR, "p:1", 1, ready=True, started=True, running=True, running_s=NOON_S),
            Container(
                "app",
                image="web:1",
                restarts=4,
                ready=False,
                started=False,
                waiting="CrashLoopBackOff",
                last=Termination(137, "OOMKilled", NOON_S, NOON_S),
                resources=Resources(0.25, nan, nan, 2.0**30),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("made", "field", "expected"),
    [
        pytest.param(pod(), "phase", "", id="no-status"),
        pytest.param(pod(), "containers", (), id="no-spec"),
        pytest.param(pod(status={}), "conditions", (), id="empty-status"),
        pytest.param(pod(status={"conditions": None}), "conditions", (), id="null-conditions"),
        pytest.param(pod(status={"phase": "Daydreaming"}), "phase", "Daydreaming", id="unknown-phase"),
        pytest.param(pod(status={"phase": "Failed", "reason": "Evicted"}), "reason", "Evicted", id="reason"),
        pytest.param(pod(deletionTimestamp=NOON), "deletion_s", NOON_S, id="deleted"),
        pytest.param(pod(labels={"controller-revision-hash": "db-7"}), "revision", "db-7", id="revision-of-a-statefulset"),
        pytest.param(pod(annotations={"kubernetes.io/config.mirror": "x"}), "mirror", True, id="mirror"),
        pytest.param(pod(ownerReferences=[{"kind": "Node", "name": "n", "uid": "n", "controller": True}]), "mirror", True, id="static"),
        pytest.param(pod(ownerReferences=[{"kind": "ReplicaSet", "name": "r", "uid": "r"}]), "owner", None, id="owner-not-in-control"),
        pytest.param(pod({"priorityClassName": "high"}), "critical", False, id="another-priority"),
        pytest.param(pod({"containers": None}), "containers", (), id="null-containers"),
        pytest.param(containers({"containers": [{"name": "app"}]}), None, (Container("app"),), id="no-container-statuses"),
        pytest.param(
            containers(None, {"containerStatuses": [{"name": "app", "image": "web:1", "restartCount": 2}]}),
            None,
            (Container("app", image="web:1", restarts=2),),
            id="status-without-spec",
        ),
        pytest.param(
            containers({"containers": [{"name": "app"}]}, {"containerStatuses": [{"name": "another"}]}),
            None,
            (Container("app"),),
            id="names",
        ),
        pytest.param(only({"restartCount": -3}), "restarts", -1, id="negative-restarts"),
        pytest.param(only({"state": {}}), "running", False, id="no-state"),
        pytest.param(only({"state": {"running": {}}}), "running", True, id="running-since-nobody-knows"),
        pytest.param(only({"state": {"terminated": {}}}), "terminated", Termination(), id="terminated-without-a-word"),
        pytest.param(only({"state": {"terminated": {"exitCode": -1}}}), "terminated", Termination(-1), id="negative-exit-code"),
        pytest.param(only({}, {"name": "app", "resources": {"limits": {"cpu": "lots"}}}), "resources", Resources(), id="no-quantity"),
        pytest.param(only({}, {"name": "app", "resources": {"limits": {"cpu": 2}}}), "resources", Resources(cpu_limit=2.0), id="a-number"),
    ],
)
def test_what_is_missing_is_not_known(made: object, field: str | None, expected: object) -> None:
    found = made if field is None else getattr(made, field)
    assert repr(found) == repr(expected)  # NaN is not equal to itself


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(NOON, NOON_S, id="seconds"),
        pytest.param("2026-11-24T12:00:00.250000Z", NOON_S + 0.25, id="micro-time"),
        pytest.param("2026-11-24T13:00:00+01:00", NOON_S, id="offset"),
        pytest.param("2026-11-24T12:00:00", NOON_S, id="no-zone"),
        pytest.param("9999-12-31T23:59:59Z", 253402300799.0, id="far-future"),
        pytest.param("0001-01-01T00:00:00Z", -62135596800.0, id="zero-of-go"),
        pytest.param("", nan, id="empty"),
        pytest.param(None, nan, id="null"),
        pytest.param("tomorrow", nan, id="nonsense"),
    ],
)
def test_times(told: str | None, expected: float) -> None:
    assert repr(seconds(told)) == repr(expected)


def controller(kind: str, body: Mapping[str, object], **meta: object) -> Controller:
    text = json.dumps({"metadata": metadata(**meta), **body})
    return controller_fact(kind, msgspec.json.decode(text, type=ControllerObject))


BASE = Controller("Deployment", "shop", "web-1-a", "u", updated=0.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            controller(
                "Deployment",
                {
                    "spec": {"replicas": 3, "paused": True, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}},
                    "status": {
                        "observedGeneration": 4,
                        "updatedReplicas": 2,
                        "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
                    },
                },
                generation=5,
                labels={"app": "web"},
                creationTimestamp=NOON,
            ),
            Controller(
                "Deployment",
                "shop",
                "web-1-a",
                "u",
                created_s=NOON_S,
                generation=5,
                observed_generation=4,
                replicas=3.0,
                updated=2.0,
                paused=True,
                strategy="RollingUpdate",
                labels=(("app", "web"),),
                conditions=(Condition("Progressing", "False", "ProgressDeadlineExceeded"),),
            ),
            id="deployment",
        ),
        pytest.param(
            controller(
                "ReplicaSet",
                {"spec": {"replicas": 0}},
                labels={"pod-template-hash": "abc"},
                annotations={"deployment.kubernetes.io/revision": "12"},
                ownerReferences=[{"kind": "Deployment", "name": "web", "uid": "d", "controller": True}],
            ),
            Controller(
                "ReplicaSet",
                "shop",
                "web-1-a",
                "u",
                Owner("Deployment", "web", "d"),
                replicas=0.0,
                updated=0.0,
                revision="abc",
                number=12,
                labels=(("pod-template-hash", "abc"),),
            ),
            id="replica-set",
        ),
        pytest.param(
            controller(
                "StatefulSet",
                {
                    "spec": {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
                    "status": {"currentRevision": "db-1", "updateRevision": "db-2", "updatedReplicas": 1},
                },
            ),
            Controller(
                "StatefulSet",
                "shop",
                "web-1-a",
                "u",
                replicas=3.0,
                updated=1.0,
                revision="db-1",
                update_revision="db-2",
                strategy="RollingUpdate",
                partition=2,
            ),
            id="stateful-set",
        ),
        pytest.param(
            controller("DaemonSet", {"status": {"desiredNumberScheduled": 7, "updatedNumberScheduled": 6}}),
            Controller("DaemonSet", "shop", "web-1-a", "u", replicas=7.0, updated=6.0),
            id="daemon-set",
        ),
        pytest.param(
            controller("Job", {"status": {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": NOON}]}}),
            Controller("Job", "shop", "web-1-a", "u", updated=0.0, conditions=(Condition("Failed", "True", "", NOON_S),)),
            id="job",
        ),
        pytest.param(controller("Deployment", {"spec": None, "status": None}), BASE, id="nothing-but-a-name"),
        pytest.param(
            controller("Deployment", {}, annotations={"deployment.kubernetes.io/revision": "-1"}), BASE, id="a-revision-that-is-no-number"
        ),
        pytest.param(
            controller("Deployment", {}, deletionTimestamp=NOON),
            Controller("Deployment", "shop", "web-1-a", "u", updated=0.0, leaving=True),
            id="being-deleted",
        ),
    ],
)
def test_controllers(found: Controller, expected: Controller) -> None:
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({}, Node("web-1-a", "u"), id="nothing-said"),
        pytest.param(
            {"spec": {"taints": [{"key": "dedicated", "effect": "NoSchedule"}]}, "status": {"conditions": None}},
            Node("web-1-a", "u"),
            id="another-taint",
        ),
        pytest.param(
            {
                "spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Lost", "lastTransitionTime": NOON}]},
            },
            Node("web-1-a", "u", unreachable=True, conditions=(Condition("Ready", "Unknown", "Lost", NOON_S),)),
            id="lost",
        ),
    ],
)
def test_nodes(body: Mapping[str, object], expected: Node) -> None:
    found = seen_node(msgspec.json.decode(json.dumps({"metadata": metadata(), **body}), type=NodeObject))
    assert repr(found.fact) == repr(expected)


def event(reason: str = "Killing", message: str = "", path: str = "spec.containers{app}", **more: object) -> PodEvent:
    body = {"metadata": metadata(), "involvedObject": {"uid": "p", "fieldPath": path}, "reason": reason, "message": message, **more}
    found = seen_event(msgspec.json.decode(json.dumps(body), type=EventObject))
    assert found.fact.uid == "p"
    return found.fact.event


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            event(message="Container app failed liveness probe, will be restarted"), PodEvent("Killing", "app", "liveness"), id="liveness"
        ),
        pytest.param(
            event(message="Container app failed startup probe, will be restarted"), PodEvent("Killing", "app", "startup"), id="startup"
        ),
        pytest.param(
            event(message="Init container proxy failed liveness probe", path="spec.initContainers{proxy}"),
            PodEvent("Killing", "proxy", "liveness"),
            id="of-a-sidecar",
        ),
        pytest.param(
            event(message="Container app failed liveness probe, will be restarted", path=""),
            PodEvent("Killing", "app", "liveness"),
            id="named-in-the-message-alone",
        ),
        pytest.param(event(message="Stopping container app"), PodEvent("Killing", "app"), id="an-ordinary-end"),
        pytest.param(event("BackOff", "Container app failed liveness probe"), PodEvent("BackOff", "app"), id="a-warning-names-no-probe"),
        pytest.param(event("FailedMount", path=""), PodEvent("FailedMount"), id="of-the-pod"),
        pytest.param(
            event(lastTimestamp=NOON, firstTimestamp="2026-11-24T11:00:00Z"), PodEvent("Killing", "app", "", NOON_S), id="the-last"
        ),
        pytest.param(
            event(lastTimestamp=None, eventTime=NOON, firstTimestamp=None), PodEvent("Killing", "app", "", NOON_S), id="of-the-new-api"
        ),
        pytest.param(
            event(eventTime=EARLIER, series={"count": 3, "lastObservedTime": NOON}),
            PodEvent("Killing", "app", "", NOON_S),
            id="of-a-series",
        ),
    ],
)
def test_events(found: PodEvent, expected: PodEvent) -> None:
    assert repr(found) == repr(expected)


def test_events_of_a_pod_come_and_go() -> None:
    def seen(name: str, uid: str, reason: str) -> Any:  # noqa: ANN401 - what the watch keeps
        body = {"metadata": metadata(name=name), "involvedObject": {"uid": uid}, "reason": reason}
        return seen_event(msgspec.json.decode(json.dumps(body), type=EventObject)).fact

    events = Events()
    for told in (
        seen("a", "p", "BackOff"),
        seen("b", "p", "Unhealthy"),
        seen("c", "q", "BackOff"),
        seen("a", "p", "Failed"),
        seen("d", "", "X"),
    ):
        events.put(told)
    before = events.rows()
    assert {uid: [each.reason for each in rows] for uid, rows in before.items()} == {"p": ["Failed", "Unhealthy"], "q": ["BackOff"]}
    for told in (seen("a", "p", "Failed"), seen("c", "q", "BackOff"), seen("never", "x", "BackOff")):
        events.drop(told)
    assert {uid: [each.reason for each in rows] for uid, rows in events.rows().items()} == {"p": ["Unhealthy"]}
    assert "q" in before, "a copy that was handed out stays as it was"


def test_pods_share_what_they_have_in_common() -> None:
    spec = {"nodeName": "n", "containers": [{"name": "app", "image": "web:1", "resources": {"requests": {"cpu": "100m"}}}]}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": NOON}]}
    one, two = (pod(spec, status, uid=uid, ownerReferences=[OWNED], creationTimestamp=NOON) for uid in ("a", "b"))
    assert one.uid != two.uid
    for field in ("owner", "node", "phase", "conditions", "created_s", "namespace", "finalizers"):
        assert getattr(one, field) is getattr(two, field), field
    assert one.containers[0].image is two.containers[0].image
    assert one.containers[0].resources is two.containers[0].resources


def test_a_pool_forgets_rather_than_grows() -> None:
    pool: Pool[tuple[int, ...]] = Pool()
    first = pool((1,))
    assert pool((1,)) is first
    kept = [pool((number, number)) for number in range(20_000)]
    assert pool((0, 0)) is not kept[0]
