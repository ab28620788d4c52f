"""One policy over one load: in one piece, or in pieces of the time that run side by side, as columns, where that says the same.

A step of one column costs as much as one of thirty. So a policy that says after how long it forgets (:attr:`Traits.forgets_s`) is run in
pieces, each with as long a run-up as the whole has a warm-up; the first needs none, and is what it would be in one piece.

What a policy sums up for longer than that, it carries on itself (``carried``): where its run-up ends, each piece is told what those before
it have added. Its figures differ a little from those of one piece; ``tests/simulation/test_pieces.py`` says by how much. A policy without
that must come to the counts of the piece before it for the last hour of each run-up; one that does not, has not forgotten, and is
run in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np

from autoscaler.core.columns import array_fields, frozen, taken
from autoscaler.core.policy import Policy, traits_of
from autoscaler.core.types import Ints
from autoscaler.simulation.run import NO_SEAMS, RISK, Case, Seam, run
from autoscaler.simulation.score import Trajectory, scored
from autoscaler.simulation.sweep import FORGET_S, Parts, Swept, parts_of, stitched

PIECES = 48

_PIECES_A_RUN_UP = 8
"""Pieces shorter than such a part of their run-up would run up for hardly anything."""


def in_pieces(case: Case, *, warm_s: float, risk: float = RISK, progress: Callable[[float], None] = lambda _share: None) -> Swept:
    """Run a case of one column, the first ``warm_s`` seconds not scored, and keep the scored steps."""
    cut = _cut(case, warm_s)
    found = _pieced(case, cut, risk, progress) if cut.begin.size > 1 else None
    if found is not None:
        return found
    steps = case.rate.shape[0]
    result = run(case, warm_s=warm_s, risk=risk, keep=True, progress=lambda step: progress(step / steps))
    return Swept(result.score, result.trajectory)


def _cut(case: Case, warm_s: float) -> Parts:
    """The pieces; one where the policy may look back further than the warm-up, where hours have dates, or where there is little to cut."""
    spec, step_s, steps = case.specs[0], case.setup.plant.step_s, case.rate.shape[0]
    warm = round(warm_s / step_s)
    whole = Parts(np.zeros(1, np.int64), steps, np.array([warm]))
    if max(FORGET_S, traits_of(spec.policy.policy).forgets_s) > warm_s or spec.schedule or len(spec.series) != 1:
        return whole
    most = max(PIECES, ceil(4 * (steps - warm) / warm))
    cut = parts_of(steps, warm, warm, round(spec.interval_s / step_s), most, warm // _PIECES_A_RUN_UP)
    # What is carried on is summed up in the second half of a run-up.
    return cut if 2 * (cut.length - int(cut.unscored[-1])) <= warm else whole


def _pieced(case: Case, cut: Parts, risk: float, progress: Callable[[float], None]) -> Swept | None:
    """The steps of all pieces, one after the other; None if they do not fit together."""
    step_s, policy, before = case.setup.plant.step_s, case.specs[0].policy.policy, int(cut.unscored[-1])
    index, pieces, part = cut.begin + np.arange(cut.length)[:, None], cut.begin.size, cut.length - before
    columns = replace(
        case,
        specs=list(case.specs) * pieces,
        rate=frozen(case.rate[index, 0]),
        arrivals=frozen(case.arrivals[index, 0]),
        load_of=np.arange(pieces),
        factor=None if case.factor is None else frozen(case.factor[index, 0]),
    )
    carries = hasattr(policy, "carried")
    luggage = _Luggage(policy, pieces, part * step_s)
    seams: dict[int, Seam] = {before - part: luggage.noted, before: luggage.handed_on} if carries else dict(NO_SEAMS)
    seen = min(int(cut.unscored.min()), before - round(FORGET_S / step_s))
    found = run(columns, warm_s=seen * step_s, risk=risk, keep=True, progress=lambda step: progress(step / cut.length), seams=seams)
    if found.trajectory is None:
        raise RuntimeError("a run that was asked to keep its steps has none")
    if not carries and not _fits(found.trajectory, part, before - seen):
        return None
    steps = stitched(found.trajectory, cut.unscored - seen, 1)
    return Swept(scored(steps, step_s, risk), steps)


def _fits(trajectory: Trajectory, part: int, first: int) -> bool:
    """Whether each piece ends its run-up, in row ``first``, as the piece before it was then."""
    earlier = max(0, first - part)
    rows = first - earlier
    return all(
        np.array_equal(column[earlier:first, 1:], column[earlier + part : earlier + part + rows, :-1])
        for column in (trajectory.asked, trajectory.ready, trajectory.backlog)
    )


class _Luggage:
    """What ``policy`` has summed up, on its way through pieces that follow each other by ``part_s`` seconds."""

    def __init__(self, policy: Policy, pieces: int, part_s: float) -> None:
        self._policy, self._pieces, self._part_s = policy, pieces, part_s
        self._start: Any = None

    def noted(self, state: Any, plant: Ints) -> Any:  # noqa: ANN401, ARG002 - a policy's own state; the contract's signature
        """A piece's length before the run-ups end."""
        self._start = state
        return state

    def handed_on(self, state: Any, plant: Ints) -> Any:  # noqa: ANN401 - a policy's own state
        """Where the run-ups end: all of the first piece is right, and what it is now the second was a piece's length ago."""
        column = np.argsort(np.where(plant < self._pieces, plant, self._pieces), kind="stable")[: self._pieces]
        right = [taken(state, column[:1])]
        for piece in range(1, self._pieces):
            start, end = (taken(each, column[piece : piece + 1]) for each in (self._start, state))
            right.append(self._policy.carried(right[-1], start, end, self._part_s))  # type: ignore[attr-defined]
        changed = {}
        for name, array in array_fields(state).items():
            wide = array.copy()
            wide[..., column] = np.concatenate([getattr(one, name) for one in right], axis=-1)
            changed[name] = frozen(wide)
        return replace(state, **changed)
