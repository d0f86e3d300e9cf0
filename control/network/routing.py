"""Where a packet goes when it leaves its subnet: the effective routes of a subnet, and the longest prefix among them.

A route whose target is gone or down stays in the table and swallows its packets (`blackhole`), as on AWS: a shorter
prefix does not step in for it, and the answer says so by name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .model import (
    NatGateway,
    Peering,
    PrefixList,
    Route,
    RouteTable,
    Subnet,
    Thing,
    Tunnel,
    VirtualNetwork,
)
from .references import PREFIX_LIST
from .values import block

if TYPE_CHECKING:
    from .state import NetworkState

EVERYWHERE = ("0.0.0.0/0", "::/0")


class RouteState(StrEnum):
    ACTIVE = "active"
    BLACKHOLE = "blackhole"


@dataclass(frozen=True, slots=True)
class EffectiveRoute:
    """`target` None: local, or gone (then `state` is blackhole). `origin` says where it was written."""

    destination: str
    label: str  # as it is spoken of: local, nat-1
    target: Thing | None
    state: RouteState
    origin: str

    @property
    def local(self) -> bool:
        return self.target is None and self.state is RouteState.ACTIVE

    def __str__(self) -> str:
        return f"{self.destination} to {self.label}" + (" (blackhole)" if self.state is RouteState.BLACKHOLE else "")


def table_of(state: NetworkState, subnet: Subnet) -> RouteTable | None:
    """Its own, else the main one of its network; None is AWS's main table as it comes, with the local routes only."""
    return state.find(RouteTable, subnet.route_table) or state.main_table.get(subnet.network)


def routes_of(state: NetworkState, subnet: Subnet) -> tuple[EffectiveRoute, ...]:
    network = state.get(VirtualNetwork, subnet.network)
    local = tuple(
        EffectiveRoute(cidr, "local", None, RouteState.ACTIVE, f"network {network.name}") for cidr in network.cidrs
    )
    table = table_of(state, subnet)
    written = tuple(_written(state, table)) if table is not None else ()
    said = {route.destination for route in written}
    implied = (route for route in _implied(state, subnet) if route.destination not in said)
    return (*local, *written, *implied)


def _written(state: NetworkState, table: RouteTable) -> Iterator[EffectiveRoute]:
    for route in table.routes:
        for destination in _destinations(state, route):
            [(kind, name)] = route.targets
            yield _effective(state, destination, kind, name, f"route table {table.name}")


def _destinations(state: NetworkState, route: Route) -> tuple[str, ...]:
    if route.destination.startswith(PREFIX_LIST):
        prefixes = state.find(PrefixList, route.destination)
        return tuple(prefixes.cidrs) if prefixes is not None else ()
    return (route.destination,)


def _implied(state: NetworkState, subnet: Subnet) -> Iterator[EffectiveRoute]:
    gateway = state.internet_gateway.get(subnet.network)
    if subnet.public and gateway is not None:
        for destination in EVERYWHERE:
            yield EffectiveRoute(destination, gateway.name, gateway, RouteState.ACTIVE, f"subnet {subnet.name}, public")
    if subnet.nat_gateway is not None:
        yield _effective(state, EVERYWHERE[0], NatGateway, subnet.nat_gateway, f"subnet {subnet.name}, nat_gateway")


def _effective(state: NetworkState, destination: str, kind: type[Thing], name: str, origin: str) -> EffectiveRoute:
    target = state.find(kind, name)
    usable = target is not None
    if isinstance(target, Peering):
        usable = target.accepted
    elif isinstance(target, Tunnel):
        usable = target.up
    return EffectiveRoute(destination, name, target, RouteState.ACTIVE if usable else RouteState.BLACKHOLE, origin)


class RouteLookup:
    """Longest prefix by bisection: blocks nest or are apart, so each interval has one innermost block.

    On a tie the local route wins, then the written one, which is the order in which `routes_of` gives them.
    """

    __slots__ = ("_owners", "_starts")

    def __init__(self, routes: tuple[EffectiveRoute, ...]) -> None:
        by_block: dict[tuple[int, int], EffectiveRoute] = {}
        for route in routes:
            by_block.setdefault(block(route.destination), route)
        self._starts: list[int] = [-1]
        self._owners: list[EffectiveRoute | None] = [None]
        inside: list[tuple[int, EffectiveRoute]] = []
        for first, last in sorted(by_block, key=lambda b: (b[0], -b[1])):
            while inside and inside[-1][0] < first:
                self._leave(inside)
            inside.append((last, by_block[first, last]))
            self._begin(first, by_block[first, last])
        while inside:
            self._leave(inside)

    def find(self, address: int) -> EffectiveRoute | None:
        return self._owners[bisect_right(self._starts, address) - 1]

    def _begin(self, address: int, route: EffectiveRoute | None) -> None:
        self._starts.append(address)
        self._owners.append(route)

    def _leave(self, inside: list[tuple[int, EffectiveRoute]]) -> None:
        last, _ = inside.pop()
        self._begin(last + 1, inside[-1][1] if inside else None)
