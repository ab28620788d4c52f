"""What only events, or a moment of a status, tell: and what is known when these are late, expired or withheld."""

from math import nan

import pytest

from autoscaler.core.health.assess import assess, begin
from autoscaler.core.health.facts import Condition, PodEvent
from autoscaler.core.health.taxonomy import Cause
from tests.core.health.build import (
    START_S,
    WEB,
    Ward,
    backing_off,
    facts,
    pod,
    running,
    told,
    waiting,
)

SANDBOX = Condition("PodReadyToStartContainers", "True", since_s=START_S + 10)
END_S = START_S + 10


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        pytest.param(PodEvent("Killing", "app", "liveness", END_S), "Killed", id="killed-by-its-probe"),
        pytest.param(PodEvent("Killing", "app", "liveness", END_S + 25), "Killed", id="told-of-a-little-later"),
        pytest.param(PodEvent("Killing", "app", "startup", END_S), "Killed", id="killed-by-its-startup-probe"),
        pytest.param(PodEvent("Killing", "app", "liveness", nan), "Killed", id="some-time"),
        pytest.param(PodEvent("Killing", "app", "liveness", END_S - 600), "CleanExitLoop", id="another-end-was-a-probes"),
        pytest.param(PodEvent("Killing", "app", "", END_S), "CleanExitLoop", id="killed-for-another-reason"),
        pytest.param(PodEvent("Killing", "proxy", "liveness", END_S), "CleanExitLoop", id="another-container"),
        pytest.param(PodEvent("Unhealthy", "app", "liveness", END_S), "CleanExitLoop", id="a-probe-that-failed-once"),
    ],
)
def test_a_liveness_kill_is_told_from_an_end_of_its_own(event: PodEvent, cause: str) -> None:
    ward, shown = Ward(), pod("web-1-a", backing_off(0, "Completed", END_S, 3))
    assert told(ward.due(10, shown, events={shown.uid: [event]})) == [(WEB, "app", cause)]
    assert told(ward.due(20, shown)) == [(WEB, "app", cause)], "though the event has expired"


def test_a_kill_whose_event_the_kubelet_withheld_is_as_the_kills_before_it() -> None:
    ward, shown = Ward(), pod("web-1-a", backing_off(0, "Completed", END_S, 3))
    event = PodEvent("Killing", "app", "liveness", END_S)  # the last of 25 that a kubelet tells of one pod
    made = [told(ward.due(10, shown, events={shown.uid: [event]}))]
    for restarts, after_s in ((4, 60), (5, 150), (6, 300)):
        again = pod("web-1-a", backing_off(0, "Completed", START_S + after_s, restarts))
        made.append(told(ward.due(after_s, again, events={shown.uid: [event]})))
    other_end = pod("web-1-a", backing_off(1, "Error", START_S + 400, 7))
    made.append(told(ward.due(550, other_end, events={shown.uid: [event]})))
    assert made == [[(WEB, "app", "Killed")]] * 4 + [[(WEB, "app", "CrashLoop"), (WEB, "app", "Killed")]]


@pytest.mark.parametrize(
    ("known", "events", "cause"),
    [
        pytest.param(Cause.KILLED, [], "Killed", id="killed-by-its-probe"),
        pytest.param(Cause.HOOK, [], "PostStartHook", id="its-hook-failed"),
        pytest.param(Cause.OOM, [], "CleanExitLoop", id="another-cause-is-in-the-status"),
        pytest.param(Cause.HOOK, [PodEvent("Killing", "app", "liveness", END_S)], "PostStartHook", id="both"),
    ],
)
def test_a_restart_of_ours_forgets_no_cause_that_only_a_moment_shows(known: Cause, events: list[PodEvent], cause: str) -> None:
    """As recorded: a server that ends with 0 when it is asked to, seen backing off, its events long withheld."""
    shown = pod("web-1-a", backing_off(0, "Completed", END_S, 30), created_s=START_S - 9e5)
    well = pod("web-1-b", running(1, -800.0, -900.0), created_s=START_S - 9e5)
    begun = begin(START_S + 100, [("web-uid", "app", known), ("web-uid", "proxy", Cause.KILLED), ("api-uid", "app", Cause.KILLED)])
    memory, _ = assess(begun, facts(START_S + 130, [shown, well], events={shown.uid: events}))
    memory, made = assess(memory, facts(START_S + 260, [shown, well]))
    assert told(made.findings) == [(WEB, "app", cause)]
    ended_again = pod("web-1-b", backing_off(0, "Completed", START_S + 300, 2), created_s=START_S - 9e5)
    _, made = assess(memory, facts(START_S + 310, [ended_again]))
    assert told(made.findings) == [(WEB, "app", "CleanExitLoop")], "who was well is judged anew"


def test_an_event_that_comes_late_changes_the_cause_and_adds_none() -> None:
    ward, shown = Ward(), pod("web-1-a", backing_off(0, "Completed", END_S, 3))
    assert told(ward.due(10, shown)) == [(WEB, "app", "CleanExitLoop")]
    assert told(ward.due(20, shown, events={shown.uid: [PodEvent("Killing", "app", "liveness", END_S)]})) == [(WEB, "app", "Killed")]


@pytest.mark.parametrize(
    ("conditions", "event", "is_stuck"),
    [
        pytest.param((), "FailedMount", True, id="FailedMount"),
        pytest.param((), "FailedCreatePodSandBox", True, id="FailedCreatePodSandBox"),
        pytest.param((), "Unhealthy", False, id="another-event"),
        pytest.param((SANDBOX,), "FailedMount", False, id="the-sandbox-is-there-by-now"),
    ],
)
def test_without_the_condition_events_tell_of_stuck_creating(conditions: tuple[Condition, ...], event: str, *, is_stuck: bool) -> None:
    ward, shown = Ward(), pod("web-1-a", waiting("ContainerCreating"), phase="Pending", conditions=conditions)
    events = {shown.uid: [PodEvent(event, at_s=START_S)]}
    found = [told(ward.due(after_s, shown, events=events)) for after_s in (10, 309, 310)]
    assert found == [[], [], [(WEB, "", "StuckCreating")] if is_stuck else []]
