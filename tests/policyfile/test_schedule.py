from datetime import UTC, datetime, timedelta
from math import inf
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policyfile.schedule import CronWindow, checked_cron, checked_zone, expand

BERLIN, NEW_YORK, SYDNEY, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Sydney", "Australia/Lord_Howe"


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def utc(*times: float) -> list[str]:
    return [datetime.fromtimestamp(time, UTC).strftime("%m-%d %H:%M") for time in times]


def opened(window: CronWindow, start: str, end: str) -> list[list[str]]:
    return [utc(row.start_s, row.end_s) for row in expand([window], at(start), at(end))]


DAY, NIGHT = ("0 8 * * *", "0 18 * * *"), ("0 22 * * *", "0 6 * * *")


@pytest.mark.parametrize(
    ("window", "start", "end", "rows"),
    [
        pytest.param(
            CronWindow(*DAY),
            "2026-06-01T00:00",
            "2026-06-03T00:00",
            [["06-01 08:00", "06-01 18:00"], ["06-02 08:00", "06-02 18:00"]],
            id="days",
        ),
        pytest.param(CronWindow(*DAY), "2026-06-01T12:00", "2026-06-01T13:00", [["06-01 08:00", "06-01 18:00"]], id="open-all-along"),
        pytest.param(CronWindow(*DAY), "2026-06-01T08:00", "2026-06-01T08:00", [["06-01 08:00", "06-01 18:00"]], id="opens-now"),
        pytest.param(CronWindow(*DAY), "2026-06-01T18:00", "2026-06-01T19:00", [], id="closes-now"),
        pytest.param(CronWindow(*DAY), "2026-06-01T19:00", "2026-06-02T07:59", [], id="closed-all-along"),
        pytest.param(CronWindow(*NIGHT), "2026-06-01T00:00", "2026-06-01T12:00", [["05-31 22:00", "06-01 06:00"]], id="over-midnight"),
        pytest.param(
            CronWindow("0 8 * * 1-5", "0 18 * * 1-5"),
            "2026-06-05T00:00",
            "2026-06-08T12:00",
            [["06-05 08:00", "06-05 18:00"], ["06-08 08:00", "06-08 18:00"]],
            id="workdays",
        ),
        pytest.param(
            CronWindow("0 18 * * FRI", "0 6 * * MON"),
            "2026-06-06T00:00",
            "2026-06-07T00:00",
            [["06-05 18:00", "06-08 06:00"]],
            id="weekend",
        ),
        pytest.param(
            CronWindow("0 0 24 12 *", "0 0 2 1 *"),
            "2026-12-30T00:00",
            "2026-12-31T00:00",
            [["12-24 00:00", "01-02 00:00"]],
            id="over-new-year",
        ),
        pytest.param(
            CronWindow("0 * * * *", "0 18 * * *"),
            "2026-06-01T20:30",
            "2026-06-01T20:45",
            [["06-01 18:00", "06-02 18:00"]],
            id="starts-all-day",
        ),
        pytest.param(
            CronWindow("0 8 * * *", "0 8,18 * * *"),
            "2026-06-01T07:00",
            "2026-06-01T09:00",
            [["06-01 08:00", "06-01 18:00"]],
            id="start-wins",
        ),
        pytest.param(
            CronWindow(*DAY, BERLIN), "2026-01-05T00:00", "2026-01-06T00:00", [["01-05 07:00", "01-05 17:00"]], id="winter-in-berlin"
        ),
        pytest.param(
            CronWindow(*DAY, BERLIN), "2026-07-06T00:00", "2026-07-07T00:00", [["07-06 06:00", "07-06 16:00"]], id="summer-in-berlin"
        ),
        # 29 March 2026, 02:00 -> 03:00: what is skipped happens right after.
        pytest.param(
            CronWindow("30 2 * * *", "0 12 * * *", BERLIN),
            "2026-03-28T12:00",
            "2026-03-29T12:00",
            [["03-29 01:00", "03-29 10:00"]],
            id="start-in-the-skipped-hour",
        ),
        pytest.param(
            CronWindow("0 1 * * *", "30 2 * * *", BERLIN),
            "2026-03-28T12:00",
            "2026-03-29T12:00",
            [["03-29 00:00", "03-29 01:00"]],
            id="end-in-the-skipped-hour",
        ),
        # 25 October 2026, 03:00 -> 02:00: what comes twice happens once, the first time.
        pytest.param(
            CronWindow("30 2 * * *", "0 12 * * *", BERLIN),
            "2026-10-24T12:00",
            "2026-10-25T12:00",
            [["10-25 00:30", "10-25 11:00"]],
            id="start-in-the-doubled-hour",
        ),
        pytest.param(
            CronWindow("0 1 * * *", "30 2 * * *", BERLIN),
            "2026-10-24T12:00",
            "2026-10-25T12:00",
            [["10-24 23:00", "10-25 00:30"]],
            id="end-in-the-doubled-hour",
        ),
        pytest.param(
            CronWindow("45 2 * * *", "0 4 * * *", BERLIN),
            "2026-10-25T01:15",
            "2026-10-25T01:20",
            [["10-25 00:45", "10-25 03:00"]],
            id="asked-in-the-second-of-the-doubled-hours",
        ),
        pytest.param(
            CronWindow("30 1 * * *", "30 4 * * *", NEW_YORK),
            "2026-11-01T00:00",
            "2026-11-01T12:00",
            [["11-01 05:30", "11-01 09:30"]],
            id="new-york",
        ),
        pytest.param(
            CronWindow("30 2 * * *", "0 9 * * *", SYDNEY),
            "2026-10-03T12:00",
            "2026-10-03T20:00",
            [["10-03 16:00", "10-03 22:00"]],
            id="sydney",
        ),
        pytest.param(
            CronWindow("15 2 * * *", "0 9 * * *", LORD_HOWE),
            "2026-10-03T12:00",
            "2026-10-03T20:00",
            [["10-03 15:30", "10-03 22:00"]],
            id="half-an-hour-on-lord-howe",
        ),
    ],
)
def test_expand(window: CronWindow, start: str, end: str, rows: list[list[str]]) -> None:
    assert opened(window, start, end) == rows


