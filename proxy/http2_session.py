"""One client connection that speaks HTTP/2: streams come and go on it, each one exchange of its own.

The `h2` library keeps the protocol's state; here its events become exchanges, and the exchanges' answers its frames.
Frames are written once per turn of the loop. What a client could make grow has a bound: streams, header lists, and
the frames that cost us more than they cost to send.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import TYPE_CHECKING, Any

import h2.config
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import GoAwayFrame

from .http2 import request_of
from .http2_frames import Frames
from .http2_stream import Http2Stream
from .http_fields import BadMessage
from .records import NO_TLS, tls_facts

if TYPE_CHECKING:
    from .listener import Listener
    from .specs import ListenerLimits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

BUDGET_PERIOD = 60.0  # seconds; more resets or control frames in one than the limits say ends the connection

_CONFIG = h2.config.H2Configuration(
    client_side=False,
    header_encoding=None,
    # What we send was parsed strictly before; checking it again costs as much as sending it.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


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
        "frames",
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
    )

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: asyncio.Transport | None = None
        self.frames = Frames(_CONFIG)
        self.streams: dict[int, Http2Stream] = {}
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
        codes = h2.settings.SettingCodes
        # The library keeps to new values once the client has acknowledged them: before that it cannot know them.
        self.frames.initiate_connection()
        self.frames.update_settings(
            {
                codes.MAX_CONCURRENT_STREAMS: limits.http2_max_streams,
                codes.INITIAL_WINDOW_SIZE: limits.http2_stream_window,
                codes.MAX_HEADER_LIST_SIZE: limits.head,
                codes.ENABLE_CONNECT_PROTOCOL: 1,
            }
        )
        self.frames.increment_flow_control_window(limits.http2_connection_window - 65535)
        self.flush()

    @property
    def busy(self) -> bool:
        return bool(self.streams)

    def data_received(self, data: bytes) -> None:
        self.listener.counters.bytes_in += len(data)
        if self._ended:
            return
        try:
            events = self.frames.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.listener.refuse(self.peer, "bad_http2")
            self._end()
            return
        for event in events:
            if self._ended:
                return
            self._handle(event)
        self.flush_soon()

    def _handle(self, event: h2.events.Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", 0) or 0)
        match event:
            case h2.events.RequestReceived():
                self._begin(event)
            case h2.events.DataReceived():
                if not event.data and event.stream_ended is None:
                    self._spend(control_frames=1)  # CVE-2019-9518
                if stream is not None:
                    stream.received_data(event.data or b"", event.flow_controlled_length or 0)
                elif event.flow_controlled_length:
                    self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
            case h2.events.StreamEnded():
                if stream is not None:
                    stream.received_end()
            case h2.events.StreamReset():
                self._spend(resets=1)
                if stream is not None:
                    stream.client_left()
            case h2.events.WindowUpdated():
                for each in (stream,) if stream is not None else tuple(self.streams.values()):
                    each.pump()
            case h2.events.RemoteSettingsChanged():
                self._spend(control_frames=1)
                for each in tuple(self.streams.values()):
                    each.pump()  # a larger initial window frees what waited
            case h2.events.PingReceived() | h2.events.PriorityUpdated():
                self._spend(control_frames=1)
            case h2.events.ConnectionTerminated():
                self.going = True
                if not self.streams and self.transport is not None:
                    self.transport.close()
            case _:
                pass  # acknowledgements, trailers of requests (which end with StreamEnded), unknown frames

    def _spend(self, *, resets: int = 0, control_frames: int = 0) -> None:
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
            if not self.going:
                self._say_goaway(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            self._end()

    def _begin(self, event: h2.events.RequestReceived) -> None:
        number = event.stream_id or 0
        if self.going:
            self._reset(number, h2.errors.ErrorCodes.REFUSED_STREAM)  # RFC 9113 8.7: it may be sent again
            return
        stream = self.streams[number] = Http2Stream(self, number)
        self.deadline = 0.0  # swept every second: the streams have deadlines of their own
        try:
            request = request_of(
                event.headers or (),
                ended=event.stream_ended is not None,
                limits=self.listener.limits,
                websocket_key=base64.b64encode(secrets.token_bytes(16)),
            )
            stream.begin(request, ended=event.stream_ended is not None)
        except BadMessage as bad:
            stream.refuse(bad)

    # -- for streams --------------------------------------------------------------------------------------------------

    def reset(self, number: int, code: h2.errors.ErrorCodes) -> None:
        """End a stream from our side; it counts as the client's where the client could bring it about."""
        self._reset(number, code)
        self._spend(resets=1)

    def _reset(self, number: int, code: h2.errors.ErrorCodes) -> None:
        try:
            self.frames.reset_stream(number, code)
        except h2.exceptions.ProtocolError:  # it is closed already
            return
        self.flush_soon()

    def forget(self, number: int) -> None:
        self.streams.pop(number, None)
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
        transport = self.transport
        if transport is not None and not transport.is_closing() and not self._ended:
            data: Any = self.frames.data_to_send()
            if data:
                self.listener.counters.bytes_out += len(data)
                transport.write(data)

    # -- the connection's end -----------------------------------------------------------------------------------------

    def _say_goaway(self, code: h2.errors.ErrorCodes = h2.errors.ErrorCodes.NO_ERROR) -> None:
        """The library's own `close_connection` would end the streams that are under way."""
        self.going = True
        self.flush()
        if self.transport is not None and not self.transport.is_closing():
            last = max(self.streams, default=self.frames.highest_inbound_stream_id)
            self.transport.write(GoAwayFrame(0, last_stream_id=last, error_code=int(code)).serialize())

    def _end(self) -> None:
        """Write what is owed (a GOAWAY among it) and close, but read on for a moment: a reset could eat the GOAWAY."""
        if self._ended:
            return
        self.going = True
        self.flush()
        self._ended = True
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

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.listener.release(self)
        for stream in tuple(self.streams.values()):
            stream.client_left()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        for stream in tuple(self.streams.values()):
            stream.pump()

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
