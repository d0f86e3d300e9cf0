"""Two connections joined: bytes pass both ways with back-pressure, and each side's end is passed on as such.

TCP and TLS listeners are nothing else, and an HTTP connection becomes one after 101 Switching Protocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .clock import Clock


class RelayEnd(asyncio.Protocol):
    """One side. `peer` is the other; bytes that arrive here are written there."""

    __slots__ = ("early", "eof", "peer", "received", "relay", "transport")

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.transport: asyncio.Transport | None = None
        self.peer: RelayEnd = None  # type: ignore[assignment]  # set by Relay
        self.eof = False
        self.early = b""  # received before the other side was there; never more than one read
        self.received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.set_write_buffer_limits(self.relay.buffer)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        relay = self.relay
        relay.deadline = relay.clock.now + relay.idle_timeout
        transport = self.peer.transport
        if transport is not None:
            transport.write(data)
        elif self.transport is not None:
            self.early += data
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Half-close: pass it on and go on with the other direction. TLS cannot, so there an end is the end."""
        self.eof = True
        peer = self.peer
        if peer.eof or not self.relay.half_close:
            return False
        if peer.transport is not None:
            if not peer.transport.can_write_eof():
                return False
            peer.transport.write_eof()
        return True  # where the other side is still being connected to, it is told when it is there

    def joined(self) -> None:
        """The other side is there now: it gets what this one said meanwhile."""
        transport = self.peer.transport
        assert transport is not None
        if self.early:
            transport.write(self.early)
            self.early = b""
        if self.eof:
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        transport = self.peer.transport
        if transport is not None:
            transport.pause_reading()

    def resume_writing(self) -> None:
        transport = self.peer.transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.relay.lost(self, exc)


class Relay:
    """A pair of ends, its idle timer and its accounts. `on_end(relay)` is called once, when both sides are gone."""

    __slots__ = (
        "_over",
        "buffer",
        "client",
        "clock",
        "deadline",
        "half_close",
        "idle_timeout",
        "on_end",
        "reason",
        "target_end",
    )

    def __init__(
        self, clock: Clock, idle_timeout: float, on_end: Callable[[Relay], None], *, half_close: bool, buffer: int
    ) -> None:
        self.clock = clock
        self.buffer = buffer  # what is held for a side that reads slowly; then the other one is not read from
        self.idle_timeout = idle_timeout
        self.deadline = clock.now + idle_timeout
        self.on_end = on_end
        self.half_close = half_close
        self.reason = ""
        self._over = False
        self.client = RelayEnd(self)
        self.target_end = RelayEnd(self)
        self.client.peer = self.target_end
        self.target_end.peer = self.client

    def lost(self, end: RelayEnd, exc: Exception | None) -> None:
        """One side is gone: what it sent is still delivered, then the other one is closed."""
        if not self.reason:
            side = "client" if end is self.client else "target"
            self.reason = f"{side}_reset" if exc is not None else f"{side}_closed"
        other = end.peer.transport
        if other is None:
            if not self._over:
                self._over = True
                self.on_end(self)
        elif exc is not None:
            other.abort()  # a reset is passed on as one
        else:
            other.close()

    def expire(self) -> None:
        self.abort("idle_timeout")

    def drain(self) -> None:
        """A relayed connection has no message to end after: it goes on until its end or the drain's."""

    def abort(self, reason: str = "aborted") -> None:
        self.reason = self.reason or reason
        for end in (self.client, self.target_end):
            if end.transport is not None:
                end.transport.abort()
