"""The keys and certificates of one control plane, by openssl: P-256, since RSA keys would take longer than etcd's start."""

import ssl
import subprocess
from pathlib import Path

from tests.cluster.rig.errors import RigError

DAYS = "30"
SERVING_NAMES = "subjectAltName=IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc\n"
SUBJECTS = {
    "server": "/CN=kubernetes",
    "admin": "/O=system:masters/CN=admin",
    "front-proxy": "/CN=front-proxy",
}


def write_certificates(folder: Path) -> None:
    """Write ca, server, admin and front-proxy (.crt, .key) and the service accounts' key pair (sa.key, sa.pub)."""
    folder.mkdir(parents=True, exist_ok=True)
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key")
    _openssl(folder, "pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")
    _openssl(folder, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", DAYS, "-subj", "/CN=rig-ca")
    (folder / "names").write_text(SERVING_NAMES)
    for name, subject in SUBJECTS.items():
        _openssl(folder, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        sign(folder, name)


def sign(folder: Path, name: str, days: str = DAYS) -> None:
    """Sign `name`'s certificate anew, for that many days from now; "-1" gives one that has expired."""
    signed_by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed_by, "-out", f"{name}.crt", "-days", days, "-extfile", "names")


def trust(folder: Path, client: str | None = None) -> ssl.SSLContext:
    """A context that trusts this control plane's CA alone, with the client certificate of that name if one is given."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client is not None:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def serving(folder: Path) -> ssl.SSLContext:
    """A server's side, with the certificate that "server" has now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def _openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"openssl {' '.join(words)}: {done.stderr.strip()}")
