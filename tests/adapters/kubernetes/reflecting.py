"""A reflector at work against a scripted server, for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from autoscaler.adapters.kubernetes.calls import NotFoundError
from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.discovery import Resource
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.adapters.kubernetes.reflector import Around, Handlers, Reflector, Selection, Timing
from autoscaler.adapters.kubernetes.wire import Object
from autoscaler.clock import FastClock
from autoscaler.metrics import WATCH_RESTARTS
from tests.adapters.kubernetes.fault_server import FaultServer, Step
from tests.adapters.kubernetes.tally import Tally

THINGS = Resource("example.dev/v1", "Thing", "things")
PATIENT = Timing(silence_s=3600.0, list_s=5.0)
HASTY = Timing(silence_s=0.15, list_s=0.15)


@dataclass
class Rig:
    """``told`` has what the handlers were called with: ("added", name, version) and so on."""

    server: FaultServer
    reflector: Reflector[Object]
    clock: FastClock
    tally: Tally
    told: list[tuple[str, str, str]]
    task: "asyncio.Task[NotFoundError]"

    def names(self) -> list[str]:
        return sorted(name for _, name in self.reflector.objects)

    def versions(self) -> list[str]:
        """Where the watches so far began."""
        return [seen.query["resourceVersion"] for seen in self.server.of("watch")]

    def causes(self) -> dict[str, int]:
        return {cause: count for (_, cause), count in self.tally.of(WATCH_RESTARTS).items()}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await self.clock.sleep_until(self.clock.monotonic() + 0.5)

    async def synced(self) -> None:
        await self.until(lambda: self.reflector.synced)


@asynccontextmanager
async def client_of(server: FaultServer, folder: Path) -> AsyncIterator[Client]:
    client = await Client.connect(find_login(str(server.kubeconfig(folder))))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def reflecting(
    folder: Path,
    listed: Step | Sequence[Step],
    watched: Step | Sequence[Step],
    timing: Timing = PATIENT,
    selection: Selection | None = None,
    speed: float = 100.0,
) -> AsyncIterator[Rig]:
    """Reflect things that are listed and watched as scripted. With a fast clock back-off takes no time; I/O deadlines are real."""
    clock, tally, told = FastClock(speed), Tally(), list[tuple[str, str, str]]()

    def teller(what: str) -> Callable[[Object], None]:
        return lambda item: told.append((what, item.metadata.name, item.metadata.resource_version))

    changed = teller("changed")
    handlers = Handlers(teller("added"), lambda _, item: changed(item), teller("deleted"))
    async with FaultServer(clock) as server, client_of(server, folder) as client:
        server.script("list", *([listed] if callable(listed) else listed))
        server.script("watch", *([watched] if callable(watched) else watched))
        reflector = Reflector(Around(client, clock, tally, Random(1), timing), THINGS, Object, handlers, selection)
        task = asyncio.create_task(reflector.run())
        try:
            yield Rig(server, reflector, clock, tally, told, task)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
