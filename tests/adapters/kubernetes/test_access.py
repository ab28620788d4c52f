"""Who may see logs: whose the token is, and whether he may; asked seldom, and not believed when it cannot be asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autoscaler.adapters.kubernetes.access import AT_ONCE, KEPT_MAX, KEPT_S, TOKEN_MAX, WAITING_MAX, LogAccess
from autoscaler.clock import FastClock, ManualClock
from autoscaler.errors import AutoscalerError, PermanentError, TransientError
from tests.adapters.kubernetes.fault_server import FaultServer, Step, answer, page, reset, status
from tests.adapters.kubernetes.reflecting import client_of

TOKENS = "POST /apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
BOB = {"username": "bob", "uid": "7", "groups": ["dev"], "extra": {"scopes": ["a"]}}


def known(user: Any = BOB) -> Step:  # noqa: ANN401 - any JSON
    return answer({"status": {"authenticated": True, "user": user}})


def allowed(*, so: bool = True, **more: bool) -> Step:
    return answer({"status": {"allowed": so, **more}})


@asynccontextmanager
async def access_on(folder: Path, tokens: Step, access: Step) -> AsyncIterator[tuple[FaultServer, LogAccess, ManualClock]]:
    async with FaultServer(FastClock()) as server, client_of(server, folder) as client:
        server.script(TOKENS, tokens)
        server.script(ACCESS, access)
        clock = ManualClock()
        yield server, LogAccess(client, clock), clock


@pytest.mark.parametrize(
    ("tokens", "access", "may"),
    [
        pytest.param(known(), allowed(), True, id="may"),
        pytest.param(known(), allowed(so=False), False, id="may-not"),
        pytest.param(known(), allowed(denied=True), False, id="denied"),
        pytest.param(known(), answer({"kind": "SubjectAccessReview"}), False, id="no-status"),
        pytest.param(answer({"status": {"authenticated": False, "user": BOB}}), allowed(), False, id="unknown-token"),
        pytest.param(answer({"status": {"authenticated": True}}), allowed(), False, id="nobody"),
        pytest.param(answer({"status": {"error": "expired"}}), allowed(), False, id="expired"),
    ],
)
async def test_who_may(tmp_path: Path, tokens: Step, access: Step, *, may: bool) -> None:
    async with access_on(tmp_path, tokens, access) as (_, asked, _):
        assert await asked.may_read_logs("abc", "shop") is may


async def test_what_is_asked(tmp_path: Path) -> None:
    async with access_on(tmp_path, known(), allowed()) as (server, access, _):
        await access.may_read_logs("abc.def", "shop")
        assert server.of(TOKENS)[0].body["spec"] == {"token": "abc.def"}
        assert server.of(ACCESS)[0].body["spec"] == {
            "user": "bob",
            "uid": "7",
            "groups": ["dev"],
            "extra": {"scopes": ["a"]},
            "resourceAttributes": {"namespace": "shop", "verb": "get", "resource": "pods", "subresource": "log"},
        }
        assert "secret" in server.of(TOKENS)[0].headers["Authorization"], "we ask as ourselves"


@pytest.mark.parametrize(
    ("token", "namespace"),
    [
        pytest.param("", "shop", id="no-token"),
        pytest.param("a" * (TOKEN_MAX + 1), "shop", id="too-long"),
        pytest.param("a\nb", "shop", id="line-break"),
        pytest.param("ü", "shop", id="not-ascii"),
        pytest.param("abc", "", id="all-namespaces"),
    ],
)
async def test_what_cannot_be_is_not_asked(tmp_path: Path, token: str, namespace: str) -> None:
    async with access_on(tmp_path, known(), allowed()) as (server, access, _):
        assert not await access.may_read_logs(token, namespace)
        assert server.seen == []


@pytest.mark.parametrize(
    ("tokens", "kind"),
    [
        pytest.param(status(403, "Forbidden"), PermanentError, id="we-may-not-ask"),
        pytest.param(status(500), TransientError, id="500"),
        pytest.param(page(), TransientError, id="html"),
        pytest.param(reset(), TransientError, id="reset"),
    ],
)
async def test_what_cannot_be_found_out_is_an_error_and_not_kept(tmp_path: Path, tokens: Step, kind: type[AutoscalerError]) -> None:
    async with access_on(tmp_path, tokens, allowed()) as (server, access, _):
        with pytest.raises(kind) as caught:
            await access.may_read_logs("hunter2", "shop")
        assert "hunter2" not in str(caught.value)
        server.script(TOKENS, known())
        assert await access.may_read_logs("hunter2", "shop")


async def test_an_answer_is_kept_for_a_while_for_this_token_and_namespace(tmp_path: Path) -> None:
    async with access_on(tmp_path, known(), allowed()) as (server, access, clock):
        for token, namespace in [("a", "shop"), ("a", "shop"), ("a", "bank"), ("b", "shop")]:
            assert await access.may_read_logs(token, namespace)
        assert len(server.of(ACCESS)) == 3
        server.script(ACCESS, allowed(so=False))
        await clock.advance(KEPT_S - 1)
        assert await access.may_read_logs("a", "shop")
        await clock.advance(1)
        assert not await access.may_read_logs("a", "shop")


async def test_equal_questions_are_one_and_the_rest_is_bounded(tmp_path: Path) -> None:
    gate, full = asyncio.Event(), asyncio.Event()

    async def waiting(request: web.Request) -> web.StreamResponse:
        if len(server.of(TOKENS)) == AT_ONCE:
            full.set()
        await gate.wait()
        return await known()(request)

    async with access_on(tmp_path, waiting, allowed()) as (server, access, _):
        tasks = [asyncio.create_task(access.may_read_logs(f"t{number % WAITING_MAX}", "shop")) for number in range(3 * WAITING_MAX)]
        async with asyncio.timeout(10):
            await full.wait()
        with pytest.raises(TransientError, match="too many"):
            await access.may_read_logs("another", "shop")
        assert len(server.of(TOKENS)) == AT_ONCE
        tasks[0].cancel()
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answers[1:])
        assert len(server.of(TOKENS)) == WAITING_MAX
        assert await access.may_read_logs("another", "shop")


async def test_no_more_than_so_many_answers_are_kept(tmp_path: Path) -> None:
    async with access_on(tmp_path, known(), allowed()) as (_, access, _):
        for number in range(KEPT_MAX + 10):
            access._kept[bytes(number), "x"] = (True, 1e9)  # noqa: SLF001 - to fill it by asking takes a minute
        await access.may_read_logs("a", "shop")
        assert len(access._kept) == KEPT_MAX  # noqa: SLF001 - as above
