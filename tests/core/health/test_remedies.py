"""Whether to act: one case in which everything speaks for it, and for each thing that may speak against it a case with its name."""

from dataclasses import replace
from math import nan
from typing import Any

import pytest

from autoscaler.core.health.assess import BROKEN
from autoscaler.core.health.breaker import CLUSTER, Breaker, Breakers
from autoscaler.core.health.caps import Attempt, Caps, Ledger, back_off_s, noted
from autoscaler.core.health.facts import Condition, Node, Owner, Pod, Subject
from autoscaler.core.health.findings import Finding, PodRef
from autoscaler.core.health.owners import Rollout
from autoscaler.core.health.remedies import REMEDIES, Act, Allowed, Case, Refusal, Refuse, Remedy, remedy
from autoscaler.core.health.taxonomy import Cause, Waits
from tests.core.health.build import NODE, REPLICA_SET, STATEFUL_SET, backing_off, pod, ready

AT_S = 1_700_100_000.0
WEB = Subject("Deployment", "shop", "web", "web-uid")
ILL = pod("web-1-a", backing_off(restarts=9), conditions=(ready(status="False"),), created_s=AT_S - 5000)
WELL = pod("web-1-b", node="node-2", created_s=AT_S - 5000)
REF = PodRef("web-1-a", "web-1-a-uid", "node-1", "1", "web:1", 5, AT_S - 600)
FINDING = Finding(WEB, "app", Cause.CRASH_LOOP, AT_S - 600, AT_S - 500, (REF,), 4, "Error", 1)
CASE = Case(
    AT_S,
    FINDING,
    REF,
    ILL,
    frozenset({Cause.CRASH_LOOP}),
    REPLICA_SET,
    (WELL,),
    NODE,
    Rollout("1", AT_S - 9e5),
    paused=False,
    breakers=Breakers(),
    ledger=Ledger(),
)
ALLOWED = Allowed(dict.fromkeys(REMEDIES.values(), Remedy.RESTART), leader=True, synced=True, own_uid="own-uid")
ACT = Act(eviction=True, namespace="shop", pod="web-1-a", uid="web-1-a-uid", resource_version="7", why="CrashLoop: 5 restarts, for 600 s")
BY_SET = Owner("StatefulSet", "db", "db-uid")


def case(base: Case = CASE, *, fresh: dict[str, Any] | None = None, **changes: Any) -> Case:  # noqa: ANN401 - fields of Case
    """The case with changes; ``fresh``: fields of the pod as just read."""
    read = replace(ILL, **fresh) if fresh else base.fresh
    return replace(base, fresh=read, **changes)


def of(cause: Cause, lasted_s: float = 9e3, **changes: Any) -> Case:  # noqa: ANN401 - fields of Case
    """The same pod with another cause."""
    ref = REF._replace(since_s=AT_S - lasted_s)
    shows = frozenset({cause}) & BROKEN or frozenset({cause})
    return case(finding=replace(FINDING, cause=cause, pods=(ref,)), ref=ref, **{"shows": shows, **changes})


def done(*ago_s: float, workload: str = "web-uid", pod_uid: str = "gone", number: int = -1) -> Ledger:
    return Ledger(tuple(Attempt(AT_S - each, workload, "web-1-uid", pod_uid, number) for each in ago_s))


def replacement(ago_s: float, *, is_ready: bool = True) -> Pod:
    return pod("web-1-n", created_s=AT_S - ago_s, conditions=(ready(status="True" if is_ready else "False"),))


@pytest.mark.parametrize(
    ("given", "act"),
    [
        pytest.param(CASE, ACT, id="a-crash-loop"),
        pytest.param(case(shows=frozenset({Cause.OOM})), ACT, id="it-crashes-in-another-way-by-now"),
        pytest.param(
            of(Cause.CREATING),
            replace(ACT, why="StuckCreating: 5 restarts, for 9000 s"),
            id="stuck-creating-while-a-sibling-runs-elsewhere",
        ),
        pytest.param(of(Cause.UNREADY), replace(ACT, why="Unready: 5 restarts, for 9000 s"), id="unready-in-a-minority"),
        pytest.param(
            of(Cause.FAILED, fresh={"phase": "Failed"}, node=None),
            replace(ACT, why="PodFailed: 5 restarts, for 9000 s"),
            id="a-failed-pod-on-whatever-node",
        ),
        pytest.param(
            of(
                Cause.WEDGED,
                fresh={"owner": BY_SET},
                owner=STATEFUL_SET,
                shows=frozenset({Cause.IMAGE_PULL}),
                rollout=Rollout("db-2", nan, progressing=True),
            ),
            replace(ACT, why="WedgedStatefulSet: 5 restarts, for 9000 s"),
            id="a-wedged-stateful-set-in-its-rollout",
        ),
        pytest.param(
            case(ledger=done(1900), siblings=(WELL, replacement(1890)), fresh={"created_s": AT_S - 5000}),
            ACT,
            id="after-the-back-off-with-a-replacement-that-is-ready",
        ),
        pytest.param(case(ledger=done(90, workload="api-uid")), ACT, id="another-workload-a-minute-ago"),
        pytest.param(case(ledger=done(90000)), ACT, id="a-day-later"),
        pytest.param(case(breakers=Breakers({"api-uid": Breaker(AT_S, ())})), ACT, id="the-breaker-of-another-workload"),
    ],
)
def test_acts(given: Case, act: Act) -> None:
    assert remedy(given, ALLOWED) == act


