"""Cron windows with time zones, expanded into the rows that the core compares with the time.

A window opens at a start and closes at the next end; a start while it is open changes nothing, and where both fall on one moment it
stays open. Daylight saving is as in Debian's cron: what falls into the hour that is skipped happens right after it, what falls into
the hour that happens twice happens once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf, nan
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from autoscaler.core.spec import ScheduleRow
from autoscaler.policyfile.problems import did_you_mean, got

AHEAD_S = 48 * 3600.0
"""How far ahead rows are expanded at load."""

_FIELDS = 5
_EXAMPLE = "expected five fields (minute, hour, day of month, month, day of week) such as 0 8 * * 1-5"
_OVERLAP = timedelta(hours=25)
"""More than any clock has been set back at once: where to start so that no moment is missed."""
_PROBE = datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class CronWindow:
    """A window of a policy file; NaN leaves a bound as it is."""

    start: str
    end: str
    zone: str = "UTC"
    min_replicas: float = nan
    max_replicas: float = nan


def checked_cron(text: str) -> str:
    """The expression, if it is one that happens. Raises ValueError with a sentence."""
    fields = text.split()
    if len(fields) != _FIELDS:
        raise ValueError(f"{_EXAMPLE}, got {got(text)}")
    try:
        next(CronSim(text, _PROBE))
    except CronSimError as error:
        raise ValueError(f"{str(error).lower()} in {got(text)}; {_EXAMPLE}") from error
    except StopIteration:
        raise ValueError(f"{got(text)} never happens; {_EXAMPLE}") from None
    return " ".join(fields)


def checked_zone(name: str) -> str:
    """The name, if it is a known time zone. Raises ValueError with a sentence."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        close = did_you_mean(name, sorted(available_timezones()), otherwise="")
        hint = f"; {close}" if close.startswith("did") else ", such as Europe/Berlin or UTC"
        raise ValueError(f"{got(name)} is no known time zone; expected an IANA name{hint}") from None
    return name


def expand(schedule: Iterable[CronWindow], from_s: float, until_s: float) -> tuple[ScheduleRow, ...]:
    """The rows of all windows that are open at some moment of [from_s, until_s], in order of their start.

    A row that is open at either end keeps its own start and end, outside the span. Times in seconds since the epoch.
    """
    rows = [
        ScheduleRow(start, end, window.min_replicas, window.max_replicas)
        for window in schedule
        for start, end in _open_times(window, from_s, until_s)
    ]
    return tuple(sorted(rows, key=lambda row: (row.start_s, row.end_s)))


def _open_times(window: CronWindow, from_s: float, until_s: float) -> Iterator[tuple[float, float]]:
    """The (start, end) of a window's openings, oldest first."""
    opened, closed = _last(window.start, window.zone, from_s), _last(window.end, window.zone, from_s)
    if opened is None or (closed is not None and closed > opened):
        start = _next(window.start, window.zone, from_s)
    else:
        start = opened if closed is None else _next(window.start, window.zone, closed - 1)
    while start is not None and start <= until_s:
        end = _next(window.end, window.zone, start)
        while end is not None and end <= until_s and _next(window.start, window.zone, end - 1) == end:
            end = _next(window.end, window.zone, end)
        if end is None:
            yield start, inf
            return
        yield start, end
        start = _next(window.start, window.zone, end)


def _next(cron: str, zone: str, after_s: float) -> float | None:
    """The first time after ``after_s`` that the expression names."""
    local = datetime.fromtimestamp(after_s, ZoneInfo(zone))
    # The library drops the zone's second offset for an hour that happens twice, so start early and skip what is past.
    times = (moment.timestamp() for moment in CronSim(cron, local - _OVERLAP))
    return next((moment for moment in times if moment > after_s), None)


def _last(cron: str, zone: str, at_s: float) -> float | None:
    """The last time at or before ``at_s`` that the expression names."""
    local = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    times = (moment.timestamp() for moment in CronSim(cron, local + _OVERLAP, reverse=True))
    return next((moment for moment in times if moment <= at_s), None)
