"""The rig does what it says, on the real parts."""

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.rig import (
    ApiError,
    ControlPlane,
    Exporter,
    History,
    Process,
    Prometheus,
    RigError,
    UnreachableError,
    objects,
    reserve_port,
    wait_until,
)
from tests.cluster.rig.access import read_token
from tests.cluster.rig.process import start_on_free_ports

SCALE_RULES = [objects.rule("apps", "deployments/scale", "get,patch"), objects.rule("", "pods", "list")]


class TestControlPlane:
    def test_is_kubernetes_1_37(self, control_plane: ControlPlane) -> None:
        assert control_plane.api.version.startswith("v1.37.")

    def test_deployment_follows_its_scale(self, control_plane: ControlPlane, namespace: str) -> None:
        web = control_plane.api.create(objects.deployment(namespace, "web", replicas=3, requests={"cpu": "100m"}))
        web.wait("three pods exist", lambda seen: seen.get("status", {}).get("replicas") == 3)
        assert {pod["status"]["phase"] for pod in web.pods()} == {"Pending"}
        assert web.read()["status"].get("readyReplicas", 0) == 0
        web.wait_ready(3)
        web.mark_pods_ready(1)
        web.wait("one is ready", lambda seen: seen["status"].get("readyReplicas") == 1)
        web.scale(5)
        web.wait_ready(5)
        web.scale(0)
        web.wait("none is left", lambda seen: seen["status"].get("replicas", 0) == 0)
        assert (web.replicas(), web.status_replicas(), web.pods()) == (0, 0, [])

    def test_stateful_set_starts_in_order(self, control_plane: ControlPlane, namespace: str) -> None:
        db = control_plane.api.create(objects.stateful_set(namespace, "db", replicas=3))
        db.wait("the first pod exists", lambda seen: seen.get("status", {}).get("replicas") == 1)
        assert [pod["metadata"]["name"] for pod in db.pods()] == ["db-0"]
        db.wait_ready(3)
        assert [pod["metadata"]["name"] for pod in db.pods()] == ["db-0", "db-1", "db-2"]

    def test_replica_set_follows_its_scale(self, control_plane: ControlPlane, namespace: str) -> None:
        batch = control_plane.api.create(objects.replica_set(namespace, "batch", replicas=1))
        batch.scale(2)
        batch.wait_ready(2)

    def test_custom_resource_has_scale(self, control_plane: ControlPlane, namespace: str) -> None:
        api = control_plane.api
        api.create_crd(objects.custom_workload_crd())
        worker = api.create(objects.custom_workload(namespace, "worker", replicas=2))
        worker.set_status(replicas=1, selector="app=worker")
        api.create(objects.pod(namespace, "worker-a", {"app": "worker"}))
        api.create(objects.pod(namespace, "other", {"app": "other"}))
        assert (worker.replicas(), worker.status_replicas()) == (2, 1)
        assert [pod["metadata"]["name"] for pod in worker.pods()] == ["worker-a"]
        worker.scale(0)
        assert worker.replicas() == 0

    def test_deleted_and_created_again_is_another(self, control_plane: ControlPlane, namespace: str) -> None:
        api = control_plane.api
        first = api.create(objects.deployment(namespace))
        uid = first.read()["metadata"]["uid"]
        first.delete()
        assert not first.exists()
        assert api.create(objects.deployment(namespace)).read()["metadata"]["uid"] != uid

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            pytest.param("GET", "/apis/apps/v1/namespaces/{ns}/deployments/web/scale", None, 200, id="get-scale"),
            pytest.param("PATCH", "/apis/apps/v1/namespaces/{ns}/deployments/web/scale", {"spec": {"replicas": 2}}, 200, id="patch-scale"),
            pytest.param("GET", "/api/v1/namespaces/{ns}/pods", None, 200, id="list-pods"),
            pytest.param("DELETE", "/api/v1/namespaces/{ns}/pods/any", None, 403, id="delete-a-pod"),
            pytest.param("GET", "/apis/apps/v1/namespaces/{ns}/deployments/web", None, 403, id="get-a-deployment"),
            pytest.param("GET", "/api/v1/namespaces/default/pods", None, 403, id="list-pods-elsewhere"),
            pytest.param("GET", "/api/v1/nodes", None, 200, id="list-nodes"),
        ],
    )
    def test_service_account_may_do_its_rules_only(
        self, control_plane: ControlPlane, namespace: str, method: str, path: str, body: object, status: int
    ) -> None:
        control_plane.api.create(objects.deployment(namespace, "web"))
        kubeconfig = control_plane.service_account(namespace, "scaler", SCALE_RULES, [objects.rule("", "nodes", "list")])
        api = control_plane.api_with_token(read_token(kubeconfig))
        patch = "application/merge-patch+json" if method == "PATCH" else "application/json"
        if status == 200:
            api.call(method, path.format(ns=namespace), body, content_type=patch)
            return
        with pytest.raises(ApiError) as refused:
            api.call(method, path.format(ns=namespace), body, content_type=patch)
        assert (refused.value.status, refused.value.reason) == (status, "Forbidden")

    def test_unknown_kind_names_the_known(self, control_plane: ControlPlane) -> None:
        with pytest.raises(RigError, match=r"no kind Deploy in apps/v1; it has .*Deployment"):
            control_plane.api.resource("apps/v1", "Deploy", "web", "default")

    def test_components_can_break_and_come_back(self, own_control_plane: ControlPlane) -> None:
        plane = own_control_plane
        server, api = plane.server, plane.api
        web = api.create(objects.deployment(api.create_namespace("shop").name, "web", replicas=2))
        plane.kill("apiserver")
        with pytest.raises(UnreachableError):
            web.replicas()
        plane.start("apiserver")
        assert (plane.server, web.replicas()) == (server, 2)
        plane.kill("etcd")
        wait_until("it is not ready without etcd", lambda: not api.ready())
        plane.start("etcd")
        web.scale(3)
        web.wait_ready(3)  # the controllers too have found the API server again

    def test_scheduler_finds_no_node(self, tmp_path: Path) -> None:
        with ControlPlane(tmp_path, scheduler=True) as plane:
            web = plane.api.create(objects.deployment(plane.api.create_namespace("shop").name))

            def refusals() -> list[str]:
                return [event["note"] for event in plane.api.events("shop") if event["reason"] == "FailedScheduling"]

            assert "no nodes available" in wait_until("the scheduler says why", refusals)[0]
            assert [pod["status"]["phase"] for pod in web.pods()] == ["Pending"]

    def test_component_that_cannot_start_says_why(self, tmp_path: Path) -> None:
        plane = ControlPlane(tmp_path, flags={"apiserver": ["--no-such-flag"]})
        with pytest.raises(RigError, match="unknown flag: --no-such-flag"), plane:
            pass
        assert not plane.process("etcd").running


