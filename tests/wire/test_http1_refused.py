"""Requests that must be refused, byte for byte against a real listener with a real origin behind it.

The rows are those of the HTTP/1.1 conformance and smuggling checklist: each is sent on a connection of its own,
followed by a request that must never reach the origin.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest

from penstock.proxy.listener import Listener
from support import Origin, response, run
from support.balancer import balancing
from support.framing_rows import BAD_CHUNKS, BAD_LENGTHS

P = b"POST / HTTP/1.1\r\nHost: a\r\n"
G = b"GET / HTTP/1.1\r\n"
GH = G + b"Host: a\r\n"
CHUNKED = P + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def length(value: bytes) -> bytes:
    return P + b"Content-Length: " + value + b"\r\n\r\nhello"


REFUSED: dict[str, tuple[int, bytes]] = {
    "TE-01 CL.TE": (400, P + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
    "TE-02 TE.CL": (400, P + b"Transfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n0\r\n\r\n"),
    "TE-03 unknown coding": (501, P + b"Transfer-Encoding: xchunked\r\n\r\n"),
    "TE-04 chunked not final": (400, P + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "TE-05 gzip, chunked": (501, P + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "TE-06 identity": (400, P + b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx"),
    "TE-06 identity alone": (501, P + b"Transfer-Encoding: identity\r\n\r\n"),
    "TE-07 chunked twice": (400, P + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "TE-08 two lines": (400, P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE-09 TE.TE": (400, P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    "TE-10 leading comma": (400, P + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    "TE-11 VT": (400, P + b"Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n"),
    "TE-12 NUL": (400, P + b"Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n"),
    "TE-13 fold": (400, P + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "TE-14 space before colon": (400, P + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "TE-17 in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE-18 empty": (400, P + b"Transfer-Encoding:\r\nContent-Length: 1\r\n\r\nx"),
    "TE-19 U+017F": (400, P + b"Tran\xc5\xbffer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "CL-01 two": (400, P + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "CL-02 twice the same": (400, P + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    **{name: (400, length(value)) for name, value in BAD_LENGTHS.items()},
    "CL-21 space before colon": (400, P + b"Content-Length : 5\r\n\r\nhello"),
    "CL-22 0x85 in name": (400, P + b"Content-Length\x85: 5\r\n\r\nhello"),
    **{name: (400, CHUNKED + body) for name, body in BAD_CHUNKS.items()},
    "RQ-01 bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "RQ-02 one bare LF": (400, G + b"Host: a\nX: y\r\n\r\n"),
    "RQ-03 bare CR": (400, GH + b"X: a\rb\r\n\r\n"),
    "RQ-04 NUL": (400, GH + b"X: a\x00b\r\n\r\n"),
    "RQ-05 fold": (400, GH + b"X: a\r\n b\r\n\r\n"),
    "RQ-06 space before colon": (400, GH + b"X : a\r\n\r\n"),
    "RQ-07 space before first field": (400, G + b" X: a\r\nHost: a\r\n\r\n"),
    "RQ-08 empty name": (400, GH + b": a\r\n\r\n"),
    "RQ-09 no colon": (400, GH + b"NoColon\r\n\r\n"),
    "RQ-10 non-token name": (400, GH + b"X[y: a\r\n\r\n"),
    "RQ-11 0xA0 in name": (400, GH + b"X\xa0: a\r\n\r\n"),
    "RQ-12 no Host": (400, G + b"\r\n"),
    "RQ-13 two Hosts": (400, GH + b"Host: b\r\n\r\n"),
    "RQ-14 two equal Hosts": (400, GH + b"Host: a\r\n\r\n"),
    "RQ-15 comma in Host": (400, G + b"Host: a, b\r\n\r\n"),
    "RQ-16 userinfo in Host": (400, G + b"Host: u@a\r\n\r\n"),
    "RQ-17 path in Host": (400, G + b"Host: a/p\r\n\r\n"),
    "RQ-18 bad port": (400, G + b"Host: a:99999\r\n\r\n"),
    "RQ-20 CONNECT": (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-22 asterisk": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-23 fragment": (400, b"GET /a#f HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-24 two spaces": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-25 space after version": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "RQ-26 HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "RQ-28 HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "RQ-29 small version": (400, b"GET / hTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-30 NUL in target": (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-31 0xE9 in target": (400, b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-32 TAB in target": (400, b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-34 forty empty lines": (400, b"\r\n" * 40 + GH + b"\r\n"),
    "RQ-35 long target": (414, b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-35 longer than a line may be": (414, b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-36 long field": (431, GH + b"X: " + b"a" * 70000 + b"\r\n\r\n"),
    "RQ-36 longer than a field may be": (431, GH + b"X: " + b"a" * 20000 + b"\r\n\r\n"),
    "RQ-37 300 fields": (431, GH + b"X: a\r\n" * 300 + b"\r\n"),
    "RQ-38 HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "RQ-39 TRACE": (405, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-40 method": (400, b"G\xcbT / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "RQ-42 NUL in Host": (400, G + b"Host: a\x00.b\r\n\r\n"),
    "RQ-43 CR before a name": (400, G + b"\rHost: a\r\n\r\n"),
    "RQ-44 CR ends the block": (400, GH + b"\rZ: b\r\n\r\n"),
    "RQ-45 expectation": (417, GH + b"Expect: 200-ok\r\n\r\n"),
    "S04 two expectations": (417, GH + b"Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n"),
    "XFF of 31": (463, GH + b"X-Forwarded-For: " + b", ".join([b"192.0.2.1"] * 31) + b"\r\n\r\n"),
    "TLS on a plain port": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    status, sent = REFUSED[name]

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port, http2=False) as balancer:
            answer = await balancer.exchange(sent + SMUGGLED)
            assert answer.startswith(b"HTTP/1.1 %d " % status), answer
            assert b"\r\nConnection: close\r\n" in answer
            assert answer.count(b"HTTP/1.1 ") == 1, "what follows a refused request has no meaning"
            assert not [request for request in origin.requests if b"smuggled" in request.head]
            if not name.startswith("CH-"):
                assert not origin.requests, "the origin saw a request that was refused"
            assert [record.status for record in balancer.log] == [status]
            assert balancer.log[0].reason
            assert sum(balancer.listener.counters.failed.values()) == 1

    run(main())


@pytest.mark.parametrize("name", REFUSED)
def test_refused_however_it_is_cut(name: str) -> None:
    """The same bytes one by one, for those that are short enough."""
    status, sent = REFUSED[name]
    if len(sent) > 400:
        return

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port, log=False, http2=False) as balancer:
            session_answer = await _drip(balancer.listener, sent)
            assert session_answer.startswith(b"HTTP/1.1 %d " % status), session_answer
            assert not [request for request in origin.requests if b"smuggled" in request.head]

    run(main())


async def _drip(listener: Listener, sent: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.create_connection(listener.bound) as client:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = b""
        with suppress(OSError):  # refused before we were done
            for index in range(len(sent)):
                await loop.sock_sendall(client, sent[index : index + 1])
                await asyncio.sleep(0)
            client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while piece := await loop.sock_recv(client, 65536):
                answer += piece
        return answer
