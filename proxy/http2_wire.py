"""A connection of HTTP/2 from the server's side: frames in and out, flow control, and every error by its code.

RFC 9113, strictly: frames that a client may not send end its connection, but for the few errors that only concern a
stream; what is wrong with a message is for its stream to answer. Bytes go in, calls on the owner and on its streams
come out; what is to be written gathers in `out`. The usual frame, a head that ends its request and was said before,
takes one look into a dict.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from . import hpack
from .http2 import Malformed, check_fields
from .http2_blocks import BEGUN, WHOLE, Reading
from .http2_codes import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME,
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
)
from .http2_writer import Stream, Writer

ASSUMED_STREAMS = 100  # what clients begin with before they know our limit, as RFC 9113 6.5.2 advises
MAX_CONTINUATIONS = 64  # frames of one head (CVE-2024-27316); 64 KiB of fields fit in four
MAX_SKIPPED = 16  # gaps in the streams' numbers that are told from streams which are over
MAX_SETTINGS = 32  # of one frame: each change of windows is one for every stream (CVE-2020-11080, nghttp2's figure)
UPDATES_PER_FRAME = 2  # windows that each frame of DATA may open again: its stream's and the connection's

_frame = struct.Struct(">IBL").unpack_from  # length and type in one number, flags, stream
_number = struct.Struct(">L").unpack_from
_settings = struct.Struct(">HL").iter_unpack


class Fault(Exception):
    """The connection is over; `code` is the GOAWAY's."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Owner(Protocol):
    def begin(self, number: int, reading: Reading, uri: bytes, *, ended: bool) -> None:
        """A request. Its stream is in `Wire.streams` until the owner takes it out."""
        ...

    def spend(self, *, resets: int = 0, control_frames: int = 0) -> None:
        """The client has done what costs us more than itself."""
        ...

    def client_goes(self) -> None:
        """GOAWAY: the client begins no streams any more."""
        ...


