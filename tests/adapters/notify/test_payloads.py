"""What goes over the wire to each sink, to the letter; and that nothing hostile is in it (``tests/test_redaction.py``: nor secret)."""

import hashlib
import hmac
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autoscaler.adapters.notify.slack import FIELD_MAX, HEADER_MAX, TEXT_MAX, TOTAL_MAX, message
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.lifecycle import End, Kind, Phase
from autoscaler.core.health.report import Evidence, Report
from autoscaler.core.health.taxonomy import Cause
from autoscaler.core.health.words import identity, turn_id
from tests.adapters.notify.sinks import NOW_S, ROUTES, WELL, sink_on
from tests.core.health.corpus import Case, case
from tests.core.health.telling import AT_S, DONE, EVIDENCE, PODS, finding, hostile, incident, report

WHOLE = report(evidence=EVIDENCE, remedies=(DONE,))
OVER = report(Kind.RESOLVED, incident=incident(phase=Phase.RESOLVED, end=End.HEALTHY, resolved_s=AT_S))
ACTED = report(Kind.REMEDY, remedies=(DONE,))


async def sent(kind: str, folder: Path, *reports: Report, **more: Any) -> list[Any]:  # noqa: ANN401 - fields of a sink; any JSON
    async with sink_on(kind, folder, **more) as (server, sink):
        for made in reports:
            await sink.send(made, 5.0)
        return [seen.body for seen in server.of(ROUTES[kind])]


# Alertmanager -------------------------------------------------------------------------------------------------------------------

LABELS = {
    "alertname": "CrashLoop",
    "cluster": "prod",
    "namespace": "shop",
    "kind": "Deployment",
    "workload": "web",
    "container": "app",
    "severity": "warning",
}


async def test_an_alert(tmp_path: Path) -> None:
    ((alert,),) = await sent("alertmanager", tmp_path, WHOLE)
    assert (
        alert["annotations"].pop("description").startswith("CrashLoop: Deployment shop/web, container app, 3 of 10 pods\n\nContainer app")
    )
    assert alert == {
        "labels": LABELS,
        "annotations": {"summary": "CrashLoop: Deployment shop/web, container app, 3 of 10 pods"},
        "startsAt": "2023-11-14T23:11:40.000Z",
        "endsAt": "2023-11-14T23:17:20.400Z",  # four re-sends of a minute from now
    }


async def test_an_alert_that_is_over_says_since_when(tmp_path: Path) -> None:
    ((alert,),) = await sent("alertmanager", tmp_path, OVER)
    assert (alert["labels"], alert["startsAt"], alert["endsAt"]) == (LABELS, "2023-11-14T23:11:40.000Z", "2023-11-14T23:13:20.000Z")


async def test_an_incident_is_one_alert_whatever_becomes_of_it(tmp_path: Path) -> None:
    turns = [
        WHOLE,
        ACTED,
        OVER,
        report(Kind.UPDATED, incident=incident(finding=finding(pods=PODS[:1], reason="OOMKilled", exit_code=137, of=99))),
    ]
    alerts = await sent("alertmanager", tmp_path, *turns)
    assert {json.dumps(alert["labels"]) for (alert,) in alerts} == {json.dumps(LABELS)}
    assert len({alert["startsAt"] for (alert,) in alerts}) == 1


async def test_labels_of_ones_own(tmp_path: Path) -> None:
    ((alert,),) = await sent("alertmanager", tmp_path, WHOLE, labels={"team": "shop & co", "severity": "page"}, resend_s=30.0)
    assert alert["labels"] == LABELS | {"team": "shop & co", "severity": "page"}
    assert alert["endsAt"] == "2023-11-14T23:15:20.400Z"


async def test_labels_hold_names_and_nothing_else(tmp_path: Path) -> None:
    """Not even an object whose name no API server would take brings anything else into a label."""
    shown = finding(subject=Subject("Deployment", "", 'web"} <script>\n', "u"), container="", cause=Cause.NODE_LOST)
    ((alert,),) = await sent("alertmanager", tmp_path, report(incident=incident(finding=shown), cluster=""))
    assert alert["labels"] == {"alertname": "NodeLost", "kind": "Deployment", "workload": "web____script__", "severity": "warning"}


# Webhook ------------------------------------------------------------------------------------------------------------------------


