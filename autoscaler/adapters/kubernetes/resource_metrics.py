"""The port ResourceMetrics on a real Kubernetes: PodMetrics of ``metrics.k8s.io``, which metrics-server or another provider serves.

One list tells of all pods of a namespace, or of the cluster. Providers know no pages and no watch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from math import nan

import msgspec

from autoscaler.adapters.kubernetes.calls import NotFoundError
from autoscaler.adapters.kubernetes.client import BUDGET_S, Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.facts_wire import seconds
from autoscaler.core.usage import Sample
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError
from autoscaler.metrics import QUERY_SECONDS
from autoscaler.ports import Recorder

POD_METRICS = Resource("metrics.k8s.io/v1beta1", "PodMetrics", "pods")

ENDPOINT = "metrics.k8s.io"
"""What the service's own metrics call it."""

_SCALES = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    **{f"{prefix}i": 1024.0**power for power, prefix in enumerate("KMGTPE", start=1)},
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class _Usage(msgspec.Struct, gc=False):
    cpu: str = ""
    memory: str = ""


class _Container(msgspec.Struct, gc=False):
    name: str
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Metadata(msgspec.Struct, gc=False):
    name: str
    namespace: str = ""


class _PodMetrics(msgspec.Struct, gc=False):
    metadata: _Metadata
    timestamp: str | None = None
    window: str = ""
    containers: list[_Container] | None = None


class _List(msgspec.Struct, gc=False):
    items: list[_PodMetrics] | None = None


class KubernetesResourceMetrics:
    """PodMetrics of all namespaces, or of the given ones (a Role in each then is enough)."""

    def __init__(self, client: Client, recorder: Recorder, namespaces: Sequence[str] | None = None) -> None:
        self._client, self._recorder = client, recorder
        self.cluster_wide = namespaces is None

    async def usage(self, namespace: str, budget_s: float) -> Mapping[tuple[str, str], Sample]:
        """The newest sample of each pod of a namespace ("" is all), by namespace and name."""
        clock = asyncio.get_running_loop().time
        began_s, outcome = clock(), ""
        try:
            samples = await pod_samples(self._client, namespace, budget_s)
            outcome = "ok"
        except AutoscalerError as error:
            outcome = _outcome(error)
            raise
        finally:
            if outcome:  # else nobody waits any more
                self._recorder.observe(QUERY_SECONDS, ENDPOINT, outcome, value=clock() - began_s)
        return samples


async def pod_samples(client: Client, namespace: str, budget_s: float = BUDGET_S) -> dict[tuple[str, str], Sample]:
    """Ask for them. Raises PermanentError also where the cluster has no such API."""
    try:
        answer = await client.get(POD_METRICS.call("list", namespace), _List, budget_s=budget_s)
    except NotFoundError as error:
        raise PermanentError(f"{error}; this cluster does not serve metrics.k8s.io: is metrics-server installed?") from error
    return {(each.metadata.namespace, each.metadata.name): _sample(each) for each in answer.items or ()}


def _outcome(error: AutoscalerError) -> str:
    if isinstance(error.__cause__, TimeoutError):
        return "timeout"
    return "wrong_answer" if isinstance(error, AnswerError) else "refused" if isinstance(error, PermanentError) else "unavailable"


def _sample(told: _PodMetrics) -> Sample:
    containers = {each.name: (quantity(each.usage.cpu), quantity(each.usage.memory)) for each in told.containers or ()}
    return Sample(seconds(told.timestamp), duration(told.window), containers)


def quantity(text: str) -> float:
    """A quantity as these servers write it; NaN where there is none, or nonsense. There are two for each container and tick.

    Example:
        >>> [quantity(text) for text in ("250m", "1234567n", "64Mi", "2", "1e3", "", "much")]
        [0.25, 0.001234567, 67108864.0, 2.0, 1000.0, nan, nan]
    """
    unit = text[-2:] if text.endswith("i") else text[-1:]
    scale = _SCALES.get(unit)
    try:
        return float(text) if scale is None else float(text[: -len(unit)]) * scale
    except ValueError:
        return nan


def duration(text: str) -> float:
    """A duration as Go writes it; NaN where there is none, or nonsense.

    Example:
        >>> [duration(text) for text in ("30s", "1m0.5s", "15.012s", "", "soon")]
        [30.0, 60.5, 15.012, nan, nan]
    """
    plain = text[:-1]
    if text.endswith("s") and plain.replace(".", "", 1).isdecimal():  # nearly all are, and no two alike
        return float(plain)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return nan
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
