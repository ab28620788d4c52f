"""What the other side's faults mean to each sink: try again, and when; or never; and nothing of it tells a secret."""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from autoscaler.adapters.notify import notifier, pace_s, remind_s
from autoscaler.adapters.notify.wire import ANSWER_MAX
from autoscaler.clock import ManualClock
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from tests.adapters.kubernetes.fault_server import Step, answer, drip, page, reset, silence, stream
from tests.adapters.notify.sinks import NOW_S, ROUTES, WELL, settings, sink_on
from tests.adapters.prometheus.server import FaultServer as TlsServer
from tests.adapters.prometheus.server import reply
from tests.core.health.telling import report

KINDS = pytest.mark.parametrize("kind", list(ROUTES))


@KINDS
async def test_a_report_is_taken(kind: str, tmp_path: Path) -> None:
    async with sink_on(kind, tmp_path) as (server, sink):
        await sink.send(report(), 5.0)
        (seen,) = server.of(ROUTES[kind])
        assert seen.headers["Content-Type"] == "application/json"
        assert seen.headers["User-Agent"] == "autoscaler"


@KINDS
@pytest.mark.parametrize(
    ("step", "error", "wish_s", "words"),
    [
        pytest.param(answer(b"busy", 429, {"Retry-After": "7"}), TransientError, 7.0, "429 Too Many Requests: busy", id="429"),
        pytest.param(
            answer(b"", 503, {"Retry-After": "Tue, 14 Nov 2023 23:15:00 GMT"}), TransientError, 99.6, "503 Service Unavailable", id="date"
        ),
        pytest.param(answer(b"", 503, {"Retry-After": "soon"}), TransientError, None, "503 Service Unavailable: no message", id="nonsense"),
        pytest.param(answer(b"oops", 500), TransientError, None, "500 Internal Server Error: oops", id="500"),
        pytest.param(page(502), TransientError, None, "502 Bad Gateway", id="502-html"),
        pytest.param(answer(b"who are you", 401), TransientError, None, "401 Unauthorized: who are you", id="401"),
        pytest.param(answer(b"no_service", 404), TransientError, None, "404 Not Found: no_service", id="404"),
        pytest.param(answer(b"invalid_payload", 400), PermanentError, None, "400 Bad Request: invalid_payload", id="400"),
        pytest.param(answer(b"", 413), PermanentError, None, "413 ", id="413"),
        pytest.param(answer(b"", 422), PermanentError, None, "422 ", id="422"),
        pytest.param(
            answer(b"", 302, {"Location": "/login"}), AnswerError, None, "302: it redirects elsewhere; give that address", id="302"
        ),
        pytest.param(page(200), AnswerError, None, "", id="200-html"),
        pytest.param(reset(), TransientError, None, "no connection to 127.0.0.1: ", id="reset"),
        pytest.param(stream(b"half", then="reset"), TransientError, None, "no connection to 127.0.0.1: ", id="cut"),
        pytest.param(silence(), TransientError, None, "no answer within 0.2 s", id="silence"),
        pytest.param(drip(0.01), TransientError, None, "no answer within 0.2 s", id="drip"),
        pytest.param(answer(b"\x1b[31mbad password=hunter2", 500), TransientError, None, "bad password=[redacted]", id="hostile-words"),
    ],
)
async def test_fault(kind: str, tmp_path: Path, step: Step, error: type[AutoscalerError], wish_s: float | None, words: str) -> None:
    async with sink_on(kind, tmp_path, step) as (server, sink):
        with pytest.raises(error) as caught:
            await sink.send(report(), 0.2 if "within" in words else 5.0)
        assert str(caught.value).startswith("sink ops: ")
        assert words in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert getattr(caught.value, "retry_after_s", None) == (None if wish_s is None else pytest.approx(wish_s))
        assert len(server.seen) == 1, "once, and no redirect is followed"


