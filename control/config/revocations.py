"""Lists of revoked certificates, read from PEM files and proved to be of use: one that is not valid lets nobody in."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from .certificates import CertificateError, day, read_bytes

_BLOCKS = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def read(file: Path, authorities_pem: bytes, now: datetime) -> bytes:
    """PEM of the lists. CertificateError says what is wrong with them."""
    try:
        lists = [x509.load_pem_x509_crl(block + b"\n") for block in _BLOCKS.findall(read_bytes(file, "cert_file"))]
    except ValueError:
        raise CertificateError("cert_file", f"{file} holds a CRL that cannot be read") from None
    if not lists:
        raise CertificateError("cert_file", f"{file} holds no CRL in PEM form")
    authorities = x509.load_pem_x509_certificates(authorities_pem)
    for each in lists:
        _check(file, each, authorities, now)
    return b"".join(each.public_bytes(Encoding.PEM) for each in lists)


def _check(
    file: Path, revoked: x509.CertificateRevocationList, authorities: list[x509.Certificate], now: datetime
) -> None:
    who = revoked.issuer.rfc4514_string()
    keys = [authority.public_key() for authority in authorities if authority.subject == revoked.issuer]
    if not keys:
        raise CertificateError("cert_file", f"{file} is a CRL of {who}, which is not in the ca_file")
    if not any(_is_signed(revoked, key) for key in keys):
        raise CertificateError("cert_file", f"{file} is not signed by the key that {who} has in the ca_file")
    if revoked.next_update_utc is not None and revoked.next_update_utc <= now:
        message = f"{file} expired on {day(revoked.next_update_utc)}, and nobody would get in: get the next one"
        raise CertificateError("cert_file", message)
    if revoked.last_update_utc > now:
        since = day(revoked.last_update_utc)
        raise CertificateError("cert_file", f"{file} is not valid before {since}: check the clock, or wait")


def _is_signed(revoked: x509.CertificateRevocationList, key: object) -> bool:
    try:
        return revoked.is_signature_valid(key)  # type: ignore[arg-type]  # TypeError for a key that signs nothing
    except (TypeError, UnsupportedAlgorithm):
        return False
