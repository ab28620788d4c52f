"""Steps a policy over a past in a process of its own, so that hours of ticks take nothing from the one that is due.

What goes in and comes out is pickled: both ends are this program, and no one else has a hand on the pipe between them.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from autoscaler.core.warming import Walk, walked
from autoscaler.errors import TransientError

Answer: TypeAlias = tuple[Any, str]
"""The policy's state after the last row, or None and what was wrong with the policy."""

Walker: TypeAlias = Callable[[Walk], Awaitable[Answer]]

_NICE = 10
_PROGRAM = "from autoscaler.loops.stepping import serve; serve()"


async def walked_apart(walk: Walk) -> Answer:
    """Raises TransientError if the process ends without an answer. Whoever has waited long enough cancels it."""
    task = pickle.dumps(sys.path) + pickle.dumps(walk)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", _PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        answer, _ = await process.communicate(task)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise TransientError(f"the process that steps over the past ended with {process.returncode}")
    found: Answer = pickle.loads(answer)  # noqa: S301 - written by `serve`
    return found


def serve() -> None:
    """Answer the one task on standard input; ends with it, also when the other end is gone."""
    os.nice(_NICE)
    sys.path[:] = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by `walked_apart`; users' policies are found by it
    walk: Walk = pickle.load(sys.stdin.buffer)  # noqa: S301
    sys.stdout.buffer.write(pickle.dumps(walked(walk)))
