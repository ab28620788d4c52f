"""Which HealthPolicies select nothing, which select the same, and which select this service itself: said once, as nobody meant it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from autoscaler.core.health.facts import Subject
from autoscaler.core.health.monitor import Seen
from autoscaler.core.health.policy import HealthPolicies, HealthSpec

log = logging.getLogger(__name__)

CHECK_EVERY_S = 10.0


class Selection:
    """Looks at what policies select. ``own``: namespace and name of the pod that we run in."""

    def __init__(self, own: tuple[str, str]) -> None:
        self._own = own
        self._policies = HealthPolicies()
        self._unused: frozenset[str] = frozenset()
        self._tied: set[tuple[str, str]] = set()
        self._fresh = False
        self._checked_s = -CHECK_EVERY_S

    def use(self, policies: HealthPolicies) -> None:
        """These are the policies from now on."""
        self._policies, self._fresh = policies, True
        self._tied.clear()

    def check(self, seen: Seen) -> None:
        """Look at a pass from which something can be concluded; not at each, as it takes a look at every workload."""
        at_s = seen.assessment.at_s
        if not self._fresh and 0 <= at_s - self._checked_s < CHECK_EVERY_S:
            return
        self._checked_s = at_s
        used: set[str] = set()
        for subject in _subjects(seen):
            found = self._policies.all_of(subject, seen.facts.controllers)
            used.update(map(str, found))
            self._check_tie(subject, found)
        unused = frozenset(str(spec) for spec in self._policies.specs if str(spec) not in used)
        for spec in self._policies.specs:
            if str(spec) in unused and (self._fresh or str(spec) not in self._unused):
                log.warning("%s (%s) selects no workload that there is: nothing is watched over by it", spec, spec.origin)
        if self._fresh:
            self._check_own(seen)
        self._unused, self._fresh = unused, False

    def _check_tie(self, subject: Subject, found: Sequence[HealthSpec]) -> None:
        """Two with as many conditions: which of them applies is by their names, which few will have thought of."""
        first, second = (*found, None, None)[:2]
        if first is None or second is None or len(first.requirements) != len(second.requirements):
            return
        pair = str(first), str(second)
        if pair not in self._tied:
            self._tied.add(pair)
            log.warning("%s: %s applies, not %s, which selects it too: give one of them more conditions", subject, first, second)

    def _check_own(self, seen: Seen) -> None:
        for members in seen.assessment.workloads.values():
            if any((each.judged.pod.namespace, each.judged.pod.name) == self._own for each in members):
                subject = members[0].subject
                spec = self._policies.of(subject, seen.facts.controllers)
                if spec is not None:
                    log.info("%s selects this service itself (%s): it is reported on, but its pods are never removed", spec, subject)

    def remarks(self) -> list[str]:
        """What people should know, in sentences."""
        return [f"{name} selects no workload that there is" for name in sorted(self._unused)]


def _subjects(seen: Seen) -> set[Subject]:
    """Every workload that there is, with pods or without."""
    owners = {each.subject for each in (seen.facts.controllers or {}).values() if each.owner is None}
    return owners | {members[0].subject for members in seen.assessment.workloads.values()}
