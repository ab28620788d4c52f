"""What one pod shows: its symptoms, each with when it began and when it is due.

Pods are judged by themselves; who else is ill, whether the node answers and whether a rollout is on comes after, in
:mod:`autoscaler.core.health.assess`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from typing import NamedTuple

from autoscaler.core.health.crashes import Ends, Glance, forgiven, is_settled, note_of, still_down, watched
from autoscaler.core.health.facts import Condition, Container, Pod, PodEvent, Role, condition, is_true, past
from autoscaler.core.health.taxonomy import (
    CREATION_EVENTS,
    KUBELET_ENDED,
    NOT_CREATED,
    RESTARTED_IN_PLACE,
    SAME_REASON,
    WAITING,
    Cause,
    Waits,
    is_failed_reason,
)

_UNREADY_REASONS = frozenset({"ContainersNotReady", "ReadinessGatesNotReady"})


class Symptom(NamedTuple):
    """One cause in one container of one pod (container "": the pod as a whole).

    ``due_s``: from when on it is a finding (∞: it never opens one by itself, but keeps one open); ``restarts`` since it began;
    ``exit_code`` -1: not said.
    """

    cause: Cause
    container: str
    since_s: float
    due_s: float
    reason: str = ""
    exit_code: int = -1
    restarts: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A pod as last judged: its facts, what is remembered of its containers (in the order of its spec), and its symptoms.

    ``events`` and ``waits`` are those that it was judged by.
    """

    pod: Pod
    ends: tuple[Ends, ...]
    symptoms: tuple[Symptom, ...] = ()
    events: Sequence[PodEvent] = ()
    waits: Waits | None = None

    @property
    def causes(self) -> frozenset[Cause]:
        """What is wrong with it, due or not."""
        return frozenset(each.cause for each in self.symptoms)

    @property
    def quiet(self) -> bool:
        """Judged again without news it would be the same."""
        return not self.symptoms and all(each.quiet for each in self.ends)

    def stands(self, pod: Pod, glance: Glance) -> bool:
        """Whether it would be the same judged again: nothing is new, and nothing of it changes by time alone.

        A crash loop that is told of stands so until its container runs again: in a storm that is most of the pods.
        """
        same = self.pod is pod and self.events is glance.events and self.waits is glance.waits
        return same and pod.phase != "Failed" and all(map(is_settled, self.ends, pod.containers))


@dataclass(frozen=True, slots=True)
class News:
    """What counts as news: the time of this pass, of the last one (NaN: none), and up to when nothing is news."""

    at_s: float
    before_s: float
    baseline_s: float


def glance_at(
    pod: Pod, news: News, waits: Waits, events: Sequence[PodEvent] = (), known: frozenset[tuple[str, Cause]] = frozenset()
) -> Glance:
    """A look at a pod: the restarts of one that was made after the baseline are all news."""
    return Glance(
        at_s=news.at_s,
        fresh=pod.created_s > news.baseline_s,
        news_s=news.baseline_s,
        long_ago=news.at_s - news.before_s > waits.restart_window_s,
        restarting=pod.restart_policy in {"Always", ""},
        waits=waits,
        events=events,
        before_s=news.before_s,
        known=known,
    )


def judge(pod: Pod, before: Judged | None, glance: Glance) -> Judged:
    """The pod's symptoms; never fails on what an object may lack or contradict."""
    if before is not None and before.stands(pod, glance):
        return before
    old, since = _by_name(before, glance.before_s), _Since(before, glance.at_s)
    if not _tells_of_crashes(pod):
        ends = tuple(forgiven(old.get(each.name), each) for each in pod.containers)
        return Judged(pod, ends, tuple(_as_a_whole(pod, glance, since)), glance.events, glance.waits)
    initialised = is_true(pod.conditions, "Initialized")
    ends = tuple(_watched(old.get(each.name), each, glance, initialised=initialised) for each in pod.containers)
    symptoms = [*_not_started(pod, glance, since), *_crashes(pod, ends)]
    if not symptoms:
        symptoms = list(_unready(pod, glance, since))
    return Judged(pod, ends, (*symptoms, *_lost_track(pod, ends, glance)), glance.events, glance.waits)


