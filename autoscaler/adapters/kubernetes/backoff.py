"""How long to wait before trying again: longer each time, never the same for two of us."""

from __future__ import annotations

from random import Random

FIRST_S = 0.5
MAX_S = 30.0


class Backoff:
    """Delays around 0.5, 1, 2, 4 … 30 s, each drawn from the upper half of its step; the first from all of it.

    With the bound of 30 s a part that stays broken is asked about 150 times an hour.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.failures = 0
        """How many delays were asked for since the last success."""

    def next_s(self) -> float:
        """The next delay in seconds."""
        step = min(FIRST_S * 2**self.failures, MAX_S) if self.failures < 16 else MAX_S  # noqa: PLR2004 - beyond any step
        delay = self._random.uniform(step / 2 if self.failures else 0.0, step)
        self.failures += 1
        return delay

    def succeeded(self) -> None:
        """Begin with short delays again."""
        self.failures = 0
