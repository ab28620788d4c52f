"""The Dockerfile by its instructions: what it is made from, what gets in, and as whom it runs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TEXT = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
INSTRUCTIONS = [(word, " ".join(rest.split())) for word, rest in re.findall(r"^([A-Z]+) +(.+)$", TEXT, re.MULTILINE)]
FINAL = INSTRUCTIONS[max(index for index, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def given(word: str, instructions: list[tuple[str, str]] = INSTRUCTIONS) -> list[str]:
    return [rest for each, rest in instructions if each == word]


def test_base_can_be_chosen_and_names_no_host() -> None:
    assert INSTRUCTIONS[0] == ("ARG", "BASE=python:3.13-slim")
    assert [source.split(" AS ")[0] for source in given("FROM")] == ["${BASE}", "${BASE}"]


def test_packages_are_those_of_the_lock() -> None:
    installs = [part for run in given("RUN") for part in run.split("&&") if " install " in part]
    assert len(installs) == 3
    for install in installs[:2]:
        assert "--require-hashes" in install
    assert re.findall(r"-r (\S+)", " ".join(installs)) == ["requirements/build.txt", "requirements/runtime.txt"]
    assert "--no-index --no-deps dist/*.whl" in installs[2]


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "nothing reaches the build but what is named"
    copied = [source.rstrip("/") for copy in given("COPY") if "--from" not in copy for source in copy.split()[:-1]]
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    assert sorted(f"!{source}" for source in copied) == sorted(line for line in ignored if line.startswith("!"))


def test_nothing_that_a_start_imports_is_left_uncompiled() -> None:
    (left_out,) = re.findall(r"compileall .* -x '([^']+)'", TEXT)
    adapters = ["kubernetes.targets", "kubernetes.client", "kubernetes.login", "prometheus", "telemetry", "http"]
    imports = "\n".join(
        ["import sys, autoscaler.service, autoscaler.policyfile.reload", *(f"import autoscaler.adapters.{name}" for name in adapters)]
    )
    show = "print(*(module.__file__ for module in list(sys.modules.values()) if getattr(module, '__file__', None)), sep='\\n')"
    answer = subprocess.run([sys.executable, "-P", "-c", f"{imports}\n{show}"], capture_output=True, text=True, check=True)
    files = answer.stdout.splitlines()
    assert any("/kubernetes/aio/" in file for file in files)
    assert re.search(left_out, "/site-packages/kubernetes/aio/client/models/v1_pod.py")
    assert [file for file in files if re.search(left_out, file)] == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("USER", "65532:65532", id="a number, so that kubelet can tell that it is not root"),
        pytest.param("ENTRYPOINT", '["/opt/autoscaler/bin/python", "-P", "-m", "autoscaler"]', id="only what is installed is imported"),
        pytest.param("CMD", '["run"]', id="run"),
    ],
)
def test_runs_as(word: str, expected: str) -> None:
    assert given(word, FINAL)[-1] == expected


def test_commands_in_a_running_container_import_as_the_service_does() -> None:
    (environment,) = given("ENV", FINAL)
    assert "PATH=/opt/autoscaler/bin:$PATH" in environment
    assert "PYTHONSAFEPATH=1" in environment


def test_labels_are_the_projects() -> None:
    (labels,) = given("LABEL", FINAL)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {name.removeprefix("org.opencontainers.image."): json.loads(value) for name, value in re.findall(r'(\S+)=("[^"]*")', labels)}
    assert found == {
        "title": project["name"],
        "description": project["description"],
        "version": VERSION,
        "revision": "${REVISION}",
        "licenses": project["license"],
    }
