"""Where both controllers read the loads.

The HPA asks the external metrics API, which an aiohttp server answers; ours asks a real Prometheus, whose samples are pushed by remote
write, so that it is known when each can be read. Neither source counts as a controller's cost. Prometheus is real because our side's
way to it (POST bodies, PromQL, JSON as it really comes) is what is measured; of an adapter, the HPA sees only JSON.
"""

from __future__ import annotations

import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp import web

NAMESPACE = "bench"
METRIC = "queue_messages"
GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"


def name_of(workload: int) -> str:
    """A Deployment's name, and the label ``app`` of its load."""
    return f"w{workload:05}"


def number_of(name: str) -> int:
    """The workload of that name."""
    return int(name[1:])


class ExternalMetrics:
    """The external metrics API on loopback: ``loads`` by workload."""

    def __init__(self, loads: list[int]) -> None:
        self.loads = loads

    async def serve(self, certificate: ssl.SSLContext) -> tuple[web.AppRunner, int]:
        """Start; what to clean up at the end, and the port."""
        app = web.Application()
        base = f"/apis/{GROUP}/{VERSION}"
        app.router.add_get(base, self._discovery)
        app.router.add_get(f"{base}/namespaces/{NAMESPACE}/{METRIC}", self._value)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate, backlog=512).start()
        port: int = runner.addresses[0][1]
        return runner, port

    async def _discovery(self, _: web.Request) -> web.Response:
        body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": []}
        return web.json_response(body)

    async def _value(self, request: web.Request) -> web.Response:
        app = request.query["labelSelector"].removeprefix("app=")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        item = {"metricName": METRIC, "metricLabels": {"app": app}, "timestamp": stamp, "value": str(self.loads[number_of(app)])}
        return web.json_response({"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": [item]})


@dataclass(frozen=True, slots=True)
class Pushed:
    """One sample of a workload's load, at Unix milliseconds."""

    workload: int
    load: int
    at_ms: int


class PrometheusPush:
    """Samples by remote write; once :meth:`push` returns they can be queried."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, f"{url}/api/v1/write"

    async def push(self, samples: Sequence[Pushed]) -> None:
        """Write them, in pieces of a thousand."""
        headers = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        for start in range(0, len(samples), 1000):
            body = snappy(write_request(samples[start : start + 1000]))
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                if answer.status != 204:  # noqa: PLR2004 - what the protocol answers
                    raise RuntimeError(f"{self._url}: {answer.status} {await answer.text()}")


def write_request(samples: Iterable[Pushed]) -> bytes:
    """A WriteRequest of the remote-write protocol 1.0: for each sample a series with its labels in order."""
    series = bytearray()
    for sample in samples:
        labels = (("__name__", METRIC), ("app", name_of(sample.workload)), ("namespace", NAMESPACE))
        body = b"".join(_field(1, _field(1, name.encode()) + _field(2, text.encode())) for name, text in labels)
        body += _field(2, b"\x09" + struct.pack("<d", sample.load) + b"\x10" + _varint(sample.at_ms))
        series += _field(1, body)
    return bytes(series)


def snappy(data: bytes) -> bytes:
    """Snappy's block format without any compression: a length, and literals."""
    pieces = [data[start : start + 65536] for start in range(0, len(data), 65536)]
    return _varint(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(piece) - 1) + piece for piece in pieces)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Base 128, the lowest seven bits first."""
    out = bytearray()
    while value >= 0x80:  # noqa: PLR2004 - the seven bits of a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
