"""The question that tells how many pods of a workload are scraped, where a policy does not bring its own.

A pod's name tells whose it is: controllers name pods after themselves, and what they append has an alphabet of its own
(kubernetes/apimachinery, util/rand: no vowels, so that no words come about). So one query serves all workloads of a kind in a namespace.
"""

from __future__ import annotations

from functools import lru_cache

from autoscaler.core.spec import Coverage, Query
from autoscaler.core.types import Workload

LABEL = "autoscaler_workload"

_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
_SUFFIX = {
    "Deployment": f"-{_RANDOM}{{1,10}}-{_RANDOM}{{5}}",
    "ReplicaSet": f"-{_RANDOM}{{5}}",
    "StatefulSet": "-[0-9]+",
}
_NAME_MAX = 46
"""Pods of a Deployment with a longer name have it cut to fit into 63 characters."""


def default_coverage(workload: Workload, endpoint: str) -> Coverage | None:
    """Count the workload's pods that `up` shows as up, a pod once however many of its ports are scraped.

    None where pods' names do not tell their workload: custom resources, and names that are too long.
    """
    suffix = _SUFFIX.get(workload.kind)
    if not workload.api_version.startswith("apps/") or suffix is None or len(workload.name) > _NAME_MAX:
        return None
    return Coverage(_query(workload.namespace, suffix, endpoint), ((LABEL, workload.name),))


@lru_cache
def _query(namespace: str, suffix: str, endpoint: str) -> Query:
    """One for all workloads of a kind in a namespace, not only by its text."""
    up = f'up{{namespace="{namespace}", pod=~".+{suffix}"}} == 1'
    named = f'label_replace({up}, "{LABEL}", "$1", "pod", "(.+){suffix}")'
    return Query(f"count by ({LABEL}) (max by ({LABEL}, pod) ({named}))", endpoint)
