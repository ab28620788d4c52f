"""What an HPA was told in one pass, and what it wrote: plain values, in the order in which it happened."""

from dataclasses import dataclass, field

from autoscaler.core.types import PodPhase, PodReady


@dataclass(frozen=True)
class PodSeen:
    """A pod as it was in the API server at a pass; quantities in thousandths, None: no request; times in seconds, None: not set."""

    phase: PodPhase
    ready: PodReady
    started_s: float | None
    ready_changed_s: float | None
    requests: dict[tuple[str, str], int | None]


@dataclass(frozen=True)
class Sample:
    """One pod's value of a metric, in thousandths, with the time and window of its sample."""

    value: int
    sampled_s: float | None = None
    window_s: float | None = None


@dataclass
class Pass:
    """One pass of the HPA: ``at_s`` is its last question, ``answers`` what each metric said (None: no data).

    A metric of the whole target answers with the values of its series, one of pods with samples by pod. ``wrote`` is the count of its
    PUT, which was answered at ``wrote_s``; None: it made none.
    """

    at_s: float
    current: int
    status: int
    pods: dict[str, PodSeen]
    answers: dict[int, list[int] | dict[str, Sample] | None] = field(default_factory=dict)
    wrote: int | None = None
    wrote_s: float = 0.0

    @property
    def result(self) -> int:
        """The count that the HPA left."""
        return self.current if self.wrote is None else self.wrote
