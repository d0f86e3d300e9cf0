"""Who is asked for what is not ours, and how long the answers are kept. Frozen; it describes work and does none."""

from __future__ import annotations

from dataclasses import dataclass

Resolver = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ForwardZoneSpec:
    """All names at and below `name` are asked of these resolvers, whatever the others would say."""

    name: str
    resolvers: tuple[Resolver, ...]


@dataclass(frozen=True, slots=True)
class CacheSpec:
    capacity: int = 8 << 20  # octets; some 20,000 answers. Unbound keeps 4 + 4 MiB, dnsmasq 150 names
    min_ttl: int = 0  # an answer is never kept longer than its owner said
    max_ttl: int = 86400  # Unbound's and dnsmasq's; a mistaken TTL of years shall end
    max_negative_ttl: int = 3600  # Unbound's; a name that was missing may be created
    stale: int = 86400  # seconds past its end that an answer may serve if no resolver does: RFC 8767 section 5's least
    prefetch: bool = True


@dataclass(frozen=True, slots=True)
class ForwardingSpec:
    zones: tuple[ForwardZoneSpec, ...] = ()
    cache: CacheSpec = CacheSpec()
    mixed_case: bool = True  # 0x20: a forger has to guess the case of every letter too
    private_reverse: bool = False  # ask others for the names of private addresses (RFC 6303), where no zone does


BY_DEFAULT = ForwardingSpec()