class TestPrometheus:
    def test_rate_of_a_steady_load(self, prometheus: Prometheus, exporter: Exporter, namespace: str) -> None:
        selector = f'{{namespace="{namespace}",app="web"}}'
        assert math.isnan(prometheus.value(f"http_requests_total{selector}"))
        exporter.set_rate(namespace, "web", 400)

        def rate() -> float:
            return prometheus.value(f"sum(rate(http_requests_total{selector}[3s]))")

        wait_until("the rate is 400", lambda: rate() == pytest.approx(400, rel=0.05))
        exporter.set_rate(namespace, "web", 100)
        wait_until("the rate is 100", lambda: rate() == pytest.approx(100, rel=0.05))
        assert prometheus.value(f"http_requests_offered{selector}") == pytest.approx(100)

    def test_replayed_trace_is_what_is_scraped(self, prometheus: Prometheus, exporter: Exporter, namespace: str) -> None:
        selector = f'{{namespace="{namespace}",app="web"}}'
        exporter.replay(namespace, "web", "ms_mongo_app2_1min", speed=600, start_s=3600)  # ten rows a second
        # Over the same samples the counter's rate and the mean of the gauge are two ways to the same load.
        wait_until("five samples", lambda: prometheus.value(f"count_over_time(http_requests_total{selector}[1m])") >= 5)
        at_s = time.time()
        counted = prometheus.value(f"rate(http_requests_total{selector}[4s])", at_s)
        offered = prometheus.value(f"avg_over_time(http_requests_offered{selector}[4s])", at_s)
        assert counted == pytest.approx(offered, rel=0.05)
        assert 250 < counted < 750  # the trace's own level

    def test_target_outage(self, own_prometheus: Prometheus, own_exporter: Exporter) -> None:
        prometheus, exporter = own_prometheus, own_exporter
        exporter.set_rate("shop", "web", 50)
        address, up = exporter.address, f'up{{instance="{exporter.address}"}}'
        prometheus.scrape("web", [address])
        wait_until("the target is up", lambda: prometheus.value(up) == 1)
        exporter.stop()
        wait_until("the target is down", lambda: prometheus.value(up) == 0)
        exporter.start()
        assert exporter.address == address
        wait_until("the target is up again", lambda: prometheus.value(up) == 1)
        prometheus.scrape("web", [])
        wait_until("it is forgotten", lambda: math.isnan(prometheus.value(up)))

    def test_history_survives_a_crash_but_not_its_deletion(self, own_prometheus: Prometheus) -> None:
        prometheus = own_prometheus
        start_s, labels = 1_700_000_000, {"app": 'we"b'}
        values = [float(row) for row in range(600)]
        values[300] = math.nan
        prometheus.stop()
        prometheus.fill([History("jobs_total", labels, start_s, 15, values), History("depth", {}, start_s, 60, [3, 4])])
        prometheus.start()
        assert prometheus.value('jobs_total{app="we\\"b"}', start_s + 15 * 599) == 599
        assert prometheus.value("rate(jobs_total[5m])", start_s + 15 * 100) == pytest.approx(1 / 15)
        assert prometheus.value("depth", start_s + 60) == 4
        prometheus.kill()
        with pytest.raises(UnreachableError):
            prometheus.value("up")
        prometheus.start()
        assert prometheus.value("jobs_total", start_s + 15 * 300) == 299  # the gap shows the sample before
        prometheus.stop()
        prometheus.lose_data()
        prometheus.start()
        assert math.isnan(prometheus.value("jobs_total", start_s + 15 * 300))

    def test_refused_query_carries_the_reason(self, prometheus: Prometheus) -> None:
        with pytest.raises(RigError, match=r"bad_data: .*parse error"):
            prometheus.value("sum(")


