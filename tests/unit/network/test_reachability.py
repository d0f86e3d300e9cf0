"""Does it get there, and what is in the way: the documentation's own example first, then one case for each code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.control.network import (
    AclRule,
    Action,
    Code,
    EgressOnlyInternetGateway,
    Fix,
    InternetGateway,
    Invalid,
    Listener,
    LoadBalancer,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    NetworkState,
    NotFound,
    Outcome,
    Peering,
    PortRange,
    Protocol,
    Route,
    RouteTable,
    Scheme,
    SecurityGroup,
    SecurityRule,
    Subnet,
    TargetGroup,
    Tunnel,
    VirtualNetwork,
    Way,
    reachability,
)
from support.networks import APP_ACL, WEB_SG, seed

SEED = seed()


def codes(state: NetworkState, source: str, destination: str, protocol: Protocol = Protocol.TCP) -> list[str]:
    return [f"{b.code} {b.way}: {b.component}" for b in reachability(state, source, destination, protocol).blockers]


def test_the_example_of_the_documentation_says_both_that_stop_the_internet() -> None:
    answer = reachability(SEED, "internet", "app-lb:443")
    assert answer.outcome is Outcome.BLOCKED
    acl, *routes = [blocker for path in answer.stages[0] for blocker in path.blockers][:2]
    assert (acl.code, acl.way, acl.component) == (
        Code.SUBNET_ACL_RESTRICTION,
        Way.FORWARD,
        "network ACL app-acl inbound",
    )
    assert acl.message == "no rule allows tcp 443 from 0.0.0.0/0"
    assert str(acl.rule) == "app-acl inbound rule * (deny everything else)"
    assert acl.nearest == "app-acl inbound rule 100 (allow tcp 1024-65535 from 0.0.0.0/0): its ports are 1024-65535"
    assert acl.fix == Fix(
        "security.network_acls.app-acl.inbound",
        "- {number: 90, protocol: tcp, ports: 443, source: 0.0.0.0/0, action: allow}",
    )
    [route] = routes
    assert (route.code, route.way) == (Code.NO_ROUTE_TO_DESTINATION, Way.RETURN)
    assert route.component == "route table private-routes, subnet app-subnet-1"
    assert route.message == (
        "app-lb in app-subnet-1 has no route to an internet gateway: 0.0.0.0/0 leads to NAT gateway nat-1, "
        "which admits no connections from outside"
    )
    assert route.fix == Fix("load_balancers.app-lb", "subnets: [edge]")
    # What is open is told too, and so is what comes after the load balancer.
    assert [hop.component for hop in answer.stages[0][0].hops if hop.open and hop.way is Way.FORWARD] == [
        "the internet",
        "internet gateway igw-1",
        "security group web-sg ingress",
        "app-lb in app-subnet-1",
    ]
    assert [path.destination for path in answer.stages[1]] == ["web-1", "web-2"]
    assert all(path.open for path in answer.stages[1])


def test_the_changes_that_it_names_open_the_way() -> None:
    inbound = AclRule(
        number=90, protocol=Protocol.TCP, port_range=PortRange.single(443), source="0.0.0.0/0", action=Action.ALLOW
    )
    state = SEED.update(
        replace(APP_ACL, inbound_rules=[inbound, *APP_ACL.inbound_rules]),
        replace(SEED.get(LoadBalancer, "app-lb"), subnets=["edge"]),
    )
    assert codes(state, "internet", "app-lb:443") == []
    assert reachability(state, "internet", "app-lb:443").outcome is Outcome.REACHABLE


def test_one_subnet_of_two_is_partly() -> None:
    acl = replace(APP_ACL, subnets=[])
    balancer = replace(SEED.get(LoadBalancer, "app-lb"), subnets=["edge", "app-subnet-2"])
    answer = reachability(SEED.update(acl, balancer), "internet", "app-lb:443")
    assert answer.outcome is Outcome.PARTLY
    assert [path.open for path in answer.stages[0]] == [True, False]


def rule(port: int, peer: str, *, egress: bool = False, protocol: Protocol = Protocol.TCP) -> SecurityRule:
    ports = PortRange.single(port)
    if egress:
        return SecurityRule(protocol=protocol, port_range=ports, destination=peer)
    return SecurityRule(protocol=protocol, port_range=ports, source=peer)


def group(name: str, *ingress: SecurityRule, egress: tuple[SecurityRule, ...] | None = None) -> SecurityGroup:
    return SecurityGroup(name=name, vpc="app-network", ingress_rules=ingress, egress_rules=egress)


def two(web: SecurityGroup, db: SecurityGroup, *others: NetworkAcl) -> NetworkState:
    """web-1 in one subnet and db-1 in another, with nothing between but what is given."""
    return SEED.delete(NetworkAcl, "app-acl").create(
        web,
        db,
        NetworkInterface(name="client", subnet="app-subnet-1", address="10.0.1.20", security_groups=[web.name]),
        NetworkInterface(name="db-1", subnet="app-subnet-2", address="10.0.2.20", security_groups=[db.name]),
        *others,
    )


def test_a_group_named_by_membership_lets_its_members_in() -> None:
    state = two(group("app-sg"), group("db-sg", rule(5432, "app-sg")))
    assert codes(state, "client", "db-1:5432") == []
    assert codes(state, "web-1", "db-1:5432") == ["ENI_SG_RULES_MISMATCH forward: security group db-sg ingress"]


def test_the_nearest_miss_is_another_port_then_another_peer_then_another_protocol() -> None:
    def nearest(given: SecurityRule) -> str | None:
        [blocker] = reachability(two(group("app-sg"), group("db-sg", given)), "client", "db-1:5432").blockers
        assert blocker.fix == Fix(
            "security.security_groups.db-sg.ingress", "- {protocol: tcp, port: 5432, source: app-sg}"
        )
        return blocker.nearest

    assert nearest(rule(5433, "app-sg")) == "db-sg ingress rule 0 (allow tcp 5433 from app-sg): its ports are 5433"
    assert nearest(rule(5432, "192.0.2.0/24")) == (
        "db-sg ingress rule 0 (allow tcp 5432 from 192.0.2.0/24): it is for 192.0.2.0/24 only"
    )
    assert nearest(rule(5432, "internal-lb-sg")) == (
        "db-sg ingress rule 0 (allow tcp 5432 from internal-lb-sg): nobody is in internal-lb-sg"
    )
    assert nearest(rule(5432, "app-sg", protocol=Protocol.UDP)) == (
        "db-sg ingress rule 0 (allow udp 5432 from app-sg): it is for udp"
    )


def test_all_that_is_in_the_way_is_told_both_ways() -> None:
    shut = NetworkAcl(name="shut", vpc="app-network", subnets=["app-subnet-1"])
    state = two(group("app-sg", egress=()), group("db-sg", rule(22, "app-sg")), shut)
    assert codes(state, "client", "db-1:5432") == [
        "SG_HAS_NO_RULES forward: security group app-sg egress",
        "SUBNET_ACL_RESTRICTION forward: network ACL shut outbound",
        "ENI_SG_RULES_MISMATCH forward: security group db-sg ingress",
        "SUBNET_ACL_RESTRICTION return: network ACL shut inbound",
    ]


def test_answers_need_the_clients_ports_and_a_part_of_them_is_enough() -> None:
    def with_inbound(first: int, last: int) -> NetworkState:
        inbound = AclRule(
            number=100,
            protocol=Protocol.TCP,
            port_range=PortRange(first, last),
            source="0.0.0.0/0",
            action=Action.ALLOW,
        )
        out = AclRule(number=100, protocol=Protocol.ALL, destination="0.0.0.0/0", action=Action.ALLOW)
        acl = NetworkAcl(
            name="n", vpc="app-network", subnets=["app-subnet-1"], inbound_rules=[inbound], outbound_rules=[out]
        )
        return two(group("app-sg"), group("db-sg", rule(5432, "app-sg")), acl)

    [blocker] = reachability(with_inbound(80, 443), "client", "db-1:5432").blockers
    assert blocker.message == "no rule allows answers to client ports 1024-65535 from 10.0.2.20/32"
    answer = reachability(with_inbound(32768, 65535), "client", "db-1:5432")
    assert answer.outcome is Outcome.REACHABLE
    assert any("for client ports 32768-65535" in hop.detail for hop in answer.stages[0][0].hops)


def test_an_acl_has_no_say_inside_its_subnet() -> None:
    state = two(group("app-sg"), group("db-sg"), NetworkAcl(name="shut", vpc="app-network"))
    inside = state.create(NetworkInterface(name="near", subnet="app-subnet-1", address="10.0.1.21"))
    assert codes(inside, "client", "near:80") == []


def test_a_numbered_deny_is_named_and_the_new_rule_goes_before_it() -> None:
    rules = [
        AclRule(number=5, protocol=Protocol.TCP, source="10.0.1.0/24", action=Action.DENY),
        AclRule(number=100, protocol=Protocol.ALL, source="0.0.0.0/0", action=Action.ALLOW),
    ]
    out = [AclRule(number=100, protocol=Protocol.ALL, destination="0.0.0.0/0", action=Action.ALLOW)]
    acl = NetworkAcl(name="n", vpc="app-network", subnets=["app-subnet-2"], inbound_rules=rules, outbound_rules=out)
    [blocker] = reachability(
        two(group("app-sg"), group("db-sg", rule(5432, "app-sg")), acl), "client", "db-1:5432"
    ).blockers
    assert blocker.message == "rule 5 denies tcp 5432 from 10.0.1.20/32"
    assert blocker.fix == Fix(
        "security.network_acls.n.inbound",
        "- {number: 4, protocol: tcp, ports: 5432, source: 10.0.1.20/32, action: allow}",
    )


OTHER = VirtualNetwork(name="other", cidr="10.1.0.0/16")
THIRD = VirtualNetwork(name="third", cidr="10.2.0.0/16")


def wide(*, reverse: bool = True, accepted: bool = True, transitive: bool = False) -> NetworkState:
    """app-network peered with other, other with third."""
    end = "10.2.0.0/16" if transitive else "10.1.0.0/16"
    state = SEED.delete(NetworkAcl, "app-acl").create(
        OTHER,
        THIRD,
        Peering(name="pcx-1", requester="app-network", accepter="other", accepted=accepted),
        Peering(name="pcx-2", requester="other", accepter="third"),
        RouteTable(
            name="o",
            vpc="other",
            main=True,
            routes=[Route(destination="10.0.0.0/16", peering="pcx-1")] if reverse else [],
        ),
        Subnet(name="o-1", network="other", cidr="10.1.1.0/24"),
        Subnet(name="t-1", network="third", cidr="10.2.1.0/24"),
        NetworkInterface(name="o-host", subnet="o-1", address="10.1.1.10"),
        NetworkInterface(name="t-host", subnet="t-1", address="10.2.1.10"),
    )
    table = state.get(RouteTable, "private-routes")
    return state.update(replace(table, routes=[*table.routes, Route(destination=end, peering="pcx-1")]))


def test_a_peering_needs_a_route_on_both_sides() -> None:
    assert codes(wide(), "web-1", "o-host:80") == []
    answer = reachability(wide(reverse=False), "web-1", "o-host:80")
    assert [f"{b.code} {b.way}: {b.message}" for b in answer.blockers] == [
        "NO_ROUTE_TO_DESTINATION return: o-1 has no route to 10.0.1.10/32"
    ]
    assert answer.fixes == (Fix("network.route_tables.o.routes", "- {destination: 10.0.1.10/32, peering: pcx-1}"),)


def test_a_peering_is_not_transitive() -> None:
    [out, _] = reachability(wide(transitive=True), "web-1", "t-host:80").blockers
    assert out.code is Code.PCX_REQUIRES_ADDRESS_IN_VPC_CIDR
    assert out.message == "pcx-1 ends in other, and goes no further: 10.2.1.10/32 is not there"


def test_a_peering_that_nobody_accepted_swallows() -> None:
    [there, back] = reachability(wide(accepted=False), "web-1", "o-host:80").blockers
    assert (there.code, back.code) == (Code.BAD_STATE_ROUTE, Code.BAD_STATE_ROUTE)
    assert there.message == (
        "10.1.0.0/16 to pcx-1 (blackhole) swallows packets for 10.1.1.10/32: pcx-1 is not accepted"
    )


def test_out_by_a_nat_gateway_and_not_when_it_is_gone_or_stands_in_the_dark() -> None:
    assert codes(SEED.delete(NetworkAcl, "app-acl"), "web-1", "internet:443") == []
    gone = SEED.delete(NetworkAcl, "app-acl").delete(NatGateway, "nat-1")
    [blocker] = reachability(gone, "web-1", "198.51.100.7:443").blockers
    assert blocker.code is Code.BAD_STATE_ROUTE
    assert blocker.message.endswith("nat-1 is gone")
    dark = SEED.delete(NetworkAcl, "app-acl").delete(InternetGateway, "igw-1")
    [blocker] = reachability(dark, "web-1", "internet:443").blockers
    assert (blocker.code, blocker.component) == (Code.NO_ROUTE_TO_DESTINATION, "NAT gateway nat-1")


def test_public_addresses_are_needed_in_public_subnets() -> None:
    open_group = group("open", rule(80, "0.0.0.0/0"))
    host = NetworkInterface(name="edge-1", subnet="edge", address="10.0.0.10", security_groups=["open"])
    state = SEED.delete(NetworkAcl, "app-acl").create(open_group, host)
    assert codes(state, "edge-1", "internet:443") == [
        "IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS forward: main route table of app-network, subnet edge"
    ]
    assert codes(state, "internet", "edge-1:80") == [
        "IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS forward: internet gateway igw-1"
    ]
    public = state.update(replace(host, public_address="203.0.113.10"))
    assert codes(public, "edge-1", "internet:443") == []
    assert codes(public, "internet", "edge-1:80") == []
    assert codes(public, "198.51.100.7", "edge-1:81") == ["ENI_SG_RULES_MISMATCH forward: security group open ingress"]


def test_an_internal_balancer_is_not_for_the_internet() -> None:
    balancer = replace(SEED.get(LoadBalancer, "app-lb"), scheme=Scheme.INTERNAL, subnets=["edge"])
    state = SEED.update(balancer, replace(APP_ACL, subnets=[]))
    answer = reachability(state, "internet", "app-lb:443")
    assert [blocker.code for blocker in answer.blockers] == [Code.IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS]
    assert answer.fixes == (Fix("load_balancers.app-lb", "scheme: internet-facing"),)


def test_a_balancer_says_what_its_listeners_and_groups_lack() -> None:
    state = SEED.update(replace(APP_ACL, subnets=[]))

    def last(state: NetworkState, port: int, protocol: Protocol = Protocol.TCP) -> tuple[Code, str]:
        blocker = reachability(state, "web-2", f"app-lb:{port}", protocol).blockers[-1]
        return blocker.code, blocker.message

    balancer = state.get(LoadBalancer, "app-lb")
    assert last(state, 80) == (
        Code.ELBV2_LISTENER_PORT_RESTRICTION,
        "has no listener on port 80; its ports are: 443",
    )
    assert last(state, 443, Protocol.UDP) == (
        Code.ELBV2_LISTENERS_MISMATCH,
        "its listener on port 443 is for HTTPS, which udp does not carry",
    )
    bare = state.update(replace(balancer, listeners=[Listener(port=443, protocol=Protocol.HTTPS)]))
    assert last(bare, 443) == (Code.ELBV2_LISTENER_HAS_NO_TG, "forwards to no target group")
    empty = state.update(replace(state.get(TargetGroup, "tg-web"), targets=[]))
    assert last(empty, 443) == (Code.NO_POSSIBLE_DESTINATION, "has no targets")
    closed = state.update(replace(WEB_SG, egress_rules=[]))
    assert last(closed, 443)[0] is Code.SG_HAS_NO_RULES


def test_a_tunnel_carries_both_ways_and_says_when_it_is_down() -> None:
    tunnel = Tunnel(name="to-office", vpc="app-network")
    state = SEED.delete(NetworkAcl, "app-acl").create(tunnel)
    table = state.get(RouteTable, "private-routes")
    state = state.update(replace(table, routes=[*table.routes, Route(destination="172.16.0.0/12", tunnel="to-office")]))
    assert codes(state, "web-1", "172.16.0.9:22") == []
    assert codes(state, "172.16.0.9", "web-1:22") == ["ENI_SG_RULES_MISMATCH forward: security group tg-sg ingress"]
    down = state.update(replace(tunnel, up=False))
    assert codes(down, "web-1", "172.16.0.9:22") == [
        "BAD_STATE_VPN forward: route table private-routes, subnet app-subnet-1"
    ]


def test_ipv6_goes_out_by_an_egress_only_gateway_and_nobody_comes_in_by_it() -> None:
    state = (
        SEED.delete(NetworkAcl, "app-acl")
        .update(replace(SEED.get(VirtualNetwork, "app-network"), ipv6_cidr="2001:db8::/56"))
        .create(
            EgressOnlyInternetGateway(name="eigw-1", vpc="app-network"),
            RouteTable(
                name="six",
                vpc="app-network",
                routes=[Route(destination="::/0", egress_only_internet_gateway="eigw-1")],
            ),
            Subnet(
                name="six-1",
                network="app-network",
                cidr="10.0.6.0/24",
                ipv6_cidr="2001:db8:0:6::/64",
                zone="us-west-1a",
                route_table="six",
            ),
            NetworkInterface(name="six", subnet="six-1", address="10.0.6.10", ipv6_address="2001:db8:0:6::10"),
        )
    )
    assert codes(state, "six", "[2001:db8:ffff::1]:443") == []
    [blocker] = reachability(state, "2001:db8:ffff::1", "six:443").blockers
    assert (blocker.code, blocker.way) == (Code.NO_ROUTE_TO_DESTINATION, Way.RETURN)
    assert blocker.fix == Fix("network.route_tables.six.routes", "- {destination: '::/0', internet_gateway: igw-1}")
    with pytest.raises(Invalid, match="web-1: has no IPv6 address"):
        reachability(state, "2001:db8:ffff::1", "web-1:443")


def test_a_ping_has_no_ports() -> None:
    shut = NetworkAcl(name="shut", vpc="app-network", subnets=["app-subnet-2"])
    state = two(group("app-sg"), group("db-sg", rule(5432, "app-sg")), shut)
    answer = reachability(state, "client", "db-1", Protocol.ICMP)
    assert [blocker.message for blocker in answer.blockers] == [
        "no rule allows icmp from 10.0.1.20/32",
        "no rule allows icmp from 10.0.1.20/32",
        "no rule allows icmp answers to 10.0.1.20/32",
    ]
    assert Fix("security.security_groups.db-sg.ingress", "- {protocol: icmp, source: app-sg}") in answer.fixes
    pings = SecurityRule(protocol=Protocol.ICMP, source="app-sg")
    state = two(group("app-sg"), group("db-sg", pings))
    assert reachability(state, "client", "db-1", Protocol.ICMP).outcome is Outcome.REACHABLE


def test_a_question_about_nothing_is_answered_in_words() -> None:
    with pytest.raises(NotFound, match='no network interface or load balancer is named "ap-lb", did you mean "app-lb"'):
        reachability(SEED, "internet", "ap-lb:443")
    with pytest.raises(Invalid, match="app-lb: needs a port: app-lb:443"):
        reachability(SEED, "internet", "app-lb")
    with pytest.raises(Invalid, match='"99999" is no port'):
        reachability(SEED, "internet", "app-lb:99999")
