"""Answers that are none: what a target's bytes may not do to a client, whichever protocol either of them speaks.

A head that is wrong is 502 with a reason; a body that turns out wrong ends the client's message where all can see that
it is cut. Either way the connection to the target is not used again, and the next client gets its own answer.
"""

from __future__ import annotations

from collections.abc import Callable

import h2.connection
import pytest

from support import Exchange, Origin, response, run
from support.balancer import Balancer, balancing
from support.framing_rows import BAD_CHUNKS, BAD_LENGTHS
from support.http2 import GET, Answer, Client, Headers, Http2Origin, Request, reply

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
BEFORE = b"7a120\r\n" + b"x" * 500_000 + b"\r\n"  # a good chunk, more than is read at once
CLOSE = b"Connection: close\r\n\r\n"


def coding(*lines: bytes, status: bytes = OK) -> bytes:
    return status + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + LAST_CHUNK


def head(*lines: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: 2\r\n\r\nok"


BOTH, TWO, BAD, UNKNOWN = (
    "target_both_length_and_coding",
    "target_multiple_transfer_encoding",
    "target_bad_transfer_encoding",
    "target_unsupported_transfer_encoding",
)
BAD_HEADER, BAD_LINE = "target_bad_header", "target_bad_status_line"

HEADS: dict[str, tuple[str, bytes]] = {
    "TE-01 length and coding": (BOTH, coding(b"Content-Length: 6", b"Transfer-Encoding: chunked")),
    "TE-02 coding and length": (BOTH, coding(b"Transfer-Encoding: chunked", b"Content-Length: 30")),
    "TE-03 unknown coding": (UNKNOWN, coding(b"Transfer-Encoding: xchunked")),
    "TE-04 chunked not final": (BAD, coding(b"Transfer-Encoding: chunked, identity")),
    "TE-05 gzip, chunked": (UNKNOWN, coding(b"Transfer-Encoding: gzip, chunked")),
    "TE-06 identity": (UNKNOWN, coding(b"Transfer-Encoding: identity")),
    "TE-07 chunked twice": (BAD, coding(b"Transfer-Encoding: chunked, chunked")),
    "TE-08 two lines": (TWO, coding(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    "TE-09 TE.TE": (TWO, coding(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity")),
    "TE-10 leading comma": (BAD, coding(b"Transfer-Encoding: ,chunked")),
    "TE-11 VT": (BAD_HEADER, coding(b"Transfer-Encoding: chunked\x0b")),
    "TE-12 NUL": (BAD_HEADER, coding(b"Transfer-Encoding: chunked\x00")),
    "TE-13 fold": (BAD_HEADER, coding(b"Transfer-Encoding:\r\n chunked")),
    "TE-14 space before colon": (BAD_HEADER, coding(b"Transfer-Encoding : chunked")),
    "TE-17 in HTTP/1.0": (BAD, coding(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK\r\n")),
    "TE-18 empty": (BAD, coding(b"Transfer-Encoding:")),
    "TE-19 U+017F": (BAD_HEADER, coding(b"Tran\xc5\xbffer-Encoding: chunked")),
    "CL-01 two": (
        "target_multiple_content_length",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ),
    "CL-02 twice the same": ("target_multiple_content_length", OK + b"Content-Length: 5\r\n" * 2 + b"\r\nhello"),
    "CL-21 space before colon": (BAD_HEADER, OK + b"Content-Length : 5\r\n\r\nhello"),
    "CL-22 0x85 in name": (BAD_HEADER, OK + b"Content-Length\x85: 5\r\n\r\nhello"),
    **{
        name: (
            BAD_HEADER if name in ("CL-14 NUL", "CL-15 VT") else "target_bad_content_length",
            OK + b"Content-Length: " + value + b"\r\n\r\nhello",
        )
        for name, value in BAD_LENGTHS.items()
    },
    "RQ-02 one bare LF": (BAD_HEADER, head(b"X: a\nY: b")),
    "RQ-03 bare CR": (BAD_HEADER, head(b"X: a\rb")),
    "RQ-04 NUL": (BAD_HEADER, head(b"X: a\x00b")),
    "RQ-05 fold": (BAD_HEADER, head(b"X: a", b" b")),
    "RQ-06 space before colon": (BAD_HEADER, head(b"X : a")),
    "RQ-07 space before first field": (BAD_HEADER, head(b" X: a")),
    "RQ-08 empty name": (BAD_HEADER, head(b": a")),
    "RQ-09 no colon": (BAD_HEADER, head(b"NoColon")),
    "RQ-10 non-token name": (BAD_HEADER, head(b"X[y: a")),
    "RQ-11 0xA0 in name": (BAD_HEADER, head(b"X\xa0: a")),
    "RQ-43 CR before a name": (BAD_HEADER, head(b"\rX: a")),
    "RQ-44 CR ends the block": (BAD_HEADER, OK + b"X: a\r\n\rZ: b\r\nContent-Length: 2\r\n\r\nok"),
    "RQ-36 long field": ("target_field_too_long", head(b"X: " + b"a" * 20_000)),
    "RQ-37 101 fields": ("target_too_many_fields", head(*[b"X: a"] * 101)),
    "a status of two digits": (BAD_LINE, b"HTTP/1.1 20 OK\r\n\r\n"),
    "a status of four": (BAD_LINE, b"HTTP/1.1 2000 OK\r\n\r\n"),
    "a status below 100": (BAD_LINE, b"HTTP/1.1 099 OK\r\n\r\n"),
    "a signed status": (BAD_LINE, b"HTTP/1.1 +20 OK\r\n\r\n"),
    "RQ-24 two spaces before the status": (BAD_LINE, b"HTTP/1.1  200 OK\r\n\r\n"),
    "a space before the version": (BAD_LINE, b" HTTP/1.1 200 OK\r\n\r\n"),
    "RQ-29 a small version": (BAD_LINE, b"http/1.1 200 OK\r\n\r\n"),
    "RQ-27 HTTP/1.2": (BAD_LINE, b"HTTP/1.2 200 OK\r\n\r\n"),
    "RQ-26 HTTP/0.9": (BAD_LINE, b"<html>hello</html>\r\n\r\n"),
    "NUL in the phrase": (BAD_LINE, b"HTTP/1.1 200 O\x00K\r\n\r\n"),
    "CR in the phrase": (BAD_LINE, b"HTTP/1.1 200 O\rK\r\n\r\n"),
    "RQ-33 an empty line first": (BAD_LINE, b"\r\n" + OK + b"\r\n"),
    "RQ-28 HTTP/2.0": (BAD_LINE, b"HTTP/2.0 200 OK\r\n\r\n"),
    "RQ-34 forty empty lines": (BAD_LINE, b"\r\n" * 40 + OK + b"\r\n"),
    "RQ-38 HTTP/2 frames": (BAD_LINE, b"\0\0\0\4\0\0\0\0\0\r\n\r\n"),
    "101 to nobody": (
        "target_bad_upgrade",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ),
}


async def ask(balancer: Balancer, protocol: str) -> tuple[bytes, bool]:
    """What the client received of an answer (in HTTP/1: all bytes), and whether it ended as an answer does."""
    if protocol == "http2":
        async with Client(balancer.port) as client:
            answer: Answer = await client.ask(GET)
            return answer.status + b" " + answer.body, answer.ended and answer.reset is None
    received = await balancer.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n" + CLOSE)
    return received.removeprefix(b"HTTP/1.1 "), received.endswith(LAST_CHUNK) or b"Content-Length" in received


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_wrong_is_502(name: str, protocol: str) -> None:
    reason, says = HEADS[name]

    async def main() -> None:
        async with Origin(says, response(b"next")) as origin, balancing(origin.port) as balancer:
            received, whole = await ask(balancer, protocol)
            assert received.startswith(b"502 ")
            assert whole
            assert (balancer.log[0].status, balancer.log[0].reason) == (502, reason)
            assert balancer.group().targets[0].counters.failed[reason] == (0 if "upgrade" in reason else 1)
            assert (await ask(balancer, protocol))[0].endswith(b"next")
            assert origin.connections == 2, "what said this is not listened to again"

    run(main())


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", BAD_CHUNKS)
@pytest.mark.parametrize("late", [True, False])
def test_a_chunk_that_is_wrong_cuts_the_answer(name: str, protocol: str, late: bool) -> None:
    """One that comes with the head is found out before anything was relayed, so the client gets a 502."""

    async def say(exchange: Exchange) -> None:
        exchange.writer.write(CHUNKED + BEFORE * late + BAD_CHUNKS[name])
        if name.startswith("CH-21"):
            exchange.writer.write_eof()  # until then it could still become right

    async def main() -> None:
        async with Origin(say, response(b"next")) as origin, balancing(origin.port) as balancer:
            received, whole = await ask(balancer, protocol)
            relayed = late or balancer.log[0].reason == "target_closed"
            assert received.startswith(b"200 " if relayed else b"502 ")
            assert whole is not relayed
            assert balancer.log[0].reason in ("target_bad_chunk", "target_closed")
            assert (await ask(balancer, protocol))[0].endswith(b"next")
            assert origin.connections == 2

    run(main())


ANSWER: Headers = [(b":status", b"200")]
FIVE: Headers = [*ANSWER, (b"content-length", b"5")]
Says = Callable[[h2.connection.H2Connection, int], None]


def of_frames(*frames: tuple[Headers | bytes, bool]) -> Says:
    """Header lists and DATA in turn, each with END_STREAM or not."""

    def say(connection: h2.connection.H2Connection, number: int) -> None:
        for frame, ends in frames:
            if isinstance(frame, bytes):
                connection.send_data(number, frame, end_stream=ends)
            else:
                connection.send_headers(number, frame, end_stream=ends)

    return say


HTTP2_ANSWERS: dict[str, tuple[str, bool, Says]] = {
    # name: (reason, whether the answer had begun, what the target says)
    "a length and nothing": ("target_bad_content_length", False, of_frames((FIVE, True))),
    "a length and trailers": ("target_bad_content_length", True, of_frames((FIVE, False), ([(b"x", b"y")], True))),
    "less, then trailers": (
        "target_bad_content_length", True, of_frames((FIVE, False), (b"abc", False), ([(b"x", b"y")], True)),
    ),
    "H03 less": ("target_bad_http2", False, of_frames((FIVE, False), (b"abc", True))),
    "H03 more": ("target_bad_http2", False, of_frames((FIVE, False), (b"abcdef", True))),
    "two lengths": ("target_multiple_content_length", False, of_frames(([*FIVE, FIVE[1]], False), (b"hello", True))),
    "a signed length": (
        "target_bad_http2", False, of_frames(([*ANSWER, (b"content-length", b"+5")], False), (b"hello", True)),
    ),
    "a body with 204": (
        "target_bad_content_length", True, of_frames(([(b":status", b"204")], False), (b"HTTP/1.1 200 OK\r\n", True)),
    ),
    "a body with 304": (
        "target_bad_content_length", True, of_frames(([(b":status", b"304")], False), (b"HTTP/1.1 200 OK\r\n", True)),
    ),
    "101": ("target_bad_upgrade", False, of_frames(([(b":status", b"101")], False), (ANSWER, True))),
    "1xx without end": (
        "target_too_many_interim", False, of_frames(*[([(b":status", b"103")], False)] * 20, (ANSWER, True)),
    ),
    "H01 line end in a value": (
        "target_bad_http2", False, of_frames(([*ANSWER, (b"x", b"a\r\nSet-Cookie: b")], True)),
    ),
    "H01 line end in the status": (
        "target_bad_http2", False, of_frames(([(b":status", b"200 OK\r\nX: y")], True)),
    ),
    "H01 upper-case name": ("target_bad_http2", False, of_frames(([*ANSWER, (b"X-Upper", b"1")], True))),
    "H02 connection": ("target_bad_http2", False, of_frames(([*ANSWER, (b"connection", b"close")], True))),
    "H02 transfer-encoding": (
        "target_bad_http2", False, of_frames(([*ANSWER, (b"transfer-encoding", b"chunked")], True)),
    ),
    "H04 no status": ("target_bad_http2", False, of_frames(([(b"x", b"y")], True))),
    "H01 a control character in a value": (
        "target_bad_header", False, of_frames(([*ANSWER, (b"x", b"a\x01b")], True)),
    ),
    "status of four digits": ("target_bad_status_line", False, of_frames(([(b":status", b"2000")], True))),
}  # fmt: skip


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("name", HTTP2_ANSWERS)
def test_an_answer_over_http2_that_is_wrong(name: str, protocol: str) -> None:
    """What HTTP/2's frames can say and HTTP/1's framing would turn into a second answer."""
    reason, began, says = HTTP2_ANSWERS[name]

    def answer(connection: h2.connection.H2Connection, number: int, request: Request) -> None:
        connection.config.validate_outbound_headers = connection.config.normalize_outbound_headers = False
        if (b":path", b"/bad") in request.headers:
            says(connection, number)
        else:
            reply(body=b"next")(connection, number, request)

    async def main() -> None:
        group = {"protocol_version": "HTTP2"}
        async with Http2Origin(answer) as origin, balancing(origin.port, group=group) as balancer:
            if protocol == "http1":
                received = await balancer.exchange(
                    b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n" + CLOSE
                )
                final = received.replace(b"HTTP/1.1 103 \r\n\r\n", b"")
                assert final.startswith(b"HTTP/1.1 " + (b"502 " if not began else b"")), received
                assert final.count(b"HTTP/1.1 ") == (1 if began else 2), "an answer that is cut ends the connection"
                assert not began or b"next" not in final
            else:
                async with Client(balancer.port) as client:
                    bad = await client.ask([*GET[:3], (b":path", b"/bad")])
                    if name.startswith("a body with"):
                        assert bad.ended, "it ended with its head, and nothing came after"
                        assert not bad.body
                    else:
                        assert bad.reset is not None if began else bad.status == b"502"
                    assert (await client.ask(GET)).body == b"next"
            assert balancer.log[0].reason == reason
            assert (await ask(balancer, protocol))[0].endswith((b"next", b"next\r\n" + LAST_CHUNK))

    run(main())


# name: (what the target says, the length that the client is told)
BODILESS: dict[str, tuple[bytes, bytes | None]] = {
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", None),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", None),
    "204 with a coding": (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", None),
    "205": (b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", b"0"),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"9"),
}


@pytest.mark.parametrize("name", BODILESS)
def test_answers_without_a_body_have_none_over_http2(name: str) -> None:
    """S08: what follows the head belongs to nobody, least of all to the next client."""
    says, length = BODILESS[name]

    async def main() -> None:
        async with (
            Origin(says, response(b"next")) as origin,
            balancing(origin.port) as balancer,
            Client(balancer.port) as client,
        ):
            answer = await client.ask(GET)
            assert answer.status == name[:3].encode()
            assert answer.ended
            assert answer.body == b""
            assert dict(answer.headers).get(b"content-length") == length
            assert (await client.ask(GET)).body == b"next"

    run(main())
