"""What reaches the origin, and what reaches the client, of messages that are right."""

from __future__ import annotations

import asyncio

import pytest

from penstock.proxy.specs import Conditions, FixedResponse, RuleSpec
from support import Exchange, Origin, response, run
from support.balancer import balancing

CLOSE = b"Connection: close\r\n\r\n"
P = b"POST / HTTP/1.1\r\nHost: a\r\n"
GH = b"GET / HTTP/1.1\r\nHost: a\r\n"


def forwarded(request: bytes) -> tuple[bytes, bytes]:
    """The head and the framed body that the origin gets for `request`, and the answer is 200."""

    async def main() -> tuple[bytes, bytes]:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(request)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert len(origin.requests) == 1
            seen = origin.requests[0]
            return seen.head.replace(b": %d" % balancer.port, b": PORT").replace(
                b"127.0.0.1:%d" % balancer.port, b"127.0.0.1:PORT"
            ), seen.wire[len(seen.head) :]

    return run(main())


FORWARDED_TAIL = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: PORT\r\n\r\n"

TE = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"

HEADS: dict[str, tuple[bytes, bytes]] = {
    "plain": (GH + CLOSE, GH),
    "TE-16 any case": (P + b"tRaNsFeR-eNcOdInG: CHUNKED\r\n" + CLOSE + LAST_CHUNK, P + TE),
    "TE-20 white space": (P + b"Transfer-Encoding: \tchunked\t \r\n" + CLOSE + LAST_CHUNK, P + TE),
    "TE-15 underscore": (GH + b"Transfer_Encoding: chunked\r\n" + CLOSE, GH),
    "CL-13 leading zeros": (P + b"Content-Length: 005\r\n" + CLOSE + b"hello", P + b"Content-Length: 5\r\n"),
    "CL-19 body on GET": (GH + b"Content-Length: 5\r\n" + CLOSE + b"hello", GH + b"Content-Length: 5\r\n"),
    "CL-20 trailing space": (P + b"Content-Length: 5 \r\n" + CLOSE + b"hello", P + b"Content-Length: 5\r\n"),
    "RQ-19 absolute-form": (b"GET http://b/p?q HTTP/1.1\r\nHost: a\r\n" + CLOSE, b"GET /p?q HTTP/1.1\r\nHost: b\r\n"),
    "RQ-19 absolute-form without a path": (
        b"GET http://b:81 HTTP/1.1\r\nHost: a\r\n" + CLOSE,
        b"GET / HTTP/1.1\r\nHost: b:81\r\n",
    ),
    "RQ-21 asterisk-form": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + CLOSE, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n"),
    "RQ-27 HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n" + CLOSE, GH),
    "RQ-33 an empty line before": (b"\r\n" + GH + CLOSE, GH),
    "RQ-41 small method": (b"get / HTTP/1.1\r\nHost: a\r\n" + CLOSE, b"get / HTTP/1.1\r\nHost: a\r\n"),
    "RQ-46 h2c": (
        GH + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        GH,
    ),
    "RQ-47 protected fields": (
        GH + b"Connection: close, X-Forwarded-For, Host, Authorization\r\nAuthorization: x\r\n\r\n",
        GH + b"Authorization: x\r\n",
    ),
    "S14 named by Connection": (
        GH + b"X-Secret: 1\r\nX-Kept: 2\r\nConnection: close, x-secret\r\n\r\n",
        GH + b"X-Kept: 2\r\n",
    ),
    "S14 hop by hop": (
        GH + b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\n" + CLOSE,
        GH,
    ),
    "forged forwarding": (GH + b"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n" + CLOSE, GH),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", GH),
    "HTTP/1.0 without Host": (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n"),
    "HTTP/1.0 without Host, with a body": (
        b"POST / HTTP/1.0\r\nX-A: b\r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-A: b\r\nContent-Length: 1\r\n",
    ),
    "HTTP/1.0 with Expect": (
        b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        P + b"Content-Length: 1\r\n",
    ),
    "bytes above 0x7f in a value": (GH + b"X-Name: \xe9\xff\r\n" + CLOSE, GH + b"X-Name: \xe9\xff\r\n"),
}


@pytest.mark.parametrize("name", HEADS)
def test_head(name: str) -> None:
    sent, expected = HEADS[name]
    head, _ = forwarded(sent)
    assert head == expected + FORWARDED_TAIL


def test_forwarded_for_is_appended_to() -> None:
    head, _ = forwarded(GH + b"X-Forwarded-For: 203.0.113.9\r\nx-forwarded-for: 192.0.2.1\r\n" + CLOSE)
    assert b"X-Forwarded-For: 203.0.113.9, 192.0.2.1, 127.0.0.1\r\n" in head


