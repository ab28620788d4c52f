"""Load steps, one a minute for each workload, spread over the minute by a seed; and which write of a count answers which step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

EVERY_S = 60.0
TARGET = 100
"""What one replica is to carry."""

COUNTS = range(6, 13)
"""Counts that the loads ask for. From any of them to any other is within the HPA's default rates (100 % or four pods up, 100 % down)."""

APART = 0.15
"""Two counts in a row differ at least by this share: a smaller step is within the tolerance, and rightly not answered."""


@dataclass(frozen=True, slots=True)
class Step:
    """A workload's load changes so that it asks for ``count`` replicas, ``at_s`` after the beginning."""

    at_s: float
    workload: int
    count: int

    @property
    def load(self) -> int:
        """Half a replica below what would ask for one more."""
        return load_of(self.count)


def load_of(count: int) -> int:
    """A load that asks for so many replicas."""
    return count * TARGET - TARGET // 2


def first_counts(workloads: int, seed: int) -> list[int]:
    """What each workload has before its first step."""
    rng = Random(f"{seed}/first")
    return [rng.choice(COUNTS) for _ in range(workloads)]


def plan(counts: Sequence[int], seed: int) -> Iterator[Step]:
    """Steps in order of time, for ever, from these counts on."""
    rng = Random(f"{seed}/steps")
    order = sorted((rng.random() * EVERY_S, workload) for workload in range(len(counts)))
    now = list(counts)
    minute = 0
    while True:
        for offset_s, workload in order:
            now[workload] = rng.choice([count for count in COUNTS if abs(count / now[workload] - 1) >= APART])
            yield Step(minute * EVERY_S + offset_s, workload, now[workload])
        minute += 1


@dataclass(slots=True)
class Journal:
    """Steps as they became readable at the source, and counts as a watch showed them; times in seconds of one clock."""

    stepped: list[tuple[float, Step]] = field(default_factory=list)
    written: dict[int, list[tuple[float, int]]] = field(default_factory=dict)

    def step(self, at_s: float, step: Step) -> None:
        """The step's load can be read since then."""
        self.stepped.append((at_s, step))

    def write(self, at_s: float, workload: int, count: int) -> None:
        """The watch showed that count then."""
        self.written.setdefault(workload, []).append((at_s, count))

    def reactions(self, since_s: float, until_s: float) -> tuple[list[float], int]:
        """Seconds from each step of that time to the first write of what it asks for, and how many steps had none before the next."""
        answered, missed = [], 0
        next_s: dict[int, float] = {}
        for at_s, step in reversed(self.stepped):
            end_s = next_s.get(step.workload, float("inf"))
            next_s[step.workload] = at_s
            if not since_s <= at_s < until_s:
                continue
            times = (seen_s for seen_s, count in self.written.get(step.workload, ()) if count == step.count and at_s <= seen_s < end_s)
            first_s = next(times, None)
            if first_s is None:
                missed += 1
            else:
                answered.append(first_s - at_s)
        return answered[::-1], missed


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum; NaN of nothing."""
    if not seconds:
        return (float("nan"),) * 3
    median, p99 = np.percentile(seconds, [50, 99])
    return float(median), float(p99), float(max(seconds))
