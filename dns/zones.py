"""The names that exist, each with the zone it is in and a ring of records per type.

A name without records is an empty non-terminal: NODATA, never NXDOMAIN (RFC 8020). Names of instances and of addresses
are many and rarely asked, so they hold only what they are made from, and make their records when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from . import records
from .choice import Vantage
from .instances import Instance
from .rings import Dependent, Ring
from .services import ServiceRecords, ServiceZone
from .wire import HEADER_SIZE, QUESTION_NAME, Type, pointer, record

# The timers that an SOA holds for secondaries, in seconds. Health moves a zone, and there is no NOTIFY: one that asked
# every two hours (RFC 1912 section 2.2) would answer with the dead. Asking costs a small query.
SOA_REFRESH = 60
SOA_RETRY = 30
SOA_EXPIRE = 1209600  # RFC 1912's: two weeks without us, and still an answer

PTR_LIMIT = 100  # names of one address; keeps every answer far below 65535 octets


class Serial:
    """The number of all zones of a registry, as it is now."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass(frozen=True, slots=True)
class Zone:
    """`origin` is its apex; `server` and `mailbox` are the SOA's names, all in wire form."""

    origin: bytes
    server: bytes
    mailbox: bytes
    ttl: int
    negative_ttl: int
    serial: Serial

    def soa(self, offset: int, *, negative: bool = False) -> bytes:
        """The SOA record, where the message has the zone's name at `offset`.

        A negative answer may be kept for the lesser of the SOA's TTL and its MINIMUM (RFC 2308 section 5). Caches that
        look at one of the two only (coredns #2158) are told the same by both.
        """
        origin = pointer(offset)
        numbers = (self.serial.number & 0xFFFFFFFF, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, self.negative_ttl)
        names = b"".join(self._compressed(name, origin) for name in (self.server, self.mailbox))
        ttl = min(self.ttl, self.negative_ttl) if negative else self.ttl
        return record(origin, Type.SOA, ttl, names + b"".join(number.to_bytes(4) for number in numbers))

    def apex_records(self) -> tuple[tuple[Type, bytes], ...]:
        ns = record(QUESTION_NAME, Type.NS, self.ttl, records.ns(self.server))
        return (Type.SOA, self.soa(HEADER_SIZE)), (Type.NS, ns)

    def _compressed(self, name: bytes, origin: bytes) -> bytes:
        return name[: -len(self.origin)] + origin if name.endswith(self.origin) else name


@dataclass(slots=True)
class Node:
    """A name with what was written down for it, and what a service says there."""

    zone: Zone
    static: dict[int, Ring] = field(default_factory=dict[int, Ring])
    served: dict[int, ServiceRecords] = field(default_factory=dict[int, ServiceRecords])

    def types(self) -> Iterator[int]:
        yield from self.static
        yield from self.served

    def ring(self, rtype: int, vantage: Vantage) -> Ring | None:
        """None: there are no such records here, and never will be. An empty ring: none at present."""
        static = self.static.get(rtype)
        if static is not None:
            return static
        served = self.served.get(rtype)
        return served.ring(vantage) if served is not None else None


class InstanceNode(Dependent):
    """`i-1.api.services`: its address, and its attributes as TXT.

    Health does not touch these: whoever was just given the name as an SRV target must be able to resolve it.
    """

    __slots__ = ("instance", "place")

    def __init__(self, place: ServiceZone, instance: Instance) -> None:
        super().__init__()
        self.place = place
        self.instance = instance

    @property
    def zone(self) -> Zone:
        return self.place.zone

    @property
    def ttl(self) -> int:
        return self.place.service.target_ttl(self.instance, self.zone.ttl)

    @property
    def name(self) -> bytes:
        return self.instance.label + self.place.name

    def types(self) -> Iterator[int]:
        yield self.instance.rtype
        yield Type.TXT

    def ring(self, rtype: int, _vantage: Vantage) -> Ring | None:
        instance = self.instance
        if rtype == instance.rtype:
            return Ring([record(QUESTION_NAME, rtype, self.ttl, instance.rdata)])
        if rtype == Type.TXT:
            texts = [f"{key}={value}".encode() for key, value in instance.spec.attributes]
            fitting = [text for text in texts if len(text) <= records.STRING_LIMIT]
            return Ring([record(QUESTION_NAME, rtype, self.ttl, records.txt(fitting))] if fitting else [])
        return None


class ReverseNode(Dependent):
    """The name of an address, and a zone of its own: its neighbours are not ours, so they are forwarded."""

    __slots__ = ("name", "targets")

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self.name = name
        self.targets: tuple[InstanceNode, ...] = ()

    @property
    def zone(self) -> Zone:
        first = self.targets[0].zone
        return Zone(self.name, first.server, first.mailbox, first.ttl, first.negative_ttl, first.serial)

    def seen(self, hidden: frozenset[bytes]) -> ReverseNode | None:
        """As much of it as a view has that these zones are hidden from."""
        targets = tuple([target for target in self.targets if target.zone.origin not in hidden])
        if len(targets) == len(self.targets):
            return self
        if not targets:
            return None
        node = ReverseNode(self.name)
        node.targets = targets
        return node

    def types(self) -> Iterator[int]:
        yield from (Type.PTR, Type.SOA, Type.NS)

    def ring(self, rtype: int, _vantage: Vantage) -> Ring | None:
        if rtype != Type.PTR:
            return next((Ring([answer]) for apex, answer in self.zone.apex_records() if apex == rtype), None)
        answered = self.targets[:PTR_LIMIT]
        ttl = min(target.ttl for target in answered)  # one RRset has one TTL (RFC 2181 section 5.2)
        return Ring([record(QUESTION_NAME, Type.PTR, ttl, records.ptr(target.name)) for target in answered])


AnyNode = Node | InstanceNode | ReverseNode
