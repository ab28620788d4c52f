"""Any receiver of JSON: the whole report, signed where there is a secret.

===========================  =========================================================================================
header                       is
===========================  =========================================================================================
``Idempotency-Key``          the report's id: equal for a report that is sent again
``X-Autoscaler-Event``       what has become of the incident: fired, updated, flapping, repeated, remedy, resolved
``X-Autoscaler-Signature``  ``t=SECONDS,v1=HEX``: HMAC-SHA256 over ``SECONDS.BODY``; one ``v1`` for each line of the secret file
===========================  =========================================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import msgspec

from autoscaler.adapters.notify.wire import Wire
from autoscaler.clock import Clock
from autoscaler.core.health.report import Report
from autoscaler.core.health.words import document, turn_id
from autoscaler.endpoints import WebhookSink
from autoscaler.errors import AnswerError


class Webhook:
    """Implements :class:`autoscaler.ports.Notifier`."""

    def __init__(self, name: str, sink: WebhookSink, clock: Clock) -> None:
        self._sink, self._clock, self._wire = sink, clock, Wire(name, sink, clock)

    async def send(self, report: Report, budget_s: float) -> None:
        """Post the report. Any 2xx will do, but for a web page."""
        told = await asyncio.to_thread(document, report)
        body = msgspec.json.encode({"version": 1, **told})
        headers = {"Idempotency-Key": turn_id(report), "X-Autoscaler-Event": report.change.kind.value}
        if self._sink.secret_file is not None:
            secrets = (await self._wire.secret("secret_file", self._sink.secret_file)).split()
            headers["X-Autoscaler-Signature"] = signature(secrets, round(self._clock.now()), body)
        answer = await self._wire.post(body, budget_s, headers=headers)
        if answer.is_page:
            raise AnswerError(f"{self._wire}: answered with a web page; is this a login page?")

    async def close(self) -> None:
        """Close its connections."""
        await self._wire.close()


def signature(secrets: list[str], at_s: int, body: bytes) -> str:
    """The header's value.

    >>> signature(["s"], 1, b"{}")
    't=1,v1=b253639bcd705ed1cda3073f66104f16988bd40272584dea7d0d345ae93e61cc'
    """
    signed = str(at_s).encode() + b"." + body
    digests = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={at_s}", *(f"v1={digest}" for digest in digests)])
