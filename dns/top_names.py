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

    def most(self, limit: int) -> list[Counted]:
        found = sorted(self._counts.items(), key=lambda item: (-item[1][0], item[0]))
        return [Counted(name, *counts) for name, counts in found[:limit]]
