"""Security groups and network ACLs, compiled; a verdict names the rule that gave it.

Pure: addresses come as text, a verdict goes back, and the caller closes or continues. The semantics are AWS's. A
security group is stateful, only allows, and is one union with the other groups; what no rule allows is denied. A
network ACL is stateless and numbered: the first rule that holds decides, `*` denies the rest, and the answers of an
admitted connection are judged too, by its client's port. An ACL stands at its subnet's border: what stays inside that
subnet is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from .first_match import FirstMatch, Match, parse_address, parse_network
from .specs import (
    ALL_PORTS,
    AclRuleSpec,
    FirewallSpec,
    NetworkAclSpec,
    PlacementSpec,
    SecurityGroupSpec,
    SecurityRuleSpec,
)

TransportProtocol = Literal["tcp", "udp"]

# Clients come back, and an exact answer from a dict costs a fifth of a computed one. The limit bounds memory to about
# 2 MB per firewall; when it is reached, all is forgotten, which costs one clear and keeps no order on the hot path.
REMEMBERED_PEERS = 8192


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule` labels a counter (as many labels as the configuration has rules), `reason` is a sentence for the log."""

    allowed: bool
    rule: str
    reason: str


UNGUARDED = Verdict(True, "none", "no security group and no network ACL has a say")


class _RuleSpec(Protocol):
    @property
    def protocol(self) -> str: ...
    @property
    def ports(self) -> tuple[int, int]: ...


class _Rules:
    """Rules of one direction in order of precedence, and the words that name them."""

    __slots__ = (
        "_allowed",
        "_allows",
        "_default",
        "_index",
        "_labels",
        "_names",
        "_peers",
        "_protocol",
        "_specs",
        "_title",
    )

    def __init__(
        self,
        title: str,
        default: str,
        specs: Sequence[AclRuleSpec | SecurityRuleSpec],
        labels: Sequence[str],
        names: Sequence[str],
        protocol: TransportProtocol,
        *,
        inward: bool,
    ) -> None:
        self._title = title
        self._default = default
        self._names = names
        self._protocol = protocol
        self._peers = ("from", "source") if inward else ("to", "destination")
        self._specs = specs
        # A rule of another protocol keeps its number and matches nobody.
        concerned = [spec.peers.cidrs if spec.protocol in (protocol, "all") else () for spec in specs]
        self._index = FirstMatch(
            [Match(tuple(map(parse_network, cidrs)), spec.ports) for cidrs, spec in zip(concerned, specs, strict=True)]
        )
        self._allows = [not isinstance(spec, AclRuleSpec) or spec.allow for spec in specs]
        self._labels = labels
        # Allowed needs no word about the peer, so it is one object for ever; only denials are worded when they happen.
        self._allowed = [
            Verdict(
                True, label, f"{title}: {name} allows {protocol} {_ports(spec)} {self._peers[0]} {spec.peers.label}"
            )
            for spec, label, name in zip(specs, labels, names, strict=True)
        ]

    def judge(self, address: int, port: int, peer: str, *, answer: bool = False) -> tuple[Verdict, int, int]:
        """The verdict, and the range of ports around `port` for which an allowing one is the same."""
        rule, low, high = self._index.find(address, port)
        if rule != self._index.nobody and self._allows[rule]:
            return self._allowed[rule], low, high
        what = f"{'the answer, ' if answer else ''}{self._protocol} {port} {self._peers[0]} {peer}"
        if rule != self._index.nobody:
            verdict = Verdict(False, self._labels[rule], f"{self._title}: {self._names[rule]} denies {what}")
        else:
            reason = f"{self._title}: no rule allows {what} (implicit deny){self._nearest(address, port)}"
            verdict = Verdict(False, self._default, reason)
        return verdict, port, port

    def _nearest(self, address: int, port: int) -> str:
        """The allowing rule that would need the least change: other ports, else other addresses."""
        for rule in self._index.near_ports(address, port):
            if self._allows[rule]:
                return f"; nearest is {self._names[rule]}: {_ports(self._specs[rule], noun=True)}"
        rule = self._index.for_any_address(port)
        if rule != self._index.nobody and self._allows[rule]:
            return f"; nearest is {self._names[rule]}: {self._peers[1]} {self._specs[rule].peers.label}"
        return ""


