"""Some hours of the day with faults: the whole day is `make bench-day`."""

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.day import Hour, Report, play

FINE = Report(tuple(Hour(1000, 50.0, 9, 1) for _ in range(8)), 100, (), Counter(), 0, 0, 1.0)


async def test_hours_with_faults_leave_nothing_behind_and_nothing_unexplained() -> None:
    report = await play(workloads=30, hours=3, seed=1)
    assert report.mistakes() == []
    assert report.writes > 300
    kinds = {name.partition(":")[0] for name in report.faults}
    assert {"question", "answer", "write", "target", "process", "state"} <= kinds


@pytest.mark.parametrize(
    ("report", "words"),
    [
        pytest.param(replace(FINE, unexplained=("Deployment shop/web: 2 -> 9",)), "no decision explains", id="unexplained"),
        pytest.param(replace(FINE, left=2), "2 tasks are left", id="tasks"),
        pytest.param(replace(FINE, ticks_failed=1), "1 ticks failed", id="tracebacks"),
        pytest.param(replace(FINE, hours=(*FINE.hours, Hour(1000, 50.0, 9, 2))), "threads", id="threads"),
        pytest.param(replace(FINE, hours=(*FINE.hours, Hour(1100, 50.0, 9, 1))), "objects after a quarter", id="memory"),
    ],
)
def test_a_report_says_what_is_wrong(report: Report, words: str) -> None:
    (said,) = report.mistakes()
    assert words in said
    assert FINE.mistakes() == []
