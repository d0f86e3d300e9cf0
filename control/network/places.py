"""The ends of a question: `web-1`, `app-lb`, `10.0.1.10`, `internet`, as addresses in subnets that wear groups."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from .errors import Invalid, Mistake, NotFound
from .model import LoadBalancer, NetworkInterface, Scheme, SecurityGroup, Subnet, VirtualNetwork
from .values import Block, block, holds, is_address, is_ipv6, single

if TYPE_CHECKING:
    from .state import NetworkState

INTERNET = "internet"


@dataclass(frozen=True, slots=True)
class Place:
    """`block` is an address, or several where the question means all of them: the internet, a balancer's subnet."""

    label: str
    cidr: str
    block: Block
    subnet: Subnet | None = None  # None: outside of every network
    groups: tuple[SecurityGroup, ...] = ()
    public: bool = False  # whether the internet gateway translates for it
    balancer: LoadBalancer | None = None

    @property
    def ipv6(self) -> bool:
        return is_ipv6(self.cidr)

    @property
    def network(self) -> str | None:
        return self.subnet.network if self.subnet is not None else None

    @property
    def peer(self) -> str:
        """How a new rule would name it."""
        return self.groups[0].name if self.groups else self.cidr


def parse_endpoint(text: str) -> tuple[str, int | None]:
    """`db-1:5432`, `[2001:db8::1]:443`, or either without its port."""
    name, port = text, ""
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        name, _, port = text.partition(":")
    if not port:
        return name, None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise Invalid([Mistake(text, f'"{port}" is no port: 1 to 65535')])
    return name, int(port)


def places(state: NetworkState, name: str, *, ipv6: bool = False) -> tuple[Place, ...]:
    """Several for a load balancer, one for each of its subnets."""
    if name == INTERNET:
        return (internet(ipv6=ipv6),)
    interface = state.find(NetworkInterface, name)
    if interface is not None:
        return (of_interface(state, interface, ipv6=ipv6),)
    balancer = state.find(LoadBalancer, name)
    if balancer is not None:
        return tuple(_node(state, balancer, state.get(Subnet, subnet), ipv6=ipv6) for subnet in balancer.subnets)
    if is_address(name):
        return (at(state, name),)
    names = [INTERNET, *state.things[NetworkInterface], *state.things[LoadBalancer]]
    meant = next(iter(get_close_matches(name, names, 1)), None)
    raise NotFound("network interface or load balancer", name, meant)


def internet(*, ipv6: bool) -> Place:
    everyone = "::/0" if ipv6 else "0.0.0.0/0"
    return Place("the internet", everyone, block(everyone), public=True)


def of_interface(state: NetworkState, interface: NetworkInterface, *, ipv6: bool = False) -> Place:
    address = interface.ipv6_address if ipv6 else interface.address
    if address is None:
        raise Invalid([Mistake(interface.name, "has no IPv6 address, and the other end is one")])
    cidr = _alone(address)
    groups = tuple(state.get(SecurityGroup, name) for name in interface.security_groups)
    # An IPv6 address is reached as it is: there is nothing to translate.
    public = interface.public_address is not None or is_ipv6(address)
    return Place(interface.name, cidr, single(address), state.get(Subnet, interface.subnet), groups, public)


def at(state: NetworkState, address: str, network: str | None = None) -> Place:
    """Whoever has it: an interface, else the subnet around it, else somebody outside."""
    here = single(address)
    for name in (network,) if network is not None else state.things[VirtualNetwork]:
        interfaces = state.interface_at.get((name, address))
        if interfaces:
            return of_interface(state, interfaces[0], ipv6=is_ipv6(address))
        for subnet in state.subnets_of.get(name, ()):
            if any(holds(block(cidr), here) for cidr in subnet.cidrs):
                return Place(address, _alone(address), here, subnet, public=is_ipv6(address))
    return Place(address, _alone(address), here, public=True)


def _node(state: NetworkState, balancer: LoadBalancer, subnet: Subnet, *, ipv6: bool) -> Place:
    cidr = subnet.ipv6_cidr if ipv6 else subnet.cidr
    if cidr is None:
        raise Invalid([Mistake(f"{balancer.name} in {subnet.name}", "has no IPv6 address, and the other end is one")])
    groups = tuple(state.get(SecurityGroup, name) for name in balancer.security_groups)
    label = f"{balancer.name} in {subnet.name}"
    return Place(label, cidr, block(cidr), subnet, groups, balancer.scheme is Scheme.INTERNET, balancer)


def _alone(address: str) -> str:
    return f"{address}/128" if is_ipv6(address) else f"{address}/32"
