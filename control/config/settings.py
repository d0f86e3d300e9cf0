"""All that one configuration file asks for, as the parts of the process want it; equal if it asks for the same."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final, Literal

from ...dns.registrations import IN_ALL, PER_SERVICE
from ...dns.specs import DnsSpec
from ...proxy.health import CheckKey
from ...proxy.specs import HealthCheckSpec, ProxySpec
from .scalars import Endpoint, Network

LOOPBACK: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
LONG_POLLS: Final = 1000  # each holds a connection


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    path: str
    format: Literal["json", "alb"] = "json"


@dataclass(frozen=True, slots=True)
class NamedService:
    """A DNS service whose instances are where the targets of a group are found by name. Its place in the DnsSpec."""

    namespace: int
    service: int
    target_group: str
    default_ttl: int | None  # of records that depend on the instances; None: they are listed


@dataclass(frozen=True, slots=True)
class Taker:
    """A service that takes registrations; `check` is how its instances are probed."""

    namespace: str
    service: str
    check: HealthCheckSpec | None


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    takers: tuple[Taker, ...] = ()
    allow: tuple[Network, ...] = LOOPBACK
    instances: int = IN_ALL
    instances_per_service: int = PER_SERVICE
    long_polls: int = LONG_POLLS
    keep: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    proxy: ProxySpec
    dns: DnsSpec
    dns_checks: frozenset[CheckKey]  # probed for services that have a health check of their own
    admin: Endpoint | None
    access_log: AccessLogSettings | None
    state_directory: Path
    drain: float  # seconds that requests may finish when nothing more is accepted
    resolvers: tuple[Endpoint, ...] = ()  # for the names of targets; none: the machine's own
    grace: float | None = None  # seconds before that, from SIGTERM on; None: as it is needed
    workers: int | Literal["auto"] = 1
    named_services: tuple[NamedService, ...] = ()
    registration: RegistrationSettings = RegistrationSettings()
