"""APIs of the test's own behind the real API server: an aiohttp application on loopback, and the aggregator told where it is."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.cluster.rig.api import Api
from tests.cluster.rig.certificates import serving
from tests.cluster.rig.wait import wait_until

Json = dict[str, Any]


@contextmanager
def served(
    application: web.Application, folder: Path, close: Callable[[], Awaitable[None]] | None = None, port: int = 0
) -> Iterator[tuple[int, asyncio.AbstractEventLoop]]:
    """Serve it in a thread of its own, with the certificates of the control plane in `folder`: its port and event loop.

    `close` is awaited there before the server ends.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="aggregated APIs")
    thread.start()
    certificate = serving(folder)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=certificate, backlog=512).start()
        given: int = runner.addresses[0][1]
        return given

    async def stop() -> None:
        if close is not None:
            await close()
        for site in runner.sites:
            await site.stop()
        await asyncio.sleep(0.05)  # handshakes that are under way
        connections = [] if runner.server is None else [handler.transport for handler in runner.server.connections]
        await runner.cleanup()
        for connection in connections:  # or the API server's goodbye would be waited for
            if isinstance(connection, asyncio.WriteTransport):
                connection.abort()
        held = asyncio.all_tasks() - {asyncio.current_task()}
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await asyncio.sleep(0.05)  # the last turns of connections that are closing

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(10), loop
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def register(api: Api, namespace: str, port: int, group_versions: Iterable[str]) -> None:
    """Tell the aggregator that these are served on that port of loopback, and wait until they answer through it."""
    wanted = list(group_versions)
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    api.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "aggregated", "namespace": namespace}, "spec": service})
    for group_version in wanted:
        group, version = group_version.split("/")
        spec = {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 1000,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"namespace": namespace, "name": "aggregated", "port": port},
        }
        metadata = {"name": f"{version}.{group}"}
        made = api.create({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec})
        made.wait("it is available", available, timeout_s=30)
    names = {each.split("/")[0] for each in wanted}
    wait_until("the groups are in discovery", lambda: set(_groups(api)) >= names, timeout_s=30)


def available(seen: Json) -> bool:
    """Whether an APIService has a server that answers."""
    conditions = seen.get("status", {}).get("conditions", [])
    return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)


def _groups(api: Api) -> list[str]:
    return [group["name"] for group in api.call("GET", "/apis")["groups"]]
