"""Scaling policies by name, and what their parameters are called in a file.

A name is that of an entry point of the group ``autoscaler.policies``, or ``module:Name``: a class (made without arguments) or an
object that is importable. Whatever cannot be used is a :class:`ConfigError` that says what a policy needs.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import re
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from autoscaler.core.policy import Policy, Traits, history_s, traits_of
from autoscaler.errors import ConfigError

GROUP = "autoscaler.policies"
PROJECT = "loadscale"

NEEDS = (
    "a policy has Params (a frozen dataclass whose fields are declared with autoscaler.core.policy.param), "
    "init(params, n) and __call__(view, params, state)"
)

_ROOT = Path(__file__).resolve().parent.parent
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

T = TypeVar("T")


class Kind(Enum):
    """What a parameter is in a file."""

    NUMBER = "a number"
    INTEGER = "a whole number"
    DURATION = "a duration"
    BOOLEAN = "true or false"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: ``name`` in files, ``field`` in the dataclass; bounds in the dataclass' unit (seconds for durations)."""

    name: str
    field: str
    kind: Kind
    default: Any
    doc: str
    choices: tuple[str, ...] = ()
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def broken_bound(self, value: float) -> tuple[str, float] | None:
        """The bound that a number breaks.

        Example:
            >>> Parameter("window", "window_s", Kind.DURATION, 60.0, "", ge=1.0).broken_bound(0.5)
            ('at least', 1.0)
        """
        bounds = (
            ("at least", self.ge, operator.ge),
            ("more than", self.gt, operator.gt),
            ("at most", self.le, operator.le),
            ("less than", self.lt, operator.lt),
        )
        return next(((words, bound) for words, bound, holds in bounds if bound is not None and not holds(value, bound)), None)


@dataclass(frozen=True, slots=True)
class Registered:
    """A policy that can be used, under the name that found it."""

    name: str
    policy: Policy
    traits: Traits
    parameters: tuple[Parameter, ...]

    def params(self, values: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """An instance of ``Params`` with these values by field, and what the policy has against it, in sentences."""
        params = _guarded(lambda: self.policy.Params(**values), f"policy {self.name}: Params refused the values")
        check: Callable[[Any], Iterable[str]] = getattr(self.policy, "check", lambda _: ())
        faults = _guarded(lambda: [str(fault) for fault in check(params)], f"policy {self.name}: check failed")
        if not faults:
            span = _guarded(lambda: history_s(self.policy, params), f"policy {self.name}: history_s failed")
            if not (isfinite(span) and span >= 0):
                faults.append(f"history_s is {span}; expected seconds, 0 or more")
        return params, faults


def names() -> tuple[str, ...]:
    """The names that are known without being imported, sorted."""
    return tuple(sorted(_known()))


def find(name: str) -> Registered:
    """The policy of that name; the same object each time. Raises :class:`ConfigError`."""
    found = _FOUND.get(name)
    if found is None:
        found = _FOUND[name] = _registered(name, _imported(name))
    return found


_FOUND: dict[str, Registered] = {}
"""What was found once stays: all workloads share a policy, and a failed import may be mended while the service runs."""


def add_path(directories: Iterable[Path]) -> None:
    """Let policies be imported from these too, after everything else that is importable."""
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(f"policy path {directory}: no such directory")
        entry = str(directory.resolve())
        if entry not in sys.path:
            sys.path.append(entry)


def _known() -> dict[str, EntryPoint]:
    """Entry points by name; of two with one name our own wins, and then the first."""
    found = _checkout()
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.dist is None or entry.dist.name != PROJECT):
        found.setdefault(entry.name, entry)
    return found


@cache
def _checkout_entries() -> tuple[tuple[str, str], ...]:
    """The entry points that the project file of a source checkout declares: nothing has to be installed again when they change."""
    try:
        project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return ()
    if project.get("name") != PROJECT:
        return ()
    return tuple(project.get("entry-points", {}).get(GROUP, {}).items())


def _checkout() -> dict[str, EntryPoint]:
    return {name: EntryPoint(name, value, GROUP) for name, value in _checkout_entries()}


