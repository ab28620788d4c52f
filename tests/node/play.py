"""The one run that all tests look at: every scenario side by side on one node, watched over by the service as a process."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.rig import ControlPlane, Resource, RigError, wait_until
from tests.cluster.rig.paths import ROOT
from tests.cluster.rig.service import Service
from tests.node.manifests import image_of
from tests.node.rig import Inbox, Node, control_plane
from tests.node.scenarios import SCENARIOS, TENDED, WATCHED, Scenario

Json = dict[str, Any]

FIRING_S = 150.0
"""So long after the last step everything that is expected must have been told of."""
REMEDIES_S = 300.0
RESOLVED_S = 240.0
"""And what a remedy has cured is well again: three minutes without a sign of it."""

WAITS = {
    "unschedulable": "20s",
    "creating": "30s",
    "imagePull": "20s",
    "config": "20s",
    "hook": "20s",
    "crashLoop": "30s",
    "unready": "30s",
    "terminating": "20s",
    "wedged": "20s",
    "rollout": "20s",
    "crashLoopRemedy": "40s",
    "failedRemedy": "20s",
}
# So much is ill here on purpose that the cluster's breaker would rightly be open.
SETTINGS = 'remedies_every_s = 10\nbreaker_share = 1.0\n[sinks.inbox]\ntype = "webhook"\nurl = "{url}"\n'

_SERIES = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(slots=True)
class Delays:
    """Of one incident, in seconds from the fault: until it was pending, until it fired, and until the report of that arrived."""

    pending_s: float
    firing_s: float
    told_s: float


@dataclass(slots=True)
class Outcome:
    """What was to be seen at the end.

    By the scenario's name: ``rows`` of /api/v1/incidents, what people were ``told`` (by webhook), ``events`` about the subject, how many
    pods were ``ready``, and when the fault was there. ``metrics`` are of the restarted service, ``counts`` of the one before.
    """

    rows: dict[str, list[Json]] = field(default_factory=dict)
    told: dict[str, list[Json]] = field(default_factory=dict)
    events: dict[str, list[Json]] = field(default_factory=dict)
    faults: dict[str, float] = field(default_factory=dict)
    metrics: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)
    records: list[Json] = field(default_factory=list)
    counts: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)
    ready: dict[str, int] = field(default_factory=dict)

    def turns(self, subject: str, kind: str) -> list[tuple[str, str]]:
        """Container and cause of each incident of a subject that fired, was resolved, …: as often as its log says."""
        return [(each["container"], each["cause"]) for each in self.records if each.get("subject") == subject and each.get("kind") == kind]

    def delays(self) -> dict[str, Delays]:
        """Of each scenario whose incident was reported."""
        return {
            name: Delays(
                *(at_s - self.faults[name] for at_s in (told["incident"]["openedAt"], told["incident"]["firedAt"], told["arrived"]))
            )
            for name, reports in self.told.items()
            for told in reports
            if told["kind"] == "fired"
        }


@contextmanager
def played(folder: Path) -> Iterator[Outcome]:
    """Play it all."""
    with control_plane(folder / "plane") as plane, Node(folder / "node", plane, [image_of(each.name) for each in SCENARIOS]) as node:
        for namespace in (WATCHED, TENDED):
            plane.api.create_namespace(namespace)
        with Inbox() as inbox, _service(folder / "service", plane, inbox) as service:
            yield _play(node, service, inbox)


def _service(folder: Path, plane: ControlPlane, inbox: Inbox) -> Service:
    """The service with the rights that deploy/ gives it, here in every namespace."""
    folder.mkdir()
    settings = folder / "settings.toml"
    settings.write_text(SETTINGS.format(url=inbox.url))
    rules = [rule for part in ("base/role", "nodes/clusterrole", "remedies/role") for rule in _rules(part)]
    kubeconfig = plane.service_account(WATCHED, "autoscaler", cluster_rules=rules)
    options = {"--config": str(settings), "--state": str(folder / "state")}
    service = Service(folder, prometheus="http://127.0.0.1:1", kubeconfig=kubeconfig, options=options)
    service.write(_policy(WATCHED), _policy(TENDED, crashLoop="restart", wedgedStatefulSet="restart", failedPod="restart"))
    return service


def _rules(part: str) -> list[Json]:
    written = yaml.safe_load((ROOT / "deploy" / f"{part}.yaml").read_text())
    rules: list[Json] = written["rules"]
    return rules


def _policy(namespace: str, **remedies: str) -> Json:
    spec = {"waits": WAITS, "remedies": remedies, "notify": ["inbox"]}
    return {
        "apiVersion": "autoscaler.dev/v1alpha1",
        "kind": "HealthPolicy",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": spec,
    }


def _play(node: Node, service: Service, inbox: Inbox) -> Outcome:
    api, outcome = node.plane.api, Outcome()
    made: dict[str, Resource] = {}
    began_s = time.monotonic()
    # What is wrong when it looks for the first time is no news.
    wait_until("it has looked once", lambda: _age_s(service) < time.monotonic() - began_s, timeout_s=60, every_s=0.2)
    for each in SCENARIOS:
        outcome.faults[each.name] = time.time()
        made[each.name], *_ = [api.create(manifest) for manifest in each.objects]
    for each in SCENARIOS:
        if each.step is not None:
            each.step(node, made[each.name])
            outcome.faults[each.name] = time.time()
    _hope("everything is told of", lambda: all(_is_firing(each, _rows(service, each)) for each in SCENARIOS), FIRING_S)
    _hope("every remedy is tried", lambda: all(_is_remedied(each, _rows(service, each)) for each in SCENARIOS), REMEDIES_S)
    outcome.counts = _series(service.get("/metrics")[1])
    service.process.stop()
    service.begin()
    _hope("all that was cured is well", lambda: all(_is_resolved(_rows(service, each)) for each in SCENARIOS if each.cured), RESOLVED_S)
    outcome.records = service.records()
    outcome.metrics = _series(service.get("/metrics")[1])
    for each in SCENARIOS:
        resource = made[each.name]
        outcome.rows[each.name] = _rows(service, each)
        outcome.told[each.name] = [report for report in inbox.reports() if _subject(report["incident"]["workload"]) == each.subject]
        about = api.events(str(resource.namespace), each.name)
        outcome.events[each.name] = [event for event in about if event["regarding"]["kind"] == resource.kind]
        outcome.ready[each.name] = resource.read()["status"].get("readyReplicas", 0)
    return outcome


def _is_firing(scenario: Scenario, rows: list[Json]) -> bool:
    return scenario.cause is None or any(row["cause"] == scenario.cause and row["phase"] == "firing" for row in rows)


def _is_remedied(scenario: Scenario, rows: list[Json]) -> bool:
    return not scenario.remedy or any(scenario.remedy in done["words"] for row in rows for done in row["remedies"])


def _is_resolved(rows: list[Json]) -> bool:
    return all(row["phase"] == "resolved" for row in rows)


def _rows(service: Service, scenario: Scenario) -> list[Json]:
    found: list[Json] = json.loads(service.get("/api/v1/incidents")[1])
    return [each for each in found if _subject(each) == scenario.subject]


def _subject(row: Json) -> str:
    return f"{row['kind']} {row['namespace']}/{row['name']}"


def _age_s(service: Service) -> float:
    """How long ago it last knew everything."""
    found = re.search(r"^autoscaler_health_age_seconds (\S+)$", service.get("/metrics")[1], re.MULTILINE)
    return float(found[1]) if found else inf


def _series(text: str) -> list[tuple[str, Mapping[str, str], float]]:
    return [(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _SERIES.findall(text)]


def _hope(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Wait for it, or for so long: what has not come then fails in the tests that look for it."""
    with suppress(RigError):
        wait_until(what, condition, timeout_s=seconds, every_s=1)
