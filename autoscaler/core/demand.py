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
from autoscaler.core.types import FREE, Codes, Floats, Ints, Signal, Singles, TargetKind
from autoscaler.core.zeros import without_sudden

# Plain numbers: numpy takes microseconds to see that a member of an enum is one, at every comparison of every tick.
_OK = int(Signal.OK)
_AVERAGE, _UTILIZATION, _VALUE = int(TargetKind.AVERAGE_VALUE), int(TargetKind.UTILIZATION), int(TargetKind.VALUE)

DEMAND_MAX = 1e9
"""Above so many replicas it is no demand but a wrong unit or a broken exporter; also far inside single precision, which history has."""


def judged(series: SeriesColumns) -> SeriesColumns:
    """The series with every load that is no number of use turned into "no data" with its reason: NaN, infinite, negative."""
    signal = np.array(series.signal)
    answered = signal == _OK
    signal[answered & np.isnan(series.load)] = Signal.NAN
    signal[answered & (series.load < 0)] = Signal.NEGATIVE
    signal[answered & np.isinf(series.load)] = Signal.INFINITE
    load = np.where(signal == _OK, series.load, np.nan)
    return replace(series, load=frozen(load), signal=frozen(signal))


def recorded_demand(call: Call, slots: Ints, load: Floats) -> Singles:
    """Demand ``[row, k]`` of loads that the source has recorded for the series in ``slots[k]``, by the same rules as that of a tick.

    Only ``averageValue`` has one: the other targets relate to the pods of then. NaN is no data, whatever ``whenEmpty`` says: an answer
    about the past does not tell an empty result from a source that was away.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        demand = np.where((load >= 0) & (load < np.inf), load, np.nan) / call.target[slots]
        known = (call.target_kind[slots] == _AVERAGE) & (demand <= DEMAND_MAX)
    return without_sudden(frozen(np.where(known, demand, np.nan).astype(np.float32)))


def demand_of(call: Call, series: SeriesColumns, current: Floats) -> tuple[Floats, Codes]:
    """Demand ``[n]``, NaN in free slots, and the signal codes with what only shows now.

    A ``value`` target without a ready replica to relate to becomes ``NOT_READY_YET``, a demand beyond all reason ``INFINITE``, and
    an ``utilization`` without a request ``NAN``. ``current`` is by workload slot ``[w]``; ``series`` must have been through :func:`judged`.
    """
    signal = np.array(series.signal)
    used = call.owner != FREE
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        demand = np.where(used, series.load / call.target, np.nan)
        utilization = call.target_kind == _UTILIZATION
        if utilization.any():
            requested = np.where(series.request > 0, demand / series.request, np.nan)
            demand = np.where(utilization, requested, demand)
        value = used & (call.target_kind == _VALUE)
        if value.any():
            from_zero = current[call.owner] == 0
            related = np.where(series.ready > 0, demand * series.ready, np.nan)
            demand = np.where(value, np.where(from_zero, np.ceil(demand), related), demand)
    answered = signal == _OK
    unknown = answered & np.isnan(demand)
    signal[unknown] = Signal.NAN
    signal[unknown & value] = Signal.NOT_READY_YET
    absurd = answered & (demand > DEMAND_MAX)
    signal[absurd] = Signal.INFINITE
    demand[absurd] = np.nan
    return demand, frozen(signal)
