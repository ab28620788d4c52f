from math import isclose, isfinite

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoscaler.policyfile import durations, quantities
from autoscaler.policyfile.durations import format_duration, parse_duration
from autoscaler.policyfile.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("0", 0, id="str 0"),
        pytest.param(0, 0, id="int 0"),
        pytest.param("0s", 0, id="str 0s"),
        pytest.param("15s", 15, id="str 15s"),
        pytest.param("5m", 300, id="str 5m"),
        pytest.param("1h30m", 5400, id="str 1h30m"),
        pytest.param("1w2d", 777_600, id="str 1w2d"),
        pytest.param("1m500ms", 60.5, id="str 1m500ms"),
        pytest.param("1.5h", 5400, id="str 1.5h"),
        pytest.param(" 2m ", 120, id="str 2m"),
    ],
)
def test_duration(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(15, "15 has no unit; expected a duration such as 15s or 15m", id="no-unit"),
        pytest.param("15", 'expected a duration with its unit, such as 30s, 5m or 1h30m, got the text "15"', id="no-unit-quoted"),
        pytest.param("5 m", 'got the text "5 m"', id="space"),
        pytest.param("5min", 'got the text "5min"', id="unit"),
        pytest.param("-5m", 'got the text "-5m"', id="negative"),
        pytest.param("5M", 'got the text "5M"', id="capital"),
        pytest.param("", 'got the text ""', id="empty"),
        pytest.param("5m5m", "each unit once", id="twice"),
        pytest.param("5s1m", "the largest first", id="order"),
        pytest.param(True, "got true", id="bool"),
        pytest.param((), "got a list", id="list"),
        pytest.param(None, "got nothing", id="null"),
        pytest.param("9" * 400 + "s", "expected a duration", id="endless"),
    ],
)
def test_no_duration(given: object, words: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_duration(given)
    assert words in str(caught.value)


@given(st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000))
def test_duration_is_read_as_written(seconds: float) -> None:
    assert isclose(parse_duration(format_duration(seconds)), seconds, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("85", 85, id="str 85"),
        pytest.param(85, 85, id="int 85"),
        pytest.param(0.5, 0.5, id="float 0.5"),
        pytest.param("1500m", 1.5, id="str 1500m"),
        pytest.param("2k", 2000, id="str 2k"),
        pytest.param("1.5M", 1_500_000, id="str 1.5M"),
        pytest.param("3Ki", 3072, id="str 3Ki"),
        pytest.param("2Gi", 2**31, id="str 2Gi"),
        pytest.param("1E", 1e18, id="str 1E"),
        pytest.param("1E3", 1000, id="str 1E3"),
        pytest.param("1e-3", 0.001, id="str 1e-3"),
        pytest.param("100n", 1e-7, id="str 100n"),
        pytest.param("100u", 1e-4, id="str 100u"),
        pytest.param(".5", 0.5, id="str .5"),
        pytest.param("5.", 5, id="str 5."),
        pytest.param("-3", -3, id="str -3"),
    ],
)
def test_quantity(text: object, number: float) -> None:
    assert isclose(parse_quantity(text), number, rel_tol=1e-15)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param("85rps", 'got the text "85rps" (without a unit of measure: 85)', id="unit"),
        pytest.param("85 k", "(without a space: 85k)", id="space"),
        pytest.param("2K", "(thousands are a small k: 2k)", id="capital-k"),
        pytest.param("70%", "(a share is a plain ratio: 0.7)", id="percent"),
        pytest.param("1,5", "expected a quantity such as 85, 1500m, 2k or 1Gi", id="comma"),
        pytest.param("", 'got the text ""', id="empty"),
        pytest.param("many", 'got the text "many"', id="word"),
        pytest.param("1e999", "expected a quantity", id="endless"),
        pytest.param(float("nan"), "got nan", id="nan"),
        pytest.param(float("inf"), "got inf", id="infinite"),
        pytest.param(True, "got true", id="bool"),
        pytest.param({}, "got a mapping", id="mapping"),
    ],
)
def test_no_quantity(given: object, words: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_quantity(given)
    assert words in str(caught.value)


@given(st.text(max_size=12) | st.from_regex(durations.PATTERN) | st.from_regex(quantities.PATTERN))
@example("1e99")
def test_any_text_is_a_number_or_a_sentence(text: str) -> None:
    for parse in (parse_duration, parse_quantity):
        try:
            number = parse(text)
        except ValueError as error:
            told = str(error)
            assert "expected" in told
        else:
            assert isfinite(number)
