"""The pure parts of the cost benchmark: what it reads out of /proc and /metrics, and which write answers which step."""

import math
from collections import Counter
from itertools import islice

import pytest

from benchmarks.hpa.phase import Outcome
from benchmarks.hpa.report import markdown, rows, table
from benchmarks.hpa.server import requests_by_verb
from benchmarks.hpa.source import Pushed, snappy, write_request
from benchmarks.hpa.steps import APART, COUNTS, EVERY_S, TARGET, Journal, Step, first_counts, percentiles, plan
from benchmarks.hpa.usage import TICKS_PER_S, cpu_seconds, memory


def test_processor_time_is_that_of_both_modes_whatever_the_name() -> None:
    assert cpu_seconds("7 (a (b) c) S 1 7 7 0 -1 4194304 0 0 0 0 150 50 9 9 20 0 1 0") * TICKS_PER_S == pytest.approx(200)


def test_memory_is_what_is_resident_and_the_most_that_was() -> None:
    assert memory("Name:\tx y\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\nRssAnon:\t 1 kB\n") == (2.0, 4.0)


def test_requests_are_summed_by_verb_and_resource() -> None:
    lines = [
        "# TYPE apiserver_request_total counter",
        'apiserver_request_total{code="200",group="apps",resource="deployments",subresource="scale",verb="PATCH"} 3',
        'apiserver_request_total{code="422",group="apps",resource="deployments",subresource="scale",verb="PATCH"} 1e+00',
        'apiserver_request_total{code="200",group="",resource="configmaps",subresource="",verb="PUT"} 2',
        'apiserver_requested_deprecated_apis{resource="x"} 9',
    ]
    assert requests_by_verb("\n".join(lines)) == Counter({"PATCH deployments/scale": 4, "PUT configmaps": 2})


def test_a_push_is_a_write_request_in_snappy_literals() -> None:
    body = write_request([Pushed(7, 650, 300)])
    assert body == (
        b"\x0a\x4d"
        b"\x0a\x1a\x0a\x08__name__\x12\x0equeue_messages"
        b"\x0a\x0d\x0a\x03app\x12\x06w00007"
        b"\x0a\x12\x0a\x09namespace\x12\x05bench"
        b"\x12\x0c\x09\x00\x00\x00\x00\x00\x50\x84\x40\x10\xac\x02"
    )
    assert snappy(b"abc") == b"\x03\xf4\x02\x00abc"
    assert snappy(bytes(65537)) == b"\x81\x80\x04" + b"\xf4\xff\xff" + bytes(65536) + b"\xf4\x00\x00\x00"


def test_steps_come_once_a_minute_each_spread_over_it_and_are_never_within_the_tolerance() -> None:
    counts = first_counts(40, seed=3)
    steps = list(islice(plan(counts, seed=3), 120))
    assert [step.at_s for step in steps] == sorted(step.at_s for step in steps)
    for minute in range(3):
        part = steps[40 * minute : 40 * (minute + 1)]
        assert {step.workload for step in part} == set(range(40))
        assert minute * EVERY_S <= part[0].at_s <= part[-1].at_s < (minute + 1) * EVERY_S
    now = list(counts)
    for step in steps:
        assert step.count in COUNTS
        assert abs(step.count / now[step.workload] - 1) >= APART
        assert math.ceil(step.load / TARGET) == step.count
        now[step.workload] = step.count
    assert steps == list(islice(plan(counts, seed=3), 120))
    assert steps != list(islice(plan(counts, seed=4), 120))


@pytest.mark.parametrize(
    ("writes", "reactions", "missed"),
    [
        pytest.param([(14.0, 8), (75.0, 6)], [4.0, 5.0], 0, id="each answered"),
        pytest.param([(12.0, 7), (14.0, 8), (75.0, 6)], [4.0, 5.0], 0, id="in two writes: the one that gets there counts"),
        pytest.param([(9.0, 8), (14.0, 8), (75.0, 6)], [4.0, 5.0], 0, id="the same count before the step is no answer"),
        pytest.param([(71.0, 8), (75.0, 6)], [5.0], 1, id="after the next step is too late"),
        pytest.param([], [], 2, id="never"),
    ],
)
def test_a_step_is_answered_by_the_first_write_of_its_count_before_the_next_step(
    writes: list[tuple[float, int]], reactions: list[float], missed: int
) -> None:
    journal = Journal()
    for at_s, count in ((10.0, 8), (70.0, 6), (130.0, 9)):
        journal.step(at_s, Step(at_s, 0, count))
    for at_s, count in writes:
        journal.write(at_s, 0, count)
    journal.write(11.0, 1, 8)
    assert journal.reactions(0.0, 100.0) == (reactions, missed)
    assert journal.reactions(0.0, 60.0)[0] == reactions[: 1 if len(reactions) == 2 else 0]


def test_percentiles_of_nothing_are_unknown() -> None:
    assert percentiles([float(value) for value in range(101)]) == (50.0, 99.0, 100.0)
    assert all(math.isnan(value) for value in percentiles([]))


def _outcome(phase: str, workloads: int, mcpu: float) -> Outcome:
    return Outcome(
        phase=phase,
        workloads=workloads,
        seconds=60.0,
        mcpu={"controller": mcpu, "apiserver": 2 * mcpu},
        rss_mib=100.4,
        peak_mib=111.0,
        requests_per_s=16.7,
        requests={},
        reaction_p50_s=7.54,
        reaction_p99_s=15.04,
        reaction_max_s=16.0,
        steps=1000,
        missed=2,
        load_average=0.54,
    )


def test_ratios_are_to_the_mean_of_the_hpas_phases_with_as_many_workloads() -> None:
    outcomes = [_outcome("hpa@15s", 1000, 50), _outcome("own@15s", 1000, 30), _outcome("hpa@15s", 1000, 70), _outcome("many@5s", 5000, 9)]
    found = rows(outcomes)
    assert found[1] == (
        *("1000", "ours, a query each", "15s", "30 mCPU", "0.50", "100 MiB", "111 MiB", "60 mCPU", "0.50", "17"),
        *("7.5 s", "15.0 s", "16.0 s", "2 of 1000"),
    )
    assert [row[4] for row in found] == ["0.83", "0.50", "1.17", "–"]
    told = markdown(outcomes, {"cpu": "X", "cores": "2", "python": "3", "commit": "abc", "date": "today"})
    assert told.startswith(
        "X, 2 cores, Python 3; commit abc, today; load average of the machine at the end of each phase 0.5, 0.5, 0.5, 0.5."
    )
    assert told.count("\n| ") == 6
    assert len({len(line) for line in table(outcomes).splitlines()}) == 1
