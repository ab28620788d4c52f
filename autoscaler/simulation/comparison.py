"""One policy on one load beside its peers and the bound: what ``backtest`` shows.

The HPAs, which forget soon, go through the load in parts (:mod:`autoscaler.simulation.sweep`), and so does a policy that says how far it
looks back (:mod:`autoscaler.simulation.pieces`). All see the same arrivals and the same metric, start with the same pods, and keep the
same bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.spec import WorkloadSpec
from autoscaler.core.types import Floats
from autoscaler.simulation.bound import Bound, bound_of
from autoscaler.simulation.peers import USUAL, Setting, Tuned, hpa, late_at, tuned
from autoscaler.simulation.pieces import in_pieces
from autoscaler.simulation.run import RISK, START_S, Case
from autoscaler.simulation.score import Score, Trajectory, column
from autoscaler.simulation.sweep import Swept, swept
from autoscaler.simulation.world import Setup

Peer: TypeAlias = Literal["hpa", "hpa-tuned"]

Progress: TypeAlias = Callable[[str, float], None]
"""Is told what is going on and the share of it that is done."""

DAY_S = 86400.0

POLICY_STAGE, HPA_STAGE, TUNING_STAGE = "the policy", "the HPA", "the HPA tuned in hindsight"


@dataclass(frozen=True, slots=True)
class Ground:
    """A load ``rate[step], arrivals[step]`` from ``start_s`` on (a multiple of every interval), and the plants that are to carry it.

    The first ``warm_s`` seconds are not scored. ``factor[step]`` disturbs the metric.
    """

    trace: str
    rate: Floats
    arrivals: Floats
    setup: Setup = field(default_factory=Setup)
    warm_s: float = 0.0
    risk: float = RISK
    seed: int = 0
    start_s: float = START_S
    factor: Floats | None = None

    @property
    def warm(self) -> int:
        """Steps that are not scored."""
        return round(self.warm_s / self.setup.plant.step_s)


@dataclass(frozen=True, slots=True)
class Entry:
    """One competitor: in words how it is set, its figures by name, and its steps after the warm-up ``[step, 1]``."""

    name: str
    setting: str
    figures: dict[str, Any]
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everybody on one ground. ``tuning`` is what hindsight tried; ``equal_cost_late`` the late share of an HPA as cheap as the policy.

    (NaN: no setting costs as much, or nobody tried.)
    """

    ground: Ground
    bound: Bound
    entries: tuple[Entry, ...]
    tuning: Tuned | None
    equal_cost_late: float


def compare(ground: Ground, spec: WorkloadSpec, against: Sequence[Peer], progress: Progress = lambda _stage, _share: None) -> Comparison:
    """Run ``spec`` and the peers named in ``against``. Raises ConfigError for what cannot be run."""
    capacity = float(ground.setup.plant.capacity)
    bound = bound_of(ground.arrivals[ground.warm :], ground.setup.plant, ground.risk, spec.min_replicas)
    own = _own(ground, bound, spec, lambda share: progress(POLICY_STAGE, share))
    found, equal = None, float("nan")
    settings = {"hpa": USUAL} if "hpa" in against else {}
    if "hpa-tuned" in against:
        found = _hindsight(ground, spec, capacity, lambda share: progress(TUNING_STAGE, share))
        settings["hpa-tuned"] = found.setting
        equal = late_at([(cost, late) for _, late, cost in found.tried], float(own.figures["pod_seconds"]))
    peers: list[Entry] = []
    if settings:
        specs = [hpa(spec, capacity, setting) for setting in settings.values()]
        swept_ = _swept(ground, specs, lambda share: progress(HPA_STAGE, share), keep=True)
        for p, (name, setting) in enumerate(settings.items()):
            missed = name == "hpa-tuned" and found is not None and not found.reached
            words = f"{setting} (no setting reaches {ground.risk:.2%} late)" if missed else str(setting)
            steps = _only(swept_.trajectory, p)
            peers.append(Entry(name, words, row(ground, bound, name, column(swept_.score, p)), steps))
    return Comparison(ground, bound, (own, *peers), found, equal)


def _own(ground: Ground, bound: Bound, spec: WorkloadSpec, told: Callable[[float], None]) -> Entry:
    """The policy."""
    case = Case(
        specs=[spec],
        rate=ground.rate[:, None],
        arrivals=ground.arrivals[:, None],
        load_of=np.zeros(1, np.int64),
        setup=ground.setup,
        factor=None if ground.factor is None else ground.factor[:, None],
        start_s=ground.start_s,
    )
    result = in_pieces(case, warm_s=ground.warm_s, risk=ground.risk, progress=told)
    told(1.0)
    name = spec.policy.name
    return Entry(name, "as in the file", row(ground, bound, name, column(result.score, 0)), _only(result.trajectory, 0))


def _only(trajectory: Trajectory | None, p: int) -> Trajectory:
    if trajectory is None:
        raise RuntimeError("a run that was asked to keep its steps has none")
    return Trajectory(**{name: frozen(getattr(trajectory, name)[:, p : p + 1].copy()) for name in Trajectory.__dataclass_fields__})


def _swept(ground: Ground, specs: Sequence[WorkloadSpec], told: Callable[[float], None], *, keep: bool = False) -> Swept:
    found = swept(
        specs,
        ground.rate,
        ground.arrivals,
        ground.setup,
        factor=ground.factor,
        warm_s=ground.warm_s,
        risk=ground.risk,
        start_s=ground.start_s,
        keep=keep,
        progress=told,
    )
    told(1.0)
    return found


def _hindsight(ground: Ground, like: WorkloadSpec, capacity: float, told: Callable[[float], None]) -> Tuned:
    """The HPA tuned in hindsight."""
    rounds = 0

    def trial(settings: Sequence[Setting]) -> Score:
        nonlocal rounds
        rounds += 1
        begin, length = (0.0, 0.8) if rounds == 1 else (0.8, 0.2)
        return _swept(ground, [hpa(like, capacity, setting) for setting in settings], lambda share: told(begin + length * share)).score

    found = tuned(trial, ground.risk)
    told(1.0)
    return found


def row(ground: Ground, bound: Bound, name: str, figures: dict[str, float]) -> dict[str, Any]:
    """One line of a result: the figures with what they belong to. ``cost_ratio`` = pod-seconds / the bound's."""
    return {
        "trace": ground.trace,
        "policy": name,
        **figures,
        "bound_pod_seconds": bound.pod_seconds,
        "cost_ratio": figures["pod_seconds"] / bound.pod_seconds if bound.pod_seconds else float("nan"),
        "seed": ground.seed,
    }


def busiest(ground: Ground) -> tuple[int, int]:
    """The scored day (or what there is) with the highest load, as steps from the start of the score."""
    steps = ground.rate.size - ground.warm
    day = min(steps, round(DAY_S / ground.setup.plant.step_s))
    peak = int(np.argmax(ground.rate[ground.warm :]))
    begin = min(max(0, peak - day // 2), steps - day)
    return begin, begin + day
