"""The demo's workloads: three services under recorded loads, one of which is hit by a flash crowd soon after the start; three are sick.

A pod of ``mailer`` crashes until it is replaced, one of ``search`` runs out of memory once, one of ``billing`` never becomes ready. They
have enough pods on as many nodes that this is no mass failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.plant import Plant
from autoscaler.core.types import Workload
from autoscaler.simulation.live import Stage
from autoscaler.simulation.load import rates, read_csv, scaled
from autoscaler.simulation.patients import Patient, crash_looping, never_ready, out_of_memory
from autoscaler.simulation.world import Measure, Setup

NAMESPACE = "shop"
PLANT = Plant(step_s=5.0)
HISTORY_S = 3 * 3600.0
"""So much has happened before anybody looks."""

TARGET = 0.6
"""What the pods of that past ran at, as a share of their capacity."""


@dataclass(frozen=True, slots=True)
class Play:
    """One workload and its load: the trace, the pods that its median needs, and where in the trace (hours) the present lies."""

    workload: Workload
    trace: str
    median_replicas: float
    present_h: float


PLAYS = (
    Play(Workload(NAMESPACE, "web"), "wikipedia_day_24s.csv", 10.0, 10.5),
    Play(Workload(NAMESPACE, "news"), "tweets_aapl_6h_5min.csv", 0.5, 1.1),
    Play(Workload(NAMESPACE, "orders", "StatefulSet"), "ms_mongo_app3_day_1min.csv", 6.0, 11.0),
)


PATIENTS = (
    Patient(Workload(NAMESPACE, "mailer"), "mailer:7", "node-1", crash_looping, first_s=180.0, every_s=5400.0, lasts_s=2700.0),
    Patient(Workload(NAMESPACE, "search"), "search:31", "node-2", out_of_memory, first_s=600.0, every_s=5400.0, lasts_s=1800.0),
    Patient(Workload(NAMESPACE, "billing"), "billing:2", "node-3", never_ready, first_s=30.0),
)


def stages(now_s: float) -> list[Stage]:
    """Each play as a stage of its own, ``HISTORY_S`` before ``now_s`` (wall time): rehearse it up to now."""
    return [_stage(play, now_s, seed) for seed, play in enumerate(PLAYS)]


def _stage(play: Play, now_s: float, seed: int) -> Stage:
    with as_file(files(__package__) / "data" / play.trace) as path:
        trace = read_csv(path)
    rate = rates(scaled(trace, PLANT, play.median_replicas)[0], PLANT.step_s)
    first = round((play.present_h * 3600 - HISTORY_S) / PLANT.step_s)
    rate = frozen(np.roll(rate, -first)[:, None])
    return Stage([play.workload], Setup(PLANT, Measure.ARRIVALS), rate, now_s - HISTORY_S, seed)