def test_rows_of_all_windows_with_their_bounds() -> None:
    windows = [CronWindow(*NIGHT, max_replicas=3), CronWindow(*DAY, min_replicas=10)]
    rows = expand(windows, at("2026-06-01T07:00"), at("2026-06-01T23:00"))
    assert [(str(row.min_replicas), str(row.max_replicas)) for row in rows] == [("10", "nan"), ("nan", "3")]
    assert [utc(row.start_s, row.end_s) for row in rows] == [["06-01 08:00", "06-01 18:00"], ["06-01 22:00", "06-02 06:00"]]


def test_a_window_whose_ends_all_fall_on_starts_stays_open() -> None:
    (row,) = expand([CronWindow("0 * * * *", "0 12 * * *")], at("2026-06-01T00:30"), at("2026-06-08T00:30"))
    assert row.start_s <= at("2026-06-01T00:30")
    assert row.end_s > at("2026-06-08T00:30")
    assert row.end_s < inf


ZONES = st.sampled_from(["UTC", BERLIN, NEW_YORK, SYDNEY, LORD_HOWE, "Asia/Kolkata"])
MINUTES, HOURS, DAYS = (
    st.sampled_from(["0", "30", "15,45"]),
    st.sampled_from(["1", "2", "3", "0,2", "22"]),
    st.sampled_from(["*", "0", "1-5"]),
)
CRONS = st.builds(lambda minute, hour, day: f"{minute} {hour} * * {day}", MINUTES, HOURS, DAYS)
# Around the days on which clocks change, in 2026.
MOMENTS = st.sampled_from(["2026-03-08", "2026-03-29", "2026-04-05", "2026-06-15", "2026-10-04", "2026-10-25", "2026-11-01"])


