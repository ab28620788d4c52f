"""From pods and samples to load, request, coverage and saturation; and the pod columns, which the real HPA's own are compared with."""

from collections.abc import Sequence
from dataclasses import replace
from math import isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.health.facts import Condition, Container, Pod, Resources, Role
from autoscaler.core.spec import Usage
from autoscaler.core.types import PodPhase, PodReady
from autoscaler.core.usage import SAMPLE_MAX_S, Measured, Sample, measured, rows_of, table_of, use_of
from tests.core.health.build import container, ready
from tests.core.health.build import pod as a_pod

AT_S = 1_700_000_000.0
MI = 2.0**20
NORMAL = Resources(cpu_request=0.5, cpu_limit=1.0, memory_request=100 * MI, memory_limit=200 * MI)


def pod(name: str = "web-1", *containers: Container, **changes: Any) -> Pod:  # noqa: ANN401 - fields of Pod
    """A pod that has been Ready for an hour, with one container of half a core and 100 Mi."""
    made = a_pod(
        name, *(containers or (limited(),)), created_s=AT_S - 3600, started_s=AT_S - 3590, conditions=(ready(since_s=AT_S - 3580),)
    )
    return replace(made, **changes)


def limited(name: str = "app", resources: Resources = NORMAL, **changes: Any) -> Container:  # noqa: ANN401 - fields of Container
    return container(name, resources=resources, **changes)


def sample(cpu: float = 0.25, memory: float = 50 * MI, age_s: float = 20.0, **more: tuple[float, float]) -> Sample:
    return Sample(AT_S - age_s, 30.0, {"app": (cpu, memory), **more})


def young(ready_s: float | None, started_s: float = 60.0) -> dict[str, Any]:
    """Started so many seconds ago, Ready since so many (None: not)."""
    condition = ready(status="False", since_s=AT_S - started_s) if ready_s is None else ready(since_s=AT_S - ready_s)
    return {"started_s": AT_S - started_s, "created_s": AT_S - started_s - 1, "conditions": (condition,)}


def measure(
    pods: Sequence[tuple[Pod, Sample | None]],
    usage: Usage | None = None,
    *,
    utilization: bool = True,
    judged: bool = False,
    exact: bool = False,
) -> dict[str, Any]:
    """All fields of one series of these pods."""
    usage = usage or Usage("cpu")
    rows = rows_of([each for each, _ in pods], usage, requested=utilization, exact=exact)
    uses = [use_of(found, names, usage.resource, exact=exact) for (_, found), names in zip(pods, rows.containers, strict=True)]
    stamps = [(nan, nan) if found is None else (found.at_s, found.window_s) for _, found in pods]
    table = table_of([rows], uses, stamps, AT_S, np.array([exact]))
    found = measured(table, AT_S, np.array([usage.resource == "cpu"]), np.array([utilization]), np.array([judged]))
    fields = {name: getattr(found, name)[0].item() for name in Measured.__dataclass_fields__}
    return fields | {"stale": int(table.stale[0]), "unrequested": rows.unrequested, "pods": table.pods}


BARE = limited("proxy", Resources())
SIDE = limited("proxy", Resources(0.1, 0.2, 10 * MI, 20 * MI))


