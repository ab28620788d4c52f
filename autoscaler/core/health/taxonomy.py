"""The causes that are told apart, the evidence of each in a pod's status, how long each is waited for, and what exit codes mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from math import isfinite

from autoscaler.core.health.facts import Role, Termination


class Cause(StrEnum):
    """What is wrong. The values are what people see: in metrics, events and the API."""

    UNSCHEDULABLE = "Unschedulable"
    CREATING = "StuckCreating"
    IMAGE_PULL = "ImagePull"
    BAD_IMAGE = "BadImage"
    CONFIG = "ConfigError"
    CANNOT_RUN = "CannotRun"
    HOOK = "PostStartHook"
    CRASH_LOOP = "CrashLoop"
    CLEAN_EXIT = "CleanExitLoop"
    OOM = "OutOfMemory"
    KILLED = "Killed"
    INIT = "InitFailing"
    SIDECAR = "SidecarCrash"
    UNREADY = "Unready"
    FAILED = "PodFailed"
    TERMINATING = "StuckTerminating"
    WEDGED = "WedgedStatefulSet"
    ROLLOUT = "RolloutStuck"
    CREATE_FAILED = "CreateFailed"
    JOB = "JobFailed"
    NODE_LOST = "NodeLost"
    LOST_STATUS = "LostStatus"
    MASS_FAILURE = "MassFailure"


CAUSE_TEXT: Mapping[Cause, str] = {
    Cause.UNSCHEDULABLE: "no node has room for it",
    Cause.CREATING: "its sandbox or volumes cannot be set up",
    Cause.IMAGE_PULL: "its image cannot be pulled; deleting the pod would only pull again",
    Cause.BAD_IMAGE: "its image name is wrong, or may not be pulled",
    Cause.CONFIG: "it refers to something that does not exist; it starts by itself once it does",
    Cause.CANNOT_RUN: "its command cannot be run",
    Cause.HOOK: "its postStart hook fails",
    Cause.CRASH_LOOP: "it crashes again and again",
    Cause.CLEAN_EXIT: "it ends successfully again and again: a program that finishes under restartPolicy Always",
    Cause.OOM: "it was killed because it used more memory than its limit",
    Cause.KILLED: "it was killed from outside, not for memory: by a failed probe, or after its grace period",
    Cause.INIT: "an init container fails, so the pod does not start",
    Cause.SIDECAR: "a sidecar crashes again and again",
    Cause.UNREADY: "it runs, but is not ready",
    Cause.FAILED: "it failed, and stays until somebody deletes it",
    Cause.TERMINATING: "its deletion does not come to an end",
    Cause.WEDGED: "a broken pod of an old revision keeps the new one from coming; deleting that pod is the cure",
    Cause.ROLLOUT: "its rollout makes no progress",
    Cause.CREATE_FAILED: "its pods cannot be created",
    Cause.JOB: "the Job has failed for good",
    Cause.NODE_LOST: "the node does not answer; what its pods say is old",
    Cause.LOST_STATUS: "the node lost track of containers; that is no crash of theirs",
    Cause.MASS_FAILURE: "much fails at once, so the cause is not in single pods: none is removed until it has been calm for a while",
}

CRASHES = frozenset(
    {
        *(Cause.CANNOT_RUN, Cause.HOOK, Cause.CRASH_LOOP, Cause.CLEAN_EXIT, Cause.OOM, Cause.KILLED),
        *(Cause.INIT, Cause.SIDECAR),
    }
)
"""Causes by which containers end."""

OVERLOADS = frozenset({Cause.OOM, Cause.KILLED})
"""Crashes that too much load may be behind."""

WAITING: Mapping[str, Cause] = {
    "ErrImagePull": Cause.IMAGE_PULL,
    "ImagePullBackOff": Cause.IMAGE_PULL,
    "RegistryUnavailable": Cause.IMAGE_PULL,
    "ImageInspectError": Cause.IMAGE_PULL,
    "InvalidImageName": Cause.BAD_IMAGE,
    "ErrImageNeverPull": Cause.BAD_IMAGE,
    "CreateContainerConfigError": Cause.CONFIG,
    "CreateContainerError": Cause.CONFIG,
    "RunContainerError": Cause.CANNOT_RUN,
    "PostStartHookError": Cause.HOOK,
}
"""Reasons of ``state.waiting`` that say all; ``CrashLoopBackOff`` says only that the container has ended before."""

SAME_REASON: Mapping[str, str] = {"ErrImagePull": "ImagePullBackOff"}
"""Reasons that alternate while one thing is wrong, and the one that is told of both."""

CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
NOT_CREATED = frozenset({"ContainerCreating", "PodInitializing"})
CREATION_EVENTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})
RESTARTED_IN_PLACE = "RestartingAllContainers"
"""Of containers that the kubelet ended to start the whole pod's anew, as its rules say: in ``waiting`` and, with 137, as the last end."""
STATUS_UNKNOWN = "ContainerStatusUnknown"

