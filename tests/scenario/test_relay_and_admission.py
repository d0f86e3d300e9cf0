"""TCP and TLS listeners, TLS for HTTP, and who is let in at all."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from penstock.proxy.specs import (
    ALL_PORTS,
    AclRuleSpec,
    FirewallSpec,
    FixedResponse,
    NetworkAclSpec,
    Peers,
    PlacementSpec,
    SecurityGroupSpec,
    SecurityRuleSpec,
)
from support import Origin, response, run
from support.balancer import balancing
from support.certificates import issue

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
EVERYONE = Peers("0.0.0.0/0", ("0.0.0.0/0",))
NOBODY_HERE = Peers("192.0.2.0/24", ("192.0.2.0/24",))
LOOPBACK = Peers("127.0.0.0/8", ("127.0.0.0/8",))


@asynccontextmanager
async def tcp_server(handler: Any) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def count_then_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the client's end, then say how much there was: only half-close makes this possible."""
    size = 0
    while piece := await reader.read(65536):
        size += len(piece)
    writer.write(b"%d bytes" % size)
    await writer.drain()
    writer.close()


def test_tcp_relays_bytes_and_half_close() -> None:
    async def main() -> None:
        async with (
            tcp_server(count_then_answer) as port,
            balancing(port, protocol="TCP", group={"protocol": "TCP"}) as lb,
        ):
            assert await lb.exchange(b"x" * 1_000_000, half_close=True) == b"1000000 bytes"
            assert await lb.exchange(b"", half_close=True) == b"0 bytes"
            record = lb.log[0]
            assert (record.kind, record.received_bytes, record.sent_bytes) == ("tcp", 1_000_000, 13)
            assert record.reason in ("client_closed", "target_closed")

    run(main())


def test_tcp_target_speaks_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    async def main() -> None:
        async with tcp_server(greet) as port, balancing(port, protocol="TCP", group={"protocol": "TCP"}) as lb:
            assert await lb.exchange(b"") == b"220 hello\r\n"

    run(main())


def test_tcp_goes_to_the_next_target_when_one_refuses() -> None:
    async def main() -> None:
        async with Origin() as gone:
            dead = gone.port
        async with (
            tcp_server(count_then_answer) as port,
            balancing(dead, port, protocol="TCP", group={"protocol": "TCP"}) as lb,
        ):
            for _ in range(4):
                assert await lb.exchange(b"abc", half_close=True) == b"3 bytes"

    run(main())


def test_tcp_without_targets_ends_the_connection() -> None:
    async def main() -> None:
        async with balancing(protocol="TCP", group={"protocol": "TCP"}) as lb:
            assert await lb.exchange(b"abc") == b""
            assert lb.log[0].reason == "no_target"
            assert lb.listener.counters.failed["no_target"] == 1

    run(main())


def test_tcp_idle_connections_end() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        async with tcp_server(hold) as port, balancing(port, protocol="TCP", group={"protocol": "TCP"}) as lb:
            exchange = asyncio.create_task(lb.exchange(b"abc"))
            while not lb.group().targets[0].connections:
                await asyncio.sleep(0.001)
            lb.proxy.clock.now += 351
            lb.listener.sweep(lb.proxy.clock.now)
            assert await exchange == b""
            assert lb.log[0].reason == "idle_timeout"

    run(main())


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_https_forwards_and_says_so() -> None:
    certificate = issue("localhost", "example.org")

    async def main() -> None:
        async with (
            Origin(response(b"secret")) as origin,
            balancing(origin.port, protocol="HTTPS", certificates=(certificate,)) as lb,
        ):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", lb.port, ssl=client_context(), server_hostname="example.org"
            )
            writer.write(LAST)
            assert (await reader.read()).endswith(b"secret")
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            assert origin.requests[0].value(b"X-Forwarded-Proto") == b"https"
            record = lb.log[0]
            assert (record.kind, record.certificate) == ("https", certificate.name)
            assert record.tls_protocol == "TLSv1.3"

    run(main())


