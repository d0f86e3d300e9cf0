"""What the DNS plane answers: namespaces, services, instances, and who else is asked.

This file describes work and does none; everything is frozen. TTLs and times are seconds. Names are text in
lower case without the final dot, checked by whoever builds them to be host names of letters, digits, hyphens.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, Protocol

from .forwarding_specs import BY_DEFAULT as FORWARDING
from .forwarding_specs import ForwardingSpec
from .transport_specs import BY_DEFAULT as TRANSPORT
from .transport_specs import TransportSpec

RoutingPolicy = Literal["weighted", "multivalue", "failover", "latency", "geolocation"]
RecordType = Literal["A", "AAAA", "SRV", "HTTPS", "SVCB"]
StaticType = Literal["A", "AAAA", "CNAME", "TXT", "SRV"]
AllUnhealthy = Literal["fail_open", "fail_closed", "last_healthy"]


class HealthSource(Protocol):
    """The one truth about health, which somebody else keeps. Control hands it in."""

    def is_healthy(self, key: Hashable, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Down:
    """The health key of an instance that is unhealthy whatever a HealthSource would say of it."""

    why: str
    namespace: str
    service: str
    instance: str


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One instance. `health_key` is meaningless here: it is handed back to the HealthSource; None is always healthy."""

    id: str
    ip: str
    port: int
    weight: int = 1  # 0-255 as in Route 53; 0 is standby: answered only when no weighted instance is healthy
    attributes: tuple[tuple[str, str], ...] = ()
    health_key: Hashable | None = None
    failover: Literal["primary", "secondary"] = "primary"
    zone: str = ""
    region: str = ""
    location: str = ""  # "eu", "eu/de"; empty serves those for whom nobody else is


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    name: str
    records: tuple[tuple[RecordType, int], ...]  # (type, ttl)
    policy: RoutingPolicy = "multivalue"
    instances: tuple[InstanceSpec, ...] = ()
    srv_labels: tuple[str, str] = ("_http", "_tcp")  # SRV also answers at _http._tcp.<service>
    all_unhealthy: AllUnhealthy = "fail_open"
    max_answers: int | None = None  # None: the policy's own. Never more than fit into an answer over TCP
    zone_affinity: bool = False  # instances of the client's zone, then of its region, while enough of them are healthy
    alpn: tuple[str, ...] = ()  # what HTTPS and SVCB records say is spoken


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """Records that somebody wrote down. A target without a dot is a name of the same namespace, any other is whole."""

    name: str  # relative to the namespace; "@" is its own name, "*.x" a wildcard
    type: StaticType
    ttl: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NamespaceSpec:
    """`names` are all the zones it answers under, for example ("services", "services.app.local")."""

    names: tuple[str, ...]
    services: tuple[ServiceSpec, ...] = ()
    ttl: int = 60
    negative_ttl: int = 5  # SOA MINIMUM: short, for a service that appears must be seen (coredns #2434, app-mesh #151)
    records: tuple[RecordSpec, ...] = ()
    networks: tuple[str, ...] = ()  # whose clients see it, by name; none: everybody


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Where clients are. Of all networks that have a client's address the one with the longest prefix is its own."""

    name: str
    cidrs: tuple[str, ...]
    zone: str = ""
    region: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class DnsSpec:
    listen: tuple[tuple[str, int], ...] = ()  # (address, port), UDP and TCP each
    namespaces: tuple[NamespaceSpec, ...] = ()
    resolvers: tuple[tuple[str, int], ...] = ()  # asked for everything that is not ours; none: REFUSED
    recursion: tuple[str, ...] | None = None  # CIDRs whose clients the resolvers are asked for; None: private networks
    networks: tuple[NetworkSpec, ...] = ()
    latencies: tuple[tuple[str, str, float], ...] = ()  # (region, region, seconds), both ways unless both are given
    forwarding: ForwardingSpec = FORWARDING
    transport: TransportSpec = TRANSPORT
