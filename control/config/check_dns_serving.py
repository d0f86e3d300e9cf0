"""The DNS server's listeners, and whom it asks: nobody asks himself, and no zone or address is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from ...proxy.tls import POLICIES
from ..exits import host_port
from .mistakes import Path, closest
from .models import DnsSection
from .models_dns_serving import DnsOverHttps, DnsOverTls
from .review import Review
from .scalars import Endpoint


def check_dns_serving(review: Review) -> None:
    dns = review.configuration.dns
    if dns is None:
        return
    base: Path = ("dns",)
    for place, resolver in _resolvers(base, dns):
        if any(_is_at(resolver, listen) for listen in dns.listen):
            review.mistake(place, f"{host_port(*resolver)} is this server itself: name another one")
    zones = (((*base, "forward", index, "zone"), forward.zone) for index, forward in enumerate(dns.forward))
    review.unique(zones, "the zone {} is forwarded")
    for place, section in secure_sections(base, dns):
        _secure(review, place, section)
    if dns.cache.min_ttl > dns.cache.max_ttl:
        review.mistake((*base, "cache", "min_ttl"), "is more than max_ttl")


def secure_sections(base: Path, dns: DnsSection) -> Iterator[tuple[Path, DnsOverTls | DnsOverHttps]]:
    if dns.tls is not None:
        yield (*base, "tls"), dns.tls
    if dns.https is not None:
        yield (*base, "https"), dns.https


def _secure(review: Review, path: Path, section: DnsOverTls | DnsOverHttps) -> None:
    if section.ssl_policy not in POLICIES:
        meant = closest(section.ssl_policy, POLICIES)
        advice = f'did you mean "{meant}"?' if meant else "known are TLS-1-2, TLS-1-3 and the ELBSecurityPolicy names"
        review.mistake((*path, "ssl_policy"), f'no policy is named "{section.ssl_policy}", {advice}')
    review.reference((*path, "certificate"), section.certificate, review.certificates, "certificate")


def _resolvers(base: Path, dns: DnsSection) -> Iterator[tuple[Path, Endpoint]]:
    for index, resolver in enumerate(dns.resolvers):
        yield (*base, "resolvers", index), resolver
    for zone, forward in enumerate(dns.forward):
        for index, resolver in enumerate(forward.resolvers):
            yield (*base, "forward", zone, "resolvers", index), resolver


def _is_at(resolver: Endpoint, listen: Endpoint) -> bool:
    if resolver[1] != listen[1]:
        return False
    return resolver[0] == listen[0] or (ip_address(listen[0]).is_unspecified and ip_address(resolver[0]).is_loopback)