async def test_a_report_as_json(tmp_path: Path) -> None:
    (told,) = await sent("webhook", tmp_path, WHOLE)
    assert (told["version"], told["kind"], told["cluster"], told["at"]) == (1, "fired", "prod", AT_S)
    assert told["incident"]["workload"] == {"kind": "Deployment", "namespace": "shop", "name": "web"}
    assert (told["incident"]["exitCode"], told["incident"]["exitMeaning"]) == (1, "the program's own error")
    assert told["evidence"]["log"] == ["connecting to db", "panic: no such table"]
    assert told["evidence"]["templateDiff"] == ["container app, image web:1 → web:2"]
    assert told["remedies"] == [
        {"at": AT_S - 30, "pod": "web-7d4b9c8f5-b", "acted": True, "dryRun": False, "words": "evicted; a new pod takes its place"}
    ]
    assert told["text"].startswith(told["title"])


async def test_the_signature_is_over_time_and_body(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("new\nold\n")
    bodies = []

    async def step(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.read())
        return await WELL["webhook"](request)

    async with sink_on("webhook", tmp_path, step, secret_file=str(tmp_path / "secret")) as (server, sink):
        await sink.send(WHOLE, 5.0)
        (seen,) = server.seen
    at = f"t={round(NOW_S)}"
    signed = f"{round(NOW_S)}.".encode() + bodies[0]
    digests = [hmac.new(secret, signed, hashlib.sha256).hexdigest() for secret in (b"new", b"old")]
    assert seen.headers["X-Autoscaler-Signature"] == f"{at},v1={digests[0]},v1={digests[1]}"


async def test_a_report_that_is_sent_again_is_known_as_such(tmp_path: Path) -> None:
    async with sink_on("webhook", tmp_path) as (server, sink):
        for made in (WHOLE, WHOLE, OVER):
            await sink.send(made, 5.0)
        keys = [seen.headers["Idempotency-Key"] for seen in server.seen]
        assert keys == [turn_id(WHOLE), turn_id(WHOLE), turn_id(OVER)]
        assert keys[0] != keys[2]
        assert [seen.headers["X-Autoscaler-Event"] for seen in server.seen] == ["fired", "fired", "resolved"]
        assert "X-Autoscaler-Signature" not in server.seen[0].headers


# Slack --------------------------------------------------------------------------------------------------------------------------


async def test_a_message(tmp_path: Path) -> None:
    (told,) = await sent("slack", tmp_path, WHOLE)
    header, summary, facts, more, *sections = told["blocks"]
    assert header == {
        "type": "header",
        "text": {"type": "plain_text", "text": "🔴 CrashLoop: Deployment shop/web, container app, 3 of 10 pods", "emoji": False},
    }
    assert summary["text"]["text"].startswith("Container app of Deployment shop/web: it crashes again and again.")
    assert [field["text"] for field in facts["fields"] + more["fields"]][:3] == [
        "Cluster: prod",
        "Workload: Deployment shop/web",
        "Container: app",
    ]
    assert [section["text"]["text"] for section in sections] == [
        "What was done:\n```\npod web-7d4b9c8f5-b: evicted; a new pod takes its place\n```",
        "Changed since the revision before:\n```\ncontainer app, image web:1 → web:2\n```",
        "Warning events, newest first:\n```\n3 min ago, 5 times: BackOff: restarting failed container\n```",
        "Log of pod web-7d4b9c8f5-b, last lines:\n```\nconnecting to db\npanic: no such table\n```",
        "Could not be had:\n```\nevents of Deployment shop/web: refused\n```",
    ]
    assert all(section["text"]["verbatim"] for section in sections)


@pytest.mark.parametrize(
    ("made", "begins"),
    [
        pytest.param(WHOLE, "🔴 CrashLoop", id="fired"),
        pytest.param(OVER, "🟢 Resolved", id="resolved"),
        pytest.param(ACTED, "🔧", id="remedy"),
    ],
)
def test_what_it_looks_like_at_a_glance(made: Report, begins: str) -> None:
    assert message(made)["text"].startswith(begins)


HUGE = tuple(f"{number} {'<&>`é' * 200}" for number in range(50))


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(report(evidence=Evidence(HUGE, HUGE, HUGE[0], HUGE, HUGE[0], "", HUGE[0], HUGE[0], HUGE)), id="huge"),
        pytest.param(report(incident=incident(finding=finding(notes=HUGE, reason=HUGE[0]))), id="many-facts"),
    ],
)
def test_a_message_keeps_slacks_limits(made: Report) -> None:
    told = message(made)
    assert len(json.dumps(told["blocks"], ensure_ascii=False)) < TOTAL_MAX + 600
    assert len(told["blocks"]) <= 50
    for block in told["blocks"]:
        for text in [*([block["text"]] if "text" in block else []), *block.get("fields", [])]:
            most = HEADER_MAX if block["type"] == "header" else FIELD_MAX if "fields" in block else TEXT_MAX
            assert 0 < len(text["text"]) <= most
        assert len(block.get("fields", [])) <= 10


