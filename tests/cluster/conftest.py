"""The real parts as fixtures: one control plane, Prometheus and exporter for the whole run, a namespace for each test.

A test that breaks a part takes one of its own (`own_control_plane`, `own_prometheus`, `own_exporter`).
"""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.rig import Audit, ControlPlane, Exporter, Prometheus

_serial = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """What service accounts ask of `fragile`."""
    return Audit(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="session")
def fragile(audit: Audit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane that tests may break, if they mend it again; it keeps a record of requests."""
    with ControlPlane(tmp_path_factory.mktemp("fragile"), flags={"apiserver": audit.flags}) as plane:
        yield plane


@pytest.fixture(scope="session")
def exporter() -> Iterator[Exporter]:
    """The target of the shared Prometheus. A test's loads go by its namespace, so no two tests meet in it."""
    with Exporter() as running:
        yield running


@pytest.fixture(scope="session")
def prometheus(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes the exporter every second."""
    running = Prometheus(tmp_path_factory.mktemp("prometheus"))
    running.scrape("exporter", [exporter.address])
    with running:
        yield running


@pytest.fixture(scope="session")
def name_namespace() -> Callable[[str], str]:
    """A name for a namespace that no other test has, made of words that tell whose it is."""
    return lambda words: f"{re.sub(r'[^a-z0-9]+', '-', words.lower())[:40].strip('-')}-{next(_serial)}"


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest, name_namespace: Callable[[str], str]) -> Iterator[str]:
    """A namespace of the test's own, named after it; no other test's series or objects carry its name."""
    made = control_plane.api.create_namespace(name_namespace(request.node.name.removeprefix("test_")))
    yield made.name
    control_plane.api.call("DELETE", made.path)  # its controller empties it while the next test runs


@pytest.fixture
def own_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path / "control-plane") as plane:
        yield plane


@pytest.fixture
def own_prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    with Prometheus(tmp_path / "prometheus") as running:
        yield running


@pytest.fixture
def own_exporter() -> Iterator[Exporter]:
    """No Prometheus scrapes it yet: `own_prometheus.scrape("web", [own_exporter.address])`, which takes up to 5 s."""
    with Exporter() as running:
        yield running
