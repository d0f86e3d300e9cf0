"""Target groups and their targets while they live: who may be picked now, what is in flight, who drains.

A target keeps its identity (address and port) over reloads, and with it its counters, its connections and its
health. What is removed gets no new work, loses its idle connections at once, and is forgotten when its last request
ends or its deregistration delay is over.
"""

from __future__ import annotations

import logging
import random
import ssl
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

from .balancing import Balancer, Maglev, balancer, eligible
from .balancing.ewma import FAILURE, faded, observed
from .balancing.slow_start import Warmth
from .balancing.zones import zone_factors
from .counters import TargetCounters
from .firewall import Firewall, Verdict
from .hash_key import HashKey
from .health import EJECTED, CheckKey, HealthTable, TargetHealth
from .outliers import Conduct, judge
from .retry import RetryBudget
from .specs import TargetGroupSpec, TargetSpec
from .stickiness import Stickiness
from .tls import target_context

logger = logging.getLogger(__name__)

Observer = Callable[[int, float, float], None]

PICKS = 4  # draws to find another target by the algorithm, before the first other one is taken


class TargetConnection(Protocol):
    """A connection to a target, as far as its target is concerned."""

    idle_until: float

    def close(self) -> None: ...
    def abort(self) -> None: ...


class Target:
    __slots__ = (
        "check_key",
        "conduct",
        "connections",
        "counters",
        "denied",
        "drain_until",
        "draining",
        "group",
        "idle",
        "in_flight",
        "key",
        "latency",
        "latency_at",
        "max_connections",
        "observer",
        "shared",
        "spec",
        "waiting",
        "warmth",
        "weight",
    )

    def __init__(self, group: TargetGroup, spec: TargetSpec, *, founder: bool = True) -> None:
        self.group = group
        self.spec = spec
        self.key = spec.key
        self.weight = spec.weight  # what it has now; slow start and zones make it differ from the spec's
        self.max_connections = group.spec.limits.connections
        self.waiting: deque[Future[TargetConnection | None]] = deque()  # for one of its connections, first come first
        self.counters = TargetCounters()
        self.in_flight = 0
        self.idle: list[TargetConnection] = []  # last in, first out: the warmest first, the surplus ages out
        self.shared: list[Any] = []  # HTTP/2 connections that take further streams
        self.connections: set[TargetConnection] = set()
        self.draining = False
        self.drain_until = 0.0
        self.check_key: CheckKey | None = None
        self.denied: Verdict | None = None  # why our own firewall forbids to connect to it
        self.warmth = Warmth(founder=founder)
        self.conduct = Conduct()
        self.latency = 0.0
        self.latency_at = 0.0
        # Told of every answer and failure, (status or 0, seconds, when), where the group's spec wants to know of them.
        self.observer: Observer | None = None

    def observe(self, status: int, seconds: float, now: float) -> None:
        """An answer of `status` after `seconds` (negative: unknown), or with 0 none; `now` is perf_counter's."""
        failed = status == 0 or status >= 500
        self.conduct.observe(failed=failed)
        if failed:
            seconds = max(seconds, FAILURE)
        elif seconds < 0:
            return
        self.latency = observed(self.latency, seconds, max(0.0, now - self.latency_at))
        self.latency_at = now

    def health(self) -> TargetHealth | None:
        """The health table's record, or that it is ejected; None when the group has no health check."""
        conduct = self.conduct
        if conduct.ejected:
            seconds = conduct.until - conduct.since
            description = f"Ejected for {seconds:g} seconds: {conduct.failures} requests in a row failed."
            return TargetHealth("unhealthy", EJECTED, description, conduct.since)
        return None if self.check_key is None else self.group.table.view.get(self.check_key)

    @property
    def is_near(self) -> bool:
        """In the load balancer's zone, or in none (ALB's zone `all`)."""
        return self.spec.zone is None or self.spec.zone == self.group.spec.zone

    @property
    def is_out_of_zone(self) -> bool:
        return not self.group.spec.cross_zone and not self.is_near

    def leave(self) -> None:
        """One that was in flight is not any more."""
        self.in_flight -= 1
        if self.waiting:
            self.hand_on()

    def hand_on(self) -> None:
        """Whoever has waited longest gets the place that is free, with the connection if there is one; it counts as in
        flight from now on, so nobody else can take it meanwhile."""
        while self.waiting and self.in_flight < self.max_connections:
            place = self.waiting.popleft()
            if not place.done():
                self.in_flight += 1
                place.set_result(self.idle.pop() if self.idle else None)

    def __repr__(self) -> str:
        state = "draining" if self.draining else "live"
        return f"<Target {self.key} {state}: {self.in_flight} in flight, {len(self.idle)} idle>"


