"""Which thing points at which: what must exist before a create, and what a delete would leave hanging.

A route's target is looser than the rest, as on AWS: it must exist when the route is written, may be deleted later, and
leaves the route behind as a blackhole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .model import (
    EgressOnlyInternetGateway,
    InternetGateway,
    LoadBalancer,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    Peering,
    PrefixList,
    RouteTable,
    SecurityGroup,
    SecurityRule,
    Subnet,
    TargetGroup,
    Thing,
    Tunnel,
    VirtualNetwork,
)

PREFIX_LIST = "pl-"  # how the name of a prefix list begins, and that of nothing else


@dataclass(frozen=True, slots=True)
class Reference:
    kind: type[Thing]
    name: str
    where: str  # the field, as one would write it
    holds: bool = True  # whether it keeps what it points at from being deleted


def references(thing: Thing) -> Iterator[Reference]:
    """Everything that `thing` points at, in the order of its fields."""
    match thing:
        case Subnet():
            yield Reference(VirtualNetwork, thing.network, "network")
            if thing.route_table is not None:
                yield Reference(RouteTable, thing.route_table, "route_table")
            if thing.nat_gateway is not None:
                yield Reference(NatGateway, thing.nat_gateway, "nat_gateway", holds=False)
        case InternetGateway() | EgressOnlyInternetGateway() | Tunnel() | TargetGroup():
            yield Reference(VirtualNetwork, thing.vpc, "vpc")
        case NatGateway():
            yield Reference(Subnet, thing.subnet, "subnet")
        case Peering():
            yield Reference(VirtualNetwork, thing.requester, "requester")
            yield Reference(VirtualNetwork, thing.accepter, "accepter")
        case RouteTable():
            yield Reference(VirtualNetwork, thing.vpc, "vpc")
            for at, route in enumerate(thing.routes):
                if route.destination.startswith(PREFIX_LIST):
                    yield Reference(PrefixList, route.destination, f"routes[{at}].destination")
                for kind, name in route.targets:
                    yield Reference(kind, name, f"routes[{at}].{kind.kind.lower().replace(' ', '_')}", holds=False)
        case SecurityGroup():
            yield Reference(VirtualNetwork, thing.vpc, "vpc")
            for at, rule in enumerate(thing.ingress_rules):
                yield from _peer(rule.source, f"ingress_rules[{at}].source")
            for at, rule in enumerate(thing.egress_rules or ()):
                yield from _peer(rule.destination, f"egress_rules[{at}].destination")
        case NetworkAcl():
            yield Reference(VirtualNetwork, thing.vpc, "vpc")
            for at, name in enumerate(thing.subnets or ()):
                yield Reference(Subnet, name, f"subnets[{at}]")
        case NetworkInterface():
            yield Reference(Subnet, thing.subnet, "subnet")
            yield from _groups(thing)
        case LoadBalancer():
            for at, name in enumerate(thing.subnets):
                yield Reference(Subnet, name, f"subnets[{at}]")
            yield from _groups(thing)
            for at, listener in enumerate(thing.listeners):
                for name in listener.target_groups:
                    yield Reference(TargetGroup, name, f"listeners[{at}].target_groups")
        case _:
            return


def rule_peer(rule: SecurityRule) -> str:
    """The other side of a rule, whichever way it looks; "" where it was forgotten."""
    return rule.source or rule.destination or ""


def is_cidr(peer: str) -> bool:
    """A name never holds a slash or a colon, a CIDR always one of them; `192.0.2.1` is a CIDR that lacks its length."""
    return "/" in peer or ":" in peer or peer.replace(".", "").isdigit()


def _peer(peer: str | None, where: str) -> Iterator[Reference]:
    if peer and not is_cidr(peer):
        yield Reference(PrefixList if peer.startswith(PREFIX_LIST) else SecurityGroup, peer, where)


def _groups(thing: NetworkInterface | LoadBalancer) -> Iterator[Reference]:
    for at, name in enumerate(thing.security_groups):
        yield Reference(SecurityGroup, name, f"security_groups[{at}]")
