"""Where the service logs in, and what it says where it cannot."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.errors import ConfigError


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kubeconfig and no pod around the test."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


def kubeconfig(path: Path, server: str = "https://a.invalid", **changes: object) -> Path:
    content = {
        "current-context": "one",
        "contexts": [{"name": name, "context": {"cluster": "k", "user": "u"}} for name in ("one", "two")],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "from-file"}}],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content | changes))
    return path


def service_account(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text("from-pod\n")
    (folder / "ca.crt").write_text("a certificate")
    return folder


def in_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")


class TestWhere:
    async def test_the_file_that_is_given_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        in_pod(monkeypatch)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "env", "https://env.invalid")))
        login = find_login(str(kubeconfig(tmp_path / "given", "https://given.invalid")), "", service_account(tmp_path / "sa"))
        await login.read()
        assert (login.configuration.host, login.origin) == ("https://given.invalid", f"kubeconfig {tmp_path / 'given'}")

    async def test_then_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        in_pod(monkeypatch)
        monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{kubeconfig(tmp_path / 'env', 'https://env.invalid')}")
        login = find_login("", "", service_account(tmp_path / "sa"))
        await login.read()
        assert login.configuration.host == "https://env.invalid"

    async def test_then_the_pod(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        in_pod(monkeypatch)
        kubeconfig(tmp_path / ".kube" / "config")
        login = find_login("", "", service_account(tmp_path / "sa"))
        await login.read()
        assert login.configuration.host == "https://10.0.0.1:443"
        assert await login.configuration.get_api_key_with_prefix("BearerToken") == "bearer from-pod\n"

    async def test_then_home(self, tmp_path: Path) -> None:
        kubeconfig(tmp_path / ".kube" / "config")
        login = find_login("", "two", tmp_path / "sa")
        await login.read()
        assert login.configuration.host == "https://a.invalid"

    async def test_a_context_means_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        in_pod(monkeypatch)
        kubeconfig(tmp_path / ".kube" / "config")
        assert find_login("", "two", service_account(tmp_path / "sa")).origin.startswith("kubeconfig ")

    def test_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"no kubeconfig was given, KUBECONFIG is not set, .*sa has no token .* and there is no .*config"
        ):
            find_login("", "", tmp_path / "sa")


class TestWrong:
    @pytest.mark.parametrize(
        ("content", "context", "words"),
        [
            pytest.param(None, "", "no such file", id="missing"),
            pytest.param("", "", "kubeconfig .*: ", id="empty"),
            pytest.param("a: [b", "", "kubeconfig .*: ", id="no-yaml"),
            pytest.param("[1, 2]", "", "kubeconfig .*: ", id="a-list"),
            pytest.param("current-context: x\ncontexts: []\nclusters: []\nusers: []", "", "x", id="no-such-current-context"),
            pytest.param({}, "three", "no context 'three'; it has one, two", id="no-such-context"),
            pytest.param({"clusters": []}, "", "Expected object with name k", id="no-such-cluster"),
            pytest.param(
                {"clusters": [{"name": "k", "cluster": {}}]}, "", "server: expected a URL as https://host:port, got ''", id="no-server"
            ),
            *(
                pytest.param({"clusters": [{"name": "k", "cluster": {"server": url}}]}, "", f"got '{re.escape(shown)}'", id=f"no-url-{url}")
                for url, shown in [
                    *((url, url) for url in ("a.invalid", "ftp://a", "http://[::1", "https://a b", "https://a?x=1")),
                    ("https://user:secret@a", "…@a"),
                ]
            ),
            pytest.param(
                {"clusters": [{"name": "k", "cluster": {"server": "https://a.invalid", "certificate-authority": "nope.crt"}}]},
                "",
                "nope.crt",
                id="no-such-ca-file",
            ),
            pytest.param(
                {"clusters": [{"name": "k", "cluster": {"server": "https://a.invalid", "certificate-authority-data": "!!!"}}]},
                "",
                "kubeconfig .*: ",
                id="ca-is-no-base64",
            ),
            pytest.param(
                {"clusters": [{"name": "k", "cluster": {"server": "https://a.invalid", "certificate-authority-data": "aGVsbG8="}}]},
                "",
                "the certificates in it cannot be used",
                id="ca-is-no-certificate",
            ),
        ],
    )
    async def test_is_told(self, tmp_path: Path, content: str | dict[str, Any] | None, context: str, words: str) -> None:
        path = tmp_path / "kubeconfig"
        if isinstance(content, dict):
            kubeconfig(path, **content)
        elif content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError, match=words):
            await Client.connect(find_login(str(path), context))

    @pytest.mark.parametrize(
        ("missing", "words"), [pytest.param("ca.crt", "certification file", id="ca"), pytest.param("token", "no token", id="token")]
    )
    async def test_pod_without(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, words: str) -> None:
        in_pod(monkeypatch)
        (service_account(tmp_path / "sa") / missing).unlink()
        with pytest.raises(ConfigError, match=words):
            await Client.connect(find_login("", "", tmp_path / "sa"))
