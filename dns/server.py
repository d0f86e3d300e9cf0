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
import socket
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from .answers import Answers
from .cache import Cache
from .counters import DnsCounters
from .forwarder import TRY_TIMEOUT, Forwarder
from .responder import Responder
from .specs import DnsSpec, HealthSource, InstanceSpec
from .tcp import Connections, TcpListener, tcp_socket
from .udp import UdpListener, udp_socket

Endpoint = tuple[str, int]

PORT_TRIES = 16  # for port 0: the port that UDP was given may be taken on TCP


@dataclass(frozen=True, slots=True)
class _Listener:
    """One address and port, UDP and TCP."""

    bound: Endpoint
    udp: UdpListener
    tcp: TcpListener

    def start(self) -> None:
        self.udp.start()
        self.tcp.start()

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()


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
    def __init__(self, health: HealthSource, *, resolver_timeout: float = TRY_TIMEOUT, shared: bool = False) -> None:
        self._health = health
        self._shared = shared  # other processes listen at the same addresses (SO_REUSEPORT)
        self._counters = DnsCounters()
        self._forwarder = Forwarder(Cache(), self._counters, resolver_timeout)
        # An SOA's serial moves when the configuration does, and does not move back when the server restarts.
        self._serial = int(time.time())
        nothing = Answers(DnsSpec(), self._is_healthy, self._serial)
        self._responder = Responder(nothing, self._forwarder, self._counters)
        self._changed_meanwhile = set[Hashable]()  # whose health has changed since the last `prepare`
        self._connections: Connections | None = None
        self._listeners: dict[Endpoint, _Listener] = {}  # by what the specification says, where the port may be 0

    @property
    def bound(self) -> list[Endpoint]:
        """Where it listens, with the ports that 0 became."""
        return [listener.bound for listener in self._listeners.values()]

    @property
    def answers(self) -> Answers:
        """What it says now, to be explained."""
        return self._responder.answers

    @property
    def counters(self) -> DnsCounters:
        self._responder.count_hits()
        return self._counters

    def health_changed(self, keys: Iterable[Hashable]) -> None:
        """From the next query on, what hangs on these keys is answered by their present health."""
        keys = tuple(keys)
        self._changed_meanwhile.update(keys)
        self._responder.health_changed(keys)

    def register(self, namespace: str, service: str, instance: InstanceSpec) -> None:
        """From the next query on the service has it, until another configuration. ValueError in words if it cannot."""
        self._responder.register(namespace, service, instance)

    def deregister(self, namespace: str, service: str, instance_id: str) -> None:
        """From the next query on the service has it no more. ValueError in words if it is not there."""
        self._responder.deregister(namespace, service, instance_id)

    async def prepare(self, spec: DnsSpec) -> Prepared:
        """OSError with the address in it if one cannot be bound, ValueError in words for a mistake in `spec`."""
        loop = asyncio.get_running_loop()
        if self._connections is None:
            self._connections = Connections(loop, self._responder)
        serial = self._serial + 1
        # In a thread: a thousand instances take some 80 ms, and queries must not wait for that.
        changed = self._changed_meanwhile = set[Hashable]()
        answers = await asyncio.to_thread(Answers, spec, self._is_healthy, serial, self._responder.answers)
        opened: dict[Endpoint, _Listener] = {}
        with ExitStack() as undo:
            for endpoint in dict.fromkeys(spec.listen):
                if endpoint not in self._listeners:
                    opened[endpoint] = self._bind(loop, *endpoint, self._connections)
                    undo.callback(opened[endpoint].close)
            listeners = {endpoint: opened.get(endpoint) or self._listeners[endpoint] for endpoint in spec.listen}
            _refuse_loop(spec.resolvers, [listener.bound for listener in listeners.values()])
            abort = undo.pop_all().close

        def commit() -> None:
            closing = [listener for endpoint, listener in self._listeners.items() if endpoint not in listeners]
            self._serial = serial
            self._forwarder.resolvers = spec.resolvers
            self._responder.use(answers, spec.recursion)
            self._responder.health_changed(changed)  # it may have read those before they changed
            self._listeners = listeners
            for listener in opened.values():
                listener.start()
            for listener in closing:
                listener.udp.stop()
                listener.close()

        return Prepared(commit, abort)

    async def stop(self, grace: float) -> None:
        """Takes no more queries; those under way have `grace` seconds to be answered, by SERVFAIL in the end."""
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.udp.stop()
            listener.tcp.close()
        if self._connections is not None:
            self._connections.close_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._forwarder.drained()
        await self._forwarder.stop()
        if self._connections is not None:
            await self._connections.stop()
        for listener in listeners.values():
            listener.udp.close()

    def _is_healthy(self, instance: InstanceSpec) -> bool:
        return instance.health_key is None or self._health.is_healthy(instance.health_key)

    def _bind(self, loop: asyncio.AbstractEventLoop, address: str, port: int, connections: Connections) -> _Listener:
        udp, tcp = _bind_both(address, port, self._shared)
        bound = (address, udp.getsockname()[1])
        return _Listener(bound, UdpListener(loop, udp, self._responder), TcpListener(loop, tcp, connections))


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
