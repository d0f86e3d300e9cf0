"""How many connections each source has, while that is limited: counted when they begin, given back when they end."""

from __future__ import annotations

from .rate_limit import source_key


class Sources:
    __slots__ = ("_counts", "_of")

    def __init__(self) -> None:
        self._counts: dict[str | bytes, int] = {}
        self._of: dict[object, str | bytes] = {}  # which source each connection counts for

    def claim(self, connection: object, source: str, limit: int) -> bool:
        """Count a connection until it is released. False: its source has `limit` of them already; 0 is no limit."""
        if limit:
            key = source_key(source)
            before = self._counts.get(key, 0)
            if before >= limit:
                return False
            self._of[connection] = key
            self._counts[key] = before + 1
        return True

    def release(self, connection: object) -> None:
        key = self._of.pop(connection, None)
        if key is not None:
            left = self._counts[key] - 1
            if left:
                self._counts[key] = left
            else:
                del self._counts[key]

    def pass_on(self, old: object, new: object) -> None:
        """The same client's connection is another object from now on."""
        key = self._of.pop(old, None)
        if key is not None:
            self._of[new] = key