class TargetGroup:
    """`pick()` gives the next target, or None when the group has none."""

    __slots__ = (
        "_candidates",
        "_draining",
        "_live",
        "_ramping",
        "_rng",
        "budget",
        "check_firewall",
        "firewall",
        "hash_key",
        "heeds_client",
        "pick",
        "pick_for",
        "response_timeout",
        "spec",
        "sticky",
        "table",
        "tls",
    )

    def __init__(self, spec: TargetGroupSpec, table: HealthTable, rng: random.Random) -> None:
        self.spec = spec
        self.table = table
        self.firewall: Firewall | None = None
        self.check_firewall: Firewall | None = None  # checks of UDP targets are not made over UDP
        self.tls: ssl.SSLContext | None = None
        self._rng = rng
        self._live: dict[str, Target] = {}
        self._draining: list[Target] = []
        self._candidates: list[Target] = []
        self._ramping = False  # a target is on its way to its full weight
        self.hash_key: HashKey | None = None  # what `pick_for` wants to be given; None for most algorithms
        self.heeds_client = False  # who asks has a say in who is picked
        self.budget = RetryBudget()
        self.response_timeout = spec.limits.response_timeout
        self.sticky: Stickiness[Target] | None = None
        self.pick: Callable[[], Target | None] = lambda: None
        self.pick_for: Callable[[bytes], Target | None] = lambda key: None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def targets(self) -> list[Target]:
        """All targets, those that drain included."""
        return [*self._live.values(), *self._draining]

    def apply(self, spec: TargetGroupSpec, firewall: Firewall | None, now: float, sticky_key: bytes = b"") -> None:
        """Become `spec`: what stays is kept, what is new joins, what is gone drains."""
        before, self.spec = self.spec, spec
        self.response_timeout = spec.limits.response_timeout
        if spec.stickiness is None:
            self.sticky = None
        elif self.sticky is None or not self.sticky.is_for(spec.stickiness, sticky_key):
            self.sticky = Stickiness(spec.name, spec.stickiness, sticky_key)
        self.firewall = self.check_firewall = firewall
        self.tls = context_for(spec)
        self.hash_key = HashKey(spec.hash_key) if spec.algorithm == "consistent_hash" else None
        self.heeds_client = self.sticky is not None or self.hash_key is not None
        observing = spec.algorithm == "ewma" or spec.outlier_detection is not None
        founder = not any(target.warmth.warm for target in self._live.values())
        live: dict[str, Target] = {}
        for target_spec in spec.targets:
            target = self._live.pop(target_spec.key, None) or Target(self, target_spec, founder=founder)
            target.spec = target_spec
            target.max_connections = spec.limits.connections
            target.observer = target.observe if observing else None
            if spec.outlier_detection is None and target.conduct.ejected:
                target.conduct = Conduct()
            target.check_key = check_key(spec, target_spec)
            guard = None if target_spec.is_unix else firewall
            verdict = guard.opening(target_spec.ip, target_spec.port) if guard else None
            target.denied = None if verdict is None or verdict.allowed else verdict
            live[target.key] = target
        if (before.protocol, before.tls, before.proxy_protocol) != (spec.protocol, spec.tls, spec.proxy_protocol):
            for target in live.values():
                for connection in [*target.idle, *target.shared]:  # it began in another way than one would now
                    connection.close()
        removed, self._live = list(self._live.values()), live
        for target in removed:
            target.draining = True
            target.drain_until = now + spec.deregistration_delay
            for connection in [*target.idle, *target.shared]:
                connection.close()
            self._draining.append(target)
        self.refresh(now)
        self.sweep(now)

    def retire(self, now: float) -> None:
        """The group itself is gone from the configuration: all its targets drain."""
        self.apply(TargetGroupSpec(name=self.spec.name, deregistration_delay=self.spec.deregistration_delay), None, now)

    def refresh(self, now: float) -> None:
        """Settle anew who is eligible with which weight: the targets, their health or their warmth changed."""
        spec = self.spec
        live = list(self._live.values())
        for target in live:
            target.weight = target.spec.weight
        usable = {target for target in live if self._passes(target) and not target.conduct.ejected}
        if spec.slow_start:
            beside_warm = any(target.warmth.warm for target in usable)
            for target in live:
                target.warmth.update(now, healthy=target in usable, beside_warm=beside_warm)
        if not spec.cross_zone:
            live = [target for target in live if target.is_near]
        candidates = eligible(
            live, usable.__contains__, minimum_healthy=spec.minimum_healthy_percentage, fail_open=spec.fail_open
        )
        near, far = _zone_factors(live, candidates) if spec.zone_preference else (1, 1)
        if (near, far) != (1, 1):
            for target in candidates:
                target.weight *= near if target.is_near else far
        self._ramping = False
        if spec.slow_start:
            percents = [target.warmth.percent(now, spec.slow_start) for target in candidates]
            self._ramping = any(percent < 100 for percent in percents)
            for target, percent in zip(candidates, percents, strict=True):
                target.weight *= percent
        self._candidates = candidates
        members = None if self.hash_key is None else {target.key: target.spec.weight for target in live}
        chosen: Balancer[Target] = balancer(spec.algorithm, candidates, self._rng, members)
        self.pick = chosen.pick
        if isinstance(chosen, Maglev):
            self.pick_for = chosen.pick_for
        if self.sticky is not None:
            # Weight 0 keeps the clients it has and gets no new ones: that is how one empties a target gently.
            self.sticky.refresh([target for target in live if target in usable] or candidates, candidates)

    def pick_besides(self, tried: Target) -> Target | None:
        """Another target than the one that could not be had; None if there is no other."""
        for _ in range(PICKS):
            other = self.pick()
            if other is not tried:
                return other
        return next((target for target in self._candidates if target is not tried), None)

    @property
    def candidates(self) -> tuple[Target, ...]:
        """Who may be picked now."""
        return tuple(target for target in self._candidates if target.denied is None)

    def _passes(self, target: Target) -> bool:
        """Its health checks, or there are none."""
        return target.check_key is None or self.table.is_healthy(target.check_key)

    def with_room(self) -> Target | None:
        """A target that may be given one more connection."""
        roomy = (target for target in self._candidates if target.in_flight < target.max_connections)
        return next((target for target in roomy if target.denied is None), None)

    @property
    def in_flight(self) -> int:
        return sum(target.in_flight for target in self._live.values())

    def sweep(self, now: float) -> None:
        """Once a second: idle connections past their time are closed, drained targets are let go."""
        for target in self._live.values():
            idle = target.idle
            while idle and idle[0].idle_until <= now:
                idle.pop(0).close()
            for connection in [each for each in target.shared if not each.lent and each.idle_until <= now]:
                connection.close()
        if self._ramping:
            self.refresh(now)
        if self.spec.outlier_detection is not None:
            self._judge(now)
        if self.spec.algorithm == "ewma":
            self._fade(perf_counter())
        for target in list(self._draining):
            if now >= target.drain_until:
                for connection in list(target.connections):
                    connection.abort()
            if target.in_flight == 0 or now >= target.drain_until:
                self._draining.remove(target)

    def _judge(self, now: float) -> None:
        """Eject targets that failed too often in a row, and take back those whose time is over."""
        outlier = self.spec.outlier_detection
        assert outlier is not None
        live = list(self._live.values())
        before = [target.conduct.ejected for target in live]
        if not judge([(target.conduct, self._passes(target)) for target in live], outlier, now):
            return
        for target, was_ejected in zip(live, before, strict=True):
            health = target.health()
            if target.conduct.ejected and not was_ejected:
                target.counters.ejections += 1
                logger.warning("target %s of %s: %s", target.key, self.name, health.description if health else "")
            elif was_ejected and not target.conduct.ejected:
                logger.info("target %s of %s is no longer ejected", target.key, self.name)
        self.refresh(now)

    def _fade(self, now: float) -> None:
        """A target that is not asked any more because it was slow is asked again one day."""
        for target in self._live.values():
            elapsed = now - target.latency_at
            if elapsed >= 1.0:
                target.latency = faded(target.latency, elapsed)
                target.latency_at = now

    def close(self) -> None:
        for target in self.targets:
            for connection in list(target.connections):
                connection.abort()

    def __repr__(self) -> str:
        return f"<TargetGroup {self.name}: {len(self._live)} live, {len(self._draining)} draining>"


