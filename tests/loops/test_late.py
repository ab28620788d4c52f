"""A tick waits for a question that has been late before only for a moment, and whoever is quick again is waited for again."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autoscaler.adapters.memory import MemorySource
from autoscaler.clock import ManualClock
from autoscaler.core.roster import Roster
from autoscaler.core.spec import Objective, Query
from autoscaler.core.types import Signal
from autoscaler.errors import TransientError
from autoscaler.loops.observe import CLOSE_AFTER_S, LATE_WAIT_S, QUESTION_BUDGET_S, Observer
from tests.loops.rig import INTERVAL_S, START_S, scaled


class Stage:
    """An observer of two workloads; ``takes_s`` is how long each one's question takes, as long as its budget: no answer then."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_S)
        self.source = MemorySource(self.clock)
        self.source.before = self._take
        self.takes_s = {"quick": 0.0, "slow": 0.0}
        self.observer = Observer(self.source, self.clock, INTERVAL_S)
        self.roster = Roster(INTERVAL_S)
        self.roster.swap([], [scaled(name) for name in self.takes_s])
        self.observer.wire(self.roster)

    async def _take(self, query: Query) -> None:
        (seconds,) = (seconds for name, seconds in self.takes_s.items() if f'"{name}"' in query.text)
        await self.clock.sleep_until(self.clock.monotonic() + seconds)
        if seconds >= QUESTION_BUDGET_S:
            raise TransientError("no answer")

    async def tick(self, number: int) -> tuple[float, list[Signal]]:
        """How long the tick waits, and what it has of the quick and of the slow one. Ends where the next one begins."""
        at_s = START_S + INTERVAL_S * number
        await self.clock.advance(at_s - self.clock.now())
        for name in self.takes_s:
            self.source.write("load", {"name": name}, at_s, 3.0)
        waited_s = await self._seconds(self.observer.ask(at_s))
        (series,) = self.observer.fill(self.roster.spec, at_s, np.full(self.roster.spec.slots, 2.0))
        slots = [place.slot for workload in self.roster.members() for place in self.roster.series(workload).values()]
        return waited_s, [Signal(int(series.signal[slot])) for slot in slots]

    async def _seconds(self, work: Coroutine[Any, Any, None]) -> float:
        began_s, task = self.clock.monotonic(), asyncio.create_task(work)
        while not task.done():
            await self.clock.advance(0.05)
        return self.clock.monotonic() - began_s


OK, TIMEOUT = Signal.OK, Signal.TIMEOUT


async def test_a_question_that_never_answers_costs_one_wait() -> None:
    stage = Stage()
    assert list(await stage.tick(1)) == [pytest.approx(0.05), [OK, OK]]
    stage.takes_s["slow"] = QUESTION_BUDGET_S + 1
    assert list(await stage.tick(2)) == [pytest.approx(CLOSE_AFTER_S, abs=0.1), [OK, TIMEOUT]]
    waits = [await stage.tick(number) for number in range(3, 13)]
    assert max(wait_s for wait_s, _ in waits) == pytest.approx(LATE_WAIT_S, abs=0.06), "asked anew, it is waited for only a moment"
    assert all(signals[0] == OK for _, signals in waits)
    await stage.observer.close()


async def test_one_that_is_quick_again_is_used_at_once_and_waited_for_again() -> None:
    stage = Stage()
    stage.takes_s["slow"] = CLOSE_AFTER_S + 1
    assert list(await stage.tick(1)) == [pytest.approx(CLOSE_AFTER_S, abs=0.1), [OK, TIMEOUT]]
    stage.takes_s["slow"] = LATE_WAIT_S / 2
    assert list(await stage.tick(2)) == [pytest.approx(LATE_WAIT_S / 2, abs=0.06), [OK, OK]]
    stage.takes_s["slow"] = CLOSE_AFTER_S / 2
    assert list(await stage.tick(3)) == [pytest.approx(CLOSE_AFTER_S / 2, abs=0.06), [OK, OK]]
    await stage.observer.close()


async def test_a_late_answer_serves_the_next_tick() -> None:
    stage = Stage()
    stage.takes_s["slow"] = CLOSE_AFTER_S + 1
    assert [(await stage.tick(number))[1] for number in range(1, 5)] == [[OK, TIMEOUT], [OK, OK], [OK, OK], [OK, OK]]
    await stage.observer.close()


async def test_no_tick_waits_for_an_objective_but_for_a_moment_or_beside_the_loads() -> None:
    stage = Stage()
    objective = Objective(Query('late{name="lazy"}'), Query('all{name="lazy"}'))
    stage.roster.swap([], [replace(scaled("quick"), objective=objective)])
    stage.observer.wire(stage.roster)
    stage.takes_s["lazy"] = QUESTION_BUDGET_S + 1
    waits = [await stage.tick(number) for number in range(1, 5)]
    assert max(wait_s for wait_s, _ in waits) == pytest.approx(LATE_WAIT_S, abs=0.06), "not even the first time"
    assert [signals for _, signals in waits] == [[OK, OK]] * 4
    await stage.observer.close()


async def test_a_question_that_is_an_objective_and_a_load_is_waited_for() -> None:
    stage = Stage()
    load = Query('load{name="slow"}')
    stage.roster.swap([], [replace(scaled("quick"), objective=Objective(load, load))])
    stage.observer.wire(stage.roster)
    stage.takes_s["slow"] = CLOSE_AFTER_S / 2
    assert list(await stage.tick(1)) == [pytest.approx(CLOSE_AFTER_S / 2, abs=0.06), [OK, OK]]
    await stage.observer.close()
