"""Where the values of an answer go: which series of which call, and how it is picked out of many by its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Match: TypeAlias = tuple[tuple[str, str], ...]

MANY = -1
"""The place of what is there several times."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A series slot of a call, whose it is (``serial``), and the labels that pick its value; none: the answer has just one.

    Without a call: a workload slot.
    """

    call: str
    slot: int
    serial: int
    match: Match


class Places:
    """Finds the one series of an answer that has certain labels; an index is made for each set of label names that is asked for."""

    def __init__(self, labels: Sequence[Mapping[str, str]]) -> None:
        self._labels = labels
        self._indices: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}

    def find(self, match: Match) -> int | None:
        """Its place, :data:`MANY`, or None where there is none."""
        if not match:
            return {0: None, 1: 0}.get(len(self._labels), MANY)
        names = tuple(name for name, _ in match)
        index = self._indices.get(names)
        if index is None:
            index = self._indices[names] = {}
            for place, labels in enumerate(self._labels):
                key = tuple(labels.get(name, "") for name in names)
                index[key] = MANY if key in index else place
        return index.get(tuple(text for _, text in match))
