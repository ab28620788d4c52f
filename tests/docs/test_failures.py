"""Each row of docs/failures.md names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", (ROOT / "docs" / "failures.md").read_text())))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    names = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not name or name in names


def test_rows_name_them() -> None:
    assert len(NAMED) > 10
