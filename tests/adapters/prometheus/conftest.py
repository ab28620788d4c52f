"""A server to be asked, a source to ask with, and the promise that nothing of it is left afterwards."""

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.core.spec import Query
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.prometheus.server import FaultServer

LOAD = Query("load")


@pytest.fixture(autouse=True)
async def no_thread_is_left() -> AsyncIterator[None]:
    before = set(threading.enumerate())
    yield
    for _ in range(100):  # one that was cut may take a moment
        if not set(threading.enumerate()) - before:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"threads left: {set(threading.enumerate()) - before}")


async def until_no_thread_asks() -> None:
    """Let threads that were cut come to their end; a source has none left then but those of calls that go on."""
    for _ in range(100):
        if not asking_threads():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"threads still there: {asking_threads()}")


def asking_threads() -> list[str]:
    """The adapter's own threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("Prometheus")]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def recorder() -> MemoryRecorder:
    return MemoryRecorder()


@pytest.fixture
async def source(server: FaultServer, recorder: MemoryRecorder) -> AsyncIterator[PrometheusSource]:
    opened = PrometheusSource({"default": Endpoint(server.url)}, recorder)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key.pem and its certificates, each its own CA: good.pem and expired.pem for 127.0.0.1, other.pem for another host."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
    openssl("req", "-new", "-key", "key.pem", "-subj", "/CN=test", "-out", "request.pem")
    for name, host, days in (("good", "IP:127.0.0.1", "2"), ("expired", "IP:127.0.0.1", "-1"), ("other", "DNS:prometheus.test", "2")):
        (folder / "names").write_text(f"subjectAltName={host}\nbasicConstraints=critical,CA:TRUE\n")
        openssl("x509", "-req", "-in", "request.pem", "-signkey", "key.pem", "-days", days, "-extfile", "names", "-out", f"{name}.pem")
    return folder
