"""What is said of an incident, and that nothing of it can do harm where it is shown."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.health.facts import Subject
from autoscaler.core.health.lifecycle import End, Kind, Phase
from autoscaler.core.health.report import Done, Evidence, Report
from autoscaler.core.health.taxonomy import Cause
from autoscaler.core.health.words import (
    SUMMARY_MAX,
    TITLE_MAX,
    code_block,
    document,
    escape_markdown,
    escape_mrkdwn,
    identity,
    markdown,
    plain,
    remedy_words,
    tell,
    turn_id,
)
from tests.core.health.corpus import CORPUS, Case
from tests.core.health.telling import AT_S, DONE, EVIDENCE, PODS, WEB, finding, hostile, incident, report

WHOLE = report(evidence=EVIDENCE, remedies=(DONE,))


def test_plain_text() -> None:
    assert plain(tell(WHOLE)) == (
        """\
CrashLoop: Deployment shop/web, container app, 3 of 10 pods

Container app of Deployment shop/web: it crashes again and again. It last ended with exit code 1: the program's own error, reason Error.

Cluster: prod
Workload: Deployment shop/web
Container: app
Cause: CrashLoop
Reason: Error
Exit code: 1: the program's own error
Pods: 3 of 10: web-7d4b9c8f5-b, web-7d4b9c8f5-a, web-7d4b9c8f5-c
Restarts: 5 since it began
Limits: cpu 100m to 1, memory 128Mi to 256Mi
Image: web:2
Node: node-1, node-2
Revision: 7d4b9c8f5, made 6 min ago; before it 5c6f8, made 9 days ago
Lasts: 3 min
Last words: no such table

What was done:
  pod web-7d4b9c8f5-b: evicted; a new pod takes its place

Changed since the revision before:
  container app, image web:1 → web:2

Warning events, newest first:
  3 min ago, 5 times: BackOff: restarting failed container

Log of pod web-7d4b9c8f5-b, last lines:
  connecting to db
  panic: no such table

