"""``forecast``: cold, warm and drowning; what it learns, what it does not; and that in the loop it keeps its risk for less than an HPA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from autoscaler.core.columns import array_fields, full, taken
from autoscaler.core.policy import Proposal, propose, traits_of
from autoscaler.core.types import Bools, Floats
from autoscaler.testing import PROPERTIES, check_policy, columns_of, view_of
from policies.forecast import Forecast, ForecastParams, _an_hour_ago
from policies.forecasting.replay import came_of, chosen, deviation, needed_of
from policies.forecasting.state import MULTIPLES, SETTINGS, Changes, ForecastState, aged, back, blank

HOUR = 240  # ticks of 15 s
START_S = 1_800_000_000.0


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_conforms(name: str) -> None:
    check_policy(Forecast, only=name)


class Played:
    """The policy over ``demand[tick]`` of one series, or ``[tick, n]`` of several with ``risk[n]``; replicas follow the proposals."""

    def __init__(
        self, demand: Floats, *, interval_s: float = 15.0, saturated: Bools | None = None, risk: Sequence[float] | None = None
    ) -> None:
        rows = demand.reshape(demand.shape[0], -1)
        n = rows.shape[1]
        policy, columns = Forecast(), columns_of([ForecastParams(risk=value) for value in risk or [0.002] * n])  # type: ignore[arg-type]
        window = max(1, round(policy.history_s(columns) / interval_s))
        past = np.concatenate([full((window, n), nan), rows])
        state, current = policy.init(columns, n), full(n, 10.0)
        self.proposals: list[Proposal] = []
        self.states: list[ForecastState] = []
        for tick in range(rows.shape[0]):
            view = view_of(
                past[tick + 1 : tick + 1 + window],
                current,
                at_s=START_S + tick * interval_s,
                interval_s=interval_s,
                startup_s=full(n, 45.0),
                saturated=np.zeros(n, np.bool_) if saturated is None else np.full(n, bool(saturated[tick])),
            )
            answer = propose(policy, view, columns, state)
            assert not answer.fault
            state = answer.state
            current = np.where(np.isnan(answer.proposal.replicas), current, answer.proposal.replicas)
            self.proposals.append(answer.proposal)
            self.states.append(state)

    @property
    def replicas(self) -> Floats:
        return np.array([proposal.replicas for proposal in self.proposals])

    def note(self, name: str) -> Floats:
        return np.array([proposal.notes[name] for proposal in self.proposals])


def noisy(level: NDArray[np.floating[Any]] | float, ticks: int, share: float = 0.02, seed: int = 0) -> Floats:
    """A minute's mean of noise, as a metric shows it."""
    noise = np.random.default_rng(seed).normal(0.0, share, ticks + 3)
    return np.asarray(level * (1 + np.convolve(noise, full(4, 0.25), "valid")))


@pytest.mark.parametrize(
    ("demand", "replicas"),
    [
        pytest.param([8.0], [10], id="an-eighth-spare"),
        pytest.param([8.0, 16.0], [10, 20], id="up-at-once"),
        pytest.param([16.0] + [8.0] * 21, [20] * 20 + [10, 10], id="down-after-300-s"),
        pytest.param([16.0] + [8.0] * 10 + [12.0] + [8.0] * 10, [20] * 20 + [15, 15], id="down-to-what-was-needed-meanwhile"),
        pytest.param([16.0] + [8.0] * 10 + [nan] + [8.0] * 21, [20] * 11 + [nan] + [20] * 19 + [10] * 2, id="a-gap-begins-the-wait-anew"),
        pytest.param([0.0] * 25, [10] * 19 + [1] * 6, id="one-is-the-least"),
    ],
)
def test_cold_it_is_an_hpa_with_a_margin(demand: list[float], replicas: list[float]) -> None:
    played = Played(np.array(demand))
    np.testing.assert_array_equal(played.replicas[:, 0], replicas)
    assert (played.note("cold") == 1).all()


