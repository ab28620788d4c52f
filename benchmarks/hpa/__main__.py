"""The benchmark from the command line; as root, after `tests/cluster/prepare`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.hpa.phase import Driver, Durations, Outcome, Phase
from benchmarks.hpa.report import markdown, table
from benchmarks.hpa.rig import rig
from benchmarks.hpa.steps import first_counts
from benchmarks.machine import origin

PHASES = "hpa@15,own@15,many@15,many@15,own@15,hpa@15,own@5,many@5"


async def measure(workloads: int, phases: list[Phase], durations: Durations, seed: int) -> list[Outcome]:
    """All phases, one after the other, on one API server."""
    counts = first_counts(workloads, seed)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="bench-hpa-") as folder:
        async with rig(Path(folder), counts) as running:
            driver = Driver(running, counts, seed)
            for phase in phases:
                outcomes.append(await driver.run(phase, durations))
                print(table(outcomes[-1:]), file=sys.stderr, flush=True)
    return outcomes


def main() -> None:
    """Measure, print the table, and keep everything as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hpa", description=__doc__)
    parser.add_argument("--workloads", type=int, nargs="+", default=[1000, 5000], help="run everything for each of these")
    parser.add_argument("--phases", default=PHASES, help=f"controller@interval, in this order (default {PHASES})")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds under load before the measurement")
    parser.add_argument("--measure", type=float, default=120.0, help="seconds of the measurement")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".cache/bench-hpa"), help="where results.json and table.md go")
    given = parser.parse_args()
    phases = [Phase(name, float(interval)) for name, _, interval in (part.partition("@") for part in given.phases.split(","))]
    durations = Durations(given.settle, given.measure)
    outcomes: list[Outcome] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for workloads in given.workloads:
        outcomes += asyncio.run(measure(workloads, phases, durations, given.seed))
        found = {"origin": origin(), "outcomes": [outcome.plain() for outcome in outcomes]}
        (given.out / "results.json").write_text(json.dumps(found, indent=1))
        (given.out / "table.md").write_text(markdown(outcomes, origin()))
    print(table(outcomes))


if __name__ == "__main__":
    main()
