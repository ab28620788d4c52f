"""The one way to wait for a real part."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.cluster.rig.errors import ApiError, RigError, UnreachableError

T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T | None], *, timeout_s: float = 15.0, every_s: float = 0.05) -> T:
    """Ask until the answer is true, and return it.

    An API server that refuses or does not answer counts as "not yet". After `timeout_s` the last answer is in
    the error, so that a failed test says how far things got.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = condition()
            if answer:
                return answer
            last = repr(answer)
        except (ApiError, UnreachableError) as error:
            last = str(error)
        if time.monotonic() >= deadline:
            raise RigError(f"not within {timeout_s:g} s: {what}; last: {last}")
        time.sleep(every_s)
