"""What is done to a workload of a scenario after it was made."""

from typing import Any

from tests.cluster.rig import Resource, wait_until
from tests.node.manifests import SERVE, container, image_of
from tests.node.rig import Node

Json = dict[str, Any]

VOLUME = "state"
LOCK = "lock"


def delete_a_pod(node: Node, owner: Resource) -> None:
    """As somebody does who wants a new one."""
    name = _wait_ready(owner, 1)[0]["metadata"]["name"]
    node.plane.api.call("DELETE", f"/api/v1/namespaces/{owner.namespace}/pods/{name}")


def roll_out(_: Node, owner: Resource) -> None:
    """A new revision that works."""
    _wait_ready(owner, 3)
    owner.merge({"spec": {"template": {"metadata": {"annotations": {"revision": "2"}}}}})
    owner.wait("it is on its new revision alone", lambda seen: _counts(seen) == (seen["metadata"]["generation"], 3, 3, 3), timeout_s=90)


def scale_down(_: Node, owner: Resource) -> None:
    """From three to one."""
    _wait_ready(owner, 3)
    owner.scale(1)


def drain(node: Node, owner: Resource) -> None:
    """Each pod evicted, as before a node's maintenance."""
    for pod in _wait_ready(owner, 3):
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": owner.namespace}}
        node.plane.api.call("POST", f"/api/v1/namespaces/{owner.namespace}/pods/{name}/eviction", eviction)


def mend(_: Node, owner: Resource) -> None:
    """A revision that would work, once the first one has begun to crash."""
    wait_until(f"{owner.name} has crashed", lambda: any(_restarts(each) for each in owner.pods()), timeout_s=60)
    owner.merge({"spec": {"template": {"spec": {"containers": [{"image": image_of(owner.name), **container(SERVE)}]}}}})


def leave_a_lock(node: Node, owner: Resource) -> None:
    """A file in one pod's volume, such as an unclean end leaves: what finds it does not start."""
    first = _wait_ready(owner, 3)[0]
    (node.empty_dir(first["metadata"]["uid"], VOLUME) / LOCK).touch()


def _wait_ready(owner: Resource, count: int) -> list[Json]:
    def ready() -> list[Json] | None:
        found = [each for each in owner.pods() if _is_ready(each)]
        return found if len(found) == count else None

    return wait_until(f"{owner.name} has {count} Ready pods", ready, timeout_s=90, every_s=0.2)


def _is_ready(pod: Json) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _restarts(pod: Json) -> int:
    return sum(each["restartCount"] for each in pod["status"].get("containerStatuses", ()))


def _counts(seen: Json) -> tuple[int, int, int, int]:
    status = seen["status"]
    replicas, updated, available = (int(status.get(name, 0)) for name in ("replicas", "updatedReplicas", "availableReplicas"))
    return int(status.get("observedGeneration", 0)), replicas, updated, available
