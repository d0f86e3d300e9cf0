"""The names asked for most, counted in bounded memory (Space-Saving, Metwally 2005). Pure.

A count is never too low; it is too high by at most `error`. A name asked for more often than one in `capacity` of all
questions is always among them.
"""

from __future__ import annotations

from typing import NamedTuple


class Counted(NamedTuple):
    name: bytes
    times: int
    error: int


class TopNames:
    __slots__ = ("_capacity", "_counts")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._counts: dict[bytes, tuple[int, int]] = {}  # (count, error)

    def count(self, name: bytes) -> None:
        known = self._counts.get(name)
        if known is not None:
            self._counts[name] = (known[0] + 1, known[1])
        elif len(self._counts) < self._capacity:
            self._counts[name] = (1, 0)
        else:
            least = min(self._counts, key=self._counts.__getitem__)
            floor, _ = self._counts.pop(least)
            self._counts[name] = (floor + 1, floor)

    @property
    def least(self) -> int:
        """No name that is not here was asked for more often."""
        return min(self._counts.values())[0] if len(self._counts) >= self._capacity else 0

    def head(self, limit: int) -> TopNames:
        """A copy of the first of them, as if it had been kept count of no more."""
        part = TopNames(min(limit, self._capacity))
        part._counts = {found.name: (found.times, found.error) for found in self.most(limit)}
        return part

    def add(self, other: TopNames) -> None:
        """Both together: of a name that it does not have, either may have seen as many as its least."""
        mine, theirs = self.least, other.least
        counts: dict[bytes, tuple[int, int]] = {}
        for name in self._counts.keys() | other._counts.keys():
            times, error = self._counts.get(name, (mine, mine))
            more, error_more = other._counts.get(name, (theirs, theirs))
            counts[name] = (times + more, error + error_more)
        self._counts = counts
        self._capacity = len(self._counts) if mine or theirs else self._capacity + other._capacity

    def most(self, limit: int) -> list[Counted]:
        found = sorted(self._counts.items(), key=lambda item: (-item[1][0], item[0]))
        return [Counted(name, *counts) for name, counts in found[:limit]]
