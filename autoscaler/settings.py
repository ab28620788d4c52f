"""How the service runs (how workloads scale is in policy files).

A setting comes from the command line, else from the environment (``AUTOSCALER_LISTEN_PORT``, nested ones with two underscores:
``AUTOSCALER_PROMETHEUS__DEFAULT__CA_FILE``), else from a TOML file (``--config`` or ``AUTOSCALER_CONFIG``), else it has its default.
``AUTOSCALER_PROMETHEUS_URL`` is short for the address of the endpoint ``default``. Lists in the environment are separated by commas.

For a Service named ``autoscaler`` Kubernetes puts ``AUTOSCALER_PORT=tcp://…`` and its kin into every pod of the namespace; these are
told from settings and left alone. Any other variable of the prefix that is no setting is refused, as a misspelt one would be.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, NoDecode, SettingsConfigDict, SettingsError

from autoscaler.core.types import Mode
from autoscaler.endpoints import SINKS, AnySink, HttpServer, SinkName, from_json, http_url
from autoscaler.errors import ConfigError

PREFIX = "AUTOSCALER_"
CONFIG = "AUTOSCALER_CONFIG"
URL = "AUTOSCALER_PROMETHEUS_URL"
COMMAND_LINE = "command line"
DEFAULT = "default"

STATE_IN_KUBERNETES, NO_STATE = "kubernetes", "none"

MODES = {"active": Mode.ACTIVE, "dryRun": Mode.DRY_RUN, "paused": Mode.PAUSED}

# What kubelet derives from a Service's name: NAME_SERVICE_HOST, NAME_SERVICE_PORT[_PORTNAME], NAME_PORT[_8080_TCP[_PROTO|_PORT|_ADDR]].
_INJECTED = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_INJECTED_URL = re.compile(r"(tcp|udp|sctp)://.+:\d+")


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _endpoint_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?", value):
        raise ValueError("expected a name of lower-case letters, digits, - and _, as policies refer to it")
    return value


def _state(value: str) -> str:
    if value not in {STATE_IN_KUBERNETES, NO_STATE} and not re.search(r"[/\\]", value):
        raise ValueError(f"expected {STATE_IN_KUBERNETES}, {NO_STATE}, or a directory, written with a / such as ./state")
    return value


def _some(value: tuple[Path, ...]) -> tuple[Path, ...]:
    if not value:
        raise ValueError("expected at least one directory or file of policies")
    return value


def _namespace(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        raise ValueError("expected the name of a namespace: up to 63 lower-case letters, digits and -")
    return value


class PrometheusEndpoint(HttpServer):
    """One server with Prometheus' HTTP API. ``lookback_delta_s`` None: the server's own."""

    url: Annotated[str, AfterValidator(http_url)] = Field(repr=False)
    headers: Annotated[dict[str, str], NoDecode, BeforeValidator(from_json)] = Field(default_factory=dict, repr=False)
    lookback_delta_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


@dataclass(frozen=True, slots=True)
class KubernetesAccess:
    """How to reach the API server. Without a kubeconfig and context: $KUBECONFIG, the pod's service account, or ~/.kube/config."""

    kubeconfig: str
    context: str
    namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting as it holds, for people: secrets are hidden; ``origin`` is where it comes from."""

    name: str
    value: str
    origin: str


class Settings(BaseSettings):
    """Every setting of the service. Use :func:`load`, which words what is wrong."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    policies: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_some)]
    """Directories (or files) of policies."""
    policy_path: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Where the modules of your own policies are; searched after everything else."""
    namespaces: Annotated[tuple[Annotated[str, AfterValidator(_namespace)], ...], NoDecode, BeforeValidator(_listed)] = ()
    """The only namespaces to act in; empty: all that the policies name."""
    prometheus: dict[Annotated[str, AfterValidator(_endpoint_name)], PrometheusEndpoint] = Field(default_factory=dict)
    """Prometheus endpoints by the name that policies use; ``default`` where they use none."""
    sinks: dict[SinkName, AnySink] = Field(default_factory=dict)
    """Where people are told of incidents, by the name that ``HealthPolicy.spec.notify`` uses; Events on the workload are always made."""
    cluster: Annotated[str, Field(max_length=63, pattern=r"^[\w.\-]*$")] = ""
    """The cluster's name, as reports of incidents say it; with it, two clusters may share a sink."""
    kubeconfig: str = ""
    context: str = ""
    mode: Literal["active", "dryRun", "paused"] = "active"
    """The freest mode that any workload may have."""
    listen_host: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - kubelet's probes come to the pod's address
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    log_format: Literal["auto", "human", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    state: Annotated[str, AfterValidator(_state)] = NO_STATE
    """Where what must outlive a restart is kept: ``kubernetes`` (ConfigMaps in the service's own namespace), a directory, or ``none``."""
    write_concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    """How many counts are written to the API server at a time."""
    health: bool = True
    """Whether pods' health is watched over; off, HealthPolicies do nothing and no rollout is told from a broken one."""
    remedies: Literal["active", "dryRun"] = "active"
    """dryRun: what HealthPolicies allow is tried and told of, but no pod is removed. In any other mode than active that holds anyway."""
    remedies_every_s: Annotated[float, Field(ge=10, allow_inf_nan=False)] = 60.0
    """So many seconds lie between two removed pods of the cluster, at least."""
    breaker_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Once this share of all watched pods is ill (and three at least), no pod is removed until it has been calm for 15 minutes."""
    breaker_workload_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The same for one workload and its own pods (two at least)."""

    _sources: tuple[_Source, ...] = PrivateAttr(default=())

    @property
    def service_mode(self) -> Mode:
        """``mode`` in the core's terms."""
        return MODES[self.mode]

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """The keyword arguments of each Prometheus endpoint, by its name."""
        return {name: endpoint.model_dump() for name, endpoint in self.prometheus.items()}

    def sink_names(self) -> frozenset[str]:
        """The names that HealthPolicies may notify."""
        return frozenset(self.sinks)

    def access(self) -> KubernetesAccess:
        """How to reach the API server."""
        return KubernetesAccess(self.kubeconfig, self.context, self.namespaces)

    def effective(self) -> list[Effective]:
        """Every setting with its value and where that comes from."""
        rows = []
        for path, value in _leaves(self, ()):
            origin = _origin(self._sources, path, len(path)) or DEFAULT
            rows.append(Effective(".".join(path), _shown(path, value), origin))
        return rows


class _Source:
    """The values of one origin, nested by name, and the words for where one of them stands."""

    def __init__(self, values: Mapping[str, Any], where: str, variables: Mapping[str, str] | None = None) -> None:
        self.values, self._where, self._variables = values, where, variables or {}

    def depth(self, path: Sequence[int | str]) -> int:
        """How much of the path it gives."""
        found: Any = self.values
        for steps, step in enumerate(path):
            if not isinstance(found, Mapping) or step not in found:
                return steps
            found = found[step]
        return len(path)

    def where(self, path: Sequence[int | str]) -> str:
        for length in range(len(path), 0, -1):
            key = (PREFIX + "__".join(map(str, path[:length]))).lower()
            if key in self._variables:
                return self._variables[key]
        return self._where


def load(flags: Mapping[str, Any] | None = None, file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings as they hold. ``flags`` are nested by name; those that are None were not given.

    Raises ConfigError with every mistake at once: where it stands, which setting, and what would be right. Never a secret.
    """
    environ = os.environ if environ is None else environ
    named = file or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    environment, mistakes = _environment(environ)
    sources = (
        _Source(_given(flags or {}), COMMAND_LINE),
        environment,
        *([_Source(_read(named), str(named))] if named else []),
    )
    layers = tuple(InitSettingsSource(Settings, dict(source.values)) for source in sources)
    try:
        settings = Settings(_build_sources=(layers, {}))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise ConfigError("\n".join([*mistakes, *(_sentence(detail, sources) for detail in details)])) from None
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    settings._sources = sources  # noqa: SLF001 - the class's own module
    return settings


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    nested = {name: _given(value) if isinstance(value, Mapping) else value for name, value in flags.items()}
    return {name: value for name, value in nested.items() if value is not None and value != {}}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"settings file {file}: {error.strerror}") from error
    except ValueError as error:  # TOML or UTF-8
        raise ConfigError(f"settings file {file}: not TOML: {error}") from error


def _environment(environ: Mapping[str, str]) -> tuple[_Source, list[str]]:
    """What the environment gives, and the variables that look like settings but are none."""
    ours = {name: value for name, value in environ.items() if name.upper().startswith(PREFIX) and value and not _injected(name, value)}
    mistakes = [_no_setting(name) for name in ours if not _is_setting(name)]
    variables = {name.lower(): name for name in ours if _is_setting(name)}
    long = f"{PREFIX}PROMETHEUS__DEFAULT__URL"
    if url := variables.pop(URL.lower(), None):
        if long.lower() in variables:
            mistakes.append(f"{url}: {variables[long.lower()]} gives the same setting; keep one of them")
        variables[long.lower()] = url
    variables.pop(CONFIG.lower(), None)
    reader = EnvSettingsSource(Settings)
    reader.env_vars = {key: ours[name] for key, name in variables.items()}
    try:
        values = reader()
    except SettingsError:
        whole = {(PREFIX + name).lower(): text for name, text in _NAMED.items()}
        mistakes += [text for key, text in whole.items() if not _is_json(reader.env_vars.get(key))]
        reader.env_vars = {key: value for key, value in reader.env_vars.items() if key not in whole}
        values = reader()
    return _Source(values, "environment", variables), mistakes


_NAMED = {
    "PROMETHEUS": f'{PREFIX}PROMETHEUS: expected a JSON object of endpoints, such as {{"default": {{"url": "http://prometheus:9090"}}}}',
    "SINKS": f'{PREFIX}SINKS: expected a JSON object of sinks, such as {{"ops": {{"type": "alertmanager", "url": "http://…:9093"}}}}',
}
"""Settings that are several by name, and what is said where they are given in one, as JSON, that is none."""


def _is_json(value: str | None) -> bool:
    try:
        from_json(value)
    except ValueError:
        return False
    return True


def _injected(name: str, value: str) -> bool:
    return bool(_INJECTED.fullmatch(name)) or (name.endswith("_PORT") and bool(_INJECTED_URL.fullmatch(value)))


def _is_setting(name: str) -> bool:
    top, *deeper = name[len(PREFIX) :].lower().split("__")
    return name.upper() in {CONFIG, URL} or top.upper() in _NAMED or (top in Settings.model_fields and not deeper)


def _no_setting(name: str) -> str:
    known = [CONFIG, URL, *(PREFIX + field.upper() for field in Settings.model_fields)]
    close = difflib.get_close_matches(name.upper().removeprefix(PREFIX), [field.removeprefix(PREFIX) for field in known], n=1)
    advice = f"did you mean {PREFIX}{close[0]}?" if close else f"the settings are {', '.join(known)}"
    if name.upper() == f"{PREFIX}PORT":
        advice = f"did you mean {PREFIX}LISTEN_PORT? (Kubernetes uses {name} for a Service named autoscaler)"
    return f"{name}: no such setting; {advice}"


def _sentence(detail: ErrorDetails, sources: Sequence[_Source]) -> str:
    """One mistake: where it stands, which setting, what is wrong and what would be right."""
    path = [step for step in detail["loc"] if step != "[key]"]
    # A sink's type is a step of pydantic's path, but none of the file's.
    kind = SINKS[str(path.pop(2))] if path[0] == "sinks" and path[2:3] and path[2] in SINKS else None
    field = ".".join(map(str, path))
    where = _origin(sources, path, 1)
    start = f"{where}: {field}" if where else field
    if detail["type"] == "missing":
        variable = PREFIX + "__".join(map(str, path)).upper()
        return f"{start}: missing; give it on the command line, as {variable}, or in the settings file"
    if detail["type"] == "extra_forbidden":
        known = list((Settings if len(path) == 1 else kind or PrometheusEndpoint).model_fields)
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        return f"{start}: no such setting; " + (f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}")
    if detail["type"].startswith("union_tag"):
        return f"{start}.type: expected one of {', '.join(SINKS)}"
    wrong = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    value = detail["input"]
    quoted = isinstance(value, str | int | float) and (path[0] not in {"prometheus", "sinks"} or str(path[-1]).endswith("_s"))
    return f"{start}: {wrong}" + (f", got {value!r}" if quoted else "")


def _origin(sources: Sequence[_Source], path: Sequence[int | str], least: int) -> str:
    """Where the most of that path is given, by rank; empty if nobody gives ``least`` steps of it."""
    best = max(sources, key=lambda source: source.depth(path), default=None)
    return best.where(path) if best is not None and best.depth(path) >= least else ""


def _leaves(model: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name in {"prometheus", "sinks"}:
            for endpoint, part in value.items():
                yield from _leaves(part, (*path, name, endpoint))
        else:
            yield (*path, name), value


def _shown(path: tuple[str, ...], value: object) -> str:
    """The value as people read it, without what lets somebody in."""
    if path[-1] == "headers" and isinstance(value, dict):
        return ", ".join(f"{name}: (hidden)" for name in value)
    if path[-1] == "url" and value is not None:
        shown = re.sub(r"//[^/]*@", "//(hidden)@", str(value))
        return re.sub(r"[?].*", "?(hidden)", shown) if path[0] == "sinks" else shown
    if isinstance(value, dict):
        return ", ".join(f"{name}: {text}" for name, text in value.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
