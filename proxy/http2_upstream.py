"""HTTP/2 towards targets: one connection carries the requests of many clients, and each is lent a stream of it.

A lent stream looks like a HTTP/1 upstream to the exchange that borrows it: what is written to it is a HTTP/1 message,
translated here, and what comes back are a head and a body in HTTP/1's terms, trailers aside, which gRPC needs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h2.config
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from . import http2
from .chunked import LAST_CHUNK, ChunkedReader, wrap
from .http1 import CHUNKED, body_length
from .http2_frames import Frames
from .http_fields import BadMessage

if TYPE_CHECKING:
    from .clock import Clock
    from .exchange import Exchange
    from .relay import Relay
    from .targets import Target

STREAM_WINDOW = 1024 * 1024  # a target is ours, so it may send ahead more than a stranger
CONNECTION_WINDOW = 16 * 1024 * 1024
# Bytes of a request's body held while the target's window is closed; beyond the group's `buffer` its client is not read
# from until there are no more than this.
HOLD_LOW = 16 * 1024

_CONFIG = h2.config.H2Configuration(
    client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
)


class Http2Target(asyncio.Protocol):
    """One connection to a target. It stays in `target.shared` as long as it takes new streams."""

    __slots__ = ("_clock", "_flushing", "frames", "full", "idle_until", "lent", "made", "secure", "target", "transport")

    def __init__(self, target: Target, clock: Clock, *, secure: bool) -> None:
        self.target = target
        self.secure = secure
        self.frames = Frames(_CONFIG)
        self.transport: asyncio.Transport | None = None
        self.lent: dict[int, LentStream] = {}
        self.idle_until = clock.now + target.group.spec.limits.keep_alive_timeout
        self.full = False
        self._clock = clock
        self._flushing = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        target = self.target
        target.connections.add(self)
        target.counters.connects += 1
        codes = h2.settings.SettingCodes
        longest = target.group.spec.limits.response_head
        settings = {codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: STREAM_WINDOW, codes.MAX_HEADER_LIST_SIZE: longest}
        self.frames.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.frames.decoder.max_header_list_size = longest
        self.frames.initiate_connection()
        self.frames.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self.flush()

    @property
    def takes_more(self) -> bool:
        return (
            self.transport is not None
            and not self.transport.is_closing()
            and not self.target.draining
            and len(self.lent) < self.frames.remote_settings.max_concurrent_streams
        )

    def lend(self) -> LentStream:
        stream = LentStream(self, self.frames.get_next_available_stream_id())
        self.lent[stream.number] = stream
        return stream

    def data_received(self, data: bytes) -> None:
        self.target.counters.bytes_in += len(data)
        try:
            events = self.frames.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.flush()
            self._fail_all("target_bad_http2")
            if self.transport is not None:
                self.transport.abort()
            return
        for event in events:
            stream = self.lent.get(getattr(event, "stream_id", 0) or 0)
            match event:
                case h2.events.ResponseReceived() | h2.events.InformationalResponseReceived():
                    if stream is not None:
                        stream.received_head(
                            event.headers or [], ended=getattr(event, "stream_ended", None) is not None
                        )
                case h2.events.DataReceived():
                    size = event.flow_controlled_length or 0
                    if stream is not None:
                        stream.received_data(event.data or b"", size)
                    elif size:
                        self.frames.acknowledge_received_data(size, event.stream_id or 0)
                case h2.events.TrailersReceived():
                    if stream is not None:
                        stream.received_trailers(list(event.headers or []))
                case h2.events.StreamEnded():
                    if stream is not None:
                        stream.received_end()
                case h2.events.StreamReset():
                    if stream is not None:
                        stream.fail("target_reset_stream")
                case h2.events.WindowUpdated():
                    for each in (stream,) if stream is not None else tuple(self.lent.values()):
                        each.pump()
                case h2.events.RemoteSettingsChanged():
                    for each in tuple(self.lent.values()):
                        each.pump()
                case h2.events.ConnectionTerminated():
                    self._leave()
                    self._fail_all("target_goaway", above=event.last_stream_id or 0)
                    if not self.lent and self.transport is not None:
                        self.transport.close()
                case _:
                    pass
        self.flush_soon()

    def _fail_all(self, reason: str, *, above: int = 0) -> None:
        for number, stream in tuple(self.lent.items()):
            if number > above:
                stream.fail(reason)

    def _leave(self) -> None:
        if self in self.target.shared:
            self.target.shared.remove(self)

    def returned(self, number: int) -> None:
        self.lent.pop(number, None)
        self.idle_until = self._clock.now + self.target.group.spec.limits.keep_alive_timeout
        if not self.lent and self.transport is not None and (self.target.draining or self not in self.target.shared):
            self.flush()
            self.transport.close()

    def flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        self._flushing = False
        if self.transport is not None and not self.transport.is_closing():
            data = self.frames.data_to_send()
            if data:
                self.target.counters.bytes_out += len(data)
                self.transport.write(data)

    def eof_received(self) -> bool:
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._leave()
        self.target.connections.discard(self)
        self._fail_all("target_closed")

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        for stream in tuple(self.lent.values()):
            stream.pump()

    def close(self) -> None:
        """No further streams, and the end with the last one."""
        self._leave()
        if not self.lent and self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        self._fail_all("target_drained")
        if self.transport is not None:
            self.transport.abort()

    def __repr__(self) -> str:
        return f"<Http2Target {self.target.key}: {len(self.lent)} streams>"


class LentStream:
    """What an exchange borrows. It is its own `transport`: writing, and stopping to read, are all that is asked."""

    __slots__ = (
        "_bodiless",
        "_carrier",
        "_held",
        "_interim",
        "_left",
        "_out",
        "_out_ended",
        "_over",
        "_paused",
        "_reader",
        "_sent_head",
        "_started",
        "_to_send",
        "_unacknowledged",
        "_wraps",
        "number",
        "received",
        "reused",
        "session",
        "target",
        "transport",
    )

    def __init__(self, carrier: Http2Target, number: int) -> None:
        self._carrier = carrier
        self.number = number
        self.target = carrier.target
        self.transport = self
        self.session: Exchange | None = None
        self.reused = True  # a stream that failed before its answer may be sent again on a fresh connection
        self.received = False
        self._sent_head = False
        self._reader: ChunkedReader | None = None
        self._to_send = 0
        self._out = bytearray()
        self._out_ended = False
        self._over = False  # END_STREAM was sent
        self._held = False
        self._interim = 0
        self._left = 0  # of the answer's body; below 0 when its length is not known
        self._started = False
        self._bodiless = False
        self._wraps = False
        self._paused = False
        self._unacknowledged = 0

    # -- the request: HTTP/1 bytes in, frames out ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        session = self.session
        if session is None:
            return
        if not self._sent_head:
            self._sent_head = True
            head, _, data = data.partition(b"\r\n\r\n")
            wants_trailers = session.head is not None and b"trailers" in session.head.values(b"te")
            headers, length = http2.request_headers(
                head, secure=self._carrier.secure, trailers=wants_trailers or session.trailers_wanted
            )
            self._bodiless = session.method == b"HEAD"
            self._reader = ChunkedReader(unwrap=True) if length == CHUNKED else None
            self._to_send = length
            self._carrier.frames.send_headers(self.number, headers, end_stream=length == 0)
            self._carrier.flush_soon()
            if length == 0:
                self._out_ended = self._over = True
                return
        if self._reader is not None:
            data = self._reader.feed(data)
            last = self._reader.done
        else:
            self._to_send -= len(data)
            last = self._to_send <= 0
        self._out += data
        self._out_ended = self._out_ended or last
        self.pump()
        if len(self._out) > self.target.group.spec.limits.buffer and not self._held:
            self._held = True
            session.hold_client()

    def pump(self) -> None:
        frames, carrier, out = self._carrier.frames, self._carrier, self._out
        if not self._sent_head or self.number not in carrier.lent:
            return
        try:
            while out and not carrier.full:
                room = min(frames.local_flow_control_window(self.number), frames.max_outbound_frame_size, len(out))
                if room <= 0:
                    break
                done = self._out_ended and room == len(out)
                frames.send_data(self.number, bytes(out[:room]), end_stream=done)
                del out[:room]
                self._over = self._over or done
                carrier.flush_soon()
            if self._out_ended and not out and not self._over:
                self._over = True
                frames.end_stream(self.number)
                carrier.flush_soon()
        except h2.exceptions.ProtocolError:
            self.fail("target_reset_stream")
            return
        if self._held and len(out) <= HOLD_LOW and self.session is not None:
            self._held = False
            self.session.release_client()

    # -- the answer ---------------------------------------------------------------------------------------------------

    def received_head(self, headers: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        from .upstream import MEMO

        session = self.session
        if session is None:
            return
        self.received = True
        try:
            raw = http2.response_head(headers, ended=ended, bodiless=self._bodiless)
            head = MEMO.learn_response(raw, self.target.group.spec.limits.response_head)
        except BadMessage as bad:
            self.fail(bad.reason)
            return
        if head.status < 200:
            self._interim += 1
            if self._interim > self.target.group.spec.limits.interim:
                self._refuse("target_too_many_interim")
            else:
                session.response_interim(head)
            return
        self._left = body_length(head, session.method)
        if ended and self._left > 0:
            self.fail("target_bad_content_length")
            return
        if head.status in (502, 503, 504) and session.repeats_instead(head.status):
            return
        self._started = True
        self._wraps = head.length == CHUNKED and not session.unwraps() and self._left != 0
        session.response_begins(head)

    def received_data(self, data: bytes, size: int) -> None:
        session = self.session
        self._unacknowledged += size
        if session is not None and data:
            if self._left >= 0:
                self._left -= len(data)
                if self._left < 0:  # a client of HTTP/1 would take it for the next answer
                    self._refuse("target_bad_content_length")
                    return
            session.response_body(wrap(data) if self._wraps else data)
        if not self._paused:
            self._acknowledge()

    def _refuse(self, reason: str) -> None:
        self._acknowledge()
        self._reset(h2.errors.ErrorCodes.PROTOCOL_ERROR)
        self.fail(reason)

    def _acknowledge(self) -> None:
        size, self._unacknowledged = self._unacknowledged, 0
        if size:
            try:
                self._carrier.frames.acknowledge_received_data(size, self.number)
            except h2.exceptions.ProtocolError:
                return
            self._carrier.flush_soon()

    def received_trailers(self, trailers: list[tuple[bytes, bytes]]) -> None:
        if self.session is not None:
            self.session.response_trailers([pair for pair in trailers if not pair[0].startswith(b":")])

    def received_end(self) -> None:
        session = self.session
        if session is None:
            return
        if not self._started:
            self.fail("target_closed")
            return
        if self._left > 0:  # trailers ended it; the library looks at the length only where DATA does
            self.fail("target_bad_content_length")
            return
        if self._wraps:
            session.response_body(LAST_CHUNK)
        if session.sending:
            self._reset(h2.errors.ErrorCodes.NO_ERROR)
        self._give_back()
        session.response_ends()

    def _give_back(self) -> None:
        self.session = None
        self.target.leave()
        self._carrier.returned(self.number)

    def _reset(self, code: h2.errors.ErrorCodes) -> None:
        try:
            self._carrier.frames.reset_stream(self.number, code)
        except h2.exceptions.ProtocolError:
            return
        self._carrier.flush_soon()

    def fail(self, reason: str) -> None:
        session, began = self.session, self._started
        if session is not None:
            self.target.counters.failed[reason] += 1
            self._give_back()
            session.response_fails(reason, began=began)

    def let_go(self) -> None:
        """The exchange gives up."""
        if self.session is not None:
            self._reset(h2.errors.ErrorCodes.CANCEL)
            self._give_back()

    def become_tunnel(self, relay: Relay) -> None:
        raise NotImplementedError("a WebSocket needs a HTTP/1 target")

    # -- as a transport -----------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._acknowledge()

    def is_closing(self) -> bool:
        return self.session is None
