"""One request: what is sent, how long it may take, and what becomes of credentials that are not accepted any more."""

import asyncio
import json
import socket
from pathlib import Path

import msgspec
import pytest

from autoscaler.adapters.kubernetes.calls import Call, NotFoundError
from autoscaler.adapters.kubernetes.client import AT_ONCE, JSON_PATCH, Client
from autoscaler.adapters.kubernetes.discovery import Discovery
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.clock import SystemClock
from autoscaler.errors import PermanentError, TransientError
from tests.adapters.kubernetes.fault_server import FaultServer, answer, discovery, page, silence, status
from tests.adapters.kubernetes.reflecting import client_of

CALL = Call("get", "/api/v1/namespaces/shop", resource="namespaces", name="shop")
PATCH = Call("patch", "/api/v1/namespaces/shop", resource="namespaces", name="shop")


class Answer(msgspec.Struct):
    n: int


class TestRequests:
    async def test_patch(self, tmp_path: Path) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("PATCH /api/v1/namespaces/shop", answer({"n": 1, "more": "is skipped"}))
            patch = [{"op": "test", "path": "/a", "value": {}}]
            assert await client.write(PATCH, Answer, patch, {"fieldManager": "me"}, content_type=JSON_PATCH) == Answer(1)
            (seen,) = server.seen
            assert (seen.body, seen.query, seen.headers["Content-Type"]) == (patch, {"fieldManager": "me"}, JSON_PATCH)

    async def test_budget(self, tmp_path: Path) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("GET /api/v1/namespaces/shop", silence())
            with pytest.raises(TransientError, match=r"get namespaces shop: no answer within 0\.05 s"):
                await client.get(CALL, Answer, budget_s=0.05)

    async def test_connections_are_kept(self, tmp_path: Path) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("GET /api/v1/namespaces/shop", answer({"n": 1}))
            for _ in range(5):
                await client.get(CALL, Answer)
            assert len({seen.port for seen in server.seen}) == 1

    async def test_many_at_once_share_a_few_connections(self, tmp_path: Path) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("GET /api/v1/namespaces/shop", answer({"n": 1}))
            assert await asyncio.gather(*(client.get(CALL, Answer) for _ in range(10 * AT_ONCE))) == [Answer(1)] * 10 * AT_ONCE
            assert len({seen.port for seen in server.seen}) <= AT_ONCE

    @pytest.mark.parametrize(
        ("server", "kind", "words"),
        [
            pytest.param("http://127.0.0.1:{port}", TransientError, "no connection to http://127.0.0.1", id="refused"),
            pytest.param("http://no-such-host.invalid", TransientError, "no connection to http://no-such-host.invalid", id="dns"),
        ],
    )
    async def test_nobody_there(self, tmp_path: Path, server: str, kind: type[Exception], words: str) -> None:
        with socket.socket() as taken:  # bound, but nobody listens
            taken.bind(("127.0.0.1", 0))
            made = FaultServer(SystemClock())
            made.url = server.format(port=taken.getsockname()[1])
            async with client_of(made, tmp_path) as client:
                with pytest.raises(kind, match=words):
                    await client.get(CALL, Answer)

    async def test_through_a_proxy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with FaultServer(SystemClock()) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.setenv("no_proxy", "127.0.0.1,other.invalid")
            proxy.script("GET /api/v1/namespaces/shop", answer({"n": 1}))
            for server, through in (("http://api.invalid", True), ("http://other.invalid", False)):
                config = proxy.kubeconfig(tmp_path)
                config.write_text(config.read_text().replace(proxy.url, server))
                client = await Client.connect(find_login(str(config)))
                try:
                    assert await client.get(CALL, Answer) == Answer(1)
                    assert through
                except TransientError:
                    assert not through
                finally:
                    await client.close()


