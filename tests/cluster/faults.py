"""What the tests of faults share: a workload under a load that is known, the service that scales it, and the record of what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.rig import Audit, ControlPlane, Exporter, Proxy, Resource, objects, wait_until
from tests.cluster.rig.audit import Request
from tests.cluster.rig.certificates import serving, trust
from tests.cluster.rig.paths import ROOT
from tests.cluster.rig.service import Service, policy

Json = dict[str, Any]

INTERVAL_S = 5.0
AT_ONCE = {"type": "Pods", "value": 100, "periodSeconds": 15}
RULES = yaml.safe_load((ROOT / "deploy" / "base" / "role.yaml").read_text())["rules"]
STATE_RULES = yaml.safe_load((ROOT / "deploy" / "base" / "role-state.yaml").read_text())["rules"]


def following(namespace: str, name: str = "web", **spec: Any) -> Json:  # noqa: ANN401 - the fields of a policy's spec
    """A policy that wants the load of the last scrape ÷ 10 at once: what is to be written is known to the replica."""
    prometheus = {"query": f'max(http_requests_offered{{namespace="{namespace}",app="{name}"}})'}
    fields: Json = {
        "metrics": [{"name": "load", "prometheus": prometheus, "target": {"averageValue": "10"}}],
        "policy": {"type": "movingAverage", "window": "5s", "panicWindow": "5s"},
        "behavior": {"scaleUp": {"policies": [AT_ONCE]}, "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [AT_ONCE]}},
    }
    return policy(namespace, name, **(fields | spec))


@dataclass(frozen=True)
class Scene:
    """One namespace with one service, on a control plane that keeps a record."""

    plane: ControlPlane
    audit: Audit
    exporter: Exporter
    service: Service
    namespace: str

    def deploy(self, name: str = "web", replicas: int = 1) -> Resource:
        """A Deployment."""
        return self.plane.api.create(objects.deployment(self.namespace, name, replicas))

    def resource(self, name: str = "web") -> Resource:
        """A Deployment that is there already."""
        return self.plane.api.resource("apps/v1", "Deployment", name, self.namespace)

    def load(self, replicas: int, name: str = "web") -> None:
        """A load for that many replicas, from the next scrape on."""
        self.exporter.set_rate(self.namespace, name, replicas * 10.0 - 2)

    def settle(self, replicas: int, name: str = "web") -> None:
        """The load of that many replicas, and that many of them Ready."""
        self.load(replicas, name)
        self.resource(name).wait_replicas(replicas, timeout_s=30)
        self.resource(name).wait_ready(replicas)

    def written(self, name: str = "web") -> list[int]:
        """Every count that the service has set, by the API server's record."""
        return self.audit.written(self.namespace, name)

    def requests(self) -> list[Request]:
        """All that the service has asked of the API server."""
        return self.audit.requests(self.namespace)

    def newest(self, name: str = "web") -> Json:
        """The newest decision."""
        return dict(self.service.workload(self.namespace, name)["decisions"][0])

    def wait_ticks(self, ticks: int, name: str = "web") -> list[Json]:
        """Wait for so many more decisions; they are returned, the newest first."""
        decisions = self.service.workload(self.namespace, name)["decisions"]
        last_s = decisions[0]["at_s"] if decisions else 0.0

        def passed() -> list[Json]:
            later = [each for each in self.service.workload(self.namespace, name)["decisions"] if each["at_s"] > last_s]
            return later if len(later) >= ticks else []

        return wait_until(f"{ticks} ticks", passed, timeout_s=ticks * INTERVAL_S + 10)

    def assert_no_traceback(self) -> None:
        """Whatever went wrong was foreseen."""
        assert "Traceback" not in self.service.log()


def proxy_before(plane: ControlPlane) -> Proxy:
    """A proxy before the API server, which shows the API server's own certificate."""
    return Proxy(plane.server.removeprefix("https://"), serve=serving(plane.folder), trust=trust(plane.folder))


def service_of(
    plane: ControlPlane,
    namespace: str,
    folder: Path,
    prometheus: str,
    *,
    state: str = "none",
    config: Path | None = None,
    within: Sequence[str] = (),
    api_proxy: Proxy | None = None,
) -> Service:
    """A service with the rights of deploy/base in its namespace, not started yet; `config` is a TOML file of settings."""
    kubeconfig = plane.service_account(namespace, "autoscaler", RULES + STATE_RULES)
    if api_proxy is not None:
        kubeconfig.write_text(kubeconfig.read_text().replace(plane.server, f"https://{api_proxy.address}"))
    options = {"--namespace": namespace, "--state": state} | ({"--config": str(config)} if config else {})
    return Service(folder, prometheus=prometheus, kubeconfig=kubeconfig, options=options, within=within)
