"""The proxy's contexts of TLS for the DNS plane, which knows nothing of the proxy."""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..proxy.tls import server_context

if TYPE_CHECKING:
    from ..dns.transport_specs import SecureProtocol
    from ..proxy.specs import CertificateSpec

# RFC 7858 section 3.2 needs none; clients that offer `dot` (RFC 7858, registered by RFC 8310) want to hear it.
ALPN: Final[dict[SecureProtocol, tuple[str, ...]]] = {"TLS": ("dot",), "HTTPS": ("h2", "http/1.1")}


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    certificates: tuple[CertificateSpec, ...]
    policy: str


def context_for(identity: Hashable, protocol: SecureProtocol) -> ssl.SSLContext:
    assert isinstance(identity, TlsIdentity)
    return server_context(identity.certificates, identity.policy, ALPN[protocol])
