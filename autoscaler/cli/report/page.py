"""A page of headings, sentences, tables and charts, as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root{--ink:#1d232b;--dim:#5b6673;--paper:#fff;--rule:#dde3ea;--band:#f3d9a4;
--s0:#0b62c4;--s1:#c2410c;--s2:#15803d;--s3:#7c3aed;--s4:#a3a9b2;--s5:#b91c5c;--s6:#0e7490;--s7:#a16207}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--dim:#9aa5b1;--paper:#14181d;--rule:#2c343d;--band:#5c4a1e;
--s0:#6cb0ff;--s1:#fb923c;--s2:#4ade80;--s3:#b794ff;--s4:#7d8792;--s5:#f472b6;--s6:#22d3ee;--s7:#facc15}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem}h3{font-size:1rem;margin-top:1.6rem}
p.lead{font-size:1.1rem}p.dim,figcaption,.legend,svg text{color:var(--dim)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.9rem;display:block;overflow-x:auto}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th:first-child,td:first-child,.words th:last-child,.words td:last-child{text-align:left}.words td:last-child{white-space:normal}
tr.own td{font-weight:600}
figure{margin:1rem 0}svg{width:100%;height:auto}svg text{font-size:11px;fill:currentColor}
.grid{stroke:var(--rule)}.line{fill:none;stroke:currentColor;stroke-width:1.5}.thin{fill:none;stroke:currentColor;opacity:.5}
.area{fill:currentColor;opacity:.18;stroke:none}circle{fill:currentColor}.band{fill:var(--band);background:var(--band)}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}.s7{color:var(--s7)}
.legend span{margin-right:1rem}.key{display:inline-block;width:.8em;height:.8em;margin-right:.35em!important;background:currentColor;
vertical-align:-.05em;border-radius:2px}.key.band{background:var(--band)}code{background:var(--rule);padding:0 .25em;border-radius:3px}
pre{background:var(--rule);padding:.6rem;overflow-x:auto;border-radius:4px}
""".strip()


def page(title: str, parts: Sequence[str]) -> str:
    """The whole file. ``parts`` are HTML."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` ``lead`` or ``dim``."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(texts: Sequence[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def preformatted(text: str) -> str:
    """Text as it stands."""
    return f"<pre>{escape(text)}</pre>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], own: Sequence[int] = (), *, words: bool = False) -> str:
    """A table; rows numbered in ``own`` stand out, and the last column is text where there are ``words`` in it."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = []
    for number, row in enumerate(rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        lines.append(f'<tr class="own">{cells}</tr>' if number in own else f"<tr>{cells}</tr>")
    kind = ' class="words"' if words else ""
    return f"<table{kind}><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