def test_of_a_long_log_the_end_is_shown() -> None:
    log = tuple(f"line {number} {'x' * 400}" for number in range(50))
    texts = [block["text"]["text"] for block in message(report(evidence=Evidence(log=log)))["blocks"] if "text" in block]
    (shown,) = [text for text in texts if text.startswith("Log")]
    assert "line 49" in shown
    assert "line 10 " not in shown


# PagerDuty ----------------------------------------------------------------------------------------------------------------------


async def test_an_event(tmp_path: Path) -> None:
    (told,) = await sent("pagerduty", tmp_path, WHOLE)
    details = told["payload"].pop("custom_details")
    assert told == {
        "routing_key": "r0uting",
        "event_action": "trigger",
        "dedup_key": f"autoscaler/{identity(WHOLE)}",
        "client": "autoscaler",
        "payload": {
            "summary": "CrashLoop: Deployment shop/web, container app, 3 of 10 pods",
            "source": "prod",
            "severity": "warning",
            "timestamp": "2023-11-14T23:13:20+00:00",
            "component": "Deployment shop/web",
            "group": "shop",
            "class": "CrashLoop",
        },
    }
    assert details["Exit code"] == "1: the program's own error"
    assert details["Log of pod web-7d4b9c8f5-b, last lines"] == ["connecting to db", "panic: no such table"]


@pytest.mark.parametrize(
    ("made", "acknowledge", "action"),
    [
        pytest.param(WHOLE, True, "trigger", id="fired"),
        pytest.param(report(Kind.UPDATED), True, "trigger", id="updated"),
        pytest.param(ACTED, False, "trigger", id="remedy-unless-asked"),
        pytest.param(ACTED, True, "acknowledge", id="remedy"),
        pytest.param(report(Kind.REMEDY, remedies=(replace(DONE, dry_run=True),)), True, "trigger", id="dry-run"),
        pytest.param(report(Kind.REMEDY, remedies=(replace(DONE, acted=False),)), True, "trigger", id="refused"),
        pytest.param(OVER, False, "resolve", id="resolved"),
    ],
)
async def test_actions(tmp_path: Path, made: Report, action: str, *, acknowledge: bool) -> None:
    (told,) = await sent("pagerduty", tmp_path, made, acknowledge=acknowledge)
    assert (told["event_action"], told["dedup_key"]) == (action, f"autoscaler/{identity(WHOLE)}")
    assert ("payload" in told) == (action == "trigger")


async def test_a_workload_that_is_down_as_a_whole_is_critical(tmp_path: Path) -> None:
    (told,) = await sent("pagerduty", tmp_path, report(incident=incident(finding=finding(of=3))))
    assert told["payload"]["severity"] == "critical"


# All of them --------------------------------------------------------------------------------------------------------------------


HOSTILE = [
    case("mention", "<!channel> <@U123> @everyone &lt;!here&gt;"),
    case("fence", "``` <!channel> *bold* ```` `code`"),
    case("ansi", "\x1b[31mred\x1b]0;title\x07"),
    case("bidi", "\u202egnp.exe\u202c\u200b"),
    case("link", "[click](javascript:alert(1)) <https://evil|good>"),
    case("html", "<script>alert(1)</script><img src=x onerror=y>"),
    case("nul", "a\0b\r\nc"),
    case("long", "z" * 2**20),
]


@pytest.mark.parametrize("kind", list(ROUTES))
@pytest.mark.parametrize("each", [pytest.param(each, id=each.id) for each in HOSTILE])
async def test_hostile_text_does_no_harm(kind: str, each: Case, tmp_path: Path) -> None:
    (told,) = await sent(kind, tmp_path, hostile(each))
    text = json.dumps(told, ensure_ascii=False)
    assert len(text) < 40_000
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]|\\u00[01]|\\r", text)
    if kind == "alertmanager":
        assert told[0]["labels"] == LABELS
    if kind == "slack":
        marked = [block["text"]["text"] for block in told["blocks"] if block.get("text", {}).get("type") == "mrkdwn"]
        for shown in [*marked, told["text"]]:
            assert not re.search(r"<|(?<!&amp;)&(?!amp;|lt;|gt;)", shown)
        assert all(shown.count("```") == 2 for shown in marked)
    if kind == "webhook":
        outside = re.sub(r"(?ms)^(`{3,})\n.*?^\1$", "", told["markdown"])
        assert not re.search(r"(?<!\\)[<\[!](?!`)|(?<!`)@", outside.replace("\\\\", ""))
