"""From a report to people: evidence for what is told, in the order of each incident's life, in bounded numbers."""

import asyncio
from dataclasses import replace
from math import nan
from typing import Any

import pytest

from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Evidence, Report
from autoscaler.loops.reports import AT_ONCE, FRESH_S, GATHER_S, KEPT_MAX, LANES_MAX, RECOVER_S
from autoscaler.metrics import EVIDENCE
from tests.core.health.telling import DONE, finding, incident, report
from tests.loops.telling import telling

KEY = finding().key


def about(name: str, kind: Kind = Kind.FIRED, **changes: Any) -> Report:  # noqa: ANN401 - fields of Report
    return report(kind, incident=incident(finding=finding(container=name)), **changes)


async def test_evidence_goes_with_the_report_and_is_kept() -> None:
    async with telling() as rig:
        rig.reports.take(report())
        await rig.clock.settle()
        (taken,) = rig.sinks["ops"].taken
        assert taken.evidence == rig.reports.evidence(KEY) == Evidence(log=("panic",))
        assert rig.events.taken == [taken]
        assert rig.recorder.value(EVIDENCE, "whole") == 1


@pytest.mark.parametrize(
    ("made", "asked", "events", "told"),
    [
        pytest.param(report(), 1, 1, 1, id="fired"),
        pytest.param(report(Kind.UPDATED), 1, 1, 1, id="updated"),
        pytest.param(report(Kind.FLAPPING), 1, 1, 1, id="flapping"),
        pytest.param(report(Kind.REPEATED), 1, 1, 1, id="repeated"),
        pytest.param(report(Kind.RESOLVED), 0, 1, 1, id="resolved"),
        pytest.param(report(Kind.REMEDY, remedies=(DONE,)), 0, 1, 1, id="remedy"),
        pytest.param(report(Kind.REMEDY, silent=True, remedies=(DONE,)), 0, 1, 0, id="refused-remedy"),
        pytest.param(report(Kind.PENDING, silent=True), 1, 0, 0, id="pending-is-looked-at-early"),
        pytest.param(report(Kind.PENDING, silent=True, incident=incident(baseline=True)), 0, 0, 0, id="there-before-us"),
        pytest.param(report(silent=True), 0, 0, 0, id="silenced"),
        pytest.param(report(sinks=()), 1, 1, 0, id="no-sinks"),
        pytest.param(report(sinks=("nobody",)), 1, 1, 0, id="unknown-sink"),
    ],
)
async def test_what_is_gathered_for_and_who_is_told(made: Report, asked: int, events: int, told: int) -> None:
    async with telling() as rig:
        rig.reports.take(made)
        await rig.clock.settle()
        assert (len(rig.evidence.asked), len(rig.events.taken), len(rig.sinks["ops"].taken)) == (asked, events, told)


async def test_what_was_seen_at_first_sight_is_told_when_it_fires() -> None:
    async with telling() as rig:
        rig.reports.take(report(Kind.PENDING, silent=True))
        await rig.clock.advance(FRESH_S - 1)
        rig.reports.take(report())
        await rig.clock.settle()
        assert len(rig.evidence.asked) == 1
        assert rig.sinks["ops"].taken[0].evidence.log == ("panic",)


async def test_old_evidence_is_gathered_anew() -> None:
    async with telling() as rig:
        rig.reports.take(report())
        await rig.clock.advance(FRESH_S)
        rig.evidence.made = Evidence(log=("another",))
        rig.reports.take(report(Kind.UPDATED))
        await rig.clock.settle()
        assert [taken.evidence.log for taken in rig.sinks["ops"].taken] == [("panic",), ("another",)]


async def test_a_log_that_could_not_be_had_at_first_sight_is_looked_for_again() -> None:
    async with telling() as rig:
        rig.evidence.made = Evidence(missing=("the log: 400",))
        rig.reports.take(report(Kind.PENDING, silent=True, incident=incident(fired_s=nan)))
        await rig.clock.settle()
        rig.evidence.made = Evidence(log=("panic",))
        rig.reports.take(report())
        await rig.clock.settle()
        assert rig.sinks["ops"].taken[0].evidence.log == ("panic",)


async def test_an_end_waits_for_its_beginning_and_has_its_evidence() -> None:
    async with telling() as rig:
        rig.evidence.gate.clear()
        rig.reports.take(report())
        rig.reports.take(report(Kind.RESOLVED))
        await rig.clock.advance(5)
        assert rig.sinks["ops"].taken == []
        rig.evidence.gate.set()
        await rig.clock.settle()
        assert rig.sinks["ops"].kinds == rig.events.kinds == ["fired", "resolved"]
        assert [taken.evidence.log for taken in rig.sinks["ops"].taken] == [("panic",)] * 2
        assert rig.reports.evidence(KEY) is None, "it is over"


