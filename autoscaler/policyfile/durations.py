"""Durations as Prometheus writes them: ``15s``, ``1h30m``, ``500ms``, ``1.5h``.

A number needs its unit; only 0 means the same in all of them.
"""

from __future__ import annotations

import re

from autoscaler.policyfile.problems import got

_SECONDS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(\d{1,9}(?:\.\d{1,9})?)(ms|[smhdw])"
_WHOLE = re.compile(f"(?:{_PART})+")
_PARTS = re.compile(_PART)

PATTERN = r"^(0|(\d+(\.\d+)?(ms|[smhdw]))+)$"
"""For JSON Schema."""

EXAMPLES = "a duration with its unit, such as 30s, 5m or 1h30m"


def parse_duration(given: object) -> float:
    """Seconds. Raises ValueError with a sentence.

    Example:
        >>> parse_duration("1h30m")
        5400.0
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if given == 0:
            return 0.0
        raise ValueError(f"{given} has no unit; expected a duration such as {given}s or {given}m")
    text = given.strip() if isinstance(given, str) else ""
    if text == "0":
        return 0.0
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"expected {EXAMPLES}, got {got(given)}")
    parts = _PARTS.findall(text)
    units = [unit for _, unit in parts]
    if units != sorted(set(units), key=list(_SECONDS).index):
        raise ValueError(f"expected each unit once and the largest first, such as 1h30m, got {got(given)}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """The shortest way to write it.

    Example:
        >>> [format_duration(s) for s in (0, 15, 90, 5400, 0.5, 604800)]
        ['0s', '15s', '1m30s', '1h30m', '500ms', '1w']
    """
    left = round(seconds * 1000)
    text = ""
    for unit, size in _SECONDS.items():
        count, left = divmod(left, round(size * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"