@pytest.mark.parametrize(
    ("given", "waits"),
    [
        pytest.param(of(Cause.CRASH_LOOP, 30), Waits(crash_loop_remedy_s=30), id="a-crash-loop"),
        pytest.param(of(Cause.CREATING, 30), Waits(creating_remedy_s=30), id="stuck-creating"),
        pytest.param(of(Cause.FAILED, 30, fresh={"phase": "Failed"}), Waits(failed_remedy_s=30), id="a-failed-pod"),
    ],
)
def test_a_policy_says_how_long_is_long_enough(given: Case, waits: Waits) -> None:
    longer = replace(waits, **dict.fromkeys(("crash_loop_remedy_s", "creating_remedy_s", "failed_remedy_s"), 31))
    made = [remedy(given, replace(ALLOWED, waits=each)) for each in (waits, longer)]
    assert [type(each) for each in made] == [Act, Refuse]
    assert made[1] == Refuse(Refusal.TOO_EARLY, "30 of 31 s")


def test_deletion_is_an_explicit_choice() -> None:
    assert remedy(CASE, replace(ALLOWED, remedies={"crashLoop": Remedy.DELETE})) == replace(ACT, eviction=False)


@pytest.mark.parametrize(
    ("given", "allowed", "refused"),
    [
        pytest.param(of(Cause.OOM), {}, Refuse(Refusal.NO_REMEDY), id="out-of-memory"),
        pytest.param(of(Cause.IMAGE_PULL), {}, Refuse(Refusal.NO_REMEDY), id="image-pull"),
        pytest.param(CASE, {"remedies": {}}, Refuse(Refusal.NOT_OPTED_IN, "remedies.crashLoop: report"), id="by-default"),
        pytest.param(
            CASE, {"remedies": {"crashLoop": Remedy.REPORT}}, Refuse(Refusal.NOT_OPTED_IN, "remedies.crashLoop: report"), id="report"
        ),
        pytest.param(CASE, {"leader": False}, Refuse(Refusal.NOT_LEADER), id="not-leader"),
        pytest.param(CASE, {"synced": False}, Refuse(Refusal.NOT_SYNCED), id="not-synced"),
        pytest.param(case(breakers=Breakers({CLUSTER: Breaker(AT_S, ("a", "b"))})), {}, Refuse(Refusal.BREAKER_OPEN, "a; b"), id="breaker"),
        pytest.param(
            case(breakers=Breakers({"web-uid": Breaker(AT_S, ("c",))})), {}, Refuse(Refusal.BREAKER_OPEN, "c"), id="workloads-breaker"
        ),
        pytest.param(case(finding=replace(FINDING, due_s=AT_S + 1)), {}, Refuse(Refusal.NOT_DUE), id="not-due"),
        pytest.param(replace(CASE, fresh=None), {}, Refuse(Refusal.POD_GONE), id="gone"),
        pytest.param(case(fresh={"uid": "other"}), {}, Refuse(Refusal.CHANGED), id="made-anew"),
        pytest.param(case(shows=frozenset()), {}, Refuse(Refusal.RECOVERED), id="recovered"),
        pytest.param(of(Cause.WEDGED, shows=frozenset()), {}, Refuse(Refusal.RECOVERED), id="recovered-of-a-wedge"),
        pytest.param(of(Cause.UNREADY, shows=frozenset({Cause.CONFIG})), {}, Refuse(Refusal.RECOVERED), id="something-else-by-now"),
        pytest.param(case(fresh={"deletion_s": AT_S + 30}), {}, Refuse(Refusal.TERMINATING), id="leaving"),
        pytest.param(case(fresh={"conditions": (ready(),)}), {}, Refuse(Refusal.READY), id="ready"),
        pytest.param(CASE, {"own_uid": "web-1-a-uid"}, Refuse(Refusal.SELF), id="ourselves"),
        pytest.param(case(fresh={"mirror": True}), {}, Refuse(Refusal.MIRROR), id="mirror"),
        pytest.param(case(fresh={"owner": Owner("Node", "node-1", "n")}), {}, Refuse(Refusal.MIRROR), id="a-nodes-own"),
        pytest.param(case(fresh={"critical": True}), {}, Refuse(Refusal.CRITICAL), id="system-critical"),
        pytest.param(case(fresh={"owner": None}), {}, Refuse(Refusal.BARE), id="bare"),
        pytest.param(case(fresh={"restart_policy": "OnFailure"}), {}, Refuse(Refusal.RESTART_POLICY), id="restart-policy"),
        pytest.param(case(fresh={"restart_policy": ""}), {}, Refuse(Refusal.RESTART_POLICY), id="restart-policy-unknown"),
        pytest.param(case(fresh={"owner": Owner("Job", "j", "j")}), {}, Refuse(Refusal.OWNER_KIND, "Job"), id="of-a-job"),
        pytest.param(case(fresh={"owner": Owner("Galera", "g", "g")}), {}, Refuse(Refusal.OWNER_KIND, "Galera"), id="of-an-operator"),
        pytest.param(case(owner=None), {}, Refuse(Refusal.OWNER_GONE), id="owner-gone"),
        pytest.param(case(owner=replace(REPLICA_SET, uid="new")), {}, Refuse(Refusal.OWNER_GONE), id="owner-made-anew"),
        pytest.param(case(owner=replace(REPLICA_SET, leaving=True)), {}, Refuse(Refusal.OWNER_GONE), id="owner-leaving"),
        pytest.param(
            case(fresh={"owner": Owner("DaemonSet", "d", "d")}, owner=replace(REPLICA_SET, kind="DaemonSet", uid="d")),
            {},
            Refuse(Refusal.DAEMON_SET),
            id="daemon-set",
        ),
        pytest.param(case(rollout=Rollout("1", AT_S, progressing=True)), {}, Refuse(Refusal.ROLLOUT), id="rollout"),
        pytest.param(
            case(rollout=Rollout("1", AT_S, stuck=Condition("Progressing", "False"))), {}, Refuse(Refusal.ROLLOUT), id="stuck-rollout"
        ),
        pytest.param(case(paused=True), {}, Refuse(Refusal.ROLLOUT), id="paused-rollout"),
        pytest.param(case(node=None), {}, Refuse(Refusal.NODE_UNKNOWN, "node-1"), id="node-unknown"),
        pytest.param(case(node=Node("node-1")), {}, Refuse(Refusal.NODE_UNKNOWN, "node-1"), id="node-says-nothing"),
        pytest.param(case(node=replace(NODE, unreachable=True)), {}, Refuse(Refusal.NODE_NOT_READY, "node-1"), id="node-unreachable"),
        pytest.param(
            case(node=Node("node-1", conditions=(Condition("Ready", "False"),))),
            {},
            Refuse(Refusal.NODE_NOT_READY, "node-1"),
            id="node-not-ready",
        ),
        pytest.param(case(ref=REF._replace(restarts=4)), {}, Refuse(Refusal.TOO_FEW_RESTARTS, "4 since it began"), id="four-restarts"),
        pytest.param(case(ref=REF._replace(since_s=AT_S - 599)), {}, Refuse(Refusal.TOO_EARLY, "599 of 600 s"), id="not-ten-minutes"),
        pytest.param(case(ref=REF._replace(since_s=nan)), {}, Refuse(Refusal.TOO_EARLY, "nan of 600 s"), id="since-when-unknown"),
        pytest.param(of(Cause.CREATING, 899), {}, Refuse(Refusal.TOO_EARLY, "899 of 900 s"), id="creating-not-fifteen-minutes"),
        pytest.param(of(Cause.CREATING, siblings=()), {}, Refuse(Refusal.NO_SIBLING_ELSEWHERE), id="creating-and-no-sibling"),
        pytest.param(
            of(Cause.CREATING, siblings=(replace(WELL, node="node-1"),)),
            {},
            Refuse(Refusal.NO_SIBLING_ELSEWHERE),
            id="siblings-on-the-same-node",
        ),
        pytest.param(
            of(Cause.CREATING, siblings=(replace(WELL, conditions=()),)),
            {},
            Refuse(Refusal.NO_SIBLING_ELSEWHERE),
            id="siblings-that-are-not-ready",
        ),
        pytest.param(
            case(of(Cause.UNREADY), finding=replace(FINDING, cause=Cause.UNREADY, of=2)),
            {},
            Refuse(Refusal.MAJORITY, "1 of 2"),
            id="unready-and-no-minority",
        ),
        pytest.param(of(Cause.FAILED, 3599), {}, Refuse(Refusal.TOO_EARLY, "3599 of 3600 s"), id="failed-not-an-hour"),
        pytest.param(
            case(ledger=done(4000), siblings=(replacement(3990),), fresh={"created_s": AT_S - 3999}),
            {},
            Refuse(Refusal.LINEAGE),
            id="a-replacement",
        ),
        pytest.param(case(ledger=done(4000, pod_uid="web-1-a-uid")), {}, Refuse(Refusal.LINEAGE), id="evicted-before-and-still-there"),
        pytest.param(case(ledger=done(100)), {}, Refuse(Refusal.IN_FLIGHT), id="nothing-in-its-place-yet"),
        pytest.param(
            case(ledger=done(4000), siblings=(replacement(3990, is_ready=False),)),
            {},
            Refuse(Refusal.NOT_REPLACED),
            id="what-came-is-not-ready",
        ),
        pytest.param(
            case(ledger=done(500), siblings=(replacement(490),)),
            {},
            Refuse(Refusal.BACK_OFF, "600 s after 1 in a day"),
            id="back-off",
        ),
        pytest.param(
            case(ledger=done(30000, 9000, 2300), fresh={"created_s": AT_S - 90000}, siblings=(replacement(2290),)),
            {},
            Refuse(Refusal.BACK_OFF, "2400 s after 3 in a day"),
            id="longer-back-off",
        ),
        pytest.param(
            case(ledger=done(3500, 3400, 3300), siblings=(replacement(3290),)),
            {},
            Refuse(Refusal.WORKLOAD_CAP, "3 an hour"),
            id="three-in-an-hour",
        ),
        pytest.param(
            case(ledger=done(3500), siblings=(replacement(3290),)),
            {"caps": Caps(workload_hour=1)},
            Refuse(Refusal.WORKLOAD_CAP, "1 an hour"),
            id="as-the-policy-says",
        ),
        pytest.param(case(ledger=done(59, workload="api-uid")), {}, Refuse(Refusal.CLUSTER_RATE), id="another-within-the-minute"),
    ],
)
def test_refuses(given: Case, allowed: dict[str, Any], refused: Refuse) -> None:
    assert remedy(given, replace(ALLOWED, **allowed)) == refused