RISE = 20.0 / 80
SAW = 10.0 + RISE * (np.arange(6 * HOUR) % 80)


@pytest.fixture(scope="module")
def warm() -> Played:
    """Six hours of: hardly any noise, a saw of 20 minutes from 10 to 30, and much noise at a small and at a large risk."""
    columns = [noisy(9.4, 6 * HOUR, share=0.01), noisy(SAW, 6 * HOUR, share=0.005), *[noisy(10.0, 6 * HOUR, share=0.3)] * 2]
    return Played(np.stack(columns, axis=1), risk=[0.002, 0.002, 0.0005, 0.02])


def test_it_is_cold_until_two_hours_of_forecasts_have_outcomes(warm: Played) -> None:
    cold = warm.note("cold")
    assert cold[: 2 * HOUR].all()
    assert not cold[2 * HOUR + 30 :].any()


def test_on_steady_load_it_finds_how_little_is_enough(warm: Played) -> None:
    """9.4 replicas of demand with half a per cent of noise: cold 12, 10 once it knows; an HPA at 0.6 of the capacity would take 14."""
    assert warm.replicas[HOUR, 0] == 12
    assert warm.replicas[-1, 0] == 10
    assert warm.note("replay_late_share")[-1, 0] <= 0.002001
    assert warm.note("replay_cost")[-1, 0] == pytest.approx(10 / 9.4, abs=0.02)


def test_it_learns_to_be_ahead_of_ramps(warm: Played) -> None:
    """In the middle of the saw it expects what demand will be some 4 beats later, as most of the lead of 6 is."""
    middle = np.arange(4 * HOUR + 40, 6 * HOUR, 80)
    expected = np.array([proposal.expected for proposal in warm.proposals])[:, 1]
    ahead = expected[middle] - SAW[middle]
    assert (ahead > 2 * RISE).all()
    assert (ahead < 6 * RISE).all()


def test_a_larger_risk_costs_less(warm: Played) -> None:
    mean = warm.replicas[-HOUR:].mean(axis=0)
    assert mean[3] < 0.95 * mean[2]


def test_accuracy_is_told(warm: Played) -> None:
    assert np.abs(warm.note("accuracy_bias")[-1]).max() < 0.05
    assert (warm.note("accuracy_hit_rate")[-1] > 0.9).all()


@pytest.mark.parametrize(
    ("before", "replicas"),
    [
        pytest.param(10.0, 2 * 13, id="nothing-higher-was-seen-so-twice-what-is-ready"),
        pytest.param(40.0, 48, id="a-fifth-above-the-highest-of-the-week"),
    ],
)
def test_saturated_it_asks_for_what_the_week_has_seen(before: float, replicas: float) -> None:
    demand = np.concatenate([full(5, before), full(60, 10.0), full(1, 11.7)])
    saturated = np.arange(demand.size) == demand.size - 1
    assert Played(demand, saturated=saturated).replicas[-1, 0] == replicas


def test_saturation_ends_with_the_flag() -> None:
    demand = full(100, 10.0)
    saturated = (np.arange(100) >= 50) & (np.arange(100) < 60)
    replicas = Played(demand, saturated=saturated).replicas[:, 0]
    np.testing.assert_array_equal(replicas[[49, 50, 55]], [13, 26, 26])
    np.testing.assert_array_equal(replicas[60:], full(40, 13.0))


def test_nothing_is_learnt_while_saturated() -> None:
    demand = noisy(10.0, HOUR)
    saturated = np.arange(demand.size) >= 180
    states = Played(demand, saturated=saturated).states
    for name in ("weights", "error_slow", "scored_s"):
        np.testing.assert_array_equal(getattr(states[-1], name), getattr(states[180], name))


@pytest.mark.parametrize("interval_s", [10.0, 60.0])
def test_any_interval(interval_s: float) -> None:
    ticks = round(4 * 3600 / interval_s)
    wave = 10 + 3 * np.sin(2 * np.pi * np.arange(ticks) * interval_s / 3600)
    demand = wave * np.random.default_rng(0).normal(1, 0.01, ticks)
    played = Played(demand, interval_s=interval_s)
    late = round(3600 / interval_s)
    spare = played.replicas[-late:, 0] / demand[-late:]
    assert not played.note("cold")[-1, 0]
    assert 1.0 < spare.mean() < 1.35


