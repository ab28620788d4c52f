import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autoscaler import registry
from autoscaler.core.behavior import HPA_BEHAVIOR
from autoscaler.errors import ConfigError
from autoscaler.registry import Kind, Parameter, Registered, find, names

ROOT = Path(__file__).parent.parent

HEAD = """\
from dataclasses import dataclass
from autoscaler.core.policy import NoState, Proposal, Traits, param
from autoscaler.core.types import Floats
"""
METHODS = """
    def init(self, params, n):
        return NoState()

    def __call__(self, view, params, state):
        return state, Proposal(view.demand[-1])
"""
PARAMS = """
@dataclass(frozen=True)
class P:
    spare: Floats = param(2, ge=0, doc="spare replicas")
    share: Floats = param(0.5, gt=0, lt=1, doc="a share")
    up_window_s: Floats = param(300.0, ge=15, le=3600, doc="how far back")
    strict: bool = param(False, doc="whether")
    mean_kind: str = param("simple", choices=("simple", "weighted"), doc="which")
"""
POLICY = f"{HEAD}{PARAMS}\nclass Mine:\n    Params = P\n{METHODS}"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module of this source importable and returns its name, a new one each time."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    registry.add_path([tmp_path])

    def make(source: str) -> str:
        name = f"{tmp_path.name.replace('-', '_')}_{len(list(tmp_path.glob('*.py')))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return make


def refusal(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        find(name)
    return str(caught.value)


@pytest.mark.parametrize("name", names())
def test_every_entry_point_is_a_policy(name: str) -> None:
    found = find(name)
    assert found.name == name
    params, faults = found.params({})
    assert isinstance(params, found.policy.Params)
    assert faults == []


def test_names_are_those_of_the_project() -> None:
    assert {"movingAverage", "threshold"} <= set(names())


def test_found_once() -> None:
    assert find("threshold") is find("threshold")


def test_own_policy(module: Callable[[str], str]) -> None:
    name = f"{module(POLICY)}:Mine"
    found = find(name)
    assert (found.name, type(found.policy).__name__, found.traits.behavior) == (name, "Mine", HPA_BEHAVIOR)
    assert found.parameters == (
        Parameter("spare", "spare", Kind.INTEGER, 2, "spare replicas", ge=0),
        Parameter("share", "share", Kind.NUMBER, 0.5, "a share", gt=0, lt=1),
        Parameter("upWindow", "up_window_s", Kind.DURATION, 300.0, "how far back", ge=15, le=3600),
        Parameter("strict", "strict", Kind.BOOLEAN, default=False, doc="whether"),
        Parameter("meanKind", "mean_kind", Kind.TEXT, "simple", "which", choices=("simple", "weighted")),
    )


@pytest.mark.parametrize(
    ("tail", "attribute"),
    [
        pytest.param("\nmine = Mine()\n", "mine", id="an-object"),
        pytest.param("\nclass Outer:\n    Inner = Mine\n", "Outer.Inner", id="nested"),
        pytest.param("\nimport sys\nsys.modules[__name__].made = Mine()\n", "made", id="made-at-import"),
    ],
)
def test_other_ways_to_a_policy(tail: str, attribute: str, module: Callable[[str], str]) -> None:
    assert type(find(f"{module(POLICY + tail)}:{attribute}").policy).__name__ == "Mine"


def test_a_repaired_module_is_found(module: Callable[[str], str], tmp_path: Path) -> None:
    name = module("import no_such_thing\n")
    assert "ModuleNotFoundError: No module named 'no_such_thing'" in refusal(f"{name}:Mine")
    (tmp_path / f"{name}.py").write_text(POLICY)
    assert find(f"{name}:Mine").name == f"{name}:Mine"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("1 / 0\n", "cannot import module NAME: ZeroDivisionError: division by zero (DIR/NAME.py:1)", id="raises"),
        pytest.param("import sys\nsys.exit(7)\n", "cannot import module NAME: SystemExit: 7 (DIR/NAME.py:2)", id="exits"),
        pytest.param("def (:\n", "cannot import module NAME: SyntaxError", id="no-python"),
        pytest.param(
            "import none_such.deeper\n", "cannot import module NAME: ModuleNotFoundError: No module named 'none_such'", id="lacks"
        ),
        pytest.param(POLICY.replace("Mine", "Other"), "module NAME has no Mine; policies in it: Other", id="other-name"),
        pytest.param("x = 1\n", "module NAME has no Mine; policies in it: none", id="none-in-it"),
        pytest.param("Mine = 5\n", "no init; no __call__; no dataclass Params; a policy has Params", id="number"),
        pytest.param("def Mine(view): ...\n", "no init; __call__ does not take 3 arguments; no dataclass Params", id="function"),
        pytest.param(POLICY.replace("n):", "n, x):"), "init does not take 2 arguments", id="init"),
        pytest.param(POLICY.replace("params, state):", "params):"), "__call__ does not take 3 arguments", id="call"),
        pytest.param(POLICY.replace("    Params = P\n", ""), "no dataclass Params", id="no-params"),
        pytest.param(POLICY.replace("(frozen=True)", ""), "Params is not frozen", id="not-frozen"),
        pytest.param(POLICY.replace('param(2, ge=0, doc="spare replicas")', "2"), "Params.spare is not declared with param", id="no-param"),
        pytest.param(POLICY.replace("param(2,", "param(None,"), "Params.spare is not declared with param", id="no-default"),
        pytest.param(POLICY.replace("param(2,", "param(-1,"), "Params.spare: its default -1 is outside its own bounds", id="default"),
        pytest.param(
            POLICY.replace('param("simple"', 'param("odd"'), "Params.mean_kind: its default 'odd' is outside", id="default-choice"
        ),
        pytest.param(POLICY.replace("param(300.0", 'param("5m"'), "Params.up_window_s is a duration by its name, but '5m'", id="duration"),
        pytest.param(POLICY.replace("spare:", "type:"), "Params.type is called type in files, as is the policy's type", id="type"),
        pytest.param(
            POLICY.replace("spare:", "up_window:"), "Params.up_window_s is called upWindow in files, as is Params.up_window", id="twice"
        ),
        pytest.param(
            POLICY.replace("Params = P", "Params = P\n    traits = 5"), "Mine.traits: expected autoscaler.core.policy.Traits", id="traits"
        ),
        pytest.param(
            POLICY.replace("Params = P", "Params = P\n    def __init__(self): raise OSError('disk')"),
            "OSError: disk (DIR/NAME.py:",
            id="new",
        ),
        pytest.param(POLICY.replace("Params = P", "Params = P\n    def __init__(self, x): ..."), "Mine() failed: TypeError", id="new-args"),
    ],
)
def test_no_policy(source: str, words: str, module: Callable[[str], str], tmp_path: Path) -> None:
    name = module(source)
    told = refusal(f"{name}:Mine")
    assert told.startswith(f"policy {name}:Mine: ")
    assert words.replace("NAME", name).replace("DIR", str(tmp_path)) in told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("predictive", 'unknown policy "predictive"; known: KNOWN, or module:Name for one of your own', id="unknown"),
        pytest.param("", 'unknown policy ""', id="empty"),
        pytest.param("a:b:c", 'unknown policy "a:b:c"', id="colons"),
        pytest.param("../evil:X", 'unknown policy "../evil:X"', id="path"),
        pytest.param("no_such_module_here:X", "no module no_such_module_here; install it, or name its directory", id="no-module"),
        pytest.param("no_such.module:X", "no module no_such.module; install it", id="no-package"),
        pytest.param("policies.none:X", "no module policies.none; install it", id="no-submodule"),
    ],
)
def test_unknown(name: str, words: str) -> None:
    assert words.replace("KNOWN", ", ".join(names())) in refusal(name)


