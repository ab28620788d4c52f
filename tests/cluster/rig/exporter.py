"""A scrape target whose load is known exactly: a recorded trace played fast, or a rate that the test sets.

It exposes, for each application that was given a load,

    http_requests_total{namespace, app}     counter, the integral of its rate since the exporter started
    http_requests_offered{namespace, app}   gauge, its rate now in requests per second: the truth to compare with
"""

import csv
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from wsgiref.simple_server import WSGIServer

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tests.cluster.rig.errors import RigError
from tests.cluster.rig.paths import TRACES

Floats = npt.NDArray[np.float64]
LABELS = ("namespace", "app")


class Load(Protocol):
    """A rate over the time since it began."""

    def rate(self, elapsed_s: float) -> float:
        """Requests per second then."""

    def total(self, elapsed_s: float) -> float:
        """Requests from the beginning until then: the integral of the rate."""


@dataclass(frozen=True, slots=True)
class Steady:
    """The same rate for ever, in requests per second."""

    requests_per_s: float

    def rate(self, elapsed_s: float) -> float:
        """The rate."""
        del elapsed_s
        return self.requests_per_s

    def total(self, elapsed_s: float) -> float:
        """Rate × time."""
        return self.requests_per_s * elapsed_s


class Replay:
    """A trace in compressed time: `speed` seconds of it pass in one second, its rates stay (times `scale`).

    Rates are linear between the centres of the trace's rows, and constant before the first and after the last centre,
    so that a load goes on after its record ends (after `duration_s`).
    """

    def __init__(self, step_s: float, rates: Floats, *, speed: float, scale: float = 1.0, start_s: float = 0.0) -> None:
        """`rates` [rows] each held for step_s of the trace's time; the replay begins at `start_s` of the trace."""
        if not (speed > 0 and scale > 0 and 0 <= start_s < step_s * len(rates)):
            span_s = step_s * len(rates)
            raise RigError(f"speed {speed} and scale {scale} must be above 0, start_s {start_s} in [0, {span_s})")
        self._speed = speed
        self._start_s = start_s
        centres = (np.arange(len(rates)) + 0.5) * step_s
        self._knots = np.concatenate(([0.0], centres, [step_s * len(rates)]))
        self._rates = scale * np.concatenate((rates[:1], rates, rates[-1:]))
        areas = np.diff(self._knots) * (self._rates[1:] + self._rates[:-1]) / 2
        self._totals = np.concatenate(([0.0], np.cumsum(areas)))
        self._before = self._integral(start_s)

    @property
    def duration_s(self) -> float:
        """How long the replay takes."""
        return float(self._knots[-1] - self._start_s) / self._speed

    def rate(self, elapsed_s: float) -> float:
        """Requests per second then."""
        return float(np.interp(self._start_s + elapsed_s * self._speed, self._knots, self._rates))

    def total(self, elapsed_s: float) -> float:
        """Requests until then: the trace's integral in its own time ÷ speed."""
        return (self._integral(self._start_s + elapsed_s * self._speed) - self._before) / self._speed

    def _integral(self, at_s: float) -> float:
        within = min(at_s, float(self._knots[-1]))
        index = int(np.searchsorted(self._knots, within, side="right")) - 1
        since_s = within - self._knots[index]
        rate = np.interp(within, self._knots, self._rates)
        return float(self._totals[index] + since_s * (self._rates[index] + rate) / 2 + (at_s - within) * self._rates[-1])


def read_trace(name: str, folder: Path = TRACES) -> tuple[float, Floats]:
    """A recorded load of benchmarks/traces by its file's name without .csv: (step in seconds, rates per second [rows])."""
    path = folder / f"{name}.csv"
    if not path.exists():
        known = ", ".join(sorted(entry.stem for entry in folder.glob("*.csv")))
        raise RigError(f"no trace {name!r} in {folder}; there are {known}")
    with path.open(newline="") as source:
        rows = list(csv.DictReader(source))
    stamps = np.array([float(row["timestamp_s"]) for row in rows])
    rates = np.array([float(row["rate"]) for row in rows])
    step_s = float(stamps[1] - stamps[0])
    if not np.allclose(np.diff(stamps), step_s):
        raise RigError(f"{path}: the step is not {step_s} s throughout")
    return step_s, rates


@dataclass(frozen=True, slots=True)
class _Running:
    load: Load
    began_s: float
    before: float


class Exporter(Collector):
    """An exporter of a test, at `address` (host:port) with /metrics.

        with Exporter() as exporter:
            exporter.set_rate("shop", "web", 400)
            exporter.replay("shop", "web", "ms_mongo_app2_1min", speed=600)

    Counters go on from where they are when a load changes. stop() is an outage of the target; start() brings it back
    on the same port, with counters that never stopped counting.
    """

    def __init__(self) -> None:
        """No applications yet; nothing listens."""
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], _Running] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._port = 0
        self._server: tuple[WSGIServer, threading.Thread] | None = None

    @property
    def address(self) -> str:
        """What a scrape configuration wants."""
        if not self._port:
            raise RigError("the exporter has not been started")
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Listen."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop listening."""
        self.stop()

    def start(self) -> None:
        """Listen on a port of the system's choice, or after stop() on the same one."""
        if self._server is None:
            self._server = start_http_server(self._port, "127.0.0.1", self._registry)
            self._port = self._server[0].server_port

    def stop(self) -> None:
        """Stop listening: scrapes are refused."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None

    def set_rate(self, namespace: str, app: str, requests_per_s: float) -> None:
        """From now on this rate."""
        self._play(namespace, app, Steady(requests_per_s))

    def replay(self, namespace: str, app: str, trace: str, *, speed: float, scale: float = 1.0, start_s: float = 0.0) -> Replay:
        """From now on this trace of benchmarks/traces (see Replay); returns what is played."""
        load = Replay(*read_trace(trace), speed=speed, scale=scale, start_s=start_s)
        self._play(namespace, app, load)
        return load

    def rate(self, namespace: str, app: str) -> float:
        """The rate now, in requests per second."""
        now_s = time.monotonic()
        with self._lock:
            running = self._running[namespace, app]
        return running.load.rate(now_s - running.began_s)

    def remove(self, namespace: str, app: str) -> None:
        """Stop exposing this application: its series end."""
        with self._lock:
            del self._running[namespace, app]

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What a scrape sees (prometheus_client calls it)."""
        now_s = time.monotonic()
        counter = CounterMetricFamily("http_requests", "Requests since the exporter started.", labels=LABELS)
        gauge = GaugeMetricFamily("http_requests_offered", "Requests per second now.", labels=LABELS)
        with self._lock:
            running = dict(self._running)
        for labels, one in running.items():
            elapsed_s = now_s - one.began_s
            counter.add_metric(labels, one.before + one.load.total(elapsed_s))
            gauge.add_metric(labels, one.load.rate(elapsed_s))
        yield counter
        yield gauge

    def _play(self, namespace: str, app: str, load: Load) -> None:
        now_s = time.monotonic()
        with self._lock:
            last = self._running.get((namespace, app))
            before = last.before + last.load.total(now_s - last.began_s) if last else 0.0
            self._running[namespace, app] = _Running(load, now_s, before)
