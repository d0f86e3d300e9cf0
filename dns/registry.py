"""What exists: the zones, every name in them, and which records hang on whose health.

Compiled once from a DnsSpec. Afterwards only one thing ever changes: the rings of a service are made anew, when next
asked for, after the health of one of its instances has changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address

from . import records
from .policy import multivalue, weighted
from .policy.eligible import eligible
from .specs import DnsSpec, InstanceSpec, NamespaceSpec, ServiceSpec
from .wire import HEADER_SIZE, Type, encode_name, pointer, record, suffixes

# The timers that an SOA holds for secondaries. Nobody transfers these zones; the values are RFC 1912 section 2.2's.
SOA_REFRESH = 7200
SOA_RETRY = 900
SOA_EXPIRE = 1209600

PTR_LIMIT = 100  # names of one address; keeps every answer far below 65535 octets
SRV_PRIORITY = 1  # Cloud Map's
SRV_EQUAL_WEIGHT = 1  # multivalue knows no weights; Cloud Map's
QUESTION_NAME = pointer(HEADER_SIZE)  # the owner of nearly every record: the name that was asked

IsHealthy = Callable[[InstanceSpec], bool]


@dataclass(frozen=True, slots=True)
class Turn:
    """One order of the records, as the bytes that follow the question. They compress against the question alone."""

    answers: bytes
    additionals: bytes = b""


class Ring:
    """All orders of a name's records of one type; whoever asks gets the next. Every turn has as many records.

    `tails` is kept for `answers`, which makes whole packets of the turns; it goes when the ring goes.
    """

    __slots__ = ("additional_count", "count", "longest", "longest_answers", "tails", "turns")

    def __init__(self, turns: Sequence[Turn], count: int, additional_count: int = 0) -> None:
        self.turns = turns
        self.count = count
        self.additional_count = additional_count
        self.longest_answers = max((len(turn.answers) for turn in turns), default=0)
        self.longest = max((len(turn.answers) + len(turn.additionals) for turn in turns), default=0)
        self.tails: dict[tuple[bool, bytes], Callable[[], bytes]] = {}


class RecordSet:
    """The records of one name and type. A ring without turns means that there are none at present."""

    __slots__ = ("_make", "_ring")

    def __init__(self, make: Callable[[], Ring]) -> None:
        self._make = make
        self._ring: Ring | None = None

    @property
    def ring(self) -> Ring:
        if self._ring is None:
            self._ring = self._make()
        return self._ring

    def forget(self) -> None:
        self._ring = None


@dataclass(frozen=True, slots=True)
class Zone:
    """`origin` is its apex; `server` and `mailbox` are the SOA's names, all in wire form."""

    origin: bytes
    server: bytes
    mailbox: bytes
    ttl: int
    negative_ttl: int
    serial: int

    def soa(self, offset: int, *, negative: bool = False) -> bytes:
        """The SOA record, where the question has the zone's name at `offset`.

        A negative answer may be kept for the lesser of the SOA's TTL and its MINIMUM (RFC 2308 section 5). Caches that
        look at one of the two only (coredns #2158) are told the same by both.
        """
        origin = pointer(offset)
        numbers = (self.serial & 0xFFFFFFFF, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, self.negative_ttl)
        names = b"".join(self._compressed(name, origin) for name in (self.server, self.mailbox))
        ttl = min(self.ttl, self.negative_ttl) if negative else self.ttl
        return record(origin, Type.SOA, ttl, names + b"".join(number.to_bytes(4) for number in numbers))

    def _compressed(self, name: bytes, origin: bytes) -> bytes:
        return name[: -len(self.origin)] + origin if name.endswith(self.origin) else name


@dataclass(frozen=True, slots=True)
class Node:
    """A name that exists. Without records it is an empty non-terminal: NODATA, never NXDOMAIN (RFC 8020)."""

    zone: Zone
    records: dict[int, RecordSet] = field(default_factory=dict[int, RecordSet])


@dataclass(frozen=True, slots=True)
class _Member:
    """An instance with what never changes about it made ready."""

    spec: InstanceSpec
    label: bytes  # its id in wire form, without the root
    rtype: Type
    rdata: bytes