def _tells_of_crashes(pod: Pod) -> bool:
    """Whether ends of its containers say anything: not where they are meant to end, or somebody ends them."""
    if pod.leaving or pod.phase in {"Succeeded", "Failed", "Unknown"} or pod.reason == "NodeLost" or _is_of_job(pod):
        return False
    return not is_true(pod.conditions, "DisruptionTarget") and not is_true(pod.conditions, "AllContainersRestarting")


def _as_a_whole(pod: Pod, glance: Glance, since: _Since) -> Iterator[Symptom]:
    if pod.leaving:
        note = f"finalizers: {', '.join(pod.finalizers)}" if pod.finalizers else ""
        yield Symptom(Cause.TERMINATING, "", pod.deletion_s, pod.deletion_s + glance.waits.terminating_s, note=note)
    elif pod.phase == "Unknown" or pod.reason == "NodeLost":
        yield _node_lost(pod, glance, since)
    elif pod.phase == "Failed":
        yield from _failed(pod, glance, since)
    elif _is_of_job(pod) and pod.phase != "Succeeded" and not is_true(pod.conditions, "DisruptionTarget"):
        yield from _not_started(pod, glance, since)


def _watched(before: Ends | None, container: Container, glance: Glance, *, initialised: bool) -> Ends:
    """Sidecars restart whatever the pod's policy says; an init container that has done its work may have failed before.

    A restart in place outlives its condition in the container's status, and says nothing of the container.
    """
    ended = container.ended
    if container.waiting == RESTARTED_IN_PLACE or (ended is not None and ended.reason == RESTARTED_IN_PLACE):
        return forgiven(before, container)
    if container.role is Role.SIDECAR:
        return watched(before, container, replace(glance, restarting=True))
    done = container.terminated is not None and container.terminated.exit_code == 0
    if container.role is Role.INIT and (initialised or done):
        return forgiven(before, container)
    return watched(before, container, glance)


def _is_of_job(pod: Pod) -> bool:
    return pod.owner is not None and pod.owner.kind == "Job"


def _by_name(before: Judged | None, looked_s: float) -> Mapping[str, Ends]:
    """What was remembered of each container, as of the last pass, in which it may have stood without being looked at again."""
    if before is None:
        return {}
    containers = before.pod.containers
    return {each.name: still_down(ends, each, looked_s) for each, ends in zip(containers, before.ends, strict=True)}


class _Since:
    """Since when a symptom has been there, where the status does not say."""

    def __init__(self, before: Judged | None, at_s: float) -> None:
        self._before = () if before is None else before.symptoms
        self._at_s = at_s

    def __call__(self, cause: Cause, container: str = "") -> float:
        return next((each.since_s for each in self._before if each.cause is cause and each.container == container), self._at_s)


def _told_s(found: Condition | None, at_s: float, otherwise: float) -> float:
    return otherwise if found is None else past(found.since_s, at_s, otherwise)


def _node_lost(pod: Pod, glance: Glance, since: _Since) -> Symptom:
    since_s = _told_s(condition(pod.conditions, "Ready"), glance.at_s, since(Cause.NODE_LOST))
    return Symptom(Cause.NODE_LOST, "", since_s, since_s + glance.waits.node_lost_s, pod.reason or "Unknown")