async def test_what_takes_too_long_is_told_without() -> None:
    async with telling() as rig:
        rig.evidence.gate.clear()
        rig.reports.take(report())
        await rig.clock.advance(GATHER_S)
        (taken,) = rig.sinks["ops"].taken
        assert taken.evidence == Evidence(missing=("evidence was not gathered within 20 s",))
        assert rig.recorder.value(EVIDENCE, "none") == 1


async def test_a_fault_of_ours_in_gathering_keeps_nobody_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    async with telling() as rig:
        rig.evidence.fault = RuntimeError("a bug")
        rig.reports.take(report())
        await rig.clock.settle()
        (taken,) = rig.sinks["ops"].taken
        assert taken.evidence.missing == ("evidence was not gathered: a fault of this service; its log has it",)
        assert "gathering evidence failed" in caplog.text


async def test_a_storm_is_bounded() -> None:
    async with telling("ops", "other") as rig:
        rig.evidence.gate.clear()
        for number in range(LANES_MAX + 5):
            rig.reports.take(about(f"c{number}"))
        await rig.clock.settle()
        assert rig.evidence.most == AT_ONCE
        assert len(rig.sinks["ops"].taken) == 5, "those beyond the bound are told at once, without"
        assert rig.sinks["ops"].taken[0].evidence.missing == ("evidence was not gathered: there are too many incidents at once",)
        await rig.clock.advance(GATHER_S)
        assert len(rig.events.taken) == LANES_MAX + 5, "and the rest after a while"


async def test_evidence_is_kept_of_so_many() -> None:
    async with telling() as rig:
        for number in range(KEPT_MAX + 10):
            rig.reports.take(about(f"c{number}"))
            await rig.clock.settle()
        kept = [rig.reports.evidence(finding(container=f"c{number}").key) for number in range(KEPT_MAX + 10)]
        assert [each is not None for each in kept] == [False] * 10 + [True] * KEPT_MAX


async def test_what_is_over_silently_is_forgotten() -> None:
    async with telling() as rig:
        rig.reports.take(report(Kind.PENDING, silent=True))
        await rig.clock.settle()
        assert rig.reports.evidence(KEY) is not None
        rig.reports.take(report(Kind.RESOLVED, silent=True))
        assert rig.reports.evidence(KEY) is None


async def test_reminders_carry_what_was_gathered() -> None:
    standing = [report(Kind.REPEATED)]
    async with telling(remind_s=60.0, standing=lambda: standing) as rig:
        rig.reports.take(report())
        await rig.clock.advance(61)
        assert [taken.evidence.log for taken in rig.sinks["ops"].taken] == [("panic",)] * 2
        assert len(rig.evidence.asked) == 1


async def test_what_was_told_of_before_a_restart_is_looked_at_once_more() -> None:
    standing = [report(Kind.REPEATED, silent=True)]
    async with telling(standing=lambda: standing) as rig:
        await rig.clock.advance(RECOVER_S)
        assert rig.reports.evidence(KEY) == Evidence(log=("panic",))
        await rig.clock.advance(3 * RECOVER_S)
        assert len(rig.evidence.asked) == 1
        assert rig.sinks["ops"].taken == rig.events.taken == [], "nobody is told again"


async def test_only_the_sinks_of_a_policy_are_told() -> None:
    async with telling("a", "b") as rig:
        rig.reports.take(replace(about("x"), sinks=("a",)))
        rig.reports.take(replace(about("y"), sinks=("a", "b")))
        await rig.clock.settle()
        assert (len(rig.sinks["a"].taken), len(rig.sinks["b"].taken)) == (2, 1)


async def test_what_is_under_way_is_told_before_the_end() -> None:
    async with telling() as rig:
        rig.evidence.gate.clear()
        rig.reports.take(report())
        await rig.clock.settle()
        closing = asyncio.create_task(rig.reports.close(5.0))
        await rig.clock.advance(1)
        rig.evidence.gate.set()
        await closing
        assert rig.sinks["ops"].kinds == ["fired"]


async def test_the_end_does_not_wait_for_ever() -> None:
    async with telling() as rig:
        rig.evidence.gate.clear()
        rig.reports.take(report())
        await rig.clock.settle()
        closing = asyncio.create_task(rig.reports.close(5.0))
        await rig.clock.advance(5)
        await closing
        assert rig.sinks["ops"].closed == 1


async def test_without_a_source_of_evidence_people_are_told_all_the_same() -> None:
    async with telling() as rig:
        rig.reports._telling = replace(rig.reports._telling, evidence=None)  # noqa: SLF001 - the rig has one
        rig.reports.take(report())
        await rig.clock.settle()
        assert rig.sinks["ops"].taken[0].evidence == Evidence()
