"""The run: a control plane whose manager is the HPA controller alone, its targets and metrics served on loopback."""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.hpa.cases import CPU_INITIALIZATION_S, DOWNSCALE_WINDOW_S, NAMESPACE, READINESS_DELAY_S, cases
from tests.cluster.hpa.server import APIS, FakeApis, Target
from tests.cluster.rig import ControlPlane
from tests.cluster.rig.aggregated import register, served
from tests.cluster.rig.certificates import trust
from tests.cluster.rig.process import ahead

MANAGER_FLAGS = (
    "--horizontal-pod-autoscaler-sync-period=1s",
    f"--horizontal-pod-autoscaler-downscale-stabilization={DOWNSCALE_WINDOW_S}s",
    f"--horizontal-pod-autoscaler-cpu-initialization-period={CPU_INITIALIZATION_S}s",
    f"--horizontal-pod-autoscaler-initial-readiness-delay={READINESS_DELAY_S}s",
    "--concurrent-horizontal-pod-autoscaler-syncs=300",  # the fake holds a pass until its moment has come
)
AHEAD = 10
PASS_S = 6.0
"""A pass takes at most this long, on the average of a run."""


def lockstep(folder: Path, count: int, passes: int, seed: int) -> list[Target]:
    """Let ``count`` HPAs make ``passes`` passes each, and return their journals."""
    flags, controllers = {"manager": MANAGER_FLAGS}, ("horizontal-pod-autoscaler-controller",)
    with _undisturbed(), ControlPlane(folder, controllers=controllers, flags=flags) as plane:
        plane.stop("manager")
        for component in ("etcd", "apiserver"):
            ahead(plane.process(component).pid, -AHEAD)
        plane.api.create_namespace(NAMESPACE)
        targets = [Target(case, seed, passes) for case in cases(count, seed)]
        fake = FakeApis(targets, plane.server, trust(folder, "admin"))
        with served(fake.application(), folder, fake.close) as (port, loop):
            register(plane.api, NAMESPACE, port, APIS)
            made = asyncio.run_coroutine_threadsafe(_first_pods(fake), loop)
            made.result(60)
            for target in targets:
                plane.api.create(target.case.manifest())
            plane.start("manager")
            ahead(plane.process("manager").pid, -AHEAD)
            deadline = time.monotonic() + 30 + passes * PASS_S
            finished: Future[bool] = asyncio.run_coroutine_threadsafe(fake.finished.wait(), loop)
            while not finished.done() and time.monotonic() < deadline:
                _ = plane.process("manager").pid  # raises when it has ended
                fake.check()
                wait_a_moment(finished)
            plane.stop("manager")
    slow = [f"{target.case.name} {len(target.journal)}" for target in targets if not target.done]
    assert not slow, f"passes by HPA, of {passes}: {', '.join(slow)}"
    return targets


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ahead of whatever else runs on the machine, as far as that is allowed.

    Two thirds of a core are enough, but a request that waits for its turn makes ages that nobody knows.
    """
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    ahead("self", usual - AHEAD)
    try:
        yield
    finally:
        ahead("self", usual)


def wait_a_moment(finished: Future[bool]) -> None:
    """A second, or until it has come."""
    try:
        finished.result(1)
    except TimeoutError:
        return


async def _first_pods(fake: FakeApis) -> None:
    places = asyncio.Semaphore(8)

    async def make(target: Target) -> None:
        async with places:
            await fake.write(target.world.first_writes(time.time()))

    await asyncio.gather(*(make(target) for target in fake.targets.values()))
