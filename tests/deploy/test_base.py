"""deploy/base without a cluster or kustomize: its manifests one by one. tests/cluster/test_deploy.py renders and applies it."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from autoscaler import service
from autoscaler.adapters import http
from autoscaler.adapters.kubernetes.state import name_of
from autoscaler.errors import ConfigError
from autoscaler.loops.shards import SHARDS
from autoscaler.policyfile.load import load
from autoscaler.settings import Settings
from autoscaler.settings import load as load_settings

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "base"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text())
MANIFESTS: dict[str, dict[str, Any]] = {name: yaml.safe_load((BASE / name).read_text()) for name in KUSTOMIZATION["resources"]}
DEPLOYMENT = MANIFESTS["deployment.yaml"]
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
GENERATED = {entry["name"]: entry for entry in KUSTOMIZATION["configMapGenerator"]}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NOW_S = 1_800_000_000.0


def at(tree: Any, path: str) -> Any:  # noqa: ANN401 - whatever stands there
    for step in path.split("."):
        tree = tree[int(step) if step.isdigit() else step]
    return tree


@pytest.mark.parametrize("version", [pytest.param("1.27", id="oldest"), pytest.param(kubernetes_validate.latest_version(), id="newest")])
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_valid(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_validation_is_strict() -> None:
    typo = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(typo, kubernetes_validate.latest_version(), strict=True)


def test_kustomization_names_every_file() -> None:
    assert set(MANIFESTS) == {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    files = GENERATED["autoscaler-policies"]["files"]
    assert set(files) == {path.relative_to(BASE).as_posix() for path in (BASE / "policies").iterdir()}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # Pod Security Standards, restricted
        pytest.param("spec.template.spec.securityContext", {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, id="pod"),
        pytest.param("spec.template.spec.containers.0.securityContext.allowPrivilegeEscalation", False, id="escalation"),
        pytest.param("spec.template.spec.containers.0.securityContext.capabilities", {"drop": ["ALL"]}, id="capabilities"),
        pytest.param("spec.template.spec.containers.0.securityContext.readOnlyRootFilesystem", True, id="read-only"),
        # ours
        pytest.param("spec.replicas", 1, id="one"),
        pytest.param("spec.strategy", {"type": "Recreate"}, id="never-two"),
        pytest.param("spec.template.spec.enableServiceLinks", False, id="no-service-links"),
        pytest.param("spec.template.spec.serviceAccountName", MANIFESTS["serviceaccount.yaml"]["metadata"]["name"], id="account"),
        pytest.param("spec.template.spec.automountServiceAccountToken", True, id="token"),
        pytest.param("spec.template.spec.volumes", [{"name": "policies", "configMap": {"name": "autoscaler-policies"}}], id="volumes"),
    ],
)
def test_deployment_has(path: str, expected: object) -> None:
    assert at(DEPLOYMENT, path) == expected


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC", "initContainers"])
def test_pod_has_no(field: str) -> None:
    assert field not in POD["spec"]


def test_resources_are_sized_and_memory_is_limited() -> None:
    assert set(CONTAINER["resources"]["requests"]) == {"cpu", "memory"}
    assert set(CONTAINER["resources"]["limits"]) == {"memory"}, "a CPU limit would throttle the ticks"


def test_probes_ask_what_is_served_where_it_is_served() -> None:
    probes = {name: CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    for path in ("/healthz", "/readyz", "/metrics"):
        assert f"``{path}``" in str(http.__doc__)
    (port,) = CONTAINER["ports"]
    (service_port,) = MANIFESTS["service.yaml"]["spec"]["ports"]
    assert {port["name"]} == {probe["port"] for probe in probes.values()} | {service_port["targetPort"]}
    default = Settings.model_fields["listen_port"].default
    assert (port["containerPort"], service_port["port"], POD["metadata"]["annotations"]["prometheus.io/port"]) == (
        default,
        default,
        str(default),
    )


def test_there_is_time_to_finish_writes() -> None:
    assert POD["spec"]["terminationGracePeriodSeconds"] > service.FINISH_S + service.SAVE_S + http.SHUTDOWN_S


def test_selectors_find_the_pod() -> None:
    labels = POD["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == MANIFESTS["service.yaml"]["spec"]["selector"] == labels
    (common,) = KUSTOMIZATION["labels"]
    assert labels.items() <= common["pairs"].items()
    assert "includeSelectors" not in common, "a version in the selector would forbid every upgrade"


def test_version_is_the_projects() -> None:
    (common,) = KUSTOMIZATION["labels"]
    (image,) = KUSTOMIZATION["images"]
    assert (common["pairs"]["app.kubernetes.io/version"], image) == (VERSION, {"name": CONTAINER["image"], "newTag": VERSION})


def test_rights_are_those_of_one_namespace_and_no_more() -> None:
    assert {manifest["kind"] for manifest in MANIFESTS.values()} == {"Deployment", "Role", "RoleBinding", "Service", "ServiceAccount"}
    kinds = ["deployments", "replicasets", "statefulsets"]
    assert MANIFESTS["role.yaml"]["rules"] == [
        {"apiGroups": ["apps"], "resources": kinds, "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": [f"{kind}/scale" for kind in kinds], "verbs": ["get", "patch"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list", "watch"]},
        {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list", "watch"]},
        {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["list", "watch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["controllerrevisions"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    ]
    names = [name_of(shard) for shard in SHARDS]
    assert MANIFESTS["role-state.yaml"]["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": ["get", "create", "patch"]}
    ]
    for suffix in ("", "-state"):
        binding, account = MANIFESTS[f"rolebinding{suffix}.yaml"], MANIFESTS["serviceaccount.yaml"]
        role = MANIFESTS[f"role{suffix}.yaml"]["metadata"]["name"]
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]


@pytest.mark.parametrize("version", [pytest.param("1.27", id="oldest"), pytest.param(kubernetes_validate.latest_version(), id="newest")])
@pytest.mark.parametrize("path", ["remedies/role.yaml", "remedies/rolebinding.yaml", "nodes/clusterrole.yaml", "reviews/clusterrole.yaml"])
def test_further_rights_are_valid(path: str, version: str) -> None:
    kubernetes_validate.validate(yaml.safe_load((DEPLOY / path).read_text()), version, strict=True)


def test_nothing_is_restarted_without_a_role_of_its_own() -> None:
    remedies = DEPLOY / "remedies"
    assert set(yaml.safe_load((remedies / "kustomization.yaml").read_text())["resources"]) == {"role.yaml", "rolebinding.yaml"}
    role, binding = (yaml.safe_load((remedies / name).read_text()) for name in ("role.yaml", "rolebinding.yaml"))
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == MANIFESTS["rolebinding.yaml"]["subjects"]
    nodes = yaml.safe_load((DEPLOY / "nodes" / "clusterrole.yaml").read_text())
    assert nodes["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]


def test_asking_whose_a_token_is_is_a_right_of_its_own() -> None:
    reviews = yaml.safe_load((DEPLOY / "reviews" / "clusterrole.yaml").read_text())
    assert reviews["rules"] == [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ]


def environment() -> dict[str, str]:
    """What the container's variables are, as the kubelet would fill them in."""
    given = dict(literal.split("=", 1) for literal in GENERATED["autoscaler-settings"]["literals"])
    for variable in CONTAINER["env"]:
        if "valueFrom" in variable:
            assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
        given[variable["name"]] = variable.get("value", KUSTOMIZATION["namespace"])
    return given


