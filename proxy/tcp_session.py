"""One relayed TCP or TLS connection: pick a target, connect, the next one on refusal, then two pumps.

The client is not read from until a target is connected, so nothing it says is ever lost or held here.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from .dialing import connect_failure, connect_target
from .records import NO_TLS, tls_facts
from .relay import Relay, RelayEnd
from .upstream import DeniedError, check_return

if TYPE_CHECKING:
    from .listener import Listener
    from .targets import Target, TargetGroup


class TcpSession:
    """Owns the connection from accept until both sides are gone."""

    __slots__ = (
        "_connecting",
        "_counted",
        "_listener",
        "_started",
        "client",
        "connect_time",
        "denied_by",
        "group",
        "local",
        "peer",
        "relay",
        "target",
        "tls",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._started = perf_counter()
        self._connecting: asyncio.Task[None] | None = None
        self._counted = False  # in the target's `in_flight`
        self.group: TargetGroup | None = None
        self.target: Target | None = None
        self.peer: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)
        self.connect_time = -1.0
        self.denied_by = ""  # the rule that kept us from a target
        self.tls = NO_TLS
        limits = listener.spec.limits
        self.relay = Relay(
            listener.clock,
            limits.relay_timeout,
            self._ended,
            half_close=not listener.secure,
            buffer=limits.buffer,
        )
        self.client = self.relay.client = _ClientEnd(self)
        self.client.peer = self.relay.target_end
        self.relay.target_end.peer = self.client

    def begin(self, transport: asyncio.Transport) -> None:
        """The client is admitted, and TLS is done where it is spoken."""
        listener = self._listener
        if not self.peer[0]:  # else a proxy has announced it
            self.peer = transport.get_extra_info("peername")[:2]
            self.local = transport.get_extra_info("sockname")[:2]
        self.tls = tls_facts(transport) if listener.secure else NO_TLS
        listener.connections.add(self.relay)
        listener.counters.requests += 1
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        relay, listener = self.relay, self._listener
        route = listener.plan.default
        group = self.group = route.group if route.weighted is None else route.draw(listener.rng)
        reason = "no_target"
        tried: set[Target] = set()
        for _ in range(len(group.targets) if group else 0):
            assert group is not None
            if tried:
                target = group.pick()
            elif group.sticky is not None:
                target = group.sticky.of_source(self.peer[0]) or group.pick()
            else:
                target = group.pick() if group.hash_key is None else group.pick_for(self.peer[0].encode())
            if target is None:
                break
            if target in tried:
                continue
            tried.add(target)
            self.target = target
            if target.denied is not None:
                reason = "target_denied"
                self.denied_by = target.denied.rule
                listener.counters.denied[self.denied_by] += 1
                continue
            if target.in_flight >= target.max_connections:
                reason = "target_full"
                target.counters.failed[reason] += 1
                continue
            target.in_flight += 1
            self._counted = True
            try:
                await self._connect_to(target)
            except TimeoutError:
                reason = "connect_timeout"
            except DeniedError as denied:
                reason = "target_denied"
                self.denied_by = denied.rule
                listener.counters.denied[self.denied_by] += 1
            except OSError as error:
                reason = connect_failure(error)
            except asyncio.CancelledError:
                self._uncount()
                raise
            else:
                self._connecting = None
                self.denied_by = ""
                self.connect_time = perf_counter() - self._started
                if target.observer is not None:
                    target.observer(200, self.connect_time, perf_counter())
                if relay.client.transport is None:  # the client left in the same turn
                    relay.abort("client_closed")
                else:
                    relay.client.joined()
                return
            self._uncount()
            target.counters.failed[reason] += 1
            if target.observer is not None and reason != "target_denied":
                target.observer(0, 0.0, perf_counter())
        self._connecting = None
        self.target = None
        relay.abort(reason)

    def _uncount(self) -> None:
        if self._counted and self.target is not None:
            self._counted = False
            self.target.leave()

    async def _connect_to(self, target: Target) -> None:
        relay = self.relay
        async with asyncio.timeout(target.group.spec.limits.connect_timeout):
            transport, end = await connect_target(target, lambda: _TargetEnd(relay, target), self.peer, self.local)
        try:
            check_return(target, transport)
        except DeniedError:
            end.disown()
            raise
        if target.group.tls is not None:
            relay.half_close = False
        target.counters.connects += 1
        target.counters.requests += 1

    def _ended(self, relay: Relay) -> None:
        """Both sides are gone."""
        if self._connecting is not None:
            self._connecting.cancel()
        listener, target = self._listener, self.target
        received, sent = relay.client.received, relay.target_end.received
        counters = listener.counters
        counters.bytes_in += received
        counters.bytes_out += sent
        self._uncount()
        if target is not None:
            target.counters.bytes_out += received
            target.counters.bytes_in += sent
        duration = perf_counter() - self._started
        counters.duration_sum += duration
        if relay.reason not in ("client_closed", "target_closed"):
            counters.failed[relay.reason] += 1
        if listener.access_log is not None:
            listener.log_connection(self, duration)
        listener.release(relay)

    def __repr__(self) -> str:
        return f"<TcpSession {self.peer[0]}:{self.peer[1]} -> {self.target!r}>"


class _ClientEnd(RelayEnd):
    """The side that faces the client: its arrival begins the session."""

    __slots__ = ("_session",)

    def __init__(self, session: TcpSession) -> None:
        super().__init__(session.relay)
        self._session = session

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._session.begin(transport)


class _TargetEnd(RelayEnd):
    """The side that faces the target: its target knows it, so that the end of a drain can cut it."""

    __slots__ = ("_target", "idle_until")

    def __init__(self, relay: Relay, target: Target) -> None:
        super().__init__(relay)
        self._target = target
        self.idle_until = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        relay = self.relay
        self.peer = relay.client
        relay.client.peer = relay.target_end = self
        self._target.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._target.connections.discard(self)
        super().connection_lost(exc)

    def disown(self) -> None:
        """It must not be used after all; its end is no concern of the client's."""
        self._target.connections.discard(self)
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.relay.abort("target_drained")