class Registry:
    """Names and zones by their lower-cased wire form."""

    __slots__ = ("_dependants", "_is_healthy", "names", "zones")

    def __init__(self, spec: DnsSpec, is_healthy: IsHealthy, serial: int) -> None:
        """ValueError in words if the specification contradicts itself or DNS."""
        self.names: dict[bytes, Node] = {}
        self.zones: dict[bytes, Zone] = {}
        self._is_healthy = is_healthy
        self._dependants: defaultdict[Hashable, list[RecordSet]] = defaultdict(list)
        servers = [records.address(ip) for ip, _ in spec.listen if not ip_address(ip).is_unspecified]
        for namespace in spec.namespaces:
            for name in namespace.names:
                self._add_zone(namespace, encode_name(name).lower(), serial)
        reverse: defaultdict[bytes, dict[bytes, int]] = defaultdict(dict)
        for namespace in spec.namespaces:
            for number, name in enumerate(namespace.names):
                zone = self.zones[encode_name(name).lower()]
                _refuse_doubles(f"namespace {namespace.names[0]!r}: service", (s.name for s in namespace.services))
                for service in namespace.services:
                    self._add_service(zone, service, reverse if number == 0 else None)
                self._add_server(zone, servers)
        for name, targets in reverse.items():
            self._add_reverse(name, targets)

    def zone_of(self, name: bytes) -> Zone | None:
        """The closest zone that `name` is in; None means that the name is not ours to answer."""
        for suffix in suffixes(name):
            if suffix in self.zones:
                return self.zones[suffix]
        return None

    def forget(self, keys: Iterable[Hashable]) -> bool:
        """The health behind these keys has changed. Whether anything here hangs on them."""
        touched = [record_set for key in keys for record_set in self._dependants.get(key, ())]
        for record_set in touched:
            record_set.forget()
        return bool(touched)

    def _add_zone(self, namespace: NamespaceSpec, origin: bytes, serial: int) -> None:
        if origin in self.zones:
            raise ValueError(f"namespace {namespace.names[0]!r}: another namespace answers under the same name")
        zone = Zone(origin, b"\2ns" + origin, b"\nhostmaster" + origin, namespace.ttl, namespace.negative_ttl, serial)
        self.zones[origin] = zone
        self._add_apex(zone)

    def _add_apex(self, zone: Zone) -> None:
        soa = Turn(zone.soa(HEADER_SIZE))
        ns = Turn(record(QUESTION_NAME, Type.NS, zone.ttl, records.ns(zone.server)))
        self._add(zone, zone.origin, Type.SOA, partial(Ring, [soa], 1))
        self._add(zone, zone.origin, Type.NS, partial(Ring, [ns], 1))

    def _add_server(self, zone: Zone, servers: Sequence[tuple[Type, bytes]]) -> None:
        """`ns.<zone>` has the addresses that we listen on, unless a service took the name."""
        if zone.server in self.names:
            return
        self._add_name(zone, zone.server)
        for rtype in (Type.A, Type.AAAA):
            own = dict.fromkeys(rdata for family, rdata in servers if family == rtype)
            if own:
                answers = b"".join(record(QUESTION_NAME, rtype, zone.ttl, rdata) for rdata in own)
                self._add(zone, zone.server, rtype, partial(Ring, [Turn(answers)], len(own)))

    def _add_service(
        self, zone: Zone, service: ServiceSpec, reverse: defaultdict[bytes, dict[bytes, int]] | None
    ) -> None:
        label = encode_name(service.name).lower()[:-1]
        name = label + zone.origin
        ttls: dict[str, int] = dict(service.records)
        _refuse_doubles(f"service {service.name!r}: instance", (spec.id for spec in service.instances))
        self._add_name(zone, name)
        members: list[_Member] = []
        for spec in service.instances:
            rtype, rdata = records.address(spec.ip)
            member = _Member(spec, encode_name(spec.id).lower()[:-1], rtype, rdata)
            members.append(member)
            target = member.label + name
            # Health does not touch these: whoever was just given the name as an SRV target must be able to resolve it.
            ttl = ttls.get("A" if rtype == Type.A else "AAAA", ttls.get("SRV", zone.ttl))
            turn = Turn(record(QUESTION_NAME, rtype, ttl, rdata))
            self._add(zone, target, rtype, partial(Ring, [turn], 1))
            if reverse is not None:
                reverse[records.reverse_name(spec.ip)][target] = ttl
        for rtype_name, ttl in service.records:
            rtype = Type[rtype_name]
            if rtype == Type.SRV:
                self._add_srv(zone, service, name, members, ttl, ttls)
            else:
                own = [member for member in members if member.rtype == rtype]
                self._add(zone, name, rtype, partial(self._address_ring, service, own, ttl), own)

    def _add_srv(
        self, zone: Zone, service: ServiceSpec, name: bytes, members: list[_Member], ttl: int, ttls: dict[str, int]
    ) -> None:
        """At the service's own name as in Cloud Map, and at `_http._tcp.<service>` as in RFC 2782."""
        prefix = encode_name(".".join(service.srv_labels)).lower()[:-1]
        weights = [m.spec.weight if service.policy == "weighted" else SRV_EQUAL_WEIGHT for m in members]
        answers = {
            m.spec.id: record(
                QUESTION_NAME, Type.SRV, ttl, records.srv(SRV_PRIORITY, weight, m.spec.port, m.label + name)
            )
            for m, weight in zip(members, weights, strict=True)
        }
        for owner in (name, prefix + name):
            parent = pointer(HEADER_SIZE + len(owner) - len(name))
            additionals = {
                m.spec.id: record(m.label + parent, m.rtype, ttls.get(m.rtype.name, ttl), m.rdata) for m in members
            }
            make = partial(self._srv_ring, service, answers, additionals)
            self._add(zone, owner, Type.SRV, make, members)

    def _add_reverse(self, name: bytes, targets: dict[bytes, int]) -> None:
        """One address is a zone of its own: its neighbours are not ours, so they are forwarded."""
        if self.zone_of(name) is not None:
            return
        first = self.names[next(iter(targets))].zone
        zone = Zone(name, first.server, first.mailbox, first.ttl, first.negative_ttl, first.serial)
        self.zones[name] = zone
        self._add_apex(zone)
        answered = list(targets.items())[:PTR_LIMIT]
        # One RRset has one TTL (RFC 2181 section 5.2).
        ttl = min(ttl for _, ttl in answered)
        turn = Turn(b"".join(record(QUESTION_NAME, Type.PTR, ttl, records.ptr(target)) for target, _ in answered))
        self._add(zone, name, Type.PTR, partial(Ring, [turn], len(answered)))

    def _add(
        self, zone: Zone, name: bytes, rtype: Type, make: Callable[[], Ring], members: Iterable[_Member] = ()
    ) -> None:
        node = self._add_name(zone, name)
        if node is None:
            return
        record_set = node.records[rtype] = RecordSet(make)
        for key in {member.spec.health_key for member in members} - {None}:
            self._dependants[key].append(record_set)

    def _add_name(self, zone: Zone, name: bytes) -> Node | None:
        """The node of that name, made with all nodes between it and the apex; None if a zone further down has it."""
        if len(name) > 255:
            raise ValueError(f"{name[1:].decode()!r}: with its zone the name is longer than DNS allows")
        if self.zone_of(name) is not zone:
            return None
        for suffix in suffixes(name):
            if suffix not in self.names:
                self.names[suffix] = Node(zone)
            if suffix == zone.origin:
                break
        return self.names[name]

    def _address_ring(self, service: ServiceSpec, members: Sequence[_Member], ttl: int) -> Ring:
        chosen = {spec.id for spec in eligible([member.spec for member in members], self._is_healthy)}
        # Two instances at one address (two ports) are one record with both weights: no RRset has doubles (RFC 2181, 5).
        weights: dict[bytes, int] = {}
        for member in members:
            if member.spec.id in chosen:
                weights[member.rdata] = weights.get(member.rdata, 0) + member.spec.weight
        answers = [record(QUESTION_NAME, members[0].rtype, ttl, rdata) for rdata in weights]
        return _ring(service, list(weights.values()), answers, [b""] * len(answers), 0)

    def _srv_ring(self, service: ServiceSpec, answers: dict[str, bytes], additionals: dict[str, bytes]) -> Ring:
        chosen = eligible(service.instances, self._is_healthy)
        return _ring(
            service,
            [spec.weight for spec in chosen],
            [answers[spec.id] for spec in chosen],
            [additionals[spec.id] for spec in chosen],
            1,
        )


def _refuse_doubles(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in map(str.lower, names):
        if name in seen:
            raise ValueError(f"{what} {name!r} is there twice")
        seen.add(name)


def _ring(
    service: ServiceSpec, weights: list[int], answers: list[bytes], additionals: list[bytes], additionals_each: int
) -> Ring:
    orders = weighted.turns(weights) if service.policy == "weighted" else multivalue.turns(len(weights))
    made = {
        order: Turn(b"".join(answers[i] for i in order), b"".join(additionals[i] for i in order))
        for order in set(orders)
    }
    count = len(orders[0]) if orders else 0
    return Ring([made[order] for order in orders], count, count * additionals_each)
