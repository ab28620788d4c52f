"""What changed between two pod templates, in lines for people. Values of the environment and of annotations are never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from autoscaler.core.health.redact import HIDDEN, one_line

Json: TypeAlias = object
"""Whatever a JSON document may hold."""

LINES_MAX = 40

_VALUE_MAX = 120
_DEPTH_MAX = 12
_LEAVES_MAX = 5_000

_CHANGE_ONLY = ("env", "annotations", "httpHeaders")
"""Of what lies below these only the name is told, and that it changed."""

_IN_ONE = frozenset({"command", "args"})
_LABELS = frozenset({"metadata.labels.pod-template-hash", "metadata.labels.controller-revision-hash"})


def template_diff(before: Json, after: Json) -> tuple[str, ...]:
    """A line for each field that differs between two pod templates (``spec.template``), redacted; at most :data:`LINES_MAX` lines.

    >>> old = {"spec": {"containers": [{"name": "app", "image": "web:1", "env": [{"name": "DSN", "value": "a"}]}]}}
    >>> new = {"spec": {"containers": [{"name": "app", "image": "web:2", "env": [{"name": "DSN", "value": "b"}]}]}}
    >>> template_diff(old, new)
    ('container app, env DSN changed', 'container app, image web:1 → web:2')
    """
    old, new = _leaves_of(before), _leaves_of(after)
    lines: dict[str, None] = {}  # in order, each once: a variable has several leaves
    for path in sorted(old.keys() | new.keys()):
        if ".".join(path) not in _LABELS and old.get(path) != new.get(path):
            lines[_line(path, old, new)] = None
    kept = list(lines)
    if len(kept) > LINES_MAX:
        kept[LINES_MAX - 1 :] = [f"and {len(kept) - LINES_MAX + 1} more"]
    return tuple(kept)


_Path: TypeAlias = tuple[str, ...]
_Leaves: TypeAlias = Mapping[_Path, str]


def _line(path: _Path, old: _Leaves, new: _Leaves) -> str:
    where, rest = _named(path)
    hidden = next((word for word in _CHANGE_ONLY if word in rest), None)
    if hidden is not None:
        at = rest.index(hidden)
        stem = path[: len(path) - len(rest) + at + 2]
        name = ".".join(rest[at + 1 : at + 2])
        label = {"env": "env", "annotations": "annotation", "httpHeaders": ".".join(rest[: at + 1])}[hidden]
        return one_line(f"{where}{label} {name} {_change(_has(old, stem), _has(new, stem))}")
    field = ".".join(rest)
    if path not in old:
        return one_line(f"{where}{field} added {_shown(rest, new[path])}")
    if path not in new:
        return one_line(f"{where}{field} removed {_shown(rest, old[path])}")
    return one_line(f"{where}{field} {_shown(rest, old[path])} → {_shown(rest, new[path])}")


def _change(was: bool, is_there: bool) -> str:  # noqa: FBT001 - both are what is asked about
    return "changed" if was and is_there else "added" if is_there else "removed"


def _has(leaves: _Leaves, stem: _Path) -> bool:
    return any(path[: len(stem)] == stem for path in leaves)


def _named(path: _Path) -> tuple[str, _Path]:
    """Whose field it is, in words, and the field."""
    if len(path) > 2 and path[:2] == ("spec", "containers"):  # noqa: PLR2004 - the third is its name
        return f"container {path[2]}, ", path[3:] or ("container",)
    if len(path) > 2 and path[:2] == ("spec", "initContainers"):  # noqa: PLR2004 - as above
        return f"init container {path[2]}, ", path[3:] or ("container",)
    return "pod, ", path[1:] if len(path) > 1 else path


def _shown(rest: _Path, value: str) -> str:
    """A value, judged together with its name: what ``password`` names is hidden."""
    key = rest[-1] if rest else ""
    text = one_line(f"{key}={value}" if key not in _IN_ONE else value, _VALUE_MAX)
    return text.removeprefix(f"{key}=") if key not in _IN_ONE else text or HIDDEN


def _leaves_of(template: Json) -> _Leaves:
    return dict(islice(_walk(template, (), _DEPTH_MAX), _LEAVES_MAX))


def _walk(node: Json, path: _Path, depth: int) -> Iterator[tuple[_Path, str]]:
    """Every leaf with its path; items of a list by their name, where they have one."""
    if depth == 0 or (path and path[-1] in _IN_ONE):
        yield path, " ".join(map(str, node)) if isinstance(node, list) else str(node)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _walk(value, (*path, str(key)), depth - 1)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, value in enumerate(node):
            yield from _walk(value, (*path, _name(value, index)), depth - 1)
    elif node is not None:
        yield path, str(node).lower() if isinstance(node, bool) else str(node)


def _name(item: Json, index: int) -> str:
    if isinstance(item, Mapping):
        for key in ("name", "mountPath", "key", "containerPort"):
            if key in item:
                return str(item[key])
    return str(index)
