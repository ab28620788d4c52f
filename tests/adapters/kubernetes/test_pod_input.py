"""Pods that say anything at all: decoded, judged and told, nothing fails."""

import json
from math import inf, isnan
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.pod_wire import PodObject, pod_of
from autoscaler.core.health.assess import Memory, assess
from autoscaler.core.health.facts import Facts
from autoscaler.core.health.findings import Key
from autoscaler.core.health.lifecycle import Incident, advance
from autoscaler.core.health.taxonomy import Cause

Json = dict[str, Any]

NOON, NOON_S = "2026-11-24T12:00:00Z", 1795521600.0

TEXTS = st.sampled_from(
    ["", "Running", "Pending", "Failed", "Unknown", "Error", "OOMKilled", "CrashLoopBackOff", "Evicted", "\x00", "\u202e"]
)
TIMES = st.sampled_from([None, "", NOON, "2099-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "never", "2026-11-24T11:59:59Z"])
COUNTS = st.sampled_from([-(2**31), -1, 0, 1, 5, 2**31 - 1])
TERMINATED = st.fixed_dictionaries({}, optional={"exitCode": COUNTS, "reason": TEXTS, "startedAt": TIMES, "finishedAt": TIMES})
STATES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "waiting": st.none() | st.fixed_dictionaries({}, optional={"reason": TEXTS}),
        "running": st.none() | st.fixed_dictionaries({}, optional={"startedAt": TIMES}),
        "terminated": st.none() | TERMINATED,
    },
)
NAMES = st.sampled_from(["app", "init", ""])
STATUSES = st.none() | st.lists(
    st.fixed_dictionaries(
        {"name": NAMES},
        optional={
            "ready": st.booleans(),
            "started": st.none() | st.booleans(),
            "restartCount": COUNTS,
            "state": STATES,
            "lastState": STATES,
        },
    ),
    max_size=3,
)
SPECS = st.none() | st.lists(st.fixed_dictionaries({"name": NAMES}, optional={"restartPolicy": TEXTS | st.just("Always")}), max_size=3)
CONDITIONS = st.none() | st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["Ready", "PodScheduled", "Initialized", "DisruptionTarget", "X"])},
        optional={"status": st.sampled_from(["True", "False", "Unknown", "?"]), "reason": TEXTS, "lastTransitionTime": TIMES},
    ),
    max_size=4,
)
OWNERS = st.none() | st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["ReplicaSet", "Job", "Node", "StatefulSet", "X"]), "name": NAMES, "uid": st.sampled_from(["o", ""])},
        optional={"controller": st.none() | st.booleans()},
    ),
    max_size=2,
)
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": st.just("p"), "namespace": st.just("shop"), "uid": st.just("p"), "resourceVersion": st.sampled_from(["1", "2"])},
            optional={"creationTimestamp": TIMES, "deletionTimestamp": TIMES, "ownerReferences": OWNERS, "finalizers": st.none()},
        )
    },
    optional={
        "spec": st.none()
        | st.fixed_dictionaries(
            {}, optional={"containers": SPECS, "initContainers": SPECS, "nodeName": NAMES, "restartPolicy": TEXTS | st.just("Always")}
        ),
        "status": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "phase": TEXTS,
                "reason": TEXTS,
                "startTime": TIMES,
                "conditions": CONDITIONS,
                "containerStatuses": STATUSES,
                "initContainerStatuses": STATUSES,
            },
        ),
    },
)


@given(versions=st.lists(PODS, min_size=1, max_size=4), step_s=st.sampled_from([0.0, 1.0, 400.0]))
def test_no_pod_makes_anything_fail(versions: list[Json], step_s: float) -> None:
    """Decoded, judged and told: whatever a pod says, and however it goes on from there."""
    memory, at_s = Memory(), NOON_S
    incidents: dict[Key, Incident] = {}
    for body in versions:
        found = pod_of(msgspec.json.decode(json.dumps(body), type=PodObject))
        assert all(container.restarts >= -1 for container in found.containers)
        memory, assessment = assess(memory, Facts(at_s, (found,)))
        incidents, _ = advance(incidents, assessment)
        for finding in assessment.findings:
            assert not isnan(finding.since_s)
            assert -inf < finding.since_s
            assert finding.since_s <= at_s or finding.cause is Cause.TERMINATING, "deletions are asked for some time ahead"
        at_s += step_s