def test_ticks_that_were_skipped_are_no_forecasts() -> None:
    """Half an hour of nothing, and not even ticks: old forecasts meet no outcome of another time."""
    demand = noisy(10.0, HOUR)
    played = Played(demand)
    state, columns, policy = played.states[-1], columns_of([ForecastParams()]), Forecast()
    rows = np.concatenate([demand[-120:-1], demand[-1:]])[:, None]
    rows[:-1] = nan
    view = view_of(rows, [10.0], at_s=START_S + (demand.size + 120) * 15.0)
    later, proposal = policy(view, columns, state)
    assert np.isfinite(proposal.replicas).all()
    assert np.isnan(later.forecasts[:-1]).all()
    np.testing.assert_array_equal(later.scored_s, state.scored_s)


def test_the_checkpoint_is_small_and_enough_to_go_on(warm: Played) -> None:
    state = taken(warm.states[-1], np.array([0]))
    saved = {name: array_fields(state)[name] for name in traits_of(Forecast()).checkpoint}
    assert sum(column.nbytes for column in saved.values()) <= 760  # tests/loops/test_shards.py: what 10 000 workloads have room for
    policy, columns = Forecast(), columns_of([ForecastParams()])
    restored = replace(policy.init(columns, 1), **saved)
    view = view_of(full((120, 1), 9.4), [14.0], at_s=START_S + 5 * HOUR * 15.0, startup_s=[45.0])
    state, proposal = policy(view, columns, restored)
    assert proposal.notes["cold"][0] == 0
    assert proposal.replicas[0] == state.asked[0]
    assert proposal.replicas[0] == 10


@pytest.mark.parametrize(
    ("forecast", "spread", "multiple", "needed"),
    [
        pytest.param(10.0, 0.0, 0.0, 9.5, id="to-the-nearest"),
        pytest.param(10.0, 0.0, 9.0, 10.0, id="certain-to-the-next-whole-one"),
        pytest.param(10.0, 10.0, 2.0, 29.5, id="uncertain-a-multiple-of-the-spread"),
        pytest.param(10.0, 2.0, -0.5, 8.49, id="below-the-forecast"),
    ],
)
def test_headroom_joins_its_two_limits(forecast: float, spread: float, multiple: float, needed: float) -> None:
    got = needed_of(np.array([forecast]), np.array([spread]), np.array([multiple]))
    assert got[0] == pytest.approx(needed, abs=0.01)


@given(hnp.arrays(np.float64, 3, elements=st.floats(0.01, 1e4)))
def test_more_of_anything_never_needs_fewer(values: Floats) -> None:
    forecast, spread, multiple = (np.array([value]) for value in values)
    needed = needed_of(forecast, spread, multiple)
    for more in ((forecast * 2, spread, multiple), (forecast, spread * 2, multiple), (forecast, spread, multiple * 2)):
        assert needed_of(*more) >= needed - 1e-9


@pytest.mark.parametrize(
    ("load", "metric", "low", "high"),
    [
        pytest.param(0.1, 0.0, 0.085, 0.115, id="noise-of-the-load"),
        pytest.param(0.0, 0.05, 0.0, 0.03, id="noise-of-the-metric"),
        pytest.param(0.1, 0.02, 0.06, 0.115, id="of-both"),
    ],
)
def test_noise_of_the_load_is_told_from_that_of_the_metric(load: float, metric: float, low: float, high: float) -> None:
    ticks = 2 * HOUR
    demand = noisy(10.0, ticks, share=load) * np.random.default_rng(1).normal(1, metric, ticks)
    assert low <= deviation(Played(demand).states[-1])[0] <= high


