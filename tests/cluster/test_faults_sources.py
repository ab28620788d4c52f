"""Six real metric sources of one service, each sick in its own way at the same time, beside one that is well.

Rows of docs/failures.md: eight replicas, then the faults while every load doubles, then their end. The workload on the healthy source
follows its load at once; the others hold, say why, and follow theirs when their source is back.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.cluster.faults import INTERVAL_S, Json, Scene, following, service_of
from tests.cluster.rig import Audit, ControlPlane, Exporter, Prometheus, Proxy, wait_until
from tests.cluster.rig.certificates import serving, sign, write_certificates

log = logging.getLogger(__name__)

BEFORE, AFTER = 8, 16
BUSY_S = 60.0
HEALTHY = "healthy"
NAME = "metrics.rig.invalid"
WITH_ITS_FILES = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


@dataclass(frozen=True)
class Source:
    """One source that can be made sick and well; `signal` and `words` are what is said of it meanwhile."""

    url: str
    fail: Callable[[], None]
    mend: Callable[[], None]
    signal: str
    words: str
    ca_file: str = ""

    def settings(self, name: str) -> str:
        return f'[prometheus.{name}]\nurl = "{self.url}"\n' + (f'ca_file = "{self.ca_file}"\n' if self.ca_file else "")


class Hog:
    """Fills the queue of a Prometheus that works on one query at a time, for `BUSY_S`. It cannot be stopped within one: each is short."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._address = ("127.0.0.1", int(prometheus.url.rpartition(":")[2]))
        self._lines: list[socket.socket] = []

    def start(self) -> None:
        began_s = time.monotonic()
        self._ask().recv(1)
        count = math.ceil(BUSY_S / (time.monotonic() - began_s))
        for _ in range(count):
            self._ask()

    def stop(self) -> None:
        """Hang up, on which Prometheus forgets what it has not begun."""
        for line in self._lines:
            line.close()

    def _ask(self) -> socket.socket:
        """Three hundred million additions, a second or two."""
        query = urlencode({"query": "sum_over_time(vector(1)[2h:10ms])", "start": "0", "end": "400", "step": "1"})
        line = socket.create_connection(self._address)
        line.sendall(f"GET /api/v1/query_range?{query} HTTP/1.1\r\nHost: prometheus\r\n\r\n".encode())
        self._lines.append(line)
        return line


class Names:
    """What the service takes for /etc/hosts; beyond it, a name server that refuses."""

    def __init__(self, folder: Path, proxy: Proxy) -> None:
        self._hosts, self._resolver, self._proxy = folder / "hosts", folder / "resolv.conf", proxy
        self._resolver.write_text("nameserver 127.0.0.1\n")
        self.within = ("unshare", "--mount", "sh", "-c", WITH_ITS_FILES, str(self._hosts), str(self._resolver))
        self.appear()

    def appear(self) -> None:
        self._hosts.write_text(f"127.0.0.1 localhost {NAME}\n")

    def vanish(self) -> None:
        """A name is looked up for a new connection only, so the old ones end."""
        self._hosts.write_text("127.0.0.1 localhost\n")
        self._proxy.cut()


@dataclass(frozen=True)
class Ward:
    """All sources by the name of their workload, and the service that asks them."""

    scene: Scene
    sources: dict[str, Source]


def emptied(prometheus: Prometheus) -> None:
    """Restarted without its data, before it has scraped anything again."""
    prometheus.stop()
    prometheus.lose_data()
    prometheus.scrape("exporter", [])
    prometheus.start()


def address(prometheus: Prometheus) -> str:
    return prometheus.url.removeprefix("http://")


