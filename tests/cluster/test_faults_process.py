"""The service itself is ended: killed at every stage of a tick, and in the middle of a window, on real parts.

A stage is found by the request that belongs to it: a proxy holds it, and while it is held the process is killed.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import TypeAlias

import pytest

from tests.cluster.faults import AT_ONCE, Json, Scene, following, proxy_before, service_of
from tests.cluster.rig import Audit, ControlPlane, Exporter, Gate, Passed, Prometheus, Proxy, wait_until

log = logging.getLogger(__name__)

BEFORE, AFTER = 8, 16

Hold: TypeAlias = Callable[[Proxy, Callable[[Passed], bool]], Gate]


@dataclass(frozen=True)
class Stage:
    """`hold` of the proxy before `server` finds it, for requests that have `words` in them.

    `ending`: the request is one of the last checkpoint, so the process is asked to end first. `written`: whether the count is there.
    """

    name: str
    server: str
    hold: Hold
    words: str
    ending: bool = False
    written: bool = False


STAGES = [
    Stage("observe", "prometheus", Proxy.hold_requests, "http_requests_offered"),
    Stage("decide", "prometheus", Proxy.hold_answers, "http_requests_offered"),
    Stage("before-the-write", "api", Proxy.hold_requests, "/scale"),
    Stage("between-write-and-answer", "api", Proxy.hold_answers, "/scale", written=True),
    Stage("before-the-checkpoint", "api", Proxy.hold_requests, "/configmaps/", ending=True, written=True),
    Stage("between-checkpoint-and-answer", "api", Proxy.hold_answers, "/configmaps/", ending=True, written=True),
]


@dataclass(frozen=True)
class Killed:
    """One service to be killed at one stage."""

    stage: Stage
    scene: Scene
    proxies: dict[str, Proxy]
    gates: list[Gate] = field(default_factory=list)

    def hold(self) -> None:
        """Find the stage; and let no write through that a later stage might do meanwhile."""
        self._hold(self.stage.server, self.stage.hold, self.stage.words)
        if not self.stage.written:
            self._hold("api", Proxy.hold_requests, "/scale")

    def _hold(self, server: str, hold: Hold, words: str) -> None:
        mine = self.scene.namespace

        def fits(passed: Passed) -> bool:
            said = passed.path + passed.body
            return mine in said and words in said and "watch=" not in passed.path

        self.gates.append(hold(self.proxies[server], fits))

    def kill(self) -> None:
        """Kill it at its stage."""
        if self.stage.ending:
            self.scene.service.process.signal(SIGTERM)
        self.gates[0].wait_held()
        if self.stage.name == "decide":  # it is given the answer, and no time to look at it
            self.scene.service.process.pause()
            self.gates[0].open()
            wait_until("the answer is there", lambda: self.gates[0].held[0].delivered)
        self.scene.service.process.kill()
        for gate in self.gates:
            gate.open()


@pytest.fixture
def killed(
    fragile: ControlPlane, audit: Audit, prometheus: Prometheus, exporter: Exporter, name_namespace: Callable[[str], str], tmp_path: Path
) -> Iterator[list[Killed]]:
    """A service for each stage, all through the same two proxies."""
    with ExitStack() as stack:
        api = stack.enter_context(proxy_before(fragile))
        source = stack.enter_context(Proxy(prometheus.url.removeprefix("http://")))
        made = []
        for stage in STAGES:
            namespace = fragile.api.create_namespace(name_namespace(f"killed-{stage.name}")).name
            service = service_of(fragile, namespace, tmp_path / stage.name, f"http://{source.address}", state="kubernetes", api_proxy=api)
            stack.callback(service.process.stop)
            scene = Scene(fragile, audit, exporter, service, namespace)
            scene.deploy(replicas=BEFORE)
            scene.load(BEFORE)
            service.write(following(namespace))
            made.append(Killed(stage, scene, {"api": api, "prometheus": source}))
        for each in made:
            each.scene.resource().wait_ready(BEFORE)
        begin(made)
        yield made


def begin(services: list[Killed]) -> None:
    """Start them all, side by side, and wait until each has decided on data."""
    for each in services:
        each.scene.service.launch()
    for each in services:
        each.scene.service.wait_listening()
    for each in services:
        wait_until(f"{each.stage.name} decides", lambda each=each: decides(each.scene), timeout_s=30)  # type: ignore[misc]


def decides(scene: Scene, name: str = "web") -> bool:
    status, body = scene.service.get(f"/api/v1/workloads/{scene.namespace}/{name}")
    decisions = json.loads(body)["decisions"] if status == 200 else []
    return bool(decisions) and decisions[0]["reason"] != "NO_DATA"


def test_killed_at_every_stage_of_a_tick(killed: list[Killed]) -> None:
    for each in killed:
        if not each.stage.ending:
            each.hold()
    for each in killed:
        each.scene.load(AFTER)
    for each in killed:
        if each.stage.ending:
            each.scene.resource().wait_replicas(AFTER, timeout_s=20)
            each.hold()
    for each in killed:
        each.kill()
    for each in killed:
        assert each.scene.written() == ([AFTER] if each.stage.written else []), each.stage.name

    since_s = time.monotonic()
    begin(killed)
    for each in killed:
        each.scene.resource().wait_replicas(AFTER, timeout_s=20)
        log.info("killed at %s: recovered after %.1f s", each.stage.name, time.monotonic() - since_s)
    killed[0].scene.wait_ticks(2)  # of the others, at least one has passed meanwhile
    for each in killed:
        assert each.scene.written() == [AFTER], f"{each.stage.name}: once, whoever wrote it"
        assert each.scene.service.said("state read"), each.stage.name
        each.scene.assert_no_traceback()


WINDOW_S = 30
TWIN_INTERVAL_S = 10
TWINS = ("uninterrupted", "terminated", "killed")
POLICIES: dict[str, Json] = {
    "average": {"type": "movingAverage", "window": "20s", "panicWindow": "10s"},
    "threshold": {"type": "threshold", "upFor": "10s", "downFor": "10s"},
}
Row: TypeAlias = tuple[float, float, str]


@pytest.fixture
def twins(
    fragile: ControlPlane, audit: Audit, prometheus: Prometheus, exporter: Exporter, name_namespace: Callable[[str], str], tmp_path: Path
) -> Iterator[dict[str, Scene]]:
    """Services on the same inputs: each has targets of its own, and all ask for the load of the first one's."""
    with ExitStack() as stack:
        scenes: dict[str, Scene] = {}
        for twin in TWINS:
            namespace = fragile.api.create_namespace(name_namespace(f"twin-{twin}")).name
            service = service_of(fragile, namespace, tmp_path / twin, prometheus.url, state="kubernetes")
            stack.callback(service.process.stop)
            scene = scenes[twin] = Scene(fragile, audit, exporter, service, namespace)
            for name in POLICIES:
                scene.deploy(name, BEFORE)
        for name in POLICIES:
            scenes[TWINS[0]].load(BEFORE, name)
        for scene in scenes.values():
            for name in POLICIES:
                scene.resource(name).wait_ready(BEFORE)
            scene.service.launch()
        for scene in scenes.values():
            scene.service.wait_listening()
        wait_until("a tick has just passed", lambda: time.time() % TWIN_INTERVAL_S < 1, timeout_s=2 * TWIN_INTERVAL_S)
        for scene in scenes.values():  # all see their targets for the first time before the next tick
            scene.service.write(*(twin_policy(scene.namespace, name, scenes[TWINS[0]].namespace) for name in POLICIES))
        yield scenes


