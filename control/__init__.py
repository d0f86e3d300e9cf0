"""The control plane: decides. Configuration, state, the admin API, the command line.

It alone knows the other two planes, builds them, and hands each what it needs of the other. `run("penstock.yaml")` is
the whole program; `Runtime` is for those who bring their own loop, and their own settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .network import (
        AclRule,
        Action,
        DnsConfig,
        EgressOnlyInternetGateway,
        InternetGateway,
        Listener,
        LoadBalancer,
        NatGateway,
        NetworkAcl,
        NetworkInterface,
        NetworkState,
        Peering,
        PortRange,
        PrefixList,
        Protocol,
        Quotas,
        Route,
        RouteTable,
        Scheme,
        SecurityGroup,
        SecurityRule,
        Subnet,
        Target,
        TargetGroup,
        Tunnel,
        VirtualNetwork,
    )
    from .process import run
    from .runtime import Runtime

__all__ = [
    "AclRule",
    "Action",
    "DnsConfig",
    "EgressOnlyInternetGateway",
    "InternetGateway",
    "Listener",
    "LoadBalancer",
    "NatGateway",
    "NetworkAcl",
    "NetworkInterface",
    "NetworkState",
    "Peering",
    "PortRange",
    "PrefixList",
    "Protocol",
    "Quotas",
    "Route",
    "RouteTable",
    "Runtime",
    "Scheme",
    "SecurityGroup",
    "SecurityRule",
    "Subnet",
    "Target",
    "TargetGroup",
    "Tunnel",
    "VirtualNetwork",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562): `penstock status` needs neither a web framework nor the planes."""
    if name == "run":
        from .process import run

        return run
    if name == "Runtime":
        from .runtime import Runtime

        return Runtime
    if name in __all__:
        from . import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
