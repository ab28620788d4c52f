import json
from math import inf, isnan
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policyfile.positions import Mark, Plain, parse
from autoscaler.policyfile.problems import FieldPath
from autoscaler.policyfile.syntax import decode


def plain(text: str) -> Plain:
    documents, problems = parse("f.yaml", text)
    assert problems == []
    (document,) = documents
    assert document.problems == []
    return document.root.plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1", 1, id="int"),
        pytest.param("-12", -12, id="negative"),
        pytest.param("0x1F", 31, id="hex"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("010", "010", id="ambiguous-octal-is-text"),
        pytest.param("1_000", "1_000", id="underscore-is-text"),
        pytest.param("1.5", 1.5, id="float"),
        pytest.param(".5", 0.5, id="float-without-zero"),
        pytest.param("1e3", 1000.0, id="exponent"),
        pytest.param("-.inf", -inf, id="infinity"),
        pytest.param("1.", 1.0, id="float-without-fraction"),
        pytest.param("true", True, id="true"),
        pytest.param("False", False, id="false"),
        pytest.param("yes", "yes", id="yes-is-text"),
        pytest.param("on", "on", id="on-is-text"),
        pytest.param("no", "no", id="norway"),
        pytest.param("1:30", "1:30", id="sexagesimal-is-text"),
        pytest.param("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z", id="time-is-text"),
        pytest.param("2026-12-01", "2026-12-01", id="date-is-text"),
        pytest.param("a: ~", {"a": None}, id="null"),
        pytest.param("a:", {"a": None}, id="nothing"),
        pytest.param("'1'", "1", id="quoted"),
        pytest.param('"true"', "true", id="quoted-bool"),
        pytest.param("!!str 1", "1", id="tagged-text"),
        pytest.param('!!int "1"', 1, id="tagged-int"),
        pytest.param("!!float 1", 1, id="tagged-float"),
        pytest.param("[a, [b], {c: d}]", ("a", ("b",), {"c": "d"}), id="flow"),
        pytest.param("- a\n- - b\n  - c\n", ("a", ("b", "c")), id="block"),
        pytest.param("q: |\n  sum(\n    up)\n", {"q": "sum(\n  up)\n"}, id="literal"),
        pytest.param("q: >-\n  a\n  b\n", {"q": "a b"}, id="folded"),
        pytest.param("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}, id="alias"),
        pytest.param("a: &x {b: 1, c: 1}\nd: {<<: *x, c: 2}", {"a": {"b": 1, "c": 1}, "d": {"c": 2, "b": 1}}, id="merge"),
        pytest.param("d: {<<: [{a: 1}, {a: 2, b: 2}]}", {"d": {"a": 1, "b": 2}}, id="merge-list"),
        pytest.param("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}, id="anchor-set-again"),
        pytest.param("a: 1\r\nb:\r\n  - 2\r\n", {"a": 1, "b": (2,)}, id="crlf"),
        pytest.param("größe: µ", {"größe": "µ"}, id="unicode"),
        pytest.param("# comment\n---\na: 1\n...\n", {"a": 1}, id="markers"),
    ],
)
def test_plain(text: str, value: object) -> None:
    assert plain(text) == value


def test_nan() -> None:
    assert isnan(plain("a: .nan")["a"])


WEB = """\
# a comment
apiVersion: v1
spec:
  metrics:
    - name: a
      target: {value: 1,
               average: "é"}
    - name: b
      query: ü
  empty:
"""


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        pytest.param((), (2, 1), (2, 1), id="root"),
        pytest.param(("apiVersion",), (2, 13), (2, 1), id="scalar"),
        pytest.param(("spec",), (4, 3), (3, 1), id="mapping"),
        pytest.param(("spec", "metrics"), (5, 5), (4, 3), id="list"),
        pytest.param(("spec", "metrics", 1), (8, 7), (8, 7), id="item"),
        pytest.param(("spec", "metrics", 0, "target", "average"), (7, 25), (7, 16), id="flow"),
        pytest.param(("spec", "empty"), (10, 3), (10, 3), id="empty-value-is-its-key"),
        pytest.param(("spec", "policy"), (3, 1), (3, 1), id="missing-is-in-its-parent"),
        pytest.param(("spec", "metrics", 1, "target"), (8, 7), (8, 7), id="missing-in-item"),
        pytest.param(("spec", "policy", "type"), (3, 1), (3, 1), id="missing-parent"),
        pytest.param(("kind",), (2, 1), (2, 1), id="missing-in-root"),
    ],
)
@pytest.mark.parametrize("newline", [pytest.param("\n", id="lf"), pytest.param("\r\n", id="crlf")])
def test_marks(path: FieldPath, value: tuple[int, int], key: tuple[int, int], newline: str) -> None:
    ((document,), _) = parse("f.yaml", WEB.replace("\n", newline))
    assert (document.root.mark_of(path), document.root.key_mark(path)) == (Mark(*value), Mark(*key))


