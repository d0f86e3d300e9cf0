"""One picture of a network: what enters it, what it refuses and in which words, and what keeps a thing from going."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock import control
from penstock.control import network
from penstock.control.network import (
    AclRule,
    Action,
    Conflict,
    InternetGateway,
    InUse,
    Invalid,
    LoadBalancer,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    NetworkState,
    NotFound,
    Peering,
    PortRange,
    PrefixList,
    Protocol,
    QuotaExceeded,
    Quotas,
    Route,
    RouteTable,
    Scheme,
    SecurityGroup,
    SecurityRule,
    Subnet,
    Thing,
    VirtualNetwork,
)
from support.networks import APP_ACL, NETWORK, WEB_SG, seed

SEED = seed()


def refused(*things: Thing, state: NetworkState = SEED) -> list[str]:
    with pytest.raises(Invalid) as caught:
        state.create(*things)
    return [str(mistake) for mistake in caught.value.mistakes]


def subnet(cidr: str, name: str = "new", zone: str = "us-west-1a") -> Subnet:
    return Subnet(name=name, network="app-network", cidr=cidr, zone=zone)


def test_creating_the_same_again_is_no_change() -> None:
    assert SEED.create(WEB_SG, APP_ACL, NETWORK) is SEED
    assert SEED.update(WEB_SG) is SEED
    # Lists and tuples say the same, and so do dicts given in another order.
    assert SEED.create(replace(NETWORK, zones=("us-west-1a", "us-west-1b"))) is SEED


def test_creating_another_under_a_name_that_is_taken_is_a_conflict_that_names_the_fields() -> None:
    with pytest.raises(Conflict) as caught:
        SEED.create(replace(WEB_SG, description="other", ingress_rules=[]))
    assert caught.value.fields == ("description", "ingress_rules")
    with pytest.raises(Conflict):
        SEED.create(subnet("10.0.3.0/24"), subnet("10.0.4.0/24"))


def test_what_was_given_cannot_be_changed_behind_the_state() -> None:
    zones, tags = ["a"], {"team": "platform"}
    state = NetworkState().create(VirtualNetwork(name="n", cidr="10.0.0.0/16", zones=zones, tags=tags))
    zones.append("b")
    tags["team"] = "other"
    network = state.get(VirtualNetwork, "n")
    assert list(network.zones) == ["a"]
    assert network.tags == {"team": "platform"}


def test_a_refused_create_leaves_nothing_of_itself() -> None:
    before = SEED.list(Subnet)
    refused(subnet("10.0.3.0/24", "good"), subnet("10.9.0.0/24", "bad"))
    assert SEED.list(Subnet) == before
    after = SEED.create(subnet("10.0.3.0/24"))
    assert (len(after.list(Subnet)), len(SEED.list(Subnet))) == (4, 3)
    assert after.revision == SEED.revision + 1


def test_all_mistakes_are_told_at_once() -> None:
    mistaken = SecurityGroup(
        name="db-sg",
        vpc="app-netwrok",
        ingress_rules=[
            SecurityRule(protocol=Protocol.TCP, port_range=PortRange(70, 7), source="web-gs"),
            SecurityRule(protocol=Protocol.HTTPS, port_range=PortRange.single(99999), source="10.0.0.0/33"),
            SecurityRule(protocol=Protocol.ICMP, port_range=PortRange.single(8), destination="0.0.0.0/0"),
        ],
    )
    assert refused(mistaken) == [
        'security group db-sg, vpc: no network is named "app-netwrok", did you mean "app-network"?',
        'security group db-sg, ingress_rules[0].source: no security group is named "web-gs", did you mean "web-sg"?',
        "security group db-sg, ingress_rules[0].port_range: 70-7 runs backwards: did you mean 7-70?",
        "security group db-sg, ingress_rules[1].protocol: HTTPS is for listeners: a rule says tcp, which carries it",
        "security group db-sg, ingress_rules[1].port_range: 99999-99999 is outside 0 to 65535, where ports are",
        'security group db-sg, ingress_rules[1].source: "10.0.0.0/33" is no CIDR block: write 10.0.0.0/16 or '
        "2001:db8::/56",
        "security group db-sg, ingress_rules[2].port_range: protocol icmp has no ports: leave it out, or name tcp "
        "or udp",
        "security group db-sg, ingress_rules[2].destination: has no place here: these rules look at the source",
        "security group db-sg, ingress_rules[2].source: is missing: a CIDR such as 0.0.0.0/0",
    ]


def rules(count: int, peer: str) -> list[SecurityRule]:
    return [SecurityRule(protocol=Protocol.TCP, port_range=PortRange.single(n + 1), source=peer) for n in range(count)]


def group(count: int) -> SecurityGroup:
    return SecurityGroup(name="g", vpc="app-network", ingress_rules=rules(count, "10.0.0.0/8"))


def prefixes(count: int) -> PrefixList:
    return PrefixList(name="pl-a", cidrs=[f"10.{n >> 8}.{n & 255}.0/24" for n in range(count)])


def acl(*numbers: int) -> NetworkAcl:
    rules = [AclRule(number=n, protocol=Protocol.TCP, source="10.0.0.0/8", action=Action.ALLOW) for n in numbers]
    return NetworkAcl(name="new", vpc="app-network", subnets=["edge"], inbound_rules=rules)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (VirtualNetwork(name="n", cidr="10.0.0.0/15"), "from /16 (65,536 addresses) to /28 (16) are possible"),
        (VirtualNetwork(name="n", cidr="10.0.0.0/29"), "10.0.0.0/29 is a /29"),
        (VirtualNetwork(name="n", cidr="10.0.0.9/16"), "did you mean 10.0.0.0/16?"),
        (VirtualNetwork(name="n", cidr="10.0.0.0"), "write 10.0.0.0/16, or 10.0.0.0/32 for one address"),
        (VirtualNetwork(name="n", cidr="10.0.0.0/16", ipv6_cidr="2001:db8::/64"), "it has to be a /56"),
        (VirtualNetwork(name="n", cidr="2001:db8::/56"), "it belongs in ipv6_cidr"),
        (VirtualNetwork(name="n", cidr="10.0.0.0/16", additional_cidrs=["10.0.9.0/24"]), "overlaps 10.0.0.0/16"),
        (VirtualNetwork(name="internet", cidr="10.0.0.0/16"), "choose another"),
        (VirtualNetwork(name="10.1", cidr="10.0.0.0/16"), "reads like an address"),
        (subnet("10.1.0.0/24"), "10.1.0.0/24 is not inside network app-network (10.0.0.0/16)"),
        (subnet("10.0.1.128/25"), "10.0.1.128/25 overlaps 10.0.1.0/24 of subnet app-subnet-1"),
        (subnet("10.0.3.0/29"), "to /28 (16) are possible"),
        (subnet("10.0.3.0/24", zone="us-west-1c"), '"us-west-1c" is no zone of network app-network'),
        (subnet("10.0.3.0/24", zone=""), "zone: is missing: one of the zones of network app-network"),
        (replace(subnet("10.0.3.0/24"), public=True, nat_gateway="nat-1"), "is for private subnets"),
        (acl(40000), "40000 is outside 1 to 32766"),
        (
            NetworkAcl(
                name="new",
                vpc="app-network",
                subnets=["edge"],
                inbound_rules=[AclRule(number=1, protocol=Protocol.ALL, source="web-sg", action=Action.ALLOW)],
            ),
            'inbound_rules[0].source: "web-sg" is no CIDR block',
        ),
        (acl(0), "0 is outside 1 to 32766"),
        (acl(7, 7), "the number 7 is taken twice"),
        (NetworkAcl(name="new", vpc="app-network"), "names none, and neither does app-acl"),
        (NetworkInterface(name="i", subnet="edge", address="10.0.0.3"), "10.0.0.3 is reserved in subnet edge"),
        (NetworkInterface(name="i", subnet="edge", address="10.0.9.3"), "is not inside subnet edge (10.0.0.0/24)"),
        (NetworkInterface(name="i", subnet="app-subnet-1", address="10.0.1.10"), "belongs to network interface web-1"),
        (InternetGateway(name="igw-2", vpc="app-network"), "has an internet gateway, igw-1"),
        (PrefixList(name="office", cidrs=["192.0.2.0/24"]), "begins with pl-"),
        (SecurityGroup(name="pl-x", vpc="app-network"), "as only prefix lists do"),
        (LoadBalancer(name="lb", scheme=Scheme.INTERNAL, subnets=[]), "stands in at least one subnet"),
        (Peering(name="p", requester="app-network", accepter="app-network"), "does not peer with itself"),
    ],
)
def test_a_thing_that_makes_no_sense_is_refused_in_words(thing: Thing, words: str) -> None:
    assert words in "\n".join(refused(thing))


def table(*routes: Route) -> RouteTable:
    return RouteTable(name="t", vpc="app-network", routes=routes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (table(Route(destination="0.0.0.0/0")), "names no target"),
        (table(Route(destination="0.0.0.0/0", nat_gateway="nat-1", internet_gateway="igw-1")), "names several targets"),
        (table(Route(destination="10.0.0.0/16", nat_gateway="nat-1")), "whose local route cannot be replaced"),
        (table(Route(destination="::/0", nat_gateway="nat-1")), "use an egress-only internet gateway"),
        (table(Route(destination="0.0.0.0/0", nat_gateway="nat-l")), 'did you mean "nat-1"?'),
        (table(*[Route(destination="0.0.0.0/0", nat_gateway="nat-1")] * 2), "0.0.0.0/0 has two routes"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(given: RouteTable, words: str) -> None:
    assert words in "\n".join(refused(given))


def test_peers_do_not_overlap_now_or_later() -> None:
    other = VirtualNetwork(name="other", cidr="10.1.0.0/16")
    peering = Peering(name="p", requester="app-network", accepter="other")
    state = SEED.create(other, peering)
    with pytest.raises(Invalid, match=r"10\.0\.8\.0/24 of other"):
        state.update(replace(other, additional_cidrs=["10.0.8.0/24"]))
    assert "overlaps 10.0.0.0/24 of other" in refused(replace(other, cidr="10.0.0.0/24"), peering)[0]


def test_an_update_that_would_strand_what_stands_on_it_is_refused() -> None:
    with pytest.raises(Invalid, match=r"subnet app-subnet-1, cidr: 10\.0\.1\.0/24 is not inside network app-network"):
        SEED.update(replace(NETWORK, cidr="10.9.0.0/16"))
    with pytest.raises(NotFound, match='did you mean "web-sg"'):
        SEED.update(replace(WEB_SG, name="web-gs"))


def test_a_delete_says_everything_that_keeps_it() -> None:
    with pytest.raises(InUse) as caught:
        SEED.delete(SecurityGroup, "web-sg")
    assert caught.value.dependents == (
        "security group tg-sg (ingress_rules[0].source)",
        "load balancer app-lb (security_groups[0])",
    )
    without = SEED.delete(LoadBalancer, "app-lb").delete(NetworkInterface, "web-1", "web-2")
    assert without.delete(SecurityGroup, "web-sg", "tg-sg").find(SecurityGroup, "web-sg") is None


def test_groups_that_refer_to_each_other_come_and_go_in_one_call() -> None:
    one = SecurityGroup(
        name="one", vpc="app-network", ingress_rules=[SecurityRule(protocol=Protocol.ALL, source="two")]
    )
    two = SecurityGroup(
        name="two", vpc="app-network", ingress_rules=[SecurityRule(protocol=Protocol.ALL, source="one")]
    )
    own = SecurityGroup(
        name="own", vpc="app-network", ingress_rules=[SecurityRule(protocol=Protocol.ALL, source="own")]
    )
    state = SEED.create(one, two, own)
    with pytest.raises(InUse, match="security group two"):
        state.delete(SecurityGroup, "one")
    assert state.delete(SecurityGroup, "one", "two", "own").list(SecurityGroup) == SEED.list(SecurityGroup)


def test_a_gateway_may_go_and_leave_a_route_behind() -> None:
    state = SEED.delete(NatGateway, "nat-1")
    # The table stands as it is, and may be changed; a new route to what is gone is a mistake.
    left = state.get(RouteTable, "private-routes")
    assert state.update(replace(left, tags={"seen": "yes"})).get(RouteTable, "private-routes").tags == {"seen": "yes"}
    assert 'no NAT gateway is named "nat-1"' in refused(
        table(Route(destination="0.0.0.0/0", nat_gateway="nat-1")), state=state
    )[0]  # fmt: skip


def test_deleting_what_is_not_there_suggests_what_is() -> None:
    with pytest.raises(NotFound, match='no subnet is named "app-subnet-3", did you mean "app-subnet-'):
        SEED.delete(Subnet, "app-subnet-3")


@pytest.mark.parametrize(
    ("things", "quota", "used", "limit"),
    [
        ([VirtualNetwork(name=f"n{n}", cidr="10.0.0.0/16") for n in range(6)], "networks", 6, 5),
        ([RouteTable(name=f"t{n}", vpc="app-network") for n in range(200)], "route_tables_per_network", 201, 200),
        ([group(61)], "rules_per_security_group", 61, 60),
        ([acl(*range(1, 21))], "rules_per_network_acl", 21, 20),
        ([prefixes(1001)], "entries_per_prefix_list", 1001, 1000),
    ],
)  # fmt: skip
def test_quotas_have_the_defaults_of_aws(things: list[Thing], quota: str, used: int, limit: int) -> None:
    base = NetworkState() if quota == "networks" else SEED
    with pytest.raises(QuotaExceeded) as caught:
        base.create(*things)
    assert (caught.value.quota, caught.value.used, caught.value.limit) == (quota, used, limit)
    raised = replace(base, quotas=Quotas(**{quota: used}))
    assert raised.create(*things).revision == base.revision + 1


def test_rules_of_the_two_families_are_counted_apart_and_names_in_both() -> None:
    both = SecurityGroup(
        name="g", vpc="app-network", ingress_rules=[*rules(50, "0.0.0.0/0"), *rules(50, "::/0"), *rules(10, "web-sg")]
    )
    assert SEED.create(both).get(SecurityGroup, "g") == both
    with pytest.raises(QuotaExceeded, match="rules_per_security_group is 60"):
        SEED.create(replace(both, ingress_rules=[*both.ingress_rules, *rules(1, "tg-sg")]))


def test_the_control_plane_hands_the_model_on_under_its_own_name() -> None:
    handed_on = set(control.__all__) - {"Runtime", "run"}
    assert {"VirtualNetwork", "NetworkState", "SecurityRule"} <= handed_on <= set(network.__all__)
    assert all(getattr(control, name) is getattr(network, name) for name in handed_on)
