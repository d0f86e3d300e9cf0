"""One way to run a coroutine in a test: on uvloop, with nothing left behind and nothing swept under the loop.

A task that outlives its test is a leak in the code under test, and an exception that only reached the loop's handler
is one that no caller saw. Both fail the test here, by name.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

# Connections that were told to close need a turn or two of the loop; a task still there after this is nobody's.
SETTLE_SECONDS = 1.0


def run(coroutine: Coroutine[Any, Any, T], *, timeout: float = 30.0) -> T:
    """Run `coroutine` to its end on a fresh uvloop, and fail on a task left running or an error that nobody caught."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(timeout):
            result = await coroutine
        await _settle()
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(watched())
        gc.collect()  # a future's unread exception and an open transport speak up when they are collected
    assert not complaints, f"the event loop was told of errors that nobody handled: {complaints}"
    return result


async def _settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, others = await asyncio.wait(others, timeout=SETTLE_SECONDS)
    assert not others, f"tasks left running: {sorted(map(repr, others))}"
