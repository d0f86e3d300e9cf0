"""Rules read plainly, for explanations, and rules compiled, for traffic, are one set of rules: they never disagree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.control.network import (
    AclRule,
    Action,
    NetworkAcl,
    NetworkInterface,
    NetworkState,
    PortRange,
    PrefixList,
    Protocol,
    Quotas,
    SecurityGroup,
    SecurityRule,
    Subnet,
    VirtualNetwork,
)
from penstock.control.network.filtering import firewall_spec, judge_acl, judge_groups
from penstock.control.network.values import single
from penstock.proxy.firewall import Firewall

PEERS = ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.64/26", "192.0.2.66/32", "::/0", "2001:db8::/32", "pl-office", "friends"]
CIDRS = PEERS[:6]
ADDRESSES = ["192.0.2.1", "192.0.2.65", "192.0.2.66", "198.51.100.1", "10.0.2.9", "2001:db8::1", "2001:db9::1"]
PORTS = st.tuples(st.sampled_from([0, 80, 443, 1024]), st.sampled_from([80, 443, 1023, 65535])).map(
    lambda ends: PortRange(min(ends), max(ends))
)
PROTOCOLS = st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.ICMP, Protocol.ALL])


@st.composite
def security_rules(draw: st.DrawFn) -> SecurityRule:
    protocol = draw(PROTOCOLS)
    ports = draw(PORTS) if protocol in {Protocol.TCP, Protocol.UDP} else PortRange.all()
    return SecurityRule(protocol=protocol, port_range=ports, source=draw(st.sampled_from(PEERS)))


@st.composite
def acl_rules(draw: st.DrawFn) -> list[AclRule]:
    numbers = draw(st.lists(st.integers(1, 32766), unique=True, max_size=8))
    rules: list[AclRule] = []
    for number in numbers:
        given_rule = draw(security_rules())
        rules.append(
            AclRule(
                number=number,
                protocol=given_rule.protocol,
                port_range=given_rule.port_range,
                source=draw(st.sampled_from(CIDRS)),
                action=draw(st.sampled_from(Action)),
            )
        )
    return rules


EVERYTHING_OUT = [
    AclRule(number=n, protocol=Protocol.ALL, destination=everyone, action=Action.ALLOW)
    for n, everyone in ((1, "0.0.0.0/0"), (2, "::/0"))
]
BASE = NetworkState(quotas=Quotas(rules_per_network_acl=1000)).create(
    VirtualNetwork(name="n", cidr="10.0.0.0/16"),
    Subnet(name="here", network="n", cidr="10.0.1.0/24"),
    Subnet(name="there", network="n", cidr="10.0.2.0/24"),
    PrefixList(name="pl-office", cidrs=["192.0.2.64/26", "198.51.100.1/32"]),
    SecurityGroup(name="friends", vpc="n"),
    NetworkInterface(name="friend", subnet="there", address="10.0.2.9", security_groups=["friends"]),
)


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.lists(security_rules(), max_size=6), min_size=1, max_size=3),
    inbound=acl_rules(),
    packets=st.lists(
        st.tuples(
            st.sampled_from(ADDRESSES),
            st.sampled_from([0, 79, 80, 81, 443, 1023, 1024, 65535]),
            st.sampled_from(["tcp", "udp"]),
        ),
        min_size=1,
        max_size=10,
    ),
)
def test_what_is_compiled_for_traffic_equals_a_plain_reading(
    groups: list[list[SecurityRule]], inbound: list[AclRule], packets: list[tuple[str, int, str]]
) -> None:
    worn = [SecurityGroup(name=f"g{n}", vpc="n", ingress_rules=rules) for n, rules in enumerate(groups)]
    acl = NetworkAcl(name="acl", vpc="n", subnets=["here"], inbound_rules=inbound, outbound_rules=EVERYTHING_OUT)
    state = BASE.create(*worn, acl)
    spec = firewall_spec(state, [group.name for group in worn], ["here"])
    for address, port, transport in packets:
        protocol = Protocol(transport)
        compiled = Firewall(spec, "tcp" if transport == "tcp" else "udp").arrival(address, 50000, "10.0.1.1", port)
        border = judge_acl(state, acl, "inbound", protocol, PortRange.single(port), single(address))
        union = judge_groups(state, worn, "ingress", protocol, PortRange.single(port), single(address))
        assert compiled.allowed == (border.passes and union.passes)
        if compiled.allowed:
            [(_, rule)] = union.admitted
            assert compiled.rule == f"sg:{rule.owner}/ingress/{rule.number}"
        elif not border.passes:
            number = "*" if border.denied_by is None or border.denied_by.number is None else border.denied_by.number
            assert compiled.rule == f"acl:acl/inbound/{number}"


@settings(max_examples=60, deadline=None)
@given(rules=acl_rules(), first=st.integers(0, 2000), width=st.integers(0, 2000))
def test_a_range_of_ports_is_what_its_ports_are(rules: list[AclRule], first: int, width: int) -> None:
    acl = NetworkAcl(name="acl", vpc="n", subnets=["here"], inbound_rules=rules)
    state = BASE.create(acl)
    ports = PortRange(first, first + width)
    peer = single("192.0.2.66")
    admitted = judge_acl(state, acl, "inbound", Protocol.TCP, ports, peer).admitted
    # Verdicts change at the edges of rules only: looking at those, and beside them, is looking at all.
    edges = {0, 79, 80, 81, 443, 444, 1023, 1024, first, first + width}
    for port in sorted(port for port in edges if first <= port <= first + width):
        alone = judge_acl(state, acl, "inbound", Protocol.TCP, PortRange.single(port), peer).passes
        assert alone == any(part.first <= port <= part.last for part, _ in admitted)


# https://docs.aws.amazon.com/vpc/latest/userguide/custom-network-acl.html, its example table.
DOCUMENTED = [
    (100, Protocol.TCP, PortRange.single(80), "0.0.0.0/0", Action.ALLOW),
    (105, Protocol.TCP, PortRange.single(80), "::/0", Action.ALLOW),
    (110, Protocol.TCP, PortRange.single(443), "0.0.0.0/0", Action.ALLOW),
    (115, Protocol.TCP, PortRange.single(443), "::/0", Action.ALLOW),
    (120, Protocol.TCP, PortRange.single(22), "192.0.2.0/24", Action.ALLOW),
    (130, Protocol.TCP, PortRange.single(3389), "192.0.2.0/24", Action.ALLOW),
    (140, Protocol.TCP, PortRange(32768, 65535), "0.0.0.0/0", Action.ALLOW),
]


@pytest.mark.parametrize(
    ("port", "source", "number"),
    [
        (443, "198.51.100.7", 110),
        (139, "198.51.100.7", None),
        (22, "192.0.2.9", 120),
        (22, "198.51.100.7", None),
        (3389, "192.0.2.9", 130),
        (80, "2001:db8::9", 105),
        (443, "2001:db8::9", 115),
        (22, "2001:db8::9", None),
        (40000, "198.51.100.7", 140),
        (40000, "2001:db8::9", None),
    ],
)
def test_the_documented_acl_decides_as_documented(port: int, source: str, number: int | None) -> None:
    rules = [
        AclRule(number=n, protocol=protocol, port_range=ports, source=peer, action=action)
        for n, protocol, ports, peer, action in reversed(DOCUMENTED)
    ]
    acl = NetworkAcl(name="documented", vpc="n", subnets=["here"], inbound_rules=rules)
    said = judge_acl(BASE, acl, "inbound", Protocol.TCP, PortRange.single(port), single(source))
    assert [rule.number for _, rule in said.admitted] == ([] if number is None else [number])


def test_bits_behind_the_prefix_of_a_rule_are_cleared_as_documented() -> None:
    rule = AclRule(number=1, protocol=Protocol.ALL, source="100.68.0.18/18", action=Action.ALLOW)
    acl = NetworkAcl(name="acl", vpc="n", subnets=["here"], inbound_rules=[rule])
    state = BASE.create(acl)
    for address, passes in (("100.68.0.1", True), ("100.68.63.255", True), ("100.68.64.0", False)):
        said = judge_acl(state, acl, "inbound", Protocol.TCP, PortRange.single(1), single(address))
        assert said.passes == passes
