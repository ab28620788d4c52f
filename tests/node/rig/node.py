"""A real node on this machine: containerd, runc and the kubelet, whose containers are real processes in real cgroups.

Everything is in a folder, in process and mount namespaces (see `init`), in one cgroup and behind one bridge; all are gone afterwards,
the processes and mounts even if the test is killed.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.rig import BINARY, ControlPlane, Process, RigError, reserve_port, wait_until
from tests.node.rig.image import write_image

Json = dict[str, Any]

NAME = "node-1"
PAUSE = "localhost/pause:1"
CGROUP = "autoscaler-node-test"
BRIDGE = "node-test0"
ADDRESS = "10.244.0.1"  # not loopback: the kubelet refuses that as a node's address
SUBNET = "10.244.0.0/24"

_CNI_PLUGINS = "/usr/lib/cni"
_SOCKET = "run/containerd/containerd.sock"
_CGROUPS = Path("/sys/fs/cgroup")

CONTROLLERS = tuple(
    f"{name}-controller"
    for name in (
        *("deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob", "disruption", "endpointslice"),
        *("serviceaccount", "root-ca-certificate-publisher", "namespace", "garbage-collector", "pod-garbage-collector"),
        *("node-lifecycle", "taint-eviction"),
    )
)


def control_plane(folder: Path) -> ControlPlane:
    """A control plane that makes and places pods, and may talk to kubelets: for logs."""
    talks = [f"--kubelet-client-certificate={folder}/admin.crt", f"--kubelet-client-key={folder}/admin.key"]
    flags = {"apiserver": [*talks, "--kubelet-preferred-address-types=InternalIP"]}
    return ControlPlane(folder, controllers=CONTROLLERS, scheduler=True, flags=flags)


class Node:
    """The one node of a control plane from :func:`control_plane`. Logs are in `folder`: node.log, containerd.log, kubelet.log."""

    def __init__(self, folder: Path, plane: ControlPlane, images: Sequence[str]) -> None:
        """`folder` gets everything; its path must leave room for a socket's name (108 bytes). `images`: names for busybox."""
        self.folder = folder
        self.plane = plane
        self._images = tuple(images)
        self._process: Process | None = None

    def __enter__(self) -> Self:
        """Start it and return when it is Ready, in about 10 s."""
        self.folder.mkdir(parents=True)
        self._clean()
        try:
            _run("ip", "link", "add", BRIDGE, "type", "bridge")
            _run("ip", "addr", "add", f"{ADDRESS}/24", "dev", BRIDGE)
            _run("ip", "link", "set", BRIDGE, "up")
            for root in _cgroup_roots():
                (root / CGROUP).mkdir()
            self._start()
            self._import_images()
            wait_until("the node is Ready", self._is_ready, timeout_s=60, every_s=0.5)
        except BaseException as error:
            self._stop()
            if isinstance(error, RigError):
                raise RigError(f"{error}\n{self._logs()}") from error
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End all its processes and take its bridge, cgroups and data away; logs stay."""
        self._stop()
        for data in ("var", "run"):
            shutil.rmtree(self.folder / data)

    def empty_dir(self, pod_uid: str, volume: str) -> Path:
        """Where the files of a pod's emptyDir are."""
        return self.folder / "var/lib/kubelet/pods" / pod_uid / "volumes/kubernetes.io~empty-dir" / volume

    def _start(self) -> None:
        network = self.folder / "net.d"
        network.mkdir()
        (network / "10-bridge.conflist").write_text(json.dumps(_network(self.folder)))
        (self.folder / "containerd.toml").write_text(_containerd(network))
        config = self.folder / "kubelet.json"
        config.write_text(json.dumps(_kubelet(reserve_port(), self.plane.folder / "ca.crt")))
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        kubelet = [
            f"--config={config}",
            f"--kubeconfig={self.plane.kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        ]
        init = str(Path(__file__).with_name("init"))
        command = [*namespaces, init, str(self.folder), str(BINARY), *kubelet]
        self._process = Process("node", command, self.folder / "node.log")
        self._process.start()

    def _import_images(self) -> None:
        socket = self.folder / _SOCKET
        wait_until("containerd listens", socket.exists, timeout_s=30)
        archive = self.folder / "image.tar"
        write_image(archive, [PAUSE, *self._images], ["sleep", "2147483647"])
        _run("ctr", f"--address={socket}", "--namespace=k8s.io", "images", "import", "--snapshotter=native", str(archive))
        archive.unlink()

    def _is_ready(self) -> bool:
        if self._process is not None:
            _ = self._process.pid  # raises when it has ended
        found = self.plane.api.resource("v1", "Node", NAME).read()
        ready = [each["status"] for each in found["status"]["conditions"] if each["type"] == "Ready"]
        return ready == ["True"] and not found["spec"].get("taints")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # the kernel then ends all that it has started
        self._clean()

    def _clean(self) -> None:
        """Also what a killed run has left; one that still runs keeps its own, and this one says so."""
        for root in _cgroup_roots():
            what = f"{root / CGROUP} has no process of another run"
            wait_until(what, lambda root=root: _removed(root / CGROUP))  # type: ignore[misc]
        if Path(f"/sys/class/net/{BRIDGE}").exists():
            _run("ip", "link", "del", BRIDGE)

    def _logs(self) -> str:
        names = ("node", "containerd", "kubelet")
        logs = {name: self.folder / f"{name}.log" for name in names}
        tails = {name: path.read_text(errors="replace").splitlines()[-8:] for name, path in logs.items() if path.exists()}
        return "\n".join(f"{name}: {line}" for name, lines in tails.items() for line in lines)


def _network(folder: Path) -> Json:
    """Pods hang on the node's own bridge; they reach it and each other, and nothing else."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": SUBNET}]], "dataDir": f"{folder}/addresses"}
    bridge = {"type": "bridge", "bridge": BRIDGE, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]}


def _containerd(network: Path) -> str:
    """Native snapshots are copies: dear for large images, and they work on any file system."""
    return f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE no process may be made less killable than this one
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{_CNI_PLUGINS}"
conf_dir = "{network}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"""


def _kubelet(port: int, ca: Path) -> Json:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "port": port,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(ca)}},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix:///{_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "nodeStatusUpdateFrequency": "5s",
        "volumeStatsAggPeriod": "10s",  # so soon a volume over its limit is noticed
        "eventRecordQPS": 0,
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "0%"},
        "imageGCHighThresholdPercent": 100,  # there is no registry to get a removed image from
        "serializeImagePulls": False,
    }


def _cgroup_roots() -> list[Path]:
    """Where a cgroup has its folders: one for each controller, or under cgroup v2 one for all."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return sorted(each for each in _CGROUPS.iterdir() if (each / "cgroup.procs").exists() and not each.is_symlink())


def _removed(cgroup: Path) -> bool:
    """Whether a cgroup is gone with those below it, which takes until its last process is."""
    with suppress(OSError):  # gone between two looks
        if not any(each.read_text() for each in cgroup.rglob("cgroup.procs")):
            for each in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
                each.rmdir()
            cgroup.rmdir()
    return not cgroup.exists()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: {done.stderr.strip()}")
