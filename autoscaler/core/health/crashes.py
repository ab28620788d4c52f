"""What one container's ends add up to: restarts counted once each, and a loop that stands until the container has run cleanly.

A crash-looping container is Running, Terminated and Waiting by turns, its count of restarts may be reset, and a kubelet that comes back
replays old states. So an end counts if its ``finishedAt`` is newer than the last one's (or, where that is not said, if the count rose), and
what was seen of a loop is kept until the container has run for :attr:`~autoscaler.core.health.taxonomy.Waits.clean_run_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan
from typing import NamedTuple

from autoscaler.core.health.facts import Container, PodEvent, Termination, past
from autoscaler.core.health.taxonomy import CRASH_LOOP_BACK_OFF, WAITING, Cause, Waits, crash_cause, is_lost, is_suspect_oom

_EVENT_LATE_S = 30.0
"""The event of a kill may be so much younger than the end that it explains."""


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at a pod: when, whether all its restarts are news, since when ends are, and what its events say.

    ``before_s``: when the pass before this one was (NaN: there was none). ``known``: containers with the causes of their incidents from
    an earlier life of ours, of those that a status does not show.
    """

    at_s: float
    fresh: bool
    news_s: float
    long_ago: bool
    restarting: bool
    waits: Waits
    events: Sequence[PodEvent] = ()
    before_s: float = nan
    known: frozenset[tuple[str, Cause]] = frozenset()


class Ending(NamedTuple):
    """One cause by which a container has ended in this loop.

    ``due_s`` ∞ until the loop has lasted; ``was_due``: it was, when last looked at; ``end_s``: the first such end.
    """

    cause: Cause
    since_s: float
    due_s: float
    reason: str
    exit_code: int
    end_s: float
    was_due: bool = False


class Ends(NamedTuple):
    """What is remembered of a container.

    ``restarts``: the count as last seen (-1: none yet); ``end_s``: the latest end that was counted; ``times`` of the restarts that the
    window may still hold; ``back_off_s``: when the kubelet was first seen backing off in this loop; ``seen``: restarts in this loop;
    ``last_bad_s``: when it was last seen not running; ``probed``, ``hook``: what is known of the latest end; ``lost_s``: when the node
    was first seen to have lost track of it (-∞: before we looked).
    """

    restarts: int = -1
    end_s: float = nan
    times: tuple[float, ...] = ()
    back_off_s: float = nan
    seen: int = 0
    endings: tuple[Ending, ...] = ()
    last_bad_s: float = nan
    probed: bool = False
    hook: bool = False
    lost_s: float = nan

    @property
    def quiet(self) -> bool:
        """Nothing in it changes by time alone."""
        return not self.endings and not isfinite(self.lost_s)


def is_settled(ends: Ends, container: Container) -> bool:
    """Whether a container that does not change stands as it is: it is in no loop, or down in one whose endings are all due."""
    if isfinite(ends.lost_s):
        return False
    return not ends.endings or (not container.running and all(each.was_due for each in ends.endings))


def still_down(ends: Ends, container: Container, looked_s: float) -> Ends:
    """A container that was down in a loop when last judged was so until the last pass, though it was not judged in each."""
    if container.running or not ends.endings or not looked_s > ends.last_bad_s:
        return ends
    return ends._replace(last_bad_s=looked_s)


def forgiven(before: Ends | None, container: Container) -> Ends:
    """The container as it stands is normal: what it has been through is no crash. For disruptions, restarts in place and deletion."""
    ended = container.ended
    known = nan if ended is None else ended.finished_s
    old = before or Ends()
    return Ends(restarts=container.restarts if container.restarts >= 0 else old.restarts, end_s=_later(old.end_s, known))


def watched(before: Ends | None, container: Container, glance: Glance) -> Ends:
    """What is remembered after one more look."""
    old = before if before is not None else _first(container, glance)
    ended = container.ended
    if ended is not None and is_lost(ended):
        return _lost(old, container, glance, first=before is None)
    count, finished_s = _new_ends(old, container, glance)
    window_s = glance.waits.restart_window_s
    fresh_times = (min(past(finished_s, glance.at_s, glance.at_s), glance.at_s),) * min(count, glance.waits.restarts)
    times = tuple(time_s for time_s in (*old.times, *fresh_times) if time_s > glance.at_s - window_s)[-glance.waits.restarts :]
    old = old._replace(
        restarts=container.restarts if container.restarts >= 0 else old.restarts,
        end_s=_later(old.end_s, finished_s),
        times=times,
        probed=(_killed_alike(old, ended) if count and old.endings else old.probed) or _probed(container, ended, glance.events),
        hook=old.hook or container.waiting == "PostStartHookError",
        lost_s=nan,
    )
    if not count and _is_clean(old, container, glance):
        return old._replace(endings=(), back_off_s=nan, seen=0, probed=False, hook=False)
    return _in_loop(old, container, glance, count)


def _first(container: Container, glance: Glance) -> Ends:
    """At first sight: of a pod that was there before us, the count so far is no news."""
    probed, hook = ((container.name, cause) in glance.known for cause in (Cause.KILLED, Cause.HOOK))
    return Ends(restarts=0 if glance.fresh else container.restarts, probed=probed, hook=hook)


def _lost(old: Ends, container: Container, glance: Glance, *, first: bool) -> Ends:
    since_s = -inf if first and not glance.fresh else glance.at_s
    return forgiven(old, container)._replace(times=old.times, lost_s=since_s if isnan(old.lost_s) else old.lost_s)