def test_each_refusal_has_a_case() -> None:
    (mark,) = [each for each in test_refuses.pytestmark if each.name == "parametrize"]
    assert set(Refusal) - {each.values[2].reason for each in mark.args[1]} == set()


def test_a_daemon_set_that_the_policy_includes() -> None:
    owner = replace(REPLICA_SET, kind="DaemonSet", uid="d")
    assert isinstance(remedy(case(fresh={"owner": Owner("DaemonSet", "d", "d")}, owner=owner), replace(ALLOWED, daemon_sets=True)), Act)


def test_a_stateful_sets_lineage_is_its_number() -> None:
    owner = replace(STATEFUL_SET, uid="web-1-uid")
    fresh = {"name": "db-1", "owner": Owner("StatefulSet", "db", "web-1-uid"), "created_s": AT_S - 100}
    ready_again = replace(replacement(4990), name="db-0")
    given = case(fresh=fresh, owner=owner, siblings=(ready_again,), ledger=done(5000, number=0))
    assert isinstance(remedy(given, ALLOWED), Act), "another number was removed"
    assert remedy(replace(given, ledger=done(5000, number=1)), ALLOWED) == Refuse(Refusal.LINEAGE)


def test_the_ledger_forgets_after_a_day_and_backs_off_to_six_hours() -> None:
    caps, ledger = Caps(), Ledger()
    for number in range(8):
        ledger = noted(ledger, Attempt(AT_S + number, "web-uid", "web-1-uid", f"{number}"), caps)
    assert [back_off_s(ledger.attempts[:count], caps) for count in range(8)] == [0, 600, 1200, 2400, 4800, 9600, 19200, 21600]
    assert noted(ledger, Attempt(AT_S + 86402, "web-uid", "web-1-uid", "x"), caps).attempts[0].pod == "3"
