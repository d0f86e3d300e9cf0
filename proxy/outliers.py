"""Passive ejection: targets that answer their health check but fail requests are left out for a while.

Envoy's consecutive-failure detector. Each ejection of a target is longer than the one before, few are out at a time,
and the last one that works never is. Pure: who watches requests calls `observe`, who has a timer calls `judge`.
"""

from __future__ import annotations

from collections.abc import Sequence

from .specs import OutlierSpec

# With fewer targets than this none is ejected: the one that is left would carry twice its work or more.
SMALLEST_GROUP = 3


class Conduct:
    """What is held against one target."""

    __slots__ = ("_calm_at", "ejected", "ejections", "failures", "since", "until")

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self.ejections = 0  # how often lately: the next one is so many times longer
        self.ejected = False
        self.since = self.until = 0.0
        self._calm_at = 0.0

    def observe(self, *, failed: bool) -> None:
        if not self.ejected:  # what began before says nothing new
            self.failures = self.failures + 1 if failed else 0

    def eject(self, spec: OutlierSpec, now: float) -> None:
        self.ejected = True
        self.ejections += 1
        self.since = now
        self.until = now + min(spec.ejection_time * self.ejections, spec.max_ejection_time)

    def pardon(self, spec: OutlierSpec, now: float) -> None:
        self.ejected = False
        self.failures = 0
        self._calm_at = now + spec.ejection_time

    def calm_down(self, spec: OutlierSpec, now: float) -> None:
        """Every `ejection_time` without another ejection takes one off the count."""
        if self.ejections and now >= self._calm_at:
            self.ejections -= 1
            self._calm_at = now + spec.ejection_time


def judge(conducts: Sequence[tuple[Conduct, bool]], spec: OutlierSpec, now: float) -> bool:
    """Each target's conduct, and whether its health checks pass. True if one was ejected or has returned."""
    changed = False
    for conduct, _ in conducts:
        if conduct.ejected and now >= conduct.until:
            conduct.pardon(spec, now)
            changed = True
        elif not conduct.ejected:
            conduct.calm_down(spec, now)
    out = sum(conduct.ejected for conduct, _ in conducts)
    working = sum(passes and not conduct.ejected for conduct, passes in conducts)
    count = len(conducts)
    most = max(1, count * spec.max_ejection_percentage // 100) if count >= SMALLEST_GROUP else 0
    for conduct, passes in conducts:
        if conduct.ejected or conduct.failures < spec.consecutive_failures or not passes:
            continue
        if out >= most or working <= 1:
            break
        conduct.eject(spec, now)
        out += 1
        working -= 1
        changed = True
    return changed
