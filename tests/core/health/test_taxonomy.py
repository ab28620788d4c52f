"""Every row of the taxonomy: what a status says, after how long that is a finding, and what looks like it but is none."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from autoscaler.core.health.facts import Condition, Container, Node, Owner, Pod, Role, Termination
from autoscaler.core.health.taxonomy import CAUSE_TEXT, Cause, Waits, exit_meaning
from tests.core.health.build import (
    DEPLOYMENT,
    NODE,
    START_S,
    STATEFUL_SET,
    Ward,
    backing_off,
    container,
    ended,
    pod,
    ready,
    told,
    waiting,
)

WEB = "Deployment shop/web"
NOT_READY = ready(status="False", reason="ContainersNotReady", since_s=START_S + 10)
GATES = ready(status="False", reason="ReadinessGatesNotReady", since_s=START_S + 10)
NO_SANDBOX = Condition("PodReadyToStartContainers", "False", since_s=START_S + 10)
SANDBOX = Condition("PodReadyToStartContainers", "True", since_s=START_S + 10)
UNINITIALISED = Condition("Initialized", "False", "ContainersNotInitialized")
JOB = Owner("Job", "load", "load-uid")
END_S = START_S + 10
DOWN = replace(NODE, conditions=(Condition("Ready", "Unknown", "NodeStatusUnknown", START_S + 10),))


def unscheduled(reason: str) -> Pod:
    return pod(node="", phase="Pending", conditions=(Condition("PodScheduled", "False", reason, START_S + 10),), containers=())


def initialising(*containers: Container) -> Pod:
    return pod("web-1-a", *containers, phase="Pending", conditions=(UNINITIALISED,))


def first_due_s(ward: Ward, subject: Pod, times: Sequence[float], **more: Any) -> tuple[float, list[tuple[str, str, str]]]:  # noqa: ANN401 - of facts
    """When, of these times after the start, the pod first is a finding; ∞: never."""
    for after_s in times:
        found = told(ward.due(after_s, subject, **more))
        if found:
            return after_s, found
    return inf, []


@pytest.mark.parametrize(
    ("shown", "wait_s", "found"),
    [
        pytest.param(unscheduled("Unschedulable"), 300, (WEB, "", "Unschedulable"), id="unschedulable"),
        pytest.param(
            pod("web-1-a", waiting("ContainerCreating"), phase="Pending", conditions=(NO_SANDBOX,)),
            300,
            (WEB, "", "StuckCreating"),
            id="creating-without-a-sandbox",
        ),
        pytest.param(
            pod("web-1-a", waiting("PodInitializing"), phase="Pending", conditions=(NO_SANDBOX,)),
            300,
            (WEB, "", "StuckCreating"),
            id="initialising-without-a-sandbox",
        ),
        *[
            pytest.param(pod("web-1-a", waiting(reason)), 120, (WEB, "app", "ImagePull"), id=reason)
            for reason in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError")
        ],
        *[
            pytest.param(pod("web-1-a", waiting(reason)), 0, (WEB, "app", "BadImage"), id=reason)
            for reason in ("InvalidImageName", "ErrImageNeverPull")
        ],
        *[
            pytest.param(pod("web-1-a", waiting(reason)), 60, (WEB, "app", "ConfigError"), id=reason)
            for reason in ("CreateContainerConfigError", "CreateContainerError")
        ],
        pytest.param(pod("web-1-a", waiting("RunContainerError")), 0, (WEB, "app", "CannotRun"), id="RunContainerError"),
        pytest.param(pod("web-1-a", ended(128, "StartError", END_S)), 0, (WEB, "app", "CannotRun"), id="StartError"),
        pytest.param(pod("web-1-a", ended(127, "ContainerCannotRun", END_S)), 0, (WEB, "app", "CannotRun"), id="ContainerCannotRun"),
        *[
            pytest.param(pod("web-1-a", ended(code, "Error", END_S)), 0, (WEB, "app", "CannotRun"), id=f"exit-{code}")
            for code in (126, 127, 128)
        ],
        pytest.param(pod("web-1-a", waiting("PostStartHookError")), 60, (WEB, "app", "PostStartHook"), id="PostStartHookError"),
        pytest.param(pod("web-1-a", backing_off(1, "Error", END_S, 1)), 120, (WEB, "app", "CrashLoop"), id="CrashLoopBackOff"),
        pytest.param(pod("web-1-a", backing_off(1, "Error", END_S, 3)), 0, (WEB, "app", "CrashLoop"), id="three-restarts-in-ten-minutes"),
        pytest.param(
            pod("web-1-a", backing_off(restarts=1, last=None)), 120, (WEB, "app", "CrashLoop"), id="CrashLoopBackOff-without-a-last-state"
        ),
        pytest.param(
            pod("web-1-a", backing_off(0, "Completed", END_S, 1)), 120, (WEB, "app", "CleanExitLoop"), id="ends-well-again-and-again"
        ),
        pytest.param(pod("web-1-a", ended(137, "OOMKilled", END_S)), 0, (WEB, "app", "OutOfMemory"), id="OOMKilled"),
        pytest.param(
            pod("web-1-a", container(restarts=1, last=Termination(137, "OOMKilled", nan, END_S), running_s=START_S + 11)),
            0,
            (WEB, "app", "OutOfMemory"),
            id="OOMKilled-and-running-again",
        ),
        pytest.param(pod("web-1-a", backing_off(137, "OOMKilled", END_S, 1)), 0, (WEB, "app", "OutOfMemory"), id="OOMKilled-backing-off"),
        pytest.param(
            pod("web-1-a", backing_off(1, "OOMKilled", END_S, 1)), 120, (WEB, "app", "CrashLoop"), id="OOMKilled-without-137-is-suspect"
        ),
        pytest.param(pod("web-1-a", backing_off(137, "Error", END_S, 1)), 120, (WEB, "app", "Killed"), id="SIGKILL"),
        pytest.param(pod("web-1-a", backing_off(143, "Error", END_S, 1)), 120, (WEB, "app", "Killed"), id="SIGTERM"),
        pytest.param(
            pod("web-1-a", container(ready=False), conditions=(NOT_READY,)),
            900,
            (WEB, "app", "Unready"),
            id="unready",
        ),
        pytest.param(
            pod("web-1-a", container(ready=False, started=None), conditions=(NOT_READY,)),
            900,
            (WEB, "app", "Unready"),
            id="unready-started-unknown",
        ),
        pytest.param(pod("web-1-a", container(), conditions=(GATES,)), 900, (WEB, "", "Unready"), id="readiness-gates"),
        pytest.param(
            initialising(backing_off(1, "Error", END_S, 1, name="migrate", role=Role.INIT), waiting("PodInitializing")),
            120,
            (WEB, "migrate", "InitFailing"),
            id="init-container",
        ),
        pytest.param(
            pod("web-1-a", container(), backing_off(1, "Error", END_S, 1, name="proxy", role=Role.SIDECAR)),
            120,
            (WEB, "proxy", "SidecarCrash"),
            id="sidecar",
        ),
        *[
            pytest.param(pod(phase="Failed", reason=reason, containers=()), 0, (WEB, "", "PodFailed"), id=f"failed-{reason}")
            for reason in (
                *("Evicted", "OutOfcpu", "OutOfmemory", "OutOfpods", "NodeAffinity", "UnexpectedAdmissionError", "Preempting"),
                *("DeadlineExceeded", "Terminated", "NodeShutdown", "Shutdown"),
            )
        ],
        pytest.param(
            pod(phase="Failed", reason="Evicted", conditions=(Condition("DisruptionTarget", "True", "TerminationByKubelet"),)),
            0,
            (WEB, "", "PodFailed"),
            id="evicted-by-the-kubelet-tells-why",
        ),
        pytest.param(
            pod("alone", ended(2, "Error", END_S), phase="Failed", owner=None, restart_policy="Never"),
            0,
            ("Pod shop/alone", "", "PodFailed"),
            id="a-bare-pod-that-never-restarts",
        ),
        pytest.param(pod(deletion_s=START_S + 10), 300, (WEB, "", "StuckTerminating"), id="terminating"),
        pytest.param(
            pod("web-1-a", container(last=Termination(137, "ContainerStatusUnknown"), restarts=1)),
            50,
            ("Node node-1", "", "LostStatus"),
            id="ContainerStatusUnknown",
        ),
        pytest.param(
            pod("web-1-a", ended(255, "Unknown", END_S)),
            50,
            ("Node node-1", "", "LostStatus"),
            id="containerd-has-lost-it",
        ),
    ],
)
def test_evidence_is_a_finding_after_its_wait(shown: Pod, wait_s: float, found: tuple[str, str, str]) -> None:
    ward = Ward()
    times = [10, 10 + wait_s - 1, 10 + wait_s] if wait_s else [10]
    assert first_due_s(ward, shown, times) == (10 + wait_s, [found])


@pytest.mark.parametrize(
    ("shown", "more"),
    [
        pytest.param(unscheduled("SchedulingGated"), {}, id="gated"),
        pytest.param(pod("web-1-a", waiting("ContainerCreating"), phase="Pending", conditions=(SANDBOX,)), {}, id="slow-pull"),
        pytest.param(pod("web-1-a", waiting("ContainerCreating"), phase="Pending", conditions=()), {}, id="creating-says-no-more"),
        pytest.param(
            initialising(container("migrate", role=Role.INIT), waiting("PodInitializing")),
            {},
            id="an-init-container-that-takes-its-time",
        ),
        pytest.param(pod("web-1-a", ended(1, "Error", END_S)), {}, id="crashed-once"),
        pytest.param(pod("web-1-a", waiting("SomethingNew")), {}, id="unknown-waiting-reason"),
        pytest.param(pod("web-1-a", ended(255, "Error", END_S)), {}, id="crashed-once-with-255"),
        pytest.param(pod("web-1-a", container(ready=False, started=False), conditions=(NOT_READY,)), {}, id="starting-up"),
        pytest.param(
            pod("web-1-a", container(ready=False), conditions=(ready(status="False", reason="PodCompleted"),)),
            {},
            id="unready-as-completed",
        ),
        pytest.param(pod("web-1-a", container(ready=False), conditions=(ready(status="Unknown"),)), {}, id="readiness-unknown"),
        pytest.param(pod("web-1-a", container(ready=False), conditions=(NOT_READY,), restart_policy="Never"), {}, id="unready-but-finite"),
        pytest.param(
            pod("web-1-a", container(ready=False), conditions=(NOT_READY,), restart_policy="OnFailure"), {}, id="unready-on-failure"
        ),
        pytest.param(
            pod("web-1-a", ended(0, "Completed", END_S, name="migrate", role=Role.INIT, restarts=5), container()),
            {},
            id="an-init-container-that-has-done-its-work-at-last",
        ),
        pytest.param(
            initialising(ended(0, "Completed", END_S, name="migrate", role=Role.INIT, restarts=5), waiting("PodInitializing")),
            {},
            id="an-init-container-that-has-just-done-its-work",
        ),
        pytest.param(pod("web-1-a", ended(255, "Error", END_S, role=Role.SIDECAR, restarts=9), phase="Succeeded"), {}, id="completed"),
        pytest.param(
            pod("web-1-a", ended(1, "Error", END_S), phase="Succeeded", conditions=(ready(status="False", reason="PodCompleted"),)),
            {},
            id="pod-completed",
        ),
        *[
            pytest.param(
                pod("web-1-a", backing_off(code, "Error", END_S, 4), conditions=(Condition("DisruptionTarget", "True", reason),)),
                {},
                id=f"disrupted-{reason}-{code}",
            )
            for reason, code in [
                ("PreemptionByScheduler", 143),
                ("DeletionByTaintManager", 137),
                ("EvictionByEvictionAPI", 143),
                ("DeletionByPodGC", 137),
                ("TerminationByKubelet", 137),
            ]
        ],
        pytest.param(
            pod(phase="Failed", reason="", conditions=(Condition("DisruptionTarget", "True", "DeletionByPodGC"),)),
            {},
            id="failed-by-disruption",
        ),
        pytest.param(
            pod("web-1-a", backing_off(1, "Error", END_S, 4), conditions=(Condition("AllContainersRestarting", "True"),)),
            {},
            id="in-place-restart",
        ),
        pytest.param(pod("web-1-a", ended(143, "Error", END_S), deletion_s=START_S + 40), {"until_s": 330}, id="leaving-with-143"),
        pytest.param(pod("web-1-a", ended(137, "OOMKilled", END_S), deletion_s=START_S + 40), {"until_s": 330}, id="leaving-out-of-memory"),
        pytest.param(
            pod("web-1-a", container(ready=False), deletion_s=START_S + 40, conditions=(NOT_READY,)), {"until_s": 330}, id="leaving-unready"
        ),
        pytest.param(pod("load-x", backing_off(1, "Error", END_S, 7), owner=JOB, restart_policy="OnFailure"), {}, id="a-job-retries"),
        pytest.param(pod("load-x", ended(137, "OOMKilled", END_S), owner=JOB, restart_policy="Never"), {}, id="a-job-runs-out-of-memory"),
        pytest.param(
            pod("load-x", ended(1, "Error", END_S), owner=JOB, phase="Failed", restart_policy="Never"), {}, id="a-jobs-pod-failed"
        ),
        pytest.param(pod("load-x", owner=JOB, phase="Failed", reason="Evicted", restart_policy="Never"), {}, id="a-jobs-pod-evicted"),
        pytest.param(
            pod("flow-x", ended(1, "Error", END_S), owner=Owner("Workflow", "flow", "flow-uid"), phase="Failed", restart_policy="Never"),
            {},
            id="somebody-elses-finite-pod",
        ),
        pytest.param(
            pod("alone", ended(1, "Error", END_S), owner=None, restart_policy="Never"), {}, id="one-of-a-finite-pods-containers-has-ended"
        ),
        pytest.param(pod(phase="Pending", containers=(), conditions=()), {}, id="no-status"),
        pytest.param(
            pod("web-1-a", container(ready=False), conditions=(NOT_READY,)), {"nodes": [DOWN], "until_s": 50}, id="node-down-not-yet-lost"
        ),
        pytest.param(pod("web-1-a", backing_off(1, "Error", END_S, 9)), {"nodes": []}, id="its-node-is-gone"),
        pytest.param(
            pod("web-1-a", backing_off(1, "Error", END_S, 9), owner=Owner("ReplicaSet", "old", "old-uid")), {}, id="its-owner-is-not-known"
        ),
    ],
)
def test_what_looks_like_it_is_silent(shown: Pod, more: dict[str, Any]) -> None:
    ward, facts_of = Ward(), dict(more)
    until_s = facts_of.pop("until_s", 7300)
    assert first_due_s(ward, shown, [each for each in (10, 30, 59, 330, 1000, 7300) if each <= until_s], **facts_of) == (inf, [])


def test_reasons_that_alternate_are_one() -> None:
    ward = Ward()
    states = [waiting(reason) for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff")]
    found = [ward.see(10 + 20 * step, pod("web-1-a", shown)).findings for step, shown in enumerate(states)]
    assert [[(each.reason, each.since_s) for each in findings] for findings in found] == [[("ImagePullBackOff", START_S + 10)]] * 4


@pytest.mark.parametrize(
    ("node", "found"),
    [
        pytest.param(DOWN, True, id="Unknown"),
        pytest.param(replace(NODE, conditions=(Condition("Ready", "False", "KubeletNotReady", START_S + 10),)), True, id="False"),
        pytest.param(replace(NODE, unreachable=True), True, id="unreachable-taint"),
        pytest.param(NODE, False, id="ready"),
        pytest.param(Node("node-1"), False, id="no-conditions-yet"),
    ],
)
def test_a_lost_node_is_told_of_once_and_its_pods_are_not(node: Node, *, found: bool) -> None:
    ward = Ward()
    pods = [pod(f"web-1-{name}", container(ready=False), conditions=(NOT_READY,)) for name in "abc"] + [
        pod("web-1-d", deletion_s=START_S + 10)
    ]
    made = [told(ward.due(after_s, *pods, nodes=[node])) for after_s in (10, 60, 2000)]
    unready = [(WEB, "", "StuckTerminating"), (WEB, "app", "Unready")]
    lost = [("Node node-1", "", "NodeLost")]
    assert made == ([[], lost, lost] if found else [[], [], unready])


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(pod(phase="Unknown", conditions=(ready(status="Unknown", since_s=START_S + 10),)), id="phase-Unknown"),
        pytest.param(pod(reason="NodeLost", conditions=(ready(status="Unknown", since_s=START_S + 10),)), id="reason-NodeLost"),
    ],
)
@pytest.mark.parametrize("readable", [pytest.param(True, id="nodes-readable"), pytest.param(False, id="nodes-not-readable")])
def test_a_pod_may_tell_of_its_node(shown: Pod, *, readable: bool) -> None:
    (found,) = Ward().due(60, shown, nodes=[NODE] if readable else None)
    assert told([found]) == [("Node node-1", "", "NodeLost")]
    assert found.notes == (() if readable else ("the node's own conditions may not be read",))


@pytest.mark.parametrize(
    ("condition", "cause"),
    [
        pytest.param(Condition("Progressing", "False", "ProgressDeadlineExceeded", START_S), "RolloutStuck", id="ProgressDeadlineExceeded"),
        pytest.param(Condition("ReplicaFailure", "True", "FailedCreate", START_S), "CreateFailed", id="FailedCreate"),
        pytest.param(Condition("Progressing", "True", "ReplicaSetUpdated", START_S), None, id="progressing"),
        pytest.param(Condition("ReplicaFailure", "False"), None, id="no-failure"),
        pytest.param(Condition("Available", "False", "MinimumReplicasUnavailable", START_S), None, id="unavailable-is-no-cause"),
    ],
)
def test_a_deployment_tells_of_its_rollout_without_any_pod(condition: Condition, cause: str | None) -> None:
    ward = Ward()
    deployment = replace(DEPLOYMENT, conditions=(condition,))
    other = pod("other", owner=None)
    assert told(ward.due(10, other, controllers=[deployment])) == ([(WEB, "", cause)] if cause else [])
    paused = replace(deployment, paused=True)
    assert told(ward.due(20, other, controllers=[paused])) == ([(WEB, "", cause)] if cause == "CreateFailed" else [])


@pytest.mark.parametrize(
    ("changes", "shown", "is_wedged"),
    [
        pytest.param({}, {}, True, id="a-broken-pod-of-the-old-revision"),
        pytest.param({}, {"revision": "db-3"}, False, id="it-is-of-the-newest-revision"),
        pytest.param({}, {"containers": (container(),)}, False, id="it-is-well"),
        pytest.param({}, {"deletion_s": START_S + 9e3}, False, id="it-is-on-its-way"),
        pytest.param({"partition": 2}, {}, False, id="the-partition-keeps-the-old-revision"),
        pytest.param({"partition": 1}, {}, True, id="beyond-the-partition"),
        pytest.param({"strategy": "OnDelete"}, {}, False, id="people-delete-themselves"),
        pytest.param({"update_revision": ""}, {}, False, id="newest-revision-unknown"),
    ],
)
def test_a_stateful_set_is_wedged_by_a_broken_pod_of_an_old_revision(
    changes: dict[str, Any], shown: dict[str, Any], *, is_wedged: bool
) -> None:
    ward = Ward()
    owner = replace(STATEFUL_SET, **{"update_revision": "db-3", "revision": "db-2", **changes})
    by_set = {"owner": Owner("StatefulSet", "db", "db-uid"), "revision": "db-2", "conditions": (NOT_READY,)}
    broken = replace(pod("db-1", waiting("ImagePullBackOff"), **by_set), **shown)
    made = [(after_s, str(each.cause)) for after_s in (10, 309, 310) for each in ward.due(after_s, broken, controllers=[owner])]
    assert [each for each in made if each[1] == "WedgedStatefulSet"] == ([(310, "WedgedStatefulSet")] if is_wedged else [])


def test_a_wedged_stateful_set_tells_what_its_old_pods_show() -> None:
    ward, owner = Ward(), replace(STATEFUL_SET, update_revision="db-3", revision="db-2")
    by_set = {"owner": Owner("StatefulSet", "db", "db-uid"), "revision": "db-2", "conditions": (NOT_READY,)}
    old = pod("db-1", backing_off(1, "Error", END_S, 1), waiting("ImagePullBackOff", "proxy"), **by_set)
    new = pod("db-2", waiting("InvalidImageName"), **{**by_set, "revision": "db-3"})
    ward.see(10, old, new, controllers=[owner])
    wedged = next(each for each in ward.due(310, old, new, controllers=[owner]) if each.cause is Cause.WEDGED)
    assert wedged.notes == ("the newest revision is db-3", "pods of the old one show CrashLoop in app, ImagePull in proxy")


@pytest.mark.parametrize(
    ("pods", "of"),
    [
        pytest.param([pod(phase="Failed", reason="Evicted", containers=())], 1, id="failed-alone"),
        pytest.param([pod("web-1-a", deletion_s=START_S - 400), pod("web-1-b")], 2, id="leaving-while-another-serves"),
        pytest.param([pod("web-1-a", waiting("InvalidImageName")), pod("web-1-b"), pod("web-1-c", phase="Failed")], 2, id="active"),
    ],
)
def test_a_findings_pods_are_some_of_the_workloads(pods: list[Pod], of: int) -> None:
    found = Ward().due(10, *pods)
    assert [(len(each.pods), each.of) for each in found if each.pods[0].name == "web-1-a"] == [(1, of)]


def test_every_cause_has_words_and_a_wait() -> None:
    waits = Waits()
    assert {cause for cause in Cause if not CAUSE_TEXT[cause] or not waits.of(cause) >= 0} == set()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(0, "ended successfully", id="0"),
        pytest.param(1, "the program's own error", id="1"),
        pytest.param(42, "the program's own error", id="42"),
        pytest.param(126, "the command is not executable", id="126"),
        pytest.param(127, "the command was not found", id="127"),
        pytest.param(134, "aborted (SIGABRT)", id="134"),
        pytest.param(137, "killed (SIGKILL)", id="137"),
        pytest.param(139, "segmentation fault (SIGSEGV)", id="139"),
        pytest.param(143, "asked to end (SIGTERM)", id="143"),
        pytest.param(129, "ended by signal 1", id="129"),
        pytest.param(192, "ended by signal 64", id="192"),
        pytest.param(193, "the program's own error", id="193"),
        pytest.param(-1, "no exit code is known", id="none"),
    ],
)
def test_exit_codes_have_meanings(code: int, words: str) -> None:
    assert exit_meaning(code) == words


def test_waits_can_be_changed_by_name() -> None:
    waits = Waits().changed({"crash_loop_s": 20, "restarts": 2.0})
    assert (waits.crash_loop_s, waits.restarts, waits.unready_s) == (20, 2, 900)
    ward = Ward(waits)
    shown = pod("web-1-a", backing_off(1, "Error", END_S, 1))
    assert first_due_s(ward, shown, [10, 29, 30]) == (30, [(WEB, "app", "CrashLoop")])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param({"crash_s": 1}, r"waits.crash_s: there is no such wait; there are: unschedulable_s, .*crash_loop_s", id="unknown"),
        pytest.param({"oom_s": -1}, r"waits.oom_s: expected a number of 0 or more, got -1", id="negative"),
        pytest.param({"oom_s": nan}, r"waits.oom_s: expected a number of 0 or more, got nan", id="no-number"),
        pytest.param({"oom_s": inf}, r"waits.oom_s: expected a number of 0 or more, got inf", id="endless"),
        pytest.param({"restarts": 0}, r"waits.restarts: expected a whole number of 1 or more, got 0", id="no-restarts"),
        pytest.param({"restarts": 2.5}, r"waits.restarts: expected a whole number of 1 or more, got 2.5", id="half-a-restart"),
    ],
)
def test_waits_that_make_no_sense_are_refused(overrides: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Waits().changed(overrides)
