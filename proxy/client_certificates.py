"""Certificates of clients: asked for in the handshake, and told to targets in ALB's X-Amzn-Mtls-* fields.

Whoever is admitted was verified by OpenSSL against the authorities that the listener names; in passthrough nobody
verifies, and the target is told what the client showed. All of it is done once per connection.
"""

from __future__ import annotations

import ctypes
import ssl
from functools import lru_cache
from typing import Literal, NamedTuple
from urllib.parse import quote

from cryptography import x509

from .openssl import below
from .pem_file import as_file
from .specs import ClientCertificatesSpec

# What is told in one field. A chain of three is some 8 KiB; most servers take 8 to 16 KiB of head.
MAX_FORWARDED = 16 * 1024

# Reasons of a refused client. X509_V_ERR_* that people can do something about, the rest is `untrusted`.
_REASONS = {
    9: "client_certificate_not_yet_valid",
    10: "client_certificate_expired",
    23: "client_certificate_revoked",
    3: "client_certificate_without_crl",  # its issuer has none in the file
    11: "client_certificate_crl_not_yet_valid",
    12: "client_certificate_crl_expired",
    26: "client_certificate_unsuitable",  # extended key usage without clientAuth
}


class Identity(NamedTuple):
    """Who a client is by the certificate that it showed, as text that is printable ASCII."""

    verification: Literal["", "verified", "unverified"] = ""
    subject: str = ""
    issuer: str = ""
    serial: str = ""


NOBODY = Identity()


def ask_clients(context: ssl.SSLContext, spec: ClientCertificatesSpec) -> None:
    """Let a server's context ask its clients for certificates. ValueError where that cannot be."""
    if spec.mode == "passthrough":
        accept_any_certificate(context)
        # A ticket keeps the client's certificate but not its chain, so what targets are told would change.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        return
    try:
        context.load_verify_locations(cadata=spec.authorities_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as exc:
        raise ValueError("the authorities of client certificates are not certificates in PEM") from exc
    if spec.revocations_pem:
        with as_file(spec.revocations_pem) as path:  # `cadata` takes certificates alone
            try:
                context.load_verify_locations(path)
            except ssl.SSLError as exc:
                raise ValueError("the revocation lists of client certificates are not CRLs in PEM") from exc
        # Of the client's own certificate. A list for each authority above it is more than most publish.
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    # Whoever the file names is trusted, root or not (the default from Python 3.13 on).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED if spec.mode == "required" else ssl.CERT_OPTIONAL


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
def _accept(_verified: int, _store: int) -> int:
    """OpenSSL's SSL_verify_cb. It has to live as long as any context does, so it is the module's."""
    return 1


def accept_any_certificate(context: ssl.SSLContext) -> None:
    """Python's ssl can ask for a certificate only to verify it; OpenSSL leaves that to a function of ours."""
    context.verify_mode = ssl.CERT_OPTIONAL
    found = below(context)
    if found is None:
        raise ValueError("client certificates cannot be passed through with this build of Python")
    library, pointer = found
    library.SSL_CTX_set_verify(pointer, int(ssl.CERT_OPTIONAL), ctypes.cast(_accept, ctypes.c_void_p))


def refusal(failure: ssl.SSLError) -> str | None:
    """The reason word of a handshake that failed for the client's certificate; None when it failed for another."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return _REASONS.get(failure.verify_code, "client_certificate_untrusted")
    return "client_certificate_missing" if failure.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE" else None


def too_large(connection: ssl.SSLObject, spec: ClientCertificatesSpec) -> bool:
    return spec.mode == "passthrough" and len(forwarded_fields(connection, spec)) > MAX_FORWARDED


def forwarded_fields(connection: ssl.SSLObject, spec: ClientCertificatesSpec) -> bytes:
    """Lines for the head of each request, each beginning with CRLF; none when the client showed no certificate."""
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return b""
    if spec.mode == "passthrough":
        chain = _chain(connection) or [leaf]
        return b"\r\nX-Amzn-Mtls-Clientcert: " + b"".join(map(_url_encoded, chain))
    return _verified_fields(leaf)


def identity(connection: ssl.SSLObject, spec: ClientCertificatesSpec) -> Identity:
    leaf = connection.getpeercert(binary_form=True)
    return NOBODY if leaf is None else _identity(leaf, "unverified" if spec.mode == "passthrough" else "verified")


@lru_cache(256)
def _identity(leaf: bytes, verification: Literal["verified", "unverified"]) -> Identity:
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        subject, issuer = name_as_field(certificate.subject), name_as_field(certificate.issuer)
        return Identity(verification, subject.decode(), issuer.decode(), _serial(certificate))
    except ValueError:  # OpenSSL reads more than the standard allows, and nobody has verified this one
        return Identity(verification)


def _serial(certificate: x509.Certificate) -> str:
    digits = f"{certificate.serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)  # whole bytes, as on ALB


@lru_cache(256)
def _verified_fields(leaf: bytes) -> bytes:
    certificate = x509.load_der_x509_certificate(leaf)
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return b"".join(
        b"\r\nX-Amzn-Mtls-Clientcert-%b: %b" % pair
        for pair in (
            (b"Serial-Number", _serial(certificate).encode()),
            (b"Issuer", name_as_field(certificate.issuer)),
            (b"Subject", name_as_field(certificate.subject)),
            (
                b"Validity",
                f"NotBefore={not_before:%Y-%m-%dT%H:%M:%SZ};NotAfter={not_after:%Y-%m-%dT%H:%M:%SZ}".encode(),
            ),
            (b"Leaf", _url_encoded(leaf)),
        )
    )


def name_as_field(name: x509.Name) -> bytes:
    """`CN=app,O=Example` by RFC 4514, with every byte that is not printable ASCII as `\\HH`, which RFC 4514 allows.

    So no name, whoever signed it, can end a field or begin another.
    """
    text = name.rfc4514_string().encode("utf-8", "backslashreplace")
    return b"".join(b"%c" % byte if 0x20 <= byte < 0x7F else b"\\%02X" % byte for byte in text)


def _url_encoded(der: bytes) -> bytes:
    return quote(ssl.DER_cert_to_PEM_cert(der), safe="+=/").encode()


def _chain(connection: ssl.SSLObject) -> list[bytes]:
    """What the client sent, its own certificate first. Public from Python 3.13 on, as bytes; there before."""
    public = getattr(connection, "get_unverified_chain", None)
    if public is not None:
        return public()
    chain = connection._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]
