"""Charts as SVG text: lines over an axis, and points with curves. Colours come from the page's style sheet (``s0`` … ``s7``).

Whatever is drawn is also said: every chart has a title and a description for who cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

import numpy as np

from autoscaler.core.types import Floats

WIDTH, HEIGHT = 960, 280
COLOURS = 8

_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 12, 40
_TICKS = 6
_POINTS_MAX = 1200

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One series: ``x`` rising; NaN in ``y`` leaves a gap. ``step``: a value holds until the next. ``area``: filled down to 0."""

    name: str
    x: Floats
    y: Floats
    colour: int = 0
    step: bool = False
    area: bool = False


@dataclass(frozen=True, slots=True)
class Points:
    """Single points, joined by a thin line if ``joined``; ``labels`` show when pointed at."""

    name: str
    x: Floats
    y: Floats
    colour: int = 0
    joined: bool = False
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows. ``low`` and ``high`` None: from the data; ``ticks`` None: round numbers."""

    title: str
    form: Format = lambda value: f"{value:g}"
    low: float | None = None
    high: float | None = None
    ticks: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: what it is called, its axes, what is drawn, and bands (from, to on the x axis) that are shaded, with their meaning."""

    title: str
    x: Axis
    y: Axis
    marks: Sequence[Line | Points]
    bands: Sequence[tuple[float, float]] = ()
    bands_mean: str = ""


def svg(chart: Chart) -> str:
    """The chart with its legend below."""
    marks = [_thinned(mark) for mark in chart.marks]
    spots = [mark for mark in marks if mark.x.size]
    x = _Scale(chart.x, [mark.x for mark in spots], _LEFT, WIDTH - _RIGHT)
    y = _Scale(chart.y, [mark.y for mark in spots], HEIGHT - _BOTTOM, _TOP)
    parts = [*_bands(chart, x), *_grid(x, y), *(_drawn(mark, x, y) for mark in spots)]
    described = "; ".join(_described(mark, chart.y.form) for mark in spots)
    return (
        f'<figure><figcaption>{escape(chart.title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(chart.title)}</title><desc>{escape(described)}</desc>{''.join(parts)}</svg>{_legend(chart)}</figure>"
    )


class _Scale:
    """From values to places in the picture."""

    def __init__(self, axis: Axis, columns: Sequence[Floats], begin: float, end: float) -> None:
        self.axis, self.begin, self.end = axis, begin, end
        values = np.concatenate([column[np.isfinite(column)] for column in columns]) if columns else np.zeros(0)
        low = float(values.min()) if values.size else 0.0
        high = float(values.max()) if values.size else 1.0
        self.low = low if axis.low is None else axis.low
        self.high = high if axis.high is None else axis.high
        if not self.high > self.low:
            self.high = self.low + (abs(self.low) or 1.0)
        self.ticks = list(_round_ticks(self.low, self.high)) if axis.ticks is None else list(axis.ticks)
        if axis.ticks is None and axis.high is None and self.ticks and self.ticks[-1] < self.high:
            self.high += 0.04 * (self.high - self.low)

    def place(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def _round_ticks(low: float, high: float) -> Sequence[float]:
    """Some six round numbers within [low, high]."""
    raw = (high - low) / _TICKS
    unit = 10.0 ** floor(log10(raw))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * (1 - 1e-9))
    first = np.ceil(low / step - 1e-9)
    return [float(step * k) + 0.0 for k in np.arange(first, high / step + 1e-9)]  # + 0.0: no -0


def _thinned(mark: Line | Points) -> Line | Points:
    """The mark with at most some thousand points: of each bucket the lowest and the highest, so that no peak is lost."""
    if isinstance(mark, Points) or mark.x.size <= _POINTS_MAX:
        return mark
    size = -(-mark.x.size // (_POINTS_MAX // 2))
    keep: list[int] = []
    for begin in range(0, mark.x.size, size):
        piece = mark.y[begin : begin + size]
        if np.isnan(piece).all():
            keep.append(begin)
            continue
        keep += sorted({begin + int(np.nanargmin(piece)), begin + int(np.nanargmax(piece))})
    return Line(mark.name, mark.x[keep], mark.y[keep], mark.colour, mark.step, mark.area)


def _bands(chart: Chart, x: _Scale) -> list[str]:
    found = []
    for begin, end in chart.bands:
        left, right = (min(max(x.place(edge), _LEFT), WIDTH - _RIGHT) for edge in (begin, end))
        height = HEIGHT - _TOP - _BOTTOM
        found.append(f'<rect class="band" x="{left:.1f}" y="{_TOP}" width="{max(right - left, 1):.1f}" height="{height}"/>')
    return found


def _grid(x: _Scale, y: _Scale) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y.place(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(y.axis.form(tick))}</text>')
    for tick in x.ticks:
        at = x.place(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">{escape(x.axis.form(tick))}</text>')
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.axis.title)}</text>')
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y.axis.title)}</text>')
    return parts


def _drawn(mark: Line | Points, x: _Scale, y: _Scale) -> str:
    colour = f"s{mark.colour % COLOURS}"
    places = [(x.place(float(a)), y.place(float(b))) for a, b in zip(mark.x, mark.y, strict=True)]
    if isinstance(mark, Points):
        labels = list(mark.labels) or [""] * len(places)
        dots = "".join(
            f'<circle class="{colour}" cx="{a:.1f}" cy="{b:.1f}" r="3.5"><title>{escape(f"{mark.name} {label}".strip())}</title></circle>'
            for (a, b), label in zip(places, labels, strict=True)
            if isfinite(a) and isfinite(b)
        )
        return (f'<path class="thin {colour}" d="{_path(places, step=False)}"/>' if mark.joined else "") + dots
    path = _path(places, step=mark.step)
    if mark.area:
        ground = y.place(max(0.0, y.low))
        return f'<path class="area {colour}" d="{path} L{places[-1][0]:.1f},{ground:.1f} L{places[0][0]:.1f},{ground:.1f} Z"/>'
    return f'<path class="line {colour}" d="{path}"/>'


def _path(places: Sequence[tuple[float, float]], *, step: bool) -> str:
    words, pen = [], False
    for a, b in places:
        if not isfinite(b):
            pen = False
            continue
        if pen and step:
            words.append(f"H{a:.1f}V{b:.1f}")
        else:
            words.append(f"{'L' if pen else 'M'}{a:.1f},{b:.1f}")
        pen = True
    return "".join(words) or f"M{places[0][0]:.1f},0"


def _described(mark: Line | Points, form: Format) -> str:
    values = mark.y[np.isfinite(mark.y)]
    if not values.size:
        return f"{mark.name}: no values"
    return f"{mark.name}: from {form(float(values.min()))} to {form(float(values.max()))}"


def _legend(chart: Chart) -> str:
    entries = [f'<span class="key s{mark.colour % COLOURS}"></span>{escape(mark.name)}' for mark in chart.marks if mark.name]
    if chart.bands and chart.bands_mean:
        entries.append(f'<span class="key band"></span>{escape(chart.bands_mean)}')
    return f'<p class="legend">{" ".join(f"<span>{entry}</span>" for entry in entries)}</p>' if entries else ""