@pytest.fixture
def ward(
    fragile: ControlPlane,
    audit: Audit,
    prometheus: Prometheus,
    exporter: Exporter,
    name_namespace: Callable[[str], str],
    tmp_path: Path,
) -> Iterator[Ward]:
    namespace = fragile.api.create_namespace(name_namespace("sources")).name
    with ExitStack() as stack:

        def another(name: str, *flags: str) -> Prometheus:
            (tmp_path / name).mkdir()
            made = Prometheus(tmp_path / name, flags=flags)
            made.scrape("exporter", [exporter.address])
            return stack.enter_context(made)

        killed, lost, frozen, busy = another("killed"), another("lost"), another("frozen"), another("busy", "--query.max-concurrency=1")
        folder = tmp_path / "certificates"
        write_certificates(folder)
        tls = stack.enter_context(Proxy(address(prometheus), serve=serving(folder)))
        named = stack.enter_context(Proxy(address(prometheus)))
        names, hog = Names(tmp_path, named), Hog(busy)

        def expire(days: str) -> None:
            sign(folder, "server", days)
            tls.show(serving(folder))

        sources = {
            "killed": Source(killed.url, killed.kill, killed.start, "UNREACHABLE", "Connection refused"),
            "frozen": Source(frozen.url, frozen.process.pause, frozen.process.resume, "TIMEOUT", "no answer"),
            "busy": Source(busy.url, hog.start, hog.stop, "TIMEOUT", "no answer"),
            "expired": Source(
                f"https://{tls.address}",
                lambda: expire("-1"),
                lambda: expire("30"),
                "UNREACHABLE",
                "its certificate is not trusted",
                str(folder / "ca.crt"),
            ),
            "unnamed": Source(
                f"http://{NAME}:{named.address.rpartition(':')[2]}",
                names.vanish,
                names.appear,
                "UNREACHABLE",
                "its name does not resolve",
            ),
            "lost": Source(
                lost.url, lambda: emptied(lost), lambda: lost.scrape("exporter", [exporter.address]), "EMPTY", "returned no series"
            ),
        }
        config = tmp_path / "settings.toml"
        config.write_text("".join(source.settings(name) for name, source in sources.items()))
        service = service_of(fragile, namespace, tmp_path / "service", prometheus.url, config=config, within=names.within)
        yield Ward(Scene(fragile, audit, exporter, stack.enter_context(service), namespace), sources)


def asking(namespace: str, name: str) -> Json:
    """The workload's policy, which asks the endpoint of the workload's name."""
    made = following(namespace, name)
    if name != HEALTHY:
        made["spec"]["metrics"][0]["prometheus"]["endpoint"] = name
    return made


def asked(scene: Scene, endpoint: str) -> float:
    """How many questions that endpoint has been asked that have ended."""
    lines = scene.service.get("/metrics")[1].splitlines()
    mine = [line for line in lines if line.startswith("autoscaler_query_duration_seconds_count{") and f'endpoint="{endpoint}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in mine)


def answered(scene: Scene, name: str) -> bool:
    decisions = scene.service.workload(scene.namespace, name)["decisions"]
    return bool(decisions) and decisions[0]["series"][0]["signal"] == "OK"


def assert_held(scene: Scene, name: str, source: Source, since_s: float, questions: float) -> None:
    """Every tick since then has held, and said why; nothing was written, and no more was asked than before."""
    during = [each for each in scene.service.workload(scene.namespace, name)["decisions"] if each["at_s"] > since_s]
    assert len(during) >= 2, name
    for each in during:
        series = each["series"][0]
        assert (each["desired"], each["reason"], each["apply"]) == (BEFORE, "NO_DATA", False), (name, each)
        assert series["signal"] == source.signal, (name, series)
        assert source.words in series["detail"], (name, series)
    assert scene.written(name) == [], name
    assert asked(scene, name) - questions <= 2 * (len(during) + 2), f"{name}: the load and the coverage, once a tick"
    told = [line for line in scene.service.log().splitlines() if f"{scene.namespace}/{name}" in line and source.words in line]
    assert 1 <= len(told) <= 2, f"{name}: said once, not at every tick"


def mend(ward: Ward) -> None:
    """All are well again, and every workload follows its load."""
    mended_s = {}
    for name, source in ward.sources.items():
        mended_s[name] = time.time()
        source.mend()
    scene = ward.scene
    wait_until("all follow their loads", lambda: all(scene.resource(name).replicas() == AFTER for name in ward.sources), timeout_s=45)
    for name in ward.sources:
        decided_s = [each["at_s"] for each in scene.service.workload(scene.namespace, name)["decisions"] if each["desired"] == AFTER]
        log.info("source %s: followed its load %.1f s after its end", name, min(decided_s) - mended_s[name])


def test_each_sick_source_holds_its_own_workload_alone(ward: Ward) -> None:
    scene, names = ward.scene, [HEALTHY, *ward.sources]
    for name in names:
        scene.deploy(name, BEFORE)
        scene.load(BEFORE, name)
    scene.service.use(*(asking(scene.namespace, name) for name in names))
    wait_until("every source has answered", lambda: all(answered(scene, name) for name in names), timeout_s=20)

    for source in ward.sources.values():
        source.fail()
    since_s, questions = time.time(), {name: asked(scene, name) for name in ward.sources}
    for name in names:
        scene.load(AFTER, name)
    scene.resource(HEALTHY).wait_replicas(AFTER, timeout_s=2 * INTERVAL_S + 5)
    scene.wait_ticks(2, HEALTHY)
    for name, source in ward.sources.items():
        assert_held(scene, name, source, since_s, questions[name])
    mend(ward)
    assert {name: scene.written(name) for name in names} == {name: [AFTER] for name in names}
    scene.assert_no_traceback()
