"""What the storm came to: figures, and the promises that they must keep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.storm.cluster import Size, name_of

Json = dict[str, Any]

PENDING_P99_S = 1.0
MEMORY_MIB = 150.0
SETTLE_S = (15.0, 75.0)
"""An incident is told of once no more pods have joined for so long, and at last after the second."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    ``first_seen``: when the first sign of each cause came off the API server; ``pricks``: workload, cause, and when the API server had it;
    ``service``: what the probe wrote.
    """

    size: Size
    lost: str
    marks: Mapping[str, float]
    first_seen: Mapping[str, float]
    storm: Sequence[Json]
    later: Sequence[Json]
    pricks: Sequence[tuple[str, str, float]]
    breaker: Mapping[str, float]
    remedies: Mapping[str, float]
    requests: Sequence[tuple[str, str]]
    service: Json

    def expected(self) -> Counter[tuple[str, str, str]]:
        """One incident for each workload of the broken revision, one for the node, and the breaker's own."""
        size = self.size
        bad = [("Deployment", f"{size.namespace(number)}/{name_of(number)}", "CrashLoop") for number in range(size.bad)]
        return Counter({**dict.fromkeys(bad, 1), ("Node", f"/{self.lost}", "NodeLost"): 1, ("Cluster", "/cluster", "MassFailure"): 1})

    def told(self) -> Counter[tuple[str, str, str]]:
        """What was told by the end of the storm."""
        return Counter((each["kind"], f"{each['namespace']}/{each['name']}", each["cause"]) for each in self.storm)

    def known_s(self, opened_s: float) -> float:
        """When the pass that opened an incident had ended."""
        return opened_s + self._durations()[opened_s]

    def _durations(self) -> dict[float, float]:
        return {at_s: took_s for at_s, took_s, _ in self.service["passes"]}

    def storm_delays(self) -> list[float]:
        """From the first sign of a cause coming off the API server until its incident was pending."""
        found = []
        for each in self.storm:
            key = each["name"] if each["kind"] == "Node" else f"{each['namespace']}/{each['name']}"
            if each["cause"] == "CrashLoop":
                found.append(self.known_s(each["opened_s"]) - self.first_seen[key])
        return found

    def prick_delays(self) -> list[float]:
        """From the API server having a single pod's new status until its incident was pending."""
        opened = {(f"{each['namespace']}/{each['name']}", each["cause"]): each["opened_s"] for each in self.later}
        return [self.known_s(opened[workload, cause]) - at_s for workload, cause, at_s in self.pricks if (workload, cause) in opened]

    def settled(self) -> list[float]:
        """From pending until it was told of."""
        return [each["fired_s"] - each["opened_s"] for each in self.storm if each["fired_s"] and each["kind"] != "Cluster"]

    def remedies_done(self) -> float:
        """Remedies that were carried out."""
        return sum(value for labels, value in self.remedies.items() if 'outcome="done"' in labels or 'outcome="failed"' in labels)

    def evictions(self) -> int:
        """As the API server has it."""
        return sum(resource == "pods/eviction" or (verb, resource) == ("delete", "pods") for verb, resource in self.requests)


def broken_promises(figures: Figures) -> Iterator[str]:
    """What is not as it is promised."""
    if figures.told() != figures.expected():
        more, less = figures.told() - figures.expected(), figures.expected() - figures.told()
        yield f"one incident for each cause: too many {dict(more)}, missing {dict(less)}"
    if figures.breaker.get('scope="cluster"') != 1:
        yield f"the cluster's breaker is open: {dict(figures.breaker)}"
    if figures.remedies_done() or figures.evictions():
        yield f"nothing is touched: {figures.remedies_done():g} remedies, {figures.evictions()} evictions"
    if len(figures.prick_delays()) != len(figures.pricks):
        yield f"each single pod is an incident: {len(figures.prick_delays())} of {len(figures.pricks)}"
    p99 = float(np.percentile([*figures.prick_delays(), *figures.storm_delays()], 99))
    if p99 > PENDING_P99_S:
        yield f"pending within {PENDING_P99_S:g} s (p99): {p99:.2f} s"
    if figures.service["peak_mib"] > MEMORY_MIB:
        yield f"at most {MEMORY_MIB:g} MiB: {figures.service['peak_mib']:.0f} MiB"


def table(figures: Figures) -> str:
    """For benchmarks/README.md."""
    singles, storm, settled = figures.prick_delays(), figures.storm_delays(), figures.settled()
    passes = [took_s for _, took_s, pods in figures.service["passes"] if pods]
    calls = Counter(figures.requests)
    begun, calm = figures.marks["storm"], figures.marks["calm"]
    rows = [
        ("pods, of which in the broken revision", f"{figures.size.pods}, {figures.size.bad * figures.size.replicas}"),
        (
            "incidents told of in the storm",
            ", ".join(f"{count} {cause}" for cause, count in Counter(e["cause"] for e in figures.storm).items()),
        ),
        ("breaker of the cluster", "open" if figures.breaker.get('scope="cluster"') == 1 else "closed"),
        ("remedies carried out, evictions the API server saw", f"{figures.remedies_done():g}, {figures.evictions()}"),
        ("event to pending, single pods in the storm: median, p99, largest", _spread(singles)),
        ("first event to pending, the storm's own: median, p99, largest", _spread(storm)),
        ("pending to firing: least, largest", f"{min(settled):.1f} s, {max(settled):.1f} s"),
        ("one pass: median, p99, largest", _spread(passes)),
        (
            "memory of the process: in the storm's middle, peak",
            f"{np.median(figures.service['rss_mib']):.0f}, {figures.service['peak_mib']:.0f} MiB",
        ),
        ("processor time of the process", f"{figures.service['cpu_s']:.0f} s"),
        ("processes that wanted a core, on average", f"{figures.marks['load']:.0f} for {os.cpu_count()} cores"),
        ("the storm, from first write to calm", f"{calm - begun:.0f} s"),
        ("requests to the API server", ", ".join(f"{count} {verb} {what}" for (verb, what), count in sorted(calls.items()))),
    ]
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _spread(seconds: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f} s" for value in (np.median(seconds), np.percentile(seconds, 99), np.max(seconds)))