def twin_policy(namespace: str, name: str, of: str) -> Json:
    made = following(namespace, name, interval=f"{TWIN_INTERVAL_S}s", policy=POLICIES[name])
    made["spec"]["metrics"][0]["prometheus"]["query"] = f'max(http_requests_offered{{namespace="{of}",app="{name}"}})'
    made["spec"]["behavior"] = {"scaleUp": {"policies": [AT_ONCE]}, "scaleDown": {"stabilizationWindowSeconds": WINDOW_S}}
    return made


def rows(scene: Scene, name: str) -> dict[float, Row]:
    """Current and desired count and the reason, by the time of the tick."""
    decisions = scene.service.workload(scene.namespace, name)["decisions"]
    return {each["at_s"]: (each["current"], each["desired"], each["reason"]) for each in decisions}


def held_down(scene: Scene) -> bool:
    return all(scene.newest(name)["reason"] == "STABILISED_DOWN" for name in POLICIES)


def test_ended_in_the_middle_of_a_window(twins: dict[str, Scene]) -> None:
    """A SIGTERM changes no decision; a kill makes no scale-down that the uninterrupted run has not made."""
    steady, terminated, killed = (twins[name] for name in TWINS)
    for scene in twins.values():
        for name in POLICIES:
            wait_until("it is at its load", lambda scene=scene, name=name: decides(scene, name), timeout_s=25)  # type: ignore[misc]
    for name in POLICIES:
        steady.load(2, name)
    wait_until("the windows hold", lambda: all(held_down(scene) for scene in twins.values()), timeout_s=35)
    before = {name: rows(terminated, name) for name in POLICIES}
    assert terminated.service.process.stop() == 0
    terminated.service.begin()
    killed.service.process.kill()
    killed.service.begin()

    floor = dict.fromkeys(POLICIES, float(BEFORE))

    def down() -> bool:
        for name in POLICIES:
            floor[name] = min(floor[name], killed.resource(name).replicas())
            assert floor[name] >= steady.resource(name).replicas(), f"{name}: scaled down by the killed one alone"
        return all(scene.resource(name).replicas() == 2 for scene in (steady, terminated) for name in POLICIES)

    wait_until("both are down", down, timeout_s=WINDOW_S + 25, every_s=0.2)
    for name in POLICIES:
        expected, found = rows(steady, name), before[name] | rows(terminated, name)
        assert min(expected) == min(found), "their windows began at the same tick"
        compared = [at_s for at_s in expected if at_s in found]
        assert {at_s: found[at_s] for at_s in compared} == {at_s: expected[at_s] for at_s in compared}, name
        assert max(before[name]) + TWIN_INTERVAL_S in rows(terminated, name), "no tick was lost"
        assert [expected[at_s][2] for at_s in compared].count("STABILISED_DOWN") >= 2
        assert steady.written(name) == terminated.written(name)
    for scene in twins.values():
        scene.assert_no_traceback()