class TestProcess:
    def test_ends_as_told(self, tmp_path: Path) -> None:
        child = Process("sleeper", ["sleep", "600"], tmp_path / "log")
        child.start()
        assert child.running
        child.pause()
        wait_until("it is paused", lambda: _state(child.pid) == "T")
        child.resume()
        wait_until("it sleeps", lambda: _state(child.pid) == "S")
        assert child.stop() == -signal.SIGTERM
        child.start()
        assert (child.kill(), child.exit_code, child.running) == (-signal.SIGKILL, -signal.SIGKILL, False)
        with pytest.raises(RigError, match="sleeper does not run"):
            child.pause()

    def test_paused_one_is_stopped_in_order(self, tmp_path: Path) -> None:
        child = Process("sleeper", ["sleep", "600"], tmp_path / "log")
        child.start()
        child.pause()
        assert child.stop() == -signal.SIGTERM

    def test_dies_with_its_parent(self, tmp_path: Path) -> None:
        program = (
            "import pathlib, time; from tests.cluster.rig import Process\n"
            f"child = Process('sleeper', ['sleep', '600'], pathlib.Path({str(tmp_path / 'log')!r})); child.start()\n"
            "print(child.pid, flush=True); time.sleep(600)"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            parent.kill()
        wait_until("the child is gone", lambda: _state(pid) in {None, "Z"})

    def test_taken_port_is_given_up(self, tmp_path: Path) -> None:
        taken, free = reserve_port(), reserve_port()
        holder = _server(taken, tmp_path / "holder.log")
        holder.start()
        wait_until("the port is taken", lambda: "Serving" in holder.log_tail())
        ports, tried = iter([taken, free]), []

        def place() -> list[Process]:
            port = next(ports)
            tried.append(_server(port, tmp_path / f"{port}.log"))
            return tried[-1:]

        def start() -> None:
            tried[-1].start()
            wait_until("it serves", lambda: tried[-1].pid and "Serving" in tried[-1].log_tail())

        try:
            start_on_free_ports(place, start)
            assert [process.running for process in tried] == [False, True]
        finally:
            for process in (holder, *tried):
                process.stop()


def _server(port: int, log: Path) -> Process:
    return Process("server", [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)], log)


def _state(pid: int) -> str | None:
    """The kernel's letter for what a process does; None when there is none of that id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
