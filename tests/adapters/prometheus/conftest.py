"""A server to be asked, a source to ask with, and the promise that nothing of it is left afterwards."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from autoscaler.adapters.prometheus import Endpoint, PrometheusSource
from autoscaler.core.spec import Query
from autoscaler.testing.recorder import MemoryRecorder
from tests.adapters.prometheus.server import FaultServer

LOAD = Query("load")


@pytest.fixture(autouse=True)
async def no_thread_is_left() -> AsyncIterator[None]:
    before = set(threading.enumerate())
    yield
    for _ in range(1000):  # one that was cut may take a moment, on a busy machine a long one
        if not set(threading.enumerate()) - before:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"threads left: {set(threading.enumerate()) - before}")


async def until_no_thread_asks() -> None:
    """Let threads that were cut come to their end; a source has none left then but those of calls that go on."""
    for _ in range(1000):
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

    key = ec.generate_private_key(ec.SECP256R1())
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    us = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    loopback, elsewhere = x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("prometheus.test")
    names: list[tuple[str, x509.GeneralName, int]] = [("good", loopback, 2), ("expired", loopback, -1), ("other", elsewhere, 2)]
    for file, name, days in names:
        builder = x509.CertificateBuilder(us, us, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=days))
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        (folder / f"{file}.pem").write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return folder
