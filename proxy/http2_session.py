"""One client connection that speaks HTTP/2: streams come and go on it, each one exchange of its own.

`Wire` keeps the protocol's state; here its calls become exchanges, and what the exchanges have it write goes out once
per turn of the loop. What a client could make grow has a bound: streams, header lists, and the frames that cost us
more than they cost to send.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import TYPE_CHECKING

from .http2_codes import ENHANCE_YOUR_CALM, NO_ERROR
from .http2_stream import Http2Stream
from .http2_wire import Fault, Wire
from .http_fields import BadMessage
from .records import NO_TLS, tls_facts

if TYPE_CHECKING:
    from .http2_blocks import Reading
    from .listener import Listener
    from .specs import ListenerLimits

MANY_PIECES = 64  # of output that gather before it is looked whether the client takes them
BUDGET_PERIOD = 60.0  # seconds; more resets or control frames in one than the limits say ends the connection


def _websocket_key() -> bytes:
    return base64.b64encode(secrets.token_bytes(16))


class Http2Session(asyncio.Protocol):
    __slots__ = (
        "_control_frames",
        "_ended",
        "_flushing",
        "_period",
        "_pumping",
        "_resets",
        "connection_id",
        "deadline",
        "full",
        "going",
        "listener",
        "local",
        "peer",
        "retire_at",
        "streams",
        "tail",
        "tls",
        "tracer",
        "transport",
        "wire",
    )

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: asyncio.Transport | None = None
        limits = listener.limits
        self.wire = Wire(
            self,
            max_streams=limits.http2_max_streams,
            stream_window=limits.http2_stream_window,
            connection_window=limits.http2_connection_window,
            max_list=limits.head,
            websocket_key=_websocket_key,
        )
        self.streams: dict[int, Http2Stream] = self.wire.streams  # type: ignore[assignment]  # the wire knows less
        self.peer: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)
        self.tls = NO_TLS
        self.tail = b""
        self.tracer = listener.tracer  # the connection's, whatever a reload changes: its tail begins what this ends
        self.connection_id = ""
        self.deadline = 0.0
        self.retire_at = 0.0  # 0: never
        self.full = False  # the client reads slower than we write
        self.going = False  # GOAWAY was said: no new streams
        self._ended = False  # all was said; what still comes is thrown away
        self._flushing = False
        self._pumping: list[Http2Stream] = []
        self._period = 0.0
        self._resets = self._control_frames = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        listener = self.listener
        self.transport = transport
        limits = listener.limits
        transport.set_write_buffer_limits(limits.buffer)
        if not self.peer[0]:  # else a proxy has announced it
            self.peer = transport.get_extra_info("peername")[:2]
            self.local = transport.get_extra_info("sockname")[:2]
        if listener.secure:
            self.tls = tls_facts(transport)
        tracer = self.tracer
        tail = listener.forwarded_tail(self.peer[0], self.local[1], self.tls.client_fields)
        self.tail = tail if tracer is None else tail[:-2] + tracer.line
        if tracer is not None and listener.access_log is not None:
            self.connection_id = tracer.connection_id()
        self.deadline = listener.clock.now + limits.first_byte_timeout
        if limits.max_age:
            self.retire_at = listener.clock.now + limits.max_age * (0.9 + 0.2 * listener.rng.random())
        listener.connections.add(self)
        self.wire.say_settings()
        self.flush()

    @property
    def busy(self) -> bool:
        return bool(self.streams)

    def data_received(self, data: bytes) -> None:
        self.listener.counters.bytes_in += len(data)
        if self._ended:
            return
        try:
            self.wire.receive(data)
        except Fault as fault:
            self.listener.refuse(self.peer, "bad_http2")
            self.wire.goaway(fault.code)
            self._end()
            return
        if self.wire.out:
            self.flush_soon()

    # -- for the wire -------------------------------------------------------------------------------------------------

    def begin(self, number: int, reading: Reading, uri: bytes, *, ended: bool) -> None:
        if self.going:
            self.wire.refuse(number)
            return
        if len(self.wire.out) > MANY_PIECES:
            self.flush()
        stream = self.streams[number] = Http2Stream(self, number, ended=ended)
        self.deadline = 0.0  # swept every second: the streams have deadlines of their own
        if reading.request is None:
            assert reading.refusal is not None
            stream.refuse(reading.refusal)
            return
        try:
            stream.begin(reading.request, uri)
        except BadMessage as bad:
            stream.refuse(bad)

    def client_goes(self) -> None:
        self.going = True
        if not self.streams and self.transport is not None:
            self.transport.close()

    def spend(self, *, resets: int = 0, control_frames: int = 0) -> None:
        now = self.listener.clock.now
        if now - self._period > BUDGET_PERIOD:
            self._period = now
            self._resets = self._control_frames = 0
        self._resets += resets
        self._control_frames += control_frames
        limits = self.listener.limits
        if not self._ended and (
            self._resets > limits.http2_max_resets or self._control_frames > limits.http2_max_control_frames
        ):
            self.listener.refuse(self.peer, "http2_flood")
            self.wire.goaway(ENHANCE_YOUR_CALM)
            self._end()

    # -- for streams --------------------------------------------------------------------------------------------------

    def reset(self, number: int, code: int) -> None:
        """End a stream from our side; it counts as the client's, who could bring it about (CVE-2025-8671)."""
        self.wire.reset(number, code)
        self.flush_soon()
        self.spend(resets=1)

    def forget(self, stream: Http2Stream) -> None:
        self.streams.pop(stream.number, None)
        if stream.unacknowledged:  # its own window is gone with it, and the connection's is not
            self.wire.acknowledge_all(stream.unacknowledged)
            stream.unacknowledged = 0
        if not self.streams:
            self.deadline = self.listener.clock.now + self.listener.keep_alive_timeout
            if self.going and not self._ended and self.transport is not None:
                self.flush()
                self.transport.close()

    def pump_soon(self, stream: Http2Stream) -> None:
        self._pumping.append(stream)
        self.flush_soon()

    def flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        pumping, self._pumping = self._pumping, []
        self._flushing = True  # what the streams do now is written below
        for stream in pumping:
            stream.pump()
        self._flushing = False
        out, transport = self.wire.out, self.transport
        if out and transport is not None and not transport.is_closing() and not self._ended:
            data = b"".join(out)
            self.listener.counters.bytes_out += len(data)
            transport.write(data)
        out.clear()

    # -- the connection's end -----------------------------------------------------------------------------------------

    def _say_goaway(self) -> None:
        self.going = True
        self.wire.goaway(NO_ERROR)
        self.flush()

    def _end(self) -> None:
        """Write what is owed (a GOAWAY among it) and close, but read on for a moment: a reset could eat the GOAWAY."""
        if self._ended:
            return
        self.going = True
        self.flush()
        self._ended = self.wire.stopped = True
        for stream in tuple(self.streams.values()):
            stream.client_left()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self.listener.secure or not transport.can_write_eof():
            transport.close()
            return
        self.deadline = self.listener.clock.now + self.listener.limits.linger_timeout
        transport.write_eof()
        if self.full:
            transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.listener.release(self)
        for stream in tuple(self.streams.values()):
            stream.client_left()

    def pause_writing(self) -> None:
        """Who does not read is not read from: heads and answers of our own ask no window, and must not gather."""
        self.full = self.wire.stopped = True
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        if self._ended or self.transport is None:
            return
        self.wire.stopped = False
        self.transport.resume_reading()
        self.wire.pump_all()
        self.data_received(b"")  # what came before we stopped

    def expire(self) -> None:
        """Swept once a second: with streams under way each has a deadline of its own."""
        transport = self.transport
        if transport is None:
            return
        if transport.is_closing() or self._ended:
            transport.abort()
        elif not self.streams:
            self._say_goaway()
            transport.close()
            self.deadline = self.listener.clock.now + 5.0
        else:
            now = self.listener.clock.now
            for stream in [stream for stream in self.streams.values() if stream.deadline <= now]:
                stream.overdue()
            self.flush_soon()

    def review(self, limits: ListenerLimits, now: float, elapsed: float) -> None:
        """Once a second: age, and what each request has taken."""
        if self.retire_at and now >= self.retire_at:
            self.drain()
        for stream in tuple(self.streams.values()):
            stream.review(limits, elapsed)

    def drain(self) -> None:
        """No further streams; those under way go on (RFC 9113 6.8)."""
        if not self.going:
            self._say_goaway()
        if not self.streams and self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def __repr__(self) -> str:
        return f"<Http2Session {self.peer[0]}:{self.peer[1]}: {len(self.streams)} streams>"