def _ports(spec: _RuleSpec, *, noun: bool = False) -> str:
    low, high = spec.ports
    if spec.ports == ALL_PORTS:
        return "all ports"
    if low == high:
        return f"port {low}" if noun else str(low)
    return f"ports {low}-{high}" if noun else f"{low}-{high}"


def _security_groups(
    groups: Sequence[SecurityGroupSpec], way: Literal["ingress", "egress"], protocol: TransportProtocol
) -> _Rules:
    """The union of all groups, in the order they are attached, so that a verdict always names the same rule."""
    rules = [
        (group, number, spec)
        for group in groups
        for number, spec in enumerate(group.ingress if way == "ingress" else group.egress)
    ]
    attached = [group.name for group in groups]
    return _Rules(
        f"security group{'s' if len(groups) > 1 else ''} {', '.join(attached) or '(none attached)'} {way}",
        f"sg:{','.join(attached) or '-'}/{way}/default",
        [spec for _, _, spec in rules],
        [f"sg:{group.name}/{way}/{number}" for group, number, _ in rules],
        [f"rule {number} of {group.name}" if len(groups) > 1 else f"rule {number}" for group, number, _ in rules],
        protocol,
        inward=way == "ingress",
    )


def _acl_direction(acl: NetworkAclSpec, way: Literal["inbound", "outbound"], protocol: TransportProtocol) -> _Rules:
    rules = sorted(acl.inbound if way == "inbound" else acl.outbound, key=lambda rule: rule.number)
    return _Rules(
        f"network ACL {acl.name} {way}",
        f"acl:{acl.name}/{way}/*",
        rules,
        [f"acl:{acl.name}/{way}/{rule.number}" for rule in rules],
        [f"rule {rule.number}" for rule in rules],
        protocol,
        inward=way == "inbound",
    )


@dataclass(frozen=True, slots=True)
class _Placement:
    """A subnet we stand in, and what its border says."""

    first: int
    last: int
    inbound: _Rules | None
    outbound: _Rules | None


