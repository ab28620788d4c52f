"""deploy/ on a real API server that enforces the Pod Security level restricted: rendered, applied, allowed just what it needs, and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import urllib3
import yaml

from autoscaler.settings import load as load_settings
from tests.cluster.rig import Api, ApiError, ControlPlane, Exporter, Process, Prometheus, objects, wait_until
from tests.cluster.rig.access import write_kubeconfig
from tests.cluster.rig.paths import ROOT

Json = dict[str, Any]

DEPLOY = ROOT / "deploy"
KUSTOMIZE = ROOT / ".cache" / "kustomize"
README = (DEPLOY / "README.md").read_text()
OVERLAYS = {
    title: block
    for title, section in re.findall(r"^## (.+)\n((?:(?!^## ).*\n)+)", README, re.MULTILINE)
    for block in re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
}
NAMESPACES = ("shop", "bank", "arcade")
APPLY = {"fieldManager": "tests", "fieldValidation": "Strict", "force": "true"}


def render(folder: Path) -> list[Json]:
    assert KUSTOMIZE.exists(), f"{KUSTOMIZE} is missing: run tests/cluster/prepare"
    answer = subprocess.run([str(KUSTOMIZE), "build", str(folder)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return list(yaml.safe_load_all(answer.stdout))


def render_overlay(title: str, folder: Path) -> list[Json]:
    """As the README says: a folder of the user's own beside a checkout named loadscale."""
    (folder / "loadscale").symlink_to(ROOT)
    mine = folder / "mine"
    mine.mkdir()
    for name, example in {"web.yaml": "threshold.yaml", "policy.yaml": "own-policy/policy.yaml", "spare.py": "own-policy/spare.py"}.items():
        (mine / name).write_text((DEPLOY / "examples" / example).read_text())
    (mine / "kustomization.yaml").write_text(OVERLAYS[title])
    return render(mine)


def of_kind(manifests: list[Json], kind: str, suffix: str = "") -> Json:
    """The service's own; Roles and RoleBindings beside it have the suffix "-state" (for its state) and "-remedies"."""
    others = {"-state", "-remedies"} - {suffix}
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
    (one,) = (each for each in found if not each["metadata"]["name"].endswith(tuple(others)))
    return one


def apply(api: Api, manifest: Json, namespace: str = "", **query: str) -> Json:
    """As `kubectl apply --server-side --validate=strict` does."""
    metadata = manifest["metadata"]
    collection = api.collection(manifest["apiVersion"], manifest["kind"], namespace or metadata["namespace"])
    path = f"{collection}/{metadata['name']}"
    return api.call("PATCH", path, manifest, content_type="application/apply-patch+yaml", query={**APPLY, **query})


