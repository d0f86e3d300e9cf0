"""Certificates for tests: made when asked for, from keys made once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from penstock.proxy.specs import CertificateSpec


@cache
def _key(kind: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    match kind:
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))


def issue(*names: str, key: str = "P-256", name: str = "", days: int = 9) -> CertificateSpec:
    """`issue("example.org", "*.example.org", key="RSA-2048", name="one")`: a self-signed certificate and its key."""
    private = _key(key)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "common.example.org")])
    start = datetime.now(UTC) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
    signed = builder.sign(private, None if key == "Ed25519" else SHA256())
    return CertificateSpec(
        name or f"{key} {names[0] if names else 'nameless'}",
        signed.public_bytes(Encoding.PEM),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
