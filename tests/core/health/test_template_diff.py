"""What changed between two revisions, and none of their secrets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.health.template_diff import LINES_MAX, template_diff
from tests.core.health.corpus import CORPUS, Case


def template(**container: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of a container
    pod = container.pop("pod", {})
    metadata = container.pop("metadata", {})
    return {"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "web:1"} | container], **pod}}


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param(template(), template(), (), id="nothing"),
        pytest.param(template(), template(image="web:2"), ("container app, image web:1 → web:2",), id="image"),
        pytest.param(
            template(command=["web", "--port", "80"]),
            template(command=["web", "--port", "81"]),
            ("container app, command web --port 80 → web --port 81",),
            id="command",
        ),
        pytest.param(
            template(args=["--password", "hunter2"]),
            template(args=["--password", "hunter3", "-v"]),
            ("container app, args --password [redacted] → --password [redacted] -v",),
            id="secret-in-args",
        ),
        pytest.param(
            template(env=[{"name": "A", "value": "x"}, {"name": "B", "value": "y"}, {"name": "D", "value": "z"}]),
            template(
                env=[
                    {"name": "A", "value": "hunter2"},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "D", "value": "z"},
                ]
            ),
            ("container app, env A changed", "container app, env B removed", "container app, env C added"),
            id="environment",
        ),
        pytest.param(
            template(resources={"limits": {"memory": "256Mi"}}),
            template(resources={"limits": {"memory": "128Mi", "cpu": 1}}),
            ("container app, resources.limits.cpu added 1", "container app, resources.limits.memory 256Mi → 128Mi"),
            id="resources",
        ),
        pytest.param(
            template(
                livenessProbe={"httpGet": {"path": "/", "httpHeaders": [{"name": "Authorization", "value": "a"}]}, "periodSeconds": 10}
            ),
            template(
                livenessProbe={"httpGet": {"path": "/", "httpHeaders": [{"name": "Authorization", "value": "b"}]}, "periodSeconds": 5}
            ),
            ("container app, livenessProbe.httpGet.httpHeaders Authorization changed", "container app, livenessProbe.periodSeconds 10 → 5"),
            id="probe",
        ),
        pytest.param(
            template(metadata={"annotations": {"checksum/config": "1"}, "labels": {"pod-template-hash": "1"}}),
            template(metadata={"annotations": {"checksum/config": "2"}, "labels": {"pod-template-hash": "2"}}),
            ("pod, annotation checksum/config changed",),
            id="annotation",
        ),
        pytest.param(
            template(),
            template(pod={"nodeSelector": {"disk": "ssd"}, "hostNetwork": True}),
            ("pod, hostNetwork added true", "pod, nodeSelector.disk added ssd"),
            id="pod",
        ),
        pytest.param(
            template(pod={"initContainers": [{"name": "wait", "image": "a"}]}),
            template(),
            ("init container wait, image removed a", "init container wait, name removed wait"),
            id="init-container",
        ),
        pytest.param(
            template(x={"token": "a1"}), template(x={"token": "b2"}), ("container app, x.token [redacted] → [redacted]",), id="key"
        ),
        pytest.param(None, "text", ("pod, added text",), id="no-template"),
    ],
)
def test_lines(before: object, after: object, lines: tuple[str, ...]) -> None:
    assert template_diff(before, after) == lines


def test_long_ones_end() -> None:
    lines = template_diff(template(), template(x={str(number): number for number in range(100)}))
    assert (len(lines), lines[-1]) == (LINES_MAX, "and 61 more")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CORPUS])
def test_no_secret_is_shown(case: Case) -> None:
    fields: dict[str, Any] = {
        "image": case.text,
        "command": ["sh", "-c", case.text],
        "args": case.text.split(" "),
        "env": [{"name": "X", "value": case.text}],
        "livenessProbe": {"exec": {"command": [case.text]}, "httpGet": {"httpHeaders": [{"name": "X", "value": case.text}]}},
    }
    diff = "\n".join([*template_diff(template(), template(**fields)), *template_diff(template(**fields), template())])
    assert [secret for secret in case.secrets if secret in diff] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["spec", "containers", "env", "name", "args"]), inner),
    max_leaves=20,
)


@given(JSON, JSON)
def test_any_json_has_a_diff(before: object, after: object) -> None:
    assert all(line.isprintable() for line in template_diff({"spec": before}, {"spec": {"containers": after}}))
    assert all(line.isprintable() for line in template_diff(before, after))
    assert template_diff(before, before) == ()