QUARTER = timedelta(minutes=15)


def fires(cron: str, zone: str, start: datetime, days: int) -> list[float]:
    """When an expression of quarter hours happens, found by walking over every quarter of an hour of real time."""
    minutes, hours, _, _, weekdays = (_values(text, top) for text, top in zip(cron.split(), (60, 24, 32, 13, 7), strict=True))
    found = []
    reached = start.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - QUARTER
    for step in range(days * 96):
        moment = start + step * QUARTER
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
        # Wall times not reached before: more than one where some were skipped, none where they come a second time.
        fresh = [reached + (n + 1) * QUARTER for n in range((wall - reached) // QUARTER)]
        reached = max(reached, wall)
        if any(time.minute in minutes and time.hour in hours and time.isoweekday() % 7 in weekdays for time in fresh):
            found.append(moment.timestamp())
    return found


def _values(text: str, top: int) -> set[int]:
    if text == "*":
        return set(range(top))
    if "-" in text:
        low, high = text.split("-")
        return set(range(int(low), int(high) + 1))
    return {int(part) for part in text.split(",")}


@given(CRONS, CRONS, ZONES, MOMENTS, st.integers(-30, 30))
@settings(max_examples=50)
def test_as_walking_over_time(start: str, end: str, zone: str, day: str, hour: int) -> None:
    asked = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour)
    walk = (zone, asked - timedelta(days=8), 10)
    events = sorted([(time, 1) for time in fires(start, *walk)] + [(time, 0) for time in fires(end, *walk)])
    rows = expand([CronWindow(start, end, zone)], asked.timestamp(), asked.timestamp() + 86400)
    for time in range(int(asked.timestamp()), int(asked.timestamp()) + 86400, 600):
        last = [kind for moment, kind in events if moment <= time][-1:]
        assert any(row.start_s <= time < row.end_s for row in rows) == (last == [1]), utc(time)


@given(CRONS, CRONS, ZONES, MOMENTS, st.integers(0, 48 * 60), st.integers(1, 72 * 60))
def test_two_spans_say_what_one_says(start: str, end: str, zone: str, day: str, first: int, second: int) -> None:
    begin = at(day)
    middle, close = begin + first * 60, begin + (first + second) * 60
    window = [CronWindow(start, end, zone)]
    whole, parts = expand(window, begin, close), (*expand(window, begin, middle), *expand(window, middle, close))
    for minute in range(0, first + second, 13):
        time = begin + minute * 60
        assert any(row.start_s <= time < row.end_s for row in whole) == any(row.start_s <= time < row.end_s for row in parts)


@given(st.text(st.sampled_from("0123456789*/,-LW#?MONSUJAN @"), max_size=24) | st.text(max_size=24))
def test_any_text_is_an_expression_or_a_sentence(text: str) -> None:
    try:
        cron = checked_cron(text)
    except ValueError as error:
        sentence = str(error)
    else:
        expand([CronWindow(cron, "0 0 1 1 *")], at("2026-06-01"), at("2026-06-02"))
        sentence = "expected"
    assert "expected" in sentence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("Europe/Berln", "did you mean Europe/Berlin?", id="misspelt"),
        pytest.param("europe/berlin", "did you mean Europe/Berlin?", id="case"),
        pytest.param("Berlin", "such as Europe/Berlin or UTC", id="city"),
        pytest.param("", "expected an IANA name", id="empty"),
        pytest.param("Europe", "expected an IANA name", id="directory"),
        pytest.param("../../etc/passwd", "expected an IANA name", id="path"),
        pytest.param("UTC\0", "expected an IANA name", id="nul"),
        pytest.param("x" * 5000, "expected an IANA name", id="long"),
    ],
)
def test_no_zone(name: str, words: str) -> None:
    with pytest.raises(ValueError, match="is no known time zone") as caught:
        checked_zone(name)
    assert words in str(caught.value)