def outcome(late: dict[tuple[int, int], float], cost: dict[tuple[int, int], float]) -> ForecastState:
    """One series whose candidates [setting, multiple] all were 10 % late at cost 9, but for these; a week of demand 1."""
    volume = 40320.0
    tables = {
        name: np.full((len(SETTINGS), MULTIPLES.size, 1), value * volume, np.float32) for name, value in (("late", 0.1), ("cost", 9.0))
    }
    for name, entries in (("late", late), ("cost", cost)):
        for place, value in entries.items():
            tables[name][place] = value * volume
    columns: Changes = {**tables, "replayed": full(1, volume)}
    return replace(blank(1), **columns)


@pytest.mark.parametrize(
    ("late", "cost", "setting", "multiple"),
    [
        pytest.param({(1, 3): 0.001, (2, 3): 0.001}, {(1, 3): 1.5, (2, 3): 1.2}, 2, 3, id="the-cheapest-that-kept-the-risk"),
        pytest.param({(1, 3): 0.001, (2, 3): 0.02}, {(1, 3): 1.5, (2, 3): 1.2}, 1, 3, id="not-a-cheaper-one-that-did-not"),
        pytest.param({(1, 7): 0.05, (2, 0): 0.1}, {(1, 7): 2.0, (2, 0): 1.2}, 1, 7, id="none-kept-it-lateness-is-dear"),
        pytest.param({(1, 7): 0.05, (2, 0): 0.06}, {(1, 7): 2.0, (2, 0): 1.2}, 2, 0, id="none-kept-it-but-cost-counts-too"),
        pytest.param({(1, 7): 0.0019, (2, 0): 0.01}, {(1, 7): 3.0, (2, 0): 1.2}, 1, 7, id="kept-it-though-not-the-aim"),
        pytest.param({(1, 7): 0.0001, (2, 0): 0.0019}, {(1, 7): 3.0, (2, 0): 1.2}, 2, 0, id="the-aim-alone-is-not-worth-everything"),
    ],
)
def test_which_candidate_is_chosen(
    late: dict[tuple[int, int], float], cost: dict[tuple[int, int], float], setting: int, multiple: int
) -> None:
    answer = chosen(outcome(late, cost), full(1, 0.002), 15.0)
    assert answer["setting"][0] == setting
    assert answer["multiple"][0] == pytest.approx(MULTIPLES[multiple], rel=0.2)


def test_between_two_multiples_the_risk_is_met() -> None:
    """Lateness falls a hundredfold from one multiple to the next: four fifths of the risk, in the middle of the two, are met there."""
    late = {(0, 3): 0.016, (0, 4): 0.00016, (0, 5): 0.0, (0, 6): 0.0, (0, 7): 0.0}
    cost = {(0, 3): 1.2, (0, 4): 1.6, (0, 5): 3.0, (0, 6): 3.0, (0, 7): 3.0}
    answer = chosen(outcome(late, cost), full(1, 0.002), 15.0)
    assert answer["multiple"][0] == pytest.approx((MULTIPLES[3] + MULTIPLES[4]) / 2, rel=0.01)
    assert answer["chosen_late"][0] == pytest.approx(0.0016)
    assert answer["chosen_cost"][0] == pytest.approx(1.4, rel=0.01)


def test_between_two_multiples_nothing_is_told_of_a_cliff() -> None:
    """Twice as much headroom changed nothing, the next multiple everything: a load at one level, just above a whole replica."""
    late = {(0, 2): 0.05, (0, 3): 0.05} | dict.fromkeys([(0, place) for place in range(4, 8)], 0.0)
    cost = {(0, 3): 1.0} | dict.fromkeys([(0, place) for place in range(4, 8)], 1.1)
    answer = chosen(outcome(late, cost), full(1, 0.002), 15.0)
    assert (answer["multiple"][0], answer["chosen_late"][0]) == (pytest.approx(MULTIPLES[4]), pytest.approx(0.0, abs=1e-4))