CHUNKED_BODIES: dict[str, tuple[bytes, bytes]] = {
    "plain": (b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "CH-07 extension": (b'5;a=b;c="d;e"\r\nhello\r\n0;x\r\n\r\n', b"5\r\nhello\r\n0\r\n\r\n"),
    "CH-22 trailer": (b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "CH-23 framing in a trailer": (b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "CH-25 several zeros": (b"5\r\nhello\r\n000\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "empty": (b"0\r\n\r\n", b"0\r\n\r\n"),
    "capital digits": (b"A\r\n0123456789\r\n0\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", CHUNKED_BODIES)
def test_chunked_request(name: str) -> None:
    sent, expected = CHUNKED_BODIES[name]
    _, body = forwarded(P + b"Transfer-Encoding: chunked\r\n" + CLOSE + sent)
    assert body == expected


def test_chunked_request_cut_anywhere() -> None:
    """However the network cuts the bytes, the origin gets the same ones."""
    head = P + b"Transfer-Encoding: chunked\r\n" + CLOSE
    body = b'5\r\nhello\r\n3;a="b"\r\nabc\r\n0\r\nX-T: 1\r\n\r\n'

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            for cut in range(1, len(body)):
                reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                writer.write(head + body[:cut])
                for _ in range(5):
                    await asyncio.sleep(0)
                writer.write(body[cut:])
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
                await writer.wait_closed()
            assert {request.body for request in origin.requests} == {b"helloabc"}
            assert len(origin.requests) == len(body) - 1

    run(main())


def answered(origin_says: bytes, request: bytes = GH + CLOSE, *, close: bool = True) -> tuple[bytes, str, int]:
    """What the client gets when the origin says this; the reason in the log, and the connections to the origin."""

    async def say(exchange: Exchange) -> None:
        exchange.writer.write(origin_says)
        if close:
            exchange.writer.close()

    async def main() -> tuple[bytes, str, int]:
        async with Origin(say) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(request)
            return answer, balancer.log[0].reason, origin.connections

    return run(main())


ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nT: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    "S13 until close": (
        b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    "HTTP/1.0 until close": (
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    "S08 204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
    "S08 304 keeps its length": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nConnection: close\r\n\r\n",
    ),
    "S06 103 is relayed": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    "S06 unasked 100 is dropped": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    "S10 bytes after the end": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ),
    "S14 hop by hop": (
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
        b"Trailer: T\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    "no reason phrase": (
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer(name: str) -> None:
    says, expected = ANSWERS[name]
    answer, reason, _ = answered(says)
    assert answer == expected
    assert reason == ""


def test_head_request_has_no_body() -> None:
    answer, _, _ = answered(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: a\r\n" + CLOSE, close=False
    )
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"


def test_http10_client_gets_content_not_chunks() -> None:
    answer, _, _ = answered(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    )
    assert answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nokabc"


def test_http10_client_keeps_its_connection_when_it_asks() -> None:
    async def main() -> None:
        async with Origin(response(b"ok")) as origin, balancing(origin.port) as balancer:
            answer = await balancer.exchange(
                b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n"
            )
            assert answer.count(b"HTTP/1.1 200") == 2
            assert answer.index(b"Connection: keep-alive") < answer.index(b"Connection: close")

    run(main())


BAD_ANSWERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "target_closed"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", "target_closed"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "target_bad_status_line"),
    "not HTTP, no line": (b"\x15\x03\x01\x00", "target_bad_status_line"),
    "status of two digits": (b"HTTP/1.1 20 OK\r\n\r\n", "target_bad_status_line"),
    "status 999": (b"HTTP/1.1 999 OK\r\n\r\n", "target_bad_status_line"),
    "HTTP/2.0": (b"HTTP/2.0 200 OK\r\n\r\n", "target_bad_status_line"),
    "S09 length and coding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "target_both_length_and_coding",
    ),
    "S09 two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "target_multiple_content_length",
    ),
    "S09 bad length": (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "target_bad_content_length"),
    "S09, RQ-01 bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "target_closed"),
    "S09 folded": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", "target_bad_header"),
    "S09 unknown coding": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "target_unsupported_transfer_encoding",
    ),
    "S06 101 without being asked": (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "target_bad_upgrade",
    ),
    "a bad chunk that comes with the head": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nxx\r\n",
        "target_bad_chunk",
    ),
    "a head without end": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000, "target_head_too_long"),
    "1xx without end": (b"HTTP/1.1 102 Processing\r\n\r\n" * 40, "target_too_many_interim"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_answer_that_is_none(name: str) -> None:
    says, expected = BAD_ANSWERS[name]
    answer, reason, _ = answered(says)
    final = answer[answer.rindex(b"HTTP/1.1 ") :]
    assert final.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert reason == expected


TRUNCATED: dict[str, bytes] = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\npart",
    "a bad chunk, later": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n61a80\r\n"
    + b"part" * 100_000
    + b"\r\nxx\r\n",
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_answer_cut_short_is_seen_to_be_cut(name: str) -> None:
    """S11: what came is relayed, nothing is made up, and the connection ends without the body's end."""
    answer, reason, _ = answered(TRUNCATED[name], GH + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"part" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert reason in ("target_closed", "target_bad_chunk")


PATHS = [b"//a", b"/./a", b"/b/../a", b"/a/", b"/%61", b"/a%2fb", b"/a%5cb", b"/a;x", b"/A", b"/a?", b"/a/b"]


@pytest.mark.parametrize("path", PATHS)
def test_the_path_that_rules_look_at_is_the_one_that_is_sent(path: bytes) -> None:
    """S17: neither is decoded or tidied, so no rule is passed by with another spelling of what it guards."""
    guarded = RuleSpec(1, Conditions(path=("/a", "/a/b")), FixedResponse(403))

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port, rules=[guarded]) as balancer:
            answer = await balancer.exchange(b"GET %b HTTP/1.1\r\nHost: a\r\n" % path + CLOSE)
            if path.partition(b"?")[0] in (b"/a", b"/a/b"):
                assert answer.startswith(b"HTTP/1.1 403 ")
                assert not origin.requests
            else:
                assert origin.requests[0].target == path

    run(main())
