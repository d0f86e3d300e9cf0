"""The DNS plane: listeners, answers, forwarding, and their life.

`prepare` binds what is new and compiles, and changes nothing that anyone can see; `commit` is one plain call that swaps
the answers and opens the new listeners; `abort` undoes. A listener that stays in the configuration is never touched,
the cache and the counters stay with the server.

    server = DnsServer(health)
    prepared = await server.prepare(DnsSpec(listen=(("127.0.0.1", 8053),), namespaces=(...)))
    prepared.commit()
    ...
    await server.stop(grace=5)
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

from .answers import Answers
from .cache import Cache
from .counters import DnsCounters
from .discover import EVERYBODY, Query
from .forwarder import TRY_TIMEOUT, Forwarder
from .guard import Guard
from .https import HttpsStream
from .instances import Instance, is_up
from .query_log import QueryLog
from .responder import Responder
from .secondaries import Secondaries
from .serial import SerialClock
from .specs import DnsSpec, HealthSource, InstanceSpec
from .tcp import Connections, DnsStream, Stream, TcpListener, tcp_socket
from .top_names import TopNames
from .transport_specs import BY_DEFAULT, SecureListenerSpec, SecureProtocol, TransportSpec
from .udp import UdpListener, udp_socket

Endpoint = tuple[str, int]
SecureEndpoint = tuple[str, int, SecureProtocol]
Contexts = Callable[[Hashable, SecureProtocol], ssl.SSLContext]

PORT_TRIES = 16  # for port 0: the port that UDP was given may be taken on TCP


@dataclass(frozen=True, slots=True)
class _Listener:
    """One address and port, UDP and TCP."""

    bound: Endpoint
    udp: UdpListener
    tcp: TcpListener

    def start(self, guard: Guard | None) -> None:
        self.udp.start(guard)
        self.tcp.start()

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()


@dataclass(frozen=True, slots=True)
class _SecureListener:
    bound: Endpoint
    tcp: TcpListener


class Prepared:
    """A configuration that is ready; exactly one of `commit` and `abort` is called."""

    __slots__ = ("_abort", "_commit")

    def __init__(self, commit: Callable[[], None], abort: Callable[[], None]) -> None:
        self._commit = commit
        self._abort = abort

    def commit(self) -> None:
        self._commit()

    def abort(self) -> None:
        self._abort()


class DnsServer:
    """`contexts` makes what TLS needs out of a listener's identity; it may raise ValueError for a bad certificate."""

    def __init__(
        self,
        health: HealthSource,
        *,
        resolver_timeout: float = TRY_TIMEOUT,
        shared: bool = False,
        contexts: Contexts | None = None,
    ) -> None:
        self._health = health
        self._contexts = contexts
        self._shared = shared  # other processes listen at the same addresses (SO_REUSEPORT)
        self._counters = DnsCounters()
        self._forwarder = Forwarder(Cache(), self._counters, resolver_timeout)
        nothing = Answers(DnsSpec(), self._is_healthy, 0)
        self._responder = Responder(nothing, self._forwarder, self._counters)
        self._serial = SerialClock(self._responder.move_serial)
        self._changed_meanwhile = set[Hashable]()  # whose health has changed since the last `prepare`
        self._connections: Connections | None = None
        self._listeners: dict[Endpoint, _Listener] = {}  # by what the specification says, where the port may be 0
        self._secure: dict[SecureEndpoint, _SecureListener] = {}
        self._transport = BY_DEFAULT
        self._guard: Guard | None = None
        self._query_log: QueryLog | None = None

    @property
    def bound(self) -> list[Endpoint]:
        """Where it listens, with the ports that 0 became."""
        return [listener.bound for listener in self._listeners.values()]

    @property
    def answers(self) -> Answers:
        """What it says now, to be explained."""
        return self._responder.answers

    @property
    def bound_secure(self) -> list[SecureEndpoint]:
        """Where it listens for DNS over TLS and over HTTPS."""
        return [(*listener.bound, protocol) for (_, _, protocol), listener in self._secure.items()]

    @property
    def top_names(self) -> TopNames | None:
        return self._guard.top_names if self._guard is not None else None

    @property
    def counters(self) -> DnsCounters:
        self._responder.count_hits()
        if self._query_log is not None:
            self._counters.query_log_lost = self._query_log.lost
        return self._counters

    def health_changed(self, keys: Iterable[Hashable]) -> None:
        """From the next query on, what hangs on these keys is answered by their present health."""
        keys = tuple(keys)
        self._changed_meanwhile.update(keys)
        with self._watching():
            self._responder.health_changed(keys)

    def register(self, namespace: str, service: str, instance: InstanceSpec) -> None:
        """From the next query on the service has it, until another configuration. ValueError in words if it cannot."""
        with self._watching():
            self._responder.register(namespace, service, instance)

    def deregister(self, namespace: str, service: str, instance_id: str) -> None:
        """From the next query on the service has it no more. ValueError in words if it is not there."""
        with self._watching():
            self._responder.deregister(namespace, service, instance_id)

    def discover(self, namespace: str, service: str, query: Query = EVERYBODY) -> list[Instance]:
        """Whom a query finds, in an order of chance. ValueError in words if there is no such service."""
        return self.answers.discover(namespace, service, query, random.sample)

    async def prepare(self, spec: DnsSpec) -> Prepared:
        """OSError with the address in it if one cannot be bound, ValueError in words for a mistake in `spec`."""
        loop = asyncio.get_running_loop()
        if self._connections is None:
            self._connections = Connections(loop, self._responder)
        # In a thread: a thousand instances take some 80 ms, and queries must not wait for that.
        changed = self._changed_meanwhile = set[Hashable]()
        answers = await asyncio.to_thread(Answers, spec, self._is_healthy, self._serial.number, self._responder.answers)
        opened: dict[Endpoint, _Listener] = {}
        opened_secure: dict[SecureEndpoint, _SecureListener] = {}
        contexts = {secure: self._context(secure) for secure in spec.transport.secure}
        with ExitStack() as undo:
            for endpoint in dict.fromkeys(spec.listen):
                if endpoint not in self._listeners:
                    opened[endpoint] = self._bind(loop, *endpoint, self._connections)
                    undo.callback(opened[endpoint].close)
            listeners = {endpoint: opened.get(endpoint) or self._listeners[endpoint] for endpoint in spec.listen}
            for secure in spec.transport.secure:
                place = (secure.address, secure.port, secure.protocol)
                if place not in self._secure:
                    opened_secure[place] = self._bind_secure(loop, secure, contexts[secure], self._connections)
                    undo.callback(opened_secure[place].tcp.close)
            guard, query_log = self._prepare_guard(spec.transport, undo)
            resolvers = [*spec.resolvers, *(resolver for zone in spec.forwarding.zones for resolver in zone.resolvers)]
            _refuse_loop(resolvers, [listener.bound for listener in listeners.values()])
            abort = undo.pop_all().close

        def commit() -> None:
            closing = [listener for endpoint, listener in self._listeners.items() if endpoint not in listeners]
            answers.move_serial(self._serial.advance())
            self._forwarder.use(spec.resolvers, spec.forwarding)
            self._responder.use(answers, spec.recursion)
            self._responder.health_changed(changed)  # it may have read those before they changed
            self._listeners = listeners
            self._use_guard(guard, query_log, spec.transport)
            for listener in opened.values():
                listener.start(guard)
            for listener in closing:
                listener.udp.stop()
                listener.close()
            self._use_secure(spec.transport, contexts, opened_secure)

        return Prepared(commit, abort)

    async def stop(self, grace: float) -> None:
        """Takes no more queries; those under way have `grace` seconds to be answered, by SERVFAIL in the end."""
        self._serial.stop()
        listeners, self._listeners = self._listeners, {}
        secure, self._secure = self._secure, {}
        for listener in listeners.values():
            listener.udp.stop()
            listener.tcp.close()
        for listener in secure.values():
            listener.tcp.close()
        if self._connections is not None:
            self._connections.close_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._forwarder.drained()
        await self._forwarder.stop()
        await asyncio.gather(*(listener.tcp.handshakes_ended() for listener in secure.values()))
        if self._connections is not None:
            await self._connections.stop()
        for listener in listeners.values():
            listener.udp.close()
        if self._query_log is not None:
            await asyncio.to_thread(self._query_log.close)
            self._query_log = None

    def reopen_query_log(self) -> None:
        """After its file was moved away, for rotation."""
        if self._query_log is not None:
            self._query_log.reopen()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """If zones change within, their serial moves."""
        registry = self._responder.answers.registry
        before = registry.changes
        yield
        if registry.changes != before:
            self._serial.contents_changed()

    def _is_healthy(self, instance: InstanceSpec) -> bool:
        return is_up(instance, self._health)

    def _bind(self, loop: asyncio.AbstractEventLoop, address: str, port: int, connections: Connections) -> _Listener:
        udp, tcp = _bind_both(address, port, self._shared)
        bound = (address, udp.getsockname()[1])
        return _Listener(bound, UdpListener(loop, udp, self._responder), TcpListener(loop, tcp, connections))

    def _context(self, secure: SecureListenerSpec) -> ssl.SSLContext:
        if self._contexts is None:
            raise ValueError("nobody here makes contexts of TLS")
        return self._contexts(secure.identity, secure.protocol)

    def _bind_secure(
        self,
        loop: asyncio.AbstractEventLoop,
        spec: SecureListenerSpec,
        context: ssl.SSLContext,
        connections: Connections,
    ) -> _SecureListener:
        try:
            sock = tcp_socket(spec.address, spec.port, self._shared)
        except OSError as error:
            host = f"[{spec.address}]" if ":" in spec.address else spec.address
            raise OSError(error.errno, error.strerror, f"{host}:{spec.port}/tcp") from None
        bound = (spec.address, sock.getsockname()[1])
        return _SecureListener(bound, TcpListener(loop, sock, connections, context, _maker(spec)))

    def _prepare_guard(self, spec: TransportSpec, undo: ExitStack) -> tuple[Guard | None, QueryLog | None]:
        """A guard that is to be as it was stays, with what it knows of everybody."""
        if replace(spec, secure=()) == replace(self._transport, secure=()):  # certificates are none of its business
            return self._guard, self._query_log
        log = self._query_log
        if spec.query_log != self._transport.query_log:
            try:
                log = QueryLog(spec.query_log) if spec.query_log is not None else None
            except OSError as error:
                raise ValueError(f"cannot write the query log {error.filename}: {error.strerror}") from error
            if log is not None:
                undo.callback(log.end)
        wanted = spec.allow or spec.cookie_secret or spec.rate or spec.query_log or spec.top_names
        return (Guard(spec, self._responder, log) if wanted else None), log

    def _use_guard(self, guard: Guard | None, query_log: QueryLog | None, spec: TransportSpec) -> None:
        old, self._query_log = self._query_log, query_log
        self._transport = spec
        if self._connections is not None:
            self._connections.secondaries = Secondaries(spec.transfer_to, self._responder) if spec.transfer_to else None
        if old is not None and old is not query_log:
            old.end()
        if guard is not self._guard:
            self._guard = guard
            if self._connections is not None:
                self._connections.guard = guard
            for listener in self._listeners.values():
                listener.udp.start(guard)

    def _use_secure(
        self,
        spec: TransportSpec,
        contexts: dict[SecureListenerSpec, ssl.SSLContext],
        opened: dict[SecureEndpoint, _SecureListener],
    ) -> None:
        before = self._secure
        self._secure = {}
        for secure in spec.secure:
            place = (secure.address, secure.port, secure.protocol)
            self._secure[place] = listener = opened.get(place) or before[place]
            listener.tcp.context = contexts[secure]
            listener.tcp.make = _maker(secure)
        for place, listener in before.items():
            if place not in self._secure:
                listener.tcp.close()
        for listener in opened.values():
            listener.tcp.start()


