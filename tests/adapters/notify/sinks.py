"""A sink of each type against a server that answers as it is told."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from autoscaler.adapters.notify import notifier
from autoscaler.clock import FastClock, ManualClock
from autoscaler.endpoints import AnySink
from autoscaler.ports import Notifier
from tests.adapters.kubernetes.fault_server import FaultServer, Step, answer
from tests.core.health.telling import AT_S

NOW_S = AT_S + 0.4
SETTINGS: TypeAdapter[AnySink] = TypeAdapter(AnySink)

TEXT = answer(b"ok", content_type="text/plain")
ROUTES: Mapping[str, str] = {
    "alertmanager": "POST /api/v2/alerts",
    "webhook": "POST /hook",
    "slack": "POST /services/T0/B0/hunter2hook",
    "pagerduty": "POST /events/v2/enqueue",
}
WELL: Mapping[str, Step] = {
    "alertmanager": answer(b""),
    "webhook": answer({"taken": True}, 202),
    "slack": TEXT,
    "pagerduty": answer({"status": "success", "message": "Event processed", "dedup_key": "x"}, 202),
}


def settings(kind: str, url: str, folder: Path, **more: Any) -> AnySink:  # noqa: ANN401 - fields of a sink
    """The settings of a sink whose address is the server's; its secrets lie in the folder."""
    (folder / "url").write_text(f"{url}/services/T0/B0/hunter2hook\n")
    (folder / "routing_key").write_text("r0uting\n")
    fields: dict[str, Any] = {
        "alertmanager": {"url": f"{url}/"},
        "webhook": {"url": f"{url}/hook"},
        "slack": {"url_file": str(folder / "url")},
        "pagerduty": {"url": f"{url}/events", "routing_key_file": str(folder / "routing_key")},
    }[kind]
    return SETTINGS.validate_python({"type": kind, **fields, **more})


@asynccontextmanager
async def sink_on(kind: str, folder: Path, step: Step | None = None, /, **more: Any) -> AsyncIterator[tuple[FaultServer, Notifier]]:  # noqa: ANN401 - fields of a sink
    """A sink at work; its route is answered by the step, or as the real one does."""
    async with FaultServer(FastClock()) as server:
        server.script(ROUTES[kind], step or WELL[kind])
        made = notifier("ops", settings(kind, server.url, folder, **more), ManualClock(NOW_S))
        try:
            yield server, made
        finally:
            await made.close()
