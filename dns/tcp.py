"""DNS over TCP (RFC 7766) and over TLS (RFC 7858): two octets of length before each message, many queries at once,
answers in any order.

A connection is worth what it does: only a complete query moves its deadline, so neither silence nor a byte now and then
holds it. Memory per connection is bounded on both sides: one message coming in, one buffer of answers going out.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from typing import cast

from .counters import Transport
from .guard import Guard
from .responder import LATER, Deliver, Later, Responder
from .secondaries import Secondaries
from .wire import HEADER_SIZE

IDLE_TIMEOUT = 10.0  # seconds since the last complete query; BIND 30, Knot 10, Unbound 30
CONNECTION_LIMIT = 1000  # in all; Knot's tcp-max-clients takes half the descriptors, BIND's tcp-clients is 150
ADDRESS_LIMIT = 100  # per client address, so that one cannot take all
WRITE_BUFFER = 256 << 10  # octets of answers that wait for a slow reader; then it is not read from until it catches up
PENDING_LIMIT = 128  # forwarded questions of one connection; then it is not read from until one is answered
BURST = 64  # messages before the loop gets its turn back
BACKLOG = 512
FLUSH_TIMEOUT = 0.5  # seconds that a stopping server gives the last answers to leave
HANDSHAKE_TIMEOUT = 5.0  # seconds for TLS; the proxy's listeners give 10
ACCEPT_PAUSE = 1.0  # seconds without accepting when descriptors have run out; asyncio's


def tcp_socket(address: str, port: int, shared: bool = False) -> socket.socket:
    """Bound and listening, so that a port in use shows now; nobody is accepted yet.

    SO_REUSEADDR is what lets a restart bind while old connections are in TIME_WAIT; two listeners it does not allow.
    `shared` is SO_REUSEPORT, for several processes that belong together and have made sure of the port before.
    """
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class Stream(asyncio.Protocol):
    """One connection, whatever is spoken on it. Only a complete query moves its deadline."""

    __slots__ = ("_connections", "_transport", "client", "deadline")

    def __init__(self, connections: Connections, client: str) -> None:
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self.client = client
        self.deadline = connections.loop.time() + IDLE_TIMEOUT

    @property
    def busy(self) -> bool:
        """Somebody waits for an answer."""
        raise NotImplementedError

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        if self not in self._connections:  # evicted, or the server stopped, before it began
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.remove(self)

    def close(self) -> None:
        """After what has been written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _alive(self) -> None:
        self.deadline = self._connections.loop.time() + IDLE_TIMEOUT


class DnsStream(Stream):
    """Messages with their lengths before them."""

    __slots__ = ("_buffer", "_ended", "_paused", "_pending", "_scheduled", "_speaks", "_zone")

    def __init__(self, connections: Connections, client: str, speaks: Transport = "tcp") -> None:
        super().__init__(connections, client)
        self._speaks: Transport = speaks
        self._buffer = bytearray()
        self._pending = 0
        self._paused = False  # our answers are not read
        self._ended = False  # the client has sent its last query
        self._scheduled = False
        self._zone: Iterator[bytes] | None = None  # under way to a secondary

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    def connection_lost(self, exc: Exception | None) -> None:
        self._buffer.clear()
        self._zone = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._work()

    def eof_received(self) -> bool:
        """A half-closed client still gets its answers; the connection closes after the last."""
        self._ended = True
        self._work()
        return self._speaks == "tcp"  # below TLS nothing can be half closed

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._work()

    def _work(self) -> None:
        """Answers the complete messages that are there, as far as the limits allow; then decides whether to read on."""
        if self._scheduled:
            return
        done = 0
        at = 0
        while self._open and not self._paused and self._pending < PENDING_LIMIT:
            if done == BURST:
                self._scheduled = True
                self._connections.loop.call_soon(self._resume)
                break
            if self._zone is not None:
                self._send_of(self._zone)
                done = BURST
                continue
            if len(self._buffer) < at + 2:
                break
            end = at + 2 + int.from_bytes(self._buffer[at : at + 2])
            if end < at + 2 + HEADER_SIZE:  # not DNS
                self.abort()
                return
            if len(self._buffer) < end:
                break
            message = bytes(self._buffer[at + 2 : end])
            at = end
            done += 1
            self._alive()
            self._answer(message)
        del self._buffer[:at]
        self._read_on()

    def _resume(self) -> None:
        self._scheduled = False
        self._work()

    def _answer(self, message: bytes) -> None:
        secondaries = self._connections.secondaries
        if secondaries is not None and (zone := secondaries.transfer(message, self.client)) is not None:
            self._zone = zone
            return
        packet = self._connections.respond(message, self.client, self._speaks, self._deliver)
        if packet is LATER:
            self._pending += 1
        elif packet is None:
            self.close()
        else:
            self._write(packet)

    def _send_of(self, zone: Iterator[bytes]) -> None:
        packet = next(zone, None)
        if packet is None:
            self._zone = None
        elif packet:
            self._write(packet)
        self._alive()

    def _deliver(self, packet: bytes) -> None:
        self._pending -= 1
        self._write(packet)
        self._work()

    def _write(self, packet: bytes) -> None:
        if self._transport is not None and self._open:
            self._transport.write(len(packet).to_bytes(2) + packet)

    def _read_on(self) -> None:
        transport = self._transport
        if transport is None or not self._open:
            return
        stalled = self._scheduled or self._paused or self._pending >= PENDING_LIMIT
        if self._ended:
            if not stalled and not self._pending:
                transport.close()
        elif stalled:
            transport.pause_reading()
        else:
            transport.resume_reading()


