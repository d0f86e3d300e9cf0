"""Service discovery and DNS: names that do not meet, instances that can be answered and probed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ...proxy.specs import is_unix
from ..exits import is_loopback
from .check_balancing import check_health_check
from .check_dns import check_networks, check_policy, check_records
from .check_dns_serving import check_dns_serving
from .compile import instance_id, zones_of
from .mistakes import Path
from .models import Configuration, Namespace, Service
from .review import Review
from .scalars import seconds_as_text

NAME_LIMIT: Final = 253  # characters of a DNS name written with dots; 255 octets in RFC 1035 section 2.3.4


def check_discovery(review: Review) -> None:
    configuration = review.configuration
    base: Path = ("service_discovery", "namespaces")
    namespaces = configuration.service_discovery.namespaces
    review.unique(_zones(base, configuration), "the name {} is taken")
    for index, namespace in enumerate(namespaces):
        _namespace(review, (*base, index), namespace)
    if namespaces and configuration.dns is None and review.sound(("dns",)):
        review.warn(base, "nobody can ask for these names: there is no dns: section with listen")
    check_networks(review)
    check_dns_serving(review)
    admin = configuration.admin
    if admin and not is_loopback(admin.listen[0]):
        review.warn(("admin", "listen"), "the admin API asks for no password: whoever reaches this address can use it")


def _zones(base: Path, configuration: Configuration) -> Iterator[tuple[Path, str]]:
    """Every name that is a zone, those below the network's domain too; but two that are alike differ in nothing."""
    seen: set[str] = set()
    for index, namespace in enumerate(configuration.service_discovery.namespaces):
        zones = zones_of(namespace, configuration.network)
        for zone in zones[:1] if namespace.name in seen else zones:
            yield (*base, index, "name"), zone
        seen.add(namespace.name)


def _namespace(review: Review, path: Path, namespace: Namespace) -> None:
    review.vpc((*path, "vpc"), namespace.vpc)
    services = (*path, "services")
    review.unique((((*services, i, "name"), s.name) for i, s in enumerate(namespace.services)), "the name {} is taken")
    longest = max(zones_of(namespace, review.configuration.network), key=len)
    for index, service in enumerate(namespace.services):
        _service(review, (*services, index), service)
        _length(review, (*services, index), service, longest)
        check_policy(review, (*services, index), service, namespace)
        _draining(review, (*services, index), service, namespace)
    check_records(review, path, namespace, longest)


def _length(review: Review, path: Path, service: Service, zone: str) -> None:
    """The names below the service are longer than its own: `_http._tcp.api.services`, `i-1.api.services`."""
    longest = max(("_http._tcp", *map(instance_id, service.instances)), key=len)
    excess = len(f"{longest}.{service.name}.{zone}") - NAME_LIMIT
    if excess > 0:
        review.mistake((*path, "name"), f"{longest} in it has a name that is {excess} characters too long for DNS")


def _draining(review: Review, path: Path, service: Service, namespace: Namespace) -> None:
    """Who was told of a target comes for as long as he may keep that."""
    ttls = [namespace.ttl if record.ttl is None else record.ttl for record in service.dns_records]
    longest = max(ttls, default=namespace.ttl)
    for _, balancer in review.load_balancers():
        for group in balancer.target_groups:
            delay = group.deregistration_delay
            if group.name == service.target_group and delay < longest:
                review.warn(
                    (*path, "target_group"),
                    f"{group.name} has a deregistration_delay of {seconds_as_text(delay)}, and clients may go by an"
                    f" answer for {seconds_as_text(longest)}: a target that is removed drains for as long",
                )


def _service(review: Review, path: Path, service: Service) -> None:
    records = (((*path, "dns_records", i, "type"), record.type) for i, record in enumerate(service.dns_records))
    review.unique(records, "the type {} is listed")
    if service.target_group is not None:
        review.reference((*path, "target_group"), service.target_group, review.target_groups, "target group")
        for _, balancer in review.load_balancers():
            for group in balancer.target_groups:
                if group.name == service.target_group and any(
                    target.ip and is_unix(target.ip) for target in group.targets
                ):
                    message = f"{group.name} has targets on unix sockets, which have no address to answer"
                    review.mistake((*path, "target_group"), message)
        for key in ("instances", "health_check"):
            if key in service.model_fields_set:
                review.mistake(
                    (*path, key), f"comes from the target group {service.target_group}: leave one of the two out"
                )
        return
    check = service.health_check
    if check is not None:
        check_health_check(review, (*path, "health_check"), check, check.protocol or "HTTP")
    has_srv = any(record.type in ("SRV", "HTTPS", "SVCB") for record in service.dns_records)
    ids: list[tuple[Path, str]] = []
    for index, instance in enumerate(service.instances):
        place = (*path, "instances", index)
        ids.append(((*place, "ip" if instance.id is None else "id"), instance_id(instance)))
        if instance.port is None and review.sound((*place, "port")):
            if has_srv:
                review.mistake((*place, "port"), "is missing: an SRV record says the port", at_key=True)
            elif check is not None and check.port is None:
                review.mistake((*place, "port"), "is missing: the health check has no port to ask at", at_key=True)
    review.unique(ids, "the instance {} is there")
