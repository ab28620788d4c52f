"""What of the health loop outlives the process, as plain values: incidents, open breakers and the ledger of remedies.

A restart then neither tells of anything twice nor forgets anything. Whatever cannot be read back is left out: the worst that follows
is that an incident is told of again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from math import isfinite, nan
from typing import Any, TypeVar

from autoscaler.core.health.breaker import Breaker, Breakers
from autoscaler.core.health.caps import Attempt, Ledger
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.findings import Finding, Key, PodRef
from autoscaler.core.health.lifecycle import End, Incident, Phase, Told
from autoscaler.core.health.report import Done
from autoscaler.core.health.taxonomy import Cause

DONE_MAX = 3
"""So many remedies of an incident are saved."""

PODS_MAX = 20
"""So many pods of an incident are saved by name; how many there were was told already."""

_CAUSES = frozenset(map(str, Cause))

T = TypeVar("T")


def to_json(incidents: Iterable[Incident], breakers: Breakers, ledger: Ledger) -> dict[str, Any]:
    """As values that JSON knows; NaN and ∞ become None."""
    return {
        "incidents": [_incident_to_json(each) for each in incidents],
        "breakers": {uid: _plain(asdict(each)) for uid, each in breakers.open.items()},
        "attempts": [list(each) for each in ledger.attempts],
    }


def from_json(saved: object) -> tuple[dict[Key, Incident], Breakers, Ledger]:
    """Back from plain values."""
    table = saved if isinstance(saved, dict) else {}
    incidents = [_incident(each) for each in _list(table.get("incidents"))]
    breakers = {uid: breaker for uid, each in _dict(table.get("breakers")).items() if (breaker := _breaker(each)) is not None}
    attempts = [attempt for each in _list(table.get("attempts")) if (attempt := _attempt(each)) is not None]
    return (
        {each.finding.key: each for each in incidents if each is not None},
        Breakers(breakers),
        Ledger(tuple(sorted(attempts))),
    )


def done_to_json(done: Mapping[Key, Sequence[Done]]) -> list[list[Any]]:
    """The last remedies of each incident, done or refused, as values that JSON knows."""
    return [
        [uid, container, str(cause), *([each.at_s, each.pod, each.acted, each.dry_run, each.words] for each in rows[-DONE_MAX:])]
        for (uid, container, cause), rows in done.items()
        if rows
    ]


def done_from_json(saved: object) -> dict[Key, tuple[Done, ...]]:
    """Back from plain values; what cannot be read is left out."""
    found: dict[Key, tuple[Done, ...]] = {}
    for row in _list(saved):
        match row:
            case [str() as uid, str() as container, str() as name, *rows] if name in _CAUSES:
                cause = Cause(name)
                found[uid, container, cause] = tuple(done for each in rows if (done := _done(each, cause)) is not None)
    return found


def _done(row: object, cause: Cause) -> Done | None:
    match row:
        case [int() | float() as at_s, str() as pod, bool() as acted, bool() as dry_run, str() as words] if isfinite(at_s):
            return Done(float(at_s), pod, cause, acted, dry_run, words)
        case _:
            return None


def _incident_to_json(incident: Incident) -> dict[str, Any]:
    """Field by field, as ``asdict`` would copy every pod of an incident with thousands."""
    found = _fields(incident)
    found["told"] = _fields(incident.told)
    finding = found["finding"] = _fields(incident.finding)
    finding["pods"] = [_plain(each) for each in incident.finding.pods[:PODS_MAX]]
    finding["subject"] = list(incident.finding.subject)
    return found


def _fields(row: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    return {name: _plain(getattr(row, name)) for name in _NAMES[type(row)]}


_NAMES = {
    Incident: tuple(each.name for each in fields(Incident) if each.name not in {"finding", "told"}),
    Finding: tuple(each.name for each in fields(Finding) if each.name not in {"pods", "subject"}),
    Told: tuple(each.name for each in fields(Told)),
}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a dataclass
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, (Cause, Phase, End)) else value


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _times(cls: type[Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields of a row; where there was no time, NaN again."""
    found = {name: value for name, value in row.items() if name in {each.name for each in fields(cls)}}
    return {name: nan if value is None and name.endswith("_s") else value for name, value in found.items()}


def _incident(row: Any) -> Incident | None:  # noqa: ANN401 - whatever was saved
    try:
        finding = _times(Finding, row["finding"])
        finding["subject"] = Subject(*finding["subject"])
        finding["cause"] = Cause(finding["cause"])
        finding["pods"] = tuple(_pod(each) for each in finding["pods"])
        finding["notes"] = tuple(finding["notes"])
        told = _times(Told, row["told"])
        told |= {"revisions": tuple(told["revisions"]), "reasons": tuple((reason, code) for reason, code in told["reasons"])}
        parts = _times(Incident, row)
        parts |= {"finding": Finding(**finding), "told": Told(**told), "phase": Phase(parts["phase"]), "end": End(parts["end"])}
        parts["returns"] = tuple(parts["returns"])
        return Incident(**parts)
    except (KeyError, TypeError, ValueError):
        return None


def _pod(row: Sequence[Any]) -> PodRef:
    given: list[Any] = [nan if value is None else value for value in row]
    return PodRef(*given)


def _breaker(row: Any) -> Breaker | None:  # noqa: ANN401 - whatever was saved
    try:
        parts = _times(Breaker, row)
        return Breaker(**{**parts, "why": tuple(parts["why"])})
    except (AttributeError, KeyError, TypeError):
        return None


def _attempt(row: object) -> Attempt | None:
    match row:
        case [int() | float() as at_s, str() as workload, str() as owner, str() as pod, int() as number] if isfinite(at_s):
            return Attempt(float(at_s), workload, owner, pod, number)
        case _:
            return None
