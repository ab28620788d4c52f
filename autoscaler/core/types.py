"""The values that flow through the core: names, reasons, arrays.

Shapes: ``w`` is a workload slot of a group, ``n`` a series slot of a policy call, ``k`` anything else. Unless a name says
otherwise, counts are replicas as floats and NaN means "not known". Times end in ``_s``: seconds, absolute ones since the epoch.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Singles: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.int8]
Bools: TypeAlias = NDArray[np.bool_]

FREE = -1
"""The owner of a series slot that nobody uses."""


class Workload(NamedTuple):
    """What is scaled, by name: ``apps/v1 Deployment shop/web``."""

    namespace: str
    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class TargetKind(IntEnum):
    """How a metric's target is meant; the names are HPA v2's."""

    AVERAGE_VALUE = 0
    VALUE = 1
    UTILIZATION = 2


class MetricType(IntEnum):
    """What a metric is measured on; HPA v2's types, as far as they differ in what they need to know.

    ``EXTERNAL``: one value for the whole workload (HPA: External and Object). ``PODS``, ``RESOURCE`` and ``CPU``: one for each pod; a
    resource of one container counts as the resource.
    """

    EXTERNAL = 0
    PODS = 1
    RESOURCE = 2
    CPU = 3


class PodPhase(IntEnum):
    """What became of a pod. ``DELETED``: it is being deleted, whatever its phase. ``GONE``: it is sampled, but no longer listed."""

    PENDING = 0
    RUNNING = 1
    FAILED = 2
    DELETED = 3
    OTHER = 4
    GONE = 5


class PodReady(IntEnum):
    """A pod's Ready condition."""

    NONE = -1
    FALSE = 0
    TRUE = 1
    UNKNOWN = 2


class Mode(IntEnum):
    """What may be done with a decision, from the freest to the strictest."""

    ACTIVE = 0
    DRY_RUN = 1
    PAUSED = 2


class Signal(IntEnum):
    """What became of one series' question at a tick. All but ``OK`` mean "no data", each for its own reason."""

    OK = 0
    NOT_ASKED = 1
    EMPTY = 2
    NAN = 3
    INFINITE = 4
    STALE = 5
    WRONG_TYPE = 6
    MANY_SERIES = 7
    TIMEOUT = 8
    REFUSED = 9
    UNREACHABLE = 10
    NEGATIVE = 11
    NOT_READY_YET = 12
    CLOCK = 13
    SUDDEN_ZERO = 14


SIGNAL_TEXT: dict[Signal, str] = {
    Signal.OK: "answered",
    Signal.NOT_ASKED: "not asked yet",
    Signal.EMPTY: "the query returned no series",
    Signal.NAN: "the value is NaN",
    Signal.INFINITE: "the value is infinite, or beyond any number of replicas",
    Signal.STALE: "the newest answer is too old",
    Signal.WRONG_TYPE: "the answer is not an instant vector",
    Signal.MANY_SERIES: "the query returned several series where one is needed",
    Signal.TIMEOUT: "no answer before the observation closed",
    Signal.REFUSED: "the source refused the query",
    Signal.UNREACHABLE: "the source cannot be reached",
    Signal.NEGATIVE: "the value is negative",
    Signal.NOT_READY_YET: "no ready replica to relate the value to",
    Signal.CLOCK: "the source's clock and ours differ",
    Signal.SUDDEN_ZERO: "fell to exactly zero from above two replicas: believed at the third tick",
}


class Target(IntEnum):
    """What is known of a workload's scale at a tick. All but ``OK`` hold."""

    OK = 0
    UNKNOWN = 1
    NOT_FOUND = 2
    FORBIDDEN = 3
    STALE = 4
    CONFLICT = 5
    CLOCK_STEP = 6


class Reason(IntEnum):
    """Why a stage of a decision changed or held a count. ``NONE``: the stage left it alone."""

    NONE = 0
    NO_DATA = 1
    PARTIAL_DATA = 2
    FALLBACK = 3
    TARGET_UNKNOWN = 4
    TARGET_NOT_FOUND = 5
    TARGET_FORBIDDEN = 6
    TARGET_STALE = 7
    CONFLICT = 8
    CLOCK_STEP = 9
    PAUSED_AT_ZERO = 10
    WITHIN_TOLERANCE = 11
    STABILISED_UP = 12
    STABILISED_DOWN = 13
    RATE_LIMITED_UP = 14
    RATE_LIMITED_DOWN = 15
    DIRECTION_DISABLED = 16
    HEALTH_HOLD = 17
    SCHEDULE_MIN = 18
    SCHEDULE_MAX = 19
    BELOW_MIN = 20
    ABOVE_MAX = 21
    DRY_RUN = 22
    PAUSED = 23
    POLICY_FAULT = 24
    ACTIVATED = 25
    NOT_ACTIVE = 26
    ABSTAINED = 27
    SUDDEN_ZERO = 28
    SATURATED = 29


REASON_TEXT: dict[Reason, str] = {
    Reason.NONE: "as proposed",
    Reason.NO_DATA: "no data: hold",
    Reason.PARTIAL_DATA: "part of the data is missing: no scale-down",
    Reason.FALLBACK: "no data for too long: fallback count",
    Reason.TARGET_UNKNOWN: "the target has not been seen yet: hold",
    Reason.TARGET_NOT_FOUND: "the target does not exist",
    Reason.TARGET_FORBIDDEN: "the target may not be read",
    Reason.TARGET_STALE: "the view of the target is stale: hold",
    Reason.CONFLICT: "somebody else scales this target: no writes",
    Reason.CLOCK_STEP: "clocks disagree: hold",
    Reason.PAUSED_AT_ZERO: "somebody set zero replicas: paused until somebody sets more",
    Reason.WITHIN_TOLERANCE: "within tolerance of the current count",
    Reason.STABILISED_UP: "a lower recommendation within the scale-up window",
    Reason.STABILISED_DOWN: "a higher recommendation within the scale-down window",
    Reason.RATE_LIMITED_UP: "scale-up rate limit",
    Reason.RATE_LIMITED_DOWN: "scale-down rate limit",
    Reason.DIRECTION_DISABLED: "this direction is disabled (selectPolicy: Disabled)",
    Reason.HEALTH_HOLD: "the newest revision is crashing: no scale-up",
    Reason.SCHEDULE_MIN: "raised to the schedule's minimum",
    Reason.SCHEDULE_MAX: "lowered to the schedule's maximum",
    Reason.BELOW_MIN: "raised to minReplicas",
    Reason.ABOVE_MAX: "lowered to maxReplicas",
    Reason.DRY_RUN: "dry run: not applied",
    Reason.PAUSED: "paused",
    Reason.POLICY_FAULT: "the policy failed: hold",
    Reason.ACTIVATED: "above the activation threshold: at least one replica",
    Reason.NOT_ACTIVE: "not above the activation threshold: zero replicas",
    Reason.ABSTAINED: "the policy proposes nothing: hold",
    Reason.SUDDEN_ZERO: "a fall to exactly zero, not believed yet: hold",
    Reason.SATURATED: "saturated, so the true load is not known: half as many again as were ready",
}

TARGET_REASON: dict[Target, Reason] = {
    Target.OK: Reason.NONE,
    Target.UNKNOWN: Reason.TARGET_UNKNOWN,
    Target.NOT_FOUND: Reason.TARGET_NOT_FOUND,
    Target.FORBIDDEN: Reason.TARGET_FORBIDDEN,
    Target.STALE: Reason.TARGET_STALE,
    Target.CONFLICT: Reason.CONFLICT,
    Target.CLOCK_STEP: Reason.CLOCK_STEP,
}
