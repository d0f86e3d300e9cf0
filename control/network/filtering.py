"""What security groups and ACLs say of a flow: which ports pass by which rule, and what was nearest where none does.

The data planes judge with `proxy.firewall`, compiled, which stops at the first denial and knows its own side only. An
explanation wants every denial, of both sides, and for ranges: "anyone", and any of a client's ports. So it reads the
rules plainly, in their order, in time linear in them; a property test holds the two to the same answers, and
`firewall_spec` is how one state becomes the other's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, cast

from ...proxy.specs import (
    AclRuleSpec,
    FirewallSpec,
    IpProtocol,
    NetworkAclSpec,
    Peers,
    PlacementSpec,
    SecurityGroupSpec,
    SecurityRuleSpec,
)
from .model import (
    AclRule,
    Action,
    NetworkAcl,
    NetworkInterface,
    PrefixList,
    SecurityGroup,
    SecurityRule,
    Subnet,
)
from .references import PREFIX_LIST, is_cidr, rule_peer
from .values import Block, PortRange, Protocol, block, holds, overlap

if TYPE_CHECKING:
    from .state import NetworkState

TO_EVERYONE = tuple(SecurityRule(protocol=Protocol.ALL, destination=everyone) for everyone in ("0.0.0.0/0", "::/0"))
"""`egress_rules` left out."""


@dataclass(frozen=True, slots=True)
class RuleName:
    """One rule, and where it stands. `number` is an ACL's, or the place in a group's list; None: the implicit deny."""

    owner: str
    way: str  # ingress, egress, inbound, outbound
    number: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.owner} {self.way} {'rule *' if self.number is None else f'rule {self.number}'} ({self.text})"


@dataclass(frozen=True, slots=True)
class Filtered:
    """`admitted` empty: blocked, by `denied_by`. `nearest` would have needed the least change."""

    admitted: tuple[tuple[PortRange, RuleName], ...]
    denied_by: RuleName | None
    nearest: str | None

    @property
    def passes(self) -> bool:
        return bool(self.admitted)


@dataclass(frozen=True, slots=True)
class _Row:
    """A rule of either sort, with its peer resolved."""

    name: RuleName
    protocol: Protocol
    ports: PortRange
    peer: str
    blocks: tuple[Block, ...]
    allows: bool


def judge_acl(
    state: NetworkState,
    acl: NetworkAcl,
    way: Literal["inbound", "outbound"],
    protocol: Protocol,
    ports: PortRange,
    peer: Block,
) -> Filtered:
    """First match by number; what no rule decides, `*` denies."""
    rules = acl.inbound_rules if way == "inbound" else acl.outbound_rules
    rows = [_acl_row(acl, way, rule) for rule in sorted(rules, key=attrgetter("number"))]
    return _read(rows, protocol, ports, peer, RuleName(acl.name, way, None, "deny everything else"))


def judge_groups(
    state: NetworkState,
    groups: Sequence[SecurityGroup],
    way: Literal["ingress", "egress"],
    protocol: Protocol,
    ports: PortRange,
    peer: Block,
) -> Filtered:
    """The union of what the groups allow."""
    rows = [row for group in groups for row in _group_rows(state, group, way)]
    names = ", ".join(group.name for group in groups)
    return _read(rows, protocol, ports, peer, RuleName(names, way, None, "deny what no rule allows"))


def _acl_row(acl: NetworkAcl, way: str, rule: AclRule) -> _Row:
    peer = rule.source or rule.destination or ""
    text = f"{rule.action} {rule.protocol} {rule.port_range} {'from' if way == 'inbound' else 'to'} {peer}"
    name = RuleName(acl.name, way, rule.number, text)
    return _Row(name, rule.protocol, rule.port_range, peer, (block(peer),), rule.action is Action.ALLOW)


def _group_rows(state: NetworkState, group: SecurityGroup, way: Literal["ingress", "egress"]) -> Iterator[_Row]:
    for number, rule in enumerate(rules_of(group, way)):
        peer = rule_peer(rule)
        text = f"allow {rule.protocol} {rule.port_range} {'from' if way == 'ingress' else 'to'} {peer}"
        blocks = state.peer_blocks.get(peer)
        if blocks is None:
            blocks = state.peer_blocks[peer] = tuple(map(block, peer_cidrs(state, peer)))
        yield _Row(RuleName(group.name, way, number, text), rule.protocol, rule.port_range, peer, blocks, True)


def rules_of(group: SecurityGroup, way: Literal["ingress", "egress"]) -> Sequence[SecurityRule]:
    if way == "ingress":
        return group.ingress_rules
    return TO_EVERYONE if group.egress_rules is None else group.egress_rules


def peer_cidrs(state: NetworkState, peer: str) -> tuple[str, ...]:
    """What a rule's peer stands for: itself, the blocks of a prefix list, the private addresses of a group's members.

    A load balancer's addresses are not in the model: it is a member with the whole of its subnets.
    """
    if is_cidr(peer):
        return (peer,)
    if peer.startswith(PREFIX_LIST):
        prefixes = state.find(PrefixList, peer)
        return tuple(prefixes.cidrs) if prefixes is not None else ()
    found: list[str] = []
    for member in state.members.get(peer, ()):
        if isinstance(member, NetworkInterface):
            found.append(f"{member.address}/32")
            if member.ipv6_address is not None:
                found.append(f"{member.ipv6_address}/128")
        else:
            found += (cidr for name in member.subnets for cidr in state.get(Subnet, name).cidrs)
    return tuple(dict.fromkeys(found))


def _read(rows: Sequence[_Row], protocol: Protocol, ports: PortRange, peer: Block, default: RuleName) -> Filtered:
    """Rule by rule, each taking what it decides of the ports that are left.

    A rule for a part of the peers (a /24 where the question is "anyone") decides nothing for the others, so it is
    passed over, and remembered as near.
    """
    left = [ports]
    admitted: list[tuple[PortRange, RuleName]] = []
    denied_by: RuleName | None = None
    for row in rows:
        if not left:
            break
        if not _of(row, protocol) or not any(holds(named, peer) for named in row.blocks):
            continue
        rest: list[PortRange] = []
        for piece in left:
            common = piece.common(row.ports) if protocol is not Protocol.ICMP else piece
            if common is None:
                rest.append(piece)
                continue
            if row.allows:
                admitted.append((common, row.name))
            elif denied_by is None:
                denied_by = row.name
            if piece.first < common.first:
                rest.append(PortRange(piece.first, common.first - 1))
            if common.last < piece.last:
                rest.append(PortRange(common.last + 1, piece.last))
        left = rest
    if admitted:
        return Filtered(tuple(admitted), None, None)
    return Filtered((), denied_by or default, _nearest(rows, protocol, ports, peer))


def _of(row: _Row, protocol: Protocol) -> bool:
    return row.protocol in {protocol, Protocol.ALL}


def _nearest(rows: Iterable[_Row], protocol: Protocol, ports: PortRange, peer: Block) -> str | None:
    """The allowing rule that misses in one thing only: ports, then peers, then protocol."""
    allowing = [row for row in rows if row.allows]

    def port_miss(row: _Row) -> int:
        return max(row.ports.first - ports.last, ports.first - row.ports.last, 0)

    def fits(row: _Row) -> bool:
        return any(holds(named, peer) for named in row.blocks)

    by_port = [row for row in allowing if _of(row, protocol) and fits(row) and port_miss(row)]
    if by_port:
        row = min(by_port, key=port_miss)
        return f"{row.name}: its ports are {row.ports}"
    by_peer = [row for row in allowing if _of(row, protocol) and not port_miss(row)]
    if by_peer:
        row = next((row for row in by_peer if any(overlap(named, peer) for named in row.blocks)), by_peer[0])
        return f"{row.name}: " + (f"it is for {row.peer} only" if row.blocks else f"nobody is in {row.peer}")
    by_protocol = [row for row in allowing if fits(row) and not port_miss(row)]
    if by_protocol:
        return f"{by_protocol[0].name}: it is for {by_protocol[0].protocol}"
    return None


# The same rules for the data planes.


def firewall_spec(state: NetworkState, groups: Sequence[str], subnets: Sequence[str]) -> FirewallSpec:
    """What a load balancer, or a host, that wears `groups` and stands in `subnets` hands to `proxy.firewall`."""
    worn = tuple(_group_spec(state, state.get(SecurityGroup, name)) for name in groups)
    return FirewallSpec(worn or None, tuple(_placements(state, [state.get(Subnet, name) for name in subnets])))


def _group_spec(state: NetworkState, group: SecurityGroup) -> SecurityGroupSpec:
    def compiled(way: Literal["ingress", "egress"]) -> tuple[SecurityRuleSpec, ...]:
        return tuple(
            SecurityRuleSpec(
                _protocol(rule),
                _ports(rule),
                Peers(rule_peer(rule), peer_cidrs(state, rule_peer(rule))),
                rule.description,
            )
            for rule in rules_of(group, way)
        )

    return SecurityGroupSpec(group.name, compiled("ingress"), compiled("egress"))


def _placements(state: NetworkState, subnets: Iterable[Subnet]) -> Iterator[PlacementSpec]:
    for subnet in subnets:
        acl = state.acl_of(subnet)
        spec = None
        if acl is not None:
            inbound, outbound = (
                tuple(_acl_spec(rule) for rule in sorted(rules, key=attrgetter("number")))
                for rules in (acl.inbound_rules, acl.outbound_rules)
            )
            spec = NetworkAclSpec(acl.name, inbound, outbound)
        for cidr in subnet.cidrs:
            yield PlacementSpec(subnet.name, cidr, spec)


def _acl_spec(rule: AclRule) -> AclRuleSpec:
    peer = rule.source or rule.destination or ""
    return AclRuleSpec(rule.number, _protocol(rule), _ports(rule), Peers(peer, (peer,)), rule.action is Action.ALLOW)


def _protocol(rule: SecurityRule | AclRule) -> IpProtocol:
    return cast("IpProtocol", rule.protocol.value)


def _ports(rule: SecurityRule | AclRule) -> tuple[int, int]:
    return rule.port_range.first, rule.port_range.last
