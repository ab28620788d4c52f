"""The composed service from start to end, as a process: signals, writes under way, a port that is taken."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from autoscaler import service
from autoscaler.errors import ConfigError

POLICY = """
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 20
  interval: 5s
  metrics:
    - name: requests
      prometheus: {query: load}
      target: {averageValue: "1"}
  policy: {type: movingAverage}
"""

# A service at twenty times the speed of time, whose writes take as many real seconds as it is told.
PROGRAM = """
import asyncio, sys
from pathlib import Path
from autoscaler import logs
from autoscaler.adapters.memory import MemoryCluster, MemorySource
from autoscaler.adapters.telemetry import PrometheusRecorder
from autoscaler.clock import FastClock
from autoscaler.core.types import Workload
from autoscaler.policyfile.reload import DirectoryPolicySource
from autoscaler.service import Parts, Service

async def main():
    clock = FastClock(20.0)
    source, cluster = MemorySource(clock), MemoryCluster(clock)
    web = Workload("shop", "web")
    cluster.create(web, 1)
    source.write("load", {}, clock.now(), 3.0)

    async def slow(workload, replicas):
        print("writing", replicas, flush=True)
        await asyncio.sleep(float(sys.argv[2]))

    cluster.before = slow
    policies = DirectoryPolicySource([Path(sys.argv[1])], clock)
    parts = Parts(source, cluster, policies, PrometheusRecorder(), clock, port=0)
    await Service(parts).run(lambda address: print(address, flush=True))
    print("replicas", cluster.replicas(web), flush=True)

logs.configure("json", "info")
asyncio.run(main())
"""


def start(folder: Path, write_s: float) -> subprocess.Popen[str]:
    """The program, once its write is under way."""
    (folder / "web.yaml").write_text(POLICY)
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), str(write_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline().startswith("http://127.0.0.1:")
    assert program.stdout.readline() == "writing 3\n"
    return program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_write_under_way_finish(number: signal.Signals, tmp_path: Path) -> None:
    with start(tmp_path, 0.1) as program:
        program.send_signal(number)
        out, err = program.communicate(timeout=20)
    assert program.returncode == 0, err
    assert out == "replicas 3\n"
    assert "Traceback" not in err


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with start(tmp_path, 60.0) as program:
        program.send_signal(signal.SIGTERM)
        assert program.stderr is not None
        while "finishing writes under way" not in (line := program.stderr.readline()):
            assert line, "it ended without a word"
        began = time.monotonic()
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=20) == service.KILLED
        assert time.monotonic() - began < service.FINISH_S / 2, "it did not wait for the write"


def test_hang_up_reads_the_policies_again(tmp_path: Path) -> None:
    with start(tmp_path, 0.1) as program:
        program.send_signal(signal.SIGHUP)
        assert program.stderr is not None
        seen = 0
        while seen < 2:
            line = program.stderr.readline()
            assert line, "it ended without a word"
            seen += "policies read" in line
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=20) == 0


def test_a_stray_policies_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "policies"]:
        monkeypatch.delitem(sys.modules, name)  # as at a start: what is imported already is not looked for
    with pytest.raises(ConfigError, match="the package `policies` is found in"):
        service.check_policies_package()
