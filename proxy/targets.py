"""Target groups and their targets while they live: who may be picked now, what is in flight, who drains.

A target keeps its identity (address and port) over reloads, and with it its counters, its connections and its
health. What is removed gets no new work, loses its idle connections at once, and is forgotten when its last request
ends or its deregistration delay is over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .balancing import Balancer, balancer, eligible
from .counters import TargetCounters
from .firewall import Firewall, Verdict
from .health import CheckKey, HealthTable, TargetHealth
from .specs import TargetGroupSpec, TargetSpec


class TargetConnection(Protocol):
    """A connection to a target, as far as its target is concerned."""

    idle_until: float

    def close(self) -> None: ...
    def abort(self) -> None: ...


class Target:
    __slots__ = (
        "check_key",
        "connections",
        "counters",
        "denied",
        "drain_until",
        "draining",
        "group",
        "idle",
        "in_flight",
        "key",
        "shared",
        "spec",
        "weight",
    )

    def __init__(self, group: TargetGroup, spec: TargetSpec) -> None:
        self.group = group
        self.spec = spec
        self.key = spec.key
        self.weight = spec.weight
        self.counters = TargetCounters()
        self.in_flight = 0
        self.idle: list[TargetConnection] = []  # last in, first out: the warmest first, the surplus ages out
        self.shared: list[Any] = []  # HTTP/2 connections that take further streams
        self.connections: set[TargetConnection] = set()
        self.draining = False
        self.drain_until = 0.0
        self.check_key: CheckKey | None = None
        self.denied: Verdict | None = None  # why our own firewall forbids to connect to it

    def health(self) -> TargetHealth | None:
        """The health table's record; None when the group has no health check."""
        return None if self.check_key is None else self.group.table.view.get(self.check_key)

    def __repr__(self) -> str:
        state = "draining" if self.draining else "live"
        return f"<Target {self.key} {state}: {self.in_flight} in flight, {len(self.idle)} idle>"


class TargetGroup:
    """`pick()` gives the next target, or None when the group has none."""

    __slots__ = ("_draining", "_live", "_rng", "firewall", "pick", "spec", "table")

    def __init__(self, spec: TargetGroupSpec, table: HealthTable, rng: random.Random) -> None:
        self.spec = spec
        self.table = table
        self.firewall: Firewall | None = None
        self._rng = rng
        self._live: dict[str, Target] = {}
        self._draining: list[Target] = []
        self.pick: Callable[[], Target | None] = lambda: None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def targets(self) -> list[Target]:
        """All targets, those that drain included."""
        return [*self._live.values(), *self._draining]

    def apply(self, spec: TargetGroupSpec, firewall: Firewall | None, now: float) -> None:
        """Become `spec`: what stays is kept, what is new joins, what is gone drains."""
        self.spec = spec
        self.firewall = firewall
        live: dict[str, Target] = {}
        for target_spec in spec.targets:
            target = self._live.pop(target_spec.key, None) or Target(self, target_spec)
            target.spec = target_spec
            target.weight = target_spec.weight
            target.check_key = check_key(spec, target_spec)
            verdict = firewall.opening(target_spec.ip, target_spec.port) if firewall else None
            target.denied = None if verdict is None or verdict.allowed else verdict
            live[target.key] = target
        removed, self._live = list(self._live.values()), live
        for target in removed:
            target.draining = True
            target.drain_until = now + spec.deregistration_delay
            for connection in [*target.idle, *target.shared]:
                connection.close()
            self._draining.append(target)
        self.refresh()
        self.sweep(now)

    def retire(self, now: float) -> None:
        """The group itself is gone from the configuration: all its targets drain."""
        self.apply(TargetGroupSpec(name=self.spec.name, deregistration_delay=self.spec.deregistration_delay), None, now)

    def refresh(self) -> None:
        """Ask the health table again who is eligible; called when the targets or their health changed."""
        table = self.table
        candidates = eligible(
            list(self._live.values()), lambda target: target.check_key is None or table.is_healthy(target.check_key)
        )
        chosen: Balancer[Target] = balancer(self.spec.algorithm, candidates, self._rng)
        self.pick = chosen.pick

    def sweep(self, now: float) -> None:
        """Once a second: idle connections past their time are closed, drained targets are let go."""
        for target in self._live.values():
            idle = target.idle
            while idle and idle[0].idle_until <= now:
                idle.pop(0).close()
            for connection in [each for each in target.shared if not each.lent and each.idle_until <= now]:
                connection.close()
        for target in list(self._draining):
            if now >= target.drain_until:
                for connection in list(target.connections):
                    connection.abort()
            if target.in_flight == 0 or now >= target.drain_until:
                self._draining.remove(target)

    def close(self) -> None:
        for target in self.targets:
            for connection in list(target.connections):
                connection.abort()

    def __repr__(self) -> str:
        return f"<TargetGroup {self.name}: {len(self._live)} live, {len(self._draining)} draining>"


def check_key(group: TargetGroupSpec, target: TargetSpec) -> CheckKey | None:
    """What is probed for this target, or None when the group has no health check."""
    check = group.health_check
    return None if check is None else CheckKey(target.ip, check.port or target.port, check)


def check_keys(groups: Iterable[TargetGroupSpec]) -> set[CheckKey]:
    """All that has to be probed for these groups; equal checks of one address count once."""
    keys = (check_key(group, target) for group in groups for target in group.targets)
    return {key for key in keys if key is not None}
