"""Telling people on a real API server: Events on workloads, evidence of real revisions, who may see logs, and all of it in the service."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from autoscaler.adapters.kubernetes.access import LogAccess
from autoscaler.adapters.kubernetes.client import Client
from autoscaler.adapters.kubernetes.events import OwnerEvents
from autoscaler.adapters.kubernetes.evidence import KubernetesEvidence
from autoscaler.adapters.kubernetes.login import find_login
from autoscaler.clock import SystemClock
from autoscaler.core.health.facts import Subject
from autoscaler.core.health.findings import Finding, PodRef
from autoscaler.core.health.lifecycle import End, Kind, Phase
from autoscaler.core.health.report import Report
from autoscaler.errors import PermanentError
from tests.cluster.rig import ControlPlane, Prometheus, Resource, objects, wait_until
from tests.cluster.rig.access import read_token
from tests.cluster.rig.alertmanager import Receiver
from tests.cluster.rig.paths import ROOT
from tests.cluster.rig.service import Service
from tests.core.health.corpus import CORPUS
from tests.core.health.telling import DONE, finding, hostile, incident, report

Json = dict[str, Any]

CLOCK = SystemClock()
DEPLOY = ROOT / "deploy"
BASE = yaml.safe_load((DEPLOY / "base" / "role.yaml").read_text())["rules"]
REVIEWS = yaml.safe_load((DEPLOY / "reviews" / "clusterrole.yaml").read_text())["rules"]
READS_LOGS = [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]


@asynccontextmanager
async def client_of(kubeconfig: Path) -> AsyncIterator[Client]:
    client = await Client.connect(find_login(str(kubeconfig)))
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
def service_account(control_plane: ControlPlane, namespace: str) -> Path:
    """With the rights of deploy/base and deploy/reviews, and no others."""
    return control_plane.service_account(namespace, "autoscaler", BASE, REVIEWS)


def subject_of(resource: Resource) -> Subject:
    return Subject(resource.kind, str(resource.namespace), resource.name, resource.read()["metadata"]["uid"])


def about(resource: Resource, kind: Kind = Kind.FIRED, at_s: float = 0.0, **changes: Any) -> Report:  # noqa: ANN401 - fields of Report
    now_s = CLOCK.now()
    life = incident(finding=finding(subject=subject_of(resource)), opened_s=now_s - 60, fired_s=1_700_000_000.0)
    if kind is Kind.RESOLVED:
        life = replace(life, phase=Phase.RESOLVED, end=End.HEALTHY, resolved_s=now_s)
    return report(kind, at_s or now_s, incident=life, **changes)


async def test_incidents_are_events_on_their_workload(control_plane: ControlPlane, namespace: str, service_account: Path) -> None:
    api = control_plane.api
    deployment = await asyncio.to_thread(api.create, objects.deployment(namespace, "web", 0))

    async with client_of(service_account) as client:
        events = OwnerEvents(client, (namespace, "autoscaler-0"))
        for made in [
            about(deployment),
            about(deployment, Kind.UPDATED),
            about(deployment, Kind.REMEDY, remedies=(DONE,)),
            about(deployment, Kind.RESOLVED),
        ]:
            await events.send(made, 10.0)
        node = replace(incident().finding, subject=Subject("Node", "", "node-1", "node-uid"))
        await events.send(report(incident=incident(finding=node)), 10.0)
        for case in CORPUS[:20]:
            made = hostile(case)
            shown = replace(made.change.incident, finding=replace(made.change.incident.finding, subject=subject_of(deployment)))
            await events.send(replace(made, change=replace(made.change, incident=shown)), 10.0)

    found = [event for event in api.find("v1", "Event", namespace) if event["source"].get("component") == "autoscaler"]
    ours = {event["reason"]: event for event in found if "tests" not in event["message"]}
    assert set(ours) == {"CrashLoopDetected", "CrashLoopResolved", "PodRestarted"}
    assert [event["count"] for event in found if event["firstTimestamp"] == ours["CrashLoopDetected"]["firstTimestamp"]]
    counted = [event for event in found if event["reason"] == "CrashLoopDetected" and event["count"] == 2]
    assert len(counted) == 1, "fired and updated are one event"
    assert {event["involvedObject"].get("uid") for event in found} == {subject_of(deployment).uid, None}
    (of_a_node,) = [event for event in found if "uid" not in event["involvedObject"]]
    assert of_a_node["involvedObject"]["name"] == "autoscaler-0", "it may not write to the namespace default"
    newer = [event for event in api.events(namespace, "web") if event["reason"] == "CrashLoopDetected"]
    assert newer, "events.k8s.io has them too"
    assert [secret for case in CORPUS[:20] for secret in case.secrets if secret in json.dumps(found)] == []


async def test_events_need_their_right_and_say_which(control_plane: ControlPlane, namespace: str) -> None:
    deployment = await asyncio.to_thread(control_plane.api.create, objects.deployment(namespace, "web", 0))
    nobody = await asyncio.to_thread(control_plane.service_account, namespace, "nobody")
    async with client_of(nobody) as client:
        with pytest.raises(PermanentError, match=r'resources: \["events"\], verbs: \["patch"\]'):
            await OwnerEvents(client).send(about(deployment), 10.0)


async def test_who_may_read_logs(control_plane: ControlPlane, namespace: str, service_account: Path) -> None:
    def token(name: str, rules: list[Json]) -> str:
        return read_token(control_plane.service_account(namespace, name, rules))

    reader = await asyncio.to_thread(token, "reader", READS_LOGS)
    other = await asyncio.to_thread(token, "other", [])
    async with client_of(service_account) as client:
        access = LogAccess(client, CLOCK)
        assert await access.may_read_logs(reader, namespace)
        assert not await access.may_read_logs(reader, "default")
        assert not await access.may_read_logs(other, namespace)
        assert not await access.may_read_logs("eyJhbGciOiJSUzI1NiJ9.bm9ib2R5.c2ln", namespace)
        assert not await access.may_read_logs("not a token at all", namespace)
    async with client_of(await asyncio.to_thread(control_plane.service_account, namespace, "nobody")) as client:
        with pytest.raises(PermanentError, match="tokenreviews"):
            await LogAccess(client, CLOCK).may_read_logs(reader, namespace)


def changed(resource: Resource, container: Json) -> Json:
    """A pod after a change of the template."""
    (before,) = resource.read()["spec"]["template"]["spec"]["containers"]
    resource.merge({"spec": {"template": {"spec": {"containers": [{**before, **container}]}}}})

    def made() -> Json | None:
        return next((pod for pod in resource.pods() if pod["spec"]["containers"][0]["image"] == container["image"]), None)

    return wait_until("there is a pod of the new template", made)


@pytest.mark.parametrize(
    "manifest", [pytest.param(objects.deployment, id="deployment"), pytest.param(objects.stateful_set, id="stateful-set")]
)
async def test_evidence_of_real_revisions(
    control_plane: ControlPlane,
    namespace: str,
    service_account: Path,
    manifest: Callable[[str, str, int], Json],
) -> None:
    api = control_plane.api
    made = await asyncio.to_thread(api.create, manifest(namespace, "web", 1))
    await asyncio.to_thread(made.wait_ready, 1)
    change = {"image": "rig.invalid/web:2", "args": ["--token", "hunter2"], "env": [{"name": "DSN", "value": "postgres://u:hunter2@db"}]}
    pod = await asyncio.to_thread(changed, made, change)
    warning = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "web.1", "namespace": namespace},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]},
        "type": "Warning",
        "reason": "BackOff",
        "message": "restarting failed container, password=hunter2",
        "count": 3,
        "lastTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    await asyncio.to_thread(api.create, warning)
    labels = pod["metadata"]["labels"]
    revision = labels.get("pod-template-hash") or labels["controller-revision-hash"]
    ref = PodRef(pod["metadata"]["name"], pod["metadata"]["uid"], "", revision, "", 3, CLOCK.now())
    (container,) = pod["spec"]["containers"]
    shown: Finding = finding(subject=subject_of(made), container=container["name"], pods=(ref,))
    async with client_of(service_account) as client:
        found = await KubernetesEvidence(client, CLOCK).gather(shown, 10.0)
    assert found.warnings[-1].endswith("3 times: BackOff: restarting failed container, password=[redacted]")
    assert found.limits
    name = container["name"]
    assert found.template_diff == (
        f"container {name}, args added --token [redacted]",
        f"container {name}, env DSN added",
        f"container {name}, image rig.invalid/web:1 → rig.invalid/web:2",
    )
    assert "; before it " in found.revision
    assert found.missing == (f"the log: pod {pod['metadata']['name']}: it is empty",), "there is no node that has one"
    assert "hunter2" not in repr(found)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def crash(resource: Resource, pod: Json) -> None:
    """Do a kubelet's part: its container ends with 1, and is backed off."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now, "containerID": "x://1", "message": "token=hunter2"}
    status = {
        "name": pod["spec"]["containers"][0]["name"],
        "image": "rig.invalid/web:1",
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": ended},
    }
    path = f"/api/v1/namespaces/{resource.namespace}/pods/{pod['metadata']['name']}/status"
    body = {"status": {"phase": "Running", "containerStatuses": [status]}}
    resource.api.call("PATCH", path, body, content_type="application/merge-patch+json")


