"""What all listeners of one process take together: client connections, and file descriptors that are left for them.

The kernel gives each new descriptor the lowest number that is free. So the number of a connection that was just
accepted says, without asking anybody, that all below are in use; those from a mark on are kept for work that is under
way, above all for connections to targets.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Callable, Iterable

from .counters import ListenerCounters
from .specs import ProcessLimits

OUT_OF_DESCRIPTORS = "out_of_descriptors"
TOO_MANY_IN_ALL = "too_many_connections_of_process"
# Descriptors that must be left before connections are let in without looking at theirs, a quarter of what is left at a
# time: each may need some more, for targets and files.
FAR = 256


class Intake:
    """`full_from`: from this descriptor on a client is told to come back later, and from `close_from` on not even that,
    for it would be told over a descriptor that is needed more."""

    __slots__ = ("_counters", "_is_far", "_limits", "_spare", "close_from", "descriptors", "full_from", "limit")

    def __init__(self, counters: Callable[[], Iterable[ListenerCounters]] = tuple) -> None:
        self._counters = counters
        self._limits = ProcessLimits()
        self.limit = 0  # of connections; 0 is none
        self.descriptors: int | None = None  # that the process may have; None is no limit
        self.full_from = self.close_from = sys.maxsize
        self._is_far = False
        self._spare = 0

    def use(self, limits: ProcessLimits) -> None:
        self._limits = limits
        self.limit = limits.connections
        self.look()

    def look(self) -> None:
        """The limit of descriptors may be changed while we run (prlimit)."""
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.descriptors = None if most == resource.RLIM_INFINITY else most
        if self.descriptors is None or self._limits.descriptors >= 100:
            self.full_from = self.close_from = sys.maxsize
        else:
            self.full_from = most * self._limits.descriptors // 100
            self.close_from = (self.full_from + most) // 2
        left = sys.maxsize if self.full_from == sys.maxsize else self.full_from - _lowest_free()
        self._is_far = left >= FAR
        self._spare = left // 4

    def may_be_full(self) -> bool:
        """Asked for each connection. While many descriptors are left, so many of them need not look at their own."""
        if not self._is_far:
            return True
        self._spare -= 1
        if self._spare <= 0:
            self.look()
        return not self._is_far

    def active(self) -> int:
        """Counted anew: a sum cannot go astray, and it is asked for only where there is a limit."""
        return sum(counters.active for counters in self._counters())

    def has_room(self) -> bool:
        return not self.limit or self.active() < self.limit

    def is_full(self) -> bool:
        """Whether a client that came now would be turned away for want of descriptors."""
        return _lowest_free() >= self.full_from


def _lowest_free() -> int:
    try:
        lowest = os.dup(0)
    except OSError as error:  # there is none left, or our standard input is closed and its number is free
        return sys.maxsize if error.errno in (errno.EMFILE, errno.ENFILE) else 0
    os.close(lowest)
    return lowest
