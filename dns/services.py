"""A service as it is now: its instances, and the records that its name has, made when asked for.

When the health of an instance changes, or an instance comes or goes, the rings of its service are dropped and nothing
else is touched. Each is made anew by the next who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from . import records
from .choice import Vantage, order_of, seen_by, steps
from .instances import Instance
from .policy.latency import Latencies
from .rings import Dependent, Ring
from .specs import InstanceSpec, ServiceSpec
from .wire import ANSWERS_SIZE, HEADER_SIZE, QUESTION_NAME, Type, encode_name, pointer, record

if TYPE_CHECKING:
    from .zones import Zone

SRV_PRIORITY = 1  # Cloud Map's
SRV_EQUAL_WEIGHT = 1  # multivalue knows no weights; Cloud Map's
SVCB_PRIORITY = 1  # the least that is no alias (RFC 9460 section 2.4.1)


class Service:
    """`revision` moves whenever an instance comes, goes or is another, its health included. It never moves back."""

    __slots__ = ("by_id", "last_healthy", "latencies", "places", "record_sets", "revision", "spec", "ttls")

    def __init__(
        self, spec: ServiceSpec, instances: Iterable[Instance], latencies: Latencies, revision: int = 0
    ) -> None:
        self.spec = spec
        self.revision = revision
        self.latencies = latencies
        self.by_id = {instance.spec.id.lower(): instance for instance in instances}
        self.ttls: dict[str, int] = dict(spec.records)
        self.record_sets: list[ServiceRecords] = []
        self.places: list[ServiceZone] = []
        self.last_healthy: frozenset[str] = frozenset()
        self.note_healthy()

    def of_type(self, rtype: int) -> list[Instance]:
        return [instance for instance in self.by_id.values() if instance.rtype == rtype]

    def chosen(self, instances: list[Instance], vantage: Vantage) -> list[Instance]:
        *_, (_, chosen) = steps(self.spec, instances, vantage, self.latencies, self.last_healthy)
        return chosen

    def target_ttl(self, instance: Instance, default: int) -> int:
        return self.ttls.get(instance.rtype.name, self.ttls.get("SRV", default))

    def weight(self, spec: InstanceSpec) -> int:
        return SRV_EQUAL_WEIGHT if self.spec.policy == "multivalue" else spec.weight

    def changed(self, families: Collection[Type]) -> list[Dependent]:
        """What it says of instances with these types of address is made anew. Returns what is over with that."""
        self.revision += 1
        self.note_healthy()
        touched = [each for each in self.record_sets if each.family is None or each.family in families]
        return [ring for each in touched for ring in each.forget()]

    def note_healthy(self) -> None:
        if self.spec.all_unhealthy == "last_healthy":
            healthy = frozenset(each.spec.id for each in self.by_id.values() if each.healthy)
            self.last_healthy = healthy or self.last_healthy


class ServiceZone:
    """A service under one of the names of its namespace."""

    __slots__ = ("name", "service", "zone")

    def __init__(self, service: Service, zone: Zone) -> None:
        self.service = service
        self.zone = zone
        self.name = encode_name(service.spec.name).lower()[:-1] + zone.origin


class ServiceRecords:
    """The records of one name and type: a ring for each kind of vantage that makes a difference."""

    __slots__ = ("_make", "_rings", "family", "service")

    def __init__(self, service: Service, family: Type | None, make: Callable[[Vantage], Ring]) -> None:
        self.service = service
        self.family = family  # the instances with this type of address; None: all
        self._make = make
        self._rings: dict[Vantage, Ring] = {}

    def ring(self, vantage: Vantage) -> Ring:
        ring = self._rings.get(vantage)
        if ring is None:
            alike = seen_by(self.service.spec, vantage)
            ring = self._rings[vantage] = self._rings.get(alike) or self._rings.setdefault(alike, self._make(alike))
        return ring

    def forget(self) -> Iterable[Ring]:
        rings, self._rings = self._rings, {}
        return set(rings.values())


def address_ring(service: Service, rtype: Type, ttl: int, vantage: Vantage) -> Ring:
    # Two instances at one address (two ports) are one record with both weights: no RRset has doubles (RFC 2181, 5).
    weights: dict[bytes, int] = {}
    for instance in service.chosen(service.of_type(rtype), vantage):
        weights[instance.rdata] = weights.get(instance.rdata, 0) + instance.spec.weight
    answers = [record(QUESTION_NAME, rtype, ttl, rdata) for rdata in weights]
    return Ring(answers, (), order_of(service.spec, list(weights.values()), _fitting(answers)))


def target_ring(place: ServiceZone, owner: bytes, rtype: Type, ttl: int, vantage: Vantage) -> Ring:
    """Records that name instances: SRV, HTTPS and SVCB. The addresses of those come along."""
    service = place.service
    # Who has registered without a port is there by address alone: no SRV record says port 0.
    chosen = service.chosen([each for each in service.by_id.values() if each.spec.port], vantage)
    rdata, ttls = _srv if rtype == Type.SRV else _svcb, service.ttls
    parent = pointer(HEADER_SIZE + len(owner) - len(place.name))
    answers = [record(QUESTION_NAME, rtype, ttl, rdata(service, each, place.name)) for each in chosen]
    return Ring(
        answers,
        [record(each.label + parent, each.rtype, ttls.get(each.rtype.name, ttl), each.rdata) for each in chosen],
        order_of(service.spec, [each.spec.weight for each in chosen], _fitting(answers)),
    )


def _fitting(answers: list[bytes]) -> int:
    return max(1, ANSWERS_SIZE // max(map(len, answers), default=1))


def _srv(service: Service, instance: Instance, name: bytes) -> bytes:
    weight = service.weight(instance.spec)
    return records.srv(SRV_PRIORITY, weight, instance.spec.port, instance.label + name)


def _svcb(service: Service, instance: Instance, name: bytes) -> bytes:
    return records.svcb(SVCB_PRIORITY, instance.label + name, service.spec.alpn, instance.spec.port)
