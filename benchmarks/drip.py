"""200 workloads in one group, 20 of them on a server that drips one byte a second: do the other 180 decide on time?

    python -m benchmarks.drip [ticks]

The loop, the Prometheus adapter and the wire are real; the servers run in a process of their own. Printed: the time of a tick from its
start to the end of its last write, and how many of the 180 decided on data of that tick, with and without the fault. The first tick is
told apart: that a question drips is only known once it has.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
from aiohttp import web

from autoscaler import metrics
from autoscaler.adapters.memory import MemoryCluster
from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.clock import SystemClock
from autoscaler.core.behavior import HPA_BEHAVIOR
from autoscaler.core.spec import PolicyChoice, Query, SeriesSpec, WorkloadSpec
from autoscaler.core.types import Signal, Workload
from autoscaler.loops.group import Surroundings
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.testing.recorder import MemoryRecorder
from benchmarks.machine import origin
from policies.moving_average import MovingAverage, MovingAverageParams

WORKLOADS, SICK, INTERVAL_S = 200, 20, 5.0


def serve(address: Connection) -> None:
    """Answer every query with 2; under /drip a byte a second. Ends with the parent."""
    asyncio.run(_serve(address))


async def _serve(address: Connection) -> None:
    def body(at: str) -> bytes:
        return f'{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[{at},"2"]}}]}}}}'.encode()

    async def good(request: web.Request) -> web.Response:
        return web.Response(body=body(request.query["time"]), content_type="application/json")

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        with suppress(ConnectionError):  # who asks gives up before the end
            await response.prepare(request)
            for byte in body(request.query["time"]):
                await response.write(bytes([byte]))
                await asyncio.sleep(1.0)
        return response

    app = web.Application()
    app.router.add_get("/api/v1/query", good)
    app.router.add_get("/drip/api/v1/query", drip)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address.send(runner.addresses[0][1])
    await asyncio.get_running_loop().create_future()


def spec(number: int, endpoint: str) -> WorkloadSpec:
    """A workload with a query of its own."""
    policy, default = MovingAverage(), MovingAverageParams()
    series = SeriesSpec("load", Query(f"load_{number}", endpoint), 1.0)
    choice = PolicyChoice("movingAverage", policy, default)
    return WorkloadSpec(Workload("bench", f"w{number}"), (series,), choice, HPA_BEHAVIOR.absent, 1, 50, INTERVAL_S)


async def measure(port: int, ticks: int, *, sick: int) -> tuple[list[float], list[int]]:
    """Seconds of each tick, and how many of the healthy workloads had data at it."""
    clock, recorder = SystemClock(), MemoryRecorder()
    url = f"http://127.0.0.1:{port}"
    source = PrometheusSource({"default": Endpoint(url), "sick": Endpoint(f"{url}/drip")}, recorder)
    cluster = MemoryCluster(clock)
    specs = [spec(number, "sick" if number < sick else "default") for number in range(WORKLOADS)]
    for each in specs:
        cluster.create(each.workload, 2)
    loop = ScalingLoop(Surroundings(source, cluster, clock, recorder, asyncio.Semaphore(16)))
    loop.update(specs)
    tasks = [asyncio.create_task(cluster.run()), asyncio.create_task(loop.run())]
    await asyncio.sleep(ticks * INTERVAL_S + INTERVAL_S / 2)
    (group,) = loop.groups.values()
    healthy = [group.roster.series(each.workload) for each in specs[SICK:]]
    slots = [place.slot for series in healthy for place in series.values()]
    answered = [int((record.observation.series[0].signal[slots] == Signal.OK).sum()) for record in group.records]
    await loop.close(0.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await source.close()
    return recorder.observed(metrics.TICK_SECONDS, f"{INTERVAL_S:g}s"), answered


def main() -> None:
    """Measure both, one after the other."""
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else 14
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    print(", ".join(f"{name}: {value}" for name, value in origin().items()))
    for name, sick in (("all healthy", 0), (f"{SICK} of {WORKLOADS} drip", SICK)):
        seconds, answered = asyncio.run(measure(port, ticks, sick=sick))
        first, *later = seconds
        median, p99 = np.percentile(later, [50, 99])
        least = min(answered)
        told = f"first tick {first:.3f} s   {len(later):3d} later ones: median {median:.3f} s   p99 {p99:.3f} s"
        print(f"{name:20} {told}   of 180 with data, least {least}")
    server.terminate()


if __name__ == "__main__":
    main()
