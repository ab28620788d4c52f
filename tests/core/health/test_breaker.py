"""When much fails at once nothing is done: what opens the breaker, for whom, and what closes it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from autoscaler.core.health.breaker import CLUSTER, Breakers, advance_breakers, trips
from autoscaler.core.health.facts import Condition, Owner, Pod
from tests.core.health.build import NODE, START_S, Ward, backing_off, container, pod, waiting

NODES = [replace(NODE, name=f"node-{number}", uid=f"node-{number}-uid") for number in range(1, 9)]


def fleet(sizes: Sequence[int], ill: Sequence[int], **changes: object) -> list[Pod]:
    """Workloads of these sizes, so many of each ill, each pod on a node of its own and each workload with its own image and error."""
    pods: list[Pod] = []
    for number, (size, bad) in enumerate(zip(sizes, ill, strict=True)):
        owner = Owner("StatefulSet", f"s{number}", f"s{number}-uid")
        sick = backing_off(20 + number, "Error", START_S + 5, 4, image=f"image:{number}")
        for index in range(size):
            base = pod(
                f"s{number}-{index}",
                sick if index < bad else container(running_s=START_S + 6),
                owner=owner,
                node=f"node-{1 + len(pods) % 8}",
            )
            pods.append(replace(base, **(changes if index < bad else {})))  # type: ignore[arg-type]
    return pods


def sign(number: int, what: str) -> str:
    return f"{number} workloads fell ill lately with the same {what}"


@pytest.mark.parametrize(
    ("pods", "made"),
    [
        pytest.param(fleet([10, 10], [1, 1]), {}, id="a-few"),
        pytest.param(fleet([10, 10], [2, 2]), {CLUSTER: ("4 of 20 watched pods are ill",)}, id="a-fifth"),
        pytest.param(fleet([20], [3]), {}, id="less-than-a-fifth"),
        pytest.param(fleet([5, 5], [1, 1]), {}, id="a-fifth-but-fewer-than-three"),
        pytest.param(fleet([4, 30], [2, 0]), {"s0-uid": ("2 of its 4 pods are ill",)}, id="half-of-a-workload"),
        pytest.param(fleet([1, 30], [1, 0]), {}, id="a-workload-of-one"),
        pytest.param(fleet([5, 30], [2, 0]), {}, id="less-than-half-of-a-workload"),
        pytest.param(fleet([9, 9, 9], [1, 1, 1], node="node-3"), {CLUSTER: (sign(3, "node: node-3"),)}, id="a-shared-node"),
        pytest.param(fleet([9, 9], [1, 1], node="node-3"), {}, id="shared-by-two"),
        pytest.param(
            fleet([9, 9, 9], [1, 1, 1], containers=(waiting("InvalidImageName", image="x:1"),)),
            {CLUSTER: (sign(3, "error: BadImage InvalidImageName"), sign(3, "image: x:1"))},
            id="a-shared-image-and-error",
        ),
        pytest.param(
            [replace(each, node="node-1", created_s=START_S + 1) for each in fleet([9, 9, 9], [1, 1, 1])], {}, id="the-only-node-is-no-sign"
        ),
        pytest.param(
            fleet([9, 9, 9], [3, 3, 3], containers=(), phase="Failed", reason="Evicted"), {}, id="failed-pods-are-replaced-already"
        ),
        pytest.param(
            fleet([4], [4], conditions=(Condition("PodScheduled", "False", "Unschedulable", START_S - 900),), containers=()),
            {},
            id="want-of-room",
        ),
    ],
)
def test_what_opens_it(pods: list[Pod], made: dict[str, tuple[str, ...]]) -> None:
    assert trips(Ward().see(20, *pods, nodes=NODES)) == made


def test_what_fell_ill_at_different_times_shares_no_cause() -> None:
    ward, pods = Ward(), fleet([9, 9, 9], [1, 1, 1], node="node-3")
    ward.see(20, *pods, nodes=NODES)
    assert trips(ward.see(606, *pods, nodes=NODES)) == {}


def test_pods_on_a_lost_node_are_ill() -> None:
    lost = [replace(NODES[0], unreachable=True), *NODES[1:]]
    assert trips(
        Ward().see(20, *[replace(each, node="node-1") for each in fleet([4, 8], [0, 0])][:4], *fleet([4, 8], [0, 0])[4:], nodes=lost)
    ) == {
        CLUSTER: ("5 of 12 watched pods are ill",),
        "s0-uid": ("4 of its 4 pods are ill",),
    }


def test_it_tells_once_and_closes_after_calm_and_a_cooldown() -> None:
    ward, breakers, opened = Ward(), Breakers(), []
    ill, well = fleet([10, 10], [2, 2]), fleet([10, 10], [0, 0])
    for after_s, pods in [
        (20, ill),
        (30, ill),
        (40, well),
        (500, well),
        (600, ill),
        (610, well),
        (1509, well),
        (1510, well),
        (1600, ill),
        (1720, ill),
    ]:
        breakers, new = advance_breakers(breakers, ward.see(after_s, *pods, nodes=NODES))
        opened += [(after_s, uid, bool(breakers.against("any"))) for uid in new]
        if after_s in {1509, 1510}:
            opened.append((after_s, "?", bool(breakers.open)))
    assert opened == [(20, CLUSTER, True), (1509, "?", True), (1510, "?", False), (1720, CLUSTER, True)]


def test_a_workloads_breaker_is_its_own() -> None:
    breakers, opened = advance_breakers(Breakers(), Ward().see(20, *fleet([4, 30], [2, 0]), nodes=NODES))
    assert (opened, breakers.against("s0-uid") is None, breakers.against("s1-uid") is None) == (("s0-uid",), False, True)


def test_all_pods_gone_at_once_opens_it_and_an_unsynced_view_leaves_it() -> None:
    ward = Ward()
    ward.see(20, *fleet([3], [0]), nodes=NODES)
    breakers, opened = advance_breakers(Breakers(), ward.see(30))
    assert (opened, breakers.open[CLUSTER].why) == ((CLUSTER,), ("no pod is listed any more, where there were some",))
    assert advance_breakers(breakers, ward.see(9000, synced=False)) == (breakers, ())