def _failed(pod: Pod, glance: Glance, since: _Since) -> Iterator[Symptom]:
    """A failed pod that nobody else answers for: a Job or another owner judges pods that are meant to end."""
    disrupted = condition(pod.conditions, "DisruptionTarget")
    told = is_failed_reason(pod.reason)
    if _is_of_job(pod) or (disrupted is not None and disrupted.status == "True" and not (told and disrupted.reason == KUBELET_ENDED)):
        return
    if not told and pod.owner is not None and pod.restart_policy != "Always":
        return
    ends = [each.ended for each in pod.containers]
    bad = next((each for each in ends if each is not None and each.exit_code > 0), None)
    finished = [each.finished_s for each in ends if each is not None and each.finished_s <= glance.at_s]
    since_s = max(finished, default=_told_s(condition(pod.conditions, "Ready"), glance.at_s, since(Cause.FAILED)))
    if glance.at_s - since_s < glance.waits.failed_pod_s:
        reason = pod.reason or (bad.reason if bad is not None else "")
        code = -1 if bad is None else bad.exit_code
        yield Symptom(Cause.FAILED, "", since_s, since_s + glance.waits.failed_s, reason, code)


def _not_started(pod: Pod, glance: Glance, since: _Since) -> Iterator[Symptom]:
    """What keeps containers from being started at all; that goes for pods of Jobs too."""
    waits = glance.waits
    scheduled = condition(pod.conditions, "PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        if scheduled.reason == "Unschedulable":
            since_s = past(scheduled.since_s, glance.at_s, since(Cause.UNSCHEDULABLE))
            yield Symptom(Cause.UNSCHEDULABLE, "", since_s, since_s + waits.unschedulable_s, scheduled.reason)
        return
    for container in pod.containers:
        cause = WAITING.get(container.waiting)
        if cause in {Cause.IMAGE_PULL, Cause.BAD_IMAGE, Cause.CONFIG}:
            since_s = since(cause, container.name)
            reason = SAME_REASON.get(container.waiting, container.waiting)
            yield Symptom(cause, container.name, since_s, since_s + waits.of(cause), reason)
    if any(container.waiting in NOT_CREATED for container in pod.containers):
        sandbox = condition(pod.conditions, "PodReadyToStartContainers")
        event = next((each.reason for each in glance.events if each.reason in CREATION_EVENTS), "")
        if (sandbox is None and event) or (sandbox is not None and sandbox.status == "False"):
            since_s = _told_s(sandbox, glance.at_s, since(Cause.CREATING))
            yield Symptom(Cause.CREATING, "", since_s, since_s + waits.creating_s, event)


def _crashes(pod: Pod, ends: tuple[Ends, ...]) -> Iterator[Symptom]:
    for container, each in zip(pod.containers, ends, strict=True):
        for ending in each.endings:
            yield Symptom(
                ending.cause,
                container.name,
                ending.since_s,
                ending.due_s,
                ending.reason,
                ending.exit_code,
                each.seen,
                note_of(container),
            )


def _unready(pod: Pod, glance: Glance, since: _Since) -> Iterator[Symptom]:
    """Running, and not Ready by its own probes or gates: not while it starts up, nor where pods are meant to end."""
    ready = condition(pod.conditions, "Ready")
    if pod.phase != "Running" or pod.restart_policy != "Always" or ready is None or ready.status != "False":
        return
    if ready.reason not in _UNREADY_REASONS:
        return
    names = [""] if ready.reason == "ReadinessGatesNotReady" else [each.name for each in pod.containers if _is_unready(each)]
    for name in names:
        since_s = past(ready.since_s, glance.at_s, since(Cause.UNREADY, name))
        yield Symptom(Cause.UNREADY, name, since_s, since_s + glance.waits.unready_s, ready.reason)


def _is_unready(container: Container) -> bool:
    return container.role is not Role.INIT and container.running and container.ready is False and container.started is not False


def _lost_track(pod: Pod, ends: tuple[Ends, ...], glance: Glance) -> Iterator[Symptom]:
    """The node does not know what became of its containers; news for as long as restarts count."""
    lost_s = min((each.lost_s for each in ends if not isnan(each.lost_s)), default=nan)
    if pod.node and lost_s != -inf and glance.at_s - lost_s < glance.waits.restart_window_s:
        yield Symptom(Cause.LOST_STATUS, "", lost_s, lost_s, "ContainerStatusUnknown")