def test_documents_before_a_fault_are_read() -> None:
    documents, problems = parse("f.yaml", "a: 1\n---\n# nothing\n---\nb: 2\n---\nc: 'never closed\n")
    assert [document.root.plain for document in documents] == [{"a": 1}, {"b": 2}]
    assert [str(problem) for problem in problems] == ["f.yaml:7:4: this quote is never closed"]


def test_anchors_end_with_their_document() -> None:
    _, second = parse("f.yaml", "a: &x 1\n---\nb: *x\n")[0]
    assert [problem.text for problem in second.problems] == ["*x refers to nothing that ends before it; anchors are set with &x"]


# The writer here speaks YAML 1.1, which breaks lines at more characters, and for which 1e3 is text.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u20290123456789"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def as_lists(value: object) -> object:
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, tuple) else value


@given(st.dictionaries(TEXT, JSON, min_size=1, max_size=4).filter(lambda value: "<<" not in json.dumps(value)))
def test_reads_what_others_write(value: dict[str, Any]) -> None:
    assert as_lists(plain(yaml.safe_dump(value, allow_unicode=True))) == value
    assert as_lists(plain(yaml.safe_dump(value, default_flow_style=True))) == value


PIECES = st.lists(
    st.sampled_from(["a", "spec", ": ", ":", "- ", "[", "]", "{", "}", ", ", "'", "&x ", "*x", "<<", "!!int ", "!t ", "? ", "#", "~", "@"])
    | st.sampled_from(["\n", "\n  ", ">\n", "|\n", "\t", "---\n", "...\n", "%YAML 1.1\n", "\r", "\x00", "\ufeff", "é"]),
    max_size=40,
)


@given(PIECES.map("".join) | st.text(max_size=60))
def test_any_text_gives_documents_or_problems(text: str) -> None:
    documents, problems = parse("f.yaml", text)
    told = [*problems, *(problem for document in documents for problem in document.problems)]
    lines = text.splitlines() or [""]
    assert all(1 <= problem.line <= len(lines) + 1 and problem.column >= 1 and problem.text for problem in told)


@given(st.binary(max_size=60))
def test_any_bytes_give_text_or_a_problem(content: bytes) -> None:
    text, problem = decode("f.yaml", content)
    try:
        assert (text, problem) == (content.decode("utf-8-sig"), None)
    except UnicodeDecodeError:
        assert problem is not None
        assert problem.text.endswith("is not UTF-8; save the file as UTF-8")


PARTS = [
    "a: 1\nb: [x, {c: 2}]\n",
    "# Über den Wolken\nname: größer ☃ 𝄞\n",
    "  indented:\n    - one\n    - two  # zwei\n",
    "base: &base {x: 1}\nthere: *base\nmore: {<<: *base, y: 2}\n",
    "text: |\n  --- no document\n  ... nor an end\nlast: 'it''s'\n",
    "- 1\n- {k: v}\n",
    "",
    "# nothing but words\n",
]


@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=6),
    first=st.sampled_from(["", "---\n", "%YAML 1.1\n---\n", "\ufeff", "# Größe\n\n---  # here\n"]),
    between=st.sampled_from(["---\n", "...\n---\n", "...\n# bis später\n---\n", "--- # noch eins\n"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_a_document_that_was_released_is_read_again_as_it_was(parts: list[str], first: str, between: str, newline: str) -> None:
    text = (first + between.join(parts)).replace("\n", newline)
    documents, _ = parse("f.yaml", text)
    before = [repr(document.root) for document in documents]
    for document in documents:
        document.release()
    assert [repr(document.root) for document in documents] == before