class Connections:
    """All TCP connections of a server: their caps, and one timer for all deadlines."""

    __slots__ = ("_addresses", "_emptied", "_responder", "_streams", "_timer", "guard", "loop", "secondaries")

    def __init__(self, loop: asyncio.AbstractEventLoop, responder: Responder) -> None:
        self.loop = loop
        self._responder = responder
        self.guard: Guard | None = None
        self.secondaries: Secondaries | None = None
        self._streams: dict[Stream, None] = {}  # in order of arrival
        self._addresses: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._streams

    def respond(self, message: bytes, client: str, speaks: Transport, deliver: Deliver) -> bytes | Later | None:
        if self.guard is not None:
            return self.guard.respond(message, client, speaks, deliver)
        return self._responder.respond(message, speaks, deliver, client)

    def admit(self, client: str, make: Callable[[], Stream]) -> Stream | None:
        """A place for a connection, at the cost of the one that has been idle longest if the house is full."""
        counters = self._responder.counters
        if self._addresses[client] >= ADDRESS_LIMIT:
            admitted = self._evict(client)
        elif len(self._streams) >= CONNECTION_LIMIT:
            admitted = self._evict(None)
        else:
            admitted = True
        if not admitted:
            counters.tcp_refused += 1
            return None
        stream = make()
        self._streams[stream] = None
        self._addresses[client] += 1
        counters.tcp_accepted += 1
        counters.tcp_active += 1
        if self._timer is None:
            self._timer = self.loop.call_later(1.0, self._sweep)
        return stream

    def remove(self, stream: Stream) -> None:
        if stream not in self._streams:
            return
        del self._streams[stream]
        self._addresses[stream.client] -= 1
        if not self._addresses[stream.client]:
            del self._addresses[stream.client]
        self._responder.counters.tcp_active -= 1
        if not self._streams and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def count_failed_handshake(self) -> None:
        self._responder.counters.tls_handshakes_failed += 1

    def close_idle(self) -> None:
        for stream in [stream for stream in self._streams if not stream.busy]:
            stream.close()

    async def stop(self) -> None:
        """Everybody gets what was written for him, unless he does not read it."""
        for stream in list(self._streams):
            stream.close()
        if self._streams:
            self._emptied = self.loop.create_future()
            await asyncio.wait([self._emptied], timeout=FLUSH_TIMEOUT)
        for stream in list(self._streams):
            self.remove(stream)
            stream.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _evict(self, client: str | None) -> bool:
        idle = [s for s in self._streams if not s.busy and (client is None or s.client == client)]
        if not idle:
            return False
        oldest = min(idle, key=lambda stream: stream.deadline)
        self.remove(oldest)
        oldest.abort()
        return True

    def _sweep(self) -> None:
        now = self.loop.time()
        for stream in [stream for stream in self._streams if stream.deadline < now and not stream.busy]:
            stream.abort()
        self._timer = self.loop.call_later(1.0, self._sweep) if self._streams else None


class TcpListener:
    """`make` makes what speaks with a client; with a `context` it does so below TLS."""

    __slots__ = ("_connecting", "_connections", "_loop", "_sock", "_timer", "context", "make")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        connections: Connections,
        context: ssl.SSLContext | None = None,
        make: Callable[[Connections, str], Stream] | None = None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._connections = connections
        self.context = context  # replaced when certificates are: for connections that come then
        self.make = make or DnsStream
        self._connecting: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accepts nobody any more; connections that are open go on."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(BURST):
            try:
                sock, client = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # The socket stays readable: wait instead of spinning until somebody closes something.
                    self._loop.remove_reader(self._sock)
                    self._timer = self._loop.call_later(ACCEPT_PAUSE, self.start)
                    return
                continue  # this client is gone already (ECONNABORTED)
            make = partial(self.make, self._connections, client[0])
            stream = self._connections.admit(client[0], make)
            if stream is None:
                sock.close()
                continue
            task = self._loop.create_task(self._connect(sock, stream))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def handshakes_ended(self) -> None:
        """Nobody who is not through his handshake will be answered."""
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    async def _connect(self, sock: socket.socket, stream: Stream) -> None:
        try:
            if self.context is None:
                await self._loop.connect_accepted_socket(lambda: stream, sock)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: stream, sock, ssl=self.context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
                )
        except BaseException as error:
            self._connections.remove(stream)
            sock.close()
            if self.context is not None and isinstance(error, (OSError, EOFError)):
                self._connections.count_failed_handshake()
            if not isinstance(error, (OSError, EOFError)):
                raise
