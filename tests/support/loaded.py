"""Configurations loaded for tests on 2026-11-20, and PEM files that fit that day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from penstock.control.config import ConfigurationError, Loaded, Settings, load_text

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
NOW = TODAY.timestamp()


def loaded(text: str, directory: Path = Path("/nowhere"), *, materialize: bool = False) -> Loaded:
    return load_text(dedent(text), "penstock.yaml", directory=directory, now=NOW, materialize=materialize)


def settings(text: str) -> Settings:
    return loaded(text).settings


def mistakes(text: str, directory: Path = Path("/nowhere")) -> list[str]:
    """Each as `path: message`, without file, line and column."""
    try:
        loaded(text, directory)
    except ConfigurationError as error:
        return [f"{mistake.path}: {mistake.message}" for mistake in error.mistakes]
    return []


def warnings(text: str, directory: Path = Path("/nowhere")) -> list[str]:
    return [f"{warning.path}: {warning.message}" for warning in loaded(text, directory).all_warnings]


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def key_and_certificate(
    *, begins: timedelta = timedelta(days=-1), ends: timedelta = timedelta(days=90)
) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, certificate_of(key, begins=begins, ends=ends)


def certificate_of(key: Key, *, begins: timedelta = timedelta(days=-1), ends: timedelta = timedelta(days=90)) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.org")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(TODAY + begins)
        .not_valid_after(TODAY + ends)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: Key, passphrase: bytes | None = None) -> bytes:
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
