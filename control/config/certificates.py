"""Certificates: read from PEM files and proved usable, or self-signed and kept in the state directory.

Whatever OpenSSL would refuse in the middle of a reload is found here first, and said in a sentence.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from ...proxy.specs import CertificateSpec
from ...proxy.tls import server_context

# Browsers refuse more than 398 days (CA/Browser Forum, Baseline Requirements 6.3.2).
SELF_SIGNED_LIFETIME: Final = timedelta(days=396)

# Renewed, or warned of, when no more than this is left: as long before as certbot and cert-manager do.
NEAR_EXPIRY: Final = timedelta(days=30)

# A clock that is a little behind ours still finds the certificate valid.
CLOCK_SKEW: Final = timedelta(hours=1)

# A chain of a dozen certificates is some 30 KiB.
MAX_PEM_BYTES: Final = 1 << 20

# What a server can show to every client: others may be in TLS, but browsers do not verify them.
_KEYS = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

FileKey = Literal["cert_file", "key_file"]


class CertificateError(Exception):
    """Which of the two files is to blame, and the sentence."""

    def __init__(self, key: FileKey, message: str) -> None:
        super().__init__(message)
        self.key: FileKey = key


def read(name: str, cert_file: Path, key_file: Path, now: datetime) -> tuple[CertificateSpec, str | None]:
    """The certificate, and a warning if it soon expires. CertificateError says what is wrong with it."""
    chain_pem = read_bytes(cert_file, "cert_file")
    key_pem = read_bytes(key_file, "key_file")
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except ValueError:
        raise CertificateError("cert_file", f"{cert_file} holds no certificate in PEM form") from None
    key = _private_key(key_file, key_pem)
    leaf = chain[0]
    try:
        public_keys = [_public_bytes(certificate) for certificate in chain]
    except ValueError as error:  # UnsupportedAlgorithm is not one, and no file on disk should meet it
        raise CertificateError("cert_file", f"{cert_file} has a key of an unknown kind: {error}") from None
    own = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own not in public_keys:
        raise CertificateError("key_file", f"{key_file} is not the key of the certificate in {cert_file}")
    if own != public_keys[0]:
        place = public_keys.index(own) + 1
        message = (
            f"the key is that of certificate {place} in {cert_file}: put that one first, then those that signed it"
        )
        raise CertificateError("cert_file", message)
    if leaf.not_valid_after_utc <= now:
        raise CertificateError("cert_file", f"{cert_file} expired on {day(leaf.not_valid_after_utc)}, renew it")
    if leaf.not_valid_before_utc > now:
        since = day(leaf.not_valid_before_utc)
        raise CertificateError("cert_file", f"{cert_file} is not valid before {since}: check the clock, or wait")
    warning = None
    if leaf.not_valid_after_utc <= now + NEAR_EXPIRY:
        warning = f"{cert_file} expires on {day(leaf.not_valid_after_utc)}, renew it soon"
    return CertificateSpec(name, chain_pem, key_pem), warning


def read_authorities(file: Path) -> bytes:
    """PEM of certificate authorities. CertificateError says what is wrong with it."""
    pem = read_bytes(file, "cert_file")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError("cert_file", f"{file} holds no certificate in PEM form") from None
    # Written anew, for OpenSSL takes no text around them, and that such files often have.
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found)


def why_unusable(spec: CertificateSpec, policy: str) -> str | None:
    """What OpenSSL has against showing it under that policy, as a sentence: a key that is too short, say."""
    try:
        server_context((spec,), policy)
    except ValueError as error:
        return str(error)
    return None


def self_signed(name: str, names: tuple[str, ...], directory: Path, now: datetime, *, keep: bool) -> CertificateSpec:
    """The one kept from before if it will do, else a new one. With `keep` that is written, which may be an OSError."""
    path = directory / f"{name}.pem"
    if kept := _kept(name, path, names, now):
        return kept
    spec = _made(name, names, now)
    if keep:
        write_secret(path, spec.key_pem + spec.chain_pem)
    return spec


def read_bytes(path: Path, key: FileKey) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PEM_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CertificateError(key, f"{path} cannot be read: {reason}") from None
    if len(content) > MAX_PEM_BYTES:
        raise CertificateError(key, f"{path} is larger than {MAX_PEM_BYTES >> 20} MiB, that is no PEM file")
    return content


def _private_key(path: Path, pem: bytes) -> _KEYS:
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        advice = "Penstock cannot ask for it at start, store the key without one"
        raise CertificateError("key_file", f"{path} is locked with a passphrase: {advice}") from None
    except ValueError:
        raise CertificateError("key_file", f"{path} holds no private key in PEM form") from None
    if not isinstance(key, _KEYS):
        raise CertificateError(
            "key_file", f"{path} is neither an RSA nor an ECDSA key, which are what TLS clients know"
        )
    return key


def _public_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def day(moment: datetime) -> str:
    return moment.date().isoformat()


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _made(name: str, names: tuple[str, ...], now: datetime) -> CertificateSpec:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])  # RFC 5280: at most 64
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + SELF_SIGNED_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        # No CA: whoever trusts it for its names trusts it for nothing else.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return CertificateSpec(name, certificate.public_bytes(Encoding.PEM), key_pem)


def _kept(name: str, path: Path, names: tuple[str, ...], now: datetime) -> CertificateSpec | None:
    """What the file holds, if it is whole, for these names, and good for a while yet."""
    try:
        pem = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, None)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return None
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    same_names = list(extension.value) == _alternatives(names)
    fresh = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - NEAR_EXPIRY
    if not (same_names and fresh and public == _public_bytes(certificate)):
        return None
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return CertificateSpec(name, certificate.public_bytes(Encoding.PEM), key_pem)


def write_secret(path: Path, pem: bytes) -> None:
    """A file that appears whole, and that nobody else may read (mkstemp's mode is 0600)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def utc(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