class TestCredentials:
    @pytest.mark.parametrize(
        ("token", "header"), [pytest.param("secret\n", "Bearer secret", id="line-end"), pytest.param("a\nb", None, id="line-break")]
    )
    async def test_a_token_is_one_line(self, tmp_path: Path, token: str, header: str | None) -> None:
        async with FaultServer(SystemClock()) as server:
            server.script("GET /api/v1/namespaces/shop", answer({"n": 1}))
            config = server.kubeconfig(tmp_path)
            config.write_text(config.read_text().replace('"secret"', json.dumps(token)))
            client = await Client.connect(find_login(str(config)))
            try:
                if header is None:
                    with pytest.raises(PermanentError, match="has a line break or another control character in it"):
                        await client.get(CALL, Answer)
                else:
                    await client.get(CALL, Answer)
                assert [seen.headers["Authorization"] for seen in server.seen] == ([header] if header else [])
            finally:
                await client.close()

    async def test_a_file_that_has_changed_is_read_again(self, tmp_path: Path) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("GET /api/v1/namespaces/shop", status(401, "Unauthorized"), answer({"n": 1}))
            config = tmp_path / "kubeconfig"
            config.write_text(config.read_text().replace("secret", "renewed"))
            assert await client.get(CALL, Answer) == Answer(1)
            assert [seen.headers["Authorization"] for seen in server.seen] == ["Bearer secret", "Bearer renewed"]

    @pytest.mark.parametrize("broken", [pytest.param(False, id="unchanged"), pytest.param(True, id="unreadable")])
    async def test_otherwise_one_request_is_one_request(self, tmp_path: Path, broken: bool) -> None:  # noqa: FBT001
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("GET /api/v1/namespaces/shop", status(401, "Unauthorized"))
            if broken:
                (tmp_path / "kubeconfig").write_text("")
            with pytest.raises(PermanentError, match="does not accept these credentials"):
                await client.get(CALL, Answer)
            assert len(server.seen) == 1

    async def test_many_at_once_renew_once(self, tmp_path: Path) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("GET /api/v1/namespaces/shop", *[status(401)] * 5, answer({"n": 1}))
            config = tmp_path / "kubeconfig"
            config.write_text(config.read_text().replace("secret", "renewed"))
            assert await asyncio.gather(*(client.get(CALL, Answer) for _ in range(5))) == [Answer(1)] * 5


class TestDiscovery:
    async def test_is_asked_once_and_again_for_what_is_new(self, tmp_path: Path) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("discovery", discovery(Thing="things"), discovery(Thing="things", Other="others"))
            kinds = Discovery(client)
            for _ in range(3):
                assert str(await kinds.find("example.dev/v1", "Thing")) == "things.example.dev"
            assert len(server.seen) == 1
            assert (await kinds.find("example.dev/v1", "Other")).scalable
            assert len(server.seen) == 2
            with pytest.raises(NotFoundError, match=r"no kind Third in example.dev/v1; its kinds are Other, Thing"):
                await kinds.find("example.dev/v1", "Third")
            kinds.forget("example.dev/v1")
            await kinds.find("example.dev/v1", "Thing")
            assert [seen.path for seen in server.seen] == ["/apis/example.dev/v1"] * 4

    @pytest.mark.parametrize(
        ("told", "kind", "words"),
        [
            pytest.param(
                answer(b"404 page not found", 404), NotFoundError, "does not serve example.dev/v1: is its Custom", id="no-version"
            ),
            pytest.param(page(), TransientError, "expected an API server's JSON", id="html"),
            pytest.param(status(503, "ServiceUnavailable"), TransientError, "503", id="503"),
            pytest.param(answer({"resources": None}), NotFoundError, "no kind Thing in example.dev/v1; its kinds are none", id="null"),
        ],
    )
    async def test_fails(self, tmp_path: Path, told: object, kind: type[Exception], words: str) -> None:
        async with FaultServer(SystemClock()) as server, client_of(server, tmp_path) as client:
            server.script("discovery", told)  # type: ignore[arg-type]
            with pytest.raises(kind, match=words):
                await Discovery(client).find("example.dev/v1", "Thing")
