"""Processor time and memory of a process, as the kernel counts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all threads together since the process began: ``cpu_s`` in user and system mode; ``rss_mib`` now and at most."""

    cpu_s: float
    rss_mib: float
    peak_mib: float


def usage(pid: int) -> Usage:
    """Raises OSError if there is no such process."""
    folder = Path(f"/proc/{pid}")
    rss_mib, peak_mib = memory((folder / "status").read_text())
    return Usage(cpu_seconds((folder / "stat").read_text()), rss_mib, peak_mib)


def cpu_seconds(stat: str) -> float:
    """User and system time of a line of /proc/PID/stat; the name before them may have spaces and brackets."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory(status: str) -> tuple[float, float]:
    """Resident MiB now and at most, of /proc/PID/status."""
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in status.splitlines()) if name in _WANTED}
    return kilobytes["VmRSS"] / 1024, kilobytes["VmHWM"] / 1024


_WANTED = frozenset({"VmRSS", "VmHWM"})
