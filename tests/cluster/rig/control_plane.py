"""A real Kubernetes control plane on loopback: etcd, API server, and as asked controller manager and scheduler."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.rig.access import create_service_account, encoded, write_kubeconfig
from tests.cluster.rig.api import Api
from tests.cluster.rig.certificates import trust, write_certificates
from tests.cluster.rig.errors import RigError
from tests.cluster.rig.objects import Rules
from tests.cluster.rig.paths import BINARY
from tests.cluster.rig.process import Process, reserve_port, start_on_free_ports
from tests.cluster.rig.wait import wait_until

WORKLOAD_CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "garbage-collector-controller",
    "namespace-controller",
)
START_TIMEOUT_S = 60.0


class ControlPlane:
    """The API server of a test, with its administrator's `kubeconfig` and `api`.

        with ControlPlane(folder) as plane:
            shop = plane.api.create_namespace("shop").name    # where pods can be made; "default" lacks a ServiceAccount
            web = plane.api.create(objects.deployment(shop, "web", replicas=3))
            plane.kill("apiserver")
            plane.start("apiserver")

    Components are named etcd, apiserver, manager and scheduler, and stay where they are (ports, data, certificates)
    when they are stopped and started again. There is no node: pods stay Pending until Resource.mark_pods_ready().
    """

    def __init__(
        self,
        folder: Path,
        *,
        controllers: Sequence[str] = WORKLOAD_CONTROLLERS,
        scheduler: bool = False,
        flags: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`folder` gets everything; no `controllers`: no manager; `flags` adds to a component's command line."""
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        self._controllers = tuple(controllers)
        self._with_scheduler = scheduler
        self._flags = {name: tuple(added) for name, added in (flags or {}).items()}
        self._processes: dict[str, Process] = {}
        self._api: Api | None = None
        self._health: dict[str, Api] = {}

    @property
    def api(self) -> Api:
        """The API as cluster administrator."""
        if self._api is None:
            raise RigError("the control plane has not been started")
        return self._api

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.api.server

    def __enter__(self) -> Self:
        """Start all components and return when the API server is ready, in about 2 s."""
        if not BINARY.exists():
            raise RigError(f"{BINARY} is missing: run tests/cluster/prepare")
        write_certificates(self.folder)
        start_on_free_ports(self._place, self._start_all)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop what was started; logs and certificates stay, the data (130 MB) goes."""
        self.stop_all()
        for data in self.folder.glob("etcd-*[0-9]"):
            shutil.rmtree(data)

    def process(self, component: str) -> Process:
        """A component's process: its pid, log, pause() and resume()."""
        if component not in self._processes:
            raise RigError(f"no component {component!r} here; there are {', '.join(self._processes)}")
        return self._processes[component]

    def stop(self, component: str) -> None:
        """End a component in order (SIGTERM)."""
        self.process(component).stop()

    def kill(self, component: str) -> None:
        """End a component as a crash does (SIGKILL)."""
        self.process(component).kill()

    def start(self, component: str) -> None:
        """Start a stopped component where it was; returns when it and the API server serve (if that is to run at all)."""
        self.process(component).start()
        if self.process("etcd").running and self.process("apiserver").running:
            self.wait_ready()
            if component in self._health:
                self._wait_healthy(component)

    def wait_ready(self) -> None:
        """Return when the API server is ready; RigError with a log's end if it or etcd has ended, or after 60 s."""
        self._wait("apiserver is ready", ("etcd", "apiserver"), self.api.ready)

    def stop_all(self) -> None:
        """End every component, the last started first."""
        for process in reversed(self._processes.values()):
            process.stop()

    def service_account(self, namespace: str, name: str, rules: Rules = (), cluster_rules: Rules = ()) -> Path:
        """Create a ServiceAccount that may do exactly `rules` there and `cluster_rules` everywhere; its kubeconfig.

        Rules are made with objects.rule(). Without any it may do nothing but discovery.
        """
        token = create_service_account(self.api, namespace, name, rules, cluster_rules)
        path = self.folder / f"{namespace}-{name}.kubeconfig"
        return write_kubeconfig(path, self.server, self.folder / "ca.crt", {"token": token}, namespace)

    def api_with_token(self, token: str) -> Api:
        """The API as the bearer of a token."""
        return Api(self.server, trust(self.folder), token)

    def _start_all(self) -> None:
        self.process("etcd").start()
        self.process("apiserver").start()
        self.wait_ready()
        for component in self._health:
            self.process(component).start()
        for component in self._health:
            self._wait_healthy(component)

    def _wait_healthy(self, component: str) -> None:
        """A manager that has not got this far ends when the API server does; later it waits for its return."""

        def healthy() -> bool:
            checks = str(self._health[component].call("GET", "/healthz", query={"verbose": ""})["text"])
            return component != "manager" or all(f"[+]{name} ok" in checks for name in self._controllers if name != "*")

        self._wait(f"{component} is healthy", (component,), healthy)

    def _wait(self, what: str, components: Sequence[str], condition: Callable[[], bool]) -> None:
        def met() -> bool:
            for component in components:
                _ = self.process(component).pid  # raises when it has ended
            return condition()

        wait_until(what, met, timeout_s=START_TIMEOUT_S)

    def _place(self) -> list[Process]:
        """Choose ports, write the kubeconfig, and lay out the commands."""
        etcd, peer, secure, manager, scheduler = (reserve_port() for _ in range(5))
        server = f"https://127.0.0.1:{secure}"
        admin = {
            "client-certificate-data": encoded(self.folder / "admin.crt"),
            "client-key-data": encoded(self.folder / "admin.key"),
        }
        write_kubeconfig(self.kubeconfig, server, self.folder / "ca.crt", admin)
        admin_trust = trust(self.folder, "admin")
        self._api = Api(server, admin_trust)
        data = self.folder / f"etcd-{etcd}"  # the member's addresses are part of its data
        etcd_url, peer_url = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        commands = {
            "etcd": [f"--data-dir={data}", f"--client={etcd_url}", f"--peer={peer_url}"],
            "apiserver": self._apiserver_flags(secure, etcd_url),
        }
        self._health = {}
        if self._controllers:
            self._health["manager"] = Api(f"https://127.0.0.1:{manager}", admin_trust)
            commands["manager"] = [
                *self._client_flags(manager),
                f"--controllers={','.join(self._controllers)}",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
                f"--service-account-private-key-file={self.folder}/sa.key",
                f"--root-ca-file={self.folder}/ca.crt",
            ]
        if self._with_scheduler:
            self._health["scheduler"] = Api(f"https://127.0.0.1:{scheduler}", admin_trust)
            commands["scheduler"] = self._client_flags(scheduler)
        unknown = set(self._flags) - set(commands)
        if unknown:
            raise RigError(f"flags for {', '.join(sorted(unknown))}, which does not run here; there are {', '.join(commands)}")
        self._processes = {
            name: Process(name, [str(BINARY), name, *given, *self._flags.get(name, ())], self.folder / f"{name}-{secure}.log")
            for name, given in commands.items()
        }
        return list(self._processes.values())

    def _apiserver_flags(self, port: int, etcd_url: str) -> list[str]:
        folder = self.folder
        return [
            f"--etcd-servers={etcd_url}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # it refuses loopback as its own address
            f"--client-ca-file={folder}/ca.crt",
            f"--tls-cert-file={folder}/server.crt",
            f"--tls-private-key-file={folder}/server.key",
            f"--service-account-key-file={folder}/sa.pub",
            f"--service-account-signing-key-file={folder}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            f"--requestheader-client-ca-file={folder}/ca.crt",  # from here: aggregated APIs such as metrics.k8s.io
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={folder}/front-proxy.crt",
            f"--proxy-client-key-file={folder}/front-proxy.key",
        ]

    def _client_flags(self, port: int) -> list[str]:
        return [
            *(f"--{purpose}kubeconfig={self.kubeconfig}" for purpose in ("", "authentication-", "authorization-")),
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={self.folder}/server.crt",
            f"--tls-private-key-file={self.folder}/server.key",
        ]
