"""Settings: what wins, what is refused and in which words, and what is never shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from autoscaler.core.types import Mode
from autoscaler.errors import ConfigError
from autoscaler.settings import KubernetesAccess, Settings, load

POLICIES = {"AUTOSCALER_POLICIES": "/etc/policies"}
SECRET = "hunter2"

# What kubelet puts into a pod whose namespace has the Services `autoscaler` (port `http`) and `autoscaler-listen`.
INJECTED = {
    "AUTOSCALER_SERVICE_HOST": "10.96.7.1",
    "AUTOSCALER_SERVICE_PORT": "8080",
    "AUTOSCALER_SERVICE_PORT_HTTP": "8080",
    "AUTOSCALER_PORT": "tcp://10.96.7.1:8080",
    "AUTOSCALER_PORT_8080_TCP": "tcp://10.96.7.1:8080",
    "AUTOSCALER_PORT_8080_TCP_PROTO": "tcp",
    "AUTOSCALER_PORT_8080_TCP_PORT": "8080",
    "AUTOSCALER_PORT_8080_TCP_ADDR": "10.96.7.1",
    "AUTOSCALER_LISTEN_SERVICE_HOST": "10.96.7.2",
    "AUTOSCALER_LISTEN_SERVICE_PORT": "53",
    "AUTOSCALER_LISTEN_PORT": "udp://10.96.7.2:53",
    "AUTOSCALER_LISTEN_PORT_53_UDP": "udp://10.96.7.2:53",
    "AUTOSCALER_LISTEN_PORT_53_UDP_ADDR": "10.96.7.2",
    "KUBERNETES_PORT": "tcp://10.96.0.1:443",
}


def refused(flags: Mapping[str, Any] | None = None, file: Path | None = None, environ: Mapping[str, str] = POLICIES) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(flags, file, environ)
    return str(caught.value).split("\n")


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_defaults() -> None:
    settings = load(environ=POLICIES)
    assert settings.model_dump() == {
        "policies": (Path("/etc/policies"),),
        "policy_path": (),
        "namespaces": (),
        "prometheus": {},
        "sinks": {},
        "cluster": "",
        "kubeconfig": "",
        "context": "",
        "mode": "active",
        "listen_host": "0.0.0.0",  # noqa: S104 - kubelet's probes come to the pod's address
        "listen_port": 8080,
        "log_format": "auto",
        "log_level": "info",
        "state": "none",
        "write_concurrency": 16,
        "health": True,
        "remedies": "active",
        "remedies_every_s": 60.0,
        "breaker_share": 0.2,
        "breaker_workload_share": 0.5,
    }
    assert (settings.service_mode, settings.endpoints(), settings.access()) == (Mode.ACTIVE, {}, KubernetesAccess("", "", ()))


@pytest.mark.parametrize(
    ("flags", "environ", "text", "expected"),
    [
        pytest.param({"listen_port": 1}, {"AUTOSCALER_LISTEN_PORT": "2"}, "listen_port = 3", 1, id="flag-wins"),
        pytest.param({"listen_port": None}, {"AUTOSCALER_LISTEN_PORT": "2"}, "listen_port = 3", 2, id="then-environment"),
        pytest.param({}, {"AUTOSCALER_LISTEN_PORT": ""}, "listen_port = 3", 3, id="then-file"),
        pytest.param({}, {"autoscaler_listen_port": "2"}, "", 2, id="case-does-not-matter"),
        pytest.param({}, {}, "", 8080, id="then-default"),
        pytest.param({"listen_port": 0}, {}, "listen_port = 3", 0, id="zero-is-a-value"),
    ],
)
def test_rank(flags: Mapping[str, Any], environ: dict[str, str], text: str, expected: int, toml: Path) -> None:
    toml.write_text(text)
    assert load(flags, toml, POLICIES | environ).listen_port == expected


@pytest.mark.parametrize(
    ("environ", "field", "expected"),
    [
        pytest.param({"AUTOSCALER_POLICIES": "/a, /b,"}, "policies", (Path("/a"), Path("/b")), id="paths"),
        pytest.param({"AUTOSCALER_NAMESPACES": "shop,mail"}, "namespaces", ("shop", "mail"), id="names"),
        pytest.param({"AUTOSCALER_MODE": "dryRun"}, "mode", "dryRun", id="mode"),
        pytest.param({"AUTOSCALER_LISTEN_HOST": "::"}, "listen_host", "::", id="host"),
        pytest.param({"AUTOSCALER_KUBECONFIG": "~/.kube/other"}, "kubeconfig", "~/.kube/other", id="kubeconfig"),
    ],
)
def test_environment(environ: dict[str, str], field: str, expected: object) -> None:
    assert getattr(load(environ=POLICIES | environ), field) == expected


def test_endpoints_are_merged_field_by_field(toml: Path) -> None:
    toml.write_text('[prometheus.default]\nurl = "http://file:9090"\nca_file = "/ca"\n[prometheus.team-a]\nurl = "https://a/prom"\n')
    settings = load(
        {"prometheus": {"default": {"username": "bob", "ca_file": None}}},
        toml,
        POLICIES
        | {
            "AUTOSCALER_PROMETHEUS_URL": "http://environment:9090",
            "AUTOSCALER_PROMETHEUS__DEFAULT__HEADERS": '{"X-Scope-OrgID": "shop"}',
            "AUTOSCALER_PROMETHEUS__TEAM_B__URL": "http://b:9090",
            "AUTOSCALER_PROMETHEUS__TEAM_B__LOOKBACK_DELTA_S": "60",
        },
    )
    nothing = dict.fromkeys(("bearer_token_file", "username", "password_file", "ca_file", "cert_file", "key_file", "lookback_delta_s"))
    nothing |= {"headers": {}, "insecure_skip_verify": False}
    assert settings.endpoints() == {
        "default": nothing | {"url": "http://environment:9090", "ca_file": "/ca", "username": "bob", "headers": {"X-Scope-OrgID": "shop"}},
        "team-a": nothing | {"url": "https://a/prom"},
        "team_b": nothing | {"url": "http://b:9090", "lookback_delta_s": 60.0},
    }


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        pytest.param({}, {"AUTOSCALER_CONFIG": "{toml}"}, 4, id="environment"),
        pytest.param({}, {}, 16, id="nowhere"),
    ],
)
def test_file_is_named_by(flags: Mapping[str, Any], environ: dict[str, str], expected: int, toml: Path) -> None:
    toml.write_text("write_concurrency = 4")
    named = {name: value.format(toml=toml) for name, value in environ.items()}
    assert load(flags, None, POLICIES | named).write_concurrency == expected


def test_what_kubernetes_injects_is_no_setting() -> None:
    assert load(environ=POLICIES | INJECTED).model_dump() == load(environ=POLICIES).model_dump()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        pytest.param(
            {"AUTOSCALER_PORT": "9090"},
            "AUTOSCALER_PORT: no such setting; did you mean AUTOSCALER_LISTEN_PORT? "
            "(Kubernetes uses AUTOSCALER_PORT for a Service named autoscaler)",
            id="port",
        ),
        pytest.param({"AUTOSCALER_MODES": "active"}, "AUTOSCALER_MODES: no such setting; did you mean AUTOSCALER_MODE?", id="misspelt"),
        pytest.param(
            {"AUTOSCALER_LISTEN__PORT": "9090"},
            "AUTOSCALER_LISTEN__PORT: no such setting; did you mean AUTOSCALER_LISTEN_PORT?",
            id="nested",
        ),
        pytest.param(
            {"AUTOSCALER_MODE": "dryrun"}, "AUTOSCALER_MODE: mode: expected 'active', 'dryRun' or 'paused', got 'dryrun'", id="choice"
        ),
        pytest.param(
            {"AUTOSCALER_STATE": "kubernets"},
            "AUTOSCALER_STATE: state: expected kubernetes, none, or a directory, written with a / such as ./state, got 'kubernets'",
            id="state",
        ),
        pytest.param(
            {"AUTOSCALER_LISTEN_PORT": "80x"},
            "AUTOSCALER_LISTEN_PORT: listen_port: expected a valid integer, unable to parse string as an integer, got '80x'",
            id="number",
        ),
        pytest.param(
            {"AUTOSCALER_LISTEN_PORT": "65536"},
            "AUTOSCALER_LISTEN_PORT: listen_port: expected less than or equal to 65535, got '65536'",
            id="range",
        ),
        pytest.param(
            {"AUTOSCALER_NAMESPACES": "shop,Mail"},
            "AUTOSCALER_NAMESPACES: namespaces.1: expected the name of a namespace: up to 63 lower-case letters, digits and -, got 'Mail'",
            id="namespace",
        ),
        pytest.param(
            {"AUTOSCALER_PROMETHEUS__A__URL": "prometheus:9090"},
            "AUTOSCALER_PROMETHEUS__A__URL: prometheus.a.url: expected http://HOST[:PORT][/PATH] or https://…",
            id="url",
        ),
        pytest.param(
            {"AUTOSCALER_PROMETHEUS__A__CA_FILE": "/ca"},
            "environment: prometheus.a.url: missing; "
            "give it on the command line, as AUTOSCALER_PROMETHEUS__A__URL, or in the settings file",
            id="endpoint-without-url",
        ),
        pytest.param(
            {"AUTOSCALER_PROMETHEUS__A__URL": "http://a", "AUTOSCALER_PROMETHEUS__A__HEADERS": "X-Scope-OrgID: shop"},
            'AUTOSCALER_PROMETHEUS__A__HEADERS: prometheus.a.headers: expected a JSON object, such as {"X-Scope-OrgID": "shop"}',
            id="headers",
        ),
        pytest.param(
            {"AUTOSCALER_PROMETHEUS__A__URL": "http://a", "AUTOSCALER_PROMETHEUS__A__LOOKBACK_DELTA_S": "-5"},
            "AUTOSCALER_PROMETHEUS__A__LOOKBACK_DELTA_S: prometheus.a.lookback_delta_s: expected greater than 0, got '-5'",
            id="lookback",
        ),
        pytest.param(
            {"AUTOSCALER_PROMETHEUS_URL": "http://a", "AUTOSCALER_PROMETHEUS__DEFAULT__URL": "http://b"},
            "AUTOSCALER_PROMETHEUS_URL: AUTOSCALER_PROMETHEUS__DEFAULT__URL gives the same setting; keep one of them",
            id="twice",
        ),
        pytest.param(
            {"AUTOSCALER_PROMETHEUS": "http://a"},
            'AUTOSCALER_PROMETHEUS: expected a JSON object of endpoints, such as {"default": {"url": "http://prometheus:9090"}}',
            id="no-json",
        ),
        pytest.param(
            {"AUTOSCALER_POLICIES": ""},
            "policies: missing; give it on the command line, as AUTOSCALER_POLICIES, or in the settings file",
            id="required",
        ),
    ],
)
def test_environment_is_refused(environ: dict[str, str], said: str) -> None:
    assert refused(environ=POLICIES | environ) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("policy = 3", "{toml}: policy: no such setting; did you mean policies?", id="unknown"),
        pytest.param(
            '[prometheus.a]\nurl = "http://a"\npassword = "hunter2"',
            "{toml}: prometheus.a.password: no such setting; did you mean password_file?",
            id="secret-in-place-of-its-file",
        ),
        pytest.param(
            '[prometheus.A]\nurl = "http://a"',
            "{toml}: prometheus.A: expected a name of lower-case letters, digits, - and _, as policies refer to it",
            id="endpoint-name",
        ),
        pytest.param(
            "listen_port: 3",
            "settings file {toml}: not TOML: Expected '=' after a key in a key/value pair (at line 1, column 12)",
            id="yaml",
        ),
        pytest.param(
            "listen_port = 3\nlisten_port = 4\n",
            "settings file {toml}: not TOML: Cannot overwrite a value (at line 2, column 16)",
            id="duplicate",
        ),
        pytest.param(
            'remedies = "off"',
            "{toml}: remedies: expected 'active' or 'dryRun', got 'off'",
            id="remedies",
        ),
        pytest.param("breaker_share = 0", "{toml}: breaker_share: expected greater than 0, got 0", id="breaker"),
        pytest.param("remedies_every_s = 1", "{toml}: remedies_every_s: expected greater than or equal to 10, got 1", id="pace"),
        pytest.param("write_concurrency = 0", "{toml}: write_concurrency: expected greater than or equal to 1, got 0", id="range"),
        pytest.param("policies = []", "{toml}: policies: expected at least one directory or file of policies", id="no-policies"),
    ],
)
def test_file_is_refused(text: str, said: str, toml: Path) -> None:
    toml.write_text(text)
    environ = {} if "policies" in text else POLICIES
    assert refused(file=toml, environ=environ) == [said.format(toml=toml)]


def test_file_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "no.toml"
    assert refused(environ=POLICIES | {"AUTOSCALER_CONFIG": str(missing)}) == [f"settings file {missing}: No such file or directory"]


def test_file_that_is_no_text(toml: Path) -> None:
    toml.write_bytes(b"\xff\xfe")
    (said,) = refused(file=toml)
    assert said.startswith(f"settings file {toml}: not TOML: 'utf-8' codec can't decode")


def test_every_mistake_is_told_at_once(toml: Path) -> None:
    toml.write_text("lsiten_port = 1\nmode = 'on'")
    said = refused({"write_concurrency": 1000}, toml, {"AUTOSCALER_LOG_LEVEL": "trace", "AUTOSCALER_X": "1"})
    assert said[0].startswith("AUTOSCALER_X: no such setting; the settings are AUTOSCALER_CONFIG, AUTOSCALER_PROMETHEUS_URL, ")
    assert [line.split(":")[:2] for line in said] == [
        ["AUTOSCALER_X", said[0].partition(":")[2]],
        ["policies", " missing; give it on the command line, as AUTOSCALER_POLICIES, or in the settings file"],
        [str(toml), " mode"],
        ["AUTOSCALER_LOG_LEVEL", " log_level"],
        ["command line", " write_concurrency"],
        [str(toml), " lsiten_port"],
    ]


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"AUTOSCALER_PROMETHEUS_URL": f"ftp://bob:{SECRET}@a"}, id="url"),
        pytest.param({"AUTOSCALER_PROMETHEUS_URL": f"http://bob:{SECRET}@a:port"}, id="url-port"),
        pytest.param({"AUTOSCALER_PROMETHEUS__A__HEADERS": f'{{"Authorization": "{SECRET}"'}, id="headers"),
        pytest.param({"AUTOSCALER_PROMETHEUS__A__HEADERS": f'{{"Authorization": ["{SECRET}"]}}'}, id="header-type"),
        pytest.param({"AUTOSCALER_PROMETHEUS__A__BEARER_TOKEN": SECRET}, id="unknown"),
        pytest.param({"AUTOSCALER_PROMETHEUS": f'{{"a": "{SECRET}"}}'}, id="endpoint-type"),
        pytest.param({"AUTOSCALER_PROMETHEUS": f'{{"{SECRET}'}, id="json"),
        pytest.param({"AUTOSCALER_TOKEN": SECRET}, id="variable"),
    ],
)
def test_refusal_tells_no_secret(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ=POLICIES | environ)
    chain: list[BaseException] = [caught.value]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    assert [error for error in chain if SECRET in str(error)] == []
    assert chain[-1].__suppress_context__ or chain[-1].__context__ is None


def test_effective_values_name_their_origin_and_hide_secrets(toml: Path) -> None:
    toml.write_text(
        f'namespaces = ["shop", "mail"]\n[prometheus.default]\nlookback_delta_s = 60\nheaders = {{Authorization = "{SECRET}"}}\n'
    )
    settings = load({"mode": "paused"}, toml, POLICIES | {"AUTOSCALER_PROMETHEUS_URL": f"http://bob:{SECRET}@a:9090/x"})
    rows = {row.name: (row.value, row.origin) for row in settings.effective()}
    assert rows["policies"] == ("/etc/policies", "AUTOSCALER_POLICIES")
    assert rows["namespaces"] == ("shop, mail", str(toml))
    assert rows["mode"] == ("paused", "command line")
    assert rows["listen_port"] == ("8080", "default")
    assert rows["prometheus.default.url"] == ("http://(hidden)@a:9090/x", "AUTOSCALER_PROMETHEUS_URL")
    assert rows["prometheus.default.headers"] == ("Authorization: (hidden)", str(toml))
    assert rows["prometheus.default.lookback_delta_s"] == ("60.0", str(toml))
    assert rows["prometheus.default.ca_file"] == ("", "default")
    assert {name.split(".")[0] for name in rows} == set(Settings.model_fields) - {"sinks"}  # there are none
    assert SECRET not in f"{settings.effective()}{settings!r}{settings}"


def test_settings_do_not_change() -> None:
    settings = load(environ=POLICIES)
    with pytest.raises(ValidationError, match="frozen"):
        settings.mode = "paused"  # type: ignore[misc]
