"""The same bytes through Penstock, HAProxy and nginx to a recording origin: where we differ is written down, with why.

What is compared is the verdict: the class of the status, and what the origin was asked (method, target, Host, body, an
underscored field). A difference that has no row fails; a row that is no difference any more is a peer grown stricter.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support import Origin, free_port, response, run
from support.balancer import balancing
from support.peers import PEERS, compare, exchange, in_front

CLOSE = b"Connection: close\r\n\r\n"
P = b"POST / HTTP/1.1\r\nHost: a\r\n"
G = b"GET / HTTP/1.1\r\n"
GH = G + b"Host: a\r\n"
CHUNKED = P + b"Transfer-Encoding: chunked\r\n" + CLOSE

CASES: dict[str, bytes] = {
    "plain": GH + CLOSE,
    "length": P + b"Content-Length: 5\r\n" + CLOSE + b"hello",
    "chunked": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "CL.TE": P + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"0\r\n\r\nG",
    "two lengths": P + b"Content-Length: 5\r\nContent-Length: 6\r\n" + CLOSE + b"hello",
    "the same length twice": P + b"Content-Length: 5\r\nContent-Length: 5\r\n" + CLOSE + b"hello",
    "signed length": P + b"Content-Length: +5\r\n" + CLOSE + b"hello",
    "leading zeros": P + b"Content-Length: 005\r\n" + CLOSE + b"hello",
    "empty length": P + b"Content-Length:\r\n" + CLOSE + b"hello",
    "unknown coding": P + b"Transfer-Encoding: xchunked\r\n" + CLOSE,
    "chunked twice": P + b"Transfer-Encoding: chunked, chunked\r\n" + CLOSE + b"0\r\n\r\n",
    "leading comma": P + b"Transfer-Encoding: ,chunked\r\n" + CLOSE + b"0\r\n\r\n",
    "space before colon": GH + b"X : a\r\n" + CLOSE,
    "folded": GH + b"X: a\r\n b\r\n" + CLOSE,
    "NUL in a value": GH + b"X: a\x00b\r\n" + CLOSE,
    "bare CR in a value": GH + b"X: a\rb\r\n" + CLOSE,
    "no colon": GH + b"NoColon\r\n" + CLOSE,
    "empty name": GH + b": a\r\n" + CLOSE,
    "bare LF": b"GET / HTTP/1.1\nHost: a\nConnection: close\n\n",
    "no Host": G + CLOSE,
    "two Hosts": GH + b"Host: b\r\n" + CLOSE,
    "comma in Host": G + b"Host: a, b\r\n" + CLOSE,
    "absolute-form": b"GET http://b/p HTTP/1.1\r\nHost: b\r\n" + CLOSE,
    "absolute-form and another Host": b"GET http://b/p HTTP/1.1\r\nHost: a\r\n" + CLOSE,
    "fragment": b"GET /a#f HTTP/1.1\r\nHost: a\r\n" + CLOSE,
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n" + CLOSE,
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n" + CLOSE,
    "extension": CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "hex prefix": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "wrong bytes after a chunk": CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
    "LF after a chunk's size": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "underscored name": GH + b"X_Y: 1\r\n" + CLOSE,
    "dots and escapes": b"GET /a/../b/%2e%2e/c HTTP/1.1\r\nHost: a\r\n" + CLOSE,
}

# (peer, case): why we say otherwise.
ACCEPTED: dict[tuple[str, str], str] = {
    ("haproxy", "CL.TE"): "RFC 9112 6.1 lets it drop the length; the root of request smuggling is better refused",
    ("haproxy", "the same length twice"): "RFC 9110 8.6 lets it collapse them; we refuse what we would have to repair",
    ("haproxy", "unknown coding"): "RFC 9112 6.1 says 501 to a coding that is not understood",
    ("haproxy", "folded"): "RFC 9112 5.2 lets it unfold; we refuse what we would have to repair",
    ("haproxy", "NUL in a value"): "RFC 9110 5.5 forbids it, and C programs behind us would end the value there",
    ("haproxy", "bare LF"): "RFC 9112 2.2 lets it take LF for a line's end; who does not sees another message",
    ("haproxy", "no Host"): "RFC 9112 3.2 demands 400",
    ("haproxy", "comma in Host"): "two hosts in one field: somebody behind us would believe the other one",
    ("haproxy", "absolute-form"): "RFC 9112 3.2.2: it goes on as it came there, and in origin-form here",
    (
        "haproxy",
        "absolute-form and another Host",
    ): "RFC 9112 3.2.2: the target decides and Host is replaced; it refuses",
    ("haproxy", "two spaces"): "RFC 9112 3: one space each",
    ("haproxy", "HTTP/2.0"): "no HTTP/2 begins with such a line, so 505",
    ("haproxy", "LF after a chunk's size"): "RFC 9112 7.1 knows CR LF only; the seed of TERM.EXT smuggling",
    ("haproxy", "underscored name"): "reads like another name behind CGI's rules, so nginx and we drop it",
    ("nginx", "chunked twice"): "RFC 9112 6.1: faulty, not unknown, so 400",
    ("nginx", "leading comma"): "an empty member is faulty, not unknown, so 400",
    ("nginx", "no colon"): "it leaves the line out and goes on; we refuse what we would have to repair",
    ("nginx", "bare LF"): "RFC 9112 2.2 lets it take LF for a line's end; who does not sees another message",
    ("nginx", "absolute-form and another Host"): "RFC 9112 3.2.2: Host is replaced by the target's; $http_host is not",
    ("nginx", "fragment"): "RFC 9112 3.2 has no fragment in a target; a rule on the path could be passed by",
    ("nginx", "two spaces"): "RFC 9112 3: one space each",
    ("nginx", "LF after a chunk's size"): "RFC 9112 7.1 knows CR LF only; the seed of TERM.EXT smuggling",
}

Verdict = tuple[int, tuple[bytes, ...]]


def verdict(answer: bytes, origin: Origin) -> Verdict:
    """Status class, and of each whole request at the origin what decides who answers it and where it ends."""
    status = int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0
    asked = tuple(
        b" ".join(
            [request.method, request.target, request.value(b"Host") or b"", request.body, *request.values(b"X_Y")]
        )
        for request in origin.requests
    )
    return status // 100, asked


def through_penstock(raw: bytes) -> Verdict:
    async def main() -> Verdict:
        async with Origin(response()) as origin, balancing(origin.port) as balancer:
            return verdict(await balancer.exchange(raw), origin)

    return run(main())


@pytest.mark.parametrize("peer", PEERS)
def test_verdicts(peer: str, tmp_path: Path) -> None:
    async def through_peer(port: int, origin: Origin) -> dict[str, Verdict]:
        verdicts = {}
        async with origin:
            for name, raw in CASES.items():
                origin.requests.clear()
                verdicts[name] = verdict(await exchange(port, raw), origin)
        return verdicts

    port, origin = free_port(), Origin(response(), port=free_port())
    with in_front(peer, tmp_path, port, origin.port):
        theirs = run(through_peer(port, origin))
    ours = {name: through_penstock(raw) for name, raw in CASES.items()}
    compare(peer, ours, theirs, ACCEPTED)


def test_rows_name_cases_that_are_tried() -> None:
    assert {case for _, case in ACCEPTED} <= CASES.keys()
