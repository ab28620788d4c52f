"""docs/own-policy.md: its code is the example's, runs, and does what the page says."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from autoscaler.testing import PROPERTIES, check_policy

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "examples" / "own-policy"
PAGE = (ROOT / "docs" / "own-policy.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The page's blocks of code in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


CLASS, TESTS, STATE = blocks("python")
COMMANDS = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def test_class_is_the_examples() -> None:
    assert (EXAMPLE / "spare.py").read_text("utf-8") == CLASS


def test_policy_is_the_examples() -> None:
    (policy,) = blocks("yaml")
    assert policy in (EXAMPLE / "policy.yaml").read_text("utf-8")


def test_table_names_every_property() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", PAGE, re.MULTILINE))
    assert {name: rows.get(name) for name in PROPERTIES} == dict(PROPERTIES)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_succeeds(command: str) -> None:
    """Each as typed, but with this Python in front of the program's name."""
    program, *arguments = command.split()
    start = {"autoscaler": ["-m", "autoscaler"], "python": []}[program]
    done = subprocess.run([sys.executable, *start, *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done


def test_tests_of_the_page_pass(tmp_path: Path) -> None:
    (tmp_path / "test_spare.py").write_text(TESTS, "utf-8")
    (tmp_path / "spare.py").write_text(CLASS, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert f"{len(PROPERTIES) + 1} passed" in done.stdout, done.stdout + done.stderr


def test_class_with_state_keeps_every_property(tmp_path: Path) -> None:
    (tmp_path / "fading.py").write_text(STATE, "utf-8")
    check_policy(runpy.run_path(str(tmp_path / "fading.py"))["Fading"])


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((\.\./[^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
