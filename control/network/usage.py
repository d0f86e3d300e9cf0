"""How much of each quota a thing uses, counted in the state in which it would stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .model import (
    InternetGateway,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    Peering,
    PrefixList,
    RouteTable,
    SecurityGroup,
    Subnet,
    Thing,
    VirtualNetwork,
)
from .references import is_cidr, rule_peer
from .values import is_ipv6

if TYPE_CHECKING:
    from .state import NetworkState

Usage = tuple[str, int, str]
"""Quota, how many there would be, of whom."""


def over_quota(state: NetworkState, thing: Thing) -> tuple[str, int, int, str] | None:
    """The first quota that `thing` breaks, as (quota, limit, used, owner)."""
    for quota, used, owner in _usage(state, thing):
        limit: int = getattr(state.quotas, quota)
        if used > limit:
            return quota, limit, used, owner
    return None


def _usage(state: NetworkState, thing: Thing) -> Iterator[Usage]:
    owner = f"{thing.kind} {thing.name}"
    match thing:
        case VirtualNetwork():
            yield "networks", len(state.things[VirtualNetwork]), "this state"
            yield "cidrs_per_network", 1 + len(thing.additional_cidrs), owner
        case Subnet():
            yield "subnets_per_network", len(state.subnets_of[thing.network]), f"network {thing.network}"
        case RouteTable():
            tables = sum(table.vpc == thing.vpc for table in state.list(RouteTable))
            yield "route_tables_per_network", tables, f"network {thing.vpc}"
            yield "routes_per_table", len(thing.routes), owner
        case InternetGateway():
            yield "internet_gateways", len(state.things[InternetGateway]), "this state"
        case NatGateway():
            zone = state.get(Subnet, thing.subnet).zone
            in_zone = sum(state.get(Subnet, nat.subnet).zone == zone for nat in state.list(NatGateway))
            yield "nat_gateways_per_zone", in_zone, f"zone {zone or '(none)'}"
        case Peering():
            for end in (thing.requester, thing.accepter):
                yield "peerings_per_network", len(state.peerings_of[end]), f"network {end}"
        case PrefixList():
            yield "prefix_lists", len(state.things[PrefixList]), "this state"
            yield "entries_per_prefix_list", len(thing.cidrs), owner
        case SecurityGroup():
            yield "security_groups", len(state.things[SecurityGroup]), "this state"
            for rules in (thing.ingress_rules, thing.egress_rules or ()):
                yield "rules_per_security_group", _of_a_family(map(rule_peer, rules)), owner
        case NetworkAcl():
            yield "network_acls_per_network", len(state.acls_of[thing.vpc]), f"network {thing.vpc}"
            for rules in (thing.inbound_rules, thing.outbound_rules):
                peers = (rule.source or rule.destination or "" for rule in rules)
                yield "rules_per_network_acl", 1 + _of_a_family(peers), owner
        case NetworkInterface():
            yield "network_interfaces", len(state.things[NetworkInterface]), "this state"
            yield "security_groups_per_interface", len(thing.security_groups), owner
        case _:
            return


def _of_a_family(peers: Iterable[str]) -> int:
    """The larger count of the two families; a name may stand for both."""
    peers = list(peers)
    six = sum(is_ipv6(peer) or not is_cidr(peer) for peer in peers)
    four = sum(not is_ipv6(peer) for peer in peers)
    return max(four, six)
