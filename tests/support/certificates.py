"""Certificates for tests: made when asked for, from keys made once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

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


@dataclass(frozen=True)
class Authority:
    """Signs certificates of clients. Its key is the one of P-384, theirs that of P-256."""

    name: str = "Example Root"

    @property
    def _subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])

    @property
    def pem(self) -> bytes:
        return self._sign(self._subject, _key("P-384").public_key(), authority=True)

    def client(
        self,
        folder: Path,
        subject: x509.Name,
        *,
        begins: int = -1,
        ends: int = 9,
        serial: int = 0x3A5B1,
        usage: str = "",
    ) -> Path:
        """A file with certificate and key, valid from and to so many days from now."""
        key = _key("P-256")
        pem = self._sign(subject, key.public_key(), begins=begins, ends=ends, serial=serial, usage=usage)
        path = folder / f"{len(list(folder.iterdir()))}.pem"
        path.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    def revoked(self, *serials: int, ends: float = 9) -> bytes:
        """PEM of a CRL, valid for so many days."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._subject)
            .last_update(now - timedelta(days=10))
            .next_update(now + timedelta(days=ends))
        )
        for serial in serials:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(days=1))
            builder = builder.add_revoked_certificate(one.build())
        return builder.sign(_key("P-384"), SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]

    def _sign(
        self,
        subject: x509.Name,
        public: object,
        *,
        authority: bool = False,
        begins: int = -1,
        ends: int = 9,
        serial: int = 1,
        usage: str = "",
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(serial)
            .not_valid_before(now + timedelta(days=begins))
            .not_valid_after(now + timedelta(days=ends))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if usage:
            purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage)])
            builder = builder.add_extension(purposes, critical=False)
        return builder.sign(_key("P-384"), SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]
