"""From loads to demand, per kind of target, and every load that is none."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from autoscaler.core.demand import demand_of, judged, recorded_demand
from autoscaler.core.history import History
from autoscaler.core.observation import SeriesColumns, blank_series
from autoscaler.core.roster import Roster
from autoscaler.core.spec import Call
from autoscaler.core.types import Signal, TargetKind
from tests.core.build import INTERVAL_S, START_S, Facts, Rig, observe, series, spec, workload

AVERAGE, VALUE, UTILIZATION = TargetKind.AVERAGE_VALUE, TargetKind.VALUE, TargetKind.UTILIZATION


@pytest.mark.parametrize(
    ("kind", "target", "facts", "demand", "signal"),
    [
        pytest.param(AVERAGE, 85.0, Facts(3, (850.0,)), 10, Signal.OK, id="average"),
        pytest.param(AVERAGE, 85.0, Facts(0, (850.0,)), 10, Signal.OK, id="average-needs-no-pods"),
        pytest.param(AVERAGE, 2.0, Facts(2, (0.0,)), 0, Signal.OK, id="average-of-nothing"),
        pytest.param(AVERAGE, 2.0, Facts(2, (-0.0,)), 0, Signal.OK, id="minus-zero-is-zero"),
        pytest.param(UTILIZATION, 0.5, Facts(3, (4.0,), requests=(2.0,)), 4, Signal.OK, id="utilisation"),
        pytest.param(UTILIZATION, 0.5, Facts(3, (4.0,), requests=(2.0,), ready=1), 4, Signal.OK, id="utilisation-ignores-readiness"),
        pytest.param(UTILIZATION, 0.5, Facts(3, (4.0,), requests=(nan,)), None, Signal.NAN, id="utilisation-without-request"),
        pytest.param(UTILIZATION, 0.5, Facts(3, (4.0,), requests=(0.0,)), None, Signal.NAN, id="utilisation-of-no-request"),
        pytest.param(UTILIZATION, 0.5, Facts(3, (0.0,), requests=(0.0,)), None, Signal.NAN, id="nothing-of-no-request"),
        pytest.param(VALUE, 2.0, Facts(4, (3.0,)), 6, Signal.OK, id="value-times-ready"),
        pytest.param(VALUE, 2.0, Facts(4, (3.0,), ready=2), 3, Signal.OK, id="value-by-ready-not-by-count"),
        pytest.param(VALUE, 2.0, Facts(4, (3.0,), ready=0), None, Signal.NOT_READY_YET, id="value-with-none-ready"),
        pytest.param(VALUE, 2.0, Facts(4, (3.0,), ready=nan), None, Signal.NOT_READY_YET, id="value-with-readiness-unknown"),
        pytest.param(VALUE, 2.0, Facts(0, (3.0,), ready=0), 2, Signal.OK, id="value-from-zero-is-the-ratio-rounded-up"),
        pytest.param(VALUE, 2.0, Facts(0, (3.0,), ready=5), 2, Signal.OK, id="value-from-zero-while-old-pods-are-ready"),
        pytest.param(VALUE, 2.0, Facts(0, (0.0,), ready=0), 0, Signal.OK, id="value-of-nothing-from-zero"),
        pytest.param(AVERAGE, 2.0, Facts(3, (nan,)), None, Signal.NAN, id="nan"),
        pytest.param(AVERAGE, 2.0, Facts(3, (inf,)), None, Signal.INFINITE, id="infinite"),
        pytest.param(AVERAGE, 2.0, Facts(3, (-inf,)), None, Signal.INFINITE, id="minus-infinite"),
        pytest.param(AVERAGE, 2.0, Facts(3, (-1.0,)), None, Signal.NEGATIVE, id="negative"),
        pytest.param(AVERAGE, 1e-9, Facts(3, (1e300,)), None, Signal.INFINITE, id="overflow"),
        pytest.param(AVERAGE, 1.0, Facts(3, (1e40,)), None, Signal.INFINITE, id="beyond-single-precision"),
        pytest.param(AVERAGE, 1.0, Facts(3, (1e9,)), 1e9, Signal.OK, id="just-inside-reason"),
        *(
            pytest.param(AVERAGE, 2.0, Facts(3, (4.0,), (signal,)), None, signal, id=f"says-{signal.name.lower()}")
            for signal in Signal
            if signal is not Signal.OK
        ),
    ],
)
def test_demand(kind: TargetKind, target: float, facts: Facts, demand: float | None, signal: Signal) -> None:
    rig = Rig(spec(series=(series(target=target, kind=kind),)))
    (name,) = rig.roster.members()
    (seen,) = rig.history.record(rig.roster.spec, observe(rig.roster, START_S, {name: facts})).series
    assert seen.demand is not None
    row = float(seen.demand[-1, 0])
    assert (None if np.isnan(row) else row, Signal(int(seen.signal[0]))) == (demand, signal)
    assert np.isnan(seen.demand[-1, 1:]).all(), "nobody uses the other columns"


def call_of(*kinds: TargetKind) -> tuple[Call, SeriesColumns]:
    roster = Roster(INTERVAL_S)
    roster.swap(join=[spec(series=tuple(series(f"m{number}", 2.0, kind) for number, kind in enumerate(kinds)))])
    (call,) = roster.spec.calls
    return call, blank_series(call.owner.size)


def test_kinds_side_by_side_do_not_mix() -> None:
    call, blank = call_of(AVERAGE, VALUE, UTILIZATION)
    some = replace(
        blank,
        load=np.where(call.owner >= 0, 6.0, nan),
        signal=np.zeros(8, np.int8),
        ready=np.full(8, 4.0),
        request=np.full(8, 0.5),
    )
    demand, signal = demand_of(call, judged(some), np.full(8, 4.0))
    assert demand[:3].tolist() == [3.0, 12.0, 6.0]
    assert signal[:3].tolist() == [Signal.OK] * 3


def test_judging_and_demand_leave_their_inputs_alone() -> None:
    call, blank = call_of(AVERAGE, VALUE)
    given = replace(blank, load=np.array([-1.0, inf] + [nan] * 6), signal=np.zeros(8, np.int8), ready=np.zeros(8))
    before = given.load.tobytes(), given.signal.tobytes()
    demand_of(call, judged(given), np.full(8, 4.0))
    assert (given.load.tobytes(), given.signal.tobytes()) == before
    assert given.load.flags.writeable, "it is the adapter's array"


def test_a_free_slot_has_no_demand_whatever_an_adapter_leaves_there() -> None:
    call, blank = call_of(AVERAGE)
    given = replace(blank, load=np.full(8, 6.0), signal=np.zeros(8, np.int8))
    demand, _ = demand_of(call, judged(given), np.full(8, 4.0))
    assert demand[0] == 3
    assert np.isnan(demand[1:]).all()


def test_history_takes_what_was_judged() -> None:
    rig = Rig(spec())
    (name,) = rig.roster.members()
    history = History(INTERVAL_S)
    (seen,) = history.record(rig.roster.spec, observe(rig.roster, START_S, {name: Facts(3, (-4.0,))})).series
    assert (np.isnan(seen.load[0]), seen.signal[0]) == (True, Signal.NEGATIVE)


@pytest.mark.parametrize(
    ("kind", "loads", "demand"),
    [
        pytest.param(TargetKind.AVERAGE_VALUE, [[6.0, 3.0], [0.0, 9.0]], [[2.0, 1.0], [0.0, 3.0]], id="load-over-target"),
        pytest.param(TargetKind.AVERAGE_VALUE, [[nan, inf], [-3.0, 1e30]], [[-1, -1], [-1, -1]], id="what-is-no-load"),
        pytest.param(TargetKind.VALUE, [[6.0, 3.0]], [[-1, -1]], id="pods-of-then-unknown"),
        pytest.param(TargetKind.UTILIZATION, [[6.0, 3.0]], [[-1, -1]], id="requests-of-then-unknown"),
    ],
)
def test_recorded_demand(kind: TargetKind, loads: list[list[float]], demand: list[list[float]]) -> None:
    rig = Rig(spec("web", series=(series("a", 3.0, kind), series("b", 3.0, kind))))
    (call,) = rig.roster.spec.calls
    slots = np.array([place.slot for place in rig.roster.series(workload("web")).values()])
    assert np.nan_to_num(recorded_demand(call, slots, np.array(loads)), nan=-1).tolist() == demand
