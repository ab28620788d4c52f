"""Every way in which a server can fail: the error of its kind with a useful sentence, in time, after exactly one request."""

import asyncio
import gzip
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from math import isnan

import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.adapters.prometheus.session import BODY_MAX
from autoscaler.core.spec import Query
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from autoscaler.metrics import QUERY_SECONDS
from autoscaler.ports import Matrix, Vector
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.prometheus.conftest import LOAD, until_no_thread_asks
from tests.adapters.prometheus.server import ONE, Behaviour, Exchange, FaultServer, head, refusal, reply, success

AT_S = 1_700_000_040.0
BUDGET_S = 5.0
SHORT_S = 0.2
SLACK_S = 10.0

LOGIN = b"<!doctype html><title>Sign in</title><form method=post>"
ASK: list[object] = [
    pytest.param(lambda source, budget_s: source.instant(LOAD, AT_S, budget_s), id="instant"),
    pytest.param(lambda source, budget_s: source.range(LOAD, AT_S, AT_S + 60, 15, budget_s), id="range"),
]
Ask = Callable[[PrometheusSource, float], Awaitable[Vector | Matrix]]


def drip_body(exchange: Exchange) -> None:
    exchange.send(head(200, len(ONE)))
    exchange.drip(ONE)


def drip_head(exchange: Exchange) -> None:
    exchange.drip(head(200, len(ONE)) + ONE)


def drip_error(exchange: Exchange) -> None:
    exchange.send(head(503, 1000, "text/plain"))
    exchange.drip(b"busy" * 250)


