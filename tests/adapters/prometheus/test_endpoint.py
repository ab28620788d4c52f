"""How a request is addressed and let in: URLs, tokens, passwords, headers, certificates, and what is refused beforehand."""

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from autoscaler.adapters.prometheus import LOOKBACK_IGNORED, Endpoint, PrometheusSource
from autoscaler.adapters.prometheus.session import URL_MAX
from autoscaler.core.spec import Query
from autoscaler.errors import AnswerError, ConfigError, TransientError
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.prometheus.conftest import LOAD
from tests.adapters.prometheus.server import ONE, Exchange, FaultServer, refusal, reply

AT_S = 1_700_000_040.0
BUDGET_S = 5.0


@asynccontextmanager
async def opened(endpoint: Endpoint) -> AsyncIterator[PrometheusSource]:
    source = PrometheusSource({"default": endpoint}, MemoryRecorder())
    try:
        yield source
    finally:
        await source.close()


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("fields", "files", "headers"),
    [
        pytest.param({}, {}, {"Authorization": None}, id="nothing"),
        pytest.param({"bearer_token_file": "token"}, {"token": " t0ken\n"}, {"Authorization": "Bearer t0ken"}, id="token"),
        pytest.param({"username": "ann", "password_file": "word"}, {"word": "pä:ss"}, {"Authorization": basic("ann:pä:ss")}, id="password"),
        pytest.param({"username": "ann"}, {}, {"Authorization": basic("ann:")}, id="no-password"),
        pytest.param({"user_info": "ann%40x:p%2Fw@"}, {}, {"Authorization": basic("ann@x:p/w")}, id="in-the-url"),
        pytest.param({"headers": {"X-Scope-OrgID": "shop"}}, {}, {"X-Scope-OrgID": "shop", "Authorization": None}, id="headers"),
        pytest.param({"headers": {"Authorization": "Token abc"}}, {}, {"Authorization": "Token abc"}, id="own-scheme"),
    ],
)
async def test_credentials(
    server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    files: dict[str, str],
    headers: dict[str, str | None],
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login nobody password nothing\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # requests would prefer it to a bearer token
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    fields = {name: str(tmp_path / value) if name.endswith("_file") else value for name, value in fields.items()}
    url = server.url.replace("//", f"//{fields.pop('user_info', '')}")
    async with opened(Endpoint(url, **fields)) as source:
        await source.instant(LOAD, AT_S, BUDGET_S)
        with pytest.raises(AnswerError):  # the server answers with a vector
            await source.range(LOAD, AT_S, AT_S, 15, BUDGET_S)
    assert [{name: request.headers.get(name) for name in headers} for request in server.requests] == [headers, headers]


async def test_token_is_read_again(server: FaultServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with opened(Endpoint(server.url, bearer_token_file=str(token))) as source:
        for text in ("one", "two"):
            token.write_text(text)
            await source.instant(LOAD, AT_S, BUDGET_S)
        assert [request.headers["Authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]
        for text in ("", "a\nb", "é"):
            token.write_text(text)
            with pytest.raises(TransientError, match=f"default.*bearer_token_file {token}: expected one line"):
                await source.instant(LOAD, AT_S, BUDGET_S)
        token.write_bytes(b"secret\xff")
        with pytest.raises(TransientError, match="not UTF-8") as raised:
            await source.instant(LOAD, AT_S, BUDGET_S)
        assert "secret" not in repr([raised.value, raised.value.__cause__])
        token.unlink()
        with pytest.raises(TransientError, match=f"default.*bearer_token_file {token}: No such file"):
            await source.instant(LOAD, AT_S, BUDGET_S)
    assert len(server.requests) == 2


@pytest.mark.parametrize("path", ["", "/", "/prom", "/prom/"])
async def test_path_is_kept(server: FaultServer, path: str) -> None:
    async with opened(Endpoint(server.url + path)) as source:
        await source.instant(LOAD, AT_S, BUDGET_S)
        with pytest.raises(AnswerError):
            await source.range(LOAD, AT_S, AT_S, 15, BUDGET_S)
    prefix = path.rstrip("/")
    assert [request.path for request in server.requests] == [f"{prefix}/api/v1/query", f"{prefix}/api/v1/query_range"]


async def test_what_is_sent(server: FaultServer) -> None:
    async with opened(Endpoint(server.url)) as source:
        await source.instant(Query('sum(rate(x{a="ü&b"}[1m]))'), AT_S + 0.25, 2.5)
        with pytest.raises(AnswerError):
            await source.range(LOAD, AT_S + 0.5, AT_S + 8.0, 2.5, 2.5)
    instant, ranged = server.requests
    assert instant.params == {"query": 'sum(rate(x{a="ü&b"}[1m]))', "time": "1700000040.250", "timeout": "2.500"}
    span = {"start": "1700000040.500", "end": "1700000048.000", "step": "2.500"}
    assert ranged.params == {"query": "load", "timeout": "2.500", **span}
    assert (instant.method, ranged.method) == ("GET", "GET")
    assert {request.headers["User-Agent"] for request in server.requests} == {"autoscaler"}


@pytest.mark.parametrize("is_known", [pytest.param(True, id="known"), pytest.param(False, id="ignored")])
async def test_lookback(server: FaultServer, caplog: pytest.LogCaptureFixture, *, is_known: bool) -> None:
    """It goes with every query, after one nonsensical that tells whether the server knows it."""

    def answer(exchange: Exchange) -> None:
        if is_known and exchange.request.params["lookback_delta"] == "?":
            reply(400, refusal("bad_data", "cannot parse"))(exchange)
        else:
            reply(200, ONE)(exchange)

    server.behave = answer
    async with opened(Endpoint(server.url, lookback_delta_s=30)) as source:
        for _ in range(2):
            await source.instant(LOAD, AT_S, BUDGET_S)
        with pytest.raises(AnswerError):
            await source.range(LOAD, AT_S, AT_S, 15, BUDGET_S)
    assert [request.params["lookback_delta"] for request in server.requests] == ["?", "30.000", "30.000", "30.000"]
    told = [] if is_known else [f"Prometheus 'default' ({server.url}): {LOOKBACK_IGNORED}"]
    assert caplog.messages == told


async def test_long_query_travels_in_the_body(server: FaultServer) -> None:
    text = f"sum(load{{app=~{'|'.join(f'web-{index}' for index in range(URL_MAX // 4))!r}}})"
    async with opened(Endpoint(server.url)) as source:
        vector = await source.instant(Query(text), AT_S, BUDGET_S)
    assert vector.values.tolist() == [42.0]
    (request,) = server.requests
    assert (request.method, request.path, request.params["query"]) == ("POST", "/api/v1/query", text)
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


async def test_no_proxy_leads_to_ourselves(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://user:hunter2@127.0.0.1:1")
    async with opened(Endpoint(server.url)) as source:
        await source.instant(LOAD, AT_S, BUDGET_S)
    async with opened(Endpoint("http://prometheus.test")) as source:
        with pytest.raises(TransientError, match="through the proxy: Connection refused"):
            await source.instant(LOAD, AT_S, BUDGET_S)


@pytest.fixture
def tls_server(certificates: Path, request: pytest.FixtureRequest) -> Iterator[FaultServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{request.param}.pem", certificates / "key.pem")
    with FaultServer(context) as running:
        yield running


@pytest.mark.parametrize(
    ("tls_server", "fields", "words"),
    [
        pytest.param("good", {"ca_file": "good.pem"}, "", id="trusted"),
        pytest.param("good", {"insecure_skip_verify": True}, "", id="unchecked"),
        pytest.param("good", {}, "its certificate is not trusted: self-signed certificate", id="self-signed"),
        pytest.param("expired", {"ca_file": "expired.pem"}, "its certificate is not trusted: certificate has expired", id="expired"),
        pytest.param("other", {"ca_file": "other.pem"}, "its certificate is not trusted: IP address mismatch", id="other-name"),
        pytest.param("good", {"ca_file": "none.pem"}, "none.pem: no such file", id="no-ca-file"),
        pytest.param("good", {"ca_file": "key.pem"}, "TLS failed: NO_CERTIFICATE_OR_CRL_FOUND", id="ca-file-is-none"),
    ],
    indirect=["tls_server"],
)
async def test_certificates(tls_server: FaultServer, certificates: Path, fields: dict[str, Any], words: str) -> None:
    fields = {name: str(certificates / value) if name.endswith("_file") else value for name, value in fields.items()}
    async with opened(Endpoint(tls_server.url, **fields)) as source:
        if not words:
            assert (await source.instant(LOAD, AT_S, BUDGET_S)).values.tolist() == [42.0]
            return
        with pytest.raises(TransientError) as raised:
            await source.instant(LOAD, AT_S, BUDGET_S)
        assert words in str(raised.value)
        assert str(raised.value).startswith(f"Prometheus 'default' ({tls_server.url}): ")


@pytest.mark.parametrize("tls_server", ["good"], indirect=True)
async def test_client_certificate(tls_server: FaultServer, certificates: Path) -> None:
    context = tls_server.tls
    assert context is not None
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates / "good.pem")
    ours: dict[str, Any] = {"ca_file": str(certificates / "good.pem")}
    async with opened(Endpoint(tls_server.url, **ours)) as source:
        with pytest.raises(TransientError):
            await source.instant(LOAD, AT_S, BUDGET_S)
    ours |= {"cert_file": str(certificates / "good.pem"), "key_file": str(certificates / "key.pem")}
    async with opened(Endpoint(tls_server.url, **ours)) as source:
        assert (await source.instant(LOAD, AT_S, BUDGET_S)).values.tolist() == [42.0]


@pytest.mark.parametrize("tls_server", ["good"], indirect=True)
async def test_tls_handshake_that_hangs_is_cut(tls_server: FaultServer, certificates: Path) -> None:
    tls_server.accepting = False
    async with opened(Endpoint(tls_server.url, ca_file=str(certificates / "good.pem"))) as source:
        with pytest.raises(TransientError, match=r"within 0\.1 s|in time"):
            await source.instant(LOAD, AT_S, 0.1)
        tls_server.accepting = True
        assert (await source.instant(LOAD, AT_S, BUDGET_S)).values.tolist() == [42.0]


URL = "http://prometheus:9090"


@pytest.mark.parametrize(
    ("url", "fields", "words"),
    [
        pytest.param("prometheus:9090", {}, "url: expected http://HOST", id="no-scheme"),
        pytest.param("ftp://prometheus", {}, "url: expected http://HOST", id="other-scheme"),
        pytest.param("http://", {}, "url: expected http://HOST", id="no-host"),
        pytest.param("http://user:hunter2@prometheus:port", {}, "url: expected http://HOST", id="no-port"),
        pytest.param("http://[::1", {}, "url: expected http://HOST", id="half-an-address"),
        pytest.param("http://a b", {}, "url: expected http://HOST", id="space"),
        pytest.param(f"{URL}/?token=hunter2", {}, "url: it has a query or a fragment", id="query"),
        pytest.param(f"{URL}/#graph", {}, "url: it has a query or a fragment", id="fragment"),
        pytest.param(URL, {"bearer_token_file": "/t", "username": "u"}, "bearer_token_file: there is a user name too", id="two-schemes"),
        pytest.param("http://u@p", {"bearer_token_file": "/t"}, "bearer_token_file: there is a user name too", id="token-and-url"),
        pytest.param("http://u@p", {"username": "u"}, "username: the url has one too", id="two-users"),
        pytest.param(URL, {"password_file": "/p"}, "password_file: it needs username", id="no-user"),
        pytest.param(URL, {"key_file": "/k"}, "key_file: it needs cert_file", id="no-certificate"),
        pytest.param(URL, {"ca_file": "/c", "insecure_skip_verify": True}, "ca_file: insecure_skip_verify would", id="ca-unused"),
        pytest.param(URL, {"lookback_delta_s": 0.0}, "lookback_delta_s: expected seconds above 0, got 0.0", id="lookback-0"),
        pytest.param(URL, {"lookback_delta_s": float("nan")}, "lookback_delta_s: expected seconds above 0, got nan", id="lookback-nan"),
        pytest.param(URL, {"headers": {"X Y": "1"}}, "headers: 'X Y' or its value cannot stand", id="header-name"),
        pytest.param(URL, {"headers": {"X": "hunter2\r\nY: 1"}}, "headers: 'X' or its value cannot stand", id="header-value"),
        pytest.param(URL, {"headers": {"authorization": "a"}, "username": "u"}, "would replace authorization", id="header-replaced"),
    ],
)
def test_fields_that_do_not_fit(url: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Endpoint(url, **fields)
    assert words in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"^url: .*; password_file: .*; key_file: .*$"):
        Endpoint("nowhere", password_file="/p", key_file="/k")


def test_endpoint_shows_no_secret() -> None:
    endpoint = Endpoint("https://user:hunter2@prometheus/prom/", headers={"X-Api-Key": "hunter2"})
    assert "hunter2" not in repr(endpoint)
    assert endpoint.base == "https://prometheus/prom"
