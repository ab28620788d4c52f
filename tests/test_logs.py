"""Log lines: one record is one line whatever is in it, and says what was logged."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.types import Reason
from autoscaler.logs import RESERVED, Format, HumanFormatter, JsonFormatter, configure

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates and control characters too
NASTY = st.sampled_from(["\n", "\r\n", "\x1b[31m", "\x85", "\u2028", "\u2029", "\u202e", "\ud800", "\x00", "\x9b", '"', "\\n", " = "])
TEXT = st.lists(ANY_TEXT | NASTY).map("".join)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(
    msg: str = "scaled", fields: object = None, level: int = logging.INFO, name: str = "autoscaler.loops.scaling"
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, msg, None, None)
    made.created, made.fields = 1_800_000_000.1234, fields
    return made


def fail(msg: str) -> None:
    raise LookupError(msg)


def failed(msg: str) -> logging.LogRecord:
    with pytest.raises(LookupError) as caught:
        fail(msg)
    made = record(level=logging.ERROR)
    made.exc_info = (caught.type, caught.value, caught.tb)
    return made


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is global; leave it to the next test as pytest set it up."""
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("autoscaler", "policies")]
    handlers, levels = root.handlers[:], [(logger, logger.level) for logger in (root, *ours)]
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    for logger, level in levels:
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(None, {}, id="none"),
        pytest.param({"from": 3, "to": 5.5, "apply": True, "why": None}, {"from": 3, "to": 5.5, "apply": True, "why": None}, id="plain"),
        pytest.param({"demand": float("nan"), "max": float("inf")}, {"demand": None, "max": None}, id="not-finite"),
        pytest.param({"huge": 10**400}, {"huge": 10**400}, id="huge-integer"),
        pytest.param(
            {"a": np.float64(1.5), "b": np.int64(3), "c": np.bool_(True), "d": np.float32("nan")},
            {"a": 1.5, "b": 3, "c": True, "d": None},
            id="numpy",
        ),
        pytest.param({"reason": Reason.NO_DATA}, {"reason": "NO_DATA"}, id="enum-by-name"),
        pytest.param({"notes": {"x": float("nan"), 2: [1, (2.0,)]}}, {"notes": {"x": None, "2": [1, [2.0]]}}, id="nested"),
        pytest.param({"error": ValueError("no")}, {"error_": "no"}, id="no-json-and-reserved"),
        pytest.param({"msg": "x", "level": "y", "ts": 1, "logger": 2}, {"msg_": "x", "level_": "y", "ts_": 1, "logger_": 2}, id="reserved"),
        pytest.param(["no", "mapping"], {}, id="no-mapping"),
    ],
)
def test_json_spreads_fields(fields: object, expected: Mapping[str, Any]) -> None:
    line = JsonFormatter().format(record(fields=fields))
    assert json.loads(line) == {
        "ts": "2027-01-15T08:00:00.123Z",
        "level": "info",
        "logger": "autoscaler.loops.scaling",
        "msg": "scaled",
        **expected,
    }


def test_json_keeps_other_alphabets_readable() -> None:
    assert '"msg":"größer → 5"' in JsonFormatter().format(record("größer → 5"))


def test_json_has_the_traceback_in_the_same_line() -> None:
    line = JsonFormatter().format(failed("first\nsecond"))
    assert "\n" not in line
    assert json.loads(line)["error"].splitlines()[-2:] == ["LookupError: first", "second"]


@given(TEXT, TEXT, TEXT)
def test_json_is_one_line_that_gives_back_what_went_in(msg: str, name: str, value: str) -> None:
    line = JsonFormatter().format(record(msg, {name: value}))
    assert len(line.splitlines()) == 1
    assert len(line.encode()) >= len(line)  # nothing in it that UTF-8 cannot say
    found = json.loads(line)
    assert (found["msg"], found[f"{name}_" if name in RESERVED else name]) == (msg, value)