@dataclass(frozen=True)
class Installed:
    """deploy/base as it is, in the namespace that it names."""

    plane: ControlPlane
    manifests: list[Json]
    token: str

    @property
    def api(self) -> Api:
        return self.plane.api

    def as_service(self) -> Api:
        """The API as the ServiceAccount of deploy/base."""
        return self.plane.api_with_token(self.token)

    def pod(self) -> Json:
        """The pod that the Deployment makes, to create by hand."""
        template = deepcopy(of_kind(self.manifests, "Deployment")["spec"]["template"])
        return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "by-hand", "namespace": "shop"}}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A control plane of this file's own, since the base says which namespace it is for."""
    with ControlPlane(tmp_path_factory.mktemp("deploy")) as plane:
        for name in NAMESPACES:
            plane.api.create_namespace(name).merge({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
        manifests = render(DEPLOY / "base")
        for manifest in manifests:
            apply(plane.api, manifest)
        account = plane.api.resource("v1", "ServiceAccount", "autoscaler", "shop")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        yield Installed(plane, manifests, plane.api.call("POST", f"{account.path}/token", request)["status"]["token"])


@pytest.mark.parametrize("title", OVERLAYS)
def test_what_the_readme_shows_is_accepted(title: str, installed: Installed, tmp_path: Path) -> None:
    manifests = render_overlay(title, tmp_path)
    for manifest in manifests:
        answer = apply(installed.api, manifest, dryRun="All")
        assert answer["kind"] == manifest["kind"]
    assert {manifest["metadata"]["namespace"] for manifest in manifests} <= set(NAMESPACES)
    (subject,) = of_kind(manifests, "RoleBinding")["subjects"]
    account = of_kind(manifests, "ServiceAccount")["metadata"]
    assert subject == {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}


def test_readme_has_the_overlays_that_are_tested() -> None:
    assert list(OVERLAYS) == [
        "Install",
        "From dry run to active",
        "Health",
        "Telling people",
        "More namespaces",
        "Custom resources",
        "Policies of your own",
    ]


def test_a_misspelt_field_would_not_be_accepted(installed: Installed) -> None:
    deployment = deepcopy(of_kind(installed.manifests, "Deployment"))
    deployment["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(ApiError, match="enableServiceLink"):
        apply(installed.api, deployment, dryRun="All")


def test_the_pod_is_made_where_restricted_is_enforced(installed: Installed) -> None:
    deployment = installed.api.resource("apps/v1", "Deployment", "autoscaler", "shop")
    (pod,) = wait_until("its pod is there", deployment.pods)
    assert pod["spec"]["serviceAccountName"] == "autoscaler"
    assert pod["status"]["qosClass"] == "Burstable"


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        pytest.param(("securityContext", "runAsNonRoot"), None, "runAsNonRoot", id="root"),
        pytest.param(("securityContext", "seccompProfile"), None, "seccompProfile", id="seccomp"),
        pytest.param(("containers", 0, "securityContext", "capabilities"), None, "unrestricted capabilities", id="capabilities"),
        pytest.param(("containers", 0, "securityContext", "allowPrivilegeEscalation"), None, "allowPrivilegeEscalation", id="escalation"),
    ],
)
def test_each_restriction_is_needed(field: tuple[str | int, ...], value: object, complaint: str, installed: Installed) -> None:
    pod = installed.pod()
    pods = installed.api.collection("v1", "Pod", "shop")
    installed.api.call("POST", pods, pod, query={"dryRun": "All"})
    place: Any = pod["spec"]
    for step in field[:-1]:
        place = place[step]
    place[field[-1]] = value
    with pytest.raises(ApiError, match=complaint):
        installed.api.call("POST", pods, pod, query={"dryRun": "All"})


def may(api: Api, namespace: str, verb: str, group: str, resource: str) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    answer = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(
    ("namespace", "verb", "group", "resource", "allowed"),
    [
        *(
            pytest.param("shop", verb, "apps", resource, True, id=f"{verb}-{resource}")
            for resource in ("deployments", "statefulsets", "replicasets")
            for verb in ("get", "list", "watch")
        ),
        *(
            pytest.param("shop", verb, "apps", f"{resource}/scale", True, id=f"{verb}-{resource}-scale")
            for resource in ("deployments", "statefulsets", "replicasets")
            for verb in ("get", "patch")
        ),
        pytest.param("shop", "update", "apps", "deployments/scale", False, id="update-scale"),
        pytest.param("shop", "patch", "apps", "deployments", False, id="patch-the-object-itself"),
        pytest.param("shop", "delete", "apps", "deployments", False, id="delete"),
        pytest.param("shop", "list", "apps", "daemonsets", True, id="daemonsets"),
        pytest.param("shop", "watch", "", "pods", True, id="watch-pods"),
        pytest.param("shop", "list", "metrics.k8s.io", "pods", True, id="what-pods-use"),
        pytest.param("shop", "get", "", "pods", False, id="read-one-pod"),
        pytest.param("shop", "delete", "", "pods", False, id="delete-pods"),
        pytest.param("shop", "create", "", "pods/eviction", False, id="evict"),
        pytest.param("shop", "create", "", "pods/exec", False, id="exec"),
        pytest.param("shop", "get", "", "secrets", False, id="secrets"),
        pytest.param("shop", "get", "", "configmaps", False, id="configmaps"),
        pytest.param("shop", "list", "autoscaling", "horizontalpodautoscalers", True, id="list-hpas"),
        pytest.param("shop", "patch", "autoscaling", "horizontalpodautoscalers", False, id="patch-hpas"),
        pytest.param("shop", "create", "rbac.authorization.k8s.io", "rolebindings", False, id="bind-roles"),
        pytest.param("shop", "create", "", "serviceaccounts/token", False, id="make-tokens"),
        pytest.param("bank", "list", "apps", "deployments", False, id="another-namespace"),
        pytest.param("bank", "patch", "apps", "deployments/scale", False, id="scale-in-another-namespace"),
        pytest.param("", "list", "apps", "deployments", False, id="all-namespaces"),
        pytest.param("", "list", "", "namespaces", False, id="namespaces"),
        pytest.param("", "list", "", "nodes", False, id="nodes"),
    ],
)
def test_the_account_may(namespace: str, verb: str, group: str, resource: str, allowed: bool, installed: Installed) -> None:  # noqa: FBT001 - a table's column
    assert may(installed.as_service(), namespace, verb, group, resource) == allowed


def rights(api: Api, namespace: str) -> set[tuple[str, str, str]]:
    """Everything that the caller may do there: (verb, group, resource)."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    status = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)["status"]
    assert not status["incomplete"]
    rules = status["resourceRules"]
    return {(verb, group, name) for rule in rules for verb in rule["verbs"] for group in rule["apiGroups"] for name in rule["resources"]}


def test_the_account_may_no_more_than_its_role_says(installed: Installed) -> None:
    everybody = rights(installed.as_service(), "bank")
    assert {group for _, group, _ in everybody}.isdisjoint({"", "apps", "rbac.authorization.k8s.io"}), "what any account may do"
    role = of_kind(installed.manifests, "Role")["rules"] + of_kind(installed.manifests, "Role", "-state")["rules"]
    granted = {(verb, group, name) for rule in role for verb in rule["verbs"] for group in rule["apiGroups"] for name in rule["resources"]}
    assert rights(installed.as_service(), "shop") - everybody == granted


def test_restarting_is_a_role_of_its_own(installed: Installed, tmp_path: Path) -> None:
    """The README's overlay allows evictions, and the two commands for nodes the look at them; neither stands in the base."""
    service = installed.as_service()
    wanted = [("shop", "create", "", "pods/eviction"), ("shop", "get", "", "pods"), ("", "list", "", "nodes"), ("", "watch", "", "nodes")]
    assert not any(may(service, *each) for each in wanted)
    manifests = render_overlay("Health", tmp_path)
    role, binding = (of_kind(manifests, kind, "-remedies") for kind in ("Role", "RoleBinding"))
    nodes = yaml.safe_load((DEPLOY / "nodes" / "clusterrole.yaml").read_text())
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": nodes["metadata"]["name"]}
    everywhere = {"apiVersion": nodes["apiVersion"], "kind": "ClusterRoleBinding", "metadata": {"name": "autoscaler-nodes-shop"}}
    try:
        for manifest in (role, binding):
            apply(installed.api, manifest)
        for manifest in (nodes, {**everywhere, "roleRef": reference, "subjects": binding["subjects"]}):
            path = f"{installed.api.collection(manifest['apiVersion'], manifest['kind'])}/{manifest['metadata']['name']}"
            installed.api.call("PATCH", path, manifest, content_type="application/apply-patch+yaml", query=APPLY)
        wait_until("all of it is allowed", lambda: all(may(service, *each) for each in wanted))
        assert not may(service, "shop", "delete", "", "pods")
    finally:
        for manifest in (binding, role):
            installed.api.resource(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"], "shop").delete()
        for kind, name in (("ClusterRoleBinding", "autoscaler-nodes-shop"), ("ClusterRole", "autoscaler-nodes")):
            installed.api.resource(nodes["apiVersion"], kind, name).delete()


def test_settings_of_sinks_are_settings(tmp_path: Path) -> None:
    """Those of the README's overlay, with the files where it mounts them."""
    manifests = render_overlay("Telling people", tmp_path)
    (given,) = (each["data"] for each in manifests if each["kind"] == "ConfigMap" and "AUTOSCALER_CLUSTER" in each.get("data", {}))
    settings = load_settings(environ={**given, "AUTOSCALER_POLICIES": "/policies"})
    assert settings.sink_names() == {"alertmanager", "chat"}
    (container,) = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(sink.url_file).parent) for sink in settings.sinks.values() if sink.url_file} <= mounted


