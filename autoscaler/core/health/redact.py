"""What others wrote (logs, events, messages, commands) made fit to be shown: no secrets, nothing that acts on a terminal, an end.

Everything is cut before any pattern sees it, and no pattern goes back over what it has read: the time is linear in a bounded text,
whatever stands in it. When in doubt, text is hidden; what stays readable are UUIDs, digests, hashes in names: hexadecimal alone is no
secret unless a key says so.
"""

from __future__ import annotations

import re
from functools import lru_cache

from autoscaler.core.health import secret_shapes

HIDDEN = "[redacted]"

TEXT_MAX = 65_536
"""Characters of a text, or bytes of a log, that are looked at."""

LINE_MAX = 2_000
"""Characters of a line that are looked at. More than are shown, so that a secret cut by the end of what is shown is known by its whole."""

SHOWN_MAX = 500
"""Characters of a line that are shown."""

LINES_MAX = 50

_BINARY_SHARE = 0.3

_LOWER = {ord(upper): ord(upper) + 32 for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}

_ANSI = re.compile(
    "\x1b(?:"
    r"\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor
    "|\\][^\x07\x1b\n]{0,2048}(?:\x07|\x1b\\\\)"  # OSC: titles, links
    "|[PX^_][^\x1b\n]{0,2048}\x1b\\\\"  # DCS, SOS, PM, APC
    r"|[ -/]{0,4}[0-~]"
    ")|\x9b[0-?]{0,64}[ -/]{0,8}[@-~]"
)


def visible(text: str) -> str:
    """The text without what a terminal or a browser would act on: escape sequences, control characters, bidi, zero widths.

    Line feeds stay; any other blank becomes a space. At most :data:`TEXT_MAX` characters are kept.
    """
    text = text[:TEXT_MAX].replace("\r\n", "\n").replace("\r", "\n")
    if text.isprintable():
        return text
    text = _ANSI.sub("", text)
    return "".join(char if char == "\n" or char.isprintable() else " " if char.isspace() else "" for char in text)


def redact(text: str) -> str:
    """The text, :func:`visible` and without secrets. Lines are cut to :data:`LINE_MAX`; doing it twice changes nothing more."""
    lines = [line[:LINE_MAX] for line in visible(text).split("\n")]
    text = "\n".join(lines)
    for step in (_without_pem, _without_url_secrets, _without_values, _without_shapes):
        text = step(text)
    return text


@lru_cache(maxsize=2048)
def one_line(text: str, most: int = SHOWN_MAX) -> str:
    r"""The text redacted, in one line of at most ``most`` characters.

    >>> one_line("no route to\n postgres://app:hunter2@db/shop")
    'no route to postgres://app:[redacted]@db/shop'
    """
    return _cut(" ".join(redact(text[: most + LINE_MAX]).split()), most)


def log_lines(raw: bytes, most: int = LINES_MAX) -> tuple[str, ...]:
    """The last lines of a log, redacted, each of at most :data:`SHOWN_MAX` characters. A log that is not text is told as such.

    Its end counts: what is longer than :data:`TEXT_MAX` loses its beginning, and the first line with it.
    """
    cut = len(raw) > TEXT_MAX
    text = raw[-TEXT_MAX:].decode(errors="replace")
    odd = sum(not (char.isprintable() or char in "\n\r\t\x1b") or char == "�" for char in text)
    if odd > _BINARY_SHARE * len(text):
        return (f"({len(raw)} bytes that are no text)",)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if cut and len(lines) > 1:
        del lines[0]
    kept = [line for line in lines if line.strip()][-most:]
    longer = {index: len(line) for index, line in enumerate(kept) if len(line) > LINE_MAX}
    shown = redact("\n".join(line[:LINE_MAX] for line in kept)).split("\n")
    if longer and len(shown) == len(kept):
        return tuple(_cut(line, SHOWN_MAX, longer.get(index, 0)) for index, line in enumerate(shown))
    return tuple(_cut(line, SHOWN_MAX) for line in shown if line.strip())


