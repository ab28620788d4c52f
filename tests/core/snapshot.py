"""Deep copies of what flows through the core, to tell afterwards what changed."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

import numpy as np


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Everything inside a value that is not a container, with the way to it."""
    if is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            yield from leaves(getattr(value, item.name), f"{path}.{item.name}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def snapshot(value: object) -> dict[str, object]:
    """The leaves by path, arrays as bytes: equal if nothing changed, NaN included."""
    return {path: (leaf.dtype.str, leaf.shape, leaf.tobytes()) if isinstance(leaf, np.ndarray) else leaf for path, leaf in leaves(value)}


def writeable(value: object) -> list[str]:
    """The paths of arrays that anybody could write to; empty ones do not count."""
    return [path for path, leaf in leaves(value) if isinstance(leaf, np.ndarray) and leaf.flags.writeable and leaf.size]