@given(TEXT, TEXT, TEXT)
def test_human_is_one_line_without_control_characters(msg: str, name: str, value: str) -> None:
    line = HumanFormatter().format(record(msg, {name: value}))
    assert len(line.splitlines()) == 1
    assert not set(line) & {*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u2029", "\u202e", "\ud800"}


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        pytest.param(None, "scaled", id="none"),
        pytest.param({"from": 3, "to": 5}, "scaled  from=3 to=5", id="numbers"),
        pytest.param({"demand": 14.23456789, "load": float("nan")}, "scaled  demand=14.2346 load=nan", id="floats"),
        pytest.param({"why": "rate limit"}, 'scaled  why="rate limit"', id="spaces-are-quoted"),
        pytest.param({"why": ""}, 'scaled  why=""', id="empty-is-visible"),
        pytest.param({"why": "a\nb"}, r'scaled  why="a\nb"', id="newline"),
        pytest.param({"reason": Reason.NO_DATA}, "scaled  reason=NO_DATA", id="enum-by-name"),
    ],
)
def test_human_appends_fields(fields: object, end: str) -> None:
    assert HumanFormatter().format(record(fields=fields)) == f"2027-01-15T08:00:00.123Z INFO    loops.scaling        {end}"


def test_human_indents_the_traceback_so_that_no_message_can_pose_as_a_line() -> None:
    first, *rest = HumanFormatter().format(failed("x\n2027-01-15T08:00:00.123Z ERROR   forged\x1b[2J")).split("\n")
    assert first.startswith("2027-01-15T08:00:00.123Z ERROR ")
    assert any("in fail" in line for line in rest)
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == r"    2027-01-15T08:00:00.123Z ERROR   forged\u001b[2J"


@pytest.mark.parametrize(
    ("form", "stream", "start"),
    [
        pytest.param("auto", io.StringIO, '{"ts":', id="auto-elsewhere"),
        pytest.param("auto", Terminal, "20", id="auto-on-a-terminal"),
        pytest.param("json", Terminal, '{"ts":', id="json-on-a-terminal"),
        pytest.param("human", io.StringIO, "20", id="human-elsewhere"),
    ],
)
def test_form(form: Format, stream: type[io.StringIO], start: str) -> None:
    out = stream()
    configure(form, "info", out)
    logging.getLogger("autoscaler.loops").info("hello")
    assert out.getvalue().startswith(start)


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        pytest.param(Terminal, {"TERM": "xterm"}, True, id="terminal"),
        pytest.param(Terminal, {"TERM": "xterm", "NO_COLOR": ""}, True, id="empty-no-color"),
        pytest.param(Terminal, {"TERM": "xterm", "NO_COLOR": "1"}, False, id="no-color"),
        pytest.param(Terminal, {"TERM": "dumb"}, False, id="dumb"),
        pytest.param(io.StringIO, {"TERM": "xterm"}, False, id="no-terminal"),
    ],
)
def test_colour(stream: type[io.StringIO], environment: Mapping[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a column
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = stream()
    configure("human", "info", out)
    logging.getLogger("autoscaler").warning("hello", extra={"fields": {"a": 1}})
    assert ("\x1b[" in out.getvalue()) is coloured


@pytest.mark.parametrize(
    ("logger", "level", "written"),
    [
        pytest.param("autoscaler.adapters.http", logging.DEBUG, True, id="ours-at-debug"),
        pytest.param("policies.threshold", logging.DEBUG, True, id="policies-at-debug"),
        pytest.param("urllib3.connectionpool", logging.DEBUG, False, id="others-not"),
        pytest.param("kubernetes.client.rest", logging.INFO, False, id="others-not-at-info"),
        pytest.param("asyncio", logging.WARNING, True, id="others-from-warning"),
    ],
)
def test_level_is_ours_and_others_speak_from_warning(logger: str, level: int, written: bool) -> None:  # noqa: FBT001 - a column
    out = io.StringIO()
    configure("json", "debug", out)
    logging.getLogger(logger).log(level, "hello")
    assert bool(out.getvalue()) is written


def test_the_last_configuration_holds() -> None:
    before, after = io.StringIO(), io.StringIO()
    configure("json", "info", before)
    configure("json", "error", after)
    logging.getLogger("autoscaler").warning("too quiet")
    logging.getLogger("autoscaler").error("heard")
    assert (before.getvalue(), [json.loads(line)["msg"] for line in after.getvalue().splitlines()]) == ("", ["heard"])


def test_warnings_of_libraries_become_lines() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nway", stacklevel=1)
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["logger"] == "py.warnings"
    assert "old\nway" in json.loads(line)["msg"]
