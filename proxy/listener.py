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

from .access_log import NOWHERE, AccessLog, Nowhere
from .actions import fixed_response
from .admission import Admission, Negotiated
from .announced import UNTRUSTED, TrustedProxies, read_header
from .binding import FileIdentity, remove_socket, set_backlog, tcp_socket, unix_socket
from .chunked import ChunkLimits
from .clock import Clock
from .counters import ListenerCounters
from .failed_handshake import FailedHandshake
from .filtering import tell_filters
from .firewall import UNGUARDED, Firewall
from .http1 import HeadMemo
from .http2_session import Http2Session
from .http_client import HttpClient
from .http_fields import HEAD_LIMITS, HeadLimits
from .http_session import HttpSession
from .intake import OUT_OF_DESCRIPTORS, TOO_MANY_IN_ALL, Intake
from .plan import Plan
from .proxy_protocol import BadProxyHeader
from .rate_limit import RateLimits
from .recent import Recent
from .records import connection_record, denial_record, refusal_record, request_record, usual_record
from .relay import RelayEnd
from .sharing import Sharing
from .sources import Sources
from .specs import FixedResponse, ListenerLimits, ListenerSpec
from .tcp_session import TcpSession
from .tls import ON_FAILURE
from .tracing import Tracer
from .turned_away import TurnedAway
from .upstream import MEMO

if TYPE_CHECKING:
    from .exchange import Exchange
    from .log_lines import Format
    from .proxy_protocol import Endpoint
    from .tls import ServerContext

ACCEPT_BATCH = 64  # then the loop has its turn
TOO_MANY = "too_many_connections_of_source"
UNIX_PEER = ("unix", 0)  # who connects to a unix socket, in logs and X-Forwarded-For, unless a proxy announces it
ACCEPT_RETRY = 1.0  # seconds to wait when accepting fails for want of descriptors (asyncio's own figure)


class Connection(Protocol):
    """What a listener knows of each of its connections."""

    deadline: float

    def expire(self) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...


