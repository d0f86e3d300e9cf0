"""Frames of HTTP/2 to a client: heads and bodies within its windows, and what tells it of ours.

What is to be written gathers in `out`, for whoever owns the connection to join once in a while.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from .http2_codes import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

if TYPE_CHECKING:
    from .http_fields import BadMessage

MAX_REMEMBERED_RESETS = 128  # streams that we have reset and whose client may not have heard of it

_pack = struct.Struct(">IBL").pack  # length and type in one number, flags, stream
_number = struct.Struct(">L").pack
_goaway = struct.Struct(">LL").pack
_setting = struct.Struct(">HL").pack


class Stream(Protocol):
    """What a connection keeps on each of its streams."""

    number: int
    window: int  # bytes that the client takes
    credit: int  # bytes that the client may send
    unsaid: int  # bytes that it may send again and does not know of yet
    ended: bool  # the client has said all

    def received_data(self, data: bytes, size: int) -> None: ...
    def received_end(self) -> None: ...
    def refuse(self, bad: BadMessage) -> None: ...
    def client_left(self) -> None: ...
    def pump(self) -> None: ...


class Writer:
    __slots__ = (
        "connection_window",
        "credit",
        "data_frames",
        "first_credit",
        "initial_window",
        "last",
        "max_frame",
        "out",
        "prelude",
        "resets",
        "stream_window",
        "unsaid",
        "window",
    )

    def __init__(self, *, stream_window: int, connection_window: int) -> None:
        self.out: list[bytes] = []
        self.last = 0  # the highest stream that the client has opened
        self.window = self.initial_window = DEFAULT_WINDOW  # what the client takes: in all, and at first on each stream
        self.max_frame = FRAME  # what it takes in one frame
        self.credit = DEFAULT_WINDOW  # what it may send in all
        self.first_credit = DEFAULT_WINDOW  # and at first on each stream: what we said, once it has agreed to that
        self.unsaid = 0  # what it may send again and does not know of yet
        self.stream_window = stream_window
        self.connection_window = max(connection_window, DEFAULT_WINDOW)
        self.prelude = b""  # what the next block must begin with
        self.data_frames = 0
        self.resets: dict[int, None] = {}

    def start(self, *, max_streams: int, max_list: int) -> None:
        settings = (
            (MAX_CONCURRENT_STREAMS, max_streams),
            (INITIAL_WINDOW_SIZE, self.stream_window),
            (MAX_HEADER_LIST_SIZE, max_list),
            (ENABLE_CONNECT_PROTOCOL, 1),
        )
        self.write(SETTINGS, 0, 0, b"".join([_setting(*setting) for setting in settings]))
        self._open_window(0, self.connection_window - DEFAULT_WINDOW)
        self.credit = self.connection_window

    def head(self, number: int, block: bytes, *, end: bool) -> None:
        if self.prelude:
            block, self.prelude = self.prelude + block, b""
        flags = END_STREAM if end else 0
        if len(block) <= self.max_frame:
            self.write(HEADERS, flags | END_HEADERS, number, block)
            return
        kind = HEADERS
        for start in range(0, len(block), self.max_frame):
            last = start + self.max_frame >= len(block)
            self.write(kind, flags | (END_HEADERS if last else 0), number, block[start : start + self.max_frame])
            kind, flags = CONTINUATION, 0

    def data(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """As much as the windows take; `data` is no longer than that."""
        stream.window -= len(data)
        self.window -= len(data)
        size = self.max_frame
        for start in range(0, len(data) or 1, size):
            last = end and start + size >= len(data)
            self.write(DATA, END_STREAM if last else 0, stream.number, data[start : start + size])
            self.data_frames += 1

    def reset(self, number: int, code: int) -> None:
        self.resets[number] = None
        if len(self.resets) > MAX_REMEMBERED_RESETS:
            del self.resets[next(iter(self.resets))]
        self.write(RST_STREAM, 0, number, _number(code))

    def goaway(self, code: int) -> None:
        self.write(GOAWAY, 0, 0, _goaway(self.last, code))

    def acknowledge(self, stream: Stream, size: int) -> None:
        """The client may send `size` bytes more; it is told when that is worth a frame."""
        self.acknowledge_all(size)
        if not stream.ended:
            stream.unsaid += size
            if stream.unsaid * 2 >= self.first_credit:
                self._open_window(stream.number, stream.unsaid)
                stream.credit += stream.unsaid
                stream.unsaid = 0

    def acknowledge_all(self, size: int) -> None:
        self.unsaid += size
        if self.unsaid * 2 >= self.connection_window:
            self._open_window(0, self.unsaid)
            self.credit += self.unsaid
            self.unsaid = 0

    def _open_window(self, number: int, size: int) -> None:
        if size:
            self.write(WINDOW_UPDATE, 0, number, _number(size))

    def write(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self.out += (_pack(len(payload) << 8 | kind, flags, number), payload)
