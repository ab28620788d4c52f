"""The parameters that the policy suite tries: the defaults, and others within the bounds that the policy declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import islice, product
from typing import Any, TypeAlias

import numpy as np

from autoscaler.core.policy import Parameters

Check: TypeAlias = Callable[[Parameters], Iterable[str]]
"""A policy's ``check``: what is wrong between the fields of scalar parameters."""

_MOST_CHOICES = 12
_TRIES = 4


def parameter_rows(default: Parameters, check: Check | None, n: int, seed: int) -> Iterator[list[Parameters]]:
    """Scalar parameters for ``n`` series: all as ``default``; then, for each choice of text and bool fields, numbers that differ.

    Numbers stay within their declared bounds, and what the policy's own ``check`` refuses is left out.
    """
    yield [default] * n
    rng = np.random.default_rng([seed, 2])
    options = {item.name: _options(item.metadata, getattr(default, item.name)) for item in fields(default)}
    texts = {name: choices for name, choices in options.items() if choices}
    for choice in islice(product(*texts.values()), _MOST_CHOICES):
        chosen = replace(default, **dict(zip(texts, choice, strict=True)))
        if not refused(check, chosen):
            yield [_varied(chosen, check, rng) for _ in range(n)]


def refused(check: Check | None, params: Parameters) -> list[str]:
    """What the policy's ``check`` has against the parameters."""
    return [] if check is None else list(check(params))


def outside(metadata: Mapping[str, Any], value: float | str) -> str:
    """Which of the bounds of :func:`autoscaler.core.policy.param` the value breaks, or an empty text."""
    if isinstance(value, str):
        choices = metadata.get("choices") or (value,)
        return "" if value in choices else f"none of {', '.join(choices)}"
    inside = {
        "ge": value >= metadata.get("ge", value),
        "gt": "gt" not in metadata or value > metadata["gt"],
        "le": value <= metadata.get("le", value),
        "lt": "lt" not in metadata or value < metadata["lt"],
    }
    return ", ".join(f"not {name} {metadata[name]}" for name, holds in inside.items() if not holds)


def _options(metadata: Mapping[str, Any], default: object) -> tuple[object, ...]:
    """The values of a text or bool field; none for a number."""
    if isinstance(default, bool):
        return (default, not default)
    if isinstance(default, str):
        return tuple(metadata.get("choices") or (default,))
    return ()


def _varied(params: Parameters, check: Check | None, rng: np.random.Generator) -> Parameters:
    """The parameters with other numbers, or as they are if some tries give none that the policy allows."""
    tries = (replace(params, **dict(_numbers(params, rng))) for _ in range(_TRIES))
    return next((other for other in tries if not refused(check, other)), params)


def _numbers(params: Parameters, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Each number of the parameters, changed by a factor between a half and two; whole numbers stay whole."""
    for item in fields(params):
        value = getattr(params, item.name)
        if isinstance(value, (str, bool)):
            continue
        usual = value or (60.0 if item.name.endswith("_s") else 0.5)
        number = float(usual * 2 ** rng.uniform(-1, 1))
        number = float(round(number)) if isinstance(value, int) else number
        yield item.name, float(value) if outside(item.metadata, number) else number