def endless_head(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: " + b"a" * 10_000)


def break_off(exchange: Exchange) -> None:
    exchange.send(head(200, len(ONE)) + ONE[:40])
    exchange.reset()


def end_early(exchange: Exchange) -> None:
    exchange.send(head(200, len(ONE)) + ONE[:40])
    raise ConnectionError  # an orderly end of the connection, too soon


def hang_up(exchange: Exchange) -> None:
    del exchange
    raise ConnectionError


def large_without_length(exchange: Exchange) -> None:
    exchange.send(head(200, None) + b'{"status":"success","data":{"resultType":"vector","result":[')
    piece = b'{"metric":{"app":"web"},"value":[1,"1"]},' * 5000
    for _ in range(BODY_MAX // len(piece) + 2):
        exchange.send(piece)


def large_when_unpacked(exchange: Exchange) -> None:
    reply(200, gzip.compress(b" " * (BODY_MAX + 1), compresslevel=1), headers={"Content-Encoding": "gzip"})(exchange)


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize(
    ("behave", "kind", "words"),
    [
        pytest.param(
            reply(200, LOGIN, "text/html; charset=utf-8"), AnswerError, "200 with text/html; charset=utf-8 instead", id="login-page"
        ),
        pytest.param(reply(200, b""), AnswerError, "empty body", id="empty-body"),
        pytest.param(reply(200, ONE[:-20]), AnswerError, "not in the form of Prometheus's API", id="truncated-json"),
        pytest.param(reply(200, b'{"status": "success"}'), AnswerError, "not in the form", id="no-data"),
        pytest.param(reply(200, b"[]"), AnswerError, "not in the form", id="other-json"),
        pytest.param(reply(200, b"\xff\xfe{}"), AnswerError, "not in the form", id="not-utf-8"),
        pytest.param(reply(200, b"ok", "text/plain"), AnswerError, "text/plain instead of JSON", id="wrong-content-type"),
        pytest.param(reply(200, b"ok", None), AnswerError, "no content type instead of JSON", id="no-content-type"),
        pytest.param(reply(200, refusal("execution", "lost")), AnswerError, "status 'error': execution: lost", id="error-with-200"),
        pytest.param(reply(204), AnswerError, "answered 204 No Content", id="204"),
        pytest.param(
            reply(302, headers={"Location": "https://user:pw@login.test/in?next=secret"}),
            AnswerError,
            "answered 302 Found, to https://login.test/in, which is not followed",
            id="redirect",
        ),
        pytest.param(
            reply(401, b"no token\n", "text/plain"), TransientError, "401 Unauthorized: no token; check this endpoint's", id="401"
        ),
        pytest.param(reply(403, LOGIN, "text/html"), TransientError, "403 Forbidden; check this endpoint's credentials", id="403"),
        pytest.param(reply(404, b"404 page not found", "text/plain"), AnswerError, "404 page not found; no Prometheus API there", id="404"),
        pytest.param(reply(405), AnswerError, "answered 405 Method Not Allowed", id="405"),
        pytest.param(reply(400, LOGIN, "text/html"), AnswerError, "answered 400 Bad Request", id="400-of-a-proxy"),
        pytest.param(
            reply(400, refusal("bad_data", "parse error: x")), PermanentError, "refuses the query: bad_data: parse error: x", id="400"
        ),
        pytest.param(reply(422, refusal("execution", "many-to-many")), PermanentError, "the query: execution: many-to-many", id="422"),
        pytest.param(reply(429), TransientError, "answered 429 Too Many Requests", id="429"),
        pytest.param(reply(500, refusal("internal", "disk")), TransientError, "500 Internal Server Error: internal: disk", id="500"),
        pytest.param(reply(502, LOGIN, "text/html"), TransientError, "answered 502 Bad Gateway", id="502"),
        pytest.param(reply(503, refusal("timeout", "too slow")), TransientError, "503 Service Unavailable: timeout: too slow", id="503"),
        pytest.param(reply(599), TransientError, "answered 599", id="unknown-status"),
        pytest.param(Exchange.reset, TransientError, "Connection reset by peer", id="reset"),
        pytest.param(break_off, TransientError, "Connection reset by peer", id="reset-in-body"),
        pytest.param(end_early, TransientError, "the answer broke off", id="ends-early"),
        pytest.param(hang_up, TransientError, "closed the connection without an answer", id="closes"),
        pytest.param(
            lambda exchange: exchange.send(b"SSH-2.0-OpenSSH_9.9\r\n"), TransientError, "is no HTTP (BadStatusLine)", id="not-http"
        ),
        pytest.param(
            reply(200, ONE, headers={f"X-{index}": "" for index in range(200)}), TransientError, "is no HTTP (HTTPException)", id="headers"
        ),
        pytest.param(reply(200, ONE, headers={"X-Long": "a" * 70_000}), TransientError, "is no HTTP (LineTooLong)", id="long-header"),
        pytest.param(reply(200, ONE, headers={"Content-Length": "1"}), TransientError, "InvalidHeader", id="two-lengths"),
        pytest.param(reply(200, b'{"status":"success","data":' + b"[" * 100_000), AnswerError, "not in the form", id="nested-without-end"),
        pytest.param(reply(200, b"not gzip", headers={"Content-Encoding": "gzip"}), TransientError, "cannot be unpacked", id="broken-gzip"),
    ],
)
async def test_fault(
    source: PrometheusSource,
    server: FaultServer,
    recorder: MemoryRecorder,
    *,
    ask: Ask,
    behave: Behaviour,
    kind: type[AutoscalerError],
    words: str,
) -> None:
    server.behave = behave
    with pytest.raises(kind) as raised:
        await ask(source, BUDGET_S)
    message = str(raised.value)
    assert words in message
    assert message.startswith(f"Prometheus 'default' ({server.url}): ")
    assert "\n" not in message
    assert isinstance(raised.value, AnswerError) == (kind is AnswerError)
    assert len(server.requests) == 1
    outcome = {AnswerError: "wrong_answer", PermanentError: "refused", TransientError: "unavailable"}[kind]
    assert len(recorder.observed(QUERY_SECONDS, "default", outcome)) == 1


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(lambda exchange: exchange.send(head(200, 60_000_000)), id="60-MB-as-announced"),
        pytest.param(large_without_length, id="without-a-length"),
        pytest.param(large_when_unpacked, id="when-unpacked"),
    ],
)
async def test_answer_that_is_too_large(source: PrometheusSource, server: FaultServer, behave: Behaviour) -> None:
    server.behave = behave
    with pytest.raises(AnswerError, match="the answer is larger than 16 MiB; aggregate in the query"):
        await source.instant(LOAD, AT_S, BUDGET_S)
    assert len(server.requests) == 1


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(Exchange.hang, id="silent"),
        pytest.param(drip_body, id="drips-its-body"),
        pytest.param(drip_head, id="drips-its-head"),
        pytest.param(drip_error, id="drips-an-error"),
        pytest.param(endless_head, id="head-without-end"),
    ],
)
async def test_deadline_holds(source: PrometheusSource, server: FaultServer, recorder: MemoryRecorder, ask: Ask, behave: Behaviour) -> None:
    server.behave = behave
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(TransientError, match=r"no answer within 0\.2 s"):
        await ask(source, SHORT_S)
    assert SHORT_S * 0.99 <= loop.time() - began_s <= SHORT_S + SLACK_S
    assert len(server.requests) == 1
    (took_s,) = recorder.observed(QUERY_SECONDS, "default", "timeout")
    assert took_s == pytest.approx(SHORT_S, abs=SLACK_S)
    await until_no_thread_asks()  # its line is cut, so its thread ends although the server goes on
    server.behave = reply(200, ONE)
    vector = await source.instant(LOAD, AT_S, BUDGET_S)
    assert vector.values.tolist() == [42.0]


