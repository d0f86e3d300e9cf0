"""One packet there and its answer back, from one place to another, past everything that would stop them.

The order is AWS's: security groups and ACL on the way out, the route, ACL and groups on the way in. Security groups
remember the connection, so the answer asks only ACLs and routes; what stays inside a subnet asks neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .explanation import Blocker, Code, Fix, Hop, Path, Way
from .filtering import Filtered, judge_acl, judge_groups, rules_of
from .model import (
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    NetworkAcl,
    Peering,
    RouteTable,
    Subnet,
    Tunnel,
)
from .places import Place
from .routing import EffectiveRoute, RouteLookup, RouteState, routes_of, table_of
from .values import PortRange, Protocol

if TYPE_CHECKING:
    from .state import NetworkState

# Which port a client answers to is the client's choice. Linux uses 32768-60999, Windows 49152-65535, a NAT gateway
# 1024-65535: AWS advises to allow the last, and any part of it lets some clients through.
EPHEMERAL = PortRange(1024, 65535)


def walk(state: NetworkState, source: Place, destination: Place, protocol: Protocol, port: int) -> Path:
    return _Walk(state, source, destination, protocol, port).path()


class _Walk:
    __slots__ = ("_blockers", "_destination", "_hops", "_port", "_protocol", "_source", "_state")

    def __init__(self, state: NetworkState, source: Place, destination: Place, protocol: Protocol, port: int) -> None:
        self._state = state
        self._source = source
        self._destination = destination
        self._protocol = protocol
        self._port = PortRange.single(port)
        self._hops: list[Hop] = []
        self._blockers: list[Blocker] = []

    def path(self) -> Path:
        source, destination = self._source, self._destination
        inside = source.subnet is not None and source.subnet == destination.subnet
        self._place(Way.FORWARD, source)
        self._groups(source, "egress", destination)
        if not inside:
            self._acl(Way.FORWARD, source.subnet, "outbound", destination, self._port)
            self._route(Way.FORWARD, source, destination)
            self._acl(Way.FORWARD, destination.subnet, "inbound", source, self._port)
        self._groups(destination, "ingress", source)
        self._place(Way.FORWARD, destination)
        self._place(Way.RETURN, destination)
        if not inside:
            self._acl(Way.RETURN, destination.subnet, "outbound", source, EPHEMERAL)
            self._route(Way.RETURN, destination, source)
            self._acl(Way.RETURN, source.subnet, "inbound", destination, EPHEMERAL)
        self._place(Way.RETURN, source)
        return Path(source.label, destination.label, tuple(self._hops), tuple(self._blockers))

    def _pass(self, way: Way, component: str, detail: str) -> None:
        self._hops.append(Hop(way, component, detail))

    def _block(self, blocker: Blocker) -> None:
        self._hops.append(Hop(blocker.way, blocker.component, blocker.message, open=False))
        self._blockers.append(blocker)

    def _place(self, way: Way, place: Place) -> None:
        where = f"subnet {place.subnet.name}" if place.subnet is not None else "outside"
        self._pass(way, place.label, f"{place.cidr}, {where}")

    # Security groups and ACLs

    def _groups(self, place: Place, direction: Literal["ingress", "egress"], peer: Place) -> None:
        if not place.groups:
            return  # as in the data planes: who wears none is not guarded by any
        names = ", ".join(group.name for group in place.groups)
        component = f"security group {names} {direction}"
        said = judge_groups(self._state, place.groups, direction, self._protocol, self._port, peer.block)
        if said.passes:
            self._pass(Way.FORWARD, component, str(said.admitted[0][1]))
            return
        empty = not any(rules_of(group, direction) for group in place.groups)
        code = Code.SG_HAS_NO_RULES if empty else Code.ENI_SG_RULES_MISMATCH
        side = ("source", "from") if direction == "ingress" else ("destination", "to")
        message = f"no rule allows {self._packets(Way.FORWARD, self._port)} {side[1]} {peer.cidr}"
        # A group of another network may be named across a peering only, and is worth naming where addresses change.
        known = peer.peer if peer.network == place.network else peer.cidr
        fix = Fix(
            f"security.security_groups.{place.groups[0].name}.{direction}",
            f"- {{protocol: {self._protocol}, {self._ports('port', self._port)}{side[0]}: {known}}}",
        )
        self._block(Blocker(code, Way.FORWARD, component, message, said.denied_by, said.nearest, fix))

    def _acl(
        self, way: Way, subnet: Subnet | None, direction: Literal["inbound", "outbound"], peer: Place, ports: PortRange
    ) -> None:
        acl = self._state.acl_of(subnet) if subnet is not None else None
        if acl is None:
            return  # AWS's default ACL lets everything pass
        component = f"network ACL {acl.name} {direction}"
        said = judge_acl(self._state, acl, direction, self._protocol, ports, peer.block)
        if said.passes:
            some = ", ".join(str(admitted) for admitted, _ in said.admitted)
            part = f", for client ports {some}" if way is Way.RETURN and some != str(ports) else ""
            self._pass(way, component, f"{said.admitted[0][1]}{part}")
            return
        side = "from" if direction == "inbound" else "to"
        by = f"rule {said.denied_by.number} denies" if said.denied_by and said.denied_by.number else "no rule allows"
        message = f"{by} {self._packets(way, ports)} {side} {peer.cidr}"
        fix = self._acl_fix(acl, direction, said, ports, peer)
        self._block(Blocker(Code.SUBNET_ACL_RESTRICTION, way, component, message, said.denied_by, said.nearest, fix))

    def _acl_fix(
        self, acl: NetworkAcl, direction: Literal["inbound", "outbound"], said: Filtered, ports: PortRange, peer: Place
    ) -> Fix | None:
        taken = {rule.number for rule in (acl.inbound_rules if direction == "inbound" else acl.outbound_rules)}
        # Before all others, so that no rule can deny first; ten apart leaves room, as AWS advises.
        first = min(taken, default=110)
        number = first - 10 if first > 10 else first - 1
        if number < 1:
            return None  # rule 1 stands in the way: it has to change, and only its owner knows how
        side = "source" if direction == "inbound" else "destination"
        return Fix(
            f"security.network_acls.{acl.name}.{direction}",
            f"- {{number: {number}, protocol: {self._protocol}, {self._ports('ports', ports)}{side}: {peer.cidr}, "
            "action: allow}",
        )

    def _ports(self, key: str, ports: PortRange) -> str:
        return f"{key}: {ports}, " if self._protocol in {Protocol.TCP, Protocol.UDP} else ""

    def _packets(self, way: Way, ports: PortRange) -> str:
        if self._protocol is Protocol.ICMP:
            return "icmp answers" if way is Way.RETURN else "icmp"
        return f"answers to client ports {ports}" if way is Way.RETURN else f"{self._protocol} {ports}"

    # Routes

    def _route(self, way: Way, source: Place, destination: Place) -> None:
        """How packets of `source` find `destination`; on the way back the two have changed places."""
        if source.subnet is None:
            self._entrance(way, destination)
            return
        routes = routes_of(self._state, source.subnet)
        route = RouteLookup(routes).find(destination.block[0])
        table = table_of(self._state, source.subnet)
        component = f"route table {table.name}" if table is not None else f"main route table of {source.network}"
        if destination.subnet is None:
            component = f"{component}, subnet {source.subnet.name}"
        if route is None:
            message = f"{source.subnet.name} has no route to {destination.cidr}"
            fix = self._route_fix(source, destination, table)
            self._block(Blocker(Code.NO_ROUTE_TO_DESTINATION, way, component, message, fix=fix))
        elif route.state is RouteState.BLACKHOLE:
            code = Code.BAD_STATE_VPN if isinstance(route.target, Tunnel) else Code.BAD_STATE_ROUTE
            why = "is gone" if route.target is None else "is down" if code is Code.BAD_STATE_VPN else "is not accepted"
            message = f"{route} swallows packets for {destination.cidr}: {route.label} {why}"
            self._block(Blocker(code, way, component, message))
        elif route.local and source.network == destination.network:
            self._pass(way, component, str(route))
        else:
            wrong = self._leads_elsewhere(way, component, route, source, destination, table)
            if wrong is None:
                self._pass(way, component, str(route))
            else:
                self._block(wrong)

    def _leads_elsewhere(
        self,
        way: Way,
        component: str,
        route: EffectiveRoute,
        source: Place,
        destination: Place,
        table: RouteTable | None,
    ) -> Blocker | None:
        """Why that route's target does not carry this packet; None: it does."""
        if route.local:
            message = f"{destination.cidr} is local to {source.network}, whose addresses {destination.network} repeats"
            return Blocker(Code.CANNOT_ROUTE, way, component, message)
        if source.network == destination.network:
            message = f"{route} is more specific than the local route to {destination.cidr}"
            return Blocker(Code.MORE_SPECIFIC_ROUTE, way, component, message)
        match route.target:
            case Peering() as peering:
                if destination.network in {peering.requester, peering.accepter}:
                    return None
                other = peering.accepter if peering.requester == source.network else peering.requester
                message = f"{peering.name} ends in {other}, and goes no further: {destination.cidr} is not there"
                return Blocker(Code.PCX_REQUIRES_ADDRESS_IN_VPC_CIDR, way, component, message)
            case Tunnel():
                return None
            case InternetGateway() | NatGateway() | EgressOnlyInternetGateway() if destination.subnet is not None:
                message = f"{route} leads to the internet, where {destination.cidr} of {destination.network} is not"
                fix = self._route_fix(source, destination, table)
                return Blocker(Code.NO_ROUTE_TO_DESTINATION, way, component, message, fix=fix)
            case InternetGateway() as gateway:
                if source.public or way is Way.RETURN:  # on the way back the entrance has said it
                    return None
                message = f"{source.label} has no public address, and {gateway.name} gives none"
                fix = Fix(f"network.interfaces.{source.label}", "public_address: 203.0.113.10")
                return Blocker(Code.IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS, way, component, message, fix=fix)
            case NatGateway() | EgressOnlyInternetGateway() as gateway if way is Way.RETURN:
                message = (
                    f"{source.label} has no route to an internet gateway: {route.destination} leads to "
                    f"{gateway.kind} {gateway.name}, which admits no connections from outside"
                )
                fix = self._way_out_fix(source, table)
                return Blocker(Code.NO_ROUTE_TO_DESTINATION, way, component, message, fix=fix)
            case NatGateway() as gateway:
                return self._out_of_nat(way, gateway, destination)
            case _:
                return None

    def _out_of_nat(self, way: Way, gateway: NatGateway, destination: Place) -> Blocker | None:
        home = self._state.get(Subnet, gateway.subnet)
        onward = RouteLookup(routes_of(self._state, home)).find(destination.block[0])
        if onward is not None and isinstance(onward.target, InternetGateway):
            return None
        message = f"stands in {home.name}, which has no route to an internet gateway"
        fix = Fix(f"network.subnets.{home.name}", "public: true")
        return Blocker(Code.NO_ROUTE_TO_DESTINATION, way, f"NAT gateway {gateway.name}", message, fix=fix)

    def _entrance(self, way: Way, destination: Place) -> None:
        """From outside into a network; on the way back, the answer to a connection that went out."""
        if destination.network is None:
            self._pass(way, "outside", "neither end is in a network of ours")
            return
        if way is Way.RETURN:
            return  # whatever carried the packet out carries the answer in
        if destination.subnet is not None:
            back = RouteLookup(routes_of(self._state, destination.subnet)).find(self._source.block[0])
            if back is not None and isinstance(back.target, Tunnel):
                self._pass(way, f"tunnel {back.target.name}", f"to {destination.label}")
                return
        gateway = self._state.internet_gateway.get(destination.network)
        if gateway is None:
            message = "has no internet gateway, so nothing comes in from outside"
            fix = Fix("network.internet_gateways", f"- {{name: igw-1, vpc: {destination.network}}}")
            component = f"network {destination.network}"
            self._block(Blocker(Code.NO_ROUTE_TO_DESTINATION, way, component, message, fix=fix))
            return
        component = f"internet gateway {gateway.name}"
        if destination.public:
            self._pass(way, component, f"to {destination.label}")
            return
        if destination.balancer is not None:
            message = f"{destination.balancer.name} is internal: it has private addresses only"
            fix = Fix(f"load_balancers.{destination.balancer.name}", "scheme: internet-facing")
        else:
            message = f"{destination.label} has no public address"
            fix = Fix(f"network.interfaces.{destination.label}", "public_address: 203.0.113.10")
        self._block(Blocker(Code.IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS, way, component, message, fix=fix))

    def _route_fix(self, source: Place, destination: Place, table: RouteTable | None) -> Fix | None:
        if destination.network is None:
            return self._way_out_fix(source, table)
        for peering in self._state.peerings_of.get(source.network or "", ()):
            if destination.network in {peering.requester, peering.accepter}:
                return _table_fix(source, table, f"{{destination: {destination.cidr}, peering: {peering.name}}}")
        return Fix(
            "network.peerings",
            f"- {{name: {source.network}-{destination.network}, requester: {source.network}, "
            f"accepter: {destination.network}}}",
        )

    def _way_out_fix(self, place: Place, table: RouteTable | None) -> Fix | None:
        """A balancer moves to public subnets, if there are any: its present ones may be private for good reason."""
        gateway = self._state.internet_gateway.get(place.network or "")
        if gateway is None:
            return Fix("network.internet_gateways", f"- {{name: igw-1, vpc: {place.network}}}")
        if place.balancer is not None:
            public = [
                subnet.name
                for subnet in self._state.subnets_of.get(place.network or "", ())
                if any(isinstance(route.target, InternetGateway) for route in routes_of(self._state, subnet))
            ]
            if public:
                return Fix(f"load_balancers.{place.balancer.name}", f"subnets: [{', '.join(public)}]")
        everyone = "::/0" if place.ipv6 else "0.0.0.0/0"
        return _table_fix(place, table, f"{{destination: '{everyone}', internet_gateway: {gateway.name}}}")


def _table_fix(place: Place, table: RouteTable | None, route: str) -> Fix:
    if table is not None:
        return Fix(f"network.route_tables.{table.name}.routes", f"- {route}")
    return Fix("network.route_tables", f"- {{name: main, vpc: {place.network}, main: true, routes: [{route}]}}")