class Listener:
    __slots__ = (
        "_file",
        "_log_file",
        "_retry",
        "_server",
        "_socket",
        "_sources",
        "_swept_at",
        "access_log",
        "bound",
        "by_hand",
        "chunk_limits",
        "clock",
        "connections",
        "context",
        "counters",
        "draining",
        "firewall",
        "handshakes",
        "heads",
        "heads10",
        "http2",
        "intake",
        "keep_alive_timeout",
        "limits",
        "max_request_line",
        "memo",
        "plan",
        "proxies",
        "rates",
        "recent",
        "rng",
        "secure",
        "spec",
        "tracer",
        "usual_format",
    )

    def __init__(self, spec: ListenerSpec, clock: Clock, rng: random.Random, access_log: AccessLog | None) -> None:
        self.spec = spec
        self.clock = clock
        self.rng = rng
        self._log_file = access_log
        self.access_log: AccessLog | Nowhere | None = access_log  # None: nobody wants to know of requests
        self.usual_format: Format | None = None
        self.counters = ListenerCounters()
        self.connections: set[Connection] = set()
        self.handshakes: set[asyncio.Task[None]] = set()
        self.recent = Recent()  # requests that have names; the proxy has one for all its listeners
        self.intake = Intake()  # likewise
        self.draining = False
        self.secure = spec.protocol in ("HTTPS", "TLS")
        self.http2 = spec.http2 and spec.protocol == "HTTP"  # by prior knowledge; under TLS, ALPN says
        self.proxies = None if spec.proxy_protocol is None else TrustedProxies(spec.proxy_protocol)
        # What comes before HTTP or the relay (TLS, a PROXY header) is done on sockets that we accept ourselves.
        self.by_hand = self.secure or spec.is_unix or self.proxies is not None
        self.bound: tuple[str, int] = (spec.address, spec.port)
        self._file: FileIdentity | None = None  # of a unix socket: what is ours to remove
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._sources = Sources()
        self._swept_at = clock.now
        self.rates: RateLimits | None = None
        self._use_limits(spec.limits)
        self.plan: Plan
        self.firewall: Firewall
        self.context: ServerContext | None = None
        self.tracer: Tracer | None = None

    async def bind(self, ready: socket.socket | None = None, sharing: Sharing = "alone") -> None:
        """Take the address, or a socket that has it already, without accepting yet.

        OSError names the address when it cannot be had.
        """
        if ready is not None:
            self._socket = ready
        elif self.spec.is_unix:
            self._socket, self._file = unix_socket(self.spec.address, self.spec.key)
        else:
            self._socket = tcp_socket(self.spec, sharing)
        if not self.spec.is_unix:
            self.bound = self._socket.getsockname()[:2]
        if not self.by_hand and sharing != "reserved":
            # uvloop accepts in C. It takes the descriptor it is given for its own, so it is given a second one.
            self._server = await asyncio.get_running_loop().create_server(
                self._accept, sock=self._socket.dup(), backlog=self.limits.backlog, start_serving=False
            )

    @property
    def listening_socket(self) -> socket.socket | None:
        """What it listens on, None once it is closed."""
        return self._socket

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
            self._socket.listen(self.limits.backlog)
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept_socket, self._socket)

    def become(self, spec: ListenerSpec, plan: Plan, firewall: Firewall, context: ServerContext | None) -> None:
        """One new configuration, for all that begins from now on."""
        self.spec = spec
        self.plan = plan
        self.firewall = firewall
        self.context = context
        self.secure = spec.protocol in ("HTTPS", "TLS")
        self.http2 = spec.http2 and spec.protocol == "HTTP"
        self.proxies = None if spec.proxy_protocol is None else TrustedProxies(spec.proxy_protocol)
        if spec.tracing is None or (spec.tracing.request_id is None and spec.tracing.traceparent == "pass"):
            self.tracer = None
        elif self.tracer is None or self.tracer.spec != spec.tracing:
            self.tracer = Tracer(spec.tracing, os.urandom(8).hex().encode(), self.clock.second)
        if self._socket is not None:
            set_backlog(self._socket, spec.limits.backlog)
        self._use_limits(spec.limits)
        self.use_access_log(self._log_file)

    def use_access_log(self, access_log: AccessLog | None) -> None:
        self._log_file = access_log
        self.access_log = NOWHERE if access_log is None and self.plan.logs else access_log
        # Filters want records.
        self.usual_format = access_log.format if isinstance(access_log, AccessLog) and not self.plan.logs else None

    def _use_limits(self, limits: ListenerLimits) -> None:
        """What is asked for with every request stands on the listener itself."""
        self.limits = limits
        self.max_request_line = limits.request_line
        self.keep_alive_timeout = limits.keep_alive_timeout
        self.chunk_limits = ChunkLimits(limits.chunk_extension, limits.trailer, limits.trailer_fields)
        self.memo = _memo(HeadLimits(limits.field, limits.head, limits.fields, limits.forwarded_for))
        self.heads, self.heads10 = self.memo.requests, self.memo.requests10
        self.rates = RateLimits(limits.rates, self.rates) if limits.rates else None

    def _accept(self) -> asyncio.Protocol:
        return Admission(self)

    def admit(self, transport: asyncio.Transport) -> None:
        """A plain connection was accepted: judge it, and give it a session."""
        source: tuple[str, int] | None = transport.get_extra_info("peername")
        local: tuple[str, int] = transport.get_extra_info("sockname")
        if source is None:  # the client has reset the connection, and its address went with it
            self.counters.failed["client_closed"] += 1
            transport.abort()
            return
        if not self._admitted(source, local):
            transport.abort()
            return
        reason = ""
        if self.intake.may_be_full():
            descriptor: int = transport.get_extra_info("socket").fileno()
            turned_away = descriptor >= self.intake.full_from
            if turned_away and (self.spec.protocol != "HTTP" or descriptor >= self.intake.close_from):
                reason = OUT_OF_DESCRIPTORS
        else:
            turned_away = False
        protocol: HttpSession | RelayEnd
        if self.spec.protocol == "HTTP":
            protocol = TurnedAway(self) if turned_away else HttpSession(self)
            protocol.peer, protocol.local = source[:2], local[:2]
        else:
            protocol = TcpSession(self).client
        if reason or not self._claim(_connection(protocol), source[0]):
            self.turn_away(_connection(protocol), source, reason or TOO_MANY)
            transport.abort()
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def _admitted(self, source: tuple[str, int], local: tuple[str, int]) -> bool:
        if self.spec.is_unix:  # no addresses to judge; the permissions of its file have done so
            verdict = UNGUARDED
        else:
            verdict = self.firewall.arrival(source[0], source[1], local[0], local[1])
            if verdict.allowed and self.proxies is not None and self.proxies.refuses(source[0]):
                verdict = UNTRUSTED
        if verdict.allowed:
            limits = self.limits
            if limits.connections and self.counters.active >= limits.connections:
                self.refuse(source, "too_many_connections")
                return False
            if self.intake.limit and not self.intake.has_room():
                self.refuse(source, TOO_MANY_IN_ALL)
                return False
            self.counters.accepted += 1
            self.counters.active += 1
            return True
        self.counters.denied[verdict.rule] += 1
        if self.access_log is not None:
            self.access_log.add(denial_record(self, source, verdict))
        return False

    def refuse(self, source: Endpoint, reason: str) -> None:
        self.counters.failed[reason] += 1
        if self.access_log is not None:
            self.access_log.add(refusal_record(self, source, reason))

    def _claim(self, connection: object, source: str) -> bool:
        """Count a connection to its source, until it is released. False: the source has as many as it may."""
        limit = 0 if source == UNIX_PEER[0] else self.limits.connections_per_source
        return self._sources.claim(connection, source, limit)

    def _accept_socket(self, listening: socket.socket) -> None:
        """The verdict must come before a PROXY header and a TLS handshake, so the connection is accepted as a socket.

        (A transport that is upgraded later would read on meanwhile, and lose the ClientHello.)
        """
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPT_BATCH):
            try:
                client, peer = listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:  # out of descriptors or memory: the kernel's queue waits until there are some
                self.counters.failed["accept_failed"] += 1
                loop.remove_reader(listening.fileno())
                self._retry = loop.call_later(
                    ACCEPT_RETRY, loop.add_reader, listening.fileno(), self._accept_socket, listening
                )
                return
            if self.spec.is_unix:
                source, local = UNIX_PEER, (UNIX_PEER[0], 443 if self.secure else 80)
            else:
                source, local = peer[:2], client.getsockname()[:2]
            if not self._admitted(source, local):
                client.close()
                continue
            client.setblocking(False)
            if client.fileno() >= self.intake.full_from:
                self._drop(client, source, OUT_OF_DESCRIPTORS)
                continue
            if self.proxies is None and not self._claim(client, source[0]):
                self._drop(client, source, TOO_MANY)
                continue
            handshake = loop.create_task(self._receive(client, source, local))
            self.handshakes.add(handshake)
            handshake.add_done_callback(self.handshakes.discard)

    async def _receive(self, client: socket.socket, source: Endpoint, local: Endpoint) -> None:
        """A PROXY header if this peer owes one, then a TLS handshake if the listener speaks it, then its session."""
        try:
            if self.proxies is not None and (self.spec.is_unix or self.proxies.trusts(source[0])):
                announcement = await read_header(client, self.limits.proxy_header_timeout)
                source, local = announcement.source or source, announcement.destination or local
            if self.proxies is not None and not self._claim(client, source[0]):
                self._drop(client, source, TOO_MANY)
                return
            await self._handshake(client, source, local)
        except BadProxyHeader as error:
            self._drop(client, source, error.reason)
        except TimeoutError:
            self._drop(client, source, "proxy_header_timeout")
        except OSError:
            self._drop(client, source, "proxy_header_missing")
        except asyncio.CancelledError:
            client.close()
            self._uncount(client)
            raise

    def _drop(self, client: socket.socket, source: Endpoint, reason: str) -> None:
        """A connection that was admitted and does not get a session."""
        client.close()
        self.turn_away(client, source, reason)

    def turn_away(self, connection: object, source: Endpoint, reason: str) -> None:
        """It was counted, and will not be in `connections`."""
        self._uncount(connection)
        self.refuse(source, reason)

    def _uncount(self, connection: object) -> None:
        self.counters.active -= 1
        self._sources.release(connection)

    async def _handshake(self, client: socket.socket, source: Endpoint, local: Endpoint) -> None:
        announced = (source, local) if self.proxies is not None or self.spec.is_unix else None
        if self.spec.protocol == "HTTPS":
            protocol = Negotiated(self, announced)
        else:
            session = HttpSession(self) if self.spec.protocol == "HTTP" else TcpSession(self)
            if announced is not None:
                session.peer, session.local = announced
            protocol = session if isinstance(session, HttpSession) else session.client
        self.pass_on(client, _connection(protocol))
        patience = self.limits.tls_handshake_timeout if self.secure else None
        failure = FailedHandshake(client, https=self.spec.protocol == "HTTPS", date=self.clock.date)
        ON_FAILURE.set(failure.told)  # seen by what the loop calls for this connection, and by nothing else
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, client, ssl=self.context, ssl_handshake_timeout=patience
            )
        except (OSError, EOFError) as error:  # ssl.SSLError, ConnectionError and TimeoutError are OSErrors
            self.counters.tls_failed += self.secure
            self._uncount(_connection(protocol))
            reason = failure.reason(error)
            if reason is not None:
                self.refuse(source, reason)
        except asyncio.CancelledError:
            self._sources.release(_connection(protocol))
            raise

    def release(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            self._uncount(connection)

    def replace(self, old: Connection, new: Connection) -> None:
        self.connections.remove(old)
        self.connections.add(new)
        self.pass_on(old, new)

    def pass_on(self, old: object, new: object) -> None:
        """`new` stands where `old` stood in the account of its source."""
        self._sources.pass_on(old, new)

    def forwarded_tail(self, client: str, port: int, identity: bytes = b"") -> bytes:
        """What ends every request head to a target: the client in X-Forwarded-For, and how it reached us.

        `identity` are the lines that tell of its certificate.
        """
        scheme = b"https" if self.secure else b"http"
        return b"%b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %d%b\r\n\r\n" % (
            client.encode(),
            scheme,
            port,
            identity,
        )

    def error_response(self, status: int, *, close: bool, head: bool) -> bytes:
        return fixed_response(_error(status), date=self.clock.date, close=close, head=head)

    def log_request(self, session: Exchange, duration: float) -> None:
        assert self.access_log is not None
        usual = None if self.usual_format is None else usual_record(self, session, duration, self.usual_format)
        if usual is not None:
            self.access_log.add(usual)
            return
        record = request_record(self, session, duration)
        if self.plan.logs:
            tell_filters(self, session, record)
        self.access_log.add(record)

    def log_connection(self, session: TcpSession, duration: float) -> None:
        assert self.access_log is not None
        self.access_log.add(connection_record(self, session, duration))

    def sweep(self, now: float) -> None:
        if self.tracer is not None:
            self.tracer.tick(self.clock.second)
        for connection in [connection for connection in self.connections if connection.deadline <= now]:
            connection.expire()
        elapsed, self._swept_at = now - self._swept_at, now
        limits = self.limits
        for connection in list(self.connections):
            if isinstance(connection, HttpClient | Http2Session) and (connection.busy or now >= connection.retire_at):
                connection.review(limits, now, elapsed)

    def close(self) -> None:
        """Accept nothing more, and let each connection end after what it is doing."""
        self.stop_accepting()
        for connection in list(self.connections):
            connection.drain()

    def stop_accepting(self) -> None:
        """Connections go on, and their next answer tells them to end."""
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
            if self._file is not None:
                remove_socket(self.spec.address, self._file)

    def abort(self) -> None:
        for handshake in self.handshakes:
            handshake.cancel()
        for connection in list(self.connections):
            connection.abort()

    def __repr__(self) -> str:
        return f"<Listener {self.spec.key} {self.spec.protocol}: {len(self.connections)} connections>"


@cache
def _memo(limits: HeadLimits) -> HeadMemo:
    """Listeners with equal limits learn from each other's clients."""
    return MEMO if limits == HEAD_LIMITS else HeadMemo(limits)


def _connection(protocol: HttpSession | Negotiated | RelayEnd) -> object:
    """What a protocol is called in the account of its source: what `release` will be told of."""
    return protocol.relay if isinstance(protocol, RelayEnd) else protocol


@cache
def _error(status: int) -> FixedResponse:
    """What a client reads when we have no better answer. The reason is for the log, not for strangers."""
    phrase = "Too Many Forwarded Addresses" if status == 463 else HTTPStatus(status).phrase
    return FixedResponse(status, "text/plain", f"{status} {phrase}\n")
