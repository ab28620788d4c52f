"""A pod that has not changed is not judged again where that would come to the same: with and without it, findings are equal."""

from dataclasses import replace
from math import nan

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.health.facts import Condition, Container, Pod, PodEvent, Termination
from autoscaler.core.health.findings import Key
from autoscaler.core.health.lifecycle import Incident, advance
from tests.core.health.build import START_S, Ward, backing_off, container, ended, pod, ready, waiting

STATES = st.sampled_from(["runs", "runs-since-nobody-knows", "backs-off", "ended", "image", "config", "cannot-run", "lost", "oom"])
STEPS = st.lists(
    st.tuples(STATES, st.booleans(), st.integers(1, 5), st.sampled_from([1.0, 20.0, 61.0, 130.0, 700.0]), st.booleans()),
    min_size=1,
    max_size=7,
)


def shown(state: str, at_s: float, restarts: int) -> Container:
    """The container in that state, which it came to just now."""
    last = Termination(1, "Error", at_s - 2, at_s - 1)
    return {
        "runs": container(restarts=restarts, running_s=at_s, last=last if restarts else None),
        "runs-since-nobody-knows": container(restarts=restarts, running_s=nan, last=last if restarts else None),
        "backs-off": backing_off(at_s=at_s - 1, restarts=restarts),
        "ended": ended(at_s=at_s - 1, restarts=restarts),
        "image": waiting("ImagePullBackOff"),
        "config": waiting("CreateContainerConfigError"),
        "cannot-run": waiting("RunContainerError", restarts=restarts),
        "lost": ended(137, "ContainerStatusUnknown", at_s - 1, restarts=restarts),
        "oom": backing_off(137, "OOMKilled", at_s - 1, restarts),
    }[state]


@given(steps=STEPS)
def test_it_comes_to_the_same(steps: list[tuple[str, bool, int, float, bool]]) -> None:
    once, again = Ward(), Ward()
    lives: list[dict[Key, Incident]] = [{}, {}]
    after_s, restarts = 10.0, 0
    for state, is_ready, passes, step_s, killed in steps:
        restarts += state != "image"
        conditions = (Condition("Initialized", "True"), ready(since_s=START_S + after_s, status="True" if is_ready else "False"))
        seen = pod("web-1-a", shown(state, START_S + after_s, restarts), conditions=conditions)
        events = {seen.uid: (PodEvent("Killing", "app", "liveness", START_S + after_s - 1),)} if killed else {}
        for _ in range(passes):
            one = once.see(after_s, seen, events=events)
            other = again.see(after_s, fresh(seen), events=dict(events))
            assert repr(one.findings) == repr(other.findings)
            lives = [advance(life, assessment)[0] for life, assessment in zip(lives, (one, other), strict=True)]
            assert repr(lives[0]) == repr(lives[1])
            after_s += step_s


def fresh(seen: Pod) -> Pod:
    """The same in another object, which has to be judged."""
    return replace(seen)


def test_a_pod_that_stands_is_not_judged_again() -> None:
    ward, crashed = Ward(), pod("web-1-a", backing_off(at_s=START_S + 5))
    ward.see(10, crashed)
    first = ward.memory.members[crashed.uid].judged
    ward.see(200, crashed)
    assert ward.memory.members[crashed.uid].judged is first
    assert [str(each.cause) for each in ward.assessment.due()] == ["CrashLoop"]


def test_how_long_it_was_down_is_known_though_it_was_not_judged() -> None:
    """It runs again, nobody says since when, so it counts from the last pass in which it was down."""
    ward, down = Ward(), backing_off(at_s=START_S + 5)
    for after_s in (10, 100, 400):
        ward.see(after_s, pod("web-1-a", down))
    crashed = ward.memory.members["web-1-a-uid"].judged.pod
    ward.see(700, crashed)
    up = replace(crashed, containers=(replace(down, waiting="", running=True),))
    assert [bool(ward.see(after_s, up).findings) for after_s in (710, 815, 821)] == [True, True, False]
