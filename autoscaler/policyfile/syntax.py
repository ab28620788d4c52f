"""What is wrong with text that is not YAML, in words that name the usual causes."""

from __future__ import annotations

import re

import yaml

from autoscaler.policyfile.problems import Problem

_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_CAUSES = (
    ("mapping values are not allowed", 'this ":" cannot start a value; check the indentation, and quote texts that contain ": "'),
    ("could not find expected ':'", "a line that is not `name: value`; check the indentation and the quotes above"),
    (
        "did not find expected key",
        "expected the next `name: value`; check the indentation, and quote texts that start with a quote or brace",
    ),
    ("did not find expected '-' indicator", 'expected the next "- " of this list, at the same indentation'),
    ("did not find expected ',' or '}'", 'expected "," or "}"; quote texts that contain braces or colons'),
    ("did not find expected ',' or ']'", 'expected "," or "]"; quote texts that contain brackets'),
)


def decode(file: str, content: bytes) -> tuple[str, Problem | None]:
    """The text of a file, without its byte order mark, and the first place where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        line, column = place(before, len(before))
        byte = content[error.start]
        return "", Problem(file, line, column, "", f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8")


def place(text: str, index: int) -> tuple[int, int]:
    """Line and column of an index, from 1."""
    lines = re.split(r"\r\n|\n|\r", text[:index])
    return len(lines), len(lines[-1]) + 1


def control_character(file: str, text: str) -> Problem | None:
    """The first character that YAML does not allow, if there is one."""
    found = _CONTROL.search(text)
    if found is None:
        return None
    line, column = place(text, found.start())
    return Problem(file, line, column, "", f"character U+{ord(found.group()):04X} is not allowed in YAML; is this a text file?")


def syntax_problem(file: str, text: str, error: yaml.MarkedYAMLError) -> Problem:
    """A parser's error as a problem."""
    mark, what = error.problem_mark or error.context_mark, error.problem or "not valid YAML"
    if what.startswith("found unexpected end of stream") and error.context_mark is not None:
        mark, what = error.context_mark, "this quote is never closed"
    elif what.startswith("found character that cannot start any token") and mark is not None:
        what = _bad_start(text, mark)
    else:
        what = next((words for start, words in _CAUSES if what.startswith(start)), f"not valid YAML: {what}")
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Problem(file, line, column, "", what)


def _bad_start(text: str, mark: yaml.Mark) -> str:
    lines = re.split(r"\r\n|\n|\r", text)
    line = lines[mark.line] if mark.line < len(lines) else ""
    character = line[mark.column : mark.column + 1]
    if character == "\t":
        return "a tab; YAML is indented with spaces"
    return f'a text cannot start with "{character}"; put it in quotes'
