"""A target that has as many connections as it may: another one is taken, or a place waited for, in order and not long.

A queue smooths out a burst of a moment. It is short and brief by default, for whoever waits longer than that is served
better by a 503 that says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from .targets import Target, TargetConnection
    from .upstream import Upstream


class NoPlace(Exception):
    """The queue is full, or waiting took too long. `reason` is the word for log and counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def place_on(target: Target) -> tuple[Target, Upstream | None]:
    """A place in flight, on `target` or on another one that has room, with the connection that became free if one did.

    The caller counts as in flight on `target` before, and on the target that is returned afterwards; after NoPlace,
    or when cancelled, nowhere.
    """
    group = target.group
    if group.sticky is None and (roomy := group.with_room()) is not None:
        target.leave()
        roomy.in_flight += 1
        return roomy, cast("Upstream | None", roomy.idle.pop() if roomy.idle else None)
    limits = group.spec.limits
    target.in_flight -= 1  # waiting is not in flight: whoever hands its place on counts us in again
    if len(target.waiting) >= limits.queue:
        raise NoPlace("target_queue_full")
    place: asyncio.Future[TargetConnection | None] = asyncio.get_running_loop().create_future()
    target.waiting.append(place)
    try:
        async with asyncio.timeout(limits.queue_timeout):
            return target, cast("Upstream | None", await place)
    except (asyncio.CancelledError, TimeoutError) as ended:
        if place.cancelled():
            target.waiting.remove(place)
        else:  # given in the very turn in which we were told to stop
            if (connection := place.result()) is not None:
                target.idle.append(connection)
            target.leave()
        if isinstance(ended, TimeoutError):
            raise NoPlace("target_queue_timeout") from None
        raise
