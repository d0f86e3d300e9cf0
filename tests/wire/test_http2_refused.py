"""Requests over HTTP/2 that must be refused before a byte of them becomes HTTP/1 on a target's connection.

The rows are those of the HTTP/2 checklist and those of the HTTP/1 one that HTTP/2 can say too. What the frames
themselves make wrong ends the connection with GOAWAY, what only a request makes wrong is answered with a status;
after either, the next request of another client must reach the origin whole, for a smuggled one shows there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import h2.errors
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

from support import Origin, response, run
from support.balancer import balancing
from support.http2 import GET, Client, Headers

POST: Headers = [(b":method", b"POST"), *GET[1:]]
CODES = h2.errors.ErrorCodes


def headers(*more: tuple[bytes, bytes], **pseudo: bytes) -> Headers:
    """GET / with pseudo-headers replaced and fields added."""
    changed = {b":" + name.encode(): value for name, value in pseudo.items()}
    return [(name, changed.get(name, value)) for name, value in GET] + list(more)


def length(value: bytes) -> Headers:
    return [*POST, (b"content-length", value)]


# Values of Transfer-Encoding, of which HTTP/2 knows none.
CODINGS: dict[str, bytes] = {
    "TE-03 unknown coding": b"xchunked",
    "TE-04 chunked not final": b"chunked, identity",
    "TE-05 gzip, chunked": b"gzip, chunked",
    "TE-06 identity": b"identity",
    "TE-07 chunked twice": b"chunked, chunked",
    "TE-10 leading comma": b",chunked",
    "TE-11 VT": b"chunked\x0b",
    "TE-12 NUL": b"chunked\x00",
    "TE-13 fold": b"\r\n chunked",
    "TE-16 any case": b"CHUNKED",
    "TE-18 empty": b"",
    "TE-20 white space": b"\tchunked\t ",
}

HEADS: dict[str, tuple[int | None, Headers]] = {
    "H01, RQ-05 CR LF in a value": (400, headers((b"x", b"a\r\nHost: evil"))),
    "H01, RQ-03 CR in a value": (400, headers((b"x", b"a\rb"))),
    "H01, RQ-02 LF in a value": (400, headers((b"x", b"a\nb"))),
    "H01, RQ-04 NUL in a value": (400, headers((b"x", b"a\x00b"))),
    "H01 control character in a value": (400, headers((b"x", b"a\x01b"))),
    "H01 DEL in a value": (400, headers((b"x", b"a\x7fb"))),
    "H01 space before a value": (400, headers((b"x", b" a"))),
    "H01 space after a value": (400, headers((b"x", b"a "))),
    "H01 tab before a value": (400, headers((b"x", b"\ta"))),
    "H01 tab after a value": (400, headers((b"x", b"a\t"))),
    "H01 upper-case name": (400, headers((b"X-Upper", b"1"))),
    "H01, RQ-08 empty name": (400, headers((b"", b"1"))),
    "H01, RQ-10 colon in a name": (400, headers((b"x:y", b"1"))),
    "H01, RQ-06 space in a name": (400, headers((b"x y", b"1"))),
    "H01 CR LF in a name": (400, headers((b"x: 1\r\nhost", b"evil"))),
    "H01, RQ-11 byte above 0x7f in a name": (400, headers((b"x\xa0", b"1"))),
    "H01, RQ-24 space in the path": (400, headers(path=b"/a b")),
    "H01 request line in the path": (400, headers(path=b"/ HTTP/1.1 x")),
    "H01 CR LF in the path": (400, headers(path=b"/a HTTP/1.1\r\nX: y")),
    "H01, RQ-30 NUL in the path": (400, headers(path=b"/\x00")),
    "H01, RQ-32 tab in the path": (400, headers(path=b"/a\tb")),
    "H01, RQ-31 byte above 0x7f in the path": (400, headers(path=b"/\xe9")),
    "H01 space in the method": (400, headers(method=b"GET /a HTTP/1.1")),
    "H01 CR LF in the method": (400, headers(method=b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET")),
    "H01, RQ-40 byte above 0x7f in the method": (400, headers(method=b"G\xcbT")),
    "H01 empty method": (400, headers(method=b"")),
    "H01, RQ-07 space before a name": (400, headers((b" x", b"a"))),
    "H01, RQ-42 NUL in the authority": (400, headers(authority=b"a\x00.b")),
    "H01, RQ-43 CR before a name": (400, headers((b"\rx", b"a"))),
    "H01, RQ-44 CR before a name and nothing after": (400, headers((b"\rz", b""))),
    "H01 CR LF in the authority": (400, headers(authority=b"a\r\nX: y")),
    "H01 space in the authority": (400, headers(authority=b"a b")),
    "H02 transfer-encoding": (400, [*POST, (b"transfer-encoding", b"chunked")]),
    "H02 transfer-encoding, identity": (400, [*POST, (b"transfer-encoding", b"identity")]),
    "H02, RQ-47 connection": (400, headers((b"connection", b"close"))),
    "H02 keep-alive": (400, headers((b"keep-alive", b"timeout=5"))),
    "H02 upgrade": (400, headers((b"upgrade", b"websocket"))),
    "H02 proxy-connection": (400, headers((b"proxy-connection", b"keep-alive"))),
    "H02 te": (400, headers((b"te", b"gzip"))),
    "H02 te, a list": (400, headers((b"te", b"trailers, gzip"))),
    "TE-01 length and coding": (400, [*POST, (b"content-length", b"6"), (b"transfer-encoding", b"chunked")]),
    "TE-02 coding and length": (400, [*POST, (b"transfer-encoding", b"chunked"), (b"content-length", b"30")]),
    "TE-08 two lines": (400, [*POST, *[(b"transfer-encoding", b"chunked")] * 2]),
    "TE-09 TE.TE": (400, [*POST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")]),
    "TE-14 space before colon": (400, [*POST, (b"transfer-encoding ", b"chunked")]),
    "TE-19 U+017F": (400, [*POST, (b"tran\xc5\xbffer-encoding", b"chunked")]),
    **{name: (400, [*POST, (b"transfer-encoding", value)]) for name, value in CODINGS.items()},
    "H03 length and no body": (400, length(b"5")),
    "H03 length on GET and no body": (400, headers((b"content-length", b"1"))),
    "H04 no method": (400, GET[1:]),
    "H04 no scheme": (400, [pair for pair in GET if pair[0] != b":scheme"]),
    "H04 no path": (400, [pair for pair in GET if pair[0] != b":path"]),
    "H04 method twice": (400, [(b":method", b"GET"), *GET]),
    "H04 path twice": (400, [*GET, (b":path", b"/b")]),
    "H04 authority twice": (400, [*GET, (b":authority", b"example.org")]),
    "H04 status": (400, [(b":status", b"200"), *GET]),
    "H04 unknown": (400, [(b":other", b"1"), *GET]),
    "H04 after a field": (400, [*GET[:3], (b"x", b"1"), GET[3]]),
    "H05 authority and host differ": (400, headers((b"host", b"other.example.org"))),
    "H05, RQ-13 two hosts": (400, [*GET[:2], GET[3], (b"host", b"a"), (b"host", b"b")]),
    "H05, RQ-14 two equal hosts": (400, headers((b"host", b"example.org"), (b"host", b"example.org"))),
    "H05, RQ-12 neither": (400, [*GET[:2], GET[3]]),
    "H06 empty path": (400, headers(path=b"")),
    "H06 relative path": (400, headers(path=b"a")),
    "H06, RQ-19 absolute-form in the path": (400, headers(path=b"http://example.org/")),
    "CL-01 two": (400, [*length(b"5"), (b"content-length", b"6")]),
    "CL-02 twice the same": (400, [*length(b"5"), (b"content-length", b"5")]),
    "CL-03 list": (400, length(b"5, 5")),
    "CL-04 list": (400, length(b"5, 6")),
    "CL-05 plus": (400, length(b"+5")),
    "CL-06 minus": (400, length(b"-5")),
    "CL-07 hex": (400, length(b"0x5")),
    "CL-08 underscore": (400, length(b"0_5")),
    "CL-09 inner space": (400, length(b"5 5")),
    "CL-10 empty": (400, length(b"")),
    "CL-11 2^64+5": (400, length(b"18446744073709551621")),
    "CL-12 very long": (400, length(b"9" * 32)),
    "CL-14 NUL": (400, length(b"5\x00")),
    "CL-15 VT": (400, length(b"5\x0b")),
    "CL-16 Arabic digit": (400, length(b"\xd9\xa5")),
    "CL-17 text": (400, length(b"abc")),
    "CL-18 suffix": (400, length(b"5;a=b")),
    "CL-20 trailing space": (400, length(b"5 ")),
    "CL-21 space before colon": (400, [*POST, (b"content-length ", b"5")]),
    "CL-22 0x85 in name": (400, [*POST, (b"content-length\x85", b"5")]),
    "RQ-15 comma in the authority": (400, headers(authority=b"a, b")),
    "RQ-16 userinfo": (400, headers(authority=b"u@a")),
    "RQ-17 path in the authority": (400, headers(authority=b"a/p")),
    "RQ-18 bad port": (400, headers(authority=b"a:99999")),
    "RQ-20 CONNECT": (405, [(b":method", b"CONNECT"), (b":authority", b"a:443")]),
    "RQ-20 CONNECT with a path": (400, headers(method=b"CONNECT")),
    "RQ-20 extended CONNECT, unknown": (501, [(b":protocol", b"other"), *headers(method=b"CONNECT")]),
    "RQ-22 asterisk": (400, headers(path=b"*")),
    "RQ-23 fragment": (400, headers(path=b"/a#f")),
    "RQ-35 long path": (414, headers(path=b"/" + b"a" * 20_000)),
    "RQ-36 long field": (431, headers((b"x", b"a" * 20_000))),
    "RQ-37 101 fields": (431, headers(*[(b"x-%d" % number, b"1") for number in range(101)])),
    "RQ-39 TRACE": (405, headers(method=b"TRACE")),
    "RQ-45 expectation": (417, headers((b"expect", b"200-ok"))),
    "XFF of 31": (463, headers((b"x-forwarded-for", b", ".join([b"192.0.2.1"] * 31)))),
    "a WebSocket with a body": (
        400,
        [(b":protocol", b"websocket"), *headers((b"content-length", b"5"), method=b"CONNECT")],
    ),
}


async def next_request_is_whole(port: int, origin: Origin) -> None:
    """What was left over on a target's connection would be read in front of this one."""
    async with Client(port) as client:
        answer = await client.ask(headers(path=b"/next"))
        assert answer.status == b"200"
    assert origin.requests[-1].line == b"GET /next HTTP/1.1"


