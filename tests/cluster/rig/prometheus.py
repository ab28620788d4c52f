"""A real Prometheus on loopback: what it scrapes can change while it runs, and its history can be filled beforehand."""

import json
import math
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from tests.cluster.rig.errors import RigError, UnreachableError
from tests.cluster.rig.process import Process, reserve_port, start_on_free_ports
from tests.cluster.rig.wait import wait_until

Json = dict[str, Any]

START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class History:
    """Samples of one series for Prometheus.fill(): values[i] at start_s + i·step_s (Unix seconds); NaN leaves a gap."""

    metric: str
    labels: Mapping[str, str]
    start_s: float
    step_s: float
    values: Sequence[float]


class Prometheus:
    """A Prometheus of a test, at `url`.

        with Prometheus(folder) as prometheus:
            prometheus.scrape("web", [exporter.address])
            prometheus.value('sum(rate(http_requests_total[10s]))')

    Its port and data stay when it is stopped and started again; lose_data() in between empties it.
    """

    def __init__(self, folder: Path, *, scrape_interval_s: float = 1.0, flags: Sequence[str] = ()) -> None:
        """`folder` gets configuration, data and log; `flags` are added to the command line."""
        self.folder = folder
        self.data = folder / "data"
        self._interval_s = scrape_interval_s
        self._flags = tuple(flags)
        self._jobs: dict[str, list[str]] = {}
        self._http = urllib3.PoolManager(timeout=10.0, retries=False)
        self._port = 0
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        if not self._port:
            raise RigError("Prometheus has not been started")
        return f"http://127.0.0.1:{self._port}"

    @property
    def process(self) -> Process:
        """Its process: pid, log, pause() and resume()."""
        if self._process is None:
            raise RigError("Prometheus has not been started")
        return self._process

    def __enter__(self) -> Self:
        """Start it and return when it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        start_on_free_ports(self._place, self.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it; its configuration and log stay."""
        self.stop()
        self.lose_data()

    def start(self) -> None:
        """Start it where it was and return when it is ready."""
        self._write_configuration()
        self.process.start()

        def ready() -> bool:
            _ = self.process.pid  # raises when it has ended
            return self._get("/-/ready").status == 200

        wait_until("Prometheus is ready", ready, timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """End it in order: it writes its head block's log and answers what it is at."""
        self.process.stop()

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()

    def lose_data(self) -> None:
        """Delete all samples, of a stopped one."""
        self._refuse_while_running("lose its data")
        shutil.rmtree(self.data, ignore_errors=True)

    def scrape(self, job: str, targets: Sequence[str]) -> None:
        """Scrape these host:port from now on as `job` (none: its series end), and return when each target was tried once.

        Takes up to 5 s while it runs (Prometheus gathers changes of targets that long); on a stopped one, or before
        the start, it is only noted.
        """
        self._jobs[job] = list(targets)  # one without targets stays: only so are its series marked stale
        self._write_configuration()
        if self._process is None or not self._process.running:
            return
        self._process.signal(signal.SIGHUP)

        def tried() -> bool:
            known = self._answer("/api/v1/targets", {"state": "active"})["activeTargets"]
            health = {target["scrapeUrl"]: target["health"] for target in known if target["scrapePool"] == job}
            return len(health) == len(targets) and "unknown" not in health.values()

        wait_until(f"Prometheus scrapes job {job}", tried, timeout_s=self._interval_s + 10.0)

    def query(self, expression: str, at_s: float | None = None) -> list[Json]:
        """An instant query's vector: [{"metric": labels, "value": [time, text]}, …]."""
        fields = {"query": expression, **({} if at_s is None else {"time": f"{at_s:.3f}"})}
        answer = self._answer("/api/v1/query", fields)
        if answer["resultType"] != "vector":
            raise RigError(f"{expression!r} gives a {answer['resultType']}, not a vector")
        vector: list[Json] = answer["result"]
        return vector

    def value(self, expression: str, at_s: float | None = None) -> float:
        """The value of a query that gives one series; NaN when it gives none."""
        vector = self.query(expression, at_s)
        if len(vector) > 1:
            raise RigError(f"{expression!r} gives {len(vector)} series, not one")
        return float(vector[0]["value"][1]) if vector else math.nan

    def fill(self, series: Iterable[History]) -> None:
        """Write history into the data of one that is not running, by promtool; it is there from the next start."""
        self._refuse_while_running("fill its history")
        self.folder.mkdir(parents=True, exist_ok=True)
        source = self.folder / "history.om"
        source.write_text(_open_metrics(series))
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RigError(f"promtool: {done.stderr.strip() or done.stdout.strip()}")
        source.unlink()

    def _refuse_while_running(self, what: str) -> None:
        if self._process is not None and self._process.running:
            raise RigError(f"stop Prometheus to {what}")

    def _place(self) -> list[Process]:
        self._port = reserve_port()
        command = [
            "prometheus",
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.data}",
            "--storage.tsdb.retention.time=20y",  # recorded loads are years old
            f"--web.listen-address=127.0.0.1:{self._port}",
            *self._flags,
        ]
        self._process = Process("prometheus", command, self.folder / f"prometheus-{self._port}.log")
        return [self._process]

    def _write_configuration(self) -> None:
        interval = f"{round(self._interval_s * 1000)}ms"
        configuration = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": targets}]} for job, targets in self._jobs.items()],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration, indent=2))  # JSON is YAML

    def _get(self, path: str, fields: Mapping[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        try:
            return self._http.request("GET", self.url + path, fields=dict(fields or {}))
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"Prometheus at {self.url}{path}: {error}") from error

    def _answer(self, path: str, fields: Mapping[str, str]) -> Json:
        body = self._get(path, fields).json()
        if body["status"] != "success":
            raise RigError(f"Prometheus refuses {dict(fields)}: {body['errorType']}: {body['error']}")
        return dict(body["data"])


def _open_metrics(series: Iterable[History]) -> str:
    """The text format that promtool reads: a metric's series together, a counter's family without its _total."""
    by_metric: dict[str, list[History]] = {}
    for one in series:
        by_metric.setdefault(one.metric, []).append(one)
    lines = []
    for metric, members in by_metric.items():
        counter = metric.endswith("_total")
        lines.append(f"# TYPE {metric.removesuffix('_total')} {'counter' if counter else 'gauge'}")
        for one in members:
            labels = ",".join(f"{name}={json.dumps(text)}" for name, text in one.labels.items())
            lines.extend(
                f"{metric}{{{labels}}} {value!r} {one.start_s + index * one.step_s:.3f}"
                for index, value in enumerate(map(float, one.values))
                if not math.isnan(value)
            )
    return "\n".join([*lines, "# EOF", ""])