def test_it_is_there_before_load_that_comes_by_the_clock() -> None:
    """Five minutes three times as much at each full hour, as cron jobs bring: a slope shows it too late, the hour before in time."""
    level = np.where(np.arange(13 * HOUR) % HOUR < 20, 30.0, 10.0)
    demand = noisy(np.convolve(np.r_[[10.0] * 3, level], full(4, 0.25), "valid"), 13 * HOUR, share=0.01)
    played = Played(demand)
    lead = round(played.note("lead_s")[-1, 0] / 15)
    late = np.maximum(demand[lead:] - played.replicas[:-lead, 0], 0.0)
    first, last = slice(0, 2 * HOUR), slice(-3 * HOUR, None)
    assert late[first].sum() / demand[lead:][first].sum() > 0.02
    assert late[last].sum() / demand[last].sum() < 0.004
    assert played.note("by_clock")[-1, 0] == 1
    assert played.replicas[last].mean() / demand[last].mean() < 1.4


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(0, 30))
def test_a_ring_keeps_its_age(beats: int, age: int) -> None:
    ring = np.arange(40, dtype=np.float32)[:, None]
    later = aged(ring, beats)
    later[-1] = inf
    newest_first = later[::-1]
    wanted = inf if age == 0 else (39 - age + beats if beats <= age else nan)
    np.testing.assert_array_equal(back(newest_first, np.array([age]), age)[0], wanted)
    np.testing.assert_array_equal(back(newest_first, np.array([age]), None)[0], wanted)
    np.testing.assert_array_equal(back(newest_first, np.array([max(0, age - 1)]), None, 1 if age else 0)[0], wanted)


@pytest.mark.parametrize(("noise", "left"), [(0.0, (0.99, 1.01)), (0.02, (0.0, 0.75)), (0.05, (0.0, 0.7))])
def test_what_came_is_less_noisy_than_the_metric_and_as_lively_as_the_load(noise: float, left: tuple[float, float]) -> None:
    """Over an hour of white load, in means of a minute: how far what came is from the truth, over how far the mean of two beats is."""
    draw = np.random.default_rng(7)
    load = np.convolve(draw.normal(20.0, 0.2, 1203), np.ones(4) / 4, mode="valid")
    seen = load * draw.normal(1.0, noise, load.size) if noise else load
    states = Played(seen).states
    truth, plain, came = ([], [], [])  # type: tuple[list[float], list[float], list[float]]
    for tick in range(600, load.size - 1):
        beats = seen[tick - 12 : tick + 1][::-1, None]
        truth.append((load[tick] + load[tick - 1]) / 2)
        plain.append(float(beats[:2].mean()))
        came.append(float(came_of(states[tick], beats)[0]))
    if noise:
        far, before = (np.std(np.subtract(each, truth)) for each in (came, plain))
        assert left[0] <= far / before <= left[1]
    else:
        assert left[0] <= np.std(came) / np.std(truth) <= left[1]


@pytest.mark.parametrize("interval_s", [5.0, 15.0, 60.0, 300.0])
def test_what_came_an_hour_ago_is_the_same_for_equal_and_for_other_leads(interval_s: float) -> None:
    """Leads of their own take another way to the same figures."""
    beat_s = max(15.0, interval_s)
    beats = np.random.default_rng(3).random((330, 4)).astype(np.float32)
    leads = np.array([1, 3, 6, 38])
    mixed = [_an_hour_ago(beats, leads, beat_s, ago) for ago in (0, leads + 1)]
    for column, lead in enumerate(leads):
        alone = np.full(4, lead)
        each = [_an_hour_ago(beats, alone, beat_s, ago) for ago in (0, alone + 1)]
        np.testing.assert_array_equal([one[column] for one in mixed], [one[column] for one in each])


def test_what_came_an_hour_ago_is_not_known_within_the_first_hour() -> None:
    beats = np.ones((200, 2), np.float32)
    for leads in (np.array([6, 6]), np.array([6, 7])):
        assert np.isnan(_an_hour_ago(beats, leads, 15.0)).all()
