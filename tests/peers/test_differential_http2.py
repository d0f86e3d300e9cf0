"""The same HTTP/2 requests through Penstock, HAProxy and nginx to an HTTP/1 origin: what reaches it of each.

What is compared: whether the request was answered by the origin or refused (with a status, a reset stream or GOAWAY:
what HTTP/2 allows differs, and means the same), and what the origin was asked. A difference that has no row fails.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import h2.exceptions
import pytest

from support import Origin, free_port, response, run
from support.balancer import balancing
from support.http2 import Client, Headers
from support.peers import PEERS, compare, in_front

GET: Headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
POST: Headers = [(b":method", b"POST"), *GET[1:]]
HELLO = [b"hello"]


def get(*more: tuple[bytes, bytes], **pseudo: bytes) -> tuple[Headers, list[bytes]]:
    """GET / with pseudo-headers replaced and fields added; without a body."""
    changed = {b":" + name.encode(): value for name, value in pseudo.items()}
    return [(name, changed.get(name, value)) for name, value in GET] + list(more), []


def post(*more: tuple[bytes, bytes]) -> tuple[Headers, list[bytes]]:
    return [*POST, *more], HELLO


CASES: dict[str, tuple[Headers, list[bytes]]] = {
    "plain": get(),
    "host instead of authority": ([*GET[:2], GET[3], (b"host", b"a")], []),
    "host as well": get((b"host", b"a")),
    "host that differs": get((b"host", b"b")),
    "neither": ([*GET[:2], GET[3]], []),
    "a port": get(authority=b"a:8443"),
    "userinfo": get(authority=b"u@a"),
    "comma in the authority": get(authority=b"a, b"),
    "path in the authority": get(authority=b"a/p"),
    "dots and escapes": get(path=b"/a/../b/%2e%2e/c"),
    "fragment": get(path=b"/a#f"),
    "space in the path": get(path=b"/a b"),
    "request line in the path": get(path=b"/ HTTP/1.1 x"),
    "byte above 0x7f in the path": get(path=b"/\xe9"),
    "absolute-form in the path": get(path=b"http://b/p"),
    "empty path": get(path=b""),
    "relative path": get(path=b"p"),
    "asterisk": get(path=b"*"),
    "space in the method": get(method=b"GET / HTTP/1.1"),
    "small method": get(method=b"get"),
    "CR LF in a value": get((b"x", b"a\r\nhost: b")),
    "LF in a value": get((b"x", b"a\nb")),
    "NUL in a value": get((b"x", b"a\x00b")),
    "control character in a value": get((b"x", b"a\x01b")),
    "space around a value": get((b"x", b" a ")),
    "byte above 0x7f in a value": get((b"x", b"\xe9")),
    "upper-case name": get((b"X", b"a")),
    "colon in a name": get((b"x:y", b"a")),
    "space in a name": get((b"x ", b"a")),
    "CR LF in a name": get((b"x: 1\r\nhost", b"b")),
    "empty name": get((b"", b"a")),
    "underscored name": get((b"x_y", b"1")),
    "transfer-encoding": post((b"transfer-encoding", b"chunked")),
    "connection": get((b"connection", b"close")),
    "upgrade": get((b"upgrade", b"h2c")),
    "te: trailers": get((b"te", b"trailers")),
    "te: gzip": get((b"te", b"gzip")),
    "length": post((b"content-length", b"5")),
    "no length": post(),
    "too small a length": post((b"content-length", b"4")),
    "too large a length": post((b"content-length", b"6")),
    "a length and no body": ([*POST, (b"content-length", b"5")], []),
    "two lengths": post((b"content-length", b"5"), (b"content-length", b"6")),
    "the same length twice": post((b"content-length", b"5"), (b"content-length", b"5")),
    "signed length": post((b"content-length", b"+5")),
    "leading zeros": post((b"content-length", b"005")),
    "cookies": get((b"cookie", b"a=1"), (b"cookie", b"b=2")),
    "no method": (GET[1:], []),
    "no scheme": ([GET[0], *GET[2:]], []),
    "path twice": ([*GET, (b":path", b"/b")], []),
    "unknown pseudo-header": get((b":other", b"1")),
    "pseudo-header after a field": ([*GET[:3], (b"x", b"1"), GET[3]], []),
    "CONNECT": ([(b":method", b"CONNECT"), (b":authority", b"a:443")], []),
}

# (peer, case): why we say otherwise.
ACCEPTED: dict[tuple[str, str], str] = {
    ("haproxy", "host that differs"): "two names for one request; RFC 9113 8.3.1 has us take it for malformed",
    ("haproxy", "neither"): "RFC 9112 3.2: a request in HTTP/1.1 has a Host, and there is nothing to make one of",
    ("haproxy", "userinfo"): "RFC 9113 8.3.1: :authority has no userinfo",
    ("haproxy", "path in the authority"): "it takes the path out of it; an authority has none (RFC 3986 3.2)",
    ("haproxy", "byte above 0x7f in the path"): "RFC 3986 2: a path is ASCII",
    ("haproxy", "asterisk"): "RFC 9113 8.3.1: for OPTIONS alone; it asks for / instead",
    ("haproxy", "control character in a value"): "RFC 9110 5.5 forbids it",
    ("haproxy", "space around a value"): "RFC 9113 8.2.1: malformed; it trims",
    ("haproxy", "underscored name"): "reads like another name behind CGI's rules, so nginx and we drop it",
    ("haproxy", "te: trailers"): "of this hop only; trailers are left out of answers over HTTP/1 here",
    ("haproxy", "a length and no body"): "RFC 9113 8.1.1: malformed; over HTTP/1 the target would wait for five bytes",
    ("haproxy", "the same length twice"): "RFC 9110 8.6 lets it collapse them; we refuse what we would have to repair",
    ("haproxy", "CONNECT"): "a reverse proxy opens no tunnels for strangers",
    ("nginx", "host as well"): "RFC 9113 8.3.1 allows both when they agree",
    ("nginx", "userinfo"): "RFC 9113 8.3.1: :authority has no userinfo",
    ("nginx", "fragment"): "RFC 9112 3.2 has no fragment in a target; a rule on the path could be passed by",
    ("nginx", "byte above 0x7f in the path"): "RFC 3986 2: a path is ASCII",
    ("nginx", "small method"): "RFC 9110 9.1: any token is a method, and the target may know this one",
    ("nginx", "control character in a value"): "RFC 9110 5.5 forbids it",
    ("nginx", "space around a value"): "RFC 9113 8.2.1: malformed; it trims",
    ("nginx", "transfer-encoding"): "RFC 9113 8.2.2: a field of a connection makes the message malformed; it drops it",
    ("nginx", "connection"): "RFC 9113 8.2.2: a field of a connection makes the message malformed; it drops it",
    ("nginx", "upgrade"): "RFC 9113 8.2.2: a field of a connection makes the message malformed; it drops it",
    ("nginx", "te: gzip"): "RFC 9113 8.2.2: trailers is the only value; it drops the field",
    ("nginx", "pseudo-header after a field"): "RFC 9113 8.3: malformed",
}

Verdict = tuple[str, tuple[bytes, ...]]
SEEN = (b"Host", b"Cookie", b"X", b"X_Y", b"TE", b"Upgrade")


def asked(origin: Origin) -> tuple[bytes, ...]:
    return tuple(
        b" ".join([each.method, each.target, each.body, *(b"; ".join(each.values(name)) for name in SEEN)])
        for each in origin.requests
    )


async def ask(port: int, headers: Headers, body: list[bytes]) -> str:
    async with Client(port) as client, asyncio.timeout(5):
        try:
            answer = await client.ask(headers, body)
        except h2.exceptions.ProtocolError:  # theirs, over what they say to what was provoked
            return "refused"
    return "answered" if answer.status == b"200" else "refused"


async def verdicts(port: int, origin: Origin) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    for name, (headers, body) in CASES.items():
        origin.requests.clear()
        said = await ask(port, headers, body)
        found[name] = (said, asked(origin))
    return found


async def through_penstock() -> dict[str, Verdict]:
    async with Origin(response()) as origin, balancing(origin.port) as balancer:
        return await verdicts(balancer.port, origin)


async def through_peer(port: int, origin: Origin) -> dict[str, Verdict]:
    async with origin:
        return await verdicts(port, origin)


@pytest.mark.parametrize("peer", PEERS)
def test_what_reaches_the_origin(peer: str, tmp_path: Path) -> None:
    port, origin = free_port(), Origin(response(), port=free_port())
    with in_front(peer, tmp_path, port, origin.port, http2=True):
        theirs = run(through_peer(port, origin))
    compare(peer, run(through_penstock()), theirs, ACCEPTED)


def test_rows_name_cases_that_are_tried() -> None:
    assert {case for _, case in ACCEPTED} <= CASES.keys()