def _maker(spec: SecureListenerSpec) -> Callable[[Connections, str], Stream]:
    return partial(DnsStream, speaks="tls") if spec.protocol == "TLS" else partial(HttpsStream, path=spec.path.encode())


def _bind_both(address: str, port: int, shared: bool) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port; for port 0 on one that is free on both."""
    for left in reversed(range(PORT_TRIES)):
        transport = "udp"
        udp = None
        try:
            udp = udp_socket(address, port, shared)
            transport = "tcp"
            return udp, tcp_socket(address, udp.getsockname()[1], shared)
        except OSError as error:
            if udp is not None:
                udp.close()
            if error.errno == errno.EADDRINUSE and not port and left:
                continue
            host = f"[{address}]" if ":" in address else address
            raise OSError(error.errno, error.strerror, f"{host}:{port}/{transport}") from None
    raise AssertionError("the last try returns or raises")


def _refuse_loop(resolvers: Iterable[Endpoint], bound: Iterable[Endpoint]) -> None:
    """A server that forwards to itself answers nothing. Wildcard listeners are at every loopback address too."""
    for host, port in resolvers:
        resolver = ip_address(host)
        for address, own_port in bound:
            own = ip_address(address)
            same = resolver == own or (own.is_unspecified and own.version == resolver.version and resolver.is_loopback)
            if port == own_port and same:
                raise ValueError(
                    f"resolver {host} port {port} is this server itself: no question would ever be answered"
                )
