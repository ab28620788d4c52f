"""The life of incidents: pending → firing → flapping → resolved, and what there is to say at each turn.

::

    a due finding ─► PENDING ── settled ──► FIRING ── came back 3 times in 30 min ──► FLAPPING
                        │ gone                 │ healthy for its hold, or gone           │
                        ▼                      ▼                                         ▼
                     dropped               RESOLVED ◄──────────────────────────────────┘
                                               │ came back within 30 min: firing again; else dropped

``advance(incidents, assessment) -> (incidents, changes)`` is pure. An incident settles until no more siblings join; healthy it must
be for its hold, which doubles at each return. One that was there before we looked, or is silenced, lives the same life untold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isnan, nan

from autoscaler.core.health.assess import Assessment
from autoscaler.core.health.findings import Finding, Key
from autoscaler.core.health.taxonomy import CRASHES


class Phase(StrEnum):
    """Where an incident stands."""

    PENDING = "pending"
    FIRING = "firing"
    FLAPPING = "flapping"
    RESOLVED = "resolved"


IMPORTANCE: Mapping[Phase, int] = {Phase.FIRING: 0, Phase.FLAPPING: 0, Phase.PENDING: 1, Phase.RESOLVED: 2}
"""Incidents in the order in which people want to know of them."""


class Kind(StrEnum):
    """What has become of an incident; ``REMEDY``: something was done about it, or refused for a new reason."""

    PENDING = "pending"
    FIRED = "fired"
    UPDATED = "updated"
    FLAPPING = "flapping"
    REPEATED = "repeated"
    REMEDY = "remedy"
    RESOLVED = "resolved"


class End(StrEnum):
    """How an incident was resolved."""

    NONE = ""
    HEALTHY = "healthy"
    PODS_GONE = "its pods are gone, and those in their place are healthy"
    GONE = "the workload is gone"


@dataclass(frozen=True, slots=True)
class Life:
    """The times of a life, in seconds."""

    settle_min_s: float = 15.0
    settle_max_s: float = 75.0
    update_s: float = 600.0
    healthy_s: float = 180.0
    healthy_max_s: float = 1800.0
    flap_returns: int = 3
    flap_window_s: float = 1800.0
    repeat_s: float = 21600.0


@dataclass(frozen=True, slots=True)
class Told:
    """What people were last told of an incident, and when (NaN: nothing yet)."""

    at_s: float = nan
    pods: int = 0
    revisions: tuple[str, ...] = ()
    reasons: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """A finding with its life.

    ``joined_s``: when the last sibling joined; ``absent_s``: since when the finding is absent (NaN: it is there); ``returns``: when it
    came back within the flap window; ``baseline``: it was there before we looked, so it is no news.
    """

    finding: Finding
    phase: Phase
    opened_s: float
    joined_s: float
    hold_s: float
    fired_s: float = nan
    absent_s: float = nan
    resolved_s: float = nan
    returns: tuple[float, ...] = ()
    end: End = End.NONE
    baseline: bool = False
    told: Told = field(default_factory=Told)

    @property
    def open(self) -> bool:
        """Pending, firing or flapping."""
        return self.phase is not Phase.RESOLVED


@dataclass(frozen=True, slots=True)
class Change:
    """A turn of an incident's life. ``silent``: for the record alone, nobody is told."""

    kind: Kind
    incident: Incident
    at_s: float
    silent: bool


LIFE = Life()


def advance(
    incidents: Mapping[Key, Incident], assessment: Assessment, life: Life = LIFE, silences: Mapping[str, float] | None = None
) -> tuple[dict[Key, Incident], tuple[Change, ...]]:
    """Let an assessment change the incidents. ``silences``: until when nothing is said of a subject, by its uid.

    An assessment from which nothing can be concluded changes nothing.
    """
    if not assessment.conclusive:
        return dict(incidents), ()
    found = {finding.key: finding for finding in assessment.findings}
    kept: dict[Key, Incident] = {}
    changes: list[Change] = []
    for key in sorted(incidents.keys() | found.keys()):
        until_s = (silences or {}).get(key[0], nan)
        turn = _Turn(assessment, life, silenced=assessment.at_s < until_s)
        incident = turn.of(incidents.get(key), found.get(key))
        if incident is not None:
            kept[key] = incident
        changes += turn.changes
    return kept, tuple(changes)


def crashing_since(incidents: Mapping[Key, Incident]) -> dict[str, float]:
    """When the first open crash incident of each subject was opened, by its uid; pending ones are not told of, but open."""
    found: dict[str, float] = {}
    for (uid, _, cause), incident in incidents.items():
        if cause in CRASHES and incident.open:
            found[uid] = min(found.get(uid, incident.opened_s), incident.opened_s)
    return found