def test_tls_listener_relays_what_it_decrypts() -> None:
    certificate = issue("example.org")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with (
            tcp_server(echo) as port,
            balancing(port, protocol="TLS", group={"protocol": "TCP"}, certificates=(certificate,)) as lb,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", lb.port, ssl=client_context())
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    run(main())


def test_bytes_sent_with_the_end_of_the_handshake_are_not_lost() -> None:
    """A client that sends its request in the same segment as its Finished message, a hundred times."""
    certificate = issue("example.org")

    async def main() -> None:
        async with (
            Origin(response(b"ok")) as origin,
            balancing(origin.port, protocol="HTTPS", certificates=(certificate,)) as lb,
        ):
            for _ in range(100):
                assert (await _eager_tls_client(lb.port)).endswith(b"ok")

    run(main())


async def _eager_tls_client(port: int) -> bytes:
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing)
    answer = b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(client, outgoing.read())
                incoming.write(await loop.sock_recv(client, 65536))
        tls.write(LAST)
        await loop.sock_sendall(client, outgoing.read())  # Finished and the request, in one segment
        while True:
            try:
                piece = tls.read(65536)
            except ssl.SSLWantReadError:
                data = await loop.sock_recv(client, 65536)
                if not data:
                    return answer
                incoming.write(data)
                continue
            except ssl.SSLZeroReturnError:
                return answer
            if not piece:
                return answer
            answer += piece


def test_a_handshake_that_fails_is_counted_and_leaves_nothing() -> None:
    certificate = issue("example.org")

    async def main() -> None:
        async with balancing(protocol="HTTPS", certificates=(certificate,)) as lb:
            await lb.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", half_close=True)
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert lb.listener.counters.tls_failed == 1
            assert lb.listener.counters.active == 0

    run(main())


def groups(*sources: Peers, egress: Peers = EVERYONE) -> tuple[SecurityGroupSpec, ...]:
    rules = tuple(SecurityRuleSpec("tcp", ALL_PORTS, source) for source in sources)
    return (SecurityGroupSpec("web-sg", ingress=rules, egress=(SecurityRuleSpec("all", ALL_PORTS, egress),)),)


def acl(*inbound: tuple[int, tuple[int, int], bool], outbound: bool = True) -> tuple[PlacementSpec, ...]:
    spec = NetworkAclSpec(
        "app-acl",
        inbound=tuple(AclRuleSpec(number, "tcp", ports, EVERYONE, allow) for number, ports, allow in inbound),
        outbound=(AclRuleSpec(100, "all", ALL_PORTS, EVERYONE, outbound),),
    )
    return (PlacementSpec("app-subnet-1", "10.0.1.0/24", spec),)


DENIED: dict[str, tuple[FirewallSpec, str]] = {
    "no rule for this source": (FirewallSpec(groups=groups(NOBODY_HERE)), "sg:web-sg/ingress/default"),
    "no rule at all": (FirewallSpec(groups=groups()), "sg:web-sg/ingress/default"),
    "a group list that is empty": (FirewallSpec(groups=()), "sg:-/ingress/default"),
    "ACL denies": (FirewallSpec(placements=acl((100, ALL_PORTS, False))), "acl:app-acl/inbound/100"),
    "ACL has no rule": (FirewallSpec(placements=acl()), "acl:app-acl/inbound/*"),
    "ACL lets nothing back": (
        FirewallSpec(placements=acl((100, ALL_PORTS, True), outbound=False)),
        "acl:app-acl/outbound/100",
    ),
}


@pytest.mark.parametrize("name", DENIED)
@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS", "TCP"])
def test_denied_before_a_byte_is_read(name: str, protocol: str) -> None:
    firewall, rule = DENIED[name]
    certificates = (issue("example.org"),) if protocol == "HTTPS" else ()

    async def main() -> None:
        async with (
            Origin() as origin,
            balancing(origin.port, protocol=protocol, firewall=firewall, certificates=certificates) as lb,
        ):
            assert await lb.exchange(LAST) == b""
            counters = lb.listener.counters
            assert dict(counters.denied) == {rule: 1}
            assert (counters.accepted, counters.bytes_in, counters.tls_failed) == (0, 0, 0)
            assert [(record.reason, record.denied_by) for record in lb.log] == [("denied", rule)]
            assert origin.connections == 0

    run(main())


def test_admitted_by_group_and_acl() -> None:
    firewall = FirewallSpec(groups=groups(LOOPBACK), placements=acl((100, ALL_PORTS, True)))

    async def main() -> None:
        async with Origin(response(b"in")) as origin, balancing(origin.port, firewall=firewall) as lb:
            assert (await lb.exchange(LAST)).endswith(b"in")

    run(main())


