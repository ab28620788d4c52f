"""The decide benchmark measures what it says, on a small fleet."""

import json

import numpy as np
import pytest

from autoscaler.core.types import MetricType
from benchmarks.decide import Fleet, Load, main, measure, tick

SMALL = Load(60, ("threshold", "movingAverage"), 0.1, 3, 1)


def test_it_measures_every_stage_of_a_fleet_that_moves() -> None:
    result = measure(SMALL, ticks=30, warm_up=10)
    assert list(result["stages"]) == ["swap", "record", "decide", "tick"]
    for stage in result["stages"].values():
        assert 0 < stage["median_ms"] <= stage["p99_ms"] <= stage["max_ms"]
        assert stage["median_cpu_ms"] > 0
        assert stage["peak_mib"] > 0
    assert 0 < result["writes_per_tick"] < 60
    assert 0 < result["workloads_with_missing_signals"] < 30
    assert result["resident_mib"] >= result["resident_mib_before"] > 0
    assert set(result["origin"]) == {"cpu", "cores", "system", "python", "numpy", "commit", "date"}


def test_as_many_workloads_join_as_leave() -> None:
    fleet = Fleet(SMALL)
    before = set(fleet.roster.members())
    for _ in range(5):
        tick(fleet)
    after = set(fleet.roster.members())
    assert len(after) == 60
    assert 5 < len(after - before) <= 15, "some of those who joined have left again"


def test_half_of_the_fleet_has_each_policy_and_every_guard_has_work() -> None:
    fleet = Fleet(SMALL)
    policies = [spec.policy.name for spec in fleet.roster.members().values()]
    assert {name: policies.count(name) for name in policies} == {"threshold": 30, "movingAverage": 30}
    worked = set[str]()
    for _ in range(400):
        _, decision = tick(fleet)
        worked |= {stage.name for stage in decision.stages if stage.reason.any()}
    assert worked == {"noData", "activation", "tolerance", "stabilisation", "rate", "schedule", "bounds", "mode"}


def test_hpa_has_ten_pods_of_each_workload_and_goes_by_them() -> None:
    fleet = Fleet(Load(40, ("hpa",), 0.05, 0, 1))
    decision = [tick(fleet)[1] for _ in range(20)][-1]
    (call,) = fleet.roster.spec.calls
    (series,) = fleet.observe().series
    assert series.pods is not None
    of_pods = np.diff(series.pods.offsets)
    assert of_pods.tolist() == np.where(call.metric_type == MetricType.CPU, 10, 0).tolist()
    assert int(of_pods.sum()) == 400
    noted = decision.proposals[0].notes
    counted = noted["counted"][(call.metric_type == MetricType.CPU) & ~np.isnan(noted["counted"])]
    assert counted.size > 30
    assert 5 < counted.mean() < 10, "some have no sample, and some are starting"


@pytest.mark.parametrize("output", ["table", "json"])
def test_it_prints_a_table_or_json(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--workloads", "20", "--swapped", "1", "--ticks", "3", "--warm-up", "1", "--each", "hpa", "-o", output])
    printed = capsys.readouterr().out
    if output == "json":
        found = json.loads(printed)
        assert found["load"]["workloads"] == 20
        assert found["each"]["hpa"]["load"]["policies"] == ["hpa"]
        assert found["each"]["hpa"]["stages"]["decide"]["median_ms"] > 0
    else:
        assert "20 workloads (threshold, movingAverage), 2 metrics each; 3 ticks" in printed
        *_, last = printed.splitlines()
        assert last.split()[0] == "hpa"