def _cut(line: str, most: int, length: int = 0) -> str:
    length = max(length, len(line))
    return line if length <= most else f"{line[:most]} … ({length - most} more characters)"


# PEM -----------------------------------------------------------------------------------------------------------------------------

_BEGIN = re.compile(r"-{4,5} ?BEGIN ")
_END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{1,60}(?:-{4,5}|$)")
_BODY = re.compile(
    r"\s{0,40}(?:[A-Za-z0-9+/=\\]{0,200}[\"',;)}\]]{0,3}|(?:Proc-Type|DEK-Info|Comment|Subject|Version|Hash): .{0,200})\s{0,40}"
)


def _without_pem(text: str) -> str:
    """Hide PEM blocks, also those of which the end or the beginning is missing."""
    if "BEGIN " not in text and "END " not in text:
        return text
    kept: list[str] = []
    inside = False
    for line in text.split("\n"):
        if inside and not _END.search(line):
            inside = bool(_BODY.fullmatch(line))
            if inside:
                continue
        shown, inside = _without_blocks(line, inside=inside)
        if shown.startswith(HIDDEN) and kept and _END.search(line):  # its end alone: what stands before belongs to it
            while kept and kept[-1].strip() and _BODY.fullmatch(kept[-1]):
                kept.pop()
        kept.append(shown)
    return "\n".join(kept)


def _without_blocks(line: str, *, inside: bool) -> tuple[str, bool]:
    """The line without what of it lies in blocks, and whether one goes on in the next line."""
    parts: list[str] = []
    at = 0
    while True:
        begin, end = (None if inside else _BEGIN.search(line, at)), _END.search(line, at)
        if begin is None and end is None:
            return "".join([*parts, HIDDEN if inside else line[at:]]), inside
        if begin is not None and (end is None or begin.start() < end.start()):
            parts.append(line[at : begin.start()])
            at, inside = begin.end(), True
        elif end is not None:
            parts.append(HIDDEN)
            at, inside = end.end(), False


# URLs and other addresses with a password in them -----------------------------------------------------------------------------------


def _without_url_secrets(text: str) -> str:
    lower = text.translate(_LOWER)
    for needle, pattern in secret_shapes.ADDRESSES:
        if needle in lower:
            text = pattern.sub(lambda found: found[1] + HIDDEN, text)
    return text


# key = value ---------------------------------------------------------------------------------------------------------------------

_QUOTE = r"(?:\\{0,3}[\"'`]|%2[27]|&(?:quot|apos|#34|#39);|\\{1,2}u002[27])"
_EQUALS = r" {0,8}(?:=>|:=|->|={1,2}) {0,8}|: {0,8}| {1,8}: {0,8}(?=\\{0,3}[\"'\[{])|%3[AaDd]"
_VALUE = (
    r"[\[({]{0,2}+(?:b(?=[\"']))?+(?P<secret>"
    r"\\{1,3}[\"'][^\"'\\\n]*+(?:\\{1,3}[\"'])?"
    r'|"(?:[^"\\\n]|\\.)*+"?'
    r"|'(?:[^'\\\n]|\\.)*+'?"
    r"|`[^`\n]*+`?"
    r"|(?!b\[redacted\])[^\s\[({]\S*+"
    r")"
)
_QUOTED = r"(?P<secret>\\{0,3}\"(?:[^\"\\\n]|\\[^\"])*+\\{0,3}\"?|\\{0,3}'(?:[^'\\\n]|\\[^'])*+\\{0,3}'?)"
_SUFFIX = r"[\w.\-]{0,40}+"

