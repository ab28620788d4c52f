"""Kubeconfigs: the administrator's, and those of ServiceAccounts that may do exactly what a test allows."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.cluster.rig.api import Api
from tests.cluster.rig.objects import Rules

RBAC = "rbac.authorization.k8s.io/v1"


def write_kubeconfig(path: Path, server: str, ca: Path, user: dict[str, str], namespace: str = "default") -> Path:
    """Write a kubeconfig with everything inline; `user` is the entry's own (token, or certificate and key data)."""
    cluster = {"server": server, "certificate-authority-data": encoded(ca)}
    context = {"cluster": "rig", "user": "rig", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "rig",
        "clusters": [{"name": "rig", "cluster": cluster}],
        "users": [{"name": "rig", "user": user}],
        "contexts": [{"name": "rig", "context": context}],
    }
    path.write_text(json.dumps(config, indent=2))
    path.chmod(0o600)
    return path


def read_token(kubeconfig: Path) -> str:
    """The bearer token of a kubeconfig that write_kubeconfig made."""
    return str(json.loads(kubeconfig.read_text())["users"][0]["user"]["token"])


def encoded(path: Path) -> str:
    """A file's content as kubeconfig's *-data fields want it."""
    return base64.b64encode(path.read_bytes()).decode()


def create_service_account(api: Api, namespace: str, name: str, rules: Rules, cluster_rules: Rules) -> str:
    """Create a ServiceAccount with a Role of `rules` and a ClusterRole of `cluster_rules`; returns an hour's token."""
    account = api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    if rules:
        _bind(api, "Role", {"name": name, "namespace": namespace}, rules, subject)
    if cluster_rules:
        _bind(api, "ClusterRole", {"name": f"{namespace}-{name}"}, cluster_rules, subject)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    return str(api.call("POST", f"{account.path}/token", request)["status"]["token"])


def _bind(api: Api, kind: str, metadata: dict[str, Any], rules: Rules, subject: dict[str, str]) -> None:
    api.create({"apiVersion": RBAC, "kind": kind, "metadata": metadata, "rules": list(rules)})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": metadata["name"]}
    binding = {"apiVersion": RBAC, "kind": f"{kind}Binding", "metadata": metadata, "roleRef": reference, "subjects": [subject]}
    api.create(binding)
