"""Networks and security: subnets that fit, rules that can hold, groups and ACLs that exist."""

from __future__ import annotations

from typing import Any, cast

from .mistakes import Path, closest
from .models import Subnet
from .models_security import AclRule, NetworkAcl, SecurityRule
from .review import Review
from .scalars import Network


def check_network(review: Review) -> None:
    _subnets(review)
    _security_groups(review)
    _network_acls(review)


def _subnets(review: Review) -> None:
    network = review.configuration.network
    if network is None:
        return
    base: Path = ("network", "subnets")
    review.unique(
        (((*base, i, "name"), subnet.name) for i, subnet in enumerate(network.subnets)), "the name {} is taken"
    )
    placed: list[tuple[Path, Subnet]] = []
    for index, subnet in enumerate(network.subnets):
        path = (*base, index)
        review.vpc((*path, "vpc"), subnet.vpc)
        review.zone((*path, "zone"), subnet.zone)
        if not review.sound((*path, "cidr")):
            continue
        placed.append(((*path, "cidr"), subnet))
        if review.sound(("network", "vpc", "cidr")) and not _inside(subnet.cidr, network.vpc.cidr):
            outer = network.vpc.cidr
            review.mistake((*path, "cidr"), f"{subnet.cidr} is not inside {outer}, the network {network.vpc.name}")
    _overlaps(review, placed)


def _inside(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(cast("Any", outer))


def _overlaps(review: Review, placed: list[tuple[Path, Subnet]]) -> None:
    # CIDRs nest or are apart, so in the order of first address an overlap shows against the widest one still open.
    placed = sorted(placed, key=lambda p: (p[1].cidr.version, int(p[1].cidr.network_address), p[1].cidr.prefixlen))
    outer: tuple[Path, Subnet] | None = None
    for path, subnet in placed:
        if outer is None or not _inside(subnet.cidr, outer[1].cidr):
            outer = path, subnet
            continue
        later, earlier = ((path, subnet), outer) if path > outer[0] else (outer, (path, subnet))
        line = review.line(earlier[0])
        other = earlier[1]
        review.mistake(later[0], f"{later[1].cidr} overlaps {other.cidr} of {other.name} in line {line}")


def _security_groups(review: Review) -> None:
    for name, group in review.configuration.security.security_groups.items():
        path: Path = ("security", "security_groups", name)
        review.vpc((*path, "vpc"), group.vpc)
        for index, ingress in enumerate(group.ingress):
            _security_rule(review, (*path, "ingress", index), ingress)
            _peer(review, (*path, "ingress", index, "source"), ingress.source)
        for index, egress in enumerate(group.egress or ()):
            _security_rule(review, (*path, "egress", index), egress)
            _peer(review, (*path, "egress", index, "destination"), egress.destination)


def _security_rule(review: Review, path: Path, rule: SecurityRule) -> None:
    if rule.protocol in {"tcp", "udp"}:
        if rule.port is None:
            review.mistake((*path, "port"), f"is missing: a rule for {rule.protocol} needs a port, or all", at_key=True)
    else:
        _all_ports(review, (*path, "port"), rule.protocol, rule.port)


def _all_ports(review: Review, path: Path, protocol: str, ports: tuple[int, int] | None) -> None:
    if protocol in {"icmp", "all"} and ports not in {None, (0, 65535)}:
        knows = "has no ports" if protocol == "icmp" else "covers every port"
        review.mistake(path, f"protocol {protocol} {knows}: write all or leave it out, or name tcp or udp")


def _peer(review: Review, path: Path, peer: Network | str) -> None:
    # CloudFormation would refuse this. A file that is one part of a whole is common enough to be only told.
    groups = review.security_groups
    if isinstance(peer, str) and groups.complete and peer not in groups.all:
        meant = closest(peer, groups.all)
        advice = f', did you mean "{meant}"?' if meant else ""
        review.warn(
            path, f'no security group is named "{peer}", so this rule matches nobody until it is defined{advice}'
        )


def _network_acls(review: Review) -> None:
    acls = review.configuration.security.network_acls
    wearers: dict[str, Path] = {}
    catch_all: str | None = None
    for name, acl in acls.items():
        path: Path = ("security", "network_acls", name)
        review.vpc((*path, "vpc"), acl.vpc)
        _acl_rules(review, path, acl)
        if acl.subnets is None and review.sound((*path, "subnets")):
            if catch_all is not None:
                message = f"names no subnets, and neither does {catch_all}: one ACL can be for all the others"
                review.mistake(path, message, at_key=True)
            catch_all = catch_all or name
        for index, subnet in enumerate(acl.subnets or ()):
            place = (*path, "subnets", index)
            if review.reference(place, subnet, review.subnets, "subnet") and subnet in wearers:
                message = f"{subnet} has an ACL already, in line {review.line(wearers[subnet])}: a subnet has one"
                review.mistake(place, message)
            wearers.setdefault(subnet, place)


def _acl_rules(review: Review, path: Path, acl: NetworkAcl) -> None:
    for direction, rules in (("inbound", acl.inbound), ("outbound", acl.outbound)):
        base = (*path, direction)
        review.unique((((*base, i, "number"), rule.number) for i, rule in enumerate(rules)), "the number {} is taken")
        for index, rule in enumerate(cast("tuple[AclRule, ...]", rules)):
            _all_ports(review, (*base, index, "ports"), rule.protocol, rule.ports)
    if acl.inbound and "outbound" not in acl.model_fields_set:
        message = "is left out, so nothing may go out, not even answers: an ACL remembers no connections"
        review.warn((*path, "outbound"), message, at_key=True)
