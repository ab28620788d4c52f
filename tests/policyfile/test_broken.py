"""Every file in broken/ is refused as broken/expected.txt says: all its mistakes at once, each at its line and column."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoscaler.cli import app
from autoscaler.registry import names

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(BROKEN.glob("*.yaml"))


def expected() -> dict[str, list[str]]:
    sections = re.split(r"^== (.+)\n", (BROKEN / "expected.txt").read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {
        name: text.replace("{policies}", ", ".join(names())).splitlines() for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


EXPECTED = expected()


def test_every_file_has_its_expected_mistakes() -> None:
    assert {file.stem for file in FILES} == set(EXPECTED)
    assert len(FILES) >= 30


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in FILES])
def test_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    result = CliRunner().invoke(app, ["validate", file.name])
    *problems, summary = result.stderr.splitlines()
    assert problems == EXPECTED[file.stem]
    assert all(re.match(rf"{re.escape(file.name)}:\d+:\d+: .", problem) for problem in problems)
    assert re.fullmatch(r"error: \d+ mistakes? in 1 file", summary)
    assert (result.exit_code, result.stdout) == (3, "")
