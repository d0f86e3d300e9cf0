"""Rate limits: a token bucket for each key, in bounded memory. Pure: the time is an argument.

A bucket is one number, the moment at which it will be full again (GCRA: the same answers as counting tokens). A full
bucket says nothing that a missing one does not, so only keys that asked lately are remembered, and of those the ones
that asked longest ago are forgotten first: whoever invents keys makes room for himself and takes it from nobody who
keeps asking.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from ipaddress import IPv6Address
from math import ceil

from .http1 import RequestHead
from .limit_specs import RateLimitSpec

MAX_KEYS = 65536  # of one limit: some 10 MiB at worst


class TokenBuckets:
    """`burst` tokens in each bucket at first, `rate` of them a second after that; each `take` takes one."""

    __slots__ = ("_full_at", "_interval", "_max_keys", "_span")

    def __init__(self, rate: float, burst: int, max_keys: int = MAX_KEYS) -> None:
        self._interval = 1 / rate
        self._span = burst / rate  # how long an empty bucket takes to fill
        self._max_keys = max_keys
        self._full_at: dict[Hashable, float] = {}  # in the order of the last token given

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float) -> float:
        """0 when there was a token, else in how many seconds there will be one. To be refused costs no token."""
        full_at = self._full_at
        then = max(full_at.get(key, now), now) + self._interval
        wait = then - now - self._span
        if wait > 1e-9:  # what rounding makes of 0
            return wait
        full_at.pop(key, None)
        if len(full_at) >= self._max_keys:
            del full_at[next(iter(full_at))]
        full_at[key] = then
        return 0.0


class RateLimits:
    """All rate limits of a listener. A request must pass each of them."""

    __slots__ = ("_limits",)

    def __init__(self, specs: Iterable[RateLimitSpec], before: RateLimits | None = None) -> None:
        """What stays as it was in a new configuration keeps its buckets: a reload is no amnesty."""
        known: dict[RateLimitSpec, TokenBuckets] = {} if before is None else before._limits
        self._limits = {spec: known.get(spec) or TokenBuckets(spec.rate, spec.burst) for spec in specs}

    def refuse(self, source: str, path: bytes, head: RequestHead, now: float) -> tuple[str, int] | None:
        """The reason and the seconds to wait, or None. A request without the header is nobody's: no limit counts it."""
        for spec, buckets in self._limits.items():
            if spec.by == "source":
                key: Hashable = source_key(source)
            elif spec.by == "path":
                key = path.partition(b"?")[0]
            else:
                values = head.values(spec.header.encode())
                if not values:
                    continue
                key = tuple(values)
            wait = buckets.take(key, now)
            if wait > 0:
                return f"rate_limit_{spec.by}", ceil(wait)
        return None


def source_key(source: str) -> str | bytes:
    """Who a client is for a limit: its address, or of IPv6 the /64 that one subscriber has at the least (RFC 6177)."""
    return IPv6Address(source.partition("%")[0]).packed[:8] if ":" in source else source