async def test_never_accepted(source: PrometheusSource, server: FaultServer) -> None:
    server.accepting = False
    with pytest.raises(TransientError, match=r"no answer within 0\.2 s"):
        await source.instant(LOAD, AT_S, SHORT_S)


@pytest.fixture
def full_listener() -> Iterator[str]:
    """An address whose queue of connections is full: further ones get no answer at all."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("http://127.0.0.1:1", "Connection refused", id="refused"),
        pytest.param("http://-no-host-.invalid:9090/prom/", "its name does not resolve", id="dns"),
        pytest.param(f"http://{'a' * 70}.test", "its url cannot be used", id="label-too-long"),
        pytest.param("http://user:hunter2@127.0.0.1:1/prom", "Connection refused", id="user-in-url"),
    ],
)
async def test_unreachable(recorder: MemoryRecorder, url: str, words: str) -> None:
    source = PrometheusSource({"default": Endpoint(url)}, recorder)
    try:
        with pytest.raises(TransientError, match=words) as raised:
            await source.instant(LOAD, AT_S, BUDGET_S)
        assert url.rpartition("@")[2].removeprefix("http://").rstrip("/") in str(raised.value)
        assert "hunter2" not in repr(chain(raised.value))
    finally:
        await source.close()


async def test_no_connection_in_time(full_listener: str, recorder: MemoryRecorder) -> None:
    source = PrometheusSource({"default": Endpoint(full_listener)}, recorder)
    with pytest.raises(TransientError, match=r"no connection in time|no answer within 0\.2 s"):
        await source.instant(LOAD, AT_S, SHORT_S)
    await source.close()


@pytest.mark.parametrize(
    ("headers", "retry_after_s"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"Retry-After": "7"}, 7.0, id="seconds"),
        pytest.param({"Retry-After": "Tue, 14 Nov 2023 22:14:30 GMT"}, 30.0, id="date-by-the-servers-clock"),
        pytest.param({"Retry-After": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0, id="date-gone-by"),
        pytest.param({"Retry-After": "soon"}, None, id="nonsense"),
        pytest.param({"Retry-After": "9" * 400}, 3600.0, id="for-ever"),
        pytest.param({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600.0, id="date-for-ever"),
        pytest.param({"Retry-After": "-3"}, None, id="negative"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(
    source: PrometheusSource, server: FaultServer, status: int, headers: dict[str, str], retry_after_s: float | None
) -> None:
    server.behave = reply(status, headers=headers)
    with pytest.raises(TransientError) as raised:
        await source.instant(LOAD, AT_S, BUDGET_S)
    assert raised.value.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(
            success("scalar", [AT_S, "1"]), "an instant vector is needed, but the query gives a scalar; wrap it in vector", id="scalar"
        ),
        pytest.param(success("string", [AT_S, "x"]), "an instant vector is needed, but the query gives a string", id="string"),
        pytest.param(success("matrix", []), "but the query gives a range vector; put a function", id="matrix"),
        pytest.param(success("streams", []), "the unknown type 'streams'", id="unknown-type"),
        pytest.param(success("vector", [{"metric": {}, "value": [AT_S, "x1"]}]), "could not convert string to float: 'x1'", id="no-number"),
        pytest.param(success("vector", [{"metric": {}, "value": [AT_S]}]), "not in the form", id="half-a-sample"),
        pytest.param(
            success("vector", [{"metric": {}, "histogram": [AT_S, {}]}]), "native histograms; put histogram_quantile", id="histogram"
        ),
    ],
)
async def test_answer_of_another_type(source: PrometheusSource, server: FaultServer, body: bytes, words: str) -> None:
    server.behave = reply(200, body)
    with pytest.raises(AnswerError) as raised:
        await source.instant(LOAD, AT_S, BUDGET_S)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "content_type", "now_s"),
    [
        pytest.param({}, "application/json", 1_700_000_040.0, id="date"),
        pytest.param({}, "text/plain", 1_700_000_040.0, id="json-under-another-name"),
    ],
)
async def test_answer_that_is_good(
    source: PrometheusSource, server: FaultServer, headers: dict[str, str], content_type: str, now_s: float
) -> None:
    server.behave = reply(200, ONE, content_type, headers)
    vector = await source.instant(LOAD, AT_S + 5, BUDGET_S)
    assert (vector.labels, vector.values.tolist()) == (({"app": "web"},), [42.0])
    assert (vector.evaluated_at_s, vector.source_now_s) == (1_700_000_040.0, now_s)


async def test_clock_that_is_not_told(source: PrometheusSource, server: FaultServer) -> None:
    server.behave = lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ONE) + ONE)
    assert isnan((await source.instant(LOAD, AT_S, BUDGET_S)).source_now_s)


async def test_secrets_that_come_back_are_hidden(server: FaultServer, recorder: MemoryRecorder) -> None:
    def echo(exchange: Exchange) -> None:
        said = "; ".join(f"{name}: {value}" for name, value in exchange.request.headers.items())
        reply(500, said.encode(), "text/plain")(exchange)

    server.behave = echo
    url = server.url.replace("//", "//user:hunter2@")
    source = PrometheusSource({"default": Endpoint(url, headers={"X-Api-Key": "k3y-0f-m1ne", "X-Scope-OrgID": "shop"})}, recorder)
    with pytest.raises(TransientError, match="500 Internal Server Error: Host: ") as raised:
        await source.instant(LOAD, AT_S, BUDGET_S)
    assert "Basic •••" in str(raised.value)
    assert "X-Scope-OrgID: shop" in str(raised.value)  # who asks is no secret
    assert not {secret for secret in ("hunter2", "dXNlcjpodW50ZXIy", "k3y-0f-m1ne") if secret in repr(chain(raised.value))}
    await source.close()


async def test_unknown_endpoint_lists_the_known(recorder: MemoryRecorder) -> None:
    source = PrometheusSource({"b": Endpoint("http://127.0.0.1:1"), "a": Endpoint("http://127.0.0.1:1")}, recorder)
    with pytest.raises(PermanentError, match="there is no endpoint 'c' in the settings; configured: 'a', 'b'"):
        await source.instant(Query("load", endpoint="c"), AT_S, BUDGET_S)
    nothing = PrometheusSource({}, recorder)
    with pytest.raises(PermanentError, match="configured: none"):
        await nothing.instant(LOAD, AT_S, BUDGET_S)
    await nothing.close()
    await source.close()


def chain(error: BaseException | None) -> list[str]:
    """What a log with a traceback would say."""
    said = []
    while error is not None:
        said.append(repr(error))
        error = error.__cause__ or error.__context__
    return said
