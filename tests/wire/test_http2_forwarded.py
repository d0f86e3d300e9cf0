"""HTTP/2 turned into HTTP/1: the very bytes that reach the origin for each oddity that is allowed."""

from __future__ import annotations

import pytest

from support import Origin, response, run
from support.balancer import balancing
from support.http2 import GET, Client, Headers

POST: Headers = [(b":method", b"POST"), *GET[1:]]
HOST = b"Host: example.org\r\n"
G = b"GET / HTTP/1.1\r\n" + HOST
P = b"POST / HTTP/1.1\r\n" + HOST
TAIL = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: PORT\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def path(value: bytes) -> Headers:
    return [*GET[:3], (b":path", value)]


HEADS: dict[str, tuple[Headers, bytes]] = {
    "plain": (GET, G),
    "host instead of authority": ([*GET[:2], GET[3], (b"host", b"example.org")], G),
    "host as well": ([*GET, (b"host", b"example.org")], G),
    "a port": ([*GET[:2], (b":authority", b"example.org:8443"), GET[3]],
               b"GET / HTTP/1.1\r\nHost: example.org:8443\r\n"),
    "H02 te: trailers": ([*GET, (b"te", b"trailers")], G),
    "H07 cookies": ([*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")],
                    G + b"x: y\r\nCookie: a=1; b=2\r\n"),
    "an empty value": ([*GET, (b"x", b"")], G + b"x: \r\n"),
    "bytes above 0x7f in a value": ([*GET, (b"x", b"\xe9\xff")], G + b"x: \xe9\xff\r\n"),
    "tab and colon inside a value": ([*GET, (b"x", b"a\tb: c")], G + b"x: a\tb: c\r\n"),
    "TE-15 underscore": ([*GET, (b"transfer_encoding", b"chunked"), (b"content_length", b"5")], G),
    "names that would be hop by hop": ([*GET, (b"trailer", b"x"), (b"http2-settings", b"AAMAAABk")], G),
    "RQ-46 h2c": ([*GET, (b"http2-settings", b"AAMAAABkAAQAAP__")], G),
    "forged forwarding": ([*GET, (b"x-forwarded-proto", b"https"), (b"x-forwarded-port", b"1")], G),
    "CL-13 leading zeros": ([*POST, (b"content-length", b"005")], P + b"Content-Length: 5\r\n"),
    "CL-19 body on GET": (
        [*GET, (b"content-length", b"5")], G + b"Content-Length: 5\r\n"),
    "no length": (POST, P + CHUNKED),
    "expect": ([*POST, (b"expect", b"100-continue")], P + CHUNKED + b"Expect: 100-continue\r\n"),
    "RQ-21 asterisk": ([(b":method", b"OPTIONS"), *GET[1:3], (b":path", b"*")], b"OPTIONS * HTTP/1.1\r\n" + HOST),
    "RQ-41 small method": ([(b":method", b"get"), *GET[1:]], b"get / HTTP/1.1\r\n" + HOST),
    "S17 dots and slashes": (path(b"//a/../b/./%2f%5c;x?y=/../"),
                             b"GET //a/../b/./%2f%5c;x?y=/../ HTTP/1.1\r\n" + HOST),
    "quotes and brackets": (path(b'/<a>"{b}|^`'), b'GET /<a>"{b}|^` HTTP/1.1\r\n' + HOST),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_head(name: str) -> None:
    sent, expected = HEADS[name]
    body = [b"hello"] if sent[0] == (b":method", b"POST") or name.startswith("CL-19") else []

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            async with Client(balancer.port) as client:
                assert (await client.ask(sent, body)).status == b"200"
            (seen,) = origin.requests
            assert seen.head.replace(b"Port: %d" % balancer.port, b"Port: PORT") == expected + TAIL
            assert seen.body == b"".join(body)

    run(main())


def test_request_trailers_are_left_out() -> None:
    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as balancer, Client(balancer.port) as client:
            number = client.send(POST, end=False)
            client.frames.send_data(number, b"hello")
            client.frames.send_headers(number, [(b"x-late", b"1"), (b"content-length", b"9")], end_stream=True)
            client.flush()
            assert (await client.answer(number)).status == b"200"
            assert origin.requests[0].wire.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")

    run(main())
