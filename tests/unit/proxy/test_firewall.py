"""Verdicts against AWS's documented examples, and against a plain reading of the rules on random firewalls."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy import firewall as firewall_module
from penstock.proxy.firewall import UNGUARDED, Firewall
from penstock.proxy.first_match import parse_address, parse_network
from penstock.proxy.specs import (
    ALL_PORTS,
    AclRuleSpec,
    FirewallSpec,
    NetworkAclSpec,
    Peers,
    PlacementSpec,
    SecurityGroupSpec,
    SecurityRuleSpec,
)

EPHEMERAL = 50000


def peers(*cidrs: str) -> Peers:
    return Peers(",".join(cidrs), cidrs)


def acl_rule(number: int, ports: int | tuple[int, int], cidr: str, allow: bool = True, protocol="tcp") -> AclRuleSpec:
    return AclRuleSpec(number, protocol, (ports, ports) if isinstance(ports, int) else ports, peers(cidr), allow)


def sg_rule(ports: int | tuple[int, int], *cidrs: str, protocol="tcp") -> SecurityRuleSpec:
    return SecurityRuleSpec(protocol, (ports, ports) if isinstance(ports, int) else ports, peers(*cidrs))


ALLOW_ALL = (
    acl_rule(100, ALL_PORTS, "0.0.0.0/0", protocol="all"),
    acl_rule(101, ALL_PORTS, "::/0", protocol="all"),
)
# The custom network ACL of the Amazon VPC User Guide, its IPv6 rules included.
AWS_ACL = NetworkAclSpec(
    "app-acl",
    inbound=(
        acl_rule(100, 80, "0.0.0.0/0"),
        acl_rule(105, 80, "::/0"),
        acl_rule(110, 443, "0.0.0.0/0"),
        acl_rule(115, 443, "::/0"),
        acl_rule(120, 22, "192.0.2.0/24"),
        acl_rule(130, 3389, "192.0.2.0/24"),
        acl_rule(140, (32768, 65535), "0.0.0.0/0"),
        acl_rule(145, (32768, 65535), "::/0"),
    ),
    outbound=(
        acl_rule(100, 80, "0.0.0.0/0"),
        acl_rule(105, 80, "::/0"),
        acl_rule(110, 443, "0.0.0.0/0"),
        acl_rule(115, 443, "::/0"),
        acl_rule(120, (1024, 65535), "192.0.2.0/24"),
        acl_rule(140, (32768, 65535), "0.0.0.0/0"),
        acl_rule(145, (32768, 65535), "::/0"),
    ),
)


def behind(acl: NetworkAclSpec | None, *groups: SecurityGroupSpec, cidr: str = "10.0.1.0/24") -> Firewall:
    return Firewall(FirewallSpec(groups or None, (PlacementSpec("app-subnet-1", cidr, acl),)))


@pytest.mark.parametrize(
    ("source", "source_port", "port", "rule"),
    [
        ("203.0.113.9", EPHEMERAL, 443, "acl:app-acl/inbound/110"),
        ("203.0.113.9", EPHEMERAL, 80, "acl:app-acl/inbound/100"),
        ("203.0.113.9", EPHEMERAL, 139, "acl:app-acl/inbound/*"),
        ("192.0.2.7", EPHEMERAL, 22, "acl:app-acl/inbound/120"),
        ("192.0.2.7", EPHEMERAL, 3389, "acl:app-acl/inbound/130"),
        ("203.0.113.9", EPHEMERAL, 22, "acl:app-acl/inbound/*"),
        ("2001:db8::9", EPHEMERAL, 80, "acl:app-acl/inbound/105"),
        ("2001:db8::9", EPHEMERAL, 443, "acl:app-acl/inbound/115"),
        ("2001:db8::9", EPHEMERAL, 22, "acl:app-acl/inbound/*"),
        ("::ffff:203.0.113.9", EPHEMERAL, 443, "acl:app-acl/inbound/110"),
        # Stateless: the answer to a client's port below 32768 does not come out ...
        ("203.0.113.9", 2000, 80, "acl:app-acl/outbound/*"),
        # ... except to the home network, which rule 120 lets have 1024-65535.
        ("192.0.2.7", 2000, 80, "acl:app-acl/inbound/100"),
        ("192.0.2.7", 1023, 80, "acl:app-acl/outbound/*"),
    ],
)
def test_the_network_acl_of_the_vpc_user_guide(source: str, source_port: int, port: int, rule: str) -> None:
    verdict = behind(AWS_ACL).arrival(source, source_port, "10.0.1.5", port)
    assert verdict.rule == rule
    assert verdict.allowed is not rule.endswith("*")


@pytest.mark.parametrize(
    ("source_port", "port", "rule"),
    [
        (EPHEMERAL, 80, "sg:web/ingress/0"),
        (EPHEMERAL, 22, "acl:edge/inbound/*"),
        (EPHEMERAL, 8080, "sg:web/ingress/default"),  # ACL rule 140 lets it in, the security group does not
        (2000, 80, "acl:edge/outbound/*"),
    ],
)
def test_both_layers_together(source_port: int, port: int, rule: str) -> None:
    acl = NetworkAclSpec(
        "edge",
        (acl_rule(100, 80, "0.0.0.0/0"), acl_rule(140, (1024, 65535), "0.0.0.0/0")),
        (acl_rule(100, (32768, 65535), "0.0.0.0/0"),),
    )
    web = SecurityGroupSpec("web", ingress=(sg_rule(80, "0.0.0.0/0"),))
    assert behind(acl, web).arrival("203.0.113.9", source_port, "10.0.1.5", port).rule == rule


def test_a_deny_before_a_wide_allow_decides_and_the_order_is_by_number() -> None:
    acl = NetworkAclSpec(
        "a", (acl_rule(200, ALL_PORTS, "0.0.0.0/0"), acl_rule(90, 22, "203.0.113.0/24", False)), ALLOW_ALL
    )
    firewall = behind(acl)
    denied = firewall.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 22)
    assert (denied.allowed, denied.rule) == (False, "acl:a/inbound/90")
    assert denied.reason == "network ACL a inbound: rule 90 denies tcp 22 from 203.0.113.9"
    assert firewall.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 23).rule == "acl:a/inbound/200"
    assert firewall.arrival("198.51.100.1", EPHEMERAL, "10.0.1.5", 22).rule == "acl:a/inbound/200"


def test_denials_say_what_would_have_been_nearest() -> None:
    seed_acl = NetworkAclSpec("app-acl", (acl_rule(100, (1024, 65535), "0.0.0.0/0"),), ALLOW_ALL)
    web = SecurityGroupSpec("web-sg", (SecurityRuleSpec("tcp", (80, 80), Peers("internal-lb-sg", ("10.0.1.10/32",))),))
    assert behind(seed_acl).arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443).reason == (
        "network ACL app-acl inbound: no rule allows tcp 443 from 203.0.113.9 (implicit deny); "
        "nearest is rule 100: ports 1024-65535"
    )
    assert behind(None, web).arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 80).reason == (
        "security group web-sg ingress: no rule allows tcp 80 from 203.0.113.9 (implicit deny); "
        "nearest is rule 0: source internal-lb-sg"
    )
    two = behind(None, web, SecurityGroupSpec("api-sg", (sg_rule(8443, "203.0.113.0/24"),)))
    verdict = two.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443)
    assert verdict.rule == "sg:web-sg,api-sg/ingress/default"
    assert verdict.reason == (
        "security groups web-sg, api-sg ingress: no rule allows tcp 443 from 203.0.113.9 (implicit deny); "
        "nearest is rule 0 of api-sg: port 8443"
    )
    answer = behind(NetworkAclSpec("n", ALLOW_ALL, ())).arrival("203.0.113.9", 2000, "10.0.1.5", 80)
    assert answer.reason == (
        "network ACL n outbound: no rule allows the answer, tcp 2000 to 203.0.113.9 (implicit deny)"
    )


def test_allowing_verdicts_name_the_rule_in_words() -> None:
    web = SecurityGroupSpec("web-sg", ingress=(sg_rule(443, "0.0.0.0/0"),), egress=(sg_rule(ALL_PORTS, "0.0.0.0/0"),))
    firewall = behind(None, web)
    assert firewall.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443).reason == (
        "security group web-sg ingress: rule 0 allows tcp 443 from 0.0.0.0/0"
    )
    assert firewall.opening("10.0.1.10", 8080).reason == (
        "security group web-sg egress: rule 0 allows tcp all ports to 0.0.0.0/0"
    )


def test_without_group_and_acl_everyone_is_admitted() -> None:
    for spec in (FirewallSpec(), FirewallSpec(None, (PlacementSpec("s", "10.0.1.0/24", None),))):
        firewall = Firewall(spec)
        assert firewall.unguarded
        assert firewall.arrival("203.0.113.9", 1, "10.0.1.5", 443) is UNGUARDED
        assert firewall.opening("10.0.1.10", 8080) is UNGUARDED
        assert firewall.opened(EPHEMERAL, "10.0.1.10") is UNGUARDED


def test_an_empty_list_of_groups_admits_nobody() -> None:
    firewall = Firewall(FirewallSpec(groups=()))
    assert firewall.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443).rule == "sg:-/ingress/default"
    assert not firewall.opening("10.0.1.10", 8080).allowed


def test_groups_are_a_union() -> None:
    one, two = SecurityGroupSpec("one", (sg_rule(80, "0.0.0.0/0"),)), SecurityGroupSpec("two", (sg_rule(443, "::/0"),))
    firewall = behind(None, one, two)
    assert firewall.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 80).rule == "sg:one/ingress/0"
    assert firewall.arrival("2001:db8::1", EPHEMERAL, "10.0.1.5", 443).rule == "sg:two/ingress/0"
    assert not firewall.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443).allowed


def test_traffic_inside_the_subnet_does_not_cross_its_border() -> None:
    closed = NetworkAclSpec("closed")
    web = SecurityGroupSpec("web", (sg_rule(80, "10.0.1.0/24"),), (sg_rule(8080, "10.0.0.0/16"),))
    assert behind(closed).arrival("10.0.1.77", EPHEMERAL, "10.0.1.5", 80).allowed
    assert not behind(closed).arrival("10.0.2.77", EPHEMERAL, "10.0.1.5", 80).allowed
    # The security group still has its say.
    assert behind(closed, web).arrival("10.0.1.77", EPHEMERAL, "10.0.1.5", 80).rule == "sg:web/ingress/0"
    assert behind(closed, web).arrival("10.0.1.77", EPHEMERAL, "10.0.1.5", 81).rule == "sg:web/ingress/default"
    assert behind(closed, web).opening("10.0.1.10", 8080).rule == "sg:web/egress/0"
    assert behind(closed, web).opening("10.0.2.10", 8080).rule == "acl:closed/outbound/*"
    assert behind(closed, web).opened(EPHEMERAL, "10.0.1.10").allowed


def test_the_subnet_that_holds_our_address_judges_else_the_first() -> None:
    first, second = NetworkAclSpec("first"), NetworkAclSpec("second")
    firewall = Firewall(
        FirewallSpec(None, (PlacementSpec("a", "10.0.1.0/24", first), PlacementSpec("b", "10.0.2.0/24", second)))
    )
    for local_ip, name in (("10.0.2.5", "second"), ("10.0.1.5", "first"), ("127.0.0.1", "first")):
        assert firewall.arrival("203.0.113.9", EPHEMERAL, local_ip, 80).rule == f"acl:{name}/inbound/*"
        assert firewall.opening("203.0.113.9", 80, local_ip).rule == f"acl:{name}/outbound/*"
        assert firewall.opened(EPHEMERAL, "203.0.113.9", local_ip).rule == f"acl:{name}/inbound/*"
    assert firewall.opening("203.0.113.9", 80).rule == "acl:first/outbound/*"


def test_connecting_out_needs_egress_the_border_and_the_way_back() -> None:
    web = SecurityGroupSpec("web", egress=(sg_rule(8080, "10.0.0.0/16"),))
    acl = NetworkAclSpec(
        "a", (acl_rule(100, (32768, 65535), "10.0.2.0/24"),), (acl_rule(100, (8000, 8100), "10.0.2.0/24"),)
    )
    firewall = behind(acl, web)
    assert firewall.opening("10.0.2.10", 8080).rule == "sg:web/egress/0"
    assert firewall.opening("10.0.2.10", 8081).rule == "sg:web/egress/default"
    assert firewall.opening("10.0.3.10", 8080).rule == "acl:a/outbound/*"
    assert behind(acl).opening("10.0.2.10", 8080).rule == "acl:a/outbound/100"
    assert firewall.opened(40000, "10.0.2.10").rule == "acl:a/inbound/100"
    refused = firewall.opened(20000, "10.0.2.10")
    assert refused.reason == (
        "network ACL a inbound: no rule allows the answer, tcp 20000 from 10.0.2.10 (implicit deny); "
        "nearest is rule 100: ports 32768-65535"
    )


def test_a_remembered_client_is_judged_again_for_a_port_that_decides_otherwise() -> None:
    outbound = (acl_rule(90, (3000, 3999), "0.0.0.0/0", False), acl_rule(100, (2000, 4999), "0.0.0.0/0"))
    firewall = behind(NetworkAclSpec("a", ALLOW_ALL, outbound))
    ports = (2500, 2999, 3000, 3500, 3999, 4000, 4999, 5000, 1999, 2000)
    allowed = [port for port in ports if firewall.arrival("203.0.113.9", port, "10.0.1.5", 80).allowed]
    assert allowed == [2500, 2999, 4000, 4999, 2000]


def test_rules_of_another_protocol_keep_their_number_and_match_nobody() -> None:
    udp, icmp = (sg_rule(443, "0.0.0.0/0", protocol=protocol) for protocol in ("udp", "icmp"))
    group = SecurityGroupSpec("g", (udp, icmp, sg_rule(443, "0.0.0.0/0")))
    spec = FirewallSpec((group,))
    assert Firewall(spec).arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443).rule == "sg:g/ingress/2"
    assert Firewall(spec, "udp").arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443).rule == "sg:g/ingress/0"
    only_udp = Firewall(FirewallSpec((replace(group, ingress=group.ingress[:2]),)))
    assert only_udp.arrival("203.0.113.9", EPHEMERAL, "10.0.1.5", 443).reason.endswith("(implicit deny)")


def test_what_is_remembered_is_bounded_and_right_for_every_source_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall_module, "REMEMBERED_PEERS", 3)
    firewall = behind(AWS_ACL)
    for _ in range(2):
        for last in range(10):
            source = f"203.0.113.{last}"
            assert firewall.arrival(source, 40000, "10.0.1.5", 443).allowed
            denied = firewall.arrival(source, 2000, "10.0.1.5", 443)
            assert denied.rule == "acl:app-acl/outbound/*"
            assert " 2000 " in denied.reason
            assert " 2001 " in firewall.arrival(source, 2001, "10.0.1.5", 443).reason
            assert firewall.arrival(source, 40001, "10.0.1.5", 443).allowed
            assert firewall.opening(source, 443).allowed
    assert len(firewall._known_arrivals) <= 3
    assert len(firewall._known_openings) <= 3


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_that_are_the_same(text: str, same_as: str) -> None:
    assert parse_address(text) == parse_address(same_as)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.256",
        "1.2.3.-1",
        "1.2.3.+1",
        "1.2.3.1_0",
        "1.2.3.٣",
        " 1.2.3.4",
    ],
)
def test_text_that_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        parse_address(text)


def test_families_do_not_meet() -> None:
    assert parse_address("::1.2.3.4") != parse_address("1.2.3.4")
    first, last = parse_network("0.0.0.0/0")
    assert not first <= parse_address("::1") <= last
    first, last = parse_network("::/0")
    assert not first <= parse_address("::ffff:192.0.2.1") <= last


@pytest.mark.parametrize(
    ("cidr", "same_as"),
    [
        ("100.68.0.18/18", "100.68.0.0/18"),  # AWS's own example of the canonical form
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("192.0.2.1", "192.0.2.1/32"),
    ],
)
def test_networks_that_are_the_same(cidr: str, same_as: str) -> None:
    assert parse_network(cidr) == parse_network(same_as)


# A plain reading, obviously right and slow.


def inside(ip: str, cidr: str) -> bool:
    address, network = ipaddress.ip_address(ip), ipaddress.ip_network(cidr, strict=False)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        network = ipaddress.ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return address in network


def holds(rule: AclRuleSpec | SecurityRuleSpec, ip: str, port: int, protocol: str) -> bool:
    return (
        rule.protocol in (protocol, "all")
        and rule.ports[0] <= port <= rule.ports[1]
        and any(inside(ip, cidr) for cidr in rule.peers.cidrs)
    )


def plain_acl(
    name: str, way: str, rules: tuple[AclRuleSpec, ...], ip: str, port: int, protocol: str
) -> tuple[bool, str]:
    for rule in sorted(rules, key=lambda rule: rule.number):
        if holds(rule, ip, port, protocol):
            return rule.allow, f"acl:{name}/{way}/{rule.number}"
    return False, f"acl:{name}/{way}/*"


def plain_groups(spec: FirewallSpec, way: str, ip: str, port: int, protocol: str) -> tuple[bool, str]:
    assert spec.groups is not None
    for group in spec.groups:
        for number, rule in enumerate(group.ingress if way == "ingress" else group.egress):
            if holds(rule, ip, port, protocol):
                return True, f"sg:{group.name}/{way}/{number}"
    return False, f"sg:{','.join(group.name for group in spec.groups) or '-'}/{way}/default"


def plain_placement(spec: FirewallSpec, local_ip: str | None) -> PlacementSpec | None:
    for placement in spec.placements:
        if local_ip is not None and ipaddress.ip_address(local_ip) in ipaddress.ip_network(placement.cidr):
            return placement
    return spec.placements[0] if spec.placements else None


def border_acl(spec: FirewallSpec, local_ip: str | None, peer: str) -> NetworkAclSpec | None:
    placement = plain_placement(spec, local_ip)
    if placement is None or inside(peer, placement.cidr):
        return None
    return placement.acl


def plain_arrival(
    spec: FirewallSpec, protocol: str, source: str, source_port: int, local_ip: str, port: int
) -> tuple[bool, str]:
    verdict = (True, "none")
    acl = border_acl(spec, local_ip, source)
    if acl is not None:
        verdict = plain_acl(acl.name, "inbound", acl.inbound, source, port, protocol)
        answer = plain_acl(acl.name, "outbound", acl.outbound, source, source_port, protocol)
        if not verdict[0] or not answer[0]:
            return answer if verdict[0] else verdict
    return verdict if spec.groups is None else plain_groups(spec, "ingress", source, port, protocol)


def plain_opening(spec: FirewallSpec, protocol: str, target: str, port: int, local_ip: str | None) -> tuple[bool, str]:
    verdict = (True, "none") if spec.groups is None else plain_groups(spec, "egress", target, port, protocol)
    acl = border_acl(spec, local_ip, target)
    if not verdict[0] or acl is None:
        return verdict
    border = plain_acl(acl.name, "outbound", acl.outbound, target, port, protocol)
    return verdict if border[0] and spec.groups is not None else border


def plain_opened(
    spec: FirewallSpec, protocol: str, local_port: int, target: str, local_ip: str | None
) -> tuple[bool, str]:
    acl = border_acl(spec, local_ip, target)
    return (True, "none") if acl is None else plain_acl(acl.name, "inbound", acl.inbound, target, local_port, protocol)


# Few distinct bits, so that random networks nest, meet and hold the random addresses.
v4 = st.builds("10.0.{}.{}".format, st.integers(0, 3), st.integers(0, 7))
v6 = st.builds("2001:db8::{:x}".format, st.integers(0, 31))
mapped = v4.map("::ffff:{}".format)
address = st.one_of(v4, v6, mapped)
cidr = st.one_of(
    st.builds("{}/{}".format, v4, st.sampled_from([0, 8, 22, 23, 24, 29, 30, 31, 32])),
    st.builds("{}/{}".format, v6, st.sampled_from([0, 32, 96, 123, 124, 126, 127, 128])),
    st.builds("{}/{}".format, mapped, st.sampled_from([120, 126, 128])),
)
port = st.sampled_from([0, 1, 22, 80, 443, 1023, 1024, 8080, 32768, 65534, 65535])
ports = st.one_of(st.tuples(port, port).map(lambda pair: (min(pair), max(pair))), st.just(ALL_PORTS))
protocol = st.sampled_from(["tcp", "tcp", "all", "udp", "icmp"])
some_peers = st.lists(cidr, max_size=3).map(lambda cidrs: peers(*cidrs))
sg_rules = st.lists(st.builds(SecurityRuleSpec, protocol, ports, some_peers), max_size=8).map(tuple)
acl_rules = st.lists(
    st.builds(AclRuleSpec, st.integers(1, 32766), protocol, ports, some_peers, st.booleans()),
    max_size=10,
    unique_by=lambda rule: rule.number,
).map(tuple)
groups = st.lists(
    st.builds(SecurityGroupSpec, st.sampled_from(["a", "b", "c"]), sg_rules, sg_rules),
    max_size=3,
    unique_by=lambda group: group.name,
).map(tuple)
acl = st.builds(NetworkAclSpec, st.sampled_from(["x", "y"]), acl_rules, acl_rules)
placements = st.lists(
    st.builds(
        PlacementSpec, st.just("s"), st.sampled_from(["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/29"]), st.none() | acl
    ),
    max_size=3,
    unique_by=lambda placement: placement.cidr,
).map(tuple)
firewalls = st.builds(FirewallSpec, st.none() | groups, placements)
connection = st.tuples(address, st.lists(port, min_size=1, max_size=4), v4, port)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(firewalls, st.sampled_from(["tcp", "udp"]), st.lists(connection, min_size=1, max_size=8))
def test_compiled_verdicts_equal_a_plain_reading(spec, protocol, connections) -> None:
    firewall = Firewall(spec, protocol)
    for source, source_ports, local_ip, local_port in connections:
        for source_port in source_ports:  # the second and later may come from memory
            verdict = firewall.arrival(source, source_port, local_ip, local_port)
            assert (verdict.allowed, verdict.rule) == plain_arrival(
                spec, protocol, source, source_port, local_ip, local_port
            )
            for known_ip in (local_ip, None):
                verdict = firewall.opening(source, local_port, known_ip)
                assert (verdict.allowed, verdict.rule) == plain_opening(spec, protocol, source, local_port, known_ip)
                verdict = firewall.opened(source_port, source, known_ip)
                assert (verdict.allowed, verdict.rule) == plain_opened(spec, protocol, source_port, source, known_ip)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_an_address_is_the_network_of_itself(value: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    first, last = parse_network(str(value))
    assert first == last == parse_address(str(value))
