"""What a network is made of: frozen descriptions under AWS's names, which refer to each other by name.

Pure data. A description may be wrong (a port of 70000, a subnet outside its network): `checks` finds that out, all of
it at once, when a description is to enter a `NetworkState`. Nothing here looks at anything else here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from .values import ALL_PORTS, Frozen, PortRange, Protocol


class Thing(Frozen):
    """Whatever has a name of its own in a state. `kind` is what people call it."""

    __slots__ = ()
    kind: ClassVar[str] = "thing"
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig(Frozen):
    domain: str
    resolvers: Sequence[str] = ()
    enable_private_dns: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNetwork(Thing):
    kind: ClassVar[str] = "network"
    name: str
    cidr: str
    region: str = ""
    zones: Sequence[str] = ()
    additional_cidrs: Sequence[str] = ()
    ipv6_cidr: str | None = None  # a /56, as on AWS
    dns_config: DnsConfig | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def cidrs(self) -> tuple[str, ...]:
        return (self.cidr, *self.additional_cidrs, *((self.ipv6_cidr,) if self.ipv6_cidr else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet(Thing):
    """`public` and `nat_gateway` are short for a default route, where the route table has none of its own."""

    kind: ClassVar[str] = "subnet"
    name: str
    network: str
    cidr: str
    zone: str = ""
    ipv6_cidr: str | None = None  # a /64
    public: bool = False
    route_table: str | None = None  # left out: the network's main table
    nat_gateway: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def cidrs(self) -> tuple[str, ...]:
        return (self.cidr, *((self.ipv6_cidr,) if self.ipv6_cidr else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class InternetGateway(Thing):
    kind: ClassVar[str] = "internet gateway"
    name: str
    vpc: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressOnlyInternetGateway(Thing):
    kind: ClassVar[str] = "egress-only internet gateway"
    name: str
    vpc: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class NatGateway(Thing):
    kind: ClassVar[str] = "NAT gateway"
    name: str
    subnet: str  # a public one: this is how it gets out itself
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Peering(Thing):
    """Between two networks whose addresses are apart. Not transitive: each pair that is to talk has one."""

    kind: ClassVar[str] = "peering"
    name: str
    requester: str
    accepter: str
    accepted: bool = True
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel(Thing):
    """A way to another site or region, as a next hop; what carries it is the tunnels' own affair."""

    kind: ClassVar[str] = "tunnel"
    name: str
    vpc: str
    region: str = ""
    up: bool = True
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where packets for `destination` (a CIDR, or a prefix list) go: exactly one of the others is said."""

    destination: str
    internet_gateway: str | None = None
    nat_gateway: str | None = None
    egress_only_internet_gateway: str | None = None
    peering: str | None = None
    tunnel: str | None = None

    @property
    def targets(self) -> tuple[tuple[type[Thing], str], ...]:
        """One, unless the route is mistaken."""
        said: tuple[tuple[type[Thing], str | None], ...] = (
            (InternetGateway, self.internet_gateway),
            (NatGateway, self.nat_gateway),
            (EgressOnlyInternetGateway, self.egress_only_internet_gateway),
            (Peering, self.peering),
            (Tunnel, self.tunnel),
        )
        return tuple((kind, name) for kind, name in said if name is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable(Thing):
    kind: ClassVar[str] = "route table"
    name: str
    vpc: str
    main: bool = False
    routes: Sequence[Route] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixList(Thing):
    """Blocks under one name, which begins with `pl-`: so a rule's peer reads as what it is."""

    kind: ClassVar[str] = "prefix list"
    name: str
    cidrs: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityRule:
    """`source` in ingress rules, `destination` in egress rules: a CIDR, a security group, or a prefix list."""

    protocol: Protocol
    port_range: PortRange = ALL_PORTS
    source: str | None = None
    destination: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup(Thing):
    """Stateful, allows only. `egress_rules` left out: to everyone, as AWS gives a new group; () is to nobody."""

    kind: ClassVar[str] = "security group"
    name: str
    vpc: str
    description: str = ""
    ingress_rules: Sequence[SecurityRule] = ()
    egress_rules: Sequence[SecurityRule] | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


class Action(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class AclRule:
    number: int  # 1 to 32766, the smallest that fits decides
    protocol: Protocol
    action: Action
    port_range: PortRange = ALL_PORTS
    source: str | None = None
    destination: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAcl(Thing):
    """Stateless. `subnets` left out: every subnet of the network that no other ACL names."""

    kind: ClassVar[str] = "network ACL"
    name: str
    vpc: str
    subnets: Sequence[str] | None = None
    inbound_rules: Sequence[AclRule] = ()
    outbound_rules: Sequence[AclRule] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInterface(Thing):
    """Something with an address: what `web-1` and `db-1` are in a question."""

    kind: ClassVar[str] = "network interface"
    name: str
    subnet: str
    address: str
    ipv6_address: str | None = None
    public_address: str | None = None  # the internet gateway's one-to-one translation
    security_groups: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


class Scheme(StrEnum):
    INTERNET = "internet-facing"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    port: int
    protocol: Protocol
    target_groups: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancer(Thing):
    """As much of a load balancer as the way to it and through it needs."""

    kind: ClassVar[str] = "load balancer"
    name: str
    scheme: Scheme
    subnets: Sequence[str]
    security_groups: Sequence[str] = ()
    listeners: Sequence[Listener] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    ip: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup(Thing):
    kind: ClassVar[str] = "target group"
    name: str
    vpc: str
    port: int
    protocol: Protocol
    targets: Sequence[Target] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


KINDS: tuple[type[Thing], ...] = (
    VirtualNetwork,
    RouteTable,
    InternetGateway,
    EgressOnlyInternetGateway,
    Subnet,
    NatGateway,
    Peering,
    Tunnel,
    PrefixList,
    SecurityGroup,
    NetworkAcl,
    NetworkInterface,
    TargetGroup,
    LoadBalancer,
)
"""In the order in which a reader, and an export, wants them."""
