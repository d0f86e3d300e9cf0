"""The server's side of an HTTP/2 connection, frame by frame: what each mistake is called, and how windows move."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import hpack
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from penstock.proxy.http2_blocks import Reading
from penstock.proxy.http2_codes import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from penstock.proxy.http2_wire import Fault, Wire
from penstock.proxy.http_fields import BadMessage

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]
END = ["END_STREAM"]
BEGIN = PREFACE + SettingsFrame(0).serialize()


@dataclass(eq=False)
class Taken:
    number: int
    wire: Wire
    window: int
    credit: int
    ended: bool
    unsaid: int = 0
    refused: str = ""
    received: bytes = b""
    pumped: int = 0

    def received_data(self, data: bytes, size: int) -> None:
        self.received += data

    def received_end(self) -> None:
        pass

    def refuse(self, bad: BadMessage) -> None:
        self.refused = bad.reason

    def client_left(self) -> None:
        del self.wire.streams[self.number]

    def pump(self) -> None:
        self.pumped += 1


@dataclass
class Ours:
    """One connection; the client's SETTINGS have been heard, unless `begun` is false."""

    max_streams: int = 100
    stream_window: int = 65535
    connection_window: int = 65535
    max_list: int = 16384
    begun: bool = True
    paths: list[bytes] = field(default_factory=list)
    resets: int = 0
    control_frames: int = 0
    gone: bool = False

    def __post_init__(self) -> None:
        self.encoder = hpack.Encoder()
        self.wire = Wire(
            self,
            max_streams=self.max_streams,
            stream_window=self.stream_window,
            connection_window=self.connection_window,
            max_list=self.max_list,
            websocket_key=lambda: b"a2V5",
        )
        self.wire.say_settings()
        if self.begun:
            self.wire.receive(BEGIN)
        self.wire.out.clear()
        self.resets = self.control_frames = 0

    def begin(self, number: int, reading: Reading, uri: bytes, *, ended: bool) -> None:
        self.paths.append(uri)
        self.wire.streams[number] = Taken(number, self.wire, self.wire.initial_window, self.wire.first_credit, ended)

    def spend(self, *, resets: int = 0, control_frames: int = 0) -> None:
        self.resets += resets
        self.control_frames += control_frames

    def client_goes(self) -> None:
        self.gone = True

    def head(self, number: int, fields: list[tuple[bytes, bytes]] = GET, *flags: str) -> HeadersFrame:
        return HeadersFrame(number, data=self.encoder.encode(fields), flags=["END_HEADERS", *flags])

    def take(self, *frames: Frame | bytes) -> None:
        self.wire.receive(b"".join(each if isinstance(each, bytes) else each.serialize() for each in frames))

    def stream(self, number: int) -> Taken:
        stream = self.wire.streams[number]
        assert isinstance(stream, Taken)
        return stream

    def said(self) -> list[Frame]:
        """The frames that are to be written, and no longer are."""
        data = b"".join(self.wire.out)
        self.wire.out.clear()
        frames = []
        while data:
            frame, size = Frame.parse_frame_header(memoryview(data[:9]))
            frame.parse_body(memoryview(data[9 : 9 + size]))
            frames.append(frame)
            data = data[9 + size :]
        return frames


