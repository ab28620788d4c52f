"""Many candidates of a kind that forgets soon, over one load: the time is cut into parts that run side by side, as columns.

A part starts with a stretch that is not scored, long enough to forget how it began: windows, start-up and backlog of an HPA last minutes.
What can outlast the stretch is a count that stays within the tolerance all along, so figures agree with those of one run in one piece
to a few parts in a thousand, and are exact where there is just one part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.spec import WorkloadSpec
from autoscaler.core.types import Floats, Ints
from autoscaler.simulation.run import RISK, START_S, Case, run
from autoscaler.simulation.score import Score, Trajectory
from autoscaler.simulation.world import Setup

FORGET_S = 3600.0
"""Twelve times the longest window of the peers."""

COLUMNS = 8192
"""So many columns take ten times as long as one; more gain nothing."""

_PART_MIN_STEPS = 1440


@dataclass(frozen=True, slots=True)
class Swept:
    """The score of each candidate ``[p]``, and its scored steps ``[step, p]`` if they were to be kept."""

    score: Score
    trajectory: Trajectory | None


class Parts(NamedTuple):
    """Where each part begins, the length of all, and how much of each is not scored, in steps."""

    begin: Ints
    length: int
    unscored: Ints


def parts_of(steps: int, warm: int, before: int, every: int, most: int, least: int = _PART_MIN_STEPS) -> Parts:
    """At most ``most`` parts of ``steps``, of which ``warm`` are not scored; none scores less than ``least``.

    They overlap by what is not scored, and begin at a tick. ``before``: steps that are needed to forget.
    """
    offset = max(0, (warm - before) // every * every)
    left = steps - offset
    parts = min(most, (left - before) // max(1, least))
    if parts <= 1:
        return Parts(np.zeros(1, np.int64), steps, np.array([warm]))
    before += (left - before) % (parts * every)
    part = (left - before) // parts
    unscored = np.full(parts, before)
    unscored[0] = warm - offset
    return Parts(offset + part * np.arange(parts), part + before, unscored)


def swept(  # noqa: PLR0913 - a load, its plants, and who runs in them
    specs: Sequence[WorkloadSpec],
    rate: Floats,
    arrivals: Floats,
    setup: Setup,
    *,
    factor: Floats | None = None,
    warm_s: float = 0.0,
    risk: float = RISK,
    start_s: float = START_S,
    keep: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Swept:
    """The score of each spec under the load ``rate[step], arrivals[step]``, the first ``warm_s`` seconds left out.

    ``factor[step]`` disturbs the metric. Specs must not look back further than ``FORGET_S``; where one has a schedule, the time is not
    cut. ``start_s``: the time of the first step. ``keep`` the scored steps. ``progress`` is told the share that is done.
    """
    step_s, count = setup.plant.step_s, len(specs)
    every = max((round(spec.interval_s / step_s) for spec in specs), default=1)
    most = 1 if any(spec.schedule for spec in specs) else max(1, COLUMNS // max(1, count))
    begin, length, warm = parts_of(rate.size, round(warm_s / step_s), round(FORGET_S / step_s), every, most)
    index, parts = begin + np.arange(length)[:, None], begin.size
    case = Case(
        specs=[spec for spec in specs for _ in range(parts)],
        rate=frozen(rate[index]),
        arrivals=frozen(arrivals[index]),
        load_of=np.tile(np.arange(parts), count),
        setup=setup,
        factor=None if factor is None else frozen(factor[index]),
        start_s=start_s,
    )
    told = None if progress is None else lambda step: progress(step / length)
    found = run(case, warm_s=np.tile(warm * step_s, count), risk=risk, keep=keep, progress=told)
    score = found.sums.joined(np.repeat(np.arange(count), parts), count).score()
    return Swept(score, None if found.trajectory is None else stitched(found.trajectory, warm - warm.min(), count))


def stitched(trajectory: Trajectory, skip: Ints, count: int) -> Trajectory:
    """The parts of each candidate, one after the other; of part ``k`` the first ``skip[k]`` steps are another part's."""

    def joined(column: Floats) -> Floats:
        by_part = column.reshape(column.shape[0], count, skip.size)
        return frozen(np.concatenate([by_part[first:, :, part] for part, first in enumerate(skip)]))

    return Trajectory(**{name: joined(getattr(trajectory, name)) for name in Trajectory.__dataclass_fields__})
