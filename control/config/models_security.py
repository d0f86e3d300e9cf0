"""The `security:` section as types: groups, which remember connections, and ACLs, which do not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .model_base import Described
from .scalars import Cidr, Name, Peer, PortRange, whole

RuleNumber = Annotated[int, *whole(1, 32766)]  # 32767 is the implicit deny on AWS
IpProtocolName = Literal["tcp", "udp", "icmp", "all"]


class SecurityRule(Described):
    protocol: IpProtocolName
    """tcp, udp, icmp or all."""
    port: PortRange | None = None
    """A port, a range such as 1024-65535, or all. Needed for tcp and udp."""


class IngressRule(SecurityRule):
    source: Peer
    """A CIDR, or a security group: the listeners' addresses of the load balancers that wear it."""


class EgressRule(SecurityRule):
    destination: Peer
    """A CIDR, or a security group."""


class SecurityGroup(Described):
    vpc: Name | None = None
    """The network it belongs to."""
    ingress: tuple[IngressRule, ...] = ()
    """Who may connect; all others may not."""
    egress: tuple[EgressRule, ...] | None = None
    """To whom connections may be opened. Left out: to everyone, as on AWS; [] is to nobody."""


class AclRule(Described):
    number: RuleNumber
    """1 to 32766; the smallest that fits decides."""
    protocol: IpProtocolName
    """tcp, udp, icmp or all."""
    ports: PortRange = (0, 65535)
    """Destination ports: one, a range such as 1024-65535, or all."""
    action: Literal["allow", "deny"]
    """What is done with what fits."""


class InboundRule(AclRule):
    source: Cidr
    """From where."""


class OutboundRule(AclRule):
    destination: Cidr
    """Where to."""


class NetworkAcl(Described):
    vpc: Name | None = None
    """The network it belongs to."""
    subnets: tuple[Name, ...] | None = None
    """Where it stands at the border. Left out: every subnet that no other ACL names."""
    inbound: tuple[InboundRule, ...] = ()
    """What may come in, answers to our own connections included. The rest may not."""
    outbound: tuple[OutboundRule, ...] = ()
    """What may go out, answers to clients included: an ACL remembers no connections. The rest may not."""


class SecuritySection(Described):
    security_groups: dict[Name, SecurityGroup] = Field(default_factory=dict)
    """Stateful, allow only; by name."""
    network_acls: dict[Name, NetworkAcl] = Field(default_factory=dict)
    """Stateless, numbered, first match; by name."""
