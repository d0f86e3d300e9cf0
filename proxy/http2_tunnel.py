"""A WebSocket over a stream (RFC 8441): the relay between the two, and what it needs of a transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .relay import Relay

if TYPE_CHECKING:
    from .http2_stream import Http2Stream
    from .upstream import Upstream


def open_tunnel(stream: Http2Stream, upstream: Upstream, ended: Callable[[Relay], None]) -> Relay:
    listener = stream.listener
    limits = listener.limits
    relay = Relay(listener.clock, limits.tunnel_timeout, ended, half_close=False, buffer=limits.buffer)
    relay.client.transport = StreamTransport(stream)  # type: ignore[assignment]  # as much of one as a relay uses
    relay.target_end.transport = upstream.transport
    upstream.become_tunnel(relay)
    return relay


class StreamTransport:
    __slots__ = ("_stream",)

    def __init__(self, stream: Http2Stream) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write_tunnelled(data)

    def pause_reading(self) -> None:
        self._stream.hold_client()

    def resume_reading(self) -> None:
        self._stream.release_client()

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """The relay is done with this side: the other is gone already."""
        relay = self._stream.relay
        if relay is not None:
            relay.client.connection_lost(None)

    abort = close
