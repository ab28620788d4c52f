"""The watch of pods at work against a scripted server, with a monitor that looks at what it brings, for tests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from aiohttp import web

from autoscaler.adapters.kubernetes.pods import KubernetesPods
from autoscaler.adapters.kubernetes.reflector import Around, Timing
from autoscaler.clock import FastClock
from autoscaler.core.health.lifecycle import Change, Incident, Kind
from autoscaler.core.health.monitor import Rules, Seen, State, look
from autoscaler.core.health.policy import HealthPolicies, HealthSpec
from tests.adapters.kubernetes.fault_server import FaultServer, Feed, Json, Step, listing, status, stream, thing
from tests.adapters.kubernetes.reflecting import PATIENT, client_of
from tests.adapters.kubernetes.tally import Tally

START_S = 1_795_521_600.0
"""Noon: when the monitor first looks. Everything in these tests was made an hour before."""

PLURALS = ("pods", "replicasets", "deployments", "statefulsets", "daemonsets", "jobs", "nodes", "events")
POLICY = HealthSpec("shop", "default", sinks=("pager",))


def at(after_s: float) -> str:
    """A time of the API, in seconds after the start."""
    return datetime.fromtimestamp(START_S + after_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Turns:
    """Steps of one kind's lists or watches, one after the other, the last for ever; to ask whether we may (a list of one) is no turn."""

    def __init__(self, *steps: Step) -> None:
        self.steps, self.played = list(steps), 0

    async def step(self, request: web.Request) -> web.StreamResponse:
        step = self.steps[min(self.played, len(self.steps) - 1)]
        self.played += request.query.get("limit") != "1"
        return await step(request)


class Pulse(Feed):
    """A watch that a test writes, and that shows life in between however little silence is allowed."""

    async def step(self, request: web.Request) -> web.StreamResponse:
        beating = asyncio.create_task(self._beat())
        try:
            return await super().step(request)
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.03)
            self.send("BOOKMARK", {"metadata": {"resourceVersion": "12"}})


def owned_by(kind: str, name: str, uid: str = "") -> Json:
    return {"ownerReferences": [{"kind": kind, "name": name, "uid": uid or f"uid-{name}", "controller": True}]}


def made(name: str, version: int, owner: Json | None = None, uid: str = "", **body: object) -> Json:
    """An object that was made an hour before the start."""
    found = thing(name, version, uid, **body)
    found["metadata"] |= {"creationTimestamp": at(-3600), **(owner or {})}
    return found


def pod(name: str, version: int, *, restarts: int = 0, ended: float | None = None, uid: str = "", owner: Json | None = None) -> Json:
    """A pod of ReplicaSet web-1 that runs, or that crashed ``ended`` seconds after the start and waits to be started again."""
    state: Json = {"running": {"startedAt": at(-3500)}}
    last: Json = {}
    if ended is not None:
        state = {"waiting": {"reason": "CrashLoopBackOff"}}
        last = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": at(ended - 5), "finishedAt": at(ended)}}
    container = {"name": "app", "image": "web:1", "ready": ended is None, "started": ended is None, "restartCount": restarts}
    ready = {"type": "Ready", "status": "True" if ended is None else "False", "lastTransitionTime": at(-3500)}
    found = made(
        name,
        version,
        owner if owner is not None else owned_by("ReplicaSet", "web-1"),
        uid,
        spec={"nodeName": "node-1", "restartPolicy": "Always", "containers": [{"name": "app", "image": "web:1"}]},
        status={
            "phase": "Running",
            "conditions": [ready],
            "containerStatuses": [{**container, "state": state, "lastState": last}],
        },
    )
    found["metadata"]["labels"] = {"pod-template-hash": "1"}
    return found


REPLICA_SETS = listing("9", made("web-1", 3, owned_by("Deployment", "web"), spec={"replicas": 2}))
DEPLOYMENTS = listing(
    "9",
    made("web", 4, spec={"replicas": 2}, status={"updatedReplicas": 2, "replicas": 2}),
)
NODES = listing("9", made("node-1", 5, status={"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(-9000)}]}))
SILENT = stream(then="silence")
WEB = "Deployment shop/web"


@dataclass
class Ward:
    """``told`` has every turn in the life of every incident, in the order in which they came."""

    server: FaultServer
    pods: KubernetesPods
    clock: FastClock
    tally: Tally
    lists: Mapping[str, Turns]
    watches: Mapping[str, Turns]
    task: "asyncio.Task[None]"
    state: State = field(default_factory=State)
    told: list[Change] = field(default_factory=list)
    rules: Rules = field(default_factory=lambda: Rules(HealthPolicies([POLICY])))

    def look(self, after_s: float) -> Seen:
        """One pass."""
        self.state, seen = look(self.state, self.pods.facts(START_S + after_s), self.rules)
        self.told += seen.changes
        return seen

    def kinds(self, kind: Kind) -> Counter[str]:
        """How often incidents took that turn, by subject and cause."""
        return Counter(f"{each.incident.finding.subject} {each.incident.finding.cause}" for each in self.told if each.kind is kind)

    def open(self) -> list[Incident]:
        return [incident for incident in self.state.incidents.values() if incident.open]

    def requests(self, plural: str) -> int:
        """How many lists and watches of it there have been, all namespaces together."""
        return sum(seen.path.endswith(f"/{plural}") for seen in self.server.seen)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await self.clock.sleep_until(self.clock.monotonic() + 0.5)

    async def synced(self) -> None:
        await self.until(lambda: self.pods.facts(START_S).synced)

    async def begun(self) -> None:
        """Until the monitor has looked at everything for the first time: that is the baseline."""
        await self.until(lambda: self.look(0.0).assessment.conclusive)


@asynccontextmanager
async def watching(
    folder: Path,
    lists: Mapping[str, Step | Turns] | None = None,
    watches: Mapping[str, Step | Turns] | None = None,
    *,
    namespaces: Sequence[str] | None = None,
    timing: Timing = PATIENT,
    stale_after_s: float = 1e6,
    speed: float = 100.0,
) -> AsyncIterator[Ward]:
    """A Deployment web on node-1 and what the lists and watches by plural say besides; who says nothing has an empty list."""
    empty = {plural: listing("9") for plural in PLURALS}
    standing = {"replicasets": REPLICA_SETS, "deployments": DEPLOYMENTS, "nodes": NODES}
    listed = _turns({**empty, **standing, **(lists or {})})
    watched = _turns({**dict.fromkeys(PLURALS, SILENT), **(watches or {})})
    clock, tally = FastClock(speed), Tally()
    async with FaultServer(clock) as server, client_of(server, folder) as client:
        server.script("list", _by_plural(listed))
        server.script("watch", _by_plural(watched))
        pods = KubernetesPods(Around(client, clock, tally, Random(1), timing), namespaces, stale_after_s)
        task = asyncio.create_task(pods.run())
        try:
            yield Ward(server, pods, clock, tally, listed, watched, task)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _turns(steps: Mapping[str, Step | Turns]) -> dict[str, Turns]:
    return {plural: step if isinstance(step, Turns) else Turns(step) for plural, step in steps.items()}


def _by_plural(turns: Mapping[str, Turns]) -> Step:
    async def step(request: web.Request) -> web.StreamResponse:
        found = turns.get(request.path.rpartition("/")[2])
        return await (found.step if found is not None else status(404))(request)

    return step
