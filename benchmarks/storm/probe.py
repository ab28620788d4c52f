"""The service as it is deployed, with a watch that notes when each pass of the health loop began and ended.

python -m benchmarks.storm.probe FILE      settings from the environment, as `autoscaler run` takes them; figures go to FILE
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoscaler import logs
from autoscaler.clock import SystemClock
from autoscaler.core.health.facts import Facts, Pod
from autoscaler.core.types import Workload
from autoscaler.ports import PodWatch
from autoscaler.service import Service, build
from autoscaler.settings import load

_EVERY_S = 0.5


class Timed:
    """A PodWatch that hands everything on. The loop asks for facts when a pass begins, and for changes when it has ended."""

    def __init__(self, pods: PodWatch) -> None:
        self._pods, self._clock = pods, SystemClock()
        self.passes: list[tuple[float, float, int]] = []
        self._begun: tuple[float, float, int] | None = None

    async def run(self) -> None:
        """See :class:`autoscaler.ports.PodWatch`, here and below."""
        await self._pods.run()

    def facts(self, at_s: float) -> Facts:
        """Begin a pass."""
        began = self._clock.monotonic()
        facts = self._pods.facts(at_s)
        self._begun = at_s, began, len(facts.pods)
        return facts

    def owned(self, workload: Workload) -> tuple[Pod, ...] | None:
        """Not measured."""
        return self._pods.owned(workload)

    async def changed(self) -> None:
        """End a pass."""
        if self._begun is not None:
            at_s, began, pods = self._begun
            self.passes.append((at_s, self._clock.monotonic() - began, pods))
            self._begun = None
        await self._pods.changed()


async def main() -> dict[str, Any]:
    """Run until SIGTERM; what it took."""
    settings, clock, memory = load(), SystemClock(), list[float]()

    async def measure() -> None:
        while True:
            memory.append(_memory("VmRSS"))
            await clock.sleep_until(clock.monotonic() + _EVERY_S)

    async with build(settings) as parts:
        if parts.pods is None:
            raise RuntimeError("the service watches no pods")
        timed = Timed(parts.pods)
        await Service(replace(parts, pods=timed, beside=(measure,))).run(lambda address: print(address, flush=True))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "passes": timed.passes,
        "rss_mib": memory,
        "peak_mib": _memory("VmHWM"),
        "cpu_s": used.ru_utime + used.ru_stime,
    }


def _memory(field: str) -> float:
    """In MiB, as the kernel counts it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    logs.configure("json", "info")
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(main())))
