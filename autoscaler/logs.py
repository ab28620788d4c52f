r"""Log lines for programs (JSON, one object a line) and for people.

Structured values travel in one place, so that they can never collide with what `logging` itself puts on a record::

    log.info("scaled", extra={"fields": {"workload": "shop/web", "from": 3, "to": 5}})

JSON spreads ``fields`` beside ``ts``, ``level``, ``logger``, ``msg`` and, with a traceback, ``error``; a field of one of these names
gets a trailing underscore. The human form appends ``name=value``. Both are safe to read line by line: no value, wherever it comes
from, can begin a line or send a control character to a terminal.

>>> record = logging.LogRecord("autoscaler.loops.scaling", logging.INFO, "", 0, "scaled\nforged", None, None)
>>> record.created, record.fields = 1800000000.0, {"workload": "shop/web", "demand": float("nan")}
>>> JsonFormatter().format(record)
'{"ts":"2027-01-15T08:00:00.000Z","level":"info","logger":"autoscaler.loops.scaling","msg":"scaled\\nforged","workload":"shop/web","demand":null}'
>>> HumanFormatter().format(record)
'2027-01-15T08:00:00.000Z INFO    loops.scaling        scaled\\nforged  workload=shop/web demand=nan'
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from math import isfinite
from typing import Any, Literal, TextIO

import numpy as np

Format = Literal["auto", "human", "json"]
Level = Literal["debug", "info", "warning", "error"]

RESERVED = frozenset({"ts", "level", "logger", "msg", "error"})

# Control characters (C0, DEL, C1), line and paragraph separators, marks that turn the direction of text, and halves of characters.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NEEDS_QUOTES = re.compile(r'[\s"=]|^$')

_COLOURS = {"DEBUG": "\x1b[2m", "INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_FAINT, _PLAIN = "\x1b[2m", "\x1b[0m"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; numbers that JSON has no word for are null."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        line |= {f"{name}_" if name in RESERVED else name: _jsonable(value) for name, value in _fields(record)}
        if trace := _trace(record):
            line["error"] = trace
        return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(line, ensure_ascii=False, separators=(",", ":")))


class HumanFormatter(logging.Formatter):
    """Time, level, logger, message, then the fields; a traceback follows, indented."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, and its traceback as further ones."""
        fields = " ".join(f"{_escaped(name)}={_quoted(value)}" for name, value in _fields(record))
        level, logger, message = f"{record.levelname:<7}", record.name.removeprefix("autoscaler."), _escaped(record.getMessage())
        if self._colour:
            level = f"{_COLOURS.get(record.levelname, '')}{level}{_PLAIN}"
            fields = fields and f"{_FAINT}{fields}{_PLAIN}"
        line = f"{_timestamp(record)} {level} {_escaped(logger):<20} {message}" + (f"  {fields}" if fields else "")
        trace = "".join(f"\n    {_escaped(part)}" for part in _trace(record).split("\n") if part)
        return line + trace


def configure(form: Format = "auto", level: Level = "info", stream: TextIO | None = None) -> None:
    """Send all logging to ``stream`` (default: stderr) from now on; ``auto`` is human on a terminal and JSON elsewhere.

    ``level`` is ours. Other people's loggers speak from warning up, whatever it is: at debug level, HTTP clients write headers
    and bodies, and so tokens.
    """
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    human = form == "human" or (form == "auto" and out.isatty())
    handler.setFormatter(HumanFormatter(colour=_colourful(out)) if human else JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for ours in ("autoscaler", "policies"):
        logging.getLogger(ours).setLevel(level.upper())
    logging.captureWarnings(capture=True)


def _colourful(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    fields = getattr(record, "fields", None)
    if isinstance(fields, Mapping):
        yield from ((str(name), value) for name, value in fields.items())


def _trace(record: logging.LogRecord) -> str:
    parts = [logging.Formatter().formatException(record.exc_info)] if record.exc_info else [record.exc_text or ""]
    return "\n".join(part for part in (*parts, record.stack_info or "") if part)


def _jsonable(value: object) -> Any:  # noqa: ANN401 - what json.dumps takes has no narrower name
    """The value in JSON's terms; what has none is said in words."""
    plain: Any
    match value:
        case Enum():
            plain = value.name
        case np.generic():
            plain = _jsonable(value.item())
        case float():
            plain = value if isfinite(value) else None
        case None | bool() | int() | str():
            plain = value
        case Mapping():
            plain = {str(name): _jsonable(part) for name, part in value.items()}
        case list() | tuple() | set() | frozenset():
            plain = [_jsonable(part) for part in value]
        case _:
            plain = str(value)
    return plain


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


def _quoted(value: object) -> str:
    text = value.name if isinstance(value, Enum) else f"{value:.6g}" if isinstance(value, float) else str(value)
    return _escaped(json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text)
