"""The network of the tests: the one of the documentation, in its own words, with what it is reached at and reaches."""

from __future__ import annotations

from penstock.control.network import (
    AclRule,
    Action,
    InternetGateway,
    Listener,
    LoadBalancer,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    NetworkState,
    PortRange,
    Protocol,
    Route,
    RouteTable,
    Scheme,
    SecurityGroup,
    SecurityRule,
    Subnet,
    Target,
    TargetGroup,
    VirtualNetwork,
)

NETWORK = VirtualNetwork(name="app-network", cidr="10.0.0.0/16", region="us-west", zones=["us-west-1a", "us-west-1b"])
WEB_SG = SecurityGroup(
    name="web-sg",
    vpc="app-network",
    ingress_rules=[
        SecurityRule(protocol=Protocol.TCP, port_range=PortRange.single(443), source="0.0.0.0/0"),
        SecurityRule(protocol=Protocol.TCP, port_range=PortRange.single(80), source="internal-lb-sg"),
    ],
    egress_rules=[SecurityRule(protocol=Protocol.ALL, destination="0.0.0.0/0")],
)
APP_ACL = NetworkAcl(
    name="app-acl",
    vpc="app-network",
    inbound_rules=[
        AclRule(
            number=100,
            protocol=Protocol.TCP,
            port_range=PortRange(1024, 65535),
            source="0.0.0.0/0",
            action=Action.ALLOW,
        )
    ],
    outbound_rules=[AclRule(number=100, protocol=Protocol.TCP, destination="0.0.0.0/0", action=Action.ALLOW)],
)


def seed() -> NetworkState:
    """As it was first written down: an internet-facing load balancer that nobody on the internet can reach."""
    return NetworkState().create(
        NETWORK,
        InternetGateway(name="igw-1", vpc="app-network"),
        RouteTable(
            name="private-routes", vpc="app-network", routes=[Route(destination="0.0.0.0/0", nat_gateway="nat-1")]
        ),
        Subnet(name="edge", network="app-network", cidr="10.0.0.0/24", zone="us-west-1a", public=True),
        NatGateway(name="nat-1", subnet="edge"),
        Subnet(
            name="app-subnet-1",
            network="app-network",
            cidr="10.0.1.0/24",
            zone="us-west-1a",
            route_table="private-routes",
        ),
        Subnet(
            name="app-subnet-2",
            network="app-network",
            cidr="10.0.2.0/24",
            zone="us-west-1b",
            route_table="private-routes",
        ),
        SecurityGroup(name="internal-lb-sg", vpc="app-network"),
        WEB_SG,
        SecurityGroup(
            name="tg-sg",
            vpc="app-network",
            ingress_rules=[SecurityRule(protocol=Protocol.TCP, port_range=PortRange.single(8080), source="web-sg")],
        ),
        APP_ACL,
        NetworkInterface(name="web-1", subnet="app-subnet-1", address="10.0.1.10", security_groups=["tg-sg"]),
        NetworkInterface(name="web-2", subnet="app-subnet-2", address="10.0.2.10", security_groups=["tg-sg"]),
        TargetGroup(
            name="tg-web",
            vpc="app-network",
            port=8080,
            protocol=Protocol.HTTP,
            targets=[Target(ip="10.0.1.10", port=8080), Target(ip="10.0.2.10", port=8080)],
        ),
        LoadBalancer(
            name="app-lb",
            scheme=Scheme.INTERNET,
            subnets=["app-subnet-1", "app-subnet-2"],
            security_groups=["web-sg"],
            listeners=[Listener(port=443, protocol=Protocol.HTTPS, target_groups=["tg-web"])],
        ),
    )
