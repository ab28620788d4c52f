"""What is known at one tick, in columns: the only input of ``decide`` besides its state and the spec.

Columns that nothing fills are NaN, false or None; nothing in the core guesses them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autoscaler.core.columns import frozen, full
from autoscaler.core.policy import Pods
from autoscaler.core.spec import GroupSpec
from autoscaler.core.types import FREE, Bools, Codes, Floats, Signal, Singles, Target


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What the health loop last published about the newest revision of each workload ``[w]`` (design: "Health and scaling").

    ``as_of_s``: when it was assessed; ``revision_age_s`` then. ``pods`` of that revision, ``crash_pods`` of them in a crash incident,
    ``overload_pods`` of these killed for memory or by a probe. ``majority_ready_s``: the longest time that a majority of its pods has
    been Ready; ``served``: one of them has been Ready at some time. ``previous_crashing``: an earlier revision has an open crash
    incident. NaN: not known.
    """

    as_of_s: Floats
    revision_age_s: Floats
    pods: Floats
    crash_pods: Floats
    overload_pods: Floats
    majority_ready_s: Floats
    served: Bools
    previous_crashing: Bools


@dataclass(frozen=True, slots=True)
class SeriesColumns:
    """The signals of one call at one tick ``[n]``.

    ``load`` in the metric's unit; ``age_s`` = tick - evaluation time of the answer; ``signal`` a :class:`Signal` code (only ``OK``
    has a load); ``ready`` replicas when the sample was taken; ``request`` of one replica (utilisation only). ``late`` and ``total``:
    the workload's requests per second that were too late, and all, NaN where not known. ``demand[tick, n]`` is the history that ends
    with this tick, put in by :meth:`autoscaler.core.history.History.record`.
    """

    load: Floats
    age_s: Floats
    signal: Codes
    saturated: Bools
    ready: Floats
    request: Floats
    late: Floats | None = None
    total: Floats | None = None
    pods: Pods | None = None
    demand: Singles | None = None
    season_mean: Singles | None = None
    season_max: Singles | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One tick of one group. ``series[c]`` belongs to ``spec.calls[c]``.

    By workload slot: ``current`` = ``spec.replicas`` as last seen, ``ready`` and ``status_replicas`` in replicas; ``startup_s`` = p90
    of creation to Ready; ``target`` a :class:`Target` code (only ``OK`` is decided on); ``written_at_s, written_from, written_to`` =
    the write of ours that was confirmed since the last tick (NaN: none), stamped with the tick that decided it; ``coverage`` = share
    of the ready pods that report (NaN: not known).
    """

    at_s: float
    current: Floats
    ready: Floats
    status_replicas: Floats
    startup_s: Floats
    ordered: Bools
    target: Codes
    written_at_s: Floats
    written_from: Floats
    written_to: Floats
    coverage: Floats
    series: tuple[SeriesColumns, ...]
    health: HealthFacts | None = None


def with_signal(spec: GroupSpec, observation: Observation, signal: Signal) -> Bools:
    """The workloads ``[w]`` of which some series has that signal."""
    found, code = np.zeros(spec.slots, np.bool_), int(signal)
    for call, series in zip(spec.calls, observation.series, strict=True):
        has = series.signal == code
        if has.any():
            found[call.owner[has & (call.owner != FREE)]] = True
    return found


def blank_series(n: int) -> SeriesColumns:
    """``n`` series that nobody asked about."""
    nothing = frozen(full(n, np.nan))
    signal = frozen(np.full(n, Signal.NOT_ASKED, np.int8))
    return SeriesColumns(nothing, nothing, signal, frozen(np.zeros(n, np.bool_)), nothing, nothing)


def blank(spec: GroupSpec, at_s: float) -> Observation:
    """An observation in which nothing is known yet; adapters and tests fill in what they have with ``dataclasses.replace``."""
    w = spec.slots
    nothing = frozen(full(w, np.nan))
    return Observation(
        at_s=at_s,
        current=nothing,
        ready=nothing,
        status_replicas=nothing,
        startup_s=nothing,
        ordered=frozen(np.zeros(w, np.bool_)),
        target=frozen(np.full(w, Target.UNKNOWN, np.int8)),
        written_at_s=nothing,
        written_from=nothing,
        written_to=nothing,
        coverage=nothing,
        series=tuple(blank_series(call.owner.size) for call in spec.calls),
    )


def known(spec: GroupSpec, at_s: float, current: Floats, ready: Floats | None = None) -> Observation:
    """An observation of targets that are all there, with ``current`` replicas ``[w]``, all ready unless said otherwise."""
    count = frozen(np.array(current, dtype=np.float64))
    up = count if ready is None else frozen(np.array(ready, dtype=np.float64))
    target = np.where(np.isnan(count), Target.UNKNOWN, Target.OK).astype(np.int8)
    return replace(blank(spec, at_s), current=count, ready=up, status_replicas=count, target=frozen(target))