def context_for(spec: TargetGroupSpec) -> ssl.SSLContext | None:
    """How to speak TLS to the group's targets; None for plain text. ValueError for files that are no good."""
    if spec.protocol not in ("HTTPS", "TLS"):
        return None
    return target_context(spec.tls, ("h2",) if spec.protocol_version != "HTTP1" else ())


def _zone_factors(live: list[Target], candidates: list[Target]) -> tuple[int, int]:
    near = sum(target.weight for target in candidates if target.is_near)
    far = sum(target.weight for target in candidates) - near
    return zone_factors(near, sum(target.weight for target in live if target.is_near), far)


def resolved(spec: TargetGroupSpec, addresses: Mapping[str, tuple[str, ...]]) -> TargetGroupSpec:
    """The group with a target for each address of its names. What is listed twice is one target, the first."""
    if not spec.named_targets:
        return spec
    targets = {target.key: target for target in spec.targets}
    for named in spec.named_targets:
        for ip in addresses.get(named.host, ()):
            target = TargetSpec(ip, named.port, named.weight, named.zone)
            targets.setdefault(target.key, target)
    return replace(spec, targets=tuple(targets.values()))


def check_key(group: TargetGroupSpec, target: TargetSpec) -> CheckKey | None:
    """What is probed for this target, or None when the group has no health check."""
    check = group.health_check
    return None if check is None else CheckKey(target.ip, check.port or target.port, check)


def check_keys(groups: Iterable[TargetGroupSpec]) -> set[CheckKey]:
    """All that has to be probed for these groups; equal checks of one address count once."""
    keys = (check_key(group, target) for group in groups for target in group.targets)
    return {key for key in keys if key is not None}
