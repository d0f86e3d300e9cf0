"""`internet app-lb:443`: can it get there, and if not, everything that is in the way. A pure question to a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import Invalid, Mistake
from .explanation import Blocker, Code, Fix, Hop, Path, Reachability, Way
from .model import Listener, LoadBalancer, TargetGroup
from .places import Place, at, parse_endpoint, places
from .values import RULE_PROTOCOLS, Protocol, is_ipv6
from .walk import walk

if TYPE_CHECKING:
    from .state import NetworkState


def reachability(state: NetworkState, source: str, destination: str, protocol: Protocol = Protocol.TCP) -> Reachability:
    """`source` is a name, an address, or `internet`; `destination` likewise, with its port: `db-1:5432`."""
    from_name, _ = parse_endpoint(source)
    to_name, port = parse_endpoint(destination)
    if protocol not in RULE_PROTOCOLS or protocol is Protocol.ALL:
        raise Invalid([Mistake("protocol", f"{protocol} is not tcp, udp or icmp")])
    if protocol is Protocol.ICMP:
        port = 0
    elif port is None:
        raise Invalid([Mistake(destination, f"needs a port: {to_name}:443")])
    ipv6 = is_ipv6(from_name) or is_ipv6(to_name)
    starts = places(state, from_name, ipv6=ipv6)
    ends = places(state, to_name, ipv6=ipv6)
    stages = [tuple(walk(state, start, end, protocol, port) for start in starts for end in ends)]
    balancer = ends[0].balancer
    if balancer is not None:
        stages.append(_through(state, balancer, ends, protocol, port))
    return Reachability(source, destination, protocol, port, tuple(stages))


def _through(
    state: NetworkState, balancer: LoadBalancer, nodes: tuple[Place, ...], protocol: Protocol, port: int
) -> tuple[Path, ...]:
    """From the listener on: the balancer opens connections of its own."""
    listener = _listener(balancer, protocol, port)
    if isinstance(listener, Blocker):
        return (_stopped(balancer.name, listener),)
    component = f"load balancer {balancer.name} listener {listener.port}"
    if not listener.target_groups:
        message = "forwards to no target group"
        return (_stopped(balancer.name, Blocker(Code.ELBV2_LISTENER_HAS_NO_TG, Way.FORWARD, component, message)),)
    paths: list[Path] = []
    for name in listener.target_groups:
        group = state.get(TargetGroup, name)
        if not group.targets:
            fix = Fix(f"target_groups.{name}.targets", f"- {{ip: 10.0.1.10, port: {group.port}}}")
            message = "has no targets"
            blocker = Blocker(Code.NO_POSSIBLE_DESTINATION, Way.FORWARD, f"target group {name}", message, fix=fix)
            paths.append(_stopped(balancer.name, blocker))
        for target in group.targets:
            end = at(state, target.ip, group.vpc)
            # As much as the way differs: a balancer's node of the target's own zone, which is also who would be asked.
            start = next((node for node in nodes if _zone(node) == _zone(end)), nodes[0])
            paths.append(walk(state, start, end, group.protocol.transport, target.port))
    return tuple(paths)


def _listener(balancer: LoadBalancer, protocol: Protocol, port: int) -> Listener | Blocker:
    component = f"load balancer {balancer.name}"
    listener = next((each for each in balancer.listeners if each.port == port), None)
    if listener is None:
        having = ", ".join(str(each.port) for each in balancer.listeners) or "none"
        fix = Fix(f"load_balancers.{balancer.name}.listeners", f"- {{port: {port}, protocol: HTTP}}")
        message = f"has no listener on port {port}; its ports are: {having}"
        return Blocker(Code.ELBV2_LISTENER_PORT_RESTRICTION, Way.FORWARD, component, message, fix=fix)
    if listener.protocol.transport is not protocol:
        message = f"its listener on port {port} is for {listener.protocol}, which {protocol} does not carry"
        return Blocker(Code.ELBV2_LISTENERS_MISMATCH, Way.FORWARD, component, message)
    return listener


def _stopped(source: str, blocker: Blocker) -> Path:
    return Path(source, "no target", (Hop(blocker.way, blocker.component, blocker.message, open=False),), (blocker,))


def _zone(place: Place) -> str | None:
    return place.subnet.zone if place.subnet is not None else None
