"""Real parts for tests: a Kubernetes control plane, a Prometheus, and an exporter that plays a recorded load.

    ControlPlane ── etcd, API server, controllers, scheduler (the binary that `tests/cluster/prepare` builds)
       └─ api: Api ── create(manifest) → Resource: replicas(), scale(), set_status(), pods(), wait()
       └─ service_account(...) → a kubeconfig with exactly the rules that are given
    Prometheus ── scrape(job, targets), query(), fill() with history, stop, kill, restart
    Alertmanager ── alerts(), groups(), and a receiver that keeps what it is notified of
    Exporter ── replay(trace, speed), set_rate(): the counter `http_requests_total{namespace,app}`
    Proxy ── between the service and a server: what it asked, and hold_requests(), hold_answers() of what fits
    Audit ── the API server's own record of what a service account asked and wrote
    Kubelet ── makes a workload's pods Ready all the time
    MetricsApi ── `metrics.k8s.io` behind the API server: set_use() of an application's pods (aggregated.py: any such API)
    Process ── any child by its process id; dies with the test run, whatever happens to that

Everything listens on loopback, on ports that the system gave, and writes only below the folder it was given.
The parts are real, so they need real time: wait_until() is the one way to wait, and always has a deadline.
"""

from tests.cluster.rig import objects
from tests.cluster.rig.alertmanager import Alertmanager
from tests.cluster.rig.api import Api
from tests.cluster.rig.audit import Audit
from tests.cluster.rig.control_plane import ControlPlane
from tests.cluster.rig.errors import ApiError, RigError, UnreachableError
from tests.cluster.rig.exporter import Exporter, Replay, Steady, read_trace
from tests.cluster.rig.kubelet import Kubelet
from tests.cluster.rig.metrics_api import MetricsApi
from tests.cluster.rig.paths import BINARY, TRACES
from tests.cluster.rig.process import Process, reserve_port
from tests.cluster.rig.prometheus import History, Prometheus
from tests.cluster.rig.proxy import Gate, Passed, Proxy
from tests.cluster.rig.resource import Resource
from tests.cluster.rig.wait import wait_until

__all__ = [
    "BINARY",
    "TRACES",
    "Alertmanager",
    "Api",
    "ApiError",
    "Audit",
    "ControlPlane",
    "Exporter",
    "Gate",
    "History",
    "Kubelet",
    "MetricsApi",
    "Passed",
    "Process",
    "Prometheus",
    "Proxy",
    "Replay",
    "Resource",
    "RigError",
    "Steady",
    "UnreachableError",
    "objects",
    "read_trace",
    "reserve_port",
    "wait_until",
]
