"""How questions come in, from whom, and what is done about those who ask too much. Frozen; it does no work."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

SecureProtocol = Literal["TLS", "HTTPS"]


@dataclass(frozen=True, slots=True)
class SecureListenerSpec:
    """DNS over TLS (RFC 7858) or over HTTPS (RFC 8484).

    `identity` is meaningless here: whoever makes the contexts of TLS is handed it back.
    """

    address: str
    port: int
    protocol: SecureProtocol
    identity: Hashable
    path: str = "/dns-query"


@dataclass(frozen=True, slots=True)
class ResponseRateSpec:
    """Equal answers to one network, per second; over UDP, where the sender may be somebody else."""

    responses_per_second: int
    slip: int = 2  # each second one that is too many is sent with TC, so that who is real comes back over TCP. BIND's
    ipv4_prefix: int = 24  # BIND's and Knot's
    ipv6_prefix: int = 56


@dataclass(frozen=True, slots=True)
class QueryLogSpec:
    path: str
    sample: float = 1.0  # of the queries


@dataclass(frozen=True, slots=True)
class TransportSpec:
    secure: tuple[SecureListenerSpec, ...] = ()
    allow: tuple[str, ...] = ()  # CIDRs; none: everybody
    transfer_to: tuple[str, ...] = ()  # CIDRs of secondaries, which may have whole zones; none: nobody
    cookie_secret: bytes = b""  # 16 octets; empty: no cookies
    rate: ResponseRateSpec | None = None
    query_log: QueryLogSpec | None = None
    top_names: int = 0  # names to keep count of


BY_DEFAULT = TransportSpec()