Could not be had:
  events of Deployment shop/web: refused"""
    )


def test_markdown_has_the_same_in_blocks() -> None:
    shown = markdown(tell(WHOLE))
    assert shown.startswith("**CrashLoop\\: Deployment shop\\/web, container app, 3 of 10 pods**\n\nContainer app of")
    assert "- Exit code: 1\\: the program's own error\n" in shown
    assert "Log of pod web\\-7d4b9c8f5\\-b, last lines:\n\n```\nconnecting to db\npanic: no such table\n```" in shown


@pytest.mark.parametrize(
    ("made", "title", "said"),
    [
        pytest.param(
            report(Kind.UPDATED), "Update: CrashLoop: Deployment shop/web, container app, 3 of 10 pods", "crashes again", id="update"
        ),
        pytest.param(report(Kind.REPEATED), "Still: CrashLoop: Deployment shop/web", "crashes again", id="repeated"),
        pytest.param(
            report(Kind.FLAPPING, incident=incident(returns=(1.0, 2.0, 3.0))),
            "Comes and goes: CrashLoop",
            "come back 3 times",
            id="flapping",
        ),
        pytest.param(
            report(Kind.RESOLVED, incident=incident(end=End.HEALTHY, phase=Phase.RESOLVED)),
            "Resolved: CrashLoop: Deployment shop/web",
            "was reported with CrashLoop: it crashes again and again. It is well again, and has been for 3 min.",
            id="resolved",
        ),
        pytest.param(
            report(Kind.RESOLVED, incident=incident(end=End.GONE, phase=Phase.RESOLVED)),
            "Resolved: CrashLoop",
            "It is over: the workload is gone.",
            id="gone",
        ),
        pytest.param(
            report(incident=incident(finding=finding(cause=Cause.OOM, exit_code=137, reason="OOMKilled"))),
            "OutOfMemory: Deployment shop/web, container app",
            "exit code 137: killed (SIGKILL), reason OOMKilled",
            id="out-of-memory",
        ),
        pytest.param(
            report(incident=incident(finding=finding(cause=Cause.UNSCHEDULABLE, container="", exit_code=-1, pods=PODS[:1], of=0))),
            "Unschedulable: Deployment shop/web, 1 pod",
            "Deployment shop/web: no node has room for it.",
            id="no-container",
        ),
        pytest.param(
            report(
                incident=incident(finding=finding(subject=Subject("Node", "", "node-1", "n"), cause=Cause.NODE_LOST, container="", of=0))
            ),
            "NodeLost: Node node-1, 3 pods",
            "Node node-1: the node does not answer",
            id="node",
        ),
        pytest.param(
            report(incident=incident(finding=finding(subject=WEB._replace(name="auth-token"), container="secret"))),
            "CrashLoop: Deployment shop/auth-token, container secret",
            "Container secret of Deployment shop/auth-token: it crashes again and again",
            id="names-that-sound-secret",
        ),
    ],
)
def test_story(made: Report, title: str, said: str) -> None:
    story = tell(made)
    assert story.title.startswith(title)
    assert said in story.summary


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(0, "0: ended successfully", id="0"),
        pytest.param(1, "1: the program's own error", id="1"),
        pytest.param(126, "126: the command is not executable", id="126"),
        pytest.param(127, "127: the command was not found", id="127"),
        pytest.param(137, "137: killed (SIGKILL)", id="137"),
        pytest.param(143, "143: asked to end (SIGTERM)", id="143"),
        pytest.param(-1, None, id="unknown"),
    ],
)
def test_exit_code_and_its_meaning(code: int, words: str | None) -> None:
    made = report(incident=incident(finding=finding(exit_code=code)))
    assert dict(tell(made).facts).get("Exit code") == words
    assert document(made)["incident"]["exitCode"] == (code if code >= 0 else None)


@pytest.mark.parametrize(
    ("done", "words"),
    [
        pytest.param(DONE, "pod web-7d4b9c8f5-b: evicted; a new pod takes its place", id="just-now"),
        pytest.param(
            replace(DONE, at_s=AT_S - 7300, dry_run=True),
            "pod web-7d4b9c8f5-b 2 h ago: dry run: evicted; a new pod takes its place",
            id="ago",
        ),
        pytest.param(
            replace(DONE, pod="", words="nothing is done: the policy says report"), "nothing is done: the policy says report", id="no-pod"
        ),
        pytest.param(replace(DONE, pod="", at_s=AT_S - 600, words="nothing is done"), "10 min ago: nothing is done", id="no-pod-ago"),
    ],
)
def test_a_remedy_in_a_line(done: Done, words: str) -> None:
    assert remedy_words(done, AT_S) == words


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        pytest.param(report(), ("nothing so far",), id="nothing-yet"),
        pytest.param(
            report(incident=incident(finding=finding(cause=Cause.OOM))), ("nothing: a new pod does not help with this",), id="no-help"
        ),
        pytest.param(report(remedies=(replace(DONE, dry_run=True, at_s=AT_S - 600),)), None, id="dry-run"),
        pytest.param(report(Kind.RESOLVED), (), id="resolved-by-itself"),
    ],
)
def test_what_was_done(made: Report, lines: tuple[str, ...] | None) -> None:
    found = {section.heading: section.lines for section in tell(made).sections}.get("What was done", ())
    assert found == (lines if lines is not None else ("pod web-7d4b9c8f5-b 10 min ago: dry run: evicted; a new pod takes its place",))


def test_document_is_json_and_whole() -> None:
    made = document(WHOLE)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["incident"]["workload"] == {"kind": "Deployment", "namespace": "shop", "name": "web"}
    assert [pod["name"] for pod in made["incident"]["pods"]] == [pod.name for pod in PODS]
    assert made["evidence"]["log"] == list(EVIDENCE.log)
    assert (made["kind"], made["at"], made["incident"]["resolvedAt"]) == ("fired", AT_S, None)


def test_an_incident_is_the_same_whatever_becomes_of_it() -> None:
    turns = [
        report(),
        report(Kind.UPDATED, AT_S + 1, incident=incident(finding=finding(reason="x", exit_code=137, pods=()))),
        report(Kind.RESOLVED, AT_S + 2),
    ]
    others = [report(cluster="b"), report(incident=incident(finding=finding(container="b")))]
    assert len({identity(turn) for turn in turns}) == 1
    assert len({identity(turn) for turn in [turns[0], *others]}) == 3
    assert len({turn_id(turn) for turn in turns}) == 3


def test_long_ones_end() -> None:
    subject = WEB._replace(name="w" * 253, namespace="n" * 63)
    story = tell(report(incident=incident(finding=finding(subject=subject, container="c" * 63))))
    assert len(story.title) == TITLE_MAX
    assert len(story.summary) <= SUMMARY_MAX


@pytest.mark.parametrize("kind", [Kind.FIRED, Kind.REMEDY, Kind.RESOLVED])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CORPUS])
def test_no_form_shows_a_secret(case: Case, kind: Kind) -> None:
    made = hostile(case, kind)
    story = tell(made)
    for shown in (plain(story), markdown(story), json.dumps(document(made), ensure_ascii=False)):
        assert [secret for secret in case.secrets if secret in shown] == []


HOSTILE = st.text(alphabet=st.sampled_from("`*_[]()<>&|#!@:/\\~ \n\x1b\u202eab")) | st.sampled_from(
    ["<!channel>", "[x](javascript:alert(1))", "<script>", "@everyone", "```\n# heading", "![](http://evil/x.png)", "<@U123|bob>"]
)


@given(HOSTILE)
def test_markdown_of_a_text_has_no_markup(text: str) -> None:
    shown = re.sub(r"\\[\\`*_{}\[\]()#+\-.!|<>~&:/]|`@`", "", escape_markdown(text))
    assert not re.search(r"[`*_\[\]<>#!@|~]", shown)


@given(st.lists(HOSTILE.map(lambda text: text.replace("\n", " ")), max_size=5))
def test_no_line_ends_its_block(lines: list[str]) -> None:
    first, *inner, last = code_block(lines).split("\n")
    assert first == last
    assert not any(first in line for line in inner)


@given(HOSTILE)
def test_slack_sees_no_mention_and_no_end_of_a_block(text: str) -> None:
    shown = escape_mrkdwn(text)
    assert not re.search(r"[<>]|```|&(?!amp;|lt;|gt;)", shown)


def test_evidence_of_nothing_leaves_no_empty_sections() -> None:
    made: dict[str, Any] = document(report(Kind.RESOLVED, evidence=Evidence()))
    assert "Log" not in made["text"]
