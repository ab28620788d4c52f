"""Events on workloads: an incident is one that is counted up, its end and each remedy another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes.events import MESSAGE_MAX, OwnerEvents
from autoscaler.clock import FastClock
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.lifecycle import End, Kind, Phase
from autoscaler.core.health.report import Report
from autoscaler.core.health.taxonomy import Cause
from autoscaler.errors import AutoscalerError, PermanentError, TransientError
from tests.adapters.kubernetes.fault_server import FaultServer, Json, Step, answer, page, reset, silence, status
from tests.adapters.kubernetes.reflecting import client_of
from tests.core.health.corpus import CORPUS
from tests.core.health.telling import AT_S, DONE, finding, hostile, incident, report


class Api:
    """What was applied, and what is answered to it."""

    def __init__(self, server: FaultServer, events: OwnerEvents) -> None:
        self.server, self.events = server, events

    async def send(self, *reports: Report, step: Step | None = None) -> list[Json]:
        for made in reports:
            namespace = made.change.incident.finding.subject.namespace or "default"
            name = self.events._event(made)["metadata"]["name"]  # noqa: SLF001 - the name is the route to be scripted
            self.server.script(f"PATCH /api/v1/namespaces/{namespace}/events/{name}", step or answer({"kind": "Event"}))
            await self.events.send(made, 5.0)
        return [seen.body for seen in self.server.seen]


@asynccontextmanager
async def events_on(folder: Path) -> AsyncIterator[Api]:
    async with FaultServer(FastClock()) as server, client_of(server, folder) as client:
        yield Api(server, OwnerEvents(client, ("ours", "autoscaler-1")))


async def test_an_incident_that_fires(tmp_path: Path) -> None:
    async with events_on(tmp_path) as api:
        (event,) = await api.send(report())
        (seen,) = api.server.seen
        assert (seen.query, seen.headers["Content-Type"]) == (
            {"fieldManager": "autoscaler", "force": "true"},
            "application/apply-patch+yaml",
        )
        name = event["metadata"]["name"]
        assert name.startswith("web.")
        assert event == {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": "shop"},
            "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "web-uid"},
            "type": "Warning",
            "reason": "CrashLoopDetected",
            "message": "Container app of Deployment shop/web: it crashes again and again. It last ended with exit code 1: the program's "
            "own error, reason Error. Pods: 3 of 10: web-7d4b9c8f5-b, web-7d4b9c8f5-a, web-7d4b9c8f5-c.",
            "count": 1,
            "firstTimestamp": "2023-11-14T23:13:20Z",
            "lastTimestamp": "2023-11-14T23:13:20Z",
            "source": {"component": "autoscaler"},
            "reportingComponent": "autoscaler",
            "reportingInstance": "autoscaler-1",
        }


async def test_one_incident_is_one_event_that_is_counted_up(tmp_path: Path) -> None:
    async with events_on(tmp_path) as api:
        turns = [report(), report(Kind.UPDATED, AT_S + 600), report(Kind.UPDATED, AT_S + 600), report(Kind.REPEATED, AT_S + 9000)]
        events = await api.send(*turns)
        assert len({event["metadata"]["name"] for event in events}) == 1
        assert [event["count"] for event in events] == [1, 2, 2, 3], "the third was the second once more"
        assert {event["firstTimestamp"] for event in events} == {"2023-11-14T23:13:20Z"}
        assert events[-1]["lastTimestamp"] == "2023-11-15T01:43:20Z"


ENDED = incident(phase=Phase.RESOLVED, end=End.HEALTHY, resolved_s=AT_S)


@pytest.mark.parametrize(
    ("made", "reason", "kind", "said"),
    [
        pytest.param(report(Kind.FLAPPING), "CrashLoopDetected", "Warning", "come back 0 times", id="flapping"),
        pytest.param(report(Kind.RESOLVED, incident=ENDED), "CrashLoopResolved", "Normal", "It is well again", id="resolved"),
        pytest.param(
            report(incident=incident(finding=finding(cause=Cause.OOM))),
            "OutOfMemoryDetected",
            "Warning",
            "more memory than its limit",
            id="oom",
        ),
        pytest.param(
            report(Kind.REMEDY, remedies=(DONE,)),
            "PodRestarted",
            "Normal",
            "pod web-7d4b9c8f5-b: evicted; a new pod takes its place (CrashLoop)",
            id="restarted",
        ),
        pytest.param(
            report(Kind.REMEDY, remedies=(replace(DONE, dry_run=True),)), "PodRestartDryRun", "Normal", "dry run: evicted", id="dry"
        ),
        pytest.param(
            report(Kind.REMEDY, remedies=(replace(DONE, acted=False, words="the breaker is open"),)),
            "PodRestartRefused",
            "Normal",
            "the breaker is open",
            id="refused",
        ),
    ],
)
async def test_what_each_turn_says(tmp_path: Path, made: Report, reason: str, kind: str, said: str) -> None:
    async with events_on(tmp_path) as api:
        (event,) = await api.send(made)
        assert (event["reason"], event["type"]) == (reason, kind)
        assert said in event["message"]


async def test_each_firing_and_each_remedy_is_its_own(tmp_path: Path) -> None:
    async with events_on(tmp_path) as api:
        again = incident(fired_s=AT_S + 5000)
        other = replace(DONE, at_s=AT_S + 1)
        turns = [report(), report(Kind.RESOLVED, incident=ENDED), report(incident=again)]
        turns += [report(Kind.REMEDY, remedies=(DONE,)), report(Kind.REMEDY, remedies=(DONE, other))]
        events = await api.send(*turns)
        assert len({event["metadata"]["name"] for event in events}) == len(turns)


@pytest.mark.parametrize(
    ("subject", "namespace", "reference"),
    [
        pytest.param(
            Subject("Node", "", "node-1", "n"), "default", {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n"}, id="node"
        ),
        pytest.param(
            Subject("Rollout", "shop", "web", "r"),
            "shop",
            {"apiVersion": "", "kind": "Rollout", "namespace": "shop", "name": "web", "uid": "r"},
            id="custom",
        ),
    ],
)
async def test_whom_it_is_about(tmp_path: Path, subject: Subject, namespace: str, reference: Json) -> None:
    async with events_on(tmp_path) as api:
        (event,) = await api.send(report(incident=incident(finding=finding(subject=subject))))
        assert (event["metadata"]["namespace"], event["involvedObject"]) == (namespace, reference)


async def test_what_may_not_stand_in_the_default_namespace_stands_on_our_own_pod(tmp_path: Path) -> None:
    async with events_on(tmp_path) as api:
        made = report(incident=incident(finding=finding(subject=Subject("Node", "", "node-1", "n"))))
        name = api.events._event(made)["metadata"]["name"]  # noqa: SLF001 - the name is the route to be scripted
        api.server.script(f"PATCH /api/v1/namespaces/ours/events/{name}", answer({"kind": "Event"}))
        refused, moved = await api.send(made, step=status(403, "Forbidden"))
        assert refused["involvedObject"]["kind"] == "Node"
        assert moved["metadata"] == {"name": name, "namespace": "ours"}
        assert moved["involvedObject"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "ours", "name": "autoscaler-1"}


async def test_long_names_and_texts_end(tmp_path: Path) -> None:
    async with events_on(tmp_path) as api:
        shown = finding(subject=Subject("Deployment", "shop", f"{'w' * 199}-{'x' * 50}", "u"))
        events = await api.send(report(incident=incident(finding=shown)), report(Kind.REMEDY, remedies=(replace(DONE, words="w" * 5000),)))
        assert all(len(event["message"]) <= MESSAGE_MAX for event in events)
        assert events[0]["metadata"]["name"].startswith(f"{'w' * 199}.")


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        pytest.param(status(403, "Forbidden"), PermanentError, id="forbidden"),
        pytest.param(status(404, "NotFound", "no such namespace"), PermanentError, id="namespace-gone"),
        pytest.param(status(422, "Invalid", causes=[{"reason": "x"}]), PermanentError, id="invalid"),
        pytest.param(status(429, headers={"Retry-After": "7"}), TransientError, id="throttled"),
        pytest.param(status(500), TransientError, id="500"),
        pytest.param(page(), TransientError, id="html"),
        pytest.param(reset(), TransientError, id="reset"),
    ],
)
async def test_faults(tmp_path: Path, step: Step, kind: type[AutoscalerError]) -> None:
    async with events_on(tmp_path) as api:
        with pytest.raises(kind):
            await api.send(report(), step=step)


async def test_silence_ends_with_the_budget(tmp_path: Path) -> None:
    async with events_on(tmp_path) as api:
        await api.send(report())
        (seen,) = api.server.seen
        api.server.script(f"PATCH {seen.path}", silence())
        with pytest.raises(TransientError, match=r"no answer within 0\.1 s"):
            await api.events.send(report(), 0.1)


async def test_nothing_secret_goes_out(tmp_path: Path) -> None:
    async with events_on(tmp_path) as api:
        for case in CORPUS:
            events = await api.send(hostile(case), hostile(case, Kind.REMEDY))
            assert [secret for secret in case.secrets if secret in str(events[-2:])] == []
