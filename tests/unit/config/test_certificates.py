"""PEM files that can be used, those that cannot and why, and certificates that are made."""

from __future__ import annotations

import ssl
import stat
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from penstock.control.config import ConfigurationError, certificates
from penstock.control.config.certificates import CertificateError, read, self_signed
from support.loaded import TODAY, certificate_of, key_and_certificate, key_pem, loaded, mistakes, warnings

LISTENER = """
load_balancer:
  name: lb
  listeners: [{port: 8443, address: 127.0.0.1, protocol: HTTPS, certificate: www}]
  target_groups: [{name: tg-web}]
"""
FILES = LISTENER + "certificates: [{name: www, cert_file: www.pem, key_file: www.key}]\n"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    key, chain = key_and_certificate()
    (tmp_path / "www.pem").write_bytes(chain)
    (tmp_path / "www.key").write_bytes(key_pem(key))
    return tmp_path / "www.pem", tmp_path / "www.key"


def test_a_good_pair_is_read_beside_the_configuration(pair: tuple[Path, Path]) -> None:
    found = loaded(FILES, pair[0].parent)
    [spec] = found.settings.proxy.listeners[0].certificates
    assert (spec.name, spec.chain_pem, spec.key_pem) == ("www", pair[0].read_bytes(), pair[1].read_bytes())
    assert found.files == pair
    assert not found.all_warnings


def test_a_chain_is_kept_whole(pair: tuple[Path, Path]) -> None:
    _, other = key_and_certificate()
    pair[0].write_bytes(pair[0].read_bytes() + other)
    spec, _ = read("www", *pair, TODAY)
    assert spec.chain_pem.count(b"BEGIN CERTIFICATE") == 2


def test_a_key_of_another_certificate(pair: tuple[Path, Path]) -> None:
    pair[1].write_bytes(key_pem(key_and_certificate()[0]))
    assert mistakes(FILES, pair[0].parent) == [
        f"certificates[0].key_file: {pair[1]} is not the key of the certificate in {pair[0]}"
    ]


def test_a_chain_upside_down(pair: tuple[Path, Path]) -> None:
    _, signer = key_and_certificate()
    pair[0].write_bytes(signer + pair[0].read_bytes())
    [mistake] = mistakes(FILES, pair[0].parent)
    assert "the key is that of certificate 2" in mistake


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [
        (timedelta(days=-9), timedelta(0), "expired on 2026-11-20, renew it"),
        (timedelta(days=-9), timedelta(seconds=-1), "expired on 2026-11-19, renew it"),
        (timedelta(seconds=1), timedelta(days=9), "is not valid before 2026-11-20: check the clock, or wait"),
    ],
)
def test_a_certificate_of_another_time(tmp_path: Path, begins: timedelta, ends: timedelta, expected: str) -> None:
    key, chain = key_and_certificate(begins=begins, ends=ends)
    (tmp_path / "www.pem").write_bytes(chain)
    (tmp_path / "www.key").write_bytes(key_pem(key))
    assert mistakes(FILES, tmp_path) == [f"certificates[0].cert_file: {tmp_path / 'www.pem'} {expected}"]


