"""PROXY protocol headers, from proxies before us and to targets behind us, and what is made of them."""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import suppress
from typing import Any, Self

import pytest

from penstock.proxy.checks import Checker
from penstock.proxy.health import CheckKey, HealthTable
from penstock.proxy.proxy_protocol import SIGNATURE, build, build_local, parse
from penstock.proxy.specs import (
    ALL_PORTS,
    FirewallSpec,
    HealthCheckSpec,
    ListenerLimits,
    Peers,
    SecurityGroupSpec,
    SecurityRuleSpec,
    TargetTlsSpec,
    TrustedProxiesSpec,
)
from penstock.proxy.tls import server_context
from support import Origin, run
from support.balancer import Balancer, balancing
from support.certificates import issue

CLIENT, SERVER = ("203.0.113.9", 51000), ("198.51.100.1", 8443)
GET = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
LOOPBACK = TrustedProxiesSpec(("127.0.0.0/8",))
ELSEWHERE = TrustedProxiesSpec(("192.0.2.0/24",))


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_announced_client_is_the_client(version: Any) -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, proxy_protocol=LOOPBACK) as lb:
            answer = await lb.exchange(build(version, CLIENT, SERVER) + GET)
            assert answer.startswith(b"HTTP/1.1 200 ")
            (request,) = origin.requests
            assert request.value(b"x-forwarded-for") == b"203.0.113.9"
            assert request.value(b"x-forwarded-port") == b"8443"
            assert [record.client for record in lb.log] == ["203.0.113.9:51000"]

    run(main())


def test_a_header_may_come_a_byte_at_a_time_and_what_follows_it_is_kept() -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, proxy_protocol=LOOPBACK) as lb:
            for header in (build("v1", CLIENT, SERVER), build("v2", CLIENT, SERVER)):
                reader, writer = await asyncio.open_connection("127.0.0.1", lb.port)
                for byte in header[:-1]:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0.001)
                writer.write(header[-1:] + GET)
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                writer.close()

    run(main())


@pytest.mark.parametrize("header", [build_local("v1"), build_local("v2")], ids=["UNKNOWN", "LOCAL"])
def test_a_proxy_that_speaks_for_itself_is_the_client(header: bytes) -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, proxy_protocol=LOOPBACK) as lb:
            await lb.exchange(header + GET)
            assert origin.requests[0].value(b"x-forwarded-for") == b"127.0.0.1"

    run(main())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(GET, "proxy_header_missing", id="none"),
        pytest.param(b"PROXY TCP4 203.0.113.9\r\n" + GET, "proxy_header_bad", id="bad"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * 200, "proxy_header_too_long", id="v1 too long"),
        pytest.param(SIGNATURE + b"\x21\x11\xff\xff" + GET, "proxy_header_too_long", id="v2 too long"),
        pytest.param(b"PROXY TC", "proxy_header_missing", id="cut short"),
        pytest.param(b"", "proxy_header_missing", id="nothing"),
    ],
)
def test_required_means_required(sent: bytes, reason: str) -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, proxy_protocol=LOOPBACK) as lb:
            assert await lb.exchange(sent, half_close=True) == b"", "there is nobody to speak HTTP to yet"
            assert not origin.requests
            counters = lb.listener.counters
            assert (counters.failed, counters.requests) == ({reason: 1}, 0)
            assert [(record.kind, record.reason) for record in lb.log] == [("http", reason)]

    run(main())


def test_a_proxy_that_sends_nothing_is_not_waited_for() -> None:
    async def main() -> None:
        limits = ListenerLimits(proxy_header_timeout=0.05)
        async with Origin() as origin, balancing(origin.port, proxy_protocol=LOOPBACK, limits=limits) as lb:
            assert await lb.exchange(b"") == b""
            assert lb.listener.counters.failed == {"proxy_header_timeout": 1}
            assert [record.reason for record in lb.log] == ["proxy_header_timeout"]

    run(main())


def test_a_stranger_is_not_believed_and_not_let_in() -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, proxy_protocol=ELSEWHERE) as lb:
            for sent in (build("v1", CLIENT, SERVER) + GET, GET):
                assert await lb.exchange(sent) == b""
            assert not origin.requests
            assert lb.listener.counters.denied == {"proxy_protocol:untrusted": 2}
            assert {record.denied_by for record in lb.log} == {"proxy_protocol:untrusted"}

    run(main())


def test_not_required_strangers_are_their_own_clients() -> None:
    async def main() -> None:
        open_to_all = TrustedProxiesSpec(ELSEWHERE.cidrs, required=False)
        async with Origin() as origin, balancing(origin.port, proxy_protocol=open_to_all) as lb:
            assert (await lb.exchange(GET)).startswith(b"HTTP/1.1 200 ")
            assert origin.requests[0].value(b"x-forwarded-for") == b"127.0.0.1"
            answer = await lb.exchange(build("v1", CLIENT, SERVER) + GET)
            assert answer.startswith(b"HTTP/1.1 400 "), "a stranger's header is no header, but a bad request line"

    run(main())


def test_the_firewall_judges_who_connects() -> None:
    """A security group lets in the proxies; the clients whom they announce have sent us no packet."""
    who = Peers("127.0.0.0/8", ("127.0.0.0/8",))
    rule = SecurityRuleSpec("tcp", ALL_PORTS, who)
    firewall = FirewallSpec((SecurityGroupSpec("web-sg", (rule,), (rule,)),))

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, proxy_protocol=LOOPBACK, firewall=firewall) as lb:
            assert (await lb.exchange(build("v2", CLIENT, SERVER) + GET)).startswith(b"HTTP/1.1 200 ")

    run(main())


