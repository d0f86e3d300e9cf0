"""What the DNS plane answers: namespaces, services, instances, and who else is asked.

This file describes work and does none; everything is frozen. TTLs and times are seconds. Names are text in
lower case without the final dot, checked by whoever builds them to be host names of letters, digits, hyphens.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, Protocol

RoutingPolicy = Literal["weighted", "multivalue"]
RecordType = Literal["A", "AAAA", "SRV"]


class HealthSource(Protocol):
    """The one truth about health, which somebody else keeps. Control hands it in."""

    def is_healthy(self, key: Hashable, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One instance. `health_key` is meaningless here: it is handed back to the HealthSource; None is always healthy."""

    id: str
    ip: str
    port: int
    weight: int = 1  # 0-255 as in Route 53; 0 is standby: answered only when no weighted instance is healthy
    attributes: tuple[tuple[str, str], ...] = ()
    health_key: Hashable | None = None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    name: str
    records: tuple[tuple[RecordType, int], ...]  # (type, ttl)
    policy: RoutingPolicy = "multivalue"
    instances: tuple[InstanceSpec, ...] = ()
    srv_labels: tuple[str, str] = ("_http", "_tcp")  # SRV also answers at _http._tcp.<service>


@dataclass(frozen=True, slots=True)
class NamespaceSpec:
    """`names` are all the zones it answers under, for example ("services", "services.app.local")."""

    names: tuple[str, ...]
    services: tuple[ServiceSpec, ...] = ()
    ttl: int = 60
    negative_ttl: int = 5  # SOA MINIMUM: short, for a service that appears must be seen (coredns #2434, app-mesh #151)


@dataclass(frozen=True, slots=True)
class DnsSpec:
    listen: tuple[tuple[str, int], ...] = ()  # (address, port), UDP and TCP each
    namespaces: tuple[NamespaceSpec, ...] = ()
    resolvers: tuple[tuple[str, int], ...] = ()  # asked for everything that is not ours; none: REFUSED
