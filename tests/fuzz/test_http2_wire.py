"""Our side of an HTTP/2 connection next to the library h2, which is the oracle: the same frames, the same events.

What h2 refuses we refuse. We refuse more, each time by the letter of RFC 9113: SETTINGS that do not come first (3.4),
RST_STREAM and WINDOW_UPDATE on streams that were never opened (5.1), frames on streams that have ended (5.1; h2 answers
some with RST_STREAM), header blocks with integers that nothing is as large as. h2 alone refuses ALTSVC frames that are
wrong in themselves, which are no business of a server's and ignored (RFC 7838 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import h2.config
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.http2 import Malformed, request_of
from penstock.proxy.http2_blocks import Reading
from penstock.proxy.http2_codes import PREFACE
from penstock.proxy.http2_frames import Frames
from penstock.proxy.http2_wire import Fault, Wire
from penstock.proxy.http_fields import BadMessage

QUICK = settings(max_examples=150, deadline=None, derandomize=True)
KEY = b"a2V5"
ALTSVC = 10
Event = tuple[Any, ...]


@dataclass(eq=False)
class Taken:
    """A stream that notes what comes."""

    number: int
    owner: Ours
    window: int
    credit: int
    ended: bool
    unsaid: int = 0
    length: int = -1  # that was said of its content
    arrived: int = 0

    def received_data(self, data: bytes, size: int) -> None:
        self.arrived += len(data)
        if 0 <= self.length < self.arrived:
            self.refuse(BadMessage(400, "bad_content_length"))
        if data:
            self.owner.events.append(("data", self.number, data))
        self.owner.wire.acknowledge(self, size)

    def received_end(self) -> None:
        if self.arrived < self.length:
            self.refuse(BadMessage(400, "bad_content_length"))
        self.owner.events.append(("end", self.number))

    def refuse(self, bad: BadMessage) -> None:
        self.owner.malformed = True

    def client_left(self) -> None:
        self.owner.events.append(("reset", self.number))
        del self.owner.wire.streams[self.number]

    def pump(self) -> None:
        pass


@dataclass
class Ours:
    """A connection whose requests are never answered."""

    events: list[Event] = field(default_factory=list)
    fault: int | None = None
    malformed: bool = False  # a message, which is over; its connection is not, as the library would have it

    def __post_init__(self) -> None:
        self.wire = Wire(
            self,
            max_streams=100,
            stream_window=65535,
            connection_window=65535,
            max_list=65536,
            websocket_key=lambda: KEY,
        )
        self.wire.say_settings()

    def begin(self, number: int, reading: Reading, uri: bytes, *, ended: bool) -> None:
        stream = Taken(number, self, self.wire.initial_window, self.wire.first_credit, ended)
        self.wire.streams[number] = stream
        if isinstance(reading.refusal, Malformed):
            self.malformed = True
            return
        if reading.request is None:
            assert reading.refusal is not None
            self.events.append(("refused", number, reading.refusal.reason))
        else:
            request = reading.request
            self.events.append(("request", number, request.method, uri, request.block, request.trailers))
            lengths = [line[16:] for line in request.block.split(b"\r\n") if line.startswith(b"content-length: ")]
            if lengths:
                stream.length = int(lengths[0])
        if ended:
            self.events.append(("end", number))

    def spend(self, *, resets: int = 0, control_frames: int = 0) -> None:
        pass

    def client_goes(self) -> None:
        pass

    def take(self, pieces: list[bytes]) -> None:
        try:
            for piece in pieces:
                self.wire.receive(piece)
        except Fault as fault:
            self.fault = fault.code


class Theirs:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refused: BaseException | None = None
        self.frames = Frames(
            h2.config.H2Configuration(client_side=False, header_encoding=None, normalize_inbound_headers=False)
        )
        self.frames.local_settings.update({h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        self.frames.initiate_connection()

    def take(self, data: bytes) -> None:
        """Frame by frame, for h2 gives no events of a piece that ends in an error."""
        try:
            for piece in split(data):
                for event in self.frames.receive_data(piece):
                    self._note(event)
        except h2.exceptions.ProtocolError as error:
            self.refused = error

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                number = event.stream_id
                try:
                    request = request_of(event.headers or (), ended=event.stream_ended is not None, websocket_key=KEY)
                except BadMessage as bad:
                    self.events.append(("refused", number, bad.reason))
                else:
                    self.events.append(
                        ("request", number, request.method, request.uri, request.block, request.trailers)
                    )
            case h2.events.DataReceived():
                if event.data:
                    self.events.append(("data", event.stream_id, event.data))
                self.frames.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            case h2.events.StreamEnded():
                self.events.append(("end", event.stream_id))
            case h2.events.StreamReset():
                self.events.append(("reset", event.stream_id))
            case _:
                pass


def split(data: bytes) -> Iterator[bytes]:
    yield data[: len(PREFACE)]
    data = data[len(PREFACE) :]
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        yield data[:size]
        data = data[size:]


HEAD = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
FIELDS = st.lists(
    st.sampled_from(
        [
            (b"accept", b"*/*"), (b"cookie", b"a=1"), (b"cookie", b"b=22222222222222222222222"), (b"te", b"trailers"),
            (b"x-long", b"v" * 400), (b"user-agent", b"one"), (b"user-agent", b"two"), (b"host", b"a"),
            (b"expect", b"100-continue"),
        ]
    ),
    max_size=5,
    unique=True,
)  # fmt: skip
PATHS = st.sampled_from([b"/", b"/a?b=c", b"/" + b"long" * 30, b"*", b"x", b"/index.html"]) | st.binary(
    min_size=1, max_size=5
).map(lambda raw: b"/" + raw.hex().encode())
WRONG = st.sampled_from(
    [
        (b"connection", b"close"), (b"te", b"gzip"), (b":path", b"/b"), (b"X", b"y"), (b"x", b"a\nb"), (b"x", b" a"),
        (b"host", b"b"), (b"content-length", b"-1"), (b":status", b"200"), (b"", b"x"), (b"a:b", b"c"),
        (b":protocol", b"websocket"), (b"transfer-encoding", b"chunked"), (b"content-length", b"7"),
    ]
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("head"), PATHS, FIELDS, st.booleans(), st.integers(0, 7), st.none() | st.integers(0, 3)),
    st.tuples(st.just("data"), st.integers(0, 9), st.integers(0, 300), st.booleans(), st.integers(0, 3)),
    st.tuples(st.just("trailers"), st.integers(0, 9), FIELDS),
    st.tuples(st.just("reset"), st.integers(0, 9)),
    st.tuples(st.just("window"), st.integers(0, 9), st.integers(1, 70000)),
    st.tuples(st.just("settings"), st.sampled_from([(4, 10), (4, 100000), (5, 20000), (1, 0), (1, 8192), (99, 1)])),
    st.tuples(st.just("other"), st.sampled_from(["ping", "pong", "ack", "unknown", "priority"])),
)


def conversation(steps: list[tuple[Any, ...]], wrong: tuple[bytes, bytes] | None = None) -> bytes:
    """What a client that keeps to the rules says (but for a field that is `wrong`, in its last request)."""
    encoder = hpack.Encoder()
    out = [SettingsFrame(0).serialize()]
    opened: dict[int, int] = {}  # streams that have not ended, and what their bodies may still hold
    number = -1
    for step in steps:
        streams = sorted(opened)
        which = streams[step[1] % len(streams)] if streams and step[0] in ("data", "trailers", "reset") else 0
        frames: list[Frame] = []
        if step[0] == "head":
            _, path, fields, ended, shape, length = step
            number += 2
            said = [] if ended or length is None else [(b"content-length", b"%d" % length)]
            broken = [wrong] if wrong is not None and step is steps[-1] else []
            block = encoder.encode([*(HEAD[:3]), (b":path", path), *fields, *said, *broken], huffman=shape & 1 == 0)
            flags = ["END_STREAM"] if ended else []
            if not ended:
                opened[number] = -1 if length is None else length
            cut = len(block) // 2 if shape & 2 else len(block)
            head = HeadersFrame(number, data=block[:cut], flags=flags)
            if shape & 4:
                head.flags.add("PADDED")
                head.flags.add("PRIORITY")
                head.pad_length, head.depends_on, head.stream_weight = 5, 0, 1
            if cut == len(block):
                head.flags.add("END_HEADERS")
                frames.append(head)
            else:
                frames += [head, ContinuationFrame(number, data=block[cut:], flags=["END_HEADERS"])]
        elif step[0] == "data" and which:
            _, _, size, ended, padding = step
            if opened[which] >= 0:
                size = min(size, opened[which])
                ended = size == opened[which]
                opened[which] -= size
            frame = DataFrame(which, bytes(size), flags=["END_STREAM"] if ended else [])
            if padding:
                frame.flags.add("PADDED")
                frame.pad_length = padding
            frames.append(frame)
            if ended:
                del opened[which]
        elif step[0] == "trailers" and which and opened[which] <= 0:
            fields = [pair for pair in step[2] if pair[0] != b"host"]
            del opened[which]
            frames.append(HeadersFrame(which, data=encoder.encode(fields), flags=["END_STREAM", "END_HEADERS"]))
        elif step[0] == "reset" and which:
            del opened[which]
            frames.append(RstStreamFrame(which, h2.errors.ErrorCodes.CANCEL))
        elif step[0] == "window":
            all_streams = [0, *range(1, number + 1, 2)]
            frames.append(WindowUpdateFrame(all_streams[step[1] % len(all_streams)], step[2]))
        elif step[0] == "settings":
            frames.append(SettingsFrame(0, dict([step[1]])))
        elif step == ("other", "unknown"):
            out.append(b"\0\0\1\x42\xff\0\0\0\x4dx")
        elif step[0] == "other":
            frames.append(
                {
                    "ping": PingFrame(0, b"12345678"),
                    "pong": PingFrame(0, b"12345678", flags=["ACK"]),
                    "ack": SettingsFrame(0, flags=["ACK"]),
                    "priority": PriorityFrame(9, depends_on=3, stream_weight=3),
                }[step[1]]
            )
        out += [frame.serialize() for frame in frames]
    return PREFACE + b"".join(out)


@QUICK
@given(st.lists(STEPS, max_size=25), st.lists(st.integers(0, 5000), max_size=6))
def test_what_a_right_client_says_is_heard_alike(steps: list[tuple[Any, ...]], cuts: list[int]) -> None:
    data = conversation(steps)
    ours, theirs = Ours(), Theirs()
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    ours.take([data[start:end] for start, end in pairwise(places)])
    theirs.take(data)
    assert theirs.refused is None
    assert ours.fault is None
    assert not ours.malformed
    assert ours.events == theirs.events
    for number, stream in ours.wire.streams.items():
        theirs_too = theirs.frames.local_flow_control_window(number)
        assert min(stream.window, ours.wire.window) == theirs_too
    again = Ours()  # everything in it is remembered by now
    again.take([data])
    assert again.events == ours.events


@QUICK
@given(st.lists(STEPS, max_size=6), PATHS, FIELDS, st.booleans(), WRONG)
def test_a_request_that_is_malformed_to_the_library_is_to_us(
    steps: list[tuple[Any, ...]],
    path: bytes,
    fields: list[tuple[bytes, bytes]],
    ended: bool,
    wrong: tuple[bytes, bytes],
) -> None:
    data = conversation([*steps, ("head", path, fields, ended, 0, None)], wrong)
    ours, theirs = Ours(), Theirs()
    ours.take([data])
    theirs.take(data)
    assert ours.malformed == (theirs.refused is not None)
    assert ours.fault is None
    assert ours.events == theirs.events


CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4)


@settings(QUICK, max_examples=400)
@given(st.lists(STEPS, min_size=1, max_size=12), CHANGES, st.booleans())
def test_what_the_library_refuses_is_refused(
    steps: list[tuple[Any, ...]], changes: list[tuple[int, int]], in_frame_heads: bool
) -> None:
    """Bytes changed anywhere, or only in what frames begin with, where the protocol's rules are."""
    data = bytearray(conversation(steps))
    heads = []
    position = 0
    for piece in split(bytes(data)):
        heads += range(position, position + min(9, len(piece)))
        position += len(piece)
    for place, byte in changes:
        data[heads[place % len(heads)] if in_frame_heads else place % len(data)] = byte
    pieces = [*split(bytes(data))]
    if len(pieces[-1]) < 9 or len(pieces[-1]) < 9 + int.from_bytes(pieces[-1][:3], "big"):
        pieces.pop()  # the library judges a frame by its first bytes, we when all of it is there
    if any(piece[3] == ALTSVC for piece in pieces[1:]):
        return
    ours, theirs = Ours(), Theirs()
    ours.take([b"".join(pieces)])
    theirs.take(b"".join(pieces))
    if theirs.refused is not None:
        assert ours.fault is not None or ours.malformed, theirs.refused
    if not ours.malformed:
        heard = [event for event in ours.events if event[0] in ("request", "refused")]
        assert heard == [event for event in theirs.events if event[0] in ("request", "refused")][: len(heard)]


@QUICK
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_end_in_a_fault_or_in_nothing(data: bytes, begun: bool) -> None:
    ours = Ours()
    ours.take([(PREFACE + SettingsFrame(0).serialize() if begun else b"") + data])
    assert ours.fault is None or 0 < ours.fault <= 11