def wait_for_a_first_look(service: Service) -> None:
    """What it sees then is old to it and no news; and the API's times are whole seconds."""
    wait_until("it knows that it may not see nodes", lambda: service.said("nodes may not be read"), timeout_s=30)
    ages = [0.0]

    def has_concluded() -> bool:
        ages.append(float(re.findall(r"^autoscaler_health_age_seconds (\S+)", service.get("/metrics")[1], re.MULTILINE)[0]))
        return ages[-1] < ages[-2]

    wait_until("a pass has come to a conclusion", has_concluded, timeout_s=30)
    news_s = CLOCK.now() + 1.0
    wait_until("what happens now is news", lambda: CLOCK.now() >= news_s)


def test_the_service_tells_of_an_incident_from_its_beginning_to_its_end(
    control_plane: ControlPlane, prometheus: Prometheus, namespace: str, service_account: Path, receiver: Receiver, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'cluster = "rig"\n[sinks.hook]\ntype = "webhook"\nurl = "{receiver.url}"\n')
    options = {"--namespace": namespace, "--config": str(settings)}
    service = Service(tmp_path / "service", prometheus=prometheus.url, kubeconfig=service_account, options=options)
    policy = {
        "apiVersion": "autoscaler.dev/v1alpha1",
        "kind": "HealthPolicy",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"waits": {"crashLoop": "1s"}, "notify": ["hook"]},
    }
    service.write(policy)
    deployment = control_plane.api.create(objects.deployment(namespace, "web", 2))
    deployment.wait_ready(2)
    # It stays: all pods gone at once would not be believed.
    control_plane.api.create(objects.deployment(namespace, "other", 1)).wait_ready(1)
    with service:
        wait_for_a_first_look(service)
        crash(deployment, deployment.pods()[0])
        told = wait_until("the webhook is told", lambda: next(iter(receiver.notifications), None), timeout_s=60)
        assert (told["kind"], told["cluster"], told["incident"]["cause"]) == ("fired", "rig", "CrashLoop")
        assert told["incident"]["workload"] == {"kind": "Deployment", "namespace": namespace, "name": "web"}
        assert told["evidence"]["message"] == "token=[redacted]"
        assert told["evidence"]["missing"][0].startswith("the log: ")
        assert "hunter2" not in json.dumps(told)

        def reasons() -> list[str]:
            return [event["reason"] for event in control_plane.api.events(namespace, "web") if event["reason"].startswith("CrashLoop")]

        wait_until("the workload's Event is there", lambda: reasons() == ["CrashLoopDetected"])

        reader = read_token(control_plane.service_account(namespace, "reader", READS_LOGS))
        (row,) = json.loads(service.get("/api/v1/incidents")[1])
        assert (row["cause"], "message" in row, row["withheld"][:4]) == ("CrashLoop", False, "logs")
        answer = urllib3.request("GET", service.address + "/api/v1/incidents", headers={"Authorization": f"Bearer {reader}"})
        (row,) = answer.json()
        assert (row["message"], "withheld" in row) == ("token=[redacted]", False)

        deployment.delete()
        wait_until("its end is told", lambda: [each["kind"] for each in receiver.notifications] == ["fired", "resolved"], timeout_s=60)
        assert receiver.notifications[1]["incident"]["id"] == told["incident"]["id"]
        assert receiver.notifications[1]["incident"]["resolvedBecause"] == "the workload is gone"

        def counted() -> bool:
            lines = service.get("/metrics")[1].splitlines()
            return all(f'autoscaler_notifications_total{{outcome="ok",sink="{sink}"}} 2.0' in lines for sink in ("hook", "kubernetes"))

        wait_until("both sinks have taken both", counted)
        assert "Traceback" not in service.log()


def test_a_policy_that_names_no_sink_of_the_settings_does_not_start(
    prometheus: Prometheus, namespace: str, service_account: Path, tmp_path: Path
) -> None:
    service = Service(tmp_path, prometheus=prometheus.url, kubeconfig=service_account, options={"--namespace": namespace})
    metadata = {"name": "default", "namespace": namespace}
    service.write({"apiVersion": "autoscaler.dev/v1alpha1", "kind": "HealthPolicy", "metadata": metadata, "spec": {"notify": ["pager"]}})
    service.launch()
    wait_until("it has ended", lambda: not service.process.running, timeout_s=30)
    assert service.process.exit_code == 3
    assert "spec.notify[0]: pager is no sink of the settings; the settings have: none" in service.log()
