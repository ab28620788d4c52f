"""The port Access on a real Kubernetes: a TokenReview says whose a bearer token is, a SubjectAccessReview whether he may read logs.

Answers are kept for half a minute, by a digest of the token; equal questions under way are one; and only so many are asked at a time,
since anybody who reaches our port may ask.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Any

import msgspec

from autoscaler.adapters.kubernetes.calls import Call
from autoscaler.adapters.kubernetes.client import Client
from autoscaler.clock import Clock
from autoscaler.errors import TransientError

KEPT_S = 30.0
"""How long an answer holds: a token that is revoked meanwhile still lets in for so long."""

KEPT_MAX = 1024
AT_ONCE, WAITING_MAX = 4, 64

TOKEN_MAX = 16_384

_TOKENS = Call("create", "/apis/authentication.k8s.io/v1/tokenreviews", "authentication.k8s.io", "tokenreviews")
_ACCESS = Call("create", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "authorization.k8s.io", "subjectaccessreviews")


class _User(msgspec.Struct, gc=False):
    username: str = ""
    uid: str = ""
    groups: list[str] | None = None
    extra: dict[str, list[str]] | None = None


class _TokenStatus(msgspec.Struct, gc=False):
    authenticated: bool = False
    user: _User | None = None


class _TokenReview(msgspec.Struct, gc=False):
    status: _TokenStatus = msgspec.field(default_factory=_TokenStatus)


class _AccessStatus(msgspec.Struct, gc=False):
    allowed: bool = False
    denied: bool = False


class _AccessReview(msgspec.Struct, gc=False):
    status: _AccessStatus = msgspec.field(default_factory=_AccessStatus)


class LogAccess:
    """Asks the API server, as ourselves, about others."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._kept: OrderedDict[tuple[bytes, str], tuple[bool, float]] = OrderedDict()
        self._asking: dict[tuple[bytes, str], asyncio.Task[bool]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    async def may_read_logs(self, token: str, namespace: str) -> bool:
        """Whether whoever holds the token may ``get pods/log`` there. What cannot be a token is not asked about."""
        if not namespace or not 0 < len(token) <= TOKEN_MAX or not (token.isascii() and token.isprintable()):
            return False
        key = hashlib.sha256(token.encode()).digest(), namespace
        known = self._kept.get(key)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= WAITING_MAX:
                raise TransientError("too many ask at once who may read logs; again in a moment")
            task = self._asking[key] = asyncio.create_task(self._ask(token, key))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever asked may be gone by then
        return await asyncio.shield(task)  # others may wait for the same

    async def _ask(self, token: str, key: tuple[bytes, str]) -> bool:
        try:
            async with self._free:
                user = await self._user(token)
                allowed = user is not None and await self._allowed(user, key[1])
        finally:
            del self._asking[key]
        self._kept[key] = allowed, self._clock.monotonic() + KEPT_S
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return allowed

    async def _user(self, token: str) -> _User | None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = (await self._client.write(_TOKENS, _TokenReview, review)).status
        return status.user if status.authenticated else None

    async def _allowed(self, user: _User, namespace: str) -> bool:
        attributes = {"namespace": namespace, "verb": "get", "resource": "pods", "subresource": "log"}
        spec: dict[str, Any] = {"user": user.username, "resourceAttributes": attributes}
        spec |= {name: value for name, value in (("uid", user.uid), ("groups", user.groups), ("extra", user.extra)) if value}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status = (await self._client.write(_ACCESS, _AccessReview, review)).status
        return status.allowed and not status.denied
