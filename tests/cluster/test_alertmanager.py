"""Alerts in a real Alertmanager: they fire, group, stay, and are resolved, each incident as one."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from math import nan
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from autoscaler.adapters.notify import notifier
from autoscaler.clock import SystemClock
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.findings import Finding
from autoscaler.core.health.lifecycle import End, Kind, Phase
from autoscaler.core.health.report import Report
from autoscaler.core.health.taxonomy import Cause
from autoscaler.endpoints import AlertmanagerSink
from autoscaler.loops.delivery import Sink
from autoscaler.loops.reports import Reports, Telling
from autoscaler.ports import Notifier
from autoscaler.testing.recorder import MemoryRecorder
from tests.cluster.rig import Alertmanager, wait_until
from tests.core.health.corpus import CORPUS
from tests.core.health.telling import finding, hostile, incident, report

CLOCK = SystemClock()
DOCS = Path(__file__).parent.parent.parent / "docs" / "notifications.md"


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    with Alertmanager(tmp_path / "alertmanager", resolve_timeout="1s") as running:
        yield running


@asynccontextmanager
async def sink_to(alertmanager: Alertmanager, resend_s: float = 60.0) -> AsyncIterator[Notifier]:
    """As the settings make it; a re-send of under ten seconds, which they refuse, saves tests the wait."""
    given = AlertmanagerSink(type="alertmanager", url=alertmanager.url)
    sink = notifier("alerts", given.model_copy(update={"resend_s": resend_s}), CLOCK)
    try:
        yield sink
    finally:
        await sink.close()


def about(name: str, kind: Kind = Kind.FIRED, cause: Cause = Cause.CRASH_LOOP, namespace: str = "shop", **changes: Any) -> Report:  # noqa: ANN401 - fields of Finding
    """A report of a workload, as of now."""
    now_s = CLOCK.now()
    shown: Finding = finding(subject=Subject("Deployment", namespace, name, f"uid-{name}"), cause=cause, **changes)
    life = incident(finding=shown, opened_s=now_s - 60, fired_s=now_s - 20)
    if kind is Kind.RESOLVED:
        life = replace(life, phase=Phase.RESOLVED, end=End.HEALTHY, resolved_s=now_s)
    return report(kind, now_s, incident=life, sinks=("alerts",))


def workloads(found: list[dict[str, Any]]) -> list[str]:
    return sorted(f"{alert['labels']['workload']}: {alert['labels']['alertname']}" for alert in found)


async def test_they_fire_group_and_resolve(alertmanager: Alertmanager) -> None:
    async with sink_to(alertmanager) as sink:
        firing = [about("web"), about("api"), about("web", cause=Cause.OOM), about("pay", namespace="bank")]
        for made in [*firing, about("web", Kind.UPDATED, reason="another", exit_code=137, of=99)]:
            await sink.send(made, 5.0)
        assert workloads(alertmanager.alerts()) == ["api: CrashLoop", "pay: CrashLoop", "web: CrashLoop", "web: OutOfMemory"]
        groups = {
            (group["labels"]["namespace"], group["labels"]["alertname"]): workloads(group["alerts"]) for group in alertmanager.groups()
        }
        assert groups == {
            ("shop", "CrashLoop"): ["api: CrashLoop", "web: CrashLoop"],
            ("shop", "OutOfMemory"): ["web: OutOfMemory"],
            ("bank", "CrashLoop"): ["pay: CrashLoop"],
        }
        told = await asyncio.to_thread(notified, alertmanager, "firing", "web: CrashLoop")
        assert told["groupLabels"] == {"namespace": "shop", "alertname": "CrashLoop"}
        (alert,) = [each for each in told["alerts"] if each["labels"]["workload"] == "web"]
        assert alert["annotations"]["summary"].startswith(("CrashLoop: Deployment shop/web", "Update: CrashLoop: Deployment shop/web"))
        assert "What was done:" in alert["annotations"]["description"]

        for made in firing[:2]:
            await sink.send(about(made.change.incident.finding.subject.name, Kind.RESOLVED), 5.0)
        await asyncio.to_thread(notified, alertmanager, "resolved", "web: CrashLoop")
        assert workloads(alertmanager.alerts()) == ["pay: CrashLoop", "web: OutOfMemory"]


def notified(alertmanager: Alertmanager, status: str, workload: str) -> dict[str, Any]:
    """The notification that says so of an alert."""

    def find() -> dict[str, Any] | None:
        for told in alertmanager.receiver.notifications:
            if workload in workloads([alert for alert in told["alerts"] if alert["status"] == status]):
                return told
        return None

    return wait_until(f"Alertmanager notifies that {workload} is {status}", find, timeout_s=20.0)


@asynccontextmanager
async def reporting(sink: Notifier, standing: list[Report], remind_s: float) -> AsyncIterator[Reports]:
    given = Telling(CLOCK, MemoryRecorder(), Random(1), sinks=[Sink("alerts", sink, remind_s=remind_s)])
    reports = Reports(given, lambda: standing)
    task = asyncio.create_task(reports.run())
    try:
        yield reports
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_an_alert_stays_for_as_long_as_it_is_sent_again_and_no_longer(alertmanager: Alertmanager) -> None:
    """``resolve_timeout`` is a second here, and a single alert holds for two: only reminders carry it over five."""
    standing = [about("web")]
    async with sink_to(alertmanager, resend_s=0.5) as sink:
        async with reporting(sink, standing, 0.5) as reports:
            reports.take(standing[0])
            await asyncio.to_thread(wait_until, "the alert is there", alertmanager.alerts)
            until_s = CLOCK.monotonic() + 5.0
            while CLOCK.monotonic() < until_s:
                assert workloads(alertmanager.alerts()) == ["web: CrashLoop"]
                await CLOCK.sleep_until(CLOCK.monotonic() + 0.25)
            assert [told["status"] for told in alertmanager.receiver.notifications] == ["firing"], "and it was told of once"
        await asyncio.to_thread(notified, alertmanager, "resolved", "web: CrashLoop")


async def test_an_alertmanager_that_lost_everything_is_told_again(alertmanager: Alertmanager) -> None:
    standing = [about("web"), about("api")]
    async with sink_to(alertmanager, resend_s=2.0) as sink, reporting(sink, standing, 0.5) as reports:
        for made in standing:
            reports.take(made)
        await asyncio.to_thread(wait_until, "both are there", lambda: len(alertmanager.alerts()) == 2)
        await asyncio.to_thread(alertmanager.stop)
        alertmanager.lose_data()
        await asyncio.to_thread(alertmanager.start)
        await asyncio.to_thread(wait_until, "both are there again", lambda: len(alertmanager.alerts()) == 2, timeout_s=30.0)


async def test_it_takes_whatever_others_wrote_and_shows_no_secret(alertmanager: Alertmanager) -> None:
    async with sink_to(alertmanager) as sink:
        for number, case in enumerate(CORPUS):
            made = hostile(case)
            change = made.change
            shown = replace(change.incident.finding, subject=Subject("Deployment", "shop", f"w{number}", f"u{number}"))
            life = replace(change.incident, finding=shown, fired_s=nan)
            await sink.send(replace(made, change=replace(change, incident=life, at_s=CLOCK.now())), 5.0)
        alerts = alertmanager.alerts()
        assert len(alerts) == len(CORPUS)
        text = str(alerts)
        assert [secret for case in CORPUS for secret in case.secrets if secret in text] == []


def test_the_route_in_the_documentation_is_a_good_one(tmp_path: Path) -> None:
    (written,) = re.findall(r"```yaml\n(# alertmanager\.yml\n.*?)```", DOCS.read_text(), re.DOTALL)
    assert {"route", "receivers", "inhibit_rules"} <= set(yaml.safe_load(written))
    path = tmp_path / "alertmanager.yml"
    path.write_text(written)
    checked = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
