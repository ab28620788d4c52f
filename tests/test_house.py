"""The house rules that no linter knows: where time, faults and imports may appear, what is locked, what ships."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
LINES_MAX = 450

# What the pure part may import: numpy, itself, and those parts of the standard library that neither act, wait nor look around.
PURE_MODULES = frozenset(
    {
        *("__future__", "abc", "base64", "bisect", "collections", "copy", "dataclasses", "decimal", "enum", "fractions", "functools"),
        *("hashlib", "heapq", "inspect", "itertools", "json", "math", "numbers", "operator", "re", "statistics", "string", "struct"),
        *("types", "typing", "zlib"),
        "numpy",
    }
)
PURE = {
    "autoscaler/errors.py": PURE_MODULES,
    "autoscaler/core/*": PURE_MODULES | {"autoscaler.core", "autoscaler.errors"},
    "policies/*": PURE_MODULES | {"autoscaler.core", "policies"},
}

# What reads a clock or waits, and the only files that may.
CLOCK = "autoscaler/clock.py"
TIMED = {
    "time": [CLOCK],
    "asyncio.sleep": [CLOCK],
    "datetime.datetime.now": [CLOCK],
    "datetime.datetime.today": [CLOCK],
    "datetime.datetime.utcnow": [CLOCK],
    "datetime.date.today": [CLOCK],
    "asyncio.timeout": [CLOCK, "autoscaler/adapters/*"],  # an adapter's I/O deadline is real time, whatever the clock says
    "asyncio.timeout_at": [CLOCK, "autoscaler/adapters/*"],
    "asyncio.wait_for": [CLOCK, "autoscaler/adapters/*"],
}

# The only files that may catch everything, once each.
CATCH_ALL = {
    "autoscaler/core/policy.py": "a policy that raises is a fault inside the Decision",
    "autoscaler/loops/delivery.py": "a sink's own fault ends neither it nor the others",
    "autoscaler/loops/health.py": "the tick boundary: one bad tick does not end the loop",
    "autoscaler/loops/leadership.py": "the tick boundary",
    "autoscaler/loops/reports.py": "a fault in gathering evidence keeps nobody from being told",
    "autoscaler/loops/scaling.py": "the tick boundary",
    "autoscaler/registry.py": "importing a user's module runs the user's code",
}


def files(*tops: str) -> Iterator[tuple[str, str]]:
    for top in tops:
        for path in sorted((ROOT / top).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def used_names(source: str) -> set[str]:
    """Modules, and what is used from them, by the names they have at home: after `import asyncio as a`, `a.sleep` is asyncio.sleep."""
    tree = ast.parse(source)
    home: dict[str, str] = {}  # local name → dotted name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            home |= {alias.asname: alias.name for alias in node.names if alias.asname}
            home |= {(top := alias.name.split(".")[0]): top for alias in node.names if not alias.asname}
        elif isinstance(node, ast.ImportFrom):
            home |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    used = imported_modules(source) | set(home.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            if first in home:
                used.add(".".join([home[first], *rest]))
    return used


def imported_modules(source: str) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
    return modules


def lies_in(name: str, roots: frozenset[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def timed(path: str, source: str) -> set[str]:
    used = used_names(source)
    return {name for name, homes in TIMED.items() if name in used and not any(fnmatch(path, home) for home in homes)}


def impure(path: str, source: str) -> set[str]:
    allowed = [roots for pattern, roots in PURE.items() if fnmatch(path, pattern)]
    return {module for module in imported_modules(source) for roots in allowed if not lies_in(module, roots)}


def catches_all(path: str, source: str) -> set[str]:
    def names_all(node: ast.expr | None) -> bool:
        return node is None or any(isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"} for name in ast.walk(node))

    found = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.ExceptHandler) and names_all(node.type))
        or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") and any(names_all(arg) for arg in node.args))
    ]
    return set(found[1:] if path in CATCH_ALL else found)


Rule = Callable[[str, str], set[str]]


@pytest.mark.parametrize(
    ("rule", "path", "source", "found"),
    [
        pytest.param(timed, "autoscaler/loops/scaling.py", "import time", {"time"}, id="time"),
        pytest.param(timed, "autoscaler/loops/scaling.py", "from time import monotonic", {"time"}, id="time-from"),
        pytest.param(timed, "autoscaler/loops/scaling.py", "import asyncio as a\na.sleep(1)", {"asyncio.sleep"}, id="sleep-renamed"),
        pytest.param(timed, "autoscaler/service.py", "from asyncio import sleep", {"asyncio.sleep"}, id="sleep-from"),
        pytest.param(timed, "autoscaler/service.py", "import datetime\ndatetime.datetime.now()", {"datetime.datetime.now"}, id="now"),
        pytest.param(
            timed, "autoscaler/service.py", "from datetime import datetime\ndatetime.now()", {"datetime.datetime.now"}, id="now-from"
        ),
        pytest.param(timed, "autoscaler/loops/health.py", "import asyncio\nasyncio.timeout(1)", {"asyncio.timeout"}, id="timeout-in-loop"),
        pytest.param(timed, "autoscaler/adapters/http.py", "import asyncio\nasyncio.timeout(1)", set(), id="timeout-in-adapter"),
        pytest.param(timed, CLOCK, "import time\nimport asyncio\nasyncio.sleep(1)", set(), id="clock"),
        pytest.param(impure, "autoscaler/core/guards.py", "import logging, math", {"logging"}, id="core-logs"),
        pytest.param(impure, "autoscaler/core/guards.py", "from . import types", {"."}, id="relative"),
        pytest.param(impure, "autoscaler/core/guards.py", "from autoscaler.clock import Clock", {"autoscaler.clock"}, id="core-up"),
        pytest.param(impure, "autoscaler/core/guards.py", "from autoscaler.core.types import Reason", set(), id="core-core"),
        pytest.param(impure, "policies/hpa.py", "from autoscaler.errors import ConfigError", {"autoscaler.errors"}, id="policy-errors"),
        pytest.param(impure, "policies/hpa.py", "def f():\n  import random", {"random"}, id="policy-inner-import"),
        pytest.param(impure, "autoscaler/service.py", "import os", set(), id="service-is-not-pure"),
        pytest.param(catches_all, "autoscaler/service.py", "try: f()\nexcept Exception: pass", {"line 2"}, id="except-exception"),
        pytest.param(catches_all, "autoscaler/service.py", "try: f()\nexcept: pass", {"line 2"}, id="except-bare"),
        pytest.param(
            catches_all, "autoscaler/service.py", "try: f()\nexcept (OSError, BaseException): pass", {"line 2"}, id="except-tuple"
        ),
        pytest.param(catches_all, "autoscaler/service.py", "with contextlib.suppress(Exception): f()", {"line 1"}, id="suppress"),
        pytest.param(catches_all, "autoscaler/service.py", "try: f()\nexcept OSError: pass", set(), id="except-named"),
        pytest.param(catches_all, "autoscaler/loops/health.py", "try: f()\nexcept Exception: pass", set(), id="tick-boundary"),
        pytest.param(
            catches_all,
            "autoscaler/loops/health.py",
            "try: f()\nexcept Exception: pass\ntry: f()\nexcept Exception: pass",
            {"line 4"},
            id="second-boundary",
        ),
    ],
)
def test_rule_finds_what_it_forbids(rule: Rule, path: str, source: str, found: set[str]) -> None:
    assert rule(path, source) == found


@pytest.mark.parametrize(
    "rule", [pytest.param(timed, id="time"), pytest.param(impure, id="purity"), pytest.param(catches_all, id="catch-all")]
)
def test_source_keeps_rule(rule: Rule) -> None:
    assert {path: found for path, source in files("autoscaler", "policies") if (found := rule(path, source))} == {}


def test_modules_are_short() -> None:
    sources = files("autoscaler", "policies", "benchmarks", "tests")
    assert {path: lines for path, source in sources if (lines := source.count("\n")) > LINES_MAX} == {}


def pins(lock: Path) -> dict[str, Requirement]:
    found = (Requirement(line.removesuffix("\\")) for line in lock.read_text().splitlines() if line and line[0] not in " #")
    return {canonicalize_name(requirement.name): requirement for requirement in found}


@pytest.mark.parametrize("lock", [pytest.param(lock, id=lock.stem) for lock in LOCKS])
def test_lock_names_no_host(lock: Path) -> None:
    hosts = re.compile(r"://|--(index|extra-index|find-links|trusted)|\b[\w-]+\.(com|dev|io|net|org)\b")
    assert [line for line in lock.read_text().splitlines() if hosts.search(line)] == []


@pytest.mark.parametrize("lock", [pytest.param(lock, id=lock.stem) for lock in LOCKS])
def test_lock_pins_and_hashes(lock: Path) -> None:
    loose = [name for name, pin in pins(lock).items() if [specifier.operator for specifier in pin.specifier] != ["=="]]
    unhashed = re.findall(r"^([\w.-]+)==(?!.*\\\n +--hash=sha256:[0-9a-f]{64})", lock.read_text(), re.MULTILINE)
    assert (loose, unhashed) == ([], [])


@pytest.mark.parametrize(
    ("lock", "declared"),
    [
        pytest.param("build", PROJECT["build-system"]["requires"], id="build"),
        pytest.param("runtime", PROJECT["project"]["dependencies"], id="runtime"),
        pytest.param("dev", PROJECT["project"]["dependencies"], id="runtime-in-dev"),
        pytest.param("dev", PROJECT["project"]["optional-dependencies"]["bench"], id="bench"),
        pytest.param("dev", PROJECT["project"]["optional-dependencies"]["dev"], id="dev"),
    ],
)
def test_lock_answers_pyproject(lock: str, declared: list[str]) -> None:
    """`make lock` was run after the last change of a dependency."""
    pinned = pins(ROOT / "requirements" / f"{lock}.txt")
    wanted = [requirement for line in declared if (requirement := Requirement(line)).name != PROJECT["project"]["name"]]
    outdated = []
    for requirement in wanted:
        pin = pinned.get(canonicalize_name(requirement.name))
        if pin is None or not requirement.specifier.contains(Version(str(pin.specifier).removeprefix("=="))):
            outdated.append(f"{requirement}, locked: {pin}")
    assert outdated == []


@pytest.mark.parametrize("lock", ["build", "runtime"])
def test_dev_lock_agrees_with(lock: str) -> None:
    """What is tested is what runs."""
    tested = pins(ROOT / "requirements" / "dev.txt")
    assert {
        name: (str(pin), str(tested[name]))
        for name, pin in pins(ROOT / "requirements" / f"{lock}.txt").items()
        if name in tested and str(pin) != str(tested[name])
    } == {}


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    shipped = {name for name in names if ".dist-info/" not in name}
    here = {
        path.relative_to(ROOT).as_posix()
        for top in ("autoscaler", "policies")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"autoscaler/py.typed", "policies/py.typed"} <= shipped
    assert shipped == here
    assert any(name.endswith("licenses/LICENSE") for name in names)
