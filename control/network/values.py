"""The small values that everything in a network is made of: protocols, port ranges, CIDR blocks.

Blocks are text in the model, as people write them, and pairs of numbers where something is computed. The numbers are
those of the planes' own rule tables, so that an explanation and a verdict cannot read one CIDR in two ways.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from ...proxy.first_match import parse_address, parse_network

if TYPE_CHECKING:
    from collections.abc import Sequence

Block = tuple[int, int]
"""First and last address."""

# The CIDRs of one configuration are few and asked for again with every question. 64k of them are about 20 MB.
REMEMBERED_BLOCKS = 65536


class Protocol(StrEnum):
    """Of rules (tcp, udp, icmp, all) and of listeners and target groups (the others, and tcp and udp)."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    ALL = "all"
    TLS = "TLS"
    HTTP = "HTTP"
    HTTPS = "HTTPS"

    @property
    def transport(self) -> Protocol:
        """What a rule must name to hold it."""
        return Protocol.TCP if self in {Protocol.TLS, Protocol.HTTP, Protocol.HTTPS} else self


RULE_PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.ICMP, Protocol.ALL)


@dataclass(frozen=True, slots=True)
class PortRange:
    first: int
    last: int

    @classmethod
    def single(cls, port: int) -> PortRange:
        return cls(port, port)

    @classmethod
    def all(cls) -> PortRange:
        return ALL_PORTS

    def __str__(self) -> str:
        if self == ALL_PORTS:
            return "all"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def common(self, other: PortRange) -> PortRange | None:
        first, last = max(self.first, other.first), min(self.last, other.last)
        return PortRange(first, last) if first <= last else None

    def mistake(self) -> str | None:
        if not 0 <= self.first <= 65535 or not 0 <= self.last <= 65535:
            return f"{self.first}-{self.last} is outside 0 to 65535, where ports are"
        if self.first > self.last:
            return f"{self.first}-{self.last} runs backwards: did you mean {self.last}-{self.first}?"
        return None


ALL_PORTS = PortRange(0, 65535)


class Frozen:
    """Base of the model: lists become tuples and dicts read-only copies, so that equal input is equal, and stays so."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for field in fields(cast("Any", self)):
            value: object = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(cast("list[object]", value)))
            elif isinstance(value, dict):
                object.__setattr__(self, field.name, MappingProxyType(dict(cast("dict[str, str]", value))))


@lru_cache(REMEMBERED_BLOCKS)
def block(cidr: str) -> Block:
    """First and last address as numbers; IPv6 stands above IPv4, so neither ever holds the other."""
    if cidr.endswith("/32") and ":" not in cidr:  # members of groups are many, and this is their quick way
        return single(cidr[:-3])
    return parse_network(cidr)


def single(address: str) -> Block:
    number = parse_address(address)
    return number, number


def holds(outer: Block, inner: Block) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def overlap(one: Block, other: Block) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def is_ipv6(cidr: str) -> bool:
    return ":" in cidr


def length(cidr: str) -> int:
    """The number after the slash; of a lone address, its whole width."""
    return ip_network(cidr, strict=False).prefixlen


def cidr_mistake(text: str) -> str | None:
    """Why this is no CIDR block of a network or a rule, in words."""
    if "/" not in text and is_address(text):
        return (
            f'"{text}" has no prefix length: write 10.0.0.0/16, or {text}/{128 if ":" in text else 32} for one address'
        )
    try:
        network: IPv4Network | IPv6Network = ip_network(text, strict=False)
    except ValueError:
        return f'"{text}" is no CIDR block: write 10.0.0.0/16 or 2001:db8::/56'
    address = text.partition("/")[0]
    if ip_address(address) != network.network_address:
        return f"{text} has bits set behind its prefix: did you mean {network}?"
    return None


def is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def first_overlap(blocks: Sequence[str]) -> tuple[str, str] | None:
    """Two CIDRs with a common address, or None. They nest or are apart, so sorted neighbours tell."""
    ordered = sorted(blocks, key=lambda cidr: (block(cidr)[0], -block(cidr)[1]))
    widest: str | None = None
    for cidr in ordered:
        if widest is not None and overlap(block(widest), block(cidr)):
            return widest, cidr
        widest = cidr
    return None