def raw(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


BIG = b"\x7f\xff\xff\xff"
FAULTS: dict[str, tuple[int, bytes]] = {
    "DATA on the connection": (PROTOCOL_ERROR, raw(0, b"x")),
    "DATA on a stream that was never opened": (PROTOCOL_ERROR, raw(0, b"x", stream=9)),
    "DATA on a stream of ours": (PROTOCOL_ERROR, raw(0, b"x", stream=2)),
    "DATA longer than a frame may be": (FRAME_SIZE_ERROR, raw(0, bytes(16385), stream=1)),
    "DATA: padded, and empty": (FRAME_SIZE_ERROR, raw(0, b"", 8, 1)),
    "DATA: more padding than payload": (PROTOCOL_ERROR, raw(0, b"\x02x", 8, 1)),
    "HEADERS on the connection": (PROTOCOL_ERROR, raw(1, b"\x82", 5)),
    "HEADERS on a stream of ours": (PROTOCOL_ERROR, raw(1, b"\x82", 5, 2)),
    "HEADERS: more padding than payload": (PROTOCOL_ERROR, raw(1, b"\x02\x82", 0xD, 3)),
    "HEADERS: a priority cut short": (FRAME_SIZE_ERROR, raw(1, b"\0\0\0\0", 0x25, 3)),
    "HEADERS: a stream that awaits itself": (PROTOCOL_ERROR, raw(1, b"\0\0\0\3\0\x82", 0x25, 3)),
    "HEADERS: a block that cannot be read": (COMPRESSION_ERROR, raw(1, b"\x80", 5, 3)),
    "trailers that cannot be read": (COMPRESSION_ERROR, raw(1, b"\x80", 5, 1)),
    "PRIORITY on the connection": (PROTOCOL_ERROR, raw(2, bytes(5))),
    "PRIORITY of the wrong size": (FRAME_SIZE_ERROR, raw(2, bytes(4), stream=1)),
    "PRIORITY of a stream that awaits itself": (PROTOCOL_ERROR, raw(2, b"\0\0\0\1\0", stream=1)),
    "RST_STREAM on the connection": (PROTOCOL_ERROR, raw(3, bytes(4))),
    "RST_STREAM of the wrong size": (FRAME_SIZE_ERROR, raw(3, bytes(3), stream=1)),
    "RST_STREAM on a stream that was never opened": (PROTOCOL_ERROR, raw(3, bytes(4), stream=9)),
    "SETTINGS on a stream": (PROTOCOL_ERROR, raw(4, stream=1)),
    "SETTINGS without end": (ENHANCE_YOUR_CALM, raw(4, b"\0\4\0\1\0\0" * 33)),
    "SETTINGS of the wrong size": (FRAME_SIZE_ERROR, raw(4, bytes(5))),
    "SETTINGS: an acknowledgement that says something": (FRAME_SIZE_ERROR, raw(4, bytes(6), 1)),
    "SETTINGS: push is 2": (PROTOCOL_ERROR, raw(4, b"\0\2\0\0\0\2")),
    "SETTINGS: a window too large": (FLOW_CONTROL_ERROR, raw(4, b"\0\4\x80\0\0\0")),
    "SETTINGS: frames too small": (PROTOCOL_ERROR, raw(4, b"\0\5\0\0\x3f\xff")),
    "SETTINGS: frames too large": (PROTOCOL_ERROR, raw(4, b"\0\5\1\0\0\0")),
    "SETTINGS: CONNECT protocol is 2": (PROTOCOL_ERROR, raw(4, b"\0\x08\0\0\0\2")),
    "SETTINGS: a stream's window overflows": (
        FLOW_CONTROL_ERROR,
        raw(8, b"\x7f\xff\0\0", stream=1) + raw(4, b"\0\4\0\2\0\0"),
    ),
    "PUSH_PROMISE": (PROTOCOL_ERROR, raw(5, b"\0\0\0\2\x82", 4, 1)),
    "PING on a stream": (PROTOCOL_ERROR, raw(6, bytes(8), stream=1)),
    "PING of the wrong size": (FRAME_SIZE_ERROR, raw(6, bytes(7))),
    "GOAWAY on a stream": (PROTOCOL_ERROR, raw(7, bytes(8), stream=1)),
    "GOAWAY of the wrong size": (FRAME_SIZE_ERROR, raw(7, bytes(7))),
    "WINDOW_UPDATE of the wrong size": (FRAME_SIZE_ERROR, raw(8, bytes(5))),
    "WINDOW_UPDATE of nothing": (PROTOCOL_ERROR, raw(8, bytes(4))),
    "WINDOW_UPDATE of nothing on a stream": (PROTOCOL_ERROR, raw(8, bytes(4), stream=1)),
    "WINDOW_UPDATE on a stream that was never opened": (PROTOCOL_ERROR, raw(8, b"\0\0\0\1", stream=9)),
    "WINDOW_UPDATE: the connection's overflows": (FLOW_CONTROL_ERROR, raw(8, BIG)),
    "CONTINUATION of nothing": (PROTOCOL_ERROR, raw(9, b"\x82", 4, 1)),
    "CONTINUATION on another stream": (PROTOCOL_ERROR, raw(1, b"", 0, 3) + raw(9, b"", 4, 5)),
    "a head that another frame comes into": (PROTOCOL_ERROR, raw(1, b"", 0, 3) + raw(6, bytes(8))),
    "a head that an unknown frame comes into": (PROTOCOL_ERROR, raw(1, b"", 0, 3) + raw(0x42)),
    "a head in 66 frames": (PROTOCOL_ERROR, raw(1, b"", 0, 3) + raw(9, b"", 0, 3) * 65),
    "a head of 48 KiB": (PROTOCOL_ERROR, raw(1, bytes(16384), 0, 3) + raw(9, bytes(16384), 0, 3) * 2),
    "a list of 17 KiB": (ENHANCE_YOUR_CALM, raw(1, b"\x82" * 400, 5, 3)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_ends_a_connection(name: str) -> None:
    """Stream 1 is open."""
    code, data = FAULTS[name]
    ours = Ours()
    ours.take(ours.head(1, POST))
    with pytest.raises(Fault) as fault:
        ours.take(data)
    assert fault.value.code == code
    in_pieces = Ours()
    in_pieces.take(in_pieces.head(1, POST))
    with pytest.raises(Fault) as fault:
        for at in range(len(data)):
            in_pieces.take(data[at : at + 1])
    assert fault.value.code == code


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", PREFACE[:-1] + b"x", PREFACE + raw(6, bytes(8)), PREFACE + raw(4, b"", 1)]
)
def test_a_connection_begins_with_the_preface_and_settings(data: bytes) -> None:
    with pytest.raises(Fault) as fault:
        Ours(begun=False).take(data)
    assert fault.value.code == PROTOCOL_ERROR


def test_streams_that_are_over() -> None:
    """RFC 9113 5.1: what may have been under way is ignored, and what may not ends the connection."""
    ours = Ours()
    ours.take(ours.head(1, POST), ours.head(5, POST), RstStreamFrame(1, 8))
    late = WindowUpdateFrame(1, 5), RstStreamFrame(1, 8), PriorityFrame(1, depends_on=0, stream_weight=1)
    ours.take(*late)
    for number, code in {1: STREAM_CLOSED, 3: PROTOCOL_ERROR}.items():
        for frame in (DataFrame(number, b"x"), ours.head(number, GET)):
            with pytest.raises(Fault) as fault:
                ours.take(frame)
            assert fault.value.code == code, (number, frame)


def test_what_comes_on_a_stream_that_we_have_reset_is_read_and_ignored() -> None:
    ours = Ours()
    ours.take(ours.head(1, POST))
    ours.wire.reset(1, REFUSED_STREAM)
    del ours.wire.streams[1]
    ours.take(DataFrame(1, bytes(10)), ours.head(1, [(b"x-new", b"1")], *END))
    ours.take(ours.head(3, [*GET, (b"x-new", b"1")], *END))
    assert ours.paths == [b"/", b"/"], "the trailers' entry in the table was read"
    assert ours.wire.credit == 65525


def test_a_client_that_says_more_after_it_has_ended_loses_its_stream() -> None:
    ours = Ours()
    for number, frame in {
        1: DataFrame(1, b"x"),
        3: HeadersFrame(3, data=b"\x00\x01x\x01y", flags=["END_HEADERS", *END]),
    }.items():
        ours.take(ours.head(number, GET, *END), frame)
        (said,) = ours.said()
        assert isinstance(said, RstStreamFrame)
        assert (said.stream_id, said.error_code) == (number, STREAM_CLOSED)
        assert number not in ours.wire.streams
    assert ours.resets == 2


def test_a_stream_window_that_overflows_costs_the_stream() -> None:
    ours = Ours()
    ours.take(ours.head(1, GET, *END), WindowUpdateFrame(1, 2**31 - 1))
    (said,) = ours.said()
    assert isinstance(said, RstStreamFrame)
    assert said.error_code == FLOW_CONTROL_ERROR
    assert ours.resets == 1


def test_more_streams_than_we_take() -> None:
    """Refused, so that they may be sent again, until the client has heard how many we take."""
    ours = Ours(max_streams=2)
    ours.take(*(ours.head(number, GET, *END) for number in (1, 3, 5)))
    (said,) = ours.said()
    assert isinstance(said, RstStreamFrame)
    assert (said.stream_id, said.error_code) == (5, REFUSED_STREAM)
    ours.take(SettingsFrame(0, flags=["ACK"]))
    with pytest.raises(Fault) as fault:
        ours.take(ours.head(7, GET, *END))
    assert fault.value.code == PROTOCOL_ERROR


def test_windows_of_the_client() -> None:
    ours = Ours()
    ours.take(ours.head(1, GET, *END), SettingsFrame(0, {4: 10}))
    stream = ours.stream(1)
    assert stream.window == 10
    ours.wire.data(stream, bytes(10), end=False)
    ours.take(SettingsFrame(0, {4: 4}))
    assert (stream.window, ours.wire.window) == (-6, 65525), "RFC 9113 6.9.2: below zero"
    ours.take(WindowUpdateFrame(1, 7), WindowUpdateFrame(0, 100))
    assert (stream.window, ours.wire.window) == (1, 65625)
    assert stream.pumped == 4
    ours.take(ours.head(3, GET, *END))
    assert ours.stream(3).window == 4


def test_windows_of_ours() -> None:
    """The client hears of more room when half of it is used; padding counts as it does."""
    ours = Ours(stream_window=1000, connection_window=100_000)
    ours.take(ours.head(1, POST))
    stream = ours.stream(1)
    assert stream.credit == 65535, "until it has agreed to our settings"
    ours.take(SettingsFrame(0, flags=["ACK"]), DataFrame(1, bytes(400), pad_length=99, flags=["PADDED"]))
    assert (stream.credit, stream.received, ours.wire.credit) == (500, bytes(400), 99_500)
    ours.wire.acknowledge(stream, 499)
    assert not ours.said()
    ours.wire.acknowledge(stream, 1)
    (said,) = ours.said()
    assert isinstance(said, WindowUpdateFrame)
    assert (said.stream_id, said.window_increment, stream.credit) == (1, 500, 1000)
    with pytest.raises(Fault) as fault:
        ours.take(DataFrame(1, bytes(1001)))
    assert fault.value.code == FLOW_CONTROL_ERROR


@pytest.mark.parametrize(("trailers", "flags"), [([(b"x", b"y")], []), ([(b":path", b"/")], END)])
def test_malformed_trailers_concern_their_stream(trailers: list[tuple[bytes, bytes]], flags: list[str]) -> None:
    ours = Ours()
    ours.take(ours.head(1, POST), ours.head(1, trailers, *flags))
    assert ours.stream(1).refused == "malformed"
    assert ours.control_frames == 1
    ours.take(ours.head(3, GET, *END))
    assert len(ours.paths) == 2


def test_what_costs_us_more_than_the_client_is_counted() -> None:
    ours = Ours()
    ours.take(ours.head(1, POST))
    cheap: list[Frame | bytes] = [
        PingFrame(0, bytes(8)), SettingsFrame(0), PriorityFrame(7, depends_on=0, stream_weight=1), raw(0x42),
        DataFrame(1, b""), RstStreamFrame(1, 8), RstStreamFrame(1, 8), GoAwayFrame(0),
    ]  # fmt: skip
    ours.take(*cheap)
    assert (ours.control_frames, ours.resets) == (7, 1)


def test_what_we_refuse_and_what_says_nothing_after_that_is_counted() -> None:
    ours = Ours(max_streams=1)
    ours.take(ours.head(1, POST), ours.head(3, POST), ours.head(5, POST))
    assert ours.control_frames == 2
    ours.take(DataFrame(3, b"x"), DataFrame(3, b""), DataFrame(5, b"", pad_length=5, flags=["PADDED"]))
    assert ours.control_frames == 4


def test_streams_have_turns_at_the_connections_window() -> None:
    ours = Ours()
    turns: list[int] = []

    def pump(number: int) -> None:
        turns.append(number)
        ours.wire.window -= 10

    ours.wire.window = 0
    for number in (1, 3, 5):
        ours.take(ours.head(number, POST))
        ours.stream(number).pump = partial(pump, number)  # type: ignore[method-assign]
    for increment in (10, 10, 10, 20, 20):
        ours.take(WindowUpdateFrame(0, increment))
    assert turns == [1, 3, 5, 1, 3, 5, 1]


def test_windows_that_free_nothing_are_counted() -> None:
    ours = Ours()
    ours.take(ours.head(1, POST))
    for _ in range(20):
        ours.take(WindowUpdateFrame(0, 1))
    assert ours.control_frames == 18
    for _ in range(20):
        ours.wire.data(ours.stream(1), b"x", end=False)
        ours.take(WindowUpdateFrame(0, 1), WindowUpdateFrame(1, 1))
    assert ours.control_frames == 18, "one that opens again what was sent is worth its frame"


def test_a_head_in_pieces() -> None:
    ours = Ours()
    block = ours.encoder.encode(GET)
    ours.take(
        HeadersFrame(1, data=block[:2], flags=END),
        ContinuationFrame(1, data=block[2:3]),
        ContinuationFrame(1, data=block[3:], flags=["END_HEADERS"]),
    )
    assert ours.paths == [b"/"]
    assert ours.stream(1).ended


def test_a_long_head_and_body_of_ours_are_cut_into_frames() -> None:
    ours = Ours()
    ours.take(ours.head(1, GET, *END))
    ours.wire.head(1, b"\x88" + b"\x00\x01x\x7f\xa1\xb9\x01" + b"a" * 23712, end=False)
    ours.wire.data(ours.stream(1), bytes(20_000), end=True)
    head, continuation, first, second = ours.said()
    assert isinstance(continuation, ContinuationFrame)
    assert ("END_HEADERS" in head.flags, "END_HEADERS" in continuation.flags) == (False, True)
    assert isinstance(first, DataFrame)
    assert isinstance(second, DataFrame)
    assert (len(first.data), len(second.data)) == (16384, 3616)
    assert ("END_STREAM" in first.flags, "END_STREAM" in second.flags) == (False, True)


def test_a_smaller_table_is_confirmed_once() -> None:
    """RFC 9113 4.3.1: else the client would have to take our next block for an error."""
    ours = Ours()
    ours.take(ours.head(1, GET, *END), SettingsFrame(0, {1: 0}))
    ours.wire.head(1, b"\x88", end=True)
    ours.wire.head(3, b"\x88", end=True)
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    blocks = [frame.data for frame in ours.said() if isinstance(frame, HeadersFrame)]
    assert blocks == [b"\x20\x88", b"\x88"]
    for block in blocks:
        assert decoder.decode(block, raw=True) == [(b":status", b"200")]


def test_ping_settings_and_goaway() -> None:
    ours = Ours()
    ours.take(PingFrame(0, b"12345678"), PingFrame(0, b"12345678", flags=["ACK"]), SettingsFrame(0, {3: 5, 77: 1}))
    ping, settings = ours.said()
    assert isinstance(ping, PingFrame)
    assert (ping.opaque_data, set(ping.flags)) == (b"12345678", {"ACK"})
    assert isinstance(settings, SettingsFrame)
    assert set(settings.flags) == {"ACK"}
    ours.take(ours.head(3, GET, *END), GoAwayFrame(0, last_stream_id=0))
    assert ours.gone
    ours.wire.goaway(ENHANCE_YOUR_CALM)
    (goaway,) = ours.said()
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code) == (3, ENHANCE_YOUR_CALM)
