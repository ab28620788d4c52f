"""A real Alertmanager on loopback, and a receiver that keeps what it is notified of."""

import json
import shutil
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from tests.cluster.rig.errors import UnreachableError
from tests.cluster.rig.process import Process, reserve_port, start_on_free_ports
from tests.cluster.rig.wait import wait_until

Json = dict[str, Any]

START_TIMEOUT_S = 20.0

QUICK: Json = {"group_by": ["namespace", "alertname"], "group_wait": "200ms", "group_interval": "500ms", "repeat_interval": "1h"}
"""A route that tests need not wait for."""


class Receiver:
    """What Alertmanager's webhook receiver brings: ``notifications``, oldest first."""

    def __init__(self) -> None:
        self.notifications: list[Json] = []
        keep = self.notifications.append

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keep(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing: the test has it all."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


class Alertmanager:
    """An Alertmanager of a test, at `url`, that notifies `receiver`.

        with Alertmanager(folder) as alertmanager:
            alertmanager.alerts()

    Its port and state stay when it is stopped and started again; lose_data() in between empties it.
    """

    def __init__(self, folder: Path, *, resolve_timeout: str = "5m", route: Mapping[str, Any] = QUICK) -> None:
        """`folder` gets configuration, data and log."""
        self.folder, self.receiver = folder, Receiver()
        self._route, self._resolve_timeout = dict(route), resolve_timeout
        self._http = urllib3.PoolManager(timeout=10.0, retries=False)
        self._port = 0
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Start it and return when it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.receiver.__enter__()
        start_on_free_ports(self._place, self.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self.receiver.__exit__(kind, error, trace)

    def start(self) -> None:
        """Start it where it was and return when it is ready."""
        assert self._process is not None
        self._process.start()
        wait_until("Alertmanager is ready", lambda: self._get("/-/ready").status == 200, timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.stop()

    def lose_data(self) -> None:
        """Delete its alerts and silences, of a stopped one."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def alerts(self) -> list[Json]:
        """The alerts that are active."""
        return [dict(alert) for alert in self._get("/api/v2/alerts").json()]

    def groups(self) -> list[Json]:
        """The groups that alerts are in."""
        return [dict(group) for group in self._get("/api/v2/alerts/groups").json()]

    def _place(self) -> list[Process]:
        self._port = reserve_port()
        route = {"receiver": "test", **self._route}
        receivers = [{"name": "test", "webhook_configs": [{"url": self.receiver.url, "send_resolved": True}]}]
        configuration = {"global": {"resolve_timeout": self._resolve_timeout}, "route": route, "receivers": receivers}
        path = self.folder / "alertmanager.yml"
        path.write_text(json.dumps(configuration, indent=2))  # JSON is YAML
        command = [
            "prometheus-alertmanager",
            f"--config.file={path}",
            f"--storage.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--cluster.listen-address=",  # no gossip
        ]
        self._process = Process("alertmanager", command, self.folder / f"alertmanager-{self._port}.log")
        return [self._process]

    def _get(self, path: str) -> urllib3.BaseHTTPResponse:
        try:
            return self._http.request("GET", self.url + path)
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"Alertmanager at {self.url}{path}: {error}") from error
