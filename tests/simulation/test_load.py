"""Recorded loads are read strictly, cut into steps exactly, and drawn and disturbed by seed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.plant import Plant
from autoscaler.errors import ConfigError
from autoscaler.simulation.load import (
    Disturbance,
    Trace,
    crowd,
    cut,
    daily,
    disturbed,
    drawn,
    ramp,
    rates,
    read_csv,
    scaled,
    shift,
    steady,
    trace_of,
)

TRACES = Path(__file__).parents[2] / "benchmarks" / "traces"


def written(folder: Path, text: str) -> Path:
    path = folder / "web.csv"
    path.write_text(text)
    return path


def trace(*values: float, step_s: float = 60.0) -> Trace:
    return trace_of("made", np.arange(len(values), dtype=np.float64) * step_s, np.array(values))


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        pytest.param("", [r":1: expected the header timestamp_s,rate, found 'an empty file'"], id="empty"),
        pytest.param("0,1\n60,2\n", [r":1: expected the header timestamp_s,rate, found '0,1'"], id="no-header"),
        pytest.param("timestamp_s,rate\n0,5\n", [r"at least two rows with a rate, found 1"], id="one-row"),
        pytest.param("timestamp_s,rate\n0,\n60,nan\n", [r"at least two rows with a rate, found 0"], id="only-gaps"),
        pytest.param("timestamp_s,rate\n0,0\n60,0\n", [r"every rate is 0"], id="all-zero"),
        pytest.param("timestamp_s,rate\n0,1\n0,2\n", [r":3: timestamp_s: 0 is there twice; expected more than 0"], id="duplicate"),
        pytest.param("timestamp_s,rate\n60,1\n0,2\n", [r":3: timestamp_s: 0 is there out of order; expected more than 60"], id="unordered"),
        pytest.param("timestamp_s,rate\n0,-1\n60,2\n", [r":2: rate: expected 0 to 1e\+12 per second, found -1"], id="negative"),
        pytest.param("timestamp_s,rate\n0,1e15\n60,inf\n", [r":2: rate: .* found 1e15", r":3: rate: .* found inf"], id="absurd"),
        pytest.param("timestamp_s,rate\n0,many\n60,2\n", [r":2: rate: expected a number per second, .* found 'many'"], id="text"),
        pytest.param("timestamp_s,rate\n2020-01-01,1\n", [r":2: timestamp_s: expected seconds .* '2020-01-01'"], id="date"),
        pytest.param("timestamp_s,rate\n,1\n60,2\n", [r":2: timestamp_s: expected seconds as a number, found ''"], id="no-stamp"),
        pytest.param("timestamp_s,rate\n0,1,2\n60\n", [r":2: expected 2 columns, found 3", r":3: .* found 1"], id="columns"),
        pytest.param("timestamp_s,rate\n1600000000000,1\n1601000000000,2\n", [r"are these milliseconds\?"], id="milliseconds"),
        pytest.param("timestamp_s,rate\n" + "0,x\n" * 14, [r":11: rate", r"and 4 more"], id="many-mistakes"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, complaints: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_csv(written(tmp_path, text))
    for complaint in complaints:
        caught.match(complaint)
    caught.match("web.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.csv: cannot be read as a CSV file: .*No such file"):
        read_csv(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        pytest.param("timestamp_s,rate\n0,1\n60,2\n120,3\n", (), id="nothing"),
        pytest.param("timestamp_s,rate\r\n0,1\r\n60,2\r\n\r\n120,3", (), id="blank-line"),
        pytest.param(
            "timestamp_s,rate\n0,1\n60,2\n120,\n180,NaN\n240,3\n300,2\n",
            (
                "2 rows have no rate and are left out",
                "1 gaps, the longest 2 min at 1 min after the start: filled by straight lines (or held)",
            ),
            id="gap",
        ),
        pytest.param("timestamp_s,rate\n0,4\n60,4\n", ("the rate never changes: 4 per second",), id="constant"),
    ],
)
def test_what_was_assumed_is_said(tmp_path: Path, text: str, notes: tuple[str, ...]) -> None:
    assert read_csv(written(tmp_path, text)).notes == notes


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.csv")), ids=lambda path: path.stem)
def test_carried_traces_can_be_read(path: Path) -> None:
    found = read_csv(path)
    assert found.notes == ()
    scale, factor = scaled(found, Plant(), 20)
    assert np.median(scale.rate) == pytest.approx(20 * 85)
    assert scale.rate == pytest.approx(found.rate * factor)
    assert rates(found, 15.0).mean() == pytest.approx(found.rate.mean(), rel=0.01)


def test_a_trace_that_is_mostly_silent_cannot_be_scaled_by_its_median() -> None:
    with pytest.raises(ConfigError, match="the median rate is 0"):
        scaled(trace(0, 0, 0, 5), Plant(), 20)


def test_straight_lines_join_the_rows_centres() -> None:
    """Rows of 60 s at 10 and 20: 10 until 30 s, 20 from 90 s, and the mean of each step in between."""
    assert rates(trace(10, 20), 15.0) == pytest.approx([10, 10, 11.25, 13.75, 16.25, 18.75, 20, 20])


def test_held_rates_are_steps() -> None:
    assert rates(trace(10, 20), 30.0, hold=True).tolist() == [10, 10, 20, 20]
    assert rates(trace(10, 20), 40.0, hold=True).tolist() == [10, 15, 20]


def test_a_gap_is_crossed_straight() -> None:
    holed = trace_of("holed", np.array([0.0, 60.0, 360.0, 420.0]), np.array([10.0, 10.0, 40.0, 40.0]))
    found = rates(holed, 60.0)
    assert found[:1] == pytest.approx([10])
    assert found[-1:] == pytest.approx([40])
    assert np.all(np.diff(found) >= 0)


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=20).filter(any), st.integers(1, 6), st.booleans())
def test_a_finer_step_means_the_same_load(values: list[float], parts: int, hold: bool) -> None:  # noqa: FBT001 - drawn
    """Steps are exact means: those of a finer grid have the coarser ones as their means."""
    coarse, fine = rates(trace(*values), 30.0, hold=hold), rates(trace(*values), 30.0 / parts, hold=hold)
    assert fine.reshape(-1, parts).mean(axis=1) == pytest.approx(coarse, abs=1e-6)
    assert coarse.min() >= min(values) - 1e-6
    assert coarse.max() <= max(values) + 1e-6


def test_cut_keeps_the_rows_of_a_stretch() -> None:
    part = cut(trace(1, 2, 3, 4), 60.0, 180.0)
    assert (part.rate.tolist(), part.start_s.tolist(), part.span_s) == ([2, 3], [60, 120], 120)


def test_arrivals_are_whole_and_seeded() -> None:
    rate = np.full(4000, 20.0)
    first, again, other = drawn(rate, 15.0, 1), drawn(rate, 15.0, 1), drawn(rate, 15.0, 2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, np.round(first))
    assert first.mean() == pytest.approx(300, rel=0.01)
    assert first.var() == pytest.approx(300, rel=0.1)


def test_disturbance_is_seeded_and_as_large_as_said() -> None:
    factor = disturbed(Disturbance(noise=0.05, dropout=0.1, dropout_s=60.0), 20_000, 15.0, 1)
    assert np.array_equal(factor, disturbed(Disturbance(noise=0.05, dropout=0.1, dropout_s=60.0), 20_000, 15.0, 1), equal_nan=True)
    silent = np.isnan(factor)
    assert np.nanmean(factor) == pytest.approx(1.0, abs=0.005)
    assert np.nanstd(factor) == pytest.approx(0.05, rel=0.05)
    assert silent.mean() == pytest.approx(0.1, rel=0.15)
    stretches = (np.diff(silent.astype(int)) == 1).sum()
    assert silent.sum() / stretches * 15.0 == pytest.approx(60.0, rel=0.15)


def test_no_disturbance_is_none() -> None:
    assert disturbed(Disturbance(), 10, 15.0, 1).tolist() == [1.0] * 10
    assert np.isnan(disturbed(Disturbance(dropout=1.0), 10, 15.0, 1)).all()


@pytest.mark.parametrize(
    ("made", "first", "middle", "last"),
    [
        pytest.param(steady(5, 86400), 5, 5, 5, id="steady"),
        pytest.param(daily(2, 10, 86400), 2, 10, 2, id="daily"),
        pytest.param(ramp(2, 10, 86400), 2, 6, 10, id="ramp"),
        pytest.param(shift(2, 10, 86400), 2, 10, 10, id="shift"),
        pytest.param(crowd(2, 10, 86400), 2, 10, 2, id="crowd"),
    ],
)
def test_made_up_loads(made: Trace, first: float, middle: float, last: float) -> None:
    assert made.span_s == 86400
    assert [made.rate[0], made.rate[720], made.rate[-1]] == pytest.approx([first, middle, last], rel=0.01)
