"""DNS over UDP: a socket of our own that is drained in bursts.

asyncio's datagram transports cost several times what the work itself does, so the loop only says that the socket is
readable. A query seen before costs one look-up in a dict and a copy; system calls are shared by a burst where there
are such calls.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from functools import partial
from ipaddress import ip_address

from .bursts import SLOT_SIZE, SLOTS, Address, Ancillary, burst
from .guard import Guard
from .responder import Later, Responder

RECEIVE_BUFFER = 4 << 20  # octets that wait in the kernel while the loop is busy; net.core.rmem_max may allow less

_IP_PKTINFO = 8  # Linux's number; Python 3.11 has a name for IPv6's only


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
    __slots__ = ("_burst", "_guard", "_loop", "_responder", "_sock")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, responder: Responder) -> None:
        self._loop = loop
        self._sock = sock
        self._responder = responder
        self._guard: Guard | None = None
        self._burst = burst(sock)

    def start(self, guard: Guard | None = None) -> None:
        """Again when the guard has changed."""
        self._guard = guard
        self._loop.add_reader(self._sock, self._drain_burst if self._burst is not None else self._drain)

    def stop(self) -> None:
        """A burst of what has arrived is still answered. The socket stays open for answers under way, until `close`."""
        self._loop.remove_reader(self._sock)
        self._drain()

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _drain_burst(self) -> None:
        """The answers leave together, from the address that was asked (`_drain` says why)."""
        burst, responder, guard = self._burst, self._responder, self._guard
        assert burst is not None
        received, memory, senders, sizes = burst.received, burst.memory, burst.senders, burst.sizes
        lengths = burst.receive()
        first = 0  # of the slots whose answers wait to be sent
        for slot, (at, host, length) in enumerate(zip(burst.places, burst.hosts, lengths, strict=False)):
            # Looked up each time, for answering may replace it.
            memo = responder.memo
            if memo is None:
                memo = responder.memos.by_client[senders[host]]
            reply = None if guard is not None else memo.get(received[at + 2 : at + length])
            if reply is not None:
                reply.hits += 1
                body = reply.head + reply.tail()
                size = len(body) + 2
                memory[at + 2 : at + size] = body  # the id stays where it is
            else:
                query = received[at : at + length]
                packet = memo.absence.answer(query) if guard is None else None
                if packet is None:
                    packet = self._answer(query, burst.client(slot), burst.ancillary(slot))
                if not isinstance(packet, bytes):
                    self._count_failure(burst.send(first, slot))
                    first = slot + 1
                    continue
                size = len(packet)
                memory[at : at + size] = packet
            sizes[slot] = size
        self._count_failure(burst.send(first, len(lengths)))

    def _drain(self) -> None:
        """One by one.

        On 0.0.0.0 and [::] an answer must leave from the address that was asked, or the client will not know it: what
        the kernel said about the query's destination is handed back to it as the answer's source.
        """
        for _ in range(SLOTS):
            try:
                query, destination, _flags, client = self._sock.recvmsg(SLOT_SIZE, 64)
            except OSError:  # BlockingIOError: drained
                return
            reply = self._responder.remembered(query[2:], client[0]) if self._guard is None else None
            if reply is not None:
                reply.hits += 1
                packet = query[:2] + reply.head + reply.tail()
            else:
                packet = self._answer(query, client, destination)
            if isinstance(packet, bytes):
                self._send(client, destination, packet)

    def _answer(self, query: bytes, client: Address, destination: Ancillary) -> bytes | Later | None:
        """To a query that is new, or that the guard looks at."""
        deliver = partial(self._send, client, destination)
        if self._guard is not None:
            return self._guard.respond(query, client[0], "udp", deliver)
        return self._responder.respond(query, "udp", deliver, client[0])

    def _send(self, client: Address, destination: Ancillary, packet: bytes) -> None:
        try:
            self._sock.sendmsg([packet], destination, 0, client)
        except OSError as error:
            self._count_failure(errno.errorcode.get(error.errno or 0, "other"))

    def _count_failure(self, name: str | None) -> None:
        """Full buffers, a firewall's EPERM, source port 0 (EINVAL), a socket that was closed: the client asks again."""
        if name is not None:
            self._responder.counters.send_failed[name] += 1
