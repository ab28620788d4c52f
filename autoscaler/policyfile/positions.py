"""YAML to plain values, with the line and column of every key and value.

Plain values are what JSON knows (mappings with text keys, tuples for lists, text, whole numbers, floats, booleans, None). Scalars are
read as in YAML 1.2, so ``on`` and ``1:30`` are text and nothing is a date; what readers take for different numbers (``010``) is text
too, and so refused where a number is needed. Anchors, aliases and merge keys (``<<``) are fine as long as they stay small.

Built from the parser's events in one pass without recursion: neither depth nor aliases can exhaust anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import yaml

from autoscaler.policyfile.problems import FieldPath, Problem, field_name, got
from autoscaler.policyfile.syntax import control_character, syntax_problem

DEPTH_MAX = 50
ALIASED_MAX = 10_000
"""How many values the aliases of one document may repeat."""

_INT = re.compile(r"[+-]?(?:0|[1-9]\d*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_DIGITS_MAX = 18
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG = "tag:yaml.org,2002:"
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}


Plain: TypeAlias = Any
"""What JSON knows, with tuples for lists."""


class Mark(NamedTuple):
    """A place in a file, from 1."""

    line: int
    column: int


_START = Mark(1, 1)


@dataclass(slots=True)
class Node:
    """A value and where it starts; for a mapping also where its keys do."""

    plain: Plain
    mark: Mark
    size: int = 1
    keys: dict[str, Mark] = field(default_factory=dict)
    items: dict[str | int, Node] = field(default_factory=dict)

    def at(self, path: FieldPath) -> Node | None:
        """The value at the end of the path, if the document has one there."""
        node: Node | None = self
        for step in path:
            node = node.items.get(step) if node else None
        return node

    def mark_of(self, path: FieldPath) -> Mark:
        """Where to point for a path: its value; where that is empty, its key; where nothing is, what should contain it."""
        node = self.at(path)
        if node is not None and node.plain is not None:
            return node.mark
        return self.key_mark(path)

    def key_mark(self, path: FieldPath) -> Mark:
        """Where the last key of the path stands; where it is not there, the next one up."""
        if not path:
            return self.mark
        *above, last = path
        parent = self.at(tuple(above))
        if parent is not None and last in parent.items:
            return parent.keys[last] if isinstance(last, str) else parent.items[last].mark
        return self.key_mark(tuple(above))


class _Part(NamedTuple):
    """A part of a text: characters from ``begin`` up to ``end``, whole lines at the front, and how many lines are before it."""

    begin: int
    end: int
    line: int


class Document:
    """One document of a file. ``problems`` are those of its structure: duplicate keys, unknown tags, large aliases.

    Once it is checked, :meth:`release` lets go of its tree, most of what a policy weighs; whoever asks for a place in it later waits
    for its part of the file to be parsed again.
    """

    __slots__ = ("_part", "_root", "_text", "file", "problems")

    def __init__(self, file: str, root: Node, problems: list[Problem], source: tuple[str, _Part]) -> None:
        """``source``: the text of the file, and where in it this is."""
        self.file, self.problems = file, problems
        self._root: Node | None = root
        self._text, self._part = source

    @property
    def root(self) -> Node:
        """The value that the document is."""
        if self._root is not None:
            return self._root
        begin, end, line = self._part
        return parse(self.file, "\n" * line + self._text[begin:end])[0][0].root

    def release(self) -> None:
        """Forget the tree until somebody asks for it."""
        self._root = None

    def problem(self, path: FieldPath, text: str, *, key: bool = False) -> Problem:
        """A problem with the value at the path, or with its key."""
        mark = self.root.key_mark(path) if key else self.root.mark_of(path)
        return Problem(self.file, *mark, field_name(path), text)


def parse(file: str, text: str) -> tuple[list[Document], list[Problem]]:
    """The documents of a file that are not empty, and what is wrong with its syntax (what stands before a fault is still read)."""
    documents: list[Document] = []
    problem = control_character(file, text)
    if problem:
        return documents, [problem]
    builder = _Builder(file)
    try:
        begin = line = 0
        text = text.removeprefix("\ufeff")  # which the parser passes over without counting it
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            found = builder.feed(event)
            if isinstance(event, yaml.DocumentStartEvent) and event.start_mark is not None:
                begin, line = event.start_mark.index - event.start_mark.column, event.start_mark.line
            if found is not None:
                end = len(text) if event.end_mark is None else event.end_mark.index
                documents.append(Document(file, *found, (text, _Part(begin, end, line))))
    except yaml.MarkedYAMLError as error:
        return documents, [syntax_problem(file, text, error)]
    except _TooDeepError as error:
        return documents, [Problem(file, *error.mark, "", f"nested more than {DEPTH_MAX} levels deep")]
    return documents, []


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    node: Node
    is_mapping: bool
    anchor: str | None
    key: str | None = None
    key_mark: Mark = _START
    skip: bool = False
    merged: list[Node] = field(default_factory=list)


class _TooDeepError(Exception):
    def __init__(self, mark: Mark) -> None:
        super().__init__(mark)
        self.mark = mark


class _Builder:
    """Turns the events of a file into documents."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._start()

    def _start(self) -> None:
        self.root: Node | None = None
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.problems: list[Problem] = []
        self.aliased, self.exhausted = 0, False

    def feed(self, event: yaml.Event) -> tuple[Node, list[Problem]] | None:
        """Take one event; at the end of a document that says something, its root and what is wrong with its structure."""
        start = event.start_mark
        mark = Mark(start.line + 1, start.column + 1) if start else _START
        match event:
            case yaml.DocumentStartEvent():
                self._start()
            case yaml.ScalarEvent():
                self._value(Node(self._scalar(event, mark), mark), event.anchor)
            case yaml.AliasEvent():
                self._value(self._alias(event.anchor, mark), None)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event, mark)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.DocumentEndEvent() if self.root is not None and (self.root.plain is not None or self.problems):
                return self.root, self.problems
        return None

    def _path(self) -> FieldPath:
        return tuple(step for frame in self.stack for step in self._step(frame))

    @staticmethod
    def _step(frame: _Open) -> Iterator[str | int]:
        if frame.is_mapping:
            yield from [] if frame.key is None else [frame.key]
        else:
            yield len(frame.node.items)

    def _complain(self, mark: Mark, text: str, path: FieldPath | None = None) -> None:
        self.problems.append(Problem(self.file, *mark, field_name(self._path() if path is None else path), text))

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, mark: Mark) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
            self._complain(mark, f"the tag {_shown(event.tag)} means nothing here; leave it out")
        if len(self.stack) == DEPTH_MAX:
            raise _TooDeepError(mark)
        self.stack.append(_Open(Node({} if is_mapping else (), mark), is_mapping, event.anchor))

    def _close(self) -> None:
        frame = self.stack.pop()
        node = frame.node
        for merged in frame.merged:
            for key, item in merged.items.items():
                if key not in node.items and isinstance(key, str):
                    node.items[key], node.keys[key] = item, merged.keys[key]
        node.size += sum(item.size for item in node.items.values())
        if frame.is_mapping:
            node.plain = {key: item.plain for key, item in node.items.items()}
        else:
            node.plain = tuple(item.plain for item in node.items.values())
        self._value(node, frame.anchor)

    def _alias(self, anchor: str | None, mark: Mark) -> Node:
        node = self.anchors.get(anchor or "")
        if node is None:
            self._complain(mark, f"*{anchor} refers to nothing that ends before it; anchors are set with &{anchor}")
            return Node(None, mark)
        self.aliased += node.size
        if self.aliased > ALIASED_MAX:
            if not self.exhausted:
                self._complain(mark, f"aliases repeat more than {ALIASED_MAX} values in this document; write out what is needed")
            self.exhausted = True
            return Node(None, mark)
        return node

    def _value(self, node: Node, anchor: str | None) -> None:
        """Put a finished value where it belongs: the root, a list, a key, or the value of the key before."""
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        if not frame.is_mapping:
            frame.node.items[len(frame.node.items)] = node
        elif frame.key is None:
            self._key(frame, node)
        else:
            if frame.key == "<<":
                self._merge(frame, node)
            elif not frame.skip:
                frame.node.items[frame.key], frame.node.keys[frame.key] = node, frame.key_mark
            frame.key, frame.skip = None, False

    def _key(self, frame: _Open, node: Node) -> None:
        key = node.plain
        if not isinstance(key, str):
            self._complain(node.mark, f"expected text as a key, got {got(key)}")
            frame.skip = True
        elif key in frame.node.items:
            self._complain(node.mark, f"given twice, first on line {frame.node.keys[key].line}; keep one", (*self._path(), key))
            frame.skip = True
        frame.key, frame.key_mark = str(key), node.mark

    def _merge(self, frame: _Open, node: Node) -> None:
        sources = list(node.items.values()) if isinstance(node.plain, tuple) else [node]
        if all(isinstance(source.plain, dict) for source in sources):
            frame.merged += sources
        else:
            self._complain(node.mark, "<< merges mappings; expected an alias of one, or a list of such")

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Plain:
        text = event.value
        if event.tag in (None, "!"):
            return self._plain(text, mark) if event.implicit[0] else text
        kind = event.tag.removeprefix(_TAG)
        if event.tag == _TAG + "str":
            return text
        if event.tag not in {_TAG + name for name in _TYPES}:
            self._complain(mark, f"the tag {_shown(event.tag)} means nothing here; leave it out")
            return text
        value = self._plain(text, mark)
        if not isinstance(value, _TYPES[kind]):
            self._complain(mark, f"expected {kind}, as its tag says, got {got(text)}")
        return value

    def _plain(self, text: str, mark: Mark) -> Plain:
        """A scalar without quotes, by YAML 1.2's core schema."""
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INT.fullmatch(text):
            digits = len(text.lstrip("+-"))
            if digits > _DIGITS_MAX:
                self._complain(mark, f"a number of {digits} digits; expected at most {_DIGITS_MAX}")
                return 0
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return text


def _shown(tag: str | None) -> str:
    """A tag as people write it."""
    return (tag or "").replace(_TAG, "!!")
