"""Restarts are counted once each, and a loop stands until the container has run cleanly."""

from collections.abc import Sequence
from math import nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.health.facts import Container, Termination
from autoscaler.core.health.findings import Finding
from tests.core.health.build import (
    LOOP,
    START_S,
    Ward,
    backing_off,
    container,
    crashed,
    ended,
    pod,
    running,
    told,
    waiting,
)


def play(ward: Ward, steps: Sequence[tuple[float, Container]], **changes: Any) -> list[list[tuple[str, str, str]]]:  # noqa: ANN401 - fields of Pod
    """What is due after each step of one pod's life."""
    return [told(ward.due(after_s, pod("web-1-a", shown, **changes))) for after_s, shown in steps]


def _rounds(restarts: int, at_s: float) -> list[tuple[float, Container]]:
    """A run that ends with 1 after five seconds; before the first there is no last state."""
    earlier = Termination(1, "Error", nan, START_S + at_s - 15) if restarts else None
    over = Termination(1, "Error", START_S + at_s, START_S + at_s + 5)
    run = container(restarts=restarts, running_s=START_S + at_s, last=earlier)
    return [(at_s + 1, run), (at_s + 6, ended(restarts=restarts, terminated=over, last=earlier))]


@pytest.mark.parametrize(
    ("steps", "made"),
    [
        pytest.param([(20, running(1, 11, 10)), (600, running(1, 11, 10))], [[], []], id="crashed-once-and-runs"),
        pytest.param(
            [(20, running(1, 11, 10)), (60, running(2, 51, 50)), (90, running(3, 81, 80)), (100, running(3, 81, 80))],
            [[], [], LOOP, LOOP],
            id="three-restarts-though-never-seen-waiting",
        ),
        pytest.param(
            [(20, crashed(1, 10)), (30, running(2, 21, 10)), (139, crashed(2, 135)), (141, running(2, 140, 135)), (142, crashed(3, 141))],
            [[], [], [], [], LOOP],
            id="alternates-between-running-and-waiting",
        ),
        pytest.param(
            [(20, crashed(1, 10)), (139, crashed(1, 10)), (140, crashed(1, 10)), (145, running(2, 144, 10)), (263, running(2, 144, 10))],
            [[], [], LOOP, LOOP, LOOP],
            id="latched-while-it-runs-again",
        ),
        pytest.param(
            [(140, crashed(1, 10)), (260, crashed(1, 10)), (300, running(2, 265, 10)), (385, running(2, 265, 10))],
            [[], LOOP, LOOP, []],
            id="well-again-after-two-minutes",
        ),
        pytest.param(
            [(20, running(3, 11, 10)), (140, running(3, 11, 10)), (609, running(3, 11, 10)), (611, running(3, 11, 10))],
            [LOOP, LOOP, LOOP, []],
            id="three-restarts-stand-while-the-window-has-them",
        ),
        pytest.param(
            [(20, running(1, 11, 10)), (400, running(2, 390, 389)), (800, running(3, 790, 789)), (1200, running(4, 1190, 1189))],
            [[], [], [], []],
            id="three-restarts-in-more-than-ten-minutes",
        ),
        pytest.param(
            [(20, running(2, 11, 10)), (30, running(0, 25)), (40, running(1, 35, 34))],
            [[], [], LOOP],
            id="a-count-that-was-reset-loses-none",
        ),
        pytest.param(
            [(20, running(5, 11, 10)), (700, running(5, 11, 10)), (710, running(4, 11, 10)), (720, running(5, 11, 10))],
            [LOOP, [], [], []],
            id="a-replayed-old-state-is-no-restart",
        ),
        pytest.param(
            [(20, running(1, 11, 10)), (40, ended(1, "Error", START_S + 35, restarts=1)), (50, running(2, 45, 35))],
            [[], [], []],
            id="an-end-seen-as-state-and-as-last-state-counts-once",
        ),
        pytest.param(
            [(20, container(restarts=0)), (3000, running(9, 2990, 2989))], [[], []], id="nine-restarts-in-an-hour-unseen-are-no-loop"
        ),
        pytest.param([(20, running(1, 30, 25)), (40, running(1, 30, 5e6))], [[], []], id="times-in-the-future"),
        pytest.param(
            [(20, container(restarts=-1)), (30, container(restarts=3)), (40, container(restarts=-1)), (50, container(restarts=3))],
            [[], LOOP, LOOP, LOOP],
            id="a-count-that-is-not-always-there",
        ),
    ],
)
def test_restarts_over_time(steps: list[tuple[float, Container]], made: list[list[tuple[str, str, str]]]) -> None:
    assert play(Ward(), steps) == made


