"""Longest prefix, against trying them all; and what a subnet's routes are when little is said."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from penstock.control.network import NatGateway, PrefixList, Route, RouteTable, Subnet
from penstock.control.network.routing import EffectiveRoute, RouteLookup, RouteState, routes_of
from penstock.control.network.values import single
from support.networks import seed

SEED = seed()


def route(cidr: str) -> EffectiveRoute:
    return EffectiveRoute(cidr, "x", None, RouteState.ACTIVE, "test")


# Few bits that differ, so that blocks nest and addresses hit their edges.
NUMBERS = st.integers(0, 255).map(lambda n: (10 << 24) | (n & 0xF0) << 12 | (n & 0x0F))
FOUR = st.tuples(NUMBERS, st.sampled_from([0, 8, 12, 13, 14, 15, 16, 28, 30, 31, 32])).map(
    lambda pair: str(ip_network((pair[0], pair[1]), strict=False))
)
SIX = st.sampled_from(["::/0", "::/1", "2001:db8::/32", "2001:db8::/64", "2001:db8::1/128"])


@given(
    cidrs=st.lists(st.one_of(FOUR, SIX), max_size=20),
    asked=st.lists(st.one_of(NUMBERS.map(lambda n: str(ip_address(n))), st.just("2001:db8::1"), st.just("9.9.9.9"))),
)
def test_the_longest_prefix_is_found_as_by_trying_all(cidrs: list[str], asked: list[str]) -> None:
    lookup = RouteLookup(tuple(map(route, cidrs)))
    for text in asked:
        address = ip_address(text)
        holding = [network for network in map(ip_network, cidrs) if address in network]
        longest = max(holding, key=lambda network: network.prefixlen, default=None)
        found = lookup.find(single(text)[0])
        assert (found.destination if found is not None else None) == (str(longest) if longest is not None else None)


def said(state_routes: tuple[EffectiveRoute, ...]) -> list[str]:
    return [str(each) for each in state_routes]


def test_a_public_subnet_and_a_nat_gateway_are_short_for_a_default_route() -> None:
    edge, app = SEED.get(Subnet, "edge"), SEED.get(Subnet, "app-subnet-1")
    assert said(routes_of(SEED, edge)) == ["10.0.0.0/16 to local", "0.0.0.0/0 to igw-1", "::/0 to igw-1"]
    bare = SEED.update(replace(app, route_table=None, nat_gateway="nat-1"))
    assert said(routes_of(bare, bare.get(Subnet, "app-subnet-1"))) == ["10.0.0.0/16 to local", "0.0.0.0/0 to nat-1"]


def test_a_table_s_own_default_route_goes_before_the_short_form() -> None:
    main = RouteTable(
        name="m", vpc="app-network", main=True, routes=[Route(destination="0.0.0.0/0", nat_gateway="nat-1")]
    )
    state = SEED.create(main)
    assert said(routes_of(state, state.get(Subnet, "edge"))) == [
        "10.0.0.0/16 to local",
        "0.0.0.0/0 to nat-1",
        "::/0 to igw-1",
    ]


def test_a_route_whose_target_went_is_a_blackhole_and_no_wider_one_steps_in() -> None:
    table = SEED.get(RouteTable, "private-routes")
    narrow = Route(destination="198.51.100.0/24", nat_gateway="nat-2")
    state = SEED.create(NatGateway(name="nat-2", subnet="edge"))
    state = state.update(replace(table, routes=[*table.routes, narrow])).delete(NatGateway, "nat-2")
    found = RouteLookup(routes_of(state, state.get(Subnet, "app-subnet-1"))).find(single("198.51.100.7")[0])
    assert str(found) == "198.51.100.0/24 to nat-2 (blackhole)"


def test_a_prefix_list_is_a_route_for_each_of_its_blocks() -> None:
    prefixes = PrefixList(name="pl-partners", cidrs=["198.51.100.0/24", "203.0.113.0/24"])
    table = SEED.get(RouteTable, "private-routes")
    partners = Route(destination="pl-partners", internet_gateway="igw-1")
    state = SEED.create(prefixes).update(replace(table, routes=[partners]))
    assert said(routes_of(state, state.get(Subnet, "app-subnet-1")))[1:] == [
        "198.51.100.0/24 to igw-1",
        "203.0.113.0/24 to igw-1",
    ]
