"""The model of one workload: asked pods -> ready pods -> backlog and lateness. One step at a time, in columns.

Two halves, each a pure function of a frozen state. :func:`supply` says how many pods are ready and billed when so many are asked for;
:func:`serve` says what becomes of the arrivals. Every array may have any shape, as long as all agree: ``[p]`` for plants, ``[k, n]``
for candidates by series. State arrays have one more axis, in front.

With ``work = arrivals + backlog`` and ``limit = ready x capacity x step``:

=========  =====================================================================================================
served     min(work, limit), oldest first
dropped    what has waited ``patience_s`` after its own step
late       knee: min(arrivals, max(0, work - knee x limit));
           slots: arrivals x P(response > objective) of an M/M/slots queue at load work / limit, all from load 1 on
=========  =====================================================================================================

Lateness is judged when a request arrives, so none is late twice; whatever waits past its step, or is dropped later, was late.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.columns import frozen, full
from autoscaler.core.types import Bools, Floats

_EPSILON = 1e-9


class Model(StrEnum):
    """How lateness follows from load; results that hold under one model only are no results."""

    KNEE = "knee"
    SLOTS = "slots"


@dataclass(frozen=True, slots=True)
class Plant:
    """What pods can do. ``capacity`` in requests/s a pod, ``startup_s`` from asking to serving: numbers, or one per plant.

    Durations are rounded up to steps. ``drain_s``: how long a removed pod is billed on. ``slots``, ``service_s`` and ``objective_s``
    shape the lateness of :attr:`Model.SLOTS` alone: a pod's capacity stays ``capacity``.
    """

    step_s: float = 15.0
    capacity: Floats | float = 100.0
    startup_s: Floats | float = 45.0
    drain_s: float = 30.0
    patience_s: float = 60.0
    model: Model = Model.KNEE
    knee: float = 0.85
    slots: int = 5
    service_s: float = 0.05
    objective_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Fleet:
    """The pods. ``soon[k]``: those that serve ``k`` steps from now, none being asked for or removed; row 0 is ready, the last row all.

    ``leaving[k]``: pods that were removed and are billed for ``k`` more steps.
    """

    soon: Floats
    leaving: Floats

    @property
    def ready(self) -> Floats:
        """Pods that serve now."""
        return np.asarray(self.soon[0])

    @property
    def existing(self) -> Floats:
        """Ready and starting pods."""
        return np.asarray(self.soon[-1])


@dataclass(frozen=True, slots=True)
class Supply:
    """What the pods amount to in one step: ``ready`` serve, ``billed`` are paid for."""

    ready: Floats
    billed: Floats


@dataclass(frozen=True, slots=True)
class Backlog:
    """Requests that wait, in cohorts of a step: ``upto[k]`` = those of the oldest cohort up to cohort ``k`` together."""

    upto: Floats

    @property
    def requests(self) -> Floats:
        """All that wait."""
        return np.asarray(self.upto[-1])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of requests in one step; ``late`` are some of this step's arrivals, served and dropped may be older."""

    served: Floats
    late: Floats
    dropped: Floats


def steps_in(plant: Plant, seconds: Floats | float) -> NDArray[np.int64]:
    """A duration in steps, rounded up."""
    return np.ceil(np.asarray(seconds) / plant.step_s - _EPSILON).astype(np.int64)


def fleet_of(plant: Plant, ready: Floats) -> Fleet:
    """A fleet of ``ready`` pods, none starting, none leaving."""
    startup, drain = int(steps_in(plant, plant.startup_s).max()), int(steps_in(plant, plant.drain_s))
    count = np.asarray(ready, dtype=np.float64)
    soon = np.repeat(count[None], startup + 1, axis=0)
    return Fleet(frozen(soon), frozen(full((drain, *count.shape), 0.0)))


def supply(plant: Plant, fleet: Fleet, asked: Floats, ordered: Bools | None = None) -> tuple[Fleet, Supply]:
    """Let one step pass for which ``asked`` pods are wanted; the fleet returned is that of the next step.

    New pods serve ``startup_s`` after they are asked for and are billed from then on; removed ones stop serving at once, the youngest
    first, so those that still start go before any that serves. Where ``ordered``, a pod is made (and billed) only once all before it
    are ready.
    """
    made = asked if ordered is None else np.where(ordered, np.minimum(asked, fleet.soon[0] + 1.0), asked)
    now = np.minimum(fleet.soon, made)
    startup = steps_in(plant, plant.startup_s)
    if startup.ndim:
        rows = np.arange(now.shape[0]).reshape(-1, *(1 for _ in now.shape[1:]))
        now = np.where(rows >= startup, made, now)
    else:
        now[-1] = made
    billed = made
    leaving = fleet.leaving
    if leaving.shape[0]:
        gone = np.maximum(fleet.soon[-1] - made, 0.0)
        leaving = frozen(np.concatenate([leaving[1:], gone[None]]))
        billed = made + leaving.sum(axis=0)
    after = np.concatenate([now[1:], now[-1:]])
    return Fleet(frozen(after), leaving), Supply(frozen(now[0]), frozen(billed))


