"""Whatever stands in a document, loading it ends in specs or in sentences with a place."""

import copy
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policyfile.load import File, assemble, parse, to_specs
from autoscaler.policyfile.problems import PolicyFileError

NOW_S = 1_800_000_000.0
FULL = yaml.safe_load("""\
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: orders, namespace: shop, labels: {team: sales}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: orders}
  minReplicas: 0
  maxReplicas: 60
  interval: 1m
  metrics:
    - name: requests
      prometheus: {query: up, endpoint: other, whenEmpty: zero}
      target: {averageValue: 1500m}
      activation: 5
  policy: {type: movingAverage, kind: weighted, window: 5m, panicThreshold: 3}
  behavior:
    scaleUp: {stabilizationWindowSeconds: 60, selectPolicy: Max, tolerance: 0.1, policies: [{type: Pods, value: 1, periodSeconds: 60}]}
  schedule: [{name: day, start: 0 8 * * *, end: 0 18 * * *, timeZone: Europe/Berlin, minReplicas: 5}]
  fallback: {afterFailures: 4, replicas: 6, when: ifLower}
  mode: {type: paused, until: "2026-06-02T14:00:00+02:00"}
  startup: 1m30s
""")


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


WORDS = st.sampled_from(
    ["", "0", "5m", "-1", "85", "2Gi", "nan", "x:y", "threshold", "collections:Counter", "UTC", "0 8 * * *", "web", "\0", "é"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6)


def changed(path: tuple[str | int, ...], value: object) -> object:
    document: Any = copy.deepcopy(FULL)
    if not path:
        return value
    *above, last = path
    parent = document
    for step in above:
        parent = parent[step]
    parent[last] = value
    return document


@given(st.sampled_from(list(places(FULL))), ANYTHING)
@settings(max_examples=300)
def test_specs_or_sentences(path: tuple[str | int, ...], value: object) -> None:
    text = yaml.safe_dump(changed(path, value), allow_unicode=True)
    try:
        specs = to_specs(assemble([parse(File("f.yaml", text.encode("utf-8", "replace")))]), NOW_S).specs
    except PolicyFileError as error:
        specs, problems = (), error.problems
    else:
        problems = ()
    assert bool(specs) != bool(problems)
    assert all(problem.line >= 1 and problem.column >= 1 and problem.text for problem in problems)
    assert not any("Input should" in problem.text for problem in problems), problems


def test_the_document_itself_is_right() -> None:
    assert parse(File("f.yaml", yaml.safe_dump(FULL).encode())).problems == ()
