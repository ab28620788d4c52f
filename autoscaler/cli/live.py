"""What people watch while the demo runs: a table that follows the workloads on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isnan, nan
from typing import Any, TypeAlias

from rich.table import Table
from rich.text import Text

Row: TypeAlias = Mapping[str, Any]
"""A row of :meth:`autoscaler.ports.Views.workloads`."""

UNKNOWN = "-"


def table(rows: Sequence[Row], title: str, caption: str) -> Table:
    """The workloads as they are now: load, demand, replicas (current → desired), ready, and why."""
    found = Table(title=title, caption=caption, title_justify="left", caption_justify="left", expand=True, highlight=False)
    found.add_column("workload", no_wrap=True)
    for name in ("load", "demand", "replicas", "ready"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("why", ratio=1)
    for row in rows:
        moving = _differ(row["current"], row["desired"])
        found.add_row(
            Text(_name(row)),
            Text(_loads(row)),
            Text(_number(row["demand"], 1)),
            Text(_replicas(row), style="bold" if moving else ""),
            Text(_number(row["ready"], 0), style="yellow" if _differ(row["current"], row["ready"]) else ""),
            Text(str(row["why"])),
        )
    return found


def incident_table(rows: Sequence[Row], caption: str) -> Table:
    """What is or was lately wrong: where, the cause, its phase, how many pods, and what was done about it or why not."""
    found = Table(caption=caption, caption_justify="left", expand=True, highlight=False)
    for name in ("incident", "cause", "phase"):
        found.add_column(name, no_wrap=True)
    found.add_column("pods", justify="right", no_wrap=True)
    found.add_column("done", ratio=1)
    for row in rows:
        style = _STYLES.get(row["phase"], "")
        found.add_row(Text(_where(row)), Text(row["cause"]), Text(row["phase"], style=style), Text(_pods(row)), Text(_done(row)))
    if not rows:
        found.add_row(Text("none", style="dim"))
    return found


_STYLES = {"firing": "bold red", "flapping": "bold red", "pending": "yellow", "resolved": "green"}


@dataclass(slots=True)
class Lines:
    """Plain lines: one for each change of a count or turn of an incident, and from time to time one for all workloads together."""

    _desired: dict[str, float] = field(default_factory=dict)
    _phases: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def changes(self, rows: Sequence[Row]) -> list[str]:
        """A line for each workload whose count was changed since the last look; its first count is none."""
        lines = []
        for row in rows:
            name, desired = _name(row), float(row["desired"])
            before = self._desired.get(name, nan)
            if not isnan(desired):
                self._desired[name] = desired
            if _differ(before, desired):
                lines.append(f"{_time(row)} {name} {before:g} → {desired:g}: {row['why']}")
        return lines

    def turns(self, rows: Sequence[Row], at_s: float) -> list[str]:
        """A line for each incident (of :meth:`autoscaler.ports.Views.incidents`) that is new, or of which there is something new to say."""
        lines = []
        for row in rows:
            key, now = (_where(row), row["cause"]), (row["phase"], _done(row))
            if self._phases.get(key) != now:
                done = f": {now[1]}" if now[1] else ""
                lines.append(f"{_clock(at_s)} {key[0]} {key[1]} {row['phase']}, {_pods(row)} pods{done}")
            self._phases[key] = now
        return lines

    def summary(self, rows: Sequence[Row]) -> str:
        """One line: every workload's load, replicas and ready pods; empty while nothing has been decided."""
        parts = [f"{_name(row)} load {_loads(row)}, {_replicas(row)} replicas, {_number(row['ready'], 0)} ready" for row in rows]
        times = [_time(row) for row in rows if "at_s" in row]
        return " | ".join([times[0], *parts]) if times else ""


def _name(row: Row) -> str:
    return f"{row['namespace']}/{row['name']}"


def _time(row: Row) -> str:
    return _clock(row["at_s"])


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")


def _where(row: Row) -> str:
    """The workload (a node has no namespace), and the container."""
    name = _name(row) if row["namespace"] else f"{row['kind']} {row['name']}"
    return f"{name} {row['container']}".strip()


def _pods(row: Row) -> str:
    return f"{row['pods_affected']} of {row['pods_in_all']}" if row["pods_in_all"] else UNKNOWN


def _done(row: Row) -> str:
    """What was done last, else why nothing was."""
    done = [each["words"] for each in row["remedies"]]
    acted = [each["words"] for each in row["remedies"] if each["acted"]]
    return str((acted or done or [""])[-1])


def _loads(row: Row) -> str:
    return " ".join(_number(series["load"], 0) for series in row["series"]) or UNKNOWN


def _replicas(row: Row) -> str:
    current, desired = _number(row["current"], 0), _number(row["desired"], 0)
    return f"{current} → {desired}" if _differ(row["current"], row["desired"]) else current


def _number(value: float, digits: int) -> str:
    return UNKNOWN if isnan(value) else f"{value:.{digits}f}"


def _differ(one: float, other: float) -> bool:
    return not isnan(one) and not isnan(other) and one != other