@pytest.mark.parametrize("protocol", ["HTTPS", "TLS"])
def test_the_header_comes_before_tls(protocol: Any) -> None:
    async def main() -> None:
        group = {"protocol": "HTTP" if protocol == "HTTPS" else "TCP"}
        async with (
            Origin() as origin,
            balancing(
                origin.port, group=group, protocol=protocol, proxy_protocol=LOOPBACK, certificates=(issue("a"),)
            ) as lb,
        ):
            answer = await over_tls(lb, build("v2", CLIENT, SERVER))
            assert answer.startswith(b"HTTP/1.1 200 ")
        (record,) = lb.log
        assert record.client == "203.0.113.9:51000"
        assert record.tls_protocol == "TLSv1.3"

    run(main())


async def over_tls(lb: Balancer, header: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", lb.port)
    writer.write(header)
    # Header and ClientHello are likely to arrive together: the transport goes over to TLS with nothing in between.
    await writer.start_tls(unverified())
    writer.write(GET)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return answer


def test_a_reload_turns_it_on_and_off_without_losing_the_address() -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port) as lb:
            for proxies, sent in ((LOOPBACK, build("v1", CLIENT, SERVER) + GET), (None, GET)):
                await lb.reload(proxy_protocol=proxies)
                assert lb.listener.bound[1] == lb.port
                assert (await lb.exchange(sent)).startswith(b"HTTP/1.1 200 ")
            assert [each.value(b"x-forwarded-for") for each in origin.requests] == [b"203.0.113.9", b"127.0.0.1"]

    run(main())


# -- towards targets --------------------------------------------------------------------------------------------------


class Target:
    """Keeps what each connection sent to its end, and answers so that HTTP clients are content."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.connections: list[bytes] = []
        self._tls = tls

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = b""
        answered = 0
        try:
            if self._tls is not None:
                heard = await reader.readexactly(28)  # v2 and IPv4, to the byte
                await writer.start_tls(self._tls)
            while piece := await reader.read(65536):
                heard += piece
                while heard.count(b"HTTP/1.1\r\n") > answered:
                    answered += 1
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            pass
        finally:
            self.connections.append(heard)
            writer.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tcp_targets_are_told_who_the_client_is(version: Any) -> None:
    async def main() -> None:
        group = {"protocol": "TCP", "proxy_protocol": version}
        async with Target() as target, balancing(target.port, protocol="TCP", group=group) as lb:
            reader, writer = await asyncio.open_connection("127.0.0.1", lb.port)
            source = writer.get_extra_info("sockname")
            writer.write(b"hello")
            writer.write_eof()
            await reader.read()
            writer.close()
            (heard,) = target.connections
            assert heard == build(version, source, ("127.0.0.1", lb.port)) + b"hello"

    run(main())


def test_an_announced_client_is_announced_further() -> None:
    async def main() -> None:
        group = {"protocol": "TCP", "proxy_protocol": "v2"}
        async with (
            Target() as target,
            balancing(target.port, protocol="TCP", group=group, proxy_protocol=LOOPBACK) as lb,
        ):
            await lb.exchange(build("v1", CLIENT, SERVER) + b"hello", half_close=True)
            assert target.connections == [build("v2", CLIENT, SERVER) + b"hello"]

    run(main())


def test_http_targets_get_a_connection_for_each_client() -> None:
    async def main() -> None:
        group = {"protocol": "HTTP", "proxy_protocol": "v1"}
        async with Target() as target, balancing(target.port, group=group) as lb:
            reader, writer = await asyncio.open_connection("127.0.0.1", lb.port)
            source = writer.get_extra_info("sockname")
            for _ in range(2):
                writer.write(GET.replace(b"Connection: close\r\n", b""))
                assert b"200 OK" in await reader.readuntil(b"ok")
            writer.close()
            assert not lb.group().targets[0].idle, "a connection that names one client is lent to no other"
        header = build("v1", source, ("127.0.0.1", lb.port))
        assert len(target.connections) == 2
        assert all(heard.startswith(header + b"GET / ") for heard in target.connections)

    run(main())


def test_the_header_goes_before_tls_to_the_target() -> None:
    certificate = issue("db.example.org")

    async def main() -> None:
        group = {"protocol": "TLS", "proxy_protocol": "v2", "tls": TargetTlsSpec(verify=False)}
        context = server_context((certificate,), "TLS-1-2")
        async with Target(context) as target, balancing(target.port, protocol="TCP", group=group) as lb:
            await lb.exchange(GET, half_close=True)
            (heard,) = target.connections
            header = parse(heard)
            assert header is not None
            assert header.source is not None
            assert header.source[0] == "127.0.0.1"
            assert heard[header.length :] == GET

    run(main())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_checks_of_such_targets_say_that_they_are_our_own(version: Any) -> None:
    async def main() -> None:
        table = HealthTable()
        heard = asyncio.get_running_loop().create_future()
        table.subscribe(lambda _: heard.done() or heard.set_result(None))
        async with Target() as target:
            check = HealthCheckSpec(proxy_protocol=version, healthy_threshold=1)
            key = CheckKey.of("127.0.0.1", target.port, check)
            checker = Checker(table, connect_allowed=lambda _: None, rng=random.Random(1))
            checker.apply([key])
            await asyncio.wait_for(heard, 5)
            assert table.view[key].state == "healthy"
            await checker.stop()
            while not target.connections:
                await asyncio.sleep(0.01)
            assert target.connections[0].startswith(build_local(version) + b"GET / HTTP/1.1\r\n")

    run(main())
