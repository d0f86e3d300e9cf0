"""What holds between networks of clients, records that were written down, and the names of services."""

from __future__ import annotations

from collections.abc import Iterator

from ...dns import static
from ...dns.records import STRING_LIMIT
from ...dns.specs import RecordSpec
from ...dns.wire import ANSWERS_SIZE, NAME_LIMIT, encode_name
from .mistakes import Path, hint
from .models import Namespace, Service
from .models_dns import StaticRecord
from .review import Review


def check_networks(review: Review) -> None:
    """`dns.networks` has addresses, and knows the namespaces it lists."""
    dns, network = review.configuration.dns, review.configuration.network
    if dns is None:
        return
    base: Path = ("dns", "networks")
    review.unique((((*base, i, "name"), each.name) for i, each in enumerate(dns.networks)), "the network {} is there")
    with_addresses = {network.vpc.name, *(subnet.name for subnet in network.subnets)} if network else set[str]()
    known = {namespace.name for namespace in review.configuration.service_discovery.namespaces}
    for index, each in enumerate(dns.networks):
        if (
            each.cidrs is None
            and each.name not in with_addresses
            and review.sound(("network",), (*base, index, "cidrs"))
        ):
            message = f"no VPC and no subnet is named {each.name}: say its addresses as cidrs"
            review.mistake((*base, index, "name"), message)
        for number, name in enumerate(each.namespaces):
            if name not in known and review.sound(("service_discovery",)):
                advice = hint(name, sorted(known), "namespace")
                review.mistake((*base, index, "namespaces", number), f'no namespace is named "{name}", {advice}')


def check_records(review: Review, path: Path, namespace: Namespace, zone: str) -> None:
    """Each value is one of its type, and a CNAME stands alone at its name."""
    origin = encode_name(zone).lower()
    of_services = {service.name: set(_types(service)) for service in namespace.services}
    there: dict[str, set[str]] = {}
    for index, record in enumerate(namespace.records):
        place = (*path, "records", index)
        if not _name(review, place, record, origin):
            continue
        _values(review, place, record, origin)
        name = record.name.lower()
        types = there.setdefault(name, of_services.get(name, set[str]()))
        alone = "a CNAME stands alone at its name"
        if record.type in types:
            review.mistake((*place, "type"), f"{record.name} has {record.type} records already: list all values in one")
        elif types and "CNAME" in {*types, record.type}:
            review.mistake((*place, "type"), f"{record.name} has {', '.join(sorted(types))} records, and {alone}")
        elif record.type == "CNAME" and len(record.value) > 1:
            review.mistake((*place, "value"), f"has {len(record.value)} names, and {alone}")
        types.add(record.type)


def check_policy(review: Review, path: Path, service: Service, namespace: Namespace) -> None:
    """What a policy goes by has been said of the instances."""
    policy = service.routing_policy or namespace.routing_policy
    if policy == "failover" and service.instances and all(each.failover == "secondary" for each in service.instances):
        review.warn((*path, "instances"), "all are secondary, so nothing ever fails over: make some primary")
    if policy == "geolocation" and service.instances and all(each.location for each in service.instances):
        review.warn((*path, "instances"), "all have a location, so clients elsewhere get nothing: leave it out of some")
    dns = review.configuration.dns
    if policy == "latency" and (dns is None or not dns.latencies) and review.sound(("dns",)):
        review.warn((*path, "name"), "dns.latencies says nothing: clients get their own region, where they have one")
    for index, instance in enumerate(service.instances):
        for key, value in instance.attributes.items():
            if len(f"{key}={value}".encode()) > STRING_LIMIT:
                message = f"is longer than the {STRING_LIMIT} octets of a string in TXT: TXT will not have it"
                review.warn((*path, "instances", index, "attributes", key), message)


def _types(service: Service) -> Iterator[str]:
    """What stands at its name. Left out it is by the instances, and there is something in any case."""
    yield from (record.type for record in service.dns_records)
    if not service.dns_records:
        yield from ("A", "AAAA", "SRV")


def _name(review: Review, place: Path, record: StaticRecord, origin: bytes) -> bool:
    try:
        wire = static.owner(record.name, origin)
    except ValueError as error:
        review.mistake((*place, "name"), str(error))
        return False
    if len(wire) > NAME_LIMIT:
        review.mistake((*place, "name"), f"is {len(wire) - NAME_LIMIT} characters too long for DNS")
        return False
    return True


def _values(review: Review, place: Path, record: StaticRecord, origin: bytes) -> None:
    rdata: set[bytes] = set()
    for number, value in enumerate(record.value):
        try:
            rdata.add(static.rdata(RecordSpec(record.name, record.type, 0, (value,)), value, origin)[1])
        except ValueError as error:
            review.mistake((*place, "value", number), str(error).partition(": ")[2])
    if (size := static.size(rdata)) > ANSWERS_SIZE:
        review.mistake((*place, "value"), f"is {size} octets in all, and an answer holds {ANSWERS_SIZE}")