@pytest.mark.parametrize(
    ("pods", "options", "expected"),
    [
        pytest.param([(pod(), sample())], {}, {"load": 0.25, "request": 0.5, "age_s": 20.0, "covered": 1.0, "saturated": False}, id="one"),
        pytest.param([(pod("a"), sample(0.2)), (pod("b"), sample(0.4))], {}, {"load": 0.6, "request": 0.5, "counted": 2}, id="two"),
        pytest.param(
            [(pod("a"), sample(age_s=10)), (pod("b"), sample(age_s=50))],
            {"utilization": False},
            {"load": 0.5, "age_s": 30.0},
            id="mean-age",
        ),
        pytest.param([(pod(), sample())], {"usage": Usage("memory")}, {"load": 50 * MI, "request": 100 * MI}, id="memory"),
        # Samples that are missing, old, of others, of start-up.
        pytest.param([(pod("a"), sample()), (pod("b"), None)], {}, {"load": 0.25, "covered": 0.5, "counted": 1}, id="one-without-sample"),
        pytest.param([(pod(), None)], {}, {"load": nan, "covered": 0.0, "counted": 0, "sampled": 0}, id="no-sample"),
        pytest.param([(pod(), sample(age_s=SAMPLE_MAX_S + 1))], {}, {"load": nan, "stale": 1, "sampled": 0}, id="old-sample"),
        pytest.param([(pod(), sample(age_s=-SAMPLE_MAX_S - 1))], {}, {"load": nan, "stale": 1}, id="sample-of-the-future"),
        pytest.param([(pod(), sample(age_s=SAMPLE_MAX_S + 1))], {"exact": True}, {"load": 0.25, "stale": 0}, id="old-sample-exact"),
        pytest.param(
            [(pod(**young(5, 10)), sample(age_s=20))],
            {"usage": Usage("memory")},
            {"load": nan, "stale": 1},
            id="of-the-one-before-of-its-name",
        ),
        pytest.param([(pod(**young(40)), sample(age_s=5))], {}, {"load": 0.25, "covered": 1.0}, id="sampled-since-it-is-ready"),
        pytest.param([(pod(**young(30)), sample(age_s=5))], {}, {"load": nan, "sampled": 1, "covered": 0.0}, id="sample-began-before"),
        pytest.param([(pod(**young(None)), sample())], {}, {"load": nan, "covered": nan}, id="not-ready-yet"),
        pytest.param([(pod(**young(None)), sample())], {"usage": Usage("memory")}, {"load": 50 * MI}, id="not-ready-yet-memory"),
        pytest.param([(pod(**young(None)), sample())], {"judged": True}, {"load": 0.25, "counted": 1}, id="not-ready-yet-but-judged"),
        pytest.param(
            [(pod(conditions=(ready(status="False", since_s=AT_S - 30),)), sample())], {}, {"load": 0.25}, id="unready-by-overload"
        ),
        pytest.param([(pod(conditions=()), sample())], {}, {"load": nan}, id="no-condition"),
        # Pods that do not count.
        pytest.param([(pod("a"), sample()), (pod("b", phase="Pending"), sample())], {}, {"load": 0.25, "running": 1}, id="pending"),
        pytest.param([(pod("a"), sample()), (pod("b", phase="Failed"), sample())], {}, {"load": 0.25, "running": 1}, id="failed"),
        pytest.param([(pod("a"), sample()), (pod("b", deletion_s=AT_S + 9), sample())], {}, {"load": 0.25, "running": 1}, id="deleted"),
        pytest.param([], {}, {"load": nan, "request": nan, "running": 0, "covered": nan, "saturated": False}, id="no-pods"),
        # Containers.
        pytest.param([(pod("a", limited(), SIDE), sample(proxy=(0.05, MI)))], {}, {"load": 0.3, "request": 0.6}, id="sidecar-counts"),
        pytest.param(
            [(pod("a", limited(), SIDE), sample(proxy=(0.05, MI)))],
            {"usage": Usage("cpu", "app")},
            {"load": 0.25, "request": 0.5},
            id="chosen",
        ),
        pytest.param(
            [(pod(), sample())], {"usage": Usage("cpu", "other")}, {"load": nan, "request": nan, "sampled": 0}, id="chosen-not-there"
        ),
        pytest.param(
            [(pod("a", limited(), BARE), sample(proxy=(9.0, MI)))],
            {},
            {"load": 0.25, "request": 0.5, "unrequested": ("a",)},
            id="sidecar-without-request-left-out",
        ),
        pytest.param(
            [(pod("a", limited(), BARE), sample(proxy=(0.5, MI)))],
            {"utilization": False},
            {"load": 0.75, "unrequested": ()},
            id="averageValue-counts-it",
        ),
        pytest.param(
            [(pod("a", limited(), BARE), sample(proxy=(0.5, MI)))],
            {"exact": True, "judged": True},
            {"requested": 0, "request": nan, "unrequested": ("a",)},
            id="exact-gives-up",
        ),
        pytest.param([(pod("a", BARE), sample())], {}, {"load": nan, "requested": 0, "unrequested": ("a",)}, id="no-request-at-all"),
        pytest.param(
            [(pod("a"), sample(0.3)), (pod("b", BARE), Sample(AT_S - 20, 30, {"proxy": (7.0, MI)}))],
            {},
            {"load": 0.6, "request": 0.5, "counted": 2, "requested": 1},
            id="a-pod-without-request-is-as-busy-as-the-others",
        ),
        pytest.param(
            [(pod("a", limited(), limited("init", NORMAL, role=Role.INIT)), sample())],
            {},
            {"load": 0.25, "request": 0.5},
            id="init-container",
        ),
        pytest.param(
            [(pod("a", limited(), limited("proxy", NORMAL, role=Role.SIDECAR)), sample(proxy=(0.25, MI)))],
            {},
            {"load": 0.5, "request": 1.0},
            id="native-sidecar",
        ),
        # The limit.
        pytest.param([(pod(), sample(0.94))], {}, {"saturated": False}, id="below-the-limit"),
        pytest.param([(pod(), sample(0.95))], {}, {"saturated": True}, id="at-the-limit"),
        pytest.param([(pod("a"), sample(1.0)), (pod("b"), sample(0.5))], {}, {"saturated": False}, id="one-of-two"),
        pytest.param([(pod("a", limited(resources=Resources(0.5))), sample(4.0))], {}, {"saturated": False}, id="no-limit"),
        pytest.param(
            [(pod("a"), sample(1.0)), (pod("b", limited(resources=Resources(0.5))), sample(4.0))],
            {},
            {"saturated": False},
            id="one-has-none",
        ),
        pytest.param(
            [(pod("a", limited(), BARE), sample(0.99, proxy=(0.0, MI)))],
            {"usage": Usage("cpu", "app"), "utilization": False},
            {"saturated": True},
            id="limit-of-the-chosen-container",
        ),
        pytest.param([(pod(), sample(memory=195 * MI))], {"usage": Usage("memory")}, {"saturated": True}, id="memory-at-its-limit"),
    ],
)
def test_what_pods_and_samples_come_to(pods: list[tuple[Pod, Sample | None]], options: dict[str, Any], expected: dict[str, Any]) -> None:
    found = measure(pods, **options)
    numbers = {name: value for name, value in expected.items() if name != "unrequested"}
    assert {name: found[name] for name in numbers} == pytest.approx(numbers, nan_ok=True)
    assert found["unrequested"] == expected.get("unrequested", found["unrequested"])


