"""TLS to targets: who cannot prove who it is, gets no request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from penstock.proxy.specs import CertificateSpec, TargetTlsSpec
from penstock.proxy.tls import server_context
from support import run
from support.balancer import balancing
from support.certificates import issue

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
OURS = issue("db.example.org", name="db")
STRANGE = issue("other.example.org", key="P-384", name="other")


@asynccontextmanager
async def target(certificate: CertificateSpec, clients: CertificateSpec | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            peer = writer.get_extra_info("peercert") or {}
            name = next((value for kind, value in peer.get("subjectAltName", ()) if kind == "DNS"), "nobody").encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(name), name))
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    context = server_context((certificate,), "TLS-1-2")
    if clients is not None:
        context.load_verify_locations(cadata=clients.chain_pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


TRUSTED = TargetTlsSpec(ca_pem=OURS.chain_pem, server_name="db.example.org")


@pytest.mark.parametrize(
    ("tls", "certificate", "status"),
    [
        pytest.param(TargetTlsSpec(), OURS, 502, id="by default a stranger's signature is not enough"),
        pytest.param(TRUSTED, OURS, 200, id="known authority, right name"),
        pytest.param(TRUSTED, STRANGE, 502, id="unknown authority"),
        pytest.param(TargetTlsSpec(ca_pem=OURS.chain_pem), OURS, 502, id="not valid for the address"),
        pytest.param(
            TargetTlsSpec(ca_pem=OURS.chain_pem, server_name="www.example.org"), OURS, 502, id="for another name"
        ),
        pytest.param(TargetTlsSpec(verify=False), STRANGE, 200, id="not verified"),
    ],
)
@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_verification(protocol: Any, tls: TargetTlsSpec, certificate: CertificateSpec, status: int) -> None:
    async def main() -> None:
        group = {"protocol": "HTTPS" if protocol == "HTTP" else "TLS", "tls": tls}
        async with target(certificate) as port, balancing(port, protocol=protocol, group=group) as lb:
            answer = await lb.exchange(GET)
            if status == 200:
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                return
            assert answer.startswith(b"HTTP/1.1 502 ") if protocol == "HTTP" else answer == b""
            assert [record.reason for record in lb.log] == ["target_tls_failed"]
            assert lb.listener.counters.failed == {"target_tls_failed": 1}
            assert lb.group().targets[0].counters.failed == {"target_tls_failed": 1}

    run(main())


def test_our_own_certificate_is_shown_to_who_asks() -> None:
    async def main() -> None:
        for certificate, answered in ((STRANGE, b"other.example.org"), (None, b"502 Bad Gateway\n")):
            tls = TargetTlsSpec(ca_pem=OURS.chain_pem, server_name="db.example.org", certificate=certificate)
            async with (
                target(OURS, clients=STRANGE) as port,
                balancing(port, group={"protocol": "HTTPS", "tls": tls}) as lb,
            ):
                assert (await lb.exchange(GET)).endswith(b"\r\n\r\n" + answered)

    run(main())


def test_authorities_that_are_none_refuse_the_change() -> None:
    async def main() -> None:
        group = {"protocol": "HTTPS", "tls": TargetTlsSpec(ca_pem=b"no PEM")}
        with pytest.raises(ValueError, match="not certificates in PEM"):
            async with balancing(1, group=group):
                raise AssertionError("it was applied")

    run(main())