def test_who_may_see_logs_is_asked_with_a_right_of_its_own(installed: Installed) -> None:
    """The README's two commands."""
    service = installed.as_service()
    wanted = [
        ("", "create", "authentication.k8s.io", "tokenreviews"),
        ("", "create", "authorization.k8s.io", "subjectaccessreviews"),
    ]
    assert not any(may(service, *each) for each in wanted)
    role = yaml.safe_load((DEPLOY / "reviews" / "clusterrole.yaml").read_text())
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["metadata"]["name"]}
    binding = {"apiVersion": role["apiVersion"], "kind": "ClusterRoleBinding", "metadata": {"name": "autoscaler-reviews-shop"}}
    binding |= {"roleRef": reference, "subjects": of_kind(installed.manifests, "RoleBinding")["subjects"]}
    try:
        for manifest in (role, binding):
            path = f"{installed.api.collection(manifest['apiVersion'], manifest['kind'])}/{manifest['metadata']['name']}"
            installed.api.call("PATCH", path, manifest, content_type="application/apply-patch+yaml", query=APPLY)
        wait_until("both are allowed", lambda: all(may(service, *each) for each in wanted))
    finally:
        for manifest in (binding, role):
            installed.api.resource(role["apiVersion"], manifest["kind"], manifest["metadata"]["name"]).delete()