def test_environment_is_settings() -> None:
    assert CONTAINER["envFrom"] == [{"configMapRef": {"name": "autoscaler-settings"}}]
    settings = load_settings(environ=environment())
    (mount,) = CONTAINER["volumeMounts"]
    assert settings.policies == (Path(mount["mountPath"]),)
    assert settings.namespaces == (KUSTOMIZATION["namespace"],)
    assert (settings.mode, settings.state) == ("dryRun", "kubernetes")
    assert set(settings.prometheus) == {"default"}


def test_policies_are_valid_and_within_the_namespace() -> None:
    policies = load([BASE / name for name in GENERATED["autoscaler-policies"]["files"]], NOW_S)
    assert policies.warnings == ()
    assert {spec.workload.namespace for spec in policies.specs} == {KUSTOMIZATION["namespace"]}


def test_sample_policy_is_an_example() -> None:
    assert (BASE / "policies" / "web.yaml").read_text() == (DEPLOY / "examples" / "threshold.yaml").read_text()


def test_examples_are_valid() -> None:
    """As a user checks them; all at once, so that no two are for one workload."""
    own = DEPLOY / "examples" / "own-policy"
    command = [sys.executable, "-P", "-m", "autoscaler", "validate", "-o", "json", "--policy-path", str(own), str(own.parent), str(own)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["valid"], found["warnings"]) == (True, [])
    files = {path for folder in (own.parent, own) for path in folder.glob("*.yaml")}
    assert {Path(workload["from"].rsplit(" (", 1)[0]) for workload in [*found["workloads"], *found["health"]]} == files


def test_readme_names_settings_that_exist() -> None:
    readme = (DEPLOY / "README.md").read_text()
    named = set(re.findall(r"\bAUTOSCALER_\w+", readme))
    assert {"AUTOSCALER_MODE", "AUTOSCALER_POLICY_PATH", "AUTOSCALER_NAMESPACES"} <= named
    with pytest.raises(ConfigError) as refused:
        load_settings(environ=dict.fromkeys([*named, "AUTOSCALER_NOT_ONE"], "{}"))
    assert re.findall(r"^(\w+): no such setting", str(refused.value), re.MULTILINE) == ["AUTOSCALER_NOT_ONE"]