@pytest.mark.parametrize(
    ("steps", "made"),
    [
        pytest.param(
            # As recorded of a container whose restartPolicyRules restart it: its wait is shorter than a look.
            [step for restarts in range(4) for step in _rounds(restarts, 10 + 20 * restarts)],
            [[]] * 6 + [LOOP] * 2,
            id="restarted-by-rules-of-its-own",
        ),
        pytest.param([(20, ended(1, "Error", START_S + 15)), (3000, ended(1, "Error", START_S + 15))], [[], []], id="ended-for-good"),
        pytest.param([(20, running(0, 10)), (30, running(1, 21, 20)), (90, running(1, 21, 20))], [[], [], []], id="restarted-once"),
    ],
)
def test_restarts_in_a_pod_that_may_end(steps: list[tuple[float, Container]], made: list[list[tuple[str, str, str]]]) -> None:
    assert play(Ward(), steps, restart_policy="Never") == made


def test_reboots_of_a_node_are_no_crashes_of_its_pods() -> None:
    """As recorded of containerd after a loss of power; three restarts in ten minutes would be a loop."""
    lives = [
        (each * 100 + more, shown)
        for each in (1, 2, 3)
        for more, shown in (
            (0, ended(255, "Unknown", START_S + each * 100 - 5, restarts=each - 1)),
            (
                5,
                container(
                    restarts=each, running_s=START_S + each * 100 + 2, last=Termination(255, "Unknown", nan, START_S + each * 100 - 5)
                ),
            ),
        )
    ]
    assert {cause for found in play(Ward(), lives) for cause in found} == {("Node node-1", "", "LostStatus")}


@pytest.mark.parametrize("policy", ["Never", "Always"])
def test_a_restart_in_place_is_no_crash_though_its_condition_is_over(policy: str) -> None:
    # As recorded: the condition is False again when the count rises, and the end has no time.
    last = Termination(137, "RestartingAllContainers")
    steps = [
        step
        for restarts in range(1, 6)
        for step in (
            (20 * restarts, waiting("RestartingAllContainers", restarts=restarts, last=last)),
            (20 * restarts + 1, container(restarts=restarts, running_s=START_S + 20 * restarts, last=last)),
        )
    ]
    assert play(Ward(), steps, restart_policy=policy) == [[]] * 10


@pytest.mark.parametrize(
    ("first", "then", "at_once", "at_last"),
    [
        pytest.param(
            crashed(1, 10, 1), crashed(2, 30, 137, "OOMKilled"), {"OutOfMemory"}, {"CrashLoop", "OutOfMemory"}, id="another-cause-joins"
        ),
        pytest.param(
            backing_off(restarts=1, last=None),
            crashed(1, 10, 137, "OOMKilled"),
            {"OutOfMemory"},
            {"OutOfMemory"},
            id="the-last-state-comes-late",
        ),
        pytest.param(
            crashed(1, 10, 128, "StartError"), crashed(2, 30, 128, "StartError"), {"CannotRun"}, {"CannotRun"}, id="the-same-cause-again"
        ),
        pytest.param(
            waiting("PostStartHookError"), crashed(1, 30, 137), set(), {"PostStartHook"}, id="a-hook-explains-the-kill-that-follows"
        ),
    ],
)
def test_a_loop_keeps_each_of_its_causes(first: Container, then: Container, at_once: set[str], at_last: set[str]) -> None:
    ward = Ward()
    ward.due(20, pod("web-1-a", first))
    made = [{str(each.cause) for each in ward.due(after_s, pod("web-1-a", then))} for after_s in (40, 300)]
    assert made == [at_once, at_last]


steps = st.lists(
    st.tuples(st.floats(1, 300), st.integers(0, 6), st.sampled_from(["running", "ended", "waiting"]), st.sampled_from([nan, 0.0, -500.0])),
    max_size=25,
)


@given(lives=steps)
@settings(max_examples=150)
def test_no_sequence_of_restart_counts_makes_two_findings_of_one_cause(lives: list[tuple[float, int, str, float]]) -> None:
    ward, at_s = Ward(), 10.0
    for step_s, restarts, state, back_s in lives:
        at_s += step_s
        end_s = START_S + at_s - 1 + back_s
        shown = {
            "running": running(restarts, at_s, at_s - 1 + back_s),
            "ended": ended(1, "Error", end_s, restarts=restarts),
            "waiting": backing_off(1, "Error", end_s, restarts),
        }[state]
        found: tuple[Finding, ...] = ward.see(at_s, pod("web-1-a", shown)).findings
        assert told(found) in ([], LOOP)
