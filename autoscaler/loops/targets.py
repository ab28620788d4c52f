"""Which workloads are scaled: those that policies name, and those that policies for many find in the cluster as they come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from autoscaler.clock import Clock
from autoscaler.core.selector import Selector
from autoscaler.core.spec import WorkloadSpec
from autoscaler.core.types import Workload
from autoscaler.ports import Cluster, PolicySet

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""So often the cluster's copy of its objects is looked at for newcomers and leavers."""


class Targets:
    """Keeps ``follow`` told of every workload that has a policy.

    A policy that names a workload goes before one that finds it; of two that find it, the one whose origin comes first. While the
    cluster does not know who is there, those that were found last stay.
    """

    def __init__(self, cluster: Cluster, clock: Clock, follow: Callable[[Iterable[WorkloadSpec]], None]) -> None:
        self._cluster, self._clock, self._follow = cluster, clock, follow
        self._policies = PolicySet(())
        self._found: dict[Selector, frozenset[str]] = {}
        self._twice: frozenset[tuple[Workload, str]] = frozenset()

    def use(self, policies: PolicySet) -> None:
        """Follow these policies from now on."""
        self._policies = policies
        selectors = dict.fromkeys(selection.selector for selection in policies.selections)
        self._found = {selector: self._found.get(selector, frozenset()) for selector in selectors}
        self._cluster.select(selectors)
        self._look()
        self._tell()

    async def run(self) -> None:
        """Look for newcomers and leavers until cancelled."""
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + LOOK_EVERY_S)
            if self._look():
                self._tell()

    def _look(self) -> bool:
        """Whether anybody has come or gone."""
        changed = False
        for selector, before in self._found.items():
            now = self._cluster.selected(selector)
            if now is None or now == before:
                continue
            changed = True
            self._found[selector] = now
            for verb, names in (("found", now - before), ("gone", before - now)):
                if names:
                    shown = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")  # noqa: PLR2004 - enough to recognise them
                    log.info("%s in namespace %s, %s: %d (%s)", selector.kind, selector.namespace, verb, len(names), shown)
        return changed

    def _tell(self) -> None:
        rows = {spec.workload: spec for spec in self._policies.specs}
        twice = set()
        for selection in sorted(self._policies.selections, key=lambda each: each.origin):
            for name in sorted(self._found[selection.selector]):
                row = selection.row(name)
                if (first := rows.setdefault(row.workload, row)) is not row:
                    twice.add((row.workload, selection.origin))
                    if (row.workload, selection.origin) not in self._twice:
                        log.info("%s: %s applies, not %s, which selects it too", row.workload, first.origin, selection.origin)
        self._twice = frozenset(twice)
        self._follow(rows.values())
