"""A session that one context began is resumed by another, if both seal with one key, and only then."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest

from penstock.proxy import openssl
from penstock.proxy.session_tickets import KEY_BYTES, key_for, share
from penstock.proxy.specs import ClientCertificatesSpec
from penstock.proxy.tls import server_context
from support.certificates import Authority, issue

KEY, OTHER = bytes(range(KEY_BYTES)), bytes(KEY_BYTES)
ONE, TWO = issue("one.example.org"), issue("two.example.org")


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None, name: str
) -> ssl.SSLObject:
    """Over memory; a byte from the server brings what TLS 1.3 sends after the handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    connecting = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (connecting, accepting):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    accepting.write(b"x")
    assert connecting.read(1) == b"x"
    return connecting


def resumes(first: ssl.SSLContext, second: ssl.SSLContext, version: ssl.TLSVersion, name: str) -> bool | None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.minimum_version = client.maximum_version = version
    session = handshake(first, client, None, name).session
    return handshake(second, client, session, name).session_reused


@pytest.mark.parametrize("name", ["one.example.org", "two.example.org"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_one_key_for_two_contexts(version: ssl.TLSVersion, name: str) -> None:
    first, second = (server_context((ONE, TWO), "TLS-1-2") for _ in range(2))
    assert resumes(first, first, version, name)
    assert not resumes(first, second, version, name)
    assert share(first, KEY)
    assert share(second, KEY)
    assert resumes(first, second, version, name)
    share(second, OTHER)
    assert not resumes(first, second, version, name)


REQUIRED = ClientCertificatesSpec("required", Authority("Example One").pem)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "other",
    [None, replace(REQUIRED, mode="optional"), replace(REQUIRED, authorities_pem=Authority("Example Two").pem)],
    ids=["asked for nothing", "asked for less", "known to others"],
)
def test_a_ticket_does_not_stand_for_a_certificate(
    version: ssl.TLSVersion, other: ClientCertificatesSpec | None
) -> None:
    """One of a listener that asks for less would otherwise open one that asks for more."""
    lax = server_context((ONE,), "TLS-1-2", client_certificates=other and replace(other, mode="optional"))
    strict = server_context((ONE,), "TLS-1-2", client_certificates=REQUIRED)
    assert share(lax, key_for(KEY, other))
    assert share(strict, key_for(KEY, other))
    assert resumes(lax, strict, version, "one.example.org")  # what the key of each is to prevent
    assert share(strict, key_for(KEY, REQUIRED))
    with pytest.raises(ssl.SSLError, match=r"peer did not return a certificate|alert handshake failure"):
        resumes(lax, strict, version, "one.example.org")


def test_a_key_of_another_size_is_refused() -> None:
    assert not share(server_context((ONE,), "TLS-1-2"), KEY[:48])


def test_an_interpreter_that_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl, "_KNOWN", ((2, 0), (2, 7)))
    openssl._library.cache_clear()
    try:
        assert not share(server_context((ONE,), "TLS-1-2"), KEY)
    finally:
        openssl._library.cache_clear()
