"""The parts of the configuration that are about who is answered what: policies, records written down, networks."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from ...dns.registrations import IN_ALL, PER_SERVICE
from .model_base import Described, Model
from .scalars import Cidr, Flag, HostName, Name, Text, duration, one_or_more, whole
from .settings import LONG_POLLS, LOOPBACK

LONGEST_TTL: Final = 2**31 - 1  # RFC 2181 section 8

RoutingPolicy = Literal["weighted", "multivalue", "failover", "latency", "geolocation"]
AllUnhealthy = Literal["fail_open", "fail_closed", "last_healthy"]
DnsType = Literal["A", "AAAA", "SRV", "HTTPS", "SVCB"]


class StaticRecord(Described):
    name: Text
    """Relative to the namespace: `www`, `*.apps`; `@` is the namespace itself."""
    type: Literal["A", "AAAA", "CNAME", "TXT", "SRV"]
    """What is answered."""
    ttl: Annotated[float, *duration(0, LONGEST_TTL, whole_seconds=True)] | None = None
    """How long others may keep it. Left out: the namespace's."""
    value: Annotated[tuple[Text, ...], *one_or_more("api")]
    """One record each. A name without a dot is one of this namespace, any other is whole."""


class DnsNetwork(Described):
    name: Name
    """Its name. The VPC's or a subnet's: more about that one."""
    cidrs: Annotated[tuple[Cidr, ...], *one_or_more("203.0.113.0/24")] | None = None
    """The addresses of its clients. Left out: those of the VPC or subnet with its name."""
    namespaces: tuple[HostName, ...] = ()
    """Namespaces that only networks see which list them. What nobody lists, everybody sees."""
    zone: Text | None = None
    """The zone its clients are in. Left out: the subnet's."""
    region: Text | None = None
    """The region its clients are in. Left out: the VPC's, for its subnets and itself."""
    location: Text | None = None
    """Where on Earth its clients are, from the large to the small: `eu/de/by`."""


class RegionLatency(Model):
    region: Text
    """From here."""
    to: Text
    """To here; and back, unless that is listed too."""
    latency: Annotated[float, *duration(0, 60)]
    """How long a packet takes there and back."""


class Registration(Described):
    allow: Annotated[tuple[Cidr, ...], *one_or_more("127.0.0.0/8")] = LOOPBACK
    """Who may register, deregister and say what is healthy, besides reading. Left out: this machine."""
    instances: Annotated[int, *whole(0, 1_000_000)] = IN_ALL
    """Registered ones at once; each takes some 2 KiB in every process."""
    instances_per_service: Annotated[int, *whole(1, 1_000_000)] = PER_SERVICE
    """The same for one service: what a change costs grows with these."""
    long_polls: Annotated[int, *whole(0, 100_000)] = LONG_POLLS
    """Those who wait for a change at once; each holds a connection."""
    keep: Flag = True
    """Whether instances without heartbeat, and what operators said of health, outlive a restart."""
