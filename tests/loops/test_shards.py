"""The form of saved state: there and back, its size for 10 000 workloads, and what happens when there is no room."""

from dataclasses import dataclass, replace
from math import nan
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.behavior import HPA_BEHAVIOR
from autoscaler.core.checkpoint import Memory, memories, policy_fields
from autoscaler.core.columns import frozen, full
from autoscaler.core.decide import State, decide
from autoscaler.core.history import History
from autoscaler.core.observation import known
from autoscaler.core.policy import Proposal, Traits, View
from autoscaler.core.roster import Roster
from autoscaler.core.spec import SeriesSpec
from autoscaler.core.types import Floats
from autoscaler.loops.shards import GUARD_SHARDS, POLICY_SHARDS, SHARD_MAX, Kept, digest, guard_row, policy_row, read_shards, sharded
from autoscaler.loops.write import Outcome, Standing, Written
from tests.core import build
from tests.core.snapshot import snapshot

AT_S = 1_800_000_000.0
UID = "6f0c8b6e-2c1b-4a53-9d3f-{:012d}"
WORKLOADS = 10_000

counts = st.one_of(st.just(nan), st.integers(0, 5000).map(float))
ages = st.integers(0, 400_000).map(lambda quarters: quarters / 4)
points = st.lists(st.tuples(ages.map(lambda age: AT_S - age), st.integers(0, 5000).map(float)), max_size=12).map(tuple)
standings = st.builds(
    Standing,
    last=st.one_of(st.none(), st.builds(Written, ages.map(lambda age: AT_S - age), counts, st.integers(0, 99).map(float))),
    outcome=st.just(Outcome.TAKEN),
    reverts_s=st.lists(ages.map(lambda age: AT_S - age), max_size=3).map(tuple),
    stop_until_s=st.one_of(st.just(nan), st.just(AT_S + 3600.0)),
    stopped_by=st.sampled_from(
        ["", "argocd-controller (Apply, 2026-11-24T08:00:00Z)", 'quo"ted'],
    ),
)
remembered = st.builds(
    Memory,
    at_s=st.just(AT_S),
    count=counts,
    since_s=st.one_of(st.just(nan), ages.map(lambda age: AT_S - age)),
    seed=counts,
    shadow=counts,
    failures=st.integers(0, 9).map(float),
    zero_ours=st.booleans(),
    zero_seen=st.booleans(),
    recommendations=points,
    changes=points,
    events=st.tuples(points, points),
    raised_s=ages.map(lambda age: AT_S - age),
    raised_to=st.integers(0, 99).map(float),
)


@given(kept=st.builds(Kept, remembered, standings))
@settings(max_examples=100)
def test_what_is_written_is_read(kept: Kept) -> None:
    documents, left_out = sharded({"uid": guard_row(kept)}, GUARD_SHARDS)
    found, problems = read_shards(documents)
    assert (left_out, problems) == ([], {})
    assert repr(found["uid"]) == repr(kept), "NaN is equal to nothing, but reads the same"


@pytest.mark.parametrize("outcome", Outcome)
def test_a_write_keeps_its_outcome(outcome: Outcome) -> None:
    kept = Kept(Memory(AT_S), Standing(Written(AT_S, 2.0, 5.0), outcome))
    assert read_shards({0: sharded({"uid": guard_row(kept)}, GUARD_SHARDS)[0][0]})[0]["uid"].standing.outcome is outcome


def test_fields_of_policies_keep_type_and_shape() -> None:
    series = {
        "0123456789ab": {"peak": np.array(nan), "count": np.array(7, np.int32), "errors": np.arange(6, dtype=np.float32).reshape(2, 3)}
    }
    kept = Kept(Memory(AT_S), series=series)
    guards, _ = sharded({"uid": guard_row(kept)}, GUARD_SHARDS)
    policies, _ = sharded({"uid": policy_row(kept)}, POLICY_SHARDS)
    found, problems = read_shards(guards | policies)
    assert problems == {}
    assert snapshot(found["uid"].series) == snapshot(series)


def test_the_newer_of_two_rows_counts() -> None:
    """The number of shards has grown, and the process was killed before all of them were written."""
    old, _ = sharded({"uid": guard_row(Kept(Memory(AT_S - 60.0, seed=1.0)))}, GUARD_SHARDS)
    new = {5: sharded({"uid": guard_row(Kept(Memory(AT_S, seed=2.0)))}, GUARD_SHARDS)[0][0]}
    for shards in (old | new, dict(reversed((old | new).items()))):
        assert read_shards(shards)[0]["uid"].memory.seed == 2.0


def test_one_damaged_shard_costs_only_its_own_workloads() -> None:
    rows = {UID.format(number): guard_row(Kept(Memory(AT_S))) for number in range(100)}
    documents, _ = sharded(rows, GUARD_SHARDS, least=4)
    lost = documents[2].count(b'"at"')
    found, problems = read_shards(documents | {2: b"{"})
    assert 0 < lost < 100
    assert (len(found), list(problems)) == (100 - lost, [2])