class Wire(Writer):
    __slots__ = (
        "_agreed",
        "_awaited",
        "_block",
        "_continuations",
        "_held",
        "_max_list",
        "_max_streams",
        "_owner",
        "_preface",
        "_skipped",
        "_updates",
        "_websocket_key",
        "stopped",
        "streams",
        "table",
    )

    def __init__(
        self,
        owner: Owner,
        *,
        max_streams: int,
        stream_window: int,
        connection_window: int,
        max_list: int,
        websocket_key: Callable[[], bytes],
    ) -> None:
        super().__init__(stream_window=stream_window, connection_window=connection_window)
        self.streams: dict[int, Stream] = {}
        self.stopped = False  # set by the owner: what has come is kept, and not looked at
        self.table = hpack.EMPTY
        self._owner = owner
        self._max_streams = max_streams
        self._max_list = max_list
        self._websocket_key = websocket_key
        self._preface = PREFACE
        self._held = b""  # the beginning of a frame
        self._awaited = SETTINGS  # the only type of frame that may come now; below 0 for any
        self._agreed = False  # the client has taken our settings on
        self._block: tuple[int, bool, list[bytes]] = (0, False, [])  # a head whose end has not come
        self._continuations = 0
        self._skipped: list[range] = []
        self._updates = 0

    def say_settings(self) -> None:
        self.start(max_streams=self._max_streams, max_list=self._max_list)

    # -- frames from the client ---------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Raises Fault."""
        if self._held:
            data = self._held + data
            self._held = b""
        position, end = 0, len(data)
        if self._preface:
            position = min(len(self._preface), end)
            if data[:position] != self._preface[:position]:
                raise Fault(PROTOCOL_ERROR)
            self._preface = self._preface[position:]
        while end - position >= 9:
            word, flags, number = _frame(data, position)
            start = position + 9
            stop = start + (word >> 8)
            kind = word & 0xFF
            if self._awaited >= 0 and kind != self._awaited:
                raise Fault(PROTOCOL_ERROR)
            if word >> 8 > FRAME:
                raise Fault(FRAME_SIZE_ERROR)
            if stop > end:
                break
            number &= MAX_WINDOW  # RFC 9113 4.1: the reserved bit is ignored
            if kind == HEADERS:
                if flags & (END_HEADERS | PADDED | WITH_PRIORITY) == END_HEADERS:
                    self._head(number, flags & END_STREAM != 0, data[start:stop])
                else:
                    self._unusual_head(number, flags, data[start:stop])
            elif kind == DATA:
                self._data(number, flags, data, start, stop)
            else:
                self._control(kind, number, flags, data[start:stop])
            position = stop
            if self.stopped:
                break
        if position < end:
            self._held = data[position:]

    def _control(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == RST_STREAM:
            self._rst_stream(number, payload)
        elif kind == PRIORITY:
            self._priority(number, payload)
        elif kind == SETTINGS:
            self._settings(number, flags, payload)
        elif kind == PING:
            self._ping(number, flags, payload)
        elif kind == GOAWAY:
            self._goaway(number, payload)
        elif kind == CONTINUATION:
            self._continuation(number, flags, payload)
        elif kind == PUSH_PROMISE:
            raise Fault(PROTOCOL_ERROR)  # RFC 9113 8.4: a client cannot push
        else:
            self._owner.spend(control_frames=1)  # RFC 9113 5.5: ignored; but not without end

    def _head(self, number: int, ended: bool, block: bytes) -> None:
        if number <= self.last or not number & 1:
            self._late_head(number, ended, block)
            return
        blocks = WHOLE if ended else BEGUN
        reading = blocks.known.get((self.table.number, block))
        if reading is None:
            reading, uri = self._read(block, ended)
        else:
            uri = reading.uri
        if reading.size > self._max_list:
            raise Fault(ENHANCE_YOUR_CALM)
        self.table = reading.table
        if number != self.last + 2:
            self._skip(number)
        self.last = number
        if len(self.streams) >= self._max_streams:
            self._one_too_many(number)
            return
        self._owner.begin(number, reading, uri, ended=ended)

    def _read(self, block: bytes, ended: bool) -> tuple[Reading, bytes]:
        try:
            return (WHOLE if ended else BEGUN).read(block, self.table, self._max_list, self._websocket_key)
        except hpack.BadBlock:
            raise Fault(COMPRESSION_ERROR) from None
        except hpack.ListTooLarge:
            raise Fault(ENHANCE_YOUR_CALM) from None

    def _skip(self, number: int) -> None:
        """RFC 9113 5.1.1: a new stream closes those with lower numbers that were never opened."""
        if number > 1:
            self._skipped.append(range(self.last + 1, number))
            del self._skipped[:-MAX_SKIPPED]

    def _one_too_many(self, number: int) -> None:
        if self._agreed or len(self.streams) >= ASSUMED_STREAMS:
            raise Fault(PROTOCOL_ERROR)
        self.refuse(number)

    def refuse(self, number: int) -> None:
        """RFC 9113 8.7: it may be sent again."""
        self.reset(number, REFUSED_STREAM)
        self._owner.spend(control_frames=1)

    def _unusual_head(self, number: int, flags: int, payload: bytes) -> None:
        """Padded, with a priority, or to be continued."""
        if flags & PADDED:
            payload = _unpad(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise Fault(FRAME_SIZE_ERROR)
            _check_priority(number, payload)
            payload = payload[5:]
        ended = flags & END_STREAM != 0
        if flags & END_HEADERS:
            self._head(number, ended, payload)
        else:
            if not number & 1:
                raise Fault(PROTOCOL_ERROR)
            self._block = (number, ended, [payload])
            self._continuations = 0
            self._awaited = CONTINUATION

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        begun, ended, pieces = self._block
        if self._awaited != CONTINUATION or number != begun:
            raise Fault(PROTOCOL_ERROR)
        pieces.append(payload)
        self._continuations += 1
        if self._continuations > MAX_CONTINUATIONS or sum(map(len, pieces)) > self._max_list + FRAME:
            raise Fault(PROTOCOL_ERROR)
        if flags & END_HEADERS:
            self._awaited = -1
            self._block = (0, False, [])
            self._head(number, ended, b"".join(pieces))

    def _late_head(self, number: int, ended: bool, block: bytes) -> None:
        """Not of a new stream: trailers, or an error."""
        stream = self.streams.get(number)
        if stream is None and number not in self.resets:
            raise Fault(self._fault_on(number))
        try:
            fields, _, self.table = hpack.decode(block, self.table, self._max_list)
        except hpack.BadBlock:
            raise Fault(COMPRESSION_ERROR) from None
        except hpack.ListTooLarge:
            raise Fault(ENHANCE_YOUR_CALM) from None
        if stream is None:  # under way when we reset the stream: read for the table's sake
            return
        if stream.ended:
            self._stream_error(stream, STREAM_CLOSED)
            return
        stream.ended = ended
        try:
            check_fields(fields, trailers=True)
            if not ended:  # RFC 9113 8.1: trailers are the end
                raise Malformed
        except Malformed as bad:
            stream.refuse(bad)
            self._owner.spend(control_frames=1)
        else:
            stream.received_end()

    def _fault_on(self, number: int) -> int:
        """What it is to send something on a stream that is not there (RFC 9113 5.1)."""
        if number > self.last or not number & 1 or any(number in gap for gap in self._skipped):
            return PROTOCOL_ERROR
        return STREAM_CLOSED

    def _data(self, number: int, flags: int, data: bytes, start: int, stop: int) -> None:
        size = stop - start  # padding counts (RFC 9113 6.9.1)
        self.credit -= size
        if self.credit < 0:
            raise Fault(FLOW_CONTROL_ERROR)
        content = data[start:stop]
        if flags & PADDED:
            content = _unpad(content)
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            if stream is None and number not in self.resets:
                raise Fault(self._fault_on(number))
            if size:
                self.acknowledge_all(size)
            if not content:
                self._owner.spend(control_frames=1)
            if stream is not None:
                self._stream_error(stream, STREAM_CLOSED)
            return
        stream.credit -= size
        if stream.credit < 0 < size:
            raise Fault(FLOW_CONTROL_ERROR)
        ended = flags & END_STREAM != 0
        if not content and not ended:
            self._owner.spend(control_frames=1)  # CVE-2019-9518
        stream.ended = ended
        stream.received_data(content, size)
        if ended and self.streams.get(number) is stream:
            stream.received_end()

    def _stream_error(self, stream: Stream, code: int) -> None:
        self.reset(stream.number, code)
        stream.client_left()
        self._owner.spend(resets=1)  # CVE-2025-8671

    def _priority(self, number: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise Fault(FRAME_SIZE_ERROR)
        if not number:
            raise Fault(PROTOCOL_ERROR)
        _check_priority(number, payload)
        self._owner.spend(control_frames=1)

    def _rst_stream(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(FRAME_SIZE_ERROR)
        if number > self.last or not number & 1:
            raise Fault(PROTOCOL_ERROR)
        stream = self.streams.get(number)
        if stream is None:  # it may have been under way when the stream ended
            self._owner.spend(control_frames=1)
        else:
            stream.client_left()
            self._owner.spend(resets=1)

    def _settings(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise Fault(PROTOCOL_ERROR)
        if flags & ACK:
            if payload:
                raise Fault(FRAME_SIZE_ERROR)
            if self._awaited == SETTINGS:  # RFC 9113 3.4: the client's own come first
                raise Fault(PROTOCOL_ERROR)
            self._agree()
            return
        if len(payload) % 6:
            raise Fault(FRAME_SIZE_ERROR)
        if len(payload) > MAX_SETTINGS * 6:
            raise Fault(ENHANCE_YOUR_CALM)
        self._awaited = -1
        for setting, value in _settings(payload):
            self._set(setting, value)
        self.write(SETTINGS, ACK, 0, b"")
        self._owner.spend(control_frames=1)
        self.pump_all()

    def _set(self, setting: int, value: int) -> None:
        if setting == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise Fault(FLOW_CONTROL_ERROR)
            change = value - self.initial_window
            self.initial_window = value
            for stream in self.streams.values():  # RFC 9113 6.9.2: below zero if need be
                stream.window += change
                if stream.window > MAX_WINDOW:
                    raise Fault(FLOW_CONTROL_ERROR)
        elif setting == MAX_FRAME_SIZE:
            if not FRAME <= value <= MAX_FRAME:
                raise Fault(PROTOCOL_ERROR)
            self.max_frame = value
        elif setting == HEADER_TABLE_SIZE:
            # RFC 9113 4.3.1: a table made smaller is confirmed; we use none, and say so once.
            self.prelude = b"\x20"
        elif setting in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise Fault(PROTOCOL_ERROR)

    def _agree(self) -> None:
        """The client has taken our settings on: streams opened before have the default window until now."""
        if self._agreed:
            self._owner.spend(control_frames=1)
            return
        self._agreed = True
        change = self.stream_window - self.first_credit
        self.first_credit = self.stream_window
        for stream in self.streams.values():
            stream.credit += change

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise Fault(PROTOCOL_ERROR)
        if len(payload) != 8:
            raise Fault(FRAME_SIZE_ERROR)
        if not flags & ACK:
            self.write(PING, ACK, 0, payload)
        self._owner.spend(control_frames=1)

    def _goaway(self, number: int, payload: bytes) -> None:
        if number:
            raise Fault(PROTOCOL_ERROR)
        if len(payload) < 8:
            raise Fault(FRAME_SIZE_ERROR)
        self._owner.client_goes()
        self._owner.spend(control_frames=1)

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(FRAME_SIZE_ERROR)
        increment: int = _number(payload)[0]
        if not 0 < increment <= MAX_WINDOW:
            raise Fault(PROTOCOL_ERROR)
        # Each stream and each frame of DATA is worth some; more of them free nothing and are there to keep us busy.
        if self._updates < (self.data_frames + self.last) * UPDATES_PER_FRAME:
            self._updates += 1
        else:
            self._owner.spend(control_frames=1)
        if not number:
            self.window += increment
            if self.window > MAX_WINDOW:
                raise Fault(FLOW_CONTROL_ERROR)
            self.pump_all()
            return
        stream = self.streams.get(number)
        if stream is None:
            if number > self.last or not number & 1:
                raise Fault(PROTOCOL_ERROR)
            return  # RFC 9113 5.1: it may have been under way when the stream ended
        stream.window += increment
        if stream.window > MAX_WINDOW:
            self._stream_error(stream, FLOW_CONTROL_ERROR)
        else:
            stream.pump()

    def pump_all(self) -> None:
        """In turns: who had some of the connection's window stands behind all others when there is more."""
        streams = self.streams
        for stream in tuple(streams.values()):
            before = self.window
            if before <= 0:
                return
            stream.pump()
            if self.window != before and stream.number in streams:
                streams[stream.number] = streams.pop(stream.number)


def _unpad(payload: bytes) -> bytes:
    """RFC 9113 6.1."""
    if not payload:
        raise Fault(FRAME_SIZE_ERROR)
    end = len(payload) - payload[0]
    if end < 1:
        raise Fault(PROTOCOL_ERROR)
    return payload[1:end]


def _check_priority(number: int, payload: bytes) -> None:
    """Priorities are gone (RFC 9113 5.3.2), and what they say is ignored, but for a stream that awaits itself."""
    if _number(payload)[0] & MAX_WINDOW == number:
        raise Fault(PROTOCOL_ERROR)