class _Turn:
    """One incident in one pass."""

    def __init__(self, assessment: Assessment, life: Life, *, silenced: bool) -> None:
        self.assessment, self.life, self.silenced = assessment, life, silenced
        self.at_s = assessment.at_s
        self.changes: list[Change] = []

    def of(self, incident: Incident | None, finding: Finding | None) -> Incident | None:
        """What becomes of it; None: there is no incident (any more)."""
        if incident is None:
            return self._opened(finding) if finding is not None and finding.is_due(self.at_s) else None
        if incident.phase is Phase.PENDING:
            return self._pending(incident, finding)
        if incident.phase is Phase.RESOLVED:
            return self._resolved(incident, finding)
        return self._absent(incident) if finding is None else self._present(incident, finding)

    def _opened(self, finding: Finding) -> Incident:
        incident = Incident(finding, Phase.PENDING, self.at_s, self.at_s, self.life.healthy_s, baseline=finding.preexisting)
        self._change(Kind.PENDING, incident)
        return self._settled(incident)

    def _pending(self, incident: Incident, finding: Finding | None) -> Incident | None:
        if finding is None:
            gone = incident.finding.subject.uid not in self.assessment.alive
            return None if gone or self.at_s - incident.opened_s >= self.life.settle_min_s else incident
        known = {pod.uid for pod in incident.finding.pods}
        joined = any(pod.uid not in known for pod in finding.pods)
        return self._settled(replace(incident, finding=finding, joined_s=self.at_s if joined else incident.joined_s))

    def _settled(self, incident: Incident) -> Incident:
        quiet = self.at_s - incident.joined_s >= self.life.settle_min_s
        if not quiet and self.at_s - incident.opened_s < self.life.settle_max_s:
            return incident
        return self._tell(Kind.FIRED, replace(incident, phase=Phase.FIRING, fired_s=self.at_s))

    def _resolved(self, incident: Incident, finding: Finding | None) -> Incident | None:
        if finding is not None and finding.is_due(self.at_s):
            back = replace(incident, finding=finding, end=End.NONE, resolved_s=nan, absent_s=nan, baseline=finding.preexisting)
            incident = self._returned(back)
            phase = Phase.FLAPPING if len(incident.returns) >= self.life.flap_returns else Phase.FIRING
            return self._tell(Kind.FIRED, replace(incident, phase=phase, fired_s=self.at_s))
        return None if self.at_s - incident.resolved_s >= self.life.flap_window_s else incident

    def _returned(self, incident: Incident) -> Incident:
        """It came back: it must be healthy for twice as long before that is believed."""
        recent = tuple(time_s for time_s in incident.returns if self.at_s - time_s < self.life.flap_window_s)
        hold_s = min(incident.hold_s * 2, self.life.healthy_max_s)
        return replace(incident, returns=(*recent, self.at_s)[-self.life.flap_returns :], hold_s=hold_s)

    def _absent(self, incident: Incident) -> Incident:
        alive = self.assessment.alive
        incident = replace(incident, absent_s=self.at_s) if isnan(incident.absent_s) else incident
        if incident.finding.subject.uid not in alive:
            end = End.GONE
        elif self.at_s - incident.absent_s < incident.hold_s:
            return incident
        else:
            pods = incident.finding.pods
            end = End.HEALTHY if not pods or any(pod.uid in alive for pod in pods) else End.PODS_GONE
        incident = replace(incident, phase=Phase.RESOLVED, resolved_s=self.at_s, end=end)
        self._change(Kind.RESOLVED, incident)
        return incident

    def _present(self, incident: Incident, finding: Finding) -> Incident:
        away_s = self.at_s - incident.absent_s
        incident = replace(incident, finding=finding, absent_s=nan)
        if away_s >= self.life.settle_min_s:
            incident = self._returned(incident)
            if len(incident.returns) >= self.life.flap_returns and incident.phase is Phase.FIRING:
                return self._tell(Kind.FLAPPING, replace(incident, phase=Phase.FLAPPING))
        kind = self._news(incident)
        return incident if kind is None or self.silenced else self._tell(kind, replace(incident, baseline=False))

    def _news(self, incident: Incident) -> Kind | None:
        """What there is to say of an incident that goes on: a new revision or reason at once, other counts and reminders in their time."""
        finding, told = incident.finding, incident.told
        new_revision = bool(set(finding.revisions) - set(told.revisions))
        if isnan(told.at_s):
            # Untold so far: a silence is over, or what was there before us has come to a new revision.
            is_news = not incident.baseline or (new_revision and bool(told.revisions))
            return Kind.FIRED if is_news else None
        counts = len(finding.pods) != told.pods and self.at_s - told.at_s >= self.life.update_s
        if new_revision or counts or (finding.reason, finding.exit_code) not in told.reasons:
            return Kind.UPDATED
        return Kind.REPEATED if self.at_s - told.at_s >= self.life.repeat_s else None

    def _tell(self, kind: Kind, incident: Incident) -> Incident:
        """Say it, or let it be on record only; what was there before us counts as seen, though not as told."""
        finding, told = incident.finding, incident.told
        silent = self.silenced or incident.baseline
        if not self.silenced:
            reasons = tuple(sorted({*told.reasons, (finding.reason, finding.exit_code)}))
            revisions = tuple(sorted({*told.revisions, *finding.revisions}))
            told = Told(told.at_s if silent else self.at_s, len(finding.pods), revisions, reasons)
        incident = replace(incident, told=told)
        self.changes.append(Change(kind, incident, self.at_s, silent))
        return incident

    def _change(self, kind: Kind, incident: Incident) -> None:
        silent = kind is Kind.PENDING or self.silenced or isnan(incident.told.at_s)
        self.changes.append(Change(kind, incident, self.at_s, silent))