def test_a_target_that_egress_forbids_is_503_and_names_the_rule() -> None:
    firewall = FirewallSpec(groups=groups(LOOPBACK, egress=NOBODY_HERE))

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, firewall=firewall) as lb:
            assert (await lb.exchange(LAST)).startswith(b"HTTP/1.1 503 ")
            assert lb.log[0].reason == "target_denied"
            assert lb.log[0].denied_by == "sg:web-sg/egress/default"
            assert origin.connections == 0

    run(main())


def test_a_target_whose_answers_the_acl_keeps_out_is_503() -> None:
    """Stateless: what the target answers comes to our ephemeral port, and the ACL admits only the listener's."""

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port) as lb:
            firewall = FirewallSpec(placements=acl((100, (lb.port, lb.port), True)))
            lb.spec = lb.spec.__class__(
                listeners=lb.spec.listeners,
                target_groups=lb.spec.target_groups,
                group_firewalls=(("tg", firewall),),
            )
            await lb.reload(firewall=firewall)
            assert (await lb.exchange(LAST)).startswith(b"HTTP/1.1 503 ")
            assert lb.log[0].reason == "target_denied"

    run(main())


def test_a_reload_changes_who_is_admitted_and_keeps_who_is_in() -> None:
    async def main() -> None:
        async with Origin(response(b"in")) as origin, balancing(origin.port) as lb:
            reader, writer = await asyncio.open_connection("127.0.0.1", lb.port)
            await asyncio.sleep(0.01)
            await lb.reload(firewall=FirewallSpec(groups=groups(NOBODY_HERE)))
            assert await lb.exchange(LAST) == b""
            writer.write(LAST)
            assert (await reader.read()).endswith(b"in"), "security groups are stateful: who is in stays in"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_listener_that_turns_to_tls_and_back_keeps_its_address_and_its_connections() -> None:
    async def main() -> None:
        async with Origin(response(b"in")) as origin, balancing(origin.port) as lb:
            plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", lb.port)
            await asyncio.sleep(0.01)
            await lb.reload(protocol="HTTPS", certificates=(issue("example.org"),))
            assert lb.listener.bound[1] == lb.port
            assert (await _eager_tls_client(lb.port)).endswith(b"in")
            plain_writer.write(LAST)
            assert await plain_reader.read() == b"", "an idle plain connection ends with the plain listener"
            plain_writer.close()
            await lb.reload(protocol="HTTP", certificates=())
            assert (await lb.exchange(LAST)).endswith(b"in")

    run(main())


def test_a_port_in_use_is_said_with_its_address_and_changes_nothing() -> None:
    async def main() -> None:
        async with Origin(response(b"ok")) as origin, balancing(origin.port) as lb:
            taken = lb.spec.listeners[0].__class__(
                load_balancer="lb",
                address="127.0.0.1",
                port=origin.port,
                protocol="HTTP",
                default_action=FixedResponse(200),
            )
            spec = lb.spec.__class__(
                listeners=(*lb.spec.listeners, taken), target_groups=lb.spec.target_groups, group_firewalls=()
            )
            with pytest.raises(OSError, match=f"127.0.0.1:{origin.port}"):
                await lb.proxy.prepare(spec)
            assert len(lb.proxy.listeners) == 1
            assert (await lb.exchange(LAST)).endswith(b"ok")

    run(main())


def test_an_aborted_change_leaves_no_listener() -> None:
    async def main() -> None:
        async with Origin() as origin, balancing(origin.port) as lb:
            port = _free_port()
            more = lb.spec.listeners[0].__class__(
                load_balancer="lb", address="127.0.0.1", port=port, protocol="HTTP", default_action=FixedResponse(200)
            )
            spec = lb.spec.__class__(listeners=(*lb.spec.listeners, more), target_groups=lb.spec.target_groups)
            prepared = await lb.proxy.prepare(spec)
            prepared.abort()
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            (await lb.proxy.prepare(spec)).commit()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(LAST)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()

    run(main())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS", "TCP"])
def test_clients_that_are_gone_before_they_are_accepted(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """As port scanners and the checks of other load balancers do it: connect, and reset."""

    async def main() -> None:
        more: dict[str, Any] = {"certificates": (issue("a.example.org"),)} if protocol == "HTTPS" else {}
        async with Origin(response()) as origin, balancing(origin.port, protocol=protocol, **more) as lb:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", lb.port)) as client:  # the kernel's queue takes it
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            counters = lb.listener.counters
            while counters.failed["client_closed"] + counters.tls_failed < 3:
                await asyncio.sleep(0.001)
            assert counters.active == 0

    run(main())
    assert not caplog.records