@pytest.mark.parametrize("name", HEADS)
def test_refused(name: str) -> None:
    status, sent = HEADS[name]

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            async with Client(balancer.port) as client:
                answer = await client.ask(sent)
                assert answer.status == b"%d" % status
                assert balancer.log[0].status == status
                assert balancer.log[0].reason
                assert balancer.listener.counters.failed[balancer.log[0].reason] == 1
                assert (await client.ask(GET)).status == b"200", "one bad request does not end the others"
                origin.requests.clear()
            assert not origin.requests, "the origin saw a request that was refused"
            await next_request_is_whole(balancer.port, origin)

    run(main())


class Wire(Client):
    """A client below the library: it writes frames as they are given, whatever the stream's state."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.encoder = hpack.Encoder()

    def write(self, *frames: Frame) -> None:
        self.writer.write(b"".join(frame.serialize() for frame in frames))

    def head(self, fields: Headers, *flags: str, stream: int = 1) -> HeadersFrame:
        return HeadersFrame(stream, data=self.encoder.encode(fields), flags=["END_HEADERS", *flags])

    async def until_closed(self) -> int | None:
        """The code of the GOAWAY, read from the bytes: the library would object to what was provoked."""
        received = b""
        with suppress(OSError):
            while piece := await self.reader.read(65536):
                received += piece
        while received:
            size, kind = int.from_bytes(received[:3], "big"), received[3]
            if kind == GoAwayFrame.type:
                self.goaway = int.from_bytes(received[13:17], "big")
            received = received[9 + size :]
        return self.goaway


BODY_SAID = [*POST, (b"content-length", b"5")]
END = ["END_STREAM"]

# What comes after a head that said Content-Length: 5, and how it is refused.
BODIES: dict[str, tuple[str, Callable[[Wire], tuple[Frame, ...]]]] = {
    "H03 shorter": ("bad_content_length", lambda wire: (DataFrame(1, b"abc", flags=END),)),
    "H03 longer": ("bad_content_length", lambda wire: (DataFrame(1, b"hello!", flags=END),)),
    "H03 longer, in two": ("bad_content_length", lambda wire: (DataFrame(1, b"hello"), DataFrame(1, b"!", flags=END))),
    "H03 nothing": ("bad_content_length", lambda wire: (DataFrame(1, b"", flags=END),)),
    "H03 shorter, then trailers": (
        "bad_content_length",
        lambda wire: (DataFrame(1, b"abc"), wire.head([(b"x", b"y")], *END)),
    ),
    "H03 trailers at once": ("bad_content_length", lambda wire: (wire.head([(b"x", b"y")], *END),)),
    "H04 pseudo-header in trailers": (
        "malformed",
        lambda wire: (DataFrame(1, b"hello"), wire.head([(b":path", b"/evil")], *END)),
    ),
    "H02 connection in trailers": (
        "malformed",
        lambda wire: (DataFrame(1, b"hello"), wire.head([(b"transfer-encoding", b"chunked")], *END)),
    ),
    "H01 CR LF in trailers": (
        "malformed",
        lambda wire: (DataFrame(1, b"hello"), wire.head([(b"x", b"a\r\nb: c")], *END)),
    ),
    "trailers that do not end the stream": (
        "malformed",
        lambda wire: (DataFrame(1, b"hello"), wire.head([(b"x", b"y")])),
    ),
}


@pytest.mark.parametrize("at_once", [True, False], ids=["in one segment", "when the origin has the head"])
@pytest.mark.parametrize("name", BODIES)
def test_refused_body(name: str, at_once: bool) -> None:
    reason, frames = BODIES[name]

    async def main() -> None:
        heads: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await reader.read(65536):
                    heads.append(data)
                    if data.endswith(b"\r\n\r\n") and data.startswith(b"GET"):
                        writer.write(response())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, balancing(server.sockets[0].getsockname()[1]) as balancer:
            async with Wire(balancer.port) as wire:
                wire.write(wire.head(BODY_SAID))
                while not (at_once or heads):
                    await asyncio.sleep(0.001)
                wire.write(*frames(wire))
                while not balancer.log:
                    await asyncio.sleep(0.001)
                assert (balancer.log[0].status, balancer.log[0].reason) == (400, reason)
            heads.clear()
            answer = await balancer.exchange(b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert heads[0].startswith(b"GET /next "), "it did not share a connection with half a request"

    run(main())


def many(frame: Callable[[], Frame], count: int) -> Callable[[Wire], tuple[Frame, ...]]:
    return lambda wire: tuple(frame() for _ in range(count))


def opened(count: int, then: Callable[[int], Frame]) -> Callable[[Wire], tuple[Frame, ...]]:
    """Each of `count` streams is opened, and then this happens to it."""
    return lambda wire: tuple(
        frame
        for number in range(1, 2 * count, 2)
        for frame in (wire.head(GET, "END_STREAM", stream=number), then(number))
    )


CALM = CODES.ENHANCE_YOUR_CALM
FLOODS: dict[str, tuple[int, Callable[[Wire], tuple[Frame, ...]]]] = {
    "H08 rapid reset": (CALM, opened(120, lambda number: RstStreamFrame(number, CODES.CANCEL))),
    "H08 made to reset (CVE-2025-8671)": (CALM, opened(120, lambda number: WindowUpdateFrame(number, 2**31 - 1))),
    "H09 CONTINUATION without end": (
        CODES.PROTOCOL_ERROR,
        lambda wire: (HeadersFrame(1, data=b""), *(ContinuationFrame(1, data=b"") for _ in range(200))),
    ),
    "H09 CONTINUATION with 1 MiB": (
        CODES.PROTOCOL_ERROR,
        lambda wire: (HeadersFrame(1, data=b""), *(ContinuationFrame(1, data=bytes(16384)) for _ in range(64))),
    ),
    "H10 HPACK bomb": (
        CODES.ENHANCE_YOUR_CALM,
        # One field of 4 KiB goes into the table, and one byte each calls for it again.
        lambda wire: (
            wire.head([*GET, (b"x", b"a" * 4000)], "END_STREAM"),
            HeadersFrame(3, data=wire.encoder.encode(GET) + b"\xbe" * 4000, flags=["END_HEADERS", "END_STREAM"]),
        ),
    ),
    "H11 pings": (CALM, many(lambda: PingFrame(0, b"12345678"), 700)),
    "H11 settings": (CALM, many(lambda: SettingsFrame(0, {3: 100}), 700)),
    "H11 priorities": (CALM, many(lambda: PriorityFrame(1, depends_on=0, stream_weight=1), 700)),
    "H11 empty DATA": (CALM, lambda wire: (wire.head(POST), *(DataFrame(1, b"") for _ in range(700)))),
    "a window beyond its bounds": (CODES.FLOW_CONTROL_ERROR, many(lambda: WindowUpdateFrame(0, 2**31 - 1), 1)),
    "more DATA than the window": (
        CODES.FLOW_CONTROL_ERROR,
        lambda wire: (wire.head(POST), *(DataFrame(1, bytes(16384)) for _ in range(5))),
    ),
    "more streams than allowed": (
        CODES.PROTOCOL_ERROR,
        lambda wire: tuple(wire.head(POST, stream=number) for number in range(1, 2 * 140, 2)),
    ),
    "DATA on no stream": (CODES.PROTOCOL_ERROR, lambda wire: (DataFrame(1, b"x"),)),
    "an even stream": (CODES.PROTOCOL_ERROR, lambda wire: (wire.head(GET, "END_STREAM", stream=2),)),
}


@pytest.mark.parametrize("name", FLOODS)
def test_what_ends_the_connection(name: str) -> None:
    """H08 to H11: what costs its sender less than us has a bound, and nothing of it is left behind."""
    code, frames = FLOODS[name]

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            async with Wire(balancer.port) as wire:
                wire.write(*frames(wire))
                assert await wire.until_closed() == code
            assert sum(balancer.listener.counters.failed.values()) >= 1
            await next_request_is_whole(balancer.port, origin)

    run(main())


def test_a_client_that_goes_away_gets_what_it_asked_for() -> None:
    """H12: GOAWAY, and then the streams that are open are finished."""

    release = asyncio.Event()

    async def main() -> None:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await release.wait()
            writer.write(response(b"late"))
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        async with (
            server,
            balancing(server.sockets[0].getsockname()[1]) as balancer,
            Wire(balancer.port) as wire,
        ):
            wire.write(wire.head(GET, "END_STREAM"))
            wire.writer.write(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))  # GOAWAY, no error, last stream 0
            while not balancer.group().targets[0].in_flight:
                await asyncio.sleep(0.001)
            release.set()
            received = b""
            while piece := await wire.reader.read(65536):
                received += piece
            assert b"late" in received
            assert (balancer.log[0].status, balancer.log[0].reason) == (200, "")

    run(main())