class Firewall:
    """Who may connect to us (`arrival`) and whom we may connect to (`opening`, then `opened`).

    Addresses that are none raise ValueError; the kernel gives only good ones.
    """

    __slots__ = ("_egress", "_ingress", "_known_arrivals", "_known_openings", "_placements", "unguarded")

    def __init__(self, spec: FirewallSpec, protocol: TransportProtocol = "tcp") -> None:
        self._ingress = _security_groups(spec.groups, "ingress", protocol) if spec.groups is not None else None
        self._egress = _security_groups(spec.groups, "egress", protocol) if spec.groups is not None else None
        self._placements = _placements(spec.placements, protocol)
        self.unguarded = self._ingress is None and all(placement.inbound is None for placement in self._placements)
        # (source, our address, our port) -> (first source port, last source port, verdict)
        self._known_arrivals: dict[tuple[str, str, int], tuple[int, int, Verdict]] = {}
        self._known_openings: dict[tuple[str, int, str | None], Verdict] = {}

    def arrival(self, source_ip: str, source_port: int, local_ip: str, local_port: int) -> Verdict:
        """A connection arriving: ACL in, ACL out for our answers, security groups."""
        if self.unguarded:
            return UNGUARDED
        key = (source_ip, local_ip, local_port)
        known = self._known_arrivals.get(key)
        if known is not None and known[0] <= source_port <= known[1]:
            return known[2]
        judged = self._judge_arrival(source_ip, source_port, local_ip, local_port)
        if len(self._known_arrivals) >= REMEMBERED_PEERS:
            self._known_arrivals.clear()
        self._known_arrivals[key] = judged
        return judged[2]

    def _judge_arrival(
        self, source_ip: str, source_port: int, local_ip: str, local_port: int
    ) -> tuple[int, int, Verdict]:
        """The verdict, and the source ports it holds for: only the ACL's outbound rules look at them."""
        source = parse_address(source_ip)
        verdict, first, last = UNGUARDED, *ALL_PORTS
        placement = self._placement(local_ip)
        if placement is not None and not placement.first <= source <= placement.last:
            if placement.inbound is not None:
                verdict, _, _ = placement.inbound.judge(source, local_port, source_ip)
                if not verdict.allowed:
                    return first, last, verdict
            if placement.outbound is not None:
                answers, first, last = placement.outbound.judge(source, source_port, source_ip, answer=True)
                if not answers.allowed:
                    return first, last, answers
        if self._ingress is not None:
            verdict, _, _ = self._ingress.judge(source, local_port, source_ip)
        return first, last, verdict

    def explain(self, source_ip: str, source_port: int, local_ip: str, local_port: int) -> Iterator[Verdict]:
        """All that `arrival` goes by, one after the other, up to the first denial."""
        source = parse_address(source_ip)
        placement = self._placement(local_ip)
        if placement is not None and not placement.first <= source <= placement.last:
            for rules, port, answer in (
                (placement.inbound, local_port, False),
                (placement.outbound, source_port, True),
            ):
                if rules is not None:
                    verdict, _, _ = rules.judge(source, port, source_ip, answer=answer)
                    yield verdict
                    if not verdict.allowed:
                        return
        if self._ingress is not None:
            yield self._ingress.judge(source, local_port, source_ip)[0]

    def opening(self, target_ip: str, target_port: int, local_ip: str | None = None) -> Verdict:
        """Before connecting to a target: security groups' egress, ACL out. `local_ip` where it is known already."""
        if self.unguarded:
            return UNGUARDED
        key = (target_ip, target_port, local_ip)
        verdict = self._known_openings.get(key)
        if verdict is None:
            if len(self._known_openings) >= REMEMBERED_PEERS:
                self._known_openings.clear()
            verdict = self._known_openings[key] = self._judge_opening(target_ip, target_port, local_ip)
        return verdict

    def _judge_opening(self, target_ip: str, target_port: int, local_ip: str | None) -> Verdict:
        target = parse_address(target_ip)
        verdict = UNGUARDED
        if self._egress is not None:
            verdict, _, _ = self._egress.judge(target, target_port, target_ip)
            if not verdict.allowed:
                return verdict
        placement = self._placement(local_ip)
        if placement is None or placement.outbound is None or placement.first <= target <= placement.last:
            return verdict
        border, _, _ = placement.outbound.judge(target, target_port, target_ip)
        return verdict if border.allowed and self._egress is not None else border

    def opened(self, local_port: int, target_ip: str, local_ip: str | None = None) -> Verdict:
        """Once connected: may the target's answers reach the port that the kernel chose for us? ACL in, stateless."""
        placement = self._placement(local_ip)
        if placement is None or placement.inbound is None:
            return UNGUARDED
        target = parse_address(target_ip)
        if placement.first <= target <= placement.last:
            return UNGUARDED
        verdict, _, _ = placement.inbound.judge(target, local_port, target_ip, answer=True)
        return verdict

    def _placement(self, local_ip: str | None) -> _Placement | None:
        if len(self._placements) > 1 and local_ip is not None:
            local = parse_address(local_ip)
            for placement in self._placements:
                if placement.first <= local <= placement.last:
                    return placement
        return next(iter(self._placements), None)


def _placements(specs: Sequence[PlacementSpec], protocol: TransportProtocol) -> tuple[_Placement, ...]:
    compiled: dict[NetworkAclSpec, tuple[_Rules, _Rules]] = {}  # subnets often share an ACL
    placements: list[_Placement] = []
    for spec in specs:
        inbound = outbound = None
        if spec.acl is not None:
            if spec.acl not in compiled:
                compiled[spec.acl] = (
                    _acl_direction(spec.acl, "inbound", protocol),
                    _acl_direction(spec.acl, "outbound", protocol),
                )
            inbound, outbound = compiled[spec.acl]
        placements.append(_Placement(*parse_network(spec.cidr), inbound, outbound))
    return tuple(placements)
