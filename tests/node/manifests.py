"""Manifests of workloads with real containers: busybox's shell, doing what its `command` says.

Each workload has an image name of its own: several that fall ill with one image are taken for a fault of that image.
"""

from collections.abc import Iterable
from typing import Any

from tests.cluster.rig import objects

Json = dict[str, Any]

SERVE = "trap exit TERM; while :; do sleep 0.2; done"
"""A well-behaved server: it runs until it is asked to end."""


def image_of(name: str) -> str:
    """The image of a workload's containers."""
    return f"localhost/{name}:1"


def container(command: str, name: str = "main", **fields: Any) -> Json:  # noqa: ANN401 - fields of a container
    """A container that runs a shell command."""
    return {"name": name, "command": ["sh", "-c", command], **fields}


def pod_spec(workload: str, *containers: Json, initial: Iterable[Json] = (), **fields: Any) -> Json:  # noqa: ANN401 - as above
    """Without a token and DNS, which nobody here has use for."""
    image = {"image": image_of(workload)}
    return {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "dnsPolicy": "Default",
        "containers": [image | each for each in containers],
        "initContainers": [image | each for each in initial],
        **fields,
    }


def deployment(namespace: str, name: str, *containers: Json, replicas: int = 1, **fields: Any) -> Json:  # noqa: ANN401 - as above
    """A Deployment; `fields` are pod_spec()'s."""
    made = objects.deployment(namespace, name, replicas)
    made["spec"]["template"]["spec"] = pod_spec(name, *containers, **fields)
    return made


def stateful_set(namespace: str, name: str, *containers: Json, replicas: int = 1, **fields: Any) -> Json:  # noqa: ANN401 - as above
    """A StatefulSet; `fields` are pod_spec()'s."""
    made = objects.stateful_set(namespace, name, replicas)
    made["spec"]["template"]["spec"] = pod_spec(name, *containers, **fields)
    return made


def job(namespace: str, name: str, main: Json, *, backoff_limit: int = 6, **fields: Any) -> Json:  # noqa: ANN401 - as above
    """A Job; `fields` are pod_spec()'s, `restartPolicy` among them."""
    template = {"metadata": {"labels": {"app": name}}, "spec": pod_spec(name, main, **fields)}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"backoffLimit": backoff_limit, "template": template}}


def pod(namespace: str, name: str, *containers: Json, **fields: Any) -> Json:  # noqa: ANN401 - as above
    """A pod that nobody owns; `fields` are pod_spec()'s."""
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(name, *containers, **fields)}


def disruption_budget(namespace: str, name: str, available: int) -> Json:
    """A PodDisruptionBudget for the pods labelled app=`name`."""
    metadata = {"name": name, "namespace": namespace}
    spec = {"minAvailable": available, "selector": {"matchLabels": {"app": name}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}
