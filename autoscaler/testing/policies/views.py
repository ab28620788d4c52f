"""What a policy is called with, made from a few lists: for tests and examples of policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoscaler.core.columns import frozen
from autoscaler.core.policy import Pods, View

P = TypeVar("P")

SOME_TIME_S = 1_800_000_000.0
"""A time on the grid of every interval."""

_DTYPES = {
    **dict.fromkeys(("demand", "season_mean", "season_max"), np.float32),
    **dict.fromkeys(("saturated", "ordered"), np.bool_),
    "workload": np.int64,
    "target_kind": np.int8,
    "metric_type": np.int8,
}


def view_of(
    demand: ArrayLike, current: ArrayLike, *, at_s: float = SOME_TIME_S, interval_s: float = 15.0, **columns: ArrayLike | Pods
) -> View:
    """A view of ``demand[tick, n]``, oldest row first, and ``current[n]`` replicas.

    ``columns`` are the other fields of :class:`autoscaler.core.policy.View`. Left out: every series has its own workload, all replicas
    are ready, no answer is old or saturated, a pod starts in 60 s, from 1 to 1000 replicas are allowed.
    """
    count = np.asarray(current, dtype=np.float64)
    given: dict[str, ArrayLike | Pods] = {
        "demand": demand,
        "current": count,
        "workload": np.arange(count.size),
        "saturated": np.zeros(count.size, np.bool_),
        "age_s": np.zeros(count.size),
        "ready": count,
        "startup_s": np.full(count.size, 60.0),
        "ordered": np.zeros(count.size, np.bool_),
        "min": np.ones(count.size),
        "max": np.full(count.size, 1000.0),
        **columns,
    }
    made = {name: value if isinstance(value, Pods) else _column(name, value) for name, value in given.items()}
    return View(at_s=at_s, interval_s=interval_s, **made)  # type: ignore[arg-type]


def columns_of(rows: Sequence[P]) -> P:
    """The scalar parameters of several series as a policy gets them: numbers in columns, text and bool fields as they are.

    Raises ValueError if the rows differ in a text or bool field; such series are never in one call.
    """
    first = rows[0]
    columns: dict[str, NDArray[np.float64]] = {}
    for item in fields(first):  # type: ignore[arg-type]
        values = [getattr(row, item.name) for row in rows]
        if isinstance(values[0], (str, bool)):
            if len(set(values)) > 1:
                raise ValueError(f"{item.name} differs between the rows: {sorted(set(values))}. Series of one call share it")
        else:
            columns[item.name] = frozen(np.array(values, dtype=np.float64))
    return replace(first, **columns)  # type: ignore[type-var]


def _column(name: str, value: ArrayLike) -> NDArray[Any]:
    return frozen(np.array(value, dtype=_DTYPES.get(name, np.float64)))
