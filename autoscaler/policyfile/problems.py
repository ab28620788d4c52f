"""A mistake in a policy file: where it stands, what it is, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from autoscaler.errors import ConfigError

FieldPath: TypeAlias = tuple[str | int, ...]
"""The way from a document's root to a value: keys and list indices."""


EMPTY = "empty; give it a value, or leave it out if it has a default"

_SHOWN = 60


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake, or one remark; line and column count from 1, and are 0 where the file as a whole is meant.

    Example:
        >>> print(Problem("web.yaml", 7, 3, "spec.minReplicas", "5 is above maxReplicas 3"))
        web.yaml:7:3: spec.minReplicas: 5 is above maxReplicas 3
    """

    file: str
    line: int
    column: int
    field: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.field, self.text) if part)


class PolicyFileError(ConfigError):
    """Every mistake of a set of policy files, in the order of files and lines; nothing of the set is used."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def field_name(path: FieldPath) -> str:
    """The path as people write it.

    Example:
        >>> field_name(("spec", "metrics", 0, "name"))
        'spec.metrics[0].name'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def got(value: object) -> str:
    """A value in words, for "expected …, got …".

    Example:
        >>> [got(value) for value in ("x", 5, True, None, (), {})]
        ['the text "x"', '5', 'true', 'nothing', 'a list', 'a mapping']
    """
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f'the text "{value if len(value) <= _SHOWN else value[:_SHOWN] + "…"}"'
        case tuple() | list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return str(value)


def one_of(names: Iterable[str]) -> str:
    """Alternatives in words.

    Example:
        >>> one_of(["Max", "Min", "Disabled"])
        'Max, Min or Disabled'
    """
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def did_you_mean(given: str, known: Iterable[str], otherwise: str = "known") -> str:
    """The known name that is closest to the given one, as a question; else all of them.

    Example:
        >>> did_you_mean("intervall", ["interval", "metrics"])
        'did you mean interval?'
        >>> did_you_mean("replicas", ["interval", "metrics"])
        'known: interval, metrics'
    """
    names = list(known)
    lowered = {name.lower(): name for name in reversed(names)}
    close = get_close_matches(given.lower(), lowered, n=1, cutoff=0.7)
    if close:
        return f"did you mean {lowered[close[0]]}?"
    return f"{otherwise}: {', '.join(names)}" if names else f"{otherwise}: none"