FAILED_REASONS = frozenset(
    {"Evicted", "NodeAffinity", "UnexpectedAdmissionError", "Preempting", "DeadlineExceeded", "Terminated", "NodeShutdown", "Shutdown"}
)
"""Reasons of failed pods besides ``OutOf…`` (OutOfcpu, OutOfmemory, OutOfpods)."""

KUBELET_ENDED = "TerminationByKubelet"
"""The disruption that a failed pod's own reason tells more of: node pressure, shutdown, preemption by a critical pod."""

_CANNOT_RUN_REASONS = frozenset({"StartError", "ContainerCannotRun"})
_CANNOT_RUN_CODES = frozenset({126, 127, 128})
_SIGKILL, _SIGTERM = 137, 143
_LOST_BY_CONTAINERD = 255


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each cause must last before it is one, in seconds: ``HealthPolicy.spec.waits``.

    ``restarts`` within ``restart_window_s`` make a crash loop before ``crash_loop_s`` have passed; a container that has run for
    ``clean_run_s`` since it last ended is well again; a failed pod is news for ``failed_pod_s``. ``…_remedy_s``: how long a pod must have
    shown the cause before a remedy acts on it.
    """

    unschedulable_s: float = 300.0
    creating_s: float = 300.0
    image_pull_s: float = 120.0
    bad_image_s: float = 0.0
    config_s: float = 60.0
    cannot_run_s: float = 0.0
    hook_s: float = 60.0
    crash_loop_s: float = 120.0
    restarts: int = 3
    restart_window_s: float = 600.0
    oom_s: float = 0.0
    clean_run_s: float = 120.0
    unready_s: float = 900.0
    failed_s: float = 0.0
    failed_pod_s: float = 7200.0
    terminating_s: float = 300.0
    wedged_s: float = 300.0
    rollout_s: float = 0.0
    job_s: float = 0.0
    node_lost_s: float = 50.0
    crash_loop_remedy_s: float = 600.0
    creating_remedy_s: float = 900.0
    failed_remedy_s: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse what is no length of time."""
        for each in fields(self):
            value = getattr(self, each.name)
            if not (isfinite(value) and value >= 0):
                message = f"waits.{each.name}: expected a number of 0 or more, got {value}"
                raise ValueError(message)
        if self.restarts < 1 or not isinstance(self.restarts, int):
            message = f"waits.restarts: expected a whole number of 1 or more, got {self.restarts}"
            raise ValueError(message)

    def of(self, cause: Cause) -> float:
        """Seconds from the first evidence of a cause until it is due."""
        return float(getattr(self, _WAIT[cause]))

    def changed(self, overrides: Mapping[str, float]) -> Waits:
        """These waits with some replaced; a name that there is not is refused with those that there are."""
        names = [each.name for each in fields(self)]
        for name in overrides:
            if name not in names:
                message = f"waits.{name}: there is no such wait; there are: {', '.join(names)}"
                raise ValueError(message)
        given = {name: int(value) if name == "restarts" and float(value).is_integer() else value for name, value in overrides.items()}
        return replace(self, **given)  # type: ignore[arg-type]


