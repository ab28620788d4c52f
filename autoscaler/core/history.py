"""The recent past of a group's demand: the one mutable value of the core, owned by the group's loop.

Each call has a ring of rows on the grid ``at = floor(now / interval) * interval``; a skipped tick is a row of NaN. Every row is written
twice, ``rows`` apart, so that any window that ends now is contiguous and is handed out as a view, not a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.columns import frozen
from autoscaler.core.demand import demand_of, judged
from autoscaler.core.observation import Observation, SeriesColumns
from autoscaler.core.spec import Call, GroupSpec
from autoscaler.core.types import Bools, Floats, Ints, Signal, Singles
from autoscaler.core.zeros import doubted, no_belief, resized

ROWS_MIN = 8
"""Rows that are kept even where no policy looks back: a policy that begins to is given what it wants from the source."""


class _Ring:
    """The rows of one call: ``values[2 * rows, n]``, float32, NaN where nothing is known."""

    def __init__(self, rows: int, n: int) -> None:
        self.rows = rows
        self.values: NDArray[np.float32] = np.full((2 * rows, n), np.nan, np.float32)
        self.serial: Ints = np.zeros(n, np.int64)
        self.belief = no_belief(n)

    def reshape(self, rows: int, n: int, at: int) -> None:
        """Make room for more rows or columns; the window that ends at row number ``at`` stays."""
        if rows <= self.rows and n <= self.values.shape[1]:
            return
        old, columns = self.window(at, self.rows), self.values.shape[1]
        kept = self.rows
        self.rows = max(rows, self.rows)
        self.values = np.full((2 * self.rows, max(n, columns)), np.nan, np.float32)
        for back in range(kept):
            self.row(at - back)[..., :columns] = old[kept - 1 - back]
        serial = np.zeros(self.values.shape[1], np.int64)
        serial[: self.serial.size] = self.serial
        self.serial = serial
        self.belief = resized(self.belief, serial.size, np.zeros(0, np.int64))

    def row(self, number: int) -> NDArray[np.float32]:
        """Both copies of a row, as a writable view ``[2, n]``."""
        place = number % self.rows
        return self.values[place :: self.rows]

    def write(self, number: int, values: Floats | float) -> None:
        self.row(number)[...] = values

    def forget(self, columns: Ints) -> None:
        self.values[:, columns] = np.nan
        self.belief = resized(self.belief, self.values.shape[1], columns)

    def window(self, number: int, rows: int) -> Singles:
        """The ``rows`` rows that end with row ``number``, oldest first: a read-only view."""
        end = number % self.rows + self.rows + 1
        return frozen(self.values[end - rows : end])


@dataclass(frozen=True, slots=True)
class Past:
    """Recorded demand ``[row, k]`` on the grid from ``first_at_s`` on, of the users ``serial[k]`` of ``slots[k]`` of one call."""

    call: str
    slots: Ints
    serial: Ints
    first_at_s: float
    demand: Singles


class History:
    """Demand on the grid, for every series of a group."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._rings: dict[str, _Ring] = {}
        self._tick: int | None = None

    def record(self, spec: GroupSpec, observation: Observation) -> Observation:
        """Write this tick's demand and return the observation with the windows that the policies ask for.

        Raises ValueError if time went back: the loop re-anchors (:meth:`restart`), it never rewrites a row by accident.
        """
        tick = round(observation.at_s / self.interval_s)
        if self._tick is not None and tick < self._tick:
            message = f"tick {observation.at_s} s is before the last one, {self._tick * self.interval_s} s"
            raise ValueError(message)
        before = tick if self._tick is None else self._tick
        self._drop_departed(spec)
        series = tuple(
            self._believed(call, self._record(call, columns, observation, before, tick), observation, spec.workloads.exact)
            for call, columns in zip(spec.calls, observation.series, strict=True)
        )
        self._tick = tick
        return replace(observation, series=series)

    def recent(self, call: str, rows: int) -> Singles:
        """The last ``rows`` rows of a call, or as many as are kept, up to the last recorded tick: a read-only view, oldest first."""
        ring = self._rings.get(call)
        if ring is None or self._tick is None:
            return frozen(np.empty((0, 0), np.float32))
        return ring.window(self._tick, min(rows, ring.rows))

    def restart(self) -> None:
        """Forget everything: after a step of the clock old rows have no place on the grid any more."""
        self._rings.clear()
        self._tick = None

    def backfill(self, past: Past) -> None:
        """Put recorded demand into the past; rows that are written already stay.

        Slots that have another user by now are left out, as are rows after the last recorded tick or older than the ring. Windows that
        :meth:`record` has handed out at this tick show it.
        """
        ring = self._rings.get(past.call)
        if ring is None or self._tick is None:
            return
        inside = past.slots < ring.serial.size
        same = inside & (ring.serial[np.where(inside, past.slots, 0)] == past.serial)
        slots = past.slots[same]
        number = round(past.first_at_s / self.interval_s) + np.arange(past.demand.shape[0])
        fits = (number > self._tick - ring.rows) & (number <= self._tick)
        place = (number[fits] % ring.rows)[:, None]
        kept, filled = ring.values[place, slots], past.demand[fits][:, same]
        ring.values[place, slots] = ring.values[place + ring.rows, slots] = np.where(np.isnan(kept), filled, kept)

    def _drop_departed(self, spec: GroupSpec) -> None:
        for key in self._rings.keys() - {call.key for call in spec.calls}:
            del self._rings[key]

    def _record(self, call: Call, series: SeriesColumns, observation: Observation, before: int, tick: int) -> SeriesColumns:
        n = call.owner.size
        if series.load.size != n:
            message = f"the observation has {series.load.size} series of {call.key}, the spec {n}: it was made for other members"
            raise ValueError(message)
        rows = max(ROWS_MIN, call.rows)
        ring = self._rings.get(call.key)
        if ring is None or ring.serial.size > n:  # a call that vanished and came back between two ticks starts small again
            ring = self._rings[call.key] = _Ring(rows, n)
            ring.serial = call.serial
        ring.reshape(rows, n, before)
        if ring.serial is not call.serial:
            ring.forget(np.flatnonzero(ring.serial != call.serial))
            ring.serial = call.serial
        for number in range(max(before + 1, tick - ring.rows + 1), tick):
            ring.write(number, np.nan)
        checked = judged(series)
        demand, signal = demand_of(call, checked, observation.current)
        ring.write(tick, demand)
        return replace(checked, signal=signal, demand=ring.window(tick, call.rows))

    def _believed(self, call: Call, series: SeriesColumns, observation: Observation, exact: Bools) -> SeriesColumns:
        """The series just recorded, without zeros that are not believed yet; to the letter of the HPA, zero is zero."""
        ring, tick = self._rings[call.key], round(observation.at_s / self.interval_s)
        row = ring.row(tick)
        ring.belief, sudden = doubted(ring.belief, row[0].astype(np.float64), observation.current[call.owner])
        if not sudden.any():
            return series
        sudden &= ~exact[call.owner]
        if not sudden.any():
            return series
        row[:, sudden] = np.nan
        signal = np.where(sudden, np.int8(Signal.SUDDEN_ZERO), series.signal)
        return replace(series, load=frozen(np.where(sudden, np.nan, series.load)), signal=frozen(signal))
