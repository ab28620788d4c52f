"""A service that is new to a workload goes on from what Prometheus has recorded of it: its forecasts are not cold."""

from __future__ import annotations

import time
from math import sin
from pathlib import Path
from typing import Any

from tests.cluster.rig import ControlPlane, History, Prometheus, objects, wait_until
from tests.cluster.rig.service import Service, policy

STEP_S = 15.0
PAST_S = 4 * 3600.0


def recorded(namespace: str, end_s: float) -> History:
    """Four hours of a load that waves, up to two minutes from now: it answers from the first tick on."""
    start_s = end_s - PAST_S
    values = [200.0 + 80.0 * sin((start_s + row * STEP_S) / 900.0) for row in range(int((PAST_S + 120.0) / STEP_S))]
    return History("load_rate", {"namespace": namespace, "app": "web"}, start_s, STEP_S, values)


def test_a_forecast_goes_on_from_what_prometheus_has_recorded(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    prometheus = Prometheus(tmp_path / "prometheus")
    prometheus.fill([recorded(namespace, time.time() // STEP_S * STEP_S)])
    target = control_plane.api.create(objects.deployment(namespace, replicas=20))
    target.wait_ready(20)
    query = f'sum(load_rate{{namespace="{namespace}",app="web"}})'
    metric = {"name": "load", "prometheus": {"query": query}, "target": {"averageValue": "10"}}
    row = policy(namespace, "web", interval="5s", metrics=[metric], policy={"type": "forecast"}, behavior=None)
    with prometheus, Service(tmp_path, prometheus=prometheus.url, kubeconfig=control_plane.kubeconfig) as service:
        service.use(row)

        def warm() -> dict[str, Any] | None:
            for decision in service.workload(namespace, "web")["decisions"][:1]:
                notes: dict[str, Any] = decision["series"][0]["notes"]
                if notes.get("cold") == 0.0:
                    return notes
            return None

        notes = wait_until("the forecast is warm", warm, timeout_s=60)
        assert notes["scored_s"] >= 2 * 3600.0
        _, metrics = service.get("/metrics")
        assert 'autoscaler_warm_ups_total{outcome="ok"} 1.0' in metrics
        assert "Traceback" not in service.log()
