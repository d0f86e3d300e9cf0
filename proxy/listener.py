"""One listening address: accept, admit, hand over.

A connection is judged by the firewall before a byte of it is read and before TLS begins; then it belongs to an HTTP
session or a relay. The listener keeps what its connections share: plan, counters, clock, and the set of them.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from .access_log import AccessLog
from .actions import fixed_response
from .clock import Clock
from .counters import ListenerCounters
from .firewall import Firewall
from .http2_session import Http2Session
from .http_session import HttpSession
from .plan import Plan
from .records import connection_record, denial_record, request_record
from .sharing import Sharing
from .specs import FixedResponse, ListenerSpec
from .tcp_session import TcpSession

if TYPE_CHECKING:
    from .exchange import Exchange
    from .tls import ServerContext

BACKLOG = 4096  # the kernel's somaxconn caps it; HAProxy and nginx ask for as much on busy machines
TLS_HANDSHAKE_TIMEOUT = 10.0
ACCEPT_BATCH = 64  # then the loop has its turn
ACCEPT_RETRY = 1.0  # seconds to wait when accepting fails for want of descriptors (asyncio's own figure)


class Connection(Protocol):
    """What a listener knows of each of its connections."""

    deadline: float

    def expire(self) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...


class Listener:
    __slots__ = (
        "_retry",
        "_server",
        "_socket",
        "access_log",
        "bound",
        "clock",
        "connections",
        "context",
        "counters",
        "draining",
        "firewall",
        "handshakes",
        "http2",
        "plan",
        "rng",
        "secure",
        "spec",
    )

    def __init__(self, spec: ListenerSpec, clock: Clock, rng: random.Random, access_log: AccessLog | None) -> None:
        self.spec = spec
        self.clock = clock
        self.rng = rng
        self.access_log = access_log
        self.counters = ListenerCounters()
        self.connections: set[Connection] = set()
        self.handshakes: set[asyncio.Task[None]] = set()
        self.draining = False
        self.secure = spec.protocol in ("HTTPS", "TLS")
        self.http2 = spec.http2 and spec.protocol == "HTTP"  # by prior knowledge; under TLS, ALPN says
        self.bound: tuple[str, int] = (spec.address, spec.port)
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._retry: asyncio.TimerHandle | None = None
        self.plan: Plan
        self.firewall: Firewall
        self.context: ServerContext | None = None

    async def bind(self, predecessor: Listener | None = None, sharing: Sharing = "alone") -> None:
        """Take the address, or a predecessor's socket, without accepting yet.

        OSError names the address when it cannot be had.
        """
        self._socket = _bound_socket(self.spec, sharing) if predecessor is None else predecessor.share()
        self.bound = self._socket.getsockname()[:2]
        if not self.secure and sharing != "reserved":
            # uvloop accepts in C. It takes the descriptor it is given for its own, so it is given a second one.
            self._server = await asyncio.get_running_loop().create_server(
                self._accept, sock=self._socket.dup(), backlog=BACKLOG, start_serving=False
            )

    def share(self) -> socket.socket:
        assert self._socket is not None
        return self._socket.dup()

    def start(self) -> None:
        """Begin to accept."""
        if self._server is not None:
            serving = self._server.start_serving()  # a coroutine that has done its work when it first yields
            with suppress(StopIteration):
                serving.send(None)
            serving.close()
        elif self._socket is not None:
            self._socket.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept_secure, self._socket)

    def become(self, spec: ListenerSpec, plan: Plan, firewall: Firewall, context: ServerContext | None) -> None:
        """One new configuration, for all that begins from now on."""
        self.spec = spec
        self.plan = plan
        self.firewall = firewall
        self.context = context
        self.secure = spec.protocol in ("HTTPS", "TLS")
        self.http2 = spec.http2 and spec.protocol == "HTTP"

    def _accept(self) -> asyncio.Protocol:
        return Admission(self)

    def admit(self, transport: asyncio.Transport) -> None:
        """A plain connection was accepted: judge it, and give it a session."""
        source: tuple[str, int] = transport.get_extra_info("peername")
        local: tuple[str, int] = transport.get_extra_info("sockname")
        if not self._admitted(source, local):
            transport.abort()
            return
        protocol = HttpSession(self) if self.spec.protocol == "HTTP" else TcpSession(self).client
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _admitted(self, source: tuple[str, int], local: tuple[str, int]) -> bool:
        verdict = self.firewall.arrival(source[0], source[1], local[0], local[1])
        if verdict.allowed:
            self.counters.accepted += 1
            self.counters.active += 1
            return True
        self.counters.denied[verdict.rule] += 1
        if self.access_log is not None:
            self.access_log.add(denial_record(self, source, verdict))
        return False

    def _accept_secure(self, listening: socket.socket) -> None:
        """TLS: the verdict must come before the handshake, so the connection is accepted as a plain socket.

        (A transport that is upgraded later would read on meanwhile, and lose the ClientHello.)
        """
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPT_BATCH):
            try:
                client, source = listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:  # out of descriptors or memory: the kernel's queue waits until there are some
                self.counters.failed["accept_failed"] += 1
                loop.remove_reader(listening.fileno())
                self._retry = loop.call_later(
                    ACCEPT_RETRY, loop.add_reader, listening.fileno(), self._accept_secure, listening
                )
                return
            if not self._admitted(source[:2], client.getsockname()[:2]):
                client.close()
                continue
            client.setblocking(False)
            handshake = loop.create_task(self._handshake(client))
            self.handshakes.add(handshake)
            handshake.add_done_callback(self.handshakes.discard)

    async def _handshake(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        protocol = Negotiated(self) if self.spec.protocol == "HTTPS" else TcpSession(self).client
        try:
            await loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self.context, ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT
            )
        except (OSError, EOFError, TimeoutError):  # ssl.SSLError and ConnectionError are OSErrors
            self.counters.tls_failed += 1
            self.counters.active -= 1
        except asyncio.CancelledError:
            self.counters.active -= 1
            raise

    def release(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            self.counters.active -= 1

    def replace(self, old: Connection, new: Connection) -> None:
        self.connections.remove(old)
        self.connections.add(new)

    def forwarded_tail(self, client: str, port: int) -> bytes:
        """What ends every request head to a target: the client in X-Forwarded-For, and how it reached us."""
        scheme = b"https" if self.secure else b"http"
        return b"%b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %d\r\n\r\n" % (client.encode(), scheme, port)

    def error_response(self, status: int, *, close: bool, head: bool) -> bytes:
        return fixed_response(_error(status), date=self.clock.date, close=close, head=head)

    def log_request(self, session: Exchange, duration: float) -> None:
        assert self.access_log is not None
        self.access_log.add(request_record(self, session, duration))

    def log_connection(self, session: TcpSession, duration: float) -> None:
        assert self.access_log is not None
        self.access_log.add(connection_record(self, session, duration))

    def sweep(self, now: float) -> None:
        for connection in [connection for connection in self.connections if connection.deadline <= now]:
            connection.expire()

    def close(self) -> None:
        """Accept nothing more, and let each connection end after what it is doing."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        if self._retry is not None:
            self._retry.cancel()
        if self._socket is not None:
            if self._server is None:
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        for handshake in self.handshakes:
            handshake.cancel()
        for connection in list(self.connections):
            connection.abort()

    def __repr__(self) -> str:
        return f"<Listener {self.spec.key} {self.spec.protocol}: {len(self.connections)} connections>"


def _bound_socket(spec: ListenerSpec, sharing: Sharing) -> socket.socket:
    family = socket.AF_INET6 if ":" in spec.address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sharing == "shared":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((spec.address, spec.port))
        if sharing == "reserved":
            # Only now: before, it would let us join a stranger's port of the same user instead of hearing of him.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, os.strerror(error.errno or 0), spec.key) from error
    return listening


@cache
def _error(status: int) -> FixedResponse:
    """What a client reads when we have no better answer. The reason is for the log, not for strangers."""
    phrase = "Too Many Forwarded Addresses" if status == 463 else HTTPStatus(status).phrase
    return FixedResponse(status, "text/plain", f"{status} {phrase}\n")


class Negotiated(asyncio.Protocol):
    """HTTPS after its handshake: ALPN has chosen what is spoken."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection = transport.get_extra_info("ssl_object")
        session = (
            Http2Session(self._listener) if connection.selected_alpn_protocol() == "h2" else HttpSession(self._listener)
        )
        transport.set_protocol(session)
        session.connection_made(transport)


class Admission(asyncio.Protocol):
    """A connection's first moment, before it has a session."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._listener.admit(transport)
