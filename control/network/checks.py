"""What is wrong with a thing, all of it at once, in the state in which it would stand.

References to what is not there are found elsewhere (`references`); the checks here pass over them, so that one wrong
name gives one sentence and not five.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

from .check_rules import acl_mistakes, group_mistakes
from .errors import Mistake
from .ipam import RESERVED_FIRST, RESERVED_LAST
from .model import (
    EgressOnlyInternetGateway,
    InternetGateway,
    LoadBalancer,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    Peering,
    PrefixList,
    RouteTable,
    SecurityGroup,
    Subnet,
    TargetGroup,
    Thing,
    Tunnel,
    VirtualNetwork,
)
from .references import PREFIX_LIST
from .values import Protocol, block, cidr_mistake, first_overlap, holds, is_address, is_ipv6, length, overlap, single

if TYPE_CHECKING:
    from .state import NetworkState

Found = Iterator[tuple[str, str]]
"""Field and sentence."""

LARGEST, SMALLEST = 16, 28  # of an IPv4 network or subnet, as on AWS
IPV6_NETWORK, IPV6_SUBNET = 56, 64
LONGEST_NAME = 255


def mistakes(state: NetworkState, thing: Thing) -> Iterator[Mistake]:
    title = f"{thing.kind} {thing.name}"
    for where, message in (*_name(thing), *_of(state, thing)):
        yield Mistake(f"{title}, {where}" if where else title, message)


def _of(state: NetworkState, thing: Thing) -> Found:
    match thing:
        case VirtualNetwork():
            return _network(thing)
        case Subnet():
            return _subnet(state, thing)
        case RouteTable():
            return _route_table(state, thing)
        case InternetGateway():
            return _internet_gateway(state, thing)
        case Peering():
            return _peering(state, thing)
        case PrefixList():
            return _prefix_list(thing)
        case SecurityGroup():
            return group_mistakes(state, thing)
        case NetworkAcl():
            return acl_mistakes(state, thing)
        case NetworkInterface():
            return _interface(state, thing)
        case LoadBalancer():
            return _load_balancer(state, thing)
        case TargetGroup():
            return _target_group(thing)
        case _:
            return iter(())


def _name(thing: Thing) -> Found:
    if not thing.name or len(thing.name) > LONGEST_NAME or thing.name != thing.name.strip():
        yield "name", f"has 1 to {LONGEST_NAME} characters, and no blanks at its ends"
    elif "/" in thing.name or ":" in thing.name or thing.name.replace(".", "").isdigit():
        yield "name", f'"{thing.name}" reads like an address or a port: names have letters, and neither / nor :'
    elif isinstance(thing, PrefixList) != thing.name.startswith(PREFIX_LIST):
        message = "begins with pl-" if isinstance(thing, PrefixList) else "begins with pl-, as only prefix lists do"
        yield "name", message
    elif thing.name == "internet":
        yield "name", "internet is the word for everyone outside: choose another"


def _sized(where: str, cidr: str, ipv6_length: int) -> Found:
    wrong = cidr_mistake(cidr)
    if wrong is not None:
        yield where, wrong
    elif is_ipv6(cidr) != (where == "ipv6_cidr"):
        yield where, f"{cidr} is {'IPv6: it belongs in ipv6_cidr' if is_ipv6(cidr) else 'IPv4'}"
    elif is_ipv6(cidr) and length(cidr) != ipv6_length:
        yield where, f"{cidr} is a /{length(cidr)}: it has to be a /{ipv6_length}"
    elif not is_ipv6(cidr) and not LARGEST <= length(cidr) <= SMALLEST:
        yield where, f"{cidr} is a /{length(cidr)}: from /{LARGEST} (65,536 addresses) to /{SMALLEST} (16) are possible"


def _network(network: VirtualNetwork) -> Found:
    wrong = [*_sized("cidr", network.cidr, IPV6_NETWORK)]
    for at, cidr in enumerate(network.additional_cidrs):
        wrong += _sized(f"additional_cidrs[{at}]", cidr, IPV6_NETWORK)
    if network.ipv6_cidr is not None:
        wrong += _sized("ipv6_cidr", network.ipv6_cidr, IPV6_NETWORK)
    yield from wrong
    if not wrong and (two := first_overlap(network.cidrs)):
        yield "additional_cidrs", f"{two[1]} overlaps {two[0]}"
    yield from _twice("zones", network.zones, "the zone {} is named twice")
    if network.dns_config is not None:
        for at, resolver in enumerate(network.dns_config.resolvers):
            if not is_address(resolver):
                yield f"dns_config.resolvers[{at}]", f'"{resolver}" is no IP address'


def _subnet(state: NetworkState, subnet: Subnet) -> Found:
    wrong = [*_sized("cidr", subnet.cidr, IPV6_SUBNET)]
    if subnet.ipv6_cidr is not None:
        wrong += _sized("ipv6_cidr", subnet.ipv6_cidr, IPV6_SUBNET)
    yield from wrong
    if subnet.public and subnet.nat_gateway is not None:
        yield "nat_gateway", "is for private subnets: a public one reaches the internet by its internet gateway"
    network = state.find(VirtualNetwork, subnet.network)
    if network is None:
        return
    if network.zones and subnet.zone not in network.zones:
        named = f'"{subnet.zone}" is no zone of' if subnet.zone else "is missing: one of the zones of"
        yield "zone", f"{named} network {network.name}: {', '.join(network.zones)}"
    table = state.find(RouteTable, subnet.route_table)
    if table is not None and table.vpc != network.name:
        yield "route_table", f"{table.name} belongs to network {table.vpc}, this subnet to {network.name}"
    if wrong or any(cidr_mistake(cidr) for cidr in network.cidrs):
        return
    for field, cidr in (("cidr", subnet.cidr), ("ipv6_cidr", subnet.ipv6_cidr)):
        if cidr is None:
            continue
        if not any(holds(block(outer), block(cidr)) for outer in network.cidrs):
            having = ", ".join(outer for outer in network.cidrs if is_ipv6(outer) == is_ipv6(cidr)) or "none"
            yield field, f"{cidr} is not inside network {network.name} ({having})"
        for other in state.subnets_of[network.name]:
            if other.name != subnet.name:
                for taken in other.cidrs:
                    if not cidr_mistake(taken) and overlap(block(cidr), block(taken)):
                        yield field, f"{cidr} overlaps {taken} of subnet {other.name}"


def _route_table(state: NetworkState, table: RouteTable) -> Found:
    network = state.find(VirtualNetwork, table.vpc)
    if table.main:
        others = [each.name for each in state.list(RouteTable) if each.main and each.vpc == table.vpc]
        others.remove(table.name)
        if others:
            yield "main", f"network {table.vpc} has a main route table, {others[0]}: there can be one"
    yield from _twice("routes", [route.destination for route in table.routes], "the destination {} has two routes")
    for at, route in enumerate(table.routes):
        where = f"routes[{at}]"
        destination = route.destination
        if not destination.startswith(PREFIX_LIST):
            wrong = cidr_mistake(destination)
            if wrong is not None:
                yield f"{where}.destination", wrong
            elif network is not None and destination in network.cidrs:
                message = f"{destination} is network {network.name} itself, whose local route cannot be replaced"
                yield f"{where}.destination", message
        if len(route.targets) != 1:
            one = "names no target" if not route.targets else "names several targets"
            yield where, f"{one}: exactly one gateway, peering or tunnel carries it"
            continue
        [(kind, name)] = route.targets
        yield from _route_target(state, table, where, destination, state.find(kind, name))


def _route_target(state: NetworkState, table: RouteTable, where: str, destination: str, target: Thing | None) -> Found:
    if isinstance(target, EgressOnlyInternetGateway) and not is_ipv6(destination):
        yield where, f"{target.name} carries IPv6 only, and {destination} is not: use a NAT gateway"
    if isinstance(target, NatGateway) and is_ipv6(destination):
        yield where, f"{target.name} carries IPv4 only: use an egress-only internet gateway for {destination}"
    homes: tuple[str | None, ...] = (table.vpc,)
    if isinstance(target, NatGateway):
        homes = (state.network_of(target.subnet),)
    elif isinstance(target, Peering):
        homes = (target.requester, target.accepter)
    elif isinstance(target, (InternetGateway, EgressOnlyInternetGateway, Tunnel)):
        homes = (target.vpc,)
    if target is not None and table.vpc not in homes:
        belongs = " and ".join(home for home in homes if home is not None) or "no network"
        yield where, f"{target.kind} {target.name} belongs to {belongs}, this table to {table.vpc}"


def _internet_gateway(state: NetworkState, gateway: InternetGateway) -> Found:
    others = [other.name for other in state.list(InternetGateway) if other.vpc == gateway.vpc and other != gateway]
    if others:
        yield "vpc", f"network {gateway.vpc} has an internet gateway, {others[0]}: there can be one"


def _peering(state: NetworkState, peering: Peering) -> Found:
    if peering.requester == peering.accepter:
        yield "accepter", "is the requester: a network does not peer with itself"
        return
    one, other = (state.find(VirtualNetwork, name) for name in (peering.requester, peering.accepter))
    if one is None or other is None or any(cidr_mistake(cidr) for cidr in (*one.cidrs, *other.cidrs)):
        return
    for ours, theirs in product(one.cidrs, other.cidrs):
        if overlap(block(ours), block(theirs)):
            yield "", f"{ours} of {one.name} overlaps {theirs} of {other.name}: packets could not tell them apart"


def _prefix_list(prefixes: PrefixList) -> Found:
    for at, cidr in enumerate(prefixes.cidrs):
        wrong = cidr_mistake(cidr)
        if wrong is not None:
            yield f"cidrs[{at}]", wrong
    yield from _twice("cidrs", prefixes.cidrs, "{} is listed twice")


def _interface(state: NetworkState, interface: NetworkInterface) -> Found:
    subnet = state.find(Subnet, interface.subnet)
    for field, address in (("address", interface.address), ("ipv6_address", interface.ipv6_address)):
        if address is None:
            continue
        if not is_address(address) or is_ipv6(address) != (field == "ipv6_address"):
            yield field, f'"{address}" is no {"IPv6" if field == "ipv6_address" else "IPv4"} address'
        elif subnet is not None:
            yield from ((field, message) for message in _placed(state, interface, subnet, address))
    if interface.public_address is not None and not is_address(interface.public_address):
        yield "public_address", f'"{interface.public_address}" is no IP address'
    if subnet is not None:
        yield from _groups(state, interface.security_groups, subnet.network)


def _placed(state: NetworkState, interface: NetworkInterface, subnet: Subnet, address: str) -> Iterator[str]:
    around = [cidr for cidr in subnet.cidrs if not cidr_mistake(cidr) and holds(block(cidr), single(address))]
    if not around:
        yield f"{address} is not inside subnet {subnet.name} ({', '.join(subnet.cidrs)})"
        return
    first, last = block(around[0])
    number = single(address)[0]
    if number < first + RESERVED_FIRST or number > last - RESERVED_LAST:
        yield f"{address} is reserved in subnet {subnet.name}: the first four and the last of {around[0]} are"
    for other in state.interface_at.get((subnet.network, address), ()):
        if other.name != interface.name:
            yield f"{address} belongs to network interface {other.name}"


def _groups(state: NetworkState, names: Sequence[str], network: str) -> Found:
    for at, name in enumerate(names):
        group = state.find(SecurityGroup, name)
        if group is not None and group.vpc != network:
            yield f"security_groups[{at}]", f"{name} belongs to network {group.vpc}, not to {network}"
    yield from _twice("security_groups", names, "{} is named twice")


def _load_balancer(state: NetworkState, balancer: LoadBalancer) -> Found:
    if not balancer.subnets:
        yield "subnets", "is empty: a load balancer stands in at least one subnet"
    yield from _twice("subnets", balancer.subnets, "{} is named twice")
    homes = {subnet.network for name in balancer.subnets if (subnet := state.find(Subnet, name)) is not None}
    if len(homes) > 1:
        yield "subnets", f"are of several networks: {', '.join(sorted(homes))}"
    elif homes:
        yield from _groups(state, balancer.security_groups, homes.pop())
    yield from _twice("listeners", [str(listener.port) for listener in balancer.listeners], "port {} has two listeners")
    for at, listener in enumerate(balancer.listeners):
        if not 1 <= listener.port <= 65535:
            yield f"listeners[{at}].port", f"{listener.port} is outside 1 to 65535"
        if listener.protocol in {Protocol.ICMP, Protocol.ALL}:
            yield f"listeners[{at}].protocol", f"{listener.protocol} is for rules: tcp, udp, TLS, HTTP or HTTPS"


def _target_group(group: TargetGroup) -> Found:
    for where, port in (("port", group.port), *((f"targets[{at}].port", t.port) for at, t in enumerate(group.targets))):
        if not 1 <= port <= 65535:
            yield where, f"{port} is outside 1 to 65535"
    for at, target in enumerate(group.targets):
        if not is_address(target.ip):
            yield f"targets[{at}].ip", f'"{target.ip}" is no IP address'
    yield from _twice("targets", [f"{target.ip}:{target.port}" for target in group.targets], "{} is named twice")


def _twice(where: str, names: Iterable[str], message: str) -> Found:
    for name, count in Counter(names).items():
        if count > 1:
            yield where, message.format(name)
