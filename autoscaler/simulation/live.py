"""Plants that live on a clock instead of a grid of ticks: the load repeats for ever, and what their metrics show is kept by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.types import Floats, Workload
from autoscaler.simulation.run import first_replicas
from autoscaler.simulation.world import Sample, Setup, World


@dataclass(frozen=True, slots=True)
class Reading:
    """What one tick's metrics show: ``at_s`` wall time, ``sample[p]`` (None: not old enough yet), and ``ready`` pods."""

    at_s: float
    sample: Sample | None
    ready: Floats


class Stage:
    """The plants of some workloads. ``rate[step, p]`` per second is played from ``start_s`` on and starts over at its end.

    ``start_s`` (wall time) is moved back onto the grid of steps. Everything that can be asked refers to the last step that is over.
    """

    def __init__(self, workloads: Sequence[Workload], setup: Setup, rate: Floats, start_s: float, seed: int = 0) -> None:
        if rate.ndim != 2 or rate.shape[1] != len(workloads) or not rate.size:  # noqa: PLR2004 - [step, p]
            raise ValueError(f"rate: expected [step, {len(workloads)}], found shape {rate.shape}")
        self.workloads, self.setup = tuple(workloads), setup
        self._rate, self._random = rate, np.random.default_rng(seed)
        ordered = np.array([workload.kind == "StatefulSet" for workload in workloads])
        self.world = World(setup, first_replicas(rate, setup.plant), ordered)
        self.at_s = floor(start_s / setup.plant.step_s) * setup.plant.step_s
        self._step = 0

    def advance(self, to_s: float) -> Iterator[Reading]:
        """Let time pass up to the last whole step before ``to_s``, one step for each reading that is taken."""
        step_s = self.setup.plant.step_s
        while self.at_s + step_s <= to_s:
            rate = self._rate[self._step % self._rate.shape[0]]
            self.world.advance(self._random.poisson(rate * step_s).astype(np.float64))
            self._step += 1
            self.at_s += step_s
            yield self.reading()

    def reading(self) -> Reading:
        """What the metrics show now."""
        return Reading(self.at_s, self.world.seen(), self.world.ready)

    def ask(self, column: int, replicas: int) -> None:
        """Want so many pods of one workload."""
        asked = np.array(self.world.asked)
        asked[column] = replicas
        self.world.ask(frozen(asked))

    def restart(self, column: int) -> None:
        """Lose every pod of one workload, as when it is deleted."""
        gone = np.zeros(len(self.workloads), np.bool_)
        gone[column] = True
        self.world.restart(gone)


def rehearsed(stage: Stage, to_s: float, target: float) -> Iterator[Reading]:
    """Let time pass as :meth:`Stage.advance`, with pods that simply follow the load at ``target`` of their capacity.

    It gives metrics a past that looks like one: no policy decided anything in it.
    """
    capacity = np.asarray(stage.setup.plant.capacity)
    for reading in stage.advance(to_s):
        if reading.sample is not None:
            stage.world.ask(frozen(np.maximum(np.ceil(reading.sample.load / (target * capacity)), 1.0)))
        yield reading
