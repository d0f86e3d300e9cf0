"""Clients that never get through their TLS handshake: each is told so at once, and counted."""

from __future__ import annotations

import asyncio

import pytest

from penstock.proxy.specs import ListenerLimits
from support import run
from support.balancer import balancing
from support.certificates import issue

PATIENT = ListenerLimits(tls_handshake_timeout=600.0)  # a test that waited for it would be ended before


@pytest.mark.parametrize(
    ("protocol", "sent", "said", "reasons"),
    [
        ("HTTPS", b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n", ["plain_http"]),
        ("TLS", b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n", b"", ["plain_http"]),
        ("HTTPS", b"SSH-2.0-OpenSSH_9.2\r\n", b"", []),  # OpenSSL has no alert for it
    ],
    ids=["HTTP at HTTPS", "HTTP at TLS", "neither"],
)
def test_who_speaks_no_tls_need_not_wait(protocol: str, sent: bytes, said: bytes, reasons: list[str]) -> None:
    async def main() -> None:
        certificates = (issue("a.example.org"),)
        async with balancing(protocol=protocol, certificates=certificates, limits=PATIENT) as lb:
            answer = await lb.exchange(sent)
            assert answer[: len(said) or None] == said
            assert (b"HTTPS" in answer) == bool(said)
            while lb.listener.handshakes:
                await asyncio.sleep(0.001)
            assert lb.listener.counters.tls_failed == 1
            assert [record.reason for record in lb.log] == reasons

    run(main())
