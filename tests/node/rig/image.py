"""Container images without an image tool or a registry: OCI archives made of Debian's static busybox, for `ctr images import`."""

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.rig import RigError

Json = dict[str, Any]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OCI = "application/vnd.oci.image"


def write_image(path: Path, names: Sequence[str], command: Sequence[str]) -> None:
    """Write an image of busybox with all its commands, under each name; `command` is run by containers that name none."""
    layer = _layer()
    architecture = _ARCHITECTURES[platform.machine()]
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor(config, "config.v1+json"),
            "layers": [_descriptor(layer, "layer.v1.tar")],
        }
    )
    image = _descriptor(manifest, "manifest.v1+json") | {"platform": {"architecture": architecture, "os": "linux"}}
    named = [image | {"annotations": {"io.containerd.image.name": name}} for name in names]
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json({"schemaVersion": 2, "manifests": named}))
        for blob in (config, manifest, layer):
            _add(archive, f"blobs/{_digest(blob).replace(':', '/')}", blob)


def _layer() -> bytes:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RigError("busybox is missing: run tests/cluster/prepare")
    program = Path(busybox).read_bytes()
    if b".interp" in program:  # the section that names a dynamic linker
        raise RigError(f"{busybox} is not linked statically: install Debian's busybox-static")
    commands = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", program, mode=0o755)
        for command in commands:
            if command != "busybox":
                link = tarfile.TarInfo(f"bin/{command}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _json(content: Json) -> bytes:
    return json.dumps(content).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(data: bytes, kind: str) -> Json:
    return {"mediaType": f"{_OCI}.{kind}", "digest": _digest(data), "size": len(data)}
