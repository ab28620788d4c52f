"""Kubernetes' quantities: ``85``, ``1500m``, ``1.5k``, ``2Gi``, ``1e3``."""

from __future__ import annotations

import re
from decimal import Decimal
from math import isfinite

from autoscaler.policyfile.problems import got

_SCALES: dict[str, Decimal] = {
    **{unit: Decimal(10) ** power for unit, power in zip(["n", "u", "m", "", "k", "M", "G", "T", "P", "E"], range(-9, 19, 3), strict=True)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], start=1)},
}
_NUMBER = r"[+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})"
_QUANTITY = re.compile("(" + _NUMBER + r")(?:([eE][+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)")

PATTERN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2}|[numkMGTPE]|[KMGTPE]i)?$"
"""For JSON Schema."""

EXAMPLES = "a quantity such as 85, 1500m, 2k or 1Gi"


def parse_quantity(given: object) -> float:
    """The number. Raises ValueError with a sentence.

    Example:
        >>> [parse_quantity(text) for text in ("85", "1500m", "2Gi", "1e3")]
        [85.0, 1.5, 2147483648.0, 1000.0]
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if not isfinite(given):
            raise ValueError(f"expected {EXAMPLES}, got {given}")
        return float(given)
    match = _QUANTITY.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None:
        raise ValueError(f"expected {EXAMPLES}, got {got(given)}{_hint(given)}")
    number, exponent, unit = match.groups()
    return float(Decimal(number + (exponent or "")) * _SCALES[unit or ""])


def _hint(given: object) -> str:
    """What people mean by some texts that are no quantities."""
    match = re.fullmatch("(" + _NUMBER + r")\s*(\S.*)", given.strip()) if isinstance(given, str) else None
    if match is None:
        return ""
    number, rest = match.groups()
    if rest == "K":
        return f" (thousands are a small k: {number}k)"
    if rest == "%":
        return f" (a share is a plain ratio: {float(number) / 100:g})"
    return f" (without a unit of measure: {number})" if rest not in _SCALES else f" (without a space: {number}{rest})"
