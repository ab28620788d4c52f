"""Real faults on a real node: each is one incident with the right cause, told once; what is no fault is not told of."""

import json
from collections.abc import Sequence

import pytest

from tests.node.play import Outcome
from tests.node.scenarios import SCENARIOS, SECRET, Scenario

ILL = [each for each in SCENARIOS if each.cause is not None]
WELL = [each for each in SCENARIOS if each.cause is None]
SAYS = [each for each in SCENARIOS if each.log]
TENDED = [each for each in SCENARIOS if each.remedy]
CURED = [each for each in SCENARIOS if each.cured]


def by_name(scenarios: Sequence[Scenario]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in scenarios])


@by_name(ILL)
def test_a_fault_is_one_incident(outcome: Outcome, scenario: Scenario) -> None:
    rows = [(each["container"], each["cause"], each["phase"]) for each in outcome.rows[scenario.name]]
    assert rows == [(scenario.container, scenario.cause, "resolved" if scenario.cured else "firing")]


@by_name(ILL)
def test_it_is_told_of_once_though_the_service_was_restarted(outcome: Outcome, scenario: Scenario) -> None:
    assert outcome.turns(scenario.subject, "fired") == [(scenario.container, scenario.cause)]
    assert outcome.turns(scenario.subject, "updated") == outcome.turns(scenario.subject, "flapping") == []
    told = [(each["incident"]["container"], each["incident"]["cause"]) for each in outcome.told[scenario.name] if each["kind"] == "fired"]
    assert told == [(scenario.container, scenario.cause)]


@by_name(ILL)
def test_its_workload_has_an_event_of_it(outcome: Outcome, scenario: Scenario) -> None:
    detected = [each["reason"] for each in outcome.events[scenario.name] if each["reason"].endswith("Detected")]
    assert detected == [f"{scenario.cause}Detected"]


@by_name(ILL)
def test_it_is_in_the_metrics_while_it_is_open(outcome: Outcome, scenario: Scenario) -> None:
    found = [labels for name, labels, value in outcome.metrics if name == "autoscaler_incidents" and value == 1.0]
    mine = [(each["container"], each["cause"], each["phase"]) for each in found if each["name"] == scenario.name]
    assert mine == ([] if scenario.cured else [(scenario.container, scenario.cause, "firing")])


@by_name(WELL)
def test_what_is_no_fault_is_not_told_of(outcome: Outcome, scenario: Scenario) -> None:
    assert (outcome.rows[scenario.name], outcome.told[scenario.name], outcome.turns(scenario.subject, "fired")) == ([], [], [])


def test_nothing_else_is_told_of(outcome: Outcome) -> None:
    fired = {each["subject"] for each in outcome.records if each.get("kind") == "fired"}
    assert fired == {each.subject for each in ILL}


@by_name(SAYS)
def test_a_report_has_the_end_of_the_log(outcome: Outcome, scenario: Scenario) -> None:
    (report,) = [each for each in outcome.told[scenario.name] if each["kind"] == "fired"]
    assert any(scenario.log in line for line in report["evidence"]["log"]), report["evidence"]


def test_no_secret_of_a_log_leaves_the_service(outcome: Outcome) -> None:
    (report,) = [each for each in outcome.told["exit-one"] if each["kind"] == "fired"]
    assert any("connecting to postgres://" in line for line in report["evidence"]["log"])
    assert SECRET not in json.dumps([outcome.told, outcome.rows, outcome.records, outcome.events])


@by_name(TENDED)
def test_a_remedy_is_carried_out_or_refused_with_its_reason(outcome: Outcome, scenario: Scenario) -> None:
    (row,) = outcome.rows[scenario.name]
    said = [each["words"] for each in row["remedies"]]
    assert [scenario.remedy in each for each in said].count(True) == 1, said
    assert [each["acted"] for each in row["remedies"] if each["words"].startswith("evicted")] == [True] * scenario.cured


@by_name(CURED)
def test_what_a_remedy_cures_is_resolved_once(outcome: Outcome, scenario: Scenario) -> None:
    assert outcome.turns(scenario.subject, "resolved") == [(scenario.container, scenario.cause)]
    assert outcome.ready[scenario.name] == scenario.objects[0]["spec"]["replicas"]


def test_remedies_are_counted(outcome: Outcome) -> None:
    found = {
        (labels["cause"], labels["outcome"], labels["reason"]): value
        for name, labels, value in outcome.counts
        if name == "autoscaler_remedies_total" and labels["outcome"] != "refused"
    }
    assert found.pop(("WedgedStatefulSet", "failed", "")) >= 1
    assert found == {("WedgedStatefulSet", "done", ""): 1, ("CrashLoop", "done", ""): 1}
    assert any(labels.get("reason") == "BARE" and value == 1 for _, labels, value in outcome.counts)
