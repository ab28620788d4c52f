"""``python -m benchmarks.storm``: brews the storm, watches the service through it, prints figures, and fails where a promise is broken."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
import yaml

from benchmarks.storm import cluster
from benchmarks.storm.cluster import FirstSeen, Size, name_of
from benchmarks.storm.figures import Figures, broken_promises, table
from tests.cluster.rig import Api, Audit, ControlPlane, Process, UnreachableError, wait_until
from tests.cluster.rig.paths import ROOT
from tests.cluster.rig.process import ahead

Json = dict[str, Any]

HOME = "autoscaler"
AHEAD = 5
SINGLES: dict[str, Json] = {
    "OutOfMemory": {"restartCount": 1, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
    "CannotRun": {"restartCount": 1, "lastState": {"terminated": {"exitCode": 127, "reason": "StartError"}}},
    "CrashLoop": {"restartCount": 3, "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}},
    "BadImage": {"ready": False, "state": {"waiting": {"reason": "InvalidImageName"}}},
}
"""What single pods are made to show, by the cause that it is: each is due at once."""


@dataclass
class Storm:
    """What is there while it blows."""

    folder: Path
    size: Size
    plane: ControlPlane
    audit: Audit
    seen: FirstSeen
    marks: dict[str, float] = field(default_factory=dict)
    address: str = ""
    lost: str = ""

    @property
    def api(self) -> Api:
        """As administrator."""
        return self.plane.api

    def say(self, words: str) -> None:
        """Progress, for people."""
        print(f"{time.monotonic() - self.marks.setdefault('start', time.monotonic()):6.0f} s  {words}", file=sys.stderr, flush=True)

    def incidents(self) -> list[Json]:
        """What the service tells."""
        answer = urllib3.request("GET", f"{self.address}/api/v1/incidents", timeout=30.0)
        found: list[Json] = answer.json()
        return found

    def metrics(self, name: str) -> dict[str, float]:
        """The samples of one metric, by their labels."""
        page = urllib3.request("GET", f"{self.address}/metrics", timeout=30.0).data.decode()
        return {labels: float(value) for labels, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", page, re.MULTILINE)}


@contextmanager
def brewing(folder: Path, size: Size) -> Iterator[Storm]:
    """A cluster whose pods all run."""
    audit = Audit(folder)
    with cluster.control_plane(folder / "plane", audit.flags) as plane:
        storm = Storm(folder, size, plane, audit, FirstSeen(plane))
        kwok = cluster.kwok(plane)
        kwok.start()
        try:
            cluster.make_nodes(plane.api, size)
            cluster.make_workloads(plane.api, size)
            _all_ready(storm, size.pods)
            yield storm
        finally:
            kwok.stop()


def _all_ready(storm: Storm, count: int) -> None:
    """This takes minutes: two cores play a hundred nodes."""
    ready = before = -1
    while ready < count:
        time.sleep(10.0)
        with suppress(UnreachableError):  # it has much to do
            ready = cluster.count_ready(storm.api)
        if ready != before:
            storm.say(f"{ready} of {count} pods are ready")
        before = ready
    storm.say(f"all {count} pods are ready")


@contextmanager
def serving(storm: Storm) -> Iterator[Path]:
    """The service, with the rights that deploy/ gives it for all namespaces; its figures are there when it has ended."""
    target, policies = storm.folder / "figures.json", storm.folder / "policies"
    policies.mkdir()
    for number in range(storm.size.namespaces):
        spec = {"selector": {}, "remedies": {"crashLoop": "restart", "unready": "restart"}}
        metadata = {"name": "default", "namespace": f"team-{number}"}
        manifest = {"apiVersion": "autoscaler.dev/v1alpha1", "kind": "HealthPolicy", "metadata": metadata, "spec": spec}
        (policies / f"team-{number}.yaml").write_text(yaml.safe_dump(manifest))
    storm.api.create_namespace(HOME)
    deploy = ROOT / "deploy"
    rules = _rules(deploy / "base" / "role-state.yaml")
    everywhere = [
        *_rules(deploy / "base" / "role.yaml"),
        *_rules(deploy / "remedies" / "role.yaml"),
        *_rules(deploy / "nodes" / "clusterrole.yaml"),
    ]
    kubeconfig = storm.plane.service_account(HOME, "autoscaler", rules, everywhere)
    environment = {
        "PATH": os.environ["PATH"],
        "AUTOSCALER_POLICIES": str(policies),
        "AUTOSCALER_KUBECONFIG": str(kubeconfig),
        "AUTOSCALER_STATE": "kubernetes",
        "AUTOSCALER_LISTEN_HOST": "127.0.0.1",
        "AUTOSCALER_LISTEN_PORT": "0",
        "AUTOSCALER_PROMETHEUS_URL": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "benchmarks.storm.probe", str(target)]
    process = Process("service", command, storm.folder / "service.log", environment)
    process.start()
    for pid in (os.getpid(), process.pid, *(storm.plane.process(name).pid for name in ("etcd", "apiserver"))):
        ahead(pid, -AHEAD)
    try:
        wait_until("the service listens", lambda: "http://127.0.0.1" in process.log.read_text(), timeout_s=60)
        storm.address = re.findall(r"^(http://\S+)$", process.log.read_text(), re.MULTILINE)[0]
        wait_until("it sees all pods", lambda: storm.metrics("autoscaler_health_pods").get("", 0) >= storm.size.pods, timeout_s=120)
        yield target
    finally:
        process.stop()


def _rules(path: Path) -> list[Json]:
    found: list[Json] = yaml.safe_load(path.read_text())["rules"]
    return found


def blow(storm: Storm) -> None:
    """A broken revision for three in ten of the pods, and a lost node; until all that is to be told is told."""
    size = storm.size
    storm.seen.start()
    time.sleep(2.0)  # its watches open
    storm.say("the storm begins")
    storm.marks["storm"] = time.time()
    storm.lost = cluster.some_pod(storm.api, size.namespace(size.workloads - 1), name_of(size.workloads - 1))["spec"]["nodeName"]
    cluster.roll_out(storm.api, size)
    cluster.lose(storm.api, storm.lost)
    wanted = size.bad * size.replicas
    quiet_since, before = time.monotonic(), ""
    while time.monotonic() - quiet_since < 80:  # noqa: PLR2004 - longer than a node is waited for, and anything settles
        time.sleep(2.0)
        told = sorted(f"{each['kind']} {each['name']} {each['cause']} {each['phase']}" for each in storm.incidents())
        state = json.dumps([told, min(len(storm.seen.crashing), wanted)])
        if state != before:
            storm.say(f"{len(storm.seen.crashing)} of {wanted} pods have crashed; {len(told)} incidents")
            quiet_since, before = time.monotonic(), state
    storm.marks["calm"], storm.marks["load"] = time.time(), os.getloadavg()[1]


def prick(storm: Storm) -> list[tuple[str, str, float]]:
    """While the storm lasts, single pods of well workloads fall ill: (workload, cause, when the API server had it)."""
    storm.say(f"{len(SINGLES) * (storm.size.workloads - storm.size.bad)} single pods fall ill")
    made = []
    for skip, (cause, container) in enumerate(SINGLES.items()):
        for number in range(storm.size.bad, storm.size.workloads):
            namespace, app = storm.size.namespace(number), name_of(number)
            pod = cluster.some_pod(storm.api, namespace, app, skip, not_on=storm.lost)
            now = cluster.stamp()
            last = container.get("lastState")
            dated = {
                **container,
                **({"lastState": {"terminated": {**last["terminated"], "startedAt": now, "finishedAt": now}}} if last else {}),
            }
            made.append((f"{namespace}/{app}", cause, cluster.make_ill(storm.api, pod, dated)))
            time.sleep(0.2)
    time.sleep(5.0)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--replicas", type=int, default=Size().replicas, help="pods of each of the 40 workloads (250)")
    parser.add_argument("--folder", type=Path, help="where logs and figures go (a temporary folder)")
    given = parser.parse_args(arguments)
    size = Size(replicas=given.replicas)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with brewing(folder, size) as storm:
            with serving(storm) as target:
                blow(storm)
                first, breaker = storm.incidents(), storm.metrics("autoscaler_breaker_open")
                remedies = storm.metrics("autoscaler_remedies_total")
                pricks = prick(storm)
                last = storm.incidents()
            figures = Figures(
                size=size,
                lost=storm.lost,
                marks=storm.marks,
                first_seen=storm.seen.times,
                storm=first,
                later=last,
                pricks=pricks,
                breaker=breaker,
                remedies=remedies,
                requests=[(each.verb, each.resource) for each in storm.audit.requests(HOME)],
                service=json.loads(target.read_text()),
            )
    print(table(figures))
    broken = list(broken_promises(figures))
    print(*(f"BROKEN: {each}" for each in broken), sep="\n", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
