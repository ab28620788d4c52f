"""From pods to the health guard: a broken new revision is not scaled up, and pods that die of overload get more replicas."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from autoscaler.core.decide import decide
from autoscaler.core.health.facts import Condition, Owner, Pod, PodEvent, Termination
from autoscaler.core.health.verdict import Tracks, Verdict, columns, verdicts
from autoscaler.core.types import Reason
from tests.core.build import Facts, Outcome, Rig, observe, outcome, spec, workload
from tests.core.health.build import (
    DEPLOYMENT,
    REPLICA_SET,
    START_S,
    STATEFUL_SET,
    Ward,
    backing_off,
    container,
    pod,
    ready,
)

NEWEST = replace(REPLICA_SET, name="web-2", uid="web-2-uid", revision="2", number=2, created_s=START_S + 5)
ROLLING = (replace(DEPLOYMENT, updated=1), NEWEST)
UNREADY = (ready(status="False", reason="ContainersNotReady"),)


def new(name: str, *, since: float = nan, **changes: object) -> Pod:
    """A pod of revision 2; Ready ``since`` seconds after the start, unless its conditions say otherwise."""
    conditions = (Condition("Initialized", "True"), ready(since_s=START_S + since))
    base = pod(f"web-2-{name}", owner=Owner("ReplicaSet", "web-2", "web-2-uid"), revision="2", conditions=conditions)
    return replace(base, **changes)  # type: ignore[arg-type]


def crashing(name: str, code: int = 1, reason: str = "Error") -> Pod:
    return new(name, conditions=UNREADY, containers=(backing_off(code, reason, START_S + 40, 3),))


def old(name: str, *, crashes: bool = False) -> Pod:
    return pod(f"web-1-{name}", backing_off(1, "Error", START_S + 40, 3) if crashes else container())


def last_of(steps: Sequence[tuple[float, Sequence[Pod]]], crashing_since: float = nan) -> Verdict:
    """The verdict after these passes."""
    ward, tracks, found = Ward(), Tracks(), dict[str, Verdict]()
    for after_s, pods in steps:
        made = ward.see(after_s, *pods, controllers=ROLLING)
        tracks, found = verdicts(tracks, made, {"web-uid": crashing_since})
    return found["web-uid"]


BROKEN = Verdict(START_S + 60, 55.0, 2, 2, 0, 0.0, served=False, previous_crashing=False)


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        pytest.param(
            [(10, [new("a"), new("b")]), (60, [crashing("a"), crashing("b"), old("a")])], replace(BROKEN, served=True), id="ready-at-first"
        ),
        pytest.param([(60, [crashing("a"), crashing("b"), old("a")])], BROKEN, id="never-ready"),
        pytest.param([(60, [crashing("a"), new("b", since=20)])], replace(BROKEN, crash_pods=1, served=True), id="half-of-them"),
        pytest.param(
            [(60, [new("a", since=20), new("b", since=30), crashing("c")])],
            replace(BROKEN, pods=3, crash_pods=1, majority_ready_s=30, served=True),
            id="a-majority-is-ready",
        ),
        pytest.param(
            [(50, [new("a", since=20), new("b", since=30)]), (60, [crashing("a"), crashing("b")])],
            replace(BROKEN, majority_ready_s=20, served=True),
            id="a-majority-was-ready",
        ),
        pytest.param([(60, [crashing("a", 137, "OOMKilled"), crashing("b", 137)])], replace(BROKEN, overload_pods=2), id="killed"),
        pytest.param([(60, [crashing("a", 137, "OOMKilled"), crashing("b")])], replace(BROKEN, overload_pods=1), id="one-killed"),
        pytest.param(
            [(60, [crashing("a"), crashing("b"), old("a", crashes=True)])],
            replace(BROKEN, previous_crashing=True),
            id="the-previous-revision-crashes-too",
        ),
        pytest.param(
            [(60, [replace(crashing("a"), deletion_s=START_S + 90), crashing("b")])],
            replace(BROKEN, pods=1, crash_pods=1),
            id="leaving-pods-do-not-count",
        ),
        pytest.param(
            [(60, [replace(crashing("a"), node="node-9"), crashing("b")])],
            replace(BROKEN, crash_pods=1),
            id="nor-what-lost-nodes-last-said",
        ),
        pytest.param([(60, [])], replace(BROKEN, pods=0, crash_pods=0), id="no-pods-yet"),
    ],
)
def test_verdict(steps: list[tuple[float, list[Pod]]], verdict: Verdict) -> None:
    other = pod("other", owner=None)
    scaled_down = old("z") if not any(pods for _, pods in steps) else other
    assert last_of([(after_s, [*pods, scaled_down]) for after_s, pods in steps]) == verdict


@pytest.mark.parametrize(
    ("crashing_since", "is_previous"),
    [
        pytest.param(START_S - 600, True, id="since-before-the-newest-revision"),
        pytest.param(START_S + 50, False, id="since-the-newest-revision"),
        pytest.param(nan, False, id="not"),
    ],
)
def test_an_open_crash_incident_may_be_the_previous_revisions(crashing_since: float, *, is_previous: bool) -> None:
    assert last_of([(60, [crashing("a"), crashing("b")])], crashing_since).previous_crashing is is_previous


def test_what_was_before_we_looked_is_not_known() -> None:
    ward = Ward()
    _, found = verdicts(Tracks(), ward.see(200, crashing("a"), controllers=ROLLING), {})
    assert np.isnan(found["web-uid"].majority_ready_s)
    _, found = verdicts(Tracks(), ward.see(900, new("a", since=500), controllers=ROLLING), {})
    assert found["web-uid"].majority_ready_s == 400, "what is seen now says enough"


def test_a_gap_makes_the_past_unknown_again() -> None:
    ward, tracks, seen = Ward(), Tracks(), []
    for after_s in (10, 60, 121, 150):
        tracks, found = verdicts(tracks, ward.see(after_s, crashing("a"), controllers=ROLLING), {})
        seen.append(found["web-uid"].majority_ready_s)
    assert [bool(np.isnan(each)) for each in seen] == [False, False, True, True]


def test_nothing_is_said_of_an_unclear_view() -> None:
    ward = Ward()
    tracks, _ = verdicts(Tracks(), ward.see(60, crashing("a"), controllers=ROLLING), {})
    assert verdicts(tracks, ward.see(70, synced=False), {}) == (tracks, {})


def test_a_stateful_sets_revision_is_as_old_as_its_oldest_pod() -> None:
    owner = replace(STATEFUL_SET, update_revision="db-2")
    shown = pod("db-2", owner=Owner("StatefulSet", "db", "db-uid"), revision="db-2", created_s=START_S + 20)
    _, found = verdicts(Tracks(), Ward().see(60, shown, replace(shown, uid="x", created_s=nan), controllers=[owner]), {})
    assert (found["db-uid"].revision_age_s, found["db-uid"].pods) == (40, 2)


def decided(pods: Sequence[Pod], events: dict[str, list[PodEvent]] | None = None, seen: Sequence[Pod] = ()) -> Outcome:
    """What is decided at demand 20 of two replicas, one minute after the start; ``seen`` half a minute before."""
    ward, tracks, rig = Ward(), Tracks(), Rig(spec())
    if seen:
        tracks, _ = verdicts(tracks, ward.see(30, *seen, controllers=ROLLING), {})
    _, found = verdicts(tracks, ward.see(60, *pods, controllers=ROLLING, events=events), {})
    rig.tick(2, current=2)
    rig.at_s = START_S + 65
    slot = rig.roster.slot(workload())
    rows = [found["web-uid"] if index == slot else None for index in range(rig.roster.spec.slots)]
    observation = replace(observe(rig.roster, rig.at_s, {workload(): Facts(2, (20,))}), health=columns(rows))
    _, decision = decide(rig.state, rig.history.record(rig.roster.spec, observation), rig.roster.spec)
    return outcome(decision, slot)


SERVING = [new("a", since=10), new("b", since=10)]
PROBED = {f"web-2-{name}-uid": [PodEvent("Killing", "app", "liveness", START_S + 41)] for name in "ab"}


@pytest.mark.parametrize(
    ("pods", "events", "seen", "replicas"),
    [
        pytest.param([crashing("a"), crashing("b")], None, [], 2, id="a-broken-revision"),
        pytest.param([crashing("a"), crashing("b")], None, SERVING, 2, id="a-revision-that-breaks-after-half-a-minute"),
        pytest.param([crashing("a", 137, "OOMKilled"), crashing("b", 137, "OOMKilled")], None, SERVING, 20, id="out-of-memory-under-load"),
        pytest.param([crashing("a", 137, "OOMKilled"), crashing("b", 137, "OOMKilled")], None, [], 2, id="out-of-memory-from-the-start"),
        pytest.param([crashing("a", 137), crashing("b", 137)], None, SERVING, 20, id="killed-under-load"),
        pytest.param([crashing("a"), crashing("b")], PROBED, SERVING, 20, id="liveness-kills-under-load-whatever-the-exit-code"),
        pytest.param([crashing("a"), crashing("b")], PROBED, [], 2, id="liveness-kills-from-the-start"),
        pytest.param(
            [crashing("a", 0, "Completed"), crashing("b", 143)], PROBED, SERVING, 20, id="liveness-kills-that-end-in-different-ways"
        ),
        pytest.param([crashing("a"), new("b", since=10)], None, [], 20, id="one-of-two"),
        pytest.param([crashing("a"), crashing("b"), old("a", crashes=True)], None, [], 20, id="all-revisions-crash"),
    ],
)
def test_pods_killed_by_overload_get_more_replicas_and_a_broken_revision_does_not(
    pods: list[Pod], events: dict[str, list[PodEvent]] | None, seen: list[Pod], replicas: float
) -> None:
    reasons = {"health": Reason.HEALTH_HOLD} if replicas == 2 else {}
    assert decided(pods, events, seen) == Outcome(2, 20, replicas, apply=replicas != 2, reasons=reasons)


def test_columns_without_verdicts_are_unknown() -> None:
    made = columns([None, BROKEN])
    assert np.isnan(made.as_of_s[0])
    assert (made.crash_pods[1], made.served[1], made.previous_crashing[0]) == (2, False, False)
    assert not any(getattr(made, name).flags.writeable for name in ("as_of_s", "pods", "served"))


def test_an_old_termination_is_no_crash() -> None:
    shown = new("a", since=10, containers=(container(restarts=1, last=Termination(1, "Error", nan, START_S - 900)),))
    assert last_of([(60, [shown])]).crash_pods == 0
