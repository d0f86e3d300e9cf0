"""Networks as AWS has them, as a model that can be reasoned about: pure, no socket, no clock, no store.

`model` describes, `state` holds one immutable picture and refuses what makes no sense, `ipam` gives addresses,
`reachability` says why a packet gets through, or everything that stops it.
"""

from __future__ import annotations

from .errors import (
    AddressError,
    AddressesExhausted,
    Conflict,
    InUse,
    Invalid,
    Mistake,
    NetworkError,
    NotFound,
    QuotaExceeded,
)
from .explanation import Blocker, Code, Fix, Hop, Outcome, Path, Reachability, Way
from .ipam import AddressPool, PoolReport, next_subnet
from .model import (
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
    Peering,
    PrefixList,
    Route,
    RouteTable,
    Scheme,
    SecurityGroup,
    SecurityRule,
    Subnet,
    Target,
    TargetGroup,
    Thing,
    Tunnel,
    VirtualNetwork,
)
from .quotas import Quotas
from .reachability import reachability
from .state import NetworkState
from .values import PortRange, Protocol

__all__ = [
    "AclRule",
    "Action",
    "AddressError",
    "AddressPool",
    "AddressesExhausted",
    "Blocker",
    "Code",
    "Conflict",
    "DnsConfig",
    "EgressOnlyInternetGateway",
    "Fix",
    "Hop",
    "InUse",
    "InternetGateway",
    "Invalid",
    "Listener",
    "LoadBalancer",
    "Mistake",
    "NatGateway",
    "NetworkAcl",
    "NetworkError",
    "NetworkInterface",
    "NetworkState",
    "NotFound",
    "Outcome",
    "Path",
    "Peering",
    "PoolReport",
    "PortRange",
    "PrefixList",
    "Protocol",
    "QuotaExceeded",
    "Quotas",
    "Reachability",
    "Route",
    "RouteTable",
    "Scheme",
    "SecurityGroup",
    "SecurityRule",
    "Subnet",
    "Target",
    "TargetGroup",
    "Thing",
    "Tunnel",
    "VirtualNetwork",
    "Way",
    "next_subnet",
    "reachability",
]
