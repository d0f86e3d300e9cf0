"""A target that has just become healthy gets its share by degrees: caches are cold, and pools are empty.

ALB's rules: the share grows linearly; only beside a target that is warm already, since otherwise there is nobody to
take the rest; so the first targets of a group start at full; who becomes unhealthy begins again.
"""

from __future__ import annotations


class Warmth:
    """How far one target has come. `founder`: nobody in its group was warm when it joined."""

    __slots__ = ("_founder", "_healthy", "_since")

    def __init__(self, *, founder: bool) -> None:
        self._founder = founder
        self._healthy = False
        self._since: float | None = None

    @property
    def warm(self) -> bool:
        return self._healthy and self._since is None

    def update(self, now: float, *, healthy: bool, beside_warm: bool) -> None:
        if healthy and not self._healthy:
            self._since = now if beside_warm and not self._founder else None
            self._founder = False
        self._healthy = healthy

    def percent(self, now: float, duration: float) -> int:
        """Of its weight, 1 to 100. One that is not healthy is used only when nobody is, and then wholly."""
        if self._since is None or not self._healthy:
            return 100
        elapsed = now - self._since
        if elapsed >= duration:
            self._since = None
            return 100
        return max(1, int(100 * elapsed / duration))
