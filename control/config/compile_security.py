"""Security groups, network ACLs and subnets, as the firewall of each load balancer."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from ...proxy.specs import (
    ALL_PORTS,
    AclRuleSpec,
    FirewallSpec,
    NetworkAclSpec,
    Peers,
    PlacementSpec,
    SecurityGroupSpec,
    SecurityRuleSpec,
    is_unix,
)
from .models import Configuration, LoadBalancer
from .models_security import AclRule, NetworkAcl, SecurityGroup, SecurityRule
from .scalars import Network

# `egress` left out. AWS gives a new group this rule for IPv4, and for IPv6 where the network has it.
TO_EVERYONE: Final = SecurityRuleSpec("all", ALL_PORTS, Peers("everyone", ("0.0.0.0/0", "::/0")))


class Firewalls:
    """Everything by name, compiled once; load balancers that name the same share it."""

    def __init__(self, configuration: Configuration) -> None:
        self._members = _members(configuration)
        security = configuration.security
        self._groups = {name: self._group(name, group) for name, group in security.security_groups.items()}
        self._placements = _placements(configuration)

    def of(self, balancer: LoadBalancer) -> FirewallSpec:
        groups = tuple(self._groups[name] for name in balancer.security_groups)
        return FirewallSpec(groups or None, tuple(self._placements[name] for name in balancer.subnets))

    def _group(self, name: str, group: SecurityGroup) -> SecurityGroupSpec:
        ingress = tuple(self._rule(rule, rule.source) for rule in group.ingress)
        if group.egress is None:
            return SecurityGroupSpec(name, ingress, (TO_EVERYONE,))
        return SecurityGroupSpec(name, ingress, tuple(self._rule(rule, rule.destination) for rule in group.egress))

    def _rule(self, rule: SecurityRule, peer: Network | str) -> SecurityRuleSpec:
        if isinstance(peer, str):
            peers = Peers(peer, self._members.get(peer, ()))
        else:
            peers = Peers(str(peer), (str(peer),))
        return SecurityRuleSpec(rule.protocol, rule.port or ALL_PORTS, peers, rule.description or "")


def _members(configuration: Configuration) -> dict[str, tuple[str, ...]]:
    """Who wears a security group: the addresses of our own that its load balancers are reached at, as CIDRs.

    0.0.0.0 is no address to come from, so a load balancer that listens at nothing else is no member of anything.
    """
    found: dict[str, dict[str, None]] = {}
    for balancer in configuration.every_load_balancer():
        for listener in balancer.listeners:
            if is_unix(listener.address):
                continue
            address = ip_address(listener.address)
            if not address.is_unspecified:
                for name in balancer.security_groups:
                    found.setdefault(name, {})[f"{address}/{address.max_prefixlen}"] = None
    return {name: tuple(cidrs) for name, cidrs in found.items()}


def _placements(configuration: Configuration) -> dict[str, PlacementSpec]:
    acls = {name: _acl(name, acl) for name, acl in configuration.security.network_acls.items()}
    by_subnet: dict[str, NetworkAclSpec] = {}
    for_the_others: NetworkAclSpec | None = None
    for name, acl in configuration.security.network_acls.items():
        if acl.subnets is None:
            for_the_others = acls[name]
        for subnet in acl.subnets or ():
            by_subnet[subnet] = acls[name]
    subnets = configuration.network.subnets if configuration.network else ()
    return {
        subnet.name: PlacementSpec(subnet.name, str(subnet.cidr), by_subnet.get(subnet.name, for_the_others))
        for subnet in subnets
    }


def _acl(name: str, acl: NetworkAcl) -> NetworkAclSpec:
    inbound = (_acl_rule(rule, rule.source) for rule in acl.inbound)
    outbound = (_acl_rule(rule, rule.destination) for rule in acl.outbound)
    return NetworkAclSpec(name, _in_order(inbound), _in_order(outbound))


def _in_order(rules: Iterable[AclRuleSpec]) -> tuple[AclRuleSpec, ...]:
    return tuple(sorted(rules, key=lambda rule: rule.number))


def _acl_rule(rule: AclRule, peer: Network) -> AclRuleSpec:
    peers = Peers(str(peer), (str(peer),))
    return AclRuleSpec(rule.number, rule.protocol, rule.ports, peers, rule.action == "allow")