def no_backlog(plant: Plant, shape: int | tuple[int, ...]) -> Backlog:
    """Nobody waits, in plants of that shape."""
    cohorts = max(1, int(steps_in(plant, plant.patience_s)))
    return Backlog(frozen(full((cohorts, *((shape,) if isinstance(shape, int) else shape)), 0.0)))


def serve(plant: Plant, backlog: Backlog, arrivals: Floats, ready: Floats) -> tuple[Backlog, Outcome]:
    """Let one step pass in which ``arrivals`` requests meet ``ready`` pods."""
    limit = ready * (plant.capacity * plant.step_s)
    work = backlog.upto[-1] + arrivals
    served = np.minimum(work, limit)
    left = np.concatenate([backlog.upto, work[None]])
    left -= served
    np.maximum(left, 0.0, out=left)
    dropped = left[0]
    return Backlog(frozen(left[1:] - dropped)), Outcome(frozen(served), frozen(_late(plant, arrivals, work, limit)), frozen(dropped))


def _late(plant: Plant, arrivals: Floats, work: Floats, limit: Floats) -> Floats:
    if plant.model is Model.KNEE:
        return np.minimum(arrivals, np.maximum(work - plant.knee * limit, 0.0))
    load = np.divide(work, limit, out=full(work.shape, np.inf), where=limit > 0)
    return np.asarray(arrivals * late_share(plant, load), dtype=np.float64)


def late_share(plant: Plant, load: Floats) -> Floats:
    """The share of requests that are late at ``load`` = work / (ready x capacity x step), without a backlog.

    Slots: the response tail of M/M/c, c = slots, mu = 1 / service_s, t = objective_s, a = c x load, x = c - 1 - a:
    ``P(T > t) = exp(-mu t) (1 + C (1 - exp(-mu t x)) / x)``, C the Erlang C probability of waiting (Gross et al., Fundamentals of
    Queueing Theory, "the M/M/c queue").

    Example:
        >>> late_share(Plant(), np.array([0.85, 1.0, 1.7])).round(3).tolist()
        [0.0, 0.15, 0.5]
        >>> late_share(Plant(model=Model.SLOTS), np.array([0.5, 0.86, 1.0])).round(4).tolist()
        [0.0, 0.002, 1.0]
    """
    if plant.model is Model.KNEE:
        return np.maximum(1.0 - plant.knee / np.maximum(load, plant.knee), 0.0)
    stable = np.minimum(load, 1.0)
    offered = plant.slots * stable
    blocked = np.ones_like(offered)
    for slot in range(1, plant.slots + 1):
        blocked = offered * blocked / (slot + offered * blocked)
    waits = blocked / (1.0 - stable * (1.0 - blocked))
    services = plant.objective_s / plant.service_s
    spare = plant.slots - 1.0 - offered
    # (1 - exp(-t x)) / x tends to t as x goes to 0.
    near = np.abs(spare) < _EPSILON
    stretch = np.where(near, services, -np.expm1(-services * spare) / np.where(near, 1.0, spare))
    return np.where(load < 1.0, np.minimum(np.exp(-services) * (1.0 + waits * stretch), 1.0), 1.0)


def load_within(plant: Plant, risk: float) -> float:
    """The highest load (work / capacity) at which no more than the share ``risk`` of requests is late.

    Raises ValueError where not even an idle pod keeps it (slots: a service takes longer than ``objective_s`` now and then).

    Example:
        >>> load_within(Plant(), 0.0), round(load_within(Plant(model=Model.SLOTS), 0.002), 2)
        (0.85, 0.86)
    """
    if plant.model is Model.KNEE:
        return plant.knee / (1.0 - risk)
    idle = float(late_share(plant, np.zeros(1))[0])
    if idle > risk:
        raise ValueError(f"risk: at least {idle:.2g} of the requests are late even on idle pods, so {risk:g} cannot be kept")
    low, high = 0.0, 1.0
    while high - low > _EPSILON:
        middle = (low + high) / 2
        within = float(late_share(plant, np.array([middle]))[0]) <= risk
        low, high = (middle, high) if within else (low, middle)
    return low


def needed(plant: Plant, rate: Floats, risk: float) -> Floats:
    """The fewest ready pods that keep the share ``risk`` at a steady ``rate`` in requests/s; at least one."""
    return np.maximum(np.ceil(rate / (load_within(plant, risk) * np.asarray(plant.capacity)) - _EPSILON), 1.0)
