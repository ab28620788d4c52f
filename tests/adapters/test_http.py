"""The HTTP side, over real sockets."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf, nan
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

import autoscaler
from autoscaler.adapters.http import WITHHELD, serve
from autoscaler.errors import AutoscalerError, ConfigError, PermanentError, TransientError

DASHBOARD = Path(autoscaler.__file__).parent / "dashboard"


class Colour(Enum):
    RED = "red"


@dataclass
class FakeViews:
    """Views that say what a test tells them to; what is an error is raised."""

    rows: Any = field(default_factory=list)
    found: Mapping[tuple[str, str, str], Any] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def workloads(self) -> list[dict[str, Any]]:
        if isinstance(self.rows, Exception):
            raise self.rows
        rows: list[dict[str, Any]] = self.rows
        return rows

    def incidents(self, readable: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"namespace": name, "cause": "CrashLoop", "fired_s": nan} for name in ("shop", "bank", "")]
        return [row | ({"log": ["panic"]} if row["namespace"] in readable else {}) for row in rows]

    def workload(self, namespace: str, name: str, kind: str = "") -> dict[str, Any] | None:
        return self.found.get((namespace, name, kind))

    def alive(self) -> list[str]:
        return self.stuck

    def ready(self) -> tuple[list[str], list[str]]:
        return self.missing, self.remarks


class FakeExposition:
    async def render(self, accept: str = "") -> tuple[bytes, str]:
        return f"accept {accept}\n".encode(), "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass
class Site:
    views: FakeViews
    address: str
    client: aiohttp.ClientSession

    async def ask(self, path: str, method: str = "GET", **more: Any) -> tuple[int, str]:  # noqa: ANN401 - aiohttp's options
        async with self.client.request(method, self.address + path, **more) as response:
            return response.status, await response.text()

    async def headers(self, path: str, method: str = "GET") -> Mapping[str, str]:
        async with self.client.request(method, self.address + path) as response:
            return response.headers

    async def send(self, raw: bytes) -> str:
        """Everything that comes back until the service closes the connection."""
        host, _, port = self.address.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.decode()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    views = FakeViews()
    async with serve(views, FakeExposition(), "127.0.0.1", 0) as address, aiohttp.ClientSession() as client:
        yield Site(views, address, client)


@pytest.mark.parametrize(
    ("path", "change", "answer"),
    [
        pytest.param("/healthz", {}, (200, "ok\n"), id="alive"),
        pytest.param("/healthz", {"stuck": ["the 5 s group stopped", "watch"]}, (503, "the 5 s group stopped\nwatch\n"), id="stuck"),
        pytest.param("/healthz", {"missing": ["no policies"]}, (200, "ok\n"), id="alive-though-not-ready"),
        pytest.param("/readyz", {}, (200, "ok\n"), id="ready"),
        pytest.param("/readyz", {"remarks": ["old policies"]}, (200, "ok\nremark: old policies\n"), id="ready-with-remarks"),
        pytest.param("/readyz", {"missing": ["a", "b"], "remarks": ["c"]}, (503, "a\nb\nremark: c\n"), id="not-ready"),
    ],
)
async def test_probes(site: Site, path: str, change: Mapping[str, list[str]], answer: tuple[int, str]) -> None:
    for name, value in change.items():
        setattr(site.views, name, value)
    assert await site.ask(path) == answer
    assert (await site.ask(path, "HEAD")) == (answer[0], "")


async def test_metrics_pass_the_accept_headers_on(site: Site) -> None:
    async with site.client.get(f"{site.address}/metrics", headers=[("Accept", "a/b;q=1"), ("Accept", "c/d")]) as response:
        assert response.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert await response.text() == "accept a/b;q=1,c/d\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param({"x": nan, "y": inf, "z": -inf}, '{"x":null,"y":null,"z":null}', id="not-finite"),
        pytest.param(
            {"x": np.float64("nan"), "y": np.float32(1.5), "z": np.int64(3), "b": np.bool_(True)},
            '{"x":null,"y":1.5,"z":3,"b":true}',
            id="numpy",
        ),
        pytest.param({"x": np.array([1.0, nan])}, '{"x":[1.0,null]}', id="array"),
        pytest.param({"x": 'größer → "5"\n', "e": Colour.RED}, '{"x":"größer → \\"5\\"\\n","e":"red"}', id="text"),
    ],
)
async def test_json_is_what_any_parser_takes(site: Site, value: dict[str, Any], text: str) -> None:
    site.views.rows = [value]
    status, body = await site.ask("/api/v1/workloads")
    assert (status, body) == (200, f"[{text}]\n")
    json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


async def test_incidents(site: Site) -> None:
    status, body = await site.ask("/api/v1/incidents")
    assert status == 200
    assert json.loads(body) == [
        {"namespace": "shop", "cause": "CrashLoop", "fired_s": None, "withheld": WITHHELD},
        {"namespace": "bank", "cause": "CrashLoop", "fired_s": None, "withheld": WITHHELD},
        {"namespace": "", "cause": "CrashLoop", "fired_s": None},
    ]


@dataclass
class FakeAccess:
    """Knows one token, which may read the logs of one namespace."""

    error: AutoscalerError | None = None
    asked: list[str] = field(default_factory=list)

    async def may_read_logs(self, token: str, namespace: str) -> bool:
        self.asked.append(namespace)
        if self.error is not None:
            raise self.error
        return token == "opensesame" and namespace == "shop"


@pytest.mark.parametrize(
    ("header", "error", "logs", "withheld", "asked"),
    [
        pytest.param("Bearer opensesame", None, [True, False, False], [None, f"{WITHHELD}; this one's may not", None], 2, id="may"),
        pytest.param("bearer  opensesame ", None, [True, False, False], [None, f"{WITHHELD}; this one's may not", None], 2, id="odd-case"),
        pytest.param("Bearer other", None, [False] * 3, [f"{WITHHELD}; this one's may not"] * 2 + [None], 2, id="may-not"),
        pytest.param("", None, [False] * 3, [WITHHELD, WITHHELD, None], 0, id="no-token"),
        pytest.param("Bearer ", None, [False] * 3, [WITHHELD, WITHHELD, None], 0, id="empty-token"),
        pytest.param("Basic opensesame", None, [False] * 3, [WITHHELD, WITHHELD, None], 0, id="another-scheme"),
        pytest.param("Bearer opensesame", TransientError("503"), [False] * 3, None, 2, id="cannot-be-checked-now"),
        pytest.param("Bearer opensesame", PermanentError("403"), [False] * 3, None, 2, id="may-not-be-checked"),
    ],
)
async def test_what_pods_wrote_is_for_those_who_may_read_it(
    header: str, error: AutoscalerError | None, logs: list[bool], withheld: list[str | None] | None, asked: int
) -> None:
    access = FakeAccess(error)
    async with serve(FakeViews(), FakeExposition(), "127.0.0.1", 0, access) as address, aiohttp.ClientSession() as client:
        answer = await Site(FakeViews(), address, client).ask("/api/v1/incidents", headers={"Authorization": header} if header else {})
    rows = json.loads(answer[1])
    assert [("log" in row) for row in rows] == logs
    told = [row.get("withheld") for row in rows]
    if withheld is None:
        assert told == ["whether this token may read logs could not be checked; the service's log has the reason"] * 2 + [None]
    else:
        assert told == withheld
    assert len(access.asked) == asked


async def test_where_nobody_can_be_checked_nobody_sees_it() -> None:
    async with serve(FakeViews(), FakeExposition(), "127.0.0.1", 0) as address, aiohttp.ClientSession() as client:
        _, body = await Site(FakeViews(), address, client).ask("/api/v1/incidents", headers={"Authorization": "Bearer opensesame"})
    assert "panic" not in body


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        pytest.param("shop/web", 200, {"is": "any"}, id="any-kind"),
        pytest.param("shop/web?kind=StatefulSet", 200, {"is": "set"}, id="by-kind"),
        pytest.param("shop/a%2Fb%20c", 200, {"is": "odd"}, id="quoted"),
        pytest.param(
            "shop/api", 404, {"detail": "no policy scales workload shop/api; /api/v1/workloads lists what is scaled"}, id="unknown"
        ),
        pytest.param(
            "shop/web?kind=X", 404, {"detail": "no policy scales X shop/web; /api/v1/workloads lists what is scaled"}, id="other-kind"
        ),
    ],
)
async def test_one_workload(site: Site, path: str, status: int, told: Mapping[str, str]) -> None:
    site.views.found = {
        ("shop", "web", ""): {"is": "any"},
        ("shop", "web", "StatefulSet"): {"is": "set"},
        ("shop", "a/b c", ""): {"is": "odd"},
    }
    found, body = await site.ask(f"/api/v1/workloads/{path}")
    assert (found, json.loads(body).items() >= told.items()) == (status, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type"),
    [
        pytest.param("GET", "/nothing", 404, "text/plain; charset=utf-8", id="no-page"),
        pytest.param("GET", "/api/v1/nothing", 404, "application/problem+json", id="no-api"),
        pytest.param("GET", "/api/v1/workloads/shop", 404, "application/problem+json", id="half-a-name"),
        pytest.param("POST", "/api/v1/workloads", 405, "application/problem+json", id="post"),
        pytest.param("PATCH", "/api/v1/workloads/shop/web", 405, "application/problem+json", id="patch"),
        pytest.param("DELETE", "/metrics", 405, "text/plain; charset=utf-8", id="delete"),
        pytest.param("OPTIONS", "/", 405, "text/plain; charset=utf-8", id="options"),
    ],
)
async def test_refusals(site: Site, method: str, path: str, status: int, content_type: str) -> None:
    async with site.client.request(method, site.address + path) as response:
        body = await response.text()
        assert (response.status, response.headers["Content-Type"]) == (status, content_type)
        assert response.headers.get("Allow") == ("GET,HEAD" if status == 405 else None)
    if "json" in content_type:
        assert json.loads(body).keys() == {"type", "title", "status", "detail"}
        assert json.loads(body)["status"] == status


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/api/v1/workloads", "/api/v1/workloads/a/b", "/nothing", "/dashboard.js"])
async def test_every_answer_is_guarded(site: Site, path: str) -> None:
    headers = await site.headers(path)
    assert headers["Server"] == "autoscaler"
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "rows", [pytest.param(RuntimeError("the secret"), id="view-raises"), pytest.param([{"x": object()}], id="no-json-value")]
)
async def test_a_fault_is_logged_under_an_id_and_not_told(site: Site, rows: object, caplog: pytest.LogCaptureFixture) -> None:
    site.views.rows = rows
    with caplog.at_level(logging.ERROR):
        status, body = await site.ask("/api/v1/workloads")
    problem = json.loads(body)
    assert (status, problem["status"], problem["title"]) == (500, 500, "Internal Server Error")
    assert not re.search("secret|object|Error'|Traceback|line ", body)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("autoscaler.adapters.http", "ERROR")
    assert getattr(record, "fields", {}) == {"id": problem["id"], "path": "/api/v1/workloads"}
    assert record.exc_info
    assert problem["id"] in problem["detail"]
    assert await site.ask("/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="tls"),
        pytest.param(b"hello\r\n\r\n", id="no-http"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", id="long-header"),
        pytest.param(b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", id="long-path"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: y\r\n" % k for k in range(100)) + b"\r\n", id="many-headers"),
    ],
)
async def test_what_is_no_request_is_refused_quietly(site: Site, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        answer = await site.send(raw)
    assert answer.startswith(("HTTP/1.0 400 Bad Request\r\n", "HTTP/1.1 400 Bad Request\r\n"))
    assert "Server: autoscaler\r\n" in answer
    assert "aiohttp" not in answer
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/../settings.py", "/dashboard/index.html", "/index.html", "/%2e%2e/settings.py", "//etc/passwd"])
async def test_nothing_but_the_page_is_served_from_disk(site: Site, path: str) -> None:
    answer = await site.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith("HTTP/1.1 404 Not Found\r\n")


async def test_a_body_is_not_waited_for(site: Site) -> None:
    answer = await site.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx")
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert answer.endswith("\r\n\r\nok\n")


async def test_requests_are_logged_at_debug_only(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await site.ask("/healthz")
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "autoscaler.adapters.http"):
        await site.ask("/healthz?a=b")
    fields = [getattr(record, "fields", {}) for record in caplog.records if record.getMessage() == "answered"]
    assert fields == [{"method": "GET", "path": "/healthz?a=b", "status": 200, "remote": "127.0.0.1"}]


async def test_large_answers_are_compressed(site: Site) -> None:
    site.views.rows = [{"why": "x" * 100}] * 100
    async with site.client.get(f"{site.address}/api/v1/workloads", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert await response.json() == site.views.rows
    async with site.client.get(f"{site.address}/api/v1/workloads", headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.json() == site.views.rows


async def test_page_loads_only_what_is_served_here(site: Site) -> None:
    """Every reference is relative, so the page also works behind `kubectl proxy`, and each is answered with its own type."""
    _, page = await site.ask("/")
    references = re.findall(r'(?:href|src)="([^"#]+)"', page)
    references += [name.removeprefix("./") for name in re.findall(r'from "([^"]+)"', (DASHBOARD / "dashboard.js").read_text())]
    assert [reference for reference in references if reference.startswith(("/", "http:", "https:", "//"))] == []
    types = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml; charset=utf-8"}
    for reference in references:
        async with site.client.get(f"{site.address}/{reference}") as response:
            assert response.status == 200
            suffix = reference.rpartition(".")[2]
            assert response.headers["Content-Type"] == types.get(suffix, response.headers["Content-Type"])
    assert {path.name for path in DASHBOARD.iterdir()} == {"index.html", *(ref for ref in references if "." in ref)}


def test_page_keeps_its_own_content_security_policy() -> None:
    page = (DASHBOARD / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", page) == []
    for script in DASHBOARD.glob("*.js"):
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script.read_text()) == []


async def test_a_port_that_is_taken_is_a_configuration_error(site: Site) -> None:
    port = int(site.address.rpartition(":")[2])
    with pytest.raises(ConfigError, match=rf"listen_host '127\.0\.0\.1', listen_port {port}: .*: Address already in use\. .*free port"):
        async with serve(FakeViews(), FakeExposition(), "127.0.0.1", port):
            pytest.fail("two cannot listen there")


@pytest.mark.parametrize("host", [pytest.param("192.0.2.1", id="not-ours"), pytest.param("a..b", id="no-name")])
async def test_an_address_that_is_not_ours_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigError, match=rf"listen_host '{re.escape(host)}', listen_port 0: cannot listen there: "):
        async with serve(FakeViews(), FakeExposition(), host, 0):
            pytest.fail("nobody can listen there")


async def test_nothing_listens_afterwards_though_clients_keep_connections() -> None:
    async with aiohttp.ClientSession() as client:
        async with (
            asyncio.timeout(10),
            serve(FakeViews(), FakeExposition(), "127.0.0.1", 0) as address,
            client.get(f"{address}/healthz") as response,
        ):
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(f"{address}/healthz")
