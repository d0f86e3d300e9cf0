"""Named security policies, and which certificate a client is shown. This file alone turns PEM into TLS contexts.

A policy is a name of AWS's and means what it means there, as far as the OpenSSL below Python can. A server context is
built once per configuration and never changed: a new certificate is a new context, for new connections.
"""

from __future__ import annotations

import ssl
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .client_certificates import ask_clients
from .pem_file import as_file
from .server_names import HostGuard
from .specs import CertificateSpec, ClientCertificatesSpec, TargetTlsSpec

PREFIX = "ELBSecurityPolicy-"

# OpenSSL's default is 2 tickets for each TLS 1.3 handshake, for clients that open connections in parallel; each costs
# a record and an encryption on every new connection. Browsers reuse one.
SESSION_TICKETS = 1

# A to F are the groups that AWS's policies are made of, here in the order in which AWS's servers prefer the ciphers:
# ephemeral keys before plain RSA, in each 128 bit before 256, AEAD before CBC. B, C and E are CBC, D and E give no
# forward secrecy. F is in the table because one policy has it; Debian's OpenSSL is built without it and leaves it out.
_CIPHERS = (
    ("A", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("A", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("B", "ECDHE-ECDSA-AES128-SHA256"),
    ("B", "ECDHE-RSA-AES128-SHA256"),
    ("C", "ECDHE-ECDSA-AES128-SHA"),
    ("C", "ECDHE-RSA-AES128-SHA"),
    ("A", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("A", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("B", "ECDHE-ECDSA-AES256-SHA384"),
    ("B", "ECDHE-RSA-AES256-SHA384"),
    ("C", "ECDHE-ECDSA-AES256-SHA"),
    ("C", "ECDHE-RSA-AES256-SHA"),
    ("D", "AES128-GCM-SHA256"),
    ("D", "AES128-SHA256"),
    ("E", "AES128-SHA"),
    ("D", "AES256-GCM-SHA384"),
    ("D", "AES256-SHA256"),
    ("E", "AES256-SHA"),
    ("F", "DES-CBC3-SHA"),
)

_TLS10, _TLS11, _TLS12, _TLS13 = (
    ssl.TLSVersion.TLSv1,
    ssl.TLSVersion.TLSv1_1,
    ssl.TLSVersion.TLSv1_2,
    ssl.TLSVersion.TLSv1_3,
)

# AWS's name without the prefix, lowest and highest version, groups of ciphers for TLS 1.2 and below. The suites of
# TLS 1.3 are OpenSSL's three, which are AWS's three; Python's ssl can neither choose nor order them.
_TABLE = (
    ("2015-05", _TLS10, _TLS12, "ABCDE"),
    ("2016-08", _TLS10, _TLS12, "ABCDE"),
    ("TLS-1-0-2015-04", _TLS10, _TLS12, "ABCDEF"),
    ("TLS-1-1-2017-01", _TLS11, _TLS12, "ABCDE"),
    ("TLS-1-2-2017-01", _TLS12, _TLS12, "ABD"),
    ("TLS-1-2-Ext-2018-06", _TLS12, _TLS12, "ABCDE"),
    ("FS-2018-06", _TLS10, _TLS12, "ABC"),
    ("FS-1-1-2019-08", _TLS11, _TLS12, "ABC"),
    ("FS-1-2-2019-08", _TLS12, _TLS12, "ABC"),
    ("FS-1-2-Res-2019-08", _TLS12, _TLS12, "AB"),
    ("FS-1-2-Res-2020-10", _TLS12, _TLS12, "A"),
    ("TLS13-1-3-2021-06", _TLS13, _TLS13, ""),
    ("TLS13-1-2-Res-2021-06", _TLS12, _TLS13, "A"),
    ("TLS13-1-2-2021-06", _TLS12, _TLS13, "AB"),
    ("TLS13-1-2-Ext1-2021-06", _TLS12, _TLS13, "ABD"),
    ("TLS13-1-2-Ext2-2021-06", _TLS12, _TLS13, "ABCDE"),
    ("TLS13-1-1-2021-06", _TLS11, _TLS13, "ABCDE"),
    ("TLS13-1-0-2021-06", _TLS10, _TLS13, "ABCDE"),
    # The twins with hybrid ML-KEM key exchange. The groups come from OpenSSL's defaults, which offer X25519MLKEM768
    # from 3.5 on; with an older OpenSSL these are their 2021 namesakes.
    ("TLS13-1-3-PQ-2025-09", _TLS13, _TLS13, ""),
    ("TLS13-1-2-Res-PQ-2025-09", _TLS12, _TLS13, "A"),
    ("TLS13-1-2-PQ-2025-09", _TLS12, _TLS13, "AB"),
    ("TLS13-1-2-Ext1-PQ-2025-09", _TLS12, _TLS13, "ABD"),
    ("TLS13-1-2-Ext2-PQ-2025-09", _TLS12, _TLS13, "ABCDE"),
    ("TLS13-1-0-PQ-2025-09", _TLS10, _TLS13, "ABCDE"),
)

# "At least this version", in the words people use when they do not know AWS's names; not names of AWS's.
_SHORT = {"TLS-1-2": "TLS13-1-2-Res-2021-06", "TLS-1-3": "TLS13-1-3-2021-06"}


@dataclass(frozen=True, slots=True)
class Policy:
    """`ciphers` are OpenSSL's names in the server's order, for TLS 1.2 and below; TLS 1.3 has suites of its own."""

    name: str
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion
    ciphers: tuple[str, ...]

    def apply(self, context: ssl.SSLContext) -> None:
        with warnings.catch_warnings():
            # Python warns of TLS 1.0 and 1.1 (RFC 8996). Who names such a policy wants them, and has read its name.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = self.minimum
            context.maximum_version = self.maximum
        if self.ciphers:
            # TLS 1.0 and 1.1 sign with SHA-1 and MD5, which OpenSSL 3 does at security level 0 alone (Debian's is 2).
            # Such a listener also accepts keys and certificates that are as weak; that is the price of its policy.
            level = ["@SECLEVEL=0"] if self.minimum < _TLS12 else []
            context.set_ciphers(":".join([*self.ciphers, *level]))


def _policies() -> dict[str, Policy]:
    found: dict[str, Policy] = {}
    for name, minimum, maximum, groups in _TABLE:
        ciphers = tuple(cipher for group, cipher in _CIPHERS if group in groups)
        found[name] = found[PREFIX + name] = Policy(PREFIX + name, minimum, maximum, ciphers)
    return found | {short: found[name] for short, name in _SHORT.items()}


# By AWS's name, by the same without its prefix, and by the two short names. `Policy.name` is always AWS's.
POLICIES: Mapping[str, Policy] = _policies()

# What is spoken to targets: as wide as ALB's fixed policy in ciphers, but from TLS 1.2 on (RFC 8996).
_TARGET_POLICY = POLICIES["TLS13-1-2-Ext2-2021-06"]

_Algorithm = Literal["ECDSA", "RSA"]


@dataclass(frozen=True, slots=True)
class _Certificate:
    spec: CertificateSpec
    algorithm: _Algorithm
    key_bits: int
    not_after: datetime
    names: frozenset[str]  # dNSNames in lower case, `*.example.org` among them

    @property
    def rank(self) -> tuple[int, datetime]:
        """Among certificates of one algorithm ALB takes the longer key, then the one that is valid for longer."""
        return self.key_bits, self.not_after


# Who is told why the handshake that is under way failed: the client mostly leaves before the loop can tell.
ON_FAILURE: ContextVar[Callable[[ssl.SSLError], None] | None] = ContextVar("ON_FAILURE", default=None)


class _TellingWhy(ssl.SSLObject):
    """A server's side that tells the client why its handshake failed, before the connection is closed.

    Event loops close as soon as a handshake raises, and what OpenSSL has to say then (`protocol version`, `handshake
    failure`) stays in its buffer. Asking for more first makes them send it. Then the listener says that it was all,
    and the client leaves; one that does not meets the failure with its next byte, or the handshake's timeout.
    """

    _failure: ssl.SSLError | None = None
    server_name: str | None = None  # what the client asked for

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as failure:
            self._failure = failure
            tell = ON_FAILURE.get()
            if tell is not None:
                tell(failure)
            raise ssl.SSLWantReadError from failure


class ServerContext(ssl.SSLContext):
    """A context that remembers what it shows, so that the access log can say it, and what it asks of clients."""

    shows: Mapping[_Algorithm, str]
    guards: Mapping[_Algorithm, HostGuard]  # empty where all are shown the same
    client_certificates: ClientCertificatesSpec | None


def server_context(
    certificates: tuple[CertificateSpec, ...],
    policy_name: str,
    alpn: tuple[str, ...] = ("http/1.1",),
    client_certificates: ClientCertificatesSpec | None = None,
) -> ServerContext:
    """The context of a listener. ValueError, in a sentence, for a policy or certificate that cannot be used.

    The first certificate is shown to a client that names no server, or one that no certificate is for. Others are
    found by their dNSNames; common names are not looked at (RFC 9525 section 2). Where several are for the same
    name, the client gets the ECDSA one if it can and the RSA one if it must.
    """
    policy = POLICIES.get(policy_name)
    if policy is None:
        raise ValueError(f"there is no TLS policy {policy_name!r}")
    if not certificates:
        raise ValueError("a TLS listener needs at least one certificate")
    read = [_read(spec) for spec in certificates]

    # One context can hold one certificate of each algorithm, and OpenSSL then chooses by what the client can.
    contexts: dict[tuple[_Certificate, ...], ServerContext] = {}
    by_name: dict[str, ServerContext] = {}
    default = contexts[(read[0],)] = _context((read[0],), policy, alpn)
    for name, best in _best_by_name(read).items():
        if best not in contexts:
            contexts[best] = _context(best, policy, alpn)
        by_name[name] = contexts[best]
    default.sni_callback = _sni_callback(by_name if len(contexts) > 1 else {})
    every = _encoded(by_name)
    for shown, context in contexts.items():
        context.client_certificates = client_certificates
        if client_certificates is not None:
            ask_clients(context, client_certificates)
        if len(contexts) > 1:
            context.guards = {
                each.algorithm: HostGuard(frozenset(map(str.encode, each.names)), every) for each in shown
            }
    return default


def _encoded(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.encode() for name in names)


def client_context(verify: bool = False, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """For TLS to targets. ALB encrypts to its targets but never asks who they are; so do checks unless told to.

    With `verify`, the system's certificate authorities decide, and `server_hostname` must be given when connecting.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _TARGET_POLICY.apply(context)
    if verify:
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@lru_cache(64)  # most groups share one; what is kept over a reload keeps OpenSSL's parsed authorities, some 1 MB
def target_context(spec: TargetTlsSpec, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """What a target group asks of its targets. ValueError says which file is no good."""
    context = client_context(verify=spec.verify and spec.ca_pem is None, alpn=alpn)
    if spec.verify and spec.ca_pem is not None:
        try:
            context.load_verify_locations(cadata=spec.ca_pem.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError) as exc:
            raise ValueError("the certificate authorities of a target group are not certificates in PEM") from exc
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = True
    if spec.certificate is not None:
        _load(context, spec.certificate, "targets")
    return context


def chosen_certificate(connection: ssl.SSLObject | ssl.SSLSocket) -> str | None:
    """The name of the certificate that a finished server handshake showed; None if the context is not one of ours.

    Python's ssl does not tell, but the rest does. Where a context holds both algorithms, the cipher names the one
    used up to TLS 1.2. With TLS 1.3 it is ECDSA, which every client of it must accept (RFC 8446 section 9.1).
    """
    context = connection.context
    return context.shows[_shown(context, connection)] if isinstance(context, ServerContext) else None


def host_guard(connection: ssl.SSLObject) -> HostGuard | None:
    """What requests over this connection are to be judged by; None where any host may be asked for.

    A client that named no server was shown the default certificate and is not in contradiction with itself.
    """
    context = connection.context
    if asked_name(connection) is None or not isinstance(context, ServerContext) or not context.guards:
        return None
    return context.guards[_shown(context, connection)]


def asked_name(connection: ssl.SSLObject) -> str | None:
    """The server name that a client sent (SNI)."""
    return connection.server_name if isinstance(connection, _TellingWhy) else None


def _shown(context: ServerContext, connection: ssl.SSLObject | ssl.SSLSocket) -> _Algorithm:
    shows = context.shows
    cipher = connection.cipher()
    if len(shows) == 1 or cipher is None:
        return next(iter(shows))
    name, protocol, _ = cipher
    return "ECDSA" if protocol == "TLSv1.3" or "ECDSA" in name else "RSA"


def _sni_callback(
    by_name: Mapping[str, ServerContext],
) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def choose(connection: ssl.SSLObject, server_name: str | None, _context: ssl.SSLContext) -> None:
        if server_name is None:
            return
        if isinstance(connection, _TellingWhy):
            connection.server_name = server_name
        name = server_name.lower()
        # A wildcard stands for exactly one label, the leftmost (RFC 9525 section 6.3).
        found = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if found is not None:
            connection.context = found

    return choose


def _best_by_name(certificates: list[_Certificate]) -> dict[str, tuple[_Certificate, ...]]:
    """For every name, the best ECDSA certificate and the best RSA one, as far as there are any."""
    candidates: defaultdict[str, dict[_Algorithm, _Certificate]] = defaultdict(dict)
    for certificate in certificates:
        for name in certificate.names:
            rival = candidates[name].get(certificate.algorithm)
            if rival is None or certificate.rank > rival.rank:
                candidates[name][certificate.algorithm] = certificate
    return {name: tuple(best[key] for key in sorted(best)) for name, best in candidates.items()}


def _read(spec: CertificateSpec) -> _Certificate:
    """What matters of a certificate, checked against its key, with sentences where OpenSSL has only numbers."""
    who = f"certificate {spec.name!r}"
    try:
        certificate = x509.load_pem_x509_certificates(spec.chain_pem)[0]
        public_key = certificate.public_key()
        names = _dns_names(certificate)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError(f"{who}: its chain is not PEM that holds certificates") from exc
    try:
        private_key = load_pem_private_key(spec.key_pem, password=None)
    except TypeError as exc:
        raise ValueError(f"{who}: its private key is encrypted, and there is nobody to ask for the passphrase") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError(f"{who}: its private key is not a key in PEM") from exc
    encoding, form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private_key.public_key().public_bytes(encoding, form) != public_key.public_bytes(encoding, form):
        raise ValueError(
            f"{who}: its private key belongs to another certificate (the first of a chain is the server's)"
        )
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        algorithm: _Algorithm = "ECDSA"
    elif isinstance(public_key, rsa.RSAPublicKey):
        algorithm = "RSA"
    else:
        raise ValueError(f"{who}: its key is neither RSA nor ECDSA, the two that every client can verify")
    return _Certificate(spec, algorithm, public_key.key_size, certificate.not_valid_after_utc, names)


def certificates_for(certificates: tuple[CertificateSpec, ...], server_name: str) -> tuple[str, ...]:
    """The names of the certificates of which a client that asks for `server_name` is shown one, ECDSA first."""
    found, _ = _found_for(certificates, server_name)
    return tuple(certificate.spec.name for certificate in found)


def guard_for(certificates: tuple[CertificateSpec, ...], server_name: str) -> HostGuard | None:
    """By what the requests of such a client are judged, if it knows ECDSA."""
    found, best = _found_for(certificates, server_name)
    if len({found, *best.values()}) == 1:
        return None
    return HostGuard(_encoded(found[0].names), _encoded(best))


def _found_for(
    certificates: tuple[CertificateSpec, ...], server_name: str
) -> tuple[tuple[_Certificate, ...], dict[str, tuple[_Certificate, ...]]]:
    """What is shown to such a client, and to all others by name."""
    read = [_read(spec) for spec in certificates]
    best = _best_by_name(read)
    name = server_name.lower()
    return best.get(name) or best.get("*." + name.partition(".")[2]) or (read[0],), best


def certificate_names(spec: CertificateSpec) -> frozenset[str]:
    """All that it is for: names in lower case, `*.example.org` among them, and addresses."""
    certificate = x509.load_pem_x509_certificates(spec.chain_pem)[0]
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = map(str, extension.value.get_values_for_type(x509.IPAddress))
    return _dns_names(certificate).union(addresses)


def _dns_names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def _context(certificates: tuple[_Certificate, ...], policy: Policy, alpn: tuple[str, ...]) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _TellingWhy
    policy.apply(context)
    # Renegotiation lets a client make us work for free; compression tells secrets by length (CRIME).
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = SESSION_TICKETS
    if alpn:
        context.set_alpn_protocols(list(alpn))
    for certificate in certificates:
        _load(context, certificate.spec, policy.name)
    context.shows = {certificate.algorithm: certificate.spec.name for certificate in certificates}
    context.guards = {}
    return context


def _load(context: ssl.SSLContext, certificate: CertificateSpec, where: str) -> None:
    with as_file(certificate.chain_pem) as chain, as_file(certificate.key_pem) as key:
        try:
            context.load_cert_chain(chain, key)
        except ssl.SSLError as exc:
            reason = (exc.reason or str(exc)).replace("_", " ").lower()
            raise ValueError(f"certificate {certificate.name!r} cannot be used with {where}: {reason}") from exc
