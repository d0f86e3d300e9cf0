"""Policies and certificates, by real handshakes in memory: what matters is what was negotiated, not what was set."""

from __future__ import annotations

import os
import ssl
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from penstock.proxy import tls
from penstock.proxy.pem_file import as_file
from penstock.proxy.specs import CertificateSpec
from penstock.proxy.tls import POLICIES, chosen_certificate, client_context, server_context

Issue = Callable[..., CertificateSpec]

TLS10, TLS11, TLS12, TLS13 = (
    ssl.TLSVersion.TLSv1,
    ssl.TLSVersion.TLSv1_1,
    ssl.TLSVersion.TLSv1_2,
    ssl.TLSVersion.TLSv1_3,
)
WORDS = {TLS10: "TLSv1", TLS11: "TLSv1.1", TLS12: "TLSv1.2", TLS13: "TLSv1.3"}


@dataclass(frozen=True)
class Handshake:
    version: str | None
    cipher: str
    alpn: str | None
    shown: bytes  # the certificate, DER
    chosen: str | None  # what the server says it showed
    session: ssl.SSLSession | None
    reused: bool | None


def client(
    lowest: ssl.TLSVersion = TLS12,
    highest: ssl.TLSVersion = TLS13,
    *,
    ciphers: str = "ALL:@SECLEVEL=0",
    alpn: tuple[str, ...] = (),
) -> ssl.SSLContext:
    """A client that takes everything from `lowest` to `highest` and checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = lowest, highest
    context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def shake(
    server: ssl.SSLContext,
    by: ssl.SSLContext | None = None,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> Handshake:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = (by or client()).wrap_bio(to_client, to_server, server_hostname=name, session=session)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    todo = [one, other]
    for _ in range(8):
        for side in list(todo):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            todo.remove(side)
    assert not todo, "the handshake did not end"
    other.write(b"x")
    assert one.read(1) == b"x"  # and with it the tickets of TLS 1.3
    cipher, shown = one.cipher(), one.getpeercert(binary_form=True)
    assert cipher is not None
    assert shown is not None
    assert (one.version(), one.selected_alpn_protocol()) == (other.version(), other.selected_alpn_protocol())
    return Handshake(
        one.version(),
        cipher[0],
        one.selected_alpn_protocol(),
        shown,
        chosen_certificate(other),
        one.session,
        one.session_reused,
    )


AVAILABLE = {cipher["name"] for cipher in client().get_ciphers()}


def names_in(shown: bytes) -> list[str]:
    certificate = x509.load_der_x509_certificate(shown)
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


# -- policies ----------------------------------------------------------------------------------------------------------

# AWS's documentation of ELBSecurityPolicy, written out a second time and differently: lowest, highest, and the number
# of ciphers below TLS 1.3.
DOCUMENTED = {
    "ELBSecurityPolicy-2015-05": (TLS10, TLS12, 18),
    "ELBSecurityPolicy-2016-08": (TLS10, TLS12, 18),
    "ELBSecurityPolicy-TLS-1-0-2015-04": (TLS10, TLS12, 19),
    "ELBSecurityPolicy-TLS-1-1-2017-01": (TLS11, TLS12, 18),
    "ELBSecurityPolicy-TLS-1-2-2017-01": (TLS12, TLS12, 12),
    "ELBSecurityPolicy-TLS-1-2-Ext-2018-06": (TLS12, TLS12, 18),
    "ELBSecurityPolicy-FS-2018-06": (TLS10, TLS12, 12),
    "ELBSecurityPolicy-FS-1-1-2019-08": (TLS11, TLS12, 12),
    "ELBSecurityPolicy-FS-1-2-2019-08": (TLS12, TLS12, 12),
    "ELBSecurityPolicy-FS-1-2-Res-2019-08": (TLS12, TLS12, 8),
    "ELBSecurityPolicy-FS-1-2-Res-2020-10": (TLS12, TLS12, 4),
    "ELBSecurityPolicy-TLS13-1-3-2021-06": (TLS13, TLS13, 0),
    "ELBSecurityPolicy-TLS13-1-2-Res-2021-06": (TLS12, TLS13, 4),
    "ELBSecurityPolicy-TLS13-1-2-2021-06": (TLS12, TLS13, 8),
    "ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06": (TLS12, TLS13, 12),
    "ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06": (TLS12, TLS13, 18),
    "ELBSecurityPolicy-TLS13-1-1-2021-06": (TLS11, TLS13, 18),
    "ELBSecurityPolicy-TLS13-1-0-2021-06": (TLS10, TLS13, 18),
    "ELBSecurityPolicy-TLS13-1-3-PQ-2025-09": (TLS13, TLS13, 0),
    "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09": (TLS12, TLS13, 4),
    "ELBSecurityPolicy-TLS13-1-2-PQ-2025-09": (TLS12, TLS13, 8),
    "ELBSecurityPolicy-TLS13-1-2-Ext1-PQ-2025-09": (TLS12, TLS13, 12),
    "ELBSecurityPolicy-TLS13-1-2-Ext2-PQ-2025-09": (TLS12, TLS13, 18),
    "ELBSecurityPolicy-TLS13-1-0-PQ-2025-09": (TLS10, TLS13, 18),
}


def test_every_name_is_known_with_and_without_its_prefix() -> None:
    full = {name for name in POLICIES if name.startswith("ELBSecurityPolicy-")}
    assert full == set(DOCUMENTED)
    assert all(POLICIES[name.removeprefix("ELBSecurityPolicy-")] is POLICIES[name] for name in full)
    bare = {name.removeprefix("ELBSecurityPolicy-") for name in full}
    short = {name: POLICIES[name].name for name in POLICIES.keys() - full - bare}
    assert short == {
        "TLS-1-2": "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
        "TLS-1-3": "ELBSecurityPolicy-TLS13-1-3-2021-06",
    }


@pytest.mark.parametrize("key", ["P-256", "RSA-2048"])
@pytest.mark.parametrize("policy", [*DOCUMENTED, "TLS-1-2", "TLS-1-3"])
def test_a_policy_negotiates_its_versions_and_no_others(policy: str, key: str, issue: Issue) -> None:
    server = server_context((issue("example.org", key=key),), policy)
    lowest, highest, _ = DOCUMENTED[POLICIES[policy].name]
    for version, word in WORDS.items():
        if lowest <= version <= highest:
            assert shake(server, client(version, version)).version == word
        else:
            with pytest.raises(ssl.SSLError):
                shake(server, client(version, version))


@pytest.mark.parametrize("policy", DOCUMENTED)
def test_a_policy_takes_its_ciphers_and_no_others(policy: str, issue: Issue) -> None:
    """Each cipher of any policy is offered alone, to a server that has an ECDSA and an RSA certificate."""
    *_, count = DOCUMENTED[policy]
    expected = POLICIES[policy].ciphers
    assert len(expected) == count
    server = server_context((issue("example.org", key="RSA-2048"), issue("example.org")), policy)
    taken = []
    for cipher in POLICIES["TLS-1-0-2015-04"].ciphers:
        if cipher in AVAILABLE:
            try:
                taken.append(shake(server, client(TLS12, TLS12, ciphers=cipher), "example.org").cipher)
            except ssl.SSLError:
                pass
    assert taken == [cipher for cipher in expected if cipher in AVAILABLE]


def test_only_triple_des_may_be_missing_from_openssl() -> None:
    assert set(POLICIES["TLS-1-0-2015-04"].ciphers) - AVAILABLE <= {"DES-CBC3-SHA"}


def test_the_server_chooses_the_cipher(issue: Issue) -> None:
    server = server_context((issue("example.org", key="RSA-2048"),), "ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06")
    wish = "AES256-SHA:AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-SHA"
    order = ["ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-GCM-SHA384", "AES128-GCM-SHA256", "AES256-SHA"]
    for index, expected in enumerate(order):
        left = ":".join(cipher for cipher in wish.split(":") if cipher not in order[:index])
        assert shake(server, client(TLS12, TLS12, ciphers=left)).cipher == expected


def test_cbc_and_plain_rsa_are_refused_where_the_policy_has_none(issue: Issue) -> None:
    server = server_context((issue("example.org", key="RSA-2048"),), "TLS-1-2")
    for cipher in ("ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"):
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.handshake.failure"):
            shake(server, client(TLS12, TLS12, ciphers=cipher))


# -- certificates ------------------------------------------------------------------------------------------------------


def test_sni_chooses_exact_names_then_wildcards_then_the_first(issue: Issue) -> None:
    server = server_context(
        (
            issue("default.example.org", name="first"),
            issue("*.example.org", name="wildcard"),
            issue("www.example.org", "WWW.Example.NET", name="exact"),
            issue("*.a.example.org", name="deeper"),
        ),
        "TLS-1-2",
    )
    for name, expected in {
        "www.example.org": "exact",
        "www.example.net": "exact",
        "api.example.org": "wildcard",
        "API.Example.Org": "wildcard",
        "default.example.org": "first",
        "a.example.org": "wildcard",
        "b.a.example.org": "deeper",
        "c.b.a.example.org": "first",  # a wildcard is one label
        "example.org": "first",  # and not none
        "other.test": "first",
        "common.example.org": "wildcard",
        None: "first",
    }.items():
        for version in (TLS12, TLS13):
            assert shake(server, client(version, version), name).chosen == expected, name


def test_what_is_said_to_be_shown_is_what_is_shown(issue: Issue) -> None:
    server = server_context(
        (issue("one.example.org", name="one.example.org"), issue("two.example.org", name="two.example.org")), "TLS-1-2"
    )
    for name in ("one.example.org", "two.example.org"):
        done = shake(server, name=name)
        assert names_in(done.shown) == [done.chosen] == [name]


def test_a_common_name_is_not_a_name(issue: Issue) -> None:
    server = server_context((issue("a.example.org", name="first"), issue(name="nameless")), "TLS-1-2")
    assert shake(server, name="common.example.org").chosen == "first"


def test_of_two_certificates_for_a_name_the_client_gets_ecdsa_if_it_can(issue: Issue) -> None:
    server = server_context(
        (issue("example.org", key="RSA-2048", name="rsa"), issue("example.org", name="ecdsa")), "TLS-1-2"
    )
    assert shake(server, client(TLS13, TLS13), "example.org").chosen == "ecdsa"
    assert shake(server, client(TLS12, TLS12), "example.org").chosen == "ecdsa"
    only_rsa = shake(server, client(TLS12, TLS12, ciphers="ECDHE-RSA-AES128-GCM-SHA256"), "example.org")
    assert only_rsa.chosen == "rsa"
    assert isinstance(x509.load_der_x509_certificate(only_rsa.shown).public_key(), tls.rsa.RSAPublicKey)
    assert shake(server).chosen == "rsa"  # no name, no choice: the first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"key": "P-256"}, {"key": "P-384"}, id="longer key"),
        pytest.param({"key": "P-384", "days": 3}, {"key": "P-384", "days": 30}, id="valid for longer"),
    ],
)
def test_of_two_of_one_algorithm_the_stronger_is_shown(one: dict, other: dict, issue: Issue) -> None:
    worse, better = issue("example.org", name="worse", **one), issue("example.org", name="better", **other)
    for order in ((worse, better), (better, worse)):
        server = server_context((issue("default.example.org", name="default"), *order), "TLS-1-2")
        assert shake(server, name="example.org").chosen == "better"


def test_alpn_holds_for_every_certificate(issue: Issue) -> None:
    certificates = (issue("a.example.org", name="a"), issue("b.example.org", name="b"))
    server = server_context(certificates, "TLS-1-2")
    for name in ("a.example.org", "b.example.org"):
        assert shake(server, client(alpn=("h2", "http/1.1")), name).alpn == "http/1.1"
        assert shake(server, client(alpn=("h2",)), name).alpn is None
        assert shake(server, client(), name).alpn is None
    assert shake(server_context(certificates, "TLS-1-2", alpn=()), client(alpn=("http/1.1",))).alpn is None


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("name", ["a.example.org", "b.example.org"])
def test_sessions_are_resumed(version: ssl.TLSVersion, name: str, issue: Issue) -> None:
    server = server_context((issue("a.example.org", name="a"), issue("b.example.org", name="b")), "TLS-1-2")
    by = client(version, version)
    first = shake(server, by, name)
    again = shake(server, by, name, session=first.session)
    assert (first.reused, again.reused) == (False, True)
    assert again.chosen == name[0]


def test_switches_that_a_handshake_does_not_show(issue: Issue) -> None:
    server = server_context((issue("example.org"),), "TLS-1-2")
    assert server.options & ssl.OP_NO_RENEGOTIATION
    assert server.options & ssl.OP_NO_COMPRESSION
    assert not server.options & ssl.OP_NO_TICKET
    assert server.num_tickets == 1


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_mistakes_are_sentences(issue: Issue) -> None:
    good, other = issue("example.org", name="good"), issue("example.org", key="RSA-2048")
    encrypted = load_pem_private_key(good.key_pem, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for spec, sentence in [
        (replace(good, chain_pem=b""), "certificate 'good': its chain is not PEM that holds certificates"),
        (replace(good, chain_pem=garbage), "certificate 'good': its chain is not PEM that holds certificates"),
        (replace(good, chain_pem=good.key_pem), "certificate 'good': its chain is not PEM that holds certificates"),
        (replace(good, key_pem=b""), "certificate 'good': its private key is not a key in PEM"),
        (replace(good, key_pem=good.chain_pem), "certificate 'good': its private key is not a key in PEM"),
        (
            replace(good, key_pem=encrypted),
            "certificate 'good': its private key is encrypted, and there is nobody to ask",
        ),
        (replace(good, key_pem=other.key_pem), "certificate 'good': its private key belongs to another certificate"),
        (replace(other, chain_pem=other.chain_pem + garbage), "its chain is not PEM that holds certificates"),
        (issue("example.org", key="Ed25519", name="ed"), "certificate 'ed': its key is neither RSA nor ECDSA"),
        (
            issue("example.org", key="RSA-1024", name="weak"),
            "certificate 'weak' cannot be used with ELBSecurityPolicy-TLS13-1-2-Res-2021-06: ee key too small",
        ),
    ]:
        with pytest.raises(ValueError, match="certificate") as mistake:
            server_context((good, spec), "TLS-1-2")
        assert sentence in str(mistake.value)
    with pytest.raises(ValueError, match="there is no TLS policy 'TLS-9'"):
        server_context((good,), "TLS-9")
    with pytest.raises(ValueError, match="at least one certificate"):
        server_context((), "TLS-1-2")


def test_without_memfd_a_private_file_is_used_and_removed(
    issue: Issue, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []
    load = tls.ServerContext.load_cert_chain

    def watched(context: ssl.SSLContext, chain: str, key: str) -> None:
        seen.extend(os.stat(path).st_mode & 0o777 for path in (chain, key))
        load(context, chain, key)

    monkeypatch.setattr(tls.ServerContext, "load_cert_chain", watched)
    assert shake(server_context((issue("example.org", name="one"),), "TLS-1-2")).chosen == "one"
    assert seen == [0o600, 0o600]
    assert os.listdir(tmp_path) == []


# -- to targets --------------------------------------------------------------------------------------------------------


def test_targets_are_not_asked_who_they_are(issue: Issue) -> None:
    server = server_context((issue("example.org"),), "TLS-1-2")
    assert shake(server, client_context()).version == "TLSv1.3"
    assert shake(server, client_context(alpn=("http/1.1",))).alpn == "http/1.1"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, client_context(verify=True), "example.org")


def test_targets_may_be_old_but_not_older_than_tls_1_2(issue: Issue) -> None:
    certificates = (issue("example.org", key="RSA-2048"),)
    assert shake(server_context(certificates, "TLS-1-2-Ext-2018-06"), client_context()).version == "TLSv1.2"
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain.set_ciphers("AES128-SHA")
    with as_file(certificates[0].chain_pem) as chain, as_file(certificates[0].key_pem) as key:
        plain.load_cert_chain(chain, key)
    plain.maximum_version = TLS12
    assert shake(plain, client_context()).cipher == "AES128-SHA"


def test_a_foreign_context_has_no_chosen_certificate() -> None:
    other = client().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    assert chosen_certificate(other) is None
