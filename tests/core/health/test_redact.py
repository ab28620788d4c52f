"""No secret is shown, whatever surrounds it; nothing acts on a terminal; everything has an end; and what is innocent can be read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.health import redact as module
from autoscaler.core.health import secret_shapes
from autoscaler.core.health.redact import HIDDEN, LINE_MAX, SHOWN_MAX, TEXT_MAX, log_lines, one_line, redact, visible
from tests.core.health.corpus import CORPUS, INNOCENT, PEM_BODY, RANDOM, Case

CASES = [pytest.param(case, id=case.id) for case in CORPUS]


@pytest.mark.parametrize("case", CASES)
def test_secret_is_hidden(case: Case) -> None:
    shown = redact(case.text)
    assert [secret for secret in case.secrets if secret in shown] == []
    assert [text for text in case.kept if text not in shown] == []
    assert HIDDEN in shown


@pytest.mark.parametrize("case", CASES)
def test_secret_is_hidden_in_a_log_and_in_a_line(case: Case) -> None:
    lines = log_lines(f"2026-11-24T11:00:00Z INFO start\n{case.text}\nexit".encode())
    shown = "\n".join([*lines, one_line(case.text), one_line(f'level=error msg="{case.id}: {case.text}"')])
    assert [secret for secret in case.secrets if secret in shown] == []


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_text_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("case", CASES)
def test_twice_is_once(case: Case) -> None:
    assert redact(redact(case.text)) == redact(case.text)


PIECES = st.sampled_from(
    [
        *("password", "=", ": ", '"', "'", "\\", "[", "token", "--key ", "://", "@", "a", "Z9", "Bearer ", "\n", " ", "eyJ", "hunter2"),
        *("-----BEGIN A KEY-----", "-----END A KEY-----", "[redacted]", "\x1b[31m", "\x1b]", "value", ">", "<", "\0", "\u202e", "basic "),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_twice_is_once_whatever_it_is(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(
    st.text(max_size=300) | st.lists(PIECES, max_size=40).map("".join), st.sampled_from(["DB_PASSWORD={}", '"token": "{}"', "a://b:{}@c"])
)
def test_secret_is_hidden_whatever_stands_before(before: str, form: str) -> None:
    """But for what stands in the same line, which may well be a value that goes on up to it."""
    assert RANDOM not in redact(f"{before}\n{form.format(RANDOM)}")


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_what_is_shown_acts_on_nothing(text: str) -> None:
    for shown in (redact(text), visible(text)):
        assert shown.replace("\n", "").isprintable()
    assert one_line(text).isprintable()


@given(st.binary(max_size=2000))
def test_a_log_is_lines_of_text_whatever_it_is(raw: bytes) -> None:
    lines = log_lines(raw)
    assert all(line.isprintable() and line.strip() for line in lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("\x1b[1;31mfatal\x1b[0m: no\x1b[K", "fatal: no", id="colours"),
        pytest.param("\x1b]0;title\x07\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link", id="title-and-link"),
        pytest.param("\x9b31mred", "red", id="eight-bit"),
        pytest.param("a\0b\x07c\x08d\x7fe\x85f", "abcde f", id="control"),
        pytest.param("\u202eevil\u202c \u2066x\u2069 \ufeffa\u200bb", "evil x ab", id="bidi-and-zero-width"),
        pytest.param("50 %\r100 %\r\ndone", "50 %\n100 %\ndone", id="carriage-returns"),
        pytest.param("a\tb\u2028c\u00a0d", "a b c d", id="blanks"),
        pytest.param("\ud800x", "x", id="surrogate"),
        pytest.param("\x1b[" + "1" * 1000, "1" * 1000, id="endless-sequence"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        pytest.param(b"", (), id="empty"),
        pytest.param(b"a\n\n \nb\n", ("a", "b"), id="empty-lines"),
        pytest.param("\n".join(map(str, range(60))).encode(), tuple(map(str, range(10, 60))), id="the-last-ones"),
        pytest.param(b"\x7fELF\x02\x01\x01" + bytes(200), ("(207 bytes that are no text)",), id="binary"),
        pytest.param(b"ok \xff\xfe then", ("ok �� then",), id="some-bytes-that-are-no-text"),
        pytest.param(b"x " * 500_000, (("x " * 250) + " … (65036 more characters)",), id="one-line-of-1-mb"),
        pytest.param(b"start\n" + b"y " * 40_000 + b"\nend", ("end",), id="a-line-that-is-longer-than-all-that-is-read"),
        pytest.param(("z " * 1000 + "\nend").encode(), ("z " * 250 + " … (1500 more characters)", "end"), id="a-long-line"),
    ],
)
def test_log_lines(raw: bytes, lines: tuple[str, ...]) -> None:
    assert log_lines(raw) == lines


@pytest.mark.parametrize("before", [0, SHOWN_MAX - 10, LINE_MAX - 10, TEXT_MAX - 10])
@pytest.mark.parametrize(
    "text", [f"token={RANDOM}", f"https://u:{RANDOM}@h/", "ey" + f"J{RANDOM}.{RANDOM}", f"-----BEGIN A-----{PEM_BODY}"]
)
def test_a_cut_shows_nothing_of_a_secret(text: str, before: int) -> None:
    """Where a secret is cut by the end of what is looked at, so much stands before it that none of it is shown."""
    padding = ". " * (before // 2)
    for shown in ("\n".join(log_lines(f"{padding}{text}".encode())), one_line(padding + text)):
        assert not any(secret[:8] in shown for secret in (RANDOM, PEM_BODY))


# Time ---------------------------------------------------------------------------------------------------------------------------


def patterns() -> list[re.Pattern[str]]:
    found: list[re.Pattern[str]] = []
    for value in [*vars(module).values(), *vars(secret_shapes).values()]:
        each = [part for entry in value for part in entry] if value is secret_shapes.ADDRESSES else [value]
        found += [pattern for pattern in each if isinstance(pattern, re.Pattern)]
    return found


@pytest.mark.parametrize("pattern", [pytest.param(each, id=str(number)) for number, each in enumerate(patterns())])
def test_no_pattern_goes_back_over_what_it_has_read(pattern: re.Pattern[str]) -> None:
    """Every repetition is possessive or has a small end: so many steps a character at most, whatever the text."""
    bare = re.sub(r"\\.", "x", pattern.pattern)
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "x", bare)
    assert re.findall(r"(?:[*+]|\{\d*,\})(?!\+)(?<!\+\+)(?<!\*\+)(?<!\}\+)(?<!\?\+)", bare) == []
    assert all(int(most) <= TEXT_MAX // 32 for most in re.findall(r"\{\d+,(\d+)\}", bare))


def test_the_rule_finds_what_it_forbids() -> None:
    with pytest.raises(AssertionError):
        test_no_pattern_goes_back_over_what_it_has_read(re.compile("(a+)+b"))
    with pytest.raises(AssertionError):
        test_no_pattern_goes_back_over_what_it_has_read(re.compile("a{3,}b"))


@pytest.mark.parametrize("text", ["x" * 10**6, "://a:" * 200_000, "password" * 125_000, "-----BEGIN A-----\n" * 50_000, "\x1b]" * 500_000])
def test_only_so_much_is_looked_at(text: str) -> None:
    assert len(visible(text)) <= TEXT_MAX
    assert max(map(len, redact(text).split("\n"))) <= LINE_MAX * 2
    assert len(one_line(text)) <= SHOWN_MAX + 40
