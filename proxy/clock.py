"""The worker's coarse clock: one tick a second, read everywhere as a number.

Deadlines compare with `now`; asking the system for the time on every read and write would cost more than it tells.
"""

from __future__ import annotations

import time
from email.utils import formatdate


class Clock:
    __slots__ = ("date", "now", "second")

    def __init__(self) -> None:
        self.now = 0.0  # seconds, monotonic
        self.second = 0  # since the epoch
        self.date = b""  # for the Date field of our own answers (RFC 9110 6.6.1)
        self.tick()

    def exact(self) -> float:
        """The time itself, for what a second is too coarse for."""
        return time.monotonic()

    def tick(self) -> None:
        self.now = time.monotonic()
        self.second = int(time.time())
        self.date = formatdate(self.second, usegmt=True).encode()
