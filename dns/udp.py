"""DNS over UDP: a socket of our own that is drained in bursts.

asyncio's datagram transports cost several times what the work itself does, so the loop only says that the socket is
readable. A query seen before costs one look-up in a dict, two concatenations and a sendto.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any

from .guard import Guard
from .responder import Responder

BURST = 64  # datagrams before the loop gets its turn back: 0.4 ms at most, so TCP and timers are not starved
RECEIVE_SIZE = 4096  # no query is longer; what is cut off here is malformed then, and told so
RECEIVE_BUFFER = 4 << 20  # octets that wait in the kernel while the loop is busy; net.core.rmem_max may allow less

_IP_PKTINFO = 8  # Linux's number; Python 3.11 has a name for IPv6's only

Address = tuple[Any, ...]


def udp_socket(address: str, port: int, shared: bool = False) -> socket.socket:
    """Bound, not yet read. No SO_REUSEADDR: a second server on our port is a mistake to hear about.

    `shared` is SO_REUSEPORT, for several processes that belong together and have made sure of the port before.
    """
    parsed = ip_address(address)
    family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if parsed.is_unspecified and family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif parsed.is_unspecified:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


class UdpListener:
    __slots__ = ("_guard", "_loop", "_responder", "_sock", "_wildcard")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, responder: Responder) -> None:
        self._loop = loop
        self._sock = sock
        self._responder = responder
        self._guard: Guard | None = None
        self._wildcard = ip_address(sock.getsockname()[0]).is_unspecified

    def start(self, guard: Guard | None = None) -> None:
        """Again when the guard has changed."""
        self._guard = guard
        self._loop.add_reader(self._sock, self._way_to_drain())

    def stop(self) -> None:
        """A burst of what has arrived is still answered. The socket stays open for answers under way, until `close`."""
        self._loop.remove_reader(self._sock)
        self._way_to_drain()()

    def _way_to_drain(self) -> Callable[[], None]:
        """Chosen once, so that no query pays for what is not configured."""
        if self._guard is not None:
            return partial(self._drain_guarded, self._guard)
        return self._drain_wildcard if self._wildcard else self._drain

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _drain(self) -> None:
        responder = self._responder
        receive, send = self._sock.recvfrom, self._sock.sendto
        for _ in range(BURST):
            try:
                query, client = receive(RECEIVE_SIZE)
            except OSError:  # BlockingIOError: drained
                return
            # Looked up each time, for answering may replace it.
            memo = responder.memo
            reply = (responder.memos.by_client[client[0]] if memo is None else memo).get(query[2:])
            if reply is not None:
                reply.hits += 1
                packet = query[:2] + reply.head + reply.tail()
            else:
                packet = responder.respond(query, "udp", self._deliver_to(client), client[0])
                if not isinstance(packet, bytes):
                    continue
            try:
                send(packet, client)
            except OSError as error:
                self._count_failure(error)

    def _drain_wildcard(self) -> None:
        """On 0.0.0.0 and [::] an answer must leave from the address that was asked, or the client will not know it.

        What the kernel said about the query's destination is handed back to it as the answer's source.
        """
        responder = self._responder
        for _ in range(BURST):
            try:
                query, destination, _flags, client = self._sock.recvmsg(RECEIVE_SIZE, 64)
            except OSError:
                return
            memo = responder.memo
            reply = (responder.memos.by_client[client[0]] if memo is None else memo).get(query[2:])
            if reply is not None:
                reply.hits += 1
                packet = query[:2] + reply.head + reply.tail()
            else:
                packet = responder.respond(query, "udp", self._deliver_to(client, destination), client[0])
                if not isinstance(packet, bytes):
                    continue
            self._send(packet, client, destination)

    def _drain_guarded(self, guard: Guard) -> None:
        for _ in range(BURST):
            try:
                query, destination, _flags, client = self._sock.recvmsg(RECEIVE_SIZE, 64 if self._wildcard else 0)
            except OSError:
                return
            packet = guard.respond(query, client[0], "udp", self._deliver_to(client, destination))
            if isinstance(packet, bytes):
                self._send(packet, client, destination)

    def _deliver_to(
        self, client: Address, destination: list[tuple[int, int, bytes]] | None = None
    ) -> Callable[[bytes], None]:
        return lambda packet: self._send(packet, client, destination or [])

    def _send(self, packet: bytes, client: Address, destination: list[tuple[int, int, bytes]]) -> None:
        try:
            self._sock.sendmsg([packet], destination, 0, client)
        except OSError as error:
            self._count_failure(error)

    def _count_failure(self, error: OSError) -> None:
        """Full buffers, a firewall's EPERM, source port 0 (EINVAL), a socket that was closed: the client asks again."""
        self._responder.counters.send_failed[errno.errorcode.get(error.errno or 0, "other")] += 1
