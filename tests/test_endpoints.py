"""Settings of sinks: what each type needs, what is refused and in which words, and what is never shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autoscaler.endpoints import PAGERDUTY_URL, AlertmanagerSink, PagerDutySink, SlackSink, WebhookSink
from autoscaler.errors import ConfigError
from autoscaler.settings import load

POLICIES = {"AUTOSCALER_POLICIES": "/etc/policies"}
SECRET = "hunter2"

TOML = f"""
cluster = "prod"
[sinks.alerts]
type = "alertmanager"
url = "http://alertmanager:9093"
labels = {{team = "shop"}}
[sinks.hook]
type = "webhook"
url = "https://hooks.example/in?key={SECRET}"
secret_file = "/secrets/hook"
[sinks.chat]
type = "slack"
url_file = "/secrets/slack"
[sinks.pager]
type = "pagerduty"
routing_key_file = "/secrets/pagerduty"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(TOML)
    return path


def test_a_sink_of_each_type(toml: Path) -> None:
    settings = load(None, toml, POLICIES)
    assert settings.sink_names() == {"alerts", "hook", "chat", "pager"}
    assert settings.cluster == "prod"
    alerts, hook, chat, pager = (settings.sinks[name] for name in ("alerts", "hook", "chat", "pager"))
    assert isinstance(alerts, AlertmanagerSink)
    assert (alerts.resend_s, alerts.labels) == (60.0, {"team": "shop"})
    assert isinstance(hook, WebhookSink)
    assert hook.secret_file == "/secrets/hook"
    assert isinstance(chat, SlackSink)
    assert chat.url_file == "/secrets/slack"
    assert isinstance(pager, PagerDutySink)
    assert (pager.url, pager.acknowledge) == (PAGERDUTY_URL, False)


def test_a_sink_from_the_environment() -> None:
    settings = load(
        environ=POLICIES
        | {
            "AUTOSCALER_SINKS__ALERTS__TYPE": "alertmanager",
            "AUTOSCALER_SINKS__ALERTS__URL": "http://alertmanager:9093",
            "AUTOSCALER_SINKS__ALERTS__RESEND_S": "30",
            "AUTOSCALER_SINKS__ALERTS__LABELS": '{"team": "shop"}',
            "AUTOSCALER_CLUSTER": "prod",
        }
    )
    (sink,) = settings.sinks.values()
    assert isinstance(sink, AlertmanagerSink)
    assert (sink.url, sink.resend_s, sink.labels) == ("http://alertmanager:9093", 30.0, {"team": "shop"})


def test_sinks_from_one_variable_and_field_by_field_over_a_file(toml: Path) -> None:
    given = {"AUTOSCALER_SINKS": '{"more": {"type": "slack", "url_file": "/s"}}', "AUTOSCALER_SINKS__ALERTS__URL": "http://other:9093"}
    settings = load(None, toml, POLICIES | given)
    assert settings.sink_names() == {"alerts", "hook", "chat", "pager", "more"}
    assert settings.sinks["alerts"].url == "http://other:9093"


BASE = {"type": "webhook", "url": "http://a"}


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        pytest.param({"ops": {"url": "http://a"}}, "sinks.ops.type: expected one of alertmanager, pagerduty, slack, webhook", id="no-type"),
        pytest.param({"ops": {"type": "teams"}}, "sinks.ops.type: expected one of alertmanager, pagerduty, slack, webhook", id="type"),
        pytest.param({"ops": BASE | {"urll": "x"}}, "sinks.ops.urll: no such setting; did you mean url?", id="misspelt"),
        pytest.param(
            {"ops": BASE | {"routing_key_file": "x"}}, "sinks.ops.routing_key_file: no such setting; did you mean key_file?", id="another's"
        ),
        pytest.param({"ops": {"type": "webhook"}}, "sinks.ops: give just one of url and url_file", id="no-url"),
        pytest.param({"ops": BASE | {"url_file": "/x"}}, "sinks.ops: give just one of url and url_file", id="both-urls"),
        pytest.param(
            {"ops": BASE | {"url": f"ftp://{SECRET}"}}, "sinks.ops.url: expected http://HOST[:PORT][/PATH] or https://…", id="url"
        ),
        pytest.param(
            {"ops": BASE | {"url": f"http://u:{SECRET}@a"}},
            "sinks.ops: a user name or password in url is shown in places; give username and password_file",
            id="password-in-url",
        ),
        pytest.param({"ops": BASE | {"username": "bob"}}, "sinks.ops: password_file needs username", id="no-password"),
        pytest.param({"ops": BASE | {"key_file": "/k"}}, "sinks.ops: key_file needs cert_file", id="key"),
        pytest.param(
            {"ops": BASE | {"ca_file": "/k", "insecure_skip_verify": True}}, "sinks.ops: insecure_skip_verify would ignore ca_file", id="ca"
        ),
        pytest.param(
            {"ops": BASE | {"headers": {"X-Key": f"{SECRET}\n"}}},
            "sinks.ops.headers: expected names and values that can stand in an HTTP header",
            id="header",
        ),
        pytest.param(
            {"ops": {"type": "slack", "url": f"https://hooks.slack.com/{SECRET}"}},
            "sinks.ops: the URL of a Slack webhook is a secret: put it into a file, and name that as url_file",
            id="slack-url",
        ),
        pytest.param(
            {"ops": {"type": "alertmanager", "url": "http://a", "resend_s": 1}},
            "sinks.ops.resend_s: expected greater than or equal to 10, got 1",
            id="resend",
        ),
        pytest.param(
            {"ops": {"type": "alertmanager", "url": "http://a", "labels": {"alertname": "x"}}},
            "sinks.ops.labels: alertname is a label that alerts have already",
            id="label",
        ),
        pytest.param(
            {"ops": {"type": "alertmanager", "url": "http://a", "labels": {"a-b": "x"}}},
            "sinks.ops.labels: expected names of letters",
            id="label-name",
        ),
        pytest.param(
            {"ops": {"type": "alertmanager", "url": f"http://a/?key={SECRET}"}}, "sinks.ops.url: it has a query or a fragment", id="query"
        ),
        pytest.param({"ops": {"type": "pagerduty"}}, "sinks.ops.routing_key_file: missing", id="routing-key"),
        pytest.param({"Ops": BASE}, "sinks.Ops: expected a name of lower-case letters", id="name"),
        pytest.param({"kubernetes": BASE}, "sinks.kubernetes: kubernetes is the sink of Events on the workload", id="reserved"),
    ],
)
def test_refused(sinks: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"sinks": sinks}, None, POLICIES)
    (sentence,) = str(caught.value).split("\n")
    assert sentence.startswith(f"command line: {said}")
    assert SECRET not in sentence


@pytest.mark.parametrize("variable", ["AUTOSCALER_SINKS", "AUTOSCALER_PROMETHEUS"])
def test_what_is_no_json_is_told_by_its_variable(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}: expected a JSON object"):
        load(environ=POLICIES | {variable: "{"})


def test_a_cluster_is_a_name() -> None:
    with pytest.raises(ConfigError, match="cluster"):
        load({"cluster": "a b"}, None, POLICIES)


def test_nothing_secret_is_shown(toml: Path) -> None:
    settings = load(None, toml, POLICIES)
    rows = {row.name: row.value for row in settings.effective()}
    assert rows["sinks.hook.url"] == "https://hooks.example/in?(hidden)"
    assert rows["sinks.alerts.labels"] == "team: shop"
    assert (rows["sinks.chat.url"], rows["sinks.chat.url_file"]) == ("", "/secrets/slack")
    assert SECRET not in f"{rows} {settings!r}"
