"""The service itself as a process: `autoscaler run` on a folder of policy files, and what it says about itself."""

import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3
import yaml

from tests.cluster.rig.process import Process
from tests.cluster.rig.wait import wait_until

Json = dict[str, Any]


def policy(namespace: str, name: str, **spec: Any) -> Json:  # noqa: ANN401 - the fields of a policy's spec
    """A ScalingPolicy every 5 s for Deployment `name`, one metric `load` asking `per_replica` of the exporter's counter.

    Keywords replace fields of `spec`; None drops one.
    """
    query = f'sum(rate(http_requests_total{{namespace="{namespace}",app="{name}"}}[5s]))'
    fields: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": 1,
        "maxReplicas": 40,
        "interval": "5s",
        "metrics": [{"name": "load", "prometheus": {"query": query}, "target": {"averageValue": "10"}}],
        "policy": {"type": "movingAverage", "window": "10s", "panicWindow": "5s"},
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }
    fields.update(spec)
    return {
        "apiVersion": "autoscaler.dev/v1alpha1",
        "kind": "ScalingPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {key: value for key, value in fields.items() if value is not None},
    }


class Service:
    """One running `autoscaler run`. Its policies are files in `policies`; its log is JSON lines.

    `within` is a command that runs it, such as one that gives it other files to see.
    """

    def __init__(
        self, folder: Path, *, prometheus: str, kubeconfig: Path, options: Mapping[str, str] | None = None, within: Sequence[str] = ()
    ) -> None:
        self.policies = folder / "policies"
        self.policies.mkdir(parents=True)
        command = [*within, sys.executable, "-m", "autoscaler", "run", str(self.policies), "--prometheus", prometheus]
        command += ["--kubeconfig", str(kubeconfig), "--host", "127.0.0.1", "--port", "0", "--log-format", "json"]
        command += [word for option, value in (options or {}).items() for word in (option, value)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AUTOSCALER_")}
        self.process = Process("autoscaler", command, folder / "service.log", environment)
        self._http = urllib3.PoolManager(retries=False, timeout=5.0)
        self._earlier = 0

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.stop()

    def begin(self) -> None:
        """Start it, for the first time or again, and wait until it answers."""
        self.launch()
        self.wait_listening()

    def launch(self) -> None:
        """Start it."""
        self._earlier = self.log().count("listening on")
        self.process.start()

    def wait_listening(self) -> None:
        """Wait until what was launched answers."""
        wait_until("the service listens", lambda: self.log().count("listening on") > self._earlier, timeout_s=20)

    def write(self, *policies: Json, file: str = "policies.yaml") -> None:
        """Put policies into one file, all at once, as a ConfigMap does."""
        draft = self.policies.parent / "draft"
        draft.write_text(yaml.safe_dump_all(policies))
        draft.replace(self.policies / file)

    def use(self, *policies: Json, file: str = "policies.yaml") -> None:
        """write(), and wait until it has taken them all."""
        self.write(*policies, file=file)
        for each in policies:
            where = f"/api/v1/workloads/{each['metadata']['namespace']}/{each['spec']['scaleTargetRef']['name']}"
            wait_until(f"{where} is there", lambda where=where: self.get(where)[0] == 200, timeout_s=20)  # type: ignore[misc]

    def log(self) -> str:
        """Everything it has written."""
        return self.process.log.read_text() if self.process.log.exists() else ""

    def records(self) -> list[Json]:
        """Its log lines, decoded."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def said(self, *words: str) -> bool:
        """Whether one log line has all these words."""
        return any(all(word in line for word in words) for line in self.log().splitlines())

    @property
    def address(self) -> str:
        """Where it listens, such as http://127.0.0.1:40123."""
        found: list[str] = re.findall(r"listening on (http://[^\s\"]+)", self.log())
        assert found, self.process.log_tail()
        return found[-1]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        answer = self._http.request("GET", self.address + path)
        return answer.status, answer.data.decode()

    def workload(self, namespace: str, name: str) -> Json:
        """Everything that it says about one workload."""
        status, body = self.get(f"/api/v1/workloads/{namespace}/{name}")
        assert status == 200, body
        found: Json = json.loads(body)
        return found

    def wait_decision(self, namespace: str, name: str, what: str, **expected: Any) -> Json:  # noqa: ANN401 - compared, not used
        """The newest decision once its fields are as expected."""

        def met() -> Json | None:
            decisions: list[Json] = self.workload(namespace, name)["decisions"]
            if not decisions or any(decisions[0][key] != value for key, value in expected.items()):
                return None
            return decisions[0]

        return wait_until(f"{what}: {expected}", met, timeout_s=30)

    def hang_up(self) -> None:
        """SIGHUP."""
        self.process.signal(signal.SIGHUP)
