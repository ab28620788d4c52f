"""Our `hpa` and the real HPA controller in lock-step: the same pods, metrics and counts for both, and the same counts from both.

Our side is restarted in the middle of half of the sequences, and must go on as if it had not been. The HPA is not: it forgets its windows
with its process.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from autoscaler.core.types import Reason
from tests.cluster.hpa.follow import Outcome, followed
from tests.cluster.hpa.lockstep import lockstep
from tests.cluster.hpa.server import Target

SEQUENCES, PASSES, SEED = 200, 60, 5

REACHED = {
    Reason.NO_DATA,
    Reason.PARTIAL_DATA,
    Reason.PAUSED_AT_ZERO,
    Reason.STABILISED_UP,
    Reason.STABILISED_DOWN,
    Reason.RATE_LIMITED_UP,
    Reason.RATE_LIMITED_DOWN,
    Reason.DIRECTION_DISABLED,
    Reason.BELOW_MIN,
    Reason.ABOVE_MAX,
}
"""What must have happened in a run, or it has shown nothing of it."""


def test_hpa_decides_as_the_real_controller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = lockstep(tmp_path / "plane", SEQUENCES, PASSES, SEED)
    ticks = edges = moves = from_zero = 0
    different: list[str] = []
    reached: Counter[Reason] = Counter()
    restarts = Random(SEED)
    for number, target in enumerate(targets):
        restarted = frozenset(restarts.sample(range(5, PASSES), 3) if number % 2 else ())
        for outcome, reasons in decided(target, restarted):
            ticks += 1
            edges += outcome.edge
            seen = target.journal[outcome.number]
            moves += seen.wrote is not None
            from_zero += seen.current == 0 and outcome.hpa > 0
            reached.update(reasons)
            if not (outcome.edge or outcome.agrees):
                different.append(
                    f"{target.case.name}, pass {outcome.number}: from {seen.current} the HPA {outcome.hpa}, we {outcome.ours:g}"
                )
    with capsys.disabled():
        counts = f"{len(targets)} sequences, {ticks} ticks compared, {edges} excluded, {len(different)} different"
        sys.stdout.write(f"\nhpa beside the real one: {counts}; {moves} moves, {from_zero} of them from zero\n")
    assert ticks == SEQUENCES * PASSES
    assert different == []
    assert edges <= 0.01 * ticks
    assert moves >= 0.05 * ticks
    assert from_zero >= 10
    assert set(reached) >= REACHED


def decided(target: Target, restarted: frozenset[int]) -> Iterator[tuple[Outcome, list[Reason]]]:
    """Our outcomes of a target's journal, each with the reasons of its stages."""
    for outcome, decision, _ in followed(target.case, target.journal[: target.passes], restarted):
        yield outcome, [Reason(int(stage.reason[0])) for stage in decision.stages if stage.reason[0]]
