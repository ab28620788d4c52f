"""A kubelet's part for the pods of one workload, all the time: what its controllers make becomes Ready a moment later."""

import threading
from types import TracebackType
from typing import Self

from tests.cluster.rig.errors import ApiError, UnreachableError
from tests.cluster.rig.resource import Resource


class Kubelet:
    """While it is entered, pods of `workload` become Running and Ready within some tenths of a second."""

    def __init__(self, workload: Resource, every_s: float = 0.1) -> None:
        self._workload, self._every_s = workload, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._workload.mark_pods_ready()
            except (ApiError, UnreachableError):
                continue  # the API server is away: that of a test about just that
