"""One listening address: accept, admit, hand over.

A connection is judged by the firewall before a byte of it is read and before TLS begins; then it belongs to an HTTP
session or a relay. The listener keeps what its connections share: plan, counters, clock, and the set of them.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from .access_log import AccessLog
from .actions import fixed_response
from .clock import Clock
from .counters import ListenerCounters
from .firewall import Firewall
from .http_session import HttpSession
from .plan import Plan
from .records import connection_record, denial_record, request_record
from .specs import FixedResponse, ListenerSpec
from .tcp_session import TcpSession

if TYPE_CHECKING:
    from .tls import ServerContext

BACKLOG = 4096  # the kernel's somaxconn caps it; HAProxy and nginx ask for as much on busy machines
TLS_HANDSHAKE_TIMEOUT = 10.0


class Connection(Protocol):
    """What a listener knows of each of its connections."""

    deadline: float

    def expire(self) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...


class Listener:
    __slots__ = (
        "_server",
        "access_log",
        "bound",
        "clock",
        "connections",
        "context",
        "counters",
        "draining",
        "firewall",
        "handshakes",
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
        self.bound: tuple[str, int] = (spec.address, spec.port)
        self._server: asyncio.Server | None = None
        self.plan: Plan
        self.firewall: Firewall
        self.context: ServerContext | None = None

    async def bind(self) -> None:
        """Listen, without accepting yet. OSError names the address when it cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._accept, self.spec.address, self.spec.port, backlog=BACKLOG, start_serving=False
            )
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), self.spec.key) from error
        self.bound = self._server.sockets[0].getsockname()[:2]

    def start(self) -> None:
        """Begin to accept, now: `start_serving` is a coroutine that has done its work when it first yields."""
        assert self._server is not None
        serving = self._server.start_serving()
        with suppress(StopIteration):
            serving.send(None)
        serving.close()

    def become(self, spec: ListenerSpec, plan: Plan, firewall: Firewall, context: ServerContext | None) -> None:
        """One new configuration, for all that begins from now on."""
        self.spec = spec
        self.plan = plan
        self.firewall = firewall
        self.context = context
        self.secure = spec.protocol in ("HTTPS", "TLS")

    def _accept(self) -> asyncio.Protocol:
        return Admission(self)

    def admit(self, transport: asyncio.Transport) -> None:
        """The firewall's verdict on a connection that was just accepted, and what follows from it."""
        source: tuple[str, int] = transport.get_extra_info("peername")
        local: tuple[str, int] = transport.get_extra_info("sockname")
        verdict = self.firewall.arrival(source[0], source[1], local[0], local[1])
        if not verdict.allowed:
            self.counters.denied[verdict.rule] += 1
            if self.access_log is not None:
                self.access_log.add(denial_record(self, source, verdict))
            transport.abort()
            return
        self.counters.accepted += 1
        self.counters.active += 1
        if self.secure:
            transport.pause_reading()  # the ClientHello belongs to the TLS layer, which comes in a moment
            handshake = asyncio.get_running_loop().create_task(self._handshake(transport))
            self.handshakes.add(handshake)
            handshake.add_done_callback(self.handshakes.discard)
        elif self.spec.protocol == "HTTP":
            session = HttpSession(self)
            transport.set_protocol(session)
            session.connection_made(transport)
        else:
            TcpSession(self).begin(transport)

    async def _handshake(self, transport: asyncio.Transport) -> None:
        session = HttpSession(self) if self.spec.protocol == "HTTPS" else TcpSession(self)
        protocol = session if isinstance(session, HttpSession) else session.relay.client
        assert self.context is not None
        try:
            secure = await asyncio.get_running_loop().start_tls(
                transport, protocol, self.context, server_side=True, ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT
            )
        except (OSError, EOFError, TimeoutError):  # ssl.SSLError and ConnectionError are OSErrors
            secure = None
        except asyncio.CancelledError:
            transport.abort()
            self.counters.active -= 1
            raise
        if secure is None or secure.is_closing():
            transport.abort()
            self.counters.tls_failed += 1
            self.counters.active -= 1
        elif isinstance(session, HttpSession):
            session.connection_made(secure)
        else:
            session.begin(secure)

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

    def log_request(self, session: HttpSession, duration: float) -> None:
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
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        for handshake in self.handshakes:
            handshake.cancel()
        for connection in list(self.connections):
            connection.abort()

    def __repr__(self) -> str:
        return f"<Listener {self.spec.key} {self.spec.protocol}: {len(self.connections)} connections>"


@cache
def _error(status: int) -> FixedResponse:
    """What a client reads when we have no better answer. The reason is for the log, not for strangers."""
    phrase = "Too Many Forwarded Addresses" if status == 463 else HTTPStatus(status).phrase
    return FixedResponse(status, "text/plain", f"{status} {phrase}\n")


class Admission(asyncio.Protocol):
    """A connection's first moment, before it has a session."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._listener.admit(transport)
