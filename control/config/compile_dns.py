"""From the configuration to what the DNS plane is told of networks, regions and records that were written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from ...dns.specs import NamespaceSpec, NetworkSpec, RecordSpec
from ...proxy.specs import TargetGroupSpec
from . import models
from .models_dns import DnsNetwork


class Place(NamedTuple):
    zone: str = ""
    region: str = ""


def place_of(ip: str, network: models.NetworkSection | None) -> Place:
    """Where an address is, as far as the network says."""
    address = ip_address(ip)
    if network is None or address not in network.vpc.cidr:
        return Place()
    zones = (subnet.zone for subnet in network.subnets if address in subnet.cidr)
    return Place(next(zones, None) or "", network.vpc.region or "")


def networks(configuration: models.Configuration) -> tuple[NetworkSpec, ...]:
    """Those of `dns.networks`, and the VPC and its subnets: what is said of the VPC holds in its subnets."""
    said = {each.name: each for each in configuration.dns.networks} if configuration.dns else {}
    network, found = configuration.network, list[NetworkSpec]()
    if network is not None:
        whole = said.pop(network.vpc.name, None)
        region = network.vpc.region or ""
        found.append(_network(network.vpc.name, (str(network.vpc.cidr),), "", region, (whole,)))
        for subnet in network.subnets:
            entries = (said.pop(subnet.name, None), whole)
            found.append(_network(subnet.name, (str(subnet.cidr),), subnet.zone or "", region, entries))
    found += (_network(each.name, (), "", "", (each,)) for each in said.values())
    return tuple(found)


def _network(
    name: str, cidrs: tuple[str, ...], zone: str, region: str, entries: tuple[DnsNetwork | None, ...]
) -> NetworkSpec:
    """`entries` from the one that counts most; the first has its own addresses, if it says some."""
    said = [entry for entry in entries if entry is not None]
    if entries[0] is not None and entries[0].cidrs is not None:
        cidrs = tuple(map(str, entries[0].cidrs))
    return NetworkSpec(
        name,
        cidrs,
        next((entry.zone for entry in said if entry.zone), zone),
        next((entry.region for entry in said if entry.region), region),
        next((entry.location for entry in said if entry.location), ""),
    )


def seen_by(namespace: models.Namespace, configuration: models.Configuration) -> tuple[str, ...]:
    """The networks that list the namespace; with the VPC its subnets do too."""
    listing = [
        each.name
        for each in (configuration.dns.networks if configuration.dns else ())
        if namespace.name in each.namespaces
    ]
    network = configuration.network
    if network is not None and network.vpc.name in listing:
        listing += (subnet.name for subnet in network.subnets)
    return tuple(dict.fromkeys(listing))


def static_records(namespace: models.Namespace) -> tuple[RecordSpec, ...]:
    return tuple(
        RecordSpec(each.name, each.type, int(namespace.ttl if each.ttl is None else each.ttl), each.value)
        for each in namespace.records
    )


def outlasting_answers(
    groups: Iterable[TargetGroupSpec], sections: Iterable[models.Namespace], namespaces: Iterable[NamespaceSpec]
) -> tuple[TargetGroupSpec, ...]:
    """A target that is removed drains for at least as long as its address may be remembered by who was told it."""
    ttls: dict[str | None, int] = {}
    for section, namespace in zip(sections, namespaces, strict=True):
        for service, spec in zip(section.services, namespace.services, strict=True):
            longest = max((ttl for _, ttl in spec.records), default=0)
            ttls[service.target_group] = max(longest, ttls.get(service.target_group, 0))
    return tuple(
        replace(group, deregistration_delay=max(group.deregistration_delay, ttls.get(group.name, 0.0)))
        for group in groups
    )


def recursion(dns: models.DnsSection | None) -> tuple[str, ...] | None:
    return None if dns is None or dns.recursion is None else tuple(map(str, dns.recursion))


def latencies(dns: models.DnsSection | None) -> tuple[tuple[str, str, float], ...]:
    return tuple((each.region, each.to, each.latency) for each in (dns.latencies if dns else ()))
