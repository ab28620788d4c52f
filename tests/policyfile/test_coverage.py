"""Which pods the question about coverage counts, where a policy brings none of its own."""

import re

import pytest

from autoscaler.core.types import Workload
from autoscaler.policyfile.coverage import LABEL, default_coverage

DEPLOYMENT, REPLICA_SET, STATEFUL_SET = "Deployment", "ReplicaSet", "StatefulSet"


@pytest.mark.parametrize(
    ("kind", "pod", "workload"),
    [
        pytest.param(DEPLOYMENT, "web-7d9f8b6c5d-x2x4z", "web", id="deployment"),
        pytest.param(DEPLOYMENT, "web-api-7d9f8b6c5d-x2x4z", "web-api", id="deployment-with-a-dash"),
        pytest.param(DEPLOYMENT, "db-0", "", id="deployment-not-a-set"),
        pytest.param(DEPLOYMENT, "my-web-x2x4z", "", id="deployment-not-a-replica-set"),
        pytest.param(REPLICA_SET, "web-x2x4z", "web", id="replica-set"),
        pytest.param(STATEFUL_SET, "db-12", "db", id="stateful-set"),
        pytest.param(STATEFUL_SET, "db-x2x4z", "", id="stateful-set-not-a-replica"),
    ],
)
def test_a_pod_is_known_by_its_name(kind: str, pod: str, workload: str) -> None:
    coverage = default_coverage(Workload("shop", workload or "web", kind), "other")
    assert coverage is not None
    assert coverage.match == ((LABEL, workload or "web"),)
    assert (coverage.query.endpoint, coverage.is_given) == ("other", False)
    text = coverage.query.text
    assert 'namespace="shop"' in text
    (selector,) = re.findall(r'pod=~"([^"]+)"', text)
    (capture,) = re.findall(r'"pod", "([^"]+)"', text)
    found = re.fullmatch(capture, pod)
    assert (re.fullmatch(selector, pod) is not None) == (found is not None)
    assert (found[1] if found else "") == workload


def test_one_query_serves_all_of_a_kind_in_a_namespace() -> None:
    queries = {default_coverage(Workload("shop", name), "default").query for name in ("web", "api", "db")}  # type: ignore[union-attr]
    assert len(queries) == 1


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(Workload("shop", "web", "Rollout", "argoproj.io/v1alpha1"), id="custom-resource"),
        pytest.param(Workload("shop", "w" * 47), id="name-that-is-cut-in-pods"),
    ],
)
def test_there_is_none_where_names_do_not_tell(workload: Workload) -> None:
    assert default_coverage(workload, "default") is None
