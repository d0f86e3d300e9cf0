"""How the DNS server is asked and whom it asks, as its plane wants it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from ...dns.cookies import SECRET_SIZE
from ...dns.forwarding_specs import CacheSpec, ForwardingSpec, ForwardZoneSpec
from ...dns.transport_specs import QueryLogSpec, ResponseRateSpec, SecureListenerSpec, TransportSpec
from ...proxy.specs import CertificateSpec
from ..dns_tls import TlsIdentity
from .models_dns_serving import DnsServing


def compile_forwarding(dns: DnsServing) -> ForwardingSpec:
    cache = dns.cache
    return ForwardingSpec(
        zones=tuple(ForwardZoneSpec(forward.zone, forward.resolvers) for forward in dns.forward),
        cache=CacheSpec(
            capacity=cache.memory,
            min_ttl=int(cache.min_ttl),
            max_ttl=int(cache.max_ttl),
            max_negative_ttl=int(cache.max_negative_ttl),
            stale=int(cache.stale),
            prefetch=cache.prefetch,
        ),
        mixed_case=dns.mixed_case,
        private_reverse=dns.private_reverse_zones == "forward",
    )


def compile_transport(
    dns: DnsServing,
    certificates: Mapping[str, CertificateSpec],
    resolve: Callable[[str], Path],
    key: bytes,
) -> TransportSpec:
    """`key` is this installation's own; what cookies are made with comes of it."""
    rate, log = dns.response_rate_limit, dns.query_log
    return TransportSpec(
        secure=tuple(_secure(dns, certificates)),
        allow=tuple(str(cidr) for cidr in dns.allow),
        transfer_to=tuple(str(cidr) for cidr in dns.transfer_to),
        cookie_secret=cookie_secret(key) if dns.cookies and key else b"",
        rate=ResponseRateSpec(rate.responses_per_second, rate.slip, rate.ipv4_prefix, rate.ipv6_prefix)
        if rate
        else None,
        query_log=QueryLogSpec(str(resolve(log.file)), 1 / log.sample) if log else None,
        top_names=dns.top_names,
    )


def _secure(dns: DnsServing, certificates: Mapping[str, CertificateSpec]) -> list[SecureListenerSpec]:
    found: list[SecureListenerSpec] = []
    if dns.tls is not None:
        identity = TlsIdentity((certificates[dns.tls.certificate],), dns.tls.ssl_policy)
        found += [SecureListenerSpec(*listen, "TLS", identity) for listen in dns.tls.listen]
    if dns.https is not None:
        identity = TlsIdentity((certificates[dns.https.certificate],), dns.https.ssl_policy)
        found += [SecureListenerSpec(*listen, "HTTPS", identity, dns.https.path) for listen in dns.https.listen]
    return found


def cookie_secret(key: bytes) -> bytes:
    return hashlib.blake2b(b"DNS cookies", key=key, digest_size=SECRET_SIZE).digest()