def test_a_certificate_that_soon_expires_is_a_warning(tmp_path: Path) -> None:
    key, chain = key_and_certificate(ends=timedelta(days=30))
    (tmp_path / "www.pem").write_bytes(chain)
    (tmp_path / "www.key").write_bytes(key_pem(key))
    [warning] = warnings(FILES, tmp_path)
    assert warning.endswith("www.pem expires on 2026-12-20, renew it soon")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("www.pem", b"", "holds no certificate in PEM form"),
        (
            "www.pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds no certificate in PEM form",
        ),
        ("www.pem", b"\x00" * (1 << 20) + b"x", "is larger than 1 MiB, that is no PEM file"),
        ("www.key", b"hello", "holds no private key in PEM form"),
        ("www.key", key_pem(key_and_certificate()[0], b"secret"), "is locked with a passphrase"),
        ("www.key", None, "cannot be read: No such file or directory"),
        ("www.pem", None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_no_use(pair: tuple[Path, Path], name: str, content: bytes | None, expected: str) -> None:
    file = pair[0].parent / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    [mistake] = mistakes(FILES, pair[0].parent)
    assert f"{file} {expected}" in mistake
    assert mistake.startswith("certificates[0].cert_file" if name == "www.pem" else "certificates[0].key_file")


def test_a_key_that_few_clients_know(pair: tuple[Path, Path]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pair[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    [mistake] = mistakes(FILES, pair[0].parent)
    assert mistake.startswith(f"certificates[0].key_file: {pair[1]} is neither an RSA nor an ECDSA key")


def test_what_openssl_would_refuse_is_said_at_the_listener(pair: tuple[Path, Path]) -> None:
    """Its parser reads on where ours has what it wants: behind the first certificate."""
    pair[0].write_bytes(pair[0].read_bytes() + b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    [mistake] = mistakes(FILES, pair[0].parent)
    assert mistake.startswith(
        "load_balancer.listeners[0].certificate: certificate 'www' cannot be used with ELBSecurityPolicy-TLS13"
    )


def test_how_weak_a_key_may_be_is_a_matter_of_the_policy(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    (tmp_path / "www.pem").write_bytes(certificate_of(key))
    (tmp_path / "www.key").write_bytes(key_pem(key))
    [mistake] = mistakes(FILES, tmp_path)
    assert mistake.endswith("cannot be used with ELBSecurityPolicy-TLS13-1-2-Res-2021-06: ee key too small")
    lax = FILES.replace("certificate: www", "certificate: www, ssl_policy: ELBSecurityPolicy-TLS-1-0-2015-04")
    assert mistakes(lax, tmp_path) == []


def test_the_library_says_whom_to_blame(tmp_path: Path) -> None:
    with pytest.raises(CertificateError) as caught:
        read("www", tmp_path, tmp_path / "no.key", TODAY)
    assert caught.value.key == "cert_file"
    assert "Is a directory" in str(caught.value)


SELF_SIGNED = LISTENER + "certificates: [{name: www, self_signed: [localhost, '*.example.org', 127.0.0.1, '::1']}]\n"


def test_checking_writes_nothing(tmp_path: Path) -> None:
    loaded(SELF_SIGNED, tmp_path, materialize=False)
    assert not list(tmp_path.iterdir())


def test_a_self_signed_certificate_is_made_kept_and_found_again(tmp_path: Path) -> None:
    first = loaded(SELF_SIGNED, tmp_path, materialize=True).settings
    [file] = (tmp_path / ".penstock" / "certificates").iterdir()
    assert file.name == "www.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    again = loaded(SELF_SIGNED, tmp_path, materialize=True).settings
    assert again == first
    assert loaded(SELF_SIGNED, tmp_path, materialize=False).settings == first


def test_it_is_for_its_names_and_a_little_more_than_a_year(tmp_path: Path) -> None:
    names = ("localhost", "*.example.org", "127.0.0.1", "::1")
    spec = self_signed("www", names, tmp_path, TODAY, keep=False)
    certificate = x509.load_pem_x509_certificate(spec.chain_pem)
    [extension] = [e for e in certificate.extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    assert [str(name.value) for name in extension.value] == list(names)
    assert certificate.not_valid_before_utc < TODAY
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=397)


def test_openssl_serves_and_trusts_it(tmp_path: Path) -> None:
    loaded(SELF_SIGNED, tmp_path, materialize=True)
    file = tmp_path / ".penstock" / "certificates" / "www.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(ours, theirs, server_side=True)
    client = ssl.create_default_context(cafile=str(file)).wrap_bio(theirs, ours, server_hostname="www.example.org")
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.getpeercert()


@pytest.mark.parametrize(
    ("names", "later", "renewed"),
    [
        (("localhost",), timedelta(days=365), False),
        (("localhost",), timedelta(days=366), True),
        (("localhost",), timedelta(days=-2), True),
        (("localhost", "example.org"), timedelta(0), True),
    ],
)
def test_it_is_renewed_when_it_must_be(tmp_path: Path, names: tuple[str, ...], later: timedelta, renewed: bool) -> None:
    first = self_signed("www", ("localhost",), tmp_path, TODAY, keep=True)
    second = self_signed("www", names, tmp_path, TODAY + later, keep=True)
    assert (second != first) is renewed
    assert self_signed("www", names, tmp_path, TODAY + later, keep=True) == second


@pytest.mark.parametrize("damage", [b"", b"nonsense", "the key of another"])
def test_a_damaged_one_is_replaced(tmp_path: Path, damage: bytes | str) -> None:
    first = self_signed("www", ("localhost",), tmp_path, TODAY, keep=True)
    file = tmp_path / "www.pem"
    file.write_bytes(damage if isinstance(damage, bytes) else key_pem(key_and_certificate()[0]) + first.chain_pem)
    second = self_signed("www", ("localhost",), tmp_path, TODAY, keep=True)
    assert second != first
    assert read("www", file, file, TODAY)[0].key_pem == file.read_bytes()


def test_where_it_cannot_be_kept_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / ".penstock").write_text("a file where the directory would be")
    with pytest.raises(ConfigurationError) as caught:
        loaded(SELF_SIGNED, tmp_path, materialize=True)
    [mistake] = caught.value.mistakes
    assert mistake.path == "certificates[0]"
    assert "the certificate www cannot be kept in" in mistake.message


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certificates.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        self_signed("www", ("localhost",), tmp_path, TODAY, keep=True)
    assert not list(tmp_path.iterdir())


def test_a_listener_of_a_file_without_certificates_gets_one_for_what_it_is(tmp_path: Path) -> None:
    found = loaded(LISTENER, tmp_path, materialize=True)
    [warning] = found.all_warnings
    assert warning.path == "load_balancer.listeners[0].certificate"
    assert "self-signed" in warning.message
    [spec] = found.settings.proxy.listeners[0].certificates
    extension = x509.load_pem_x509_certificate(spec.chain_pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(name.value) for name in extension.value] == ["localhost", "127.0.0.1"]
