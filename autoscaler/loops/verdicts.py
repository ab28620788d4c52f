"""The slot between the two halves: what the health loop last said of each workload, for the scaling loop's next tick."""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.core.health.verdict import Verdict, columns
from autoscaler.core.observation import HealthFacts


class Verdicts:
    """Written by the health loop, whole at a time; read by every group. Each row says when it was assessed, and so grows old by itself."""

    def __init__(self) -> None:
        self._by_uid: Mapping[str, Verdict] = {}

    def publish(self, by_uid: Mapping[str, Verdict]) -> None:
        """From now on this is what is known, by the workload's uid."""
        self._by_uid = by_uid

    def columns(self, slots: int, uids: Mapping[int, str]) -> HealthFacts | None:
        """What is known of the workloads of a group: ``uids`` by their slots. None: nothing of any."""
        found = {slot: verdict for slot, uid in uids.items() if (verdict := self._by_uid.get(uid)) is not None} if self._by_uid else {}
        return columns([found.get(slot) for slot in range(slots)]) if found else None
