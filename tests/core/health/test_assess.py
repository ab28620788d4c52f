"""One finding for each workload, container and cause; rollouts, lost nodes and our own acts told apart."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.health.assess import Memory, assess, begin
from autoscaler.core.health.facts import Condition, Container, Controller, Node, Owner, Pod, Role, ScaleUp, Termination
from autoscaler.core.health.taxonomy import Cause, Waits
from tests.core.health.build import (
    DEPLOYMENT,
    LOOP,
    NODE,
    REPLICA_SET,
    START_S,
    STATEFUL_SET,
    WEB,
    Ward,
    backing_off,
    container,
    crashed,
    ended,
    facts,
    pod,
    ready,
    running,
    told,
    waiting,
)


def test_what_was_there_before_us_is_marked() -> None:
    old = pod("web-1-a", backing_off(1, "Error", START_S - 50, 40), created_s=START_S - 5000)
    quiet = pod("web-1-b", container(restarts=40, last=Termination(137, "OOMKilled", nan, START_S - 500)), created_s=START_S - 5000)
    ward = Ward(before=[old, quiet])
    assert [(each.cause, each.preexisting) for each in ward.due(200, old, quiet)] == [("CrashLoop", True)]
    more = pod("web-1-b", running(41, 205, 204), created_s=START_S - 5000)
    assert [(str(each.cause), each.preexisting, len(each.pods)) for each in ward.due(210, old, more)] == [("CrashLoop", True, 2)]


@pytest.mark.parametrize(
    ("shown", "controllers", "cause"),
    [
        # Times of the API are whole seconds, cut off: what comes half a second after the start says that it came half a second before.
        pytest.param(
            [pod(node="", phase="Pending", conditions=(Condition("PodScheduled", "False", "Unschedulable", START_S),), created_s=START_S)],
            [],
            Cause.UNSCHEDULABLE,
            id="pod",
        ),
        pytest.param(
            [pod("other", owner=None)],
            [replace(DEPLOYMENT, conditions=(Condition("ReplicaFailure", "True", "FailedCreate", START_S),))],
            Cause.CREATE_FAILED,
            id="controller",
        ),
        pytest.param(
            [pod("other", owner=None)],
            [replace(NODE, conditions=(Condition("Ready", "False", "KubeletNotReady", START_S),))],
            Cause.NODE_LOST,
            id="node",
        ),
    ],
)
def test_what_comes_in_the_second_of_the_start_is_news(shown: list[Pod], controllers: list[Any], cause: Cause) -> None:
    nodes = [each for each in controllers if isinstance(each, Node)] or [NODE]
    known = [each for each in controllers if isinstance(each, Controller)]
    later = facts(START_S + 400, shown, *known, nodes=nodes)
    memory, _ = assess(Memory(), facts(START_S + 0.4, []))
    _, made = assess(memory, later)
    assert [(each.cause, each.preexisting) for each in made.due()] == [(cause, False)]
    _, made = assess(Memory(), later)
    assert [(each.cause, each.preexisting) for each in made.due()] == [(cause, True)]


def test_what_happened_while_we_were_away_is_news() -> None:
    shown = pod("web-1-a", ended(137, "OOMKilled", START_S + 500), created_s=START_S - 5000)
    before = pod("web-1-b", ended(137, "OOMKilled", START_S + 300), created_s=START_S - 5000)
    _, made = assess(begin(START_S + 400), facts(START_S + 600, [shown, before]))
    assert [(str(each.cause), each.preexisting, [ref.name for ref in each.pods]) for each in made.due()] == [
        ("OutOfMemory", False, ["web-1-a"])
    ]


def test_one_finding_for_all_pods_and_restarts() -> None:
    ward = Ward()
    pods = [pod(f"web-1-{name}", crashed(4 + number, 10)) for number, name in enumerate("cab")]
    (found,) = ward.due(20, *pods, pod("web-1-d"), pod("web-1-e", phase="Succeeded"))
    assert ([each.name for each in found.pods], found.of, found.restarts) == (["web-1-a", "web-1-b", "web-1-c"], 4, 6)
    assert (found.reason, found.exit_code, found.revisions, found.pods[0].image) == ("Error", 1, ("1",), "web:1")


def test_containers_are_told_apart() -> None:
    ward = Ward()
    shown = pod("web-1-a", crashed(4, 10), backing_off(2, "Error", START_S + 10, name="log", role=Role.SIDECAR))
    assert told(ward.due(20, shown)) == [(WEB, "app", "CrashLoop"), (WEB, "log", "SidecarCrash")]


@given(
    order=st.permutations(range(6)),
    turn=st.integers(0, 5),
)
@settings(max_examples=25)
def test_the_order_of_pods_does_not_matter(order: list[int], turn: int) -> None:
    pods = [
        *(pod(f"web-1-{name}", crashed(4, 10, code)) for name, code in [("a", 1), ("b", 2), ("c", 2)]),
        pod("web-1-d", waiting("ImagePullBackOff"), node="node-2"),
        pod("web-1-e", node="node-2", deletion_s=START_S),
        pod("alone", crashed(5, 12), owner=None),
    ]
    nodes = [NODE, replace(NODE, name="node-2", uid="node-2-uid")]
    straight, shuffled = Ward(), Ward()
    straight.see(20, *pods, nodes=nodes)
    shuffled.see(20, *[pods[index] for index in (*order[turn:], *order[:turn])], nodes=nodes)
    assert shuffled.see(400, *[pods[index] for index in order], nodes=nodes).findings == straight.see(400, *pods, nodes=nodes).findings


@pytest.mark.parametrize(
    ("owner", "controllers", "subject"),
    [
        pytest.param(Owner("ReplicaSet", "web-1", "web-1-uid"), {}, WEB, id="a-deployments"),
        pytest.param(
            Owner("ReplicaSet", "rs", "rs-uid"),
            {"rs": Controller("ReplicaSet", "shop", "rs", "rs-uid")},
            "ReplicaSet shop/rs",
            id="of-a-replica-set-alone",
        ),
        pytest.param(
            Owner("ReplicaSet", "rs", "rs-uid"),
            {"rs": Controller("ReplicaSet", "shop", "rs", "rs-uid", Owner("Rollout", "r", "r-uid"))},
            "ReplicaSet shop/rs",
            id="what-we-do-not-know-above-it-is-left-out",
        ),
        pytest.param(Owner("ReplicaSet", "web-9", "web-9-uid"), {}, None, id="of-a-replica-set-that-is-not-there"),
        pytest.param(Owner("StatefulSet", "db", "db-uid"), {}, "StatefulSet shop/db", id="a-stateful-sets"),
        pytest.param(Owner("DaemonSet", "agent", "agent-uid"), {}, "DaemonSet shop/agent", id="a-daemon-sets"),
        pytest.param(Owner("Galera", "pxc", "pxc-uid"), {}, "Galera shop/pxc", id="an-operators"),
        pytest.param(Owner("Node", "node-1", "node-1-uid"), {}, "Pod shop/web-1-a", id="a-nodes-own"),
        pytest.param(None, {}, "Pod shop/web-1-a", id="nobodys"),
    ],
)
def test_whose_a_pod_is(owner: Owner | None, controllers: dict[str, Controller], subject: str | None) -> None:
    found = Ward().due(20, pod("web-1-a", crashed(4, 10), owner=owner), controllers=controllers.values())
    assert [str(each.subject) for each in found] == ([] if subject is None else [subject])


def test_a_mirror_pod_made_anew_is_the_same() -> None:
    ward, owner = Ward(), Owner("Node", "node-1", "node-1-uid")
    first, second = (
        ward.due(after_s, pod("kube-proxy", crashed(4, after_s - 5), owner=owner, mirror=True, uid=uid))[0]
        for after_s, uid in [(20, "one"), (40, "two")]
    )
    assert first.key == second.key


def test_owners_that_may_not_be_read_are_known_by_name() -> None:
    _, made = assess(Memory(START_S), replace(facts(START_S + 20, [pod("web-1-a", crashed(4, 10))]), controllers=None))
    assert told(made.due()) == [("ReplicaSet shop/web-1", "app", "CrashLoop")]


def test_a_replica_set_missing_from_a_view_for_a_moment_changes_nothing() -> None:
    shown = pod("web-1-a", crashed(4, 10))
    memory, made = assess(Memory(START_S), facts(START_S + 20, [shown]))
    without = facts(START_S + 30, [replace(shown)])
    without = replace(without, controllers={uid: each for uid, each in (without.controllers or {}).items() if uid != "web-1-uid"})
    _, again = assess(memory, without)
    assert [each.key for each in again.due()] == [each.key for each in made.due()]


def rolling(**changes: Any) -> list[Controller]:  # noqa: ANN401 - fields of Controller
    """The Deployment on its way from revision 1 to 2."""
    newest = replace(REPLICA_SET, name="web-2", uid="web-2-uid", revision="2", number=2, created_s=START_S + 5)
    return [replace(DEPLOYMENT, **{"updated": 1, **changes}), newest]


STUCK = Condition("Progressing", "False", "ProgressDeadlineExceeded", START_S + 20)
OLD = pod("web-1-a", crashed(4, 10))
NEW = pod("web-2-a", crashed(4, 10), owner=Owner("ReplicaSet", "web-2", "web-2-uid"), revision="2")
UNREADY = replace(
    NEW, containers=(container(ready=False),), conditions=(ready(status="False", reason="ContainersNotReady", since_s=START_S),)
)


@pytest.mark.parametrize(
    ("shown", "controllers", "made"),
    [
        pytest.param([OLD], rolling(), [], id="the-old-revision-is-being-replaced"),
        pytest.param([OLD], rolling(updated=3), ["CrashLoop"], id="the-rollout-is-over"),
        pytest.param([OLD], rolling(updated=3, generation=2), [], id="the-rollout-has-not-been-looked-at"),
        pytest.param([OLD], rolling(conditions=(STUCK,)), ["RolloutStuck", "CrashLoop"], id="the-rollout-is-stuck"),
        pytest.param([OLD, NEW], rolling(), ["CrashLoop"], id="the-new-revision-is-told-once"),
        pytest.param([NEW], rolling(conditions=(STUCK,)), ["CrashLoop"], id="pods-that-say-why-tell-of-a-stuck-rollout"),
        pytest.param([UNREADY], rolling(conditions=(STUCK,)), ["RolloutStuck"], id="a-stuck-rollout-tells-of-unready-pods"),
        pytest.param([UNREADY], rolling(), [], id="unready-for-a-while"),
    ],
)
def test_rollouts(shown: list[Pod], controllers: list[Controller], made: list[str]) -> None:
    ward = Ward()
    assert [str(each.cause) for each in ward.due(30, *shown, controllers=controllers)] == made
    note = "its rollout is stuck (ProgressDeadlineExceeded): consider `kubectl rollout undo`"
    is_told = [note in each.notes for each in ward.assessment.findings if each.is_due(START_S + 30)]
    assert any(is_told) == any(STUCK in each.conditions for each in controllers)


@pytest.mark.parametrize(
    ("unready_s", "made"),
    [
        pytest.param(900, [["RolloutStuck"], ["RolloutStuck"]], id="stuck-before-it-was-due"),
        pytest.param(10, [["Unready"], ["Unready"]], id="due-before-it-was-stuck"),
    ],
)
def test_a_stuck_rollout_and_its_unready_pods_are_one_incident(unready_s: float, made: list[list[str]]) -> None:
    ward = Ward(Waits(unready_s=unready_s))
    times = (30, 2000)
    assert [[str(each.cause) for each in ward.due(at_s, UNREADY, controllers=rolling(conditions=(STUCK,)))] for at_s in times] == made


def test_a_stuck_rollout_whose_pods_are_on_a_lost_node_is_no_news() -> None:
    ward, controllers = Ward(Waits(unready_s=10)), rolling(conditions=(STUCK,))
    down = replace(NODE, conditions=(Condition("Ready", "Unknown", "NodeStatusUnknown", START_S + 40),))
    assert told(ward.due(30, UNREADY, controllers=controllers)) == [("Deployment shop/web", "app", "Unready")]
    assert told(ward.due(100, UNREADY, controllers=controllers, nodes=[down])) == [("Node node-1", "", "NodeLost")]
    assert [str(each.cause) for each in ward.assessment.findings if each.subject.kind == "Deployment"] == ["RolloutStuck"]


def test_an_old_revision_that_was_ill_before_the_rollout_stays_so() -> None:
    ward = Ward()
    ward.see(20, OLD)
    (found,) = ward.see(30, OLD, controllers=rolling()).findings
    assert (str(found.cause), found.due_s) == ("CrashLoop", inf)


def test_a_stateful_set_between_two_revisions_for_ever_is_judged_as_it_is() -> None:
    owner = replace(STATEFUL_SET, update_revision="db-2", partition=3)
    shown = pod("db-0", crashed(4, 10), owner=Owner("StatefulSet", "db", "db-uid"), revision="db-1")
    assert told(Ward().due(20, shown, controllers=[owner])) == [("StatefulSet shop/db", "app", "CrashLoop")]


@pytest.mark.parametrize(
    ("scale_up", "created", "notes"),
    [
        pytest.param(ScaleUp(START_S + 100, 4, 9), 101, ("1 of these pods came with our scale-up from 4 to 9",), id="ours"),
        pytest.param(ScaleUp(START_S + 100, 4, 9), 50, (), id="it-was-there-before"),
        pytest.param(ScaleUp(START_S + 100, 4, 9), 2000, (), id="long-after"),
        pytest.param(None, 101, (), id="not-ours"),
    ],
)
def test_unschedulable_after_our_scale_up_is_told_as_such(scale_up: ScaleUp | None, created: float, notes: tuple[str, ...]) -> None:
    conditions = (Condition("PodScheduled", "False", "Unschedulable", START_S + created),)
    shown = pod(node="", phase="Pending", containers=(), conditions=conditions, created_s=START_S + created)
    (found,) = Ward().due(created + 300, shown, scale_ups={} if scale_up is None else {"web-uid": scale_up})
    assert (str(found.cause), found.notes) == ("Unschedulable", notes)


FAILED = Condition("Failed", "True", "BackoffLimitExceeded", START_S + 30)


def job(name: str, number: int, *conditions: Condition, owner: Owner | None = None) -> Controller:
    return Controller("Job", "shop", name, f"{name}-uid", owner, START_S + number, conditions=conditions)


CRON = Owner("CronJob", "nightly", "nightly-uid")


@pytest.mark.parametrize(
    ("jobs", "made"),
    [
        pytest.param([job("load", 1, FAILED)], [("Job shop/load", "", "JobFailed")], id="failed-for-good"),
        pytest.param([job("load", 1)], [], id="still-at-it"),
        pytest.param([job("load", 1, Condition("Complete", "True"))], [], id="retried-and-succeeded"),
        pytest.param(
            [job("n-1", 1, FAILED, owner=CRON), job("n-2", 2, FAILED, owner=CRON)],
            [("CronJob shop/nightly", "", "JobFailed")],
            id="one-for-all-of-a-cron-job",
        ),
        pytest.param(
            [job("n-1", 1, FAILED, owner=CRON), job("n-2", 2, Condition("Complete", "True"), owner=CRON)], [], id="the-next-one-succeeded"
        ),
        pytest.param([replace(job("load", 1, FAILED), leaving=True)], [], id="on-its-way"),
    ],
)
def test_jobs_are_judged_by_what_they_say_themselves(jobs: list[Controller], made: list[tuple[str, str, str]]) -> None:
    shown = pod("load-x", ended(1, "Error", START_S + 20), owner=Owner("Job", "load", "load-uid"), phase="Failed", restart_policy="Never")
    assert told(Ward().due(40, shown, controllers=jobs)) == made


def test_a_lost_nodes_pods_come_back_with_what_is_news_of_them() -> None:
    ward, down = Ward(), replace(NODE, conditions=(Condition("Ready", "Unknown", "NodeStatusUnknown", START_S + 10),))
    shown = pod("web-1-a", crashed(4, 5))
    assert told(ward.due(60, shown, nodes=[down])) == [("Node node-1", "", "NodeLost")]
    assert told(ward.due(70, shown, nodes=[NODE])) == LOOP


def test_nothing_is_concluded_from_a_view_that_is_not_synced() -> None:
    ward = Ward()
    ward.see(20, OLD)
    before = ward.memory
    made = ward.see(30, synced=False)
    assert (made.findings, made.conclusive, ward.memory is before) == ((), False, True)


def test_all_pods_gone_at_once_is_believed_after_ten_minutes() -> None:
    ward = Ward()
    ward.see(20, OLD)
    made = [ward.see(after_s) for after_s in (30, 629, 630, 640)]
    assert [(each.conclusive, each.emptied) for each in made] == [(False, True), (False, True), (True, False), (True, False)]


def test_a_view_that_is_full_again_was_never_empty() -> None:
    ward = Ward()
    ward.see(20, OLD)
    ward.see(30)
    assert told(ward.due(40, OLD)) == LOOP
    assert [ward.see(after_s).emptied for after_s in (50, 649)] == [True, True]


def test_pods_without_news_are_not_judged_again() -> None:
    ward, quiet = Ward(), pod("web-1-b")
    ward.see(20, OLD, quiet)
    before = ward.memory.members
    ward.see(30, OLD, quiet)
    assert (ward.memory.members[quiet.uid] is before[quiet.uid], ward.memory.members[OLD.uid] is before[OLD.uid]) == (True, False)


times = st.one_of(st.just(nan), st.floats(START_S - 1e4, START_S + 1e4), st.just(1e18), st.just(-1e18))
ends = st.one_of(
    st.none(), st.builds(Termination, st.integers(-3, 300), st.sampled_from(["", "Error", "OOMKilled", "Completed"]), times, times)
)
containers = st.builds(
    Container,
    st.sampled_from(["app", "log"]),
    st.sampled_from(list(Role)),
    st.just(""),
    st.integers(-2, 9),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, True, False]),
    st.sampled_from(["", "CrashLoopBackOff", "ImagePullBackOff", "RunContainerError", "ContainerCreating", "Nonsense"]),
    st.booleans(),
    times,
    ends,
    ends,
)
kinds = ["Ready", "PodScheduled", "Initialized", "DisruptionTarget", "PodReadyToStartContainers", "X"]
conditions = st.builds(
    Condition,
    st.sampled_from(kinds),
    st.sampled_from(["True", "False", "Unknown", ""]),
    st.sampled_from(["", "Unschedulable", "ContainersNotReady"]),
    times,
)
owners = st.sampled_from(
    [None, Owner("", "", ""), REPLICA_SET.owner, Owner("ReplicaSet", "web-1", "web-1-uid"), Owner("Job", "j", "j-uid")]
)
pods = st.builds(
    Pod,
    st.just("shop"),
    st.just("web-1-a"),
    st.just("web-1-a-uid"),
    owner=owners,
    created_s=times,
    deletion_s=st.one_of(st.just(nan), times),
    node=st.sampled_from(["", "node-1", "node-9"]),
    phase=st.sampled_from(["", "Pending", "Running", "Failed", "Succeeded", "Unknown", "Dreaming"]),
    reason=st.sampled_from(["", "Evicted", "NodeLost", "OutOfcpu"]),
    restart_policy=st.sampled_from(["", "Always", "Never", "OnFailure"]),
    conditions=st.lists(conditions, max_size=4).map(tuple),
    containers=st.lists(containers, max_size=2, unique_by=lambda each: each.name).map(tuple),
)


@given(shown=st.lists(pods, min_size=1, max_size=5), known=st.booleans())
@settings(max_examples=200)
def test_nothing_that_an_object_may_say_makes_it_fail(shown: list[Pod], *, known: bool) -> None:
    ward = Ward()
    for number, each in enumerate(shown):
        for finding in ward.see(20 + 60 * number, each, nodes=[NODE] if known else None).findings:
            assert finding.since_s <= START_S + 20 + 60 * number or finding.cause == "StuckTerminating"


def test_a_node_that_is_not_named_is_none() -> None:
    assert Ward().due(60, pod(node=""), nodes=[Node("")]) == []


def test_a_pod_that_no_node_has_yet_brings_no_nameless_node_to_life() -> None:
    """Where nodes may not be read, their names stand for them; "" is nobody, and whoever is looked for by it has not been found."""
    shown = facts(START_S, [pod("web-1-a"), pod("web-1-b", node="")])
    _, assessment = assess(begin(), replace(shown, nodes=None))
    assert "node-1" in assessment.alive
    assert "" not in assessment.alive
