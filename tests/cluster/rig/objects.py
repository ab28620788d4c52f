"""Manifests that tests need again and again, as plain dictionaries to change before creating."""

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]
Rules = Sequence[Json]

IMAGE = "rig.invalid/web:1"  # nothing pulls it: there is no node
CUSTOM_API = "rig.autoscaler.dev/v1"
CUSTOM_KIND = "Worker"
SCALABLE = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "ReplicaSet"), (CUSTOM_API, CUSTOM_KIND))
"""What the contracts' workloads are made of, as (api_version, kind)."""


def deployment(namespace: str, name: str = "web", replicas: int = 1, requests: Mapping[str, str] | None = None) -> Json:
    """An apps/v1 Deployment whose pods are labelled app=`name`; `requests` as {"cpu": "100m"}."""
    return _workload("Deployment", namespace, name, replicas, requests)


def replica_set(namespace: str, name: str = "web", replicas: int = 1, requests: Mapping[str, str] | None = None) -> Json:
    """An apps/v1 ReplicaSet, otherwise as `deployment`."""
    return _workload("ReplicaSet", namespace, name, replicas, requests)


def stateful_set(namespace: str, name: str = "db", replicas: int = 1, requests: Mapping[str, str] | None = None) -> Json:
    """An apps/v1 StatefulSet that starts its pods one after the other (the default), otherwise as `deployment`."""
    manifest = _workload("StatefulSet", namespace, name, replicas, requests)
    manifest["spec"]["serviceName"] = name
    return manifest


def custom_workload_crd() -> Json:
    """A CustomResourceDefinition of kind Worker with /status and /scale, for Api.create_crd()."""
    group, version = CUSTOM_API.split("/")
    count = {"type": "integer", "minimum": 0}
    fields = {
        "spec": {"type": "object", "properties": {"replicas": count}},
        "status": {"type": "object", "properties": {"replicas": count, "selector": {"type": "string"}}},
    }
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"workers.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "workers", "singular": "worker", "kind": CUSTOM_KIND},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}},
                    "subresources": {"status": {}, "scale": scale},
                }
            ],
        },
    }


def custom_workload(namespace: str, name: str = "worker", replicas: int = 1) -> Json:
    """A Worker. No controller runs for it: say what it has with Resource.set_status(replicas=…, selector="app=…")."""
    return {
        "apiVersion": CUSTOM_API,
        "kind": CUSTOM_KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas},
    }


def pod(namespace: str, name: str, labels: Mapping[str, str]) -> Json:
    """A bare pod, such as one that a custom workload would own."""
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _pod_spec(None)}


def rule(groups: str, resources: str, verbs: str, names: Sequence[str] = ()) -> Json:
    """One RBAC rule from comma-separated words, as ("apps", "deployments/scale", "get,patch"); "" is the core group."""
    written: Json = {"apiGroups": groups.split(","), "resources": resources.split(","), "verbs": verbs.split(",")}
    if names:
        written["resourceNames"] = list(names)
    return written


def _workload(kind: str, namespace: str, name: str, replicas: int, requests: Mapping[str, str] | None) -> Json:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": _pod_spec(requests)},
        },
    }


def _pod_spec(requests: Mapping[str, str] | None) -> Json:
    container: Json = {"name": "main", "image": IMAGE}
    if requests:
        container["resources"] = {"requests": dict(requests)}
    return {"containers": [container], "terminationGracePeriodSeconds": 0}