_WAIT: Mapping[Cause, str] = {
    Cause.UNSCHEDULABLE: "unschedulable_s",
    Cause.CREATING: "creating_s",
    Cause.IMAGE_PULL: "image_pull_s",
    Cause.BAD_IMAGE: "bad_image_s",
    Cause.CONFIG: "config_s",
    Cause.CANNOT_RUN: "cannot_run_s",
    Cause.HOOK: "hook_s",
    Cause.CRASH_LOOP: "crash_loop_s",
    Cause.CLEAN_EXIT: "crash_loop_s",
    Cause.OOM: "oom_s",
    Cause.KILLED: "crash_loop_s",
    Cause.INIT: "crash_loop_s",
    Cause.SIDECAR: "crash_loop_s",
    Cause.UNREADY: "unready_s",
    Cause.FAILED: "failed_s",
    Cause.TERMINATING: "terminating_s",
    Cause.WEDGED: "wedged_s",
    Cause.ROLLOUT: "rollout_s",
    Cause.CREATE_FAILED: "rollout_s",
    Cause.JOB: "job_s",
    Cause.NODE_LOST: "node_lost_s",
    Cause.LOST_STATUS: "node_lost_s",
    Cause.MASS_FAILURE: "rollout_s",
}

_EXIT_MEANING: Mapping[int, str] = {
    0: "ended successfully",
    1: "the program's own error",
    2: "the program's own error, or a misuse of its shell",
    125: "the container could not be set up",
    126: "the command is not executable",
    127: "the command was not found",
    128: "the container could not be started",
    130: "interrupted (SIGINT)",
    131: "quit (SIGQUIT)",
    132: "illegal instruction (SIGILL)",
    134: "aborted (SIGABRT)",
    135: "bus error (SIGBUS)",
    136: "arithmetic error (SIGFPE)",
    137: "killed (SIGKILL)",
    139: "segmentation fault (SIGSEGV)",
    141: "broken pipe (SIGPIPE)",
    143: "asked to end (SIGTERM)",
    255: "the program's own error (-1), or its runtime lost it",
}

_SIGNALS = 128
_SIGNAL_MAX = 64


def exit_meaning(code: int) -> str:
    """What an exit code says, in words; the convention of shells is 128 + the signal's number."""
    if code < 0:
        return "no exit code is known"
    if code in _EXIT_MEANING:
        return _EXIT_MEANING[code]
    if _SIGNALS < code <= _SIGNALS + _SIGNAL_MAX:
        return f"ended by signal {code - _SIGNALS}"
    return "the program's own error"


def is_failed_reason(reason: str) -> bool:
    """Whether a failed pod's reason is one that a node or the control plane gives."""
    return reason in FAILED_REASONS or reason.startswith("OutOf")


def crash_cause(role: Role, ended: Termination | None, *, probed: bool, hook: bool) -> Cause:
    """By what a container ends. ``probed``: an event says that a probe had it killed; ``hook``: its postStart hook failed in this loop.

    ``OOMKilled`` with another code than 137 is not believed: the runtime's counter is cumulative, and it may have been a child.
    """
    code, reason = (-1, "") if ended is None else (ended.exit_code, ended.reason)
    found = {
        Cause.HOOK: hook,
        Cause.CANNOT_RUN: reason in _CANNOT_RUN_REASONS or code in _CANNOT_RUN_CODES,
        Cause.OOM: reason == "OOMKilled" and code == _SIGKILL,
        Cause.KILLED: probed or code in {_SIGKILL, _SIGTERM},
        Cause.INIT: role is Role.INIT,
        Cause.SIDECAR: role is Role.SIDECAR,
        Cause.CLEAN_EXIT: code == 0 and reason in {"Completed", ""},
    }
    return next((cause for cause, is_it in found.items() if is_it), Cause.CRASH_LOOP)


def is_lost(ended: Termination) -> bool:
    """Whether nobody knows how a container ended, as when its node was rebooted: the kubelet has lost track of it, or containerd has.

    The latter says reason Unknown and exit code 255.
    """
    return ended.reason == STATUS_UNKNOWN or (ended.reason == "Unknown" and ended.exit_code == _LOST_BY_CONTAINERD)


def is_suspect_oom(ended: Termination | None) -> bool:
    """Whether an end says OOMKilled without the exit code of a kill."""
    return ended is not None and ended.reason == "OOMKilled" and ended.exit_code != _SIGKILL
