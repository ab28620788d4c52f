"""State in ConfigMaps: made where they are missing, replaced where they are there, and what refusals mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes.state import ConfigMapStore
from autoscaler.clock import FastClock
from autoscaler.errors import AnswerError, AutoscalerError, PermanentError, TransientError
from tests.adapters.kubernetes.fault_server import FaultServer, Step, answer, page, status
from tests.adapters.kubernetes.reflecting import client_of

PATH = "/api/v1/namespaces/shop/configmaps/autoscaler-state-{}"
READ, WRITE = f"GET {PATH}", f"PATCH {PATH}"
MADE = answer({"kind": "ConfigMap"})


def config_map(text: str) -> Step:
    return answer({"kind": "ConfigMap", "data": {"state.json": text}})


@asynccontextmanager
async def store_on(tmp_path: Path, shards: int = 3) -> AsyncIterator[tuple[FaultServer, ConfigMapStore]]:
    async with FaultServer(FastClock()) as server, client_of(server, tmp_path) as client:
        yield server, ConfigMapStore(client, "shop", range(shards))


async def test_what_is_there_is_loaded(tmp_path: Path) -> None:
    async with store_on(tmp_path) as (server, store):
        server.script(READ.format(0), config_map("{}"))
        server.script(READ.format(2), answer({"kind": "ConfigMap"}))
        assert await store.load() == {0: b"{}"}, "1 is missing, 2 is empty"


async def test_a_shard_is_one_merge_patch(tmp_path: Path) -> None:
    async with store_on(tmp_path) as (server, store):
        server.script(WRITE.format(1), MADE)
        await store.save(1, b'{"a":"\xc3\xbc"}')
        (seen,) = server.of(WRITE.format(1))
        assert seen.body == {"data": {"state.json": '{"a":"ü"}'}}
        assert seen.headers["Content-Type"] == "application/merge-patch+json"
        assert seen.query == {"fieldManager": "autoscaler"}


async def test_a_missing_one_is_made_by_an_apply_first(tmp_path: Path) -> None:
    async with store_on(tmp_path) as (server, store):
        server.script(WRITE.format(1), status(404, "NotFound"), MADE, MADE)
        await store.save(1, b"{}")
        kinds = [seen.headers["Content-Type"].partition("/")[2] for seen in server.of(WRITE.format(1))]
        assert kinds == ["merge-patch+json", "apply-patch+yaml", "merge-patch+json"]
        assert server.of(WRITE.format(1))[1].body["metadata"]["name"] == "autoscaler-state-1"


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        pytest.param(status(403, "Forbidden"), PermanentError, 'resources: \\["configmaps"\\]', id="forbidden"),
        pytest.param(status(503), TransientError, "503", id="unavailable"),
        pytest.param(status(413, "RequestEntityTooLarge"), PermanentError, "413", id="too-large"),
        pytest.param(page(), AnswerError, "expected an API server's JSON", id="login-page"),
    ],
)
async def test_refusals(step: Step, kind: type[AutoscalerError], words: str, tmp_path: Path) -> None:
    async with store_on(tmp_path) as (server, store):
        for number in range(3):
            server.script(READ.format(number), step)
        server.script(WRITE.format(0), step)
        with pytest.raises(kind, match=words):
            await store.load()
        with pytest.raises(kind, match=words):
            await store.save(0, b"{}")