def test_shards_of_other_programs_are_left_alone() -> None:
    assert read_shards({77: b"what is this"}) == ({}, {})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(build.series(), build.series(), True, id="itself"),
        pytest.param(build.series(), build.series(target=2.0), False, id="another-target"),
        pytest.param(build.series(), build.series("lag"), False, id="another-query"),
    ],
)
def test_a_digest_tells_series_apart(one: SeriesSpec, other: SeriesSpec, *, same: bool) -> None:
    assert (digest("hpa", one) == digest("hpa", other)) is same
    assert digest("hpa", one) != digest("threshold", one)


@dataclass(frozen=True)
class ManySingles:
    errors: Floats


class Hungry(build.Proportional):
    """A policy that keeps as much as it may: 190 single-precision numbers a series."""

    traits = Traits(checkpoint=("errors",))

    def init(self, params: object, n: int) -> ManySingles:  # type: ignore[override]  # noqa: ARG002 - the contract
        return ManySingles(frozen(np.random.default_rng(1).normal(size=(190, n)).astype(np.float32)))

    def __call__(self, view: View, params: object, state: ManySingles) -> tuple[ManySingles, Proposal]:  # type: ignore[override]  # noqa: ARG002
        return state, Proposal(view.demand[-1].astype(np.float64))


def fleet_of(ticks: int) -> tuple[Roster, State, Floats, float]:
    """10 000 workloads after some ticks of the HPA's default windows under a noisy load, all of them scaled."""
    roster = Roster(15.0)
    policy = build.choice(Hungry())
    roster.swap(
        join=[build.spec(f"web-{number}", policy=policy, behavior=HPA_BEHAVIOR.given, max_replicas=200) for number in range(WORKLOADS)]
    )
    random, state, history = np.random.default_rng(7), State(), History(15.0)
    written: dict[str, Any] = {}
    current, at_s = full(roster.spec.slots, 40.0), AT_S
    for _ in range(ticks):
        at_s += 15.0
        observation = known(roster.spec, at_s, current)
        load = frozen(random.normal(40.0, 8.0, roster.spec.slots).clip(1))
        series = observation.series[0]
        columns: dict[str, Any] = {"load": load, "age_s": frozen(full(load.size, 0.0)), "signal": frozen(np.zeros(load.size, np.int8))}
        observation = replace(observation, series=(replace(series, **columns),), **written)
        observation = history.record(roster.spec, observation)
        state, decision = decide(state, observation, roster.spec)
        moved = decision.apply
        stamp = np.where(moved, at_s, nan)
        written = {
            "written_at_s": frozen(stamp),
            "written_from": frozen(np.where(moved, current, nan)),
            "written_to": frozen(np.where(moved, decision.replicas, nan)),
        }
        current = np.where(moved, decision.replicas, current)
    return roster, state, current, at_s


def test_ten_thousand_workloads_have_room() -> None:
    roster, state, current, at_s = fleet_of(30)
    found = memories(state.guards, roster.spec, at_s, current)
    assert len(found) == WORKLOADS
    (call,) = roster.spec.calls
    fields = policy_fields(state, call, list(found))
    random = Random(3)
    kept = {}
    for (slot, memory), values in zip(found.items(), fields, strict=True):
        standing = Standing(Written(at_s - random.randrange(600), 40.0, 41.0))
        kept[UID.format(slot)] = Kept(memory, standing, {"0123456789ab": values})
    rows = {uid: guard_row(each) for uid, each in kept.items()}
    guards, left_out = sharded(rows, GUARD_SHARDS)
    policies, too_many = sharded({uid: policy_row(each) for uid, each in kept.items()}, POLICY_SHARDS)
    assert (left_out, too_many) == ([], [])
    assert max(map(len, guards.values())) <= SHARD_MAX
    assert max(map(len, policies.values())) <= SHARD_MAX
    assert sum(map(len, guards.values())) / WORKLOADS <= 200
    read, problems = read_shards(guards | policies)
    assert problems == {}
    assert repr(read[UID.format(77)]) == repr(kept[UID.format(77)])


def test_what_has_no_room_is_left_out_largest_first() -> None:
    rows = {UID.format(number): b'"' + b"x" * (100 if number % 2 else 900) + b'"' for number in range(WORKLOADS)}
    documents, left_out = sharded(rows, GUARD_SHARDS)
    assert max(map(len, documents.values())) <= SHARD_MAX
    assert left_out
    assert all(len(rows[uid]) == 902 for uid in left_out)
    assert sum(document.count(b"6f0c8b6e") for document in documents.values()) == WORKLOADS - len(left_out)