@pytest.fixture
def strict(module: Callable[[str], str]) -> Callable[[str], Registered]:
    """A policy with a further method."""
    return lambda method: find(f"{module(POLICY + method)}:Mine")


@pytest.mark.parametrize(
    ("method", "faults"),
    [
        pytest.param("", [], id="no-check"),
        pytest.param("\n    def check(self, params):\n        return []\n", [], id="nothing-wrong"),
        pytest.param("\n    def check(self, params):\n        yield 'a'\n        yield 'b'\n", ["a", "b"], id="sentences"),
        pytest.param(
            "\n    def history_s(self, params):\n        return float('nan')\n", ["history_s is nan; expected seconds, 0 or more"], id="nan"
        ),
        pytest.param(
            "\n    def history_s(self, params):\n        return -1\n", ["history_s is -1.0; expected seconds, 0 or more"], id="negative"
        ),
    ],
)
def test_params_are_checked_by_the_policy(method: str, faults: list[str], strict: Callable[[str], Registered]) -> None:
    assert strict(method).params({"spare": 3})[1] == faults


@pytest.mark.parametrize(
    ("method", "words"),
    [
        pytest.param("\n    def check(self, params):\n        raise KeyError('x')\n", "check failed: KeyError: 'x' (", id="check"),
        pytest.param("\n    def history_s(self, params):\n        return 1 / 0\n", "history_s failed: ZeroDivisionError", id="history"),
    ],
)
def test_a_policy_that_fails_on_its_params(method: str, words: str, strict: Callable[[str], Registered]) -> None:
    with pytest.raises(ConfigError) as caught:
        strict(method).params({})
    assert words in str(caught.value)


def test_the_policy_path_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "json.py").write_text("raise RuntimeError('not the one you want')\n")
    registry.add_path([tmp_path, tmp_path])
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert "module json has no Policy" in refusal("json:Policy")


def test_the_policy_path_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy path .*/none: no such directory"):
        registry.add_path([tmp_path / "none"])


def test_a_checkout_needs_no_installation_to_know_a_new_policy(tmp_path: Path) -> None:
    for package in ("autoscaler", "policies"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    project = (ROOT / "pyproject.toml").read_text()
    line = 'threshold = "policies.threshold:Threshold"\n'
    (tmp_path / "pyproject.toml").write_text(project.replace(line, f'{line}brandNew = "policies.threshold:Threshold"\n'))
    program = "from autoscaler.registry import find, names; print(find('brandNew').name, *names())"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["brandNew", *sorted(["brandNew", *names()])]
