"""A reload in the middle of a TLS handshake: who has begun ends it, with what was in force then, and is served."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress

import pytest

from penstock.proxy.specs import CertificateSpec
from support import Origin, response, run
from support.balancer import Balancer, balancing
from support.certificates import issue
from support.handshake import Handshake

Certificates = tuple[CertificateSpec, ...]

# With several it is the client's SNI that chooses, in the middle of the handshake.
CERTIFICATES = {"one": ["a.example.org"], "several": ["b.example.org", "a.example.org"]}
GET = b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n"


def issued(names: list[str]) -> Certificates:
    return tuple(issue(name, name=name) for name in names)


def shown(certificates: Certificates) -> bytes:
    """What a client that asks for a.example.org is shown of them."""
    return ssl.PEM_cert_to_DER_cert(certificates[-1].chain_pem.decode())


async def visit(lb: Balancer, version: str, moment: str = "", swap_to: Certificates = ()) -> bytes:
    """Ask for / and return the certificate that was shown. At that moment of the handshake, swap the listener's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    client = Handshake(context, "a.example.org")
    reader, writer = await asyncio.open_connection("127.0.0.1", lb.port)

    async def send(flight: bytes, name: str) -> None:
        half = len(flight) // 2
        for now, part in ((f"before {name}", b""), (f"in {name}", flight[:half]), ("", flight[half:])):
            writer.write(part)
            if moment == now and swap_to:
                while not lb.listener.handshakes:  # it is accepted, and the handshake under way
                    await asyncio.sleep(0.001)
                await lb.reload(certificates=swap_to)

    try:
        await send(client.step(), "ClientHello")
        finished = b""
        while not finished:
            finished = client.step(await reader.read(65536))
        await send(finished, "Finished")
        while not client.done:
            client.step(await reader.read(65536))
        writer.write(client.seal(GET))
        answer = b""
        while not answer.endswith(b"ok"):
            received = await reader.read(65536)
            assert received, "the connection was dropped"
            answer += client.open(received)
        assert answer.startswith(b"HTTP/1.1 200")
        certificate = client.tls.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("names", CERTIFICATES)
@pytest.mark.parametrize("moment", ["before ClientHello", "in ClientHello", "before Finished", "in Finished"])
def test_certificates_are_swapped_in_the_middle_of_a_handshake(
    moment: str, names: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = issued(CERTIFICATES[names]), issued(CERTIFICATES[names])

    async def main() -> None:
        async with (
            Origin(response(b"ok"), response(b"ok")) as origin,
            balancing(origin.port, protocol="HTTPS", certificates=before) as lb,
        ):
            seen = await visit(lb, version, moment, after)
            # Once the ClientHello was answered it is the old one; before, whichever was in force when it was accepted.
            assert seen in ((shown(before),) if "Finished" in moment else (shown(before), shown(after)))
            assert await visit(lb, version) == shown(after)
            assert [record.status for record in lb.log] == [200, 200]
            counters = lb.listener.counters
            assert (counters.accepted, counters.tls_failed, dict(counters.failed)) == (2, 0, {})
            assert not lb.listener.handshakes

    run(main())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
