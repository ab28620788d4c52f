"""How much one pod carries within its objective, from recorded load per ready pod and what went wrong at the time.

Rows are put into bins of load per pod. The share that went wrong can only rise with the load, so the bins' shares are made to (pool
adjacent violators; Barlow et al., Statistical Inference under Order Restrictions, 1972). The limit is where they first exceed what is
allowed, on a straight line between the bins' means. Its uncertainty is that of resampled blocks of an hour, since neighbouring rows
are no independent witnesses; and at least the distance between these two bins, since nothing is known of the loads between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoscaler.core.types import Floats, Ints
from autoscaler.errors import ConfigError

BLOCK_S = 3600.0
ROWS_MIN = 120
"""Two hours of minutes; less says nothing."""

_BINS = 40
_BIN_ROWS_MIN = 20
_DRAWS = 400
_EDGES = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Witness:
    """Rows on a grid of ``step_s``: ``load`` per ready pod; ``wrong`` of ``total`` (requests late; or 1 of 1 for a slow minute)."""

    load: Floats
    wrong: Floats
    total: Floats
    step_s: float


@dataclass(frozen=True, slots=True)
class Limit:
    """The highest load per pod within the objective, and an interval that holds it in nine of ten cases.

    ``exceeded``: whether any load was too high; if none was, ``load`` is just the highest seen, and the limit at least that.
    ``bins_load`` and ``bins_share`` are the bins, ``fitted`` their rising shares.
    """

    load: float
    low: float
    high: float
    exceeded: bool
    rows: int
    bins_load: Floats
    bins_share: Floats
    fitted: Floats


def limit_of(witness: Witness, allowed: float, seed: int = 0) -> Limit:
    """The limit at the share ``allowed`` that may go wrong. Raises ConfigError where the rows cannot tell."""
    there = np.isfinite(witness.load) & (witness.load > 0) & np.isfinite(witness.wrong) & (witness.total > 0)
    if there.sum() < ROWS_MIN:
        raise ConfigError(
            f"load and objective are known together in {int(there.sum())} rows of {witness.step_s:g} s, expected at least {ROWS_MIN}"
        )
    load, wrong, total = (column[there] for column in (witness.load, witness.wrong, witness.total))
    block = (np.flatnonzero(there) * witness.step_s // BLOCK_S).astype(np.int64)
    place, bins = _bins(load)
    table = _Table(place, bins, block, np.stack([load * total, wrong, total]))
    means, share = table.means(np.ones(table.blocks))
    fitted = rising(share, table.weight)
    found = _crossing(means, fitted, allowed)
    if found is None and fitted[0] > allowed:
        raise ConfigError(
            f"the objective does not hold at any recorded load: at {means[0]:.3g} per pod, the lowest, {share[0]:.2%} went wrong, "
            f"{allowed:.2%} may; look for another cause than load"
        )
    draws = _resampled(table, allowed, seed)
    low, high = (float(np.quantile(draws, edge)) for edge in _EDGES)
    exceeded = found is not None
    if found is not None:
        after = int(np.searchsorted(means, found, side="right"))
        low, high = min(low, float(means[after - 1])), max(high, float(means[min(after, means.size - 1)]))
    return Limit(found if found is not None else float(means[-1]), low, high, exceeded, load.size, means, share, fitted)


def _bins(load: Floats) -> tuple[Ints, int]:
    """The bin of each row: equal in rows, as many as are worth it, and cut where they would be wide: the extremes are what matters."""
    count = max(2, min(_BINS, load.size // _BIN_ROWS_MIN))
    even = np.linspace(load.min(), load.max(), _BINS // 2 + 1)[1:-1]
    edges = np.unique(np.concatenate([np.quantile(load, np.linspace(0, 1, count + 1)[1:-1]), even]))
    return np.searchsorted(edges, load, side="right").astype(np.int64), edges.size + 1


class _Table:
    """Sums by block and bin: every resampling is one product."""

    def __init__(self, place: Ints, bins: int, block: Ints, columns: Floats) -> None:
        names, number = np.unique(block, return_inverse=True)
        self.blocks = names.size
        cell = number * bins + place
        self._sums = np.stack([np.bincount(cell, column, minlength=self.blocks * bins) for column in columns])
        self._sums = self._sums.reshape(len(columns), self.blocks, bins)
        self.weight: Floats = self._sums[2].sum(axis=0)

    def means(self, times: Floats) -> tuple[Floats, Floats]:
        """Mean load and share of each bin if block ``b`` counts ``times[b]`` times; bins without rows are left out."""
        load, wrong, total = np.einsum("kbi,b->ki", self._sums, times)
        there = total > 0
        self.weight = total[there]
        return load[there] / total[there], wrong[there] / total[there]


def rising(share: Floats, weight: Floats) -> Floats:
    """The rising sequence nearest to ``share`` in weighted squares.

    Example:
        >>> rising(np.array([0.1, 0.4, 0.2, 0.5]), np.ones(4)).round(2).tolist()
        [0.1, 0.3, 0.3, 0.5]
    """
    blocks: list[tuple[float, float, int]] = []
    for value, heavy in zip(share.tolist(), weight.tolist(), strict=True):
        level, mass, length = value, heavy, 1
        while blocks and blocks[-1][0] >= level:
            before, other, count = blocks.pop()
            level = (before * other + level * mass) / (other + mass)
            mass, length = mass + other, length + count
        blocks.append((level, mass, length))
    return np.repeat([level for level, _, _ in blocks], [length for _, _, length in blocks])


def _crossing(load: Floats, fitted: Floats, allowed: float) -> float | None:
    """Where the share first exceeds ``allowed``; None where it never does, or does from the first bin on."""
    above = np.flatnonzero(fitted > allowed)
    if not above.size or above[0] == 0:
        return None
    k = int(above[0])
    part = (allowed - fitted[k - 1]) / (fitted[k] - fitted[k - 1])
    return float(load[k - 1] + part * (load[k] - load[k - 1]))


def _resampled(table: _Table, allowed: float, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(_DRAWS):
        times = np.bincount(random.integers(0, table.blocks, table.blocks), minlength=table.blocks).astype(np.float64)
        load, share = table.means(times)
        fitted = rising(share, table.weight)
        at = _crossing(load, fitted, allowed)
        found.append(at if at is not None else float(load[0] if fitted[0] > allowed else load[-1]))
    return np.array(found)
