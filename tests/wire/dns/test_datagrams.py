"""Datagrams by bursts and one by one: whoever asked gets what is theirs, and nobody can tell the two apart."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import ExitStack

import dns.message
import dns.rcode
import pytest

from penstock.dns import bursts
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, NetworkSpec, ServiceSpec
from support import dns_packets as packets
from support.dns_net import LOCAL, PATIENCE, resolving, serving
from support.loop import run

MODES = ["bursts", "one by one"]


@pytest.fixture(autouse=True, params=MODES)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "one by one":
        monkeypatch.setattr(bursts, "_FUNCTIONS", None)
    elif bursts._FUNCTIONS is None:
        pytest.skip("there are no such calls here")
    return request.param


def client(stack: ExitStack, server: tuple[str, int], address: str = "") -> socket.socket:
    """Connected: what comes from another address or port than was asked, it does not hear."""
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
    if address:
        sock.bind((address, 0))
    sock.connect(server)
    return sock


async def received(sock: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65535), PATIENCE)


def named(number: int) -> bytes:
    """A question of its own: id and name both tell the number."""
    return packets.header(message_id=number) + packets.question(f"n{number}.corp.internal")


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.9"),
        ("::1", "::1"),
        ("::", "::1"),
    ],
)
@pytest.mark.parametrize("count", [1, bursts.SLOTS, 2 * bursts.SLOTS + 1])
def test_each_of_many_clients_gets_its_own_answer(listen: str, asked: str, count: int) -> None:
    """Sent before the server gets its turn, so they lie in its socket together. Twice: new, then remembered."""

    async def scenario() -> None:
        async with serving(packets.spec(listen=((listen, 0),))) as server:
            with ExitStack() as stack:
                clients = [client(stack, (asked, server.bound[0][1])) for _ in range(count)]
                for _ in range(2):
                    for number, sock in enumerate(clients):
                        sock.send(named(number))
                    for number, sock in enumerate(clients):
                        answer = await received(sock)
                        assert answer[:2] == number.to_bytes(2)
                        assert answer[12:].startswith(named(number)[12:])
            assert server.counters.queries == {("udp", "A"): 2 * count}
            assert not server.counters.send_failed

    run(scenario())


def test_silence_for_some_of_a_burst_moves_nobody_elses_answer() -> None:
    """What is dropped, what a resolver is asked, and what is too long for a slot lie between others."""
    foreign = packets.header(message_id=7) + packets.question("www.example.org")
    too_long = packets.header(message_id=8) + packets.question() + bytes(bursts.SLOT_SIZE)
    sent = [named(0), b"", named(1), b"short", foreign, foreign, named(2), too_long, named(3), b"\0" * 11]

    def resolver_says(query: dns.message.Message, _: str) -> list[bytes]:
        return [dns.message.make_response(query).to_wire()]

    async def scenario() -> None:
        async with (
            resolving(resolver_says) as resolver,
            serving(packets.spec(listen=LOCAL, resolvers=(resolver.address,))) as server,
        ):
            with ExitStack() as stack:
                clients = [client(stack, server.bound[0]) for _ in sent]
                for sock, packet in zip(clients, sent, strict=True):
                    sock.send(packet)
                for sock, packet in zip(clients, sent, strict=True):
                    if len(packet) >= 12:
                        answer = await received(sock)
                        assert answer[:2] == packet[:2]
                        assert answer[12:30] == packet[12:30]
                for sock, packet in zip(clients, sent, strict=True):
                    if len(packet) < 12:
                        with pytest.raises(BlockingIOError):
                            sock.recv(65535)
            assert server.counters.dropped == {"short": 3}
            assert len(resolver.asked) == 1

    run(scenario())


def test_an_answer_that_cannot_be_sent_keeps_back_no_other() -> None:
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    except PermissionError:
        pytest.skip("needs the right to open a raw socket: run as root")

    async def scenario() -> None:
        async with serving(packets.spec(listen=LOCAL)) as server:
            _, port = server.bound[0]
            nowhere = struct.pack("!HHHH", 0, port, 8 + len(named(9)), 0) + named(9)  # from port 0
            with ExitStack() as stack:
                clients = [client(stack, server.bound[0]) for _ in range(4)]
                raw.sendto(nowhere, ("127.0.0.1", 0))
                for number, sock in enumerate(clients):
                    sock.send(named(number))
                    raw.sendto(nowhere, ("127.0.0.1", 0))
                for number, sock in enumerate(clients):
                    assert (await received(sock))[:2] == number.to_bytes(2)
                await asyncio.sleep(0)
            assert set(server.counters.send_failed) == {"EINVAL"}

    with raw:
        run(scenario())


def test_clients_of_two_networks_in_one_burst_see_their_own() -> None:
    def services(address: str) -> tuple[ServiceSpec, ...]:
        return (ServiceSpec("api", (("A", 60),), "weighted", (InstanceSpec("i-1", address, 80),)),)

    spec = DnsSpec(
        LOCAL,
        (
            NamespaceSpec(("one",), services("192.0.2.1"), networks=("one",)),
            NamespaceSpec(("two",), services("192.0.2.2"), networks=("two",)),
        ),
        networks=(NetworkSpec("one", ("127.0.0.1/32",)), NetworkSpec("two", ("127.0.0.2/32",))),
    )
    query = packets.query("api.two")

    async def scenario() -> None:
        async with serving(spec) as server:
            with ExitStack() as stack:
                clients = [client(stack, server.bound[0], f"127.0.0.{1 + n % 2}") for n in range(6)]
                for _ in range(2):
                    for sock in clients:
                        sock.send(query)
                    codes = [dns.message.from_wire(await received(sock)).rcode() for sock in clients]
                    assert codes == [dns.rcode.REFUSED, dns.rcode.NOERROR] * 3

    run(scenario())
