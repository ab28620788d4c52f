"""Which API server, and who we are there: a kubeconfig, or the service account of the pod that we run in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, list_kube_config_contexts, load_kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from autoscaler.adapters.kubernetes.calls import words
from autoscaler.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# What the library lets through for a file that is missing, no YAML, or of the wrong shape.
Unusable = (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError, LookupError)

_URL = re.compile(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?(/[\w./~%-]*)?")

_Load: TypeAlias = Callable[[Configuration], Coroutine[Any, Any, None]]


class Login:
    """A client configuration, and the way to read its credentials again when they are not accepted any more."""

    def __init__(self, origin: str, load: _Load, namespace: Callable[[], str]) -> None:
        self.origin = origin
        self._namespace = namespace
        self.configuration = Configuration()
        # Clusters' own CAs often lack what X.509 asks for strictly (an authority key identifier); kubectl accepts them too.
        self.configuration.disable_strict_ssl_verification = True
        self._load = load

    async def read(self) -> None:
        """Read the credentials, for the first time or again. Raises ConfigError with what is wrong with them."""
        try:
            await self._load(self.configuration)
        except Unusable as error:
            raise ConfigError(f"{self.origin}: {words(error)}") from error
        host = self.configuration.host
        if not _URL.fullmatch(host):
            shown = "…@" * ("@" in host) + host.rpartition("@")[2]  # a password is not for logs
            raise ConfigError(f"{self.origin}: server: expected a URL as https://host:port, got {shown!r}")

    def namespace(self) -> str:
        """Our own namespace: the pod's, or the context's. Raises ConfigError."""
        try:
            return self._namespace() or "default"
        except Unusable as error:
            raise ConfigError(f"{self.origin}: {words(error)}") from error


def find_login(kubeconfig: str = "", context: str = "", service_account: Path = SERVICE_ACCOUNT) -> Login:
    """Where to log in, in the usual order: the file that is given, $KUBECONFIG, the pod's service account, ~/.kube/config.

    Raises ConfigError where there is none of them, or no such context.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG", "")
    if named:
        return _from_file(named, context)
    if "KUBERNETES_SERVICE_HOST" in os.environ and (service_account / "token").exists() and not context:
        namespace = service_account / "namespace"
        return Login(f"the service account in {service_account}", _in_cluster(service_account), lambda: namespace.read_text().strip())
    home = Path.home() / ".kube" / "config"
    if home.exists():
        return _from_file(str(home), context)
    raise ConfigError(
        f"no Kubernetes to talk to: no kubeconfig was given, KUBECONFIG is not set, {service_account} has no token "
        f"(we run in no pod, or its automountServiceAccountToken is off), and there is no {home}"
    )


def _from_file(names: str, context: str) -> Login:
    files = [Path(name).expanduser() for name in names.split(os.pathsep) if name]
    if not any(file.exists() for file in files):
        raise ConfigError(f"kubeconfig {names}: no such file")
    if context:
        try:
            contexts, _ = list_kube_config_contexts(names)
            known = [entry["name"] for entry in contexts]
        except Unusable as error:
            raise ConfigError(f"kubeconfig {names}: {words(error)}") from error
        if context not in known:
            raise ConfigError(f"kubeconfig {names}: no context {context!r}; it has {', '.join(known) or 'none'}")

    async def load(configuration: Configuration) -> None:
        await load_kube_config(names, context or None, configuration, persist_config=False)

    def namespace() -> str:
        contexts, active = list_kube_config_contexts(names)
        chosen = next((entry for entry in contexts if entry["name"] == context), active)
        return str(chosen["context"].get("namespace") or "")

    return Login(f"kubeconfig {names}", load, namespace)


def _in_cluster(folder: Path) -> _Load:
    async def load(configuration: Configuration) -> None:
        loader = InClusterConfigLoader(token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt"))
        loader.load_and_set(configuration)  # from then on it reads the token again once a minute

    return load