def _new_ends(old: Ends, container: Container, glance: Glance) -> tuple[int, float]:
    """How many ends are news, and the time of the latest one (NaN: not said)."""
    ended = container.ended
    finished_s = nan if ended is None else past(ended.finished_s, glance.at_s, nan)
    rose = container.restarts - old.restarts if container.restarts >= 0 and old.restarts >= 0 else 0
    if rose > 0 and glance.long_ago:
        rose = 1  # three restarts since yesterday are not three in ten minutes
    if isnan(finished_s):
        return max(rose, 0), nan
    if finished_s == old.end_s and not glance.restarting:
        return max(rose, 0), finished_s  # of a pod that may end, an end counts once its restart follows
    if finished_s <= old.end_s:
        return 0, finished_s  # counted before, or a replay
    if isnan(old.end_s) and not glance.fresh and finished_s <= glance.news_s:
        return 0, finished_s
    return max(rose, 1 if glance.restarting else 0), finished_s


def _later(a: float, b: float) -> float:
    return b if isnan(a) or b > a else a


def _probed(container: Container, ended: Termination | None, events: Sequence[PodEvent]) -> bool:
    """Whether an event says that a probe had the kubelet kill it, about the time of that end."""
    if ended is None or not events:
        return False
    killed = [each.at_s for each in events if each.reason == "Killing" and each.probe and each.container == container.name]
    return any(not at_s < ended.started_s and not at_s > ended.finished_s + _EVENT_LATE_S for at_s in killed)


def _killed_alike(old: Ends, ended: Termination | None) -> bool:
    """Whether a kill in this loop ended it in the same way: after 25 events of one pod the kubelet withholds those of later kills."""
    return ended is not None and any(
        each.cause is Cause.KILLED and (each.reason, each.exit_code) == (ended.reason, ended.exit_code) for each in old.endings
    )


def _is_clean(ends: Ends, container: Container, glance: Glance) -> bool:
    if container.terminated is not None and container.terminated.exit_code == 0 and not glance.restarting:
        return True
    if not container.running or len(ends.times) >= glance.waits.restarts:
        return False
    if container.running_s < ends.end_s:
        return False  # it began before it last ended: an old state, told again
    run_s = glance.at_s - past(container.running_s, glance.at_s, ends.last_bad_s)
    return not run_s < glance.waits.clean_run_s


def _in_loop(ends: Ends, container: Container, glance: Glance, count: int) -> Ends:
    backing_off = container.waiting == CRASH_LOOP_BACK_OFF
    failing = backing_off or WAITING.get(container.waiting) in {Cause.CANNOT_RUN, Cause.HOOK}
    if not (count or failing or ends.endings):
        return ends
    endings = ends.endings
    if count or failing:
        endings = _with(endings, _ending(ends, container, glance))
    ends = ends._replace(
        back_off_s=glance.at_s if failing and isnan(ends.back_off_s) else ends.back_off_s,
        seen=ends.seen + count,
        last_bad_s=ends.last_bad_s if container.running and not count else glance.at_s,
    )
    return ends._replace(endings=tuple(_dated(each, ends, container, glance) for each in endings))


def _ending(ends: Ends, container: Container, glance: Glance) -> Ending:
    ended = container.ended
    cannot_run = WAITING.get(container.waiting) is Cause.CANNOT_RUN
    cause = Cause.CANNOT_RUN if cannot_run else crash_cause(container.role, ended, probed=ends.probed, hook=ends.hook)
    reason = (ended.reason if ended is not None else "") or container.waiting
    code = -1 if ended is None else ended.exit_code
    since_s = past(nan if ended is None else ended.finished_s, glance.at_s, glance.at_s)
    return Ending(cause, since_s, inf, reason, code, ends.end_s)


def _with(endings: tuple[Ending, ...], found: Ending) -> tuple[Ending, ...]:
    """One entry for each cause; what was taken for another cause at the same end is that no more."""
    same_end = [each for each in endings if each.end_s == found.end_s or (isnan(each.end_s) and each.exit_code < 0)]
    kept = tuple(each for each in endings if each.cause is found.cause or each not in same_end)
    if any(each.cause is found.cause for each in kept):
        return tuple(each._replace(reason=found.reason, exit_code=found.exit_code) if each.cause is found.cause else each for each in kept)
    earlier = min((each.since_s for each in same_end), default=found.since_s)
    due_s = min((each.due_s for each in same_end if each.was_due), default=inf)
    return (*kept, found._replace(since_s=min(found.since_s, earlier), due_s=due_s, was_due=due_s < inf))


def _dated(ending: Ending, ends: Ends, container: Container, glance: Glance) -> Ending:
    due_s = _due_s(ending, ends, container, glance)
    return ending._replace(due_s=due_s, was_due=due_s <= glance.at_s)


def _due_s(ending: Ending, ends: Ends, container: Container, glance: Glance) -> float:
    """Once due it stays so; a container that runs again is given the time to show that it does."""
    if ending.was_due:
        return ending.due_s
    wait_s = glance.waits.of(ending.cause)
    if ending.cause in {Cause.OOM, Cause.CANNOT_RUN}:
        return ending.since_s + wait_s
    if len(ends.times) >= glance.waits.restarts:
        return glance.at_s
    return inf if container.running or isnan(ends.back_off_s) else ends.back_off_s + wait_s


def note_of(container: Container) -> str:
    """What to know about the way in which it ended, if anything."""
    if is_suspect_oom(container.ended):
        return "it says OOMKilled without the exit code of a kill: a child process may have been killed, or an earlier run"
    return ""
