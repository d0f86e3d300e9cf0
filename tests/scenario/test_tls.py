"""TLS as clients meet it: who they are asked to be, which host they may ask for, and what a reload leaves alone."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from penstock.proxy.session_tickets import KEY_BYTES
from penstock.proxy.specs import CertificateSpec, ClientCertificatesSpec, ListenerLimits, TracingSpec
from support import Exchange, Origin, response, run
from support.balancer import Balancer, balancing
from support.certificates import Authority, issue
from support.http2 import GET
from support.http2 import Client as Http2Client

ROOT = Authority()
APP = x509.Name.from_rfc4514_string("CN=app,O=Example")
GET_A = b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n"
PREFIX = "X-Amzn-Mtls-Clientcert"


def trusting(mode: str, authority: Authority = ROOT) -> ClientCertificatesSpec:
    return ClientCertificatesSpec(mode, b"" if mode == "passthrough" else authority.pem)  # type: ignore[arg-type]


def client(certificate: Path | None = None, *, alpn: str = "http/1.1", version: str = "TLSv1_3") -> ssl.SSLContext:
    """A client that takes every server and shows what it is told to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_alpn_protocols([alpn])
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def tls(self) -> ssl.SSLObject:
        return self.writer.get_extra_info("ssl_object")

    async def ask(self, request: bytes = GET_A) -> int:
        """The status of the answer, whose body has a known length."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        await self.reader.readexactly(int(lines[b"content-length"]))
        return int(head.split(b" ")[1])


@asynccontextmanager
async def connection(lb: Balancer, by: ssl.SSLContext, name: str | None = "a.example.org") -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", lb.port, ssl=by, server_hostname=name or "")
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def refused(lb: Balancer, by: ssl.SSLContext) -> None:
    """With TLS 1.3 a client may write before it is told that it is not wanted."""
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        async with connection(lb, by) as one:
            await one.ask()


def secure(*certificates: CertificateSpec, **listener: Any) -> dict[str, Any]:
    return {"protocol": "HTTPS", "certificates": certificates or (issue("a.example.org"),), **listener}


# -- certificates of clients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
@pytest.mark.parametrize("mode", ["optional", "required"])
def test_the_verified_subject_reaches_the_target(tmp_path: Path, mode: str, alpn: str) -> None:
    certificate = ROOT.client(tmp_path, APP)

    async def main() -> None:
        async with (
            Origin(response(b"ok")) as origin,
            balancing(origin.port, **secure(client_certificates=trusting(mode))) as lb,
        ):
            if alpn == "h2":
                async with Http2Client(lb.port, ssl=client(certificate, alpn=alpn)) as two:
                    assert (await two.ask(GET)).status == b"200"
            else:
                async with connection(lb, client(certificate)) as one:
                    assert await one.ask() == 200
            seen = origin.requests[0]
            assert seen.value(f"{PREFIX}-Subject".encode()) == b"CN=app,O=Example"
            assert seen.value(f"{PREFIX}-Issuer".encode()) == b"CN=Example Root"
            assert seen.value(f"{PREFIX}-Serial-Number".encode()) == b"03A5B1"
            leaf = seen.value(f"{PREFIX}-Leaf".encode())
            assert leaf is not None
            assert unquote_to_bytes(leaf).strip() in certificate.read_bytes()
            assert seen.value(PREFIX.encode()) is None
            (record,) = lb.log
            assert (record.client_verification, record.client_subject) == ("verified", "CN=app,O=Example")
            assert (record.client_issuer, record.client_serial) == ("CN=Example Root", "03A5B1")
            assert record.alpn == alpn
            assert (record.kind, record.version) == (("h2", b"HTTP/2.0") if alpn == "h2" else ("https", b"HTTP/1.1"))

    run(main())


@pytest.mark.parametrize("mode", ["off", "optional", "passthrough"])
def test_a_client_cannot_say_by_itself_who_it_is(mode: str) -> None:
    fields = ["", "-Subject", "-Issuer", "-Serial-Number", "-Leaf", "-Validity"]
    forged = "".join(f"{PREFIX.swapcase()}{field}: CN=admin\r\n" for field in fields).encode()
    asked = None if mode == "off" else trusting(mode)

    async def main() -> None:
        async with Origin(response(b"ok")) as origin, balancing(origin.port, **secure(client_certificates=asked)) as lb:
            async with connection(lb, client()) as one:
                assert await one.ask(b"GET / HTTP/1.1\r\nHost: a.example.org\r\n" + forged + b"\r\n") == 200
            assert b"mtls" not in origin.requests[0].head.lower()
            (record,) = lb.log
            assert (record.client_verification, record.server_name) == ("", "a.example.org")

    run(main())


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (None, "client_certificate_missing"),
        ({"ends": 0}, "client_certificate_expired"),
        ({"begins": 1}, "client_certificate_not_yet_valid"),
        ({"usage": ExtendedKeyUsageOID.SERVER_AUTH.dotted_string}, "client_certificate_unsuitable"),
        ("another authority", "client_certificate_untrusted"),
    ],
)
def test_a_client_that_is_refused_is_counted_and_logged(
    tmp_path: Path, made: dict[str, Any] | str | None, reason: str, version: str
) -> None:
    certificate = None
    if made is not None:
        signer = Authority("Example Other") if isinstance(made, str) else ROOT
        certificate = signer.client(tmp_path, APP, **({} if isinstance(made, str) else made))

    async def main() -> None:
        async with (
            Origin(response(b"ok")) as origin,
            balancing(origin.port, **secure(client_certificates=trusting("required"))) as lb,
        ):
            await refused(lb, client(certificate, version=version))
            while lb.listener.handshakes:
                await asyncio.sleep(0.001)
            assert dict(lb.listener.counters.failed) == {reason: 1}
            assert lb.listener.counters.tls_failed == 1
            assert [(record.reason, record.kind) for record in lb.log] == [(reason, "https")]
            assert lb.log[0].client.startswith("127.0.0.1:")
            assert not origin.requests

    run(main())


@pytest.mark.parametrize(
    ("revocations", "reason"),
    [
        (ROOT.revoked(1, 2), ""),
        (ROOT.revoked(1, 0x3A5B1), "client_certificate_revoked"),
        (ROOT.revoked(1, ends=-1), "client_certificate_crl_expired"),
        (Authority("Example Other").revoked(1), "client_certificate_without_crl"),
    ],
)
def test_who_is_revoked_is_refused_and_everybody_where_that_cannot_be_told(
    tmp_path: Path, revocations: bytes, reason: str
) -> None:
    certificate = ROOT.client(tmp_path, APP)

    async def main() -> None:
        asked = replace(trusting("required"), revocations_pem=revocations)
        async with Origin(response(b"ok")) as origin, balancing(origin.port, **secure(client_certificates=asked)) as lb:
            if not reason:
                async with connection(lb, client(certificate)) as one:
                    assert await one.ask() == 200
                return
            await refused(lb, client(certificate))
            while lb.listener.handshakes:
                await asyncio.sleep(0.001)
            assert dict(lb.listener.counters.failed) == {reason: 1}

    run(main())


def test_a_handshake_that_fails_for_another_reason_is_not_the_certificates_fault(tmp_path: Path) -> None:
    certificate = ROOT.client(tmp_path, APP)

    async def main() -> None:
        async with balancing(**secure(ssl_policy="TLS-1-3", client_certificates=trusting("required"))) as lb:
            await refused(lb, client(certificate, version="TLSv1_2"))
            while lb.listener.handshakes:
                await asyncio.sleep(0.001)
            assert lb.listener.counters.tls_failed == 1
            assert not lb.listener.counters.failed
            assert not lb.log

    run(main())


def test_without_a_certificate_where_it_is_optional() -> None:
    async def main() -> None:
        async with (
            Origin(response(b"ok")) as origin,
            balancing(origin.port, **secure(client_certificates=trusting("optional"))) as lb,
        ):
            async with connection(lb, client()) as one:
                assert await one.ask() == 200
            assert b"mtls" not in origin.requests[0].head.lower()

    run(main())


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_passthrough_takes_any_certificate_and_tells_the_target(tmp_path: Path, version: str) -> None:
    certificate = Authority("Nobody We Know").client(tmp_path, APP, ends=0)

    async def main() -> None:
        async with (
            Origin(response(b"ok"), response(b"ok")) as origin,
            balancing(origin.port, **secure(client_certificates=trusting("passthrough"))) as lb,
        ):
            by = client(certificate, version=version)
            for _ in range(2):
                async with connection(lb, by) as one:
                    assert await one.ask() == 200
            for seen in origin.requests:
                chain = seen.value(PREFIX.encode())
                assert chain is not None
                assert unquote_to_bytes(chain).strip() in certificate.read_bytes()
                assert seen.value(f"{PREFIX}-Subject".encode()) is None
            for record in lb.log:
                assert (record.client_verification, record.client_subject) == ("unverified", "CN=app,O=Example")

    run(main())


def test_passthrough_tells_the_whole_chain_up_to_a_limit(tmp_path: Path) -> None:
    certificate = ROOT.client(tmp_path, APP)
    pem = certificate.read_bytes()
    key = pem[pem.index(b"-----BEGIN PRIVATE") :]
    chain = pem.removesuffix(key)
    (tmp_path / "chain.pem").write_bytes(chain + ROOT.pem + key)
    (tmp_path / "long.pem").write_bytes(chain + ROOT.pem * 30 + key)

    async def main() -> None:
        asked = secure(client_certificates=trusting("passthrough"), limits=ListenerLimits(connections_per_source=1))
        async with Origin(response(b"ok")) as origin, balancing(origin.port, **asked) as lb:
            async with connection(lb, client(tmp_path / "chain.pem")) as one:
                assert await one.ask() == 200
            told = origin.requests[0].value(PREFIX.encode())
            assert told is not None
            assert len(x509.load_pem_x509_certificates(unquote_to_bytes(told))) == 2
            await refused(lb, client(tmp_path / "long.pem"))
            assert dict(lb.listener.counters.failed) == {"client_certificate_too_large": 1}
            assert lb.log[-1].reason == "client_certificate_too_large"
            async with connection(lb, client(tmp_path / "chain.pem")) as one:
                assert await one.ask() == 200, "who was refused counts no longer for its source"

    run(main())


def test_a_name_cannot_write_a_field(tmp_path: Path) -> None:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "a\r\nX-Admin: yes"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Öl"),
        ]
    )
    certificate = ROOT.client(tmp_path, subject)

    async def main() -> None:
        async with (
            Origin(response(b"ok")) as origin,
            balancing(origin.port, **secure(client_certificates=trusting("required"))) as lb,
        ):
            async with connection(lb, client(certificate)) as one:
                assert await one.ask() == 200
            seen = origin.requests[0]
            assert seen.value(b"X-Admin") is None
            assert seen.value(f"{PREFIX}-Subject".encode()) == b"O=\\C3\\96l,CN=a\\0D\\0AX-Admin: yes"

    run(main())


def test_a_tls_listener_lets_only_known_clients_through(tmp_path: Path) -> None:
    certificate = ROOT.client(tmp_path, APP)

    async def main() -> None:
        async with (
            Origin(response(b"ok")) as origin,
            balancing(
                origin.port,
                group={"protocol": "TCP"},
                **secure(protocol="TLS", client_certificates=trusting("required")),
            ) as lb,
        ):
            async with connection(lb, client(certificate)) as one:
                assert await one.ask() == 200
            await refused(lb, client())
            assert dict(lb.listener.counters.failed) == {"client_certificate_missing": 1}
            assert [record.reason for record in lb.log if record.reason.startswith("client_certificate")]

    run(main())


# -- SNI and Host ------------------------------------------------------------------------------------------------------

TENANTS = (
    issue("a.example.org", "shared.example.org", name="a"),
    issue("b.example.org", "*.b.example.org", name="b"),
)


@pytest.mark.parametrize(
    ("name", "host", "status"),
    [
        ("a.example.org", "a.example.org", 200),
        ("a.example.org", "A.Example.org:443", 200),
        ("a.example.org", "shared.example.org", 200),  # the same certificate is for it
        ("a.example.org", "unknown.example.org", 200),  # no certificate is for it: rules decide
        ("a.example.org", "192.0.2.1", 200),
        ("a.example.org", "b.example.org", 421),
        ("a.example.org", "B.example.org.", 421),
        ("a.example.org", "www.b.example.org:8443", 421),
        ("b.example.org", "www.b.example.org", 200),
        ("www.b.example.org", "a.example.org", 421),
        ("unknown.example.org", "b.example.org", 421),  # the default certificate is a's
        ("unknown.example.org", "a.example.org", 200),
        (None, "b.example.org", 200),  # a client that names no server contradicts nothing
    ],
)
@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_a_host_of_another_certificate_is_misdirected(name: str | None, host: str, status: int, alpn: str) -> None:
    async def main() -> None:
        async with Origin(response(b"ok")) as origin, balancing(origin.port, **secure(*TENANTS)) as lb:
            if alpn == "h2":
                fields = [(key, host.encode() if key == b":authority" else value) for key, value in GET]
                async with Http2Client(lb.port, ssl=client(alpn=alpn), server_hostname=name or "") as two:
                    assert (await two.ask(fields)).status == b"%d" % status
            else:
                async with connection(lb, client(), name) as one:
                    assert await one.ask(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode()) == status
            assert len(origin.requests) == (status == 200)
            reason = "misdirected_request" if status == 421 else ""
            assert [(record.status, record.reason) for record in lb.log] == [(status, reason)]
            assert lb.log[0].host == host.partition(":")[0].lower().encode()
            assert lb.log[0].server_name == (name or "")
            assert dict(lb.listener.counters.failed) == ({reason: 1} if reason else {})

    run(main())


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_why_a_request_is_misdirected_can_be_asked(alpn: str) -> None:
    async def main() -> None:
        async with balancing(**secure(*TENANTS, tracing=TracingSpec())) as lb:
            if alpn == "h2":
                fields = [(key, b"b.example.org" if key == b":authority" else value) for key, value in GET]
                async with Http2Client(lb.port, ssl=client(alpn=alpn), server_hostname="a.example.org") as two:
                    await two.ask(fields)
            else:
                async with connection(lb, client()) as one:
                    await one.ask(GET_A.replace(b"a.ex", b"b.ex"))
            found = lb.proxy.explain(lb.log[0].request_id)
            assert found is not None
            decision, served = found
            assert (decision.misdirected, decision.server_name) == (True, "a.example.org")
            assert (decision.certificates, decision.answer, decision.tried) == (("a",), "421", ())
            assert (served.status, served.reason, served.rule) == (421, "misdirected_request", "")

    run(main())


def test_the_server_name_of_a_request_that_was_served_is_told() -> None:
    async def main() -> None:
        listener = secure(*TENANTS, tracing=TracingSpec())
        async with Origin(*[response(b"ok")] * 3) as origin, balancing(origin.port, **listener) as lb:
            async with connection(lb, client()) as one:
                assert [await one.ask() for _ in range(3)] == [200] * 3
            for record in lb.log:
                found = lb.proxy.explain(record.request_id)
                assert found is not None
                assert (found[0].server_name, found[0].certificates, found[1].status) == ("a.example.org", ("a",), 200)

    run(main())


def test_what_was_served_before_is_not_blamed_for_what_is_misdirected() -> None:
    async def main() -> None:
        async with Origin(response(b"ok"), response(b"ok")) as origin, balancing(origin.port, **secure(*TENANTS)) as lb:
            async with connection(lb, client()) as one:
                assert await one.ask() == 200
                assert await one.ask() == 200
                assert await one.ask(GET_A.replace(b"a.ex", b"b.ex")) == 421
                assert await one.reader.read() == b""  # the client is to open another connection
            assert [(record.status, record.target) for record in lb.log][-1] == (421, "")
            assert lb.listener.counters.requests == 3

    run(main())


# -- reloads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("mode", ["off", "required"])
@pytest.mark.parametrize("shared", [False, True])  # the key of tickets, with other processes
def test_sessions_resume_over_a_reload_that_leaves_certificates_alone(
    tmp_path: Path, shared: bool, mode: str, version: str
) -> None:
    certificate = ROOT.client(tmp_path, APP)
    asked = None if mode == "off" else trusting(mode)

    async def main() -> None:
        async with (
            Origin(*[response(b"ok")] * 3) as origin,
            balancing(origin.port, **secure(client_certificates=asked)) as lb,
        ):
            by = client(certificate, version=version)
            port = lb.port
            if shared:
                lb.proxy.use_ticket_key(bytes(range(KEY_BYTES)))

            def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
                """In a thread: only blocking sockets let a client bring its session along."""
                with (
                    socket.create_connection(("127.0.0.1", port)) as raw,
                    by.wrap_socket(raw, server_hostname="a.example.org", session=session) as tls,
                ):
                    tls.sendall(GET_A)
                    assert tls.recv(65536).startswith(b"HTTP/1.1 200")
                    return tls.session, tls.session_reused

            session, reused = await asyncio.to_thread(visit, None)
            assert not reused
            await lb.reload(algorithm="weighted_random")
            _, reused = await asyncio.to_thread(visit, session)
            assert reused
            subjects = [seen.value(f"{PREFIX}-Subject".encode()) for seen in origin.requests]
            assert subjects == [None if asked is None else b"CN=app,O=Example"] * 2  # known from the ticket
            # What is asked of clients is another matter: whom we knew before does not count then.
            await lb.reload(client_certificates=trusting("optional"))
            _, reused = await asyncio.to_thread(visit, session)
            assert not reused

    run(main())


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_stay() -> None:
    async def held(exchange: Exchange) -> None:
        await release.wait()
        exchange.writer.write(response(b"late"))

    release = asyncio.Event()

    async def main() -> None:
        async with (
            Origin(response(b"ok"), held, response(b"ok"), response(b"ok")) as origin,
            balancing(origin.port, **secure()) as lb,
        ):
            async with connection(lb, client()) as old:
                assert await old.ask() == 200
                before = old.tls.getpeercert(binary_form=True)
                under_way = asyncio.ensure_future(old.ask())
                while len(origin.requests) < 2:
                    await asyncio.sleep(0.001)
                await lb.reload(certificates=(issue("a.example.org"),))
                async with connection(lb, client()) as new:
                    assert new.tls.getpeercert(binary_form=True) != before
                    assert await new.ask() == 200
                release.set()
                assert await under_way == 200
                assert await old.ask() == 200
            first, new_one, second, third = (record.client for record in lb.log)
            assert first == second == third != new_one  # one connection all along

    run(main())
