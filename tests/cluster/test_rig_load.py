"""The exporter's loads: what a replay of a recorded trace offers at each moment, without waiting for it."""

import numpy as np
import pytest

from tests.cluster.rig import TRACES, Replay, RigError, Steady, read_trace

ROWS = {
    "azure_llm_conv_10s": (10, 350),
    "elb_requests_5min": (300, 4040),
    "ms_ingress3_1min": (60, 15840),
    "ms_mongo_app2_1min": (60, 15840),
    "ms_mongo_app3_1min": (60, 15840),
    "ms_purchases_small_1h": (3600, 1248),
    "nyc_taxi_30min": (1800, 10320),
    "tweets_aapl_5min": (300, 15902),
    "wikipedia_day_24s": (24, 3600),
}


def test_all_traces_are_known() -> None:
    assert sorted(ROWS) == sorted(path.stem for path in TRACES.glob("*.csv"))


@pytest.mark.parametrize("name", ROWS)
def test_trace_is_whole(name: str) -> None:
    step_s, rates = read_trace(name)
    assert (step_s, len(rates)) == ROWS[name]
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("speed", [1, 60, 3600])
def test_replay_offers_the_traces_rates_in_less_time(name: str, speed: float) -> None:
    step_s, rates = read_trace(name)
    replay = Replay(step_s, rates, speed=speed, scale=2.0)
    assert replay.duration_s == pytest.approx(step_s * len(rates) / speed)
    row = len(rates) // 2
    assert replay.rate((row + 0.5) * step_s / speed) == pytest.approx(2 * rates[row])
    # Linear between the rows' centres keeps every row's mean but at the bends, so the whole to a per mille.
    assert replay.total(replay.duration_s) == pytest.approx(2 * rates.mean() * replay.duration_s, rel=1e-3)


def test_total_is_the_integral_of_the_rate() -> None:
    replay = Replay(10.0, np.array([1.0, 5.0, 0.0, 3.0]), speed=4.0, scale=3.0, start_s=7.0)
    at_s = np.linspace(0, 1.5 * replay.duration_s, 3001)
    rates = np.array([replay.rate(moment) for moment in at_s])
    steps = np.diff(at_s) * (rates[1:] + rates[:-1]) / 2
    totals = [replay.total(moment) for moment in at_s]
    assert totals == pytest.approx(np.concatenate(([0.0], np.cumsum(steps))), abs=1e-4)


def test_load_goes_on_after_the_record() -> None:
    replay = Replay(10.0, np.array([1.0, 4.0]), speed=10.0)
    assert replay.rate(100.0) == 4.0
    assert replay.total(12.0) - replay.total(2.0) == pytest.approx(40.0)


def test_steady() -> None:
    assert (Steady(5.0).rate(3.0), Steady(5.0).total(3.0)) == (5.0, 15.0)


def test_replay_refuses_nonsense() -> None:
    with pytest.raises(RigError, match=r"start_s 20.0 in \[0, 20.0\)"):
        Replay(10.0, np.array([1.0, 4.0]), speed=1.0, start_s=20.0)


def test_unknown_trace_names_the_known() -> None:
    with pytest.raises(RigError, match=r"no trace 'nyc'.*nyc_taxi_30min"):
        read_trace("nyc")
