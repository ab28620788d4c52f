"""From a metric's load to demand: the number of replicas, a float, that would run exactly at target.

========================  =====================================================================================
target                    demand
========================  =====================================================================================
``averageValue``          load / target
``utilization``           use / (target x request of one replica)
``value``                 load / target x replicas ready at the sample; from zero ceil(load / target)
========================  =====================================================================================
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autoscaler.core.columns import frozen
from autoscaler.core.observation import SeriesColumns
from autoscaler.core.spec import Call
from autoscaler.core.types import FREE, Codes, Floats, Signal, TargetKind


def judged(series: SeriesColumns) -> SeriesColumns:
    """The series with every load that is no number of use turned into "no data" with its reason: NaN, infinite, negative."""
    signal = np.array(series.signal)
    answered = signal == Signal.OK
    signal[answered & np.isnan(series.load)] = Signal.NAN
    signal[answered & np.isinf(series.load)] = Signal.INFINITE
    signal[answered & (series.load < 0)] = Signal.NEGATIVE
    load = np.where(signal == Signal.OK, series.load, np.nan)
    return replace(series, load=frozen(load), signal=frozen(signal))


def demand_of(call: Call, series: SeriesColumns, current: Floats) -> tuple[Floats, Codes]:
    """Demand ``[n]`` and the signal codes, where ``value`` targets without a known ready count become ``NOT_READY_YET``.

    ``current`` is by workload slot ``[w]``; ``series`` must have been through :func:`judged`.
    """
    signal = np.array(series.signal)
    ratio = series.load / call.target
    demand = ratio.copy()
    utilization = call.target_kind == TargetKind.UTILIZATION
    if utilization.any():
        demand = np.where(utilization, ratio / series.request, demand)
    value = (call.target_kind == TargetKind.VALUE) & (call.owner != FREE)
    if value.any():
        from_zero = np.where(call.owner != FREE, current[call.owner], np.nan) == 0
        demand = np.where(value, np.where(from_zero, np.ceil(ratio), ratio * series.ready), demand)
        signal[value & (signal == Signal.OK) & np.isnan(demand)] = Signal.NOT_READY_YET
    unusable = ~np.isfinite(demand)
    signal[unusable & (signal == Signal.OK)] = Signal.NAN
    demand[unusable] = np.nan
    return demand, frozen(signal)
