"""What an answer to "does this get there?" is made of: hops, blockers under AWS's codes, and the change that opens.

AWS's Reachability Analyzer stops at the first thing in the way and follows the shortest path. Here a walk goes on past
what would stop a packet, so that everything in the way is told, on the way there and on the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .filtering import RuleName
from .values import Protocol


class Code(StrEnum):
    """AWS's explanation codes, where they mean what they mean there."""

    ENI_SG_RULES_MISMATCH = "ENI_SG_RULES_MISMATCH"
    SG_HAS_NO_RULES = "SG_HAS_NO_RULES"
    SUBNET_ACL_RESTRICTION = "SUBNET_ACL_RESTRICTION"
    NO_ROUTE_TO_DESTINATION = "NO_ROUTE_TO_DESTINATION"
    MORE_SPECIFIC_ROUTE = "MORE_SPECIFIC_ROUTE"
    BAD_STATE_ROUTE = "BAD_STATE_ROUTE"
    BAD_STATE_VPN = "BAD_STATE_VPN"
    CANNOT_ROUTE = "CANNOT_ROUTE"
    IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS = "IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS"
    IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS = "IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS"
    PCX_REQUIRES_ADDRESS_IN_VPC_CIDR = "PCX_REQUIRES_ADDRESS_IN_VPC_CIDR"
    ELBV2_LISTENERS_MISMATCH = "ELBV2_LISTENERS_MISMATCH"
    ELBV2_LISTENER_PORT_RESTRICTION = "ELBV2_LISTENER_PORT_RESTRICTION"
    ELBV2_LISTENER_HAS_NO_TG = "ELBV2_LISTENER_HAS_NO_TG"
    NO_POSSIBLE_DESTINATION = "NO_POSSIBLE_DESTINATION"


class Way(StrEnum):
    FORWARD = "forward"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Fix:
    """`line` is YAML, to be added under `where`."""

    where: str
    line: str


@dataclass(frozen=True, slots=True)
class Blocker:
    code: Code
    way: Way
    component: str  # network ACL app-acl inbound
    message: str
    rule: RuleName | None = None
    nearest: str | None = None
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """`open` False: one of the path's blockers is here."""

    way: Way
    component: str
    detail: str
    open: bool = True


@dataclass(frozen=True, slots=True)
class Path:
    source: str
    destination: str
    hops: tuple[Hop, ...]
    blockers: tuple[Blocker, ...]

    @property
    def open(self) -> bool:
        return not self.blockers


class Outcome(StrEnum):
    REACHABLE = "reachable"
    PARTLY = "partly reachable"  # some of a load balancer's subnets or targets are, others are not
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Reachability:
    """One stage, or two where a load balancer stands between; each has the paths that a packet may take."""

    source: str
    destination: str
    protocol: Protocol
    port: int
    stages: tuple[tuple[Path, ...], ...]

    @property
    def outcome(self) -> Outcome:
        if not all(any(path.open for path in stage) for stage in self.stages):
            return Outcome.BLOCKED
        return Outcome.PARTLY if self.blockers else Outcome.REACHABLE

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        """Of all paths, each once."""
        return tuple(dict.fromkeys(b for stage in self.stages for path in stage for b in path.blockers))

    @property
    def fixes(self) -> tuple[Fix, ...]:
        return tuple(dict.fromkeys(blocker.fix for blocker in self.blockers if blocker.fix is not None))
