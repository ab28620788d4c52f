"""Runs one task: the same function in this process, in others, and on a dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autoscaler.core.behavior import NO_BEHAVIOR, Behavior
from autoscaler.core.plant import Plant
from autoscaler.core.policy import Policy
from autoscaler.core.spec import Objective, PolicyChoice, Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import Floats, Workload
from autoscaler.registry import find
from autoscaler.simulation.bound import Bound, bound_of
from autoscaler.simulation.comparison import Ground, busiest, row
from autoscaler.simulation.load import Disturbance, Trace, cut, disturbed, drawn, rates, read_csv, scaled
from autoscaler.simulation.peers import USUAL, Setting, hpa, tuned
from autoscaler.simulation.run import RISK, Case, run
from autoscaler.simulation.score import Score, column
from autoscaler.simulation.sweep import swept
from autoscaler.simulation.world import Measure, Setup
from benchmarks.matrix import DAY_S, Task, Variant
from benchmarks.peers.knative import Knative
from benchmarks.peers.reactive import Reactive
from benchmarks.shapes import SHAPES, shape

TRACES = Path(__file__).parent / "traces"
RISKS = (0.0005, 0.001, 0.005, 0.01, 0.02)
SHARES = (0.5, 0.7, 0.8)
UTILISATIONS = (0.5, 0.6, 0.8, 0.9)

_WARM_LONG_S, _WARM_SHORT_S, _LONG_S = 2 * DAY_S, 4 * 3600.0, 4 * DAY_S
_BEFORE_DAY_S = 3 * DAY_S
_SHOWN = 720
_REPLICAS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Competitor:
    """A policy and, in words, how it is set; ``default``: whether that is how it comes."""

    name: str
    setting: str
    spec: WorkloadSpec
    default: bool = True


def execute(task: Task) -> list[dict[str, Any]]:
    """The rows of a task: one for each competitor and variant."""
    groups = {"policies": _policies, "duel": _duel, "hpa": _hindsight, "knative": _knative, "objective": _objectives, "day": _day}
    return groups[task.group](task)


def ground_of(task: Task, variant: Variant, window_s: float = 60.0) -> Ground:
    """The load and the plants of one variant."""
    scene = task.scene
    plant = Plant(startup_s=variant.startup_s, model=_model(scene.model))
    trace = shape(scene.trace) if scene.trace in SHAPES else read_csv(TRACES / f"{scene.trace}.csv")
    span_s = min(task.span_s, DAY_S) if scene.cold else task.span_s
    if span_s < trace.span_s:
        trace = cut(trace, 0.0, span_s)
    return _prepared(task, variant, plant, trace, window_s)


def _prepared(task: Task, variant: Variant, plant: Plant, trace: Trace, window_s: float) -> Ground:
    scene, step_s = task.scene, plant.step_s
    rate = rates(scaled(trace, plant, variant.fleet)[0], step_s, hold=scene.hold)
    warm_s = 0.0 if scene.cold else (_WARM_LONG_S if trace.span_s >= _LONG_S else min(_WARM_SHORT_S, trace.span_s / 4 // step_s * step_s))
    setup = Setup(plant, Measure(scene.signal), window_s, flags=scene.flags)
    noise = disturbed(Disturbance(variant.noise), rate.size, step_s, variant.seed) if variant.noise else None
    return Ground(scene.trace, rate, drawn(rate, step_s, variant.seed), setup, warm_s, RISK, variant.seed, factor=noise)


def _model(name: str) -> Any:  # noqa: ANN401 - an enum by its value
    from autoscaler.core.plant import Model

    return Model(name)


def spec_of(name: str, target: float, policy: Policy, behavior: Behavior, **params: Any) -> WorkloadSpec:  # noqa: ANN401 - its parameters
    """A workload that a policy scales without bounds that matter."""
    series = SeriesSpec("load", Query("load"), target)
    choice = PolicyChoice(name, policy, policy.Params(**params))
    return WorkloadSpec(Workload("bench", "web"), (series,), choice, behavior, 1, _REPLICAS_MAX)


def _registered(name: str, target: float, **params: Any) -> WorkloadSpec:  # noqa: ANN401 - its parameters
    found = find(name)
    return spec_of(name, target, found.policy, found.traits.behavior.absent, **params)


def competitors(ground: Ground, *, curves: bool) -> list[Competitor]:
    """Everybody but the tuned HPA and Knative, for one ground: ours and the usual HPA first."""
    plant = ground.setup.plant
    capacity, limit = float(plant.capacity), plant.knee * float(plant.capacity)
    forecast = _registered("forecast", limit)
    found = [
        Competitor("forecast", "default (risk 0.2 %)", forecast),
        Competitor("hpa", str(USUAL), hpa(forecast, capacity)),
        *(Competitor(name, "60 % of capacity", _registered(name, 0.6 * capacity)) for name in ("movingAverage", "threshold")),
        Competitor("reactive", "two spare", spec_of("reactive", limit, Reactive(), NO_BEHAVIOR.absent)),
    ]
    level = ground.rate[ground.warm :] / limit
    for words, count in (("peak", float(level.max())), ("99th percentile", float(np.quantile(level, 0.99)))):
        pods = max(1, int(np.ceil(count)))
        spec = spec_of("static", limit, Reactive(), NO_BEHAVIOR.absent)
        found.append(Competitor("static", f"{words} of the load", replace(spec, min_replicas=pods, max_replicas=pods), words == "peak"))
    if curves:
        found += [Competitor("forecast", f"risk {risk:.2%}", _registered("forecast", limit, risk=risk), default=False) for risk in RISKS]
        found += [
            Competitor(name, f"{share:.0%} of capacity", _registered(name, share * capacity), default=False)
            for name in ("movingAverage", "threshold")
            for share in SHARES
        ]
    return found


def _together(task: Task, grounds: Sequence[Ground], sides: Sequence[Sequence[Competitor]]) -> list[dict[str, Any]]:
    """Run the competitors of all variants as columns of one run."""
    first = grounds[0]
    owner = np.repeat(np.arange(len(grounds)), [len(side) for side in sides])
    startup = np.array([float(ground.setup.plant.startup_s) for ground in grounds])[owner]
    factor: Floats | None = None
    if any(ground.factor is not None for ground in grounds):
        calm = np.ones(first.rate.size)
        factor = np.stack([calm if ground.factor is None else ground.factor for ground in grounds], axis=1)
    case = Case(
        specs=[each.spec for side in sides for each in side],
        rate=np.stack([ground.rate for ground in grounds], axis=1),
        arrivals=np.stack([ground.arrivals for ground in grounds], axis=1),
        load_of=owner,
        setup=replace(first.setup, plant=replace(first.setup.plant, startup_s=startup)),
        factor=factor,
    )
    score = run(case, warm_s=first.warm_s).score
    flat = [each for side in sides for each in side]
    bounds = [_bound(ground) for ground in grounds]
    return [_row(task, task.variants[owner[p]], grounds[owner[p]], bounds[owner[p]], each, column(score, p)) for p, each in enumerate(flat)]


def _bound(ground: Ground) -> Bound:
    return bound_of(ground.arrivals[ground.warm :], ground.setup.plant, ground.risk, 1)


def _row(task: Task, variant: Variant, ground: Ground, bound: Bound, each: Competitor, figures: dict[str, float]) -> dict[str, Any]:
    about = {**asdict(task.scene), **asdict(variant), "group": task.group}
    return {**about, **row(ground, bound, each.name, figures), "setting": each.setting, "default": each.default}


def _policies(task: Task) -> list[dict[str, Any]]:
    grounds = [ground_of(task, variant) for variant in task.variants]
    return _together(task, grounds, [competitors(ground, curves=task.curves) for ground in grounds])


def _duel(task: Task) -> list[dict[str, Any]]:
    grounds = [ground_of(task, variant) for variant in task.variants]
    return _together(task, grounds, [competitors(ground, curves=False)[:2] for ground in grounds])


def _objectives(task: Task) -> list[dict[str, Any]]:
    grounds = [ground_of(task, variant) for variant in task.variants]
    told = Objective(Query("late"), Query("total"))

    def side(ground: Ground) -> list[Competitor]:
        limit = ground.setup.plant.knee * float(ground.setup.plant.capacity)
        return [
            Competitor("objective", f"{words}{with_it}", replace(_registered("forecast", high * limit), objective=objective), default=False)
            for words, high in (("right target", 1.0), ("target 30 % too high", 1.3))
            for with_it, objective in (("", None), (" + objective", told))
        ]

    return _together(task, grounds, [side(ground) for ground in grounds])


def _knative(task: Task) -> list[dict[str, Any]]:
    grounds = [ground_of(task, variant, window_s=15.0) for variant in task.variants]

    def kpa(ground: Ground, share: float, *, default: bool) -> Competitor:
        capacity = float(ground.setup.plant.capacity)
        spec = spec_of("knative", capacity, Knative(), NO_BEHAVIOR.absent, utilisation=share)
        return Competitor("knative", f"utilisation {share:.0%}", spec, default)

    others = UTILISATIONS if task.curves else ()
    sides = [[kpa(ground, 0.7, default=True), *(kpa(ground, share, default=False) for share in others)] for ground in grounds]
    return _together(task, grounds, sides)


def _hindsight(task: Task) -> list[dict[str, Any]]:
    rows = []
    for variant in task.variants:
        ground = ground_of(task, variant)
        capacity = float(ground.setup.plant.capacity)
        like = _registered("forecast", capacity)
        scores: dict[Setting, dict[str, float]] = {}
        found = tuned(_trial(ground, like, capacity, scores), ground.risk)
        bound = _bound(ground)
        for setting, figures in sorted(scores.items()):
            best = setting == found.setting
            if best or task.curves:
                each = Competitor("hpa-tuned" if best else "hpa-other", str(setting), hpa(like, capacity, setting), best)
                rows.append({**_row(task, variant, ground, bound, each, figures), "reached": found.reached})
    return rows


def _trial(
    ground: Ground, like: WorkloadSpec, capacity: float, scores: dict[Setting, dict[str, float]]
) -> Callable[[Sequence[Setting]], Score]:
    def trial(settings: Sequence[Setting]) -> Score:
        specs = [hpa(like, capacity, setting) for setting in settings]
        score = swept(specs, ground.rate, ground.arrivals, ground.setup, factor=ground.factor, warm_s=ground.warm_s).score
        scores.update({setting: column(score, p) for p, setting in enumerate(settings)})
        return score

    return trial


def _day(task: Task) -> list[dict[str, Any]]:
    """The busiest day, after three days in which the policies learn: curves instead of figures."""
    variant = task.variants[0]
    ground = ground_of(task, variant)
    step_s = ground.setup.plant.step_s
    begin, end = (ground.warm + edge for edge in busiest(ground))
    first = max(0, begin - round(_BEFORE_DAY_S / step_s))
    names = ("forecast", "hpa")
    sides = [each for each in competitors(ground, curves=False) if each.name in names]
    part = slice(first, end)
    case = Case(
        [each.spec for each in sides],
        ground.rate[part, None],
        ground.arrivals[part, None],
        np.zeros(len(sides), np.int64),
        ground.setup,
    )
    found = run(case, warm_s=(begin - first) * step_s, keep=True).trajectory
    if found is None:
        raise RuntimeError("a run that was asked to keep its steps has none")
    every = max(1, found.ready.shape[0] // _SHOWN)
    limit = ground.setup.plant.knee * float(ground.setup.plant.capacity)
    shown = {
        "hours": (np.arange(begin, end)[::every] * step_s / 3600).round(3).tolist(),
        "needed": (ground.rate[begin:end:every] / limit).round(2).tolist(),
        "ready": {each.name: found.ready[::every, p].tolist() for p, each in enumerate(sides)},
    }
    return [{**asdict(task.scene), **asdict(variant), "group": task.group, "policy": "day", "day": shown}]
