"""What HealthPolicies say, and which of them a workload is under.

Of several that select a workload the most specific one applies: the one with the most conditions on labels, and of two with as many
the one whose name comes first. So an empty selector is the namespace's default, which any other goes before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.health.facts import Controller, Subject
from autoscaler.core.health.remedies import Remedy
from autoscaler.core.health.taxonomy import Waits
from autoscaler.core.selector import Requirement


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """One HealthPolicy. ``remedies`` by their names (:data:`~autoscaler.core.health.remedies.REMEDIES`); absent: report.

    ``requirements`` on the labels of the workload; none: every workload of the namespace. ``sinks`` by the names that the settings
    give them; ``origin`` says where it stands (file and name).
    """

    namespace: str
    name: str
    requirements: tuple[Requirement, ...] = ()
    remedies: Mapping[str, Remedy] = field(default_factory=dict)
    daemon_sets: bool = False
    per_workload_hour: int = 3
    waits: Waits = field(default_factory=Waits)
    sinks: tuple[str, ...] = ()
    origin: str = ""

    def __str__(self) -> str:
        return f"HealthPolicy {self.namespace}/{self.name}"


Controllers = Mapping[str, Controller] | None
"""By uid; None: they may not be read, so nobody's labels are known."""

_STANDARD = Waits()


class HealthPolicies:
    """All HealthPolicies, asked by workload. What was answered is kept while the labels stay the same object."""

    def __init__(self, specs: Iterable[HealthSpec] = ()) -> None:
        self.specs = tuple(specs)
        self._by_namespace: dict[str, list[HealthSpec]] = {}
        for spec in sorted(self.specs, key=lambda each: (-len(each.requirements), each.name)):
            self._by_namespace.setdefault(spec.namespace, []).append(spec)
        self._known: dict[str, tuple[object, tuple[HealthSpec, ...]]] = {}
        shortest_s = min((spec.waits.node_lost_s for spec in self.specs), default=_STANDARD.node_lost_s)
        self._node_waits = replace(_STANDARD, node_lost_s=shortest_s)

    def of(self, subject: Subject, controllers: Controllers) -> HealthSpec | None:
        """The one that a workload is under. A pod that nobody owns has no labels of a workload; nodes are under none."""
        found = self.all_of(subject, controllers)
        return found[0] if found else None

    def all_of(self, subject: Subject, controllers: Controllers) -> tuple[HealthSpec, ...]:
        """Every one that selects a workload, the one that applies first."""
        mine = self._by_namespace.get(subject.namespace)
        if not mine:
            return ()
        controller = None if controllers is None else controllers.get(subject.uid)
        kept = self._known.get(subject.uid)
        if kept is not None and kept[0] is controller:
            return kept[1]
        labels = _labels(subject, controller)
        found = tuple(spec for spec in mine if not spec.requirements or (labels is not None and _fit(spec, labels)))
        self._known[subject.uid] = controller, found
        return found

    def waits_of(self, subject: Subject, controllers: Controllers) -> Waits:
        """How long its causes are waited for; a lost node as long as the least patient policy says."""
        if subject.kind == "Node":
            return self._node_waits
        spec = self.of(subject, controllers)
        return _STANDARD if spec is None else spec.waits

    def forget(self, alive: frozenset[str]) -> None:
        """Keep what is known of these alone, by uid."""
        self._known = {uid: known for uid, known in self._known.items() if uid in alive}


def _labels(subject: Subject, controller: Controller | None) -> Mapping[str, str] | None:
    """The workload's labels; None: not known, so that no condition on them can hold."""
    if controller is not None:
        return dict(controller.labels)
    return {} if subject.kind == "Pod" else None


def _fit(spec: HealthSpec, labels: Mapping[str, str]) -> bool:
    return all(each.fits(labels) for each in spec.requirements)
