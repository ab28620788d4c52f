"""Pages carry everything in themselves, charts lose no peak, and what users wrote is text, never markup."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from autoscaler.cli.report.charts import Axis, Chart, Line, Points, svg
from autoscaler.cli.report.page import bullets, heading, page, paragraph, preformatted, table

EVIL = '<script>alert("&")</script>'


def parsed(figure: str) -> ET.Element:
    """The figure as XML: whatever is not well formed does not pass."""
    return ET.fromstring(figure)  # noqa: S314 - our own


def chart(*marks: Line | Points, **changes: object) -> str:
    return svg(Chart("Pods", changes.pop("x", Axis("hours")), changes.pop("y", Axis("pods")), marks, **changes))  # type: ignore[arg-type]


def test_a_line_is_drawn_where_it_belongs() -> None:
    """0 to 10 on both axes: from the lower left to the upper right corner of the plot."""
    x = np.array([0.0, 10.0])
    path = parsed(chart(Line("load", x, x), y=Axis("pods", low=0.0, high=10.0))).find(".//path")
    assert path is not None
    numbers = [float(number) for number in re.findall(r"[\d.]+", path.get("d", ""))]
    left, bottom, right, top = numbers
    assert (left, bottom, top) == (64, 240, 12)
    assert right == pytest.approx(944, abs=40)


def test_gaps_are_not_drawn_over() -> None:
    path = parsed(chart(Line("load", np.arange(5.0), np.array([1, 2, np.nan, 3, 4])))).find(".//path")
    assert path is not None
    assert path.get("d", "").count("M") == 2


def test_a_peak_of_one_step_in_a_month_is_seen() -> None:
    y = np.ones(200_000)
    y[123_456] = 900.0
    figure = chart(Line("load", np.arange(200_000.0), y))
    assert len(figure) < 40_000
    description = parsed(figure).find(".//desc")
    assert description is not None
    assert description.text == "load: from 1 to 900"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        pytest.param(0.0, 10.0, ["0", "2", "4", "6", "8", "10"], id="ten"),
        pytest.param(0.0, 0.008, ["0", "0.002", "0.004", "0.006", "0.008"], id="small"),
        pytest.param(1.0, 2.0, ["1", "1.2", "1.4", "1.6", "1.8", "2"], id="offset"),
        pytest.param(-1.0, 1.0, ["-1", "-0.5", "0", "0.5", "1"], id="both-signs"),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[str]) -> None:
    figure = parsed(chart(Line("a", np.arange(2.0), np.array([low, high])), x=Axis("t", ticks=[]), y=Axis("y", low=low, high=high)))
    assert [text.text for text in figure.iter("text") if text.get("text-anchor") == "end"] == ticks


@pytest.mark.parametrize(
    "marks",
    [
        pytest.param((), id="nothing"),
        pytest.param((Line("flat", np.arange(3.0), np.ones(3)),), id="constant"),
        pytest.param((Line("unknown", np.arange(3.0), np.full(3, np.nan)),), id="all-gaps"),
        pytest.param((Line("one", np.zeros(1), np.ones(1), area=True),), id="one-point"),
        pytest.param((Points("none", np.zeros(0), np.zeros(0), joined=True),), id="no-points"),
    ],
)
def test_odd_data_make_a_chart_too(marks: tuple[Line | Points, ...]) -> None:
    assert "nan" not in re.sub(r"no values|<[^>]*title>", "", chart(*marks)).lower()
    parsed(chart(*marks))


def test_whatever_users_wrote_is_text() -> None:
    figure = chart(Points(EVIL, np.zeros(1), np.zeros(1), labels=[EVIL]), bands=[(0, 1)], bands_mean=EVIL)
    whole = page(EVIL, [heading(EVIL), paragraph(EVIL), bullets([EVIL]), preformatted(EVIL), table([EVIL], [[EVIL]]), figure])
    assert "<script" not in whole
    assert whole.count("&lt;script&gt;") == 12
    assert not re.search(r"https?:|src=|<link|url\(", whole)