def _imported(name: str) -> object:
    """What the name stands for."""
    entry = _known().get(name)
    if entry is not None:
        module, attribute = entry.module, entry.attr
    elif _OWN.fullmatch(name):
        module, attribute = name.split(":")
    else:
        raise ConfigError(f'unknown policy "{name}"; known: {", ".join(names())}, or module:Name for one of your own')
    importlib.invalidate_caches()
    try:
        with redirect_stdout(sys.stderr):  # stdout is for our data
            found: object = _guarded(lambda: importlib.import_module(module), f"policy {name}: cannot import module {module}")
    except ConfigError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name in {module, module.partition(".")[0]}:
            raise ConfigError(f"policy {name}: no module {module}; install it, or name its directory as a policy path") from error
        raise
    for part in attribute.split("."):
        if not hasattr(found, part):
            offered = [key for key, value in vars(found).items() if isinstance(value, type) and hasattr(value, "Params")]
            raise ConfigError(f"policy {name}: module {module} has no {attribute}; policies in it: {', '.join(offered) or 'none'}")
        found = getattr(found, part)
    return found


def _registered(name: str, found: object) -> Registered:
    policy: Any = _guarded(found, f"policy {name}: {found.__name__}() failed") if isinstance(found, type) else found
    faults = [*_method_faults(policy), *_params_faults(getattr(policy, "Params", None))]
    if faults:
        raise ConfigError(f"policy {name}: {'; '.join(faults)}; {NEEDS}")
    try:
        traits = traits_of(policy)
    except TypeError as error:
        raise ConfigError(f"policy {name}: {error}") from error
    return Registered(name, policy, traits, tuple(_parameter(field) for field in fields(policy.Params)))


def _method_faults(policy: object) -> list[str]:
    """What is wrong with ``init`` and ``__call__``."""
    faults = []
    for method, call, arguments in (("init", getattr(policy, "init", None), 2), ("__call__", policy, 3)):
        if not callable(call):
            faults.append(f"no {method}")
            continue
        try:
            inspect.signature(call).bind(*range(arguments))
        except (TypeError, ValueError):
            faults.append(f"{method} does not take {arguments} arguments")
    return faults


def _params_faults(params: object) -> list[str]:
    """What is wrong with ``Params`` and its fields."""
    if not (isinstance(params, type) and is_dataclass(params)):
        return ["no dataclass Params"]
    if not params.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return ["Params is not frozen"]
    faults = []
    taken = {"type": "the policy's type"}
    for field in fields(params):
        if "doc" not in field.metadata or not isinstance(field.default, (bool, int, float, str)):
            faults.append(f"Params.{field.name} is not declared with param(default, doc=…) and a number, bool or text as its default")
            continue
        parameter = _parameter(field)
        if field.name.endswith("_s") and isinstance(field.default, (bool, str)):
            faults.append(f"Params.{field.name} is a duration by its name, but {field.default!r} by its default")
        elif not _own_default(parameter):
            faults.append(f"Params.{field.name}: its default {field.default!r} is outside its own bounds or choices")
        if parameter.name in taken:
            faults.append(f"Params.{field.name} is called {parameter.name} in files, as is {taken[parameter.name]}")
        taken[parameter.name] = f"Params.{field.name}"
    return faults


def _own_default(parameter: Parameter) -> bool:
    if isinstance(parameter.default, (bool, str)):
        return not parameter.choices or parameter.default in parameter.choices
    return parameter.broken_bound(parameter.default) is None


def _parameter(field: Field[Any]) -> Parameter:
    """A field as files have it: camelCase, a duration without its ``_s``."""
    is_duration = field.name.endswith("_s")
    first, *rest = field.name.removesuffix("_s").split("_")
    name = first + "".join(part.capitalize() for part in rest)
    return Parameter(name, field.name, Kind.DURATION if is_duration else _kind(field.default), field.default, **field.metadata)


def _kind(default: object) -> Kind:
    match default:
        case bool():
            return Kind.BOOLEAN
        case int():
            return Kind.INTEGER
        case float():
            return Kind.NUMBER
        case _:
            return Kind.TEXT


def _guarded(run: Callable[[], T], what: str) -> T:
    """Run a user's code: whatever it raises becomes a ConfigError that says where."""
    try:
        return run()
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        theirs = frame.filename != __file__ and "importlib" not in frame.filename
        place = f" ({frame.filename}:{frame.lineno})" if theirs else ""
        raise ConfigError(f"{what}: {type(error).__name__}: {error}{place}") from error
