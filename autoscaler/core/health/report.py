"""What is told of an incident: what was found, the evidence for it, and what we did or why we did not."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoscaler.core.health.lifecycle import Change
from autoscaler.core.health.taxonomy import Cause


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was gathered for one incident, redacted. Texts are hostile: whoever shows them escapes them.

    ``log``: the last lines of the container's previous run; ``warnings``: warning events, newest first; ``limits``: the container's
    requests and limits in words; ``template_diff``: what changed from the revision before, a line each; ``revision``: that revision and
    its age in words; ``pod``: whose log it is, with its ``image`` and the container's own last ``message``; ``missing``: what could not
    be had, and why, in sentences.
    """

    log: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    limits: str = ""
    template_diff: tuple[str, ...] = ()
    revision: str = ""
    pod: str = ""
    image: str = ""
    message: str = ""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """A remedy, carried out or not: on which pod, what, and in words how it went or why not; ``acted``: something was asked of the API."""

    at_s: float
    pod: str
    cause: Cause
    acted: bool
    dry_run: bool
    words: str


@dataclass(frozen=True, slots=True)
class Report:
    """A turn in an incident's life with all that a reader needs; ``sinks``: who shall be told (names from the settings).

    ``remedies``: all there have been for this incident, oldest first. Of a change of kind ``REMEDY`` the last one is the news; where
    nothing was done (it was refused), the change is silent: for the record, which is the log, the metrics and the owner's events.
    """

    change: Change
    evidence: Evidence = field(default_factory=Evidence)
    remedies: tuple[Done, ...] = ()
    sinks: tuple[str, ...] = ()
    cluster: str = ""