def test_the_role_works_for_a_further_namespace(installed: Installed) -> None:
    """The README's two commands."""
    assert not may(installed.as_service(), "bank", "list", "apps", "deployments")
    role = yaml.safe_load((DEPLOY / "base" / "role.yaml").read_text())
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "autoscaler"}
    subjects = [{"kind": "ServiceAccount", "name": "autoscaler", "namespace": "shop"}]
    binding = {"apiVersion": role["apiVersion"], "kind": "RoleBinding", "metadata": {"name": "autoscaler", "namespace": "bank"}}
    apply(installed.api, role, "bank")
    apply(installed.api, {**binding, "roleRef": reference, "subjects": subjects})
    try:
        wait_until("it may act in bank too", lambda: may(installed.as_service(), "bank", "patch", "apps", "deployments/scale"))
    finally:
        for kind in ("RoleBinding", "Role"):
            installed.api.resource(role["apiVersion"], kind, "autoscaler", "bank").delete()


class Pod:
    """What the kubelet would make of a rendered Deployment, as a process here: its variables, its mounts, its account."""

    def __init__(self, installed: Installed, manifests: list[Json], folder: Path, prometheus: str) -> None:
        self._folder = folder
        self._maps = {manifest["metadata"]["name"]: manifest["data"] for manifest in manifests if manifest["kind"] == "ConfigMap"}
        deployment = of_kind(manifests, "Deployment")
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        self.probes = {name: container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
        mounted = {volume["name"]: volume["configMap"]["name"] for volume in spec["volumes"]}
        places = {mount["mountPath"]: str(self._mount(mounted[mount["name"]])) for mount in container["volumeMounts"]}
        variables = self._variables(container, deployment["metadata"]["namespace"])
        kubeconfig = write_kubeconfig(
            folder / "kubeconfig", installed.plane.server, installed.plane.folder / "ca.crt", {"token": installed.token}, "shop"
        )
        environment = {
            "PATH": os.environ["PATH"],
            **{name: places.get(value, value) for name, value in variables.items()},
            "AUTOSCALER_PROMETHEUS_URL": prometheus,
            "AUTOSCALER_LISTEN_HOST": "127.0.0.1",
            "AUTOSCALER_LISTEN_PORT": "0",
            "KUBECONFIG": str(kubeconfig),
        }
        command = [sys.executable, "-P", "-m", "autoscaler", *container["args"]]
        self.process = Process("pod", command, folder / "pod.log", environment)
        self._http = urllib3.PoolManager(retries=False, timeout=5.0)

    def __enter__(self) -> Self:
        self.process.start()
        wait_until("the service listens", lambda: "listening on" in self.log() or not self.process.running, timeout_s=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def log(self) -> str:
        return self.process.log.read_text() if self.process.log.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        address = re.search(r"listening on (http://[\d.]+:\d+)", self.log())
        assert address, self.process.log_tail()
        answer = self._http.request("GET", address[1] + path)
        return answer.status, answer.data.decode()

    def workload(self, path: str) -> Json:
        status, body = self.get(f"/api/v1/workloads/{path}")
        assert status == 200, body
        found: Json = json.loads(body)
        return found

    def _variables(self, container: Mapping[str, Any], namespace: str) -> dict[str, str]:
        given: dict[str, str] = {}
        for source in container["envFrom"]:
            given |= self._maps[source["configMapRef"]["name"]]
        for variable in container["env"]:
            if "valueFrom" in variable:
                assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace"
            given[variable["name"]] = variable.get("value", namespace)
        return given

    def _mount(self, name: str) -> Path:
        """A ConfigMap as the kubelet mounts it: links through one link that is swapped as a whole."""
        folder = self._folder / name
        version = folder / "..2026_01_01"
        version.mkdir(parents=True)
        (folder / "..data").symlink_to(version.name)
        for key, text in self._maps[name].items():
            (version / key).write_text(text)
            (folder / key).symlink_to(f"..data/{key}")
        return folder


@pytest.mark.parametrize(
    ("title", "replicas"),
    [pytest.param("Install", 1, id="dry-run-first"), pytest.param("From dry run to active", 2, id="active")],
)
def test_the_service_runs_with_its_account_and_environment(
    title: str, replicas: int, installed: Installed, prometheus: Prometheus, exporter: Exporter, tmp_path: Path
) -> None:
    """Of Deployment web there is one replica, less than its policy's least: two are decided, and written only if active."""
    web = installed.api.create(objects.deployment("shop", "web", replicas=1))
    exporter.set_rate("shop", "web", 100.0)
    try:
        with Pod(installed, render_overlay(title, tmp_path), tmp_path, prometheus.url) as pod:
            wait_until("it is ready", lambda: pod.get(pod.probes["readinessProbe"])[0] == 200)
            assert pod.get(pod.probes["livenessProbe"])[0] == 200
            # Nothing is decided before the state was read; its first tick may be before that.
            wait_until("two are decided", lambda: pod.workload("shop/web")["desired"] == 2.0, timeout_s=40)
            web.wait_replicas(replicas)
            row = pod.workload("shop/web")
            assert (row["target_problem"], row["write_problem"]) == ("", "")
            assert pod.process.stop() == 0
        assert web.replicas() == replicas
    finally:
        web.delete()


def test_a_policy_of_ones_own_is_imported_from_its_configmap(installed: Installed, prometheus: Prometheus, tmp_path: Path) -> None:
    with Pod(installed, render_overlay("Policies of your own", tmp_path), tmp_path, prometheus.url) as pod:
        wait_until("it is ready", lambda: pod.get(pod.probes["readinessProbe"])[0] == 200)
        assert pod.workload("arcade/games")["policy"] == "spare:Spare"


def test_a_wrong_policy_is_told_at_the_start(installed: Installed, prometheus: Prometheus, tmp_path: Path) -> None:
    manifests = render_overlay("Install", tmp_path)
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] == "autoscaler-policies":
            manifest["data"]["web.yaml"] = manifest["data"]["web.yaml"].replace("maxReplicas: 60", "maxReplicas: 1")
    with Pod(installed, manifests, tmp_path, prometheus.url) as pod:
        wait_until("it has ended", lambda: not pod.process.running)
        assert pod.process.exit_code == 3
        assert re.search(r"web\.yaml:\d+:\d+: spec\.(min|max)Replicas", pod.log())
