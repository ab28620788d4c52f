"""How long pods take to start: what counts as a start, what does not, and what comes of the last twenty."""

from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.health.facts import Condition, Pod
from autoscaler.core.startup import FLOOR_S, STARTS, UNKNOWN_S, Starts, seen
from tests.core.health.build import START_S, container, ready
from tests.core.health.build import pod as a_pod

MADE_S = START_S


def pod(name: str, took_s: float | None, **changes: Any) -> Pod:  # noqa: ANN401 - fields of Pod
    """A pod made at MADE_S; Ready after so many seconds (None: not yet), its container running since one second before that."""
    ran_s = MADE_S + (0.0 if took_s is None else took_s - 1)
    condition = ready(status="False", since_s=MADE_S + 1) if took_s is None else ready(since_s=MADE_S + took_s)
    made = a_pod(name, container(running_s=ran_s), created_s=MADE_S, started_s=MADE_S + 1, conditions=(condition,))
    return replace(made, **changes)


def after(*looks: list[Pod]) -> Starts:
    starts = Starts()
    for pods in looks:
        starts = seen(starts, pods)
    return starts


@pytest.mark.parametrize(
    ("looks", "took"),
    [
        pytest.param([[pod("a", None)]], [], id="not-ready-yet"),
        pytest.param([[pod("a", None)], [pod("a", 40)]], [40], id="waited-for"),
        pytest.param([[pod("a", None, conditions=())], [pod("a", 40)]], [40], id="scheduled-late"),
        pytest.param([[pod("a", 40)]], [40], id="ready-when-first-seen"),
        pytest.param([[pod("a", 40)], [pod("a", 40)]], [40], id="counted-once"),
        pytest.param([[pod("a", 40)], [pod("a", None)], [pod("a", 900)]], [40], id="a-later-flap"),
        pytest.param([[pod("a", 40, containers=(container(restarts=1, running_s=MADE_S + 39),))]], [], id="restarted-before-first-seen"),
        pytest.param([[pod("a", 40, containers=(container(restarts=-1, running_s=MADE_S + 39),))]], [], id="restarts-not-said"),
        pytest.param(
            [[pod("a", None)], [pod("a", 90, containers=(container(restarts=2, running_s=MADE_S + 89),))]],
            [90],
            id="restarted-while-awaited",
        ),
        pytest.param([[pod("a", 4000, containers=(container(running_s=MADE_S + 5),))]], [], id="ready-again-long-after-it-ran"),
        pytest.param([[pod("a", 40, containers=(container(running_s=MADE_S + 60),))]], [], id="ready-before-it-ran"),
        pytest.param(
            [[pod("a", None, conditions=(ready(status="False", since_s=MADE_S + 500),))], [pod("a", 700)]],
            [],
            id="lost-ready-before-first-seen",
        ),
        pytest.param([[pod("a", None, conditions=(Condition("Ready", "Unknown"),))], [pod("a", 40)]], [40], id="unknown"),
        pytest.param([[pod("a", None)], [pod("a", 40, created_s=nan)]], [], id="no-creation-time"),
        pytest.param([[pod("a", None)], [], [pod("b", 20)]], [20], id="gone-before-it-was-ready"),
        pytest.param([[pod("b", 30), pod("a", 20)]], [20, 30], id="in-the-order-of-ready"),
    ],
)
def test_what_counts_as_a_start(looks: list[list[Pod]], took: list[float]) -> None:
    assert [seconds for _, seconds in after(*looks).took] == took


def test_the_same_pods_are_no_news() -> None:
    pods = [pod("a", 40), pod("b", None)]
    starts = after(pods)
    assert seen(starts, pods) is starts


def test_nobody_is_remembered_longer_than_there_is_a_pod() -> None:
    starts = after([pod("a", 40), pod("b", None)], [pod("c", None)])
    assert (starts.done, starts.waiting) == (frozenset[str](), frozenset({"c-uid"}))


@pytest.mark.parametrize(
    ("took", "seconds"),
    [
        pytest.param([], UNKNOWN_S, id="unknown"),
        pytest.param([2.0], FLOOR_S, id="floor"),
        pytest.param([80.0], 80.0, id="one"),
        pytest.param([20.0] * 9 + [200.0], 38.0, id="one-in-ten"),
        pytest.param([900.0] * 10 + [30.0] * STARTS, 30.0, id="the-last-twenty"),
    ],
)
def test_the_90th_percentile_of_the_last_twenty(took: list[float], seconds: float) -> None:
    starts = Starts()
    for number, each in enumerate(took):
        made_s = MADE_S + 1000.0 * number
        one = replace(pod(f"p{number}", None), created_s=made_s, started_s=made_s)
        ran = replace(one, conditions=(ready(since_s=made_s + each),), containers=(container(running_s=made_s),))
        starts = seen(seen(starts, [replace(one, conditions=())]), [ran])
    assert starts.seconds == pytest.approx(seconds)


@given(st.lists(st.floats(0, 600), min_size=1, max_size=60))
def test_it_is_within_what_the_last_took(took: list[float]) -> None:
    starts = Starts(took=tuple(enumerate(map(float, took)))[-STARTS:])
    last = np.array(took[-STARTS:])
    assert max(FLOOR_S, float(last.min())) <= starts.seconds <= max(FLOOR_S, float(last.max()))