_ASSIGNED = re.compile(rf"{_SUFFIX}(?:{_QUOTE}|\])?(?P<sign>{_EQUALS}){_VALUE}")
_LISTED = re.compile(rf"{_SUFFIX}{_QUOTE} {{0,2}}, {{0,2}}{_QUOTED}")
_NAMED = re.compile(rf"{_SUFFIX}(?:{_QUOTE})?[\s,]{{1,40}}+(?:{_QUOTE})?[Vv]alue(?:{_QUOTE})? {{0,3}}[:=] {{0,3}}{_VALUE}")
_TAGGED = re.compile(r"[\w.:\-]{0,40}+>(?P<secret>[^<\s][^<\n]*+)")
_FLAGGED = re.compile(rf"{_SUFFIX} {{1,8}}(?!-){_VALUE}")
_SPACED = re.compile(rf"{_SUFFIX} {{1,8}}: {{1,8}}{_VALUE}")
_PROSE = re.compile(r"s? (?:is|was|to)(?: now)?:? {1,3}(?=\S{0,200}\d)" + _VALUE)
_SHORT_ASSIGNED = re.compile(rf"[0-9_]{{0,3}}+(?:{_QUOTE}|\])?(?P<sign>{_EQUALS}){_VALUE}")

_FLAG_BACK = 60
_BLOCK_MARKS = frozenset({"|", ">", "|-", ">-", "|+", ">+"})


def _without_values(text: str) -> str:
    """Hide what stands behind a key that says that it is secret. A value may have further keys in it, whose values reach further."""
    parts: list[str] = []
    at = 0
    for key in secret_shapes.KEYS.finditer(text.translate(_LOWER)):
        span = _value(text, key)
        if span is None or span[1] <= at:
            continue
        if not parts or span[0] > at:
            parts += [text[at : span[0]], HIDDEN]
        at = span[1]
    return "".join([*parts, text[at:]])


def _value(text: str, key: re.Match[str]) -> tuple[int, int] | None:
    """Where the value stands that belongs to a key, if it is one that is hidden."""
    kind, end = key.lastgroup, key.end()
    if kind in {"short", "weak"} and not _is_word(text, key.start(), end):
        return None
    rules = (_SHORT_ASSIGNED,) if kind in {"short", "weak"} else (_ASSIGNED, _SPACED, _NAMED, _LISTED, _TAGGED, _PROSE)
    if kind != "weak" and _is_flag(text, key.start()):
        rules = (*rules, _FLAGGED)
    found = next((match for rule in rules if (match := rule.match(text, end))), None)
    if found is None or text.startswith(HIDDEN, found.start("secret") - 1) or text.startswith(HIDDEN, found.start("secret")):
        return None
    start, stop = found.span("secret")
    if kind == "weak" and not secret_shapes.is_random(text[start:stop]):
        return None
    if text[start] not in "\"'`\\" and _is_to_the_end(kind, found):
        stop = _line_end(text, start)
    return start, _block_end(text, start, stop) if text[start:stop].strip() in _BLOCK_MARKS else stop


def _is_to_the_end(kind: str | None, found: re.Match[str]) -> bool:
    """Headers have several words; so may a password behind a colon."""
    if kind == "header":
        return True
    return kind == "password" and found.re is _ASSIGNED and ":" in found["sign"] and "=" not in found["sign"]


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether it stands by itself: no letter beside it, but for a new word of camel case."""
    before, after = text[start - 1 : start], text[end : end + 1]
    begins = not before.isalpha() or (before.islower() and text[start].isupper())
    return begins and not after.isalpha()


def _is_flag(text: str, start: int) -> bool:
    words = text[max(0, start - _FLAG_BACK) : start].rsplit(None, 1)
    return bool(words) and words[-1].lstrip("\"'([{,").startswith("-")


def _block_end(text: str, start: int, at: int) -> int:
    """Where a block scalar of YAML ends that begins behind this line: with the last line that is indented further."""
    line = text[text.rfind("\n", 0, start) + 1 : start]
    further = "\n" + " " * (len(line) - len(line.lstrip()) + 1)
    while text.startswith(further, at):
        at = _line_end(text, at + 1)
    return at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


# Tokens that are known by their shape, and what is too random to be anything else ----------------------------------------------------


def _without_shapes(text: str) -> str:
    return secret_shapes.RUN.sub(_judged, text)


def _judged(run: re.Match[str]) -> str:
    text = secret_shapes.SHAPES.sub(HIDDEN, run[0])
    return secret_shapes.DENSE.sub(lambda found: HIDDEN if secret_shapes.is_dense(found[0]) else found[0], text)
