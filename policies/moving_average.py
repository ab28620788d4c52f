"""A mean of demand over a window, and a short panic window that only raises.

::

    mean(window)   = sum(w_k x demand_k) / sum(w_k)    over the window's rows that have data; k = 0 is this tick,
                                                       rows = ceil(window / interval)
        simple       w_k = 1
        weighted     w_k = rows - k                    falling evenly from the newest row to the oldest
        exponential  w_k = (1 - alpha)^k               alpha = 2 / (rows + 1)
    stable         = mean(window)
    panic          = mean(panicWindow)
    replicas       = stable; in panic the highest max(stable, panic) since it began, and never less than current

    panic begins   when panic / max(1, ready) >= panicThreshold
    panic ends     when that has not been so for a whole window

Both windows and the panic are those of Knative's pod autoscaler (knative/serving, pkg/autoscaler/scaling/autoscaler.go), which takes
plain or exponential means of rows of one second. Its ``alpha = 1 - 10^(-4 / rows)`` would give four rows of 15 s little but the newest.
Ours is the usual one for a span: uncut, its weights have the same mean age as a simple mean over the window.

Unknown is not zero. A row without data leaves both sums. If less than half of a window's rows have data it has no mean, and without
``stable`` only a panic proposes anything. If this tick's row has none there is no proposal at all: nothing new is known, and a mean
that moves only because old rows drop out of it is no reason to scale. Such a tick neither begins nor prolongs a panic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autoscaler.core.columns import frozen, full
from autoscaler.core.policy import Proposal, Traits, View, param
from autoscaler.core.types import Floats, Ints, Singles

_SLACK = 1e-9


@dataclass(frozen=True)
class MovingAverageParams:
    """The mean and its window, and when a panic begins."""

    kind: str = param("simple", choices=("simple", "weighted", "exponential"), doc="the mean: how much newer rows outweigh older ones")
    window_s: Floats = param(60.0, gt=0, doc="how far back the mean looks")
    panic_window_s: Floats = param(15.0, gt=0, doc="how far back the mean looks that may start a panic, in which replicas only rise")
    panic_threshold: Floats = param(2.0, gt=1, doc="a panic begins when the panic window's mean is this many times the ready replicas")


@dataclass(frozen=True)
class MovingAverageState:
    """When each series ``[n]`` was last over the panic threshold (seconds), and its highest mean in this panic; NaN: no panic."""

    panic_s: Floats
    peak: Floats


class MovingAverage:
    """``sum(w_k x demand_k) / sum(w_k)`` over ``window``; raised to the mean of ``panicWindow`` in a panic.

    Example:
        Four rows of 15 s; the second series had no answer a while ago, and the third is hit by four times what it can carry:

        >>> from autoscaler.testing import columns_of, view_of
        >>> policy, params = MovingAverage(), columns_of([MovingAverageParams()] * 3)
        >>> rows = [[4.0, 4.0, 5.0], [6.0, np.nan, 5.0], [6.0, 6.0, 5.0], [4.0, 5.0, 20.0]]
        >>> view = view_of(demand=rows, current=[5.0, 5.0, 5.0])
        >>> state, proposal = policy(view, params, policy.init(params, 3))
        >>> proposal.replicas.tolist()
        [5.0, 5.0, 20.0]
    """

    Params = MovingAverageParams
    traits = Traits(checkpoint=("panic_s", "peak"), forgets_s=86400.0)

    def check(self, params: MovingAverageParams) -> Iterable[str]:
        """What is wrong between the fields of one workload's (scalar) parameters, a sentence each."""
        if params.panic_window_s > params.window_s:
            yield (
                f"panicWindow is {params.panic_window_s:g} s and window is {params.window_s:g} s: "
                "panicWindow must not be longer than window, it is there to see a jump sooner"
            )

    def history_s(self, params: MovingAverageParams) -> float:
        """The longer window."""
        return float(max(params.window_s, params.panic_window_s))

    def init(self, params: MovingAverageParams, n: int) -> MovingAverageState:  # noqa: ARG002 - the contract's signature
        """No panic."""
        nothing = frozen(full(n, np.nan))
        return MovingAverageState(nothing, nothing)

    def __call__(self, view: View, params: MovingAverageParams, state: MovingAverageState) -> tuple[MovingAverageState, Proposal]:
        """One tick; notes: both means, and 1 in ``panicking`` where there is a panic."""
        known = ~np.isnan(view.demand[-1])
        stable = _means(view.demand, _rows(params.window_s, view.interval_s), params.kind)
        panic = _means(view.demand, _rows(params.panic_window_s, view.interval_s), params.kind)

        ready = np.where(np.isnan(view.ready), view.current, view.ready)
        over = known & (panic >= params.panic_threshold * np.maximum(1, ready))
        lasting = view.at_s - state.panic_s < params.window_s - _SLACK
        panicking = over | lasting
        highest = np.fmax(np.where(lasting, state.peak, np.nan), np.where(known, np.fmax(stable, panic), np.nan))

        replicas = np.where(panicking, np.fmax(highest, view.current), stable)
        notes = {"stable": stable, "panic": panic, "panicking": panicking.astype(np.float64)}
        state = MovingAverageState(
            panic_s=frozen(np.where(over, view.at_s, np.where(lasting, state.panic_s, np.nan))),
            peak=frozen(np.where(panicking, highest, np.nan)),
        )
        return state, Proposal(np.where(known, replicas, np.nan), notes=notes)


def _rows(window_s: Floats, interval_s: float) -> Ints:
    """How many rows each window has ``[n]``: durations are rounded up to rows, one at least."""
    return np.maximum(1, np.ceil(window_s / interval_s - _SLACK)).astype(np.int64)


def _means(demand: Singles, rows: Ints, kind: str) -> Floats:
    """The mean of each series' last ``rows[n]`` of ``demand[tick, n]``, NaN where less than half of them have data."""
    lengths = np.unique(rows)
    if lengths.size == 1:
        return _mean(demand[-lengths[0] :], int(lengths[0]), kind)
    means = full(rows.size, np.nan)
    for length in lengths:
        columns = np.flatnonzero(rows == length)
        means[columns] = _mean(demand[-length:, columns], int(length), kind)
    return means


def _mean(window: Singles, rows: int, kind: str) -> Floats:
    """The mean over ``window[tick, n]``, which is the whole of a window of ``rows`` or, early on, its newest part."""
    weights = _weights(window.shape[0], rows, kind)
    # A missing row makes a sum NaN, which finds the few series that need a mask without a look at every value. The sum is einsum's
    # and not BLAS's so that a replay on another machine gives the same bits.
    means: Floats = np.einsum("t,tn->n", weights, window) / weights.sum()
    gaps = np.flatnonzero(np.isnan(means)) if window.shape[0] == rows else np.arange(means.size)
    if gaps.size:
        some = window[:, gaps]
        known = ~np.isnan(some)
        total = np.einsum("t,tn->n", weights, np.where(known, some, 0))
        with np.errstate(invalid="ignore"):
            mean = total / np.einsum("t,tn->n", weights, known)
        means[gaps] = np.where(2 * known.sum(axis=0) >= rows, mean, np.nan)
    return means


def _weights(ticks: int, rows: int, kind: str) -> Floats:
    """``w_k`` for the newest ``ticks`` rows of a window of ``rows``, oldest first."""
    k = np.arange(ticks - 1, -1, -1, dtype=np.float64)
    if kind == "weighted":
        return rows - k
    alpha = 2 / (rows + 1) if kind == "exponential" else 0.0
    return np.asarray((1 - alpha) ** k, dtype=np.float64)