@KINDS
async def test_nobody_listens(kind: str, tmp_path: Path) -> None:
    sink = notifier("ops", settings(kind, "http://127.0.0.1:1", tmp_path), ManualClock())
    with pytest.raises(TransientError, match=r"sink ops: no connection to 127\.0\.0\.1"):
        await sink.send(report(), 5.0)
    await sink.close()


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        pytest.param("slack", answer(b"no_text", content_type="text/plain"), id="slack-is-not-ok"),
        pytest.param("pagerduty", answer({"status": "invalid event"}, 202), id="pagerduty-is-no-success"),
        pytest.param("pagerduty", answer(b"accepted", 202), id="pagerduty-is-no-json"),
    ],
)
async def test_an_answer_that_is_none(kind: str, step: Step, tmp_path: Path) -> None:
    async with sink_on(kind, tmp_path, step) as (_, sink):
        with pytest.raises(AnswerError):
            await sink.send(report(), 5.0)


async def test_what_is_read_of_an_answer_is_bounded(tmp_path: Path) -> None:
    async with sink_on("webhook", tmp_path, stream(*[b"x" * ANSWER_MAX] * 2, then="silence")) as (_, sink):
        await sink.send(report(), 5.0)


@pytest.mark.parametrize(
    ("files", "fields", "headers"),
    [
        pytest.param({"token": " hunter2\n"}, {"bearer_token_file": "token"}, {"Authorization": "Bearer hunter2"}, id="token"),
        pytest.param(
            {"word": "hunter2"}, {"username": "bob", "password_file": "word"}, {"Authorization": "Basic Ym9iOmh1bnRlcjI="}, id="password"
        ),
        pytest.param({}, {"headers": {"X-Scope-OrgID": "shop"}}, {"X-Scope-OrgID": "shop"}, id="headers"),
    ],
)
async def test_credentials(tmp_path: Path, files: Mapping[str, str], fields: dict[str, Any], headers: Mapping[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    named = {field: str(tmp_path / value) if field.endswith("_file") else value for field, value in fields.items()}
    async with sink_on("webhook", tmp_path, **named) as (server, sink):
        await sink.send(report(), 5.0)
        assert {name: server.seen[0].headers[name] for name in headers} == headers


async def test_files_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    async with sink_on("webhook", tmp_path, bearer_token_file=str(tmp_path / "token")) as (server, sink):
        await sink.send(report(), 5.0)
        (tmp_path / "token").write_text("two")
        await sink.send(report(), 5.0)
        assert [seen.headers["Authorization"] for seen in server.seen] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("kind", "field", "text", "words"),
    [
        pytest.param("webhook", "bearer_token_file", None, "bearer_token_file {}: No such file or directory", id="missing"),
        pytest.param("webhook", "bearer_token_file", b"", "bearer_token_file {}: expected one line of printable text", id="empty"),
        pytest.param("webhook", "bearer_token_file", b"hunter2\nhunter2", "expected one line of printable text", id="two-lines"),
        pytest.param("webhook", "secret_file", b"\xff\xfehunter2", "secret_file {}: expected text, it is not UTF-8", id="binary"),
        pytest.param("slack", "url_file", b"hooks.slack.com/hunter2", "url_file {}: expected http://HOST", id="no-url"),
        pytest.param("pagerduty", "routing_key_file", b"", "routing_key_file {}: expected one line", id="routing-key"),
    ],
)
async def test_files_that_cannot_be_used(kind: str, field: str, text: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_bytes(text)
    async with sink_on(kind, tmp_path, **{field: str(path)}) as (server, sink):
        with pytest.raises(TransientError) as caught:
            await sink.send(report(), 5.0)
        assert words.format(path) in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert server.seen == []


async def test_what_is_echoed_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("opensesame")
    step = answer(b"no user has opensesame, nor c0mplex", 403)
    async with sink_on("webhook", tmp_path, step, bearer_token_file=str(tmp_path / "token"), headers={"X-Key": "c0mplex"}) as (_, sink):
        with pytest.raises(TransientError, match=r"403 Forbidden: no user has \[redacted\], nor \[redacted\]$"):
            await sink.send(report(), 5.0)


@pytest.mark.parametrize(
    "address", ["http://a..b/hunter2/in", "http://127.0.0.1:1/hunter2/in", "http://127.0.0.1:1/in?key=hunter2", "http://[hunter2"]
)
async def test_an_address_from_a_file_is_told_by_nobody(address: str, tmp_path: Path) -> None:
    path = tmp_path / "address"
    path.write_text(address)
    async with sink_on("slack", tmp_path, url_file=str(path)) as (_, sink):
        with pytest.raises(TransientError) as caught:
            await sink.send(report(), 5.0)
        assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_proxies_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are used, but not for this machine itself."""
    async with sink_on("webhook", tmp_path) as (server, sink):
        monkeypatch.setenv("http_proxy", server.url)
        await sink.send(report(), 5.0)
        other = notifier("ops", settings("webhook", "http://receiver.test", tmp_path), ManualClock())
        server.script("POST /hook", WELL["webhook"])
        await other.send(report(), 5.0)
        await other.close()
        assert [seen.headers["Host"] for seen in server.seen] == [server.url.removeprefix("http://"), "receiver.test"]


@pytest.fixture
def tls_server(certificates: Path, request: pytest.FixtureRequest) -> Iterator[TlsServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{request.param}.pem", certificates / "key.pem")
    with TlsServer(context) as running:
        running.behave = reply(200, b"ok", "text/plain")
        yield running


@pytest.mark.parametrize(
    ("tls_server", "fields", "words"),
    [
        pytest.param("good", {"ca_file": "good.pem"}, "", id="trusted"),
        pytest.param("good", {"insecure_skip_verify": True}, "", id="unchecked"),
        pytest.param("good", {}, "TLS with 127.0.0.1 failed", id="self-signed"),
        pytest.param("expired", {"ca_file": "expired.pem"}, "certificate has expired", id="expired"),
        pytest.param("other", {"ca_file": "other.pem"}, "IP address mismatch", id="other-name"),
        pytest.param("good", {"ca_file": "none.pem"}, "none.pem: cannot be used", id="no-ca-file"),
    ],
    indirect=["tls_server"],
)
async def test_certificates(tls_server: TlsServer, certificates: Path, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    named = {name: str(certificates / value) if name.endswith("_file") else value for name, value in fields.items()}
    sink = notifier("ops", settings("webhook", tls_server.url, tmp_path, **named), ManualClock(NOW_S))
    if words:
        with pytest.raises(TransientError, match=words):
            await sink.send(report(), 5.0)
    else:
        await sink.send(report(), 5.0)
    await sink.close()


@pytest.mark.parametrize("tls_server", ["good"], indirect=True)
async def test_client_certificates_are_loaded_when_they_change(tls_server: TlsServer, certificates: Path, tmp_path: Path) -> None:
    assert tls_server.tls is not None
    tls_server.tls.verify_mode = ssl.CERT_REQUIRED
    tls_server.tls.load_verify_locations(certificates / "good.pem")
    mine, key = tmp_path / "mine.pem", tmp_path / "key.pem"
    mine.write_bytes((certificates / "other.pem").read_bytes())
    key.write_bytes((certificates / "key.pem").read_bytes())
    fields = {"ca_file": str(certificates / "good.pem"), "cert_file": str(mine), "key_file": str(key)}
    sink = notifier("ops", settings("webhook", tls_server.url, tmp_path, **fields), ManualClock(NOW_S))
    with pytest.raises(TransientError):
        await sink.send(report(), 5.0)
    mine.write_bytes((certificates / "good.pem").read_bytes())
    await sink.send(report(), 5.0)
    await sink.close()


def test_who_is_paced_and_reminded(tmp_path: Path) -> None:
    made = {kind: settings(kind, "http://a", tmp_path) for kind in ROUTES}
    assert {kind: (pace_s(each), remind_s(each)) for kind, each in made.items()} == {
        "alertmanager": (0.0, 60.0),
        "webhook": (0.0, 0.0),
        "slack": (1.0, 0.0),
        "pagerduty": (0.0, 0.0),
    }
