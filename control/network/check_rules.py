"""What is wrong with security groups and network ACLs: ports, numbers, peers, and who stands where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from .model import AclRule, NetworkAcl, SecurityGroup, SecurityRule, Subnet
from .references import is_cidr
from .values import ALL_PORTS, RULE_PROTOCOLS, Protocol, block, cidr_mistake

if TYPE_CHECKING:
    from .state import NetworkState

Mistake = tuple[str, str]
"""Field and sentence."""
Found = Iterator[Mistake]

LAST_NUMBER = 32766  # 32767 is the implicit deny on AWS


def group_mistakes(state: NetworkState, group: SecurityGroup) -> Found:
    for at, rule in enumerate(group.ingress_rules):
        yield from _security_rule(state, group, f"ingress_rules[{at}]", rule, "source")
    for at, rule in enumerate(group.egress_rules or ()):
        yield from _security_rule(state, group, f"egress_rules[{at}]", rule, "destination")


def _security_rule(
    state: NetworkState, group: SecurityGroup, where: str, rule: SecurityRule, side: Literal["source", "destination"]
) -> Found:
    yield from _protocol_and_ports(where, rule)
    peer, missing = _peer(where, rule, side)
    yield from missing
    if is_cidr(peer):
        wrong = _rule_cidr(peer)
        if wrong is not None:
            yield f"{where}.{side}", wrong
        return
    other = state.find(SecurityGroup, peer)
    if other is not None and other.vpc != group.vpc:
        peered = {end for p in state.peerings_of.get(group.vpc, ()) for end in (p.requester, p.accepter)}
        if other.vpc not in peered:
            yield f"{where}.{side}", f"{peer} belongs to network {other.vpc}, which is not peered with {group.vpc}"


def acl_mistakes(state: NetworkState, acl: NetworkAcl) -> Found:
    directions: tuple[tuple[str, Literal["source", "destination"], Sequence[AclRule]], ...] = (
        ("inbound_rules", "source", acl.inbound_rules),
        ("outbound_rules", "destination", acl.outbound_rules),
    )
    for way, side, rules in directions:
        for number, count in Counter(rule.number for rule in rules).items():
            if count > 1:
                yield way, f"the number {number} is taken twice"
        for at, rule in enumerate(rules):
            where = f"{way}[{at}]"
            if not 1 <= rule.number <= LAST_NUMBER:
                yield f"{where}.number", f"{rule.number} is outside 1 to {LAST_NUMBER}"
            yield from _protocol_and_ports(where, rule)
            peer, missing = _peer(where, rule, side)
            yield from missing
            wrong = _rule_cidr(peer) if peer else None
            if wrong is not None:
                yield f"{where}.{side}", wrong
    others = [other for other in state.acls_of.get(acl.vpc, ()) if other.name != acl.name]
    if acl.subnets is None:
        for other in others:
            if other.subnets is None:
                yield "subnets", f"names none, and neither does {other.name}: one ACL can be for all the others"
    for at, name in enumerate(acl.subnets or ()):
        subnet = state.find(Subnet, name)
        if subnet is not None and subnet.network != acl.vpc:
            yield f"subnets[{at}]", f"{name} belongs to network {subnet.network}, this ACL to {acl.vpc}"
        for other in others:
            if name in (other.subnets or ()):
                yield f"subnets[{at}]", f"{name} has an ACL already, {other.name}: a subnet has one"


def _peer(
    where: str, rule: SecurityRule | AclRule, side: Literal["source", "destination"]
) -> tuple[str, list[Mistake]]:
    """The side that the rule looks at, and what is wrong with how it was said."""
    given, other = (rule.source, rule.destination) if side == "source" else (rule.destination, rule.source)
    unknown = "destination" if side == "source" else "source"
    wrong: list[Mistake] = []
    if other is not None:
        wrong.append((f"{where}.{unknown}", f"has no place here: these rules look at the {side}"))
    if not given:
        wrong.append((f"{where}.{side}", "is missing: a CIDR such as 0.0.0.0/0"))
    return given or "", wrong


def _rule_cidr(text: str) -> str | None:
    """Bits behind the prefix are cleared without a word, as AWS does: 100.68.0.18/18 is 100.68.0.0/18."""
    try:
        return None if "/" in text and block(text) else cidr_mistake(text)
    except ValueError:
        return cidr_mistake(text)


def _protocol_and_ports(where: str, rule: SecurityRule | AclRule) -> Found:
    if rule.protocol not in RULE_PROTOCOLS:
        meant = rule.protocol.transport
        yield f"{where}.protocol", f"{rule.protocol} is for listeners: a rule says {meant}, which carries it"
    wrong = rule.port_range.mistake()
    if wrong is not None:
        yield f"{where}.port_range", wrong
    elif rule.protocol in {Protocol.ICMP, Protocol.ALL} and rule.port_range != ALL_PORTS:
        knows = "has no ports" if rule.protocol is Protocol.ICMP else "covers every port"
        yield f"{where}.port_range", f"protocol {rule.protocol} {knows}: leave it out, or name tcp or udp"