@pytest.mark.parametrize(
    ("given", "exact", "use"),
    [
        pytest.param({"app": (0.0001, 0.0)}, False, 0.0001, id="as-it-is"),
        pytest.param({"app": (0.0001, 0.0), "proxy": (0.0001, 0.0)}, True, 0.002, id="exact-rounds-each-up"),
        pytest.param({"app": (123_000_000 * 1e-9, 0.0)}, True, 0.123, id="exact-whole-thousandths"),
        pytest.param({"app": (nan, 0.0)}, True, nan, id="not-said"),
        pytest.param({}, False, nan, id="no-container"),
    ],
)
def test_use_of_a_sample(given: dict[str, tuple[float, float]], exact: bool, use: float) -> None:  # noqa: FBT001 - a column of the table
    assert use_of(Sample(AT_S, 30.0, given), None, "cpu", exact=exact) == pytest.approx(use, nan_ok=True)


def test_the_columns_of_pods() -> None:
    pods = [
        pod("a"),
        pod("b", phase="Pending", conditions=()),
        pod("c", phase="Failed", deletion_s=AT_S),
        pod("d", deletion_s=AT_S),
        pod("e", phase="Succeeded", conditions=(Condition("Ready", "Unknown", since_s=AT_S - 3),)),
    ]
    found = measure([(each, sample() if each.name in "ae" else None) for each in pods])["pods"]
    assert found.offsets.tolist() == [0, 5]
    assert found.phase.tolist() == [PodPhase.RUNNING, PodPhase.PENDING, PodPhase.FAILED, PodPhase.DELETED, PodPhase.OTHER]
    assert found.ready.tolist() == [PodReady.TRUE, PodReady.NONE, PodReady.TRUE, PodReady.TRUE, PodReady.UNKNOWN]
    np.testing.assert_equal(found.use, [0.25, nan, nan, nan, 0.25])
    np.testing.assert_equal(found.request, [0.5] * 5)
    np.testing.assert_equal(found.started_s, [AT_S - 3590] * 5)
    np.testing.assert_equal(found.ready_changed_s, [AT_S - 3580, nan, AT_S - 3580, AT_S - 3580, AT_S - 3])
    np.testing.assert_equal((found.sampled_s, found.window_s), ([AT_S - 20, nan, nan, nan, AT_S - 20], [30, nan, nan, nan, 30]))


def test_series_without_pods_between_others() -> None:
    rows = rows_of([pod("a"), pod("b")], Usage("cpu"), requested=True, exact=False)
    table = table_of([None, rows, None, rows], [0.1, nan, 0.3, 0.4], [(AT_S, 30.0)] * 4, AT_S, np.zeros(4, np.bool_))
    no, yes = np.zeros(4, np.bool_), np.ones(4, np.bool_)
    found = measured(table, AT_S, yes, yes, no)
    assert table.pods.offsets.tolist() == [0, 0, 2, 2, 4]
    np.testing.assert_allclose(found.load, [nan, 0.1, nan, 0.7])
    np.testing.assert_allclose(found.covered, [nan, 0.5, nan, 1.0])


USES = st.lists(st.one_of(st.none(), st.floats(0, 4)), min_size=1, max_size=12)


@given(USES)
def test_missing_samples_never_raise_the_load_and_what_is_known_is_never_zero_by_accident(uses: list[float | None]) -> None:
    pods = [(pod(f"p{number}"), None if use is None else sample(use)) for number, use in enumerate(uses)]
    found = measure(pods)
    known = [use for use in uses if use is not None]
    assert isnan(found["load"]) == (not known)
    if known:
        assert found["load"] == pytest.approx(sum(known))
        assert found["covered"] == pytest.approx(len(known) / len(uses))
