"""Both ends of DNS over real sockets: asking a server, and being the resolver that one asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import dns.message

from penstock.dns.server import DnsServer
from penstock.dns.specs import DnsSpec

LOCAL = (("127.0.0.1", 0),)
PATIENCE = 5.0  # seconds; what takes longer has failed


class Health:
    def __init__(self) -> None:
        self.sick: set[object] = set()

    def is_healthy(self, key: object, /) -> bool:
        return key not in self.sick


@asynccontextmanager
async def serving(spec: DnsSpec, **others: Any) -> AsyncIterator[DnsServer]:
    server = DnsServer(others.pop("health", Health()), **others)
    (await server.prepare(spec)).commit()
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def udp_client(server: tuple[str, int]) -> AsyncIterator[tuple[Callable[[bytes], Any], asyncio.Queue[bytes]]]:
    """`send`, and the queue of what came back to a socket that hears the server's address and port only."""
    loop = asyncio.get_running_loop()
    replies: asyncio.Queue[bytes] = asyncio.Queue()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(server)
        loop.add_reader(sock, lambda: replies.put_nowait(sock.recv(65535)))
        try:
            yield sock.send, replies
        finally:
            loop.remove_reader(sock)


async def over_udp(server: tuple[str, int], packet: bytes) -> bytes:
    async with udp_client(server) as (send, replies):
        send(packet)
        return await asyncio.wait_for(replies.get(), PATIENCE)


@asynccontextmanager
async def tcp_client(server: tuple[str, int]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*server)
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2) + packet


async def read_framed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server ends the connection, by closing or by resetting it."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def over_tcp(server: tuple[str, int], packet: bytes) -> bytes | None:
    """None: the connection was closed without an answer."""
    async with tcp_client(server) as (reader, writer):
        writer.write(framed(packet))
        try:
            return await read_framed(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


# What a fake resolver does with a query: the packets it answers, none for silence.
Script = Callable[[dns.message.Message, str], Iterable[bytes]]


class FakeResolver(asyncio.DatagramProtocol):
    """`script(query, "udp" or "tcp")` says what is answered; `asked` is what came, in order."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, dns.message.Message, Any]] = []
        self.address = ("", 0)
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(("udp", query, addr))
        for packet in self.script(query, "udp"):
            self.send(packet, addr)

    def send(self, packet: bytes, client: Any) -> None:
        self._transport.sendto(packet, client)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            query = dns.message.from_wire(await read_framed(reader))
            self.asked.append(("tcp", query, writer.get_extra_info("peername")))
            for packet in self.script(query, "tcp"):
                writer.write(framed(packet))
        finally:
            writer.close()


@asynccontextmanager
async def resolving(script: Script) -> AsyncIterator[FakeResolver]:
    loop = asyncio.get_running_loop()
    resolver = FakeResolver(script)
    tcp = await asyncio.start_server(resolver.stream, "127.0.0.1", 0)
    resolver.address = tcp.sockets[0].getsockname()
    udp, _ = await loop.create_datagram_endpoint(lambda: resolver, local_addr=resolver.address)
    try:
        yield resolver
    finally:
        udp.close()
        tcp.close()
        await tcp.wait_closed()
