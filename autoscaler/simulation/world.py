"""Many plants side by side, one step at a time, and what a policy gets to see of each: late, averaged, and never more than that.

Step ``i`` lies between tick ``i`` and tick ``i + 1``. At a tick: look (:meth:`World.seen`), ask (:meth:`World.ask`), then let the
step pass (:meth:`World.advance`). There is no chance in here: arrivals are given, drawn or recorded.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.plant import Backlog, Fleet, Outcome, Plant, Supply, fleet_of, no_backlog, serve, steps_in, supply
from autoscaler.core.types import Bools, Floats

SATURATED_SHARE = 0.95


class Measure(StrEnum):
    """What the metric counts: requests that come in, requests that were completed, or how busy the ready pods are."""

    ARRIVALS = "arrivals"
    SERVED = "served"
    UTILISATION = "utilisation"


@dataclass(frozen=True, slots=True)
class Setup:
    """The plants, and what their metric shows: the mean over ``window_s`` that ended ``age_s`` before the tick.

    ``flags``: whether the metric comes with :attr:`Sample.saturated`.
    """

    plant: Plant = field(default_factory=Plant)
    measure: Measure = Measure.SERVED
    window_s: float = 60.0
    age_s: float = 15.0
    flags: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known at a tick ``[p]``; NaN before anything is.

    ``load`` in requests/s. Utilisation is that of the ready pods, times those ready at the sample: what the sum over the pods of
    each one's own mean shows. ``late`` and ``total`` are the objective's two rates. ``saturated``: the pods served 95 % of what they
    can, so the true load may be higher; arrivals are never saturated, since they are counted before the pods. ``ready``: pods at the
    end of the window.
    """

    load: Floats
    late: Floats
    total: Floats
    ready: Floats
    saturated: Bools


class Step(NamedTuple):
    """What one step came to ``[p]``: counts of requests, and of pods."""

    arrivals: Floats
    outcome: Outcome
    supply: Supply


class World:
    """Plants in columns ``[p]``; ``ready`` pods at the start, ``ordered`` where pods start one after the other."""

    def __init__(self, setup: Setup, ready: Floats, ordered: Bools | None = None) -> None:
        self.setup = setup
        self.asked: Floats = frozen(np.array(ready, dtype=np.float64))
        self._ordered = None if ordered is None or not ordered.any() else ordered
        self._fleet: Fleet = fleet_of(setup.plant, self.asked)
        self._backlog: Backlog = no_backlog(setup.plant, self.asked.size)
        self._age, self._window = int(steps_in(setup.plant, setup.age_s)), max(1, int(steps_in(setup.plant, setup.window_s)))
        # Running totals after each of the last steps: a window's sum is one subtraction.
        nothing = np.zeros((4, self.asked.size))
        self._totals: deque[Floats] = deque([nothing], maxlen=self._age + self._window + 1)
        self._ready: deque[Floats] = deque(maxlen=self._age + 1)

    @property
    def ready(self) -> Floats:
        """Pods that serve now."""
        return self._fleet.ready

    @property
    def existing(self) -> Floats:
        """Ready and starting pods now, before this tick's asking."""
        return self._fleet.existing

    @property
    def backlog(self) -> Floats:
        """Requests that wait now."""
        return self._backlog.requests

    def ask(self, replicas: Floats) -> None:
        """Want so many pods ``[p]`` from now on."""
        self.asked = replicas

    def advance(self, arrivals: Floats) -> Step:
        """Let one step pass with ``arrivals[p]`` requests."""
        plant = self.setup.plant
        self._fleet, pods = supply(plant, self._fleet, self.asked, self._ordered)
        self._backlog, outcome = serve(plant, self._backlog, arrivals, pods.ready)
        self._ready.append(pods.ready)
        self._count(arrivals, outcome, pods.ready * (plant.capacity * plant.step_s))
        return Step(arrivals, outcome, pods)

    def restart(self, columns: Bools) -> None:
        """Start over where ``columns[p]``: no pods, nobody waits; what has been measured so far stays on record."""
        self.asked = frozen(np.where(columns, 0.0, self.asked))
        self._fleet = Fleet(frozen(np.where(columns, 0.0, self._fleet.soon)), frozen(np.where(columns, 0.0, self._fleet.leaving)))
        self._backlog = Backlog(frozen(np.where(columns, 0.0, self._backlog.upto)))

    def _count(self, arrivals: Floats, outcome: Outcome, limit: Floats) -> None:
        if self.setup.measure is Measure.ARRIVALS:
            load = arrivals
        elif self.setup.measure is Measure.SERVED:
            load = outcome.served
        else:
            load = np.divide(outcome.served, limit, out=np.zeros(limit.shape), where=limit > 0)
        spent = outcome.served - SATURATED_SHARE * limit
        self._totals.append(self._totals[-1] + np.array([load, outcome.late, arrivals, spent]))

    def seen(self) -> Sample | None:
        """What a policy may see at this tick; None until the first step is old enough."""
        last = len(self._totals) - 1 - self._age
        if last < 1:
            return None
        first = max(0, last - self._window)
        totals, ready = self._totals[last] - self._totals[first], self._ready[0]
        seconds = (last - first) * self.setup.plant.step_s
        load, late, total = totals[:3] / seconds
        if self.setup.measure is Measure.UTILISATION:
            load = totals[0] / (last - first) * self.setup.plant.capacity * ready
        hidden = self.setup.measure is Measure.ARRIVALS or not self.setup.flags
        saturated = np.zeros(load.shape, np.bool_) if hidden else (totals[3] >= 0) & (ready > 0)
        return Sample(load, late, total, ready, saturated)
