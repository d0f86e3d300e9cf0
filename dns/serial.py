"""The serial number of our zones: it moves when what a secondary would have does, and at most once a second.

It is the time in seconds where that is greater, so it does not move back when the server restarts, and processes that
answer for the same zones stay close to each other. What changes within a second is seen at its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

INTERVAL = 1.0  # seconds between two moves: instances that flap shall not have their zone transferred all the time


class SerialClock:
    """`moved` is told each new number."""

    __slots__ = ("_due", "_moved", "_timer", "number")

    def __init__(self, moved: Callable[[int], None]) -> None:
        self.number = int(time.time())
        self._moved = moved
        self._timer: asyncio.TimerHandle | None = None
        self._due = False

    def advance(self) -> int:
        """The next number, for whoever says it himself."""
        self.number = max(self.number + 1, int(time.time()))
        return self.number

    def contents_changed(self) -> None:
        if self._timer is not None:
            self._due = True
            return
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._interval_over)
        self._moved(self.advance())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _interval_over(self) -> None:
        self._timer = None
        due, self._due = self._due, False
        if due:
            self.contents_changed()
