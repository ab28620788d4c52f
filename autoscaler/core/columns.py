"""Frozen dataclasses of arrays whose last axis is slots: how such tables are made, grown and patched.

Nothing here changes an array that somebody else may hold: every function returns new, read-only arrays (or the same ones, if
nothing changes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from autoscaler.core.types import Ints

T = TypeVar("T")
A = TypeVar("A", bound=np.generic)

_NAMES: dict[type, tuple[str, ...]] = {}
"""The fields of each dataclass; asking for them anew at every tick takes longer than what is done with them."""


def frozen(array: NDArray[A]) -> NDArray[A]:
    """The same array, read-only from now on."""
    array.setflags(write=False)
    return array


def full(shape: int | tuple[int, ...], value: float) -> NDArray[np.float64]:
    """A new writable float64 array of one value."""
    return np.full(shape, value, dtype=np.float64)


def array_fields(table: object) -> dict[str, NDArray[Any]]:
    """The array-valued fields of a dataclass instance, by name."""
    names = _NAMES.get(type(table))
    if names is None:
        if not is_dataclass(table):
            message = f"expected a dataclass of arrays, got {type(table).__name__}"
            raise TypeError(message)
        names = _NAMES[type(table)] = tuple(field.name for field in fields(table))
    return {name: value for name in names if isinstance(value := getattr(table, name), np.ndarray)}


def revised(table: T, changes: Mapping[str, Any]) -> T:
    """``dataclasses.replace`` at a seventh of its price, for tables of many fields that have neither slots nor ``__post_init__``."""
    revision = object.__new__(type(table))
    values = revision.__dict__
    values.update(table.__dict__)
    values.update(changes)
    if len(values) != len(table.__dict__):
        message = f"{type(table).__name__} has no fields {', '.join(sorted(changes.keys() - table.__dict__.keys()))}"
        raise TypeError(message)
    return revision


def sharing(table: T, before: object) -> T:
    """The same values, with the arrays of ``before`` wherever these are the same bit for bit, so that both are kept as one.

    Goes into dataclasses and tuples; what is built otherwise than ``before`` stays as it is.
    """
    found: Any = table
    if isinstance(found, np.ndarray):
        is_same = isinstance(before, np.ndarray) and (found.dtype, found.shape) == (before.dtype, before.shape)
        return before if is_same and found.tobytes() == before.tobytes() else found  # type: ignore[attr-defined,return-value]
    if type(found) is tuple and isinstance(before, tuple) and len(found) == len(before):
        parts = tuple(sharing(mine, theirs) for mine, theirs in zip(found, before, strict=True))
        return cast("T", parts) if any(part is not mine for part, mine in zip(parts, found, strict=True)) else table
    if not is_dataclass(found) or type(found) is not type(before):
        return table
    pairs = {field.name: (getattr(found, field.name), getattr(before, field.name)) for field in fields(found)}
    changes = {name: sharing(mine, theirs) for name, (mine, theirs) in pairs.items() if mine is not theirs}
    changes = {name: value for name, value in changes.items() if value is not pairs[name][0]}
    return cast("T", replace(found, **changes)) if changes else table  # type: ignore[type-var]


def protected(table: T) -> T:
    """The table with a read-only view in place of every array that its owner may write to."""
    open_ones = {name: frozen(array.view()) for name, array in array_fields(table).items() if array.flags.writeable}
    return replace(table, **open_ones) if open_ones else table  # type: ignore[type-var]


def widened(array: NDArray[A], slots: int, blank: object) -> NDArray[A]:
    """The array with its last axis padded to ``slots`` columns of ``blank``; itself if it is that wide already."""
    missing = slots - array.shape[-1]
    if missing <= 0:
        return array
    padding = np.full((*array.shape[:-1], missing), blank, dtype=array.dtype)
    return frozen(np.concatenate([array, padding], axis=-1))


def patched(table: T, slots: Ints, values: Mapping[str, NDArray[Any]]) -> T:
    """The table with the columns at ``slots`` replaced by ``values[name][..., i]``; fields that are not named stay."""
    changed: dict[str, NDArray[Any]] = {}
    for name, value in values.items():
        array = getattr(table, name).copy()
        array[..., slots] = value
        changed[name] = frozen(array)
    return replace(table, **changed)  # type: ignore[type-var]


def taken(table: T, slots: Ints) -> T:
    """The table with only the columns at ``slots``, in that order; fields that are not arrays stay."""
    return replace(table, **{name: frozen(array[..., slots]) for name, array in array_fields(table).items()})  # type: ignore[type-var]
