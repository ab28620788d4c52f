"""What ``spec.behavior`` of a policy file means: HPA v2's scaling behaviour, one direction at a time.

The defaults are the HPA's (pkg/apis/autoscaling/v2/defaults.go and the controller's flags): no window and the larger of four pods
or 100 % in 15 s on the way up; 300 s window and 100 % in 15 s on the way down; tolerance 0.1 either way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum


class Select(IntEnum):
    """Which of a direction's rate rules counts: the one that allows the bigger change, the smaller one, or no change at all."""

    MAX = 0
    MIN = 1
    DISABLED = 2


@dataclass(frozen=True, slots=True)
class RateRule:
    """At most ``value`` pods (or per cent of the count at the period's start) within ``period_s`` seconds."""

    value: float
    period_s: float
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction: a look-back window in seconds, a tolerance as a ratio, and rate rules. No rules: no limit."""

    window_s: float
    tolerance: float
    rules: tuple[RateRule, ...] = ()
    select: Select = Select.MAX


@dataclass(frozen=True, slots=True)
class Behavior:
    """Both directions. ``classic`` is the HPA without a ``behavior`` field, which has rules of its own.

    There the highest recommendation of the window counts, even above the current count, and one step reaches at most
    max(2 x current, 4). ``exact``: what we do better than the HPA is left out; `policies/hpa.py` lists it. ``downs_per_hour``: so many
    times an hour replicas may be taken away (0: as often as need be).
    """

    up: Direction
    down: Direction
    classic: bool = False
    exact: bool = False
    downs_per_hour: int = 0


@dataclass(frozen=True, slots=True)
class BehaviorDefaults:
    """What a policy's guards are where the file says nothing: ``behavior`` absent, and a field absent in a given ``behavior``."""

    absent: Behavior
    given: Behavior

    def with_tolerance(self, tolerance: float) -> BehaviorDefaults:
        """The same with another tolerance in both directions."""

        def change(behavior: Behavior) -> Behavior:
            up, down = replace(behavior.up, tolerance=tolerance), replace(behavior.down, tolerance=tolerance)
            return replace(behavior, up=up, down=down)

        return BehaviorDefaults(change(self.absent), change(self.given))


_UP = Direction(0.0, 0.1, (RateRule(4, 15), RateRule(100, 15, percent=True)))
_DOWN = Direction(300.0, 0.1, (RateRule(100, 15, percent=True),))

HPA_BEHAVIOR = BehaviorDefaults(absent=Behavior(_UP, _DOWN, classic=True), given=Behavior(_UP, _DOWN))
"""The HPA's two cases."""

_FREE = Direction(0.0, 0.0)

NO_BEHAVIOR = BehaviorDefaults(absent=Behavior(_FREE, _FREE), given=Behavior(_FREE, _FREE))
"""No tolerance, no windows, no limits: for policies that look ahead themselves."""
